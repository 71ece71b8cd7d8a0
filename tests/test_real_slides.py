"""The whole of segmentation over a folder of real slides, good and bad."""

import openslide
import pytest
import pyvips
import tifffile
from tiny_study import tiny_model

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.distribute.batch import segment_slides
from wsi_deform.distribute.sources import slide_sources
from wsi_deform.mask.folder import MaskFolder

REFUSED = {"broken", "unopenable"}
KNOWN_MPP = {"CMU-1-Small-Region": 0.499, "test3-DAPI-2-387": 0.2282}


@pytest.fixture(scope="module")
def segmented(shared_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    # Some of them say no um per pixel.
    run = tiny_model(folder / "run", ClassTable.from_names(["background", "a", "b"]), mpp=None)
    out = folder / "out"
    batch = segment_slides(slide_sources(shared_data / "slides", out=out), run, out)
    return batch, MaskFolder(out)


def test_readable_slides_get_masks_and_the_others_a_reason(segmented):
    batch, folder = segmented
    failed = {outcome.slide_id: outcome.reason for outcome in batch.of("failed")}
    assert set(failed) == REFUSED
    for slide_id, reason in failed.items():
        assert slide_id in reason
        assert len(reason) > 60
    done = {outcome.slide_id for outcome in batch.of("done")}
    assert {
        "CMU-1-Small-Region",
        "CMU-1-Small-Region-dicom",
        "test3-DAPI-2-387",
        "multi_frame_jpeg2000_camelyon_challenge_image",
    } <= done
    assert len(done) >= 11
    assert {path.name.removesuffix(".ome.tif") for path in folder.mask("x").parent.iterdir()} == done


def test_every_mask_opens_everywhere_with_all_levels_and_the_right_mpp(segmented):
    batch, folder = segmented
    for outcome in batch.of("done"):
        path, state = folder.mask(outcome.slide_id), outcome.state
        with tifffile.TiffFile(path) as opened:
            levels = opened.series[0].levels
            assert opened.is_ome
            assert levels[0].shape == (state.height_px, state.width_px)
        with openslide.OpenSlide(str(path)) as opened:
            assert opened.dimensions == (state.width_px, state.height_px)
            assert opened.level_count == len(levels)
            if outcome.slide_id in KNOWN_MPP:
                assert float(opened.properties["openslide.mpp-x"]) == pytest.approx(
                    KNOWN_MPP[outcome.slide_id], rel=1e-3
                )
        image = pyvips.Image.new_from_file(str(path))
        assert (image.width, image.height) == (state.width_px, state.height_px)
        assert image.get("n-pages") == len(levels)


def test_a_slide_that_says_no_mpp_is_refused_by_a_model_with_lengths_in_um_unless_it_is_told(
    shared_data, tmp_path
):
    run = tiny_model(tmp_path / "run", ClassTable.from_names(["background", "a", "b"]))
    path = shared_data / "slides" / "boxes.tiff"
    for mpp, status in ((None, "failed"), (0.5, "done")):
        out = tmp_path / f"out-{mpp}"
        (outcome,) = segment_slides(slide_sources(path, out=out, mpp=mpp), run, out).outcomes
        assert outcome.status == status
    assert "no mpp" not in outcome.reason
    refused = segment_slides(slide_sources(path, out=tmp_path / "again"), run, tmp_path / "again").outcomes[0]
    assert "no mpp in file or manifest. Needed um per level-0 pixel" in refused.reason
    assert "--mpp" in refused.reason
