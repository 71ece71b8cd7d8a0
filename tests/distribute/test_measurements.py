"""The table of measurements, and masks that are limited to tissue, through whole calls."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from tiny_study import MPP, SIZE, tiny_model, tiny_study

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.distribute.batch import segment_slides
from wsi_deform.distribute.ledger import Ledger, State
from wsi_deform.distribute.measurements import write_measurements
from wsi_deform.distribute.sources import SlideSource
from wsi_deform.errors import MaskError
from wsi_deform.evaluate.masks import evaluate_masks
from wsi_deform.geometry import Region, Size
from wsi_deform.manifest.rows import ManifestRow
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.samples import read_samples
from wsi_deform.mask.tissue_limit import TissueCounts, TissueLimit
from wsi_deform.slide_results import WantedOutputs, tissue_remark

CLASSES = ClassTable.from_names(["background", "gland"])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    drawn = tiny_study(folder)
    # Untrained, so that it labels glass like tissue.
    tiny_model(folder / "run", drawn.classes)
    return folder


def half_tissue(study: Path, tmp_path: Path, *, width: int = 320) -> SlideSource:
    """A drawn slide and a tissue mask of its left half, or of another part of its width."""
    pixels = np.zeros(SIZE.shape, np.uint8)
    pixels[:, :width] = 255
    Image.fromarray(pixels).save(tmp_path / "tissue.png")
    slide = sorted((study / "slides").iterdir())[0]
    return SlideSource(path=slide, slide_id="a", tissue_path=tmp_path / "tissue.png")


def mask_of(out: Path) -> np.ndarray:
    with tifffile.TiffFile(MaskFolder(out).mask("a")) as tif:
        return tif.pages[0].asarray()


def table(out: Path) -> list[dict[str, str]]:
    with MaskFolder(out).measurements.open(newline="") as file:
        return list(csv.DictReader(file))


def test_glass_is_background_by_default_and_as_the_network_says_on_request(
    study: Path, tmp_path: Path
) -> None:
    source = half_tissue(study, tmp_path)
    for name, wanted in (("limited", WantedOutputs()), ("plain", WantedOutputs(limit_to_tissue=False))):
        segment_slides([source], study / "run", tmp_path / name, device="cpu", wanted=wanted)
    limited, plain = mask_of(tmp_path / "limited"), mask_of(tmp_path / "plain")
    assert (plain[:, 328:] > 0).mean() > 0.5
    # The tissue mask has cells of 8 um, 16 px, one of which is added around the tissue.
    assert not limited[:, 336:].any()
    np.testing.assert_array_equal(limited[:, :336], plain[:, :336])
    np.testing.assert_array_equal(
        read_samples(MaskFolder(tmp_path / "limited").samples("a")).reverse().region(Region.whole(SIZE)),
        limited,
    )
    with tifffile.TiffFile(MaskFolder(tmp_path / "limited").mask("a")) as tif:
        assert "limited to tissue" in tif.ome_metadata
    state = Ledger(MaskFolder(tmp_path / "limited")).read("a")
    assert sum(state.removed_pixels) == (plain[:, 336:] > 0).sum()
    assert "lay outside the tissue" in state.remark
    assert Ledger(MaskFolder(tmp_path / "plain")).read("a").remark == ""


def test_a_switch_of_the_limit_segments_again(study: Path, tmp_path: Path) -> None:
    source, out = half_tissue(study, tmp_path), tmp_path / "out"

    def again(wanted: WantedOutputs) -> str:
        return segment_slides([source], study / "run", out, device="cpu", wanted=wanted).outcomes[0].status

    assert again(WantedOutputs()) == "done"
    assert again(WantedOutputs()) == "skipped"
    assert again(WantedOutputs(limit_to_tissue=False)) == "done"


def test_shares_of_tissue_are_those_of_the_pixels_in_the_tissue(study: Path, tmp_path: Path) -> None:
    segment_slides([half_tissue(study, tmp_path)], study / "run", tmp_path, device="cpu")
    rows, mask = table(tmp_path), mask_of(tmp_path)
    assert {float(row["tissue_mm2"]) for row in rows} == {320 * 160 * MPP**2 / 1e6}
    for index, row in enumerate(rows):
        expected = float((mask[:, :320] == index).mean())
        assert float(row["share_of_tissue"]) == pytest.approx(expected, abs=1e-8)
    assert sum(float(row["share_of_tissue"]) for row in rows) == pytest.approx(1.0)


def test_the_ceiling_of_a_limited_mask_is_limited_too(study: Path, tmp_path: Path) -> None:
    source = half_tissue(study, tmp_path, width=288)
    segment_slides([source], study / "run", tmp_path / "out", device="cpu")
    labels = np.zeros(SIZE.shape, np.uint8)
    labels[:, :304] = 1
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    row = ManifestRow(slide=Path(source.path), mask=tmp_path / "labels.tif", slide_id="a")
    classes = ClassTable.from_names(["background", "large acini", "small acini", "sheets", "cords"])
    (found,) = evaluate_masks([row], tmp_path / "out", classes).slides
    assert found.sampled is not None
    # Samples lie 13 1/3 px apart, at 300 and 313 1/3: put back without the limit, class 1 ends at 306 2/3.
    assert found.sampled.counts[0, 1] == 0


def test_states_of_older_versions_have_empty_cells(tmp_path: Path) -> None:
    folder = MaskFolder(tmp_path)
    new = State(
        slide_id="b",
        status="done",
        width_px=10,
        height_px=10,
        mpp=1000.0,
        class_pixels=(60, 40),
        class_pixels_in_tissue=(10, 40),
        removed_pixels=(0, 5),
        tissue_pixels=50,
    )
    old = {
        key: value
        for key, value in asdict(replace(new, slide_id="a")).items()
        if key not in ("class_pixels_in_tissue", "removed_pixels", "tissue_pixels")
    }
    folder.states.mkdir(parents=True)
    folder.state("a").write_text(json.dumps(old))
    Ledger(folder).write(new)
    states = Ledger(folder).all()
    assert states[1] == new
    write_measurements(folder, [*states, replace(new, slide_id="c", mpp=None)], CLASSES)
    cells = [(r["slide"], r["mm2"], r["tissue_mm2"], r["share_of_tissue"]) for r in table(tmp_path)]
    assert cells == [
        ("a", "60", "", ""),
        ("a", "40", "", ""),
        ("b", "60", "50", "0.2"),
        ("b", "40", "50", "0.8"),
        ("c", "", "", "0.2"),
        ("c", "", "", "0.8"),
    ]


EARLIER = """slide_id,class_index,class_name,pixels,area_mm2,share_of_slide,tissue_mm2,share_of_tissue,model
a,0,background,50,50,0.5,90,0.5,abc
gone,0,background,60,60,0.6,,,abc
gone,1,'=gland,40,40,0.4,,,abc
"""


def test_a_table_of_an_earlier_version_is_rewritten_without_losing_rows(tmp_path: Path) -> None:
    folder = MaskFolder(tmp_path)
    state = State(
        slide_id="a",
        status="done",
        width_px=10,
        height_px=10,
        mpp=1000.0,
        class_pixels=(60, 40),
        class_pixels_in_tissue=(10, 40),
        tissue_pixels=50,
        remark="pale;\n what of it",
    )
    folder.measurements.write_text(EARLIER)
    text = """slide,class,pixels,mm2,tissue_mm2,share_of_tissue,share_of_slide,remarks
