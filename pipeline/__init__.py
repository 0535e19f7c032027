"""Everything with a side effect: files, Ray, MLflow, time."""

from __future__ import annotations

__version__ = "0.12.0"
