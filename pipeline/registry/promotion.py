"""The one rule by which a version may become what others pull by an alias, and the record of who overruled it."""

from __future__ import annotations

import getpass
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline.data.paths import shown

if TYPE_CHECKING:
    from pipeline.registry.store import Registered


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a model may be promoted, and why (not)."""

    passed: bool
    text: str
    """One line for people."""


def verdict(card: Mapping[str, Any]) -> Verdict:
    """Return whether the model of a card may be promoted.

    The stored gate decides (`pipeline.evaluation.trust_gate`). A model without one, which was trained with clean
    images or comes from elsewhere, passes by an evaluation that was recorded, if it is better than the noisy images;
    without that, only if it was trained on clean images: its loss is then the distance from the truth, and it cannot
    have learnt the noise.
    """
    gate = card.get("gate")
    if isinstance(gate, Mapping) and isinstance(gate.get("passed"), bool) and isinstance(gate.get("why"), str):
        why = shown(gate["why"])
        return Verdict(gate["passed"], f"passed ({why})" if gate["passed"] else f"failed: {why}")
    validated = card.get("validated")
    if isinstance(validated, Mapping):
        return _by_evaluation(validated)
    if card.get("clean_images_read") is True:
        return Verdict(True, "none, as it was trained with clean images; nothing was measured on others")
    return Verdict(False, "none: nothing was measured that says whether to trust it (`unveil evaluate --record` does)")


def _by_evaluation(validated: Mapping[str, Any]) -> Verdict:
    name = "psnr_rgb_u8"
    try:
        model, noisy = float(validated["metrics"][name]), float(validated["noisy"][name])
    except (KeyError, TypeError, ValueError):
        return Verdict(False, "none, and the recorded evaluation cannot be read")
    found = f"{name} {model:.2f} dB, of the noisy images {noisy:.2f} dB, n {validated.get('n')}"
    if model > noisy:
        return Verdict(True, f"passed by the recorded evaluation ({found})")
    return Verdict(False, f"failed: in the recorded evaluation it is no better than the noisy images ({found})")


def not_promoted(model: str, registered: Registered, alias: str) -> str:
    """Say why an alias did not move to a new version, and what to do."""
    return (
        f"models:/{model}@{alias} was not moved to version {registered.version}: gate {registered.gate}; to move it "
        f"all the same: unveil models promote {model} {registered.version} --alias {alias} --force --why '...'"
    )


def record(found: Verdict, *, forced: bool, why: str) -> str:
    """Return what the tag of a promoted version says: when, by whom, at what gate, and why if it was forced."""
    facts = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": f"{_user()}@{socket.gethostname()}",
        "gate": found.text[:1000],
        "forced": forced,
        "why": why,
    }
    return json.dumps(facts)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        return "unknown"
