"""SAEBench's autointerp results: one file an SAE, with a score and what it rests on for each latent."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from harness.errors import FormatError, UserError
from harness.interop.documents import decoded
from harness.interop.findings import About, AboutCoder, Found, Score, Told
from harness.interop.writing import write_json
from harness.values import seed_of

__all__ = ["KEYS", "read_results", "write_results"]

KEYS = frozenset({"eval_type_id", "eval_result_metrics"})
_NAME = "autointerp"


class _Metrics(msgspec.Struct):
    autointerp_score: float
    autointerp_std_dev: float


class _AllMetrics(msgspec.Struct):
    autointerp: _Metrics


class _Latent(msgspec.Struct):
    latent: int
    explanation: str
    logs: str = ""
    predictions: list[int] | None = None
    correct_seqs: list[int] | None = msgspec.field(default=None, name="correct seqs")
    score: float | None = None


class _Results(msgspec.Struct):
    eval_type_id: str
    eval_config: dict[str, Any]
    eval_id: str
    datetime_epoch_millis: int
    eval_result_metrics: _AllMetrics
    sae_bench_commit_hash: str
    sae_lens_id: str | None
    sae_lens_release_id: str | None
    sae_lens_version: str | None
    sae_cfg_dict: dict[str, Any] | None
    eval_result_details: list[Any] = []
    eval_result_unstructured: dict[str, _Latent] | None = None


def read_results(data: bytes, where: str) -> Iterator[Found]:
    """The explanations of a file with their scores; the coder is called `<release>_<id>`.

    The figure is `accuracy`, the share of windows that were judged rightly.

    Raises:
        FormatError: it is broken, or of another evaluation.
    """
    found: _Results = decoded(data, _Results, where)
    if found.eval_type_id != _NAME:
        raise FormatError(f'{where}: eval_type_id: "{found.eval_type_id}"; expected "{_NAME}"')
    coder = "_".join(part for part in (found.sae_lens_release_id, found.sae_lens_id) if part)
    for key, row in (found.eval_result_unstructured or {}).items():
        place = f"{where}: eval_result_unstructured.{key}"
        if key != str(row.latent):
            raise FormatError(f'{place}.latent: {row.latent}; expected the key\'s number, "{key}"')
        for name, places in (("predictions", row.predictions), ("correct seqs", row.correct_seqs)):
            if places is not None and min(places, default=1) < 1:
                raise FormatError(f"{place}.{name}: {min(places)}; expected numbers from 1 on")
        if row.score is not None and not 0 <= row.score <= 1:
            raise FormatError(f"{place}.score: {row.score}; expected a share, 0 to 1")
        figures = {} if row.score is None else {"accuracy": row.score}
        scores = (Score("detection", "detection", "accuracy", figures),) if figures else ()
        yield Found(coder, row.latent, (Told("saebench", row.explanation, scores=scores),))


def write_results(
    about: About, latents: Iterable[Found], folder: Path, *, explainer: str | None = None, scorer: str | None = None
) -> list[str]:
    """Write a file for each coder; what was left out is told in sentences.

    It holds one explainer's explanations by one scorer's labels. `autointerp_score` is the mean over latents of the
    share of windows that were judged rightly, among those with a verdict, and the deviation that of a sample (n - 1).

    Args:
        about: what the findings have in common.
        latents: coder by coder.
        folder: where to write.
        explainer: whose explanations; may be left out where the run has one.
        scorer: of kind detection or fuzzing; the first one unless given.

    Raises:
        UserError: there is no such explainer or scorer, or several explainers.
    """
    explainer = _chosen_explainer(about, explainer)
    scorer = _chosen_scorer(about, scorer)
    notes = []
    for name, some in groupby(latents, key=lambda found: found.coder):
        coder = about.coders[name]
        every = [_latent(about, found, explainer, scorer) for found in some]
        rows = [row for row in every if row is not None]
        if len(rows) < len(every):
            notes.append(f"{name}: {len(every) - len(rows)} latents without such a score are left out")
        if rows:
            release, sae = _names(about, coder)
            body = _body(about, coder, rows, release, sae)
            path = re.sub(r"[^A-Za-z0-9._-]", "_", f"{release}_{sae}") + "_eval_results.json"
            write_json(folder / path, body)
    return notes


def _chosen_explainer(about: About, wanted: str | None) -> str:
    known = about.explainers
    if wanted is None and len(known) == 1:
        return known[0]
    if wanted is None or wanted not in known:
        said = "give --explainer: this format holds one" if wanted is None else f"--explainer {wanted}: there is none"
        raise UserError(f"{said}; the run has: {', '.join(known)}")
    return wanted


def _chosen_scorer(about: About, wanted: str | None) -> str:
    known = [name for name, kind in about.scorers.items() if kind in ("detection", "fuzzing")]
    if wanted is None and known:
        return next((name for name in known if about.scorers[name] == "detection"), known[0])
    if wanted is None or wanted not in known:
        said = "the run has no scorer" if wanted is None else f"--scorer {wanted}: there is none"
        raise UserError(f"{said} of kind detection or fuzzing; the run has: {', '.join(known or about.scorers)}")
    return wanted


def _latent(about: About, found: Found, explainer: str, scorer: str) -> dict[str, Any] | None:
    for told in found.told:
        if told.explainer != explainer or told.control is not None or told.text is None:
            continue
        for score in told.scores:
            said = [judged.label for judged in score.judged]
            other = score.scorer != scorer or score.rung != about.rung
            if other or all(label is None for label in said):
                continue
            right = [j.label == j.truth for j in score.judged if j.label is not None]
            return {
                "latent": found.latent,
                "explanation": told.text,
                "logs": _logs(told.text, score),
                "predictions": [at for at, label in enumerate(said, 1) if label],
                "correct seqs": [at for at, judged in enumerate(score.judged, 1) if judged.truth],
                "score": sum(right) / len(right),
            }
    return None


def _logs(text: str, score: Score) -> str:
    """What a person reads: the explanation, then each window with what was right and what was said."""
    lines = [f"Explanation: {text}"]
    for at, judged in enumerate(score.judged, 1):
        said = judged.failure or ("1" if judged.label else "0")
        lines.append(f"{at:4} right {int(judged.truth)} said {said:12} {judged.window.text!r}")
    return "\n".join(lines)


def _body(about: About, coder: AboutCoder, rows: Sequence[dict[str, Any]], release: str, sae: str) -> dict[str, Any]:
    scores = np.array([row["score"] for row in rows])
    created = datetime.fromisoformat(about.created)
    return {
        "eval_type_id": _NAME,
        "eval_config": _config(about, rows),
        "eval_id": str(uuid.UUID(int=seed_of(about.run, coder.name, about.created) << 64)),
        "datetime_epoch_millis": int(created.timestamp() * 1000),
        "eval_result_metrics": {
            _NAME: {
                "autointerp_score": float(scores.mean()),
                "autointerp_std_dev": float(scores.std(ddof=1)) if len(scores) > 1 else 0.0,
            }
        },
        "eval_result_details": [],
        "eval_result_unstructured": {str(row["latent"]): row for row in rows},
        # no commit of theirs: who wrote it
        "sae_bench_commit_hash": f"latent-harness {about.versions.get('latent-harness', '')}".strip(),
        "sae_lens_id": sae,
        "sae_lens_release_id": release,
        "sae_lens_version": "",
        "sae_cfg_dict": {"hook_name": coder.hookpoint, "d_sae": coder.latents, "model_name": about.model},
    }


def _config(about: About, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The run's settings under their names, as far as they have one."""
    examples = about.task["examples"]
    shown, scored = examples["shown"], examples["scored"]
    top = shown["sampler"] == "top"
    return {
        "model_name": about.model,
        "n_latents": len(rows),
        "override_latents": [row["latent"] for row in rows],
        "dead_latent_threshold": float(about.task["latents"]["min_examples"]),
        "random_seed": about.task["seed"],
        "dataset_name": about.dataset,
        "llm_context_size": about.context,
        "llm_batch_size": (about.task.get("subject") or {}).get("batch") or 0,
        "llm_dtype": str((about.task.get("subject") or {}).get("dtype") or ""),
        "buffer": examples["window"] // 2,
        "no_overlap": True,
        "act_threshold_frac": 0.0,
        "total_tokens": about.tokens,
        "scoring": True,
        "max_tokens_in_explanation": 0,
        "use_demos_in_explanation": True,
        "n_top_ex_for_generation": shown["count"] if top else 0,
        "n_iw_sampled_ex_for_generation": 0 if top else shown["count"],
        "n_top_ex_for_scoring": 0,
        "n_random_ex_for_scoring": scored["non_activating"],
        "n_iw_sampled_ex_for_scoring": scored["activating"],
    }


def _names(about: About, coder: AboutCoder) -> tuple[str, str]:
    """What stands for a release and an SAE of it."""
    release, _, sae = (coder.path or "").partition(":")
    return (release, sae) if sae else (about.model_id, coder.source)
