"""Both batch APIs as the fake provider speaks them: validation, looks, results in any order, and what goes wrong."""

from __future__ import annotations

import json
import random
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from harness.testing.protocols import Sent

__all__ = ["BatchFault", "BatchFaultKind", "Batches", "Perform"]

BatchFaultKind = Literal[
    "cancelled", "duplicates", "errors", "expired", "invalid", "missing", "reset", "token_limit", "unlisted"
]

_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_MOST = {"openai": 50_000, "anthropic": 100_000}
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    404: "not_found_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_EXPIRED = "This request could not be executed before the completion window expired."


@dataclass(frozen=True, slots=True)
class BatchFault:
    """What goes wrong with one batch, or with a `share` of its requests, chosen by chance with a seed.

    `invalid` fails validation, and `token_limit` does for what the account has waiting already (OpenAI; Anthropic
    answers 400 and 429). Of `expired` and `cancelled` ones a share is never done, and in `errors` a share fails on the
    provider's side; neither is billed. The results of `duplicates` have a share twice, those of `missing` lack one.
    With `reset` the batch is made, and the connection broken before the reply; with `unlisted` it is in no list, too.
    """

    kind: BatchFaultKind
    share: float = 0.5


@dataclass(slots=True)
class _Batch:
    id: str
    number: int
    endpoint: str
    created: float
    fault: BatchFault | None
    requests: int
    metadata: Mapping[str, Any] | None = None
    input_file: str = ""
    looks: int = 0
    lines: list[dict[str, Any]] = field(default_factory=list)
    wrong: dict[str, Any] | None = None

    @property
    def end(self) -> str:
        """How it ends, in OpenAI's words."""
        kind = None if self.fault is None else self.fault.kind
        return kind if kind in ("expired", "cancelled") else "completed"

    def counts(self, what: Callable[[dict[str, Any]], str]) -> dict[str, int]:
        """How many requests ended in each way; a request that has two lines counts once."""
        found: dict[str, int] = {}
        for line in {line["custom_id"]: line for line in self.lines}.values():
            found[what(line)] = found.get(what(line), 0) + 1
        return found


class Perform(Protocol):
    """Answers a request of a batch, to a path with the caller's key; a `failing` one meets an error."""

    def __call__(self, path: str, body: Mapping[str, Any], key: str, batch: str, *, failing: bool) -> Sent: ...


