"""The strings of drawn windows are the tokenizer's text: byte-level and SentencePiece, split characters, specials."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from harness.examples import LatentExamples, draw
from harness.store import CoderFrame, CoderReader, ManifestFrame, Rows, StoreWriter, Vocabulary
from harness.task import ExampleSettings

CONTEXT, CONTEXTS, WINDOW = 32, 400, 8
SENTENCES = ("The cat sat — 3€, naïve café.", " Числа и слова 🙂🙃.", "日本語の文章です。", " emoji 👩‍👩‍👧 end\n")


def byte_level() -> Tokenizer:
    """Few merges, so that most characters beyond ASCII are split over tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=275, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def sentencepiece() -> Tokenizer:
    """Letters and a few words; every other character falls back to its bytes."""
    tokens = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"aehnostc.T", "▁c", "▁ca", "▁cat"]
    merges = [("▁", "c"), ("▁c", "a"), ("▁ca", "t")]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: index for index, token in enumerate(tokens)},
            merges=merges,
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<unk>", "<s>"])
    return tokenizer


def collected(path: Path, tokenizer: Tokenizer) -> CoderReader:
    """Contexts of sentences in a random order behind BOS, a special token in the midst of some; random firings."""
    generator = np.random.default_rng(0)
    bos = int(tokenizer.token_to_id("<s>") or 0)
    encoded = [tokenizer.encode(text, add_special_tokens=False).ids for text in SENTENCES]
    tokens = np.zeros((CONTEXTS, CONTEXT), dtype=np.uint32)
    for row in tokens:
        ids = [token for k in generator.integers(len(encoded), size=CONTEXT) for token in encoded[k]]
        row[:] = [bos, *ids[: CONTEXT - 1]]
        if generator.random() < 0.3:
            row[generator.integers(1, CONTEXT)] = bos
    documents = np.arange(CONTEXTS, dtype=np.int32)[:, None].repeat(CONTEXT, axis=1)
    documents[:, 0] = -1
    fires = (generator.random(CONTEXTS * CONTEXT) < 0.03) & (documents.reshape(-1) >= 0)
    rows = Rows(
        np.concatenate([[0], np.cumsum(fires)]),
        np.zeros(int(fires.sum()), dtype=np.int32),
        np.ones(int(fires.sum()), dtype=np.float32),
    )
    frame = ManifestFrame(model="none", corpus={}, context=CONTEXT, bos=bos)
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    with StoreWriter.create(path, frame, vocabulary, [CoderFrame("c", 1, "block")]) as writer:
        writer.append(tokens, documents, {"c": rows})
        return writer.finish().coder("c")


@pytest.mark.parametrize("make", [byte_level, sentencepiece])
@pytest.mark.parametrize("peak", [None, 5])
def test_strings_of_windows_are_what_the_tokenizer_adds_to_the_text(
    tmp_path: Path, make: Callable[[], Tokenizer], peak: int | None
) -> None:
    tokenizer = make()
    coder = collected(tmp_path / "store", tokenizer)
    asked = {"window": WINDOW, "peak": peak, "scored": {"activating": 100, "non_activating": 100}}
    found = draw(coder, 0, ExampleSettings.model_validate(asked), 0)
    assert isinstance(found, LatentExamples)
    split = specials = 0
    for example in (*found.shown, *found.select, *found.scored[0].examples):
        place = example.passage.place
        assert place is not None
        ids = coder.store.tokens[place.context].tolist()
        before, after = ids[: place.start], ids[: place.start + WINDOW]
        texts = [_complete(tokenizer, ids[:stop], ends=stop == CONTEXT) for stop in range(len(before), len(after) + 1)]
        assert [texts[0] + "".join(example.passage.tokens[: k + 1]) for k in range(WINDOW)] == texts[1:]
        assert "".join(example.passage.preceding()) == texts[0]
        specials += tokenizer.token_to_id("<s>") in ids[place.start + 1 : place.start + WINDOW]
        # the window begins in the midst of a character, which its tokens complete
        split += tokenizer.decode(before).endswith("�") and not texts[0].endswith("�")
    assert split > 5
    assert specials > 5


def _complete(tokenizer: Tokenizer, ids: list[int], *, ends: bool) -> str:
    """The text of a context so far without the bytes that wait for the rest of their character."""
    text = b"".join(_bytes(tokenizer, token) for token in ids)
    if ends:
        return text.decode("utf-8", "replace")
    for waiting in range(4):
        whole, rest = text[: len(text) - waiting], text[len(text) - waiting :]
        if _waits(rest):
            return whole.decode("utf-8", "replace")
    return text.decode("utf-8", "replace")


def _waits(rest: bytes) -> bool:
    """Whether bytes are the beginning of a character of more bytes."""
    if not rest:
        return False
    length = 2 if rest[0] >> 5 == 6 else 3 if rest[0] >> 4 == 14 else 4 if rest[0] >> 3 == 30 else 0
    return len(rest) < length and all(byte >> 6 == 2 for byte in rest[1:])


def _bytes(tokenizer: Tokenizer, token: int) -> bytes:
    name = tokenizer.id_to_token(token) or ""
    if name == "<s>":
        return b""
    if name.startswith("<0x"):
        return bytes([int(name[3:5], 16)])
    if isinstance(tokenizer.decoder, decoders.ByteLevel):
        return bytes(_BYTE_OF[character] for character in name)
    return name.replace("▁", " ").encode()


def _table() -> dict[str, int]:
    """Byte-level BPE's characters: printable Latin-1 stands for itself, the others follow from U+0100 on."""
    plain = [byte for byte in range(256) if chr(byte).isprintable() and byte not in (0x20, 0xA0, 0xAD)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + k): byte for k, byte in enumerate(others)}


_BYTE_OF = _table()
