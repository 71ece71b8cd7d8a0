"""Outlines that `wsi-deform segment` leaves beside its masks."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile
import typer
from tiny_study import SIZE, tiny_model, tiny_study
from typer.testing import CliRunner

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.cli.segment import segment
from wsi_deform.geometry import Region

app = typer.Typer()
app.command()(segment)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    tiny_model(folder / "run", tiny_study(folder).classes)
    return folder


def segmented(study: Path, out: Path, *arguments: str) -> str:
    """Segment one slide; returns its name."""
    slide = min((study / "slides").iterdir())
    given = [
        "--slides",
        str(slide),
        "--model",
        str(study / "run"),
        "--out",
        str(out),
        "--device",
        "cpu",
        *arguments,
    ]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    return slide.stem


def test_every_mask_has_its_outlines_beside_it_the_same_in_every_run(study: Path, tmp_path: Path) -> None:
    slide_id = segmented(study, tmp_path / "out")
    path = tmp_path / "out" / "geojson" / f"{slide_id}.geojson.gz"
    found = json.loads(gzip.decompress(path.read_bytes()))
    assert found["wsi_deform"]["slide"] == slide_id
    assert (found["wsi_deform"]["width_px"], found["wsi_deform"]["height_px"]) == (SIZE.width, SIZE.height)
    level = found["wsi_deform"]["downsample"].bit_length() - 1
    with tifffile.TiffFile(tmp_path / "out" / "masks" / f"{slide_id}.ome.tif") as tiff:
        pixels = tiff.series[0].levels[level].asarray()
    labels = pixels.repeat(2**level, 0).repeat(2**level, 1)[: SIZE.height, : SIZE.width]
    table = read_class_table(tmp_path / "out" / "classes.json")
    areas = dict.fromkeys(table.names, 0.0)
    for feature in found["features"]:
        shape = shapely.geometry.shape(feature["geometry"])
        assert shapely.is_valid(shape)
        areas[feature["properties"]["classification"]["name"]] += shape.area
    wanted = {name: np.count_nonzero(labels == index) for index, name in enumerate(table.names)}
    assert sum(areas.values()) > 0
    assert areas == {**wanted, table.names[table.background or 0]: 0}
    segmented(study, tmp_path / "again")
    assert (tmp_path / "again" / "geojson" / path.name).read_bytes() == path.read_bytes()


def test_no_geojson_writes_none(study: Path, tmp_path: Path) -> None:
    slide_id = segmented(study, tmp_path, "--no-geojson")
    assert (tmp_path / "masks" / f"{slide_id}.ome.tif").is_file()
    assert not (tmp_path / "geojson").exists()


def test_outlines_are_placed_in_what_viewers_show_of_the_slide(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsi_deform.slide.slide.Slide.bounds", Region(64, 32, 320, 96))
    slide_id = segmented(study, tmp_path)
    path = tmp_path / "geojson" / f"{slide_id}.geojson.gz"
    found = json.loads(gzip.decompress(path.read_bytes()))
    assert found["wsi_deform"]["offset_px"] == [64, 32]
    assert (found["wsi_deform"]["width_px"], found["wsi_deform"]["height_px"]) == (320, 96)
    shapes = [shapely.geometry.shape(feature["geometry"]) for feature in found["features"]]
    assert shapely.bounds(shapely.GeometryCollection(shapes)).tolist() == [0, 0, 320, 96]
