"""Trains a TopK sparse autoencoder on any subject and corpus, and says how good it came out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

from harness.errors import CoderError
from harness.subject.activations import ActivationStream, is_held_out
from harness.subject.coders.sae import SAECoder
from harness.subject.coders.saelens import CONFIG, save_saelens
from harness.subject.coders.sparse import SparseWeights
from harness.subject.corpus import Corpus, open_corpus
from harness.subject.documents import Document
from harness.subject.evaluate import evaluate
from harness.subject.hookpoints import Hookpoint
from harness.subject.models import find_model, load_model
from harness.subject.packing import Packer, load_tokenizer
from harness.subject.tracing import Traced
from harness.task import CoderSettings, CorpusSettings

__all__ = ["REPORT", "TrainingReport", "TrainingSettings", "train_sae"]

REPORT = "report.json"

# Latents that did not fire for so many tokens are dead, and are drawn to what the others leave unexplained
# (Gao et al. 2024, appendix A.2: the loss on it weighs 1/32).
_DEAD_TOKENS = 262_144
_AUXILIARY = 1 / 32
# A latent that fired on the last so many tokens counts as alive at the end.
_ALIVE_TOKENS = 524_288
_WARM_UP, _DECAY = 50, 0.3
_CONTEXTS = 16
_HELD_OUT_TOKENS = 65_536


class TrainingSettings(BaseModel):
    """What decides a training: `latents` columns of which `k` are kept a token, `steps` of `batch` tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hookpoint: str
    input: bool = False
    latents: int
    k: int
    steps: int = 1500
    batch: int = 2048
    lr: float = 2e-3
    seed: int = 0
    context: int = 256
    device: str = "cpu"


