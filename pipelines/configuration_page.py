"""Writes docs/configuration.md from the models of configurations: ``python -m pipelines.configuration_page``."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from wsi_deform.config import yaml_value
from wsi_deform.config_sections import Config
from wsi_deform.networks.encoders import EncoderNetwork
from wsi_deform.networks.hrnet import HRNetV2
from wsi_deform.networks.pspnet import PSPNet

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
HEAD = """\
# Every configuration key

Written from the program by `python -m pipelines.configuration_page`; a test compares the two.

    wsi-deform train --slides manifest.csv --config joint --set 'sampling.budget=[48, 480]' --set training.epochs=100
    wsi-deform config show dense

A heading is a section: `budget` under *sampling* is `sampling.budget`. Defaults, which a key has that a file leaves
out, are those of `joint.yaml`; the [other files](../configs/README.md), and with them what `train` takes without
`--config` (`dense.yaml`), differ by a few keys. Where the unit is –, the value is a share, a factor, a count
of what the key names, or a word. `null` is nothing.
"""

SUFFIXES = {
    "_um": "µm",
    "_px": "px",
    "_mm2": "mm²",
    "_mpx": "million px",
    "_gib": "GiB",
    "_cells": "cells",
    "_degrees": "degrees",
    "_sigmas": "sigma",
    "_epochs": "epochs",
}
"""Names end with their unit; what is no length of the slide is said here."""
UNITS = {
    "sampling.budget": "px",
    "sampling.edge_lattice": "cells",
    "sampling.level_bias": "octaves",
    "loss.edge_blur": "cells",
    "training.epochs": "epochs",
    "training.validate_every": "epochs",
    "training.patience": "validations",
    "training.batch": "fields",
    "training.fields_per_slide": "fields",
    "optimiser.step_epochs": "epochs",
}
OWN_NETWORKS = {"hrnetv2": HRNetV2, "pspnet": PSPNet, "efficientnet-lite0": EncoderNetwork}
LEVEL_0 = {"coarsest_px", "side_px", "finest_px"}
"""Lengths on the slide, which are in pixels of its finest level."""


def page_text() -> str:
    """The whole page."""
    parts = [HEAD, "## The file itself\n", *_table("", Config)]
    for name, info in Config.model_fields.items():
        section = model_of(info.annotation)
        if section is not None:
            parts += _section(name, section, info)
    return "\n".join(parts).rstrip() + "\n"


def keys(model: type[BaseModel] = Config, above: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key that holds a value, by its dotted name, in the order of the files.

    Args:
        model: A section.
        above: Its name and a dot.
    """
    for name, info in model.model_fields.items():
        section = model_of(info.annotation)
        if section is None:
            yield above + name, info
        else:
            yield from keys(section, f"{above}{name}.")


def model_of(kind: Any) -> type[BaseModel] | None:
    """The section that a key holds, also one that may be null; None where it holds a value."""
    for each in (kind, *get_args(kind)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


def unit_of(dotted: str) -> str:
    """The unit of a key's value, – where it has none."""
    name = dotted.rpartition(".")[2]
    if name in LEVEL_0:
        return "level-0 px"
    return UNITS.get(dotted) or next(
        (unit for suffix, unit in SUFFIXES.items() if name.endswith(suffix)), "–"
    )


def _section(dotted: str, model: type[BaseModel], info: FieldInfo) -> Iterator[str]:
    yield f"## {dotted}\n"
    about = info.description or inspect.cleandoc(model.__doc__ or "").partition("\n")[0]
    yield f"{about}{' `null` by default.' if info.default is None else ''}\n"
    yield from _table(f"{dotted}.", model)
    if model.model_config.get("extra") == "allow":
        yield from _options(dotted)
    for name, inner in model.model_fields.items():
        section = model_of(inner.annotation)
        if section is not None:
            yield from _section(f"{dotted}.{name}", section, inner)


def _options(dotted: str) -> Iterator[str]:
    if dotted == "networks.segmentation":
        yield "Options of our own networks, with what they are where `name` alone is given:\n"
        yield "| name | options |\n|---|---|"
        for name, network in OWN_NETWORKS.items():
            options = [
                f"`{key}` (needed)"
                if each.default is inspect.Parameter.empty
                else f"`{key}: {yaml_value(each.default)}`"
                for key, each in inspect.signature(network).parameters.items()
                if key not in ("classes", "in_channels")
            ]
            yield f"| `{name}` | {', '.join(options)} |"
        yield ""
        default = ", ".join(
            f"`{key}: {value}`" for key, value in Config().networks.segmentation.options.items()
        )
        yield f"Without a section `networks.segmentation` it is `hrnetv2` with {default}."
    yield "With `monai:NAME` its other keys are arguments of MONAI's class ([MONAI](monai.md)).\n"


def _table(above: str, model: type[BaseModel]) -> Iterator[str]:
    rows = [(name, info) for name, info in model.model_fields.items() if model_of(info.annotation) is None]
    if not rows:
        return
    yield "| key | default | values | unit | what |\n|---|---|---|---|---|"
    for name, info in rows:
        default = yaml_value(info.get_default(call_default_factory=True))
        cells = (
            f"`{name}`",
            f"`{default}`",
            values_of(info),
            unit_of(above + name),
            info.description or "",
        )
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""


def values_of(info: FieldInfo) -> str:
    """What a key may be, in words."""
    kinds = [info.annotation]
    if get_origin(info.annotation) in (types.UnionType, typing.Union):
        kinds = list(get_args(info.annotation))
    null = type(None) in kinds
    (kind,) = (each for each in kinds if each is not type(None))
    return _kind(kind) + _bounds(info) + (", or null" if null else "")


def _kind(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(f"`{each}`" for each in get_args(kind))
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        first = _kind(get_args(inner[0])[0] if get_origin(inner[0]) is typing.Annotated else inner[0])
        return f"list of {first}s" if inner[-1] is Ellipsis else f"{len(inner)} {first}s"
    return {bool: "`true`, `false`", int: "whole number", float: "number", str: "text"}[kind]


def _bounds(info: FieldInfo) -> str:
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "max_length": "as many as"}
    found = {
        name: getattr(each, name)
        for each in info.metadata
        for name in words
        if getattr(each, name, None) is not None
    }
    if found.keys() >= {"ge", "le"}:
        return f", {found['ge']:g} to {found['le']:g}"
    return "".join(f", {words[name]} {limit:g}" for name, limit in found.items())


if __name__ == "__main__":
    PAGE.write_text(page_text(), encoding="utf-8")
