"""The rating page as one offline file, and what a rater saved from it read back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from harness.errors import UserError
from harness.rating.book import Book
from harness.rating.items import OPTIONS, Item, order
from harness.rating.page import page
from harness.rating.session import LONGEST
from harness.values import digest

__all__ = ["read_sheet", "write_sheet"]

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=40)]


class _Answer(msgspec.Struct):
    item: str
    rating: Annotated[int, msgspec.Meta(ge=1, le=len(OPTIONS))] | None = None
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST)] | None = None


class _Saved(msgspec.Struct):
    format: Literal["latent-harness ratings"]
    version: Literal[1]
    run: str
    rater: _Name
    answers: list[_Answer]


def write_sheet(run: str, items: Sequence[Item], seed: int, path: Path) -> None:
    """Write a page with all items in it, in one seeded order; it works from a disk, without a network.

    Raises:
        UserError: there is something at `path`.
    """
    if path.exists():
        raise UserError(f"--sheet {path}: there is something already: delete it or choose another name")
    ordered = order(items, seed, "sheet")
    sheet = {
        "run": run,
        "id": digest([item.id for item in ordered])[:16],
        "options": list(OPTIONS),
        "items": [item.shown() for item in ordered],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(f"Rating {run}", sheet), encoding="utf-8")


def read_sheet(path: Path, book: Book) -> tuple[str, int]:
    """Take what a rater saved into a book, all of it or nothing; gives the rater's name and the number of answers.

    Raises:
        UserError: the file is no such one, or of items that this run does not know.
    """
    try:
        saved = msgspec.json.decode(path.read_bytes(), type=_Saved)
    except OSError as error:
        raise UserError(f"--read {path}: it cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        told = str(error)
        try:
            json.loads(path.read_bytes())
        except ValueError:
            told = "it is cut short or no JSON"
        raise UserError(f"--read {path}: this is not what a rating sheet saves: {told}") from error
    known = book.items()
    for number, answer in enumerate(saved.answers):
        place = f"--read {path}: answers[{number}]"
        if answer.item not in known:
            raise UserError(f'{place}.item: this run has no item "{answer.item}": is it the sheet of another run?')
        kind = known[answer.item].kind
        if (answer.text is not None and kind != "write") or (answer.rating is not None and kind != "rate"):
            wanted = "a rating" if kind == "rate" else "a text"
            raise UserError(f"{place}: it should have {wanted}")
    for answer in saved.answers:
        book.answer(" ".join(saved.rater.split()), answer.item, rating=answer.rating, text=answer.text)
    return saved.rater, len(saved.answers)
