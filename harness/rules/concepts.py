"""A registry of concepts: named rules, each with the sentences that explain it truly."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import CoderError
from harness.rules.rule import Rule, parse

__all__ = ["Concept", "Concepts", "load_concepts"]


class Concept(BaseModel):
    """A rule with a name.

    `kind` tells what sort of latent it stands for, `sentences` explain it truly (the first is the registered one),
    `siblings` name concepts that are nearly it. `labels` tell what a generator of text calls it: any of several sets of
    labels, each of which must be there whole.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: str
    sentences: tuple[str, ...]
    rule: dict[str, Any]
    siblings: tuple[str, ...] = ()
    labels: tuple[tuple[str, ...], ...] = ()

    @cached_property
    def parsed(self) -> Rule:
        """The executable rule.

        Raises:
            ValueError: the data describe none.
        """
        return parse(self.rule)


@dataclass(frozen=True, slots=True)
class Concepts:
    """The concepts of a file, in its order, and the SHA-256 of its bytes."""

    concepts: tuple[Concept, ...]
    revision: str


def load_concepts(path: Path) -> Concepts:
    """The concepts of a file: a JSON object with a list under `concepts`; the place in the list is the latent's index.

    Raises:
        CoderError: the file is missing or wrong; the message names it.
    """
    try:
        content = path.read_bytes()
        data = json.loads(content)
        concepts = tuple(Concept.model_validate(item) for item in data["concepts"])
    except OSError as error:
        raise CoderError(f"{path}: cannot be read ({error.strerror}); a concepts file is needed") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CoderError(f"{path}: {where}: {first['msg']}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CoderError(f'{path}: not a JSON object with a list of concepts under "concepts"') from error
    for concept in concepts:
        try:
            _ = concept.parsed
        except ValueError as error:
            raise CoderError(f'{path}: concept "{concept.name}": {error}') from error
    _check_unique(path, concepts)
    return Concepts(concepts, hashlib.sha256(content).hexdigest())


def _check_unique(path: Path, concepts: tuple[Concept, ...]) -> None:
    names: set[str] = set()
    sentences: set[str] = set()
    for concept in concepts:
        if concept.name in names:
            raise CoderError(f'{path}: two concepts are called "{concept.name}"; a name must be given once')
        names.add(concept.name)
        for sentence in concept.sentences:
            if sentence in sentences:
                raise CoderError(
                    f'{path}: two concepts have the sentence "{sentence}"; a sentence must tell them apart'
                )
            sentences.add(sentence)
    for concept in concepts:
        unknown = set(concept.siblings) - names
        if unknown:
            raise CoderError(f'{path}: concept "{concept.name}" has a sibling "{min(unknown)}" that is no concept')
