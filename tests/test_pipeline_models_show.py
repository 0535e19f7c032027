"""`unveil models show` and `networks`: a model or a preset, for people and for scripts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models import InferenceSpec, UNetSpec, build, save

Run = Callable[..., tuple[int, dict[str, Any] | None, str]]
SPEC = UNetSpec(width=4, depth=1, residual=False)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "weights"
    card = {
        "clean_images_read": False,
        "training": {"steps": 7},
        "config": {"network": {"width": 4}, "method": {"kind": "asymmetric", "pd_stride": 2}},
    }
    save(folder, build(SPEC), spec=SPEC, inference=InferenceSpec(mode="multi_mask", draws=3), card=card)
    return folder


def test_a_model_is_shown_with_its_cost_its_card_and_how_far_its_weights_look(unveil: Run, weights: Path) -> None:
    for ref in (weights, weights.parent):
        code, facts, _ = unveil("models", "show", ref, "--json")
        assert code == 0
        assert facts is not None
        assert facts["folder"] == str(weights)
        assert facts["preset"] is None
        assert facts["card"]["training"] == {"steps": 7}
        assert facts["spec"]["width"] == 4
        assert (facts["inference"]["mode"], facts["inference"]["draws"]) == ("multi_mask", 3)
        network = facts["network"]
        assert network["parameters"] == sum(parameter.numel() for parameter in build(SPEC).parameters())
        assert network["macs_512x512"] > 512**2
        assert 1 < network["receptive_field_measured"] <= network["receptive_field"] == 2 * network["reach"] + 1


def test_measuring_can_be_left_out(unveil: Run, weights: Path) -> None:
    code, facts, _ = unveil("models", "show", weights, "--no-measure", "--json")
    assert code == 0
    assert facts is not None
    assert facts["network"]["receptive_field_measured"] is None


def test_the_table_for_people_says_the_same(unveil: Run, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.commands.models_show.console.width", 200)
    code, _, text = unveil("models", "show", weights)
    assert code == 0
    for part in (
        "unet: channels 3, width 4",
        "multi_mask",
        "draws 3",
        "kind asymmetric, pd_stride 2",
        "training.steps",
        "none",
        "a changed pixel is seen in",
    ):
        assert part in text
    assert "config.network" not in text


def test_a_card_cannot_command_the_terminal(unveil: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.commands.models_show.console.width", 200)
    card = {"[red]by": "\x1b[31mred", "config": ["no", "table"], "[bold]": {}}
    save(tmp_path / "m", build(SPEC), spec=SPEC, inference=InferenceSpec(), card=card)
    code, _, text = unveil("models", "show", tmp_path / "m", "--no-measure")
    assert code == 0
    assert "\x1b[31mred" not in text
    assert r"'\x1b[31mred'" in text
    assert "[red]by" in text


def test_damaged_weights_are_one_line(unveil: Run, weights: Path) -> None:
    (weights / "model.safetensors").write_bytes(b"nothing")
    code, _, text = unveil("models", "show", weights)
    assert code == 2
    assert text.count("\n") == 1
    assert f"{weights}: expected weights made by unveil" in text


def test_a_preset_needs_no_weights(unveil: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    code, facts, _ = unveil("models", "show", "masked_swin", "--json")
    assert code == 0
    assert facts is not None
    assert (facts["preset"], facts["folder"], facts["sha256"]) == ("masked_swin", None, None)
    assert facts["network"]["parameters"] == 824_118
    assert facts["network"]["macs_per_pixel"] == 959_445
    assert facts["config"]["method"]["input_ratio"] == [0.8, 0.9]
    monkeypatch.setattr("pipeline.commands.models_show.console.width", 200)
    _, _, text = unveil("models", "show", "masked_swin_small")
    assert "133,331" in text
    assert "none, a preset" in text


def test_a_folder_goes_before_the_preset_of_its_name(
    unveil: Run, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights.parent.rename(weights.parent.parent / "quick")
    monkeypatch.chdir(weights.parent.parent)
    code, facts, _ = unveil("models", "show", "quick", "--json")
    assert code == 0
    assert facts is not None
    assert facts["preset"] is None
    assert facts["spec"]["width"] == 4


def test_a_name_that_is_nothing_lists_what_could_be_meant(unveil: Run) -> None:
    code, facts, text = unveil("models", "show", "masked_swim", "--json")
    assert code == 2
    assert facts is not None
    assert (
        "masked_swim: expected a weights or run folder, models:/name@alias, default or default-raw, or a preset ("
        in text
    )
    assert "did you mean the preset 'masked_swin'?" in text
    code, _, text = unveil("models", "show", "no/such/folder")
    assert code == 2
    assert "expected a weights folder" in text


def test_all_kinds_of_networks_are_listed(unveil: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    code, facts, _ = unveil("models", "networks", "--json")
    assert code == 0
    assert facts is not None
    assert [row["kind"] for row in facts["networks"]] == ["masked_swin", "unet", "nafnet", "restormer"]
    monkeypatch.setattr("pipeline.commands.models_show.console.width", 200)
    _, _, text = unveil("models", "networks")
    for row in facts["networks"]:
        assert f"{row['parameters']:,}" in text
        assert f"{row['macs_per_pixel']:,}" in text
