"""What the page asks of a slide, as plain data."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.cells import safe_row
from wsi_deform.distribute.measurements import COLUMNS, UM2_PER_MM2, Row
from wsi_deform.geometry import Region, Size
from wsi_deform.viewer.catalogue import Catalogue, Entry
from wsi_deform.viewer.frame import TILE_PX
from wsi_deform.viewer.opened import OpenEntry
from wsi_deform.viewer.overlays import COARSEST_UM, FINEST_UM, FOOTPRINT_STOPS

MAX_POINTS = 5000

Data = dict[str, Any]


def listed(catalogue: Catalogue) -> Data:
    """The slides and how far each is."""
    entries = catalogue.entries()
    return {
        "title": catalogue.title,
        "slides": [
            {
                "id": each.slide_id,
                "status": each.status,
                "reason": each.reason,
                "remark": each.remark,
                "has_mask": "mask" in each.files,
                "version": each.version,
            }
            for each in entries
        ],
    }


def described(opened: OpenEntry, classes: ClassTable | None, rows: Sequence[Row]) -> Data:
    """Everything about a slide but its pixels.

    Args:
        opened: The slide.
        classes: The class table of its mask, or None.
        rows: Its rows of ``measurements.csv``.
    """
    entry, frame = opened.entry, opened.frame
    remarks = [*opened.remarks, *([entry.remark] if entry.remark else [])]
    if opened.slide is not None:
        remarks += [each for each in opened.slide.remarks if each not in entry.remark]
    if "mask" in opened.layers and classes is None:
        remarks.append("the folder has no class table that can be read (classes.json): classes have no names")
    shown = classes if classes is not None else ClassTable.from_names([f"class {n}" for n in range(8)])
    return {
        "id": entry.slide_id,
        "version": entry.version,
        "status": entry.status,
        "reason": entry.reason,
        "remarks": remarks,
        "width": frame.size.width,
        "height": frame.size.height,
        "slide_width": frame.slide_size.width,
        "slide_height": frame.slide_size.height,
        "tile": TILE_PX,
        "steps": frame.steps,
        "um_per_px": opened.um_per_px,
        "pixels": opened.slide is not None,
        "mask": "mask" in opened.layers,
        "probabilities": _channels(opened, shown),
        "footprint": _footprint() if "footprint" in opened.layers else None,
        "samples": "samples" in entry.files,
        "classes": _classes(entry, shown, rows) if opened.layers else [],
        "share_of": "tissue" if _in_tissue(entry, shown) else "slide",
        "facts": _facts(opened),
        "downloads": {"geojson": "geojson" in entry.files, "measurements": bool(rows)},
    }


def sample_points(opened: OpenEntry, region: Region) -> Data:
    """Samples and fields in a region of the frame.

    Raises:
        MaskError: They cannot be read.
    """
    samples, frame = opened.samples(), opened.frame
    scale = frame.scale(0)
    width, height = -int(-region.width * scale.x // 1), -int(-region.height * scale.y // 1)
    asked = Region(int(region.x * scale.x), int(region.y * scale.y), width, height)
    points, labels, count = samples.within(asked, MAX_POINTS)
    points = points / (scale.x, scale.y)
    fields = [each for each in samples.kept if not each.intersection(asked).is_empty]
    return {
        "count": count,
        "x": points[:, 0].round(1).tolist(),
        "y": points[:, 1].round(1).tolist(),
        "labels": labels.tolist(),
        "fields": [[f.x / scale.x, f.y / scale.y, f.width / scale.x, f.height / scale.y] for f in fields],
    }


def measurements_csv(rows: Sequence[Row]) -> bytes:
    """The rows of one slide as a CSV file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(safe_row(row[name] for name in COLUMNS))
    return text.getvalue().encode()


def _classes(entry: Entry, classes: ClassTable, rows: Sequence[Row]) -> list[Data]:
    areas = _areas(entry, classes, rows)
    return [
        {"name": name, "colour": list(colour), "background": index == classes.background, **areas[index]}
        for index, (name, colour) in enumerate(zip(classes.names, classes.colours, strict=True))
    ]


def _areas(entry: Entry, classes: ClassTable, rows: Sequence[Row]) -> list[Data]:
    """mm2, level-0 px and share of each class; None is what is not known."""
    state, size = entry.state, entry.mask_size
    if state is not None and size is not None and len(state.class_pixels) == classes.count:
        inside = state.class_pixels_in_tissue if _in_tissue(entry, classes) else None
        return [
            {
                "pixels": pixels,
                "mm2": None if state.mpp is None else pixels * state.mpp**2 / UM2_PER_MM2,
                "share": pixels / size.area if inside is None else inside[index] / (state.tissue_pixels or 1),
            }
            for index, pixels in enumerate(state.class_pixels)
        ]
    columns = {"pixels": "pixels", "mm2": "mm2", "share": "share_of_slide"}
    known = {row["class"]: row for row in rows}
    return [
        {key: _number(known.get(name, {}).get(column, "")) for key, column in columns.items()}
        for name in classes.names
    ]


def _in_tissue(entry: Entry, classes: ClassTable) -> bool:
    """Whether the tissue and each class's part of it are known."""
    state = entry.state
    return bool(
        state is not None and state.tissue_pixels and len(state.class_pixels_in_tissue) == classes.count
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _channels(opened: OpenEntry, classes: ClassTable) -> list[str]:
    """Names of the classes whose probabilities can be shown."""
    layer = opened.layers.get("probabilities")
    return [] if layer is None else list(classes.names[: layer.channels])


def _footprint() -> Data:
    return {
        "finest_um": FINEST_UM,
        "coarsest_um": COARSEST_UM,
        "stops": [list(stop) for stop in FOOTPRINT_STOPS],
    }


def _facts(opened: OpenEntry) -> list[list[str]]:
    """What is known of a slide, for people."""
    entry, size, um = opened.entry, opened.frame.slide_size, opened.um_per_px
    facts = [["size", f"{size.width:,} x {size.height:,} px"]]
    if um is not None:
        facts += [["scale", f"{um:.4g} µm per px"], ["extent", _extent(opened.frame.size, um)]]
    if opened.slide is not None:
        facts.append(["format", opened.slide.info.vendor])
    if (state := entry.state) is not None and state.samples:
        facts += [
            ["samples", f"{state.samples:,} in {state.fields:,} field{'s' if state.fields != 1 else ''}"],
            ["made in", f"{state.seconds:.1f} s"],
            ["method", state.method],
        ]
    return facts


def _extent(size: Size, um: float) -> str:
    return f"{size.width * um / 1000:.2f} x {size.height * um / 1000:.2f} mm"
