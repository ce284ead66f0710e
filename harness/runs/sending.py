"""What would be sent of one latent by a prompt variant: the messages, without asking anybody."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from harness.clients.models import Models
from harness.clients.observing import Observing
from harness.clients.protocol import Client, Reply, Request
from harness.clients.providers._endpoint import keyless
from harness.errors import PromptError, StoreError
from harness.examples.draw import LatentExamples, draw
from harness.questions.prompts import QUESTIONS, Variant, load_variant
from harness.runs.keys import explain_seed, score_seed
from harness.runs.progress import Progress
from harness.runs.rehearsal import Book, Unread, rehearsing
from harness.runs.running import close, open_store
from harness.runs.selection import named, reader_of
from harness.runs.stop import Stop
from harness.runs.units import BASELINE, bound_subject, made_explainer, made_scorer
from harness.task import ExplainerSettings, KindSettings, ScorerSettings, Task
from harness.values import Explanation, Failure

__all__ = ["Sent", "find_variant", "sent"]

# which scorer asks a question
_SCORERS: Final = {
    "detect": "detection", "fuzz": "fuzzing", "simulate": "simulation", "intruder": "intruder",
    "generate": "generation", "surprisal": "surprisal",
}  # fmt: skip
_LEXICAL: Final = {"model": "lexical/rules"}
# which explainer shows a variable of an explain template, and what else its table needs
_EXPLAINERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "silent": ("contrastive", {}),
    "promoted": ("logits", {}),
    "tried": ("refine", {"explainer": {"kind": "contexts", **_LEXICAL}, "scorer": {"kind": "detection", **_LEXICAL}}),
}


@dataclass(frozen=True, slots=True)
class Sent:
    """The requests that a variant makes of one latent, all to `model`.

    `tokens` is the prompt's length of each, None where no tokenizer of the model is at hand. `explanation` is what a
    judge was told.
    """

    variant: Variant
    model: str
    requests: tuple[Request, ...]
    tokens: tuple[int | None, ...]
    explanation: str | None = None


def find_variant(name: str, question: str | None = None, base: Path | None = None) -> Variant:
    """A variant by `question/name`, or by the path of a file whose folder is called after its question.

    Raises:
        PromptError: there is none, it is wrong, or nothing says of which question it is.
    """
    path = Path(name)
    if path.suffix == ".toml":
        asked = question or path.resolve().parent.name
        if asked not in QUESTIONS:
            raise PromptError(
                f'{name}: its folder "{asked}" is no question; give --question, one of {", ".join(QUESTIONS)}'
            )
        return load_variant(asked, str(path.resolve()), base)
    asked, slash, variant = name.partition("/")
    if not slash:
        raise PromptError(f"{name}: give a question with a variant, such as explain/cot, or the path of a .toml file")
    return load_variant(asked, variant, base)


async def sent(
    task: Task, variant: Variant, latent: int, coder: str | None, progress: Progress, explanation: str | None = None
) -> Sent:
    """Draw a latent's examples as a run does, and note what the variant makes of them; no model is asked.

    The variant is put in place of the prompt of the task's first explainer, or scorer, that asks the question; where
    there is none, of one that does. Judges are told `explanation`, else what the lexical baseline finds.

    Raises:
        UserError: the task, the coder's name or the latent is wrong, the latent has too few examples, or the question
            is asked of what a subject wrote.
    """
    if variant.question != "explain" and variant.question not in _SCORERS:
        raise PromptError(f"{variant.path}: {variant.question} asks about what the subject wrote: use harness try")
    noted: list[tuple[str, Request]] = []

    def note(name: str, request: Request, _: Reply) -> None:
        noted.append((name, request))

    def wrap(client: Client) -> Client:
        return Observing(rehearsing(client, None, Book(lambda _: None)), partial(note, client.name))

    with keyless():
        models = Models(task.model, wrap)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(close, models)
            examples = await _examples(task, latent, coder, progress)
            told, settings = None, _settings(task, variant)
            if variant.question == "explain":
                await _explain(task, ExplainerSettings.model_validate(settings), models, examples, stack)
            else:
                told = await _told(explanation, task, models, examples)
                scorer = made_scorer(ScorerSettings.model_validate(settings), models, task)
                if scorer.needs_subject:
                    scorer.bind(Unread())
                scored = examples.scored[0]
                noted.clear()
                seed = score_seed(task.drawing_seed, examples.latent, scored.rung)
                await scorer.score(told, scored, seed)
            model = str(settings["model"])
            mine = [request for name, request in noted if name == model and _of(request, variant)]
            tokens = [models.count(model, request) for request in mine]
    return Sent(variant, model, tuple(mine), tuple(tokens), None if told is None else told.text)


async def _examples(task: Task, latent: int, coder: str | None, progress: Progress) -> LatentExamples:
    name = named(task, coder)
    store = await open_store(task, progress, Stop())
    assert store is not None
    reader = reader_of(store, name, latent)
    found = draw(reader, latent, task.examples, task.drawing_seed, min_examples=task.latents.min_examples)
    if isinstance(found, Failure):
        raise StoreError(f"{name}/{latent}: {found.message}")
    return found


def _settings(task: Task, variant: Variant) -> dict[str, Any]:
    """The table of whoever asks, with the variant as its prompt."""
    tables: tuple[KindSettings, ...]
    if variant.question == "explain":
        shown = next((name for name in _EXPLAINERS if name in variant.uses), None)
        kind, more = _EXPLAINERS[shown] if shown else ("contexts", {})
        tables = task.explainer
    else:
        kind, more, tables = _SCORERS[variant.question], {}, task.scorer
    own = next((dict(one.options) for one in tables if one.kind == kind), None)
    asked = next(
        (one.options["model"] for one in (*tables, *task.explainer) if "model" in one.options), "lexical/rules"
    )
    found = {**more, **(own if own is not None and not more else {"model": asked}), "name": kind, "kind": kind}
    return found | {"prompt": str(variant.path.resolve())}


async def _explain(
    task: Task, settings: ExplainerSettings, models: Models, examples: LatentExamples, stack: AsyncExitStack
) -> None:
    explainer = made_explainer(settings, models, task)
    if (subject := bound_subject(task, {settings.name: explainer}, {})) is not None:
        stack.push_async_callback(subject.aclose)
    await explainer.explain(examples, explain_seed(task.drawing_seed, examples.latent))


async def _told(given: str | None, task: Task, models: Models, examples: LatentExamples) -> Explanation:
    if given is not None:
        return Explanation(given)
    baseline = made_explainer(BASELINE, models, task)
    found = await baseline.explain(examples, 0)
    return found.explanation if isinstance(found.explanation, Explanation) else Explanation("(no explanation)")


def _of(request: Request, variant: Variant) -> bool:
    """Whether a request was made by the variant, and not by another part of whoever asks."""
    question = request.question
    if question is None or question.name != variant.question:
        return False
    return "tried" not in variant.uses or getattr(question, "tried", None) is not None
