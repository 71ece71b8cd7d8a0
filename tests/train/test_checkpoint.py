"""A checkpoint that is not one of ours is said to be so."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import save_file

from wsi_deform.errors import TrainingError
from wsi_deform.train.checkpoint import NAME, load_checkpoint


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (None, "its header holds no state of a run"),
        ({"state": "{"}, "Expecting property name"),
        ({"state": "[]"}, "its header holds no state of a run"),
        ({"state": '{"groups": [], "counters": 3}'}, "its counters are 3, needed best, best_epoch, epoch"),
        ({"state": '{"groups": [], "counters": {"steps": 1}}'}, r"its counters are \{'steps': 1\}, needed"),
        ({"state": '{"counters": {}}'}, "its header holds no state of a run"),
    ],
)
def test_a_header_of_something_else_is_named(tmp_path: Path, metadata: dict[str, str] | None, said: str):
    save_file({"model.a": torch.zeros(1)}, tmp_path / NAME, metadata=metadata)
    untouched = cast(Any, None)  # the header is looked at before model and optimiser
    with pytest.raises(TrainingError, match=rf"{NAME}: cannot be read: .*{said}.*Delete it to start"):
        load_checkpoint(tmp_path, untouched, untouched, extra={})
