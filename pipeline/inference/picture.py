"""A picture that is to be denoised: as it is stored, and as a network is shown it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.data.images import Image, Metadata, read_unbounded, to_float, without_alpha
from pipeline.data.non_finite import fill_non_finite

if TYPE_CHECKING:
    from models import DisplayView

FloatImage = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A noisy picture on its way through a denoiser."""

    image: Image
    """As stored, with finite colours."""

    seen: FloatImage
    """(H, W, C) float32 as a denoiser is shown it: display values, nearly all in [0, 1]."""

    view: DisplayView | None = None
    """How ``seen`` was made from stored floats; None if they are the same."""

    note: str | None = None
    """What a user should know about how the pixels were made; or None."""

    replaced: int = 0
    """Pixels that held NaN or infinity."""

    def taken_back(self, denoised: FloatImage) -> FloatImage:
        """Map a denoised ``seen`` to the range of the stored values, integers over [0, 1]; nothing is cut off."""
        if self.view is None:
            return denoised
        colours = without_alpha(denoised)
        back = self.view.take_back(colours, float(np.abs(without_alpha(self.seen)).max()))
        return np.concatenate([back, denoised[..., colours.shape[2] :]], axis=2)


def read_picture(path: Path) -> Picture:
    """Read a file to be denoised.

    Raises:
        UserError: no picture, damaged, too large, or a package for it is not installed.
    """
    return picture_of(read_unbounded(path))


def picture_of(image: Image, view: DisplayView | None = None) -> Picture:
    """Make a picture of what was read.

    Args:
        image: any.
        view: of floats; None chooses one. The pages of a stack share one.
    """
    if image.pixels.dtype != np.float32:
        return Picture(image=image, seen=to_float(image.pixels), note=image.note)
    colours, replaced = fill_non_finite(without_alpha(image.pixels))
    rest = image.pixels[..., colours.shape[2] :]
    if replaced:
        image = replace(image, pixels=np.concatenate([colours, rest], axis=2))
    note = joined(image.note, replaced_note(replaced) if replaced else None)
    if view is None:
        from models import view_of_display
        from pipeline.inference.light_view import view_of_light

        view = view_of_light(colours) if image.format == "exr" else view_of_display(colours)
    if view.fits(colours):
        return Picture(image=image, seen=to_float(image.pixels), note=note, replaced=replaced)
    seen = np.concatenate([view.show(colours), rest], axis=2)
    return Picture(image=image, seen=seen, view=view, note=note, replaced=replaced)


def replaced_note(count: int) -> str:
    """Say what was done about pixels that were no numbers."""
    what = "pixel that was" if count == 1 else "pixels that were"
    return f"{count} {what} NaN or infinite, replaced by the median of those around"


def joined(*notes: str | None) -> str | None:
    """Return the notes that there are as one, or None."""
    return "; ".join(note for note in notes if note) or None


def profile_note(metadata: Metadata) -> str | None:
    """Say that a picture has other colours than those that networks are trained on, or return None."""
    from pipeline.data.icc import unlike_srgb

    name = unlike_srgb(metadata.icc) if metadata.icc else None
    if name is None:
        return None
    return f"the colour profile is {name}, kept as it is; networks are trained on sRGB"
