"""A real MLflow server for tests, which can be killed and started again with the same store."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Self


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class TrackingServer:
    """`mlflow server` on a free port, with SQLite and artifacts in a folder of its own."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{self._base / 'm.db'}"]
        command += ["--artifacts-destination", str(self._base / "files"), "--host", "127.0.0.1"]
        log = self._base / "log"
        with log.open("w") as file:
            self._process = subprocess.Popen(
                [*command, "--port", str(self.port), "--workers", "1"],
                cwd=self._base,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        while True:
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=2).close()
                return
            except OSError:
                time.sleep(0.3)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the server and its workers; wait for the end if it ends them."""
        assert self._process is not None
        os.killpg(self._process.pid, number)
        if number in (signal.SIGTERM, signal.SIGKILL):
            self._process.wait(30)
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.send(signal.SIGCONT)
            self.send(signal.SIGKILL)
