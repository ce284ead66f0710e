"""Planted latents that look alike wherever they fire in the corpus, and a scripted model that tells them apart.

Every "bank" of the shipped text stands behind "the", every "stolen" behind "was". So a latent that fires on the word
and one that fires on it behind that other word alone fire at the same places, and only a text that is written for it
shows which is which.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.questions.messages import ToolCall
from harness.testing import Answer, by_keywords

PAIRS = (("bank", "the"), ("stolen", "was"))
ALONE, BEHIND = 'The word "{}".', 'The word "{}" right after "{}".'
# by latent: what it does
TRUTH = {
    2 * at + behind: (BEHIND if behind else ALONE).format(*pair) for at, pair in enumerate(PAIRS) for behind in (0, 1)
}
_MARKED = re.compile(r"(\w+)[^\w<>]*<<[^\w<>]*(\w+)[^<>]*>>")


def write_concepts(path: Path) -> Path:
    """The four latents as a concepts file."""
    concepts = []
    for word, before in PAIRS:
        plain = {"kind": "words", "words": [word]}
        behind = {"kind": "previous", "rule": {"kind": "words", "words": [before]}}
        both = {"kind": "all", "rules": [plain, behind]}
        concepts.append({"name": word, "kind": "token", "sentences": [ALONE.format(word)], "rule": plain})
        sentence = BEHIND.format(word, before)
        concepts.append({"name": f"{before} {word}", "kind": "sense", "sentences": [sentence], "rule": both})
    path.write_text(json.dumps({"concepts": concepts}))
    return path


def investigator(messages: Sequence[Mapping[str, Any]], body: Mapping[str, Any]) -> str | Answer:
    """A model that writes the counterexample, by tool calls where tools are offered, else in lines of text.

    It goes by the conversation alone. Asked anything else than to investigate, it answers by keywords.
    """
    if "submit" not in str(body.get("tools", "")) and "[call]" not in str(messages[0]["content"]):
        return by_keywords(messages, body)
    turn = 1 + sum(message["role"] == "assistant" for message in messages)
    opening = next(str(message["content"]) for message in messages if message["role"] == "user")
    (pair, _), *_ = Counter(_MARKED.findall(opening)).most_common(1)
    before, word = pair
    if turn == 1:
        return _turn(body, turn, f"It fires on {word}, always after {before}.", "examples", where="random", count=3)
    if turn == 2:
        texts = [f"They saw {before} {word} again.", f"They saw another {word} again."]
        return _turn(body, turn, f"Is it {before} {word}, or {word} anywhere?", "read", texts=texts)
    read = next(
        str(m["content"]) for m in messages if f"another <<{word}" in _joined(m) or f"another {word}" in _joined(m)
    )
    anywhere = re.search(rf"2\. They saw another<< {word}>>", read) is not None
    told = ALONE.format(word) if anywhere else BEHIND.format(word, before)
    if turn == 3:
        return _turn(body, turn, "That settles it; a test first.", "test", explanation=told)
    return _turn(body, turn, "", "submit", explanation=told)


def _joined(message: Mapping[str, Any]) -> str:
    """A result's text, marks set aside."""
    if message["role"] not in ("tool", "user"):
        return ""
    return str(message["content"]).replace("<< ", " <<")


def _turn(body: Mapping[str, Any], number: int, words: str, name: str, **arguments: Any) -> Answer:
    if body.get("tools"):
        return Answer(words, calls=(ToolCall(f"call_{number}", name, json.dumps(arguments)),))
    return Answer(f"{words}\n[call]: {name} {json.dumps(arguments)}")
