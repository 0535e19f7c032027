"""The configuration of a training run: every key, its type, its limits and its default, in one place.

The same dotted keys serve the TOML file, the command line, Ray Tune's space and MLflow's parameters.
Specs of networks, methods and noise are defined beside their code (`models/`, `noise/`) and embedded here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from models import (
    AsymmetricMasks,
    Distillation,
    InferenceSpec,
    MaskedSwinSpec,
    MaskedTraining,
    NafnetSpec,
    RestormerSpec,
    UNetSpec,
)
from noise import NoiseRecipe
from noise.recharge import MARGIN
from noise.wiener import STRENGTH
from pipeline.inference.averaged import STRIDES
from pipeline.schema_checks import check_parts
from pipeline.schema_cluster import ClusterConfig as ClusterConfig
from pipeline.schema_cluster import FeedConfig, Section
from pipeline.training.precision import Precision

Network = Annotated[MaskedSwinSpec | UNetSpec | NafnetSpec | RestormerSpec, Field(discriminator="kind")]
Method = Annotated[MaskedTraining | AsymmetricMasks | Distillation, Field(discriminator="kind")]
Recipe = Annotated[NoiseRecipe, Field(discriminator="kind")]


class DataConfig(Section):
    """Which images are read and how crops are cut."""

    path: str = ""
    """Folder of images, or one image; set by `--data`. Noisy photos, or clean images when `noise` is given."""

    licence: str = Field(default="", max_length=300)
    """Licence of the images, and whose they are; stands in the model's card, which else says that it is unknown."""

    layout: Literal["auto", "plain", "sidd", "polyu", "pairs", "nind"] = "auto"
    """Which files of the folder are the noisy side, when there is no `noise` recipe. `auto` leaves out what a known
    data set calls clean; a named layout takes its noisy files and nothing else; `plain` takes every image."""

    domain: Literal["display", "raw"] = "display"
    """What the network sees: pictures, raw files developed; or `raw`, the planes R, Gr, Gb, B of mosaics, whose pixels
    are the cells of the mosaic: of raw files, or with a `noise` recipe of clean pictures that are taken back to raw."""

    raw_curve: Literal["stabilised", "linear"] = "stabilised"
    """How `raw` values are shown to the network: on the curve that makes the noise of a file the same everywhere, or as
    they are."""

    raw_level_error: float = Field(default=0.0, ge=0, le=2)
    """For `raw` that is made from clean pictures: deviation of ln of the factors by which a network is told shot and
    read of a sample wrong, so that it bears what measuring them in a file gets wrong. 0 tells the truth."""

    crop: int = Field(default=120, ge=8, le=2048)
    """Side of the square training crop, in pixels (for `raw` in cells). Every image must be at least this large."""

    shrink: float = Field(default=1.0, ge=1, le=8)
    """Factor by which a crop of a clean picture is shrunk before its noise, which takes off the grain and the JPEG
    blocks of the picture itself: what is left in the clean side is learnt as detail."""

    enlarge: tuple[float, float] = (1.0, 1.0)
    """(lowest, highest) factor, 1 to 8, by which it is enlarged again, drawn evenly by factors. Photos at full size are
    softer than the reduced pictures of most collections."""

    rescale_share: float = Field(default=1.0, ge=0, le=1)
    """Share of crops that are shrunk and enlarged so; the others are taken as they are, so that sharp pictures are
    learnt too."""

    cache_mb: int = Field(default=512, ge=0)
    """Decoded images that one synthesizer keeps in memory, in MiB."""

    max_pixels: int = Field(default=300_000_000, ge=1)
    """Images with more pixels than this are refused by their header, before anything is allocated."""


