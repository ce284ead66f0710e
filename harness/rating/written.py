"""Explanations that people wrote, as a list that an explainer of kind `file` reads: the arm `human`."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UserError
from harness.interop.writing import free_file, write_lines
from harness.rating.book import Book

__all__ = ["write_explanations"]


def write_explanations(book: Book, out: Path, rater: str | None = None) -> int:
    """Write one person's explanations into a file; gives how many there are.

    Raises:
        UserError: nobody wrote any, there are several people's and `rater` names none, or there is something at `out`.
    """
    asked = book.items()
    found: dict[str, list[dict[str, object]]] = {}
    for answer in book.answers():
        item = asked.get(answer.item)
        if item is not None and answer.text is not None:
            line = {"latent": item.latent, "coder": item.coder, "explanation": answer.text, "explainer": answer.rater}
            found.setdefault(answer.rater, []).append(line)
    if not found:
        raise UserError("nobody has written an explanation yet: harness rate RUN --write asks for them")
    chosen = next(iter(found)) if rater is None and len(found) == 1 else rater
    if chosen is None or chosen not in found:
        said = "--rater: say whose to take" if rater is None else f"--rater {rater}: there are none by this person"
        raise UserError(f"{said}; there are explanations by {', '.join(found)}")
    with free_file(out) as path:
        write_lines(path, found[chosen])
    return len(found[chosen])
