"""P(1) at each answer position against a model's whole distribution there, summed up naively."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from harness.clients import Client, Request, connect
from harness.questions.labels import find_labels
from harness.questions.messages import Message
from harness.questions.probabilities import probabilities
from harness.testing import Answer, FakeProvider
from harness.values import TokenLogprob

from .conftest import REAL, SUBJECT

pytestmark = pytest.mark.anyio

PROMPT = "Which of the texts fire? "
# replies and how many labels each has
REPLIES = [
    ("[1, 0, 1]", 3),
    ("[1,0,0,1]", 4),
    (" 1, 0, 1", 3),
    ("1\n0\n0", 3),
    ("[yes, no, no]", 3),
    ("Yes, No, Yes", 3),
    ("— [0, 1] 猫", 2),
    ("[1, // 猫\n 0, // 🙂\n1]", 3),
    ("naïve café: [ 0, 1 ]\n", 2),
]
ONES, ZEROS = ("1", "true", "yes"), ("0", "false", "no")
# what joins into one token in the merging tokenizer, in order
MERGES = [
    "[ 1",
    "[ 0",
    "Ġ 1",
    "Ġ 0",
    "Ġ1 ,",
    "Ġ0 ,",
    "Ġ1 ]",
    "Ġ0 ]",
    "1 ,",
    "0 ,",
    "1 ]",
    "0 ]",
    "n o",
    "Ġ no",
    "y e",
    "ye s",
]


@pytest.fixture(scope="module")
def merging(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-2 whose tokens hold brackets, commas and blanks beside a label."""
    folder = tmp_path_factory.mktemp("models") / "merging"
    data = json.loads((SUBJECT / "tokenizer.json").read_text())
    alphabet = [name for name, _ in sorted(data["model"]["vocab"].items(), key=lambda pair: pair[1]) if len(name) == 1]
    names = ["<bos>", *alphabet, *(merge.replace(" ", "") for merge in MERGES)]
    data["model"] |= {"vocab": {name: at for at, name in enumerate(names)}, "merges": [m.split(" ") for m in MERGES]}
    data["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(names), n_embd=16, n_layer=2, n_head=2, n_positions=128, bos_token_id=0, eos_token_id=0
        )
    )
    for parameter in model.parameters():
        parameter.data *= 8
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(data))
    shutil.copy(SUBJECT / "tokenizer_config.json", folder)
    folders["merging"] = folder
    return folder


def spelled(folder: Path) -> list[str]:
    """Each token's text, as its tokenizer decodes it after another token."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    anchor = tokenizer.encode("a", add_special_tokens=False).ids[-1]
    start = tokenizer.decode([anchor])
    return [tokenizer.decode([anchor, token])[len(start) :] for token in range(tokenizer.get_vocab_size())]


def says(text: str, words: Sequence[str]) -> bool:
    return text.strip(" \n\t[](){},;:\"'|*`").lower() in words


def naive(
    folder: Path, plain: Callable[[Sequence[int]], torch.Tensor], reply: str, places: Sequence[tuple[int, int]]
) -> list[float | None]:
    """For each label the mass of all tokens that say 1 over that of all that say 0 or 1, where its token starts.

    None where the label's token holds another label too, or only a part of the label.
    """
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    found = tokenizer.encode(PROMPT + reply, add_special_tokens=False)
    strings = spelled(folder)
    bos = tokenizer.token_to_id(json.loads((folder / "tokenizer_config.json").read_text())["bos_token"])
    masses = plain([bos, *found.ids]).exp()
    shares: list[float | None] = []
    for start, stop in places:
        [at, *_] = [index for index, (left, right) in enumerate(found.offsets) if left <= start + len(PROMPT) < right]
        own = strings[found.ids[at]]
        if not (says(own, ONES) or says(own, ZEROS)) or found.offsets[at][1] < stop + len(PROMPT):
            shares.append(None)
            continue
        mass = {
            words: sum(float(masses[at, token]) for token, text in enumerate(strings) if says(text, words))
            for words in (ONES, ZEROS)
        }
        shares.append(mass[ONES] / (mass[ONES] + mass[ZEROS]))
    return shares


def labels_of(reply: str, count: int) -> Any:
    found = find_labels(reply, count)
    assert found is not None
    return found


async def exact(client: Client, reply: str) -> Sequence[TokenLogprob]:
    """The reply's tokens after the prompt, with the whole vocabulary as alternatives."""
    request = Request((Message("user", PROMPT),), 0, continuation=reply, top_logprobs=10**6)
    return (await client.generate(request)).logprobs or ()


@pytest.mark.parametrize("name", ["subject", "merging", REAL])
@pytest.mark.parametrize(("reply", "count"), REPLIES)
async def test_probabilities_are_the_models(
    merging: Path,
    local: Callable[..., Client],
    folders: Mapping[str, Path],
    plain_logprobs: Callable[[str, Sequence[int]], torch.Tensor],
    name: str,
    reply: str,
    count: int,
) -> None:
    logprobs = await exact(local(name), reply)
    labels = labels_of(reply, count)
    places = [(label.start, label.stop) for label in labels]
    expected = naive(folders[name], lambda ids: plain_logprobs(name, ids), reply, places)
    found = probabilities(reply, labels, logprobs)
    assert [share is None for share in found] == [share is None for share in expected]
    assert [share for share in found if share is not None] == pytest.approx(
        [share for share in expected if share is not None], abs=1e-4
    )
    # words are cut into several tokens by some of these tokenizers, digits by none
    assert all(share is not None for share in found) or "o" in reply


async def test_the_merging_tokenizer_has_what_is_to_be_tested(merging: Path, local: Callable[..., Client]) -> None:
    tokens = {token.token for reply, _ in REPLIES for token in await exact(local("merging"), reply)}
    assert {"[1", " 0,", " 1]", "0,", " 1,", " no", "0", "\n"} <= tokens
    # both halves of a character
    assert any("\udc80" <= char <= "\udcff" for token in tokens for char in token)


@pytest.mark.parametrize("name", ["subject", "merging", REAL])
async def test_probabilities_survive_the_wire(
    merging: Path, local: Callable[..., Client], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same tokens as a chat completion has them: names, bytes, and the twenty alternatives that say a label."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    for reply, count in REPLIES:
        logprobs = await exact(local(name), reply)
        tokens = tuple(
            TokenLogprob(
                token.token,
                token.logprob,
                tuple(sorted(token.top, key=lambda pair: not (says(pair[0], ONES) or says(pair[0], ZEROS)))[:20]),
            )
            for token in logprobs
        )
        # what a sampled reply would have: its text from its first character on
        told = "".join(token.token for token in tokens).encode("utf-8", "surrogateescape").decode()
        labels = labels_of(told, count)
        async with FakeProvider(lambda _, __, text=told, given=tokens: Answer(text, given)) as provider:
            client = connect("openai/gpt-4.1", {"base_url": provider.openai_url})
            sent = await client.generate(Request((Message("user", PROMPT),), 200, top_logprobs=20))
            await client.aclose()
        assert sent.text == told
        found, expected = (probabilities(told, labels, sent.logprobs), probabilities(told, labels, logprobs))
        assert [share is None for share in found] == [share is None for share in expected]
        for one, other in zip(found, expected, strict=True):
            assert one is None or other is None or math.isclose(one, other, abs_tol=1e-6)
