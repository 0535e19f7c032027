"""A model under analysis: what its layers show for patches, kept as small as the measures allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.evaluation.cka import gram
from pipeline.evaluation.contenders import short_name
from pipeline.evaluation.feature_rows import FeatureRows
from pipeline.evaluation.features import tapped, taps_of
from pipeline.evaluation.metrics import psnr_rgb_u8

if TYPE_CHECKING:
    from torch import Tensor

    from models import Network
    from pipeline.inference.denoiser import NetworkDenoiser

Floats = NDArray[np.float64]
FloatImage = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model and what it is called."""

    label: str
    """In figures."""

    ref: str
    """As typed."""

    denoiser: NetworkDenoiser
    """Weights and mode."""

    @property
    def layers(self) -> list[str]:
        """Names of its layers, the deepest last."""
        return [tap.name for tap in taps_of(self.denoiser.network)]

    def describe(self) -> dict[str, Any]:
        """What it is, as JSON values."""
        network = self.denoiser.network
        return {
            "label": self.label,
            "ref": self.ref,
            "sha256": self.denoiser.sha256,
            "kind": self.denoiser.spec.kind,
            "mode": self.denoiser.describe(),
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "layers": self.layers,
            "deepest": self.layers[-1],
        }


def load_subjects(
    refs: Sequence[str], *, device: str = "auto", attention: str | None = None, draws: int | None = None
) -> list[Subject]:
    """Load the models to compare.

    Args:
        refs: see `pipeline.inference.denoiser.load_denoiser`.
        device: likewise.
        attention: mode of the attention masks, of the models that have some.
        draws: of them, likewise.

    Raises:
        UserError: a model cannot be loaded or analysed, is named twice, or ``attention`` or ``draws`` means nothing
            to any of them.
    """
    from pipeline.inference.denoiser import load_denoiser
    from pipeline.inference.modes import with_mode

    if len(set(refs)) < len(refs):
        raise UserError(f"--model: expected different models, found {next(r for r in refs if refs.count(r) > 1)} twice")
    loaded = [load_denoiser(ref, device) for ref in refs]
    for ref, denoiser in zip(refs, loaded, strict=True):
        _check(ref, denoiser)
    if not any(denoiser.stochastic for denoiser in loaded):
        # One that says what is wrong.
        with_mode(loaded[0], attention=attention, draws=draws)
    subjects = []
    for label, ref, denoiser in zip(labels_of(refs), refs, loaded, strict=True):
        chosen = with_mode(denoiser, attention=attention, draws=draws)[0] if denoiser.stochastic else denoiser
        subjects.append(Subject(label, ref, chosen))  # type: ignore[arg-type]  # with_mode keeps its kind
    return subjects


def labels_of(refs: Sequence[str]) -> list[str]:
    """Short names: the run folder's or the registered model's, or all of a ref where that is not its own."""
    short = [short_name(ref) for ref in refs]
    return [name if short.count(name) == 1 else ref for name, ref in zip(short, refs, strict=True)]


def _check(ref: str, denoiser: NetworkDenoiser) -> None:
    if denoiser.domain == "raw" or denoiser.network.level_map:
        raise UserError(f"--model {ref}: expected a model trained on pictures, found one for raw files")
    spec = denoiser.inference
    if spec.mode != "direct" or spec.pd_stride != 1:
        raise UserError(
            f"--model {ref}: expected a model that denoises the picture itself in one pass, found mode {spec.mode!r} "
            f"with PD stride {spec.pd_stride}; distil it first (docs/noisy-photos.md)"
        )


class Shown(NamedTuple):
    """What all models are shown under one noise, and where in it is looked."""

    noisy: list[FloatImage]
    """Patches (S, S, C) in [0, 1]."""

    clean: list[FloatImage]
    """Their clean partners."""

    places: Floats
    """(N, P, 2) rows and columns in each patch, as fractions of its side."""

    batches: list[slice]
    """Of patches, for CKA."""


class Pass(NamedTuple):
    """What one pass over a batch of n patches showed."""

    patches: Floats
    """(layers, n, n), products of the patches: each is an example with all of its map."""

    places: list[NDArray[np.float32]]
    """Of each layer (n * P, D): each place is an example, with its channels."""


class Seen(NamedTuple):
    """What was seen of one model under one noise."""

    passes: list[list[Pass]]
    """Batch, then draw of the attention masks."""

    psnr: float
    """Of the denoised patches, the mean in dB."""


def look(subject: Subject, shown: Shown, rows: FeatureRows, on_progress: Callable[[int], None]) -> Seen:
    """Run a model over patches.

    Attention masks are those of ``unveil denoise``: they follow from the model's seed and the place in the patch, so
    they are the same for every patch and every noise, and the noise is all that differs. Of several draws CKA sees
    each, and ``rows`` gets the mean, of which the mean of the outputs is a linear function.

    Args:
        subject: the model.
        shown: patches, and where in them to look.
        rows: gets the deepest features of every patch.
        on_progress: called with the number of patches done.
    """
    import torch

    from models import from_network, to_network

    denoiser = subject.denoiser
    network, device = denoiser.network, denoiser.device
    passes: list[list[Pass]] = []
    psnr: list[float] = []
    for batch in shown.batches:
        images = torch.cat([to_network(patch, network.channels) for patch in shown.noisy[batch]]).to(device)
        seeds = seeds_of(denoiser, len(images))
        deepest: Any = 0.0
        output: Any = 0.0
        of_draws = []
        for draw in seeds:
            one, features, denoised = _pass(network, images, draw, shown.places[batch])
            of_draws.append(one)
            deepest, output = deepest + features, output + denoised
        passes.append(of_draws)
        rows.add(deepest / len(seeds))
        channels = shown.noisy[0].shape[2]
        for denoised, clean in zip(output / len(seeds), shown.clean[batch], strict=True):
            psnr.append(psnr_rgb_u8(from_network(denoised[None], channels), clean))
        on_progress(len(images))
    return Seen(passes, float(np.mean(psnr)))


def _pass(
    network: Network, images: Tensor, seeds: Tensor | None, places: Floats
) -> tuple[Pass, NDArray[np.float32], Tensor]:
    """Run one batch; also return its deepest features (n, D, H, W) and its output."""
    import torch

    deepest = taps_of(network)[-1].name
    patches: list[Floats] = []
    of_places: list[NDArray[np.float32]] = []
    kept: list[NDArray[np.float32]] = []

    def see(name: str, tensor: Tensor) -> None:
        values = tensor.float().cpu().numpy()
        patches.append(gram(values))
        cells = np.floor(places * values.shape[2:]).astype(int)
        number = np.arange(len(values))[:, None]
        of_places.append(values[number, :, cells[..., 0], cells[..., 1]].reshape(-1, values.shape[1]))
        if name == deepest:
            kept.append(values.copy())

    with torch.inference_mode(), tapped(network, see):
        output = network(images, seeds=seeds).float().cpu()
    return Pass(np.stack(patches), of_places), kept[0], output


def seeds_of(denoiser: NetworkDenoiser, count: int) -> list[Tensor | None]:
    """Seeds of a batch of ``count`` patches for each draw of the attention masks, as `models.denoise` has them."""
    import torch

    from models import fold

    spec = denoiser.inference
    if not denoiser.stochastic or spec.attention == "off":
        return [None]
    # Each picture of its own, and of it the only sub-image.
    children = [fold(fold(spec.seed, draw), 0) for draw in range(spec.draws)]
    return [torch.full((count,), child, device=denoiser.device) for child in children]
