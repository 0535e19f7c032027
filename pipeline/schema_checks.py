"""Which parts of a configuration go together; one that does not is told with its key, and what to set instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noise.camera_noise import CameraNoise
from noise.measured import SMALLEST
from raw.rendering import Rendering

if TYPE_CHECKING:
    from pipeline.schema import TrainConfig


def check_parts(config: TrainConfig) -> None:
    """Raise ValueError, beginning with the dotted key, if two parts of a configuration exclude each other."""
    if config.method.kind == "masked" and config.noise is None:
        raise ValueError(
            "method.kind: 'masked' compares with clean images, so it needs a noise recipe; "
            "set noise.kind, or use method.kind=asymmetric for noisy photos"
        )
    if config.data.domain == "raw":
        _check_raw(config)
    elif getattr(config.network, "level_map", False):
        raise ValueError(
            "network.level_map: expected false with data.domain 'display', where the noise of a picture is not "
            "told, found true"
        )
    _check_sizes(config)
    if config.method.kind == "masked" and config.inference.mode == "multi_mask":
        raise ValueError(
            "inference.mode: expected 'direct' with method.kind 'masked' (that network never saw "
            "the masks of multi-mask inference), found 'multi_mask'"
        )
    if config.student is not None:
        _check_student(config)
    token = getattr(config.network, "mask_token", "none")
    site = getattr(config.method, "site", "pixel")
    if (site == "token") != (token != "none"):
        raise ValueError(
            "method.site: 'token' goes with network.mask_token 'zero' or 'learnable' of a masked_swin, 'pixel' "
            f"with 'none'; found {site!r} with {token!r}"
        )
    if config.method.kind == "asymmetric" and config.data.crop < 2 * config.method.pd_stride:
        raise ValueError(
            f"data.crop: expected at least twice method.pd_stride ({2 * config.method.pd_stride}), "
            f"found {config.data.crop}"
        )
    _check_cluster(config)


def _check_sizes(config: TrainConfig) -> None:
    low, high = config.data.enlarge
    if not 1 <= low <= high <= 8:
        raise ValueError(f"data.enlarge: expected two ascending factors from 1 to 8, found {[low, high]}")
    for key, changed in (("shrink", config.data.shrink != 1), ("enlarge", high != 1)):
        if changed and (config.noise is None or config.data.domain == "raw"):
            found = "no noise recipe" if config.noise is None else "data.domain 'raw'"
            raise ValueError(f"data.{key}: expected 1 but for clean pictures with a noise recipe, found {found}")
    if config.data.rescale_share != 1 and config.data.shrink == high == 1:
        raise ValueError(
            f"data.rescale_share: expected 1 without data.shrink and data.enlarge, found {config.data.rescale_share:g}"
        )


def _check_cluster(config: TrainConfig) -> None:
    cluster = config.cluster
    if cluster.workers > config.training.batch:
        raise ValueError(
            f"training.batch: expected cluster.workers ({cluster.workers}) or more, a sample for each worker, "
            f"found {config.training.batch}"
        )
    if cluster.min_workers > cluster.workers:
        raise ValueError(
            f"cluster.min_workers: expected cluster.workers ({cluster.workers}) or less, found {cluster.min_workers}"
        )
    if config.feed.device == "trainer" and config.noise is None:
        raise ValueError("feed.device: expected 'actors' without a noise recipe, for no noise is made, found 'trainer'")


def _check_student(config: TrainConfig) -> None:
    assert config.student is not None
    if config.method.kind != "asymmetric" or config.data.domain == "raw":
        found = "data.domain 'raw'" if config.data.domain == "raw" else f"method.kind {config.method.kind!r}"
        raise ValueError(f"student: expected none but after method.kind 'asymmetric' on pictures, found {found}")
    if config.data.crop < SMALLEST:
        raise ValueError(
            f"data.crop: expected {SMALLEST} or more with a student, since the noise of smaller pictures cannot be "
            f"measured, found {config.data.crop}"
        )
    if config.student.network.channels != config.network.channels:
        raise ValueError(
            f"student.network.channels: expected network.channels ({config.network.channels}), "
            f"found {config.student.network.channels}"
        )
    if config.student.teacher == "start" and config.student.network != config.network:
        raise ValueError("student.network: expected that of network, which is adapted, found another")
    if getattr(config.student.network, "mask_token", "none") != "none":
        raise ValueError("student.network.mask_token: expected 'none', for nothing is hidden from a student")


def _check_raw(config: TrainConfig) -> None:
    if config.noise is not None:
        _check_made_raw(config)
    elif config.method.kind != "asymmetric":
        raise ValueError(
            f"method.kind: expected 'asymmetric' with data.domain 'raw' and no noise recipe, found "
            f"{config.method.kind!r}"
        )
    if config.network.channels != 4:
        raise ValueError(
            "network.channels: expected 4 (the planes R, Gr, Gb, B) with data.domain 'raw', "
            f"found {config.network.channels}"
        )


def _check_made_raw(config: TrainConfig) -> None:
    """Of camera noise only what happens before a raw is written: it is neither developed nor compressed."""
    noise = config.noise
    if not isinstance(noise, CameraNoise):
        found = "nothing" if noise is None else repr(noise.kind)
        raise ValueError(f"noise.kind: expected 'camera' with data.domain 'raw', found {found}")
    if config.method.kind != "masked":
        raise ValueError(
            "method.kind: expected 'masked' with data.domain 'raw' and a noise recipe (method.input_ratio=[0,0] hides "
            f"nothing), found {config.method.kind!r}; leave the noise recipe out to train on raw files"
        )
    if noise.pattern != "RGGB":
        raise ValueError(
            "noise.pattern: expected 'RGGB' with data.domain 'raw' (files of the other patterns are mirrored to it), "
            f"found {noise.pattern!r}"
        )
    if noise.jpeg is not None:
        raise ValueError(
            f"noise.jpeg: expected none with data.domain 'raw', which is not compressed, found {noise.jpeg}"
        )
    for name, plain in (("rendering", Rendering()), ("saturation", None)):
        if getattr(noise, name) != plain:
            raise ValueError(f"noise.{name}: expected none with data.domain 'raw', which is not developed, found one")
    if config.feed.device == "trainer":
        raise ValueError("feed.device: expected 'actors' with data.domain 'raw', found 'trainer'")
