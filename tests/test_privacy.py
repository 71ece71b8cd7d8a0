"""Labels, macro images, barcodes and names of people stay in the slide's file; names of slides can be left out."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tifffile
from dicom_files import RAW, write_dicom
from PIL import Image
from tiny_study import tiny_model
from typer.testing import CliRunner

from wsi_deform.annotation.classes import ClassTable, write_class_table
from wsi_deform.anonymous import AnonymousNames
from wsi_deform.cli.main import typer_app as app
from wsi_deform.errors import MaskError

# A colour and texts that no slide, class or page has.
LABEL_RGB = (0, 255, 64)
SECRETS = ("BARCODE4711", "SMITHANNA", "DRDOE")
SLIDE_ID = "S23-04711-Miller"
MODEL = "run"


def call(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def tissue() -> np.ndarray:
    rng = np.random.default_rng(0)
    image = np.full((512, 768, 3), 240, np.uint8)
    image[100:400, 100:600] = (180, 90, 160)
    return np.clip(image + rng.integers(-8, 8, image.shape), 0, 255).astype(np.uint8)


def label() -> np.ndarray:
    return np.full((160, 200, 3), LABEL_RGB, np.uint8)


def draw_svs(path: Path) -> None:
    """An Aperio slide whose label, macro and thumbnail page have the colour of the label."""
    how = {"photometric": "rgb", "metadata": None}
    text = (
        f"Aperio Image Library v11.2.1 \r\n768x512 |AppMag = 20|MPP = 0.5|Barcode = {SECRETS[0]}|"
        f"Patient = {SECRETS[1]}|User = {SECRETS[2]}"
    )
    with tifffile.TiffWriter(path) as tif:
        tif.write(tissue(), description=text, tile=(128, 128), compression="deflate", **how)
        tif.write(label(), description=text.split("|")[0], **how)
        for name, flag in (("label", 1), ("macro", 9)):
            tif.write(
                label(), description=f"Aperio Image Library \r\n{name} 200x160", subfiletype=flag, **how
            )


def draw_ome(path: Path) -> None:
    """An OME-TIFF whose label and macro are images of their own."""
    size = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}
    how = {"photometric": "rgb", "compression": "deflate"}
    with tifffile.TiffWriter(path, ome=True) as tif:
        about = {"Description": " ".join(SECRETS), "Name": "scan"}
        tif.write(tissue(), metadata={"axes": "YXS", **size, **about}, tile=(128, 128), **how)
        for name in ("label image", "macro image"):
            tif.write(label(), metadata={"axes": "YXS", "Name": name}, **how)


def draw_dicom(path: Path) -> None:
    """A DICOM series whose label, overview and thumbnail are files beside the slide; all name the patient."""
    path.mkdir()

    def about(dataset: pydicom.Dataset) -> None:
        dataset.PatientName, dataset.PatientID = SECRETS[1], SECRETS[1]
        dataset.ContainerIdentifier, dataset.BarcodeValue = SECRETS[0], SECRETS[0]
        dataset.SeriesDescription = f"{SECRETS[0]} of {SECRETS[1]}"
        dataset.OperatorsName = dataset.ReferringPhysicianName = SECRETS[2]

    how = {"syntax": RAW, "encode": None, "photometric": "RGB", "change": about}
    write_dicom(path / "slide.dcm", tissue(), **how)
    for kind in ("LABEL", "OVERVIEW", "THUMBNAIL"):
        write_dicom(path / f"{kind.lower()}.dcm", label(), kind=kind, **how)


DRAWN = {".svs": draw_svs, ".ome.tif": draw_ome, "": draw_dicom}


@pytest.fixture(scope="module", params=list(DRAWN))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a slide, and all that the commands make of it: masks, maps, cache, pages, thumbnail."""
    folder = tmp_path_factory.mktemp("privacy")
    slide = folder / "slides" / f"{SLIDE_ID}{request.param}"
    slide.parent.mkdir()
    DRAWN[request.param](slide)
    classes = ClassTable.from_names(["background", "gland", "stroma"])
    tiny_model(folder / MODEL, classes)
    write_class_table(classes, folder / "classes.json")
    labels = np.zeros((512, 768), np.uint8)
    labels[120:300, 120:400] = 1
    labels[310:390, 120:400] = 2
    Image.fromarray(labels).save(folder / "labels.png")
    (folder / "m.csv").write_text(
        f"slide_id,slide,patient,split,mask\n{SLIDE_ID},slides/{slide.name},Anna Miller,test,labels.png\n"
        f"gone-Jones,slides/gone-Jones.svs,Tom Jones,test,labels.png\n"
    )
    (folder / "slides" / "gone-Jones.svs").write_bytes(b"not a slide of Tom Jones")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WSI_DEFORM_CACHE", str(folder / "made" / "cache"))
        # Small slides too get a sidecar of coarse levels.
        patch.setattr("wsi_deform.slide.levels.virtual.MAX_DECODED_BYTES", 1000)
        out = folder / "made" / "out"
        done = CliRunner().invoke(
            app,
            ["segment", "--slides", str(folder / "m.csv"), "--model", str(folder / MODEL), "--out", str(out),
             "--probabilities", "--footprint", "--device", "cpu", "--split", "test"],
        )  # fmt: skip
        assert "1 done" in done.output, done.output
        said = call("inspect", slide, "--thumbnail", folder / "made" / "thumbnail.png")
        (folder / "made" / "inspected.txt").write_text(said)
        CliRunner().invoke(
            app,
            ["evaluate", "--slides", str(folder / "m.csv"), "--masks", str(out),
             "--classes", str(folder / "classes.json")],
        )  # fmt: skip
        call("report", out)
    return folder


