"""The tables of a task file, one class each: what they may hold, and what is wrong with a value."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = [
    "POPULATIONS",
    "CoderSettings",
    "Control",
    "CorpusSettings",
    "ExampleSettings",
    "ExplainerSettings",
    "Frozen",
    "InterventionSettings",
    "KindSettings",
    "LatentSettings",
    "LimitSettings",
    "Name",
    "PrimarySettings",
    "Rung",
    "ScoredSettings",
    "ScorerSettings",
    "ShownSettings",
    "SplitSettings",
    "StoreSettings",
    "SubjectSettings",
]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=60)]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Rung = Literal["random", "same-token", "neighbour", "cooccurring", "semantic", "misplaced", "zero-row", "same-row"]
Control = Literal["shuffled", "generic", "none", "lexical", "random-direction", "random-coder"]
# controls that are latents of their own, which the subject has to be read for
POPULATIONS: tuple[Control, ...] = ("random-direction", "random-coder")


class Frozen(BaseModel):
    """A table of the task file: unknown keys are mistakes, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CorpusSettings(Frozen):
    """What the subject reads: a file or folder (`path`), or a Hugging Face data set (`dataset`).

    `column` holds text or lists of token ids. `revision` is a data set's commit, tag or branch. With the packing
    `packed` documents follow each other through rows of one length; with `rows` each opens a row of its own, and the
    last row of each is padded. `tokens` is the most positions that are read; None reads all.
    """

    path: Path | None = None
    dataset: str | None = None
    revision: str | None = None
    config: str | None = None
    split: str = "train"
    column: str = "text"
    packing: Literal["packed", "rows"] = "packed"
    tokens: Count | None = None

    @model_validator(mode="after")
    def _one_source(self) -> CorpusSettings:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("give either path or dataset")
        if self.path is not None and self.revision is not None:
            raise ValueError("revision belongs to a dataset of the Hugging Face Hub, not to a path")
        return self


class SubjectSettings(Frozen):
    """The model being interpreted and what it reads.

    `model` is a Hugging Face id or a folder; `context` is the length of a row in tokens, `batch` in rows; `bos` says
    whether a BOS opens each row (None: where the tokenizer has one); `threads` is torch's number of CPU threads, None
    leaves torch's choice. Collection stops where a coder leaves more than `max_fvu` of the variance unexplained. With
    `rows` the store also tells which latents fire at a position; `value_dtype` is how it keeps activations (float16
    ends at 65,504).
    """

    model: str
    revision: str | None = None
    corpus: CorpusSettings
    context: Annotated[int, Field(ge=2)] = 256
    bos: bool | None = None
    batch: Count = 32
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "cpu"
    threads: Count | None = None
    max_fvu: Annotated[float, Field(gt=0)] = 0.5
    rows: bool = False
    value_dtype: Literal["float16", "float32"] = "float16"


# Kinds of coders that are made, not read from files.
_WITHOUT_FILES = ("planted", "neurons", "random-sae", "random-directions")


class CoderSettings(Frozen):
    """One coder: which module's output (or input) it reads, and what is needed to have it.

    Both are left out where the task names a [store], which has the coder's activations already.
    `path` is a folder, a file or `repository:folder` on the Hugging Face Hub. `target` is the module whose output a
    transcoder predicts; left out, it is the output of the module whose input is read. `overrule` names what the
    coder's own files claim and the task knowingly contradicts; `center_writing_weights` says whether the model was
    centred where the files do not. `k`, `latents`, `seed`, `rate` and `absolute` belong to the kinds without files;
    these need the hookpoint's `width` where the model's configuration does not tell it.
    """

    name: Name
    kind: str = "sae"
    hookpoint: str | None = None
    input: bool = False
    target: str | None = None
    path: str | None = None
    overrule: tuple[Literal["hookpoint", "target", "model", "context", "bos", "settings"], ...] = ()
    center_writing_weights: bool | None = None
    k: Count | None = None
    latents: Count | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    rate: Rate | Annotated[tuple[Rate, ...], Field(min_length=1)] | None = None
    absolute: bool = False
    width: Count | None = None

    @model_validator(mode="after")
    def _complete(self) -> CoderSettings:
        if self.kind not in _WITHOUT_FILES and (self.hookpoint is None) != (self.path is None):
            raise ValueError("a coder needs a hookpoint and a path")
        return self

    @property
    def missing(self) -> str | None:
        """What the coder lacks to be applied to a subject, as a sentence; None if nothing."""
        if self.kind == "planted" or self.hookpoint is not None:
            return None
        return "a coder needs a hookpoint" + ("" if self.kind in _WITHOUT_FILES else " and a path")


