"""Save a masked Swin of ours as the official code would, to try `unveil models import` on.

python tests/benchmarks/official_weights.py runs/mine/weights official.pth
"""

import sys
from pathlib import Path

import torch

from models import load, to_official_state_dict


def main(weights: str, file: str) -> None:
    """Write the weights of a folder under official names, wrapped as SwinIR's are."""
    torch.save({"params": to_official_state_dict(load(Path(weights)).network.state_dict())}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
