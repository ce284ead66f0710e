"""A run's findings: explanations, scores and the windows that they rest on, drawn again as the run drew them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from harness.analysis.load import Run, ScoreRow
from harness.errors import UserError
from harness.examples.draw import LatentExamples, draw
from harness.examples.marks import mark
from harness.interop.findings import About, AboutCoder, Found, Judged, Score, Told, Window, half_characters
from harness.runs.arms import ExplanationArm, alone, constant
from harness.runs.journal_rows import Unit
from harness.runs.keys import score_seed
from harness.scorers.verdicts import FAILURES, Verdicts
from harness.store import CoderReader, Store
from harness.task import Task
from harness.values import Example, Explanation, Latent, ScoredSet

__all__ = ["RunFindings"]

_Place = tuple[int, int]


class RunFindings:
    """The findings of a run's own coders; populations of random latents are left out.

    Args:
        run: the run.
        model_id: the subject's name on Neuronpedia; the last part of its own name unless given.
        sources: Neuronpedia's source by coder, such as `6-res-jb`; the hookpoint's number and the coder's name unless
            given.
        created: when this is written; now unless given.

    Raises:
        StoreError: the store that the run rests on is gone or broken.
        UserError: a source is not a number, a hyphen and a name, or of no coder.
    """

    def __init__(
        self,
        run: Run,
        *,
        model_id: str | None = None,
        sources: Mapping[str, str] | None = None,
        created: datetime | None = None,
    ) -> None:
        self._run = run
        self._task = Task.model_validate(dict(run.record["task"]))
        self._store = run.store()
        self._kinds = {scorer.name: scorer.kind for scorer in self._task.scorer}
        free = set(run.record["model_free"])
        asked = {e.name: e.options.get("model") for e in self._task.explainer}
        self._models = {name: None if model in free else model for name, model in asked.items()}
        self._identities: Mapping[str, Any] = run.record["scorers"]
        self._figures: dict[str, str] = {}
        frame = self._store.manifest.frame
        self.about = About(
            run=run.name,
            model=frame.model,
            model_id=model_id or _slug(frame.model.rstrip("/").rpartition("/")[2]),
            dataset=_dataset(frame.corpus, self._task),
            created=(created or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S+00:00"),
            coders=_coders(run, self._task, self._store, sources or {}),
            task=run.record["task"],
            versions=run.record["versions"],
            context=frame.context,
            tokens=self._store.n_tokens,
            explainers=tuple(self._models),
            scorers=self._kinds,
            rung=run.rung,
        )

    def latents(self, coder: str | None = None) -> Iterator[Found]:
        """Each latent in the run's order, coder by coder; of one coder if given."""
        for part in self._run.parts():
            explained: defaultdict[Latent, list[tuple[ExplanationArm, Unit | None]]] = defaultdict(list)
            for arm, latent, unit in part.explanation_units():
                if not alone(arm):
                    explained[Latent(arm.coder, latent)].append((arm, unit))
            rows: defaultdict[Latent, list[ScoreRow]] = defaultdict(list)
            for row in part.score_rows():
                rows[Latent(row.arm.coder, row.latent)].append(row)
            for name in self.about.coders:
                for index in part.latents[name] if coder in (None, name) else ():
                    latent = Latent(name, index)
                    yield self._found(latent, explained[latent], rows[latent])

    def _found(
        self, latent: Latent, explained: Sequence[tuple[ExplanationArm, Unit | None]], rows: Sequence[ScoreRow]
    ) -> Found:
        reader = self._store.coder(latent.coder)
        task = self._task
        drawn = draw(reader, latent.index, task.examples, task.drawing_seed, min_examples=task.latents.min_examples)
        windows = _Windows(drawn if isinstance(drawn, LatentExamples) else None)
        told = tuple(self._told(arm, unit, rows, windows) for arm, unit in explained)
        statistics = reader.statistics
        known = self._store.manifest.frame.sampling == "all"
        return Found(
            latent.coder,
            latent.index,
            told,
            windows.ordered(),
            float(reader.maximum[latent.index]),
            float(statistics.rate[latent.index]) if known else None,
            _moments(reader, latent.index, int(statistics.read[latent.index])) if known else None,
            tuple(statistics.histogram[latent.index].tolist()),
        )

    def _told(self, arm: ExplanationArm, unit: Unit | None, rows: Sequence[ScoreRow], windows: _Windows) -> Told:
        answer = constant(arm.control)
        text = answer.text if isinstance(answer, Explanation) else None
        if unit is not None:
            text = unit.result["text"] if unit.status == "ok" else None
        # what the windows show of a lone half of a character they show in words, too
        text = None if text is None else half_characters(text)
        status, message = ("ok", "") if unit is None else (unit.status, unit.result.get("message", ""))
        scores = tuple(self._score(row, windows) for row in rows if row.arm == arm)
        name = arm.explainer or arm.control or ""
        return Told(name, text, self._models.get(arm.explainer or ""), arm.control, status, message, scores)

    def _score(self, row: ScoreRow, windows: _Windows) -> Score:
        name, rung = row.scoring.scorer, row.scoring.rung
        if name not in self._figures:
            self._figures[name] = self._run.metric_of(name)
        found = row.unit.result.get("metrics", {}) if row.unit is not None and row.status == "ok" else {}
        # beside figures there are counts, and figures by quantile
        figures = {key: value for key, value in found.items() if isinstance(value, float)}
        verdicts = row.verdicts
        judged = () if verdicts is None else tuple(self._judged(row, verdicts, windows))
        return Score(
            name, self._kinds[name], self._figures[name], figures, row.scoring.model, judged, rung, row.status,
            row.message,
        )  # fmt: skip

    def _judged(self, row: ScoreRow, verdicts: Verdicts, windows: _Windows) -> Iterator[Judged]:
        """What was said of windows of the store; of texts that a scorer wrote nothing is told."""
        marks: Mapping[_Place, tuple[int, ...]] = {}
        identity = self._identities[row.scoring.scorer]
        scored = windows.rung(row.scoring.rung)
        if identity.get("kind") == "fuzzing" and scored is not None:
            seed = score_seed(self._task.drawing_seed, Latent(row.arm.coder, row.latent), row.scoring.rung)
            passages = mark(scored, identity["threshold"], seed)
            marks = {(p.place.context, p.place.start): p.marks for p in passages if p.place is not None}
        columns = (
            verdicts.context, verdicts.start, verdicts.truth, verdicts.label, verdicts.probability, verdicts.value,
            verdicts.failure, verdicts.predicted,
        )  # fmt: skip
        for context, start, truth, label, probability, value, failure, strengths in zip(
            *(column.tolist() for column in columns), strict=True
        ):
            window = windows.at.get((context, start))
            if window is not None:
                yield Judged(
                    window,
                    truth == 1,
                    None if label < 0 else label == 1,
                    _number(probability),
                    _number(value),
                    marks.get((context, start), ()),
                    () if failure else tuple(strengths[: len(window.tokens)]),
                    FAILURES[failure - 1] if failure else "",
                )


