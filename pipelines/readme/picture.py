"""Make README's picture from what `make demo` left.

    python pipelines/readme/picture.py demo pipelines/readme/demo.jpg

One held-out slide: where uniform and joint sample it, and the masks that come of it beside the truth.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from PIL import Image

from wsi_deform.annotation.classes import ClassTable, read_class_table
from wsi_deform.data.study import open_labelled
from wsi_deform.drawing.figures import FAINT, INK
from wsi_deform.files import write_aside
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.scale_bar import ScaleBar, scale_bar
from wsi_deform.report.pictures import sampled_picture, slide_picture, truth_picture

METHODS = ("uniform", "joint")
WIDTH_PX = 1000


def _draw_legend(figure: Figure, axes: Axes, classes: ClassTable, occur: list[int], bar: ScaleBar) -> None:
    """Below the panels: a scale bar as long as a panel shows it, and the classes that occur."""
    place = axes.get_position()
    y = 0.035
    ends = [place.x0, place.x0 + bar.share * place.width]
    figure.add_artist(Line2D(ends, [y, y], color=INK, linewidth=2.5, solid_capstyle="butt"))
    figure.text(ends[1] + 0.008, y, bar.text, va="center", fontsize=9, color=INK)
    handles = [
        Patch(facecolor=np.divide(colour, 255), edgecolor=FAINT, linewidth=0.5, label=name)
        for index, (name, colour) in enumerate(zip(classes.names, classes.colours, strict=True))
        if index in occur
    ]
    figure.legend(
        handles=handles,
        loc="center right",
        bbox_to_anchor=(1, y),
        ncols=len(handles),
        frameon=False,
        fontsize=9,
    )


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("demo", type=Path, help="the folder of `make demo`")
    parser.add_argument("out", type=Path, help="the JPEG to write")
    parser.add_argument("--slide", help="id of a test slide; default: the first")
    given = parser.parse_args()
    manifest = read_manifest(given.demo / "manifest.csv")
    classes = read_class_table(given.demo / "classes.yaml")
    rows = {row.slide_id: row for row in manifest.of_split("test")}
    row = rows[given.slide or next(iter(rows))]
    picture, size = slide_picture(row.slide, max_px=WIDTH_PX)
    of_picture = Size(picture.shape[1], picture.shape[0])
    palette = np.full((256, 3), 255, np.uint8)
    palette[: classes.count] = classes.colours
    figure = Figure(figsize=(10, 4.5))
    figure.subplots_adjust(left=0.004, right=0.996, top=0.95, bottom=0.075, wspace=0.012, hspace=0.2)
    panels = figure.subplots(3, 2)
    slide, labels = open_labelled(row, classes)
    truth = truth_picture(labels, of_picture)
    shown = [truth]
    panels[0, 0].imshow(picture)
    panels[0, 0].set_title(f"slide {row.slide_id}", fontsize=9, loc="left")
    panels[0, 1].imshow(palette[truth])
    panels[0, 1].set_title("truth", fontsize=9, loc="left")
    for line, method in zip(panels[1:], METHODS, strict=True):
        seen = sampled_picture(MaskFolder(given.demo / "masks" / method), row.slide_id, of_picture)
        scale = of_picture.width / size.width
        line[0].imshow((picture.astype(float) * 0.45 + 255 * 0.55).astype(np.uint8))
        line[0].scatter(*(seen.samples.points_px * scale).T, s=1.6, c="#0b3d66", linewidths=0)
        line[0].set_title(f"{method}: {len(seen.samples.points_px):,} samples", fontsize=9, loc="left")
        line[1].imshow(palette[seen.labels])
        shown.append(seen.labels)
        line[1].set_title(f"{method}: mask", fontsize=9, loc="left")
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
    _draw_legend(figure, panels[0, 0], classes, np.unique(shown).tolist(), scale_bar(size, slide.mpp_xy))
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100, format="png")
    with write_aside(given.out) as aside:
        Image.open(drawn).convert("RGB").save(aside, format="JPEG", quality=48, optimize=True)


if __name__ == "__main__":
    main()
