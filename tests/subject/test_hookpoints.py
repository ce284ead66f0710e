"""Hookpoints: exact paths, helpful misses, and the hidden state inside a module's output."""

from __future__ import annotations

import pytest
import torch

from harness.errors import HookpointError
from harness.subject.hookpoints import Hookpoint, check_path, first, put

MODULES = ["", "model", "model.embed_tokens", *(f"model.layers.{n}{part}" for n in range(4) for part in ("", ".mlp"))]


def test_an_exact_path_passes() -> None:
    check_path("model.layers.2.mlp", MODULES)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("layers.2", 'did you mean "model.layers.2"?'),
        ("model.layers.9", 'did you mean "model.layers.0" or "model.layers.3"?'),
        ("model.layer.2", 'did you mean "model.layers.2"'),
        ("transformer.h.2", "there are model, model.embed_tokens, model.layers.N, model.layers.N.mlp"),
        ("", "there are model"),
    ],
)
def test_a_miss_names_what_is_near(path: str, expected: str) -> None:
    with pytest.raises(HookpointError) as error:
        check_path(path, MODULES)
    assert f'hookpoint "{path}"' in str(error.value)
    assert expected in str(error.value)


def test_the_hidden_state_is_found_in_any_output_and_put_back() -> None:
    hidden, other = torch.zeros(2), torch.ones(2)
    for whole in (hidden, (hidden, "rest"), [hidden, "rest"]):
        assert first(whole) is hidden
        changed = put(whole, other)
        assert type(changed) is type(whole)
        assert first(changed) is other
    assert put((hidden, "rest"), other)[1] == "rest"
    for nothing in ("text", (), (None, hidden)):
        with pytest.raises(HookpointError, match="has to give a tensor"):
            first(nothing)


def test_a_hookpoint_says_which_side_it_is() -> None:
    assert str(Hookpoint("a.b")) == "a.b"
    assert str(Hookpoint("a.b", input=True)) == "a.b:input"
