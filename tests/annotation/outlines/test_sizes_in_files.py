"""Files that say how large their image is: of another scale or of another slide they are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from outline_files import SQUARE, coco, darwin, sedeen

from wsi_deform.annotation.outlines.open import read_outlines
from wsi_deform.errors import AnnotationError
from wsi_deform.geometry import Size


def coco_of(width: object, height: object) -> str:
    data = json.loads(coco([]))
    data["annotations"] = [
        {"image_id": 7, "segmentation": [[value for pair in SQUARE for value in pair]], "category_id": 3}
    ]
    data["categories"] = [{"id": 3, "name": "tumour"}]
    data["images"][0] |= {"width": width, "height": height}
    return json.dumps(data)


def run_lengths_of(width: int, height: int) -> str:
    data = json.loads(coco_of(None, None))
    data["annotations"][0]["segmentation"] = {
        "size": [height, width],
        "counts": [21 * height + 20, 5, width * height - 21 * height - 25],
    }
    return json.dumps(data)


def darwin_of(width: object, height: object) -> str:
    data = json.loads(darwin([]))
    path = [{"x": x, "y": y} for x, y in SQUARE]
    data["annotations"] = [{"name": "tumour", "polygon": {"paths": [path]}, "slot_names": ["0"]}]
    data["item"]["slots"] = [{"slot_name": "0", "width": width, "height": height}]
    return json.dumps(data)


def sedeen_of(width: object, height: object) -> str:
    points = "".join(f"<point>{x},{y}</point>" for x, y in SQUARE)
    graphic = f'<graphic type="polygon" name="tumour"><point-list>{points}</point-list></graphic>'
    return (
        sedeen([])
        .replace("<overlays>", f"<overlays>{graphic}")
        .replace("<transform>", f"<dimensions>{width},{height}</dimensions><transform>")
    )


WRITERS = {
    "coco": coco_of,
    "run lengths": run_lengths_of,
    "darwin": darwin_of,
    "sedeen": sedeen_of,
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize(("width", "height"), [(400, 250), (1600, 1000), (800, 400), (500, 800)])
def test_an_image_of_another_scale_is_refused(write, width: int, height: int, tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text(write(width, height))
    with pytest.raises(AnnotationError) as error:
        read_outlines(path, slide_size=Size(800, 500))
    assert str(error.value) == (
        f"annotations {path}: its image has {width} x {height} px, and the slide 800 x 500 px: the outlines are of "
        "another scale or of another slide. Needed outlines in px of the slide's finest level. Export them at full "
        "resolution."
    )
    assert len(read_outlines(path).outlines) == 1


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_padded_image_is_read_with_a_remark_and_one_of_the_same_size_without(write, tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text(write(768, 512))
    said = "Images of 768 x 512 px, where the slide has another size (800 x 500 px): 1"
    assert said in read_outlines(path, slide_size=Size(800, 500)).remarks
    path.write_text(write(800, 500))
    assert not any("another size" in each for each in read_outlines(path, slide_size=Size(800, 500)).remarks)


@pytest.mark.parametrize("write", [coco_of, darwin_of, sedeen_of])
@pytest.mark.parametrize("side", [0, -5, "x"])
def test_what_is_no_size_says_nothing(write, side: object, tmp_path: Path):
    (tmp_path / "a.txt").write_text(write(side, 500))
    (outline,) = read_outlines(tmp_path / "a.txt", slide_size=Size(800, 500)).outlines
    assert outline.rings[0].tolist() == [list(pair) for pair in SQUARE]
