"""Fit a network to each photo on its own: no model, no other photo; the best picture so far lies beside its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.data.folders import SourceFile
from pipeline.data.image_types import without_alpha
from pipeline.inference.denoiser import pick_device
from pipeline.inference.files import convert_files
from pipeline.inference.manifest import kept
from pipeline.inference.offset import offset_of
from pipeline.inference.outputs import DEFAULT, OutputOptions, plan_outputs
from pipeline.inference.picture import joined, read_picture
from pipeline.inference.residual import residual_of
from pipeline.inference.results import FileResult, FilesSummary, Made
from pipeline.inference.written import write_denoised

if TYPE_CHECKING:
    from pipeline.inference.fit_image import FitProgress, FitResult

FloatImage = NDArray[np.float32]
FitListener = Callable[[Path, "FitProgress"], None]
"""Called with the source and where its fit is, after every step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FitOptions:
    """What a user may ask of a fit; all else follows from the photo (`choose_settings`)."""

    minutes: float | None = None
    """Wall-clock time for each photo; None: by its size."""

    steps: int | None = None
    """Steps of training in place of a time: the same bytes from run to run."""

    draws: int | None = None
    """Random draws of the masks to average; None: by the size."""

    offset: Literal["keep", "level"] = "keep"
    """What is done about an offset in brightness or colour."""

    seed: int = 0
    """Decides everything random."""

    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:1`` ..."""

    save_seconds: float = 30.0
    """Time between two saves of the best picture so far."""

    def content(self) -> dict[str, Any]:
        """Return what decides the picture, as JSON values."""
        return {name: value for name, value in asdict(self).items() if name not in ("device", "save_seconds")}


class FitDenoiser:
    """A `Denoiser` that trains a new network for every picture it is given."""

    def __init__(self, options: FitOptions, on_progress: Callable[[FitProgress], None] | None = None) -> None:
        """Prepare; ``on_progress`` is called after every step, now and then with the picture so far, without alpha.

        Raises:
            UserError: unknown or absent device.
        """
        self.options = options
        self.device = pick_device(options.device)
        self.on_progress = on_progress
        self.last: FitResult | None = None
        """What the latest call found out."""

    def __call__(self, image: FloatImage, /, *, step: float = 1 / 255) -> FloatImage:
        """Denoise (H, W, C), C in 1..4; ``step`` is the quantisation step of its pixels.

        Raises:
            ValueError: fewer than 16x16 pixels.
        """
        import torch

        from pipeline.inference.fit_image import fit_image
        from pipeline.inference.fit_settings import choose_settings

        options = self.options
        colours = without_alpha(image)
        settings = choose_settings(
            colours,
            step=step,
            minutes=options.minutes,
            steps=options.steps,
            draws=options.draws,
            offset=options.offset,
            seed=options.seed,
            threads=torch.get_num_threads(),
        )
        self.last = fit_image(
            colours, settings, on_progress=self.on_progress, save_seconds=options.save_seconds, device=self.device
        )
        return _with_alpha(self.last.denoised, image)


@dataclass(frozen=True, kw_only=True, slots=True)
class FitSummary:
    """What became of all photos."""

    files: FilesSummary
    """One entry a photo that was begun, in their order."""

    fits: dict[str, dict[str, Any]]
    """Source -> settings with their reasons, and measures of its fit."""

    told: dict[str, str]
    """Source -> the same as one line."""

    stopped: str | None
    """Source at which the user stopped it all; None if that did not happen."""

    saved: str | None
    """Path of the best picture so far of ``stopped``, if there is one; see `unfinished_path`."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**self.files.to_dict(), "fits": self.fits, "stopped": self.stopped, "stopped_saved": self.saved}


