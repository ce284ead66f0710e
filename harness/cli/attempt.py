"""What `harness try` prints of one latent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from harness.cli.show import console
from harness.examples.draw import LatentExamples
from harness.questions.messages import ToolCall
from harness.report.text import figure, metric_name, visible
from harness.runs.trying import Attempt, Exchange, Judged
from harness.values import Example, Explanation, Failure

__all__ = ["print_attempt"]

_SHADES = ("", "on grey15", "on grey27", "on dark_orange3", "on orange3")


def print_attempt(
    examples: LatentExamples | Failure, attempts: Sequence[Attempt], *, windows: int, prompts: int
) -> None:
    """Print windows, prompts, replies and verdicts of one latent."""
    screen = console()
    if isinstance(examples, Failure):
        screen.print(Text(f"{examples.status}: {visible(examples.message)}"))
        return
    latent = examples.latent
    screen.print(Rule(f"{latent.coder}:{latent.index}"))
    counts = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in examples.counts.items())
    screen.print(Text(f"largest activation {examples.maximum:g}; {counts}"))
    screen.print(Text(f"\nshown to the explainer ({len(examples.shown)}), the first {windows}:", "bold"))
    for example in examples.shown[:windows]:
        screen.print(_window(example, examples.maximum))
    for made in attempts:
        _print_attempt(screen, made, examples.maximum, windows=windows, prompts=prompts)


def _print_attempt(screen: Console, made: Attempt, maximum: float, *, windows: int, prompts: int) -> None:
    screen.print(Rule(f"explainer {made.explainer}"))
    _print_exchanges(screen, made.exchanges, prompts)
    answer = made.explained.explanation
    words = answer.text if isinstance(answer, Explanation) else f"{answer.status}: {answer.message}"
    screen.print(Text(f"\nexplanation: {visible(words)}", "bold"))
    for judged in made.judged:
        screen.print(Rule(f"scorer {judged.scorer}, rung {judged.examples.rung}"))
        _print_exchanges(screen, judged.exchanges, prompts)
        _print_verdicts(screen, judged, maximum, windows)


def _print_exchanges(screen: Console, exchanges: Sequence[Exchange], prompts: int) -> None:
    for exchange in exchanges[:prompts]:
        for message in exchange.request.messages:
            screen.print(Text(f"\n[{message.role}]", "cyan"))
            screen.print(Text(visible(message.content, breaks=True)))
            _print_calls(screen, message.calls)
        if exchange.request.tools:
            names = ", ".join(visible(tool.name) for tool in exchange.request.tools)
            screen.print(Text(f"\n[tools: {names}]", "cyan"))
        if exchange.request.texts is not None:
            screen.print(Text("\n[texts]", "cyan"))
            screen.print(Text("\n".join(visible(text) for text in exchange.request.texts)))
        screen.print(Text(f"\n[reply of {exchange.model}, {exchange.reply.finish}]", "green"))
        vectors = exchange.reply.vectors
        said = exchange.reply.text if vectors is None else f"vectors of {vectors.width} numbers: {len(vectors)}"
        screen.print(Text(visible(said, breaks=True)))
        _print_calls(screen, exchange.reply.calls)
    if len(exchanges) > prompts:
        screen.print(Text(f"\n({len(exchanges) - prompts} more requests)", "dim"))


def _print_calls(screen: Console, calls: Sequence[ToolCall]) -> None:
    for call in calls:
        screen.print(Text(f"calls {visible(call.name)} {visible(call.arguments)}", "yellow"))


def _print_verdicts(screen: Console, judged: Judged, maximum: float, windows: int) -> None:
    figures = [
        f"{metric_name(name)} {figure(value)}"
        for name, value in judged.scored.metrics.items()
        if isinstance(value, float)
    ]
    screen.print(Text("\n" + ", ".join(figures), "bold"))
    verdicts = judged.scored.verdicts
    examples = judged.scored.examples or judged.examples.examples
    for truth in (1, 0):
        screen.print(Text("activating:" if truth else "not activating:", "bold"))
        for index in np.flatnonzero(verdicts.truth == truth)[:windows].tolist():
            label, probability, value = (
                column[index].item() for column in (verdicts.label, verdicts.probability, verdicts.value)
            )
            said = "failed" if label < 0 else "right " if label == truth else "wrong "
            color = "green" if label == truth else "red"
            if label < 0 and not np.isnan(value):
                # neither right nor wrong: it orders the windows
                said, color = "", ""
            sure = "" if np.isnan(probability) else f" {probability:.2f}"
            sure += "" if np.isnan(value) else f" {value:.3g}"
            line = Text(f"  {said}{sure} ", color)
            screen.print(line.append_text(_window(examples[index], maximum)))


def _window(example: Example, maximum: float) -> Text:
    text = Text("  ")
    for token, activation in zip(example.passage.tokens, example.activations.tolist(), strict=True):
        share = activation / maximum if maximum > 0 else 0.0
        shade = 0 if share <= 0 else min(4, 1 + int(4 * share))
        text.append(visible(token), _SHADES[shade])
    return text
