"""One file per command; each exports one function that the command line registers."""

from __future__ import annotations
