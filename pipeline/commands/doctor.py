"""`unveil doctor`: does everything that training needs work on this machine? Each line is tried, not guessed."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable
from typing import Annotated

import typer

from pipeline.commands.options import Json
from pipeline.console import console, print_json

_GIB = 1 << 30


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Leave out starting Ray, which takes some seconds.")] = False,
    json_output: Json = False,
) -> None:
    """Check Python, packages, torch, the MLflow store and Ray on this machine."""
    checks: dict[str, Callable[[], str]] = {
        "python": lambda: f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "packages": _packages,
        "libraries": _libraries,
        "machine": _machine,
        "torch": _torch,
        "camera raws": _rawpy,
        "tracking": _tracking,
    }
    if not quick:
        checks["ray"] = _ray
    rows = []
    for name, check in checks.items():
        start = time.perf_counter()
        try:
            status, text = "ok", check()
        except Exception as error:  # noqa: BLE001 - whatever is broken here is what the user wants to read
            status, text = "failed", (str(error).strip().splitlines() or [type(error).__name__])[0]
        rows.append({"check": name, "status": status, "text": text, "seconds": round(time.perf_counter() - start, 2)})
        if not json_output:
            mark = "[green]ok    [/green]" if status == "ok" else "[red]failed[/red]"
            console.print(f"{mark} {name:12}", end=" ")
            console.print(text, markup=False, soft_wrap=True)
    failed = sum(row["status"] == "failed" for row in rows)
    if json_output:
        print_json({"checks": rows, "failed": failed})
    if failed:
        raise typer.Exit(1)


def _packages() -> str:
    from pipeline.cluster import check_packages

    return f"all five from {check_packages()}"


def _libraries() -> str:
    from importlib.metadata import version

    names = (
        "torch",
        "ray",
        "mlflow",
        "numpy",
        "rawpy",
        "imageio",
        "scikit-image",
        "einops",
        "pydantic",
        "safetensors",
    )
    return ", ".join(f"{name} {version(name)}" for name in names)


def _machine() -> str:
    import psutil

    from pipeline.home import home

    memory, disk = psutil.virtual_memory(), shutil.disk_usage(home())
    if disk.free < _GIB:
        raise RuntimeError(f"{home()}: {disk.free / _GIB:.1f} GiB free, expected 1 GiB for weights and tracking")
    return (
        f"{os.cpu_count()} cores, {memory.available / _GIB:.1f} of {memory.total / _GIB:.1f} GiB memory free, "
        f"{disk.free / _GIB:.0f} GiB disk free in {home()}"
    )


def _torch() -> str:
    import torch

    from models import UNetSpec, build

    with torch.inference_mode():
        output = build(UNetSpec())(torch.zeros(1, 3, 33, 47))
    if not bool(torch.isfinite(output).all()):
        raise RuntimeError("a network gives values that are not finite")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{torch.get_num_threads()} threads, GPUs: {', '.join(gpus) or 'none, training runs on the CPU'}"


def _rawpy() -> str:
    from raw.files import libraw_version

    return f"LibRaw {libraw_version()}"


def _tracking() -> str:
    from pipeline.registry.listing import list_models
    from pipeline.tracking import masked_uri

    return f"{masked_uri()}: {len(list_models())} registered model version(s)"


def _ray() -> str:
    from pipeline.cluster import ray_answers

    return ray_answers()
