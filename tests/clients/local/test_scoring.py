"""Prompt logprobs equal a plain forward pass, however requests are batched, ordered and prefixed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
import torch
from tokenizers import Tokenizer

from harness.clients import Client, Reply, Request
from harness.errors import ContextTooLong
from harness.questions.messages import Message
from tests.clients.local.asking import all_of

from .conftest import REAL

pytestmark = pytest.mark.anyio

Plain = Callable[[str, Sequence[int]], torch.Tensor]

STORY = (
    "Once upon a time there was a girl named Lily. She loved to play with her friends in the park — she had a big "
    "red ball, 12 dolls and a naïve 猫. One day, her mother said: [1, 0, 1]"
)


def scoring(prefix: str, continuation: str, top: int | None = None) -> Request:
    messages = (Message("user", prefix),) if prefix else ()
    return Request(messages, 0, continuation=continuation, top_logprobs=top)


def tokenized(folder: Path, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    found = tokenizer.encode(text, add_special_tokens=False)
    return found.ids, found.offsets


def expected(name: str, folders: dict[str, Path], plain: Plain, request: Request) -> list[float]:
    """The logprobs of the tokens that end beyond the prefix, from one pass over one row that opens with BOS."""
    prefix = request.messages[0].content if request.messages else ""
    ids, offsets = tokenized(folders[name], prefix + (request.continuation or ""))
    bos = 1 if name == "stories" else 0
    logprobs = plain(name, [bos, *ids])
    return [float(logprobs[at, token]) for at, token in enumerate(ids) if offsets[at][1] > len(prefix)]


def cases(seed: int, count: int) -> list[Request]:
    """Cuts of one text at random characters, several at the same one, and some without a prefix."""
    draw = random.Random(seed)
    cuts = [0, 1, *(draw.randrange(len(STORY)) for _ in range(4))]
    made = []
    for _ in range(count):
        cut = draw.choice(cuts)
        made.append(scoring(STORY[:cut], STORY[cut : cut + draw.randint(1, 60)]))
    return made


@pytest.mark.parametrize("name", ["subject", "gpt2", "gemma2", REAL])
@pytest.mark.parametrize(("batch", "room"), [(1, 10**6), (3, 10**6), (16, 10**6), (16, 100), (64, 10**6)])
async def test_logprobs_equal_a_plain_pass_at_any_batch(
    local: Callable[..., Client], folders: dict[str, Path], plain_logprobs: Plain, name: str, batch: int, room: int
) -> None:
    requests = cases(batch + room, 24)
    client = local(name, batch=batch, batch_tokens=room)
    for request, reply in zip(requests, await all_of(client, requests), strict=True):
        assert reply.logprobs is not None
        found = [token.logprob for token in reply.logprobs]
        assert found == pytest.approx(expected(name, folders, plain_logprobs, request), abs=1e-4)
        assert reply.text == request.continuation
        assert (reply.finish, reply.usage.output, reply.usage.requests) == ("stop", 0, 1)


@pytest.mark.parametrize("name", ["subject", REAL])
@pytest.mark.parametrize("prefix", ["", "O", "Once upon a ti", STORY])
async def test_continuations_of_one_prefix_equal_a_plain_pass(
    local: Callable[..., Client], folders: dict[str, Path], plain_logprobs: Plain, name: str, prefix: str
) -> None:
    continuations = ["1", " 1", "0", "me", "me there", " there was a big dog. It was", "\n", "猫", "x" * 40] * 3
    requests = [scoring(prefix, continuation) for continuation in continuations]
    client = local(name, batch=5)
    for request, reply in zip(requests, await all_of(client, requests), strict=True):
        found = [token.logprob for token in reply.logprobs or ()]
        assert found == pytest.approx(expected(name, folders, plain_logprobs, request), abs=1e-4)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The rows and new tokens of every forward pass."""
    from harness.clients.local.forward import Forward

    found: list[tuple[int, int]] = []
    true = Forward.__call__

    def noting(self: Forward, ids: torch.Tensor, mask: torch.Tensor, **options: object) -> object:
        found.append((ids.shape[0], ids.shape[1]))
        return true(self, ids, mask, **options)  # type: ignore[arg-type] - passed on

    monkeypatch.setattr(Forward, "__call__", noting)
    return found