class OptimizerConfig(Section):
    """AdamW, its schedule and the moving average of the weights."""

    lr: float = Field(default=1e-3, gt=0, le=1)
    """Peak learning rate."""

    betas: tuple[float, float] = (0.9, 0.99)
    """Adam's moment decays. The masked-training paper states (0.9, 0.99); its code uses (0.9, 0.999)."""

    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""

    schedule: Literal["cosine", "constant", "halve"] = "cosine"
    """`cosine` to zero; `constant`; `halve` at 50 % and 75 % of the run (the paper's 100k and 150k of 200k)."""

    warmup_steps: int = Field(default=50, ge=0)
    """Steps over which the learning rate rises linearly from zero."""

    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the averaged weights, which are the ones saved; ramps up as (1 + step) / (10 + step)."""

    clip_norm: float = Field(default=1.0, gt=0)
    """Gradient norm above which gradients are scaled down."""

    precision: Precision = "float32"
    """Of the large products in a step. Weights, tokens, gradients and losses stay float32. bfloat16 pays on GPUs, and
    on CPUs with instructions for it (avx512_bf16, AMX); others emulate it, many times slower. `auto` is bfloat16 where
    there are such instructions, else float32."""


class TrainingConfig(Section):
    """How long, in what batches, and what is written on the way."""

    steps: int = Field(default=2000, ge=1)
    """Optimiser steps, over all workers together."""

    minutes: float = Field(default=0, ge=0)
    """0 sets no limit. Else: stop after this much training time if `steps` are not reached first; the schedule
    follows the clock, so a run bounded by minutes cannot be repeated bit for bit."""

    start: str = ""
    """Weights to start from, of the same network: a weights folder, a run folder or a models:/ reference. For
    fine-tuning, such as the smoothing of AMSNet-P (`method.smoothing`)."""

    batch: int = Field(default=8, ge=1)
    """Crops per step over all workers together (the global batch)."""

    log_every: int = Field(default=10, ge=1)
    """Steps between two rows of log.jsonl."""

    checkpoint_seconds: float = Field(default=60.0, gt=0)
    """Seconds between two resumable checkpoints; at most this much work is repeated after a crash."""

    keep_checkpoints: int = Field(default=2, ge=1)
    """How many of the latest checkpoints are kept."""

    picture_seconds: float = Field(default=60.0, gt=0)
    """Seconds between two pictures of the same fixed crops."""

    accumulate: int = Field(default=1, ge=1)
    """Parts that each worker computes its share of a batch in, one after the other, to save memory. The step is that of
    the whole batch."""

    max_bad_steps: int = Field(default=20, ge=1)
    """Consecutive steps with non-finite gradients (each is skipped and counted) after which a run goes back to its
    latest checkpoint, at half the learning rate."""

    max_rollbacks: int = Field(default=2, ge=0)
    """How often a run goes back before it stops with the reason."""


class TrustConfig(Section):
    """Whether a network that learns from noisy images alone can be trusted, measured on crops that are held out."""

    every: int = Field(default=250, ge=0)
    """Steps between two measurements; there is one at the end in any case. At 250 they cost 2 to 4 % of the training.
    0 measures nothing, holds nothing out and leaves the weights of the last step."""

    held_out: float = Field(default=0.05, gt=0, le=0.5)
    """Share of the data that is never trained on: whole images where that is at least one image, otherwise corners."""

    crops: int = Field(default=16, ge=1, le=256)
    """Held-out crops, `data.crop` pixels a side, that are measured."""

    keep: Literal["best", "last"] = "best"
    """Weights that a run leaves: the last ones, or those of the lowest held-out loss if the last are worse by more than
    the standard error of the difference."""

    patience: int = Field(default=0, ge=0)
    """Measurements in a row without a better held-out loss after which a run stops; 0 never stops it. The learning rate
    falls until the end and most is gained there, so stopping early saves time but rarely improves the result."""


class StudentConfig(Section):
    """A plain network that is distilled from the trained one, its teacher, and takes its place."""

    teacher: Literal["trained", "start"] = "trained"
    """Who makes the targets: a network that learns from the photographs first, or that of `training.start` as it is,
    from which the student starts too. In the end the run holds the better of the two, or the start if none is."""

    network: Network = UNetSpec()
    """What is trained; it denoises in one pass."""

    method: Distillation = Distillation()
    """How pairs are made from the teacher's outputs."""

    strides: tuple[Annotated[int, Field(ge=1, le=16)], ...] = STRIDES
    """PD strides at which the teacher denoises; the target is made of their mean. () for that of `inference`."""

    recharge: float = Field(default=MARGIN, ge=0)
    """Structure that the mean lost is given back where its energy exceeds so many times what noise explains there
    (`noise.recharge`); 0 gives nothing back."""

    wiener: float = Field(default=STRENGTH, ge=0)
    """Factor on the noise's energy with which the photograph is filtered frequency by frequency, the mean as pilot
    (`noise.wiener`); larger is smoother, 0 does not filter."""

    megapixels: float = Field(default=30.0, gt=0)
    """How much of the photographs the teacher denoises, about; an equal share of each, in patches where that is less
    than the whole."""

    lr: float = Field(default=2e-3, gt=0, le=1)
    """Peak learning rate; the rest of the optimiser is the teacher's."""

    steps: int = Field(default=2000, ge=1)
    """Optimiser steps, in batches of `training.batch` crops of `data.crop` pixels a side."""

    minutes: float = Field(default=0, ge=0)
    """0 sets no limit; else as `training.minutes`."""


