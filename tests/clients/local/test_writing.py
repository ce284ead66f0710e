"""Generation: what a request asks for, whoever shares its batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from harness.clients import Client, Request
from harness.clients.local.asked import Asked, How
from harness.clients.local.causal import Causal
from harness.clients.local.place import find_place
from harness.errors import BadRequest, ContextTooLong
from harness.questions.messages import Message, Tool
from tests.clients.local.asking import all_of

from .conftest import REAL

pytestmark = pytest.mark.anyio

Plain = Callable[[str, Sequence[int]], torch.Tensor]

PROMPTS = [
    "Once upon a time",
    "The",
    "The teams meet again on",
    "She said: [1, 0",
    "naïve 猫 —",
    "A",
    "It was a dark day. " * 9,
]


def writing(prompt: str, max_tokens: int = 12, **options: object) -> Request:
    return Request((Message("user", prompt),), max_tokens, **options)  # type: ignore[arg-type] - test data


def greedy(plain: Plain, name: str, ids: list[int], count: int) -> tuple[list[int], list[float]]:
    """The likeliest tokens one by one, each from a plain pass over all before it, up to an end token."""
    ids, found, values = list(ids), [], []
    while len(found) < count:
        logprobs = plain(name, ids)[-1]
        token = int(logprobs.argmax())
        if token in (0, 1, 2) and (name == "stories" or token == 0):
            break
        found.append(token)
        values.append(float(logprobs[token]))
        ids.append(token)
    return found, values


@pytest.mark.parametrize("name", ["subject", "gpt2", "gemma2", REAL])
async def test_greedy_text_and_logprobs_equal_plain_passes_at_any_batch(
    local: Callable[..., Client], folders: dict[str, Path], plain_logprobs: Plain, name: str
) -> None:
    tokenizer = Tokenizer.from_file(str(folders[name] / "tokenizer.json"))
    limits = [10, 3, 12, 1, 9, 12, 5]
    requests = [writing(prompt, limit, top_logprobs=0) for prompt, limit in zip(PROMPTS, limits, strict=True)]
    for batch in (1, 7):
        for request, reply in zip(requests, await all_of(local(name, batch=batch), requests), strict=True):
            ids = tokenizer.encode(request.messages[0].content, add_special_tokens=False).ids
            tokens, values = greedy(plain_logprobs, name, [1 if name == "stories" else 0, *ids], request.max_tokens)
            assert reply.logprobs is not None
            assert [token.logprob for token in reply.logprobs] == pytest.approx(values, abs=1e-4)
            assert reply.finish == ("length" if len(tokens) == request.max_tokens else "stop")
            assert reply.usage.input == len(ids) + 1
            assert reply.usage.output == len(tokens) + (reply.finish == "stop")
            spelled = "".join(token.token for token in reply.logprobs)
            assert spelled.encode("utf-8", "surrogateescape").decode("utf-8", "replace") == reply.text


async def test_settings_of_one_request_do_not_reach_others_of_its_batch(local: Callable[..., Client]) -> None:
    requests = [
        writing("The teams meet", 20),
        writing("The teams meet", 20, stop=(" on",)),
        writing("The teams meet", 4),
        writing("The teams meet", 20, temperature=1.0, seed=1),
        writing("The teams meet", 20, temperature=1.0, seed=2, top_logprobs=3),
        writing("The teams meet", 20, temperature=5.0, seed=1, stop=("e", "a")),
        writing("The teams meet", 20, temperature=0.0, top_logprobs=1),
        writing("The teams meet", 0),
    ]
    together = await all_of(local("subject"), requests)
    apart = [await local("subject", batch=1).generate(request) for request in requests]
    for one, other in zip(together, apart, strict=True):
        assert (one.text, one.finish, one.usage) == (other.text, other.finish, other.usage)
        assert (one.logprobs is None) == (other.logprobs is None)
    texts = [reply.text for reply in together]
    assert texts[0] == texts[6] != texts[3] != texts[4]
    assert texts[0].startswith(texts[2])
    assert texts[1] == texts[0].partition(" on")[0] != texts[0]
    assert (together[2].usage.output, together[2].finish) == (4, "length")
    assert (together[7].text, together[7].finish, together[7].usage.output) == ("", "length", 0)
    assert {len(token.top) for token in (together[4].logprobs or ())} == {3}
    assert {len(token.top) for token in (together[6].logprobs or ())} == {1}


async def test_sampled_text_depends_on_seed_sample_and_prompt_alone(local: Callable[..., Client]) -> None:
    requests = [
        writing(prompt, 15, temperature=1.0, seed=seed, sample=sample)
        for prompt in PROMPTS
        for seed in (None, 3)
        for sample in (0, 1)
    ]
    first = [reply.text for reply in await all_of(local("subject", batch=28), requests)]
    again = [reply.text for reply in await all_of(local("subject", batch=5), requests[::-1])][::-1]
    assert first == again
    assert len(set(first)) > 20
    [longer] = await all_of(local("subject"), [writing(PROMPTS[0], 30, temperature=1.0, seed=3)])
    assert longer.text.startswith(first[2])


async def test_samples_follow_the_models_distribution(local: Callable[..., Client], plain_logprobs: Plain) -> None:
    client = local("subject", batch=64)
    for temperature in (1.0, 0.5):
        requests = [writing("The", 1, temperature=temperature, sample=sample) for sample in range(600)]
        texts = [reply.text for reply in await all_of(client, requests)]
        tokenizer = Tokenizer.from_file(str(Path(client.name.removeprefix("local/")) / "tokenizer.json"))
        ids = tokenizer.encode("The", add_special_tokens=False).ids
        masses = (plain_logprobs("subject", [0, *ids])[-1] / temperature).softmax(-1)
        for token in masses.topk(5).indices.tolist():
            mass, text = float(masses[token]), tokenizer.decode([token])
            spread = math.sqrt(mass * (1 - mass) / len(texts))
            assert texts.count(text) / len(texts) == pytest.approx(mass, abs=4 * spread)


async def test_logprobs_are_those_at_temperature_one(local: Callable[..., Client]) -> None:
    reply = await local("subject").generate(writing("The", 1, temperature=0.2, seed=1, top_logprobs=4096))
    [token] = reply.logprobs or ()
    assert math.fsum(math.exp(value) for _, value in token.top) == pytest.approx(1, abs=1e-5)
    assert token.logprob == pytest.approx(dict(token.top)[token.token])


async def test_a_stop_string_cuts_the_text_and_the_tokens_after_it(local: Callable[..., Client]) -> None:
    client = local("subject")
    whole = await client.generate(writing("The teams meet", 12, top_logprobs=0))
    pieces = [token.token for token in whole.logprobs or ()]
    # begins within the third token and ends within the fourth
    stop = pieces[2][1:] + pieces[3][:2]
    cut = await client.generate(writing("The teams meet", 12, top_logprobs=0, stop=("never", stop)))
    assert cut.finish == "stop"
    assert cut.text == whole.text.partition(stop)[0]
    assert [token.token for token in cut.logprobs or ()] == pieces[:3]
    cut = await client.generate(writing("The teams meet", 12, top_logprobs=0, stop=(pieces[3],)))
    assert [token.token for token in cut.logprobs or ()] == pieces[:3]


def test_a_draft_whose_caller_left_gets_no_further_token(folders: dict[str, Path]) -> None:
    model = Causal(find_place(str(folders["subject"]), None, Path()), "float32", "cpu")
    how = How("local/subject", chat=False, context=None, rows=4, room=10**6)
    gone, stays = (model.writing.prepare(Asked(writing("The teams meet", 6), how)) for _ in range(2))
    looks: list[object] = []

    def left(draft: object) -> bool:
        looks.append(draft)
        return draft is gone and looks.count(gone) == 3

    [(done, _)] = model.writing.work([gone, stays], left)
    assert done is stays
    assert gone.finish is None
    # it went out of the batch at the third look, the other was looked at after every token but its last
    assert (looks.count(gone), looks.count(stays)) == (3, 5)


async def test_characters_of_several_tokens_join_up(local: Callable[..., Client], plain_logprobs: Plain) -> None:
    # random weights: bytes that are no characters too
    requests = [writing("a", 40, temperature=3.0, sample=sample, top_logprobs=1) for sample in range(8)]
    replies = await all_of(local("gpt2"), requests)
    split = 0
    for reply in replies:
        pieces = [token.token for token in reply.logprobs or ()]
        split += sum(any("\udc80" <= char <= "\udcff" for char in piece) for piece in pieces)
        assert b"".join(p.encode("utf-8", "surrogateescape") for p in pieces).decode("utf-8", "replace") == reply.text
    assert split > 0


async def test_a_reply_ends_where_the_context_does(local: Callable[..., Client]) -> None:
    client = local("gpt2", context=30)
    prompt = writing("w " * 12, 100, temperature=1.0)
    reply = await client.generate(prompt)
    assert reply.usage.input + reply.usage.output == 30
    assert reply.finish == "length"
    with pytest.raises(ContextTooLong, match="takes 30 tokens"):
        await client.generate(writing("w " * 40, 5))


async def test_requests_beyond_what_the_model_does_are_refused(local: Callable[..., Client]) -> None:
    client = local("subject")
    with pytest.raises(BadRequest, match="tools"):
        await client.generate(writing("The", tools=(Tool("t", "", {}),)))
    with pytest.raises(BadRequest, match="stop string is empty"):
        await client.generate(writing("The", stop=("",)))


async def test_messages_are_joined_by_blank_lines_without_a_template(local: Callable[..., Client]) -> None:
    two = Request((Message("system", "The teams"), Message("user", "meet again")), 8)
    client = local("chat", chat=False)
    assert (await client.generate(two)).text == (await client.generate(writing("The teams\n\nmeet again", 8))).text
    assert client.wire(two) != local("chat").wire(two)


async def test_messages_go_through_the_chat_template(local: Callable[..., Client], plain_logprobs: Plain) -> None:
    client = local("chat")
    assert client.capabilities == local("chat", chat=True).capabilities
    turns = Request((Message("user", "The teams"), Message("assistant", "meet"), Message("user", "again")), 8)
    text = "<user> The teams\n<assistant> meet\n<user> again\n<assistant>"
    plain = local("chat", chat=False)
    assert (await client.generate(turns)).text == (await plain.generate(writing(text, 8))).text
    scored = Request(turns.messages, 0, continuation=" on Friday")
    direct = Request((Message("user", text),), 0, continuation=" on Friday")
    assert [token.logprob for token in (await client.generate(scored)).logprobs or ()] == pytest.approx(
        [token.logprob for token in (await plain.generate(direct)).logprobs or ()], abs=1e-5
    )


async def test_what_a_template_refuses_is_a_bad_request(local: Callable[..., Client]) -> None:
    with pytest.raises(BadRequest, match="chat template refuses these messages: no system turn"):
        await local("chat").generate(Request((Message("system", "Be brief."),), 5))


async def test_a_special_tokens_name_in_a_message_is_text(local: Callable[..., Client]) -> None:
    client = local("chat")
    named, spaced = await all_of(client, [writing("a <bos> b"), writing("a < bos> b")])
    assert named.usage.input == spaced.usage.input > 10
    assert named.text == spaced.text
    plain = await local("subject").generate(writing("a <bos> b"))
    assert plain.usage.input > 6
