"""The noise of a run's data beside the noise that it was trained with, for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.folders import SourceFile, scan
from pipeline.errors import UserError
from pipeline.evaluation.cases import CaseSet, PairCase, PhotoCase

_MOST = 3
_SEED = 1


def noise_of_run(sets: Sequence[CaseSet], config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return noise curves: measured in a few noisy files, and made by the run's recipe on a clean picture.

    Args:
        sets: of which the first that holds noisy files is measured; may be empty.
        config: of the run.
    """
    return [*_measured(sets), *_synthesised(sets, config)]


def _measured(sets: Sequence[CaseSet]) -> list[dict[str, Any]]:
    from pipeline.evaluation.survey import survey

    for one in sets:
        noisy = [case.noisy if isinstance(case, PairCase) else getattr(case, "photo", None) for case in one.cases]
        files = [path for path in noisy if isinstance(path, Path)]
        if not files:
            continue
        chosen = dict.fromkeys(files[index * len(files) // _MOST] for index in range(_MOST))
        found = survey([SourceFile(path, Path(path.name)) for path in chosen])["files"]
        return [
            {"kind": "measured", "label": Path(row["path"]).name, "channels": row["noise"]["channels"]}
            for row in found
            if row["noise"] is not None and row["noise"].get("channels")
        ]
    return []


def _synthesised(sets: Sequence[CaseSet], config: Mapping[str, Any]) -> list[dict[str, Any]]:
    from noise.measure import estimate_noise
    from noise.recipe import recipe_from_dict
    from pipeline.data.images import ImageError, read_image, to_float
    from pipeline.data.synth_pairs import make_noisy
    from pipeline.evaluation.survey import channels_json

    clean = _clean_file(sets, config)
    if clean is None or not config.get("noise") or (config.get("data") or {}).get("domain", "display") != "display":
        return []
    try:
        recipe = recipe_from_dict(config["noise"])
        noisy, _, _ = make_noisy(read_image(clean).pixels, recipe, _SEED)
        found = estimate_noise(to_float(noisy))
    except (ImageError, ValueError):  # too small, or noise that this picture cannot have: no curve then
        return []
    names = {1: ("grey",), 3: ("R", "G", "B")}[len(found.sigma)]
    label = f"{config['noise'].get('kind')} of the training, on {clean.name}"
    return [{"kind": "synthesised", "label": label, "channels": channels_json(names, found.lines)}]


def _clean_file(sets: Sequence[CaseSet], config: Mapping[str, Any]) -> Path | None:
    """A picture to put the training's noise on: of the data, else of what was trained on, if it is still there."""
    for one in sets:
        for case in one.cases:
            if isinstance(case, PairCase) and isinstance(case.clean, Path):
                return case.clean
    folder = Path(str((config.get("data") or {}).get("path") or ""))
    try:
        files = scan([folder]) if folder.is_absolute() and folder.is_dir() else []
    except UserError:
        return None
    return files[0].path if files else None


def photos_set(files: Sequence[SourceFile], name: str) -> CaseSet:
    """Photos that are already listed, as a set."""
    cases = tuple(PhotoCase(file.relative.as_posix(), file.path) for file in files)
    return CaseSet(name=name, kind="photos", data=name, layout="photos", cases=cases, available=len(cases))