class LatentSettings(Frozen):
    """Which latents: the first `sample` eligible ones in the seeded order, or `ids`, of every coder.

    A latent is eligible when at least `min_examples` distinct windows activate it and at most `max_rate` of all
    windows do. Published records have some 30 rows a latent: there `min_examples` has to be far below the default, and
    `max_rate` means nothing.
    """

    sample: Count | None = None
    ids: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    min_examples: Count = 200
    max_rate: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _one_choice(self) -> LatentSettings:
        if (self.sample is None) == (self.ids is None):
            raise ValueError("give either sample (how many) or ids (which)")
        if self.ids is not None and len(set(self.ids)) != len(self.ids):
            raise ValueError("ids has duplicates")
        return self


class SplitSettings(Frozen):
    """The shares of documents that examples of each split may come from; they sum to 1."""

    shown: Annotated[float, Field(gt=0, lt=1)] = 0.4
    select: Annotated[float, Field(ge=0, lt=1)] = 0.1
    scored: Annotated[float, Field(gt=0, lt=1)] = 0.5

    @model_validator(mode="after")
    def _sums_to_one(self) -> SplitSettings:
        total = self.shown + self.select + self.scored
        if abs(total - 1) > 1e-9:
            raise ValueError(f"shown + select + scored is {total:g} and has to be 1")
        return self


class ShownSettings(Frozen):
    """What an explainer sees: `count` activating windows, drawn by `sampler` (paper section 3)."""

    sampler: Literal["random", "top", "quantiles", "mix", "importance"] = "random"
    count: Count = 40


class ScoredSettings(Frozen):
    """What a scorer is asked: activating windows from equal-count `quantiles`, and as many that do not fire.

    `minimum` is the fewest of each that make a score. The rung `random` needs a store of all the text that was read;
    `zero-row` (windows of the latent's rows in which it fires nowhere) and `same-row` (silent windows of rows in which
    it fires) are for selected records, which have no quantiles either. `embedder` is the model whose embeddings the
    rung `semantic` goes by. The windows of `misplaced` are all activating ones, half of them with wrong marks: it is
    asked of scorers that show marks.
    """

    activating: Count = 100
    quantiles: Annotated[int, Field(ge=1, le=100)] = 10
    non_activating: Count = 100
    minimum: Count = 10
    rungs: tuple[Rung, ...] = ("random",)
    embedder: str | None = None

    @property
    def headline(self) -> Rung:
        """The rung of the headline figure: `random`, or the first that is asked where records are selected."""
        return "random" if "random" in self.rungs else self.rungs[0]

    @model_validator(mode="after")
    def _balanced(self) -> ScoredSettings:
        if self.activating != self.non_activating:
            raise ValueError("activating and non_activating have to be equal: one half of the examples fires")
        if self.activating % self.quantiles:
            raise ValueError(f"activating has to be a multiple of quantiles ({self.quantiles})")
        return self

    @model_validator(mode="after")
    def _with_embedder(self) -> ScoredSettings:
        if "semantic" in self.rungs and not self.embedder:
            raise ValueError('the rung "semantic" needs an embedder, such as embedder = "local/path/of/an/embedder"')
        return self

    @field_validator("rungs")
    @classmethod
    def _of_one_sampling(cls, rungs: tuple[Rung, ...]) -> tuple[Rung, ...]:
        if not rungs:
            raise ValueError('rungs has to name at least one, such as "random"')
        if len(set(rungs)) != len(rungs):
            raise ValueError("rungs has duplicates")
        records = {"zero-row", "same-row"}
        if records & set(rungs) and set(rungs) - records:
            raise ValueError(
                '"zero-row" and "same-row" are for selected records, and the others need all the text that was read: '
                "no store has both"
            )
        if not records & set(rungs) and "random" not in rungs:
            raise ValueError('rungs has to contain "random", the rung of the headline figure')
        return rungs


