"""Add up the weights of runs of one network, each with its factor: averages, and steps further along a fine-tuning.

    python tests/benchmarks/mix_weights.py --out mixed runs/wide11=-0.25 runs/wide13=0.625 runs/wide15=0.625

Factors add up to 1. `start=-1 tuned=2` goes twice as far as the tuning went. Network and inference are those of the
first, the card is that of the last. The command above made the shipped `default` of version 0.10.0; that of 0.11.0 is
the mean of it and of a run that began there (docs/results/lab.md).
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import torch

from models import load, save
from pipeline.errors import UserError
from pipeline.inference.denoiser import find_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", metavar="REF=FACTOR")
    parser.add_argument("--out", required=True, type=Path, help="weights folder to write")
    told = parser.parse_args()
    split = [text.rpartition("=") for text in told.parts]
    factors = [float(factor) for _, _, factor in split]
    if not math.isclose(sum(factors), 1.0, abs_tol=1e-9):
        sys.exit(f"mix_weights: expected factors that add up to 1, found {sum(factors):g}")
    try:
        loaded = [load(find_weights(ref)) for ref, _, _ in split]
    except (UserError, ValueError, OSError) as error:
        sys.exit(f"mix_weights: {error}")
    first = loaded[0]
    if any(one.spec != first.spec for one in loaded):
        sys.exit("mix_weights: expected weights of one network, found several")
    states = [one.network.state_dict() for one in loaded]
    mixed = {
        name: torch.stack([factor * state[name].double() for factor, state in zip(factors, states, strict=True)])
        .sum(0)
        .to(value.dtype)
        for name, value in states[0].items()
    }
    first.network.load_state_dict(mixed)
    card = {
        **loaded[-1].card,
        "mixed": [{"sha256": one.sha256, "factor": f} for one, f in zip(loaded, factors, strict=True)],
    }
    print(save(told.out, first.network, spec=first.spec, inference=first.inference, card=card))


if __name__ == "__main__":
    main()
