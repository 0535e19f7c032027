"""A model as one file for other programs: traced, written, and compared with the network in a process without us.

Beside ``model.pt2`` lies ``model.pt2.json``, which says what the program that loads it must do itself.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pipeline.errors import RunError, UserError
from pipeline.export_facts import OPSET, Format, export_facts

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

    from models import LoadedModel

TOLERANCE: Final = 1e-4
"""Largest difference from the network that a good file may have, a fortieth of a step of 8 bits; usual is 1e-6."""

_ONNX_LIBRARIES = ("onnx", "onnxruntime", "onnxscript")
_USUAL_SIZE = 64
_CHECK_SECONDS = 900


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What `export_model` wrote."""

    file: Path
    """The network."""

    sidecar: Path
    """How to use it."""

    facts: dict[str, Any]
    """What the sidecar says."""


def export_model(
    ref: str,
    out: Path,
    *,
    kind: Format | None = None,
    attention: Literal["off", "seeded"] | None = None,
    height: int | None = None,
    width: int | None = None,
) -> Exported:
    """Write a model as one file for other programs. It appears checked, or not at all.

    Args:
        ref: what `pipeline.inference.denoiser.find_weights` takes.
        out: file to create; ``out`` + ".json" is created beside it.
        kind: format; None tells it from the name of ``out``.
        attention: whether the graph draws the attention masks of the model's seed; None does as the model's card.
        height: rows of the image that is traced; any other multiple works just as well.
        width: columns of it.

    Raises:
        UserError: the call is wrong, or the ``onnx`` extra is not installed.
        RunError: the network cannot be traced, or the file does not do what the network does.
    """
    kind = _kind(out, kind)
    sidecar = out.with_name(f"{out.name}.json")
    for path in (out, sidecar):
        if path.exists():
            raise UserError(f"--out {str(out)!r}: expected a file that does not exist yet, found {path.name}")
    if not out.parent.is_dir():
        raise UserError(f"--out {str(out)!r}: expected a folder to write into, found no {str(out.parent)!r}")
    loaded = _load(ref)
    seed = _seed(loaded, attention)
    size = _size(loaded, height, width)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        facts = export_facts(loaded, kind, seed)
        file = folder / f"network.{kind}"
        _write(_trace(loaded, seed, size), file, kind, facts)
        facts["checked"] = _check(loaded, kind, file, seed, size)
        facts["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
        (folder / "sidecar").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
        (folder / "sidecar").rename(sidecar)
        file.rename(out)
    except BaseException:
        if not out.exists():
            sidecar.unlink(missing_ok=True)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Exported(file=out, sidecar=sidecar, facts=facts)


def _kind(out: Path, kind: str | None) -> Format:
    found = kind or out.suffix.removeprefix(".")
    if found == "onnx":
        missing = [name for name in _ONNX_LIBRARIES if importlib.util.find_spec(name) is None]
        if missing:
            raise UserError(
                f"--format onnx: expected {', '.join(_ONNX_LIBRARIES)}, found no {', '.join(missing)}; "
                "pip install -e '.[onnx]'"
            )
        return "onnx"
    if found == "pt2":
        return "pt2"
    raise UserError(f"--format: expected pt2 or onnx, here or as the ending of --out, found {found!r}")


def _load(ref: str) -> LoadedModel:
    from models import load
    from pipeline.inference.denoiser import find_weights

    folder = find_weights(ref)
    try:
        loaded = load(folder)
    except ValueError as error:
        raise UserError(str(error)) from error
    loaded.network.requires_grad_(False)
    return loaded


def _seed(loaded: LoadedModel, attention: str | None) -> int | None:
    wanted = attention or ("off" if loaded.inference.attention == "off" else "seeded")
    if attention == "seeded" and not loaded.network.stochastic:
        raise UserError("--attention seeded: expected a network with attention masks, found one without; leave it out")
    return loaded.inference.seed if wanted == "seeded" and loaded.network.stochastic else None


def _size(loaded: LoadedModel, height: int | None, width: int | None) -> tuple[int, int]:
    from models.export import size_rule

    multiple, minimum = size_rule(loaded.network)
    usual = -(-max(_USUAL_SIZE, minimum) // multiple) * multiple
    for option, size in (("height", height), ("width", width)):
        if size is not None and (size % multiple or size < minimum):
            raise UserError(f"--{option}: expected a multiple of {multiple}, at least {minimum}, found {size}")
    return height or usual, width or usual


def _trace(loaded: LoadedModel, seed: int | None, size: tuple[int, int]) -> ExportedProgram:
    from models.export import export_program

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return export_program(loaded.network, height=size[0], width=size[1], seed=seed)
    except Exception as error:  # the tracer has dozens of its own
        raise RunError(f"{loaded.spec.kind}: torch.export does not trace this network: {_first_line(error)}") from error


def _write(program: ExportedProgram, file: Path, kind: Format, facts: Mapping[str, Any]) -> None:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if kind == "pt2":
                torch.export.save(program, file, extra_files={"unveil.json": json.dumps(facts)})
            else:
                _write_onnx(program, file, facts)
    except Exception as error:
        raise RunError(f"--format {kind}: the network cannot be written: {_first_line(error)}") from error


def _write_onnx(program: ExportedProgram, file: Path, facts: Mapping[str, Any]) -> None:
    import logging

    import onnx_ir  # comes with onnxscript
    import torch

    # It says for each operator of torchvision that torchvision is not installed.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    converted = torch.onnx.export(
        program, input_names=["image"], output_names=["denoised"], opset_version=OPSET, dynamo=True, verbose=False
    )
    assert converted is not None
    graph = converted.model.graph
    for value in (*graph.inputs, *graph.outputs):
        # Names of the tracer's symbols would be of no help to anybody.
        value.shape = onnx_ir.Shape([1, facts["network"]["channels"], "height", "width"])
    for node in graph:
        # Lines of our files and where they lie are nobody's business.
        node.metadata_props.clear()
    converted.model.metadata_props["unveil"] = json.dumps(facts)
    converted.save(file)


def _check(
    loaded: LoadedModel, kind: Format, file: Path, seed: int | None, size: tuple[int, int]
) -> list[dict[str, Any]]:
    """Compare the file with the network at three sizes; return a row for each."""
    import numpy as np
    import torch

    from models.export import draw_seed, size_rule

    multiple, minimum = size_rule(loaded.network)
    sizes = (size, (minimum, minimum + 3 * multiple), (minimum + 5 * multiple, minimum + 2 * multiple))
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(1, loaded.network.channels, *each, generator=generator) for each in sizes]
    found = _run_elsewhere(kind, file, images)
    rows = []
    for image, output in zip(images, found, strict=True):
        seeds = None if seed is None else torch.tensor([draw_seed(seed)])
        with torch.inference_mode():
            expected = loaded.network(image, seeds=seeds).numpy()
        height, width = image.shape[2:]
        difference = float(np.abs(output - expected).max()) if output.shape == expected.shape else float("nan")
        if not difference <= TOLERANCE:  # NaN too
            raise RunError(
                f"the {kind} file differs from the network by {difference:.2g} at {height}x{width}, more than "
                f"{TOLERANCE:g}; it was not kept"
            )
        rows.append({"height": height, "width": width, "largest_difference": difference})
    return rows


def _run_elsewhere(kind: Format, file: Path, images: list[Tensor]) -> list[Any]:
    """Outputs of the file, loaded by a process that cannot import our packages."""
    import numpy as np

    given, answered = file.with_name("images.npz"), file.with_name("outputs.npz")
    np.savez(given, **{str(index): image.numpy() for index, image in enumerate(images)})  # type: ignore[arg-type]
    script = str(Path(__file__).with_name("export_check.py"))
    places = [place for place in sys.path if Path(place).is_absolute()]
    command = [sys.executable, "-I", "-S", script, kind, str(file), str(given), str(answered), *places]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=_CHECK_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise RunError(
            f"the {kind} file took longer than {_CHECK_SECONDS} s on small images; it was not kept"
        ) from None
    if run.returncode:
        said = (run.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise RunError(f"the {kind} file does not run in another process ({said[:200]}); it was not kept")
    with np.load(answered, allow_pickle=False) as outputs:
        return [outputs[str(index)] for index in range(len(images))]


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
