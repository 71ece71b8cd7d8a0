"""An argument of one name does the same unless told otherwise, wherever it occurs."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections import defaultdict
from typing import Any

import wsi_deform

DEFAULTS: dict[str, Any] = {
    "allow_empty_classes": False,
    "batch": 1,
    "classic_limit_bytes": 2**32,
    "columns": 1,
    "counted": True,
    "digits": 3,
    "downsample": 1,
    "footprint": False,
    "gamma": 2.0,
    "geojson": True,
    "in_channels": 3,
    "kernel": 3,
    "level": 0,
    "limit_to_tissue": True,
    "max_features": 10_000,
    "outside_label": 0,
    "overwrite": False,
    "probabilities": False,
    "rank": 0,
    "reads_ahead": True,
    "retry_failed": False,
    "rows": 1,
    "seed": 0,
    "stem_stride": 4,
    "stride": 1,
    "threads": 1,
    "tile_px": 512,
    "warp_steps": 1,
    "world": 1,
}


def test_arguments_of_one_name_have_one_default() -> None:
    found: dict[str, set[Any]] = defaultdict(set)
    for module in pkgutil.walk_packages(wsi_deform.__path__, "wsi_deform."):
        if module.name.endswith("__main__"):
            continue
        names = vars(importlib.import_module(module.name))
        own = [each for each in names.values() if getattr(each, "__module__", None) == module.name]
        methods = [each for holder in own if inspect.isclass(holder) for each in vars(holder).values()]
        for function in filter(inspect.isfunction, [*own, *methods]):
            for argument in inspect.signature(function).parameters.values():
                # None, and an option of a command, is what somebody else says.
                if argument.name in DEFAULTS and isinstance(argument.default, int | float):
                    found[argument.name].add(argument.default)
    assert found == {name: {value} for name, value in DEFAULTS.items()}