def fit_files(
    sources: Sequence[SourceFile],
    out: Path,
    options: FitOptions,
    written: OutputOptions = DEFAULT,
    *,
    on_progress: Callable[[FileResult], None] | None = None,
    listen: FitListener | None = None,
) -> FitSummary:
    """Fit and denoise every photo, as `pipeline.inference.files.denoise_files` does with one model for all.

    Ctrl-C and SIGTERM end it early; the best picture so far of the photo that was worked on stays beside its place.

    Args:
        sources: what `pipeline.data.folders.scan` found.
        out: folder to write to; created.
        options: of the fits.
        written: names, formats and what is done about outputs that exist.
        on_progress: called after each photo.
        listen: called after each step.

    Raises:
        UserError: as in `denoise_files`, or the device does not exist.
        RunError: the disk is full or read-only.
    """
    outputs = plan_outputs(sources, out, written)
    finals = {source.path: output for source, output in zip(sources, outputs, strict=True)}
    run = _FitRun(options, written, listen, finals)

    def done(result: FileResult) -> None:
        run.source = None
        if on_progress is not None:
            on_progress(result)

    with kept(out, fitted_with(options, written), outputs) as manifest:
        files = convert_files(sources, outputs, run.convert, written, manifest=manifest, on_progress=done)
    return FitSummary(
        files=files,
        fits=run.fits,
        told=run.told,
        stopped=str(run.source or sources[min(len(files.files), len(sources) - 1)].path) if files.stopped else None,
        saved=str(run.saved) if files.stopped and run.saved is not None else None,
    )


def fitted_with(options: FitOptions, written: OutputOptions) -> dict[str, Any]:
    """Return what decides the bytes of an output besides its source, as JSON values."""
    return {"fit": options.content(), "options": written.content()}


def unfinished_path(output: Path) -> Path:
    """Return where the best picture so far is kept: not under the name of the output, which looks finished."""
    return output.with_name(f"{output.stem}.unfinished{output.suffix}")


class _FitRun:
    """One photo after the other, and what is known about them."""

    def __init__(
        self, options: FitOptions, written: OutputOptions, listen: FitListener | None, outputs: Mapping[Path, Path]
    ) -> None:
        self._listen = listen
        self._written = written
        self._outputs = outputs
        self._denoiser = FitDenoiser(options)
        self.source: Path | None = None
        self.saved: Path | None = None
        self.fits: dict[str, dict[str, Any]] = {}
        self.told: dict[str, str] = {}

    def convert(self, source: Path, output: Path) -> Made:
        """Fit one photo; the best picture so far is written again and again."""
        self.source, self.saved = source, None
        unfinished = unfinished_path(self._outputs[source])
        taken = unfinished in self._outputs or unfinished in self._outputs.values()
        picture = read_picture(source)
        noisy = picture.seen

        def tell(progress: FitProgress) -> None:
            if progress.picture is not None and not taken:
                write_denoised(unfinished, picture, _with_alpha(progress.picture, noisy), self._written)
                self.saved = unfinished
            if self._listen is not None:
                self._listen(source, progress)

        self._denoiser.on_progress = tell
        kind = picture.image.pixels.dtype
        denoised = self._denoiser(noisy, step=1 / float(np.iinfo(kind).max) if kind.kind == "u" else 1e-6)
        note = write_denoised(output, picture, denoised, self._written)
        if self.saved is not None:
            self.saved.unlink(missing_ok=True)
            self.saved = None
        result = self._denoiser.last
        assert result is not None
        self.fits[str(source)] = {"settings": result.settings.to_dict(), "measures": result.measures}
        self.told[str(source)] = _in_words(result)
        note = joined(picture.note, note)
        return Made(note=note, offset=offset_of(noisy, denoised), residual=residual_of(noisy, denoised))


def _in_words(result: FitResult) -> str:
    chosen = result.settings.told()
    if not result.settings.denoises:
        return chosen
    found = result.measures
    return (
        f"{chosen}; error at held-out pixels {found['held_out_255']:.2f}/255 after {found['best_step']} of "
        f"{found['steps']} steps, {found['held_out_start_255']:.2f} before; {found['seconds']:.0f} s"
    )


def _with_alpha(colours: FloatImage, image: FloatImage) -> FloatImage:
    whole: FloatImage = np.concatenate([colours, image[..., colours.shape[2] :]], axis=2)
    return whole
