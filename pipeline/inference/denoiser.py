"""A denoiser maps a picture to a picture; the network, its channels and its device stay behind it."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.data.image_types import without_alpha
from pipeline.data.paths import shown
from pipeline.errors import UserError
from pipeline.inference.offset import mended
from pipeline.inference.shipped import NAMES, find_shipped

if TYPE_CHECKING:
    from torch import Tensor

    from models import InferenceSpec, LoadedModel, Network, NetworkSpec

FloatImage = NDArray[np.float32]
"""(H, W, C) float32, black 0 and white 1."""

WEIGHTS_NAME, CARD_NAME = "model.safetensors", "model.json"


class Denoiser(Protocol):
    """Takes (H, W, C) float32 in [0, 1], C in 1..4, any H, W >= 1; returns the same shape, not clipped."""

    def __call__(self, image: FloatImage, /) -> FloatImage:
        """Denoise one picture."""


class NetworkDenoiser:
    """Trained weights as a `Denoiser`: the same picture always gives the same result."""

    def __init__(self, folder: Path, device: str = "auto") -> None:
        """Load a weights folder.

        Args:
            folder: holds ``model.safetensors`` and ``model.json``.
            device: ``cpu``, ``cuda``, ``cuda:1`` ... or ``auto``, which takes a GPU if there is one.

        Raises:
            UserError: the weights are damaged or not ours, or the device does not exist.
        """
        self.folder = folder
        self.device = pick_device(device)
        self._loaded = _loaded(folder, self.device)
        self.inference = self._loaded.inference
        self.tile: int | None = None
        """Side of the tiles as the user wants it; None to choose."""

    def using(self, inference: InferenceSpec) -> NetworkDenoiser:
        """Return a denoiser of the same weights that works as ``inference`` says."""
        other = copy.copy(self)
        other.inference = inference
        return other

    @property
    def network(self) -> Network:
        """The network, in evaluation mode, on its device."""
        return self._loaded.network

    @property
    def spec(self) -> NetworkSpec:
        """Shape of the network."""
        return self._loaded.spec

    @property
    def stochastic(self) -> bool:
        """Whether the network has attention masks to draw."""
        return self._loaded.network.stochastic

    def describe(self) -> dict[str, Any]:
        """Return how it denoises: mode, attention, draws, passes of the network, seed, offset."""
        return _described(self.inference, self.stochastic)

    def describe_card(self) -> dict[str, Any]:
        """Return the same for what the weights are meant for."""
        return _described(self._loaded.inference, self.stochastic)

    @property
    def card(self) -> dict[str, Any]:
        """What the weights say about themselves: data, seed, steps, versions."""
        return dict(self._loaded.card)

    @property
    def sha256(self) -> str:
        """Hash of the weights."""
        return self._loaded.sha256

    @property
    def domain(self) -> str:
        """What the network was trained on: ``display`` (pictures), or ``raw`` (planes of mosaics)."""
        return str(self._loaded.card.get("domain", "display"))

    def planes(self, planes: FloatImage, noise: tuple[float, float]) -> FloatImage:
        """Denoise (C, h, w) as a network trained on raw is shown it; `pipeline.inference.raw_denoiser` does the rest.

        Args:
            planes: any range.
            noise: (shot, read) variance, for a network with a level map.
        """
        import torch

        from models import denoise

        batch = torch.from_numpy(np.ascontiguousarray(planes))[None].to(self.device)
        told = torch.tensor([noise], dtype=torch.float32, device=self.device)
        spec = replace(self.inference, offset="keep")
        known = told if self._loaded.network.level_map else None
        result: FloatImage = denoise(self._loaded.network, batch, spec, noise=known)[0].float().cpu().numpy()
        return result

    def __call__(self, image: FloatImage, /) -> FloatImage:
        """Denoise (H, W, C); `models.to_network` says what happens to grey and RGB, alpha stays."""
        return mended(image, self.uncorrected(image), self.inference.offset)

    def uncorrected(self, image: FloatImage) -> FloatImage:
        """Denoise (H, W, C) and keep whatever offset the network has."""
        from models import denoise, from_network, to_network

        if self.domain == "raw":
            raise UserError("model: expected one trained on pictures, found one for raw files (unveil denoise RAW...)")
        colours = without_alpha(image)
        try:
            batch = to_network(colours, self.network.channels).to(self.device)
        except ValueError as error:
            raise UserError(f"model: {error}") from None
        # The offset is mended outside, where grey and alpha are what they were.
        spec = replace(self.inference, offset="keep")
        result = from_network(denoise(self.network, batch, spec, tile=self.tile), colours.shape[2])
        return np.concatenate([result, image[..., colours.shape[2] :]], axis=2)


def load_denoiser(ref: str, device: str = "auto") -> NetworkDenoiser:
    """Load the model that ``ref`` names.

    Args:
        ref: the name of a shipped model (``default``, ``default-raw``), a weights folder, a run folder (which has
            ``weights/``), or an MLflow URI (``models:/name@alias``, ``models:/name/3``, ``runs:/...``).
        device: see `NetworkDenoiser`.

    Raises:
        UserError: nothing there, or no weights in it.
    """
    return NetworkDenoiser(find_weights(ref), device)


def read_weights(ref: str, spec: NetworkSpec) -> dict[str, Tensor]:
    """Return the weights that ``ref`` names, which must be those of a network of ``spec``.

    Raises:
        UserError: nothing there, no weights in it, or another network.
    """
    loaded = _loaded(find_weights(ref), "cpu")
    if loaded.spec != spec:
        raise UserError(
            f"training.start: expected weights of the network of this run ({spec}), found those of {loaded.spec}"
        )
    return loaded.network.state_dict()


def find_weights(ref: str) -> Path:
    """Return the local weights folder that ``ref`` names, fetching it from the registry if need be."""
    if ref in NAMES:
        return find_shipped(ref)
    if ref.startswith(("models:/", "runs:/")):
        from pipeline.registry.pull import fetch

        return fetch(ref)
    folder = Path(ref)
    for candidate in (folder, folder / "weights"):
        if (candidate / WEIGHTS_NAME).is_file() and (candidate / CARD_NAME).is_file():
            return candidate
    found = "a folder without them" if folder.is_dir() else "a file" if folder.exists() else "nothing there"
    raise UserError(
        f"{shown(ref)}: expected a weights folder ({WEIGHTS_NAME} and {CARD_NAME}), a run folder, "
        f"models:/name@alias, or {' or '.join(NAMES)}; found {found}"
    )


def pick_device(device: str) -> str:
    """Resolve ``auto``, and check that a named device exists.

    Raises:
        UserError: unknown or absent device.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device: expected auto, cpu or an available GPU, found {device!r}") from error
    return device


def _loaded(folder: Path, device: str) -> LoadedModel:
    from models import load

    try:
        return load(folder, device=device)
    except (ValueError, OSError) as error:
        raise UserError(f"{shown(folder)}: expected weights made by unveil; {_one_line(error)}") from error


def _described(inference: InferenceSpec, stochastic: bool) -> dict[str, Any]:
    from models import describe_inference

    return describe_inference(inference, stochastic=stochastic)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
