"""What every dataclass of the package keeps: no change, no misspelt attribute, no value in the wrong place."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from typing import Any

import pytest

import wsi_deform

CHANGING = {
    "_Check", "_Row", "_Waiting", "Counters", "LabelFindings", "Ranks", "Run", "SeenValues",
}  # fmt: skip
"""Those that are filled while something goes on."""

OPEN = {"Counters", "SlideMask"}
"""Those that take further attributes: a cached one, and a module's."""

POSITIONAL = {
    "_Row", "_RowReader", "_Runs", "_Waiting", "BoundaryDistances", "Confusion", "Field", "Ledger", "MaskFolder",
    "Point", "Region", "Size", "SlideUrl", "TrimapCounts", "_Place", "_Way",
}  # fmt: skip
"""Those of a value or two, or of values in an order that everybody knows."""


def records() -> dict[str, type[Any]]:
    found = {}
    for module in pkgutil.walk_packages(wsi_deform.__path__, "wsi_deform."):
        if not module.name.endswith("__main__"):
            members = inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
            own = (each for _, each in members if each.__module__ == module.name)
            found |= {each.__name__: each for each in own if "__dataclass_params__" in vars(each)}
    return found


@pytest.fixture(scope="module")
def found() -> dict[str, type[Any]]:
    return records()


def test_records_do_not_change(found: dict[str, type[Any]]) -> None:
    assert {name for name, each in found.items() if not each.__dataclass_params__.frozen} == CHANGING


def test_records_have_no_other_attributes(found: dict[str, type[Any]]) -> None:
    assert {name for name, each in found.items() if "__slots__" not in vars(each)} == OPEN


def test_records_are_made_by_the_names_of_their_values(found: dict[str, type[Any]]) -> None:
    by_place = {
        name for name, each in found.items() if not all(own.kw_only for own in dataclasses.fields(each))
    }
    assert by_place == POSITIONAL
