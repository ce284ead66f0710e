"""What a client is: the request it takes, the reply it gives, what it declares it can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import BaseModel

from harness.questions.kinds import Question
from harness.questions.messages import Message
from harness.values import TokenLogprob, Usage

__all__ = ["Capabilities", "Client", "FinishReason", "Provider", "Remote", "Reply", "Request"]

FinishReason = Literal["stop", "length", "refusal"]


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model, in the harness' own terms.

    `temperature` None leaves the provider's default. `top_logprobs` None asks for no logprobs. `sample` tells
    repeated draws of one request apart; it is in the key and never on the wire. `question` rides along for
    clients that answer without text; it is never on the wire, and its hash is in their key.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float | None = None
    top_logprobs: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    sample: int = 0
    question: Question | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered. `logprobs` is None where none were asked for.

    `model` is the model's name as the provider returned it.
    """

    text: str
    finish: FinishReason
    usage: Usage
    logprobs: Sequence[TokenLogprob] | None = None
    model: str = ""
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can do, as far as its client knows before asking.

    `context` is in tokens, None where it is not known. `model_free` clients answer without a language model and
    say so in every report; `revision` then tells when their answers change.
    """

    logprobs: bool
    temperature: bool = True
    seed: bool = False
    context: int | None = None
    model_free: bool = False
    revision: str = ""


class Client(Protocol):
    """Answers requests; providers and the layers around them all have this shape.

    `wire` gives what decides the answer and nothing else: URL, path and body, or a hash of the question for
    clients that answer without text; JSON-able, without any key. Equal wires and samples are one request.
    """

    name: str
    capabilities: Capabilities

    def wire(self, request: Request) -> Mapping[str, Any]:
        """The exact request as it would be sent, as JSON-able data without secrets."""
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
    `requests` how many may be under way at once, None for the run's own limit.
    """

    account: str
    model: str
    requests: int | None


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
