"""`replay/<file>`: recorded replies, by the requests that they answered; nothing is sent and nothing is paid."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import anyio.lowlevel
from pydantic import BaseModel, Field, field_validator

from harness import clients
from harness.clients.protocol import Capabilities, Client, Reply, Request
from harness.clients.providers._endpoint import keyless
from harness.clients.serialise import reply_from_data, unpack_reply
from harness.clients.wire import Wire
from harness.errors import PermanentError, TaskError, UserError
from harness.task import Frozen
from harness.values import digest

__all__ = ["Recording", "ReplayClient", "ReplayProvider", "ReplaySettings"]


class Recording(Protocol):
    """Replies by the keys of their requests; `revision` tells one recording from another."""

    revision: str

    def get(self, key: str) -> Reply | None:
        """The reply to a request, or None where it was not recorded."""
        ...

    def close(self) -> None:
        """Close files."""
        ...


class ReplaySettings(Frozen):
    """The `[model."replay/file"]` table.

    `model` is the model whose replies were recorded, such as `openai/gpt-5-mini`, and `settings` the table that it had
    then: a request is known by the address and the body that it was sent with.
    """

    model: str
    settings: dict[str, Any] = Field(default_factory=dict)

    @field_validator("model")
    @classmethod
    def _recorded(cls, model: str) -> str:
        if model.startswith("replay/"):
            raise ValueError("has to be the model that was recorded, not a recording")
        return model


class ReplayClient:
    """Gives the recorded replies of another client, whose requests it would send."""

    def __init__(self, name: str, recorded: Client, recording: Recording) -> None:
        self.name = name
        self._recorded = recorded
        self._recording = recording

    @property
    def capabilities(self) -> Capabilities:
        """What the recorded model could do; with another revision for another recording."""
        known = self._recorded.capabilities
        return replace(known, revision=f"{known.revision} {self._recording.revision}".strip())

    def wire(self, request: Request) -> Wire:
        """The request as the recorded client would send it."""
        return self._recorded.wire(request)

    async def generate(self, request: Request) -> Reply:
        """The recorded reply, which costs nothing now.

        Raises:
            PermanentError: this request was not recorded.
        """
        await anyio.lowlevel.checkpoint()
        reply = self._recording.get(self.wire(request).key(request.sample))
        if reply is None:
            raise PermanentError(
                f"this request was not recorded; is {self._recorded.name}, with its settings, what was asked?",
                model=self.name,
            )
        return replace(reply, usage=replace(reply.usage, cost=0.0))

    async def aclose(self) -> None:
        """Close what was opened."""
        self._recording.close()
        await self._recorded.aclose()


class ReplayProvider:
    """Replies out of a run directory, its `journal.sqlite`, or a `.jsonl` file of `{"key": ..., "reply": ...}`."""

    Settings: ClassVar[type[BaseModel]] = ReplaySettings

    @classmethod
    def connect(cls, model: str, settings: BaseModel) -> ReplayClient:
        """A client of the recording at a path; no key is needed.

        Raises:
            UserError: the recording is missing or cannot be read, or the recorded model is not known.
        """
        assert isinstance(settings, ReplaySettings)
        name = f"replay/{model}"
        path = Path(model)
        path = path / "journal.sqlite" if path.is_dir() else path
        if not path.is_file():
            raise TaskError(f'model "{name}": there is no recording at {path}; give a run directory or a .jsonl file')
        recording = _Lines(path) if path.suffix == ".jsonl" else _Journal(path)
        try:
            with keyless():
                recorded = clients.connect(settings.model, settings.settings)
        except UserError:
            recording.close()
            raise
        return ReplayClient(name, recorded, recording)


class _Lines:
    """The recording in a file of JSON lines, read whole; the revision is a hash of its keys."""

    def __init__(self, path: Path) -> None:
        self._replies: dict[str, Mapping[str, Any]] = {}
        text = path.read_bytes().decode("utf-8", "surrogatepass")
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip():
                continue
            try:
                item = json.loads(line)
                self._replies[item["key"]] = item["reply"]
                reply_from_data(item["reply"])
            except (KeyError, TypeError, ValueError) as error:
                raise TaskError(f'{path}: line {number} is no JSON of a "key" and a "reply"') from error
        self.revision = digest(sorted(self._replies))[:16]

    def get(self, key: str) -> Reply | None:
        data = self._replies.get(key)
        return None if data is None else reply_from_data(data)

    def close(self) -> None:
        """Nothing is open."""


class _Journal:
    """The recording in a run's journal, open for reading; the revision is a hash of its keys."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)
        try:
            keys = self._connection.execute("SELECT key FROM replies ORDER BY key").fetchall()
            self._connection.execute("SELECT reply, logprobs FROM replies LIMIT 1")
        except sqlite3.Error as error:
            self.close()
            raise TaskError(f"{path}: is no journal of this version, or cannot be read: {error}") from error
        self.revision = digest([key.hex() for (key,) in keys])[:16]

    def get(self, key: str) -> Reply | None:
        statement = "SELECT reply, logprobs FROM replies WHERE key = ?"
        row = self._connection.execute(statement, [bytes.fromhex(key)]).fetchone()
        return None if row is None else unpack_reply(*row)

    def close(self) -> None:
        self._connection.close()
