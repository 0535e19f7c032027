"""Stacks denoised page by page: each page is read, denoised and written before the next one is looked at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.data.depth import BIT_DEPTHS
from pipeline.data.image_types import Pages
from pipeline.data.images import WRITABLE, ImageError, replacing
from pipeline.data.non_finite import fill_non_finite
from pipeline.data.paths import shown
from pipeline.data.tiff_pages import read_page
from pipeline.data.tiff_stack import StackWriter
from pipeline.inference.denoiser import Denoiser
from pipeline.inference.offset import denoise_measured
from pipeline.inference.outputs import OutputOptions
from pipeline.inference.picture import picture_of, replaced_note
from pipeline.inference.written import finish

if TYPE_CHECKING:
    from models import DisplayView


def denoise_stack(
    source: Path, output: Path, pages: Pages, denoiser: Denoiser, options: OutputOptions
) -> tuple[str | None, dict[str, Any] | None]:
    """Denoise every page of a TIFF into the pages of another one; depth, alpha and metadata of each page stay.

    No page changes another: values are those of the file, and nothing is scaled by what a page holds. Only where the
    floats of a stack are not display values (`view_of_display`), one factor for all pages is found first.

    Args:
        source: the stack.
        output: where to; replaced atomically, folders are made.
        pages: of `pages_of` for ``source``.
        denoiser: called with each page.
        options: bit depth and strength.

    Returns:
        What a user should know about it, and the offset (`denoise_measured`) of the page that has most, with its
        number from 1 as ``page``.

    Raises:
        UserError: a page cannot be read, which is named by its number, or ``output`` is no TIFF.
        RuntimeError: the denoiser failed at a page, likewise.
    """
    if WRITABLE.get(output.suffix.lower()) != "tiff":
        raise ImageError(
            f"{shown(source)}: expected --format tiff for a TIFF of {pages.count} pages, found {output.suffix!r}"
        )
    view = _view(source, pages) if pages.floats else None
    replaced, worst = 0, None
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as temporary, StackWriter(temporary, pages, _growth(options)) as writer:
        for number in range(1, pages.count + 1):
            image = read_page(source, number, pages.count)
            picture = picture_of(image, view)
            try:
                denoised, offset = denoise_measured(denoiser, picture.seen)
                finished = finish(picture, denoised, options)
            except (ValueError, RuntimeError, MemoryError) as error:
                told = " ".join(str(error).split()) or type(error).__name__
                raise RuntimeError(f"page {number} of {pages.count}: {told}") from error
            writer.add(finished.pixels, finished.metadata)
            replaced += picture.replaced
            if offset is not None and (worst is None or offset["smooth_255"] > worst["smooth_255"]):
                worst = {**offset, "page": number}
    notes = [f"{pages.count} pages"]
    if replaced:
        notes.append(replaced_note(replaced))
    if view is not None and view.exposure != 1:
        notes.append(f"seen by the network at {view.exposure:g} times their value")
    if pages.left_out:
        notes.append(f"{pages.left_out} smaller copies or masks left out")
    return "; ".join(notes), worst


def _view(source: Path, pages: Pages) -> DisplayView:
    """Return the view of the page that needs the least exposure, which is seen for all."""
    from models import DisplayView, view_of_display

    least = DisplayView()
    for number in range(1, pages.count + 1):
        pixels = read_page(source, number, pages.count).pixels
        if pixels.dtype == np.float32:
            view = view_of_display(fill_non_finite(pixels)[0])
            least = min(least, view, key=lambda one: one.exposure)
    return least


def _growth(options: OutputOptions) -> float:
    return 4.0 if options.bit_depth is not None and BIT_DEPTHS[options.bit_depth] is not np.uint8 else 1.0
