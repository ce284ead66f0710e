"""One question to one model: rendered, asked, parsed, asked once more where the reply cannot be read."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness.clients.protocol import Client, Reply, Request
from harness.clients.replies import request_key
from harness.clients.sampling import again
from harness.errors import ClientError, Drained, MissingLogprobs, Refused, RunEnding
from harness.questions.kinds import Answer, Question, Texts
from harness.questions.messages import Message
from harness.questions.prompts import Variant
from harness.values import Explanation, Failure, Usage

__all__ = ["TOP_LOGPROBS", "Asked", "Embedded", "ask", "ask_once", "embedded", "first_request"]

TOP_LOGPROBS = 5  # enough to hold 0 and 1 in their spellings; some servers give no more


@dataclass(frozen=True, slots=True)
class Asked:
    """An answer or why there is none, the keys of the requests whose replies it rests on, and what they cost."""

    answer: Answer | Failure
    replies: tuple[str, ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors `[texts, width]` or why there are none, the keys of the replies they rest on, and what these cost."""

    vectors: NDArray[np.float64] | Failure
    replies: tuple[str, ...] = ()
    usage: Usage = Usage()


async def ask(
    client: Client,
    variant: Variant,
    question: Question,
    *,
    sample: int = 0,
    seed: int | None = None,
    logprobs: bool | None = None,
) -> Asked:
    """Put a question to a model by a prompt variant.

    Temperature, seed and logprobs (where the variant, or `logprobs`, says so) are sent where the client can take
    them. A reply that cannot be read is answered with what was wrong, once. Of an explanation cut off at the token
    limit nothing is kept; labels that are complete are, and texts without the last line. A rule is taken only from a
    client that has no language model.

    Raises:
        RunEnding: nothing more can be asked.
        Drained: the run is stopping.
        PromptError: the variant's template fails on this question.
    """
    request = first_request(client, variant, question, sample=sample, seed=seed, logprobs=logprobs)
    first, reply = await _once(client, variant, question, request)
    if reply is None or not isinstance(first.answer, Failure) or first.answer.status != "unparsable":
        return first
    corrected = _correct(request.messages, reply, first.answer, variant.reminder(question))
    second, _ = await _once(client, variant, question, replace(request, messages=corrected))
    # a client without a language model may take no notice of the words and be asked the same thing twice
    keys = tuple(dict.fromkeys(first.replies + second.replies))
    return Asked(second.answer, keys, first.usage + second.usage)


def first_request(
    client: Client,
    variant: Variant,
    question: Question,
    *,
    sample: int = 0,
    seed: int | None = None,
    logprobs: bool | None = None,
) -> Request:
    """What `ask` sends at first.

    Raises:
        PromptError: the variant's template fails on this question.
    """
    wanted = variant.logprobs if logprobs is None else logprobs
    return Request(
        messages=variant.render(question).messages,
        max_tokens=variant.max_tokens,
        temperature=variant.temperature if client.capabilities.temperature else None,
        top_logprobs=TOP_LOGPROBS if wanted and client.capabilities.logprobs else None,
        seed=seed if client.capabilities.seed else None,
        sample=sample,
        question=question,
    )


async def ask_once(client: Client, request: Request) -> tuple[Reply | Failure, tuple[str, ...]]:
    """The reply to a request or why there is none, and the keys of the replies that were kept.

    Inside `harness.clients.sampling.sampled` it is another draw of the same request.

    Raises:
        RunEnding: nothing more can be asked.
        Drained: the run is stopping.
    """
    request = again(request)
    try:
        reply = await client.generate(request)
    except (RunEnding, Drained):
        raise
    except Refused as error:
        return Failure("refused", error.message), ()
    except ClientError as error:
        return Failure("provider_error", error.message), ()
    # those that are not kept can be had again
    kept = client.capabilities.kept and not client.capabilities.model_free
    return reply, (request_key(client, request),) if kept else ()


async def embedded(client: Client, texts: tuple[str, ...]) -> Embedded:
    """The vectors of texts by one request.

    Raises:
        RunEnding: nothing more can be asked.
        Drained: the run is stopping.
    """
    reply, keys = await ask_once(client, Request((), 0, texts=texts))
    if isinstance(reply, Failure):
        return Embedded(reply, keys)
    if reply.vectors is None or len(reply.vectors) != len(texts):
        return Embedded(Failure("unparsable", "the reply has not one vector for each text"), keys, reply.usage)
    return Embedded(reply.vectors.array.astype(np.float64), keys, reply.usage)


async def _once(client: Client, variant: Variant, question: Question, request: Request) -> tuple[Asked, Reply | None]:
    reply, keys = await ask_once(client, request)
    if isinstance(reply, Failure):
        return Asked(reply, keys, Usage()), None
    return Asked(_read(client, variant, question, reply), keys, reply.usage), reply


def _read(client: Client, variant: Variant, question: Question, reply: Reply) -> Answer | Failure:
    if reply.finish == "refusal":
        return Failure("refused", "the provider ended the reply as a refusal")
    try:
        answer = variant.parse(question, reply.text, reply.logprobs, rules=client.capabilities.model_free)
    except MissingLogprobs as error:
        # they are there and are none: nobody looked at them before
        return Failure("unparsable", error.message)
    if reply.finish == "length" and isinstance(answer, Texts):
        # its last line may be cut off
        answer = variant.parse(question, reply.text.rpartition("\n")[0], reply.logprobs)
    if reply.finish == "length" and isinstance(answer, Explanation | Failure):
        return Failure("truncated", f"the reply was cut off at the limit of {variant.max_tokens} tokens")
    return answer


def _correct(messages: tuple[Message, ...], reply: Reply, failure: Failure, reminder: str) -> tuple[Message, ...]:
    """The conversation with the reply and what was wrong with it; providers take no empty turn."""
    words = f"This cannot be read: {failure.message}. {reminder}"
    if reply.text.strip():
        return (*messages, Message("assistant", reply.text), Message("user", words))
    return (*messages[:-1], replace(messages[-1], content=f"{messages[-1].content}\n\n{reminder}"))