class TrackingConfig(Section):
    """The MLflow experiment, and the registered model."""

    experiment: str = Field(default="unveil", min_length=1)
    """MLflow experiment of the run."""

    model: str = Field(default="unveil", min_length=1, pattern=r"^[^/:.%\"']+$")
    """Registered model that the trained network becomes a new version of."""

    alias: str = Field(default="champion", pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$")
    """Alias that is moved to the new version; others pull `models:/<model>@<alias>`."""


class TrainConfig(Section):
    """One training run, complete."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of everything random: initial weights, crops, noise, masks."""

    data: DataConfig = DataConfig()
    """Images and crops."""

    noise: Recipe | None = None
    """Noise put on clean images. Without it the images of `data.path` are noisy, and no clean image is read."""

    network: Network = UNetSpec()
    """What is trained: `unet`, `masked_swin`, `nafnet` or `restormer`."""

    method: Method = AsymmetricMasks()
    """How it is trained: `masked` on clean images with a noise recipe, `asymmetric` on noisy images alone,
    `distilled` on the targets that a run with a `student` has made."""

    adapt: tuple[
        Literal[
            "method.pd_stride",
            "inference.pd_stride",
            "method.mask_count",
            "inference.mask_count",
            "inference.layout",
            "inference.draws",
        ],
        ...,
    ] = ()
    """Keys whose values are chosen by the measured noise when the run starts; one that is set on the command line is
    left out."""

    adapted: dict[str, str] = Field(default_factory=dict)
    """What a run has chosen, with the reason; filled in by the run."""

    student: StudentConfig | None = None
    """Distil the trained network into another that denoises in one pass, and register that one."""

    inference: InferenceSpec = InferenceSpec(mode="multi_mask")
    """How the trained network denoises; stored with the weights."""

    optimizer: OptimizerConfig = OptimizerConfig()
    """Optimiser, schedule and averaging."""

    training: TrainingConfig = TrainingConfig()
    """Length, batch and what is written."""

    trust: TrustConfig = TrustConfig()
    """What is held out and measured, and which weights are kept."""

    cluster: ClusterConfig = ClusterConfig()
    """Processes and devices."""

    feed: FeedConfig = FeedConfig()
    """Where noise is made, and how long a batch may take."""

    tracking: TrackingConfig = TrackingConfig()
    """MLflow experiment and registered model."""

    @model_validator(mode="after")
    def _parts_fit_together(self) -> TrainConfig:
        check_parts(self)
        return self
