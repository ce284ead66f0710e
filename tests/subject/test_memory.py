"""Batches that do not fit: which parts are done instead, what is remembered, what else is raised."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import SubjectError
from harness.subject.memory import Halved, Halving, is_out_of_memory


def fitting(most: int, tried: list[slice]) -> object:
    """Work that fits for so many contexts at once."""

    def work(part: slice) -> list[int]:
        tried.append(part)
        if part.stop - part.start > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return list(range(part.start, part.stop))

    return work


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(1, 20))
def test_every_context_is_done_once_in_order_and_in_parts_that_fit(batches: list[int], most: int) -> None:
    halving, first = Halving(), 0
    for size in batches:
        tried: list[slice] = []
        parts = list(halving.parts(fitting(most, tried), size, first))  # type: ignore[arg-type]  # a plain function
        assert [number for part in parts for number in part] == list(range(size))
        assert all(len(part) <= most for part in parts)
        first += size
    recorded = {number for one in halving.halved for number in range(one.start, one.stop)}
    start = 0
    for size in batches:
        assert (size <= most) or set(range(start, start + size)) <= recorded
        start += size


def test_what_fitted_is_kept_to_and_ranges_are_told_once() -> None:
    halving, tried = Halving(), []
    for first in (0, 8, 16):
        list(halving.parts(fitting(3, tried), 8, first))  # type: ignore[arg-type]  # a plain function
    # 8 and 4 fail once, then 2 is kept to
    assert [part.stop - part.start for part in tried] == [8, 4, *[2] * 12]
    assert halving.halved == [Halved(0, 24, 2)]


def test_a_batch_that_fits_is_not_told_of() -> None:
    halving = Halving()
    assert len(list(halving.parts(fitting(8, []), 8, 0))) == 1  # type: ignore[arg-type]  # a plain function
    assert halving.halved == []


def test_a_single_context_that_does_not_fit_is_the_end() -> None:
    with pytest.raises(SubjectError, match="a single context does not fit into memory"):
        list(Halving().parts(fitting(0, []), 8, 0))  # type: ignore[arg-type]  # a plain function


def test_other_errors_go_through() -> None:
    def work(_: slice) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        list(Halving().parts(work, 8, 0))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("x"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("a bug"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_of_memory_are_told_from_others(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_what_torch_raises_without_memory_is_told() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**55)
    assert is_out_of_memory(error.value)
