"""A region of a slide: what is segmented, learned from and measured, in the frame of the whole slide."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from tiny_study import MPP, tiny_model, tiny_study
from typer.testing import CliRunner

from wsi_deform.annotation.classes import ClassTable, read_class_table
from wsi_deform.annotation.raster import open_label_mask
from wsi_deform.baselines.patch_settings import PatchSettings
from wsi_deform.cli.main import typer_app
from wsi_deform.config import parse_config, read_config
from wsi_deform.cover import fields_of
from wsi_deform.data.central_crops import with_central_crops
from wsi_deform.data.crops import moved_fields
from wsi_deform.data.fields import LabelledField
from wsi_deform.distribute.batch import segment_slides
from wsi_deform.distribute.job import SlideJob
from wsi_deform.distribute.sources import SlideSource
from wsi_deform.errors import ManifestError, MaskError, SlideError
from wsi_deform.evaluate.masks import evaluate_masks
from wsi_deform.geometry import Region, Size
from wsi_deform.look.fields import Field
from wsi_deform.manifest.read import read_manifest
from wsi_deform.manifest.rows import write_manifest
from wsi_deform.mask.tiff import write_mask
from wsi_deform.model import Model
from wsi_deform.model_file import save_model
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.slide.open import open_slide
from wsi_deform.slide_results import WantedOutputs
from wsi_deform.tissue_cover import tissue_limit_of

CLASSES = ClassTable.from_names(["road", "sky"])
PART = Region(30, 10, 40, 20)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A photograph of 100 x 50 px, left half class 0, right half class 1, and its manifest with a region."""
    labels = np.zeros((50, 100), np.uint8)
    labels[:, 50:] = 1
    Image.fromarray(labels).save(tmp_path / "labels.png")
    Image.fromarray(np.where(labels[..., None] == 1, 220, 40).astype(np.uint8).repeat(3, 2)).save(
        tmp_path / "a.png"
    )
    (tmp_path / "manifest.csv").write_text("slide,split,mask,region\na.png,test,labels.png,30 10 40 20\n")
    (tmp_path / "classes.yaml").write_text("[road, sky]")
    return tmp_path


def test_the_column_is_read_and_written(study):
    manifest = read_manifest(study / "manifest.csv")
    assert manifest.rows[0].region == PART
    write_manifest(manifest, study / "again.csv")
    assert (study / "again.csv").read_text().splitlines()[1].endswith(",30 10 40 20")
    assert read_manifest(study / "again.csv").rows[0].region == PART


@pytest.mark.parametrize("cell", ["1 2 3", "0 0 0 5", "-1 0 5 5", "a b c d", "0.5 0 5 5"])
def test_what_is_no_region_is_refused(study, cell):
    (study / "bad.csv").write_text(f"slide,region\na.png,{cell}\n")
    with pytest.raises(ManifestError, match="x y width height"):
        read_manifest(study / "bad.csv")


def test_a_region_that_is_not_inside_is_refused(study):
    with pytest.raises(SlideError, match=r"region 90 0 20 20 is not inside its 100 x 50 px.*region column"):
        open_slide(study / "a.png", region=Region(90, 0, 20, 20))


def test_a_slide_keeps_its_region_when_it_travels(study):
    slide = pickle.loads(pickle.dumps(open_slide(study / "a.png", region=PART)))
    assert (slide.region, slide.is_cropped, slide.size) == (PART, True, Size(100, 50))
    whole = open_slide(study / "a.png")
    assert (whole.region, whole.is_cropped) == (Region(0, 0, 100, 50), False)


def test_fields_cover_the_region_alone_and_margins_end_at_it(study):
    slide = open_slide(study / "a.png", region=PART)
    settings = ["sampling.coarsest_um=null", "sampling.budget=[8, 16]"]
    model = Model(config=read_config(changes=[*settings, "fields.side_um=null"]), classes=CLASSES, mpp=None)
    (field,) = fields_of(slide, model)
    assert (field.region, field.kept) == (PART, PART)
    parts = [*settings, "fields={side_um: null, side_px: 20, margin: 0.25}"]
    first, second = fields_of(slide, Model(config=read_config(changes=parts), classes=CLASSES, mpp=None))
    assert (first.kept, second.kept) == (Region(30, 10, 20, 20), Region(50, 10, 20, 20))
    assert (first.region, second.region) == (Region(30, 10, 25, 20), Region(45, 10, 25, 20))


def test_labels_outside_the_region_are_unlabelled_however_they_are_read(study):
    mask = open_label_mask(study / "labels.png", slide_size=Size(100, 50), classes=CLASSES, region=PART)
    expected = np.full((50, 100), 255, np.uint8)
    expected[10:30, 30:50], expected[10:30, 50:70] = 0, 1
    assert (mask.read_region(Region(0, 0, 100, 50)) == expected).all()
    points = np.array([[29.9, 15], [30, 10], [69.9, 29.9], [70, 15], [40, 30]])
    assert mask.at_points(points).tolist() == [255, 0, 1, 255, 255]
    fractions = mask.cell_fractions(Region(20, 10, 40, 20), Size(2, 1))
    assert fractions[:, 0].tolist() == [[0.5, 0.5], [0.0, 0.5]]
    assert (pickle.loads(pickle.dumps(mask)).read_region(Region(0, 0, 100, 50)) == expected).all()


