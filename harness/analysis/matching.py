"""Whether runs can be compared: the same scorer on the same latents and examples, or why not in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.analysis.load import Run
from harness.errors import RunError
from harness.runs.arms import ScoreArm
from harness.runs.directory import changes

__all__ = ["labels", "match", "same_scorer"]

# what of the examples' settings decides which windows are scored: `rungs` adds some, `shown` and `select` are others
_SCORED = ("window", "split", "peak", "scored")
_BESIDE = ("rungs", "embedder")


def labels(runs: Sequence[Run]) -> list[str]:
    """What a reader calls each run: its task's name, or its directory where two tasks have the same.

    Raises:
        RunError: a run is given twice.
    """
    places = [run.path.resolve() for run in runs]
    for at, run in enumerate(runs):
        if places[at] in places[:at]:
            raise RunError(f"{run.path}: the run is given twice")
    names = [run.name for run in runs]
    if len(set(names)) == len(names):
        return names
    return [str(run.path) for run in runs]


def match(first: Run, other: Run, scorer: str) -> None:
    """Nothing where both runs judged common latents by a scorer on the same examples.

    Raises:
        RunError: they did not; one sentence says why.
    """
    problem = _problem(first, other, scorer)
    if problem is not None:
        raise RunError(f"{other.path} cannot be compared with {first.path}: {problem}")


def same_scorer(first: Run, other: Run, scorer: str) -> bool:
    """Whether a scorer that both runs have is the same and judged the same examples in both."""
    mine, theirs = _arms(first, scorer), _arms(other, scorer)
    return all(mine[coder].digest == theirs[coder].digest for coder in mine.keys() & theirs.keys())


def _problem(first: Run, other: Run, scorer: str) -> str | None:
    if first.record["store"]["id"] != other.record["store"]["id"]:
        return "they read different stores, so no latent has the same examples in both"
    coders = sorted((first.latents.keys() & other.latents.keys()) - first.populations.keys())
    if not coders:
        return f"they have no coder in common ({', '.join(first.latents)}; {', '.join(other.latents)})"
    if scorer not in other.scorers:
        return f'it has no scorer "{scorer}"; it has {", ".join(other.scorers)}'
    if first.rung != other.rung:
        return f'the headline rung is "{other.rung}" and not "{first.rung}", so they were scored on other examples'
    if drawn := changes(_drawing(first), _drawing(other)):
        return f"they were scored on other examples ({'; '.join(drawn)})"
    asked = changes(*(run.record["scorers"][scorer] for run in (first, other)))
    if asked:
        return f'scorer "{scorer}" is not the same ({"; ".join(asked)}), so a difference may be the judge\'s'
    if not same_scorer(first, other, scorer):
        return f'scorer "{scorer}" got its examples from another version of the harness'
    if not any(set(first.latents[coder]) & set(other.latents[coder]) for coder in coders):
        return "they have no latent in common"
    return None


def _drawing(run: Run) -> Mapping[str, Any]:
    task = run.record["task"]
    examples = {key: task["examples"][key] for key in _SCORED} | {"draw": task["examples"].get("draw", 0)}
    scored = {key: value for key, value in examples["scored"].items() if key not in _BESIDE}
    return {"seed": task["seed"], "examples": {**examples, "scored": scored}}


def _arms(run: Run, scorer: str) -> dict[str, ScoreArm]:
    """A scorer's arms on the headline's rung by coder; random latents, which are never paired, need not be the same."""
    own = (arm for arm in run.scoring if arm.scorer == scorer and arm.rung == run.rung)
    return {arm.coder: arm for arm in own if arm.coder not in run.populations}
