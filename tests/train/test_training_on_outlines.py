"""Training, measures and oracles take outlines as they take the mask that the same outlines become."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.annotation.label_file import outlines_over
from wsi_deform.config import read_config
from wsi_deform.distribute.sources import slide_sources
from wsi_deform.drawn.study import draw_study
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.manifest.rows import write_manifest
from wsi_deform.mask.outline_mask import write_outline_mask
from wsi_deform.slide.open import open_slide
from wsi_deform.train.loop import train

TINY = [
    "sampling.budget=[12, 24]",
    "networks.segmentation={name: 'monai:BasicUNet', features: [4, 4, 4, 4, 4, 4]}",
    "training={epochs: 2, validate_every: 1, batch: 2, threads: 1}",
]


def star(rng, size):
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    radii = rng.uniform(20, 90, 9)
    points = rng.uniform(0, (size.width, size.height)) + radii[:, None] * np.stack(
        [np.cos(angles), np.sin(angles)], axis=1
    )
    return [*points.tolist(), points[0].tolist()]


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    """The same slides with outlines, and with the masks that these become."""
    folder = tmp_path_factory.mktemp("study")
    study = draw_study(folder, train=2, val=1, test=0, seed=3, size=Size(512, 256))
    classes = read_class_table(study.classes)
    rng = np.random.default_rng(0)
    outlined, masked = [], []
    for row in read_manifest(study.manifest).rows:
        slide = open_slide(row.slide, mpp=row.mpp)
        features = [
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [star(rng, slide.size)]},
                "properties": {"objectType": "annotation", "classification": {"name": name}},
            }
            for name in 2 * classes.names
        ]
        path, mask = folder / f"{row.slide_id}.geojson", folder / f"{row.slide_id}.ome.tif"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        write_outline_mask(mask, outlines_over(path, slide, classes))
        outlined.append(row.model_copy(update={"mask": None, "annotation": path}))
        masked.append(row.model_copy(update={"mask": mask}))
    manifest = read_manifest(study.manifest)
    for name, rows in (("outlines", outlined), ("masks", masked)):
        write_manifest(manifest.model_copy(update={"rows": tuple(rows)}), folder / f"{name}.csv")
    return {name: folder / f"{name}.csv" for name in ("outlines", "masks")}, classes


def test_training_on_outlines_has_the_losses_of_training_on_their_masks(manifests, tmp_path):
    paths, classes = manifests

    def losses(name):
        assert train(read_config(changes=TINY), read_manifest(paths[name]), classes, tmp_path / name).finished
        with (tmp_path / name / "log.csv").open() as file:
            return [(row["loss"], row["val_miou"]) for row in csv.DictReader(file)]

    found = losses("outlines")
    assert len(found) == 2
    assert found == losses("masks")


def test_an_oracle_is_shown_the_outlines_of_a_manifest(manifests, tmp_path):
    paths, _ = manifests
    outlined, masked = (slide_sources(paths[name], out=tmp_path) for name in ("outlines", "masks"))
    assert [(each.labels.suffix, each.labels_are_outlines) for each in outlined] == [(".geojson", True)] * 3
    assert [(each.labels.suffix, each.labels_are_outlines) for each in masked] == [(".tif", False)] * 3
