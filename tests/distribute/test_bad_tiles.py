"""Tiles that cannot be decoded: the slide fails, or they are left out, counted and said."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from damaged import zero_tile
from slide_files import picture, pyramid, write_tiff
from tiny_study import tiny_model, tiny_study
from typer.testing import CliRunner

import wsi_deform.slide.slide as slide_module
from wsi_deform.annotation.classes import ClassTable, read_class_table
from wsi_deform.baselines.patch_settings import PatchSettings
from wsi_deform.cli.main import typer_app
from wsi_deform.config import read_config
from wsi_deform.distribute.batch import segment_slides
from wsi_deform.distribute.ledger import Ledger, State
from wsi_deform.distribute.outcome import Batch
from wsi_deform.distribute.sources import slide_sources
from wsi_deform.errors import SlideError
from wsi_deform.manifest.read import read_manifest
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.samples import read_samples
from wsi_deform.slide_results import WantedOutputs
from wsi_deform.train.loop import train

SIZE = (600, 400)
TILE = 128
CLASSES = ClassTable(
    names=("background", "gland"), colours=((200, 200, 200), (200, 0, 0)), values=((0,), (1,)), background=0
)
# The second row and third column.
BAD = 7
REGION = np.s_[128:256, 256:384]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "run", CLASSES)


HOW: dict[str, Any] = {
    "tile": (TILE, TILE), "compression": "jpeg", "compressionargs": {"level": 95}, "photometric": "rgb",
    "resolution": (20000, 20000), "resolutionunit": "CENTIMETER",
}  # fmt: skip


def jpeg_slide(path: Path, levels: int = 1, **damage: int) -> Path:
    """A JPEG slide with one damaged tile."""
    path.parent.mkdir(exist_ok=True)
    write_tiff(path, pyramid(*SIZE, levels), **HOW)
    return zero_tile(path, **({"tile": BAD} | damage))


def segmented(slide: Path, model: Path, out: Path, **options: Any) -> tuple[Batch, State]:
    batch = segment_slides(slide_sources(slide, out=out), model, out, device="cpu", **options)
    return batch, Ledger(MaskFolder(out)).read(slide.stem)


def levels_of(mask: Path) -> list[np.ndarray]:
    with tifffile.TiffFile(mask) as tif:
        return [level.asarray() for level in tif.series[0].levels]


def test_a_damaged_tile_fails_its_slide_and_is_named(tmp_path: Path, model: Path):
    slide = jpeg_slide(tmp_path / "slides" / "a.tif")
    batch, state = segmented(slide, model, tmp_path / "out")
    assert [each.status for each in batch.outcomes] == ["failed"]
    assert (
        "a.tif: tile at (256, 128) of level 0, which shows level-0 px 256 to 384 across and 128 to 256 down"
        in (state.error)
    )
    assert "cannot be decoded (ValueError: its JPEG has data after its last block" in state.error
    assert state.error.endswith("unlabelled in the mask: --on-bad-tile blank.")
    assert not MaskFolder(tmp_path / "out").mask("a").exists()


@pytest.mark.parametrize(
    "wanted",
    [
        WantedOutputs(),
        WantedOutputs(limit_to_tissue=False, interpolation="linear"),
        WantedOutputs(patches=PatchSettings(patch_px=96, level=0)),
    ],
    ids=["sampled", "linear", "patches"],
)
def test_a_tile_that_is_left_out_is_unlabelled_counted_and_said(
    tmp_path: Path, model: Path, wanted: WantedOutputs
):
    slide, out = jpeg_slide(tmp_path / "slides" / "a.tif"), tmp_path / "out"
    batch, state = segmented(slide, model, out, on_bad_tile="blank", wanted=wanted)
    assert [each.status for each in batch.outcomes] == ["done"]
    levels = levels_of(MaskFolder(out).mask("a"))
    unlabelled = np.zeros((400, 600), bool)
    unlabelled[REGION] = True
    np.testing.assert_array_equal(levels[0][unlabelled], 255)
    # Nothing else is, but for the pixels next to it, to which samples inside it are the nearest.
    assert (levels[0][~unlabelled] == 255).sum() < 128 * 128
    assert (levels[1][64:128, 128:192] == 255).all()
    count = int((levels[0] == 255).sum())
    assert (state.blank_tiles, state.blank_pixels) == (1, count)
    assert sum(state.class_pixels) == 600 * 400 - count
    left_out = "1 tile could not be decoded and was left out: level 0 at level-0 px (256, 128)"
    assert (
        f"{left_out}; {count:,} level-0 px ({count / 240_000:.2%} of the slide) are unlabelled"
        in state.remark
    )
    summary = (out / "summary.md").read_text()
    assert "1 done (1 with remarks)" in summary
    assert f"are unlabelled (255), of: a (1 tiles, {count:,} level-0 px)." in summary
    with (out / "measurements.csv").open(newline="") as file:
        assert sum(int(row["pixels"]) for row in csv.DictReader(file)) == sum(state.class_pixels)
    record = json.loads(batch.record.read_text())
    assert record["slides"][0]["blank_pixels"] == count


def test_samples_in_what_was_left_out_have_no_label(tmp_path: Path, model: Path):
    slide, out = jpeg_slide(tmp_path / "slides" / "a.tif"), tmp_path / "out"
    segmented(slide, model, out, on_bad_tile="blank")
    samples = read_samples(MaskFolder(out).samples("a"))
    x, y = samples.points_px.T
    inside = (x >= 256) & (x < 384) & (y >= 128) & (y < 256)
    assert inside.any()
    assert set(samples.labels[inside]) == {255}
    assert 255 not in samples.labels[~inside]


def test_a_result_that_lacks_tiles_is_done_only_where_that_is_wanted(tmp_path: Path, model: Path):
    slide, out = jpeg_slide(tmp_path / "slides" / "a.tif"), tmp_path / "out"
    segmented(slide, model, out, on_bad_tile="blank")
    mask = MaskFolder(out).mask("a").read_bytes()
    assert segmented(slide, model, out, on_bad_tile="blank")[0].outcomes[0].status == "skipped"
    batch, state = segmented(slide, model, out)
    assert batch.outcomes[0].status == "failed"
    assert state.kept is not None
    assert state.kept.blank_tiles == 1
    assert MaskFolder(out).mask("a").read_bytes() == mask


def test_a_sound_slide_that_is_done_is_not_done_again_to_leave_tiles_out(tmp_path: Path, model: Path):
    slide, out = write_tiff(tmp_path / "a.tif", [picture(*SIZE)], **HOW), tmp_path / "out"
    segmented(slide, model, out)
    assert segmented(slide, model, out, on_bad_tile="blank")[0].outcomes[0].status == "skipped"


def test_a_damaged_tile_of_a_coarse_level_is_made_anew_of_the_finer_one(tmp_path: Path, model: Path):
    folder, out = tmp_path / "slides", tmp_path / "out"
    slide = jpeg_slide(folder / "a.tif", 3, page=2, tile=0)
    state = segmented(slide, model, out, on_bad_tile="blank")[1]
    assert (state.blank_tiles, state.blank_pixels) == (0, 0)
    assert "1 tile of coarse levels could not be decoded and was made anew of finer ones" in state.remark
    assert 255 not in levels_of(MaskFolder(out).mask("a"))[0]
    reread = slide_module.Slide(slide, on_bad_tile="blank").read_tile(2, 0, 0)
    sound = pyramid(*SIZE, 3)[2][:, :128]
    assert np.abs(reread.astype(int) - sound).mean() < 5


def test_what_a_coarse_level_cannot_be_made_of_is_unlabelled_alone(tmp_path: Path, model: Path):
    slide = jpeg_slide(tmp_path / "slides" / "a.tif", 2, page=1, tile=0)
    zero_tile(slide, page=0, tile=0)
    state = segmented(slide, model, tmp_path / "out", on_bad_tile="blank")[1]
    assert state.blank_tiles == 1
    assert 128 * 128 <= state.blank_pixels < 2 * 128 * 128
    assert "left out: level 0 at level-0 px (0, 0)" in state.remark


def test_others_who_read_the_file_see_no_blanks(tmp_path: Path, model: Path):
    slide = jpeg_slide(tmp_path / "slides" / "a.tif")
    assert slide_module.Slide(slide, on_bad_tile="blank").read_tile(0, 2, 1).min() == 255
    with pytest.raises(slide_module.SlideError, match="cannot be decoded"):
        slide_module.Slide(slide).read_tile(0, 2, 1)


def test_the_command_says_which_slides_lack_tiles(tmp_path: Path, model: Path):
    slide = jpeg_slide(tmp_path / "slides" / "a.tif")
    shared = [
        "segment",
        "--slides",
        str(slide),
        "--model",
        str(model),
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "out"),
    ]
    done = CliRunner().invoke(typer_app, [*shared, "--on-bad-tile", "blank"])
    assert done.exit_code == 0, done.output
    assert "1 done, 0 skipped, 0 failed; with tiles left out: a." in done.output
    assert CliRunner().invoke(typer_app, [*shared, "--on-bad-tile", "white"]).exit_code == 2
    failed = CliRunner().invoke(typer_app, shared)
    assert failed.exit_code == 1
    assert "0 done, 0 skipped, 1 failed" in failed.output


def test_training_fails_and_names_the_slide_and_the_tile(tmp_path: Path):
    study = tiny_study(tmp_path)
    row = next(each for each in read_manifest(study.manifest).rows if each.split == "train")
    with tifffile.TiffFile(row.slide) as tif:
        places = [
            place for page in tif.pages for place in zip(page.dataoffsets, page.databytecounts, strict=True)
        ]
    stored = bytearray(Path(row.slide).read_bytes())
    for offset, count in places:
        stored[offset : offset + count] = b"\xff" * count
    Path(row.slide).write_bytes(stored)
    config = read_config(changes=["sampling.budget=[12, 48]", "training.epochs=1", "device=cpu"])
    with pytest.raises(SlideError, match=rf"{Path(row.slide).name}: tile at .* cannot be"):
        train(config, read_manifest(study.manifest), read_class_table(study.classes), tmp_path / "run")
