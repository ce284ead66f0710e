"""Reading: what is not finite is named, halves give the same rows, transcoders are judged by what they predict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.errors import CoderError, HookpointError, SubjectError
from harness.store.format import Rows
from harness.subject.coders.protocol import CoderInfo
from harness.subject.coders.sparse import SparseCoder, SparseWeights
from harness.subject.hookpoints import Hookpoint
from harness.subject.models import find_model, load_model
from harness.subject.reading import Batch, Reading
from harness.subject.tracing import Traced

D, F, K = 16, 40, 3
POINT = Hookpoint("model.layers.1")


@pytest.fixture
def traced(llama: Path) -> Traced:
    return Traced(load_model(find_model(str(llama), None, Path()), "float32", "cpu"))


@pytest.fixture
def batch() -> Batch:
    draw = np.random.default_rng(0)
    documents = draw.integers(0, 5, size=(8, 12)).astype(np.int32)
    documents[:, 0] = -1
    return draw.integers(300, size=(8, 12)).astype(np.uint32), documents


def sae(**info: Any) -> SparseCoder:
    draw = torch.Generator().manual_seed(0)
    w_enc = torch.randn(D, F, generator=draw)
    weights = SparseWeights(w_enc, torch.zeros(F), w_enc.T.contiguous() / D, torch.zeros(D), "topk", K)
    return SparseCoder(CoderInfo(F, D, D, "", "r", **info), weights)


class Small:
    """A coder with room for so many positions at once."""

    def __init__(self, most: int) -> None:
        self.inner = sae()
        self.info = self.inner.info
        self.decoder = self.inner.decoder
        self.most = most

    def encode(self, activations: torch.Tensor) -> Rows:
        if len(activations) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.inner.encode(activations)

    def decode(self, rows: Rows, activations: torch.Tensor) -> torch.Tensor:
        return self.inner.decode(rows, activations)


def dense(rows: Rows) -> np.ndarray[Any, Any]:
    found = np.zeros((len(rows.indptr) - 1, F), np.float32)
    found[np.repeat(np.arange(len(found)), np.diff(rows.indptr)), rows.latents] = rows.values
    return found


def test_halved_batches_give_the_same_rows_within_rounding(traced: Traced, batch: Batch) -> None:
    whole = Reading(traced, {"sae": POINT}, {"sae": sae()})
    parts = Reading(traced, {"sae": POINT}, {"sae": Small(40)})
    expected, found = (dense(reading.rows(*batch, first=16)["sae"]) for reading in (whole, parts))
    assert ((found > 0) == (expected > 0)).all()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert whole.halved == ()
    [halved] = parts.halved
    assert (halved.start, halved.stop, halved.batch) == (16, 24, 2)


def test_a_shortage_of_memory_in_the_model_is_met_alike(traced: Traced, batch: Batch) -> None:
    def hook(_: Any, args: Any) -> None:
        if len(args[0]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    reading = Reading(traced, {"sae": POINT}, {"sae": sae()})
    expected = dense(reading.rows(*batch)["sae"])
    handle = traced.model.get_submodule("model.layers.0").register_forward_pre_hook(hook)
    try:
        found = dense(reading.rows(*batch)["sae"])
    finally:
        handle.remove()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert [one.batch for one in reading.halved] == [2]


@pytest.mark.parametrize(("value", "told"), [(float("nan"), "nan"), (float("inf"), "inf"), (-float("inf"), "-inf")])
def test_an_activation_that_is_no_number_is_named(traced: Traced, batch: Batch, value: float, told: str) -> None:
    def hook(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
        broken = output.clone()
        # no such row in the dry run that finds the order of modules
        broken[5:6, 7:8, 3] = value
        broken[:, 0] = float("nan")  # a BOS is not looked at
        return broken

    reading = Reading(traced, {"one": POINT, "two": POINT}, {"one": sae(), "two": sae()})
    handle = traced.model.get_submodule(f"{POINT.path}.mlp").register_forward_hook(hook)
    try:
        with pytest.raises(SubjectError) as error:
            reading.rows(*batch, first=100)
    finally:
        handle.remove()
    text = str(error.value)
    assert f'hookpoint "{POINT}" (coder "one", "two"): the activation at context 105, position 7 is {told}:' in text
    assert "float32 is too narrow" in text


def test_a_hookpoint_without_a_vector_for_each_token_is_told(traced: Traced, batch: Batch) -> None:
    held = traced.collect(torch.zeros(2, 4, dtype=torch.int64), [Hookpoint("model.rotary_emb")])
    width = held[Hookpoint("model.rotary_emb")].shape[-1]
    coder = sae()
    coder.info = CoderInfo(F, width, width, "", "r")
    reading = Reading(traced, {"sae": Hookpoint("model.rotary_emb")}, {"sae": coder})
    with pytest.raises(HookpointError, match=r'"model\.rotary_emb" holds \[1, 12\] vectors, not one a token'):
        reading.rows(*batch)


def test_activations_whose_sum_overflows_are_fine(traced: Traced, batch: Batch) -> None:
    handle = traced.model.get_submodule(f"{POINT.path}.mlp").register_forward_hook(lambda *parts: parts[-1] + 3e37)
    try:
        assert len(Reading(traced, {"sae": POINT}, {"sae": sae()}).rows(*batch)["sae"].latents)
    finally:
        handle.remove()


def fvu(wanted: torch.Tensor, made: torch.Tensor) -> float:
    wanted, made = wanted.double(), made.double()
    return float((wanted - made).square().sum() / (wanted - wanted.mean(0)).square().sum())


@pytest.mark.parametrize("centred", [False, True])
def test_a_transcoder_is_judged_by_what_it_predicts(traced: Traced, batch: Batch, centred: bool) -> None:
    read, predicted = Hookpoint("model.layers.1.mlp", input=True), Hookpoint("model.layers.1.mlp")
    coder = sae(d_out=D, target=predicted, target_centred=centred)
    figures = Reading(traced, {"t": read}, {"t": coder}).figures(lambda: iter([batch]), 10_000)["t"]
    ids = torch.from_numpy(batch[0].astype(np.int64))
    kept = torch.from_numpy(batch[1] >= 0)
    held = traced.collect(ids, [read, predicted])
    inputs, wanted = held[read][kept], held[predicted][kept]
    kept_values = (inputs @ coder._w_enc).topk(K, -1)
    latents = torch.zeros(len(inputs), F).scatter(-1, kept_values.indices, kept_values.values.relu())
    if centred:
        wanted = wanted - wanted.mean(-1, keepdim=True)
    assert figures.fvu == pytest.approx(fvu(wanted, latents @ coder._w_dec), rel=1e-5)
    assert figures.tokens == int(kept.sum())


def test_collecting_a_transcoder_reads_no_further_than_what_it_reads(traced: Traced, batch: Batch) -> None:
    read, predicted = Hookpoint("model.layers.0.mlp", input=True), Hookpoint("model.layers.2.mlp")
    ran: list[int] = []
    hook = traced.model.get_submodule("model.layers.1").register_forward_hook(lambda *_: ran.append(1))
    reading = Reading(traced, {"t": read}, {"t": sae(d_out=D, target=predicted)})
    traced.order(torch.from_numpy(batch[0].astype(np.int64)), [read])
    ran.clear()
    reading.rows(*batch)
    hook.remove()
    assert ran == []


def test_a_width_that_is_not_predicted_is_told(traced: Traced, batch: Batch) -> None:
    coder = sae(d_out=24, target=Hookpoint("model.layers.1.mlp"))
    with pytest.raises(CoderError, match=r'coder "t" predicts vectors of width 24, and hookpoint "model.layers.1.mlp"'):
        Reading(traced, {"t": POINT}, {"t": coder}).figures(lambda: iter([batch]), 100)


class Calibrated(Small):
    """A coder that notes what it is calibrated on."""

    def __init__(self) -> None:
        super().__init__(10_000)
        self.parts: list[torch.Tensor] = []
        self.seen: torch.Tensor | None = None
        self.calibration = 130

    def see(self, activations: torch.Tensor) -> None:
        self.parts.append(activations)

    def settle(self) -> None:
        self.seen = torch.cat(self.parts)

    def encode(self, activations: torch.Tensor) -> Rows:
        assert self.seen is not None
        return super().encode(activations)


def test_a_coder_is_calibrated_on_the_first_tokens_before_it_encodes(traced: Traced, batch: Batch) -> None:
    coder = Calibrated()
    reading = Reading(traced, {"c": POINT}, {"c": coder})
    figures = reading.figures(lambda: iter([batch, batch]), 100)["c"]
    assert coder.seen is not None
    held = traced.collect(torch.from_numpy(batch[0].astype(np.int64)), [POINT])[POINT]
    flat = held[torch.from_numpy(batch[1] >= 0)]
    assert torch.equal(coder.seen, torch.cat([flat, flat])[:130])
    assert figures.tokens == 100


def test_padding_is_masked_and_not_encoded(traced: Traced, batch: Batch) -> None:
    tokens, documents = batch[0].copy(), batch[1].copy()
    documents[2, 6:] = -1
    seen: list[Any] = []

    def hook(_: Any, __: Any, kwargs: Any) -> None:
        seen.append(kwargs.get("attention_mask"))

    handle = traced.model.register_forward_pre_hook(hook, with_kwargs=True)
    rows = Reading(traced, {"sae": POINT}, {"sae": sae()}, masked=True).rows(tokens, documents)["sae"]
    handle.remove()
    mask = seen[-1]
    assert mask[2].tolist() == [1] * 6 + [0] * 6
    assert mask[[0, 1, 3]].all()
    counts = np.diff(rows.indptr).reshape(8, 12)
    assert (counts[2, 6:] == 0).all()
    assert (counts[documents >= 0] == K).all()
    ids = torch.from_numpy(tokens[2:3, :6].astype(np.int64))
    alone = sae().encode(traced.collect(ids, [POINT])[POINT][0, 1:])
    np.testing.assert_allclose(dense(rows).reshape(8, 12, F)[2, 1:6], dense(alone), rtol=1e-4, atol=1e-5)


def test_coders_share_one_forward_pass_that_ends_behind_the_last_of_them(traced: Traced, batch: Batch) -> None:
    points = {"a": POINT, "b": POINT, "c": Hookpoint("model.layers.0.self_attn"), "d": Hookpoint("model.layers.1.mlp")}
    reading = Reading(traced, points, {name: sae() for name in points})
    alone = {name: Reading(traced, {name: point}, {name: sae()}).rows(*batch)[name] for name, point in points.items()}
    ran: list[str] = []
    hooks = [
        traced.model.get_submodule(path).register_forward_pre_hook(lambda *_, path=path: ran.append(path))
        for path in ("model.embed_tokens", "model.layers.1", "model.layers.2")
    ]
    reading.figures(lambda: iter([]), 1)
    traced.order(torch.from_numpy(batch[0].astype(np.int64)), list(points.values()))
    ran.clear()
    found = reading.rows(*batch)
    for hook in hooks:
        hook.remove()
    assert ran == ["model.embed_tokens", "model.layers.1"]
    for name in points:
        np.testing.assert_array_equal(dense(found[name]), dense(alone[name]))
