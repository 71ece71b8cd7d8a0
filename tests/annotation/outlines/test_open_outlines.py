"""One contract that every annotation format keeps, and what is done around all of them."""

from __future__ import annotations

import gzip
import threading
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from outline_files import FORMATS as DRAWN_FORMATS
from outline_files import SQUARE, TRIANGLE, Drawn, even_odd_area, shoelace

from wsi_deform.annotation.outlines.open import FORMATS, read_outlines
from wsi_deform.annotation.outlines.stored import AnnotationFile
from wsi_deform.errors import AnnotationError
from wsi_deform.geometry import Point, Size

BOW_TIE = [(0.0, 0.0), (20.0, 20.0), (20.0, 0.0), (0.0, 20.0)]
TWO = [Drawn(SQUARE), Drawn(TRIANGLE, "stroma", (0, 128, 255))]
CROPPED = {"QuPath GeoJSON", "DSA JSON"}
WITH_COLOURS = {"QuPath GeoJSON", "ASAP XML", "ImageScope XML", "Sedeen XML", "DSA JSON"}


def test_every_format_of_the_registry_is_drawn_here():
    assert [each.name for each in FORMATS] == list(DRAWN_FORMATS)


@pytest.mark.parametrize("name", DRAWN_FORMATS)
class TestContract:
    @pytest.fixture
    def draw(self, name: str, tmp_path: Path) -> Callable[[Sequence[Drawn]], Path]:
        def written(drawn: Sequence[Drawn]) -> Path:
            path = tmp_path / "annotations.txt"
            path.write_text(DRAWN_FORMATS[name](drawn), encoding="utf-8")
            return path

        return written

    def test_convention_points_are_level_0_px_not_closed_and_in_the_order_they_were_drawn(self, name, draw):
        found = read_outlines(draw(TWO))
        assert found.format == name
        assert [each.source_class for each in found.outlines] == ["tumour", "stroma"]
        assert [each.number for each in found.outlines] == [1, 2]
        assert [len(each.rings) for each in found.outlines] == [1, 1]
        assert [ring.dtype for each in found.outlines for ring in each.rings] == [np.float64] * 2
        np.testing.assert_array_equal(found.outlines[0].rings[0], SQUARE)
        np.testing.assert_array_equal(found.outlines[1].rings[0], TRIANGLE)
        assert not any(each.erases for each in found.outlines)

    def test_colours_are_rgb(self, name, draw):
        expected = [(200, 0, 10), (0, 128, 255)] if name in WITH_COLOURS else [None, None]
        assert [each.colour for each in read_outlines(draw(TWO)).outlines] == expected

    def test_what_is_no_area_is_counted(self, name, draw):
        (remark,) = read_outlines(draw(TWO)).remarks
        assert remark.endswith(", no areas and left out: 1")

    def test_an_outline_without_a_class_has_none(self, name, draw):
        assert [each.source_class for each in read_outlines(draw([Drawn(SQUARE, None)])).outlines] == [None]

    def test_a_file_without_an_area_has_no_outlines(self, name, draw):
        found = read_outlines(draw([]))
        assert (found.format, found.outlines) == (name, ())

    def test_one_format_and_no_other_recognises_a_file(self, name, draw):
        file = AnnotationFile(draw(TWO))
        assert [each.name for each in FORMATS if each.recognises(file)] == [name]

    def test_gzip_and_a_zip_of_one_file_are_the_same_file(self, name, draw, tmp_path):
        path = draw(TWO)
        (tmp_path / "a.gz").write_bytes(gzip.compress(path.read_bytes()))
        with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.mkdir("folder")
            archive.write(path, "folder/a.geojson")
            archive.writestr("__MACOSX/folder/._a.geojson", b"junk")
        for packed in ("a.gz", "a.zip"):
            found = read_outlines(tmp_path / packed)
            assert found.format == name
            assert [shoelace(each.rings[0]) for each in found.outlines] == [400.0, 200.0]

    def test_a_byte_order_mark_and_space_at_the_start_do_not_matter(self, name, draw):
        path = draw(TWO)
        text = path.read_bytes().removeprefix(b'<?xml version="1.0"?>')
        path.write_bytes(b"\xef\xbb\xbf \n" + text)
        assert len(read_outlines(path).outlines) == 2

    def test_utf_16_and_names_of_any_script_are_read(self, name, draw):
        path = draw([Drawn(SQUARE, "Tumör 腫瘍")])
        text = path.read_text(encoding="utf-8").removeprefix('<?xml version="1.0"?>')
        path.write_text(text, encoding="utf-16")
        assert [each.source_class for each in read_outlines(path).outlines] == ["Tumör 腫瘍"]

    def test_bounds_are_added_where_the_program_shows_the_slide_cropped(self, name, draw):
        found = read_outlines(draw(TWO), bounds=Point(1000, 2000))
        corner = [1010, 2020] if name in CROPPED else [10, 20]
        assert found.outlines[0].rings[0][0].tolist() == corner

    def test_a_ring_that_crosses_itself_is_two_lobes(self, name, draw):
        found = read_outlines(draw([Drawn(SQUARE), Drawn(BOW_TIE)]))
        assert [each.number for each in found.outlines] == [1, 2]
        rings = found.outlines[1].rings
        assert [len(ring) for ring in rings] == [3, 3]
        assert even_odd_area(rings) == pytest.approx(200.0)
        assert any(each.endswith("were repaired: 1") for each in found.remarks)

    def test_repeated_vertices_and_a_repeated_start_are_dropped(self, name, draw):
        doubled = [SQUARE[0], *SQUARE[:2], SQUARE[1], SQUARE[1], *SQUARE[2:], SQUARE[0]]
        found = read_outlines(draw([Drawn(doubled)]))
        np.testing.assert_array_equal(found.outlines[0].rings[0], SQUARE)
        assert not any("repaired" in each for each in found.remarks)

    @pytest.mark.parametrize("ring", [[(1, 1)], [(1, 1), (5, 5)], [(1, 1), (5, 5), (9, 9)], [(3, 3)] * 5])
    def test_what_encloses_nothing_is_left_out_and_counted(self, name, draw, ring):
        found = read_outlines(draw([Drawn(ring), Drawn(TRIANGLE)]))
        assert [each.number for each in found.outlines] == [2]
        said = "Outlines that enclose nothing (fewer than 3 vertices, or all on a line), left out: 1"
        assert said in found.remarks

    def test_a_vertex_that_is_no_number_is_dropped_and_counted(self, name, draw):
        found = read_outlines(draw([Drawn([*SQUARE[:2], (float("nan"), 3.0), *SQUARE[2:]])]))
        np.testing.assert_array_equal(found.outlines[0].rings[0], SQUARE)
        assert "Vertices that are no numbers, left out: 1" in found.remarks

    @pytest.mark.parametrize("far", [1e7, -1e300])
    def test_a_coordinate_beyond_any_slide_is_refused_and_the_feature_named(self, name, draw, far):
        path = draw([Drawn(TRIANGLE), Drawn([*SQUARE, (far, 5.0)])])
        with pytest.raises(
            AnnotationError, match=r"annotations\.txt: feature 2: vertex \(.*4,194,304 at most"
        ):
            read_outlines(path)

    def test_infinity_is_refused(self, name, draw):
        path = draw([Drawn([*SQUARE, (5.0, 1234.5)])])
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("1234.5", "1e999"), encoding="utf-8")
        with pytest.raises(AnnotationError, match=r"feature 1: vertex \(5, inf\)"):
            read_outlines(path)

    def test_a_coordinate_that_is_a_word_is_refused_and_the_feature_named(self, name, draw):
        path = draw([Drawn(TRIANGLE), Drawn([*SQUARE, (5.0, 1234.5)])])
        word = "left" if name.endswith("XML") else '"left"'
        path.write_text(path.read_text(encoding="utf-8").replace("1234.5", word), encoding="utf-8")
        with pytest.raises(AnnotationError, match="feature 2: vertices are .*needed pairs of numbers"):
            read_outlines(path)

    def test_outlines_outside_of_the_slide_are_left_out_and_those_across_its_edge_counted(self, name, draw):
        path = draw([*TWO, Drawn([(x + 500, y) for x, y in SQUARE])])
        found = read_outlines(path, slide_size=Size(60, 100))
        assert [each.number for each in found.outlines] == [1, 2]
        assert found.outlines[1].rings[0].max() == 80.0
        assert "Outlines outside of the slide (60 x 100 px), left out: 1" in found.remarks
        assert "Outlines that reach beyond the slide (60 x 100 px): 1" in found.remarks

    def test_a_file_of_another_slide_is_refused(self, name, draw):
        with pytest.raises(
            AnnotationError, match=r"all outlines lie outside of the slide: from \(10, 20\) to \(70, "
        ):
            read_outlines(draw([Drawn(SQUARE), Drawn(TRIANGLE)]), slide_size=Size(10, 20))

    def test_a_file_that_is_cut_off_is_refused(self, name, draw):
        path = draw(TWO)
        stored = path.read_bytes()
        for share in (0.1, 0.5, 0.99):
            path.write_bytes(stored[: int(len(stored) * share)])
            with pytest.raises(AnnotationError, match=r"annotations\.txt: (no sound|in no format)"):
                read_outlines(path)

    def test_more_bytes_than_the_limit_are_refused(self, name, draw, monkeypatch):
        path = draw(TWO)
        monkeypatch.setenv("WSI_DEFORM_MAX_ANNOTATION_MIB", "0.0001")
        with pytest.raises(
            AnnotationError, match=r"more than 9.92e-05 MiB.*set WSI_DEFORM_MAX_ANNOTATION_MIB"
        ):
            read_outlines(path)


