"""Denoiser of unveil as an MLflow model: pictures in, pictures out.

This file travels with the model. It needs torch, numpy and safetensors, and nothing of unveil but the network code
that lies beside it under a name of its own.
"""

import base64
import binascii
import io
import struct
import sys
import warnings
import zlib
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np

_DTYPES = ("uint8", "uint16", "float32")
_PNG = b"\x89PNG\r\n\x1a\n"
_NPY = b"\x93NUMPY"


with warnings.catch_warnings():
    # MLflow asks for type hints, which would fix one dtype; this model takes three.
    warnings.simplefilter("ignore")

    class Denoiser(mlflow.pyfunc.PythonModel):
        """Takes and returns pictures: an array (B, H, W, C) or (H, W, C), or base64 texts, one a picture.

        Any H and W; C is 1 (grey), 2 (with alpha), 3 (colour) or 4 (with alpha). uint8 and uint16 over their whole
        range come back rounded, floats in [0, 1] come back as float32. A text is a PNG of 8 bits or a NumPy file
        (.npy, any of the dtypes), and comes back as what it was.
        """

        def load_context(self, context):
            """Load the weights; their hash is checked."""
            # A folder that others read, and whose files are listed by hash, gets no __pycache__ of ours.
            before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
            try:
                from __NETWORK_PACKAGE__ import denoise_picture, load
            finally:
                sys.dont_write_bytecode = before
            self._loaded = load(Path(context.artifacts["weights"]))
            self._denoise = denoise_picture
            if self._loaded.card.get("domain") == "raw":
                raise ValueError(
                    "trained on the planes of raw files, whose noise level a picture does not tell: it cannot be "
                    "served; `unveil denoise RAW... --model REF` reads raw files and writes DNGs"
                )

        def predict(self, context, model_input, params=None):
            """Denoise. `params`: seed of the masks, strength 0 to 1, dtype of numbers that came as JSON."""
            given = {name: value for name, value in (params or {}).items() if value is not None}
            values = np.asarray(model_input)
            texts = (
                [text for text in values.ravel() if isinstance(text, str | bytes)] if values.dtype.kind in "OSU" else []
            )
            if texts:
                if len(texts) != values.size:
                    raise ValueError("expected numbers or base64 texts, found both")
                return [_as_text(self._one(pixels, given), kind) for kind, pixels in map(_from_text, texts)]
            pixels = _numbers(values, given.get("dtype", ""))
            if pixels.ndim == 3:
                return self._one(pixels, given)
            if pixels.ndim != 4 or not len(pixels):
                raise ValueError(f"expected an array of shape (B, H, W, C) or (H, W, C), found {pixels.shape}")
            return np.stack([self._one(one, given) for one in pixels])

        def _one(self, pixels, params):
            spec = self._loaded.inference
            if "seed" in params:
                spec = replace(spec, seed=int(params["seed"]))
            strength = float(params.get("strength", 1.0))
            return self._denoise(self._loaded.network, pixels, spec, strength=strength)


def _numbers(values, dtype):
    """Numbers of an array or of JSON, where 1 and 1.0 look alike and nothing says of what depth they are."""
    if dtype not in ("", *_DTYPES):
        raise ValueError(f"params.dtype: expected one of {', '.join(_DTYPES)}, found {dtype!r}")
    if values.dtype.kind == "O":
        try:
            # Ragged lists and words raise here.
            values = np.array(values.tolist())
        except ValueError:
            values = np.zeros(0, "U1")
    if values.dtype.kind not in "iuf":
        raise ValueError("expected pictures of numbers, all rows of one length, or base64 texts")
    if not dtype:
        if values.dtype.kind == "f":
            return values.astype(np.float32)
        if values.dtype.name in _DTYPES:
            return values
        raise ValueError("whole numbers do not tell their depth: set params.dtype to uint8, uint16 or float32")
    if dtype == "float32":
        return values.astype(np.float32)
    highest = np.iinfo(dtype).max
    if values.size and not (values.min() >= 0 and values.max() <= highest and np.array_equal(values, np.floor(values))):
        raise ValueError(f"params.dtype {dtype}: expected whole numbers from 0 to {highest}")
    return values.astype(dtype)


def _from_text(text):
    """A base64 text as ("png" or "npy", (H, W, C))."""
    try:
        data = base64.b64decode(text, validate=False)
    except (binascii.Error, ValueError):
        data = b""
    if data.startswith(_NPY):
        return "npy", _from_npy(data)
    if not data.startswith(_PNG):
        raise ValueError("expected base64 of a PNG or of a NumPy file (.npy)")
    if data[24:25] == b"\x10":
        raise ValueError("expected a PNG of 8 bits, found one of 16; send it as .npy, which is lossless")
    from PIL import Image  # comes with mlflow

    with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
        modes = {"1": "L", "P": "RGBA" if "transparency" in picture.info else "RGB"}
        if picture.mode not in ("L", "LA", "RGB", "RGBA"):
            picture = picture.convert(modes.get(picture.mode, "RGB"))
        pixels = np.asarray(picture)
    return "png", pixels[..., None] if pixels.ndim == 2 else pixels


def _from_npy(data):
    file = io.BytesIO(data)
    try:
        known = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = known[np.lib.format.read_magic(file)](file)
    except (ValueError, KeyError):
        raise ValueError("expected a NumPy file (.npy), found a damaged one") from None
    # Before anything is allocated: a header may announce more than there is.
    if dtype.hasobject or int(np.prod([1, *shape], dtype=object)) * dtype.itemsize != len(data) - file.tell():
        raise ValueError("expected a NumPy file (.npy) of numbers, found one that is damaged or holds objects")
    file.seek(0)
    pixels = np.lib.format.read_array(file, allow_pickle=False)
    return pixels.astype(pixels.dtype.newbyteorder("="))


def _as_text(pixels, kind):
    if kind == "npy":
        file = io.BytesIO()
        np.lib.format.write_array(file, np.ascontiguousarray(pixels), allow_pickle=False)
        return base64.b64encode(file.getvalue()).decode("ascii")
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, (0, 4, 2, 6)[channels - 1], 0, 0, 0)
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (1, 0))).tobytes()  # filter 0 before each row
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )
    return base64.b64encode(_PNG + b"".join(chunks)).decode("ascii")


mlflow.models.set_model(Denoiser())
