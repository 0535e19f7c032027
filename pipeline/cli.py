"""The command line: `unveil ...`, and `python -m pipeline ...` for `ray job submit`.

Exit codes: 0 ok, 1 failed, 2 usage (the call, a file or a setting is wrong), 3 some files failed. With `--json` one
JSON object is the whole of stdout, errors included. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from pipeline import __version__
from pipeline.commands.analyze import analyze
from pipeline.commands.benchmark import benchmark_app
from pipeline.commands.demo import demo
from pipeline.commands.denoise import denoise
from pipeline.commands.develop import develop
from pipeline.commands.doctor import doctor
from pipeline.commands.evaluate import evaluate
from pipeline.commands.inspect import inspect
from pipeline.commands.models import models_app
from pipeline.commands.report import report
from pipeline.commands.synth import synth
from pipeline.commands.train import train
from pipeline.commands.tune import tune
from pipeline.errors import RunError, UserError

# Typer carries its own click or uses the installed one, by version; either way this is the base of usage errors.
_ClickError: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

app = typer.Typer(
    name="unveil",
    help="Learn to denoise real photographs without clean ones: train, denoise, and see why to trust the result.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (demo, train, denoise, evaluate, analyze, inspect, synth, develop, tune):
    app.command()(command)
app.add_typer(models_app, name="models")
app.add_typer(benchmark_app, name="benchmark")
app.command()(report)
app.command()(doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"unveil {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave the process with its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str]) -> int:
    try:
        code = app(args=list(arguments), prog_name="unveil", standalone_mode=False)
    except UserError as error:
        return _fail(str(error), 2, arguments)
    except _ClickError as error:
        return _fail(error.format_message(), 2, arguments)  # type: ignore[attr-defined]
    except RunError as error:
        return _fail(str(error), 1, arguments)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("stopped; a training run continues with --resume, an evaluation when called again", 130, arguments)
    return int(code or 0)


def _fail(message: str, code: int, arguments: Sequence[str]) -> int:
    line = " ".join(message.split())
    if line:  # a bare `unveil` has shown its help already
        sys.stderr.write(f"unveil: {line}\n")
    if "--json" in arguments:
        from pipeline.console import print_json

        print_json({"error": line, "exit_code": code})
    return code
