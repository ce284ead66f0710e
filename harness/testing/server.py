"""A provider's server on this machine that speaks OpenAI's chat completions and Anthropic's messages, with faults.

In a test: `async with FakeProvider() as provider: ...` and `provider.url`. In a process of its own, so that a test can
kill the harness and still count what was sent: `python -m harness.testing.server --log FILE`, which writes its address
as the first line of its output.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, get_args

from aiohttp import web

from harness.testing import protocols
from harness.testing.answers import Answer, Answering, by_keywords
from harness.testing.rate import Bucket, Rate, RetryForm, retry_headers
from harness.values import digest, seed_of

__all__ = ["FakeProvider", "Fault", "FaultKind", "Received", "storm"]

FaultKind = Literal[
    "bad_request",
    "content_filter",
    "context",
    "echo_key",
    "echo_key_error",
    "empty",
    "hang",
    "html",
    "longer",
    "malformed",
    "not_found",
    "null_logprobs",
    "overloaded",
    "quota",
    "rate_limit",
    "redirect",
    "refusal",
    "reset",
    "reset_mid_body",
    "server_error",
    "slow",
    "truncated",
    "unauthorized",
    "unavailable",
]


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one request.

    `retry_after` is the header's text as it is sent (`rate_limit`, `unavailable`, `overloaded`), `delay` the seconds
    before a `slow` reply.
    """

    kind: FaultKind
    retry_after: str | None = None
    delay: float = 1.0


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came: its number from 0, how often an equal one came before, and `digest` of its body."""

    number: int
    seen: int
    path: str
    body: Mapping[str, Any]
    digest: str
    key: str


Faults = Callable[[Received], Fault | None] | Iterable[Fault | None]


def storm(share: float, kinds: Iterable[FaultKind], seed: int = 0) -> Callable[[Received], Fault | None]:
    """Faults of the kinds given on a share of requests, by a hash of the body and how often it came before."""
    offered = tuple(kinds)

    def fault(received: Received) -> Fault | None:
        draw = seed_of(seed, received.digest, received.seen)
        return Fault(offered[draw // 1000 % len(offered)], "0.01") if draw % 1000 < share * 1000 else None

    return fault


class FakeProvider:
    """The server; an async context manager.

    `answer` makes the text from messages and body; `faults` says what goes wrong: a function of the request, or one
    item a request until they run out. `delay` is how long each reply takes, in seconds. Requests beyond `rate` are
    answered with 429 at once and meet no other fault. Requests need `key` where it is given. Every request received
    and reply sent is appended to `log` as a line of JSON, without keys.

    `requests` holds what came, `counts` how often each body did (by `values.digest`), `peak` the most under way.
    """

    def __init__(
        self,
        answer: Answering = by_keywords,
        *,
        faults: Faults = (),
        delay: float = 0.0,
        rate: Rate | None = None,
        key: str | None = None,
        log: Path | None = None,
        port: int = 0,
    ) -> None:
        self.requests: list[Received] = []
        self.counts: Counter[str] = Counter()
        self.peak = 0
        self.url = ""
        self._answer = answer
        self._faults = faults if callable(faults) else _in_turn(faults)
        self._queued: deque[Fault] = deque()
        self._delay = delay
        self._rate = rate
        self._bucket = None if rate is None else Bucket(rate)
        self._key = key
        self._port = port
        self._path = log
        self._log: IO[str] | None = None
        self._under_way = 0
        self._closing = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def openai_url(self) -> str:
        """The base URL for OpenAI's clients; Anthropic's take `url`."""
        return f"{self.url}/v1"

    def fail(self, *faults: Fault | FaultKind) -> None:
        """Let the next requests go wrong, one fault each, before any other faults."""
        self._queued.extend(Fault(fault) if isinstance(fault, str) else fault for fault in faults)

    async def __aenter__(self) -> FakeProvider:
        self._log = None if self._path is None else self._path.open("a", encoding="utf-8", buffering=1)
        app = web.Application(client_max_size=1 << 28)
        app.router.add_post("/v1/chat/completions", self._openai)
        app.router.add_post("/v1/messages", self._anthropic)
        app.router.add_get("/v1/models", self._models)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
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

    async def _models(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002 - a handler's shape
        return web.json_response({"object": "list", "data": [{"id": "fake", "object": "model"}]})

    async def _openai(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, protocols.OpenAI())

    async def _anthropic(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, protocols.Anthropic())

    async def _serve(self, request: web.Request, protocol: protocols.Protocol) -> web.StreamResponse:
        received = self._receive(request, json.loads(await request.read()))
        if (refused := self._limited(received, protocol)) is not None:
            self._note(kind="reply", number=received.number, digest=received.digest, status=429, fault="rate")
            return web.json_response(refused.data, status=429, headers=refused.headers)
        fault = self._queued.popleft() if self._queued else self._faults(received)
        self._under_way += 1
        self.peak = max(self.peak, self._under_way)
        try:
            return await self._respond(request, received, protocol, fault)
        finally:
            self._under_way -= 1

    def _receive(self, request: web.Request, body: Mapping[str, Any]) -> Received:
        hashed = digest(body)
        key = request.headers.get("authorization", "").removeprefix("Bearer ") or request.headers.get("x-api-key", "")
        received = Received(len(self.requests), self.counts[hashed], request.path, body, hashed, key)
        self.requests.append(received)
        self.counts[hashed] += 1
        self._note(kind="request", number=received.number, path=request.path, digest=hashed, body=body)
        return received

    def _limited(self, received: Received, protocol: protocols.Protocol) -> protocols.Sent | None:
        """The refusal of a request beyond the rate."""
        if self._rate is None or self._bucket is None:
            return None
        if (wait := self._bucket.take(protocol.wanted(received.body))) <= 0:
            return None
        _, code, message = protocols.ERRORS["rate_limit"]
        sent = protocol.error(429, code, message, f"req_{received.number}")
        sent.headers.update(retry_headers(wait, self._rate.form))
        sent.headers.update(self._rate_headers(protocol))
        return sent

    def _rate_headers(self, protocol: protocols.Protocol) -> dict[str, str]:
        if self._rate is None or self._bucket is None or not self._rate.headers:
            return {}
        return protocol.rate_headers(self._bucket.levels())

    async def _respond(
        self, request: web.Request, received: Received, protocol: protocols.Protocol, fault: Fault | None
    ) -> web.StreamResponse:
        delay = self._delay + (fault.delay if fault is not None and fault.kind == "slow" else 0.0)
        if fault is not None and fault.kind == "hang":
            await self._closing.wait()
        elif delay:
            await asyncio.sleep(delay)
        sent = self._reply(received, protocol, fault)
        sent.headers.update(self._rate_headers(protocol))
        text = sent.text if sent.text is not None else json.dumps(sent.data)
        self._note(
            kind="reply",
            number=received.number,
            digest=received.digest,
            status=sent.status,
            fault=None if fault is None else fault.kind,
            data=None if fault is not None and fault.kind.startswith("echo_key") else sent.data,
        )
        if fault is not None and fault.kind in ("reset", "reset_mid_body"):
            return await self._cut(request, text.encode(), whole=fault.kind == "reset")
        kind = "application/json" if sent.text is None or fault is None or fault.kind != "html" else "text/html"
        return web.Response(text=text, status=sent.status, content_type=kind, headers=sent.headers)

    def _reply(self, received: Received, protocol: protocols.Protocol, fault: Fault | None) -> protocols.Sent:
        request_id = f"req_{received.number}"
        kind = None if fault is None else fault.kind
        if self._key is not None and received.key != self._key:
            kind = "unauthorized"
        if (refusal := protocol.check(received.body)) is not None:
            return protocol.error(400, "invalid_request_error", refusal, request_id)
        if kind is not None and (error := protocols.ERRORS.get(kind)) is not None:
            status, code, message = error
            sent = protocol.error(status, code, message.replace("{key}", received.key), request_id)
            if fault is not None and fault.retry_after is not None:
                sent.headers["retry-after"] = fault.retry_after
            if kind == "echo_key_error":
                sent.headers["x-echo"] = sent.headers[protocol.id_header] = received.key
            return sent
        return self._good(received, protocol, kind, request_id)

    def _good(
        self, received: Received, protocol: protocols.Protocol, kind: FaultKind | None, request_id: str
    ) -> protocols.Sent:
        try:
            answer = self._answer(protocol.messages(received.body), received.body)
        except Exception as error:
            # told to the client as what is not tried again, so that a test with a mistake in it ends soon
            told = f"the answering function failed: {type(error).__name__}: {error}"
            return protocol.error(400, "invalid_request_error", told, request_id)
        answer = protocols.spoiled(answer if isinstance(answer, Answer) else Answer(answer), kind, received.key)
        seed = seed_of(received.digest)
        sent = protocol.reply(received.body, answer, request_id, seed, unbounded=kind == "longer")
        if kind == "null_logprobs":
            sent.data["choices"][0]["logprobs"] = None
        if kind == "echo_key":
            sent.data["model"] = f"model-{received.key}"
            sent.headers["x-echo"] = sent.headers[protocol.id_header] = received.key
        if kind == "malformed":
            sent.text = json.dumps(sent.data)[:-20]
        if kind == "html":
            sent.text = "<html><body><h1>502 Bad Gateway</h1></body></html>"
        return sent

    async def _cut(self, request: web.Request, body: bytes, *, whole: bool) -> web.StreamResponse:
        """Break the connection, before the reply or half-way through its body."""
        response = web.StreamResponse(headers={"content-length": str(len(body)), "content-type": "application/json"})
        if not whole:
            await response.prepare(request)
            await response.write(body[: len(body) // 2])
        if request.transport is not None:
            request.transport.abort()
        return response

    def _note(self, **fields: Any) -> None:
        if self._log is not None:
            self._log.write(json.dumps(fields) + "\n")


def _in_turn(faults: Iterable[Fault | None]) -> Callable[[Received], Fault | None]:
    remaining = iter(faults)
    return lambda _: next(remaining, None)


def _answering(name: str) -> Answering:
    """An answering function by its name here or as `module:function`."""
    module, _, attribute = name.rpartition(":")
    return getattr(importlib.import_module(module or "harness.testing.answers"), attribute)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m harness.testing.server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--log", type=Path, help="a JSONL file that requests and replies are appended to")
    parser.add_argument("--answer", default="by_keywords", help="by_keywords, by_hash or module:function")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that every reply takes")
    parser.add_argument("--rate", type=float, help="requests a second, beyond which 429 is answered")
    parser.add_argument("--burst", type=float, default=1.0, help="requests that are taken at once after a pause")
    parser.add_argument("--token-rate", type=float, help="tokens a second, of prompts and max_tokens")
    parser.add_argument("--token-burst", type=float, help="tokens at once after a pause; else a minute's worth")
    parser.add_argument("--retry-after", default="seconds", choices=get_args(RetryForm), help="how a wait is written")
    parser.add_argument("--rate-headers", action="store_true", help="tell the limits with every reply")
    parser.add_argument("--key", help="the only API key that is accepted")
    parser.add_argument("--fault", action="append", choices=get_args(FaultKind), help="repeat for several kinds")
    parser.add_argument("--share", type=float, default=0.1, help="of requests that meet a fault")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input closes")
    return parser


def _rate(arguments: argparse.Namespace) -> Rate | None:
    if arguments.rate is None:
        return None
    return Rate(
        arguments.rate,
        arguments.burst,
        arguments.retry_after,
        arguments.rate_headers,
        arguments.token_rate,
        arguments.token_burst,
    )


async def _main(arguments: argparse.Namespace) -> None:
    faults = storm(arguments.share, arguments.fault) if arguments.fault else ()
    provider = FakeProvider(
        _answering(arguments.answer),
        faults=faults,
        delay=arguments.delay,
        rate=_rate(arguments),
        key=arguments.key,
        log=arguments.log,
        port=arguments.port,
    )
    async with provider:
        sys.stdout.write(provider.url + "\n")
        sys.stdout.flush()
        if arguments.until_eof:
            await asyncio.to_thread(sys.stdin.read)
        else:
            await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(_main(_parser().parse_args()))
    except KeyboardInterrupt:
        sys.exit(130)
