"""`harness steer`: a prompt's clean and steered continuations, and the next tokens that rose and fell."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.subject.steer_text import Continuation, Moved, TextSteering
    from harness.task import CoderSettings, Task

__all__ = ["steer"]


def steer(
    task: Annotated[str, typer.Argument(help="A task file, or a shipped task's name such as demo.")],
    prompt: Annotated[list[str], typer.Argument(help="Text to continue; several are calibrated together.")],
    latent: Annotated[int, typer.Option(min=0, help="The latent's index.")],
    kl: Annotated[float | None, typer.Option(help="Find the strength of this mean KL, in nats.")] = None,
    strength: Annotated[float | None, typer.Option(help="Add so much of the decoder's direction.")] = None,
    clamp: Annotated[float | None, typer.Option(help="Set the latent to this; 0 ablates it.")] = None,
    scale: Annotated[float | None, typer.Option(help="Multiply the latent by this.")] = None,
    coder: Annotated[str | None, typer.Option(help="The coder's name; the first one if not given.")] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens to generate.")] = 24,
    temperature: Annotated[float, typer.Option(min=0, help="Of sampling; 0 takes the most probable token.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Decides the sampling.")] = 0,
    top: Annotated[int, typer.Option(min=0, help="How many tokens that rose and that fell to show.")] = 8,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key.")] = None,
) -> None:
    """Continue prompts without and with an intervention on a latent."""
    from harness.errors import TaskError
    from harness.report.text import visible
    from harness.subject.steer import Generation
    from harness.subject.steer_text import TextSteering
    from harness.task import load_task
    from harness.validation import naming

    given = {"--kl": kl, "--strength": strength, "--clamp": clamp, "--scale": scale}
    wanted = [(flag, value) for flag, value in given.items() if value is not None]
    if len(wanted) != 1:
        raise TaskError("give one of --kl, --strength, --clamp and --scale")
    [(flag, amount)] = wanted
    if not math.isfinite(amount) or (flag == "--kl" and amount <= 0):
        raise TaskError(f"{flag}: {amount} is not a {'KL above zero' if flag == '--kl' else 'number to steer by'}")
    loaded = load_task(task, set_ or [])
    with naming(loaded.source):
        chosen = _coder(loaded, coder)
        if loaded.subject is None:
            raise TaskError("this task has no [subject] to steer, only a store")
        steering = TextSteering.of(loaded.subject, chosen, loaded.base)
    lines = [f"{chosen.name} {latent}"]
    if flag == "--kl":
        found = steering.calibrate(prompt, latent, amount)
        lines.append(f"strength {found.strength:.4g}: KL {found.kl:.3g} nats of {amount:g}, {found.status}")
        flag, amount = "--strength", found.strength
    else:
        lines.append(f"{flag[2:]} {amount:g}")
    kind = {"--strength": "add", "--clamp": "clamp", "--scale": "scale"}[flag]
    how = Generation(tokens, temperature, seed)
    for one in steering.steer(prompt, latent, amount, kind, how):  # pyright: ignore[reportArgumentType] - of three words
        lines += _lines(steering, one, top)
    for line in lines:
        typer.echo(visible(line))


def _coder(task: Task, name: str | None) -> CoderSettings:
    """The coder of that name, or the first.

    Raises:
        TaskError: there is none.
    """
    from harness.errors import TaskError

    for one in task.coder:
        if name in (None, one.name):
            return one
    raise TaskError(f"--coder {name}: the task's coders are {', '.join(one.name for one in task.coder)}")


def _lines(steering: TextSteering, found: Continuation, top: int) -> Iterator[str]:
    yield ""
    yield f"prompt   {_quoted(found.prompt)}"
    yield f"clean    {_quoted(found.clean)}"
    yield f"steered  {_quoted(found.steered)}"
    if not bool(found.steered_logits.isfinite().all()):
        yield "steered logits are not finite: the strength is beyond what the model's numbers can hold"
        return
    rose, fell = steering.moved(found, top)
    for name, tokens in (("rose", rose), ("fell", fell)):
        if tokens:
            yield f"{name}     " + ", ".join(_moved(token) for token in tokens)


def _moved(token: Moved) -> str:
    return f"{_quoted(token.token)} {token.clean:.3f} > {token.steered:.3f}"


def _quoted(text: str) -> str:
    """Text in quotes, line breaks as they are written in code."""
    return '"' + text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"') + '"'