async def test_a_shared_prefix_is_computed_once(local: Callable[..., Client], passes: list[tuple[int, int]]) -> None:
    client = local("subject", batch=8)
    await client.generate(scoring("a", "b"))
    passes.clear()
    await all_of(client, [scoring(STORY, word) for word in (" a", " the", " time") * 4])
    (rows, length), *rest = passes
    assert rows == 1
    assert length > 50
    # one token's distribution is that after the prefix, and no second pass is needed
    assert rest == []
    passes.clear()
    await all_of(client, [scoring(f"{STORY} And", f" {digit} dogs") for digit in range(10)])
    # what it has in common with the prefix before, the rest of it, and what follows
    assert [shape[0] for shape in passes] == [1, 1, 8, 2]
    assert length - 2 <= passes[0][1] <= length
    assert max(length for _, length in passes[1:]) < 10


async def test_what_prefixes_begin_with_is_computed_once_for_all_that_follow(
    local: Callable[..., Client], passes: list[tuple[int, int]]
) -> None:
    client = local("subject", batch=8)
    for number, ending in enumerate(("A dog", "The cat that sat", "Something else", "A dog", STORY)):
        passes.clear()
        await all_of(client, [scoring(f"{STORY}\n\n{ending}", f" {digit} times") for digit in range(4)])
        read = sum(length for rows, length in passes if rows == 1)
        assert (read > 50) == (number < 2 or ending == STORY)
        assert max(length for rows, length in passes if rows > 1) < 10


@pytest.mark.parametrize("name", ["subject", "gpt2", "gemma2", REAL])
async def test_prefixes_that_begin_alike_equal_plain_passes_in_any_order(
    local: Callable[..., Client], folders: dict[str, Path], plain_logprobs: Plain, name: str
) -> None:
    client = local(name, batch=2)
    other = STORY[::-1]
    prefixes = [STORY, STORY, f"{STORY}, 1", f"{STORY}, 2]", other[:90], f"{STORY}, 3] a", STORY[:150], STORY[:60]]
    for prefix in [*prefixes, f"{other[:90]} a", *reversed(prefixes)]:
        requests = [scoring(prefix, continuation) for continuation in (" there was", "a dog", "\n", " 1 time a")]
        for request, reply in zip(requests, await all_of(client, requests), strict=True):
            found = [token.logprob for token in reply.logprobs or ()]
            assert found == pytest.approx(expected(name, folders, plain_logprobs, request), abs=1e-4)


async def test_a_token_across_the_boundary_belongs_to_the_continuation(
    local: Callable[..., Client], folders: dict[str, Path]
) -> None:
    ids, _ = tokenized(folders["subject"], " time")
    assert len(ids) == 1
    reply = await local("subject").generate(scoring("It is ti", "me to"))
    assert [token.token for token in reply.logprobs or ()] == [" time", " to"]
    # a blank at the end of the prefix is the start of the next word's token, as the model would have read it
    reply = await local("subject").generate(scoring("It is ", "time to"))
    assert [token.token for token in reply.logprobs or ()] == [" time", " to"]


async def test_alternatives_are_the_likeliest_tokens_of_each_place(
    local: Callable[..., Client], folders: dict[str, Path], plain_logprobs: Plain
) -> None:
    requests = [scoring("The score was ", f"{digit}, 2 to", top) for digit, top in ((3, 5), (4, 1), (5, None), (6, 0))]
    replies = await all_of(local("subject"), requests)
    for request, reply in zip(requests, replies, strict=True):
        ids, _ = tokenized(folders["subject"], f"The score was {request.continuation}")
        logprobs = plain_logprobs("subject", [0, *ids])
        assert reply.logprobs is not None
        for at, token in enumerate(reply.logprobs, start=len(ids) - len(reply.logprobs)):
            best = logprobs[at].topk(request.top_logprobs or 0).values.tolist()
            assert [value for _, value in token.top] == pytest.approx(best, abs=1e-4)


