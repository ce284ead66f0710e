"""Before a run starts: whether its models can do what its explainers and scorers want, asked where only that tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import anyio

from harness.clients.models import Models
from harness.clients.protocol import Client, Request
from harness.clients.purpose import Purpose, on_behalf
from harness.clients.wants import Want
from harness.errors import AccountError, BadRequest, ClientError, MissingLogprobs, RunStopped, TaskError
from harness.questions.messages import Message

__all__ = ["check_wants", "lacking", "learn_wants", "probe"]

# room for a model that thinks before it answers; others stop after a token
_TOKENS = 16
_LOGPROBS = Request((Message("user", "Answer with the digit 1 and nothing else."),), _TOKENS, top_logprobs=5)
_PROMPT_LOGPROBS = Request((), 0, top_logprobs=1, continuation="One, two, three.")
_EMBEDDINGS = Request((), 0, texts=("One, two, three.",))
_PROBES = {"logprobs": _LOGPROBS, "prompt_logprobs": _PROMPT_LOGPROBS, "embeddings": _EMBEDDINGS}


async def probe(models: Models, wants: Sequence[Want]) -> None:
    """Ask each model once for what is wanted of it and only asking tells; the models know it from then on.

    Replies are kept like any others, so that a run that is resumed does not ask again.

    Raises:
        ClientError: a model cannot be asked at all.
    """
    errors: list[ClientError] = []

    async def learn(model: str, what: str) -> None:
        try:
            found = what not in _PROBES or await _answers(models.client(model), _PROBES[what])
            models.learn(model, replace(models.client(model).capabilities, **{what: found}))
        except ClientError as error:
            errors.append(error)

    with on_behalf(Purpose("probe")):
        async with anyio.create_task_group() as group:
            for want in sorted({(want.model, want.what) for want in wants if _known(models, want) is None}):
                group.start_soon(learn, *want)
    if errors:
        raise errors[0]


async def learn_wants(models: Models, wants: Sequence[Want], note: Callable[[str], None], source: str = "") -> None:
    """Ask what only asking tells, then tell what models lack, as `check_wants`.

    Raises:
        TaskError: a model lacks what is needed of it.
        RunStopped: a model does not answer.
    """
    try:
        await probe(models, wants)
    except ClientError as error:
        raise RunStopped(f"asked once before the run starts, {error.model} did not answer: {error.message}") from error
    check_wants(models, wants, note, source)


def check_wants(models: Models, wants: Sequence[Want], note: Callable[[str], None], source: str = "") -> None:
    """Tell what models lack: a note for what is only wished for.

    Raises:
        TaskError: a model lacks what is needed of it.
    """
    for want in wants:
        if _known(models, want) is not False:
            continue
        if want.needed:
            raise TaskError(f"{source}: {lacking(want)}; {want.cure}" if source else f"{lacking(want)}; {want.cure}")
        note(f"{lacking(want)}: {want.without}")


def lacking(want: Want) -> str:
    """That a model lacks what is wanted, in words."""
    words = {
        "logprobs": "no logprobs",
        "prompt_logprobs": "no logprobs of prompts",
        "tools": "no tool calls",
        "embeddings": "no embeddings",
    }
    return f"{want.by}: {want.model} gives {words[want.what]}"


def _known(models: Models, want: Want) -> bool | None:
    return getattr(models.client(want.model).capabilities, want.what)


async def _answers(client: Client, request: Request) -> bool:
    """Whether a model answers a probe with logprobs or vectors; those that know none refuse it, or leave them out."""
    try:
        reply = await client.generate(request)
    except (MissingLogprobs, BadRequest):
        return False
    except AccountError as error:
        # servers of models that write have no such address
        if request.texts is None or error.status != 404:
            raise
        return False
    return bool(reply.logprobs or reply.vectors)
