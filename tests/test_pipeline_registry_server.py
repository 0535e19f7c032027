"""A real MLflow server that asks for a name and a password: push, pull, promote, and what happens when it is gone."""

from __future__ import annotations

import base64
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import RunError, UserError
from pipeline.evaluation.tracked import track_evaluation
from pipeline.registry.pull import pull
from pipeline.registry.store import register_weights
from tests.registered import weights
from tests.test_pipeline_tracked import evaluation
from tests.tracking_server import TrackingServer

pytestmark = pytest.mark.slow
Run = Callable[..., tuple[int, dict[str, Any] | None, str]]

USER, PASSWORD = "ada", "s3cret-w0rd"


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """`mlflow server` with a store of its own, which serves artifacts too."""
    with TrackingServer(tmp_path_factory.mktemp("server")) as server:
        yield server.port


@pytest.fixture
def guarded(mlflow_server: int) -> Iterator[ThreadingHTTPServer]:
    """A proxy before the server that lets one user in."""
    allowed = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    class Guard(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") != allowed:
                said = b"You are not authenticated."
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="mlflow"')
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)
                return
            kept = {name: value for name, value in self.headers.items() if name not in ("Host", "Authorization")}
            request = urllib.request.Request(
                f"http://127.0.0.1:{mlflow_server}{self.path}", body or None, kept, method=self.command
            )
            try:
                answer = urllib.request.urlopen(request, timeout=60)
            except urllib.error.HTTPError as error:
                answer = error
            data = answer.read()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Guard)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_team_shares_a_model_through_a_server_that_asks_who_they_are(
    guarded: ThreadingHTTPServer, tmp_path: Path, unveil: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"127.0.0.1:{guarded.server_port}"
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("UNVEIL_HOME", str(tmp_path / "one"))
    said = []
    # Without, and with a wrong password: one line, exit 2 or 1, and no password in it.
    for uri in (f"http://{address}", f"http://{USER}:wr0ng-one@{address}"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        for arguments in (("list",), ("pull", "models:/shared@champion"), ("register", weights(tmp_path / "w"))):
            code, _, text = unveil("models", *arguments)
            assert code in (1, 2), text
            assert text.count("\n") == 1, text
            assert "401" in text, text
            said.append(text)
    for uri, variables in (
        (f"http://{USER}:{PASSWORD}@{address}", {}),
        (f"http://{address}", {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": PASSWORD}),
    ):
        with monkeypatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", uri)
            for name, value in variables.items():
                patch.setenv(name, value)
            done = register_weights(tmp_path / "w", experiment="team", model="shared", alias="champion")
            assert done.alias == "champion"
            patch.setenv("UNVEIL_HOME", str(tmp_path / f"another-{done.version}"))  # somebody else's machine
            code, _, text = unveil("models", "verify", "models:/shared@champion")
            assert code == 0, text
            said.append(text)
            pulled = pull("models:/shared@champion")
            assert (pulled.version, pulled.note) == (done.version, None)
            code, _, text = unveil("models", "promote", "shared", done.version, "--alias", "lab")
            assert code == 0, text
            said += [text, unveil("models", "list", "--json")[2]]
            code, _, text = unveil("models", "export", "models:/shared@lab", "--out", tmp_path / f"{done.version}.zip")
            assert code == 0, text
            said.append(text)
            kept = "".join(path.read_text("utf-8", "replace") for path in (tmp_path / "one").rglob("*.json"))
            kept += "".join(path.read_text("utf-8", "replace") for path in tmp_path.glob("another-*/models/*.json"))
            assert PASSWORD not in kept
    assert PASSWORD not in "".join(said)
    assert "wr0ng-one" not in "".join(said)
    # The server goes away: what was pulled is taken, and says so; what was not is one line.
    guarded.shutdown()
    guarded.server_close()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{USER}:{PASSWORD}@{address}")
    monkeypatch.setenv("UNVEIL_HOME", str(tmp_path / "another-1"))
    away = pull("models:/shared@champion")
    assert away.digest == pull("models:/shared@champion", offline=True).digest
    assert away.note is not None
    assert "does not answer" in away.note
    assert "is taken as it was pulled: version 1" in away.note
    assert PASSWORD not in away.note
    with pytest.raises(RunError, match="does not answer") as caught:
        pull("models:/shared/2")
    assert PASSWORD not in str(caught.value)
    with pytest.raises(UserError, match="never pulled"):
        pull("models:/shared/2", offline=True)
    code, _, text = unveil("models", "promote", "shared", 1)
    assert code in (1, 2)
    assert PASSWORD not in text


def test_a_server_adds_nothing_to_stdout_and_knows_the_page_of_an_evaluation(
    guarded: ThreadingHTTPServer,
    tmp_path: Path,
    unveil: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = f"127.0.0.1:{guarded.server_port}"
    monkeypatch.setenv("UNVEIL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{USER}:{PASSWORD}@{address}")
    code, registered, _ = unveil("models", "register", weights(tmp_path / "w"), "--name", "judged", "--json")
    assert code == 0
    assert registered is not None
    made = track_evaluation(evaluation(), models=[("ours", "models:/judged@champion")])
    assert made["url"].startswith(f"http://{address}/#/experiments/")
    assert made["url"].endswith(f"/runs/{made['run_id']}")
    assert made["linked"][0]["version"] == registered["version"]
    assert capsys.readouterr().out == ""
    _, rows, _ = unveil("models", "list", "--json")
    assert rows is not None
    (row,) = [row for row in rows["models"] if row["model"] == "judged"]
    assert row["evaluations"]["kodak24 poisson 3.5"]["run_id"] == made["run_id"]