class _Windows:
    """The windows that a latent was explained and scored by, each once, by place."""

    def __init__(self, drawn: LatentExamples | None) -> None:
        self.at: dict[_Place, Window] = {}
        self._scored = () if drawn is None else drawn.scored
        examples = [] if drawn is None else [*drawn.shown, *(e for scored in drawn.scored for e in scored.examples)]
        for example in examples:
            place = example.passage.place
            assert place is not None
            self.at.setdefault((place.context, place.start), _window(example))

    def rung(self, name: str) -> ScoredSet | None:
        """What was asked about on a rung."""
        return next((scored for scored in self._scored if scored.rung == name), None)

    def ordered(self) -> tuple[Window, ...]:
        """The strongest first, silent ones last."""
        return tuple(sorted(self.at.values(), key=lambda window: -window.maximum))


def _window(example: Example) -> Window:
    tokens = tuple(half_characters(token) for token in example.passage.tokens)
    # as short as the number is: 0.1 and not what is nearest to it in float64
    values = tuple(float(str(value)) if value else 0.0 for value in example.activations)
    return Window(tokens, values, example.quantile)


def _moments(reader: CoderReader, index: int, read: int) -> tuple[float, float, float, float] | None:
    """Mean, variance, skewness and kurtosis over all tokens, silent ones included; None where nothing varies."""
    values = reader.latent(index).values.astype(np.float64)
    if not read or not len(values):
        return None
    mean = float(values.sum() / read)
    silent = read - len(values)
    central = [float((((values - mean) ** power).sum() + silent * (-mean) ** power) / read) for power in (2, 3, 4)]
    if central[0] <= 0:
        return None
    return mean, central[0], central[1] / central[0] ** 1.5, central[2] / central[0] ** 2


def _coders(run: Run, task: Task, store: Store, sources: Mapping[str, str]) -> dict[str, AboutCoder]:
    names = [coder.name for coder in task.coder]
    for name in sources:
        if name not in names:
            raise UserError(f"--source {name}=...: the run has no such coder; it has: {', '.join(names)}")
    found = {}
    for coder in task.coder:
        reader = store.coder(coder.name)
        hookpoint = coder.hookpoint or reader.hookpoint or coder.name
        given = sources.get(coder.name) or (coder.name if re.match(r"\d+-.", coder.name) else None)
        if given is None:
            numbers = re.findall(r"\d+", hookpoint)
            given = f"{numbers[-1] if numbers else 0}-{_slug(coder.name)}"
        match = re.fullmatch(r"(\d+)-([A-Za-z0-9._-]+)", given)
        if match is None:
            wanted = "give a layer's number, a hyphen and a name, such as 6-res-jb"
            raise UserError(f"--source {coder.name}={given}: {wanted}")
        found[coder.name] = AboutCoder(
            coder.name, hookpoint, reader.n_latents, int(match[1]), match[2].lower(), coder.path
        )
    return {name: found[name] for name in run.latents if name in found}


def _dataset(corpus: Mapping[str, Any], task: Task) -> str:
    """What the text is called: a data set's name, or that of its file."""
    named = corpus.get("dataset") or corpus.get("datasets")
    if named or task.subject is None:
        return str(named or "")
    given = task.subject.corpus
    return given.dataset or (Path(given.path).name if given.path else "")


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "model"


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
