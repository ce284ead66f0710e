"""Prompt variants: a TOML file that says how a question is put to a model and how the reply is to be read.

A variant of the question `explain`, `detect`, `fuzz`, `simulate`, `intruder`, `generate`, `surprisal`, `intervention`,
`amplified` or `steered` holds

- `description`: one sentence on what is particular about it;
- `reply`: the name of a reply format, see `harness.questions.replies`;
- `[sampling]`: `temperature` (left out: the provider's own), `max_tokens`, `logprobs` (whether to ask for them); not in
  `surprisal` and `amplified`, where nothing is drawn;
- `[templates]`: `system` and `user` in Jinja2 (sandboxed; an unknown name is an error), and `withheld`, the words in
  place of an explanation that is withheld (all but `explain`, `intruder`, `intervention` and `amplified`), in
  `surprisal` those that every other is compared with;
- `[[shot]]`: few-shot blocks as data, rendered by the code and template that render the question.

`system` has no variables. `user` has `examples`, each with `number` (from 1), `text` (plain), `marked` (with `<<` and
`>>`) and `activations` (for `explain`: pairs of `token`, in quotes, and `strength`, 0 to 10); judges have `explanation`
too, all but those of `intruder`. `explain` may have more, which is empty where an explainer has none to show: `silent`,
examples without activations, `promoted` and `suppressed`, tokens in quotes, and `tried` (none, or an `explanation` with
the examples that a judge `missed` by it and others that it had `taken`). `simulate` has one example, and `largest`, the
largest strength; with the reply format `strengths` its text is one token a line, numbered and in quotes; with
`strength-lines` there are no examples: their lines follow the message. `generate` has no examples, but `explanation`,
`count`, how many texts to write, and `activating`, whether the latent is to be active in them. `surprisal` has
`explanation` alone: the window follows the message, after a blank line.

`intervention` has `examples`, each with `number`, `text` (none where no text stands before the tokens), `rose` and
`fell`, pairs of `token`, in quotes, and `change`, as in +0.214. `amplified` has one example and no explanation: that
follows the message, after a blank line and in quotes. `steered` has two examples, whose new text is marked.

Each example's text stands in the message exactly once, marked or plain; it is put in after the template has run,
so that filters do not see it.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness import resources
from harness.errors import PromptError
from harness.questions import files
from harness.questions.kinds import (
    Amplified,
    Answer,
    Detect,
    Explain,
    Fuzz,
    Generate,
    Intruder,
    Question,
    Rises,
    Simulate,
    Steered,
    Surprisal,
    Tried,
)
from harness.questions.messages import Message
from harness.questions.render import one_line
from harness.questions.replies import FORMATS
from harness.questions.templates import Template
from harness.questions.windows import Window, explaining, risen, windows
from harness.values import Example, Explanation, Failure, Passage, Rise, TokenLogprob

__all__ = [
    "QUESTIONS",
    "Rendered",
    "Span",
    "Variant",
    "load_variant",
    "prompt_file",
    "variants",
]

QUESTIONS = (
    "explain", "detect", "fuzz", "simulate", "intruder", "generate", "surprisal", "intervention", "amplified",
    "steered",
)  # fmt: skip

# what stands for a window's text while the template runs; escaped corpus text and explanations hold no NUL
_STAND_IN = re.compile("\0([pm])([0-9]+)\0")


class Span(NamedTuple):
    """Which characters of the last message, `[start, stop)`, show which token of which example, both from 0."""

    example: int
    position: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """A question as messages; the spans are those of the last one."""

    messages: tuple[Message, ...]
    spans: tuple[Span, ...]


class Variant:
    """A prompt variant, checked: its templates compile and render, its few-shot blocks too.

    `name`, `question`, `path`, `description`, `reply`, the reply format's name; `digest` is the SHA-256 of the file's
    bytes; `temperature` (None: the provider's own), `max_tokens` and `logprobs` are what to ask for. `uses` are the
    variables of its template, `batch` is the most passages that a judge's prompt holds, None where any number.
    """

    def __init__(self, path: Path, name: str, question: str, content: bytes) -> None:
        try:
            source = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise PromptError(f"{path}: not UTF-8: {error}") from error
        self._file = files.read(path, question, source)
        self.path = path
        self.name = name
        self.question = question
        self.digest = hashlib.sha256(content).hexdigest()
        self.description = self._file.description
        self.temperature = self._file.sampling.temperature
        self.max_tokens = self._file.sampling.max_tokens
        self.logprobs = self._file.sampling.logprobs
        self._format = FORMATS[self._file.reply]
        self.reply = self._file.reply
        self.batch = self._file.batch if isinstance(self._file, files.JudgeFile) else None
        names = _VARIABLES.get(question, ("examples", "explanation"))
        self._system = Template(path, source, "templates.system", self._file.templates.system, ())
        self._user = Template(path, source, "templates.user", self._file.templates.user, names)
        self.uses = self._user.uses
        self._check()
        self._opening = self._open()

    def render(self, question: Question) -> Rendered:
        """The question as messages: the system message, the few-shot blocks, the question itself.

        Raises:
            PromptError: the template fails on this question.
        """
        content, spans = self._put(question)
        return Rendered((*self._opening, Message("user", content)), spans)

    def parse(
        self, question: Question, text: str, logprobs: Sequence[TokenLogprob] | None = None, *, rules: bool = False
    ) -> Answer | Failure:
        """The answer that a reply gives, or why it gives none; `rules` takes an explanation's `[rule]:` line too."""
        return self._format.parse(question, text, logprobs, rules=rules)

    def format(self, answer: Answer, question: Question) -> str:
        """An answer as the text that `parse` reads."""
        return self._format.format(answer, question)

    def reminder(self, question: Question) -> str:
        """One sentence that asks for the reply's format again."""
        return self._format.reminder(question)

    def _open(self) -> tuple[Message, ...]:
        """The system message and the few-shot blocks, the same for every question."""
        messages = [Message("system", self._system.render())]
        for number, shot in enumerate(self._file.shot, 1):
            try:
                question, answer = files.shot_question(self.question, shot)
            except ValueError as error:
                raise PromptError(f"{self.path}: shot[{number}]: {error}") from error
            reply = self.format(answer, question)
            if isinstance(shot, files.ExplainShot) and shot.reasoning is not None:
                reply = f"{shot.reasoning.strip()}\n{reply}"
            messages.append(Message("user", self._put(question)[0]))
            messages.append(Message("assistant", reply))
        return tuple(messages)

    def _put(self, question: Question) -> tuple[str, tuple[Span, ...]]:
        laid = [] if self.reply == "strength-lines" else windows(question)
        values: dict[str, Any] = {"examples": [window.shown for window in laid]}
        if isinstance(question, Explain):
            values = explaining(question, values["examples"])
        if isinstance(question, Simulate):
            values["largest"] = question.largest
        if isinstance(question, Generate):
            values = {"count": question.count, "activating": question.activating}
        if isinstance(question, Rises):
            values["examples"] = [risen(index, rise) for index, rise in enumerate(question.rises)]
        if not isinstance(question, Explain | Intruder | Rises | Amplified):
            told = question.explanation
            values["explanation"] = self._file.templates.withheld if told is None else one_line(told.text)
        return self._fill(self._user.render(**values), laid)

    def _fill(self, text: str, shown: Sequence[Window]) -> tuple[str, tuple[Span, ...]]:
        """The message with the windows' text in place of their stand-ins, and where their tokens are."""
        parts: list[str] = []
        spans: list[Span] = []
        times = [0] * len(shown)
        at = done = 0
        for match in _STAND_IN.finditer(text):
            index = int(match[2])
            window = shown[index]
            laid = window.lay(window.tokens, window.marks if match[1] == "m" else ())
            at += match.start() - done
            spans += [Span(index, order, at + start, at + stop) for order, (start, stop) in enumerate(laid.bounds)]
            parts += [text[done : match.start()], laid.text]
            at += len(laid.text)
            done = match.end()
            times[index] += 1
        for index, count in enumerate(times):
            if count != 1:
                raise PromptError(
                    f"{self.path}: templates.user: the text of each example (example.text or example.marked) has to "
                    f"stand there once; that of example {index + 1} stands there {count} times"
                )
        return "".join([*parts, text[done:]]), tuple(spans)

    def _check(self) -> None:
        """Render small questions, so that a mistake shows before anything is sent."""
        for count in (1, 2):
            passages = tuple(Passage(("trial ", str(number)), (1,)) for number in range(count))
            if self.question == "explain":
                self._put(_trial(passages, frozenset()))
                self._put(_trial(passages, self.uses))
                continue
            if self.question == "intruder":
                self._put(Intruder(passages))
                continue
            if self.question == "intervention":
                shown = [self._put(Rises((Rise("trial", ((word, 0.1),)),) * count))[0] for word in ("one", "two")]
                if shown[0] == shown[1]:
                    raise PromptError(f"{self.path}: templates.user: has to show the tokens of example.rose")
                continue
            if self.question == "amplified":
                self._put(Amplified(passages[0]))
                continue
            if self._file.templates.withheld is None:
                raise PromptError(f"{self.path}: templates.withheld: is missing")
            told = self._put(self._trial(Explanation("trial words"), passages))[0]
            if told == self._put(self._trial(None, passages))[0]:
                raise PromptError(f"{self.path}: templates.user: has to show the variable explanation")

        if self.question == "generate":
            sides = [self._put(Generate(Explanation("trial words"), 2, side))[0] for side in (True, False)]
            if sides[0] == sides[1]:
                raise PromptError(f"{self.path}: templates.user: has to tell by the variable activating what to write")

    def _trial(self, told: Explanation | None, passages: tuple[Passage, ...]) -> Question:
        if self.question == "generate":
            return Generate(told, len(passages), activating=True)
        if self.question == "simulate":
            return Simulate(told, passages[0])
        if self.question == "surprisal":
            return Surprisal(told)
        if self.question == "steered":
            return Steered(told, (Passage(("trial ", "0"), (1,)), Passage(("trial ", "1"), (1,))))
        return (Detect if self.question == "detect" else Fuzz)(told, passages)


def _trial(passages: tuple[Passage, ...], uses: frozenset[str]) -> Explain:
    """A small question with all that a template shows."""
    examples = tuple(Example(passage, np.array([0.0, 1.0], np.float32)) for passage in passages)
    plain = tuple(Example(passage, np.zeros(2, np.float32)) for passage in passages)
    rise = Rise(None, (("trial", 1.0),), (("trial", -1.0),)) if uses & {"promoted", "suppressed"} else None
    tried = Tried(Explanation("trial words"), examples, plain) if "tried" in uses else None
    return Explain(examples, 1.0, silent=plain if "silent" in uses else (), projected=rise, tried=tried)


# the variables of a question's template, where they are not examples and explanation
_VARIABLES = {
    "explain": ("examples", "silent", "promoted", "suppressed", "tried"),
    "simulate": ("examples", "explanation", "largest"),
    "intruder": ("examples",),
    "generate": ("explanation", "count", "activating"),
    "surprisal": ("explanation",),
    "intervention": ("examples",),
    "amplified": ("examples",),
}


def load_variant(question_name: str, name_or_path: str, base: Path | None = None) -> Variant:
    """The variant of a question, by the name of a shipped one or the path of a file, relative to `base`.

    A path is what ends in `.toml` or has a slash.

    Raises:
        PromptError: there is no such file, or it is wrong; the message names the file and the key or line.
    """
    if question_name not in QUESTIONS:
        raise PromptError(f'there is no question "{question_name}"; known: {", ".join(QUESTIONS)}')
    path, content = prompt_file(question_name, name_or_path, base)
    return Variant(path, path.stem, question_name, content)


def prompt_file(folder: str, name_or_path: str, base: Path | None = None) -> tuple[Path, bytes]:
    """The path and bytes of a prompt file, by the name of one in a shipped folder or its own path.

    Raises:
        PromptError: there is no such file.
    """
    path = _path(folder, name_or_path, base)
    try:
        return path, path.read_bytes()
    except OSError as error:
        raise PromptError(f"{path}: the prompt cannot be read: {error.strerror or error}") from error


def variants(question_name: str) -> tuple[str, ...]:
    """The names of the shipped variants of a question, sorted."""
    return tuple(sorted(path.stem for path in (resources.folder("prompts") / question_name).glob("*.toml")))


def _path(question: str, name: str, base: Path | None) -> Path:
    if name.endswith(".toml") or "/" in name or "\\" in name:
        return (base or Path()) / Path(name).expanduser()
    known = variants(question)
    if name in known:
        return resources.folder("prompts") / question / f"{name}.toml"
    near = difflib.get_close_matches(name, known, 1)
    hint = f'did you mean "{near[0]}"?' if near else "known: " + ", ".join(known)
    raise PromptError(f'{question} has no prompt "{name}"; {hint} (a file of your own is named by path: ./{name}.toml)')
