"""A report's header: what was run, on what, with which parts, and what failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from harness.judges.items import KINDS
from harness.judges.sheet import find_sheet
from harness.report.counting import large_counts, large_failures
from harness.report.data import CoderLine, FailureCount, Header, JudgeLine, Primary, RoleLine
from harness.report.reading import Reading, arm_of
from harness.report.words import RUNG_NOTES
from harness.runs.arms import written
from harness.runs.journal_rows import Unit
from harness.values import FailureStatus

__all__ = ["header"]


def header(reading: Reading) -> Header:
    """The header of a run's report."""
    record, task = reading.run.record, reading.task
    return Header(
        task=task.name,
        subject=_subject(reading),
        corpus=_corpus(reading),
        seed=task.seed,
        coders=tuple(_coder(reading, coder.name) for coder in task.coder),
        roles=tuple(_roles(reading)),
        primary=Primary(task.ranking.scorer, reading.run.ranking["metric"], task.ranking.margin, reading.rung),
        versions=record["versions"],
        counts=_counts(reading),
        failures=tuple(_failures(reading)),
        spending=tuple(reading.run.spending()),
        notes=tuple(_notes(reading)),
        judges=tuple(_judges(reading)),
    )


def _subject(reading: Reading) -> str:
    if reading.task.subject is not None:
        revision = reading.task.subject.revision
        return reading.task.subject.model + (f", revision {revision}" if revision else "")
    return "a finished store" if reading.store is None else reading.store.manifest.frame.model


def _notes(reading: Reading) -> Iterator[str]:
    """What a reader has to know before the figures."""
    if reading.store is None:
        yield "The activation store is gone: this report has no examples."
    if reading.rung != "random":
        yield (
            "The activations are published records, selected for what fires in them: how often a latent fires is not "
            "known, so there are no figures at base rate and no quantiles. A latent is asked about on its own records "
            f"only. The headline figures are on rung {reading.rung}: silent are {RUNG_NOTES[reading.rung]}."
        )


def _corpus(reading: Reading) -> str:
    tokens = f"{reading.run.record['store']['tokens']:,} tokens"
    if reading.store is not None and reading.store.manifest.frame.sampling == "selected":
        return f"{reading.store.n_contexts:,} published records"
    if reading.task.subject is None:
        return tokens
    corpus = reading.task.subject.corpus
    return f"{corpus.dataset or corpus.path}, {tokens}"


def _coder(reading: Reading, name: str) -> CoderLine:
    settings = next(coder for coder in reading.task.coder if coder.name == name)
    figures = reading.run.record["store"].get("figures", {}).get(name, {})
    source = settings.path or ("a finished store" if reading.task.store is not None else settings.kind)
    if reading.store is None:
        return CoderLine(name, settings.hookpoint or "", None, source)
    reader = reading.store.coder(name)
    if reader.revision:
        source += f", revision {reader.revision}"
    return CoderLine(name, reader.hookpoint, reader.n_latents, source, figures.get("fvu"), figures.get("l0"))


def _roles(reading: Reading) -> Iterator[RoleLine]:
    free = set(reading.run.record["model_free"])
    for explainer in reading.task.explainer:
        found = reading.run.record["explainers"][explainer.name]
        prompt = str(explainer.options.get("prompt", "default"))
        yield _role("explainer", explainer.name, explainer.kind, found, prompt, free)
    for scorer in reading.task.scorer:
        found = reading.run.record["scorers"][scorer.name]
        prompt = next((arm.prompt for arm in reading.run.scoring if arm.scorer == scorer.name), "")
        yield _role("scorer", scorer.name, scorer.kind, found, prompt, free)


def _judges(reading: Reading) -> Iterator[JudgeLine]:
    """The scorers that a model judges for; those without a language model only where they have a sheet all the same.

    Sheets are looked for in the folders beside the run's own.
    """
    beside = reading.run.path.resolve().parent
    for scorer in reading.task.scorer:
        identity = reading.run.record["scorers"][scorer.name]
        if not (model := identity.get("model")):
            continue
        sheet = find_sheet(beside, identity) if scorer.kind in KINDS else None
        if sheet is not None or model[0] not in reading.run.record["model_free"]:
            yield JudgeLine(scorer.name, scorer.kind, str(model[0]), sheet)


def _counts(reading: Reading) -> dict[str, int]:
    if reading.whole.large:
        return large_counts(reading.whole)
    units = _units(reading)
    # a shuffled explanation is one that was written already
    own = [unit for arm, _, unit in reading.explanations if written(arm) and unit is not None]
    random = sum(len(found) for name, found in reading.run.latents.items() if name in reading.run.populations)
    return {
        "latents": sum(map(len, reading.run.latents.values())) - random,
        **({"random latents": random} if random else {}),
        "explanations": sum(unit.status == "ok" for unit in own),
        "scores": sum(unit.status == "ok" for _, unit in units),
        "verdicts": sum(int(v.answered.sum()) for row in reading.distinct() if (v := row.verdicts) is not None),
    }


def _failures(reading: Reading) -> Iterator[FailureCount]:
    """Explanations, scores and verdicts that failed; a latent with too few examples counts once."""
    if reading.whole.large:
        yield from large_failures(reading.whole)
        return
    found: Counter[tuple[str, FailureStatus]] = Counter()
    for arm, _, unit in reading.explanations:
        if unit is not None and unit.status not in ("ok", "too_few_examples"):
            found[f"explanations of {arm_of(arm).label}", unit.status] += 1
    for name, unit in _units(reading):
        if unit.status not in ("ok", "too_few_examples"):
            found[f"scores of {name}", unit.status] += 1
    for row in reading.distinct():
        if (verdicts := row.verdicts) is not None:
            for status, times in verdicts.failures().items():
                found[f"verdicts of {row.scoring.scorer}", status] += times
    if few := len(reading.too_few):
        found["latents", "too_few_examples"] = few
    yield from (FailureCount(stage, status, times) for (stage, status), times in found.items())


def _units(reading: Reading) -> list[tuple[str, Unit]]:
    return [(row.scoring.scorer, row.unit) for row in reading.distinct() if row.unit is not None]


def _role(
    role: Literal["explainer", "scorer"],
    name: str,
    kind: str,
    identity: Mapping[str, Any],
    prompt: str,
    free: Iterable[str],
) -> RoleLine:
    models = list(dict.fromkeys(_writers(identity)))
    model_free = bool(models) and set(models) <= set(free)
    digest = identity.get("prompt")
    # what answers without a model reads no prompt
    rendered = isinstance(digest, str) and not model_free
    shown = (prompt, str(digest)) if rendered else ("", "")
    return RoleLine(role, name, kind, ", ".join(models), model_free, *shown)


def _writers(identity: Mapping[str, Any]) -> Iterator[str]:
    """The models that write or judge: its own, and those of the explainers that it is made of."""
    if identity.get("model"):
        yield str(identity["model"][0])
    candidates = identity.get("candidates")
    for part in (identity.get("explainer"), *(candidates if isinstance(candidates, list) else ())):
        if isinstance(part, Mapping):
            yield from _writers(part)
