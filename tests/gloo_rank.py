"""One rank of a run in a process of its own, for tests of several ranks without Ray.

python tests/gloo_rank.py CONFIG.json RUN_DIR RANK WORLD INIT_FILE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from pipeline.config import check
from pipeline.data.source import batch_source, local_feed
from pipeline.training.intake import read_source
from pipeline.training.loop import run_loop
from pipeline.training.rank import Rank, positions
from pipeline.training.stopping import StopRequest


def main() -> None:
    """Run the loop as this rank."""
    config = check(json.loads(Path(sys.argv[1]).read_text()))
    run_dir, index, world = Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{sys.argv[5]}", rank=index, world_size=world)
    source = batch_source(read_source(config, lambda *_: None)[0])
    share = positions(config.training.batch, index, world)
    rank = Rank(
        index=index,
        world=world,
        device=torch.device("cpu"),
        feed=lambda start: local_feed(source, share, start),
        ask=source.batch,
        stop=StopRequest(run_dir),
    )
    sys.stdout.write("finished" if run_loop(config, run_dir, {}, rank) else "stopped")
    # Together, or the one that is left may abort in gloo's own clean-up.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
