"""A weights folder as an MLflow pyfunc made from code: self-contained, without a pickle, every file listed by hash.

`model.safetensors` and `model.json`, the card for people, a test picture with its result, a short serving file, and a
copy of `models/` under a name that carries the hash of its content, so that two versions live in one process and no
package of the host is shadowed.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError
from pipeline.registry.artifact import README, WEIGHTS, network_digest, write_manifest
from pipeline.registry.pair import write_pair

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PACKAGES = ("mlflow", "numpy", "safetensors", "torch")
"""All that the serving file and the network code import."""


@dataclass(frozen=True, slots=True)
class Served:
    """A finished model folder, as it will lie in the registry."""

    folder: Path
    digest: str
    """sha256 of its `unveil.json`."""

    card: dict[str, Any]
    readme: str


@contextmanager
def served_model(weights: Path, *, licence: str | None = None) -> Iterator[Served]:
    """Build the model of a weights folder in a temporary folder.

    Args:
        weights: holds ``model.safetensors`` and ``model.json``.
        licence: of the training data, for the card; None leaves what it says.

    Raises:
        UserError: the weights are damaged or not ours.
    """
    from models import load, replace_card
    from pipeline.registry.card import readme, with_licence

    with tempfile.TemporaryDirectory(prefix="unveil-register-") as temporary:
        staged = Path(temporary) / "weights"
        staged.mkdir()
        for name in ("model.safetensors", "model.json"):
            shutil.copyfile(weights / name, staged / name)
        try:
            replace_card(staged, with_licence(load(staged).card, licence))
            loaded = load(staged)
        except ValueError as error:
            raise UserError(str(error)) from None
        text = readme(loaded, versions())
        (staged / README).write_text(text, "utf-8")
        noisy = write_pair(loaded, staged)
        folder = Path(temporary) / "model"
        _save(folder, staged, Path(temporary), noisy)
        digest = write_manifest(folder, {"versions": versions(), "weights_sha256": loaded.sha256})
        yield Served(folder, digest, loaded.card, text)


def versions() -> dict[str, str]:
    """Return the versions of unveil and of what a served model needs."""
    from importlib.metadata import version

    from pipeline import __version__

    # The local part of a torch version (+cpu) names a build that other machines need not have.
    return {"unveil": __version__} | {name: version(name).partition("+")[0] for name in _PACKAGES}


def _save(folder: Path, weights: Path, temporary: Path, example: NDArray[np.uint8]) -> None:
    """Have MLflow write the folder, and take out of its `MLmodel` what tells of this machine."""
    import mlflow
    from mlflow.models import Model

    serving, code = _serving_files(temporary)
    with quiet():
        mlflow.pyfunc.save_model(
            path=folder,
            python_model=str(serving),
            artifacts={"weights": str(weights)},
            code_paths=[str(code)],
            pip_requirements=[f"{name}=={version}" for name, version in versions().items() if name in _PACKAGES],
            signature=_signature(),
            input_example=_example(example),
        )
    model = Model.load(folder)
    flavor = model.flavors["python_function"]
    flavor["model_code_path"] = serving.name
    flavor["artifacts"]["weights"]["uri"] = WEIGHTS
    flavor.pop("cloudpickle_version", None)
    model.save(folder / "MLmodel")


def _signature() -> Any:
    """Whatever comes is handed on; the serving file checks it, as no schema of MLflow takes three dtypes.

    A tensor schema of uint8 refuses float32 and the reverse; one of "object" and shape (-1,) takes every array from
    Python, and nested numbers and texts over HTTP.
    """
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ParamSchema, ParamSpec, Schema, TensorSpec

    pictures = Schema([TensorSpec(np.dtype("object"), (-1,))])
    params = [ParamSpec("seed", "long", None), ParamSpec("strength", "double", 1.0), ParamSpec("dtype", "string", None)]
    return ModelSignature(inputs=pictures, outputs=pictures, params=ParamSchema(params))


def _example(noisy: NDArray[np.uint8]) -> tuple[Any, dict[str, Any]]:
    """Return the test picture as a client would send it: base64 of a NumPy file, which any channels fit into."""
    import base64

    import numpy as np

    file = io.BytesIO()
    np.save(file, noisy[:16, :16])
    return np.array([base64.b64encode(file.getvalue()).decode()], dtype=object), {"strength": 1.0}


def _serving_files(folder: Path) -> tuple[Path, Path]:
    """Write the serving file and the renamed copy of `models/`; return both paths."""
    import models

    source = Path(models.__file__).parent
    name = f"unveil_network_{network_digest({path.name: path.read_bytes() for path in source.glob('*.py')})}"
    code = folder / name
    shutil.copytree(source, code, ignore=shutil.ignore_patterns("__pycache__"))
    serving = folder / "serving.py"
    template = (Path(__file__).parent / "serving_template.py").read_text("utf-8")
    serving.write_text(template.replace("__NETWORK_PACKAGE__", name), "utf-8")
    return serving, code


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MLflow's remarks from the user: no type hints in `predict` (it takes three dtypes), versions it created."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
