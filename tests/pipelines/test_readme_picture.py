"""Which slide README shows."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from wsi_deform.evaluate.measures import Confusion

ROOT = Path(__file__).parents[2]


def test_the_most_usual_slide_is_neither_the_best_of_one_method_nor_the_worst_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(ROOT)
    picture = importlib.import_module("pipelines.readme.picture")

    def measured(rights: dict[str, int]) -> dict[str, SimpleNamespace]:
        return {
            name: SimpleNamespace(predicted=Confusion(np.array([[right, 100 - right], [0, 100]])))
            for name, right in rights.items()
        }

    # Of joint b is in the middle, of blocks it is the best; c is near to the middle of both.
    joint = measured({"a": 20, "b": 50, "c": 55, "d": 40, "e": 90})
    blocks = measured({"a": 60, "b": 95, "c": 62, "d": 10, "e": 65})
    assert picture._most_usual({"joint": joint, "blocks": blocks}) == "c"
