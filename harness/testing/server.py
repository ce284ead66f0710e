"""A provider's server on this machine that speaks OpenAI's and Anthropic's protocols, with limits, a bill and faults.

In a test: `async with FakeProvider() as provider: ...` and `provider.url`. In a process of its own, so that a test can
kill the harness and still count what was sent: `python -m harness.testing.server --log FILE`, which writes its address
as the first line of its output; its bill is at `/bill`.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from aiohttp import BodyPartReader, web

from harness.testing.answers import Answer, Answering, by_keywords
from harness.testing.anthropic import AnthropicMessages
from harness.testing.batches import Batches, BatchFault
from harness.testing.bill import Bill, Counted, Priced, halved, price_of
from harness.testing.embeddings import Embeddings, spoil_vectors
from harness.testing.faults import ERRORS, Fault, FaultKind, Faults, Received, in_turn, storm
from harness.testing.openai import Chat, Completions
from harness.testing.protocols import Conversation, Protocol, Sent, spoiled, wanted
from harness.testing.rate import Bucket, Rate, retry_headers
from harness.testing.tokens import TOKENS, Tokens
from harness.values import digest, seed_of

__all__ = ["FakeProvider", "Fault", "FaultKind", "Received", "storm"]

Reasoning = Callable[[Conversation, Mapping[str, Any]], int]

_MALFORMED = (AttributeError, KeyError, TypeError, IndexError)


class FakeProvider:
    """The server; an async context manager.

    `answer` makes the text from messages and body; `faults` says what goes wrong: a function of the request, or one
    item a request until they run out. `delay` is how long each reply takes, in seconds. Requests beyond `rate` are
    answered with 429 at once and meet no other fault. Requests need `key` where it is given. Every request received
    and reply sent is appended to `log` as a line of JSON, without keys.

    `tokens` is how text is counted: `characters/4`, `bytes` (more than any real tokeniser makes) or one's own.
    `reasoning` tokens, a number or a function of messages and body, come before each text and count against the limit.
    `prices` are by the models' names, `*` for all others; else a million tokens cost 1 dollar in and 10 out. With
    `canned` the first good reply on each path is sent to all that come there, unread and unlogged: for measurements.

    Batches end once they were looked at `looks` times, cost half, and go wrong as `batch_faults` say, one item a batch;
    `batches.fail` lets the next go wrong.

    `requests` holds what came, those of batches included, `counts` how often each body did (by `values.digest`),
    `peak` the most under way, `statuses` what was sent (by status, or `reset`), and `bill` what all generations
    performed came to, whether or not their replies arrived.
    """

    def __init__(
        self,
        answer: Answering = by_keywords,
        *,
        faults: Faults = (),
        delay: float = 0.0,
        rate: Rate | None = None,
        tokens: str | Tokens = "characters/4",
        reasoning: int | Reasoning = 0,
        prices: Mapping[str, Priced] | None = None,
        canned: bool = False,
        key: str | None = None,
        log: Path | None = None,
        port: int = 0,
        looks: int = 0,
        batch_faults: Iterable[BatchFault | None] = (),
    ) -> None:
        self.requests: list[Received] = []
        self.counts: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.bill = Bill()
        self.peak = 0
        self.url = ""
        self._answer = answer
        self._faults = faults if callable(faults) else in_turn(faults)
        self._queued: deque[Fault] = deque()
        self._delay = delay
        self._rate = rate
        self._bucket = None if rate is None else Bucket(rate)
        self._reasoning = reasoning
        self._prices = dict(prices or {})
        self._canned: dict[str, tuple[bytes, Counted, Priced]] | None = {} if canned else None
        self._key = key
        self._port = port
        self._path = log
        self._log: IO[str] | None = None
        self._under_way = 0
        self._closing = asyncio.Event()
        self._runner: web.ServerRunner | None = None
        self.batches = Batches(self._perform, batch_faults, looks)
        counting = TOKENS[tokens] if isinstance(tokens, str) else tokens
        self._protocols: dict[str, Protocol] = {
            "/v1/chat/completions": Chat(counting),
            "/v1/completions": Completions(counting),
            "/v1/embeddings": Embeddings(counting),
            "/v1/messages": AnthropicMessages(counting),
        }

    @property
    def openai_url(self) -> str:
        """The base URL for OpenAI's clients; Anthropic's take `url`."""
        return f"{self.url}/v1"

    def fail(self, *faults: Fault | FaultKind) -> None:
        """Let the next requests go wrong, one fault each, before any other faults."""
        self._queued.extend(Fault(fault) if isinstance(fault, str) else fault for fault in faults)

    async def __aenter__(self) -> FakeProvider:
        self._log = None if self._path is None else self._path.open("a", encoding="utf-8", buffering=1)
        # without an application around it: its routing and signals cost as much as all else here
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, backlog=4096)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._log is not None:
            self._log.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._under_way += 1
        self.peak = max(self.peak, self._under_way)
        try:
            if request.method == "POST" and (protocol := self._protocols.get(request.path)) is not None:
                # not `request.read`, which takes a megabyte at most
                return await self._serve(request, await request.content.read(), protocol)
            if request.method == "GET" and request.path in ("/bill", "/v1/models"):
                return web.json_response(self._billed() if request.path == "/bill" else self._models())
            if (sent := await self._batched(request)) is not None:
                return self._response(sent) if sent.status else await self._cut(request, sent, begun=False)
            return web.json_response({"error": {"message": f"no {request.method} {request.path} here"}}, status=404)
        finally:
            self._under_way -= 1

    def _billed(self) -> dict[str, Any]:
        return asdict(self.bill) | {"statuses": dict(self.statuses)}

    def _models(self) -> dict[str, Any]:
        """The models that have a price or were asked, in both providers' shape."""
        asked = (str(request.body.get("model")) for request in self.requests)
        names = sorted({*self._prices, *asked} - {"*", "None"}) or ["fake"]
        shape = {"object": "model", "type": "model", "created": 0, "owned_by": "fake"}
        data = [{"id": name, "display_name": name, **shape} for name in names]
        return {"object": "list", "data": data, "has_more": False}

    async def _batched(self, request: web.BaseRequest) -> Sent | None:
        """The response to a request of a batch API; None where it is none."""
        upload = request.method == "POST" and request.path == "/v1/files"
        content = b"" if upload else await request.content.read()
        key = _key_of(request)
        if self._key is not None and key != self._key:
            return _failed("unauthorized", key)
        if self._queued and self._queued[0].kind in ERRORS:
            return _failed(self._queued.popleft().kind, key)
        if upload:
            return self.batches.upload(await _form(request))
        return self.batches.answer(request.method, request.path, request.query, content, key)

    def _perform(self, path: str, body: Mapping[str, Any], key: str, batch: str, *, failing: bool) -> Sent:
        """Answer a request of a batch; `failing` ones meet an error."""
        received = self._received(path, body, key, batch)
        fault = Fault("server_error") if failing else self._faults(received)
        sent = self._reply(received, self._protocols[path], fault)
        self._note_reply(received, sent, None if fault is None else fault.kind)
        return sent

    async def _serve(self, request: web.BaseRequest, raw: bytes, protocol: Protocol) -> web.StreamResponse:
        if self._canned is not None and (canned := self._canned.get(request.path)) is not None:
            return await self._serve_canned(protocol, *canned)
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return self._response(protocol.error(400, "invalid_request_error", "The body is no JSON object.", "req"))
        received = self._receive(request, body)
        if (sent := self._limited(protocol, wanted(body), received.number)) is not None:
            self._note_reply(received, sent, "rate")
            return self._response(sent)
        fault = self._queued.popleft() if self._queued else self._faults(received)
        if self._key is not None and received.key != self._key:
            fault = Fault("unauthorized")
        # made and billed before the wait: nobody who leaves early gets it for nothing
        sent = self._reply(received, protocol, fault)
        return await self._deliver(request, received, protocol, fault, sent)

    async def _serve_canned(
        self, protocol: Protocol, body: bytes, counted: Counted, price: Priced
    ) -> web.StreamResponse:
        if (refused := self._limited(protocol, 0, self.statuses.total())) is not None:
            return self._response(refused)
        self.bill.add(counted, price)
        self.statuses["200"] += 1
        if self._delay:
            await asyncio.sleep(self._delay)
        headers = self._rate_headers(protocol)
        return web.Response(body=body, content_type="application/json", headers=headers)

    def _receive(self, request: web.BaseRequest, body: Mapping[str, Any]) -> Received:
        return self._received(request.path, body, _key_of(request))

    def _received(self, path: str, body: Mapping[str, Any], key: str, batch: str | None = None) -> Received:
        hashed = digest(body)
        received = Received(len(self.requests), self.counts[hashed], path, body, hashed, key, batch)
        self.requests.append(received)
        self.counts[hashed] += 1
        self._note(kind="request", number=received.number, path=path, digest=hashed, body=body)
        return received

    def _limited(self, protocol: Protocol, tokens: int, number: int) -> Sent | None:
        """The refusal of a request beyond the rate."""
        if self._rate is None or self._bucket is None or (wait := self._bucket.take(tokens)) <= 0:
            return None
        _, code, message = ERRORS["rate_limit"]
        sent = protocol.error(429, code, message, f"req_{number}")
        sent.headers.update(retry_headers(wait, self._rate.form))
        sent.headers.update(self._rate_headers(protocol))
        return sent

    def _rate_headers(self, protocol: Protocol) -> dict[str, str]:
        if self._rate is None or self._bucket is None or not self._rate.headers:
            return {}
        return protocol.rate_headers(self._bucket.levels())

    async def _deliver(
        self, request: web.BaseRequest, received: Received, protocol: Protocol, fault: Fault | None, sent: Sent
    ) -> web.StreamResponse:
        kind = None if fault is None else fault.kind
        delay = self._delay + (fault.delay if fault is not None and kind == "slow" else 0.0)
        if kind == "hang":
            await self._closing.wait()
        elif delay:
            await asyncio.sleep(delay)
        sent.headers.update(self._rate_headers(protocol))
        self._note_reply(received, sent, kind)
        if kind in ("hang", "reset", "reset_mid_body"):
            self.statuses["reset"] += 1
            return await self._cut(request, sent, begun=kind == "reset_mid_body")
        return self._response(sent, "text/html" if kind == "html" else "application/json")

    def _reply(self, received: Received, protocol: Protocol, fault: Fault | None) -> Sent:
        request_id = f"req_{received.number}"
        try:
            wrong = protocol.check(received.body)
        except _MALFORMED as error:
            wrong = f"the request is malformed: {type(error).__name__}: {error}"
        if wrong is not None:
            return protocol.error(400, "invalid_request_error", wrong, request_id)
        if fault is not None and fault.kind in ERRORS:
            status, code, message = ERRORS[fault.kind]
            sent = protocol.error(status, code, message.replace("{key}", received.key), request_id)
            sent.headers.update(fault.headers())
            if fault.kind == "echo_key_error":
                sent.headers["x-echo"] = sent.headers[protocol.id_header] = received.key
            return sent
        kind = None if fault is None else fault.kind
        sent = self._generated(received, protocol, kind, request_id)
        if sent.counted is not None:
            self._charge(received, sent, sent.counted)
            _spoil(sent, protocol, kind, received.key)
        return sent

    def _generated(self, received: Received, protocol: Protocol, kind: FaultKind | None, request_id: str) -> Sent:
        try:
            conversations = protocol.conversations(received.body)
            answers = [spoiled(self._answered(each, received.body), kind, received.key) for each in conversations]
            seed = seed_of(received.digest)
            return protocol.reply(received.body, answers, request_id, seed, unbounded=kind == "longer")
        except Exception as error:
            # told to the client as what is not tried again, so that a test with a mistake in it ends soon
            told = f"the answering function failed: {type(error).__name__}: {error}"
            return protocol.error(400, "invalid_request_error", told, request_id)

    def _answered(self, messages: Conversation, body: Mapping[str, Any]) -> Answer:
        answer = self._answer(messages, body)
        answer = answer if isinstance(answer, Answer) else Answer(answer)
        if answer.reasoning is not None:
            return answer
        reasoning = self._reasoning
        return replace(answer, reasoning=reasoning(messages, body) if callable(reasoning) else reasoning)

    def _charge(self, received: Received, sent: Sent, counted: Counted) -> None:
        price = price_of(self._prices, str(received.body.get("model")))
        price = price if received.batch is None else halved(price)
        dollars = self.bill.add(counted, price)
        self._note(kind="bill", number=received.number, digest=received.digest, dollars=dollars, **asdict(counted))
        usage = received.body.get("usage")
        if isinstance(usage, Mapping) and usage.get("include"):
            sent.data["usage"]["cost"] = dollars
            sent.data["provider"] = "Fake"
        if self._canned is not None:
            self._canned[received.path] = (json.dumps(sent.data).encode(), counted, price)

    async def _cut(self, request: web.BaseRequest, sent: Sent, *, begun: bool) -> web.StreamResponse:
        """Break the connection, before the reply or half-way through its body."""
        body = _text(sent).encode()
        response = web.StreamResponse(headers={"content-length": str(len(body)), "content-type": "application/json"})
        if begun:
            await response.prepare(request)
            await response.write(body[: len(body) // 2])
        if request.transport is not None:
            request.transport.abort()
        return response

    def _response(self, sent: Sent, kind: str = "application/json") -> web.Response:
        self.statuses[str(sent.status)] += 1
        return web.Response(text=_text(sent), status=sent.status, content_type=kind, headers=sent.headers)

    def _note_reply(self, received: Received, sent: Sent, fault: str | None) -> None:
        data = None if fault is not None and fault.startswith("echo_key") else sent.data
        number, hashed = received.number, received.digest
        self._note(kind="reply", number=number, digest=hashed, status=sent.status, fault=fault, data=data)

    def _note(self, **fields: Any) -> None:
        if self._log is not None:
            self._log.write(json.dumps(fields) + "\n")


def _key_of(request: web.BaseRequest) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ") or request.headers.get("x-api-key", "")


async def _form(request: web.BaseRequest) -> dict[str, bytes]:
    """The parts of a multipart form by their names."""
    found: dict[str, bytes] = {}
    async for part in await request.multipart():
        if isinstance(part, BodyPartReader) and part.name is not None:
            # not `read`, which takes a megabyte at most
            chunks: list[bytes] = []
            while chunk := await part.read_chunk(1 << 20):
                chunks.append(bytes(chunk))
            found[part.name] = b"".join(chunks)
    return found


def _failed(kind: FaultKind, key: str) -> Sent:
    status, code, message = ERRORS[kind]
    return Sent(
        status, {"type": "error", "error": {"type": code, "code": code, "message": message.replace("{key}", key)}}
    )


def _text(sent: Sent) -> str:
    return sent.text if sent.text is not None else json.dumps(sent.data)


def _spoil(sent: Sent, protocol: Protocol, kind: FaultKind | None, key: str) -> None:
    """What a fault does to a good reply on its way out."""
    match kind:
        case "null_logprobs":
            protocol.without_logprobs(sent.data)
        case "fewer_vectors" | "narrow_vector" | "nan_vector":
            spoil_vectors(sent.data, kind)
        case "echo_key":
            sent.data["model"] = f"model-{key}"
            sent.headers["x-echo"] = sent.headers[protocol.id_header] = key
        case "malformed":
            sent.text = json.dumps(sent.data)[:-20]
        case "html":
            sent.text = "<html><body><h1>502 Bad Gateway</h1></body></html>"


if __name__ == "__main__":
    from harness.testing.command import main

    main()
