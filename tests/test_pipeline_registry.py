"""What is registered, who may be champion, and that it stays what it was: on a real SQLite registry."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.registry.promotion import verdict
from pipeline.registry.pull import pull
from pipeline.registry.store import alias_of, register_weights
from tests.registered import FAILED, PASSED, stored, weights

Run = Callable[..., tuple[int, dict[str, Any] | None, str]]


def register(folder: Path, model: str, **options: Any) -> Any:
    return register_weights(folder, experiment="registry", model=model, alias="champion", **options)


def test_a_version_carries_card_hashes_a_test_picture_and_no_pickle(tmp_path: Path) -> None:
    import mlflow

    done = register(weights(tmp_path / "w"), "whole", licence="CC0, by us")
    assert (done.version, done.alias) == (1, "champion")
    folder = stored("models:/whole@champion")
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    listed = json.loads((folder / "unveil.json").read_text())["files"]
    assert names == {"unveil.json", *listed}
    assert {f"artifacts/weights/{name}" for name in ("model.json", "README.md", "test.safetensors")} < names
    assert not [name for name in names if "pkl" in name or "pickle" in name]
    assert str(tmp_path.parent) not in (folder / "MLmodel").read_text()
    assert tempfile.gettempdir() + "/" not in (folder / "MLmodel").read_text()
    assert "cloudpickle" not in (folder / "MLmodel").read_text()
    requirements = (folder / "requirements.txt").read_text().split()
    assert [line.partition("==")[0] for line in requirements] == ["mlflow", "numpy", "safetensors", "torch"]
    assert all("==" in line for line in requirements)
    description = mlflow.MlflowClient().get_model_version("whole", "1").description
    assert description == (folder / "artifacts/weights/README.md").read_text()
    for part in (
        "CC0, by us",
        "passed (noise left 12%)",
        "kind asymmetric, pd\\_stride 2",
        "seed: 5",
        "no clean image",
    ):
        assert part in description, part


def test_an_unknown_licence_is_said_plainly(tmp_path: Path, unveil: Run) -> None:
    register(weights(tmp_path / "w"), "bare")
    text = (pull("models:/bare/1").weights / "README.md").read_text()
    assert text.count("unknown: nobody has said under what licence the images are") == 2
    assert "ask before you use" in text
    code, facts, _ = unveil("models", "show", "models:/bare/1", "--no-measure", "--json")
    assert code == 0
    assert facts is not None
    assert facts["licence"].startswith("unknown")
    assert facts["readme"] == text


def test_a_card_from_elsewhere_writes_no_markdown(tmp_path: Path) -> None:
    name = "x\n# [click](http://evil) <b>"
    register(weights(tmp_path / "w", data={"path": name, "licence": name}), "evil")
    text = (pull("models:/evil/1").weights / "README.md").read_text()
    assert "\n# [" not in text
    assert "[click]" not in text.replace("\\[", "").replace("\\]", "")
    assert "<b>" not in text.replace("\\<", "")


@pytest.mark.parametrize(
    ("card", "passes", "text"),
    [
        ({"gate": PASSED}, True, "passed (noise left 12%)"),
        ({"gate": FAILED, "clean_images_read": True}, False, "failed: it blurs"),
        ({"gate": None, "clean_images_read": True}, True, "trained with clean images"),
        ({"gate": None, "clean_images_read": False}, False, "nothing was measured"),
        ({}, False, "nothing was measured"),
        ({"validated": {"metrics": {"psnr_rgb_u8": 30}, "noisy": {"psnr_rgb_u8": 25}, "n": 4}}, True, "30.00 dB"),
        (
            {
                "validated": {"metrics": {"psnr_rgb_u8": 24}, "noisy": {"psnr_rgb_u8": 25}},
                "clean_images_read": True,
            },
            False,
            "no better than the noisy images",
        ),
        ({"validated": {"metrics": "?"}, "clean_images_read": True}, False, "cannot be read"),
        ({"gate": {"passed": "yes", "why": 3}}, False, "nothing was measured"),
    ],
)
def test_one_rule_decides_who_may_be_champion(card: dict[str, Any], passes: bool, text: str) -> None:
    found = verdict(card)
    assert found.passed is passes
    assert text in found.text


def test_a_failed_gate_keeps_the_alias_where_it_is_unless_forced_and_that_is_recorded(
    tmp_path: Path, unveil: Run
) -> None:
    import mlflow

    register(weights(tmp_path / "good"), "gated")
    code, done, _ = unveil(
        "models", "register", weights(tmp_path / "bad", seed=1, gate=FAILED), "--name", "gated", "--json"
    )
    assert (code, done) == (0, {"registered_model": "gated", "version": 2, "alias": None, "gate": "failed: it blurs"})
    assert alias_of("gated", "champion") == 1
    code, _, text = unveil("models", "promote", "gated", 2)
    assert code == 2
    assert "models:/gated/2: expected a gate that passed for @champion, found failed: it blurs; --force" in text
    code, _, text = unveil("models", "promote", "gated", 2, "--force")
    assert (code, text.count("\n")) == (2, 1)
    assert "--why" in text
    assert alias_of("gated", "champion") == 1
    code, done, _ = unveil("models", "promote", "gated", 2, "--force", "--why", "for the\nfilm", "--json")
    assert code == 0
    assert done is not None
    assert (done["before"], alias_of("gated", "champion")) == (1, 2)
    kept = json.loads(mlflow.MlflowClient().get_model_version("gated", "2").tags["unveil.alias.champion"])
    assert kept == done["record"]
    assert (kept["forced"], kept["why"], kept["gate"]) == (True, "for the\nfilm", "failed: it blurs")
    assert kept["at"].startswith("20")
    assert "@" in kept["by"]
    code, done, _ = unveil("models", "promote", "gated", 1, "--alias", "lab", "--json")
    assert done is not None
    assert (code, done["record"]["forced"], alias_of("gated", "lab")) == (0, False, 1)
    _, rows, _ = unveil("models", "list", "--json")
    assert rows is not None
    found = {row["version"]: row for row in rows["models"] if row["model"] == "gated"}
    assert (found[2]["aliases"], found[2]["gate"]) == (["champion"], "failed: it blurs")
    assert "for the" in found[2]["promoted"]["champion"]


def test_verify_runs_the_test_picture_and_finds_every_change(tmp_path: Path, unveil: Run) -> None:
    register(weights(tmp_path / "w"), "checked")
    reference = "models:/checked@champion"
    code, done, _ = unveil("models", "verify", reference, "--json")
    assert code == 0
    assert done is not None
    found = {row["name"]: row["found"] for row in done["checks"]}
    assert list(found) == ["registry", "files", "code", "requirements", "weights", "card", "test picture"]
    assert found["test picture"] == "the same bytes; largest difference 0.0e+00"
    assert "that of this version" in found["code"]
    folder = stored(reference)
    before = pull(reference).folder  # what was pulled must not hide what has changed since
    for name in ("artifacts/weights/model.json", "serving.py", "MLmodel", "unveil.json"):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(kept.replace(b"a", b"b", 1))
        code, _, text = unveil("models", "verify", reference)
        assert (code, text.count("\n")) == (2, 1), text
        assert "sha256 differs" in text
        (folder / name).write_bytes(kept)
    (folder / "extra.py").write_text("print('hello')")
    code, _, text = unveil("models", "verify", reference)
    assert code == 2
    assert "expected the files that were registered, found another: extra.py" in text
    (folder / "extra.py").unlink()
    assert unveil("models", "verify", reference)[0] == 0
    assert before.is_dir()


def test_verify_notices_a_result_that_is_another(tmp_path: Path, unveil: Run) -> None:
    """Hashes are right, as whoever swaps weights can write a new list, but the network is another."""
    register(weights(tmp_path / "w"), "swapped")
    folder = tmp_path / "copy"
    shutil.copytree(pull("models:/swapped/1").weights, folder)
    assert unveil("models", "verify", folder)[0] == 0
    for name in ("model.safetensors", "model.json"):
        shutil.copyfile(weights(tmp_path / "other", seed=2) / name, folder / name)
    code, _, text = unveil("models", "verify", folder)
    assert code == 2
    assert "the network's result differs by" in text


def test_a_damaged_cache_is_fetched_again_and_nothing_is_left_in_temporary_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", None)
    register(weights(tmp_path / "w"), "cached")
    run = mlflow.MlflowClient().get_model_version("cached", "1").run_id
    first = pull("models:/cached@champion")
    assert pull(f"runs:/{run}").folder == pull(f"runs:/{run}/model").folder == first.folder
    assert first.folder.name == first.digest
    (first.weights / "model.safetensors").write_bytes(b"damaged")
    again = pull("models:/cached/1")
    assert (again.folder, again.note) == (first.folder, None)
    assert (again.weights / "model.safetensors").stat().st_size > 100
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not list(first.folder.parent.glob(".*"))


def test_a_pulled_model_denoises_offline_with_a_note(
    tmp_path: Path, unveil: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import imageio.v3 as iio

    register(weights(tmp_path / "w"), "away")
    code, pulled, _ = unveil("models", "pull", "models:/away@champion", "--json")
    assert (code, pulled and pulled["note"]) == (0, None)
    iio.imwrite(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (24, 31, 3), np.uint8))
    outputs = []
    for name, offline in (("on", "0"), ("off", "1")):
        monkeypatch.setenv("UNVEIL_OFFLINE", offline)
        out = tmp_path / name
        code, _, text = unveil("denoise", tmp_path / "a.png", "--model", "models:/away@champion", "--out", out)
        assert code == 0
        assert ("note: offline; models:/away@champion is taken as it was pulled: version 1, 20" in text) is (
            name == "off"
        )
        outputs.append((out / "a.png").read_bytes())
    assert outputs[0] == outputs[1]
    code, _, text = unveil("models", "pull", "models:/away/1")
    assert code == 2
    assert "never pulled" in text


def test_a_whole_model_moves_to_another_registry_unchanged(
    tmp_path: Path, unveil: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(weights(tmp_path / "w"), "moved", licence="CC BY 4.0")
    here = pull("models:/moved@champion")
    for name in ("a.zip", "b.zip"):
        code, done, _ = unveil("models", "export", "models:/moved@champion", "--out", tmp_path / name, "--json")
        assert code == 0
        assert done is not None
        assert done["digest"] == here.digest
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert unveil("models", "verify", tmp_path / "a.zip")[0] == 0
    code, _, text = unveil("models", "export", "models:/moved@champion", "--out", tmp_path / "a.zip")
    assert (code, "does not exist yet" in text) == (2, True)
    code, done, _ = unveil("models", "import", tmp_path / "a.zip", "--name", "elsewhere", "--json")
    assert code == 0
    assert done is not None
    assert (done["version"], done["alias"], done["digest"]) == (1, "champion", here.digest)
    assert pull("models:/elsewhere@champion").digest == here.digest
    assert unveil("models", "verify", "models:/elsewhere/1")[0] == 0
    code, done, _ = unveil("models", "import", tmp_path / "a.zip", "--out", tmp_path / "folder", "--json")
    assert code == 0
    assert (tmp_path / "folder" / "model.json").read_bytes() == (here.weights / "model.json").read_bytes()
    for arguments in ((), ("--out", "x", "--name", "y")):
        assert unveil("models", "import", tmp_path / "a.zip", *arguments)[0] == 2


def test_a_version_of_an_earlier_unveil_is_still_pulled(tmp_path: Path) -> None:
    """Without unveil.json: weights and card are taken, and the weights have a hash."""
    import mlflow

    folder = weights(tmp_path / "w")
    register(folder, "old")
    client = mlflow.MlflowClient()
    place = stored("models:/old/1")
    (place / "unveil.json").unlink()
    client.delete_model_version_tag("old", "1", "unveil.manifest")
    pulled = pull("models:/old/1")
    assert not pulled.listed
    assert (pulled.weights / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "reference", ["models:/no-such/1", "models:/x@y@z", "runs:/0123/../..", "models:/", "runs:/nope"]
)
def test_what_is_not_there_is_one_line(reference: str) -> None:
    with pytest.raises(UserError, match=r"not found|expected models:/") as caught:
        pull(reference)
    assert "\n" not in str(caught.value)
