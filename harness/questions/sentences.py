"""Sentences as a reply, one a line: few-shot blocks of the question that a base model goes on with."""

from __future__ import annotations

from collections.abc import Sequence

from harness.questions.kinds import Answer, Question, Sentences
from harness.values import Failure, TokenLogprob

__all__ = ["SentenceLines"]


class SentenceLines:
    """A line for each sentence, blanks at its ends included."""

    def parse(
        self,
        question: Question,  # noqa: ARG002 - every question has the same form of answer
        text: str,
        logprobs: Sequence[TokenLogprob] | None,  # noqa: ARG002 - the window's are those that count
        *,
        rules: bool = False,  # noqa: ARG002 - sentences have no rule
    ) -> Sentences | Failure:
        """All lines that are not empty."""
        found = tuple(line for line in text.split("\n") if line)
        return Sentences(found) if found else Failure("unparsable", "the reply has no sentences")

    def format(self, answer: Answer, question: Question) -> str:  # noqa: ARG002 - see parse
        """The sentences, a line each."""
        if not isinstance(answer, Sentences):
            raise ValueError(f"sentences are needed, not {answer!r}")
        return "\n".join(answer.texts)

    def reminder(self, question: Question) -> str:  # noqa: ARG002 - see parse
        """One sentence that asks for this format again."""
        return "Reply with sentences that go with the description, one a line, and nothing else."
