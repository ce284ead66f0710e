"""`harness train-sae`: trains a TopK sparse autoencoder on any model's hookpoint, for those who have none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["train_sae"]


def train_sae(
    model: Annotated[str, typer.Argument(help="A causal language model: a folder or a Hugging Face id.")],
    corpus: Annotated[
        str, typer.Argument(help="Text to train on: a .jsonl or .txt file, a folder of them, or a data set's id.")
    ],
    hookpoint: Annotated[str, typer.Option(help="The module whose output is learned, such as model.layers.2.")],
    out: Annotated[Path, typer.Option(help="The folder to save the SAE in (SAELens' format).")],
    latents: Annotated[int, typer.Option(min=2, help="How many latents.")] = 1024,
    k: Annotated[int, typer.Option(min=1, help="How many latents are active on a token.")] = 16,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 1500,
    batch: Annotated[int, typer.Option(min=1, help="Tokens in a step.")] = 2048,
    lr: Annotated[float, typer.Option(help="Adam's learning rate.")] = 2e-3,
    context: Annotated[int, typer.Option(min=2, help="Tokens in a row that the model reads.")] = 256,
    tokens: Annotated[int | None, typer.Option(min=1, help="Read at most so many tokens of the corpus.")] = None,
    column: Annotated[str, typer.Option(help="The column that holds the text.")] = "text",
    seed: Annotated[int, typer.Option(min=0, help="Decides everything random.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
) -> None:
    """Train a TopK SAE; minutes on a CPU for small models."""
    from harness.cli.show import Steps
    from harness.report.text import duration
    from harness.subject.train import TrainingSettings
    from harness.subject.train import train_sae as train
    from harness.task import CorpusSettings
    from harness.validation import validated

    source = {"path": corpus} if Path(corpus).exists() or Path(corpus).suffix else {"dataset": corpus}
    text = validated(CorpusSettings, {**source, "column": column, "tokens": tokens}, "train-sae")
    settings = TrainingSettings(
        hookpoint=hookpoint,
        latents=latents,
        k=k,
        steps=steps,
        batch=batch,
        lr=lr,
        seed=seed,
        context=context,
        device=device,
    )
    with Steps("training") as progress:
        report = train(model, text, settings, out, progress.tell)
    typer.echo(
        f"{out}: {report.settings.latents} latents, {report.alive} alive, L0 {report.l0:.1f}, "
        f"FVU {report.fvu:.3f}, loss {report.loss_clean:.3f} nats a token, {report.loss_spliced:.3f} with the SAE "
        f"spliced in ({report.recovered:.1%} recovered), on {report.held_out_tokens:,} held-out tokens; "
        f"{duration(report.seconds)}"
    )
