"""Protocols: which metrics a paper's numbers are, so that ours beside them are the same numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.errors import UserError
from pipeline.evaluation.lpips import VARIABLE, lpips_files, lpips_folder
from pipeline.evaluation.metrics import DEFAULT_METRICS


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """How one paper or benchmark gets from images to numbers."""

    name: str
    """What the command line takes."""

    text: str
    """For people: what is computed, and what of it cannot be known."""

    metrics: tuple[str, ...]
    """Keys of `pipeline.evaluation.metrics.METRICS`; the headline first."""

    source: str
    """Where the facts come from."""

    with_weights: tuple[str, ...] = ()
    """Metrics that belong to it too, and need the weights of LPIPS; `pick_protocol` puts them where they belong."""


_ALL = (
    Protocol(
        name="unveil",
        text="full images, 8-bit rounding, mean of per-image values",
        metrics=DEFAULT_METRICS,
        source="this project",
    ),
    Protocol(
        name="sidd-paper",
        text=(
            "MATLAB's psnr and ssim, which takes the channels for a third dimension, of the output clipped and not "
            "rounded, as evaluate_SIDD.m computes them; then of 8-bit blocks, as the closed server got them; mean "
            "over blocks. What the server computed of them was never published"
        ),
        metrics=("psnr_rgb_float", "ssim_matlab_volume_float", "psnr_rgb_u8", "ssim_matlab_volume"),
        source="github.com/swz30/MPRNet, Denoising/evaluate_SIDD.m and test_SIDD.py",
    ),
    Protocol(
        name="sidd-kaggle",
        text=(
            "8-bit blocks, rounded, mean over blocks. The scoring code is not public: the SSIM of published entries "
            "lies where a mean over the channels lies, and which window it has is not known, so both usual ones are "
            "given"
        ),
        metrics=("psnr_rgb_u8", "ssim_gauss11_rgb", "ssim_uniform7_rgb"),
        source="github.com/AbdoKamel/sidd_kaggle_submit, which shows the format of a submission",
    ),
    Protocol(
        name="apbsn",
        text=(
            "output plus 0.5, cut down and clipped to 8 bits (rounding, but that halves go up), scikit-image's PSNR "
            "over all channels and its SSIM with the default 7x7 window, mean of per-image values"
        ),
        metrics=("psnr_rgb_u8", "ssim_uniform7_rgb"),
        source="github.com/wooseoklee4/AP-BSN",
    ),
    Protocol(
        name="amsnet",
        text=(
            "8-bit rounding, PSNR over all channels, SSIM with the 11x11 Gaussian window per channel and then the "
            "mean, mean of per-image values. The paper's tables also cite SSIM of MATLAB's definition from others"
        ),
        metrics=("psnr_rgb_u8", "ssim_gauss11_rgb"),
        source="github.com/lll143653/amsnet",
    ),
    Protocol(
        name="tbsn",
        text=(
            "8-bit rounding, scikit-image's PSNR, and its SSIM with Gaussian weights and sample covariance, mean of "
            "per-image values"
        ),
        metrics=("psnr_rgb_u8", "ssim_gauss11_sample_rgb"),
        source="the public code of TBSN (AAAI 2025)",
    ),
    Protocol(
        name="masked",
        text=(
            "8-bit rounding, a border of one pixel left out of PSNR and SSIM, RGB and then luma, LPIPS of the whole "
            "image with its channels in the order blue, green, red, as the tester of masked training computes them; "
            "mean of per-image values. Whether the paper's tables were made with the border, and with these channels,"
            " is not known: an earlier script had border 0"
        ),
        metrics=("psnr_rgb_u8_border1", "ssim_gauss11_rgb_border1", "psnr_y_border1", "ssim_gauss11_y_border1"),
        with_weights=("lpips_alex_bgr",),
        source="github.com/haoyuc/MaskedDenoising, main_test_swinir.py",
    ),
    Protocol(
        name="dnd",
        text=(
            "images clipped to [0, 1] and not rounded, mean over crops. The server's own code is not public: its PSNR"
            " is this one by its description, the window of its SSIM is not known"
        ),
        metrics=("psnr_rgb_float", "ssim_gauss11_rgb_float"),
        source="Ploetz and Roth, CVPR 2017; noise.visinf.tu-darmstadt.de",
    ),
)

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}
"""Name on the command line -> protocol."""


def pick_protocol(name: str) -> Protocol:
    """Return the named protocol with the metrics that can be measured here.

    Metrics that need weights are among them if the environment names a folder of weights, and else their absence is
    said in the text.

    Raises:
        UserError: unknown name (lists what exists), or the folder of weights lacks some.
    """
    if name not in PROTOCOLS:
        raise UserError(f"--protocol: expected one of {', '.join(PROTOCOLS)}, found {name!r}")
    protocol = PROTOCOLS[name]
    if not protocol.with_weights:
        return protocol
    folder = lpips_folder()
    if folder is None:
        missing = ", ".join(protocol.with_weights)
        return replace(protocol, text=f"{protocol.text}. Left out: {missing}, for {VARIABLE} names no weights")
    lpips_files(folder)
    return replace(protocol, metrics=protocol.metrics + protocol.with_weights)
