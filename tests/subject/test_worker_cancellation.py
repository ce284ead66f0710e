"""Two hundred callers leave the torch worker at random moments; what it does afterwards is bit for bit what it did."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
import torch

from harness.clients import Client, Reply, Request, connect
from harness.questions.messages import Message
from harness.subject.hookpoints import Hookpoint
from harness.subject.models import find_model, load_model
from harness.subject.threads import torch_threads
from harness.subject.tracing import Traced
from harness.subject.worker import Caller, CallerGone, TorchWorker, worker

pytestmark = pytest.mark.anyio

PROMPTS = ["the cat", "the dog sees a", "a bird", "the river keeps the stone. the"]
POINT = Hookpoint("model.layers.1")


@dataclass
class Bench:
    """A worker with a traced model and a language model, and how jobs on it ended."""

    thread: TorchWorker
    traced: Traced
    client: Client
    broken_off: int = 0

    async def trace(self, times: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits under a change and the activations at a hookpoint, worked out so many times."""
        tokens = torch.randint(300, (3, 12), generator=torch.Generator().manual_seed(0))

        def job(caller: Caller) -> tuple[torch.Tensor, torch.Tensor]:
            with torch_threads(1):
                try:
                    for _ in range(times):
                        changed = self.traced.logits(tokens, POINT, lambda hidden: hidden * 0.5)
                        caller.check()
                        found = self.traced.collect(tokens, [POINT])[POINT]
                        caller.check()
                except CallerGone:
                    self.broken_off += 1
                    raise
            return changed, found

        return await self.thread.call(job)

    async def score(self, prompt: str) -> Reply:
        """Logprobs of a continuation."""
        return await self.client.generate(Request((Message("user", prompt),), 0, continuation=" finds a tree."))

    async def write(self, prompt: str, length: int = 40) -> Reply:
        """A sampled text."""
        return await self.client.generate(Request((Message("user", prompt),), length, temperature=1.0, top_logprobs=1))


async def cancelled(call: Callable[[], Awaitable[object]], draw: random.Random) -> bool:
    """Make a call, leave it after some turns of the event loop or moments, and tell whether it was still under way."""
    async with anyio.create_task_group() as group:
        done = anyio.Event()

        async def run() -> None:
            await call()
            done.set()

        group.start_soon(run)
        if draw.random() < 0.5:
            for _ in range(draw.randrange(12)):
                await anyio.lowlevel.checkpoint()
        else:
            await anyio.sleep(draw.uniform(0, 0.004))
        group.cancel_scope.cancel()
    return not done.is_set()


async def test_after_two_hundred_cancellations_a_trace_and_a_score_are_the_same(llama: Path) -> None:
    thread = worker("cpu")
    model = await thread.call(lambda _: load_model(find_model(str(llama), None, Path()), "float32", "cpu"))
    bench = Bench(thread, Traced(model), connect(f"local/{llama}", {"threads": 1}))
    traced, scored = await bench.trace(1), await bench.score(PROMPTS[3])
    written = {prompt: (await bench.write(prompt)).text for prompt in PROMPTS}
    draw = random.Random(0)
    left = 0

    async def one(number: int) -> None:
        nonlocal left
        prompt = draw.choice(PROMPTS)
        calls = [lambda: bench.trace(3), lambda: bench.score(prompt), lambda: bench.write(prompt)]
        while not await cancelled(calls[number % 3], draw):  # one that ended before it was left counts for nothing
            pass
        left += 1

    async def stays(number: int) -> None:
        prompt = PROMPTS[number % 4]
        assert (await bench.write(prompt)).text == written[prompt]

    for turn in range(20):
        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(one, turn + number)
            group.start_soon(stays, turn)
    assert left == 200
    # some left in the middle of their job
    assert bench.broken_off > 5

    after, again = await bench.trace(1), await bench.score(PROMPTS[3])
    assert all(torch.equal(one, other) for one, other in zip(traced, after, strict=True))
    assert again == scored
    assert {prompt: (await bench.write(prompt)).text for prompt in PROMPTS} == written
    await bench.client.aclose()
    # no place in the worker's queue was lost, and nothing waits there
    assert thread._slots._free == 9
    assert thread._jobs.empty()
