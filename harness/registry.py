"""Kinds by name: each kind is a lazy import string, built in or offered by another package's entry point."""

from __future__ import annotations

import difflib
import importlib
from importlib.metadata import entry_points
from typing import Any

from harness.errors import MissingDependency, UnknownKind

__all__ = ["BUILT_IN", "load", "names"]

# group -> name -> "module:attribute"; a group is also the name of an entry point group, "harness.<group>"
BUILT_IN: dict[str, dict[str, str]] = {
    "explainers": {
        "agent": "harness.explainers.agent:Agent",
        "best-of": "harness.explainers.best_of:BestOf",
        "clusters": "harness.explainers.clusters:Clusters",
        "contexts": "harness.explainers.contexts:Contexts",
        "contrastive": "harness.explainers.contrastive:Contrastive",
        "file": "harness.explainers.file:FromFile",
        "intervention": "harness.explainers.intervention:InterventionExplainer",
        "logits": "harness.explainers.logits:Logits",
        "refine": "harness.explainers.refine:Refine",
        "self": "harness.explainers.self_:SelfExplaining",
    },
    "scorers": {
        "detection": "harness.scorers.detection:Detection",
        "embedding": "harness.scorers.embedding:EmbeddingScorer",
        "fuzzing": "harness.scorers.fuzzing:Fuzzing",
        "generation": "harness.scorers.generation:Generation",
        "intervention": "harness.scorers.intervention:InterventionScorer",
        "intruder": "harness.scorers.intruder:Intruders",
        "simulation": "harness.scorers.simulation:SimulationScorer",
        "surprisal": "harness.scorers.surprisal:SurprisalScorer",
    },
    "coders": {
        "sae": "harness.subject.coders.sae:SAECoder",
        "sae-lens-release": "harness.subject.coders.release:ReleaseCoder",
        "neurons": "harness.subject.coders.neurons:NeuronsCoder",
        "planted": "harness.subject.coders.planted:PlantedCoder",
        "random-directions": "harness.subject.coders.random:RandomDirections",
        "random-sae": "harness.subject.coders.random:RandomSAE",
    },
    "providers": {
        "anthropic": "harness.clients.providers.anthropic:AnthropicProvider",
        "inspect": "harness.clients.providers.inspect:InspectProvider",
        "lexical": "harness.clients.providers.lexical:LexicalProvider",
        "local": "harness.clients.providers.local:LocalProvider",
        "ollama": "harness.clients.providers.ollama:OllamaProvider",
        "openai": "harness.clients.providers.openai:OpenAIProvider",
        "openai-api": "harness.clients.providers.openai_api:OpenAIAPIProvider",
        "openrouter": "harness.clients.providers.openrouter:OpenRouterProvider",
        "replay": "harness.clients.providers.replay:ReplayProvider",
        "truth": "harness.clients.providers.truth:TruthProvider",
        "vllm": "harness.clients.providers.vllm:VLLMProvider",
    },
}


def names(group: str) -> tuple[str, ...]:
    """The names of a group, sorted, built in ones and other packages' alike."""
    return tuple(sorted({*BUILT_IN[group], *(point.name for point in _foreign(group))}))


def load(group: str, name: str) -> Any:
    """The class registered under a name.

    Raises:
        UnknownKind: nothing has that name; the message gives near matches.
        MissingDependency: the kind needs a package that is not installed.
    """
    target = BUILT_IN[group].get(name)
    try:
        if target is not None:
            module, _, attribute = target.partition(":")
            return getattr(importlib.import_module(module), attribute)
        for point in _foreign(group):
            if point.name == name:
                return point.load()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "harness":
            raise
        raise MissingDependency(
            f'{group[:-1]} "{name}" needs the package "{error.name}": pip install {error.name}'
        ) from error
    known = names(group)
    near = difflib.get_close_matches(name, known, 3)
    hint = f'did you mean "{near[0]}"?' if near else "known: " + ", ".join(known)
    raise UnknownKind(f'there is no {group[:-1]} "{name}"; {hint}')


def _foreign(group: str) -> Any:
    return entry_points(group=f"harness.{group}")
