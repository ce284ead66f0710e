"""`harness store` tells what is in a store and of one latent, checks files, and names each mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from harness.store import CoderFrame, ManifestFrame, Rows, Store, StoreWriter, Vocabulary

CONTEXT, CONTEXTS = 64, 6
WORDS = ("", "the", " cat", " sat", " [red]on", " \x1bmat", " dog", "\n")


def matrix(offset: int = 0) -> NDArray[np.float32]:
    """Latent 0 is dead, 1 fires on the third word alone, 2 on two words, 3 nearly everywhere."""
    words = np.arange(CONTEXT * CONTEXTS) % 7 + 1
    dense = np.zeros((CONTEXT * CONTEXTS, 4), dtype=np.float32)
    dense[words == 3, 1] = 2
    dense[words == 4, 2] = 1
    dense[np.flatnonzero(words == 5)[::2], 2] = 4
    dense[:, 3] = 1 + np.arange(len(dense)) / len(dense) + offset
    dense[::CONTEXT] = 0
    return dense


def rows(dense: NDArray[np.float32]) -> Rows:
    cells = csr_array(dense)
    return Rows(cells.indptr.astype(np.int64), cells.indices, cells.data)


def written(path: Path, *names: str, sampling: Literal["all", "selected"] = "all") -> Path:
    tokens = (np.arange(CONTEXT * CONTEXTS) % 7 + 1).astype(np.uint32).reshape(CONTEXTS, CONTEXT)
    documents = np.repeat(np.arange(3, dtype=np.int32), 2)[:, None].repeat(CONTEXT, axis=1)
    documents[:, 0] = -1
    frame = ManifestFrame(
        model="tiny/model",
        model_revision="ab" * 20,
        corpus={"identity": "cd" * 32, "tokens": 384},
        context=CONTEXT,
        sampling=sampling,
    )
    coders = [CoderFrame(name, 4, f"layers.{place}") for place, name in enumerate(names)]
    with StoreWriter.create(path, frame, Vocabulary(WORDS), coders) as writer:
        writer.append(tokens, documents, {name: rows(matrix(place)) for place, name in enumerate(names)})
        writer.finish({"dropped_tokens": 3})
    return path


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return written(tmp_path / "one", "sae")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return written(tmp_path / "two", "first", "second")


def test_a_store_is_described(harness: Callable[..., Any], two: Path) -> None:
    said = harness("store", two)
    assert (said.code, said.err) == (0, "")
    for words in (
        "tiny/model at abababababab\n",
        "identity cdcdcdcdcdcd, tokens 384",
        "384 in 6 contexts of 64; 378 of them in 3 documents",
        "dropped tokens 3",
    ):
        assert words in "\n".join(line.rstrip() for line in said.out.splitlines())
    cells = [line.strip("│ ").split("│") for line in said.out.splitlines() if "layers." in line]
    fires = matrix() > 0
    l0 = f"{fires.sum() / 378:.2f}"
    # 378 firings are no fewer than 200
    assert [[cell.strip() for cell in row] for row in cells] == [
        ["first", "layers.0", "4", str(fires.sum()), l0, "25.0%", "75.0%", "25.0%"],
        ["second", "layers.1", "4", str(fires.sum()), l0, "25.0%", "75.0%", "25.0%"],
    ]


def test_a_latent_is_shown_with_its_tokens_and_windows(harness: Callable[..., Any], one: Path) -> None:
    said = harness("store", one, "--latent", "2")
    fires = matrix()[:, 2]
    strong = int((fires == 4).sum())
    assert said.code == 0
    assert f"{(fires > 0).sum()} of 378 tokens" in said.out
    assert "in 6 contexts" in said.out
    mean, spread = fires[fires > 0].mean(), fires[fires > 0].std()
    assert f"mean {mean:.4g}, standard deviation {spread:.3g}, maximum 4" in said.out
    # what acts in a terminal, or in rich's markup, is only text here
    table = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.out.splitlines() if line[:1] == "│"]
    ones = int((fires == 1).sum())
    assert table == [
        ['" [red]on"', str(ones), f"{ones / (ones + strong):.1%}", "1"],
        ['" ␛mat"', str(strong), f"{strong / (ones + strong):.1%}", "4"],
    ]
    assert "\x1b" not in said.out
    assert "« ␛mat»" in said.out
    assert "« dog»" not in said.out
    assert sum(line.startswith("        4  ") for line in said.out.splitlines()) == 5
    bars = [line.split("│")[1] for line in said.out.splitlines() if line.startswith(" ") and "│" in line]
    # 20 bins from 0 to 4: only ones (the sixth bin) and fours (the last)
    assert {place // 3 for bar in bars for place, sign in enumerate(bar) if sign != " "} == {5, 19}


def test_a_latent_that_never_fires_is_said_to_be_silent(harness: Callable[..., Any], two: Path) -> None:
    assert harness("store", two, "--latent", "second/0").out == (
        "second/0 never fires: it was looked at on 378 tokens\n"
    )


def test_json_is_the_same_in_numbers(harness: Callable[..., Any], one: Path) -> None:
    found = json.loads(harness("store", one, "--json").out)
    (coder,) = found["coders"]
    assert (found["read"], found["documents"], found["corpus"]["identity"]) == (378, 3, "cd" * 32)
    assert (coder["dead"], coder["rare"], coder["single_token"]) == (0.25, 0.75, 0.25)
    assert "checked_files" not in found
    latent = json.loads(harness("store", one, "--latent", "sae/2", "--check", "--json").out)
    column = matrix()[:, 2]
    assert latent["firings"] == int((column > 0).sum())
    assert sum(latent["histogram"]) == latent["firings"]
    assert [(token["text"], token["firings"]) for token in latent["top_tokens"]] == [
        (WORDS[4], int((column == 1).sum())),
        (WORDS[5], int((column == 4).sum())),
    ]
    assert latent["checked_files"] == len(json.loads((one / "manifest.json").read_text())["files"])
    for window in latent["top_windows"]:
        place = window["context"] * CONTEXT + window["start"]
        assert window["activations"] == column[place : place + 32].tolist()
        assert window["document"] == window["context"] // 2
        assert "".join(window["pieces"]) == "".join(WORDS[k % 7 + 1] for k in range(place, place + 32))
    assert len({(window["context"], window["start"]) for window in latent["top_windows"]}) == 5


def test_selected_records_have_no_rates(harness: Callable[..., Any], tmp_path: Path) -> None:
    path = written(tmp_path / "records", "sae", sampling="selected")
    said = harness("store", path).out
    assert "Selected records" in said
    row = next(line for line in said.splitlines() if "layers.0" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")][4:] == ["–", "–", "–", "25.0%"]
    assert "81 of 378 tokens of its records, in 6 contexts" in harness("store", path, "--latent", "2").out
    assert json.loads(harness("store", path, "--json").out)["coders"][0]["dead"] is None


def test_rows_are_added_when_asked_for(harness: Callable[..., Any], one: Path) -> None:
    assert json.loads(harness("store", one, "--json").out)["coders"][0]["rows"] is False
    assert harness("store", one, "--rows", "--check").code == 0
    assert json.loads(harness("store", one, "--json").out)["coders"][0]["rows"] is True
    assert Store.open(one).coder("sae").fired(1, 2).latents.tolist() == [3]


def test_a_sound_store_passes_the_check(harness: Callable[..., Any], one: Path) -> None:
    assert "files, all as they were written" in harness("store", one, "--check").out


@pytest.mark.parametrize("name", ["positions", "values"])
def test_a_damaged_file_is_named(harness: Callable[..., Any], one: Path, name: str) -> None:
    file = one / "coders" / "sae" / "csc" / f"{name}.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 4
    file.write_bytes(data)
    for arguments in (["--check"], ["--latent", "3"]):
        said = harness("store", one, *arguments)
        assert (said.code, said.out) == (2, "")
        assert said.err == f"harness: {file} is corrupt: not the bytes that were written; collect the store again\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--latent", "4"], "two has several coders: write first/4 or second/4"),
        (["--latent", "first/4"], 'coder "first" has latents 0 to 3, not 4'),
        (["--latent", "third/1"], 'has no coder "third"; it has: first, second'),
        (["--latent", "first/-1"], '"first/-1" is no latent: write N or CODER/N, such as first/0'),
        (["--latent", "cat"], '"cat" is no latent: write N or CODER/N, such as first/0'),
    ],
)
def test_a_latent_that_is_not_there_is_said_to_be_none(
    harness: Callable[..., Any], two: Path, arguments: list[str], told: str
) -> None:
    said = harness("store", two, *arguments)
    assert (said.code, said.out) == (2, "")
    assert said.err.endswith(f"{told}\n")
    assert said.err.count("\n") == 1


def test_what_is_no_store_is_said_to_be_none(harness: Callable[..., Any], tmp_path: Path, one: Path) -> None:
    assert (
        harness("store", tmp_path / "none").err
        == f"harness: {tmp_path / 'none'} is no store: it has no manifest.json\n"
    )
    raw = json.loads((one / "manifest.json").read_text())
    (one / "manifest.json").write_text(json.dumps(raw | {"version": 99}))
    said = harness("store", one)
    assert said.code == 2
    assert "has format version 99, and this program reads versions up to 1: install a newer latent-harness" in said.err
