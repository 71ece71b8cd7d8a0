"""How many µm of a slide a sample stands for, before anyone trains: ``python -m pipelines.budget [SLIDE]``."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence

import wsi_deform
from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import find_config, read_config
from wsi_deform.config_sections import Config
from wsi_deform.cover import budgets_of
from wsi_deform.errors import WsiDeformError
from wsi_deform.model import Model
from wsi_deform.slide.slide import Slide

# Where samples lie evenly nothing is asked of the network: the smallest that there is.
NETWORK = "networks.segmentation={name: hrnetv2, width: 1, stem_stride: 4}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table of a field, and with a slide one of that slide."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.budget", description=__doc__)
    parser.add_argument("slide", nargs="?")
    parser.add_argument("--budgets", nargs="+", default=["40x40", "80x80", "160x160", "320x320"])
    parser.add_argument("--mpp", type=float, help="level-0 um per pixel, where the file is wrong")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    given = parser.parse_args(arguments)
    try:
        configs = [_config(budget, given.changes) for budget in given.budgets]
        parts = [*of_a_field(configs)]
        if given.slide:
            slide = wsi_deform.open_slide(given.slide, mpp=given.mpp)
            parts += ["", *of_a_slide(slide, configs)]
        print("\n".join(parts))
    except (WsiDeformError, ValueError) as error:
        sys.exit(f"budget: {error}")


def of_a_field(configs: Sequence[Config]) -> Iterator[str]:
    """The table of a field of a large slide, as Markdown.

    Args:
        configs: One for each budget; fields are those of the first.

    Raises:
        ValueError: Fields have no side in um.
    """
    fields = configs[0].fields
    if fields.side_um is None:
        raise ValueError("fields.side_um is null: needed um, for a table of um")
    read_um = fields.side_um * (1 if fields.exact else 1 + 2 * fields.margin)
    yield f"A field of {fields.side_um:,.0f} um, read with its margins: {read_um:,.0f} um a side."
    yield ""
    yield "| budget | samples | um per sample | a sample averages |"
    yield "| --: | --: | --: | --: |"
    for config in configs:
        short, long = config.sampling.budget
        um = read_um / math.sqrt(short * long)
        yield f"| {short}x{long} | {short * long:,} | {um:.1f} | {_read(um, config)} |"


def of_a_slide(slide: Slide, configs: Sequence[Config]) -> Iterator[str]:
    """The table of a slide, as Markdown: samples of all fields, were they spread evenly.

    Args:
        slide: With um per pixel.
        configs: One for each budget.

    Raises:
        SlideError: The slide has no um per pixel, or a field has fewer pixels than samples.
    """
    size, mpp = slide.region.size, slide.mpp
    yield f"{slide.slide_id}: {size.width:,} x {size.height:,} px of {mpp:.3g} um."
    yield ""
    yield "| budget | fields | samples | one per ... px | um per sample | a sample averages |"
    yield "| --: | --: | --: | --: | --: | --: |"
    for config in configs:
        model = Model(config=config, classes=ClassTable.from_names(["background", "other"]), mpp=mpp)
        given = budgets_of(slide, model.eval())
        samples = sum(each.size.area for each in given)
        if not samples:
            raise ValueError(f"{slide.slide_id}: no tissue was found, so that no field is looked at")
        px = sum(each.field.region.size.area for each in given) / samples
        um = math.sqrt(px) * mpp
        short, long = config.sampling.budget
        yield (
            f"| {short}x{long} | {len(given)} | {samples:,} | {px:,.0f} | {um:.1f} | {_read(um, config)} |"
        )


def _read(um: float, config: Config) -> str:
    """How long what a sample averages is, in words."""
    sampling = config.sampling
    if sampling.level == "exact":
        return "a point"
    longest = math.inf if sampling.coarsest_um is None else sampling.coarsest_um
    return f"{min(um, longest) * 2**sampling.level_bias:.3g} um"


def _config(budget: str, changes: Sequence[str]) -> Config:
    sides = sorted(int(side) for side in budget.lower().split("x") if side.isdecimal())
    if len(sides) != 2:
        raise ValueError(f"budget {budget}: needed short x long, such as 80x800")
    return read_config(
        find_config("uniform"), changes=[NETWORK, f"sampling.budget={sides}", "device=cpu", *changes]
    )


if __name__ == "__main__":
    main()
