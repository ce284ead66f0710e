"""Imports explanations of other projects and of people, so that a run scores them beside its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import FormatError, UserError
from harness.interop import delphi_results, neuronpedia_read, written_lists
from harness.interop.documents import decoded, documents, keys_of
from harness.interop.findings import Found, Score, Told
from harness.interop.formats import Part, part_of
from harness.interop.writing import free_file, write_lines

__all__ = ["Imported", "import_explanations", "read_explanations"]

_ENDINGS = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
_SCORES = ("rows of Neuronpedia's scores", "scores as this project exports them")
_KNOWN = (
    "known are Neuronpedia's exported explanations, upload batches and its API's features, delphi's run folders, "
    "SAEBench's autointerp results, OpenAI's scored simulations, and CSV or JSON lines with latent and explanation"
)


@dataclass(frozen=True, slots=True)
class Imported:
    """What was written: explanations by coder, their scores' means by scorer, and how many of a latent came second."""

    by_coder: Mapping[str, int]
    means: Mapping[str, tuple[float, int]]
    passed_over: int


def read_explanations(source: Path) -> list[Found]:
    """Every explanation of a file or folder with its scores, latent by latent in the order in which they come.

    Raises:
        FormatError: there is none, or something is broken; the message tells where.
    """
    if not source.exists():
        raise FormatError(f"{source}: there is no such file or folder")
    if source.is_dir() and delphi_results.recognised(source):
        found: Iterable[Found] = delphi_results.read_folder(source)
    elif source.suffix == ".csv":
        found = (written_lists.of_table(where, row) for where, row in written_lists.table(source))
    else:
        found = _documents(source)
    merged = _merged(found)
    if not merged:
        raise FormatError(f"{source} has no explanations; {_KNOWN}")
    return merged


def import_explanations(
    source: Path, out: Path, *, explainer: str | None = None, coders: Mapping[str, str] | None = None
) -> Imported:
    """Write the explanations of a file or folder as JSON lines, which an explainer of kind `file` reads.

    Everything is read before anything is written.

    Args:
        source: what to read.
        out: the file to write; nothing may be there.
        explainer: whose explanations; may be left out where there is one.
        coders: what the coders of the source are called in tasks; with the key "" all of them.

    Raises:
        FormatError: the source is broken or has no explanations.
        UserError: there is something at `out`, or several explainers, or no coder of a name.
    """
    found = read_explanations(source)
    chosen = _chosen(found, explainer)
    named = _renamed([(one, told) for one, told in _pairs(found) if told.explainer == chosen], coders or {})
    lines: dict[tuple[str, int], dict[str, object]] = {}
    passed_over = 0
    values: dict[str, list[float]] = {}
    for one, told in named:
        if (one.coder, one.latent) in lines:
            passed_over += 1
            continue
        lines[one.coder, one.latent] = written_lists.line_of(one, told)
        for score in told.scores:
            if score.value is not None:
                values.setdefault(f"{score.scorer} {score.figure}".strip(), []).append(score.value)
    with free_file(out) as path:
        write_lines(path, lines.values())
    by_coder = Counter(coder for coder, _ in lines)
    return Imported(by_coder, {name: (sum(v) / len(v), len(v)) for name, v in values.items()}, passed_over)


def _documents(source: Path) -> Iterator[Found]:
    files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.name.endswith(_ENDINGS))
    scores: dict[object, list[Score]] = {}
    ids: list[tuple[object, Found]] = []
    # what is uploaded is in a bulk export, too
    uploads: list[tuple[object, Found]] = []
    for path in files:
        for part, where, data in _parts(path):
            if part.what.startswith("lines of Neuronpedia's exported explanations"):
                ids.append(neuronpedia_read.explanation(data, where))
            elif part.what == _SCORES[0]:
                of, score = neuronpedia_read.score(data, where)
                scores.setdefault(of, []).append(score)
            elif part.what == _SCORES[1]:
                for key, score in written_lists.score(data, where):
                    scores.setdefault(key, []).append(score)
            elif part.read is not None:
                place = uploads if part.what == "Neuronpedia's upload batch" else ids
                for found in part.read(data, where):
                    place += [
                        ((found.coder, found.latent, told.explainer), replace(found, told=(told,)))
                        for told in found.told
                    ]
    for key, found in ids or uploads:
        of = tuple(scores.get(key, ()))
        yield replace(found, told=tuple(replace(told, scores=told.scores + of) for told in found.told))


def _parts(path: Path) -> Iterator[tuple[Part, str, bytes]]:
    """The documents of a file that may tell of explanations or their scores, as what the first of them is."""
    part = None
    for where, data in documents(path):
        part = part or part_of(data, path)
        if part is None and keys_of(data) is None:
            # of the right kind or not, it has to be JSON
            decoded(data, object, where)
        if part is None or (part.read is None and part.what not in _SCORES):
            # a file of something else, which may be long
            return
        yield part, where, data


def _merged(found: Iterable[Found]) -> list[Found]:
    """One value a latent; what is told twice in the same words by the same explainer is told once."""
    by_latent: dict[tuple[str, int], list[Told]] = {}
    for one in found:
        told = by_latent.setdefault((one.coder, one.latent), [])
        told += [each for each in one.told if (each.explainer, each.text) not in {(t.explainer, t.text) for t in told}]
    return [Found(coder, latent, tuple(told)) for (coder, latent), told in by_latent.items() if told]


def _pairs(found: Iterable[Found]) -> Iterator[tuple[Found, Told]]:
    for one in found:
        for told in one.told:
            yield one, told


def _chosen(found: Iterable[Found], wanted: str | None) -> str:
    counts = Counter(told.explainer for _, told in _pairs(found))
    if wanted is None and len(counts) == 1:
        return next(iter(counts))
    if wanted is None or wanted not in counts:
        said = "--explainer: say whose to take" if wanted is None else f"--explainer {wanted}: there are none by it"
        told = ", ".join(f"{name or 'no name'} ({count})" for name, count in counts.items())
        raise UserError(f"{said}; there are explanations by {told}")
    return wanted


def _renamed(pairs: list[tuple[Found, Told]], coders: Mapping[str, str]) -> list[tuple[Found, Told]]:
    known = dict.fromkeys(one.coder for one, _ in pairs)
    for name in coders:
        if name and name not in known:
            raise UserError(f"--coder {name}=...: there is no such coder; there are: {', '.join(known)}")
    if "" in coders and len(known) > 1:
        raise UserError(f"--coder {coders['']}: there are several coders, so give SOURCE=NAME for {', '.join(known)}")
    return [(replace(one, coder=coders.get(one.coder, coders.get("", one.coder))), told) for one, told in pairs]