def test_segment_marks_all_else_as_unlabelled_and_evaluate_counts_the_region_alone(study):
    tiny_model(study / "run", CLASSES, mpp=None)
    arguments = ["segment", "--slides", "manifest.csv", "--model", "run", "--out", "out", "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(study)
        done = CliRunner().invoke(typer_app, [*arguments, "--probabilities"])
        assert done.exit_code == 0, done.output
        done = CliRunner().invoke(typer_app, ["evaluate", "--slides", "manifest.csv", "--masks", "out"])
        assert done.exit_code == 0, (done.output, done.exception)
    with tifffile.TiffFile(study / "out" / "masks" / "a.ome.tif") as file:
        labels = file.asarray()
        assert file.ome_metadata is not None
        assert '<M K="region">30 10 40 20</M>' in file.ome_metadata
        assert '<M K="outside the region">255</M>' in file.ome_metadata
    outside = np.ones((50, 100), np.bool_)
    outside[10:30, 30:70] = False
    assert (labels[outside] == 255).all()
    assert (labels[~outside] < 2).all()
    data = json.loads((study / "out" / "evaluation.json").read_text())
    assert data["pooled"]["predicted"]["pixels"] == data["pooled"]["sampled"]["pixels"] == 800
    assert np.sum(data["pooled"]["predicted"]["confusion"], axis=1).tolist() == [400, 400]


@pytest.mark.parametrize(
    ("part", "level"), [(PART, 0), (Region(33, 7, 61, 43), 0), (Region(32, 8, 60, 40), 1)]
)
def test_patches_of_a_region_are_those_of_an_image_of_it(study, part, level):
    rng = np.random.default_rng(1)
    picture = rng.integers(30, 220, (10, 20, 3)).astype(np.uint8).repeat(5, 0).repeat(5, 1)
    for name, pixels in (("a", picture), ("b", picture[part.y : part.bottom, part.x : part.right])):
        with tifffile.TiffWriter(study / f"{name}.tif") as tiff:
            tiff.write(pixels, tile=(16, 16), photometric="rgb", compression="zlib")
            tiff.write(pixels[::2, ::2], tile=(16, 16), photometric="rgb", compression="zlib", subfiletype=1)
    text = f"slide,region\na.tif,{part.x} {part.y} {part.width} {part.height}\nb.tif,\n"
    (study / "both.csv").write_text(text)
    tiny_model(study / "run", CLASSES, mpp=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(study)
        arguments = ["segment", "--slides", "both.csv", "--model", "run", "--out", "out", "--device", "cpu"]
        arguments += [
            "--method",
            "patches",
            "--patch-px",
            "16",
            "--patch-level",
            str(level),
            "--probabilities",
        ]
        done = CliRunner().invoke(typer_app, arguments)
        assert done.exit_code == 0, done.output
    labels, own = (tifffile.imread(study / "out" / "masks" / f"{name}.ome.tif") for name in "ab")
    expected = np.full((50, 100), 255, np.uint8)
    expected[part.y : part.bottom, part.x : part.right] = own
    assert {0, 1} <= set(own.ravel().tolist())
    np.testing.assert_array_equal(labels, expected)
    with tifffile.TiffFile(study / "out" / "masks" / "a.ome.tif") as file:
        assert f'<M K="region">{part.x} {part.y} {part.width} {part.height}</M>' in str(file.ome_metadata)
    maps = [tifffile.imread(study / "out" / "probabilities" / f"{name}.probability.ome.tif") for name in "ab"]
    shown = np.s_[:, part.y >> level : part.bottom >> level, part.x >> level : part.right >> level]
    np.testing.assert_array_equal(maps[0][shown], maps[1])
    assert maps[0].sum() == maps[1].sum()
    with (study / "out" / "measurements.csv").open() as rows:
        found = [row for row in csv.DictReader(rows) if row["slide"] == "a"]
    assert [int(row["pixels"]) for row in found] == np.bincount(own.ravel(), minlength=2).tolist()


def test_a_region_of_many_fields_is_labelled_whole_glass_too_and_tissue_is_counted_inside(tmp_path):
    drawn = tiny_study(tmp_path)
    table = read_class_table(drawn.classes)
    settings = {
        "sampling": {"budget": [8, 8]},
        "fields": {"side_um": 40, "whole_below_mm2": 0, "margin": 0},
        "networks": {"segmentation": {"name": "hrnetv2", "width": 4, "stem_stride": 1}},
    }
    model = Model(config=parse_config(settings, source="test"), classes=table, mpp=MPP)
    save_model(model, tmp_path / "run" / "best.safetensors", facts={"epoch": 0})
    tissue = np.zeros((160, 640), np.uint8)
    tissue[:, 336:400] = 255
    Image.fromarray(tissue).save(tmp_path / "tissue.png")
    slide = min((tmp_path / "slides").iterdir())
    part = Region(203, 11, 301, 133)
    source = SlideSource(path=slide, slide_id="a", tissue_path=tmp_path / "tissue.png", region=part)
    for wanted in (
        WantedOutputs(),
        WantedOutputs(limit_to_tissue=False),
        WantedOutputs(patches=PatchSettings(patch_px=64, level=0)),
    ):
        segment_slides([source], tmp_path / "run", tmp_path / "out", device="cpu", wanted=wanted)
        labels = tifffile.imread(tmp_path / "out" / "masks" / "a.ome.tif")
        inside = labels[11:144, 203:504].copy()
        assert inside.max() < table.count
        assert (labels == 255).sum() == 640 * 160 - 301 * 133
        with (tmp_path / "out" / "measurements.csv").open() as rows:
            found = list(csv.DictReader(rows))
        assert {row["tissue_mm2"] for row in found} == {f"{64 * 133 * MPP**2 / 1e6:.9g}"}
        assert sum(float(row["share_of_tissue"]) for row in found) == pytest.approx(1)
        assert sum(int(row["pixels"]) for row in found) == 301 * 133


def test_a_mask_that_is_unlabelled_inside_the_region_is_refused(study):
    row = read_manifest(study / "manifest.csv").rows[0]
    (study / "out" / "masks").mkdir(parents=True)
    nothing = ReverseSampler([], size=Size(100, 50), outside_label=255)
    write_mask(study / "out" / "masks" / "a.ome.tif", nothing.tiles(), size=Size(100, 50), mpp=None)
    with pytest.raises(MaskError, match="label 255"):
        evaluate_masks([row], study / "out", CLASSES)


def test_the_limit_to_tissue_makes_nothing_background_outside_the_region(study):
    slide = open_slide(study / "a.png", region=PART)
    limit = tissue_limit_of(slide, 0)
    assert limit is not None
    assert limit.cells.shape == (50, 100)
    inside = np.zeros((50, 100), np.bool_)
    inside[10:30, 30:70] = True
    assert limit.cells[~inside].all()


def test_another_region_is_another_mask_and_without_one_nothing_changed(study):
    def fingerprint(region):
        source = SlideSource(path=study / "a.png", slide_id="a", region=region)
        job = SlideJob(source=source, model=Path("m"), model_sha256="0", out=study)
        return job.fingerprint({"size": "1"})

    assert len({fingerprint(None), fingerprint(PART), fingerprint(Region(30, 10, 40, 21))}) == 3


def test_central_crops_are_centred_and_what_is_too_small_is_named(study):
    manifest = read_manifest(study / "manifest.csv")
    plain = manifest.model_copy(update={"rows": (manifest.rows[0].model_copy(update={"region": None}),)})
    (row,) = with_central_crops(plain, Size(32, 33)).rows
    assert row.region == Region(34, 8, 32, 33)
    (row,) = with_central_crops(manifest, Size(10, 10)).rows  # of its region
    assert row.region == Region(45, 15, 10, 10)
    with pytest.raises(ManifestError, match="slide a: 100 x 50 px. Needed at least 64 x 64 px"):
        with_central_crops(plain, Size(64, 64))


def test_the_command_writes_a_cropped_manifest(study):
    (study / "plain.csv").write_text("slide,split,mask\na.png,test,labels.png\n")
    arguments = [
        "manifest",
        "crop",
        str(study / "plain.csv"),
        "--size",
        "20x10",
        "--out",
        str(study / "crop.csv"),
    ]
    done = CliRunner().invoke(typer_app, arguments)
    assert done.exit_code == 0, done.output
    assert read_manifest(study / "crop.csv").rows[0].region == Region(40, 20, 20, 10)
    arguments[4] = "20"
    assert CliRunner().invoke(typer_app, arguments).exit_code == 2


def test_random_crops_stay_in_the_region(study):
    slide = open_slide(study / "a.png", region=PART)
    labels = open_label_mask(study / "labels.png", slide_size=Size(100, 50), classes=CLASSES, region=PART)
    region = Region(35, 12, 10, 10)
    item = LabelledField(
        slide=slide, labels=labels, field=Field(region, region), size=Size(4, 4), map_size=Size(4, 4)
    )
    moved = {moved_fields([item], 1.0, seed=0, epoch=epoch)[0].field.region for epoch in range(60)}
    assert len(moved) > 20
    assert min(each.x for each in moved) == 30
    assert min(each.y for each in moved) == 10
    assert max(each.right for each in moved) <= 70
    assert max(each.bottom for each in moved) == 30
