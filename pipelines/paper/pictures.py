"""Pictures like Figures 7, 8 and 10 to 12: an image, where each system sampled it, its labels and the masks.

    python -m pipelines.paper figure4_5 --data cwfid=CWFID/manifest.csv --out OUT --keep --only uniform joint
    python -m pipelines.paper.pictures --data cwfid=CWFID/manifest.csv --out OUT --to PICTURES

It needs the masks of trials that ran with ``--keep``. Drawn are the test images with the largest, the median and the
smallest gain of the first system over the second: not the best ones alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipelines.paper.grid import RESULTS, Grid, read_record
from pipelines.paper.intervals import Record, image_counts, mious
from pipelines.paper.systems import JOINT, SYSTEMS, UNIFORM
from pipelines.paper.trial import Trial, budget_of, data_set_of
from wsi_deform.annotation.classes import read_class_table
from wsi_deform.data.study import open_labelled
from wsi_deform.drawing.figures import comparison_figure, sampling_points_figure
from wsi_deform.files import write_aside
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.report.pictures import sampled_picture, slide_picture, truth_picture


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw pictures; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.paper.pictures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", required=True, metavar="NAME=MANIFEST")
    parser.add_argument("--out", type=Path, required=True, help="of the trials")
    parser.add_argument("--records", type=Path, default=RESULTS)
    parser.add_argument("--to", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=[JOINT, UNIFORM], metavar="SYSTEM")
    parser.add_argument("--network", default="dynunet")
    parser.add_argument("--budget", help="e.g. 32x43; default: the data set's smallest")
    given = parser.parse_args(arguments)
    name, _, manifest = given.data.partition("=")
    budget = data_set_of(name).budgets[0] if given.budget is None else budget_of(given.budget)
    trials = {
        system: Trial(data=name, system=system, budget=budget, network=given.network)
        for system in given.systems
    }
    grid = Grid(manifests={name: Path(manifest)}, out=given.out, records=given.records)
    folders = {
        SYSTEMS[system].label: MaskFolder(grid.work(trial) / "masks") for system, trial in trials.items()
    }
    missing = [str(folder.path) for folder in folders.values() if not folder.path.is_dir()]
    if missing:
        parser.error(
            f"{', '.join(missing)}: no such folder. Needed the masks of trials that ran with --keep."
        )
    records = [read_record(grid.record(trial)) for trial in trials.values()]
    given.to.mkdir(parents=True, exist_ok=True)
    for rank, image in chosen_images(records[0], records[-1]).items():
        for path in draw(image, Path(manifest), folders, given.to, prefix=f"{name}_{rank}"):
            print(path)
    return 0


def chosen_images(one: Record, other: Record) -> dict[str, str]:
    """The test images where one is furthest ahead of the other, in the middle, and least: rank -> image.

    Convention:
        Ahead in the mean IoU of the image itself.
    """
    names = sorted(one["images"])
    gains = mious(image_counts(one, "predicted", names)) - mious(image_counts(other, "predicted", names))
    order = np.argsort(gains, kind="stable")
    places = {"largest": -1, "median": len(order) // 2, "smallest": 0}
    return {rank: names[order[place]] for rank, place in places.items()}


def draw(
    image: str, manifest: Path, folders: Mapping[str, MaskFolder], to: Path, *, prefix: str
) -> list[Path]:
    """Draw where each system sampled an image, and its labels beside their masks.

    Args:
        image: Its ``slide_id``.
        manifest: Of the data set, ``classes.yaml`` beside it.
        folders: System -> its masks, with samples.
        to: Gets ``<prefix>_<number>.png`` and ``<prefix>_masks.png``.
        prefix: Of the files.

    Returns:
        The files.
    """
    classes = read_class_table(manifest.parent / "classes.yaml")
    row = next(row for row in read_manifest(manifest).rows if row.slide_id == image)
    slide, labels = open_labelled(row, classes)
    picture, size = slide_picture(slide.path, mpp=slide.mpp_or_none)  # type: ignore[arg-type]
    shown = Size(picture.shape[1], picture.shape[0])
    sampled = {name: sampled_picture(folder, image, shown) for name, folder in folders.items()}
    files: dict[str, bytes] = {
        str(number): sampling_points_figure(
            picture, each.samples.points_px, size=size, title=f"{name}: {image}"
        )
        for number, (name, each) in enumerate(sampled.items(), start=1)
    }
    files["masks"] = comparison_figure(
        picture,
        {"labels": truth_picture(labels, shown)} | {name: each.labels for name, each in sampled.items()},
        classes,
        title=image,
    )
    written = []
    for part, png in files.items():
        path = to / f"{prefix}_{part}.png"
        with write_aside(path) as aside:
            aside.write_bytes(png)
        written.append(path)
    return written


if __name__ == "__main__":
    sys.exit(main())
