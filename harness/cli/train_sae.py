"""`harness train-sae`: trains a TopK sparse autoencoder on any model's hookpoint, for those who have none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["train_sae"]


def train_sae(
    model: Annotated[str, typer.Argument(help="A causal language model: a folder or a Hugging Face id.")],
    corpus: Annotated[Path, typer.Argument(help="Text to train on: .jsonl with a text column, .txt, or a folder.")],
    hookpoint: Annotated[str, typer.Option(help="The module whose output is learned, such as model.layers.2.")],
    out: Annotated[Path, typer.Option(help="The folder to save the SAE in (SAELens format).")],
    latents: Annotated[int, typer.Option(min=2, help="How many latents.")] = 1024,
    k: Annotated[int, typer.Option(min=1, help="How many latents are active on a token.")] = 16,
) -> None:
    """Train a TopK SAE; minutes on a CPU for small models."""
    raise NotImplementedError(model, corpus, hookpoint, out, latents, k)
