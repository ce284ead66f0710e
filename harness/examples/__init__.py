"""Windows of text with a latent's activations: split by document, drawn with a seed, marked for fuzzing."""

from __future__ import annotations

from harness.examples.draw import LatentExamples, draw
from harness.examples.marks import THRESHOLD, mark

__all__ = ["THRESHOLD", "LatentExamples", "draw", "mark"]
