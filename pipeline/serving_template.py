"""Denoiser of unveil as an MLflow model: NumPy images in, NumPy images out.

This file travels with the model. It needs torch, numpy and safetensors, and nothing of unveil but the network code
that lies beside it under a name of its own.
"""

import warnings
from pathlib import Path

import mlflow
import numpy as np


with warnings.catch_warnings():
    # MLflow asks for type hints, which would fix one dtype; this model takes two.
    warnings.simplefilter("ignore")

    class Denoiser(mlflow.pyfunc.PythonModel):
        """Takes and returns (B, H, W, C) arrays: float32 in [0, 1], or uint8; any H and W."""

        def load_context(self, context):
            """Load the weights; the folder's hash is checked."""
            from __NETWORK_PACKAGE__ import load

            self._loaded = load(Path(context.artifacts["weights"]))

        def predict(self, context, model_input, params=None):
            """Denoise a batch. uint8 in gives uint8 out, rounded; every other type is taken as [0, 1]."""
            import torch
            from __NETWORK_PACKAGE__ import denoise

            images = np.asarray(model_input)
            channels = self._loaded.spec.channels
            if images.ndim != 4 or images.shape[-1] != channels:
                raise ValueError(f"expected an array of shape (B, H, W, {channels}), found {images.shape}")
            whole = images.dtype == np.uint8
            scaled = images.astype(np.float32) / np.float32(255 if whole else 1)
            tensor = torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))
            output = denoise(self._loaded.network, tensor, self._loaded.inference).numpy().transpose(0, 2, 3, 1)
            if whole:
                return np.rint(np.clip(output, 0, 1) * 255).astype(np.uint8)
            return output


mlflow.models.set_model(Denoiser())
