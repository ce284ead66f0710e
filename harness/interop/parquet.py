"""A run's tables as Parquet, and as a dataset folder of Hugging Face with its card."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis.asked import verdict_frame
from harness.analysis.load import Run, ScoreRow
from harness.interop.findings import About, Found, Window, half_characters
from harness.interop.writing import chunks

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["EXAMPLES", "write_dataset", "write_parquet"]

# columns of verdicts that are text also where all are missing
_WORDS = ("coder", "explainer", "control", "scorer", "rung", "failure")
# explanations or scores that are written at once, and scores whose verdicts are
_ROWS, _SCORES = 10_000, 2_000
# latents whose windows are written at once
_TOGETHER = 256
# columns of the table of windows
EXAMPLES = ("coder", "latent", "tokens", "activations", "activating", "quantile")


def write_parquet(run: Run, latents: Iterable[Found], folder: Path) -> list[str]:
    """Write `explanations.parquet`, `scores.parquet`, `verdicts.parquet` and `examples.parquet` into a folder.

    Rows are those of `Run.explanations`, `Run.scores` and `Run.verdicts`, and windows with their activations. Figures
    of a score are columns of their own, `usage` and figures by quantile are JSON.
    """
    for name, tables in _tables(run):
        _write(tables, folder / f"{name}.parquet")
    _write_windows(latents, folder / "examples.parquet")
    return []


def write_dataset(run: Run, about: About, latents: Iterable[Found], folder: Path) -> list[str]:
    """Write a folder that `datasets.load_dataset` reads: a card, and a configuration for each table that has rows."""
    names = []

    def add(name: str, write: Callable[[Path], int]) -> None:
        (folder / name).mkdir()
        if write(folder / name / "train.parquet"):
            names.append(name)
        else:
            shutil.rmtree(folder / name)

    for name, tables in _tables(run):
        add(name, partial(_write, tables))
    add("examples", partial(_write_windows, latents))
    (folder / "README.md").write_text(_card(run, about, names), encoding="utf-8")
    return []


def _tables(run: Run) -> Iterator[tuple[str, Iterator[pa.Table]]]:
    """Each table's name, and the table in parts whose columns may differ."""
    yield "explanations", (_table(map(_explanation, some)) for some in chunks(run.each_explanation(), _ROWS))
    yield "scores", (_table(map(_score, some)) for some in chunks(run.each_score(), _ROWS))
    yield "verdicts", (_verdicts(some) for some in chunks(run.score_rows(), _SCORES))


def _verdicts(rows: Iterable[ScoreRow]) -> pa.Table:
    import pyarrow as pa

    frame = verdict_frame(rows).astype(dict.fromkeys(_WORDS, "string"))
    return pa.Table.from_pandas(frame, preserve_index=False)


def _write(tables: Iterable[pa.Table], path: Path) -> int:
    """Write one table that comes in parts, no more than a part in memory; gives the number of its rows.

    Which columns there are and of which types is known after the last part, so all are written twice.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = 0
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".parts-") as room:
        parts, schema = [], pa.schema([])
        for number, table in enumerate(tables):
            parts.append(Path(room) / f"{number}.parquet")
            pq.write_table(table, parts[-1])
            count += table.num_rows
            schema = pa.unify_schemas([schema, table.schema], promote_options="permissive")
        schema = pa.schema([_known(field) for field in schema])
        with pq.ParquetWriter(path, schema) as file:
            for part in parts:
                file.write_table(_with_all(pq.read_table(part), schema))
    return count


def _known(field: pa.Field) -> pa.Field:
    import pyarrow as pa

    # a column of which nothing is known is of text, as others of its name
    return field.with_type(pa.string()) if pa.types.is_null(field.type) else field


def _with_all(table: pa.Table, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


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


def _table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    import pyarrow as pa

    held = list(rows)
    columns = dict.fromkeys(key for row in held for key in row)
    return pa.table({name: pa.array([row.get(name) for row in held]) for name in columns})


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
