"""delphi's run folder: an explanation and a list of score rows for each latent, in a file each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.errors import FormatError, UserError
from harness.interop.documents import decoded
from harness.interop.findings import About, Found, Score, Told
from harness.interop.score_rows import figures_of, read_rows, row_of
from harness.interop.writing import write_json

__all__ = [
    "FOLDERS",
    "explanation_of",
    "is_named",
    "latent_of",
    "read_folder",
    "recognised",
    "scores_of",
    "write_folder",
]

_FILE = re.compile(r"(.+)_latent(\d+)\.txt")
# kinds of our scorers and the folders that their rows go into
FOLDERS = {"fuzzing": "fuzz", "detection": "detection", "embedding": "embedding"}
_KINDS = {folder: kind for kind, folder in FOLDERS.items()}
_SLASH = "-->"
_TEXTS = "explanations/*.txt"


def recognised(source: Path) -> bool:
    """Whether a folder is that of a run with explanations, or holds some that are."""
    return any(_FILE.fullmatch(path.name) for path in (*source.glob(_TEXTS), *source.glob(f"*/{_TEXTS}")))


def read_folder(source: Path) -> Iterator[Found]:
    """Every explanation of a run's folder with its scores, of which figures are worked out from the rows.

    Explanations are by `delphi`; of a folder of such folders, by what each is called.

    Raises:
        FormatError: a file is broken, or not called after its latent.
    """
    if not (source / "explanations").is_dir():
        for folder in sorted(source.iterdir()):
            if (folder / "explanations").is_dir():
                yield from _read(folder, folder.name)
        return
    yield from _read(source, "delphi")


def _read(source: Path, explainer: str) -> Iterator[Found]:
    for path in sorted(source.glob(_TEXTS), key=_order):
        module, latent = latent_of(path)
        text = explanation_of(path.read_bytes(), str(path))
        scores = []
        for folder in sorted(p for p in (source / "scores").glob("*") if p.is_dir()):
            there = [folder / path.name, folder / path.name.replace("/", _SLASH)]
            rows = next((one for one in there if one.is_file()), None)
            if rows is not None:
                scores.append(scores_of(rows.read_bytes(), str(rows), folder.name))
        yield Found(module, latent, (Told(explainer, text, scores=tuple(scores)),))


def is_named(path: Path) -> bool:
    """Whether a file is called after a latent."""
    return _FILE.fullmatch(path.name) is not None


def latent_of(path: Path) -> tuple[str, int]:
    """The module and the latent that a file is called after.

    Raises:
        FormatError: it is called otherwise.
    """
    match = _FILE.fullmatch(path.name)
    if match is None:
        raise FormatError(f"{path}: expected a name such as layers.3.mlp_latent7.txt")
    return match[1].replace(_SLASH, "/"), int(match[2])


def explanation_of(data: bytes, where: str) -> str:
    """The text of a file of `explanations/`, a JSON string.

    Raises:
        FormatError: it is none, or empty.
    """
    text: str = decoded(data, str, where)
    if not text.strip():
        raise FormatError(f"{where}: the explanation is empty; expected a JSON string with words")
    return text


def scores_of(data: bytes, where: str, folder: str) -> Score:
    """The score in a file of `scores/<folder>/`.

    Raises:
        FormatError: it is broken.
    """
    judged = read_rows(data, where)
    figures = figures_of(judged)
    figure = "auroc" if any(each.value is not None for each in judged) else "balanced_accuracy"
    return Score(folder, _KINDS.get(folder, folder), figure, figures, judged=judged)


def write_folder(about: About, latents: Iterable[Found], folder: Path, *, explainer: str | None = None) -> list[str]:
    """Write `run_config.json`, `explanations/` and `scores/`; what was left out is told in sentences.

    A run of several explainers gives a folder for each, of its name; with `explainer` only that one's, without one.
    """
    names = about.explainers
    if explainer is not None and explainer not in names:
        raise UserError(f"--explainer {explainer}: the run has no such explainer; it has: {', '.join(names)}")
    left: dict[str, None] = {}
    chosen = names if explainer is None else (explainer,)
    places = {name: folder / name if len(chosen) > 1 else folder for name in chosen}
    for place in places.values():
        write_json(place / "run_config.json", {"model": about.model, "name": about.run, "seed": about.task["seed"]})
    for found in latents:
        for name, place in places.items():
            _write_latent(about, found, name, place, left)
    return [f"scores of {', '.join(left)} are left out: delphi has no rows of such"] if left else []


def _write_latent(about: About, found: Found, explainer: str, place: Path, left: dict[str, None]) -> None:
    module = about.coders[found.coder].hookpoint
    if sum(coder.hookpoint == module for coder in about.coders.values()) > 1:
        # theirs would overwrite one with the other
        module = f"{module}.{found.coder}"
    for told in found.told:
        if told.explainer != explainer or told.control is not None or told.text is None:
            continue
        name = f"{module}_latent{found.latent}.txt".replace("/", _SLASH)
        write_json(place / "explanations" / name, told.text)
        for score in told.scores:
            folder = FOLDERS.get(score.kind)
            if folder is None or not score.judged:
                left[score.scorer] = None
                continue
            # other rungs, and other scorers of a kind, have folders of their own
            first = next(s for s in told.scores if s.kind == score.kind and s.rung in (about.rung, score.rung))
            own = folder if score is first and score.rung == about.rung else f"{score.scorer}-{score.rung}"
            write_json(place / "scores" / own / name, [row_of(judged) for judged in score.judged])


def _order(path: Path) -> tuple[str, int]:
    match = _FILE.fullmatch(path.name)
    return (path.name, -1) if match is None else (match[1], int(match[2]))
