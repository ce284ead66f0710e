"""How tests ask a local model."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from harness.clients import Client, Reply, Request


async def all_of(client: Client, requests: Sequence[Request]) -> list[Reply]:
    """Replies to requests that are all asked at once."""
    replies: dict[int, Reply] = {}

    async def one(number: int) -> None:
        replies[number] = await client.generate(requests[number])

    async with anyio.create_task_group() as group:
        for number in range(len(requests)):
            group.start_soon(one, number)
    return [replies[number] for number in range(len(requests))]
