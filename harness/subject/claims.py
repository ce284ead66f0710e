"""A coder's own word on how it was trained, compared with the task: what contradicts is refused, or overruled."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.errors import CoderError
from harness.subject.coders.hook_names import Layout, places, width_of, writes_to_residual
from harness.subject.coders.protocol import CoderInfo
from harness.subject.hookpoints import Hookpoint
from harness.subject.models import ModelFiles
from harness.task import CoderSettings, SubjectSettings

__all__ = ["check_claims", "with_widths"]

# TransformerLens' settings of `from_pretrained` that leave every activation as it is, but for rounding.
_HARMLESS = {
    "cache_dir",
    "center_unembed",
    "default_padding_side",
    "default_prepend_bos",
    "device",
    "device_map",
    "dtype",
    "hf_model",
    "low_cpu_mem_usage",
    "move_to_device",
    "n_ctx",
    "n_devices",
    "tokenizer",
    "torch_dtype",
    "trust_remote_code",
    "verbose",
}
# What TransformerLens and papers call models that Hugging Face calls otherwise.
_ALIASES = {"gpt2-small": "gpt2", "gemma-v3": "gemma-3", "pythia-70m-v0": "pythia-70m"}


@dataclass(frozen=True, slots=True)
class _Contradiction:
    """What the task overrules by naming `key`, and the sentence that is told otherwise."""

    key: str
    sentence: str


def with_widths(coders: Sequence[CoderSettings], files: ModelFiles) -> tuple[CoderSettings, ...]:
    """The coders that have no files with their hookpoint's width, where the model's configuration tells it."""
    if all(coder.path is not None or coder.hookpoint is None for coder in coders):
        return tuple(coders)
    config = _config(files)
    return tuple(_with_width(coder, config) for coder in coders)


def _with_width(coder: CoderSettings, config: Mapping[str, Any]) -> CoderSettings:
    if coder.path is not None or coder.hookpoint is None or coder.width is not None:
        return coder
    return coder.model_copy(update={"width": width_of(Hookpoint(coder.hookpoint, coder.input), config)})


def check_claims(
    subject: SubjectSettings,
    files: ModelFiles,
    coders: Sequence[CoderSettings],
    infos: Sequence[CoderInfo],
    *,
    bos: bool,
) -> tuple[CoderInfo, ...]:
    """The coders' descriptions, completed by how they have to be read; `bos` says whether rows open with a BOS.

    A coder that was trained on a centred model becomes `centred`. What was applied or overruled is part of its
    revision, and what could not be compared is told in its `notes`.

    Raises:
        CoderError: the coder's files contradict the task, or ask for a changed model that cannot be had.
    """
    if not any(info.d_in for info in infos):
        return tuple(infos)
    layout = Layout.of(_config(files))
    return tuple(
        _checked(_Case(subject, files, coder, info, layout, bos)) if info.d_in else info
        for coder, info in zip(coders, infos, strict=True)
    )


@dataclass(frozen=True, slots=True)
class _Case:
    """One coder of a task, and the subject that it is put on."""

    subject: SubjectSettings
    files: ModelFiles
    settings: CoderSettings
    info: CoderInfo
    layout: Layout | None
    bos: bool

    @property
    def point(self) -> Hookpoint:
        """Where the task reads."""
        return Hookpoint(self.settings.hookpoint or "", self.settings.input)

    @property
    def who(self) -> str:
        return f'coder "{self.settings.name}"'


def _checked(case: _Case) -> CoderInfo:
    found = [*_contradictions(case)]
    for one in found:
        if one.key not in case.settings.overrule:
            raise CoderError(f'{case.who}: {one.sentence}; to go on in spite of it: overrule = ["{one.key}"]')
    centred = _is_centred(case)
    reads = centred and case.layout is not None and writes_to_residual(case.point, case.layout)
    target = case.info.target or case.point
    writes = centred and case.layout is not None and writes_to_residual(target, case.layout)
    overruled = sorted({one.key for one in found})
    marks = [*(["centred"] if reads or writes else []), *(f"overruled {key}" for key in overruled)]
    return replace(
        case.info,
        revision="+".join([case.info.revision, *marks]),
        centred=reads,
        target_centred=writes,
        notes=(*case.info.notes, *_uncompared(case), *(f"overruled: {one.sentence}" for one in found)),
    )


def _contradictions(case: _Case) -> Iterator[_Contradiction]:
    claims = case.info.claims
    yield from _place(case, "hookpoint", claims.hook, case.point)
    yield from _place(case, "target", claims.target, case.info.target)
    if claims.model and not case.files.folder and _short(claims.model) != _short(case.files.name):
        yield _Contradiction(
            "model",
            f'{claims.source} says that it was trained on "{claims.model}", and the subject is {case.files.name}',
        )
    if claims.context and case.subject.context > claims.context:
        yield _Contradiction(
            "context",
            f"{claims.source} says that it was trained on contexts of {claims.context} tokens, and subject.context is "
            f"{case.subject.context}: what it says of later positions was never trained",
        )
    if claims.bos is not None and claims.bos != case.bos:
        with_it, without = ("with", "without") if claims.bos else ("without", "with")
        yield _Contradiction(
            "bos",
            f"{claims.source} says that it was trained on rows {with_it} a BOS (prepend_bos), and the subject reads "
            f"them {without} one",
        )
    yield from _settings(case)


def _place(case: _Case, key: str, name: str | None, point: Hookpoint | None) -> Iterator[_Contradiction]:
    if name is None or point is None:
        return
    known = places(name, case.layout, point)
    if known is None or point in known:
        return
    there = " or ".join(f'"{one}"' for one in sorted(map(str, known)))
    which = f"which is {there} here" if known else "which no module of this model holds"
    said = "hook name" if key == "hookpoint" else "output hook name"
    yield _Contradiction(key, f'{case.info.claims.source} says {said} "{name}", {which}, and the task has "{point}"')


def _settings(case: _Case) -> Iterator[_Contradiction]:
    """What the library changed about the model, and cannot be changed here."""
    claims = case.info.claims
    source = claims.source
    for name, value in claims.settings:
        if name in _HARMLESS or value is None or value is False:
            continue
        if name == "revision":
            if value != case.subject.revision:
                yield _Contradiction(
                    "model", f'{source} says revision "{value}", and subject.revision is {case.subject.revision!r}'
                )
        elif name == "center_writing_weights":
            if case.layout is None and case.settings.center_writing_weights is None:
                yield _Contradiction(
                    "settings", f"{source} says {name} = true, which is not known how to apply to this architecture"
                )
        elif not _is_harmless_here(case, name):
            yield _Contradiction(
                "settings",
                f"{source} says that the model was loaded with {name} = {value!r}, which is not supported here",
            )
    told = dict(claims.settings).get("center_writing_weights")
    wanted = case.settings.center_writing_weights
    if wanted and case.layout is None:
        yield _Contradiction(
            "settings", "center_writing_weights = true is not known how to apply to this model's architecture"
        )
    if told is not None and wanted is not None and bool(told) != wanted:
        yield _Contradiction(
            "settings",
            f"{source} says center_writing_weights = {str(bool(told)).lower()}, and the task {str(wanted).lower()}",
        )


def _is_harmless_here(case: _Case, name: str) -> bool:
    """Whether a setting leaves the vectors that this coder reads and predicts as they are."""
    layout = case.layout
    if layout is None:
        return False
    read = {case.point, case.info.target or case.point}
    if name == "fold_ln":
        # what leaves a norm loses its weights; all that follows is the same
        return not any(point.path.endswith(layout.norms) or _reads_norm(point, layout) for point in read)
    if name in ("fold_value_biases", "refactor_factored_attn_matrices"):
        return not any(point.path.endswith(layout.heads) for point in read)
    return False


def _reads_norm(point: Hookpoint, layout: Layout) -> bool:
    return point.input and point.path.endswith((".mlp", f".{layout.attention}"))


def _is_centred(case: _Case) -> bool:
    """Whether the model that the coder was trained on had its writing weights centred, which norms of RMS ignore."""
    wanted = case.settings.center_writing_weights
    told = dict(case.info.claims.settings).get("center_writing_weights", False)
    return bool(told if wanted is None else wanted) and case.layout is not None and case.layout.layer_norm


def _uncompared(case: _Case) -> Iterator[str]:
    claims = case.info.claims
    for name, point in ((claims.hook, case.point), (claims.target, case.info.target)):
        if name and point and places(name, case.layout, point) is None:
            yield f'{claims.source} says hook name "{name}", which could not be compared with "{point}"'


def _config(files: ModelFiles) -> Mapping[str, Any]:
    """The model's configuration, empty where there is none; a broken one is told where the model is loaded."""
    path = files.find("config.json")
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8")) if path else {}
    except ValueError:
        return {}
    return config if isinstance(config, dict) else {}


def _short(model: str) -> str:
    """A model's name without its owner, as Hugging Face spells it."""
    name = model.rsplit("/", 1)[-1].lower()
    for alias, meant in _ALIASES.items():
        if name == alias or name.startswith(f"{alias}-"):
            return meant + name[len(alias) :]
    return name
