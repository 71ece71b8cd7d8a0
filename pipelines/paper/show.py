"""What a study shows of its records: Markdown tables and PNG figures in one folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from pipelines.paper import claims, figures, measured, tables
from pipelines.paper.datasets import LABEL_PX
from pipelines.paper.intervals import Estimate, Record, estimate
from pipelines.paper.studies import SENSITIVITIES, Records, Scope, variants_of
from pipelines.paper.systems import (
    BLOCKS,
    BLURS,
    DENSE,
    INTERPOLATION,
    JOINT,
    LOOKS,
    METHODS,
    ORACLE,
    PATCHES,
    RESIZERS,
    SYSTEMS,
    UNIFORM,
)
from pipelines.paper.trial import data_set_of
from wsi_deform.files import write_aside, write_text

PAPER_TABLES = Path(__file__).with_name("paper_tables.csv")
ABOUT = 0.3
"""Shares of pixels read that differ by no more are about alike."""
Page = Iterator[str | tuple[str, bytes]]
"""Parts of a page: Markdown, or a figure with its name."""


def show(study: str, records: Records, scope: Scope, folder: Path) -> list[Path]:
    """Write a study's page and figures.

    Args:
        study: Its name.
        records: What is recorded of its trials.
        scope: What it was asked for.
        folder: Gets ``README.md`` and PNG files.

    Returns:
        The files; none where nothing is recorded.
    """
    if not records:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    written, text = [], []
    for part in PAGES[study](records, scope):
        if isinstance(part, str):
            text.append(part)
            continue
        name, png = part
        with write_aside(folder / name) as aside:
            aside.write_bytes(png)
        written.append(folder / name)
        text.append(f"![{name.removesuffix('.png')}]({name})\n")
    write_text(folder / "README.md", "\n".join(text))
    return [folder / "README.md", *written]


def _bar(found: Estimate | None) -> tuple[float, float, float] | None:
    if found is None:
        return None
    value = 100 * found.value
    low = value if found.low is None else 100 * found.low
    high = value if found.high is None else 100 * found.high
    return value, low, high


def _figure4_5(records: Records, scope: Scope) -> Page:
    yield "# Figures 4 and 5: all systems\n"
    yield "Headroom first: what four times the samples gain with the same network, evenly spread.\n"
    yield tables.headroom_table(records, scope).markdown()
    for data in scope.data:
        yield f"## {data_set_of(data).label}\n"
        yield "mIoU, points: mean over seeds [95 % over images or patients] (range over seeds).\n"
        yield tables.methods_table(records, data, scope).markdown()
        yield "Joint ahead, points, paired by seed and image.\n"
        yield tables.differences_table(records, data, scope).markdown()
        yield "mIoU(Y', Y), points: true labels at the samples, put back.\n"
        yield tables.methods_table(records, data, scope, kind="sampled").markdown()
        yield "Classes at the smallest budget, rarest first.\n"
        yield tables.class_table(records, data, scope).markdown()
    for kind, words in (("predicted", "mIoU"), ("sampled", "mIoU(Y', Y)")):
        values = {}
        for data in scope.data:
            budget = scope.budgets_of(data)[0]
            found = {
                name: _bar(
                    estimate(
                        tables.chosen(
                            records,
                            data=data,
                            system=name,
                            budget=budget,
                            network=scope.network,
                            variant="",
                            only_class=None,
                        ),
                        kind=kind,  # type: ignore[arg-type]
                    )
                )
                for name in METHODS
            }
            values[data_set_of(data).label] = {
                SYSTEMS[name].label: bar for name, bar in found.items() if bar is not None
            }
        yield (
            f"figure4_{kind}.png",
            figures.bars(values, title=f"{words} at the smallest budget", y_label=f"{words}, points"),
        )


def _blurs(
    records: Records, scope: Scope, *, only_class: str | None, data: str, kind: str
) -> list[tuple[float, float, float, float]]:
    points = []
    for blur in BLURS:
        found = estimate(
            tables.chosen(
                records,
                data=data,
                system=f"{ORACLE}-{blur:g}",
                budget=scope.budgets_of(data)[0],
                network=scope.network,
                only_class=only_class,
            ),
            kind=kind,  # type: ignore[arg-type]
            class_index=None if only_class is None else 1,
        )
        bar = _bar(found)
        if bar is not None:
            points.append((blur, *bar))
    return points


def _figure3(records: Records, scope: Scope) -> Page:
    yield "# Figure 3: edge oracles of several blurs, one class against all others\n"
    for data in scope.data:
        names = scope.classes.get(data) or sorted(
            {trial.only_class for trial in records if trial.data == data and trial.only_class}
        )
        for kind, words in (("sampled", "IoU(Y', Y)"), ("predicted", "IoU")):
            curves = {name: _blurs(records, scope, only_class=name, data=data, kind=kind) for name in names}
            best = ", ".join(
                f"{name}: {max(points, key=lambda point: point[1])[0]:g}"
                for name, points in curves.items()
                if points
            )
            yield f"{data_set_of(data).label}, best blur by {words}: {best}.\n"
            yield (
                f"{data}_{kind}.png",
                figures.lines(
                    curves,
                    title=f"{data_set_of(data).label}: {words} of each class alone",
                    x_label="blur of the edge map, cells",
                    y_label=f"{words}, points",
                ),
            )


def _figure14(records: Records, scope: Scope) -> Page:
    yield "# Figure 14: edge oracles of several blurs, all classes\n"
    curves = {
        f"{data_set_of(data).label}, {words}": _blurs(records, scope, only_class=None, data=data, kind=kind)
        for data in scope.data
        for kind, words in (("predicted", "mIoU"), ("sampled", "mIoU(Y', Y)"))
    }
    yield (
        "figure14.png",
        figures.lines(curves, title="Edge oracles", x_label="blur of the edge map, cells", y_label="points"),
    )
    for data in scope.data:
        yield f"## {data_set_of(data).label}\n"
        rows = [(f"{ORACLE}-{blur:g}", "") for blur in BLURS]
        yield tables.variants_table(records, data, rows, network=scope.network).markdown()


COSTS = {"samples": "samples per image", "flops": "FLOPs per image", "seconds": "seconds per image"}


def _figure6(records: Records, scope: Scope) -> Page:
    yield "# Figure 6: cost and performance\n"
    for data in scope.data:
        yield f"## {data_set_of(data).label}\n"
        groups = {}
        for system in (UNIFORM, JOINT):
            budgets = sorted(
                {t.budget for t in records if t.data == data and t.system == system}, key=np.prod
            )
            for budget in budgets:
                groups[system, budget] = tables.chosen(
                    records, data=data, system=system, budget=budget, network=scope.network
                )
        yield measured.cost_table(
            {
                f"{SYSTEMS[system].label}, {tables.budget_text(budget)}": held
                for (system, budget), held in groups.items()
            }
        ).markdown()
        for cost, words in COSTS.items():
            curves, bands = {}, {}
            for system in (UNIFORM, JOINT):
                points = {
                    value: estimate(held)
                    for (name, _), held in groups.items()
                    if name == system and (value := measured.cost_of(held, cost)) is not None
                }
                curves[system] = measured.curve_of(points)
                bands[SYSTEMS[system].label] = [
                    (value, *bar)
                    for value, found in sorted(points.items())
                    if (bar := _bar(found)) is not None
                ]
            if not any(curves.values()):
                yield f"{words[0].upper()}{words[1:]}: not recorded.\n"
                continue
            found = measured.saved(curves[JOINT], curves[UNIFORM])
            said = "; ".join(f"{100 * share:.0f} % at {100 * miou:.1f}" for miou, share in found)
            said = said or "nowhere comparable"
            yield f"{words[0].upper()}{words[1:]} saved by joint at the mIoU of uniform: {said}.\n"
            yield (
                f"{data}_{cost}.png",
                figures.lines(
                    bands,
                    title=f"{data_set_of(data).label}",
                    x_label=words,
                    y_label="mIoU, points",
                    log_x=True,
                ),
            )


def _blocks(records: Records, scope: Scope) -> Page:
    yield "# Blocks: read at the level they deserve\n"
    yield (
        "mIoU in points: mean over seeds [95 % over images or patients] (range over seeds). *Pixels read* are all "
        "level pixels that enter the encoder: every look, margins and blocks that were read closer included. Dense "
        "reading sees all of one level through the same encoder and head, which label every 2 x 2 px of the finest "
        "level that is read (4 x 4 where a row says so): of pixels twice as long these labels are, too. *Same "
        "encoder* is a warp of as many pixels, whose own head scores every 2 x 2 of them. Oracle: blocks chosen by the "
        "labels. *On tissue* leaves out the glass between the pieces, where labels say where it is.\n"
    )
    for data in scope.data:
        held = _by_share(records, data)
        if not held:
            continue
        yield f"## {data_set_of(data).label}\n"
        groups = {
            f"{SYSTEMS[name].label}, {_words(variant)}": found for (name, variant), found in held.items()
        }
        yield measured.looks_table(groups).markdown()
        yield measured.classes_table(groups).markdown()
        gains = {
            f"{SYSTEMS[name].label}, {_words(variant)} (ours {_words(beside)})": tables.paired(
                held[BLOCKS, beside], found
            )
            for (name, variant), found in held.items()
            if (beside := _blocks_beside(name, variant, held)) is not None
        }
        if gains:
            yield measured.gains_table(gains).markdown()
        curves: dict[str, list[tuple[float, float, float, float]]] = {}
        for (name, variant), found in held.items():
            at, bar = measured.cost_of(found, "read_pixels"), _bar(estimate(found))
            if at is not None and bar is not None:
                curve = ("dense" if name in DENSE else SYSTEMS[name].label) + _labels_words(variant)
                curves.setdefault(curve, []).append((at, *bar))
        yield (
            f"{data}_pixels.png",
            figures.lines(
                {name: sorted(points) for name, points in curves.items()},
                title=data_set_of(data).label,
                x_label="pixels read per image",
                y_label="mIoU, points",
                log_x=True,
            ),
        )


def _by_share(records: Records, data: str) -> dict[tuple[str, str], list[Record]]:
    """(system, variant) -> records by seed, in the order of the systems and with shares falling."""
    keys = {(t.system, t.variant) for t in records if t.data == data and SYSTEMS[t.system].looks}
    ordered = sorted(keys, key=lambda key: (LOOKS.index(key[0]), _label_of(key[1]), -_share_of(key[1])))
    return {
        (name, variant): tables.chosen(records, data=data, system=name, variant=variant)
        for name, variant in ordered
    }


def _blocks_beside(name: str, variant: str, held: Mapping[tuple[str, str], list[Record]]) -> str | None:
    """The variant of blocks that another system is held against: of about as many pixels; of all of them, the most.

    Both with labels of one size.
    """
    if name == BLOCKS:
        return None
    if name not in DENSE:
        return variant if (BLOCKS, variant) in held else None
    share = 1 / int(name.removeprefix("dense-")) ** 2
    ours = [each for system, each in held if system == BLOCKS and _label_of(each) == _label_of(variant)]
    if share == 1:
        return max(ours, key=_share_of, default=None)
    near = [each for each in ours if abs(_share_of(each) / share - 1) <= ABOUT]
    return min(near, key=lambda each: abs(_share_of(each) - share), default=None)


def _share_of(variant: str) -> float:
    """Of share-0.25 or share-0.25_label-4; 1 where all is read."""
    found = re.search(r"share-([\d.]+)", variant)
    return float(found[1]) if found else 1.0


def _label_of(variant: str) -> int:
    """Side of a label, px, of label-4; a variant that does not say it has what blocks have as they come."""
    found = re.search(r"label-(\d+)", variant)
    return int(found[1]) if found else LABEL_PX


def _labels_words(variant: str) -> str:
    return f", labels of {_label_of(variant)} px" if "label-" in variant else ""


def _words(variant: str) -> str:
    """share-0.25 as 25 % of the finest level's pixels."""
    read = f"{100 * _share_of(variant):g} %" if "share-" in variant else "whole"
    return read + _labels_words(variant)


