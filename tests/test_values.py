"""Passages are values: equal by what they say and where they stand, and never changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.values import Example, Passage, Place


def passage(**changed: Any) -> Passage:
    return Passage(**{"tokens": (" a", "b"), "marks": (1,), "place": Place("s", 1, 2), **changed})


def test_passages_are_equal_whatever_their_source() -> None:
    one, other = passage(source=object()), passage(source=object())
    assert one == other
    assert len({one, other, passage()}) == 1
    assert "object" not in repr(one)


@pytest.mark.parametrize("changed", [{"tokens": (" a",)}, {"marks": ()}, {"place": None}, {"place": Place("s", 1, 3)}])
def test_passages_that_say_or_stand_otherwise_are_others(changed: dict[str, Any]) -> None:
    assert passage() != passage(**changed)
    assert passage() != ((" a", "b"), (1,), Place("s", 1, 2))


@pytest.mark.parametrize("name", ["tokens", "marks", "place", "source"])
def test_a_passage_cannot_be_changed(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(passage(), name, None)


def test_an_example_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Example(passage(), np.zeros(2, dtype=np.float32)).quantile = 3
