"""`harness upload`: sends upload batches to Neuronpedia."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["upload"]

_KEY = "NEURONPEDIA_API_KEY"


def upload(
    source: Annotated[
        Path, typer.Argument(help="Upload batches, as `harness export --format neuronpedia` writes them.")
    ],
    url: Annotated[str | None, typer.Option(help="Another server than www.neuronpedia.org.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every batch and send none.")] = False,
) -> None:
    """Send explanations and activations to Neuronpedia, whose key is in NEURONPEDIA_API_KEY."""
    import os

    from harness.cli.show import Steps
    from harness.errors import MissingKey
    from harness.interop import neuronpedia_client as client

    if dry_run:
        found = client.batches(source)
        for batch in found:
            content = batch.content
            told = sum(len(feature.explanations or ()) for feature in content.features)
            rows = sum(len(feature.activations) for feature in content.features)
            typer.echo(
                f"{batch.path}: {content.modelId}/{content.source}, {len(content.features)} features, {told} "
                f"explanations, {rows:,} rows, {len(batch.body):,} bytes"
            )
        typer.echo(f"{len(found)} batches are right; nothing was sent")
        return
    key = os.environ.get(_KEY)
    if not key:
        raise MissingKey(f"{_KEY} is not set: make a key on the server's account page, or give --dry-run")
    with Steps("uploading", "batches") as progress:
        done = client.upload(source, key, url=url or client.URL, tell=progress.tell)
    before = f"; {done.before} had been taken before" if done.before else ""
    typer.echo(f"{done.batches} batches with {done.features} features were taken{before}")