@pytest.mark.parametrize(
    "stored", [b"", b"  ", b"hello", b"\x89PNG\r\n", b"{}", b"[1]", b'{"a": 1}', b"<svg/>", b"null"]
)
def test_what_is_no_annotation_is_refused_and_its_beginning_shown(stored: bytes, tmp_path: Path):
    (tmp_path / "a.geojson").write_bytes(stored)
    with pytest.raises(
        AnnotationError, match=r"a\.geojson: in no format that is known; it begins with '.*ASAP XML"
    ):
        read_outlines(tmp_path / "a.geojson")


def test_a_file_that_is_not_there_and_a_folder_are_refused(tmp_path: Path):
    for path in (tmp_path / "none.xml", tmp_path):
        with pytest.raises(AnnotationError, match="cannot be read"):
            read_outlines(path)


def test_a_gzip_bomb_is_refused_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WSI_DEFORM_MAX_ANNOTATION_MIB", "1")
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(50 << 20)))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.json", bytes(50 << 20))
    for name in ("a.gz", "a.zip"):
        with pytest.raises(AnnotationError, match="more than 1 MiB"):
            read_outlines(tmp_path / name)


def test_a_damaged_gzip_and_zips_of_no_or_several_files_are_refused(tmp_path: Path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"[]")[:-6])
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04rest")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.json", "[]")
        archive.writestr("b.json", "[]")
    for name in ("a.gz", "a.zip"):
        with pytest.raises(AnnotationError, match=f"{name}: cannot be read"):
            read_outlines(tmp_path / name)
    with pytest.raises(AnnotationError, match=r"a zip file of 2 files\. Needed one"):
        read_outlines(tmp_path / "two.zip")


