"""How a network turns a noisy image into a denoised one: the settings that are stored with its weights."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from .fill import FILLS, Fill
from .holes import HoleShape, Layout, Partition, check_hole, masks_of
from .level_offset import Offset


@dataclass(frozen=True, kw_only=True, slots=True)
class InferenceSpec:
    """How a network turns a noisy image into a denoised one. Stored with the weights."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    mode: Literal["direct", "multi_mask"] = "direct"
    """"direct" runs the network on the image, "multi_mask" predicts every pixel without its own value."""

    pd_stride: int = 1
    """Stride of pixel-shuffle downsampling at inference; 1 for none."""

    mask_count: int = 2
    """One over the share of the pixels that a mask of "multi_mask" hides: the number of complementary masks, and of
    passes a draw, where the hole is one pixel; for a larger hole they are as many times more as it has pixels."""

    draws: int = 1
    """Number K of random draws to average, of attention masks and, in "multi_mask", of complementary masks;
    costs K times as much."""

    fill: Fill = "mean"
    """What hidden pixels show in "multi_mask"; the same as in training."""

    hole: tuple[int, int] = (1, 1)
    """Rows and columns, odd, of what is hidden around each predicted pixel in "multi_mask"; [1, 1] is the pixel
    itself."""

    hole_shape: HoleShape = "box"
    """Shape of the hole: all of the box, or the diamond inside it."""

    layout: Layout = "random"
    """Which pixels a mask with the hole of one pixel hides: "random", as in the paper, or "lattice", the regular
    pattern that keeps them farthest apart (with ``mask_count`` 2 the squares of one colour of a chessboard). Larger
    holes always lie on a lattice."""

    refine_draws: int = 0
    """Copies T of random-replacing refinement (R3) of "multi_mask"; 0 for none. Costs T * ``mask_count`` passes."""

    refine_share: float = 0.16
    """Share p of the pixels of each copy that are noisy again in refinement."""

    attention: Literal["seeded", "ensemble", "off"] = "seeded"
    """Attention masks: "seeded" draws them from the seed, as in training; "ensemble" is the same with at least
    two ``draws``, averaged ("seeded" averages its draws too); "off" hides nothing."""

    seed: int = 0
    """Decides all masks."""

    offset: Offset = "keep"
    """What is done about a brightness or colour offset of the network: "keep" nothing; "level" fits a tone and
    colour curve that brings the levels of the output to those of the noisy image, where they differ visibly."""

    tile: int = 0
    """Side in pixels of the tiles of a larger image; 0 = choose."""

    halo: int = 0
    """Pixels around a tile that are computed and thrown away, counted in the image that the network sees
    (after pixel-shuffle downsampling); 0 = choose: the receptive field where it is finite, else 32."""

    def __post_init__(self) -> None:
        for name, choices in (
            ("mode", ("direct", "multi_mask")),
            ("fill", FILLS),
            ("attention", ("seeded", "ensemble", "off")),
            ("offset", ("keep", "level")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")
        for name, low, high in (
            ("pd_stride", 1, 16),
            ("mask_count", 2, 16),
            ("draws", 1, 1024),
            ("refine_draws", 0, 1024),
            ("refine_share", 0, 1),
            ("seed", 0, 2**63 - 1),
            ("tile", 0, 1 << 16),
            ("halo", 0, 1 << 12),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be {low} to {high}, got {value}")
        check_hole(self.hole, self.hole_shape, self.layout)
        if self.attention == "ensemble" and self.draws < 2:
            raise ValueError(f"draws must be at least 2 for attention 'ensemble', got {self.draws}")


def describe_inference(spec: InferenceSpec, *, stochastic: bool) -> dict[str, Any]:
    """What ``spec`` means for a network, as JSON values.

    Args:
        spec: how to denoise.
        stochastic: whether the network has attention masks to draw (``Network.stochastic``).

    Returns:
        ``mode``; ``attention``: "none" (the network has no such masks), "off", "seeded" or "ensemble"; ``draws``
        that are averaged; ``passes`` of the network over the image, which is what it costs; ``seed``; ``offset``.
    """
    attention = "off" if spec.attention == "off" else "seeded" if spec.draws == 1 else "ensemble"
    blind = spec.mode == "multi_mask"
    draws = spec.draws if blind or (stochastic and attention != "off") else 1
    if blind:
        draws = Partition.of(spec).draws(draws, stochastic=stochastic and attention != "off")
    passes_a_draw = masks_of(spec) if blind else 1
    refinement = spec.refine_draws * spec.mask_count if blind else 0
    return {
        "mode": spec.mode,
        "attention": attention if stochastic else "none",
        "draws": draws,
        "passes": draws * passes_a_draw + refinement,
        "seed": spec.seed,
        "offset": spec.offset,
    }
