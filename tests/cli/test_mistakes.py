"""Each mistake of a user: one clear sentence on standard error, exit code 2, no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.runs.directory import held

Tables = dict[str, Any]

WRITER = {"name": "a", "kind": "contexts", "model": "lexical/rules"}
JUDGE = {"name": "d", "kind": "detection", "model": "lexical/rules"}
TEXT = "the cat sees a dog. the dog keeps a bird. the bird finds a tree. the river leaves a stone."


@pytest.fixture
def mistake(harness: Callable[..., Any]) -> Callable[..., str]:
    """The sentence of a command that has to end with exit code 2, without `harness: ` before it."""

    def run(*arguments: str | Path) -> str:
        said = harness(*arguments)
        assert said.code == 2, said
        assert "Traceback" not in said.err
        assert said.out == ""
        lines = said.err.strip().splitlines()
        assert len(lines) == 1, said.err
        assert lines[0].startswith("harness: ")
        return lines[0].removeprefix("harness: ")

    return run


def test_no_such_task_file(mistake: Callable[..., str], write_task: Callable[..., Path]) -> None:
    path = write_task()
    assert mistake("run", "taks.toml") == f'taks.toml: no such task file; did you mean "{path.name}"?'
    assert mistake("run", "dmeo") == 'dmeo: no such task file; did you mean "demo"?'


def test_toml_syntax(mistake: Callable[..., str], write_task: Callable[..., Path]) -> None:
    path = write_task()
    path.write_text(path.read_text() + "\nseed = = 3\n")
    assert mistake("run", path).startswith(f"{path}: not valid TOML: ")


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ({"sed": 1}, "sed: unknown key; did you mean seed?"),
        ({"latents": {"sampel": 3}}, "latents.sampel: unknown key; did you mean sample?"),
        ({"seed": "x"}, "seed: input should be a valid integer, unable to parse string as an integer, not 'x'"),
        ({"scorer": [JUDGE, JUDGE]}, 'the name "d" is given to two [[scorer]]; names have to differ'),
        ({"explainer": [{**WRITER, "kind": "contxts"}]}, 'there is no explainer "contxts"; did you mean "contexts"?'),
        ({"explainer": [{**WRITER, "model": "opnai/gpt-5"}]}, 'there is no provider "opnai"; did you mean "openai"?'),
        ({"explainer": [{**WRITER, "model": "gpt-5"}]}, 'model "gpt-5": write it as provider/model; providers: '),
        ({"explainer": [{**WRITER, "model": "openai/gpt-5"}]}, "set the environment variable OPENAI_API_KEY"),
        ({"explainer": [{**WRITER, "model": "anthropic/c"}]}, "set the environment variable ANTHROPIC_API_KEY"),
        ({"explainer": [{**WRITER, "model": "openai-api/x/m"}]}, "set the environment variable X_BASE_URL"),
        ({"explainer": [{**WRITER, "prompt": "defalt"}]}, 'explain has no prompt "defalt"'),
        ({"explainer": [{**WRITER, "prompt": "./none.toml"}]}, "none.toml"),
        ({"scorer": [{**JUDGE, "bach": 2}]}, "scorer.d: bach: unknown key; did you mean batch?"),
        ({"model": {"lexical/rules": {"tempo": 1}}}, '[model."lexical/rules"]: tempo: unknown key'),
        ({"latents": {"ids": [3, 99]}}, "latents.ids: 99 is beyond coder words, whose latents go from 0 to 11"),
        ({"latents": {"sample": 3, "min_examples": 9999}}, "latents: no latent of coder words is eligible"),
        ({"coder": [{"name": "wrds", "kind": "planted"}]}, "coder.wrds: the store"),
        ({"store": {"path": "nowhere"}}, "store.path: "),
        ({"store": None}, "a task needs [subject], or [store] with the path of a finished store"),
        ({"explainer": [{"name": "f", "kind": "file", "path": "no.jsonl"}]}, "no.jsonl: explanations cannot be read"),
        ({"examples": {"window": 48}}, "examples.window (48) has to divide the contexts of the store, 64"),
    ],
)  # fmt: skip
def test_a_wrong_task(
    mistake: Callable[..., str], write_task: Callable[..., Path], tmp_path: Path, tables: Tables, told: str
) -> None:
    said = mistake("run", write_task(**tables))
    assert told in said
    assert said.startswith(str(tmp_path / "task.toml"))


def test_a_wrong_set(mistake: Callable[..., str], write_task: Callable[..., Path]) -> None:
    path = write_task()
    assert "--set seed: write it as key=value" in mistake("run", path, "--set", "seed")
    assert 'nothing is named "b" there; there are: a' in mistake("run", path, "--set", "explainer.b.model=x/y")
    assert "sed: unknown key; did you mean seed?" in mistake("run", path, "--set", "sed=1")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "mine.jsonl:2: not a line such as"),
        ('{"latent": "x", "explanation": "y"}', "mine.jsonl:2: latent: input should be a valid integer"),
        ('{"latent": 3, "explanation": "y", "rule": {"kind": "x"}}', "mine.jsonl:2: rule: "),
        ("[3]", "mine.jsonl:2: not a line such as"),
        ('{"latent": 0, "explanation": "again"}', "mine.jsonl:2: latent 0 is explained twice"),
    ],
)
def test_a_wrong_file_of_explanations(
    mistake: Callable[..., str], write_task: Callable[..., Path], tmp_path: Path, line: str, told: str
) -> None:
    (tmp_path / "mine.jsonl").write_text(f'{{"latent": 0, "explanation": "x"}}\n{line}\n')
    explainer = [{"name": "mine", "kind": "file", "path": "mine.jsonl"}]
    assert told in mistake("run", write_task(explainer=explainer))


def test_a_run_directory_in_use_names_the_process(
    write_task: Callable[..., Path], tmp_path: Path, command: list[str]
) -> None:
    import os

    with held(tmp_path / "out"):
        done = subprocess.run(
            [*command, "run", str(write_task()), "--out", "out"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == f"harness: out: in use by process {os.getpid()}; wait for it, or give another --out\n"


def test_a_run_directory_that_is_none(mistake: Callable[..., str], tmp_path: Path) -> None:
    told = "nowhere: no run directory (there is no journal.sqlite in it)"
    assert mistake("report", "nowhere") == told
    assert mistake("export", "nowhere", "--out", "x") == told
    assert not (tmp_path / "x").exists()


def test_a_journal_of_a_newer_version(
    mistake: Callable[..., str], harness: Callable[..., Any], write_task: Callable[..., Path], tmp_path: Path
) -> None:
    import sqlite3
    from contextlib import closing

    path = write_task(latents={"sample": 1, "min_examples": 50}, controls=[])
    assert harness("run", path, "--out", "out", "--no-report").code == 0
    with closing(sqlite3.connect(tmp_path / "out" / "journal.sqlite")) as journal:
        journal.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
        journal.commit()
    for arguments in (("run", path, "--out", "out"), ("report", "out"), ("export", "out", "--out", "x")):
        assert "journal.sqlite: written by a newer version (schema 99, " in mistake(*arguments)


def test_try_of_what_is_not_there(mistake: Callable[..., str], write_task: Callable[..., Path]) -> None:
    path = write_task()
    assert mistake("try", path, "--latent", "12") == "--latent 12: coder words has latents 0 to 11"
    told = "--coder other: no [[coder]] has that name; there are: words"
    assert mistake("try", path, "--latent", "1", "--coder", "other") == told


def test_a_flag_that_is_wrong_is_told_with_its_use(harness: Callable[..., Any]) -> None:
    for arguments in (
        ["run"],
        ["run", "demo", "--limit", "0"],
        ["run", "demo", "--lmit", "3"],
        ["rnu"],
        ["try", "demo"],
    ):
        said = harness(*arguments)
        assert said.code == 2
        assert "Usage: harness" in said.err
        assert "Traceback" not in said.err


# what only a subject shows


@pytest.fixture(scope="session")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Llama of width 16, its tokenizer, an SAE that fits it and a corpus."""
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("subject")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=300, max_position_embeddings=64, **sizes)).save_pretrained(folder / "llama")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.save(str(folder / "llama" / "tokenizer.json"))
    (folder / "llama" / "tokenizer_config.json").write_text('{"bos_token": "<s>"}')
    for name, width in (("sae", 16), ("wide", 24)):
        (folder / name).mkdir()
        shapes = {"W_enc": (width, 32), "b_enc": (32,), "W_dec": (32, width), "b_dec": (width,)}
        save_file({key: torch.randn(shape) for key, shape in shapes.items()}, folder / name / "sae_weights.safetensors")
        config = {"architecture": "standard", "d_in": width, "d_sae": 32, "dtype": "float32", "device": "cpu"}
        (folder / name / "cfg.json").write_text(json.dumps(config))
    (folder / "corpus.jsonl").write_text("".join(json.dumps({"text": TEXT}) + "\n" for _ in range(20)))
    return folder