def test_json_that_is_nested_deeply_is_refused(tmp_path: Path):
    (tmp_path / "a.json").write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(AnnotationError, match="nested too deeply"):
        read_outlines(tmp_path / "a.json")


def test_bytes_that_are_no_utf_8_are_refused(tmp_path: Path):
    (tmp_path / "a.json").write_bytes(DRAWN_FORMATS["COCO JSON"]([]).encode() + "Tumör".encode("cp1252"))
    with pytest.raises(AnnotationError, match="no sound JSON .'utf-8' codec"):
        read_outlines(tmp_path / "a.json")


def test_garbage_collection_is_on_again_after_a_file_and_after_an_error(tmp_path: Path):
    import gc

    (tmp_path / "a.json").write_text(DRAWN_FORMATS["COCO JSON"](TWO))
    read_outlines(tmp_path / "a.json")
    assert gc.isenabled()
    with pytest.raises(AnnotationError):
        read_outlines(tmp_path)
    (tmp_path / "a.json").write_text('{"type": "Feature", "geometry": 3}')
    with pytest.raises(AnnotationError):
        read_outlines(tmp_path / "a.json")
    assert gc.isenabled()


def test_threads_read_at_the_same_time(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text(DRAWN_FORMATS["QuPath GeoJSON"](TWO * 50))
    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda: counts.append(len(read_outlines(path).outlines))) for _ in range(4)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert counts == [100] * 4


def test_line_breaks_and_controls_in_a_name_are_spaces(tmp_path: Path):
    drawn = [Drawn(SQUARE, name) for name in ("a\nb", "\x1b[31mred", "a\u2029b", "a  b\u00a0", "\n", "日本")]
    path = tmp_path / "a.geojson"
    path.write_text(DRAWN_FORMATS["QuPath GeoJSON"](drawn), encoding="utf-8")
    names = [each.source_class for each in read_outlines(path).outlines]
    assert names == ["a b", "[31mred", "a b", "a  b", None, "日本"]


def test_half_a_surrogate_pair_in_a_name_does_not_reach_the_screen(tmp_path: Path):
    text = DRAWN_FORMATS["QuPath GeoJSON"]([Drawn(SQUARE, "tumour")]).replace("tumour", "a\\ud800")
    (tmp_path / "a.json").write_text(text)
    assert read_outlines(tmp_path / "a.json").outlines[0].source_class == "a?"