class ExampleSettings(Frozen):
    """How windows are cut, split and drawn.

    Windows of `window` tokens lie on a grid; with a `peak` they are centred: a peak of the latent's activation stands
    at that place of each activating window, counted from 0. Another number as `draw` splits the documents and draws all
    examples anew, of the same latents.
    """

    window: Annotated[int, Field(ge=2)] = 32
    peak: Annotated[int, Field(ge=0)] | None = None
    split: SplitSettings = SplitSettings()
    shown: ShownSettings = ShownSettings()
    scored: ScoredSettings = ScoredSettings()
    draw: Annotated[int, Field(ge=0)] = 0

    def drawing_seed(self, seed: int) -> int:
        """The seed that examples are drawn by in a task of this seed."""
        from harness.values import seed_of  # here because it brings NumPy, which reading a task does without

        return seed_of(seed, "draw", self.draw) % 2**63 if self.draw else seed

    @model_validator(mode="after")
    def _peak_inside(self) -> ExampleSettings:
        if self.peak is not None and self.peak >= self.window:
            raise ValueError(f"peak is a place in a window of {self.window} tokens: 0 to {self.window - 1}")
        return self


class InterventionSettings(Frozen):
    """How latents are changed while the subject writes (paper section 3.3.5 and appendix A.7).

    Strengths are those at which the mean KL of the next token is each of `targets`, in nats. Prompts are windows of
    `window` tokens that the latent activates, drawn over `quantiles` and cut behind the first token that it fires on:
    `explain` of them to explain from, `select` to choose among explanations by, `score` to score with, of which
    `minimum` have to be there. At each the `top` tokens that rise most are shown. The subject writes `tokens` new
    tokens at `temperature`.
    """

    targets: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (0.1, 0.33, 1.0, 3.0)
    window: Annotated[int, Field(ge=2)] = 64
    quantiles: Annotated[int, Field(ge=1, le=100)] = 5
    explain: Count = 10
    select: Annotated[int, Field(ge=0)] = 10
    score: Annotated[int, Field(ge=2)] = 30
    minimum: Annotated[int, Field(ge=2)] = 5
    top: Count = 5
    tokens: Count = 8
    temperature: Annotated[float, Field(ge=0)] = 1.0

    @field_validator("targets")
    @classmethod
    def _ascending(cls, targets: tuple[float, ...]) -> tuple[float, ...]:
        if list(targets) != sorted(set(targets)):
            raise ValueError("targets have to ascend, none twice")
        return targets


class KindSettings(BaseModel):
    """A table whose further keys belong to its kind, which validates them itself.

    Another number as `sample` draws all that its models write anew: 0, 1, 2, ... are draws of the same requests.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Name
    kind: str
    sample: Annotated[int, Field(ge=0)] = 0

    @property
    def options(self) -> dict[str, Any]:
        """The keys that belong to the kind."""
        return dict(self.model_extra or {})


class ExplainerSettings(KindSettings):
    """One explainer; keys beyond name and kind are validated by the kind."""


class ScorerSettings(KindSettings):
    """One scorer; keys beyond name, kind and explainers are validated by the kind.

    `explainers` names those whose explanations it judges, theirs for other latents and for random ones too; left out,
    it judges all. Controls without an explainer, such as `none`, it judges either way.
    """

    explainers: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None


class PrimarySettings(Frozen):
    """The one figure that arms are ranked by; differences below `margin` do not matter.

    Left out, `metric` is the one that the scorer's kind is ranked by.
    """

    scorer: Name
    metric: str | None = None
    margin: Annotated[float, Field(gt=0)] = 0.02


class LimitSettings(Frozen):
    """How much at once, and how much at all.

    `latents` are worked on at once, and a model is sent at most `requests` at once. `spend` (dollars) and `tokens` are
    never passed by all runs in a directory together. Without one success in `patience` seconds the run stops.
    """

    latents: Count = 16
    requests: Count = 64
    spend: Annotated[float, Field(gt=0)] | None = None
    tokens: Count | None = None
    patience: Annotated[float, Field(gt=0)] = 900.0


class StoreSettings(Frozen):
    """A finished store to use as it is, instead of collecting."""

    path: Path
