"""What was trained on what, in the few facts that a reader asks for first, and everything needed to do it again."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

import pipeline
from pipeline.data.paths import shown

Facts = list[tuple[str, str]]

_VERSIONS = ("torch", "numpy", "scikit-image", "ray", "mlflow")
_METHODS = {
    "masked": "masked training on clean images with made noise",
    "asymmetric": "asymmetric masks, from noisy images alone",
    "distilled": "distilled from the outputs of a teacher",
}
_NETWORKS = {"unet": "U-Net", "nafnet": "NAFNet", "restormer": "Restormer", "masked_swin": "masked Swin"}


def run_facts(run: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> Facts:
    """Return the facts of the head: network, data, noise, method, steps, seeds, licence."""
    config, card = run.get("config") or {}, run.get("card") or {}
    facts: Facts = []
    _add(facts, "network", _network(config, run, evaluation))
    _add(facts, "trained on", _data(config, card, evaluation))
    _add(facts, "noise", _noise(config))
    _add(facts, "method", _method(config))
    _add(facts, "training", _training(config, card, run))
    _add(facts, "seed", _seeds(config, evaluation))
    if config or card:
        _add(facts, "licence of the data", _licence(config, card))
    return facts


def provenance(run: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> Facts:
    """Return hashes, versions and whatever else tells which numbers these are."""
    facts = [(shown(str(key)), shown(str(value))) for key, value in (run.get("facts") or {}).items()]
    told = {value for _, value in facts}
    facts += [(name, value) for name, value in hashes(run, evaluation) if value.partition(" ")[0] not in told]
    if evaluation:
        protocol = evaluation.get("protocol") or {}
        if isinstance(protocol, Mapping) and protocol:
            facts.append(("protocol", f"{shown(str(protocol.get('name')))}: {shown(str(protocol.get('text')))}"))
        if evaluation.get("unveil"):
            facts.append(("evaluated with", f"unveil {shown(str(evaluation['unveil']))}"))
    facts.append(("versions", ", ".join(versions())))
    facts.append(("system", f"{platform.system()} {platform.machine()}"))
    return facts


def hashes(run: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> Facts:
    """Return the SHA-256 of weights and data sets by name."""
    found: Facts = []
    data = (run.get("card") or {}).get("data")
    if isinstance(data, Mapping) and data.get("hash"):
        found.append(("training data SHA-256", shown(str(data["hash"]))))
    for model in (evaluation or {}).get("models") or []:
        if model.get("sha256"):
            where = f" ({shown(str(model['ref']))})" if model.get("ref") else ""
            found.append((f"weights SHA-256, {shown(str(model['label']))}", f"{shown(str(model['sha256']))}{where}"))
    sets: dict[tuple[str, str], list[str]] = {}
    for one in (evaluation or {}).get("sets") or []:
        if one.get("hash"):
            sets.setdefault((str(one["hash"]), str(one.get("data") or "")), []).append(str(one["name"]))
    for (value, data), names in sets.items():
        # Sets that differ by the noise that is made have one folder and one hash.
        label = shown(names[0]) if len(names) == 1 else f"{shown(data or names[0])}, {len(names)} sets"
        found.append((f"data SHA-256, {label}", f"{shown(value)}{f' ({shown(data)})' if data else ''}"))
    return found


def versions() -> list[str]:
    """Return unveil, Python and the packages that numbers depend on, with versions."""
    found = [f"unveil {pipeline.__version__}", f"Python {platform.python_version()}"]
    for name in _VERSIONS:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def flat(config: Mapping[str, Any], prefix: str = "") -> Facts:
    """Return nested settings as dotted names and values."""
    rows: Facts = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{key}.")
        else:
            rows.append((shown(f"{prefix}{key}"), "" if value == "" else shown(str(value))))
    return rows


def _add(facts: Facts, name: str, text: str) -> None:
    if text:
        facts.append((name, text))


def _network(config: Mapping[str, Any], run: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> str:
    kind = (config.get("network") or {}).get("kind")
    name = _NETWORKS.get(str(kind), shown(str(kind))) if kind else ""
    known = [model for model in (evaluation or {}).get("models") or [] if model.get("parameters")]
    if run.get("parameters"):
        count = f"{int(run['parameters']):,} parameters"
    elif len(known) == 1:
        count = f"{int(known[0]['parameters']):,} parameters"
    else:
        count = ", ".join(f"{shown(str(model['label']))} {int(model['parameters']):,}" for model in known)
        count = f"parameters: {count}" if count else ""
    return ", ".join(part for part in (name, count) if part)


def _data(config: Mapping[str, Any], card: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> str:
    data = card.get("data") if isinstance(card.get("data"), Mapping) else {}
    path = (data or {}).get("path") or (config.get("data") or {}).get("path")
    if path:
        count = (data or {}).get("images")
        return shown(str(path)) + (f", {count:,} images" if isinstance(count, int) else "")
    said = {str(m["trained_on"]) for m in (evaluation or {}).get("models") or [] if m.get("trained_on")}
    return "; ".join(shown(text) for text in sorted(said))


def _noise(config: Mapping[str, Any]) -> str:
    noise = config.get("noise")
    if not isinstance(noise, Mapping):
        return "that of the photos themselves" if config.get("method") else ""
    ranges = [
        f"{shown(str(key))} {_range(value)}"
        for key, value in noise.items()
        if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(end, int | float) for end in value)
    ]
    return ", ".join([shown(str(noise.get("kind", "made"))), *ranges[:3]])


def _range(value: Any) -> str:
    low, high = value
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _method(config: Mapping[str, Any]) -> str:
    method = config.get("method") or {}
    if not method.get("kind"):
        return ""
    text = _METHODS.get(str(method["kind"]), shown(str(method["kind"])))
    return text + (", then a student of it" if config.get("student") else "")


def _training(config: Mapping[str, Any], card: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    trained = card.get("training") if isinstance(card.get("training"), Mapping) else {}
    history = run.get("history") or []
    steps = (trained or {}).get("steps") or (history[-1].get("step") if history else None)
    section = config.get("training") or {}
    parts = [f"{int(steps):,} steps" if isinstance(steps, int | float) else ""]
    crop = (config.get("data") or {}).get("crop")
    if section.get("batch") and crop:
        parts.append(f"batches of {section['batch']} crops of {crop}x{crop}")
    return ", ".join(part for part in parts if part)


def _seeds(config: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> str:
    if "seed" in config:
        return shown(str(config["seed"]))
    seeds = {model["seed"] for model in (evaluation or {}).get("models") or [] if model.get("seed") is not None}
    return ", ".join(str(seed) for seed in sorted(seeds))


def _licence(config: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    from pipeline.registry.card import UNKNOWN_LICENCE, licence

    said = (config.get("data") or {}).get("licence")
    if licence(card) == UNKNOWN_LICENCE and isinstance(said, str) and said.strip():
        return shown(said)
    return licence(card)