async def test_all_the_vocabulary_can_be_asked_for(local: Callable[..., Client]) -> None:
    client = local("subject")
    reply = await client.generate(scoring("The", " cat", client.capabilities.top_logprobs))
    assert reply.logprobs is not None
    [token] = reply.logprobs
    assert len(token.top) == 4096
    assert math.fsum(math.exp(value) for _, value in token.top) == pytest.approx(1, abs=1e-5)


async def test_where_nothing_stands_before_the_first_token_it_has_no_logprob(
    local: Callable[..., Client], folders: dict[str, Path], plain_logprobs: Plain, tmp_path: Path
) -> None:
    for path in folders["gpt2"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "tokenizer_config.json").write_text("{}")
    folders = {**folders, "bare": tmp_path}
    from harness.clients import connect

    client = connect(f"local/{tmp_path}")
    texts = ["The cat", "The", "The cat and the dog"]
    replies = await all_of(client, [scoring("", text, 2) for text in texts])
    await client.aclose()
    for text, reply in zip(texts, replies, strict=True):
        ids, _ = tokenized(tmp_path, text)
        first, *others = reply.logprobs or ()
        assert math.isnan(first.logprob)
        assert first.top == ()
        logprobs = plain_logprobs("gpt2", ids)
        exact = [float(logprobs[at, token]) for at, token in enumerate(ids[1:])]
        assert [token.logprob for token in others] == pytest.approx(exact, abs=1e-4)


async def test_nothing_to_score_is_scored_without_a_pass(local: Callable[..., Client]) -> None:
    replies = await all_of(local("subject"), [scoring("The cat", ""), scoring("", "")])
    assert [reply.logprobs for reply in replies] == [(), ()]


async def test_a_text_beyond_the_context_is_refused_and_others_of_its_batch_are_not(
    local: Callable[..., Client],
) -> None:
    client = local("subject", context=20)
    outcomes: list[object] = []

    async def one(text: str) -> None:
        try:
            outcomes.append(await client.generate(scoring("The", text)))
        except ContextTooLong as error:
            outcomes.append(str(error))

    async with anyio.create_task_group() as group:
        for text in (" cat", " cat" * 30, " dog"):
            group.start_soon(one, text)
    assert sum(isinstance(outcome, Reply) for outcome in outcomes) == 2
    [refusal] = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert "takes 20 tokens" in refusal


async def test_lone_surrogates_stand_for_the_replacement_character(local: Callable[..., Client]) -> None:
    client = local("subject")
    broken, whole = await all_of(client, [scoring("a \ud83d", "b \udc9d c"), scoring("a \ufffd", "b \ufffd c")])
    assert [token.logprob for token in broken.logprobs or ()] == pytest.approx(
        [token.logprob for token in whole.logprobs or ()], abs=1e-5
    )


@pytest.mark.parametrize("name", ["subject", REAL])
async def test_alternatives_among_some_texts_are_these_alone_and_all_of_them(
    local: Callable[..., Client], folders: dict[str, Path], plain_logprobs: Plain, name: str
) -> None:
    wanted = ("1", "2", "a")
    request = scoring("She had", " 12 dolls", top=2)
    client = local(name)
    reply = await client.generate(replace(request, among=wanted))
    tokenizer = Tokenizer.from_file(str(folders[name] / "tokenizer.json"))
    names = tokenizer.get_vocab()
    # a character alone, after a blank, or as a byte of its own
    spellings = {form for text in wanted for form in (text, f"▁{text}", f"Ġ{text}", f"<0x{ord(text):02X}>")}
    own = {index for spelled, index in names.items() if spelled in spellings}
    ids, offsets = tokenized(folders[name], "She had 12 dolls")
    logprobs = plain_logprobs(name, [1 if name == "stories" else 0, *ids])
    places = [at for at in range(len(ids)) if offsets[at][1] > len("She had")]
    assert reply.logprobs is not None
    assert len(own) > len(wanted)
    for at, item in zip(places, reply.logprobs, strict=True):
        assert sorted(value for _, value in item.top) == pytest.approx(
            sorted(logprobs[at, list(own)].tolist()), abs=1e-4
        )
        assert {token.strip() for token, _ in item.top} <= set(wanted)
    # another answer, so another request
    assert client.wire(request).key(0) != client.wire(replace(request, among=wanted)).key(0)
