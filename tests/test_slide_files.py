"""The files of one slide, and what is said and counted of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from drawn_reader import ArrayReader
from PIL import Image
from tiny_study import MPP, tiny_model, tiny_study

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.baselines.patch_settings import PatchSettings
from wsi_deform.cover import budgets_of
from wsi_deform.flops import NetworkFlops, sampling_flops
from wsi_deform.geometry import Size
from wsi_deform.mask.coarse import map_downsample
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.tiff import write_mask
from wsi_deform.model import Model
from wsi_deform.model_file import load_model
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.segment import segment_fields
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.slide import Slide
from wsi_deform.slide_files import complete_files, segment_to_files, write_overlay
from wsi_deform.slide_results import WantedOutputs


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Model]:
    """A drawn slide of 640 x 160 px, and an untrained model."""
    folder = tmp_path_factory.mktemp("study")
    drawn = tiny_study(folder)
    return sorted((folder / "slides").iterdir())[0], load_model(tiny_model(folder / "run", drawn.classes))


def test_costs_are_what_was_decoded_and_worked_out(study: tuple[Path, Model], tmp_path: Path) -> None:
    path, model = study
    slide, told = open_slide(path), []
    before = slide.decoded_bytes
    files = segment_to_files(slide, model, tmp_path / "out", on_field=lambda *counts: told.append(counts))
    budgets = budgets_of(slide, model)
    assert files.decoded_bytes == slide.decoded_bytes - before
    assert files.decoded_bytes == 3 * (files.decoded_pixels or 0) > 640 * 160 * 3
    assert told == [(done, len(budgets)) for done in range(1, len(budgets) + 1)]
    assert (files.width_px, files.height_px, files.mpp) == (640, 160, pytest.approx(MPP))
    assert (files.fields, files.samples) == (len(budgets), sum(budget.size.area for budget in budgets))
    with NetworkFlops(model.segmentation, model.deformation, model.positions, model.resizer) as counted:
        fields = list(segment_fields(slide, model, budgets_of(slide, model)))
    assert files.flops == counted.total + sampling_flops(model, budgets)
    assert files.tiles == sum(field.tiles for field in fields) > 0
    # Of each field the sampled image, and the low-res view that the deformation network looks at.
    views = [model.map_size(budget.size) for budget in budgets]
    assert files.read_pixels == files.samples + sum(view.area for view in views)
    assert (files.method, files.remark) == ("sampled", "")
    assert files.peak_memory_bytes is not None
    assert files.peak_memory_bytes > 50 << 20
    mask = tifffile.imread(MaskFolder(tmp_path / "out").mask(slide.slide_id), level=0)
    assert files.class_pixels == tuple(np.bincount(mask.ravel(), minlength=model.classes.count).tolist())


@pytest.mark.parametrize(
    ("wanted", "kinds"),
    [
        (WantedOutputs(), {"samples", "geojson", "overlay", "mask"}),
        (WantedOutputs(geojson=False, probabilities=True), {"samples", "probabilities", "overlay", "mask"}),
        (WantedOutputs(footprint=True), {"samples", "footprint", "geojson", "overlay", "mask"}),
        (WantedOutputs(geojson=False, coloured=True), {"samples", "coloured", "overlay", "mask"}),
        (WantedOutputs(geojson=False, ome_zarr=True), {"samples", "ome_zarr", "overlay", "mask"}),
        (WantedOutputs(patches=PatchSettings(patch_px=160, level=0)), {"geojson", "overlay", "mask"}),
    ],
)
def test_what_is_wanted_is_written_and_nothing_else(
    study: tuple[Path, Model], tmp_path: Path, wanted: WantedOutputs, kinds: set[str]
) -> None:
    path, model = study
    slide, folder = open_slide(path), MaskFolder(tmp_path)
    segment_to_files(slide, model, folder, wanted=wanted)
    assert {kind for kind, place in folder.outputs(slide.slide_id).items() if place.exists()} == kinds
    with tifffile.TiffFile(folder.mask(slide.slide_id)) as opened:
        ome = opened.ome_metadata or ""
    assert "limited to tissue" in ome
    assert "outside the region" not in ome


def test_overlay_and_outlines_come_from_the_mask_as_they_came_with_it(
    study: tuple[Path, Model], tmp_path: Path
) -> None:
    path, model = study
    slide, folder, made = open_slide(path), MaskFolder(tmp_path / "out"), MaskFolder(tmp_path / "made")
    segment_to_files(slide, model, folder)
    for place in (made.overlay(slide.slide_id), made.geojson(slide.slide_id)):
        place.parent.mkdir(parents=True)
    complete_files(slide, model, folder, ["overlay"], made=made)
    assert not made.geojson(slide.slide_id).exists()
    complete_files(slide, model, folder, ["geojson"], made=made)
    for kind in ("overlay", "geojson"):
        one, other = (each.outputs(slide.slide_id)[kind].read_bytes() for each in (folder, made))
        assert one == other
    folder.overlay(slide.slide_id).unlink()
    complete_files(slide, model, folder, ["overlay"])
    assert folder.overlay(slide.slide_id).is_file()


def test_maps_are_as_coarse_as_the_samples_are_apart(study: tuple[Path, Model], tmp_path: Path) -> None:
    path, model = study
    slide, folder = open_slide(path), MaskFolder(tmp_path)
    segment_to_files(slide, model, folder, wanted=WantedOutputs(probabilities=True))
    budgets = budgets_of(slide, model)
    # 640 x 160 px share 12 x 48 samples, 13 px apart: maps have a pixel for 4 x 4, outlines steps of 4 px.
    assert map_downsample(sum(each.size.area for each in budgets), 640 * 160, slide.size) == 4
    found = tifffile.imread(folder.probabilities(slide.slide_id), level=0)
    assert found.shape[1:] == (40, 160)


@pytest.mark.parametrize(("size", "shown"), [(Size(3000, 1500), (2048, 1130)), (Size(200, 100), (260, 178))])
def test_an_overlay_is_a_jpeg_of_2048_px_and_its_words_at_most(
    tmp_path: Path, size: Size, shown: tuple[int, int]
) -> None:
    pixels = np.full((*size.shape, 3), 200, np.uint8)
    slide = Slide.from_reader(ArrayReader(pixels, mpp=0.5), slide_id="a")
    write_mask(
        tmp_path / "mask.ome.tif",
        ReverseSampler([], size=size, outside_label=0).tiles(),
        size=size,
        mpp=0.5,
    )
    write_overlay(
        tmp_path / "a.jpg", slide, tmp_path / "mask.ome.tif", ClassTable.from_names(["background", "gland"])
    )
    with Image.open(tmp_path / "a.jpg") as opened:
        assert opened.size == shown
        # The largest entry of JPEG's table, 121, at quality 88: 121 x 24 / 100.
        assert max(opened.quantization[0]) == 29
