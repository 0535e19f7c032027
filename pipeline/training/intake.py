"""What a run is given: every image's header is read before anything starts, and the data get a manifest and a card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import dump
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.data.source import SourceSpec
    from pipeline.schema import TrainConfig

Listener = Callable[[str, dict[str, Any]], None]
"""Called with ("say", {"text"}) for a line to show and ("row", row of log.jsonl) as training goes on."""


def read_source(config: TrainConfig, listen: Listener) -> tuple[SourceSpec, dict[str, Any]]:
    """Read the header of every image; return what synthesizers need and the data manifest."""
    from models import Distillation
    from pipeline.data.folders import manifest_hash, scan
    from pipeline.data.images import ImageError, read_size
    from pipeline.data.made_raw import largest_scale, made_facts, picture_side
    from pipeline.data.noisy_side import split_sides
    from pipeline.data.raw_source import RawData
    from pipeline.data.rescale import Rescale
    from pipeline.data.source import SourceSpec
    from pipeline.training.trust_split import hold_out

    if not config.data.path:
        raise UserError("--data: expected a folder of images, found nothing")
    # With a noise recipe all images are clean; without one no clean image may be opened, not even for its size.
    sides = split_sides(scan([Path(config.data.path)]), "plain" if config.noise is not None else config.data.layout)
    if line := sides.told():
        listen("say", {"text": line})
    found = sides.noisy
    made = config.data.domain == "raw" and config.noise is not None
    if config.data.domain == "raw" and not made:
        from pipeline.training.raw_intake import read_raw_source

        return read_raw_source(config, found, listen)
    crop = config.data.crop
    rescale = Rescale(shrink=config.data.shrink, enlarge=config.data.enlarge, share=config.data.rescale_share)
    side = picture_side(crop, largest_scale(config.noise)) if made else rescale.largest_square(crop)
    good, sizes, skipped = [], [], []
    for file in found:
        try:
            height, width = read_size(file.path)[:2]
        except ImageError as error:
            skipped.append(str(error))
            continue
        if height * width > config.data.max_pixels:
            skipped.append(f"{file.path}: {height}x{width} is over data.max_pixels ({config.data.max_pixels})")
        elif min(height, width) < side:
            raise UserError(
                f"{str(file.path)!r}: {width}x{height} is smaller than the {side}x{side} crop; "
                f"set data.crop={min(height, width) * crop // side // 2 * 2} or less, or leave the image out"
            )
        else:
            good.append(file)
            sizes.append((height, width))
    if not good:
        raise UserError(
            f"--data {config.data.path!r}: none of its {len(found)} images can be read; first: {skipped[0]}"
        )
    for line in skipped:
        listen("say", {"text": f"skipped: {line}"})
    files = tuple(str(file.path.absolute()) for file in good)
    apart = hold_out(files, sizes, config, listen)
    spec = SourceSpec(
        files=apart.training,
        seed=config.seed,
        crop=config.data.crop,
        channels=config.network.channels,
        recipe=config.noise,
        rescale=rescale,
        cache_bytes=config.data.cache_mb << 20,
        max_pixels=config.data.max_pixels,
        distillation=config.method if isinstance(config.method, Distillation) else None,
        defer_noise=config.feed.device == "trainer",
        held_out=apart.corners,
        measured=apart.crops,
        raw=RawData(
            curve=config.data.raw_curve,
            level_map=getattr(config.network, "level_map", False),
            level_error=config.data.raw_level_error,
        )
        if made
        else None,
    )
    manifest = {
        "path": config.data.path,
        "images": len(good),
        "hash": manifest_hash(good),
        "files": [str(file.relative) for file in good],
        "skipped": skipped,
        "layouts": list(sides.found),
        "clean_never_opened": len(sides.clean),
        "held_out": apart.describe(),
        **({"raw": made_facts(config)} if made else {}),
    }
    return spec, manifest


def data_card(config: TrainConfig, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what the weights say about themselves: version, configuration, data, whether clean images were read."""
    from pipeline import __version__

    return {
        "unveil": __version__,
        "config": dump(config),
        "data": {
            "path": manifest["path"],
            "images": manifest["images"],
            "hash": manifest["hash"],
            "licence": config.data.licence or None,
        },
        "domain": config.data.domain,
        **({"raw": manifest["raw"]} if "raw" in manifest else {}),
        "clean_images_read": config.noise is not None,
        # Training measures nothing; `unveil evaluate --record` fills it in.
        "validated": None,
    }