def _of_system(records: Records, scope: Scope, data: str, system: str) -> list[Record]:
    budget = None if system == PATCHES else scope.budgets_of(data)[0]
    wanted = {"data": data, "system": system, "network": scope.network, "variant": "", "only_class": None}
    return tables.chosen(records, **wanted, **({} if budget is None else {"budget": budget}))


def _figure9(records: Records, scope: Scope) -> Page:
    yield "# Figure 9: accuracy near borders\n"
    yield "Trimap: accuracy of the pixels at most so far from a border between two labelled classes, smallest budget.\n"
    for data in scope.data:
        held = {system: _of_system(records, scope, data, system) for system in METHODS}
        curves = {
            SYSTEMS[system].label: [
                (width, 100 * value, 100 * value, 100 * value)
                for width, value in measured.trimap_of(found).items()
            ]
            for system, found in held.items()
        }
        yield f"## {data_set_of(data).label}\n"
        yield (
            f"{data}_trimap.png",
            figures.lines(
                curves,
                title=f"{data_set_of(data).label}: near borders",
                x_label="width of the band, level-0 px",
                y_label="accuracy, points",
                log_x=True,
            ),
        )
        yield "mIoU of all pixels, points.\n"
        yield tables.methods_table(records, data, scope).markdown()


def _figure13(records: Records, scope: Scope) -> Page:
    yield "# Figure 13: class frequency, sampled / whole image\n"
    values: dict[str, dict[str, tuple[float, float, float]]] = {}
    for data in scope.data:
        ratios = measured.frequency_of(_of_system(records, scope, data, JOINT))
        values |= {f"{data}\n{name}": {"joint": (ratio, ratio, ratio)} for name, ratio in ratios.items()}
    yield (
        "figure13.png",
        figures.bars(values, title="Share of samples / share of pixels", y_label="ratio"),
    )
    for data in scope.data:
        yield f"## {data_set_of(data).label}: objects that the mask does not touch\n"
        groups = {
            SYSTEMS[system].label: found
            for system in METHODS
            if (found := _of_system(records, scope, data, system))
        }
        yield measured.missed_table(groups).markdown()


