"""Measures of records beyond mIoU: trimap, class frequency, missed objects, cost, and what is saved at equal mIoU."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.paper.intervals import Estimate, Record, estimate
from wsi_deform.report.tables import NOTHING, Table

POINTS = 100.0
GIGA = 1e9


def mean_of(values: Sequence[float | None]) -> float | None:
    """Their mean; None where one is missing."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def trimap_of(
    records: Sequence[Record], *, unit: str = "px", measure: str = "accuracy"
) -> dict[float, float]:
    """Width of the band -> accuracy (or "miou") in it, mean over seeds."""
    if not records:
        return {}
    held = [
        {row["width"]: row[measure] for row in record["measured"]["trimap"] if row["unit"] == unit}
        for record in records
    ]
    shared = sorted(set.intersection(*(set(each) for each in held)))
    return {
        width: value for width in shared if (value := mean_of([each[width] for each in held])) is not None
    }


def frequency_of(records: Sequence[Record]) -> dict[str, float]:
    """Class -> share of samples / share of pixels, mean over seeds; classes without a pixel are left out."""
    names = records[0]["classes"] if records else []
    held = [{row["class"]: row["ratio"] for row in record["measured"]["frequency"]} for record in records]
    found = {name: mean_of([each.get(name) for each in held]) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def missed_table(groups: Mapping[str, Sequence[Record]]) -> Table:
    """Objects of the labels that the mask does not touch, by class and size.

    Args:
        groups: System -> records.

    Returns:
        A row per class and size with the number of objects and the share that each system missed, over all seeds.
    """
    sizes: dict[tuple[str, float, float | None, str], dict[str, tuple[int, int]]] = {}
    for system, records in groups.items():
        for row in (row for record in records for row in record["measured"]["objects"]):
            if row["from"] is None or not row["objects"]:
                continue
            key = (row["class"], row["from"], row["to"], row["unit"])
            known, missed = sizes.setdefault(key, {}).get(system, (0, 0))
            sizes[key][system] = (known + row["objects"], missed + row["objects"] - row["touched"])
    rows = []
    for name, begin, end, unit in sorted(sizes, key=lambda key: (key[0], key[1])):
        held = sizes[name, begin, end, unit]
        until = "and more" if end is None else f"to {end:g}"
        each = next(iter(held.values()))[0] // max(1, len(next(iter(groups.values()))))
        cells = [
            f"{POINTS * held[system][1] / held[system][0]:.0f} %" if system in held else NOTHING
            for system in groups
        ]
        rows.append((f"{name}, {begin:g} {until} {unit}", str(each), *cells))
    return Table(header=("objects of the labels", "number", *groups), rows=tuple(rows))


def cost_table(groups: Mapping[str, Sequence[Record]]) -> Table:
    """Cost of an image beside the mIoU that it bought."""
    rows = []
    for system, records in groups.items():
        if not records:
            continue
        cost = {
            name: mean_of([record["cost"].get(name) for record in records]) for name in records[0]["cost"]
        }
        found = estimate(records)
        rows.append(
            (
                system,
                NOTHING if found is None else f"{POINTS * found.value:.1f}",
                _cell(cost.get("samples"), lambda value: f"{value:,.0f}"),
                _cell(cost.get("flops"), lambda value: f"{value / GIGA:.2f}"),
                _cell(cost.get("decoded_pixels"), lambda value: f"{value / 1e6:.2f}"),
                _cell(cost.get("seconds"), lambda value: f"{value:.2f}"),
            )
        )
    return Table(header=("system", "mIoU", "samples", "GFLOPs", "Mpx decoded", "seconds"), rows=tuple(rows))


def looks_table(groups: Mapping[str, Sequence[Record]]) -> Table:
    """Measures of systems that read with an encoder, and pixels read, FLOPs and seconds of an image."""
    rows = []
    on_tissue = {system: estimate(records, kind="on_tissue") for system, records in groups.items()}
    is_said = any(found is not None for found in on_tissue.values())
    for system, records in groups.items():
        found, of_tissue = estimate(records), on_tissue[system]
        rows.append(
            (
                system,
                NOTHING if found is None else found.text(),
                *((NOTHING if of_tissue is None else of_tissue.text(),) if is_said else ()),
                _cell(cost_of(records, "read_pixels"), lambda value: f"{value / 1e6:.3f}"),
                _cell(cost_of(records, "flops"), lambda value: f"{value / GIGA:.1f}"),
                _cell(cost_of(records, "seconds"), lambda value: f"{value:.2f}"),
            )
        )
    header = ("system", "mIoU", *(("on tissue",) if is_said else ()), "Mpx read", "GFLOPs", "seconds")
    return Table(header=header, rows=tuple(rows))


def classes_table(groups: Mapping[str, Sequence[Record]]) -> Table:
    """IoU of each class in points, and how far its borders are off: means over seeds.

    Args:
        groups: System -> records.

    Returns:
        A row per system; distances are in um, or in level-0 px where images have no um per px.
    """
    first = next(iter(groups.values()))[0]
    names, units = first["classes"], {row["unit"] for row in first["measured"]["boundary"] or ()}
    unit = "px" if units == {"px"} else "um"
    rows = []
    for system, records in groups.items():
        cells = []
        for index, name in enumerate(names):
            found = estimate(records, class_index=index)
            far = mean_of([_boundary_of(record, name, unit) for record in records])
            cells += [
                NOTHING if found is None or math.isnan(found.value) else f"{POINTS * found.value:.1f}",
                _cell(far, lambda value: f"{value:.1f}"),
            ]
        rows.append((system, *cells))
    header = [each for name in names for each in (f"{name}, IoU", f"border, {unit}")]
    return Table(header=("system", *header), rows=tuple(rows))


def _boundary_of(record: Record, name: str, unit: str) -> float | None:
    """Mean distance between the true and the predicted borders of a class, um or level-0 px."""
    rows: Sequence[Mapping[str, Any]] = record["measured"]["boundary"] or ()
    return next((row["mean"] for row in rows if (row["class"], row["unit"]) == (name, unit)), None)


def gains_table(pairs: Mapping[str, tuple[Sequence[Record], Sequence[Record]]]) -> Table:
    """By how many points the learned choice is ahead of each control at the same budget, paired by seed and image."""
    rows = [(name, estimate(ours, minus=theirs)) for name, (ours, theirs) in pairs.items() if ours and theirs]
    return Table(
        header=("blocks ahead of", "points"),
        rows=tuple((name, NOTHING if found is None else found.text(signed=True)) for name, found in rows),
    )


def _cell(value: float | None, words: Callable[[float], str]) -> str:
    return NOTHING if value is None else words(value)


def saved(
    ours: Sequence[tuple[float, float]], theirs: Sequence[tuple[float, float]]
) -> list[tuple[float, float]]:
    """How much less ours costs at the mIoU of each point of theirs.

    Args:
        ours: (cost, mIoU), cost rising.
        theirs: The same of the other system.

    Returns:
        (mIoU, share saved in [.., 1)) of each point of theirs whose mIoU lies within ours; a share below 0 is more.

    Convention:
        Between two points the logarithm of the cost is linear in mIoU; of a curve that falls again, the cheapest cost
        at which the mIoU is reached counts. Beyond ours nothing is said: it is never extended.
    """
    found = []
    for cost, miou in theirs:
        reached = _cost_at(ours, miou)
        if reached is not None:
            found.append((miou, 1 - reached / cost))
    return found


def _cost_at(curve: Sequence[tuple[float, float]], miou: float) -> float | None:
    if not curve or miou < curve[0][1]:
        return None
    if miou == curve[0][1]:
        return curve[0][0]
    for (cost, low), (next_cost, high) in zip(curve[:-1], curve[1:], strict=True):
        if low < miou <= high:
            share = (miou - low) / (high - low)
            return math.exp(math.log(cost) + share * (math.log(next_cost) - math.log(cost)))
    return None


def curve_of(points: Mapping[float, Estimate | None]) -> list[tuple[float, float]]:
    """Points (cost, mIoU), cost rising, of those that are known."""
    return [(cost, found.value) for cost, found in sorted(points.items()) if found is not None]


def cost_of(records: Sequence[Record], name: str) -> float | None:
    """Mean cost of an image, over seeds.

    Args:
        records: Of one system at one budget.
        name: samples, flops, decoded_pixels, decoded_bytes, seconds or peak_memory_bytes.
    """
    values: list[Any] = [record["cost"].get(name) for record in records]
    return mean_of(values) if values else None
