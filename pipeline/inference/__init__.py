"""A model and files in, denoised files out."""

from __future__ import annotations
