"""Copies the little Llama with a chat template, and makes llama.cpp's file of it by llama.cpp's own converter.

`to_gguf.py CONVERTER MODEL FOLDER` makes the folder; the file in it is `model.gguf`.

The converter gives every piece of a BPE vocabulary the same score, and llama.cpp merges by score: texts would be cut
otherwise than by the model's own tokenizer. Here the score is the rank of the merge that makes the piece, negated. The
chat template is the messages with a blank after each.
"""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path

TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m['content'] }} {% endfor %}"


def main(converter: Path, model: Path, folder: Path) -> None:
    """Copy and convert a model's folder."""
    _copy(model, folder)
    data = json.loads((model / "tokenizer.json").read_text())["model"]
    ranks: dict[int, int] = {}
    for rank, (left, right) in enumerate(data["merges"]):
        ranks.setdefault(data["vocab"][left + right], rank)
    sys.path[:0] = [str(converter.parent / "gguf-py"), str(converter.parent)]
    import gguf.vocab

    gguf.vocab.LlamaHfVocab.get_token_score = lambda self, token_id: -float(ranks.get(token_id, 1e6))
    sys.argv = [str(converter), str(folder), "--outfile", str(folder / "model.gguf"), "--outtype", "f32"]
    runpy.run_path(str(converter), run_name="__main__")


def _copy(model: Path, folder: Path) -> None:
    folder.mkdir()
    for file in model.iterdir():
        shutil.copyfile(file, folder / file.name)
    settings = folder / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"chat_template": TEMPLATE}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
