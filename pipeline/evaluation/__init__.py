"""Numbers with a definition, classical baselines, and the report."""

from __future__ import annotations
