"""What the page lists: slides of results folders of any version, while they are made, and slides alone."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from drawn_results import MPP, SIZE, drawn_results, drawn_slide

from wsi_deform.distribute.ledger import Ledger, State
from wsi_deform.errors import SlideError
from wsi_deform.geometry import Point
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.viewer.catalogue import Results, Slides, catalogue_of
from wsi_deform.viewer.opened import Opened, open_entry

NO_PROCESS = 2**22 + 1  # beyond what Linux gives


def statuses(out: MaskFolder) -> dict[str, str]:
    return {each.slide_id: each.status for each in Results(out.path).entries()}


def started(out: MaskFolder, slide_id: str, **known: object) -> None:
    Ledger(out).write(State(slide_id=slide_id, status="running", **known))


def test_finished_slide_has_its_files_its_scale_and_its_size(tmp_path: Path) -> None:
    out = drawn_results(tmp_path / "out")
    (entry,) = catalogue_of(tmp_path / "out").entries()
    assert (entry.slide_id, entry.status, entry.mask_size, entry.mpp) == (
        "case 1",
        "done",
        SIZE,
        Point(MPP, MPP),
    )
    assert entry.files["mask"] == out.mask("case 1")
    assert set(entry.files) == {
        "samples",
        "probabilities",
        "footprint",
        "geojson",
        "mask",
    }  # no overlay was drawn


def test_states_follow_the_batch_while_it_runs(tmp_path: Path) -> None:
    out = drawn_results(tmp_path / "out", maps=False)
    catalogue = Results(out.path)
    started(out, "b", host=socket.gethostname(), pid=os.getpid())
    assert statuses(out) == {"b": "stopped", "case 1": "done"}  # nobody has claimed it
    out.lease("b").touch()
    assert statuses(out) == {"b": "running", "case 1": "done"}
    before = catalogue.entry("b")
    Ledger(out).write(State(slide_id="b", status="failed", error="no mpp.\n  Needed one."))
    after = catalogue.entry("b")
    assert before is not None
    assert after is not None
    assert (after.status, after.reason) == ("failed", "no mpp. Needed one.")
    assert before.version != after.version


def test_slide_whose_process_is_gone_was_cut_off(tmp_path: Path) -> None:
    out = MaskFolder(tmp_path)
    started(out, "here", host=socket.gethostname(), pid=NO_PROCESS)
    started(out, "there", host="another-machine", pid=NO_PROCESS)
    for name in ("here", "there"):
        out.lease(name).touch()
    assert statuses(out) == {"here": "stopped", "there": "running"}


def test_slide_that_failed_anew_still_shows_its_earlier_result(tmp_path: Path) -> None:
    out = drawn_results(tmp_path / "out", maps=False)
    done = Ledger(out).read("case 1")
    Ledger(out).write(State(slide_id="case 1", status="failed", error="disk full", kept=done))
    entry = Results(out.path).entry("case 1")
    assert entry is not None
    assert (entry.status, entry.reason, entry.mask_size) == ("failed", "disk full", SIZE)


def test_masks_of_a_version_without_states_are_shown_with_the_areas_of_their_table(tmp_path: Path) -> None:
    out = drawn_results(tmp_path / "out", maps=False)
    out.state("case 1").unlink()
    out.states.rmdir()
    out.samples("case 1").unlink()
    catalogue = catalogue_of(tmp_path / "out")
    entry = catalogue.entry("case 1")
    assert entry is not None
    assert (entry.status, entry.slide, entry.state) == ("done", None, None)
    assert [row["mm2"] for row in catalogue.rows("case 1")] == ["0", "0.11375", "0.11375"]
    opened = open_entry(entry)
    assert opened.frame.slide_size == SIZE
    assert opened.remarks == ("where the slide lies is not known: it is not shown",)


@pytest.mark.parametrize("name", ["../case 1", "..", "", "case 1/../case 1", "case 1.json", "case 2"])
def test_ids_that_the_folder_does_not_have_are_nothing(tmp_path: Path, name: str) -> None:
    assert Results(drawn_results(tmp_path / "out", maps=False).path).entry(name) is None


def test_hidden_files_are_no_slides(tmp_path: Path) -> None:
    out = drawn_results(tmp_path / "out", maps=False)
    (out.path / "masks" / ".aside-1-b.ome.tif").touch()
    out.lease("b").touch()
    assert list(statuses(out)) == ["case 1"]


def test_slides_of_one_name_in_two_folders_are_told_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        drawn_slide(tmp_path / folder / "s.tif")
    catalogue = catalogue_of(tmp_path)
    assert [each.slide_id for each in catalogue.entries()] == ["s", "s (2)"]
    assert catalogue.title == "2 slides"
    found = catalogue.entry("s (2)")
    assert found is not None
    assert found.slide == tmp_path / "b" / "s.tif"


def test_one_slide_is_shown_alone(tmp_path: Path) -> None:
    slide = drawn_slide(tmp_path / "s.tif")
    catalogue = catalogue_of(str(slide))
    assert isinstance(catalogue, Slides)
    assert [(each.slide_id, each.status) for each in catalogue.entries()] == [("s", "slide")]
    assert catalogue.classes is None


def test_path_that_shows_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"does not exist. Needed a folder of masks, or a slide"):
        catalogue_of(tmp_path / "missing")
    with pytest.raises(SlideError, match="neither slides in it nor masks"):
        catalogue_of(tmp_path)


def test_mask_of_a_slide_that_was_moved_is_shown_without_it(tmp_path: Path) -> None:
    out = drawn_results(tmp_path / "out", maps=False)
    (tmp_path / "slides" / "case 1.tif").unlink()
    entry = Results(out.path).entry("case 1")
    assert entry is not None
    opened = open_entry(entry)
    assert opened.slide is None
    assert set(opened.layers) == {"mask"}
    assert "the slide is not shown: " in opened.remarks[0]
    assert "cannot be found" in opened.remarks[0]
    assert opened.um_per_px == MPP


def test_slide_that_was_replaced_is_remarked_upon(tmp_path: Path) -> None:
    out = drawn_results(tmp_path / "out", maps=False)
    drawn_slide(tmp_path / "slides" / "case 1.tif", seed=1)
    entry = Results(out.path).entry("case 1")
    assert entry is not None
    assert open_entry(entry).remarks == ("the slide file has changed since it was segmented",)


def test_mask_that_is_damaged_leaves_the_slide(tmp_path: Path) -> None:
    out = drawn_results(tmp_path / "out", maps=False)
    out.mask("case 1").write_bytes(b"II*\x00")
    entry = Results(out.path).entry("case 1")
    assert entry is not None
    opened = open_entry(entry)
    assert opened.slide is not None
    assert opened.layers == {}
    assert opened.remarks[0].startswith("its mask cannot be shown: ")


def test_only_the_newest_few_slides_stay_open(tmp_path: Path) -> None:
    for number in range(4):
        drawn_slide(tmp_path / f"{number}.tif")
    opened = Opened(most=2)
    first, *others = catalogue_of(tmp_path).entries()
    held = opened.get(first)
    assert opened.get(first) is held
    for entry in others:
        opened.get(entry)
    assert opened.count == 2
    assert opened.get(first) is not held
