"""What comes from outside stays text, and a key stays out of everything."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.load import load
from harness.api import arun
from harness.cli.show import print_results
from harness.errors import RunStopped
from harness.interop.jsonl import export
from harness.testing import Answer, FakeProvider, Fault, Received, by_keywords

pytestmark = pytest.mark.anyio

KEY = "sk-proj-Zk3v9QxT7bLw2RfYc8HdNs5JgPa1MuEo"


def _traces(data: bytes) -> list[bytes]:
    """Forms of the key that are in some bytes, decompressed where they are packed."""
    forms = [KEY.encode(), KEY[:14].encode(), KEY[-14:].encode(), KEY.encode().hex().encode()]
    forms.append(base64.b64encode(KEY.encode())[:20])
    return [form for form in forms if form in data]


def _contents(directory: Path) -> bytes:
    """Every byte under a directory, and every packed value of its journal unpacked."""
    import sqlite3
    import zlib
    from contextlib import closing, suppress

    found = [path.read_bytes() for path in directory.rglob("*") if path.is_file()]
    with closing(sqlite3.connect(directory / "journal.sqlite")) as journal:
        for table in ("replies", "units", "tasks", "arms"):
            for row in journal.execute(f"SELECT * FROM {table}"):
                for value in row:
                    if isinstance(value, bytes):
                        with suppress(zlib.error):  # a hash, and nothing packed
                            found.append(zlib.decompress(value))
                    found.append(str(value).encode("utf-8", "surrogatepass"))
    return b"\n".join(found)


@pytest.mark.parametrize("protocol", ["openai-api/fake", "anthropic"])
async def test_a_key_that_a_server_echoes_is_nowhere(
    write_task: Callable[..., Path],
    point_at: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    protocol: str,
) -> None:
    monkeypatch.setenv("FAKE_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)

    def echo(received: Received) -> Fault | None:
        assert received.key == KEY
        if received.body["model"] == "judge" and received.number % 3 == 2:
            return Fault("bad_request")
        return Fault("echo_key")

    def answer(messages: Any, body: Mapping[str, Any]) -> Any:
        return Answer(f"{KEY} [explanation]: the key {KEY}") if body["model"] == "explainer" else f"{KEY} [1,0]"

    task = write_task(
        explainer=[{"name": "a", "kind": "contexts", "model": f"{protocol}/explainer"}],
        scorer=[{"name": "d", "kind": "detection", "model": f"{protocol}/judge"}],
    )
    async with FakeProvider(answer, faults=echo) as provider:
        point_at(provider)
        run = await arun(task, tmp_path / "run")
        assert provider.requests
    texts = run.explanations()
    assert "[redacted]" in " ".join(texts["text"].dropna())
    print_results(run)
    export(run, tmp_path / "run" / "export")
    for told in (_contents(tmp_path / "run"), caplog.text.encode(), "".join(capsys.readouterr()).encode()):
        assert _traces(told) == []


@pytest.mark.parametrize("protocol", ["openai-api/fake", "anthropic"])
async def test_a_key_in_an_error_is_nowhere(
    write_task: Callable[..., Path],
    point_at: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    protocol: str,
) -> None:
    import traceback

    monkeypatch.setenv("FAKE_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    task = write_task(explainer=[{"name": "a", "kind": "contexts", "model": f"{protocol}/explainer"}])
    async with FakeProvider(faults=lambda _: Fault("echo_key_error")) as provider:
        point_at(provider)
        with pytest.raises(RunStopped, match=r"answered 401: Incorrect API key provided: \[redacted\]") as caught:
            await arun(task, tmp_path / "run")
    told = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert _traces(told.encode()) == []
    assert _traces(caplog.text.encode()) == []
    assert _traces(_contents(tmp_path / "run")) == []


HOSTILE = '<script>alert(1)</script>&lt;<img src=x onerror="alert(2)">'
CONTROL = "\x1b[2J\x1b]0;owned\x07\x1b[31mred\r\x08\u202egnp\u2066\x9b5m"


async def test_markup_and_control_characters_come_out_as_text(
    remote_task: Callable[..., Path],
    point_at: Callable[..., None],
    tmp_path: Path,
    make_store: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [f"w{number}" for number in range(40)]
    words[:3] = [HOSTILE.replace(" ", "_"), CONTROL, "[bold]</script>[/bold]"]
    store = make_store(tmp_path / "store", words=words)

    def answer(messages: Any, body: Mapping[str, Any]) -> Any:
        if body["model"] == "explainer":
            return f"[explanation]: {HOSTILE} {CONTROL} [bold red]marked up[/bold red] [/]"
        return by_keywords(messages, body)

    # a model's reply is cleaned as it is read; a file's text is as it was written
    lines = [json.dumps({"latent": latent, "explanation": f"{HOSTILE} {CONTROL}"}) for latent in range(3)]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))
    task = remote_task(
        store={"path": str(store.path)},
        latents={"ids": [0, 1, 2], "min_examples": 50},
        explainer=[
            {"name": "a", "kind": "contexts", "model": "openai-api/fake/explainer"},
            {"name": "b", "kind": "file", "path": "mine.jsonl"},
        ],
    )
    async with FakeProvider(answer) as provider:
        point_at(provider)
        await arun(task, tmp_path / "run")
    page = (tmp_path / "run" / "report" / "index.html").read_text(encoding="utf-8")
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\x9b]", page)
    screen = io.StringIO()
    monkeypatch.setattr("sys.stdout", screen)
    print_results(load(tmp_path / "run"))
    table = screen.getvalue()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\x9b]", table)
    joined = re.sub(r"[\s│]+", "", table)
    assert "<script>alert(1)</script>" in joined
    # rich's own markup is text as well
    assert "[boldred]markedup[/boldred]" in joined
    assert "␛[2J" in joined
