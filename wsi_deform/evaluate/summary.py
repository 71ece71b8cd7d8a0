"""An evaluation in words and tables, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wsi_deform.evaluate.bootstrap import MIN_GROUPS, RESAMPLES
from wsi_deform.evaluate.boundary import CAP_PX
from wsi_deform.evaluate.class_groups import group_notes
from wsi_deform.evaluate.cost import mean_cost_of_rows
from wsi_deform.evaluate.rows import Row, class_rows
from wsi_deform.evaluate.tables import mean_notes

WORST = 5
LISTED_MISSED = 10
NOTHING = "–"
UNITS = {"um": "µm", "px": "px", "um^2": "µm²", "px^2": "px²"}


def summary_text(data: Mapping[str, Any], figures: Mapping[str, str]) -> str:
    """Write the summary of an evaluation.

    Args:
        data: What ``evaluation_data`` gave.
        figures: Names of files beside the summary: "objects", "trimap", "calibration", "frequency", where drawn.

    Returns:
        Markdown.
    """
    slides = data["slides"]
    parts = [
        f"# {len(slides)} slide{'s' if len(slides) > 1 else ''} against the labels, split {data['split']}",
        "At full resolution, pooled over all labelled pixels. What each number means: docs/evaluate.md of wsi-deform.",
        *mean_notes(data),
        *_classes(data),
        *_worst(slides),
        *_objects(data, figures.get("objects")),
        *_boundary(data),
        *_trimap(data, figures.get("trimap")),
        *_calibration(data, figures.get("calibration")),
        *_frequency(data, figures.get("frequency")),
        *_cost(slides),
    ]
    if data["unmeasured"]:
        lines = [f"- {each['slide_id']}: {' '.join(each['reason'].split())}" for each in data["unmeasured"]]
        parts += ["## Not measured", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the first column is flush left, and a ``|`` in a cell stays inside it."""
    lines = [header, [":--", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def shown_unit(rows: Sequence[Row], slides: Sequence[Mapping[str, Any]]) -> str:
    """Unit of lengths: "um" where every slide says how large a pixel is, else "px"."""
    has_um = any(row["unit"] == "um" for row in rows)
    return "um" if has_um and all(slide["mpp"] is not None for slide in slides) else "px"


def object_notes(data: Mapping[str, Any]) -> list[str]:
    """One sentence per class with objects: how many of them the mask does not touch.

    Args:
        data: What ``evaluation_data`` gave.
    """
    return [
        f"{row['class']}: {row['objects'] - row['touched']:,} of {row['objects']:,} objects not touched, "
        f"{row['objects'] - row['half_covered']:,} covered by less than half."
        for row in data["measured"]["objects"]
        if row["from"] is None and row["objects"]
    ]


def _classes(data: Mapping[str, Any]) -> list[str]:
    pooled, intervals = data["pooled"]["predicted"], data["intervals"]
    sampled = data["pooled"]["sampled"]
    rows = []
    for row in class_rows(pooled, intervals, pooled["confusion"]):
        ceiling = None
        if sampled is not None:
            ceiling = sampled["miou"] if row["class"] == "mean" else sampled["iou"].get(row["class"])
        rows.append(
            [
                row["class"],
                _share(row["iou"]) + _interval(row, "iou"),
                _share(row["dice"]) + _interval(row, "dice"),
                *(_share(row[key]) for key in ("precision", "recall")),
                _share(ceiling),
                f"{row['true_pixels']:,}",
            ]
        )
    header = ["class", "IoU", "Dice", "precision", "recall", "IoU(Y', Y)", "labelled px"]
    said = (
        f"In brackets: 95 % intervals of {RESAMPLES:,} resamples of the {intervals['groups']} {intervals['of']}, with "
        "all their pixels (bootstrap)."
        if intervals
        else f"No intervals: fewer than {MIN_GROUPS} patients or slides say nothing of others."
    )
    return [
        markdown_table(header, rows),
        *group_notes(data),
        said,
        f"Pixel accuracy {_share(pooled['accuracy'])}.",
    ]


def _worst(slides: Sequence[Mapping[str, Any]]) -> list[str]:
    ranked = sorted(
        (slide for slide in slides if slide["predicted"]["miou"] is not None),
        key=lambda slide: slide["predicted"]["miou"],
    )
    if len(ranked) < 2:
        return []
    rows = []
    for slide in ranked[:WORST]:
        iou = {name: value for name, value in slide["predicted"]["iou"].items() if value is not None}
        lowest = min(iou, key=lambda name: iou[name])
        rows.append(
            [
                slide["slide_id"],
                _share(slide["predicted"]["miou"]),
                ", ".join(slide["predicted"].get("miou_classes", {}).get("over", [])) or NOTHING,
                f"{lowest}, {_share(iou[lowest])}",
            ]
        )
    header = ["slide", "mIoU", "over", "worst class, its IoU"]
    return ["## Worst slides", markdown_table(header, rows)]


def _objects(data: Mapping[str, Any], figure: str | None) -> list[str]:
    found = data["measured"]["objects"]
    if not found:
        return []
    rows = [
        [
            row["class"],
            _sizes(row),
            f"{row['objects']:,}",
            _of(row["touched"], row["objects"]),
            _of(row["half_covered"], row["objects"]),
            f"{row['predicted_objects']:,}",
            _of(row["predicted_false"], row["predicted_objects"]),
        ]
        for row in found
    ]
    header = ["class", "area", "objects", "touched", "half covered", "in the mask", "of these false"]
    parts = [
        "## Objects that were missed",
        "Connected objects of the labels, and how many of them the mask has a pixel of (touched) or half of; objects "
        "of the mask, and how many of them have no true pixel.",
        markdown_table(header, rows),
    ]
    largest = sorted(data["missed"], key=lambda row: -row["pixels"])[:LISTED_MISSED]
    if largest:
        lines = [
            [
                row["slide_id"],
                row["class"],
                f"{row['x']}, {row['y']}",
                f"{row['width']} x {row['height']}",
                NOTHING if row["area_um2"] is None else f"{row['area_um2']:,.0f}",
                f"{row['covered']:.0%}",
            ]
            for row in largest
        ]
        parts += [
            "The largest that are covered by less than half:",
            markdown_table(["slide", "class", "left, top, px", "size, px", "area, µm²", "covered"], lines),
        ]
    return parts + _picture(figure, "Share of objects found, by size")


def _boundary(data: Mapping[str, Any]) -> list[str]:
    found = data["measured"]["boundary"]
    if not found:
        return []
    unit = shown_unit(found, data["slides"])
    rows = [
        [row["class"], _length(row["mean"]), _length(row["percentile_95"]), _percent(row["capped_share"])]
        for row in found
        if row["unit"] == unit
    ]
    header = ["class", f"mean, {UNITS[unit]}", f"95th percentile, {UNITS[unit]}", f"{CAP_PX} px or more"]
    return [
        "## Boundary distance",
        f"Between predicted and true borders of each class, both ways; {CAP_PX} px is as far as is looked, and what a "
        "missed or false object counts as.",
        markdown_table(header, rows),
    ]


def _trimap(data: Mapping[str, Any], figure: str | None) -> list[str]:
    rows = [
        [
            f"{row['width']:g} {UNITS[row['unit']]}",
            _share(row["accuracy"]),
            _share(row["miou"]) + _over(row, data["classes"]),
            f"{row['pixels']:,}",
        ]
        for row in data["measured"]["trimap"]
        if row["pixels"]
    ]
    if not rows:
        return []
    return [
        "## Near borders (trimap)",
        markdown_table(["less than this from a true border", "accuracy", "mIoU", "px"], rows),
        *_picture(figure, "Accuracy and mIoU in bands around true borders"),
    ]


def _calibration(data: Mapping[str, Any], figure: str | None) -> list[str]:
    found = data["measured"]["calibration"]
    if found is None:
        return []
    rows = [["predicted class", _share(found["expected_calibration_error"])]]
    rows += [[name, _share(error)] for name, error in found["class_errors"].items()]
    return [
        "## Calibration",
        f"Expected calibration error over {found['of']}: how far probabilities are from how often they come true.",
        markdown_table(["probability of", "error"], rows),
        *_picture(figure, "How often the network is right at each probability"),
    ]


def _frequency(data: Mapping[str, Any], figure: str | None) -> list[str]:
    found = data["measured"]["frequency"]
    if not found:
        return []
    rows = [
        [
            row["class"],
            _percent(row["share_of_samples"]),
            _percent(row["share_of_pixels"]),
            NOTHING if row["ratio"] is None else f"{row['ratio']:.2f}",
        ]
        for row in found
    ]
    return [
        "## Class frequency",
        "What was sampled, and what there is: a ratio above 1 is a class that is looked at more closely than others.",
        markdown_table(["class", "of the samples", "of the pixels", "ratio"], rows),
        *_picture(figure, "Share of samples and of pixels"),
    ]


def _cost(slides: Sequence[Mapping[str, Any]]) -> list[str]:
    means = mean_cost_of_rows([slide["cost"] for slide in slides])
    if not any(value is not None for value in means.values()):
        return []
    names = {
        "samples": ("samples", 1.0, ",.0f"),
        "read_pixels": ("pixels read, million", 1e6, ",.2f"),
        "decoded_pixels": ("pixels decoded, million", 1e6, ",.2f"),
        "decoded_bytes": ("bytes decoded, MB", 1e6, ",.1f"),
        "flops": ("GFLOPs", 1e9, ",.2f"),
        "seconds": ("seconds", 1.0, ",.1f"),
        "peak_memory_bytes": ("peak memory, MB", 1e6, ",.0f"),
    }
    cells = [
        NOTHING if means[key] is None else format((means[key] or 0.0) / scale, how)
        for key, (_, scale, how) in names.items()
    ]
    return [
        "## Cost",
        "Of a slide, on average; memory is the largest.",
        markdown_table([name for name, _, _ in names.values()], [cells]),
    ]


def _sizes(row: Row) -> str:
    if row["from"] is None:
        return "all"
    unit = UNITS[row["unit"]]
    return (
        f"{row['from']:,.0f} {unit} or more"
        if row["to"] is None
        else f"{row['from']:,.0f} to {row['to']:,.0f} {unit}"
    )


def _picture(figure: str | None, title: str) -> list[str]:
    return [] if figure is None else [f"![{title}]({figure})"]


def _interval(row: Row, name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"


def _over(row: Row, names: Sequence[str]) -> str:
    """Of how many classes a mean is, where that is not all; bands of older versions do not say."""
    over = row.get("mean_over", "").split("; ")
    is_part = row["miou"] is not None and over != [""] and len(over) < len(names)
    return f" over {len(over)} of {len(names)} classes" if is_part else ""


def _of(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.0%})" if whole else NOTHING


def _share(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2%}"


def _length(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"
