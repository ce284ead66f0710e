"""Embeddings as values: small, comparable, the same after a journal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from harness.clients import RecentKeeper, Reply
from harness.clients.serialise import pack_reply, reply_from_data, reply_to_data, unpack_reply
from harness.clients.vectors import Vectors
from harness.clients.wire import Wire
from harness.values import Usage

numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
rows = array_shapes(min_dims=2, max_dims=2).flatmap(lambda shape: arrays(np.float32, shape, elements=numbers))


@given(rows)
def test_vectors_survive_a_journal_and_lists_bit_by_bit(given_rows: np.ndarray) -> None:
    vectors = Vectors.of(given_rows)
    assert (len(vectors), vectors.width) == given_rows.shape
    np.testing.assert_array_equal(vectors.array, given_rows)
    reply = Reply("", "stop", Usage(input=3, requests=1), vectors=vectors)
    assert unpack_reply(*pack_reply(reply)) == reply_from_data(reply_to_data(reply)) == reply
    assert reply != replace(reply, vectors=None)


@pytest.mark.parametrize("wrong", [[], [[]], [[1.0], [1.0, 2.0]], [[float("nan")]], [[float("inf")]], [1.0], [[1e300]]])
@pytest.mark.filterwarnings("ignore:overflow")
def test_what_is_no_matrix_of_finite_numbers_is_refused(wrong: list) -> None:
    with pytest.raises(ValueError, match=r"finite|rows|sequence|inhomogeneous"):
        Vectors.of(wrong)


def test_vectors_of_real_size_take_little_more_than_their_bytes() -> None:
    vectors = Vectors.of(np.random.default_rng(0).standard_normal((32, 1536)))
    blob, _ = pack_reply(Reply("", "stop", Usage(), vectors=vectors))
    assert len(blob) < 1.02 * len(vectors.data)


@pytest.mark.anyio
async def test_the_recent_are_kept_and_those_used_longest_ago_go_first() -> None:
    keeper = RecentKeeper(most=3 * 8)
    reply = Reply("", "stop", Usage(), vectors=Vectors.of([[1.0, 2.0]]))
    for key in "abc":
        await keeper.keep(key, Wire.of({}), reply)
    assert keeper.get("a") == reply
    await keeper.keep("d", Wire.of({}), reply)
    assert [key for key in "abcd" if keeper.get(key) is not None] == ["a", "c", "d"]
