"""`harness steer` shows both continuations and what moved, and names each mistake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Harness = Callable[..., Any]
PROMPT = "Once upon a time"


def test_clean_and_steered_continuations_are_shown_with_what_moved(harness: Harness) -> None:
    said = harness("steer", "demo", PROMPT, "--latent", "3", "--kl", "1", "--tokens", "5", "--top", "3")
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[0] == "sae 3"
    assert lines[1].startswith("strength ")
    assert lines[1].endswith(" nats of 1, ok")
    assert lines[3] == f'prompt   "{PROMPT}"'
    clean, steered = lines[4].split(" ", 1)[1].strip(), lines[5].split(" ", 1)[1].strip()
    assert clean != steered
    for line, higher in ((lines[6], 1), (lines[7], 0)):
        pairs = [part.rsplit('" ', 1)[1].split(" > ") for part in line.split(", ") if " > " in part]
        assert len(pairs) == 3
        assert all((float(after) >= float(before)) == bool(higher) for before, after in pairs)


def test_a_scale_of_one_changes_nothing(harness: Harness) -> None:
    said = harness("steer", "demo", PROMPT, "--latent", "3", "--scale", "1", "--tokens", "5", "--top", "0")
    lines = said.out.splitlines()
    assert lines[4].removeprefix("clean    ") == lines[5].removeprefix("steered  ")


def test_a_strength_beyond_numbers_is_told(harness: Harness) -> None:
    said = harness("steer", "demo", PROMPT, "--latent", "3", "--strength", "1e39", "--tokens", "2")
    assert said.code == 0, said.err
    assert "not finite" in said.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["demo", PROMPT, "--latent", "3"], "give one of --kl, --strength, --clamp and --scale"),
        (["demo", PROMPT, "--latent", "3", "--kl", "0"], "--kl: 0.0 is not a KL above zero"),
        (["demo", PROMPT, "--latent", "3", "--kl", "1", "--coder", "x"], "--coder x: the task's coders are sae"),
        (["demo", PROMPT, "--latent", "999999", "--kl", "1"], 'coder "sae": there is no latent 999999'),
        (["demo", "word " * 3000, "--latent", "3", "--kl", "1"], "positions"),
        (["planted", PROMPT, "--latent", "3", "--kl", "1"], "has no decoder"),
    ],
)
def test_mistakes_are_one_sentence(harness: Harness, arguments: list[str], told: str) -> None:
    said = harness("steer", *arguments)
    assert said.code == 2
    assert told in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert "Traceback" not in said.err
