"""A round of rating: who is asked what next, and what they say, whatever it is shown on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from harness.errors import UserError
from harness.rating.book import Book
from harness.rating.items import OPTIONS, Item, order

__all__ = ["LONGEST", "Session"]

# characters of a rater's name, and of an explanation that a person writes
_NAME: Final = 40
LONGEST: Final = 2000


class Session:
    """Asks the items of a selection and puts the answers into a book; holds no state of its own beside them."""

    def __init__(self, book: Book, items: Sequence[Item], seed: int) -> None:
        self._book, self._seed = book, seed
        self._items = {item.id: item for item in items}
        book.know(items)

    def state(self, rater: str) -> dict[str, Any]:
        """What a page shows a rater: the next item, None after the last, and how far it is.

        Raises:
            UserError: the name is empty or too long.
        """
        name = _named(rater)
        answered = self._book.answered(name)
        ordered = order(list(self._items.values()), self._seed, name)
        left = [item for item in ordered if item.id not in answered]
        return {
            "rater": name,
            "item": left[0].shown() if left else None,
            "done": len(ordered) - len(left),
            "total": len(ordered),
            "options": list(OPTIONS),
        }

    def rate(self, rater: str, item: str, rating: int | None) -> dict[str, Any]:
        """Commit a rating, or with None that the item was skipped; gives the state after it.

        Raises:
            UserError: there is no such item, or the rating is none of the options.
        """
        name = _named(rater)
        if self._known(item).kind != "rate" or not (rating is None or 1 <= rating <= len(OPTIONS)):
            raise UserError(f"a rating is a number from 1 to {len(OPTIONS)}, or none")
        self._book.answer(name, item, rating=rating)
        return self.state(name)

    def write(self, rater: str, item: str, text: str | None) -> dict[str, Any]:
        """Commit an explanation, or with None that the latent was skipped; gives the state after it.

        Raises:
            UserError: there is no such item, or the text is empty or too long.
        """
        name = _named(rater)
        words = None if text is None else text.strip()
        if self._known(item).kind != "write" or (words is not None and not 1 <= len(words) <= LONGEST):
            raise UserError(f"an explanation has 1 to {LONGEST} characters")
        self._book.answer(name, item, text=words)
        return self.state(name)

    def undo(self, rater: str) -> dict[str, Any]:
        """Take back what a rater said last; gives the state after it, in which that item is the next.

        Raises:
            UserError: the name is empty or too long.
        """
        name = _named(rater)
        self._book.undo(name, self._items)
        return self.state(name)

    def _known(self, item: str) -> Item:
        if item not in self._items:
            raise UserError("there is no such item")
        return self._items[item]


def _named(rater: str) -> str:
    name = " ".join(rater.split())
    if not 1 <= len(name) <= _NAME:
        raise UserError(f"a name has 1 to {_NAME} characters")
    return name
