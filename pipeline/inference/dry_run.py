"""What a run would read, write and leave alone, without writing anything: `unveil denoise --dry-run`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pipeline.data.folders import SourceFile
from pipeline.data.images import ImageError, read_header
from pipeline.data.paths import shown
from pipeline.data.tiff_pages import pages_of
from pipeline.inference.files import why_skipped
from pipeline.inference.manifest import Known
from pipeline.inference.outputs import OutputOptions

if TYPE_CHECKING:
    from pipeline.inference.denoiser import NetworkDenoiser
    from pipeline.inference.raw_denoiser import RawDenoiser

_PROBE: Final = 256
"""Side in pixels of the picture that the speed is measured on."""

_CHANNELS: Final = {1: "grey", 2: "grey and alpha", 3: "RGB", 4: "RGB and alpha"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """What would become of one source file."""

    source: str
    """Path that would be read."""

    output: str
    """Path that would be written."""

    action: Literal["write", "replace", "skip", "fail"]
    """``replace``: the output is there; ``fail``: by what was read of it, nothing could be made of the source."""

    reason: str | None = None
    """Why it would be skipped or fail, or None."""

    height: int | None = None
    """Rows of the source, where its header was read."""

    width: int | None = None
    """Columns, likewise."""

    channels: int | None = None
    """Channels, likewise; 2 and 4 with alpha."""

    bits: int | None = None
    """Bits a channel, likewise."""

    pages: int | None = None
    """Pages of a TIFF; of a stack nothing else is known."""

    seconds: float | None = None
    """Estimate of denoising alone."""

    model: str | None = None
    """The model that it would go to, as it was named; None with a fit."""

    fallback: str | None = None
    """As in `pipeline.inference.results.FileResult`."""

    def told(self) -> str:
        """Return it as a line."""
        if self.reason is not None:
            return f"{self.action}: {self.reason}"
        kind = _CHANNELS.get(self.channels or 0, f"{self.channels} channels")
        what = f"{self.width}x{self.height} {kind}, {self.bits} bits"
        if self.width is None:
            what = "EXR" if self.pages is None else f"{self.pages} pages"
        time = "" if self.seconds is None else f", about {spoken(self.seconds)}"
        instead = "" if self.fallback is None else f"; developed, by {self.model}: {self.fallback}"
        return f"{self.action}: {shown(self.source)} ({what}{time}) -> {shown(self.output)}{instead}"


def plan_files(
    sources: Sequence[SourceFile],
    outputs: Sequence[Path],
    options: OutputOptions,
    known: Known,
    seconds_of: Callable[[int], float] | None,
) -> Iterator[Planned]:
    """Say of each source what would become of it; of those that would be read, the header is read.

    Args:
        sources: what would be read.
        outputs: of `pipeline.inference.outputs.plan_outputs`.
        options: what is done about outputs that exist.
        known: what was made in the output folder.
        seconds_of: estimates the time for a number of pixels.
    """
    for source, output in zip(sources, outputs, strict=True):
        paths: dict[str, Any] = {"source": str(source.path), "output": str(output)}
        why = why_skipped(source.path, output, options, known)
        if why is not None:
            yield Planned(action="skip", reason=why or f"{shown(output)}: up to date", **paths)
            continue
        try:
            facts = _facts(source.path)
        except ImageError as error:
            yield Planned(action="fail", reason=str(error), **paths)
            continue
        action: Literal["write", "replace"] = "replace" if os.path.lexists(output) else "write"
        if seconds_of is not None and "height" in facts:
            facts["seconds"] = round(seconds_of(facts["height"] * facts["width"]), 2)
        yield Planned(action=action, **facts, **paths)


def _facts(path: Path) -> dict[str, Any]:
    """What a header tells; of an EXR nothing, since it is read with the pixels, and of a stack its pages."""
    if path.suffix.lower() == ".exr":
        return {}
    pages = pages_of(path)
    if pages is not None and pages.count > 1:
        return {"pages": pages.count}
    header = read_header(path)
    return {
        "height": header.height,
        "width": header.width,
        "channels": header.channels,
        "bits": header.bits,
        "pages": 1,
    }


def summarised(files: Sequence[Planned]) -> dict[str, Any]:
    """Return the JSON form: files, write, replace, skip, fail, seconds."""
    counts = {action: sum(file.action == action for file in files) for action in ("write", "replace", "skip", "fail")}
    seconds = round(sum(file.seconds or 0.0 for file in files), 1)
    return {"dry_run": True, "files": [asdict(file) for file in files], **counts, "seconds": seconds}


def measured_speed(denoiser: NetworkDenoiser | RawDenoiser) -> Callable[[int], float]:
    """Denoise a small picture of noise, and return an estimate of seconds for a number of pixels."""
    import numpy as np

    from noise.shot_read import NoiseLevel
    from pipeline.inference.denoiser import NetworkDenoiser

    generator = np.random.default_rng(0)

    def run(side: int) -> float:
        start = time.perf_counter()
        if isinstance(denoiser, NetworkDenoiser):
            denoiser(generator.random((side, side, 3), dtype=np.float32))
        else:
            planes = generator.random((4, side // 2, side // 2), dtype=np.float32)
            denoiser.planes(planes, NoiseLevel(shot=1e-3, read=1e-5))
        return time.perf_counter() - start

    run(_PROBE // 2)  # the first pass of a network pays for much that is done once
    seconds = min(run(_PROBE) for _ in range(2))
    return lambda pixels: seconds * pixels / _PROBE**2


def spoken(seconds: float) -> str:
    """Return a time as people say it."""
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
