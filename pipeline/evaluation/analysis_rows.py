"""From what was seen of models under noises to the rows of an analysis: CKA, SRGA, histograms."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunError
from pipeline.evaluation.analysis_patches import Noise
from pipeline.evaluation.analysis_subject import Pass, Seen, Subject
from pipeline.evaluation.cka import MinibatchCka, gram, jackknife_error
from pipeline.evaluation.feature_rows import FeatureRows
from pipeline.evaluation.srga import COMPONENTS, GeneralisedGaussian, divergence, fit_scores, scores_of_gram, srga_of
from pipeline.evaluation.srga import without as without_examples

Floats = NDArray[np.float64]
Row = dict[str, Any]
Examples = Literal["patches", "places"]
"""What CKA takes for an example: a patch with all of its map, or a place in it with its channels."""

EXAMPLES: tuple[Examples, ...] = ("patches", "places")

# Bins of a histogram between two quantiles of the reference: deep features have long tails.
_BINS, _QUANTILES = 80, (0.01, 0.99)


@dataclass(frozen=True, slots=True)
class TestSet:
    """The patches under one noise."""

    __test__ = False

    name: str
    """In figures."""

    noise: Noise
    """What makes it."""

    seed: int
    """Of the noise."""

    again: bool = False
    """It is the reference noise with another seed."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One model under one noise."""

    passes: list[list[Pass]]
    """For CKA."""

    psnr: float
    """Of the denoised patches."""

    fits: list[GeneralisedGaussian]
    """Of the deepest features: of all patches, and without those of each batch."""

    sample: NDArray[np.float32]
    """Values of the deepest features."""


Measurements = dict[tuple[str, str], Measured]
"""By the labels of model and noise."""


def measure(model: str, noise: str, seen: Seen, rows: FeatureRows, batches: Sequence[slice]) -> Measured:
    """Reduce what was seen to what the rows need.

    Raises:
        RunError: features are not finite, or the same for every patch.
    """
    products = rows.gram()
    if not np.isfinite(products).all():
        raise RunError(f"{model}: expected finite features under {noise}, found NaN or infinity")
    parts = [products]
    if len(batches) > 1:
        parts += [without_examples(products, batch) for batch in batches]
    try:
        fits = [fit_scores(scores_of_gram(part, min(len(part), COMPONENTS))) for part in parts]
    except ValueError:
        raise RunError(
            f"{model}: expected features that follow the picture, found the same for every patch under {noise}"
        ) from None
    return Measured(seen.passes, seen.psnr, fits, rows.sample())


def between_noises(subjects: Sequence[Subject], sets: Sequence[TestSet], measured: Measurements) -> Iterator[Row]:
    """CKA of each model's layers under the reference and under each other noise (figure 12b)."""
    reference, *others = sets
    for subject, one in itertools.product(subjects, others):
        a, b = (measured[subject.label, name] for name in (reference.name, one.name))
        for examples in EXAMPLES:
            cka = _cka(a, b, examples)
            yield {
                "model": subject.label,
                "a": reference.name,
                "b": one.name,
                "examples": examples,
                "layers": subject.layers,
                "matrix": _numbers(cka.value()),
                "same_layer": _numbers(np.diag(cka.value())),
                "same_layer_error": _numbers(np.diag(jackknife_error(cka.without()))),
                # For errors of differences between models, whose examples are the same.
                "deepest_without": _numbers(cka.without()[:, -1, -1]),
            }


def between_models(subjects: Sequence[Subject], sets: Sequence[TestSet], measured: Measurements) -> Iterator[Row]:
    """CKA of the layers of each pair of models under the same noise (figure 12a)."""
    for (a, b), one in itertools.product(itertools.combinations(subjects, 2), sets):
        if one.again:
            continue
        for examples in EXAMPLES:
            yield {
                "a": a.label,
                "b": b.label,
                "noise": one.name,
                "examples": examples,
                "layers_a": a.layers,
                "layers_b": b.layers,
                "matrix": _numbers(_cka(measured[a.label, one.name], measured[b.label, one.name], examples).value()),
            }


def srga_rows(subjects: Sequence[Subject], sets: Sequence[TestSet], measured: Measurements) -> Iterator[Row]:
    """SRGA of each model and noise against the reference (figure 14)."""
    reference, *others = sets
    for subject, one in itertools.product(subjects, others):
        firsts, fits = (measured[subject.label, name].fits for name in (reference.name, one.name))
        divergences = [divergence(first, fit) for first, fit in zip(firsts, fits, strict=True)]
        values = np.array([srga_of(kl) for kl in divergences])
        yield {
            "model": subject.label,
            "noise": one.name,
            "srga": float(values[0]),
            "error": _numbers(jackknife_error(values[1:])[None])[0],
            "without": values[1:].tolist(),
            "kl": divergences[0],
            "sigma_reference": firsts[0].sigma,
            "shape_reference": firsts[0].shape,
            "sigma": fits[0].sigma,
            "shape": fits[0].shape,
        }


def histograms(subjects: Sequence[Subject], sets: Sequence[TestSet], measured: Measurements) -> Iterator[Row]:
    """Densities of the deepest features (figure 15), in the same bins for all noises of a model."""
    for subject in subjects:
        first = measured[subject.label, sets[0].name].sample
        low, high = np.quantile(first, _QUANTILES)
        edges = np.linspace(low, high, _BINS + 1)
        bounds = np.concatenate([[-np.inf], edges, [np.inf]])
        expected: Floats | None = None
        for one in sets:
            sample = measured[subject.label, one.name].sample
            shares: Floats = np.histogram(sample, bounds)[0] / sample.size
            expected = shares if expected is None else expected
            yield {
                "model": subject.label,
                "noise": one.name,
                "edges": edges.tolist(),
                "density": (shares[1:-1] / np.diff(edges)).tolist(),
                "outside": float(shares[0] + shares[-1]),
                "mean": float(sample.mean(dtype=np.float64)),
                "sd": float(sample.std(dtype=np.float64)),
                "overlap": float(np.minimum(shares, expected).sum()),
            }


def _cka(left: Measured, right: Measured, examples: Examples) -> MinibatchCka:
    total = MinibatchCka()
    for draws_left, draws_right in zip(left.passes, right.passes, strict=True):
        # A model without draws meets each of the other's.
        for draw in range(max(len(draws_left), len(draws_right))):
            a, b = draws_left[draw % len(draws_left)], draws_right[draw % len(draws_right)]
            sides = (a.patches, b.patches) if examples == "patches" else (_products(a.places), _products(b.places))
            total.add(*sides, joined=draw > 0)
    return total


def _products(layers: Sequence[NDArray[np.float32]]) -> Floats:
    return np.stack([gram(layer) for layer in layers])


def _numbers(values: Floats) -> Any:
    """Nested lists, with None where layers do not vary."""
    if values.ndim > 1:
        return [_numbers(row) for row in values]
    return [float(value) if math.isfinite(value) else None for value in values]
