"""What trials are judged by without Ray: trust measures, suites of noises, and what happens where noise is unknown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from models import Network
from pipeline.config import dump, load_config
from pipeline.data.held_out import MEASURE_BATCH
from pipeline.data.source import BatchSource, SourceSpec
from pipeline.errors import RunError, UserError
from pipeline.evaluation.metrics import psnr_rgb_u8
from pipeline.evaluation.trust import denoise_with, error_terms, measure_trust
from pipeline.evaluation.trust_known import known_noise, middles
from pipeline.training.intake import read_source
from tuning.effort import Effort
from tuning.judge import Judge
from tuning.material import _known_noise, held_out_batch, training_source, trust_crops
from tuning.plan import Plan, read_plan, store_plan
from tuning.score import Score, choose_scores, measurable, split_source


class Filter(Network):
    """Blurs by `strength`; 0 is the identity."""

    channels, multiple, reach, stochastic = 3, 1, 1, False

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = torch.nn.Parameter(torch.tensor(strength))

    def forward(self, image: torch.Tensor, **_: Any) -> torch.Tensor:
        mean = torch.nn.functional.avg_pool2d(image, 5, 1, 2, count_include_pad=False)
        return image + self.strength * (mean - image)


@pytest.fixture
def noisy_folder(tmp_path: Path, photo: np.ndarray) -> Path:
    """Photographs with flat areas and noise of 12 grey levels."""
    random = np.random.default_rng(0)
    folder = tmp_path / "noisy"
    folder.mkdir()
    for index in range(5):
        scene = np.full((160, 160, 3), 90.0 + 15 * index)
        scene[:64, :64] = photo[32 : 32 + 64, 20 * index : 20 * index + 64]
        noisy = np.clip(scene + random.normal(0, 12, scene.shape), 0, 255)
        iio.imwrite(folder / f"{index}.png", noisy.astype(np.uint8))
    return folder


def plan_of(folder: Path, *overrides: str, preset: str = "quick", **more: Any) -> Plan:
    lines = ["data.crop=64", "inference.mode=direct", *overrides]
    return Plan(config=dump(load_config(preset=preset, overrides=lines, data=str(folder))), samples=1, seed=0, **more)


def source_of(plan: Plan) -> SourceSpec:
    return read_source(plan.base(), lambda *_: None)[0]


def judged(plan: Plan, network: Network, scores: list[Score] | None = None) -> dict[str, float]:
    scores = scores or choose_scores(plan)
    return Judge(scores, plan.base(), split_source(source_of(plan), scores)[1])(network.eval()).scores


def test_noise_left_and_structure_lost_are_told_apart(noisy_folder: Path) -> None:
    plan = plan_of(noisy_folder, objectives=["trust", "noise_left", "structure_lost", "estimated_error"])
    nothing, some, all_of_it = (judged(plan, Filter(strength)) for strength in (0.0, 0.6, 1.0))
    assert nothing["noise_left"] == pytest.approx(1, abs=0.02)
    assert nothing["structure_lost"] == pytest.approx(0, abs=0.2)
    assert all_of_it["noise_left"] < some["noise_left"] < nothing["noise_left"]
    assert all_of_it["structure_lost"] > some["structure_lost"] > nothing["structure_lost"]
    for one in (nothing, some, all_of_it):
        assert list(one) == plan.objectives
        assert one["trust"] == pytest.approx(one["noise_left"] + one["structure_lost"])


class Grainy(Filter):
    """Makes the grain of flat areas seven times as strong, and leaves everything else."""

    def forward(self, image: torch.Tensor, **_: Any) -> torch.Tensor:
        grain = image - torch.nn.functional.avg_pool2d(image, 3, 1, 1)
        energy = torch.nn.functional.avg_pool2d(grain.square().mean(1, keepdim=True), 9, 1, 4)
        return image + 6 * grain * (energy < energy.flatten(1).median(dim=1).values.view(-1, 1, 1, 1))


def test_what_is_wrong_in_flat_areas_does_not_pass_for_no_structure_lost(noisy_folder: Path) -> None:
    plan = plan_of(noisy_folder, objectives=["trust", "structure_lost"])
    nothing, grainy = (judged(plan, network) for network in (Filter(0.0), Grainy(0.0)))
    assert grainy["structure_lost"] > nothing["structure_lost"] + 0.4
    assert grainy["trust"] > nothing["trust"] + 1


def test_what_trust_is_measured_on_is_never_trained_on(noisy_folder: Path) -> None:
    plan = plan_of(noisy_folder, "trust.held_out=0.4")
    source = source_of(plan)
    training, held_out = split_source(source, choose_scores(plan))
    measured = {area.file for area in held_out.measured}
    assert measured
    assert not measured & set(training.files)
    assert measurable(source, plan.base())
    # Another seed of a trial is judged on the same pixels.
    batches = [BatchSource(held_out).batch(MEASURE_BATCH, range(4))["noisy"] for _ in range(2)]
    assert np.array_equal(*batches)


def test_noise_that_nothing_flat_shows_cannot_be_measured(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for index in range(2):
        # Black and white: what noise would be there is cut off.
        texture = np.kron(255 * random.integers(0, 2, (64, 64, 3)), np.ones((2, 2, 1))).astype(np.uint8)
        iio.imwrite(tmp_path / f"{index}.png", texture)
    plan = plan_of(tmp_path)
    assert not measurable(source_of(plan), plan.base())

    from tuning.search import _measurable

    said: list[str] = []
    found = _measurable(plan, choose_scores(plan), source_of(plan), lambda _, value: said.append(value["text"]))
    assert [score.kind for score in found[1]] == ["blind"]
    assert found[0].objectives == ["blind_l1"]  # what is stored, and continued
    assert "judging by the blind loss instead" in said[-1]
    asked = plan_of(tmp_path, objectives=["noise_left"])
    with pytest.raises(UserError, match="--objective noise_left: expected photos with flat areas"):
        _measurable(asked, choose_scores(asked), source_of(asked), lambda *_: None)


def test_a_suite_is_scored_by_the_mean_over_its_noises(noisy_folder: Path, tmp_path: Path, photo: np.ndarray) -> None:
    clean = tmp_path / "clean"
    clean.mkdir()
    for index in range(3):
        iio.imwrite(clean / f"{index}.png", photo[:80, 40 * index : 40 * index + 80])
    plan = plan_of(noisy_folder, suite="quick", clean=str(clean))
    (score,) = scores = choose_scores(plan)
    assert (score.name, score.mode) == ("psnr_quick", "max")
    assert "8 noises of suite quick on 2 clean pictures" in score.definition
    judge = Judge(scores, plan.base(), source_of(plan))
    found = judge(Filter(0.0).eval())
    noises = {name: value for name, value in found.parts.items() if name != "ssim_gauss11_rgb"}
    assert len(noises) == 8
    assert found.scores["psnr_quick"] == pytest.approx(np.mean(list(noises.values())))
    assert noises["clean gaussian 15"] == pytest.approx(20 * np.log10(255 / 15), abs=0.5)
    assert 0 < found.parts["ssim_gauss11_rgb"] < 1
    assert judge(Filter(0.0).eval()) == found
    assert judge(Filter(0.8).eval()).parts["clean gaussian 50"] > noises["clean gaussian 50"]


def test_a_trial_is_judged_as_trust_measures_and_before_its_end_on_the_middles_of_the_crops(
    noisy_folder: Path,
) -> None:
    names = ("noise_left", "structure_lost", "estimated_error")
    plan = plan_of(noisy_folder, "trust.crops=4", objectives=["trust", *names])
    config, source = plan.base(), source_of(plan)
    judge, network = Judge(choose_scores(plan), config, source), Filter(0.6).eval()
    batch = BatchSource(source).batch(MEASURE_BATCH, range(config.trust.crops))
    noisy, images = torch.from_numpy(batch["noisy"]), batch["images"]
    assert len(noisy) == 4
    denoiser = denoise_with(network, config.inference)
    wanted = measure_trust(denoiser, noisy, images)
    found = judge(network, last=True).scores
    for name in names:
        assert abs(found[name]) == abs(getattr(wanted, name)), name
    assert found["trust"] == wanted.noise_left + abs(wanted.structure_lost)
    early = judge(network, last=False).scores
    middle = error_terms(denoiser, *middles(noisy, known_noise(noisy, images), 48))  # half of the area of 64x64
    assert [abs(early[name]) for name in names] == [abs(middle[name]) for name in names]
    # The noise is that of the whole crops, so it is not what the middles alone would give; and not far from it.
    cut = noisy[..., 8:56, 8:56]
    alone = error_terms(denoiser, cut, known_noise(cut, images))
    assert early["noise_left"] == pytest.approx(alone["noise_left"], rel=0.2)


def test_what_the_network_itself_changes_is_measured_at_the_end(noisy_folder: Path) -> None:
    plan = plan_of(noisy_folder, "inference.mode=multi_mask")
    judge = Judge(choose_scores(plan), plan.base(), source_of(plan))
    dead, alive = (judge(Filter(strength).eval()) for strength in (0.0, 0.6))
    assert dead.effect == 0
    # The masks' fill alone has a score.
    assert dead.scores["trust"] != alive.scores["trust"]
    assert alive.effect is not None
    # Noise of 12 grey levels, of which a mean of 5x5 takes off all but 1/25, and some texture.
    assert alive.effect == pytest.approx(12 * 0.6 * (24 / 25) ** 0.5, rel=0.2)
    assert judge(Filter(0.6).eval(), last=False).effect is None


def test_middles_that_cannot_tell_the_noise_are_not_judged_on(noisy_folder: Path) -> None:
    source = source_of(plan_of(noisy_folder, "data.crop=120", "trust.crops=5"))
    assert trust_crops(source, 5, Effort(0.5, 1)).noisy.shape[-2:] == (88, 88)
    texture = np.kron(255 * np.random.default_rng(0).integers(0, 2, (50, 50, 3)), np.ones((2, 2, 1))).astype(np.uint8)
    for area in source.measured:
        picture = iio.imread(area.file)
        picture[area.top + 10 : area.top + 110, area.left + 10 : area.left + 110] = texture
        iio.imwrite(area.file, picture)
    held_out_batch.cache_clear()
    trust_crops.cache_clear()
    _known_noise.cache_clear()
    assert trust_crops(source, 5, Effort(0.5, 1)).noisy.shape[-2:] == (120, 120)


def test_pictures_are_judged_by_their_middles(noisy_folder: Path, photo: np.ndarray, tmp_path: Path) -> None:
    sides = [photo[:240], photo[:240] // 2]
    for name, picture in zip(("noisy", "clean"), sides, strict=True):
        (tmp_path / "pairs" / name).mkdir(parents=True)
        iio.imwrite(tmp_path / "pairs" / name / "a.png", picture)
    plan = plan_of(noisy_folder, "training.steps=9", pairs=str(tmp_path / "pairs"))
    (score,) = scores = choose_scores(plan)
    assert (score.count, score.side, score.effort) == (1, 256, Effort(0.5, 1))
    assert "1 pairs, of each the centre, 184x184" in score.definition
    judge, shown = Judge(scores, plan.base(), source_of(plan)), []
    network = Filter(0.0).eval()
    network.register_forward_pre_hook(lambda _, inputs: shown.append(tuple(inputs[0].shape[-2:])))
    at_end = judge(network).scores["psnr_rgb_u8"]
    noisy, clean = (side[28:212, 36:220] / np.float32(255) for side in sides)
    assert at_end == psnr_rgb_u8(noisy, clean)
    judge(network, last=False)
    assert [size for size in shown if size != (64, 64)] == [(184, 184), (128, 128)]


def test_trials_of_one_process_decode_once_and_get_what_a_fresh_process_gets(
    noisy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = source_of(plan_of(noisy_folder))
    fresh = [BatchSource(replace(spec, seed=seed)).batch(3, range(8)) for seed in (0, 1, 0)]
    decoded: list[str] = []
    decode = BatchSource._decoded
    monkeypatch.setattr(BatchSource, "_decoded", lambda self, path: decoded.append(path) or decode(self, path))
    for seed, wanted in zip((0, 1, 0), fresh, strict=True):
        source = training_source(spec, seed)
        found = source.batch(3, range(8))
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
        source.quarantined[spec.files[0]] = "the disk was away"  # for this trial alone
    assert sorted(decoded) == sorted(set(decoded))


@pytest.mark.parametrize("preset", ["tune_masks", "camera", "masked_swin"])
def test_what_is_read_once_is_known_by_what_it_is_read_from(preset: str, noisy_folder: Path) -> None:
    first, second = (source_of(plan_of(noisy_folder, preset=preset)) for _ in range(2))
    assert training_source(first, 0) is training_source(second, 0)


def test_a_search_that_was_judged_otherwise_is_not_continued(noisy_folder: Path, tmp_path: Path) -> None:
    plan, out = plan_of(noisy_folder), tmp_path / "search"
    out.mkdir()
    store_plan(out, plan, resume=False)
    assert read_plan(out) == plan
    stored = json.loads((out / "search.json").read_text("utf-8"))
    del stored["judging"]  # as earlier versions wrote it
    (out / "search.json").write_text(json.dumps(stored), "utf-8")
    with pytest.raises(
        UserError, match=r"--resume: expected a search judged as this version does \(5\), found .* \(1\)"
    ):
        read_plan(out)


def test_a_measure_that_is_not_finite_fails_the_trial(noisy_folder: Path) -> None:
    with pytest.raises(RunError, match="trust: expected a finite score"):
        judged(plan_of(noisy_folder), Filter(float("nan")))


def test_a_budget_counts_the_clock_and_the_time_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    from tuning import trials

    now = 1000.0
    monkeypatch.setattr(trials.time, "time", lambda: now)
    clock, gpus = (trials.Budget(seconds=a, gpu_seconds=b, gpus=0.5) for a, b in ((60, 0), (0, 100)))
    for budget in (clock, gpus):
        for name, seconds in (("a", 50.0), ("b", 140.0), ("a", 59.0)):
            assert budget(name, {"time_total_s": seconds}) is False
    assert not clock.stop_all()
    assert not gpus.stop_all()
    gpus("a", {"time_total_s": 60.0})
    assert gpus.stop_all()
    now = 1060.5
    assert clock.stop_all()
    endless = trials.Budget(seconds=0, gpu_seconds=0, gpus=1)
    assert not endless.stop_all()
