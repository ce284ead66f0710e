"""Export of a run: which formats there are, and the one that is asked for, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.analysis.load import Run
from harness.errors import UserError
from harness.interop import delphi_results, inspect_log, jsonl, neuronpedia_bulk, openai_records, saebench, saedashboard
from harness.interop import parquet as tables
from harness.interop.from_run import RunFindings
from harness.interop.writing import fresh

__all__ = ["FORMATS", "Options", "export"]

# a format and what is written, in words
FORMATS = {
    "jsonl": "explanations.jsonl and scores.jsonl, one object a line",
    "neuronpedia": "Neuronpedia's bulk layout, and upload batches",
    "saebench": "SAEBench's autointerp results, a file a coder",
    "saedashboard": "SAEDashboard's feature batches",
    "openai": "OpenAI's neuron records and scored simulations",
    "delphi": "delphi's run folder: explanations and score rows",
    "inspect": "inspect_ai's logs, one for each explainer and control",
    "parquet": "tables as Parquet",
    "huggingface": "a dataset folder with its card",
}
# which options each format has
_TAKES = {
    "neuronpedia": ("model-id", "source", "method"),
    "saedashboard": ("model-id", "source"),
    "saebench": ("model-id", "source", "explainer", "scorer"),
    "openai": ("source",),
    "delphi": ("explainer",),
}


@dataclass(frozen=True, slots=True)
class Options:
    """What some formats leave open.

    `explainer` and `scorer` choose one of several; `model_id` is the subject's name on Neuronpedia and `sources` its
    source by coder, `method` a type of explanation that it knows.
    """

    explainer: str | None = None
    scorer: str | None = None
    model_id: str | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    method: str | None = None

    def given(self) -> tuple[str, ...]:
        """The options that are given, as flags without their hyphens."""
        pairs = (
            ("explainer", self.explainer), ("scorer", self.scorer), ("model-id", self.model_id),
            ("source", self.sources), ("method", self.method),
        )  # fmt: skip
        return tuple(name for name, value in pairs if value)


def export(run: Run, out: Path, format_: str, options: Options = Options()) -> tuple[list[Path], list[str]]:
    """Write a run in a format into a folder; gives the files, and sentences on what the format has no place for.

    Raises:
        UserError: there is something at `out`, the store is gone, or an option is wrong.
    """
    for name in options.given():
        if name not in _TAKES.get(format_, ()):
            fit = " and ".join(key for key, names in _TAKES.items() if name in names)
            raise UserError(f"--{name} is for the formats {fit}; {format_} has no use for it")
    if format_ == "jsonl":
        return jsonl.export(run, out), []
    source = RunFindings(run, model_id=options.model_id, sources=options.sources)
    about, latents = source.about, source.latents()
    with fresh(out) as folder:
        match format_:
            case "neuronpedia":
                notes = neuronpedia_bulk.write_bulk(about, latents, folder, method=options.method)
            case "saebench":
                notes = saebench.write_results(
                    about, latents, folder, explainer=options.explainer, scorer=options.scorer
                )
            case "saedashboard":
                notes = saedashboard.write_batches(about, latents, folder)
            case "openai":
                notes = openai_records.write_records(about, latents, folder)
            case "delphi":
                notes = delphi_results.write_folder(about, latents, folder, explainer=options.explainer)
            case "inspect":
                notes = inspect_log.write_logs(about, latents, folder)
            case "parquet":
                notes = tables.write_parquet(run, latents, folder)
            case "huggingface":
                notes = tables.write_dataset(run, about, latents, folder)
            case _:
                raise UserError(f"--format {format_}: there is no such format; known: {', '.join(FORMATS)}")
    return sorted(path for path in out.rglob("*") if path.is_file()), notes