class TrainingReport(BaseModel):
    """What a training came to; figures are those of the saved files on documents that it never saw.

    `fvu`, `l0` as CoderFigures has them. `alive` is how many latents fired on the last half million tokens of
    training. Losses are in nats a token: the subject's own, with the SAE's reconstruction in place of the
    hookpoint's value, and with zeros there; `recovered` is (zero - spliced) / (zero - clean).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    corpus: str
    settings: TrainingSettings
    trained_tokens: int
    collected_tokens: int
    seconds: float
    fvu: float
    l0: float
    alive: int
    held_out_tokens: int
    loss_clean: float
    loss_spliced: float
    loss_zero: float
    recovered: float


def train_sae(
    model: str,
    corpus: CorpusSettings,
    settings: TrainingSettings,
    out: Path,
    progress: Callable[[int, int], None] | None = None,
    base: Path = Path(),
    revision: str | None = None,
) -> TrainingReport:
    """Train a TopK SAE on a hookpoint and save it in SAELens' format with a report beside it.

    One document in twenty is held out for the report. Activations are centred and brought to unit variance for
    training, and that is folded into the saved weights: they work on the subject's own activations.

    Args:
        model: a Hugging Face id or folder.
        corpus: the text; read again from its start when it ends before the steps do.
        settings: what to train.
        out: the SAE's folder.
        progress: called with steps done and steps in all.
        base: what relative paths start from.
        revision: of a Hugging Face model.

    Raises:
        UserError: the model, corpus, hookpoint or a setting does not fit.
    """
    _check(settings, out)
    files = find_model(model, revision, base)
    tokenizer = load_tokenizer(files)
    text = open_corpus(corpus, base, tokenizer.specials)
    traced = Traced(load_model(files, "float32", settings.device))
    hookpoint = Hookpoint(settings.hookpoint, settings.input)
    packer = Packer(tokenizer, settings.context, corpus.tokens, corpus.packing, files.vocabulary())
    stream = ActivationStream(
        traced, hookpoint, lambda: packer.batches(_texts(text, held_out=False), text.name, _CONTEXTS), settings.seed
    )
    began = time.perf_counter()
    trainer = _Trainer(settings, stream)
    for step in range(settings.steps):
        trainer.step(step)
        if progress is not None:
            progress(step + 1, settings.steps)
    metadata = {
        "model_name": files.folder.name if files.folder else files.name,
        "model_class_name": "AutoModelForCausalLM",
        "hook_name": settings.hookpoint,
        "context_size": settings.context,
        "prepend_bos": tokenizer.bos is not None,
    }
    save_saelens(out, trainer.folded(), metadata)
    saved = CoderSettings(name="trained", hookpoint=settings.hookpoint, input=settings.input, path=str(out.resolve()))
    coder = SAECoder.load(saved, Path(), settings.device)
    unseen = Packer(tokenizer, settings.context, _HELD_OUT_TOKENS, corpus.packing, files.vocabulary())
    found = evaluate(traced, hookpoint, coder, unseen.batches(_texts(text, held_out=True), text.name, _CONTEXTS))
    report = TrainingReport(
        model=metadata["model_name"],
        corpus=corpus.dataset or Path(text.name).name,
        settings=settings,
        trained_tokens=settings.steps * settings.batch,
        collected_tokens=stream.collected,
        seconds=round(time.perf_counter() - began, 1),
        fvu=found.figures.fvu,
        l0=found.figures.l0,
        alive=trainer.alive(),
        held_out_tokens=found.figures.tokens,
        loss_clean=found.loss_clean,
        loss_spliced=found.loss_spliced,
        loss_zero=found.loss_zero,
        recovered=found.recovered,
    )
    (out / REPORT).write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return report


def _check(settings: TrainingSettings, out: Path) -> None:
    for name in ("latents", "k", "steps", "batch", "context"):
        if getattr(settings, name) < 1:
            raise CoderError(f"{name} has to be above 0, not {getattr(settings, name)}")
    if settings.k > settings.latents:
        raise CoderError(f"k ({settings.k}) is more than there are latents ({settings.latents})")
    if settings.lr <= 0:
        raise CoderError(f"lr has to be above 0, not {settings.lr}")
    if (out / CONFIG).exists():
        raise CoderError(f"{out} holds an SAE already; choose another folder")


def _texts(corpus: Corpus, *, held_out: bool) -> Iterator[Document]:
    return (document for number, document in enumerate(corpus.documents()) if is_held_out(number) is held_out)


@dataclass(slots=True)
class _Fired:
    """When each latent fired last, in tokens seen."""

    last: torch.Tensor
    seen: int = 0

    def note(self, latents: torch.Tensor, values: torch.Tensor) -> None:
        self.seen += len(latents)
        self.last[latents[values > 0]] = self.seen

    def silent(self, tokens: int) -> torch.Tensor:
        """Which latents did not fire on the last so many tokens."""
        return self.last < self.seen - tokens


class _Trainer:
    """The SAE being trained, in the space of centred activations of unit variance."""

    def __init__(self, settings: TrainingSettings, stream: ActivationStream) -> None:
        self._settings = settings
        self._stream = stream
        mean, self._scale = stream.moments()
        self._mean = mean
        generator = torch.Generator().manual_seed(settings.seed)
        directions = torch.randn(settings.latents, len(mean), generator=generator).to(mean.device)
        directions /= directions.norm(dim=-1, keepdim=True)
        self._w_dec = directions.clone().requires_grad_()
        self._w_enc = directions.T.clone().contiguous().requires_grad_()
        self._b_enc = torch.zeros(settings.latents, device=mean.device, requires_grad=True)
        self._b_dec = torch.zeros(len(mean), device=mean.device, requires_grad=True)
        self._parameters = [self._w_enc, self._b_enc, self._w_dec, self._b_dec]
        self._optimizer = torch.optim.Adam(self._parameters, lr=settings.lr, betas=(0.9, 0.999))
        self._fired = _Fired(torch.zeros(settings.latents, dtype=torch.int64, device=mean.device))

    def step(self, number: int) -> float:
        """One step of Adam; returns the loss, which is about the fraction of variance unexplained."""
        inputs = (self._stream.draw(self._settings.batch) - self._mean) / self._scale
        before = torch.addmm(self._b_enc, inputs - self._b_dec, self._w_enc)
        values, latents = before.topk(self._settings.k, dim=-1, sorted=False)
        values = values.relu()
        self._fired.note(latents, values.detach())
        error = inputs - self._decoded(latents, values) - self._b_dec
        loss = error.square().mean()
        total = loss + _AUXILIARY * self._auxiliary(before, error.detach())
        total.backward()
        self._drop_radial_gradient()
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for group in self._optimizer.param_groups:
            group["lr"] = self._settings.lr * self._rate(number)
        self._optimizer.step()
        self._optimizer.zero_grad()
        with torch.no_grad():
            self._w_dec /= self._w_dec.norm(dim=-1, keepdim=True)
        return float(loss.detach())

    def alive(self) -> int:
        """How many latents fired lately."""
        return int((~self._fired.silent(_ALIVE_TOKENS)).logical_and(self._fired.last > 0).sum())

    def folded(self) -> SparseWeights:
        """The weights for activations as the subject has them.

        With y = (x - mean) / scale: W_enc (y - b) + c, times scale, is W_enc (x - mean - scale b) + scale c; so
        latents grow by `scale` and the decoder needs no change.
        """
        with torch.no_grad():
            return SparseWeights(
                w_enc=self._w_enc.detach().cpu(),
                b_enc=(self._b_enc * self._scale).cpu(),
                w_dec=self._w_dec.detach().cpu(),
                b_dec=(self._mean + self._scale * self._b_dec).cpu(),
                activation="topk",
                k=self._settings.k,
            )

    def _decoded(self, latents: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.embedding_bag(latents, self._w_dec, mode="sum", per_sample_weights=values)

    def _auxiliary(self, before: torch.Tensor, error: torch.Tensor) -> torch.Tensor | float:
        """How much of the error dead latents leave, as a share of it; they learn nothing otherwise."""
        dead = self._fired.silent(_DEAD_TOKENS).nonzero()[:, 0]
        if not len(dead):
            return 0.0
        values, latents = before[:, dead].topk(min(len(dead), max(1, error.shape[1] // 2)), dim=-1, sorted=False)
        left = error - self._decoded(dead[latents], values.relu())
        return left.square().mean() / error.square().mean().clamp_min(1e-12)

    def _drop_radial_gradient(self) -> None:
        """Decoder rows have norm 1: a gradient along them would only disturb Adam's moments."""
        gradient = self._w_dec.grad
        if gradient is not None:
            gradient -= (gradient * self._w_dec.detach()).sum(-1, keepdim=True) * self._w_dec.detach()

    def _rate(self, number: int) -> float:
        steps = self._settings.steps
        falling = (steps - number) / max(1.0, _DECAY * steps)
        return min(1.0, (number + 1) / _WARM_UP, falling)
