"""What a run holds out, by its configuration: nothing unless it learns from noisy images alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.data.held_out import HeldOut, divide

if TYPE_CHECKING:
    from pipeline.schema import TrainConfig
    from pipeline.training.intake import Listener


def hold_out(files: Sequence[str], sizes: Sequence[tuple[int, int]], config: TrainConfig, listen: Listener) -> HeldOut:
    """Divide the images of a run, and say how."""
    if config.method.kind != "asymmetric" or not config.trust.every:
        return HeldOut(training=tuple(files))
    apart = divide(
        files,
        sizes,
        crop=config.data.crop,
        share=config.trust.held_out,
        count=config.trust.crops,
        seed=config.seed,
    )
    listen("say", {"text": f"held out: {apart.describe()}"})
    return apart