@pytest.fixture
def collecting(write_task: Callable[..., Path], subject: Path) -> Callable[..., Path]:
    """Writes a task that collects; keywords replace keys of its subject and coder."""

    def write(coder: Tables | None = None, **keys: Any) -> Path:
        corpus = {"path": str(subject / "corpus.jsonl")}
        table = {"model": str(subject / "llama"), "corpus": corpus, "context": 32, "batch": 4, **keys}
        sae = {"name": "sae", "hookpoint": "model.layers.0", "path": str(subject / "sae"), **(coder or {})}
        return write_task(store=None, subject=table, coder=[sae], latents={"sample": 2, "min_examples": 1})

    return write


def test_a_hookpoint_that_does_not_exist(mistake: Callable[..., str], collecting: Callable[..., Path]) -> None:
    said = mistake("run", collecting(coder={"hookpoint": "model.layer.0"}))
    assert 'hookpoint "model.layer.0": the subject has no module of that path; did you mean "model.layers.0"' in said
    assert 'did you mean "model.layers.0"' in mistake("run", collecting(coder={"hookpoint": "layers.0"}))
    assert '"model.layers.1"' in mistake("run", collecting(coder={"hookpoint": "model.layers.7"}))


def test_an_sae_whose_width_does_not_fit(
    mistake: Callable[..., str], collecting: Callable[..., Path], subject: Path
) -> None:
    said = mistake("run", collecting(coder={"path": str(subject / "wide")}))
    assert "24" in said
    assert "16" in said
    assert "sae" in said


