"""Executable predicates over token pieces: what a planted latent does, what a judge with the truth evaluates."""

from __future__ import annotations

from harness.rules.concepts import Concept, Concepts, load_concepts
from harness.rules.rule import RECOVERED, Rule, f1, parse, recovered
from harness.rules.text import Text

__all__ = ["RECOVERED", "Concept", "Concepts", "Rule", "Text", "f1", "load_concepts", "parse", "recovered"]
