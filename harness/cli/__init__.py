"""The command `harness`: a file a verb; what a person sees of an error is one sentence and an exit code."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from harness.cli.analyse import analyse
from harness.cli.batches import batches
from harness.cli.collect import collect
from harness.cli.compare import compare
from harness.cli.examples import examples
from harness.cli.export import export
from harness.cli.import_ import import_
from harness.cli.judge import judge
from harness.cli.models import models
from harness.cli.plan import plan
from harness.cli.prompts import prompts
from harness.cli.rate import rate
from harness.cli.report import report
from harness.cli.run import run
from harness.cli.sentence import sentence
from harness.cli.steer import steer
from harness.cli.store import store
from harness.cli.train_sae import train_sae
from harness.cli.try_ import try_
from harness.cli.upload import upload
from harness.cli.validate import validate
from harness.cli.variance import variance
from harness.errors import RunStopped, UserError

__all__ = ["app", "main"]

app = typer.Typer(
    name="harness",
    help="Explains in words what the latents of sparse autoencoders do, and measures how good the words are.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run")(run)
app.command("try")(try_)
app.command("plan")(plan)
app.add_typer(prompts, name="prompts")
app.command("batches")(batches)
app.command("collect")(collect)
app.command("examples")(examples)
app.command("models")(models)
app.command("judge")(judge)
app.command("rate")(rate)
app.command("report")(report)
app.command("compare")(compare)
app.command("analyse")(analyse)
app.command("variance")(variance)
app.command("export")(export)
app.command("import")(import_)
app.command("validate")(validate)
app.command("upload")(upload)
app.command("store")(store)
app.command("train-sae")(train_sae)
app.command("steer")(steer)
app.command("sentence")(sentence)


def main() -> None:
    """Run the command.

    Exit codes: 0 done, 1 our bug, 2 the user's mistake, 3 stopped and resumable, 130 interrupted.
    """
    try:
        app(prog_name="harness")
    except UserError as error:
        _leave(str(error), 2)
    except RunStopped as error:
        _leave(str(error), 3)
    except KeyboardInterrupt:
        _leave("interrupted", 130)


def _leave(text: str, code: int) -> NoReturn:
    from harness.report.text import visible

    sys.stderr.write(f"harness: {visible(text)}\n")
    sys.exit(code)
