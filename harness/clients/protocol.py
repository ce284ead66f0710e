"""What a client is: the request it takes, the reply it gives, what it declares it can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from harness.clients.vectors import Vectors
from harness.clients.wire import Wire
from harness.questions.kinds import Question
from harness.questions.messages import Message, Tool, ToolCall
from harness.values import TokenLogprob, Usage

__all__ = [
    "Capabilities",
    "Client",
    "Counting",
    "Embedder",
    "FinishReason",
    "Learner",
    "Provider",
    "Remote",
    "Reply",
    "Request",
]

FinishReason = Literal["stop", "length", "refusal", "calls"]


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model, in the harness' own terms.

    `temperature` None leaves the provider's default. `top_logprobs` None asks for no logprobs; else they come with so
    many alternatives at each token. `sample` tells repeated draws of one request apart; it is in the key and never on
    the wire. `tools` are what the model may ask to have called. `question` rides along for clients that answer without
    text; it is never on the wire, and its hash is in their key.

    With a `continuation` nothing is generated: the reply's logprobs are those of the tokens of this text where it
    follows the messages (without any messages: of the text by itself), and `max_tokens` is 0. Where messages are plain
    text it follows the last of them at once; a token across the boundary is one of its own.

    With `among` the alternatives at a continuation's tokens are those of these texts alone, blanks around them aside,
    and all of those: a local model can do that, others give their most likely ones all the same.

    With `texts` nothing is generated either: the reply's vectors are the embeddings of these texts, one each in their
    order; there are no messages, and `max_tokens` is 0.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float | None = None
    top_logprobs: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    sample: int = 0
    question: Question | None = None
    continuation: str | None = None
    among: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    texts: tuple[str, ...] | None = None
    # what a client made of this request: several layers need it and making it costs
    wires: dict[Any, Wire] = field(default_factory=dict, init=False, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered. `logprobs` is None where none were asked for.

    Of a `continuation`, `text` is that text and `logprobs` are its tokens'; the logprob of a token before which
    nothing stands is NaN. `calls` are the tool calls that the model wishes for; `thoughts` is what led to them, as JSON
    in the provider's own terms, where it wants that back with their results. `model` is the model's name as the
    provider returned it, `fingerprint` what it tells of the software behind it. `vectors` are those of a request's
    `texts`.
    """

    text: str
    finish: FinishReason
    usage: Usage
    logprobs: Sequence[TokenLogprob] | None = None
    model: str = ""
    request_id: str | None = None
    calls: tuple[ToolCall, ...] = ()
    fingerprint: str | None = None
    vectors: Vectors | None = None
    thoughts: str = ""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can do, as far as its client knows before asking; None where only asking tells.

    `logprobs` are those of generated tokens, with at most `top_logprobs` alternatives; `prompt_logprobs` those of a
    text that is given (`Request.continuation`); `embeddings` are vectors of texts (`Request.texts`). `context` is in
    tokens, None where it is not known. `model_free` clients answer without a language model and say so in every report;
    `revision` then tells when their answers change. Replies of those that are not `kept` cost nothing and are sooner
    had again than read: a run shares them while they are needed, and its journal has none of them.
    """

    logprobs: bool | None
    temperature: bool = True
    seed: bool = False
    context: int | None = None
    model_free: bool = False
    revision: str = ""
    prompt_logprobs: bool | None = False
    tools: bool | None = False
    embeddings: bool | None = False
    top_logprobs: int = 20
    kept: bool = True


class Client(Protocol):
    """Answers requests; providers and the layers around them all have this shape.

    `wire` gives what decides the answer and nothing else: address and body, or a hash of the question for clients that
    answer without text; without any key. Equal wires and samples are one request.
    """

    name: str

    @property
    def capabilities(self) -> Capabilities:
        """What the model can do, as far as is known by now."""
        ...

    def wire(self, request: Request) -> Wire:
        """The exact request as it would be sent, without secrets."""
        ...

    async def generate(self, request: Request) -> Reply:
        """Ask once.

        Raises:
            ClientError: no reply; see `harness.errors` for the kinds.
        """
        ...

    async def aclose(self) -> None:
        """Free connections."""
        ...


@runtime_checkable
class Remote(Client, Protocol):
    """A client that sends requests to an account somewhere: its requests are limited and retried.

    `account` stands for base URL and key without telling the key, `model` is the provider's name of the model, and
    `requests` how many may be under way at once, None for the run's own limit. It may have `requests_per_minute` and
    `tokens_per_minute`, limits to keep, and `heard`, a function that it calls with the headers of every answer.
    """

    account: str
    model: str
    requests: int | None


@runtime_checkable
class Embedder(Protocol):
    """A client whose capabilities say `embeddings`."""

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One vector for each text: `[texts, width]`.

        Raises:
            ClientError: there are none.
        """
        ...


@runtime_checkable
class Learner(Protocol):
    """A client some of whose capabilities are known only once it was asked."""

    def learn(self, capabilities: Capabilities) -> None:
        """Hold these for known from now on."""
        ...


@runtime_checkable
class Counting(Protocol):
    """A client that has its model's tokenizer."""

    def count(self, request: Request) -> int:
        """How many tokens the request's prompt has, with what the model puts around messages."""
        ...


class Provider(Protocol):
    """Makes clients; one class a provider, registered by name.

    `Settings` validates the task's `[model."provider/name"]` table (extra keys forbidden, frozen).
    """

    Settings: ClassVar[type[BaseModel]]

    @classmethod
    def connect(cls, model: str, settings: BaseModel) -> Client:
        """A client for the part of the name after the provider's slash.

        No network; checks keys and addresses.

        Raises:
            MissingKey, MissingDependency, TaskError: the client cannot work as configured.
        """
        ...
