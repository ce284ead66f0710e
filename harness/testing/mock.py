"""A client that answers what it is told, for tests without a server."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import asdict

from harness.clients.protocol import Capabilities, Reply, Request
from harness.clients.wire import Wire
from harness.errors import BadRequest
from harness.values import Usage

__all__ = ["MockClient", "Output"]

Output = str | Reply | Exception


class MockClient:
    """Answers every request with the same output, with the next of several, or with what a function makes of it.

    An exception among the outputs is raised. `requests` holds what was asked, in order.
    """

    def __init__(
        self,
        output: Output | Iterable[Output] | Callable[[Request], Output | Awaitable[Output]] = "ok",
        *,
        name: str = "mock/model",
        capabilities: Capabilities | None = None,
    ) -> None:
        self.name = name
        self.capabilities = capabilities or Capabilities(logprobs=True, seed=True)
        self.requests: list[Request] = []
        self.closed = False
        self._make = _maker(output)

    def wire(self, request: Request) -> Wire:
        """All of the request but its sample number; of a typed question its hash."""
        question = None if request.question is None else request.question.digest()
        body = {
            "messages": [asdict(message) for message in request.messages],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_logprobs": request.top_logprobs,
            "seed": request.seed,
            "stop": list(request.stop),
            "continuation": request.continuation,
            "tools": [asdict(tool) for tool in request.tools],
            "texts": request.texts,
        }
        return Wire.of({"model": self.name, "body": body, "question": question})

    async def generate(self, request: Request) -> Reply:
        """The next output.

        Raises:
            BadRequest: there are no outputs left.
        """
        self.requests.append(request)
        made = self._make(request)
        output = await made if inspect.isawaitable(made) else made
        if isinstance(output, Exception):
            raise output
        if isinstance(output, Reply):
            return output
        return Reply(output, "stop", Usage(input=1, output=1, requests=1), model=self.name)

    async def aclose(self) -> None:
        """Note that it was closed."""
        self.closed = True


def _maker(
    output: Output | Iterable[Output] | Callable[[Request], Output | Awaitable[Output]],
) -> Callable[[Request], Output | Awaitable[Output]]:
    if isinstance(output, str | Reply | Exception):
        return lambda _: output
    if callable(output):
        return output
    outputs: Iterator[Output] = iter(output)
    return lambda _: next(outputs, BadRequest("the mock client has no outputs left"))
