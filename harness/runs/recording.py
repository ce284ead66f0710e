"""What a run writes down of itself before it begins: the task, and all else that decides its results."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.clients.models import Models
from harness.runs.populations import Population
from harness.runs.units import Plan
from harness.store import CoderReader, Store
from harness.subject.collect import read_figures
from harness.task import Task

__all__ = ["Work", "arms_recorded", "recorded"]


@dataclass(frozen=True, slots=True)
class Work:
    """What there is to do: the plan, and the latents of every coder, populations of random latents among them."""

    plan: Plan
    coders: Mapping[str, CoderReader]
    latents: Mapping[str, list[int]]
    populations: Sequence[Population] = ()


def recorded(task: Task, store: Store, models: Models, work: Work) -> dict[str, Any]:
    """All that decides or describes the results, JSON-able, for the journal and the frozen task."""
    plan, latents = work.plan, work.latents
    figures = {name: asdict(found) for name, found in read_figures(store).items()}
    manifest = store.manifest
    changed = {"interventions": dict(plan.interventions)} if plan.interventions else {}
    found = {
        "id": store.id,
        "path": str(store.path.resolve()),
        "tokens": store.n_tokens,
        "model_revision": manifest.frame.model_revision,
        "coder_revisions": {coder.name: coder.revision for coder in manifest.coders},
        "figures": figures,
    }
    return {
        "task": task.model_dump(mode="json"),
        "source": task.source,
        "base": str(task.base.resolve()),
        "ranking": _ranking(task, plan),
        "store": found,
        "explanation_arms": [asdict(arm) for arm in plan.explanation_arms],
        "score_arms": [asdict(arm) for arm in plan.score_arms],
        "explainers": {name: dict(explainer.identity) for name, explainer in plan.explainers.items()},
        "scorers": {name: dict(scorer.identity) for name, scorer in plan.scorers.items()},
        "latents": dict(latents),
        "model_free": models.model_free(),
        **changed,
        "versions": _versions(),
        **_of_populations(task, work),
    }


def _ranking(task: Task, plan: Plan) -> dict[str, Any]:
    """What arms are ranked by, with the scorer's own figure where the task names none."""
    given = task.ranking
    metric = given.metric or plan.scorers[given.scorer].metric
    return given.model_copy(update={"metric": metric}).model_dump(mode="json")


def arms_recorded(plan: Plan) -> dict[str, dict[str, Any]]:
    """Every arm of a plan in words: digest -> description."""
    changed = {arm: {"interventions": coder} for coder, arm in plan.interventions.items()}
    return changed | {arm.digest: asdict(arm) for arm in (*plan.explanation_arms, *plan.score_arms)}


def _of_populations(task: Task, work: Work) -> dict[str, Any]:
    """What the populations are, and in which share of windows each latent of theirs and of their coders fires."""
    if not work.populations:
        return {}
    window = task.examples.window
    rates = {
        name: (coder.windows(window)[work.latents[name]] / max(1, coder.store.n_windows(window))).tolist()
        for name, coder in work.coders.items()
    }
    described = {
        one.reader.name: {
            "of": one.of,
            "control": one.control,
            "revision": one.reader.revision,
            "matched": list(one.matched),
            "store": {"id": one.reader.store.id, "path": str(one.reader.store.path.resolve())},
        }
        for one in work.populations
    }
    return {"populations": described, "window_rates": rates}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("latent-harness", "torch", "transformers", "nnsight", "openai", "anthropic", "numpy", "scipy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
