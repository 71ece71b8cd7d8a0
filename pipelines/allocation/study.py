"""Equal budgets for all fields against budgets shared out by the slide-level deformation map, at the same total.

    python pipelines/allocation/study.py --out OUT [--seeds 0 1 2]

Draws slides of 8,192 x 2,048 px with two cores, trains one model per seed on fields of 1,024 px with equal budgets,
then segments the held-out slides with that same model both ways, at several budgets. Writes ``results.csv`` and
``results.md``. What is finished is skipped.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wsi_deform.annotation.classes import ClassTable, read_class_table, write_class_table
from wsi_deform.config import read_config
from wsi_deform.config_sections import Config
from wsi_deform.data.study import open_labelled
from wsi_deform.drawn.gland import CLASS_NAMES
from wsi_deform.drawn.slide import draw_slide
from wsi_deform.drawn.study import write_labels, write_slide
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.evaluate.slides import confusion_of
from wsi_deform.files import write_aside, write_text
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.manifest.rows import Manifest, ManifestRow, Split, write_manifest
from wsi_deform.model import Model
from wsi_deform.model_file import load_model
from wsi_deform.report.tables import Table, mean_and_spread
from wsi_deform.segment import segment_slide
from wsi_deform.train.loop import train

SIZE = Size(8192, 2048)
MPP = 0.5
FIELD_PX = 1024
SLIDES: dict[Split, int] = {"train": 8, "val": 2, "test": 6}
SETTINGS = (
    "networks.segmentation={name: 'monai:DynUNet'}",
    f"fields={{side_um: {FIELD_PX * MPP}, whole_below_mm2: 0, margin: 0.1}}",
    "augmentation={flip_x: true, flip_y: true}",
    "training={epochs: 20, validate_every: 5, threads: 1}",
    "sampling.budget=[32, 32]",
    "device=cpu",
)
BUDGETS = (16, 24, 32, 48)
ALLOCATIONS = ("equal", "density")


def draw(folder: Path) -> Path:
    """Draw the slides unless they are there; returns the manifest."""
    manifest = folder / "manifest.csv"
    if manifest.is_file():
        return manifest
    rows = []
    for split, count in SLIDES.items():
        for number in range(count):
            slide_id = f"{split}-{number}"
            row = ManifestRow(
                slide=folder / "slides" / f"{slide_id}.tif",
                slide_id=slide_id,
                patient=slide_id,
                split=split,
                mask=folder / "labels" / f"{slide_id}.tif",
            )
            seed = 1000 * list(SLIDES).index(split) + number
            drawing = draw_slide(seed, SIZE, cores=2, scale=1.0)
            write_slide(row.slide, drawing.image, mpp=MPP)
            write_labels(str(row.mask), drawing.labels, mpp=MPP)
            rows.append(row)
            print(f"drew {slide_id}", flush=True)
    write_class_table(ClassTable.from_names(CLASS_NAMES), folder / "classes.yaml")
    write_manifest(Manifest(rows=tuple(rows), folder=folder), manifest)
    return manifest


def measured(model: Model, manifest: Manifest, classes: ClassTable) -> dict[str, Any]:
    """Segment the test slides; mIoU at full resolution, samples and tiles."""
    counts, samples, tiles = Confusion.empty(classes.count), 0, 0
    for row in manifest.of_split("test"):
        slide, labels = open_labelled(row, classes)
        segmented = segment_slide(slide, model, limit_to_tissue=False)
        reverse = segmented.reverse()
        counts = counts + confusion_of(labels, reverse.region, size=slide.size, classes=classes.count)
        samples += segmented.samples
        tiles += segmented.tiles
    return {
        "miou": counts.miou(),
        "miou_without_background": counts.miou(without=classes.background),
        "samples": samples,
        "tiles": tiles,
    }


def changed(config: Config, budget: int, allocation: str) -> Config:
    """The configuration of a model with another budget and allocation; its weights fit all of them."""
    sampling = config.sampling.model_copy(update={"budget": (budget, budget)})
    fields = config.fields.model_copy(update={"allocation": allocation})
    return config.model_copy(update={"sampling": sampling, "fields": fields})


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """Mean and half the range over seeds."""
    header = ("budget of a field", "allocation", "samples", "tiles", "mIoU", "without background")
    cells = []
    for budget, allocation in dict.fromkeys((row["budget"], row["allocation"]) for row in rows):
        own = [row for row in rows if (row["budget"], row["allocation"]) == (budget, allocation)]
        cells.append(
            (
                f"{budget} x {budget}",
                allocation,
                f"{sum(row['samples'] for row in own) / len(own):,.0f}",
                f"{sum(row['tiles'] for row in own) / len(own):,.0f}",
                mean_and_spread([row["miou"] for row in own]),
                mean_and_spread([row["miou_without_background"] for row in own]),
            )
        )
    return Table(header=header, rows=tuple(cells))


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", dest="changes", action="append", default=[], help="key=value")
    given = parser.parse_args()
    path = draw(given.out)
    manifest, classes = read_manifest(path), read_class_table(path.parent / "classes.yaml")
    rows = []
    for seed in given.seeds:
        run = given.out / "runs" / f"seed{seed}"
        config = read_config(changes=[*SETTINGS, f"seed={seed}", *given.changes])
        result = train(config, manifest, classes, run)
        print(f"seed {seed}: {result.epochs} epochs, best validation mIoU {result.best}", flush=True)
        model = load_model(run)
        trained = model.config
        for budget in BUDGETS:
            for allocation in ALLOCATIONS:
                model.config = changed(trained, budget, allocation)
                row = {"budget": budget, "allocation": allocation, "seed": seed}
                rows.append(row | measured(model, manifest, classes))
                print(rows[-1], flush=True)
    with (
        write_aside(given.out / "results.csv") as aside,
        aside.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_text(given.out / "results.md", table(rows).markdown())
    print(table(rows).markdown())


if __name__ == "__main__":
    main()
