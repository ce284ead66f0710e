"""Whether files of a known format are right: what is wrong, on which line, in which field, and what was expected."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from harness.errors import FormatError
from harness.interop import delphi_cache, written_lists
from harness.interop.documents import decoded, documents, keys_of
from harness.interop.formats import Part, part_of

__all__ = ["Checked", "check"]

_ENDINGS = (".json", ".jsonl", ".json.gz", ".jsonl.gz", ".txt", ".csv", ".parquet")
_BATCH = re.compile(r"batch-(\d+)\.jsonl(\.gz)?")


@dataclass
class Checked:
    """What a file or folder is: formats and kinds of documents with their number, and what is wrong, in sentences.

    `passed_over` are files of a folder that are of no known format.
    """

    kinds: dict[str, int] = field(default_factory=dict)
    formats: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)

    def note(self, format_: str, what: str, count: int = 1) -> None:
        """Count documents of a kind."""
        self.formats.add(format_)
        self.kinds[what] = self.kinds.get(what, 0) + count


def check(source: Path) -> Checked:
    """Look at every document of a file or folder.

    Raises:
        FormatError: there is nothing, or nothing of a known format.
    """
    if not source.exists():
        raise FormatError(f"{source}: there is no such file or folder")
    found = Checked()
    files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
    for path in files:
        if not _known(path, found):
            found.passed_over.append(str(path))
    if source.is_dir():
        _check_card(source, found)
        _check_batches(source, found)
        if delphi_cache.recognised(source):
            found.note("delphi", "a cache of activations")
    if not found.kinds and not found.problems:
        raise FormatError(f"{source} is of no known format; see the page on exporting for those that are")
    return found


def _known(path: Path, found: Checked) -> bool:
    """Check a file, if it is of a known format."""
    if path.suffix == ".csv":
        _lines_of_table(path, found)
    elif path.suffix == ".parquet":
        _parquet(path, found)
    elif path.name.endswith(_ENDINGS):
        return _json(path, found)
    else:
        return False
    return True


def _json(path: Path, found: Checked) -> bool:
    part: Part | None = None
    first: frozenset[str] | None = None
    try:
        for where, data in documents(path):
            keys = keys_of(data)
            if part is None:
                part, first = part_of(data, path), keys
                if part is None:
                    return _broken(path, where, data, found)
            found.note(part.format, part.what)
            _tell(found, part.check, data, where)
            if part.columns and keys is not None and keys != first:
                found.problems.append(f"{where}: {_differing(keys, first or frozenset())}")
    except FormatError as error:
        found.problems.append(str(error))
    return True


def _tell(found: Checked, check: Callable[[bytes, str], object], data: bytes, where: str) -> None:
    try:
        check(data, where)
    except FormatError as error:
        found.problems.append(str(error))


def _broken(path: Path, where: str, data: bytes, found: Checked) -> bool:
    """JSON of no known kind is passed over; what is no JSON is a mistake, unless it is plain text."""
    if path.suffix == ".txt" or not data.strip():
        return False
    try:
        json.loads(data)
    except ValueError as error:
        found.problems.append(f"{where}: this is no JSON, or the file is cut short: {error}")
        return True
    return False


def _differing(keys: frozenset[str], first: frozenset[str]) -> str:
    lacking, more = sorted(first - keys), sorted(keys - first)
    words = [f"it lacks {', '.join(lacking)}"] if lacking else []
    words += [f"it has {', '.join(more)}"] if more else []
    return f"{' and '.join(words)}; expected the keys of the first line, of which the columns are taken"


def _lines_of_table(path: Path, found: Checked) -> None:
    try:
        for where, row in written_lists.table(path):
            found.note("csv", "a table of explanations, rows")
            try:
                written_lists.of_table(where, row)
            except FormatError as error:
                found.problems.append(str(error))
    except FormatError as error:
        found.problems.append(str(error))


def _parquet(path: Path, found: Checked) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        found.problems.append(f"{path}: this file is broken or cut short: {error}")
        return
    found.note("parquet", "a table in Parquet, rows", table.num_rows)
    for name in ("coder", "latent"):
        if name not in table.column_names:
            has = ", ".join(table.column_names)
            found.problems.append(f"{path}: {name}: there is no such column; it has: {has}")


def _check_card(folder: Path, found: Checked) -> None:
    """Whether the files that a dataset's card names are there."""
    card = folder / "README.md"
    if not card.is_file() or not card.read_text(encoding="utf-8", errors="replace").startswith("---\n"):
        return
    from huggingface_hub import DatasetCard

    found.passed_over = [path for path in found.passed_over if path != str(card)]
    try:
        configs = DatasetCard.load(card).data.to_dict().get("configs") or []
        named = [(one["config_name"], file["path"]) for one in configs for file in one["data_files"]]
    except Exception as error:  # the library raises nothing narrower
        found.problems.append(f"{card}: its front matter is broken: {error}; expected configs with data_files")
        return
    found.note("huggingface", "a dataset's card")
    for name, path in named:
        if not (folder / path).is_file():
            found.problems.append(f"{card}: configs.{name}: there is no file {path}")


def _check_batches(folder: Path, found: Checked) -> None:
    """Whether a bulk export's activations are of the features of the batch of the same number."""
    for path in sorted(folder.rglob("activations/batch-*")):
        if not _BATCH.fullmatch(path.name):
            continue
        features = path.parents[1] / "features" / path.name
        if not features.is_file():
            found.problems.append(f"{path}: there is no {features}; expected a batch of features of the same number")
            continue
        try:
            known, there = set(_indices(features)), set(_indices(path))
        except FormatError:
            # already told of the file itself
            continue
        if strange := sorted(there - known):
            found.problems.append(f"{path}: index {strange[0]} is not in {features}; expected the same features")


class _Indexed(msgspec.Struct):
    index: str | int


def _indices(path: Path) -> Iterator[str]:
    for where, data in documents(path):
        yield str(decoded(data, _Indexed, where).index)
