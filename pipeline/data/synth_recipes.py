"""Names of noise as typed after ``--recipe``, and what ``--level`` and its like mean for each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.config import apply_overrides
from pipeline.data.paths import shown
from pipeline.errors import UserError

if TYPE_CHECKING:
    from noise import NoiseRecipe
    from noise.tone_mapping import ToneMapping

    AnyRecipe = NoiseRecipe | ToneMapping


class Offer(NamedTuple):
    """One name for ``--recipe``."""

    kind: str
    """``kind`` of the spec."""

    level: str | None
    """Dotted key of the range that ``--level`` sets."""

    meaning: str
    """What a level is, and its unit."""

    paper: str
    """Levels of the masked-training paper."""


OFFERS: dict[str, Offer] = {
    "gaussian": Offer("gaussian", "sigma", "sigma in 1/255", "15"),
    "speckle": Offer("speckle", "variance", "variance of the factor", "0.018 to 0.04"),
    "poisson": Offer("poisson", "alpha", "gain on the photon noise", "2 2.5 3 3.5"),
    "spatial": Offer("spatial", "sigma", "sigma in 1/255 before 3x3 mean", "40 45 50 55 60"),
    "salt_pepper": Offer("salt_pepper", "density", "share of samples lost", "0.002 0.02"),
    "mixture": Offer("mixture", "level", "1 to 5", "1 2 3 4 5"),
    "correlated": Offer("correlated", "sigma", "sigma in 1/255 at mid-grey", ""),
    "camera": Offer("camera", "levels.shot", "shot noise of the raw", ""),
    "isp": Offer("camera", "levels.shot", "shot noise (Brooks et al.)", "0.0001 to 0.012"),
    "eld": Offer("eld", "ratio", "exposure too short by", ""),
    "monte_carlo": Offer("monte_carlo", None, "which samples per pixel", "64 128"),
    "sequence": Offer("sequence", None, "none; --set steps=[...]", ""),
    "choice": Offer("choice", None, "none; --set recipes=[...]", ""),
}
"""Everything that ``--recipe`` takes, beside a JSON file with a recipe or a manifest."""


def make_recipe(
    name: str,
    level: str | None = None,
    *,
    camera: str | None = None,
    levels: Path | None = None,
    settings: Sequence[str] = (),
) -> AnyRecipe:
    """Build a recipe from what was typed.

    Args:
        name: a key of ``OFFERS``, or a JSON file that holds a recipe or, as a manifest does, a ``recipe``.
        level: ``x`` or ``lowest,highest``; None takes the default. (For Monte-Carlo renderings see
            `sample_range`.)
        camera: sensor or camera by name.
        levels: JSON file with a spec of noise levels, as ``unveil inspect --save-levels`` writes it.
        settings: ``dotted.key=value`` for everything else.

    Raises:
        UserError: an unknown name, a value out of range, or options that do not go together; the message begins
            with the option.
    """
    tree, offer = _start(name)
    if level is not None and offer is not None and offer.kind != "monte_carlo":
        if offer.level is None:
            raise UserError(f"--level: {name} has no level; set the keys of its parts with --set")
        tree = apply_overrides(tree, [f"{offer.level}={list(parse_level(level))}"], None)
        _build(tree, "--level")
    elif level is not None and offer is None:
        raise UserError(f"--level: not with a recipe from a file ({name}); use --set")
    if camera is not None:
        tree = _with_camera(tree, camera, clash=level is not None or levels is not None)
    if levels is not None:
        if tree["kind"] != "camera" or level is not None:
            raise UserError("--levels: expected with --recipe camera or isp, and without --level")
        tree["levels"] = _read_json(levels, "--levels")
        _build(tree, f"--levels {shown(levels)}")
    if settings:
        tree = apply_overrides(tree, settings, None)
    return _build(tree, "--set" if settings else "--recipe")


def parse_level(level: str) -> tuple[float, float]:
    """Read ``x`` or ``lowest,highest``; whole numbers stay whole.

    Raises:
        UserError: it is neither.
    """
    try:
        low, *rest = (int(part) if part.strip().lstrip("+-").isdigit() else float(part) for part in level.split(","))
        (high,) = rest or (low,)
    except ValueError:
        raise UserError(f"--level: expected a number or lowest,highest; found {level!r}") from None
    return low, high


def recipe_table() -> list[dict[str, str]]:
    """One row for each name: recipe, level (what it means), default, and the paper's levels."""
    rows = []
    for name, offer in OFFERS.items():
        row = {"recipe": name, "level": offer.meaning, "default": "", "paper": offer.paper}
        if offer.level is not None:
            value: Any = _build({"kind": offer.kind}, name)
            for key in offer.level.split("."):
                value = getattr(value, key)
            row["default"] = " to ".join(f"{end:g}" for end in dict.fromkeys(value))
        rows.append(row)
    return rows


def _start(name: str) -> tuple[dict[str, Any], Offer | None]:
    if name in OFFERS:
        return {"kind": OFFERS[name].kind}, OFFERS[name]
    if name.endswith(".json"):
        tree = _read_json(Path(name), "--recipe")
        tree = tree["recipe"] if isinstance(tree.get("recipe"), dict) else tree
        _build(tree, f"--recipe {shown(name)}")
        return tree, None
    raise UserError(f"--recipe: expected one of {', '.join(OFFERS)}, or a .json file; found {name!r}")


def _with_camera(tree: dict[str, Any], camera: str, *, clash: bool) -> dict[str, Any]:
    if tree["kind"] == "eld":
        tree = {**tree, "camera": camera}
    elif tree["kind"] != "camera":
        raise UserError(f"--camera: expected with --recipe camera, isp or eld, found {tree['kind']}")
    elif clash:
        raise UserError("--camera: brings its own noise levels, so neither --level nor --levels goes with it")
    else:
        tree = {**tree, "levels": {"kind": "sensor", "name": camera}}
    _build(tree, "--camera")
    return tree


def _build(tree: dict[str, Any], option: str) -> AnyRecipe:
    from noise import NoiseRecipe
    from noise.spec_json import spec_from_dict
    from noise.tone_mapping import ToneMapping

    try:
        made: AnyRecipe = spec_from_dict(NoiseRecipe | ToneMapping, tree)
    except ValueError as error:
        raise UserError(f"{option}: {error}") from error
    return made


def _read_json(path: Path, option: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{option} {shown(path)}: expected a readable file, found: {error.strerror}") from None
    except ValueError as error:  # not UTF-8, or not JSON
        raise UserError(f"{option} {shown(path)}: expected JSON, found: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"{option} {shown(path)}: expected a JSON object, found {type(value).__name__}")
    return value
