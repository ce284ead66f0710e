"""How likely a text is after another, by a model that tells the logprobs of given text, and the difference of two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.clients.ask import ask_once
from harness.clients.protocol import Client, Request
from harness.clients.wants import Want
from harness.questions.messages import Message
from harness.values import Failure, TokenLogprob, Usage

__all__ = ["Likelihood", "difference", "followed", "likelihood", "wanted"]


@dataclass(frozen=True, slots=True)
class Likelihood:
    """A text's tokens with their logprobs or why there are none, on what replies they rest and what these cost."""

    tokens: Sequence[TokenLogprob] | Failure
    replies: tuple[str, ...] = ()
    usage: Usage = Usage()


def wanted(scorer: str, model: str) -> Want:
    """What this wants of a model."""
    cure = 'take a base model that gives them: local/, or vllm/ with api = "completions"'
    return Want(scorer, model, "prompt_logprobs", needed=True, cure=cure)


def followed(messages: Sequence[Message], lead: str) -> tuple[Message, ...]:
    """The messages with more at the end of the last one."""
    *before, last = messages
    return (*before, replace(last, content=last.content + lead))


async def likelihood(client: Client, prefix: tuple[Message, ...], text: str) -> Likelihood:
    """The logprobs of a text's tokens where it follows the prefix; a token that begins before it is one of them.

    Raises:
        RunEnding: nothing more can be asked.
        Drained: the run is stopping.
    """
    reply, keys = await ask_once(client, Request(prefix, 0, top_logprobs=0, continuation=text))
    if isinstance(reply, Failure):
        return Likelihood(reply, keys)
    return Likelihood(reply.logprobs or (), keys, reply.usage)


def difference(after: Likelihood, before: Likelihood) -> float | Failure:
    """log p after one prefix minus log p after another, of the same text, in nats; or why there is none."""
    for each in (after, before):
        if isinstance(each.tokens, Failure):
            return each.tokens
    assert not isinstance(after.tokens, Failure)
    assert not isinstance(before.tokens, Failure)
    if [item.token for item in after.tokens] != [item.token for item in before.tokens]:
        return Failure("unparsable", "the text has other tokens after other words")
    value = math.fsum(item.logprob for item in after.tokens) - math.fsum(item.logprob for item in before.tokens)
    return value if math.isfinite(value) else Failure("unparsable", "a token of the text has no probability")
