"""Make README's picture from what `make demo` left.

    python pipelines/readme/picture.py demo pipelines/readme/demo.jpg

One held-out slide: where each method looks, and the masks that come of it beside the truth. Unless a slide is named,
it is the one whose mean IoUs are together nearest to the medians of the methods: neither the best of one nor the worst
of another.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from PIL import Image

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.data.study import open_labelled
from wsi_deform.drawing.looks_figure import looks_figure
from wsi_deform.evaluate.masks import SlideEvaluation, evaluate_masks
from wsi_deform.evaluate.means import measured_miou
from wsi_deform.files import write_aside
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.scale_bar import scale_bar
from wsi_deform.report.comparison import look_of
from wsi_deform.report.pictures import slide_picture, truth_picture

METHODS = ("uniform", "joint", "blocks")
WIDTH_PX = 960
QUALITY = 34


def _most_usual(measured: Mapping[str, Mapping[str, SlideEvaluation]]) -> str:
    """The slide whose mean IoUs differ least, in sum, from each method's median."""
    apart: dict[str, float] = {}
    for slides in measured.values():
        scores = {name: measured_miou(slide.predicted) or 0.0 for name, slide in slides.items()}
        middle = median(scores.values())
        for name, score in scores.items():
            apart[name] = apart.get(name, 0.0) + abs(score - middle)
    return min(apart, key=lambda name: apart[name])


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("demo", type=Path, help="the folder of `make demo`")
    parser.add_argument("out", type=Path, help="the JPEG to write")
    parser.add_argument("--slide", help="id of a test slide; default: the most usual one")
    given = parser.parse_args()
    manifest = read_manifest(given.demo / "manifest.csv")
    classes = read_class_table(given.demo / "classes.yaml")
    rows = {row.slide_id: row for row in manifest.of_split("test")}
    folders = {method: given.demo / "masks" / method for method in METHODS}
    measured = {
        method: {slide.slide_id: slide for slide in evaluate_masks([*rows.values()], folder, classes).slides}
        for method, folder in folders.items()
    }
    row = rows[given.slide or _most_usual(measured)]
    picture, size = slide_picture(row.slide)
    of_picture = Size(picture.shape[1], picture.shape[0])
    slide, labels = open_labelled(row, classes)
    looks = {
        method: look_of(MaskFolder(folder), measured[method][str(row.slide_id)], of_picture, slide.mpp_xy)
        for method, folder in folders.items()
    }
    drawn = looks_figure(
        picture,
        truth_picture(labels, of_picture),
        looks,
        classes,
        size=size,
        title=f"slide {row.slide_id}",
        bar=scale_bar(size, slide.mpp_xy),
    )
    with write_aside(given.out) as aside, Image.open(io.BytesIO(drawn)) as opened:
        shown = opened.convert("RGB")
        shown.thumbnail((WIDTH_PX, WIDTH_PX), Image.Resampling.LANCZOS)
        shown.save(aside, format="JPEG", quality=QUALITY, optimize=True)


if __name__ == "__main__":
    main()
