"""The gate of a card as a table for the report."""

from __future__ import annotations

from typing import Any

from pipeline.evaluation.trust_gate import checks
from pipeline.evaluation.trust_measures import measures_from_json


def gate_board(gate: Any) -> dict[str, Any] | None:
    """Return verdict, reasons and rows; None if the card has no gate.

    Args:
        gate: ``passed``, ``why`` and ``measures`` of a card, which may come from anywhere.
    """
    if not isinstance(gate, dict) or not isinstance(gate.get("passed"), bool):
        return None
    measures = measures_from_json(gate.get("measures"))
    return {
        "verdict": "passed" if gate["passed"] else "failed",
        "kind": "passed" if gate["passed"] else "failed",
        "why": str(gate.get("why", "")),
        "rows": checks(measures) if measures else [],
    }
