"""bfloat16 where the hardware has it: what `auto` becomes, and what is said where it is emulated."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.config import load_config, preset_names
from pipeline.training.history import LOG_NAME, read_history
from pipeline.training.intake import read_source
from pipeline.training.loop import run_loop
from pipeline.training.precision import Precision, has_bfloat16, in_bfloat16, precision_note
from pipeline.training.rank import local_rank

CPU = torch.device("cpu")
PLAIN = {"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False, "architecture": "x86_64"}


@pytest.fixture(params=[None, "avx512_bf16", "amx_bf16", "bf16"])
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A processor with one kind of instructions or none; whether it has any."""
    extra = {} if request.param is None else {request.param: True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {**PLAIN, **extra}, raising=False)
    return request.param is not None


def test_auto_follows_the_processor_and_the_others_do_not(processor: bool) -> None:
    assert has_bfloat16(CPU) == processor
    assert in_bfloat16("auto", CPU) == processor
    assert in_bfloat16("bfloat16", CPU)
    assert not in_bfloat16("float32", CPU)


@pytest.mark.parametrize(("precision", "said"), [("float32", None), ("auto", "in float32"), ("bfloat16", "emulated")])
def test_it_is_said_where_bfloat16_is_missing(precision: Precision, said: str | None, processor: bool) -> None:
    note = precision_note(precision, CPU)
    if processor or said is None:
        assert note is None
    else:
        assert note is not None
        assert said in note


def test_a_torch_that_cannot_tell_means_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not in_bfloat16("auto", CPU)


def test_no_preset_makes_a_processor_emulate() -> None:
    for name in preset_names():
        assert load_config(preset=name).optimizer.precision != "bfloat16", name


def losses(photo_folder: Path, run_dir: Path, precision: str) -> tuple[list[float], str]:
    small = ["data.crop=32", "network.width=8", "network.depth=1", "training.batch=2", "training.steps=2"]
    more = ["training.minutes=0", "cluster.workers=0", "training.log_every=1", f"optimizer.precision={precision}"]
    config = load_config(preset="camera", overrides=[*small, *more], data=str(photo_folder))
    run_dir.mkdir()
    spec, _ = read_source(config, lambda *_: None)
    run_loop(config, run_dir, {}, local_rank(spec, config.training.batch))
    return [row["loss"] for row in read_history(run_dir)], (run_dir / LOG_NAME).read_text("utf-8")


def test_a_run_on_auto_is_that_of_what_it_chose(photo_folder: Path, tmp_path: Path, processor: bool) -> None:
    chosen, log = losses(photo_folder, tmp_path / "auto", "auto")
    named, _ = losses(photo_folder, tmp_path / "named", "bfloat16" if processor else "float32")
    assert chosen == named
    assert ("computing in float32" in log) != processor
