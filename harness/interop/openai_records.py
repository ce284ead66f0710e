"""OpenAI's neuron-explainer: neuron records, and explanations with scored simulations, read and written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.errors import FormatError
from harness.interop.documents import decoded
from harness.interop.findings import About, Found, Judged, Score, Told, Window
from harness.interop.writing import write_json

__all__ = ["RECORD_KEYS", "RESULT_KEYS", "read_record", "read_results", "write_records"]

RECORD_KEYS = frozenset({"neuron_id", "most_positive_activation_records"})
RESULT_KEYS = frozenset({"neuron_id", "scored_explanations"})
# the largest strength that a simulator says
_STRONGEST = 10
_NORMALISED = "simulated_normalized_activations"
_OWN = "neuron_activations"


class _NeuronId(msgspec.Struct):
    layer_index: int
    neuron_index: int


class _Activations(msgspec.Struct):
    tokens: list[str]
    activations: list[float]


class _Record(msgspec.Struct):
    neuron_id: _NeuronId
    random_sample: list[_Activations]
    most_positive_activation_records: list[_Activations]
    random_sample_by_quantile: list[list[_Activations]] | None = None
    quantile_boundaries: list[float] | None = None
    mean: float | None = None
    variance: float | None = None
    skewness: float | None = None
    kurtosis: float | None = None


class _Simulation(msgspec.Struct):
    tokens: list[str]
    expected_activations: list[float]
    activation_scale: str
    distribution_values: list[list[float]] = []
    distribution_probabilities: list[list[float]] = []
    uncalibrated_simulation: _Simulation | None = None


class _ScoredSequence(msgspec.Struct):
    simulation: _Simulation
    true_activations: list[float]
    ev_correlation_score: float | str | None = None
    rsquared_score: float | None = None
    absolute_dev_explained_score: float | None = None


class _ScoredSimulation(msgspec.Struct):
    scored_sequence_simulations: list[_ScoredSequence]
    ev_correlation_score: float | str | None = None
    rsquared_score: float | None = None
    absolute_dev_explained_score: float | None = None


class _ScoredExplanation(msgspec.Struct):
    explanation: str
    scored_simulation: _ScoredSimulation | None = None


class _Results(msgspec.Struct):
    neuron_id: _NeuronId
    scored_explanations: list[_ScoredExplanation]


def read_record(data: bytes, where: str) -> Found:
    """A neuron record's rows, the strongest first; the coder is called after the layer.

    Raises:
        FormatError: it is broken, or a row has not one activation for each token.
    """
    record: _Record = decoded(data, _Record, where)
    parts = [("most_positive_activation_records", record.most_positive_activation_records)]
    for at, sample in enumerate(record.random_sample_by_quantile or ()):
        parts.append((f"random_sample_by_quantile[{at}]", sample))
    parts.append(("random_sample", record.random_sample))
    windows: dict[tuple[tuple[str, ...], tuple[float, ...]], Window] = {}
    for name, rows in parts:
        for number, row in enumerate(rows):
            _equal(row.tokens, row.activations, f"{where}: {name}[{number}].activations")
            quantile = int(name[26:-1]) + 1 if name.startswith("random_sample_by_quantile") else None
            key = tuple(row.tokens), tuple(row.activations)
            known = windows.get(key)
            if known is None or known.quantile is None:
                windows[key] = Window(*key, quantile)
    ordered = tuple(sorted(windows.values(), key=lambda window: -window.maximum))
    return Found(str(record.neuron_id.layer_index), record.neuron_id.neuron_index, windows=ordered)


def read_results(data: bytes, where: str) -> Found:
    """A neuron's explanations with their scored simulations; the coder is called after the layer.

    Raises:
        FormatError: it is broken, or a simulation has not one number for each token.
    """
    found: _Results = decoded(data, _Results, where)
    told = []
    for number, one in enumerate(found.scored_explanations):
        place = f"{where}: scored_explanations[{number}]"
        if not one.explanation.strip():
            raise FormatError(f"{place}.explanation: it is empty; expected words")
        scored = one.scored_simulation
        scores = () if scored is None else _scores(scored, f"{place}.scored_simulation")
        name = "neuron-explainer" if number == 0 else f"neuron-explainer-{number + 1}"
        told.append(Told(name, one.explanation, scores=scores))
    return Found(str(found.neuron_id.layer_index), found.neuron_id.neuron_index, tuple(told))


def _scores(scored: _ScoredSimulation, where: str) -> tuple[Score, ...]:
    judged = []
    for number, one in enumerate(scored.scored_sequence_simulations):
        place = f"{where}.scored_sequence_simulations[{number}]"
        plain = one.simulation.uncalibrated_simulation or one.simulation
        for name, values in (
            ("true_activations", one.true_activations),
            ("simulation.expected_activations", one.simulation.expected_activations),
            ("simulation.uncalibrated_simulation.expected_activations", plain.expected_activations),
        ):
            _equal(one.simulation.tokens, values, f"{place}.{name}")
        window = Window(tuple(one.simulation.tokens), tuple(one.true_activations))
        judged.append(Judged(window, window.maximum > 0, strengths=tuple(plain.expected_activations)))
    value = scored.ev_correlation_score
    # theirs writes "NaN" where a side is constant
    figures = {"ev_correlation_score": value} if isinstance(value, float) and np.isfinite(value) else {}
    if not judged and not figures:
        return ()
    return (Score("simulation", "simulation", "ev_correlation_score", figures, judged=tuple(judged)),)


def write_records(about: About, latents: Iterable[Found], folder: Path) -> list[str]:
    """Write `collated-activations/` and `explanations/`, a folder for each layer; what was left out is told.

    Two coders of one layer get a folder of records each. A simulation is written in the latent's own activations, its
    strengths in tenths of the largest one beside it (`uncalibrated_simulation`); its scores are worked out as theirs
    are, on the activations of all its windows one after the other.
    """
    layers = [coder.layer for coder in about.coders.values()]
    left: dict[str, None] = {}
    for found in latents:
        coder = about.coders[found.coder]
        place = folder if layers.count(coder.layer) == 1 else folder / coder.set_name
        neuron = {"dataclass_name": "NeuronId", "layer_index": coder.layer, "neuron_index": found.latent}
        if found.windows:
            path = place / "collated-activations" / str(coder.layer) / f"{found.latent}.json"
            write_json(path, _record(neuron, found))
        told = [one for one in found.told if one.control is None and one.text is not None]
        if told:
            path = place / "explanations" / str(coder.layer) / f"{found.latent}.jsonl"
            results = {
                "dataclass_name": "NeuronSimulationResults",
                "neuron_id": neuron,
                "scored_explanations": [_explanation(about, one, found, left) for one in told],
            }
            write_json(path, results)
            with path.open("a", encoding="ascii") as file:
                file.write("\n")
    return [f"scores of {', '.join(left)} are left out: this format has simulations alone"] if left else []


def _record(neuron: dict[str, Any], found: Found) -> dict[str, Any]:
    active = [window for window in found.windows if window.maximum > 0]
    silent = [window for window in found.windows if window.maximum <= 0]
    quantiles = sorted({window.quantile for window in active if window.quantile is not None})
    by_quantile = None
    boundaries = None
    if quantiles:
        by_quantile = [[_row(w) for w in active if w.quantile == quantile] for quantile in range(1, max(quantiles) + 1)]
        boundaries = [min(w.maximum for w in active if w.quantile == quantile) for quantile in quantiles]
    mean, variance, skewness, kurtosis = found.moments or (None, None, None, None)
    return {
        "dataclass_name": "NeuronRecord",
        "neuron_id": neuron,
        "random_sample": [_row(window) for window in silent],
        "random_sample_by_quantile": by_quantile,
        "quantile_boundaries": boundaries,
        "mean": mean,
        "variance": variance,
        "skewness": skewness,
        "kurtosis": kurtosis,
        "most_positive_activation_records": [_row(window) for window in active],
    }


def _row(window: Window) -> dict[str, Any]:
    return {
        "dataclass_name": "ActivationRecord",
        "tokens": list(window.tokens),
        "activations": list(window.values),
    }


def _explanation(about: About, told: Told, found: Found, left: dict[str, None]) -> dict[str, Any]:
    scored: dict[str, Any] = {
        "dataclass_name": "ScoredSimulation",
        "scored_sequence_simulations": [],
        "ev_correlation_score": None,
        "rsquared_score": None,
        "absolute_dev_explained_score": None,
    }
    for score in told.scores:
        strong = [judged for judged in score.judged if judged.strengths]
        other = score.kind != "simulation" or score.rung != about.rung
        if other or not strong or scored["scored_sequence_simulations"]:
            left[score.scorer] = None
            continue
        scale = (found.maximum or 0.0) / _STRONGEST
        sequences = [_sequence(judged, scale) for judged in strong]
        true = np.concatenate([np.array(judged.window.values) for judged in strong])
        said = np.concatenate([np.array(judged.strengths) * scale for judged in strong])
        scored |= {"scored_sequence_simulations": sequences, **_agreement(true, said)}
    return {"dataclass_name": "ScoredExplanation", "explanation": told.text, "scored_simulation": scored}


def _sequence(judged: Judged, scale: float) -> dict[str, Any]:
    true, strengths = np.array(judged.window.values), np.array(judged.strengths)
    simulation = _simulation(judged, (strengths * scale).tolist(), _OWN)
    simulation["uncalibrated_simulation"] = _simulation(judged, strengths.tolist(), _NORMALISED)
    return {
        "dataclass_name": "ScoredSequenceSimulation",
        "simulation": simulation,
        "true_activations": true.tolist(),
        **_agreement(true, strengths * scale),
    }


def _simulation(judged: Judged, values: list[float], scale: str) -> dict[str, Any]:
    return {
        "dataclass_name": "SequenceSimulation",
        "tokens": list(judged.window.tokens),
        "expected_activations": values,
        "activation_scale": scale,
        # of the distribution a run keeps the expectation
        "distribution_values": [[value] for value in values],
        "distribution_probabilities": [[1.0] for _ in values],
        "uncalibrated_simulation": None,
    }


def _agreement(true: NDArray[np.float64], said: NDArray[np.float64]) -> dict[str, float | None]:
    """Their three figures; None where what is divided by is zero."""
    both = true.std() * said.std()
    correlation = float(np.mean((true - true.mean()) * (said - said.mean())) / both) if both > 0 else None
    variance, size = true.var(), np.abs(true).mean()
    return {
        "ev_correlation_score": correlation,
        "rsquared_score": float(1 - np.mean((true - said) ** 2) / variance) if variance > 0 else None,
        "absolute_dev_explained_score": float(1 - np.abs(true - said).mean() / size) if size > 0 else None,
    }


def _equal(tokens: Sequence[str], values: Sequence[float], where: str) -> None:
    if len(tokens) != len(values):
        raise FormatError(f"{where}: {len(values)} numbers for {len(tokens)} tokens; expected one a token")
