"""The client of the providers that go through an official SDK: what is sent, what is read, and what is told of it.

The SDKs bring authentication, headers and typed errors; their retries are off, and bodies are built and parsed here,
because the SDKs' own parsing costs many times more (16.9 ms a reply with 220 tokens' logprobs, against 0.5 ms).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import httpx2
import msgspec

from harness.clients.batches import BatchAPI
from harness.clients.protocol import Capabilities, Reply, Request
from harness.clients.providers._dialect import Dialect, plain
from harness.clients.providers._endpoint import Endpoint
from harness.clients.providers._errors import Translator
from harness.clients.providers._settings import SDKSettings
from harness.clients.redact import Redactor, guard_logs, release_logs
from harness.clients.wire import Wire
from harness.errors import BadRequest, ClientError, ContextTooLong, MissingLogprobs

__all__ = ["Connection", "SDKClient"]

# of English a token is some 4 or 5 bytes: a text has hardly ever fewer tokens than this tells
_BYTES_A_TOKEN = 6
# what tells the SDKs that a body is a form
_FORM = {"headers": {"content-type": "multipart/form-data"}}


class Connection(Protocol):
    """The part of an SDK's client that is used."""

    async def post(
        self, path: str, *, cast_to: Any, content: Any = ..., body: Any = ..., files: Any = ..., options: Any = ...
    ) -> Any:
        """Send a body and give the raw response."""
        ...

    async def get(self, path: str, *, cast_to: Any, options: Any = ...) -> Any:
        """Fetch something and give the raw response."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class SDKClient:
    """Asks one model through an official SDK; `embedding` is how it is asked for vectors, None where it cannot be."""

    def __init__(
        self,
        name: str,
        dialect: Dialect,
        where: Endpoint,
        connection: Connection,
        settings: SDKSettings,
        embedding: Dialect | None = None,
    ) -> None:
        self.name = name
        self.capabilities = dialect.capabilities
        self.account = where.account
        self.model = dialect.model
        self.requests = settings.requests
        self.requests_per_minute = settings.requests_per_minute
        self.tokens_per_minute = settings.tokens_per_minute
        # its requests may also go by batch; whoever makes the client says how
        self.batches: BatchAPI | None = None
        # who is told the headers of every answer
        self.heard: Callable[[Mapping[str, str]], None] | None = None
        self._dialect = dialect
        self._embedding = embedding
        self._base_url = where.base_url
        self._connection = connection
        self._redactor = Redactor(where.key)
        self._translator = Translator(name, where.base_url, self._redactor)
        self._guard = guard_logs(self._redactor)
        # whether a reply had logprobs: then one without is a fault of its own
        self._gave_logprobs = False

    def wire(self, request: Request) -> Wire:
        """Address and body, without the key."""
        if (known := request.wires.get(self)) is None:
            body = msgspec.json.encode(self._body(request))
            known = request.wires[self] = Wire(self._base_url, self._dialect_of(request).path, body)
        return known

    def learn(self, capabilities: Capabilities) -> None:
        """Hold these for known from now on."""
        self.capabilities = capabilities

    async def generate(self, request: Request) -> Reply:
        """Ask once.

        When the first reply that should have logprobs has none, no further one is paid for.

        Raises:
            ClientError: no reply.
        """
        self.check(request)
        outcome = await self._send(request)
        # Raised here and not where the SDK's exception was caught: as its context that one would keep the response,
        # which may hold the key.
        if isinstance(outcome, ClientError):
            raise outcome
        return self._redactor.reply(outcome)

    def check(self, request: Request) -> None:
        """Refuse what cannot be answered, before anything is sent.

        Raises:
            ClientError: the model does not give what is asked for, or the prompt is too long.
        """
        if request.texts is not None:
            if self.capabilities.embeddings is False:
                raise BadRequest("this model gives no embeddings, so nothing was sent", model=self.name)
        elif request.continuation is not None:
            if self.capabilities.prompt_logprobs is False:
                raise self._missing("this model gives no logprobs of a given text, so nothing was sent", request)
        elif request.top_logprobs is not None and self.capabilities.logprobs is False:
            raise self._missing("this model gives no logprobs, so nothing was sent", request)
        self._check_length(request)

    async def call(
        self,
        path: str,
        content: bytes | None = None,
        *,
        params: Mapping[str, str] | None = None,
        form: Mapping[str, Any] | None = None,
    ) -> httpx2.Response:
        """Post something beside the model's own requests, or fetch it where there is none; `path` has no host.

        `form` holds the `body` and the `files` of a multipart form, as the SDK's `post` takes them.

        Raises:
            ClientError: the provider refused, or could not be reached.
        """
        url = self._base_url + path
        options = {"params": params} if params else {}
        try:
            if form is not None:
                return await self._connection.post(url, cast_to=httpx2.Response, options=_FORM, **form)
            if content is not None:
                return await self._connection.post(url, cast_to=httpx2.Response, content=content)
            return await self._connection.get(url, cast_to=httpx2.Response, options=options)
        except Exception as error:  # as in `_send`
            failed = self._translator.raised(error)
        raise failed

    def answered(self, response: httpx2.Response, request: Request) -> Reply | ClientError:
        """What a response to a request says that came by another way than `generate`."""
        if response.status_code >= 400:
            return self._translator.answered(response)
        outcome = self._read(response, request)
        return outcome if isinstance(outcome, ClientError) else self._redactor.reply(outcome)

    def line(self, text: str) -> str:
        """A provider's words as one line of text that holds no key."""
        return self._translator.line(text)

    async def aclose(self) -> None:
        """Close connections."""
        await self._connection.close()
        release_logs(self._guard)

    def _dialect_of(self, request: Request) -> Dialect:
        if request.texts is None:
            return self._dialect
        if self._embedding is None:
            raise BadRequest("this provider gives no embeddings", model=self.name)
        return self._embedding

    def _body(self, request: Request) -> dict[str, Any]:
        try:
            return self._dialect_of(request).body(request)
        except ClientError as error:
            error.model = self.name
            raise

    def _tell(self, response: httpx2.Response | None) -> None:
        if self.heard is not None and response is not None:
            self.heard(response.headers)

    def _check_length(self, request: Request) -> None:
        """Refuse what is surely longer than the model's context; of what may fit the provider decides.

        Raises:
            ContextTooLong: the prompt does not fit.
        """
        if (context := self.capabilities.context) is None:
            return
        if request.texts is None:
            longest = len(self.wire(request).body)
        else:
            longest = max((len(plain(text).encode()) for text in request.texts), default=0)
        least = longest // _BYTES_A_TOKEN + request.max_tokens
        if least > context:
            raise ContextTooLong(
                f"the prompt and its reply take {least:,} tokens or more, and the context has {context:,}; show fewer "
                "or shorter examples",
                model=self.name,
            )

    def _missing(self, what: str, request: Request) -> MissingLogprobs:
        if request.continuation is None:
            hint = f'if this model gives none, set logprobs = false in [model."{self.name}"]'
        else:
            hint = 'vllm/ and local/ models give them, and some servers of completions with echo (api = "completions")'
        return MissingLogprobs(f"{what}; {hint}", model=self.name)

    async def _send(self, request: Request) -> Reply | ClientError:
        wire = self.wire(request)
        try:
            # the whole address, for the SDK takes its time to join two halves
            response = await self._connection.post(wire.url + wire.path, cast_to=httpx2.Response, content=wire.body)
        except Exception as error:  # whatever it is may hold the key, so none passes as it is
            self._tell(getattr(error, "response", None))
            return self._translator.raised(error)
        self._tell(response)
        return self._read(response, request)

    def _read(self, response: httpx2.Response, request: Request) -> Reply | ClientError:
        dialect = self._dialect_of(request)
        try:
            data = dialect.decode(response.content)
        except msgspec.ValidationError:
            return self._translator.unreadable(response, "JSON that is no reply")
        except ValueError:
            return self._translator.unreadable(response, "something that is not JSON")
        if data.get("error"):
            # some gateways tell of an error with a status of 200
            code = data["error"].get("code") if isinstance(data["error"], dict) else None
            return self._translator.answered(response, code if isinstance(code, int) and code >= 400 else 500)
        try:
            reply = dialect.reply(data, request)
        except MissingLogprobs as error:
            if request.continuation is not None:
                self.learn(replace(self.capabilities, prompt_logprobs=self.capabilities.prompt_logprobs or False))
            elif not self._gave_logprobs:
                self.learn(replace(self.capabilities, logprobs=False))
            missing = self._missing(error.message, request)
            missing.billed = True
            return missing
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            return self._translator.unreadable(response, "JSON that is no reply")
        if not self._gave_logprobs and request.top_logprobs is not None:
            self._gave_logprobs = bool(reply.logprobs)
        # the one that a provider's support asks for
        request_id = response.headers.get("x-request-id") or response.headers.get("request-id")
        return replace(reply, request_id=request_id) if request_id else reply