def _tables2_to_5(records: Records, scope: Scope) -> Page:
    yield "# Tables 2 to 5: sigma, kernel, low-res size, weight of the edge loss\n"
    for each in SENSITIVITIES:
        yield f"## Table {each.number}: {each.about}\n"
        for data in scope.data:
            yield f"{data_set_of(data).label}\n"
            rows = [(each.system, name) for name, _ in variants_of(each, scope)]
            yield tables.variants_table(records, data, rows, network=scope.network).markdown()
        yield tables.paper_rows(PAPER_TABLES, each.number).markdown()


def _table6(records: Records, scope: Scope) -> Page:
    yield "# Table 6: interpolation, filters x blocks\n"
    for data in scope.data:
        yield f"{data_set_of(data).label}\n"
        rows = [(f"{INTERPOLATION}-{filters}x{blocks}", "") for blocks, filters in RESIZERS]
        yield tables.variants_table(records, data, rows, network=scope.network).markdown()
    yield tables.paper_rows(PAPER_TABLES, "6").markdown()


def _claims(records: Records, scope: Scope) -> Page:
    yield "# The paper's claims\n"
    yield (
        "Gain in points of mIoU: mean over seeds [95 % over images or patients] (range over seeds). Reproduced: above "
        "what is claimed, with the whole interval and every seed above 0. Not reproduced: the whole interval below "
        "what is claimed, or no seed above 0. Without three seeds nothing is decided.\n"
    )
    yield claims.claims_table(records, scope).markdown()
    yield claims.saved_table(records, scope).markdown()
    yield claims.untestable_table().markdown()
    yield "Headroom: what uniform gains with four times the samples.\n"
    yield tables.headroom_table(records, scope).markdown()


PAGES: dict[str, Callable[[Records, Scope], Page]] = {
    "figure3": _figure3,
    "figure4_5": _figure4_5,
    "figure6": _figure6,
    "figure9": _figure9,
    "figure13": _figure13,
    "figure14": _figure14,
    "tables2_to_5": _tables2_to_5,
    "table6": _table6,
    "blocks": _blocks,
    "claims": _claims,
}
