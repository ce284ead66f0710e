"""What the providers that go through an official SDK share: settings, address and key, sending, redaction.

The SDKs bring authentication, headers and typed errors; their retries are off, and bodies are built and parsed here,
because the SDKs' own parsing costs many times more (16.9 ms a reply with 220 tokens' logprobs, against 0.5 ms).
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Annotated, Any, Protocol
from urllib.parse import urlsplit

import httpx2
import msgspec
from pydantic import Field, field_validator, model_validator

from harness.clients.batches import BatchAPI
from harness.clients.prices import Price
from harness.clients.protocol import Capabilities, Reply, Request
from harness.clients.providers._errors import Translator
from harness.clients.redact import Redactor, guard_logs, release_logs
from harness.clients.wire import Wire
from harness.errors import BadRequest, ClientError, ContextTooLong, MissingKey, MissingLogprobs, TaskError
from harness.task import Frozen
from harness.values import digest

__all__ = ["Dialect", "Endpoint", "SDKClient", "SDKSettings", "endpoint", "joined", "keyless", "plain"]

# keys of the body that this package decides, or that would change the shape of the reply
_RESERVED = ("echo", "input", "messages", "model", "n", "prompt", "stream", "system")
# of English a token is some 4 or 5 bytes: a text has hardly ever fewer tokens than this tells
_BYTES_A_TOKEN = 6
# what tells the SDKs that a body is a form
_FORM = {"headers": {"content-type": "multipart/form-data"}}
# while clients are made that send nothing
_KEYLESS: ContextVar[bool] = ContextVar("_KEYLESS", default=False)


class SDKSettings(Frozen):
    """The `[model."provider/name"]` table.

    `base_url` is the server's address; `key_variable` the environment variable that holds the key; `requests` how many
    may be under way at once; `timeout` in seconds, between two reads of a reply; `extra` is merged into the body of
    every request and wins over what is there. `logprobs` and `temperature` say whether the model gives the one and
    takes the other where that is not known of it, and `context` how many tokens it takes. `price` is in dollars per
    million tokens; `requests_per_minute` and `tokens_per_minute` are limits to keep where the provider tells of none.
    With `batch` a run's requests go through the provider's batch API, at half the price.
    """

    base_url: str | None = None
    key_variable: str | None = None
    requests: Annotated[int, Field(ge=1)] | None = None
    timeout: Annotated[float, Field(gt=0)] = 600.0
    extra: dict[str, Any] = Field(default_factory=dict)
    logprobs: bool | None = None
    temperature: bool | None = None
    context: Annotated[int, Field(ge=1)] | None = None
    price: Price | None = None
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    tokens_per_minute: Annotated[float, Field(gt=0)] | None = None
    batch: bool = False

    @model_validator(mode="before")
    @classmethod
    def _no_key(cls, data: Any) -> Any:
        # a task file is copied into the run directory, where a key would stay for all to read
        if isinstance(data, Mapping) and (found := {"api_key", "key", "token", "auth_token"} & set(data)):
            raise ValueError(f"{min(found)}: a key is never written in a task; set its environment variable instead")
        return data

    @field_validator("extra")
    @classmethod
    def _sendable(cls, extra: dict[str, Any]) -> dict[str, Any]:
        for key in _RESERVED:
            if key in extra:
                raise ValueError(f"{key} cannot be set here")
        try:
            json.dumps(extra, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("holds a value that JSON cannot") from None
        return extra


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go and the key they carry; the key is in no representation of it."""

    base_url: str
    key: str

    def __repr__(self) -> str:
        return f"Endpoint({self.base_url!r})"

    @property
    def account(self) -> str:
        """What requests of one address and key have in common, without telling the key."""
        return digest([self.base_url, self.key])[:16]


class Dialect(Protocol):
    """How a protocol writes a request and reads a reply; pure.

    `path` follows the base URL, `model` is the provider's name of the model.
    """

    @property
    def path(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def capabilities(self) -> Capabilities: ...

    def body(self, request: Request) -> dict[str, Any]:
        """The JSON body; equal requests give equal bodies with their keys in the same order.

        Raises:
            MissingLogprobs: logprobs are asked for and the model gives none.
        """
        ...

    def decode(self, content: bytes) -> Mapping[str, Any]:
        """A body's JSON, no more of it than `reply` needs.

        Raises:
            ValueError: it is no JSON, or no JSON that can be a reply.
        """
        ...

    def reply(self, data: Mapping[str, Any], request: Request) -> Reply:
        """The reply in what `decode` gave.

        Raises:
            MissingLogprobs: it lacks the logprobs that were asked for.
            KeyError, TypeError, ValueError, IndexError, AttributeError: it is no reply.
        """
        ...


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


@contextmanager
def keyless() -> Iterator[None]:
    """While in it, clients are made without keys: they tell what they would send, and could not send it."""
    token = _KEYLESS.set(True)
    try:
        yield
    finally:
        _KEYLESS.reset(token)


def endpoint(
    settings: SDKSettings, name: str, base_url: str | None, key_variable: str, *, required: bool = True
) -> Endpoint:
    """The address and key of a model: `base_url` is where it is unless the settings say otherwise.

    A server on this machine needs no key, and others do where one is `required` or the settings name its variable.

    Raises:
        MissingKey: the environment variable is not set, or holds what cannot be a key.
        TaskError: there is no address, or a wrong one.
    """
    url = settings.base_url or base_url
    if url is None:
        raise TaskError(f'[model."{name}"]: base_url: is missing')
    url = _checked(url, name)
    variable = settings.key_variable or key_variable
    key = os.environ.get(variable, "").strip()
    if not key:
        needed = required or settings.key_variable is not None
        if needed and not _local(url) and not _KEYLESS.get():
            raise MissingKey(f'model "{name}" needs an API key: set the environment variable {variable}')
        key = "none"
    if not key.isascii() or not key.isprintable() or " " in key:
        raise MissingKey(f"{variable} holds characters that no API key has (blanks, line breaks or non-ASCII ones)")
    return Endpoint(url, key)


def plain(text: str) -> str:
    """The text with U+FFFD for lone surrogates (half a character of a token), which UTF-8 cannot carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def joined(parts: Sequence[Any]) -> str:
    """The text of a message's parts."""
    return "".join(part["text"] for part in parts if isinstance(part, Mapping) and part.get("type") == "text")


def _checked(url: str, name: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TaskError(f'[model."{name}"]: base_url: has to be like https://host/v1, not "{url}"')
    if parts.username or parts.password or parts.query or parts.fragment:
        raise TaskError(f'[model."{name}"]: base_url: has to be an address alone, without user, password or query')
    return url.rstrip("/")


def _local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
