"""`harness models`: what a model's name stands for, what it can do and costs; `--ping` asks it once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from harness.clients.protocol import Capabilities, Client, Reply

__all__ = ["models"]

_ABILITIES = ("logprobs", "prompt_logprobs", "tools", "embeddings", "temperature", "seed")
_ANSWERS = {True: "yes", False: "no", None: "only asking tells"}


def models(
    name: Annotated[str | None, typer.Argument(help="A model such as openai/gpt-5-mini; none: all providers.")] = None,
    task: Annotated[str | None, typer.Option(help="Take the model's settings from this task.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of it.")] = None,
    ping: Annotated[bool, typer.Option("--ping", help="Send one small request.")] = False,
) -> None:
    """Tell what a model's name stands for: address, key, abilities, price; nothing is sent without --ping."""
    import asyncio

    from harness import registry
    from harness.errors import TaskError
    from harness.report.text import visible
    from harness.task import load_task

    if set_ and task is None:
        raise TaskError("--set: overrides the keys of a task; give --task, too")
    if name is None:
        if ping:
            raise TaskError("--ping: needs the name of a model, such as openai/gpt-5-mini")
        lines = [f"{provider}/..." for provider in registry.names("providers")]
    else:
        settings = load_task(task, set_ or []).model.get(name, {}) if task is not None else {}
        lines = asyncio.run(_about(name, settings, ping=ping))
    for line in lines:
        typer.echo(visible(line))


async def _about(name: str, settings: Mapping[str, Any], *, ping: bool) -> list[str]:
    """All there is to tell.

    Raises:
        UserError: there is no such provider, or the settings are wrong.
        RunStopped: a ping was not answered.
    """
    from harness.clients import connect
    from harness.clients.providers._endpoint import keyless
    from harness.errors import MissingKey

    key = None
    try:
        client = connect(name, settings)
    except MissingKey as error:
        if ping:
            raise
        key = str(error)
        with keyless():
            client = connect(name, settings)
    try:
        lines = [name, *_place(client, key), *_abilities(client.capabilities), _price(name, settings, client)]
        return lines + (await _ping(client, name, settings) if ping else [])
    finally:
        await client.aclose()


def _place(client: Client, missing: str | None) -> list[str]:
    """Where requests go."""
    from harness.clients.protocol import Remote, Request
    from harness.errors import ClientError
    from harness.questions.messages import Message

    if client.capabilities.model_free:
        return [_row("answers", "in this process, without a language model")]
    if not isinstance(client, Remote):
        return [_row("answers", "in this process")]
    try:
        asked = Request((), 0, texts=("1",)) if client.capabilities.embeddings else Request((Message("user", "1"),), 1)
        wire = client.wire(asked)
    except ClientError as error:
        return [_row("address", f"none for text: {error}")]
    key = missing or "as the environment has it (a server on this machine needs none)"
    return [_row("address", wire.url + wire.path), _row("model", client.model), _row("key", key)]


def _abilities(known: Capabilities) -> list[str]:
    context = "not known" if known.context is None else f"{known.context:,} tokens"
    return [_row(what.replace("_", " "), _ANSWERS[getattr(known, what)]) for what in _ABILITIES] + [
        _row("context", context)
    ]


def _price(name: str, settings: Mapping[str, Any], client: Client) -> str:
    from harness.clients.prices import VARIABLE, sourced_price

    if client.capabilities.model_free:
        return _row("price", "free")
    found = sourced_price(name, settings)
    if found is None:
        return _row("price", f'not known: give [model."{name}"] price, or a file that {VARIABLE} names')
    price, source = found
    parts = [f"input {price.input:g}", f"output {price.output:g}"]
    parts += [f"cached input {price.cache_read:g}"] if price.cache_read is not None else []
    parts += [f"written to the cache {price.cache_write:g}"] if price.cache_write is not None else []
    more = f"; more beyond {price.above:,} tokens of prompt" if price.above is not None else ""
    return _row("price", f"{', '.join(parts)} dollars per million tokens{more} ({source})")


async def _ping(client: Client, name: str, settings: Mapping[str, Any]) -> list[str]:
    """One small request through every layer, for a vector of an embedder, with logprobs where others may give them."""
    import time

    from harness.clients import MemoryKeeper, assemble, price_of
    from harness.clients.protocol import Request
    from harness.errors import BadRequest, ClientError, MissingLogprobs, RunStopped
    from harness.questions.messages import Message

    if client.capabilities.model_free:
        return [_row("ping", "not sent: it answers the typed questions of a run only")]
    keeper = MemoryKeeper()
    layered = assemble(client, keeper, price=price_of(name, settings))
    words = Message("user", "Answer with the digit 1 and nothing else.")
    began = time.perf_counter()
    try:
        if client.capabilities.embeddings:
            reply = await layered.generate(Request((), 0, texts=("One, two, three.",)))
            return _answered(reply, time.perf_counter() - began, len(keeper.attempts))
        try:
            wanted = None if client.capabilities.logprobs is False else 5
            reply = await layered.generate(Request((words,), 16, top_logprobs=wanted))
        except (BadRequest, MissingLogprobs):
            # a model that knows no logprobs refuses them, or leaves them out
            reply = await layered.generate(Request((words,), 16))
    except ClientError as error:
        raise RunStopped(f"{name} did not answer: {error}") from error
    return _answered(reply, time.perf_counter() - began, len(keeper.attempts))


def _answered(reply: Reply, seconds: float, attempts: int) -> list[str]:
    usage = reply.usage
    prompt = usage.input + usage.cache_read + usage.cache_write
    cost = "of unknown cost" if usage.cost is None else f"{usage.cost:.6f} dollars"
    said = reply.text.strip() or f"(empty: {reply.finish})"
    return [
        _row("reply", said if reply.vectors is None else f"a vector of {reply.vectors.width} numbers"),
        _row("took", f"{seconds:.3f} s, {attempts} {'attempt' if attempts == 1 else 'attempts'}"),
        _row("tokens", f"{prompt:,} in, {usage.output:,} out ({usage.reasoning:,} of them reasoning), {cost}"),
        _row("with logprobs", _ANSWERS[bool(reply.logprobs)]),
        *([_row("answered by", reply.model)] if reply.model else []),
    ]


def _row(what: str, value: str) -> str:
    return f"  {what + ':':<17}{value}"
