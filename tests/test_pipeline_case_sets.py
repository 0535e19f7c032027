"""The sets of an evaluation: what is typed, what is read, and that noise is what `unveil synth` writes."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.folders import scan
from pipeline.data.images import Image, read_image, to_float, write_image
from pipeline.data.synth_files import find_clean, synthesise
from pipeline.data.synth_recipes import make_recipe
from pipeline.errors import UserError
from pipeline.evaluation.case_sets import (
    SUITES,
    Noise,
    data_set,
    noised_sets,
    noises_of,
    suite_noises,
    unique_names,
)
from pipeline.evaluation.cases import checked


def put(path: Path, seed: int = 0, shape: tuple[int, ...] = (40, 48, 3), dtype: type = np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    top = np.iinfo(dtype).max
    write_image(path, Image(pixels=np.random.default_rng(seed).integers(0, top, shape, dtype=dtype)))


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    put(tmp_path / "clean" / "a.png", 0)
    put(tmp_path / "clean" / "deep" / "b.png", 1, dtype=np.uint16)
    put(tmp_path / "clean" / "grey.png", 2, (40, 48, 1))
    return tmp_path / "clean"


@pytest.mark.parametrize("noise", ["gaussian:15", "poisson:3.5", "spatial:55", "salt_pepper:0.02", "mixture:3", "isp"])
def test_a_noised_picture_is_the_file_that_synth_writes(clean: Path, tmp_path: Path, noise: str) -> None:
    [one] = noised_sets(clean, noises_of([noise]), seed=7)
    kind, _, level = noise.partition(":")
    synthesise(find_clean(clean, tmp_path / "made", None), tmp_path / "made", make_recipe(kind, level or None), 7)
    for case, name in zip(one.cases, ("a.png", "deep/b.png", "grey.png"), strict=True):
        noisy, truth = case.read()
        for side, got in (("noisy", noisy), ("clean", truth)):
            written = to_float(read_image(tmp_path / "made" / side / name).pixels)
            assert got is not None
            assert np.array_equal(got, written), (noise, name, side)


def test_another_seed_recipe_or_content_is_another_picture(clean: Path) -> None:
    def identity(noise: str, seed: int) -> str:
        return noised_sets(clean, noises_of([noise]), seed)[0].cases[0].identity()

    same = identity("gaussian:15", 0)
    assert same == identity("gaussian:15", 0)
    assert len({same, identity("gaussian:15", 1), identity("gaussian:16", 0), identity("poisson:2", 0)}) == 4
    put(clean / "a.png", 9)
    assert identity("gaussian:15", 0) != same


def test_the_identity_of_pairs_is_their_content_not_their_place(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        put(tmp_path / folder / "noisy" / "x.png", 1)
        put(tmp_path / folder / "clean" / "x.png", 2)
    first, second = (data_set(tmp_path / folder).cases[0].identity() for folder in ("one", "two"))
    assert first == second
    put(tmp_path / "two" / "clean" / "x.png", 3)
    assert data_set(tmp_path / "two").cases[0].identity() != first


def test_noises_are_read_as_typed() -> None:
    assert noises_of(["poisson:2,2.5", "isp", "x/my.json"]) == [
        Noise("poisson", "2"),
        Noise("poisson", "2.5"),
        Noise("isp", None),
        Noise("x/my.json", None),
    ]
    for wrong in ("", ":3", "poisson:", "poisson:much"):
        with pytest.raises(UserError, match=r"--noise: expected a recipe, or recipe:level,level"):
            noises_of([wrong])
    with pytest.raises(UserError, match="found poisson 2 twice"):
        noises_of(["poisson:2", "poisson:2"])
    with pytest.raises(UserError, match="--suite: expected one of masked, quick, found 'all'"):
        suite_noises("all")


def test_every_noise_of_the_suites_can_be_made(clean: Path) -> None:
    for name in SUITES:
        for one in noised_sets(clean, suite_noises(name), seed=0, limit=1):
            noisy, truth = one.cases[0].read()
            assert truth is not None
            assert np.abs(noisy - truth).max() > 0, one.name
    levels = [(noise.recipe, noise.level) for noise in suite_noises("masked")]
    # Figure 11 of the paper.
    for recipe, figure in (
        ("poisson", ["2", "2.5", "3", "3.5"]),
        ("speckle", ["0.018", "0.024", "0.03", "0.036", "0.04"]),
        ("spatial", ["40", "45", "50", "55", "60"]),
        ("mixture", ["1", "2", "3", "4", "5"]),
    ):
        assert [level for kind, level in levels if kind == recipe] == figure


def test_wrong_noises_and_clashing_names_are_one_clear_line(clean: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--noise fog: expected one of gaussian"):
        noised_sets(clean, noises_of(["fog"]), seed=0)
    with pytest.raises(UserError, match=r"--noise poisson -1: --level"):
        noised_sets(clean, noises_of(["poisson:-1"]), seed=0)
    put(clean / "a.tif")
    with pytest.raises(UserError, match="expected one picture of this name, found also"):
        noised_sets(clean, noises_of(["isp"]), seed=0)


def test_a_folder_without_pairs_is_photos(clean: Path) -> None:
    one = data_set(clean)
    assert (one.kind, one.layout, [case.name for case in one.cases]) == (
        "photos",
        "photos",
        ["a.png", "deep/b.png", "grey.png"],
    )
    assert one.cases[0].read().clean is None
    assert [case.name for case in data_set(clean, limit=2).cases] == ["a.png", "deep/b.png"]
    with pytest.raises(UserError, match="found no such two sides"):
        data_set(clean, "pairs")


def test_sets_of_one_name_are_told_apart_by_their_paths(clean: Path, tmp_path: Path) -> None:
    put(tmp_path / "other" / "clean" / "a.png")
    sets = unique_names([data_set(clean), data_set(tmp_path / "other" / "clean")])
    assert [one.name for one in sets] == [f"clean ({clean})", f"clean ({tmp_path / 'other' / 'clean'})"]
    with pytest.raises(UserError, match="expected each set once"):
        unique_names([data_set(clean), data_set(clean)])


def test_cases_travel_to_other_processes(clean: Path, tmp_path: Path) -> None:
    from scipy.io import savemat

    blocks = np.random.default_rng(0).integers(0, 255, (2, 2, 24, 24, 3), dtype=np.uint8)
    (tmp_path / "sidd").mkdir()
    for side in ("Noisy", "Gt"):
        name = f"Validation{side}BlocksSrgb"
        savemat(str(tmp_path / "sidd" / f"{name}.mat"), {name: blocks})
    sets = [data_set(tmp_path / "sidd"), data_set(clean), *noised_sets(clean, suite_noises("quick"), 0)]
    for one in sets:
        for case in one.cases:
            sent = pickle.dumps(case)
            assert len(sent) < 5000
            again = pickle.loads(sent)  # noqa: S301 - made a line above
            assert again.identity() == case.identity()
            assert np.array_equal(again.read().noisy, case.read().noisy)


def test_what_is_too_small_for_the_metrics_is_named(tmp_path: Path) -> None:
    put(tmp_path / "tiny.png", shape=(9, 30, 3))
    [one] = noised_sets(tmp_path, noises_of(["gaussian:5"]), seed=0)
    assert checked(one.cases[0], 7).noisy.shape == (9, 30, 3)
    with pytest.raises(UserError, match=r"tiny\.png: expected at least 11x11 pixels, found 30x9"):
        checked(one.cases[0], 11)


def test_renderings_are_chosen_by_their_samples_per_pixel(tmp_path: Path) -> None:
    for name in ("noisy_0004spp.png", "noisy_0016spp.png", "reference.png"):
        put(tmp_path / "scene" / name, len(name))
    sets = noised_sets(tmp_path, noises_of(["monte_carlo:4,16", "monte_carlo"]), seed=0)
    assert [len(one.cases) for one in sets] == [1, 1, 2]
    assert [one.layout for one in sets] == ["renderings"] * 3
    assert sets[0].cases[0].name == "scene/noisy_0004spp.png"
    noisy, truth = sets[0].cases[0].read()
    assert np.array_equal(noisy, to_float(read_image(tmp_path / "scene" / "noisy_0004spp.png").pixels))
    assert truth is not None
    with pytest.raises(UserError, match="of 8 to 8 samples per pixel"):
        noised_sets(tmp_path, noises_of(["monte_carlo:8"]), seed=0)


def test_scan_order_is_the_order_of_the_cases(clean: Path) -> None:
    [one] = noised_sets(clean, noises_of(["isp"]), seed=0)
    assert [case.name for case in one.cases] == [f.relative.with_suffix("").as_posix() for f in scan([clean])]