a,background,60,60,50,0.2,0.6,pale; what of it
a,gland,40,40,50,0.8,0.4,pale; what of it
gone,background,60,60,,,0.6,from an earlier measurements.csv: the folder has no state of this slide
gone,'=gland,40,40,,,0.4,from an earlier measurements.csv: the folder has no state of this slide
"""
    # Again and again, from the table as it is now.
    for _ in range(2):
        write_measurements(folder, [state], CLASSES)
        assert folder.measurements.read_text() == text
    # The first versions had no tissue.
    folder.measurements.write_text(
        "slide_id,class_index,class_name,pixels,area_mm2,share_of_slide,model\ngone,0,background,60,60,0.6,abc\n"
    )
    write_measurements(folder, [], CLASSES)
    assert folder.measurements.read_text().splitlines()[1] == text.splitlines()[3]
    # What has a state and no result is no longer known; what lost its state did not come from an earlier version.
    write_measurements(folder, [], CLASSES, known=["gone"])
    assert folder.measurements.read_text().splitlines() == text.splitlines()[:1]
    write_measurements(folder, [state], CLASSES)
    write_measurements(folder, [], CLASSES)
    assert folder.measurements.read_text().splitlines() == text.splitlines()[:1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"my,own,table\n1,2,3\n", "has the columns my, own, table"),
        (b"", "has the columns of an empty file"),
        (b"slide\xff", "cannot be read"),
        (EARLIER.encode() + b"b,0,background\n", "has 3 cells under 9 columns in a line"),
    ],
)
def test_another_table_in_its_place_is_refused_before_the_work(
    study: Path, tmp_path: Path, content: bytes, said: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "measurements.csv").write_bytes(content)
    with pytest.raises(
        MaskError, match=rf"measurements.csv: {said}.*Move the file away, or choose another --out"
    ):
        segment_slides([half_tissue(study, tmp_path)], study / "run", out, device="cpu")
    assert [path.name for path in out.iterdir()] == ["measurements.csv"]
    assert (out / "measurements.csv").read_bytes() == content


def counted(tissue: list[bool], labels: list[int]) -> TissueCounts:
    """Counts of a slide of 4 x 1 cells with one sample in each."""
    from wsi_deform.reverse.sampler import ReverseSampler
    from wsi_deform.reverse.samples import FieldSamples

    size = Size(400, 100)
    cells = np.array([tissue])
    points = np.array([[50.0 + 100 * i, 50.0] for i in range(4)])
    field = FieldSamples(kept=Region.whole(size), points_px=points, labels=np.array(labels, np.uint8))
    counts = TissueCounts(cells, size, limit=TissueLimit(cells=cells, size=size, background=0))
    list(counts.limited(ReverseSampler([field], size=size).tiles()))
    return counts


@pytest.mark.parametrize(
    ("tissue", "labels", "expected"),
    [
        ([True, True, True, False], [1, 1, 0, 0], ""),
        ([True, True, True, False], [1, 1, 1, 1], ""),
        (
            [True, False, False, False],
            [1, 1, 1, 1],
            "75% of gland lay outside the tissue and became background",
        ),
        ([False] * 4, [0, 0, 0, 0], "tissue was found on 0.00% of the slide, all else is background"),
        ([False] * 4, [1, 1, 1, 1], "tissue was found on 0.00% of the slide, all else is background"),
    ],
)
def test_a_limit_that_may_be_wrong_is_remarked_upon(
    tissue: list[bool], labels: list[int], expected: str
) -> None:
    found = tissue_remark(counted(tissue, labels), Size(400, 100), CLASSES)
    assert found.startswith(expected)
    assert bool(found) == bool(expected)
    assert not expected or "--no-limit-to-tissue" in found


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (Size(1000, 100), ""),
        (Size(1001, 100), "tissue was found on 0.10% of the slide, all else is background"),
        (Size(4000, 100), "tissue was found on 0.03% of the slide, all else is background"),
    ],
)
def test_little_tissue_is_remarked_upon_below_a_thousandth_of_the_slide(size: Size, expected: str) -> None:
    # One px of each row is tissue.
    cells = np.zeros((1, size.width), bool)
    cells[0, 0] = True
    found = tissue_remark(TissueCounts(cells, size, limit=None), size, CLASSES)
    assert found.startswith(expected)
    assert bool(found) == bool(expected)


def test_without_a_background_class_nothing_is_limited_and_that_is_said(study: Path, tmp_path: Path) -> None:
    names = ["tumour", "stroma", "fat"]
    run = tiny_model(tmp_path / "run", ClassTable.from_names(names))
    segment_slides([half_tissue(study, tmp_path)], run, tmp_path / "out", device="cpu")
    state = Ledger(MaskFolder(tmp_path / "out")).read("a")
    assert (
        state.remark == "no class is the background: labels are not limited to tissue, glass has some class"
    )
    assert sum(state.removed_pixels) == 0
    assert sum(state.class_pixels_in_tissue) == state.tissue_pixels == 320 * 160
