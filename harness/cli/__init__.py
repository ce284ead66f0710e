"""The command `harness`: a file a verb; what a person sees of an error is one sentence and an exit code."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

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
    epilog="Begin with: harness run demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run", short_help="Collect if needed, explain, score, print, and report.")(run)
app.command("try", short_help="Do one latent and show everything.")(try_)
app.command("plan", short_help="Tell a run's calls, tokens and dollars; nothing is asked.")(plan)
app.add_typer(prompts, name="prompts", short_help="List prompt variants, or show what would be sent.")
app.command("batches", short_help="List a run's batches; no provider is asked.")(batches)
app.command("collect", short_help="Collect a task's activations into a store.")(collect)
app.command("examples", short_help="Show the windows of one latent.")(examples)
app.command("models", short_help="Tell what a model's name stands for.")(models)
app.command("judge", short_help="Ask a judge about planted items of known truth.")(judge)
app.command("rate", short_help="Serve a page on which people rate explanations.")(rate)
app.command("report")(report)
app.command("compare", short_help="Compare arms, within a run and between runs.")(compare)
app.command("analyse", short_help="Print or write any table of runs.")(analyse)
app.command("variance", short_help="Split the variance of scores by what was drawn.")(variance)
app.command("export", short_help="Write files of this or another project.")(export)
app.command("import", short_help="Make a store of activations collected elsewhere.")(import_)
app.command("validate", short_help="Say which format a file is of, and what is wrong.")(validate)
app.command("upload", short_help="Send explanations to Neuronpedia.")(upload)
app.command("store", short_help="Tell what is in a store.")(store)
app.command("train-sae")(train_sae)
app.command("steer", short_help="Continue prompts with an intervention on a latent.")(steer)
app.command("sentence", short_help="Tell which latents are active in a sentence.")(sentence)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"latent-harness {version('latent-harness')}")
        raise typer.Exit


@app.callback()
def _in_place_of_a_verb(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options that print and end."""


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