class Batches:
    """The batches of one server; a batch ends once it was looked at `looks` times.

    All its requests are performed when it is made: nothing here takes time.
    """

    def __init__(self, perform: Perform, faults: Iterable[BatchFault | None] = (), looks: int = 0) -> None:
        self.made: list[_Batch] = []
        self.looks = looks
        self._perform = perform
        self._faults = deque(faults)
        self._files: dict[str, bytes] = {}

    def fail(self, *faults: BatchFault | BatchFaultKind | None) -> None:
        """Let the next batches go wrong, one fault each; None lets one pass."""
        self._faults.extend(BatchFault(fault) if isinstance(fault, str) else fault for fault in faults)

    def answer(self, method: str, path: str, query: Mapping[str, str], content: bytes, key: str) -> Sent | None:
        """The response to a request, None where the path is no batch API's; a `reset` one has the status 0."""
        parts = path.strip("/").split("/")
        match method, parts:
            case "POST", ["v1", "batches"]:
                return self._create_openai(json.loads(content), key)
            case "GET", ["v1", "batches"]:
                return self._page(self._listed("openai", self._openai), query, "after")
            case "GET", ["v1", "batches", batch]:
                return self._seen(batch, self._openai)
            case "GET", ["v1", "files", file, "content"]:
                return Sent(200, {}, text=self._files[file].decode()) if file in self._files else _missing(file)
            case "POST", ["v1", "messages", "batches"]:
                return self._create_anthropic(json.loads(content), key)
            case "GET", ["v1", "messages", "batches"]:
                return self._page(self._listed("anthropic", self._anthropic), query, "after_id")
            case "GET", ["v1", "messages", "batches", batch]:
                return self._seen(batch, self._anthropic)
            case "GET", ["v1", "messages", "batches", batch, "results"]:
                return self._results(batch)
        return None

    def upload(self, parts: Mapping[str, bytes]) -> Sent:
        """Take a file's multipart form."""
        if parts.get("purpose") != b"batch" or "file" not in parts:
            return _wrong("A file for a batch has the purpose batch.")
        file = self._keep(parts["file"])
        return Sent(200, {"id": file, "object": "file", "purpose": "batch", "bytes": len(parts["file"])})

    # OpenAI's

    def _create_openai(self, body: Mapping[str, Any], key: str) -> Sent:
        file, endpoint = body.get("input_file_id"), str(body.get("endpoint"))
        if file not in self._files:
            return _wrong(f"No such File object: {file}")
        if body.get("completion_window") != "24h":
            return _wrong("Invalid value for completion_window: has to be 24h.")
        lines = self._files[file].splitlines()
        batch = self._begin(endpoint, len(lines), "batch")
        batch.metadata, batch.input_file = body.get("metadata"), str(file)
        wanted, batch.wrong = _validated(lines, endpoint)
        kind = None if batch.fault is None else batch.fault.kind
        if kind == "invalid":
            batch.wrong = {"code": "invalid_request", "line": 1, "message": "The model does not exist."}
        if kind == "token_limit":
            told = "Enqueued token limit reached. Please try again once some in_progress batches have been completed."
            batch.wrong = {"code": "token_limit_exceeded", "line": None, "message": told}
        if batch.wrong is None:
            self._run(batch, [(each["custom_id"], each["body"]) for each in wanted], key)
        return self._taken(batch, self._openai(batch, first=True))

    def _openai(self, batch: _Batch, *, first: bool = False) -> dict[str, Any]:
        status = "validating" if first else self._state(batch, batch.end, "in_progress")
        if batch.wrong is not None and not first:
            status = "failed"
        ended = status == batch.end
        counts = batch.counts(lambda line: "failed" if line["status"] != 200 else "completed")
        total = {"total": batch.requests, "completed": 0, "failed": 0}
        data: dict[str, Any] = {
            "id": batch.id,
            "object": "batch",
            "endpoint": batch.endpoint,
            "input_file_id": batch.input_file,
            "completion_window": "24h",
            "status": status,
            "created_at": int(batch.created),
            "metadata": batch.metadata,
            "errors": {"object": "list", "data": [batch.wrong]} if status == "failed" else None,
            "output_file_id": None,
            "error_file_id": None,
            "request_counts": None if status == "failed" else total | (counts if ended else {}),
        }
        if ended:
            for name, good in (("output_file_id", True), ("error_file_id", False)):
                lines = [_openai_line(line, batch.end) for line in batch.lines if (line["status"] == 200) == good]
                if lines:
                    data[name] = self._keep(_jsonl(lines), f"file-{batch.id}-{name}")
        return data

    # Anthropic's

    def _create_anthropic(self, body: Mapping[str, Any], key: str) -> Sent:
        wanted = body.get("requests")
        if not isinstance(wanted, list) or not wanted or len(wanted) > _MOST["anthropic"]:
            return _wrong("requests: has to be a list of 1 to 100,000 requests")
        ids = [each.get("custom_id") for each in wanted]
        if len(set(ids)) != len(ids) or not all(isinstance(each, str) and _CUSTOM_ID.fullmatch(each) for each in ids):
            return _wrong("requests: each needs a custom_id of its own of 1 to 64 letters, digits, - and _")
        batch = self._begin("/v1/messages", len(wanted), "msgbatch")
        kind = None if batch.fault is None else batch.fault.kind
        if kind in ("invalid", "token_limit"):
            self.made.remove(batch)
            return _wrong("requests: the model does not exist") if kind == "invalid" else _crowded()
        self._run(batch, [(each["custom_id"], each["params"]) for each in wanted], key)
        return self._taken(batch, self._anthropic(batch))

    def _anthropic(self, batch: _Batch) -> dict[str, Any]:
        status = self._state(batch, "ended", "in_progress")
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        if status == "ended":
            counts |= batch.counts(lambda line: _anthropic_line(line, batch.end)["result"]["type"])
            counts["succeeded"] += batch.requests - sum(counts.values())
        else:
            counts["processing"] = batch.requests
        created = datetime.fromtimestamp(batch.created, UTC).isoformat()
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": status,
            "request_counts": counts,
            "created_at": created,
            "results_url": f"/v1/messages/batches/{batch.id}/results" if status == "ended" else None,
        }

    def _results(self, name: str) -> Sent:
        found = next((batch for batch in self.made if batch.id == name), None)
        if found is None or self._state(found, "ended", "in_progress") != "ended":
            return _missing(name)
        return Sent(200, {}, text=_jsonl([_anthropic_line(line, found.end) for line in found.lines]).decode())

    # both

    def _begin(self, endpoint: str, requests: int, prefix: str) -> _Batch:
        fault = self._faults.popleft() if self._faults else None
        number = len(self.made)
        batch = _Batch(f"{prefix}_{number}", number, endpoint, time.time(), fault, requests, looks=self.looks)
        self.made.append(batch)
        return batch

    def _run(self, batch: _Batch, wanted: Sequence[tuple[str, Mapping[str, Any]]], key: str) -> None:
        chance = random.Random(batch.number)
        fault = batch.fault
        for custom_id, body in wanted:
            hit = fault is not None and chance.random() < fault.share
            kind = fault.kind if fault is not None and hit else None
            if kind in ("expired", "cancelled"):
                batch.lines.append({"custom_id": custom_id, "status": 0, "data": {}})
                continue
            sent = self._perform(batch.endpoint, body, key, batch.id, failing=kind == "errors")
            line = {"custom_id": custom_id, "status": sent.status, "data": sent.data}
            batch.lines += {"missing": [], "duplicates": [line, line]}.get(kind or "", [line])
        chance.shuffle(batch.lines)

    def _taken(self, batch: _Batch, data: dict[str, Any]) -> Sent:
        cut = batch.fault is not None and batch.fault.kind in ("reset", "unlisted")
        return Sent(0 if cut else 200, data)

    def _state(self, batch: _Batch, ended: str, running: str) -> str:
        return running if batch.looks > 0 else ended

    def _seen(self, name: str, shown: Callable[[_Batch], dict[str, Any]]) -> Sent:
        """A look at one batch."""
        found = next((batch for batch in self.made if batch.id == name), None)
        if found is None:
            return _missing(name)
        data = shown(found)
        found.looks -= 1
        return Sent(200, data)

    def _listed(self, whose: str, shown: Callable[[_Batch], dict[str, Any]]) -> list[dict[str, Any]]:
        """A look at all batches of a provider, the newest first."""
        own = [batch for batch in self.made if (batch.endpoint == "/v1/messages") == (whose == "anthropic")]
        found = [batch for batch in reversed(own) if batch.fault is None or batch.fault.kind != "unlisted"]
        data = [shown(batch) for batch in found]
        for batch in found:
            batch.looks -= 1
        return data

    def _page(self, items: list[dict[str, Any]], query: Mapping[str, str], cursor: str) -> Sent:
        start = next((at + 1 for at, item in enumerate(items) if item["id"] == query.get(cursor)), 0)
        limit = int(query.get("limit", "20"))
        page = items[start : start + limit]
        ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
        return Sent(200, {"object": "list", "data": page, "has_more": len(items) > start + limit, **ends})

    def _keep(self, content: bytes, name: str | None = None) -> str:
        name = name or f"file-{len(self._files)}"
        self._files[name] = content
        return name


