"""Killed, out of space or damaged: a store becomes what it would have become, or names the file that is wrong."""

from __future__ import annotations

import errno
import filecmp
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from harness.errors import StoreError
from harness.store import CoderFrame, ManifestFrame, Observed, Rows, Store, StoreWriter, Vocabulary, add_rows, files

CONTEXT, LATENTS, BATCHES = 32, 20, 6
VOCABULARY = Vocabulary(tuple(f" w{k}" for k in range(50)))
FRAME = ManifestFrame(model="none", corpus={"path": "text"}, context=CONTEXT)
CODERS = (
    CoderFrame("a", LATENTS, "block.0", rows=True),
    CoderFrame("b", 4, "block.1", "r1", np.arange(20).reshape(4, 5), partial=True),
)
OBSERVED = {"b": Observed(np.arange(5) * 24, np.tile(np.arange(24), 4))}


def rows(seed: int, latents: int) -> Rows:
    generator = np.random.default_rng(seed)
    values = generator.lognormal(0, 2, (4 * CONTEXT, latents)).astype(np.float32)
    matrix = csr_array(np.where(generator.random(values.shape) < np.linspace(0.02, 0.3, latents), values, 0))
    return Rows(matrix.indptr.astype(np.int64), matrix.indices, matrix.data)


def write(path: Path) -> Store:
    """Begin the store or go on with it, and finish it."""
    with StoreWriter.begin(path, FRAME, VOCABULARY, CODERS, segment_nonzeros=900) as writer:
        for seed in range(writer.next_context // 4, BATCHES):
            tokens = np.random.default_rng(seed + 1000).integers(0, 50, (4, CONTEXT)).astype(np.uint32)
            documents = np.full((4, CONTEXT), seed, dtype=np.int32)
            writer.append(tokens, documents, {"a": rows(seed, LATENTS), "b": rows(seed + 50, 4)})
        return writer.finish({"dropped_tokens": 5}, observed=OBSERVED)


def same_files(left: Path, right: Path) -> bool:
    def names(folder: Path) -> list[str]:
        found = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
        return sorted(name for name in found if not name.startswith(".lock"))

    assert names(left) == names(right)
    return all(filecmp.cmp(left / name, right / name, shallow=False) for name in names(left))


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    store = write(tmp_path / "whole")
    assert {name.split("/")[2] for name in store.manifest.files if name.startswith("coders/a/")} == {
        "csc",
        "rows",
        "statistics",
    }
    return store.path


Plan = Callable[[], None]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before_change(number: int) -> Plan:
    """Die before that file operation: a file opened for writing, a folder made, a rename, a removal."""

    def start() -> None:
        left = number

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            opens = event == "open" and isinstance(arguments[1], str) and "w" in arguments[1]
            if opens or event in ("os.rename", "os.mkdir", "shutil.rmtree", "os.remove"):
                left -= 1
                if left < 0:
                    die()

        sys.addaudithook(watch)

    return start


def at_rename(number: int, *, after: bool) -> Plan:
    """Die before that rename, or right after it."""

    def start() -> None:
        left = number

        def watched(rename: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **more: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0 and not after:
                    die()
                found = rename(*arguments, **more)
                if left < 0:
                    die()
                return found

            return call

        os.rename, os.replace = watched(os.rename), watched(os.replace)

    return start


def inside_write(number: int) -> Plan:
    """Die with half of that piece of an array written."""

    def start() -> None:
        left = number
        put = files.ArrayFile._put

        def half(file: files.ArrayFile, data: bytes | memoryview) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                file._file.write(data[: len(data) // 2])
                file._file.flush()
                die()
            put(file, data)

        files.ArrayFile._put = half  # type: ignore[method-assign] # only in the child that dies

    return start


def write_or_open(path: Path) -> Store:
    return Store.open(path) if finished(path) else write(path)


def killed(path: Path, plan: Plan, work: Callable[[Path], object] = write_or_open) -> bool:
    """Whether a process that writes the store is killed as planned; if not, it has finished it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            plan()
            work(path)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)


def finished(path: Path) -> bool:
    file = path / "manifest.json"
    return file.exists() and json.loads(file.read_text())["finished"]


def ends_alike(whole: Path, cut: Path) -> bool:
    if not finished(cut):
        write(cut)
    Store.open(cut).verify()
    return same_files(whole, cut)


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_each_rename_a_store_ends_in_the_same_bytes(tmp_path: Path, whole: Path, after: bool) -> None:
    number = 0
    while killed(cut := tmp_path / f"cut{number}", at_rename(number, after=after)):
        assert ends_alike(whole, cut), number
        number += 1
    # vocabulary and manifest, three segments, tokens and documents, the folders of two coders, the manifest
    assert number >= 14


def test_killed_at_ten_random_places_a_store_ends_in_the_same_bytes(tmp_path: Path, whole: Path) -> None:
    chooser, kills = random.Random(0), 0
    for number in range(10):
        cut = tmp_path / f"cut{number}"
        kills += killed(
            cut, inside_write(chooser.randrange(60)) if number % 2 else before_change(chooser.randrange(70))
        )
        assert ends_alike(whole, cut), number
    assert kills == 10


def test_killed_again_and_again_a_store_ends_in_the_same_bytes(tmp_path: Path, whole: Path) -> None:
    cut, kills = tmp_path / "cut", 0
    # each attempt gets a few operations further than the one before, over and over from where that one left
    while killed(cut, before_change(2 + 2 * kills)):
        kills += 1
    assert kills >= 10
    assert ends_alike(whole, cut)


@pytest.mark.slow
@pytest.mark.parametrize("plan", [before_change, inside_write])
def test_killed_anywhere_a_store_ends_in_the_same_bytes(
    tmp_path: Path, whole: Path, plan: Callable[[int], Plan]
) -> None:
    number = 0
    while killed(cut := tmp_path / f"cut{number}", plan(number)):
        assert ends_alike(whole, cut), number
        number += 1
    assert number >= 60


def test_killed_while_rows_are_added_a_store_stays_what_it_was(tmp_path: Path, whole: Path) -> None:
    before = Store.open(whole)
    rich = add_rows(shutil.copytree(whole, tmp_path / "rich"))
    number = 0
    while killed(cut := shutil.copytree(whole, tmp_path / f"cut{number}"), at_rename(number, after=False), add_rows):
        left = Store.open(cut)
        left.verify()
        assert (left.id, left.manifest.coders) == (before.id, before.manifest.coders)
        assert add_rows(cut).manifest == rich.manifest
        assert same_files(rich.path, cut)
        number += 1
    # the rows of one coder, for the other has them, and the manifest
    assert number == 2


def full_after(monkeypatch: pytest.MonkeyPatch, pieces: int, code: int = errno.ENOSPC) -> Iterator[None]:
    """A disk that takes so many pieces of arrays and flushes, and then no more."""
    left = pieces
    put = files.ArrayFile._put

    def one(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(code, os.strerror(code))

    def put_one(file: files.ArrayFile, data: bytes | memoryview) -> None:
        one()
        put(file, data)

    with monkeypatch.context() as patch:
        patch.setattr(files.ArrayFile, "_put", put_one)
        patch.setattr("os.fsync", one)
        yield


def test_a_full_disk_is_one_sentence_and_the_store_goes_on(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, stops = tmp_path / "cut", 0
    while not finished(cut):
        for _ in full_after(monkeypatch, 3 + 3 * stops):
            try:
                write(cut)
            except StoreError as error:
                assert str(error) == (  # noqa: PT017 # it may also succeed
                    f"no space is left on the disk of {cut}: free some and collect again, which goes on from the last "
                    "finished segment"
                )
                stops += 1
    assert stops >= 10
    assert ends_alike(whole, cut)


def test_a_writer_goes_on_by_itself_when_there_is_space_again(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cut"
    with StoreWriter.create(path, FRAME, VOCABULARY, CODERS) as writer:
        for seed in range(BATCHES):
            tokens = np.random.default_rng(seed + 1000).integers(0, 50, (4, CONTEXT)).astype(np.uint32)
            documents = np.full((4, CONTEXT), seed, dtype=np.int32)
            writer.append(tokens, documents, {"a": rows(seed, LATENTS), "b": rows(seed + 50, 4)})
        for _ in full_after(monkeypatch, 30):
            with pytest.raises(StoreError, match="no space is left"):
                writer.finish({"dropped_tokens": 5}, observed=OBSERVED)
        writer.finish({"dropped_tokens": 5}, observed=OBSERVED)
    assert ends_alike(whole, path)


def test_a_disk_that_refuses_is_told_in_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in full_after(monkeypatch, 0, errno.EROFS):
        with pytest.raises(StoreError, match=r"store cannot be written: Read-only file system$"):
            write(tmp_path / "store")


def read_all(path: Path) -> None:
    """Everything that a store is asked for."""
    store = Store.open(path)
    _ = store.tokens[0], store.documents[0], store.vocabulary
    for name in store.coder_names:
        coder = store.coder(name)
        _ = coder.decoder, coder.statistics, coder.maximum, coder.observed(0)
        for index in range(coder.n_latents):
            coder.latent(index)
    store.coder("a").fired(0, 5)


def changed(data: bytes) -> bytes:
    return data[:-2] + bytes([data[-2] ^ 1]) + data[-1:]


def damages() -> list[tuple[str, Callable[[Path], None], str]]:
    return [
        ("a bit is flipped", lambda file: file.write_bytes(changed(file.read_bytes())) and None, "is corrupt"),
        ("it is cut off", lambda file: file.write_bytes(file.read_bytes()[:-3]) and None, "is (truncated|corrupt)"),
        ("it is too long", lambda file: file.write_bytes(file.read_bytes() + b"x") and None, "is (too long|corrupt)"),
        ("it is gone", lambda file: file.unlink(), "is missing"),
    ]


@pytest.mark.parametrize(("damage", "told"), [part[1:] for part in damages()], ids=[part[0] for part in damages()])
def test_a_damaged_file_is_named_by_whatever_reads_it(whole: Path, damage: Callable[[Path], None], told: str) -> None:
    read_all(whole)
    names = sorted(Store.open(whole).manifest.files)
    assert len(names) >= 28
    for name in names:
        kept = (whole / name).read_bytes()
        damage(whole / name)
        for read in (read_all, lambda path: Store.open(path).verify()):
            with pytest.raises(StoreError, match=rf"^{whole / name} {told}"):
                read(whole)
        (whole / name).write_bytes(kept)
    read_all(whole)


def test_each_way_to_the_matrix_finds_a_flipped_bit(whole: Path) -> None:
    for kind in ("positions", "values"):
        file = whole / "coders" / "a" / "csc" / f"{kind}.npy"
        kept = file.read_bytes()
        # the last bytes belong to the last latent
        file.write_bytes(changed(kept))
        coder = Store.open(whole).coder("a")
        coder.latent(3)
        ways: list[Callable[[], object]] = [
            lambda coder=coder: coder.latent(LATENTS - 1),
            lambda coder=coder: list(coder.scan()),
        ]
        if kind == "positions":
            ways.append(lambda coder=coder: coder.windows(8))
        for way in ways:
            with pytest.raises(StoreError, match=rf"{kind}\.npy is corrupt"):
                way()
        file.write_bytes(kept)


def test_numbers_of_a_latent_are_those_written(whole: Path) -> None:
    dense: NDArray[Any] = np.concatenate(
        [
            csr_array((part.values, part.latents, part.indptr), shape=(4 * CONTEXT, LATENTS)).toarray()
            for part in (rows(seed, LATENTS) for seed in range(BATCHES))
        ]
    )
    coder = Store.open(whole).coder("a")
    for index in range(LATENTS):
        assert coder.latent(index).positions.tolist() == np.flatnonzero(dense[:, index]).tolist()
