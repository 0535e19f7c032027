"""What a run on raw files is given: each file decoded once, its noise level known, and what the card says of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from pipeline.data.folders import SourceFile
from pipeline.data.paths import shown
from pipeline.errors import UserError
from raw.files import RAW_SUFFIXES

if TYPE_CHECKING:
    from noise.known_level import KnownLevel
    from pipeline.data.source import SourceSpec
    from pipeline.schema import TrainConfig
    from raw.raw_file import RawFile

_ENOUGH: Final = 3
"""Files of one camera at one ISO speed that are measured; the noise of the others is the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RawTrainingFile:
    """A raw file that can be trained on."""

    file: SourceFile
    cells: tuple[int, int]
    """Rows and columns of its mosaic, in cells."""

    camera: str
    iso: float | None
    shot: float
    read: float
    source: str
    """Where the noise level comes from, `noise.known_level.KnownLevel.source`."""


@dataclass
class _Levels:
    """Noise levels of files; those of one camera and ISO speed are measured a few times only."""

    known: dict[tuple[str, float], list[KnownLevel]] = field(default_factory=dict)

    def of(self, raw: RawFile, camera: str) -> tuple[float, float, str]:
        """Return shot, read and their source; raises the ValueError of `known_level`."""
        from noise.known_level import known_level

        # A stated profile costs nothing; a camera or a speed that is not told is not the same as another such.
        shared = bool(camera and raw.iso and not raw.noise_profile)
        key = (camera, raw.iso or 0.0)
        earlier = self.known.get(key, []) if shared else []
        if len(earlier) < _ENOUGH:
            found = known_level(raw)
            if shared and found.source != "bound":
                self.known.setdefault(key, []).append(found)
            return found.level.shot, found.level.read, found.source
        levels = [one.level for one in earlier]
        return median(one.shot for one in levels), median(one.read for one in levels), "other files of the camera"


def read_raw_source(
    config: TrainConfig, found: Sequence[SourceFile], listen: Callable[[str, dict[str, Any]], None]
) -> tuple[SourceSpec, dict[str, Any]]:
    """Decode every raw file; return what synthesizers need and the data manifest.

    Raises:
        UserError: no file can be trained on, or one is smaller than a crop.
    """
    from pipeline.data.folders import manifest_hash
    from pipeline.data.raw_source import RawData
    from pipeline.data.source import SourceSpec
    from pipeline.training.trust_split import hold_out

    raws = [file for file in found if file.relative.suffix.lower() in RAW_SUFFIXES]
    if not raws:
        raise UserError(
            f"--data {config.data.path!r}: expected camera raw files (such as .dng, .nef, .cr2) for data.domain=raw, "
            f"found {len(found)} other files"
        )
    if len(raws) < len(found):
        listen("say", {"text": f"left out: {len(found) - len(raws)} files that are no raw files"})
    good, skipped = _read_all(raws, config)
    for line in skipped:
        listen("say", {"text": f"skipped: {line}"})
    if not good:
        raise UserError(
            f"--data {config.data.path!r}: none of its {len(raws)} raw files can be trained on; first: {skipped[0]}"
        )
    for line in _told(good):
        listen("say", {"text": line})
    paths = tuple(str(one.file.path.absolute()) for one in good)
    apart = hold_out(paths, [one.cells for one in good], config, listen)
    spec = SourceSpec(
        files=apart.training,
        seed=config.seed,
        crop=config.data.crop,
        channels=config.network.channels,
        recipe=None,
        cache_bytes=config.data.cache_mb << 20,
        max_pixels=config.data.max_pixels,
        held_out=apart.corners,
        measured=apart.crops,
        raw=RawData(
            levels=tuple((path, one.shot, one.read) for path, one in zip(paths, good, strict=True)),
            curve=config.data.raw_curve,
            level_map=getattr(config.network, "level_map", False),
        ),
    )
    files = [one.file for one in good]
    manifest = {
        "path": config.data.path,
        "images": len(good),
        "hash": manifest_hash(files),
        "files": [str(file.relative) for file in files],
        "skipped": skipped,
        "held_out": apart.describe(),
        "raw": _facts(good, config),
        "noise": [{"shot": one.shot, "read": one.read, "source": one.source} for one in good],
    }
    return spec, manifest


def _read_all(raws: Sequence[SourceFile], config: TrainConfig) -> tuple[list[RawTrainingFile], list[str]]:
    from pipeline.data.images import ImageError, read_raw_file
    from pipeline.evaluation.survey import camera_name

    good, skipped, levels = [], [], _Levels()
    for file in raws:
        try:
            raw = read_raw_file(file.path, max_pixels=config.data.max_pixels)
        except ImageError as error:
            skipped.append(str(error))
            continue
        cells = raw.height // 2, raw.width // 2
        camera = camera_name(raw.make, raw.model)
        if raw.kind == "bayer" and min(cells) <= config.data.crop:
            raise UserError(
                f"{shown(file.path)}: expected more than data.crop ({config.data.crop}) cells of 2x2 pixels, found "
                f"{cells[1]}x{cells[0]}; set data.crop={max(min(cells) - 1, 0) // 2 * 2} or less, or leave the file out"
            )
        try:
            shot, read, source = levels.of(raw, camera)
        except ValueError as error:
            skipped.append(f"{shown(file.path)}: {error}")
            continue
        good.append(
            RawTrainingFile(file=file, cells=cells, camera=camera, iso=raw.iso, shot=shot, read=read, source=source)
        )
    return good, skipped


def _told(files: Sequence[RawTrainingFile]) -> list[str]:
    """Say which noise was found, once for each camera and ISO speed."""
    groups: dict[tuple[str, float | None], list[RawTrainingFile]] = {}
    for one in files:
        groups.setdefault((one.camera, one.iso), []).append(one)
    lines = []
    for (camera, iso), group in groups.items():
        where = f"{camera or 'unknown camera'}{f', ISO {iso:g}' if iso else ''}"
        count = f"{len(group)} file{'s' if len(group) > 1 else ''}"
        sources = ", ".join(sorted({one.source for one in group}))
        shot, read = median(one.shot for one in group), median(one.read for one in group)
        lines.append(f"noise: {where}: shot {shot:.2g}, read {read:.2g} ({count}; {sources})")
    return lines


def _facts(files: Sequence[RawTrainingFile], config: TrainConfig) -> dict[str, Any]:
    """What the card says of the raw files: cameras, range of the noise, and the curve that the network knows."""
    return {
        "curve": config.data.raw_curve,
        "cameras": sorted({one.camera for one in files if one.camera}),
        "shot": [min(one.shot for one in files), max(one.shot for one in files)],
        "read": [min(one.read for one in files), max(one.read for one in files)],
    }