def _validated(lines: Sequence[bytes], endpoint: str) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The requests of a file, and what is wrong with the first bad line."""
    found: list[dict[str, Any]] = []
    known: set[str] = set()
    if not 0 < len(lines) <= _MOST["openai"]:
        return [], {"code": "too_many_requests", "line": None, "message": "A batch has 1 to 50,000 requests."}
    for number, line in enumerate(lines, 1):
        try:
            each = json.loads(line)
            custom_id, url, method = each["custom_id"], each["url"], each["method"]
            each["body"]["model"]
        except (ValueError, KeyError, TypeError):
            return [], {"code": "invalid_json_line", "line": number, "message": "This line is not parseable."}
        if custom_id in known:
            return [], {"code": "duplicate_custom_id", "line": number, "message": f"{custom_id} is there twice."}
        if url != endpoint or method != "POST":
            return [], {"code": "mismatched_url", "line": number, "message": f"The URL has to be {endpoint}."}
        known.add(custom_id)
        found.append(each)
    return found, None


def _openai_line(line: Mapping[str, Any], end: str) -> dict[str, Any]:
    common = {"id": f"batch_req_{line['custom_id']}", "custom_id": line["custom_id"]}
    if not line["status"]:
        return {**common, "response": None, "error": {"code": f"batch_{end}", "message": _EXPIRED}}
    response = {"status_code": line["status"], "request_id": f"req_{line['custom_id']}", "body": line["data"]}
    return {**common, "response": response, "error": None}


def _anthropic_line(line: Mapping[str, Any], end: str) -> dict[str, Any]:
    if not line["status"]:
        result: dict[str, Any] = {"type": "canceled" if end == "cancelled" else "expired"}
    elif line["status"] == 200:
        result = {"type": "succeeded", "message": line["data"]}
    else:
        # here the type alone tells what the status of a live request does
        error = {**line["data"]["error"], "type": _TYPES.get(line["status"], "api_error")}
        result = {"type": "errored", "error": {**line["data"], "error": error}}
    return {"custom_id": line["custom_id"], "result": result}


def _jsonl(lines: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _wrong(message: str) -> Sent:
    return _error(400, "invalid_request_error", message)


def _missing(name: str) -> Sent:
    return _error(404, "not_found_error", f"There is no {name}.")


def _crowded() -> Sent:
    return _error(429, "rate_limit_error", "Too many requests are waiting in batches.")


def _error(status: int, code: str, message: str) -> Sent:
    return Sent(status, {"type": "error", "error": {"type": code, "code": code, "message": message}})
