"""A run's tables as Parquet, and as a dataset folder of Hugging Face with its card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis.load import Run
from harness.interop.findings import About, Found, Window, half_characters
from harness.interop.writing import chunks

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["EXAMPLES", "write_dataset", "write_parquet"]

# columns of verdicts that are text also where all are missing
_WORDS = ("coder", "explainer", "control", "scorer", "rung", "failure")
# latents whose windows are written at once
_TOGETHER = 256
# columns of the table of windows
EXAMPLES = ("coder", "latent", "tokens", "activations", "activating", "quantile")


def write_parquet(run: Run, latents: Iterable[Found], folder: Path) -> list[str]:
    """Write `explanations.parquet`, `scores.parquet`, `verdicts.parquet` and `examples.parquet` into a folder.

    Rows are those of `Run.explanations`, `Run.scores` and `Run.verdicts`, and windows with their activations. Figures
    of a score are columns of their own, `usage` and figures by quantile are JSON.
    """
    import pyarrow.parquet as pq

    for name, table in _tables(run):
        pq.write_table(table, folder / f"{name}.parquet")
    _write_windows(latents, folder / "examples.parquet")
    return []


def write_dataset(run: Run, about: About, latents: Iterable[Found], folder: Path) -> list[str]:
    """Write a folder that `datasets.load_dataset` reads: a card, and a configuration for each table that has rows."""
    import pyarrow.parquet as pq

    names = []
    for name, table in _tables(run):
        if table.num_rows:
            (folder / name).mkdir()
            pq.write_table(table, folder / name / "train.parquet")
            names.append(name)
    (folder / "examples").mkdir()
    if _write_windows(latents, folder / "examples" / "train.parquet"):
        names.append("examples")
    else:
        shutil.rmtree(folder / "examples")
    (folder / "README.md").write_text(_card(run, about, names), encoding="utf-8")
    return []


def _tables(run: Run) -> Iterator[tuple[str, pa.Table]]:
    import pyarrow as pa

    yield "explanations", _table([_explanation(row) for row in run.explanation_records()])
    yield "scores", _table([_score(row) for row in run.score_records()])
    verdicts = run.verdicts().astype(dict.fromkeys(_WORDS, "string"))
    yield "verdicts", pa.Table.from_pandas(verdicts, preserve_index=False)


def _write_windows(latents: Iterable[Found], path: Path) -> int:
    """Write the table of windows, some latents at a time; gives the number of its rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    lists = pa.list_(pa.string()), pa.list_(pa.float32())
    types = (pa.string(), pa.int64(), *lists, pa.bool_(), pa.int8())
    schema = pa.schema(list(zip(EXAMPLES, types, strict=True)))
    count = 0
    with pq.ParquetWriter(path, schema) as file:
        for some in chunks(latents, _TOGETHER):
            rows = [_window(found, window) for found in some for window in found.windows]
            file.write_table(pa.Table.from_pylist(rows, schema=schema))
            count += len(rows)
    return count


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    import pyarrow as pa

    columns = dict.fromkeys(key for row in rows for key in row)
    arrays = {name: pa.array([row.get(name) for row in rows]) for name in columns}
    # a column of which nothing is known is of text, as others of its name
    return pa.table({name: a.cast(pa.string()) if pa.types.is_null(a.type) else a for name, a in arrays.items()})


def _window(found: Found, window: Window) -> dict[str, Any]:
    values = (list(window.tokens), list(window.values), window.maximum > 0, window.quantile)
    return dict(zip(EXAMPLES, (found.coder, found.latent, *values), strict=True))


def _explanation(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _plain(value) for key, value in row.items()}


def _score(row: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: _plain(value) for key, value in row.items() if key != "metrics"}
    for name, value in row["metrics"].items():
        found[f"metric_{name}"] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value)
    return half_characters(value) if isinstance(value, str) else value


def _card(run: Run, about: About, names: Sequence[str]) -> str:
    """The card: its front matter names the tables, its text says what was run on what, and how to read it."""
    configs = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}/train.parquet\n"
        + ("  default: true\n" if name == "explanations" else "")
        for name in names
    )
    scorers = ", ".join(f"{s['name']} ({s['kind']})" for s in about.task["scorer"])
    explainers = ", ".join(f"{e['name']} ({e['kind']})" for e in about.task["explainer"])
    coders = "".join(
        f"- `{_inline(coder.name)}` at `{_inline(coder.hookpoint)}`, {coder.latents:,} latents\n"
        for coder in about.coders.values()
    )
    loading = "".join(f'load_dataset("path/of/this/folder", "{name}")\n' for name in names)
    return (
        f"---\npretty_name: {json.dumps(f'Explanations of {about.model}: {about.run}')}\n"
        "tags:\n- interpretability\n- sparse-autoencoders\n"
        f"configs:\n{configs}---\n\n# {_inline(about.run)}\n\n"
        f"Explanations in words of latents of `{_inline(about.model)}`, with scores, written by latent-harness.\n\n"
        f"{coders}\nText: {_inline(about.dataset) or 'not named'}. Explainers: {_inline(explainers)}. "
        f"Scorers: {_inline(scorers)}. Arms are ranked by {_inline(run.ranking['metric'])} of "
        f"{_inline(run.ranking['scorer'])}.\n\n"
        f"```python\nfrom datasets import load_dataset\n\n{loading}```\n\n"
        "Rows whose `control` is not empty are controls: they should score low. `status` other than `ok` says why an "
        "explanation or a score is missing. The windows of `examples` are text of the corpus named above, and under "
        "its licence.\n"
    )


def _inline(text: str) -> str:
    """Text in which a line break or a backtick ends nothing."""
    return " ".join(text.replace("`", "'").split())
