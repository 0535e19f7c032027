"""`unveil analyze`: what it says equals what the definitions give, and the noise is all that differs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from torch import Tensor

from models import InferenceSpec, MaskedSwin, MaskedSwinSpec, NetworkSpec, UNetSpec, build, denoise, save, to_network
from models.swin import SwinBlock
from pipeline.data.folders import scan
from pipeline.data.images import to_float
from pipeline.data.synth_files import synthesise
from pipeline.errors import RunError
from pipeline.evaluation.analysis import analyze
from pipeline.evaluation.analysis_figures import FIGURES
from pipeline.evaluation.analysis_patches import Noise, Patch, choose_patches, noisy_patches, read_noises
from pipeline.evaluation.analysis_subject import Shown, Subject, labels_of, load_subjects, look
from pipeline.evaluation.analysis_text import conclude
from pipeline.evaluation.cka import minibatch_cka
from pipeline.evaluation.feature_rows import FeatureRows
from pipeline.evaluation.features import tapped
from pipeline.evaluation.srga import srga

Run = Callable[..., tuple[int, dict[str, Any] | None, str]]
MASKED = MaskedSwinSpec(dim=8, depths=(2,), heads=(2,), window=4, attention_ratio=0.5)
UNET = UNetSpec(width=4, depth=1, residual=False)


def saved(folder: Path, spec: NetworkSpec, card: dict[str, Any] | None = None, seed: int = 0, **inference: Any) -> Path:
    save(folder, build(spec, seed=seed), spec=spec, inference=InferenceSpec(**inference), card=card or {})
    return folder


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    return saved(tmp_path / "masked", MASKED, seed=1)


@pytest.fixture
def unet(tmp_path: Path) -> Path:
    return saved(tmp_path / "unet", UNET, seed=2)


def parse_noise(text: str) -> Noise:
    [noise] = read_noises([text])
    return noise


def call(unveil: Run, clean: Path, out: Path, *more: object) -> tuple[int, dict[str, Any] | None, str]:
    small = ("--clean", clean, "--out", out, "--patches", 8, "--patch", 16, "--noise", "poisson:3")
    return unveil("analyze", *small, *more, "--json")


def refused(unveil: Run, clean: Path, out: Path, *more: object) -> str:
    before = sorted(out.rglob("*")) if out.exists() else None
    code, value, stderr = call(unveil, clean, out, *more)
    assert code == 2, stderr
    assert value is not None
    assert (sorted(out.rglob("*")) if out.exists() else None) == before, "a refused call leaves nothing behind"
    return str(value["error"])


def test_numbers_are_those_of_the_definitions(masked: Path, unet: Path, photo_folder: Path) -> None:
    subjects = load_subjects([str(masked), str(unet)])
    noises = [parse_noise("gaussian:15"), parse_noise("poisson:3")]
    result = analyze(subjects, photo_folder, reference=noises[0], noises=noises, patches=45, side=16, seed=3)
    files = scan([photo_folder])
    squares = choose_patches(files, 45, 16, 3)
    features: dict[tuple[str, str], list[np.ndarray]] = {}
    for subject in subjects:
        for noise in noises:
            noisy, _ = noisy_patches(files, squares, 16, noise.recipe, 3)
            kept: list[Tensor] = []
            network = subject.denoiser.network
            seeds = None
            if subject.label == "masked":
                from models import fold

                seeds = torch.full((45,), fold(fold(0, 0), 0))
            with torch.no_grad(), tapped(network, lambda _, tensor, kept=kept: kept.append(tensor.clone())):
                network(torch.cat([to_network(one, 3) for one in noisy]), seeds=seeds)
            features[subject.label, noise.name] = [one.double().numpy() for one in kept]

    def batches(label: str, noise: str) -> list[list[np.ndarray]]:
        return [[layer[part] for layer in features[label, noise]] for part in (slice(0, 23), slice(23, 45))]

    rows = {(row["model"], row["b"], row["examples"]): row for row in result["cka"]["noise"]}
    for label in ("masked", "unet"):
        expected = minibatch_cka(batches(label, "gaussian 15"), batches(label, "poisson 3"))
        np.testing.assert_allclose(rows[label, "poisson 3", "patches"]["matrix"], expected, atol=1e-6)
        assert rows[label, "poisson 3", "patches"]["same_layer"] == pytest.approx(np.diag(expected), abs=1e-6)
        deepest = [features[label, noise.name][-1] for noise in noises]
        value = next(row["srga"] for row in result["srga"] if (row["model"], row["noise"]) == (label, "poisson 3"))
        # Both fits are to the grid of shapes, so a rounding may move them by a step.
        assert value == pytest.approx(srga(*deepest, 45), abs=0.01)
    across = next(
        row for row in result["cka"]["models"] if row["noise"] == "poisson 3" and row["examples"] == "patches"
    )
    expected = minibatch_cka(batches("masked", "poisson 3"), batches("unet", "poisson 3"))
    np.testing.assert_allclose(across["matrix"], expected, atol=1e-6)
    places = np.random.default_rng(3).random((45, 8, 2))

    def at_places(layer: np.ndarray, part: slice) -> np.ndarray:
        chosen = [
            layer[image, :, int(row * layer.shape[2]), int(column * layer.shape[3])]
            for image in range(part.start, part.stop)
            for row, column in places[image]
        ]
        return np.array(chosen)

    seen = [
        [at_places(layer, part) for layer in features["unet", noise.name]]
        for noise in noises
        for part in (slice(0, 23), slice(23, 45))
    ]
    np.testing.assert_allclose(
        rows["unet", "poisson 3", "places"]["matrix"], minibatch_cka(seen[:2], seen[2:]), atol=1e-6
    )


def test_noisy_patches_are_cut_from_what_synth_writes(photo_folder: Path, tmp_path: Path) -> None:
    files, recipe = scan([photo_folder]), parse_noise("poisson:3").recipe
    synthesise(files, tmp_path / "pairs", recipe, 7)
    patches = [Patch(2, 5, 60), Patch(0, 0, 0), Patch(2, 64, 1)]
    noisy, clean = noisy_patches(files, patches, 32, recipe, 7)
    for patch, *made in zip(patches, noisy, clean, strict=True):
        for part, square in zip(("noisy", "clean"), made, strict=True):
            whole = to_float(iio.imread(tmp_path / "pairs" / part / files[patch.file].relative))
            assert np.array_equal(square, whole[patch.top : patch.top + 32, patch.left : patch.left + 32])


def shown(count: int, noise_seed: int) -> Shown:
    clean = [one.astype(np.float32) for one in np.random.default_rng(0).random((count, 16, 16, 3))]
    noise = np.random.default_rng(noise_seed).normal(scale=0.1, size=(count, 16, 16, 3))
    noisy = [np.clip(one + more, 0, 1).astype(np.float32) for one, more in zip(clean, noise, strict=True)]
    return Shown(noisy, clean, np.full((count, 1, 2), 0.5), [slice(0, count)])


def test_attention_masks_are_the_same_for_every_patch_and_noise(masked: Path) -> None:
    subject = load_subjects([str(masked)])[0]
    seen: list[Tensor] = []

    def keep(_module: object, _arguments: object, options: dict[str, Any]) -> None:
        seen.append(options["hidden"].clone())

    for block in subject.denoiser.network.modules():
        if isinstance(block, SwinBlock):
            block.register_forward_pre_hook(keep, with_kwargs=True)
    for noise in (1, 2):
        with FeatureRows() as rows:
            look(subject, shown(5, noise), rows, lambda _: None)
    first, second, first_again, second_again = seen
    assert torch.equal(first, first_again)
    assert torch.equal(second, second_again)
    assert all(torch.equal(first[0], one) for one in first), "every patch has the masks that denoising gives a picture"
    assert not torch.equal(first, second), "blocks have masks of their own"
    assert 0.2 < first.float().mean() < 0.8


@pytest.mark.parametrize("mode", [{}, {"attention": "ensemble", "draws": 3}, {"attention": "off"}])
def test_deepest_features_are_those_of_the_picture_that_denoising_gives(masked: Path, mode: dict[str, Any]) -> None:
    subject = load_subjects([str(masked)], **mode)[0]
    network, patches = subject.denoiser.network, shown(4, 1)
    assert isinstance(network, MaskedSwin)
    with FeatureRows() as rows:
        seen = look(subject, patches, rows, lambda _: None)
        features = torch.from_numpy(np.array(rows._mapped())).view(4, 8, 16, 16)
    assert len(seen.passes[0]) == mode.get("draws", 1)
    with torch.no_grad():
        ours = network.conv_last(features) + network.mean
    images = torch.cat([to_network(one, 3) for one in patches.noisy])
    torch.testing.assert_close(ours, denoise(network, images, subject.denoiser.inference), rtol=0, atol=1e-5)


def test_rows_on_disk_give_the_products_of_rows_in_memory() -> None:
    features = np.random.default_rng(0).normal(size=(9, 2, 5, 7)).astype(np.float32)
    with FeatureRows() as rows:
        rows.add(features[:4])
        rows.add(features[4:])
        flat = features.reshape(9, -1).astype(np.float64)
        centred = flat - flat.mean(0)
        np.testing.assert_allclose(rows.gram(), centred @ centred.T, atol=1e-10)
        assert np.array_equal(np.sort(rows.sample()), np.sort(features.ravel()))
        assert rows.nbytes == features.nbytes
        with pytest.raises(ValueError, match="70 values, got 5"):
            rows.add(np.zeros((2, 5)))


def test_a_full_disk_is_one_line() -> None:
    rows = FeatureRows()
    rows._file.close()
    rows._file = Path("/dev/full").open("wb")  # noqa: SIM115  closed below
    with rows, pytest.raises(RunError, match=r"No space left on device; set TMPDIR .* fewer --patches"):
        rows.add(np.zeros((2, 5)))


def test_command_writes_numbers_and_figures(unveil: Run, masked: Path, unet: Path, photo_folder: Path) -> None:
    out = photo_folder.parent / "analysis"
    models = ("--model", masked, "--model", unet)
    code, value, stderr = call(unveil, photo_folder, out, *models, "--noise", "gaussian:50")
    assert code == 0, stderr
    assert value is not None
    assert sorted(path.name for path in out.iterdir()) == sorted(["analysis.json", *FIGURES])
    stored = json.loads((out / "analysis.json").read_text())
    assert stored == {key: item for key, item in value.items() if key != "files"}
    assert [model["label"] for model in stored["models"]] == ["masked", "unet"]
    assert [model["deepest"] for model in stored["models"]] == ["body", "decoder 1"]
    assert [row["name"] for row in stored["noises"]] == [
        "gaussian 15", "gaussian 15, drawn again", "poisson 3", "gaussian 50",
    ]  # fmt: skip
    assert "8 patches" in stored["protocol"]["notes"][0]
    for name in FIGURES:
        height, width = iio.imread(out / name).shape[:2]
        assert 300 < height < 3000, name
        assert 500 < width < 3000, name

    error = refused(unveil, photo_folder, out, *models)
    assert error.endswith("analysis.json: expected no analysis in --out, found one; use --overwrite")
    code, _, stderr = call(unveil, photo_folder, out, "--model", unet, "--overwrite")
    assert code == 0, stderr
    assert not (out / "cka-models.png").exists(), "what one model has no figure of does not stay from before"


def test_the_same_seed_gives_the_same_numbers_and_another_one_others(masked: Path, photo_folder: Path) -> None:
    results = []
    for seed in (1, 1, 2):
        result = analyze(
            load_subjects([str(masked)]), photo_folder, reference=parse_noise("gaussian:15"),
            noises=[parse_noise("speckle:0.03")], patches=8, side=16, seed=seed,
        )  # fmt: skip
        del result["seconds"]
        results.append(json.dumps(result))
    assert results[0] == results[1]
    assert results[0] != results[2]


def test_progress_reaches_its_total(unet: Path, photo_folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    analyze(
        load_subjects([str(unet)]), photo_folder, reference=parse_noise("gaussian:15"),
        noises=[parse_noise("speckle:0.03")], patches=40, side=16, on_progress=lambda *step: seen.append(step),
    )  # fmt: skip
    assert seen == [(20 * step, 120) for step in range(1, 7)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--noise", "frost:1"], "--noise frost 1: expected one of gaussian"),
        (["--noise", "gaussian:loud"], "--noise: expected a recipe, or recipe:level,level; found 'gaussian:loud'"),
        (["--reference", "monte_carlo"], "--reference monte_carlo: expected noise that is made from clean pictures"),
        (["--reference", "poisson:3"], "--noise: expected one besides the reference poisson:3, found none"),
        (["--patches", 3], "--patches: expected at least 4, found 3"),
        (["--patch", 18], "--patch: expected a multiple of 4 for masked, found 18"),
        (["--patch", 112], "photo_0.png: expected at least 112x112 pixels, found 96x96; use --patch"),
        (["--model", "nowhere"], "nowhere: expected a weights folder"),
        (["--attention", "sometimes"], "--attention: expected one of seeded, ensemble, off"),
        (["--clean", "nowhere"], "nowhere: expected a file or a folder"),
    ],
)
def test_mistakes_are_named(
    unveil: Run, masked: Path, photo_folder: Path, tmp_path: Path, options: list[object], words: str
) -> None:
    assert words in refused(unveil, photo_folder, tmp_path / "out", "--model", masked, *options)


def test_models_that_cannot_be_compared_are_refused(
    unveil: Run, unet: Path, photo_folder: Path, tmp_path: Path
) -> None:
    def error(*options: object) -> str:
        return refused(unveil, photo_folder, tmp_path / "out", *options)

    assert "expected different models" in error("--model", unet, "--model", unet)
    assert "found one without" in error("--model", unet, "--attention", "off")
    blind = saved(tmp_path / "blind", UNET, mode="multi_mask")
    assert "found mode 'multi_mask'" in error("--model", blind)
    assert "apart from the clean pictures" in error("--model", unet, "--out", photo_folder / "analysis")
    raw = saved(tmp_path / "raw", UNET, {"domain": "raw"})
    assert "found one for raw files" in error("--model", raw)


def test_models_are_called_by_their_folders() -> None:
    assert labels_of(["runs/a", "runs/b/weights", "models:/unveil@champion"]) == ["a", "b", "unveil@champion"]
    assert labels_of(["one/a", "two/a", "b/"]) == ["one/a", "two/a", "b"]


def outcome(srga_values: dict[str, list[float]], psnr: float = 20.0) -> dict[str, Any]:
    """A result of which the values and those without each batch are given; CKA as 1 - SRGA / 10."""
    names = ["noisy", "noisy, drawn again", "other"]
    rows = [(model, noise, values) for model, values in srga_values.items() for noise in names[1:]]
    cka = [
        {
            "model": model, "b": noise, "examples": "places", "same_layer": [0.0, 1 - values[0] / 10],
            "same_layer_error": [0.0, 0.01], "deepest_without": [1 - value / 10 for value in values[1:]],
        }
        for model, noise, values in rows
    ]  # fmt: skip
    return {
        "models": [{"label": label} for label in srga_values],
        "reference": names[0],
        "noises": [{"name": name, "again": "again" in name} for name in names],
        "cka": {"noise": cka},
        "srga": [
            {"model": model, "noise": noise, "srga": values[0], "error": 0.1, "without": values[1:]}
            for model, noise, values in rows
        ],
        "psnr_rgb_u8": {label: dict.fromkeys(names, psnr) for label in srga_values},
    }


def test_a_leader_is_named_only_where_the_same_batches_agree() -> None:
    # Both vary much from batch to batch, but alike: the difference is always 0.2.
    text = "\n".join(conclude(outcome({"a": [2.0, 1.5, 2.5], "b": [2.2, 1.7, 2.7]})))
    assert "lowest SRGA: a under other" in text
    assert "highest CKA: a under other" in text
    text = "\n".join(conclude(outcome({"a": [2.0, 2.5, 1.5], "b": [2.2, 1.7, 2.7]})))
    assert "lowest SRGA: no clear one under other" in text
    alone = "\n".join(conclude(outcome({"a": [2.0, 2.5, 1.5]})))
    assert "lowest" not in alone
    assert "other: CKA 0.800 ± 0.010 (a); SRGA 2.00 ± 0.10 (a)" in alone


def test_features_that_do_not_vary_are_told_apart_from_our_mistakes(
    photo_folder: Path, tmp_path: Path, unveil: Run
) -> None:
    network = build(UNET)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    save(tmp_path / "dead", network, spec=UNET, inference=InferenceSpec(), card={})
    code, value, _ = call(unveil, photo_folder, tmp_path / "out", "--model", tmp_path / "dead")
    assert code == 1
    assert value is not None
    assert "dead: expected features that follow the picture" in value["error"]


def test_grey_pictures_go_through_networks_for_colour(unet: Path, photo: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "grey"
    folder.mkdir()
    iio.imwrite(folder / "one.png", photo[:64, :64, 1])
    subjects: list[Subject] = load_subjects([str(unet)])
    result = analyze(
        subjects, folder, reference=parse_noise("gaussian:15"), noises=[parse_noise("isp")], patches=4, side=16
    )
    assert result["data"]["files"] == 1
    assert result["srga"][0]["error"] is None, "one batch has no error"