def bytes_in(folder: Path) -> Iterator[tuple[str, bytes]]:
    """All files of a folder, and what is packed in them."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        data = path.read_bytes()
        yield path.name, data
        if path.suffix == ".gz":
            yield path.name, gzip.decompress(data)
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as packed:
                yield from ((f"{path.name}:{name}", packed.read(name)) for name in packed.namelist())
        for packed_text in re.findall(rb"base64,([A-Za-z0-9+/=]+)", data):
            yield f"{path.name}:picture", base64.b64decode(packed_text)


def test_no_barcode_and_no_name_of_a_person_is_in_anything_that_is_made(made: Path):
    names = [name for name, _ in bytes_in(made / "made")]
    assert {f"{SLIDE_ID}.ome.tif", f"{SLIDE_ID}.npz", f"{SLIDE_ID}.jpg", "report.html", "measurements.csv",
            "thumbnail.png", "inspected.txt", "evaluation.json"} <= set(names)  # fmt: skip
    assert len(list((made / "made" / "cache").rglob("*"))) > 0
    for name, data in bytes_in(made / "made"):
        for secret in SECRETS:
            assert secret.encode() not in data, (name, secret)
            assert secret.encode("utf-16-le") not in data, (name, secret)


def test_no_picture_has_the_colour_of_the_label_and_no_cache_its_pixels(made: Path):
    pictures = 0
    for name, data in bytes_in(made / "made"):
        assert bytes(LABEL_RGB) * 8 not in data, name
        try:
            with Image.open(io.BytesIO(data)) as opened:
                pixels = np.asarray(opened.convert("RGB")).astype(int)
        except (OSError, SyntaxError):
            continue
        pictures += 1
        near = (np.abs(pixels - LABEL_RGB) <= 30).all(axis=2)
        assert not near.any(), name
    assert pictures >= 5  # overlay, thumbnail, and those of the page


def test_the_check_would_see_the_label(made: Path, tmp_path: Path):
    """The unique colour is in the file, and JPEG keeps it within what is looked for."""
    slide = next((made / "slides").glob(f"{SLIDE_ID}*"))
    if slide.is_dir():
        stored = [one.read_bytes() for one in slide.iterdir()]
    else:
        with tifffile.TiffFile(slide) as tif:
            stored = [page.asarray().tobytes() for page in tif.pages]
    assert any(bytes(LABEL_RGB) * 8 in pixels for pixels in stored)
    Image.fromarray(label()).save(tmp_path / "a.jpg", quality=75)
    with Image.open(tmp_path / "a.jpg") as opened:
        assert (np.abs(np.asarray(opened).astype(int) - LABEL_RGB) <= 30).all()


def names_in(data: bytes) -> list[str]:
    return [name for name in (SLIDE_ID, "Miller", "S23-", "Jones") if name.encode() in data]


def test_an_anonymous_report_has_ids_alone_the_same_each_time(made: Path, tmp_path: Path):
    out = made / "made" / "out"
    assert names_in((out / "report.html").read_bytes()) == [SLIDE_ID, "Miller", "S23-", "Jones"]
    before = set(made.rglob("*"))
    page = Path(call("report", out, "--anonymous").strip())
    first = page.read_bytes()
    assert names_in(first) == []
    assert str(made).encode() not in first
    ids = sorted(set(re.findall(rb"slide-[0-9a-f]{10}", first)))
    assert len(ids) == 2
    assert {path.name for path in set(made.rglob("*")) - before} <= {".anonymous"}  # no key file unasked
    call("report", out, "--anonymous", "--key", tmp_path / "key.csv")
    assert page.read_bytes() == first
    with (tmp_path / "key.csv").open() as file:
        key = {row["name"]: row["id"] for row in csv.DictReader(file)}
    # The table of the slides says whose they are, by ids.
    assert set(key) == {SLIDE_ID, "gone-Jones", "Anna Miller"}
    assert key.pop("Anna Miller").encode() in first
    assert sorted(key.values()) == [each.decode() for each in ids]
    call("report", out)


def test_an_anonymous_evaluation_has_the_ids_of_the_report(made: Path, tmp_path: Path):
    out = made / "made" / "out"
    done = CliRunner().invoke(
        app,
        ["evaluate", "--slides", str(made / "m.csv"), "--masks", str(out), "--classes", str(made / "classes.json"),
         "--out", str(tmp_path / "shared"), "--anonymous", "--key", str(tmp_path / "key.csv")],
    )  # fmt: skip
    assert done.exit_code == 1  # the slide that is gone was not measured
    files = list(bytes_in(tmp_path / "shared")) + [
        (name, (tmp_path / name).read_bytes()) for name in ("shared.json", "shared.csv")
    ]
    assert len(files) > 8
    for name, data in files:
        assert names_in(data) == [], name
        assert b"Anna" not in data, name
        assert str(made).encode() not in data, name
    data = json.loads((tmp_path / "shared.json").read_text())
    assert re.fullmatch(r"patient-[0-9a-f]{10}", data["slides"][0]["patient"])
    assert data["slides"][0]["slide_id"] == AnonymousNames(out).slide(SLIDE_ID)
    assert SLIDE_ID in (tmp_path / "key.csv").read_text()


def test_ids_differ_between_folders_unless_a_key_file_says_otherwise(tmp_path: Path):
    for name in "ab":
        (tmp_path / name).mkdir()
    a, again, b = (AnonymousNames(tmp_path / name) for name in "aab")
    found = a.slide("S1")
    assert re.fullmatch(r"slide-[0-9a-f]{10}", found)
    assert again.slide("S1") == found == a.slide(found)
    assert b.slide("S1") != found
    assert a.slide("S2") != found
    assert a.patient("S1").removeprefix("patient-") != found.removeprefix("slide-")
    a.slide("=SUM(1)")
    a.write_key(tmp_path / "key.csv")
    joined = AnonymousNames(tmp_path / "b", key_file=tmp_path / "key.csv")
    assert (joined.slide("S1"), joined.slide("=SUM(1)")) == (found, a.slide("=SUM(1)"))


def test_a_file_that_is_no_key_file_stays_as_it_is(tmp_path: Path):
    other = tmp_path / "manifest.csv"
    other.write_text("slide_id,slide\nS1,a.svs\n")
    with pytest.raises(MaskError, match=r"manifest\.csv: not a key file.*stays as it is"):
        AnonymousNames(tmp_path, key_file=other)
    assert other.read_text() == "slide_id,slide\nS1,a.svs\n"


def test_a_damaged_secret_is_named(tmp_path: Path):
    (tmp_path / ".anonymous").write_text("zz")
    with pytest.raises(MaskError, match=r"\.anonymous: cannot be read"):
        AnonymousNames(tmp_path)
