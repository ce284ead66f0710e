"""Recorded replies in place of a model: out of a run's journal and out of JSON lines."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from harness.clients import Client, MemoryKeeper, Reply, Request, assemble, connect
from harness.clients.serialise import reply_to_data
from harness.errors import PermanentError, TaskError, UnknownKind
from harness.runs.journal import Journal
from harness.testing import FakeProvider

pytestmark = pytest.mark.anyio

Ask = Callable[..., Request]
NAME = "openai/gpt-4.1"


async def record(folder: Path, requests: list[Request], **settings: object) -> dict[str, Reply]:
    """What the fake provider answers, kept in a journal and beside it in JSON lines; replies by the requests' keys."""
    replies: dict[str, Reply] = {}
    async with FakeProvider(lambda messages, body: f"{len(messages[0]['content'])}") as provider:
        client = connect(NAME, {"base_url": provider.openai_url})
        # recorded as if from OpenAI's own address
        public = connect(NAME, settings)
        async with Journal(folder / "journal.sqlite") as journal:
            for request in requests:
                wire = public.wire(request)
                key = wire.key(request.sample)
                replies[key] = replace(await client.generate(request), request_id="r")
                await journal.keep(key, wire, replies[key])
        await client.aclose()
        await public.aclose()
    lines = [json.dumps({"key": key, "reply": reply_to_data(reply)}) for key, reply in replies.items()]
    (folder / "replies.jsonl").write_text("\n".join(lines) + "\n")
    return replies


@pytest.fixture(params=["", "journal.sqlite", "replies.jsonl"])
def recording(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / request.param


def replay(recording: Path, **settings: object) -> Client:
    return connect(f"replay/{recording}", {"model": NAME, **settings})


async def test_recorded_replies_are_given_without_a_key_and_cost_nothing(
    recording: Path, tmp_path: Path, keys: None, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    requests = [ask("a", top_logprobs=3), ask("bb"), ask("bb", sample=1)]
    replies = await record(tmp_path, requests)
    monkeypatch.delenv("OPENAI_API_KEY")
    client = replay(recording)
    for request, expected in zip(requests, replies.values(), strict=True):
        found = await client.generate(request)
        assert found == replace(expected, usage=replace(expected.usage, cost=0.0))
        assert found.usage.input
    assert client.capabilities.logprobs
    await client.aclose()


async def test_what_was_not_recorded_is_told(recording: Path, tmp_path: Path, keys: None, ask: Ask) -> None:
    await record(tmp_path, [ask("a")])
    client = replay(recording)
    for other in (ask("b"), ask("a", sample=1), ask("a", max_tokens=51)):
        with pytest.raises(PermanentError, match=r"was not recorded; is openai/gpt-4\.1, with its settings"):
            await client.generate(other)
    await client.aclose()


async def test_a_request_is_known_by_the_recorded_models_settings(tmp_path: Path, keys: None, ask: Ask) -> None:
    settings = {"extra": {"service_tier": "flex"}, "base_url": "https://eu.example.org/v1"}
    await record(tmp_path, [ask("a")], **settings)
    bare, same = replay(tmp_path), replay(tmp_path, settings=settings)
    with pytest.raises(PermanentError):
        await bare.generate(ask("a"))
    assert (await same.generate(ask("a"))).text == "1"
    for client in (bare, same):
        await client.aclose()


async def test_with_its_layers_a_replay_is_kept_under_the_keys_of_the_recording(
    tmp_path: Path, keys: None, ask: Ask
) -> None:
    replies = await record(tmp_path, [ask("a")])
    keeper = MemoryKeeper()
    client = assemble(replay(tmp_path), keeper)
    await client.generate(ask("a"))
    assert set(keeper.replies) == set(replies)
    await client.aclose()


async def test_another_recording_has_another_revision(recording: Path, tmp_path: Path, keys: None, ask: Ask) -> None:
    await record(tmp_path, [ask("a")])
    first, same = replay(recording), replay(recording)
    await record(tmp_path, [ask("a"), ask("b")])
    second = replay(recording)
    assert first.capabilities.revision == same.capabilities.revision != second.capabilities.revision
    for client in (first, same, second):
        await client.aclose()


def test_mistakes_name_the_file_and_what_would_be_right(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"there is no recording at .*none; give a run directory or a .jsonl file"):
        replay(tmp_path / "none")
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"key": "00", "reply": {"text": "a", "finish": "stop"}}\n{"key": "01"}\n')
    with pytest.raises(TaskError, match=r'bad.jsonl: line 2 is no JSON of a "key" and a "reply"'):
        replay(bad)
    with closing(sqlite3.connect(tmp_path / "other.sqlite")) as other:
        other.execute("CREATE TABLE t (a)")
    with pytest.raises(TaskError, match=r"other\.sqlite: is no journal of this version"):
        replay(tmp_path / "other.sqlite")
    with pytest.raises(TaskError, match="model: is missing"):
        connect(f"replay/{bad}")
    with pytest.raises(TaskError, match="not a recording"):
        connect(f"replay/{bad}", {"model": "replay/other"})
    (empty := tmp_path / "empty.jsonl").touch()
    with pytest.raises(UnknownKind, match='did you mean "openai"'):
        connect(f"replay/{empty}", {"model": "opena/gpt"})
