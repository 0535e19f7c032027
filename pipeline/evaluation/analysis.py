"""Why a network generalises, or does not: how its features change when the noise does.

Section 4.2 of the masked-training paper (arXiv 2303.13132): CKA of layers between two models (figure 12a) and between
two noises (figure 12b), SRGA (figure 14) and histograms (figure 15) of the deepest features. What the paper leaves
open is stated in the result, under ``protocol``. The reference noise is also drawn a second time, with another seed:
what the measures say of that is what chance alone does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import pipeline
from pipeline.data.folders import SourceFile, manifest_hash, scan
from pipeline.errors import UserError
from pipeline.evaluation.analysis_patches import Noise, choose_patches, noisy_patches
from pipeline.evaluation.analysis_rows import (
    Measurements,
    TestSet,
    between_models,
    between_noises,
    histograms,
    measure,
    srga_rows,
)
from pipeline.evaluation.analysis_subject import Shown, Subject, look
from pipeline.evaluation.analysis_text import conclude
from pipeline.evaluation.cka import LEAST
from pipeline.evaluation.feature_rows import FeatureRows
from pipeline.evaluation.srga import COMPONENTS

PATCHES, SIDE = 300, 128
PLACES = 8
"""Places in a patch of which CKA takes each for an example."""

NOISES = ("speckle:0.03", "spatial:55", "poisson:3", "mixture:3")
"""Of figures 14 and 15, at levels of the paper's tests."""

AGAIN = ", drawn again"

# Patches that a network sees at once.
_BATCH = 20


def analyze(
    subjects: Sequence[Subject],
    clean: Path,
    *,
    reference: Noise,
    noises: Sequence[Noise],
    patches: int = PATCHES,
    side: int = SIDE,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Compare the features of models under different noise.

    Memory hardly grows with the number of patches: of each layer products of pairs of patches and the channels at a few
    places are kept, and the deepest features wait in a temporary file, those of one model and noise at a time.

    Args:
        subjects: the models.
        clean: folder of clean pictures.
        reference: the noise that others are compared with; in the paper the trained one.
        noises: the others; the reference among them is left out.
        patches: how many, at least 4.
        side: of the patches in pixels.
        seed: of places and noise.
        on_progress: called with the number of patches done by all models under all noises, and their total.

    Returns:
        What ``analysis.json`` holds; docs/analysis.md describes it.

    Raises:
        UserError: no pictures, pictures smaller than a patch, too few patches, a side that does not suit a model, or no
            other noise.
        RunError: features of a model that are not finite, or the same for every patch.
    """
    start = time.perf_counter()
    sets = _sets(reference, noises, seed)
    _check(subjects, patches, side)
    files = scan([clean])
    squares = choose_patches(files, patches, side, seed)
    places = np.random.default_rng(seed).random((patches, PLACES, 2))
    cuts = np.array_split(np.arange(patches), max(1, patches // _BATCH))
    batches = [slice(int(cut[0]), int(cut[-1]) + 1) for cut in cuts]
    total, done = len(sets) * len(subjects) * patches, 0

    def progressed(count: int) -> None:
        nonlocal done
        done += count
        if on_progress is not None:
            on_progress(done, total)

    measured: Measurements = {}
    seconds = dict.fromkeys((subject.label for subject in subjects), 0.0)
    for one in sets:
        shown = Shown(*noisy_patches(files, squares, side, one.noise.recipe, one.seed), places, batches)
        for subject in subjects:
            began = time.perf_counter()
            with FeatureRows() as rows:
                seen = look(subject, shown, rows, progressed)
                measured[subject.label, one.name] = measure(subject.label, one.name, seen, rows, batches)
            seconds[subject.label] += time.perf_counter() - began
    result = {
        "format": 1,
        "unveil": pipeline.__version__,
        "models": [subject.describe() for subject in subjects],
        "data": _data(clean, files, patches, side, seed),
        "reference": reference.name,
        "noises": [_noise_row(one) for one in sets],
        "protocol": _protocol(patches, side, len(batches)),
        "cka": {
            "noise": list(between_noises(subjects, sets, measured)),
            "models": list(between_models(subjects, sets, measured)),
        },
        "srga": list(srga_rows(subjects, sets, measured)),
        "histograms": list(histograms(subjects, sets, measured)),
        "psnr_rgb_u8": {
            subject.label: {one.name: measured[subject.label, one.name].psnr for one in sets} for subject in subjects
        },
        "seconds": {"total": time.perf_counter() - start, "models": seconds},
    }
    result["conclusion"] = conclude(result)
    return result


def _sets(reference: Noise, noises: Sequence[Noise], seed: int) -> list[TestSet]:
    """The reference, the same again, and the others."""
    others = {noise.text: noise for noise in noises if noise.text != reference.text}
    if not others:
        raise UserError(f"--noise: expected one besides the reference {reference.text}, found none")
    return [
        TestSet(reference.name, reference, seed),
        TestSet(reference.name + AGAIN, reference, seed + 1, again=True),
        *(TestSet(noise.name, noise, seed) for noise in others.values()),
    ]


def _check(subjects: Sequence[Subject], patches: int, side: int) -> None:
    if patches < LEAST:
        raise UserError(f"--patches: expected at least {LEAST}, found {patches}")
    for subject in subjects:
        multiple = subject.denoiser.network.multiple
        if side < 1 or side % multiple:
            # Else places would not lie on the same pixels in padded maps.
            raise UserError(f"--patch: expected a multiple of {multiple} for {subject.label}, found {side}")


def _data(clean: Path, files: Sequence[SourceFile], patches: int, side: int, seed: int) -> dict[str, Any]:
    return {
        "path": str(clean),
        "hash": manifest_hash(files),
        "files": len(files),
        "patches": patches,
        "side": side,
        "seed": seed,
    }


def _noise_row(one: TestSet) -> dict[str, Any]:
    from noise.spec_json import spec_to_dict

    return {
        "name": one.name,
        "noise": one.noise.text,
        "recipe": spec_to_dict(one.noise.recipe),
        "seed": one.seed,
        "again": one.again,
    }


def _protocol(patches: int, side: int, batches: int) -> dict[str, Any]:
    notes = []
    if patches < COMPONENTS:
        notes.append(
            f"SRGA from {patches} patches and as many components; the paper's code takes at least {COMPONENTS} patches "
            f"and {COMPONENTS} components, so these values are only comparable with others from {patches} patches"
        )
    size = f"{patches // batches}" if patches % batches == 0 else f"{patches // batches} or {patches // batches + 1}"
    return {
        "cka": f"linear, unbiased HSIC_1, {batches} batches of {size} patches",
        "examples": f"patches: whole maps; places: the channels at {PLACES} random places of each patch",
        "srga": f"{min(patches, COMPONENTS)} components of an exact PCA of the deepest features of {patches} patches",
        "patches": f"{side}x{side} at random places, the same for every noise and model, 8-bit noisy pictures",
        "masks": "attention masks, where there are any, are the same for every patch and noise",
        "histograms": "a sample of the deepest features; bins from the 1 % to the 99 % quantile of the reference",
        "psnr_rgb_u8": "mean of the denoised patches, no border, whatever offset of brightness they have",
        "error": "standard errors by leaving out one batch at a time (jackknife)",
        "notes": notes,
    }
