"""What a task says of the store is what the store becomes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.resources import fixture
from harness.subject.collect import collect
from harness.task import CoderSettings, CorpusSettings, SubjectSettings


def test_activations_are_kept_in_the_type_that_is_asked_for(tmp_path: Path) -> None:
    corpus = CorpusSettings(path=fixture("text/demo.jsonl"), tokens=1_000)
    sae = CoderSettings(name="sae", hookpoint="model.layers.1", path=str(fixture("subject/sae")))
    found = {}
    for kind in ("float16", "float32"):
        subject = SubjectSettings.model_validate(
            {"model": str(fixture("subject")), "corpus": corpus, "batch": 4, "threads": 1, "value_dtype": kind}
        )
        store = collect(subject, [sae], tmp_path / kind)
        assert store.manifest.frame.value_dtype == kind
        coder = store.coder("sae")
        found[kind] = np.concatenate([block.values for block in coder.scan()])
        assert found[kind].dtype == kind
    assert (found["float32"].astype(np.float16) == found["float16"]).all()
    assert (found["float32"] != found["float16"]).any()
