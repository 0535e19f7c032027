"""Make a trained model one that comes with unveil: `pipeline/shipped/NAME`. A maintainer's tool.

python tests/benchmarks/ship_model.py runs/photos --name default --card card.md --facts facts.toml

The weights are those of REF, byte for byte, so that their hash is the one that the training left. Paths of this machine
are taken out of the card. A test picture and its result are added (`unveil models verify default`), and the text of
``--card`` becomes README.md, with the hash, the size and the commands below it.

facts.toml says for programs what the text says for people (all keys are needed but the last three):

    command = ["unveil train --preset phone --data bsds500 --out runs/photos"]   # that trained it, in order
    seeds = [0]
    [[data]]
    name = "BSDS500"
    licence = "..."                # and whose it is
    use = "training"               # or "validation", "choice of the recipe"
    [[scores]]                     # of the card's table
    set = "CC60"
    metric = "psnr_rgb_u8"
    noisy = 33.67
    denoised = 37.9
    command = "unveil evaluate ..."
    limits = ["..."]
    protocol = "..."
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from models import describe, load, save
from pipeline.errors import UserError
from pipeline.inference.denoiser import find_weights
from pipeline.inference.shipped import FOLDER, NAMES, RAWS
from pipeline.registry.artifact import README
from pipeline.registry.pair import write_pair

MOST_PARAMETERS = 1_100_000
NEEDED = {"command": list, "seeds": list, "data": list}
KNOWN = {*NEEDED, "scores", "limits", "protocol"}
MACHINE_PATH = re.compile(r"(?<![\w./:~*-])(?:/|~/)[\w.@+-]+(?:/[\w.@+-]+)+/?")


def without_paths(value: Any) -> Any:
    """Replace every absolute path in JSON values by its last part."""
    if isinstance(value, dict):
        return {name: without_paths(one) for name, one in value.items()}
    if isinstance(value, list):
        return [without_paths(one) for one in value]
    if isinstance(value, str):
        return MACHINE_PATH.sub(lambda found: found[0].rstrip("/").rpartition("/")[2], value)
    return value


def checked_facts(facts: dict[str, Any], where: Path) -> dict[str, Any]:
    """Return the facts if all that is needed is there.

    Raises:
        UserError: a key is missing, unknown, or says nothing.
    """
    for name, kind in NEEDED.items():
        if not isinstance(facts.get(name), kind) or not facts[name]:
            raise UserError(f"{where}: {name}: expected a list that is not empty, found {facts.get(name)!r}")
    if unknown := sorted(facts.keys() - KNOWN):
        raise UserError(f"{where}: {unknown[0]}: unknown key; expected one of {', '.join(sorted(KNOWN))}")
    for row in facts["data"]:
        if not isinstance(row, dict) or not all(row.get(name) for name in ("name", "licence", "use")):
            raise UserError(f"{where}: data: expected name, licence and use for each set, found {row!r}")
    for row in facts.get("scores", ()):
        if not all(name in row for name in ("set", "metric", "noisy", "denoised", "command")):
            raise UserError(f"{where}: scores: expected set, metric, noisy, denoised and command, found {row!r}")
    return facts


def ship(
    ref: str, name: str, card_file: Path, facts_file: Path, *, offset: str | None = None, folder: Path = FOLDER
) -> Path:
    """Write the shipped model and return its folder; an earlier one of that name is replaced as a whole.

    Raises:
        UserError: not a model that can be shipped under that name, or a card that tells of this machine.
    """
    loaded = load(find_weights(ref))
    domain = str(loaded.card.get("domain", "display"))
    if name not in NAMES or (name == RAWS) != (domain == "raw"):
        raise UserError(f"--name: expected {RAWS} for raw files and default for pictures, found {name} for {domain}")
    facts = checked_facts(tomllib.loads(facts_file.read_text("utf-8")), facts_file)
    text = card_file.read_text("utf-8").rstrip() + "\n"
    for where, said in ((card_file, text), (facts_file, facts_file.read_text("utf-8"))):
        if found := MACHINE_PATH.search(said):
            raise UserError(f"{where}: expected no path of this machine, found {found[0]!r}")
    parameters = describe(loaded.spec)["parameters"]
    if parameters > MOST_PARAMETERS:
        raise UserError(f"{ref}: expected {MOST_PARAMETERS:,} parameters at most, found {parameters:,}")
    inference = loaded.inference if offset is None else replace(loaded.inference, offset=offset)  # type: ignore[arg-type]
    licences = "; ".join(f"{row['name']}: {row['licence']}" for row in facts["data"] if row["use"] == "training")
    card = without_paths(loaded.card)
    card["data"] = {**(card.get("data") or {}), "licence": licences or None}
    card["shipped"] = {"name": name, "parameters": parameters, **facts}
    with tempfile.TemporaryDirectory(prefix="unveil-ship-") as temporary:
        staged = Path(temporary) / name
        digest = save(staged, loaded.network, spec=loaded.spec, inference=inference, card=card)
        if digest != loaded.sha256:
            raise UserError(f"{ref}: expected weights that are written as they were, found another hash: {digest}")
        write_pair(load(staged), staged)
        (staged / README).write_text(text + identity(digest, parameters, facts), "utf-8")
        target = folder / name
        shutil.rmtree(target, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(staged, target)
    return target


def identity(digest: str, parameters: int, facts: dict[str, Any]) -> str:
    """Return what the tool knows better than a writer: hash, size, and the commands, as Markdown."""
    commands = "\n".join(facts["command"])
    return (
        "\n## Identity\n\n"
        f"- sha256 of model.safetensors: {digest}\n"
        f"- parameters: {parameters:,}\n"
        f"- seeds: {', '.join(map(str, facts['seeds']))}\n"
        f"- made by\n\n```sh\n{commands}\n```\n"
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ref", help="run folder, weights folder or models:/...")
    parser.add_argument("--name", required=True, choices=NAMES)
    parser.add_argument("--card", required=True, type=Path, help="Markdown for people")
    parser.add_argument("--facts", required=True, type=Path, help="TOML for programs")
    parser.add_argument("--offset", choices=("keep", "level"), help="by default as in the model's inference spec")
    parser.add_argument("--into", type=Path, default=FOLDER, help="folder of the shipped models")
    told = parser.parse_args()
    try:
        target = ship(told.ref, told.name, told.card, told.facts, offset=told.offset, folder=told.into)
    except (UserError, ValueError, OSError) as error:
        sys.exit(f"ship_model: {error}")
    size = sum(path.stat().st_size for path in target.iterdir())
    print(f"{told.name}: {size / 1e6:.1f} MB in {len(list(target.iterdir()))} files")


if __name__ == "__main__":
    main()
