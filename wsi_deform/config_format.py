"""Settings that an earlier version wrote, in today's format: the one place that knows what was so before a key came.

A configuration says its format in the key ``format``. Format 1 is what version 0.1 wrote: it has no such key, and holds
every key that its version knew. Of these ``FIRST_KEYS`` were there from the first day on; each that came later is in
``BEFORE`` with what the program did until then, which need not be its default.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from wsi_deform.errors import ConfigError

KEY = "format"
FORMAT: Final = 2
"""Today's."""
FIRST = 1

FIRST_KEYS: dict[str, tuple[str, ...]] = {
    "": ("name", "seed", "device"),
    "sampling": (
        "budget",
        "size",
        "density",
        "map_scale",
        "sigma",
        "radius_sigmas",
        "warp_steps",
        "floor",
        "border",
        "placement",
        "level",
    ),
    "fields": ("side_um", "whole_below_mm2", "margin"),
    "networks": ("pretrained",),
    "networks.segmentation": ("name",),
    "networks.deformation": ("widths", "kernel", "zero_init_head"),
    "loss": ("focal_gamma", "edge_weight", "edge_floor", "weighting"),
    "optimiser": (
        "learning_rate",
        "deformation_learning_rate",
        "betas",
        "weight_decay",
        "decay",
        "step_epochs",
        "clip_norm",
    ),
    "augmentation": ("flip_x", "flip_y", "shift_cells", "warp_cells"),
    "training": ("epochs", "batch", "validate_every", "workers", "cache_gib", "threads"),
}
"""Section -> keys that every file of format 1 has."""

BEFORE: dict[str, dict[str, Any]] = {
    "sampling": {"interpolation": "nearest", "level_bias": 0.0, "coarsest_um": None},
    "fields": {"allocation": "equal", "allocation_ratio": 4.0, "cut_to_tissue": False},
    "networks": {"area_channel": False, "stain": "none", "channels_last": None},
    "networks.deformation": {"dilations": None, "inputs": "rgb"},
    "loss": {
        "edge_decay": "none",
        "edge_target": "edge",
        "edge_blur": 1.0,
        "segmentation_gradient": True,
        "class_weights": "none",
    },
    "optimiser": {"warmup_epochs": 0.0, "deformation_warmup_epochs": 0.0, "ema": None},
    "augmentation": {"transpose": False, "rotate_degrees": 0.0, "stain_jitter": 0.0},
    "training": {
        "patience": None,
        "mixed_shapes": False,
        "rare_classes": 0.0,
        "keep": 0,
        "pictures": 0,
        "precision": "float32",
        "compile": False,
    },
}
"""Section -> keys that came while files were of format 1, with what was so before."""

GONE: dict[str, tuple[str, ...]] = {"training": ("channels_last",)}
"""Section -> keys that went. ``training.channels_last`` changed speed alone; ``networks.channels_last`` chooses it."""


def todays(raw: Mapping[str, Any], *, source: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Bring a configuration into today's format.

    Args:
        raw: Nested dictionaries as YAML or JSON give them; left as they are.
        source: Where they came from, for the error.

    Returns:
        The configuration with ``format: 2``, and what was added to it: dotted key -> value.

    Raises:
        ConfigError: It is of a newer format, or says that it is of the first one and lacks a key of that.

    Convention:
        Without the key ``format``, what holds every key of the first format is of that format: a dump of version 0.1,
        or a whole configuration written for it. What holds some of them is somebody's choice of a few settings, and
        takes today's defaults for the rest.
    """
    missing = [key for section, keys in FIRST_KEYS.items() for key in _missing(raw, section, keys)]
    found = raw.get(KEY, FORMAT if missing else FIRST)
    if isinstance(found, bool) or not isinstance(found, int) or not FIRST <= found <= FORMAT:
        newer = isinstance(found, int) and found > FORMAT
        remedy = "A newer version wrote it: update wsi-deform." if newer else f"Write {KEY}: {FORMAT}."
        raise ConfigError(f"config {source}: format {found!r}. Needed one from {FIRST} to {FORMAT}. {remedy}")
    settings = {KEY: FORMAT} | copy.deepcopy({key: value for key, value in raw.items() if key != KEY})
    if found == FORMAT:
        return settings, {}
    if missing:
        raise ConfigError(
            f"config {source}: format {FIRST}, but without {', '.join(missing)}. Needed every key, as version 0.1 "
            f"wrote them. Leave the format out for today's defaults."
        )
    return settings, _completed(settings)


def _completed(settings: dict[str, Any]) -> dict[str, Any]:
    """Bring settings of format 1 up to date in place; returns what was added."""
    added = {}
    for section, keys in BEFORE.items():
        target = _section(settings, section)
        for key, value in keys.items():
            if key not in target:
                target[key] = added[f"{section}.{key}"] = value
    for section, gone in GONE.items():
        for key in gone:
            _section(settings, section).pop(key, None)
    return added


def _missing(raw: Mapping[str, Any], section: str, keys: tuple[str, ...]) -> list[str]:
    """Those of the keys that are not there, in full."""
    target = _section(raw, section)
    prefix = f"{section}." if section else ""
    return [prefix + key for key in keys if key not in target]


def _section(settings: Mapping[str, Any], section: str) -> Any:
    """A section by its dotted name; empty where there is none, or a value in its place."""
    target: Any = settings
    for name in section.split(".") if section else ():
        target = target.get(name)
        if not isinstance(target, dict):
            return {}
    return target
