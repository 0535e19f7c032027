"""The Ray Train worker: joins its group, opens its feed, and runs the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def train_worker(job: dict[str, Any]) -> dict[str, Any]:
    """Run the loop as one Ray Train worker; `job` comes from `fit.py`.

    Returns:
        `finished`, false if the run was asked to stop; `problem`, what went wrong where a restart would change nothing.
    """
    import ray.train
    import ray.train.torch
    import torch

    from pipeline.cluster import check_packages
    from pipeline.config import check
    from pipeline.data.allocator import keep_freed_memory
    from pipeline.data.feed import Feed
    from pipeline.errors import RunError
    from pipeline.training.loop import HopelessError, run_loop
    from pipeline.training.rank import Rank, positions
    from pipeline.training.rundir import owns
    from pipeline.training.stopping import StopRequest

    check_packages()
    keep_freed_memory()
    torch.set_num_threads(job["threads"])
    config, run_dir = check(job["config"]), Path(job["run_dir"])
    context = ray.train.get_context()
    index, world = context.get_world_rank(), context.get_world_size()
    if not run_dir.is_dir():
        # Without this line each node would train into a folder of its own, and a resumed run would find none of it.
        raise RunError(
            f"--out {str(run_dir)!r}: not seen by worker {index} on this node; expected a folder on storage that all "
            "nodes share"
        )
    share = positions(config.training.batch, index, world)
    synthesizers = nearby(job["synthesizers"], world, context.get_local_world_size())
    # Each worker starts at another synthesizer, so that their first orders do not queue at the same one.
    first = index % len(synthesizers)
    synthesizers = synthesizers[first:] + synthesizers[:first]

    def feed(start: int) -> Feed:
        return Feed(synthesizers, share, start, config.cluster.queue_depth, patience=config.feed.patience_seconds)

    rank = Rank(
        index=index,
        world=world,
        device=ray.train.torch.get_device(),
        feed=feed,
        ask=lambda batch, crops: feed(0).ask(batch, crops),
        stop=StopRequest(Path(job["root"])),
        owns=lambda: owns(Path(job["root"]), job["token"]),
        preempted=lambda: ray.train.get_preemption_info() is not None,
    )
    try:
        return {"finished": run_loop(config, run_dir, job["card"], rank), "problem": ""}
    except RunError as error:
        # Alone, or met by all: a restarted group would only meet it again, after 20 seconds each time.
        if world == 1 or isinstance(error, HopelessError):
            return {"finished": False, "problem": str(error).strip().splitlines()[-1]}
        raise


def nearby(synthesizers: list[Any], world: int, local_world: int) -> list[Any]:
    """Return the synthesizers of this worker's node if they are enough for its workers, else all of them.

    Batches of the same node come through shared memory; others cross the network.
    """
    import ray

    here = str(ray.get_runtime_context().get_node_id())
    nodes = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    if len(nodes) == 1:
        return synthesizers
    try:
        places = ray.get([one.node.remote() for one in synthesizers], timeout=60)
    except (ray.exceptions.GetTimeoutError, ray.exceptions.RayActorError):
        return synthesizers
    near = [one for one, place in zip(synthesizers, places, strict=True) if place == here]
    return near if len(near) * world >= len(synthesizers) * local_world else synthesizers
