"""A task file as frozen, validated values; every mistake names the file, the key and what was expected."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from harness.errors import TaskError
from harness.overrides import override
from harness.resources import folder
from harness.settings import (
    POPULATIONS,
    CoderSettings,
    Control,
    CorpusSettings,
    ExampleSettings,
    ExplainerSettings,
    Frozen,
    InterventionSettings,
    KindSettings,
    LatentSettings,
    LimitSettings,
    Name,
    PrimarySettings,
    Rung,
    ScoredSettings,
    ScorerSettings,
    ShownSettings,
    SplitSettings,
    StoreSettings,
    SubjectSettings,
)
from harness.validation import validated

__all__ = [
    "POPULATIONS",
    "CoderSettings",
    "Control",
    "CorpusSettings",
    "ExampleSettings",
    "ExplainerSettings",
    "Frozen",
    "InterventionSettings",
    "KindSettings",
    "LatentSettings",
    "LimitSettings",
    "PrimarySettings",
    "Rung",
    "ScoredSettings",
    "ScorerSettings",
    "ShownSettings",
    "SplitSettings",
    "StoreSettings",
    "SubjectSettings",
    "Task",
    "find_task",
    "load_task",
]


class Task(Frozen):
    """Everything that decides a result.

    `model` holds settings of models by their name, such as `[model."truth/planted"]`; each provider validates
    its own. `source` is the file, `base` the folder that relative paths start from. `controls` are told of in
    `docs/controls.md`; those that are `populations` need a [subject] to read and no [store]. `interventions` is for
    explainers and scorers that change latents while the subject writes.
    """

    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    subject: SubjectSettings | None = None
    store: StoreSettings | None = None
    coder: tuple[CoderSettings, ...]
    latents: LatentSettings
    examples: ExampleSettings = ExampleSettings()
    explainer: tuple[ExplainerSettings, ...]
    scorer: tuple[ScorerSettings, ...]
    controls: tuple[Control, ...] = ("shuffled", "none")
    interventions: InterventionSettings | None = None
    primary: PrimarySettings | None = None
    limits: LimitSettings = LimitSettings()
    model: dict[str, dict[str, Any]] = Field(default_factory=dict)
    base: Path = Field(default=Path(), exclude=True)
    source: str = Field(default="task", exclude=True)

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        if self.subject is None and self.store is None:
            raise ValueError("a task needs [subject], or [store] with the path of a finished store")
        for group in ("coder", "explainer", "scorer"):
            found = [item.name for item in getattr(self, group)]
            if not found:
                raise ValueError(f"a task needs at least one [[{group}]]")
            twice = sorted({name for name in found if found.count(name) > 1})
            if twice:
                raise ValueError(f'the name "{twice[0]}" is given to two [[{group}]]; names have to differ')
        if self.primary is not None and self.primary.scorer not in {scorer.name for scorer in self.scorer}:
            known = ", ".join(scorer.name for scorer in self.scorer)
            raise ValueError(
                f'primary.scorer "{self.primary.scorer}" is no [[scorer]] of this task; there are: {known}'
            )
        for coder in self.coder if self.store is None else ():
            if coder.missing:
                raise ValueError(f"coder.{coder.name}: {coder.missing}")
        self._check_controls()
        self._check_explainers()
        if self.subject is not None and self.examples.scored.headline != "random":
            raise ValueError(
                'examples.scored.rungs: "zero-row" and "same-row" are for imported records; where a [subject] reads '
                'text, ask for "random"'
            )
        if self.subject is not None and self.subject.context % self.examples.window:
            raise ValueError(
                f"examples.window ({self.examples.window}) has to divide subject.context ({self.subject.context})"
            )
        self._check_interventions()
        return self

    def _check_controls(self) -> None:
        if len(set(self.controls)) != len(self.controls):
            raise ValueError("controls has duplicates")
        for control in self.populations:
            if self.store is not None:
                raise ValueError(
                    f'controls: "{control}" is collected from the subject, and this task takes a finished [store]: '
                    "give a [subject] in its place, or leave the control out"
                )
            for coder in self.coder:
                if coder.kind == "planted":
                    raise ValueError(
                        f'controls: "{control}" reads the activations at a coder\'s hookpoint, and coder '
                        f'"{coder.name}" reads text: leave the control out'
                    )

    def _check_interventions(self) -> None:
        if self.interventions is None:
            return
        if self.subject is None:
            raise ValueError("[interventions] are on a subject: add the [subject] that the store was collected from")
        if self.subject.context % self.interventions.window:
            raise ValueError(
                f"interventions.window ({self.interventions.window}) has to divide subject.context "
                f"({self.subject.context})"
            )

    def _check_explainers(self) -> None:
        known = [explainer.name for explainer in self.explainer]
        for scorer in self.scorer:
            for name in scorer.explainers or ():
                if name not in known:
                    raise ValueError(
                        f'scorer.{scorer.name}.explainers: "{name}" is no [[explainer]] of this task; there are: '
                        + ", ".join(known)
                    )

    @property
    def drawing_seed(self) -> int:
        """The seed that examples are drawn by, and what follows from them; the order of latents goes by `seed`."""
        return self.examples.drawing_seed(self.seed)

    @property
    def populations(self) -> tuple[Control, ...]:
        """The controls that are latents of their own."""
        return tuple(control for control in self.controls if control in POPULATIONS)

    @property
    def ranking(self) -> PrimarySettings:
        """The primary figure: as the task says, else the first scorer's own."""
        return self.primary or PrimarySettings(scorer=self.scorer[0].name)


def find_task(name: str) -> Path:
    """The task file of a path or of a shipped task's bare name.

    Raises:
        TaskError: there is no such file.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = folder("tasks") / f"{name}.toml"
    if path.suffix == "" and path.name == name and shipped.is_file():
        return shipped
    known = sorted(p.relative_to(folder("tasks")).with_suffix("").as_posix() for p in folder("tasks").rglob("*.toml"))
    beside = sorted(str(p) for p in path.parent.glob("*.toml"))
    near = difflib.get_close_matches(name, [*beside, *known], 1)
    hint = f'; did you mean "{near[0]}"?' if near else "; shipped tasks: " + ", ".join(known)
    raise TaskError(f"{name}: no such task file{hint}")


def load_task(name: str | Path, overrides: Sequence[str] = ()) -> Task:
    """Read a task file and apply overrides such as `explainer.mini.model=openai/gpt-5`.

    Raises:
        TaskError: the file, a key or an override is wrong.
    """
    path = find_task(str(name))
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise TaskError(f"{path}: not valid TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path}: cannot be read: {error}") from error
    for given in overrides:
        override(data, given)
    for key in ("base", "source"):
        if key in data:
            raise TaskError(f"{path}: {key}: unknown key")
    return validated(Task, {**data, "base": path.parent.resolve(), "source": str(path)}, str(path))