def test_a_truncated_safetensors_file(
    mistake: Callable[..., str], collecting: Callable[..., Path], subject: Path, tmp_path: Path
) -> None:
    import shutil

    for part, keep in (("body", 0.5), ("header", 0.01)):
        broken = tmp_path / part
        shutil.copytree(subject / "sae", broken)
        whole = (subject / "sae" / "sae_weights.safetensors").read_bytes()
        (broken / "sae_weights.safetensors").write_bytes(whole[: int(len(whole) * keep)])
        said = mistake("run", collecting(coder={"path": str(broken)}))
        assert "sae_weights.safetensors" in said
        assert "truncated" in said or "short" in said or "not a" in said or "incomplete" in said or "bytes" in said


def test_a_truncated_model(
    mistake: Callable[..., str], collecting: Callable[..., Path], subject: Path, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(subject / "llama", tmp_path / "llama")
    weights = tmp_path / "llama" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    said = mistake("run", collecting(model=str(tmp_path / "llama")))
    assert "llama: the model cannot be loaded" in said


def test_an_empty_corpus_and_one_shorter_than_a_context(
    mistake: Callable[..., str], collecting: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "short.jsonl").write_text('{"text": "the cat"}\n')
    said = mistake("run", collecting(corpus={"path": "empty.jsonl"}))
    assert "empty.jsonl" in said
    assert "empty" in said or "no " in said
    said = mistake("run", collecting(corpus={"path": "short.jsonl"}))
    assert "short.jsonl" in said
    assert "32" in said
    assert "no such corpus" in mistake("run", collecting(corpus={"path": "gone.jsonl"}))


def test_a_subject_that_is_not_there(mistake: Callable[..., str], collecting: Callable[..., Path]) -> None:
    assert "./nowhere: no such folder" in mistake("run", collecting(model="./nowhere"))
    assert "is more than the 64 positions" in mistake("run", collecting(context=96))


def test_a_latent_that_hardly_fires_is_counted_and_the_run_goes_on(
    harness: Callable[..., Any], write_task: Callable[..., Path], tmp_path: Path, make_store: Callable[..., Any]
) -> None:
    store = make_store(tmp_path / "wide", latents=44)
    path = write_task(store={"path": str(store.path)}, latents={"ids": [3, 4, 42], "min_examples": 50})
    said = harness("run", path, "--out", "out")
    assert said.code == 0
    assert "too_few_examples" in said.out.splitlines()[-1]


def test_workers_without_the_package_that_starts_them(
    mistake: Callable[..., str], write_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert mistake("run", write_task(), "--on", "ray") == (
        'workers need the package ray: pip install "latent-harness[ray]"; without --on a run needs none'
    )


def test_workers_on_something_else(mistake: Callable[..., str], write_task: Callable[..., Path]) -> None:
    assert mistake("run", write_task(), "--on", "spark:7077") == (
        '--on spark:7077: write "ray", or "ray:ADDRESS" for a cluster that is there already'
    )
