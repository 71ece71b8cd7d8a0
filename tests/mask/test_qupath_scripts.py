"""The scripts for QuPath: run by Groovy with classes in place of QuPath's, and what can be seen without Java.

The classes in ``tests/qupath_stand_ins`` have the names and signatures of QuPath 0.4 to 0.6 as its source has them, and
do as much as the scripts need: the mask is read by Java's own TIFF reader, outlines become geometries of JTS, and the
overlay paints a picture.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from java_tools import STAND_INS, JavaLoop, compile_java, need_jars
from PIL import Image

from wsi_deform.annotation.classes import class_table_from_data, write_class_table
from wsi_deform.errors import MaskError
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.geojson import write_geojson
from wsi_deform.mask.qupath_scripts import SCRIPTS, qupath_script, write_qupath_scripts
from wsi_deform.mask.tiff import write_mask
from wsi_deform.paths import DOUBLE_SUFFIXES, SLIDE_SUFFIXES, ZARR_SUFFIX
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples
from wsi_deform.slide.find import slide_id_of

IMPORT, SHOW = SCRIPTS
SIZE = Size(900, 500)
SHOWN = Region(100, 50, 700, 400)  # of a slide of which QuPath shows a part
BACKGROUND, TUMOUR, STROMA = (220, 220, 220), (200, 0, 10), (0, 128, 255)
CLASSES = class_table_from_data(
    [
        {"name": "background", "color": list(BACKGROUND)},
        {"name": "tumour: invasive", "color": list(TUMOUR)},
        {"name": "stroma", "color": list(STROMA)},
    ],
    "test",
)
WHITE = (255, 255, 255)


def argb(rgb: tuple[int, int, int]) -> int:
    """A colour as Java holds it: 32 bits, signed."""
    return int.from_bytes(bytes([255, *rgb]), "big", signed=True)


class Groovy(NamedTuple):
    """What runs scripts."""

    loop: JavaLoop

    def run(self, script: Path, folder: Path, **asked: Any) -> tuple[dict[str, Any], str]:
        """Run a script once for each image that is named in ``run``; what came of it, and what it wrote."""
        asked = {"window": True, "open": 0, "run": [0], "classes": {}, "paint": [], "chosen": None, **asked}
        (folder / "asked.json").write_text(json.dumps(asked), encoding="utf-8")
        written = self.loop.ask(script, folder / "asked.json", folder / "results.json")
        return json.loads((folder / "results.json").read_text(encoding="utf-8")), written


@pytest.fixture(scope="module")
def groovy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Groovy]:
    jars = need_jars("groovy-all|groovy", "gson", "jts-core")
    classes = tmp_path_factory.mktemp("stand_ins")
    compile_java(sorted(STAND_INS.rglob("*.java")), jars, classes)
    loop = JavaLoop("Main", [classes, *jars], str(STAND_INS / "run_script.groovy"))
    yield Groovy(loop)
    loop.close()


def labels() -> FieldSamples:
    points = np.random.default_rng(0).random((40, 2)) * [SIZE.width, SIZE.height]
    return FieldSamples(
        kept=Region.whole(SIZE), points_px=points, labels=np.arange(40, dtype=np.uint8) % CLASSES.count
    )


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[MaskFolder, np.ndarray]:
    """OUT with the slides a (all shown), b (a part shown) and c (no outlines), all of the same labels."""
    out = MaskFolder(tmp_path_factory.mktemp("results") / "o'ut \N{LATIN SMALL LETTER E WITH ACUTE}")
    out.mask("a").parent.mkdir(parents=True)
    sampler = ReverseSampler([labels()], size=SIZE, tile_px=128)
    for slide_id in "abc":
        write_mask(out.mask(slide_id), sampler.tiles(), size=SIZE, mpp=0.5, tile_px=128)
    write_class_table(CLASSES, out.classes)
    write_geojson(out.geojson("a"), out.mask("a"), classes=CLASSES)
    write_geojson(out.geojson("b"), out.mask("b"), classes=CLASSES, shown=SHOWN)
    return out, np.asarray(sampler.region(Region.whole(SIZE)))


@pytest.fixture
def scripts(drawn: tuple[MaskFolder, np.ndarray]) -> dict[str, Path]:
    return dict(zip(SCRIPTS, write_qupath_scripts(drawn[0].path), strict=True))


def image(name: str, size: Size | Region = SIZE) -> dict[str, Any]:
    return {"path": f"/slides/{name}", "width": size.width, "height": size.height}


def test_outlines_become_annotations_with_the_names_and_colours_of_their_classes(
    groovy: Groovy, drawn: tuple[MaskFolder, np.ndarray], scripts: dict[str, Path], tmp_path: Path
):
    # QuPath knows one class already, in another colour; the script runs twice for the first image.
    found, written = groovy.run(
        scripts[IMPORT], tmp_path, images=[image("a.svs"), image("b.ome.tif", SHOWN), image("c.svs"), image("d.svs")],
        run=[0, 0, 1, 2, 3], classes={"stroma": 0x123456},
    )  # fmt: skip
    assert found["errors"] == [None] * 5
    pixels = drawn[1]
    shown = pixels[SHOWN.y : SHOWN.bottom, SHOWN.x : SHOWN.right]
    for objects, part in zip(found["annotations"], (pixels, shown), strict=False):
        assert len({each["id"] for each in objects}) == len(objects) > 5
        areas = {"tumour: invasive": 0.0, "stroma": 0.0}
        for each in objects:
            assert each["colour"] == argb({"tumour: invasive": TUMOUR, "stroma": STROMA}[each["name"]])
            areas[each["name"]] += each["area"]
        assert areas == {
            "tumour: invasive": np.count_nonzero(part == 1),
            "stroma": np.count_nonzero(part == 2),
        }
    assert found["annotations"][2:] == [[], []]
    lines = written.splitlines()
    assert lines[0] == lines[1]
    assert lines[0].startswith(f"a.svs: {len(found['annotations'][0])} annotations from ")
    folder = drawn[0].path / "geojson"
    assert lines[3:] == [
        f"NOT FOUND: c.svs: no outlines in {folder}: looked for c.svs.geojson.gz and c.geojson.gz.",
        f"Its mask is there ({drawn[0].mask('c')}): the same `wsi-deform segment` command without --no-geojson makes "
        "the outlines from it.",
        f"NOT FOUND: d.svs: no outlines in {folder}: looked for d.svs.geojson.gz and d.geojson.gz.",
    ]


def test_colours_that_qupath_has_are_kept_where_that_is_asked(
    groovy: Groovy, scripts: dict[str, Path], tmp_path: Path
):
    script = tmp_path / "own.groovy"
    script.write_text(scripts[IMPORT].read_text().replace("setColours = true", "setColours = false"))
    found, _ = groovy.run(script, tmp_path, images=[image("a.svs")], classes={"stroma": 0x123456})
    colours = {each["name"]: each["colour"] for each in found["annotations"][0]}
    assert colours == {"stroma": 0x123456, "tumour: invasive": argb(TUMOUR)}


def test_outlines_of_an_image_of_another_size_are_refused(
    groovy: Groovy, scripts: dict[str, Path], tmp_path: Path
):
    found, _ = groovy.run(scripts[IMPORT], tmp_path, images=[image("b.svs")])
    assert found["errors"] == [
        "b.geojson.gz is for an image of 700 x 400 px, this one has 900 x 500: nothing was imported."
    ]
    assert found["annotations"] == [[]]


def test_a_folder_is_asked_for_once_for_a_project_and_its_absence_is_told(
    groovy: Groovy, drawn: tuple[MaskFolder, np.ndarray], tmp_path: Path
):
    asking, other = tmp_path / "asking.groovy", tmp_path / "other.groovy"
    asking.write_text(qupath_script(IMPORT))
    other.write_text(qupath_script(IMPORT, (tmp_path / "no").as_posix()))
    images = [image("a.svs"), image("d.svs"), image("b.svs", SHOWN)]
    project = {"images": images, "run": [0, 1, 2], "open": None}
    found, _ = groovy.run(asking, tmp_path, **project, chosen=str(drawn[0].path))
    assert (found["errors"], found["asked"]) == ([None] * 3, 1)
    assert [bool(each) for each in found["annotations"]] == [True, False, True]
    found, _ = groovy.run(asking, tmp_path, **project)
    assert (found["errors"], found["asked"]) == (["No folder was chosen: nothing was done."] * 3, 1)
    found, _ = groovy.run(asking, tmp_path, **(project | {"window": False, "run": [0]}))
    assert found["errors"] == [
        "`folder` is empty, and there is no window to ask in. Set it at the top of this script."
    ]
    found, _ = groovy.run(other, tmp_path, images=images)
    assert found["errors"][0].startswith(f"{tmp_path / 'no'} is no folder. Set `folder` at the top")


def test_a_slide_id_takes_the_place_of_the_file_name(
    groovy: Groovy, scripts: dict[str, Path], tmp_path: Path
):
    script = tmp_path / "named.groovy"
    script.write_text(scripts[IMPORT].read_text().replace("slideId = ''", "slideId = 'a'"))
    found, _ = groovy.run(script, tmp_path, images=[image("x.svs")])
    assert len(found["annotations"][0]) > 5


def in_colours(pixels: np.ndarray) -> np.ndarray:
    """Labels in the colours of the classes, over white; background is clear."""
    return np.array([WHITE, TUMOUR, STROMA], np.uint8)[pixels]


def paint(folder: Path, number: int, region: Region, downsample: int, **more: Any) -> dict[str, Any]:
    size = {"width": -(-region.width // downsample), "height": -(-region.height // downsample)}
    out = str(folder / f"{number}.png")
    return {"image": 0, "x": region.x, "y": region.y, "downsample": downsample, "out": out, "shown": True, "at": []} | (
        size | more
    )  # fmt: skip


def test_the_mask_is_painted_in_the_colours_of_its_classes_where_it_lies(
    groovy: Groovy, drawn: tuple[MaskFolder, np.ndarray], scripts: dict[str, Path], tmp_path: Path
):
    pixels = drawn[1]
    shown = pixels[SHOWN.y : SHOWN.bottom, SHOWN.x : SHOWN.right]
    whole, part = Region.whole(SIZE), Region(130, 40, 300, 200)
    here = [[300, 200], [0, 0], [699, 399]]
    found, written = groovy.run(
        scripts[SHOW], tmp_path, images=[image("a.svs"), image("b.ome.tif", SHOWN), image("d.svs")],
        paint=[
            paint(tmp_path, 0, whole, 1),
            paint(tmp_path, 1, part, 1, image=1, at=here),
            paint(tmp_path, 2, whole, 4),
            paint(tmp_path, 3, whole, 1, shown=False),
            paint(tmp_path, 4, whole, 1, image=2),
        ],
    )  # fmt: skip
    assert found["errors"] == [None]
    assert found["overlay"] == "WsiDeformOverlay"
    seen = [np.asarray(Image.open(tmp_path / f"{number}.png").convert("RGB")) for number in range(5)]
    np.testing.assert_array_equal(seen[0], in_colours(pixels))
    assert {tuple(each) for each in seen[0].reshape(-1, 3)} == {WHITE, TUMOUR, STROMA}
    # The part of the slide that QuPath shows, without what lies beside it.
    np.testing.assert_array_equal(seen[1], in_colours(shown[40:240, 130:430]))
    # A level of the mask, of which no pixel is blended with its neighbours.
    assert {tuple(each) for each in seen[2].reshape(-1, 3)} <= {WHITE, TUMOUR, STROMA}
    agree = (seen[2] == in_colours(pixels[2::4, 2::4])).all(axis=2).mean()
    assert agree > 0.97
    assert {read.split(":")[0] for read in found["reads"]} == {"0", "2"}
    assert (seen[3] == 255).all()
    assert (seen[4] == 255).all()
    names = {0: None, 1: "Class: tumour: invasive", 2: "Class: stroma"}
    assert found["locations"][1] == [names[int(shown[200, 300])], None, None]  # the corners were not painted
    assert written.splitlines()[1:] == [
        f"LOG NOT FOUND: d.svs: no mask in {drawn[0].path / 'masks'}: looked for d.svs.ome.tif and d.ome.tif."
    ]


def test_for_a_project_one_overlay_is_put_there_and_each_image_is_told_of(
    groovy: Groovy, drawn: tuple[MaskFolder, np.ndarray], scripts: dict[str, Path], tmp_path: Path
):
    images = [image("a.svs"), image("b.svs", SHOWN), image("c.svs"), image("c.svs", SHOWN), image("d.svs")]
    found, written = groovy.run(
        scripts[SHOW], tmp_path, images=images, run=[0, 1, 2, 3, 4], open=None,
        paint=[paint(tmp_path, 0, Region(0, 0, 100, 80), 1, image=1)],
    )  # fmt: skip
    assert found["errors"] == [None] * 5
    said = [line for line in written.splitlines() if not line.startswith("LOG ")]
    masks = drawn[0].path / "masks"
    assert said == [
        f"a.svs: {masks / 'a.ome.tif'}",
        f"b.svs: {masks / 'b.ome.tif'}",
        f"c.svs: {masks / 'c.ome.tif'}",
        "NOT SHOWN: c.ome.tif is for an image of 900 x 500 px, this one has 700 x 400. QuPath may show a part of the "
        "slide: run `wsi-deform segment` without --no-geojson, the outlines say which.",
        f"NOT FOUND: d.svs: no mask in {masks}: looked for d.svs.ome.tif and d.ome.tif.",
    ]
    # The first overlay stays, and finds the mask of the second image; files of the others are given back.
    shown = drawn[1][SHOWN.y : SHOWN.bottom, SHOWN.x : SHOWN.right]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "0.png")), in_colours(shown[:80, :100]))
    assert (found["opened"], found["closed"]) == (5, 3)


def test_run_again_the_overlay_takes_the_place_of_the_one_before(
    groovy: Groovy, scripts: dict[str, Path], tmp_path: Path
):
    found, _ = groovy.run(scripts[SHOW], tmp_path, images=[image("a.svs")], run=[0, 0])
    assert found["overlay"] == "WsiDeformOverlay"
    assert (found["opened"], found["closed"]) == (2, 1)


def test_a_folder_without_a_class_table_shows_nothing_and_says_so(
    groovy: Groovy, drawn: tuple[MaskFolder, np.ndarray], tmp_path: Path
):
    shutil.copytree(drawn[0].path / "masks", tmp_path / "out" / "masks")
    script = write_qupath_scripts(tmp_path / "out")[1]
    found, _ = groovy.run(script, tmp_path, images=[image("a.svs")])
    assert found["errors"] == [
        f"NOT FOUND: classes.json in {tmp_path / 'out'}, with the colours of the classes. Is it the --out folder of "
        "`wsi-deform segment`?"
    ]
    assert found["overlay"] is None


def test_scripts_name_slides_as_segment_does():
    for name in SCRIPTS:
        script = qupath_script(name)
        (pattern,) = re.findall(r"SUFFIX = ~/(.*)/$", script, re.MULTILINE)
        (forbidden,) = re.findall(r"FORBIDDEN = ~/(.*)/$", script, re.MULTILINE)
        suffixes = [*SLIDE_SUFFIXES, *DOUBLE_SUFFIXES, ZARR_SUFFIX, ".SVS", ".OME.TIFF", ".txt", ""]
        for stem in ("a", "a.b", "TCGA-1.2-x", "a.ome", "a: b", ""):
            for slide in filter(None, (f"{stem}{suffix}" for suffix in suffixes)):
                found = re.sub(forbidden, "_", re.sub(pattern, "", slide, count=1))
                assert found == slide_id_of(Path(slide)), slide


def test_scripts_look_for_the_files_where_segment_writes_them():
    folder = MaskFolder(Path("out"))
    for kind, path in (("geojson", folder.geojson("a")), ("masks", folder.mask("a"))):
        suffix = path.name.removeprefix("a")
        assert path.parent == Path("out", kind)
        assert any(f"'{kind}', '{suffix}'" in qupath_script(name) for name in SCRIPTS)
    assert folder.classes.name == "classes.json"
    assert "'classes.json'" in qupath_script(SHOW)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_ascii_and_close_every_bracket_outside_of_strings(name: str):
    text = qupath_script(name, "/a'b\\c/\N{LATIN SMALL LETTER E WITH ACUTE}")
    assert text.isascii()
    assert r"String folder = '/a\'b\\c/\u00e9'" in text
    assert "@results@" not in text
    assert text.count("class WsiDeformResults {") == 1
    bare = re.sub(
        r"/\*.*?\*/|//[^\n]*|~/[^\n]*/\n|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"", "", text, flags=re.DOTALL
    )
    for opening, closing in ("()", "[]", "{}"):
        assert bare.count(opening) == bare.count(closing)


def test_the_folder_is_named_where_it_holds_masks_and_asked_for_elsewhere(tmp_path: Path):
    for path in write_qupath_scripts(tmp_path / "empty"):
        assert "String folder = ''\n" in path.read_text()
    (tmp_path / "out" / "masks").mkdir(parents=True)
    paths = write_qupath_scripts(tmp_path / "out")
    assert [path.relative_to(tmp_path / "out").as_posix() for path in paths] == [
        f"qupath/{name}" for name in SCRIPTS
    ]
    for path in paths:
        assert f"String folder = '{(tmp_path / 'out').as_posix()}'\n" in path.read_text()


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MaskError, match=r"import_annotations\.groovy: cannot be written"):
        write_qupath_scripts(tmp_path / "file")
