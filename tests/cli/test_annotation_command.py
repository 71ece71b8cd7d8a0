"""`wsi-deform annotation` as a user meets it."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from wsi_deform.annotation.classes import ClassTable, read_class_table, write_class_table
from wsi_deform.cli.main import app, typer_app

GREEN, RED = (0, 200, 0), (200, 0, 0)


def run(*arguments):
    done = CliRunner().invoke(typer_app, ["annotation", *map(str, arguments)])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout.splitlines()


@pytest.fixture
def folder(tmp_path):
    """A slide of 300 x 200 px at 0.5 um with a gland of 100 x 100 px, and in it a hole, and a tumour of 20 x 10 px."""
    scale = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(tmp_path / "s.tif", np.full((200, 300, 3), 240, np.uint8), tile=(64, 64), **scale)
    rings = [
        [[50, 50], [150, 50], [150, 150], [50, 150], [50, 50]],
        [[80, 80], [120, 80], [120, 120], [80, 120], [80, 80]],
    ]
    small = [[[200, 20], [220, 20], [220, 30], [200, 30], [200, 20]]]
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": each},
            "properties": {
                "objectType": "annotation",
                "classification": {"name": name, "color": list(colour)},
            },
        }
        for name, each, colour in (("Gland", rings, GREEN), ("tumour", small, RED))
    ]
    (tmp_path / "o.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    (tmp_path / "classes.yaml").write_text(
        "classes: [background, {name: gland, color: [0, 200, 0]}, {name: tumour, color: [200, 0, 0]}]"
    )
    return tmp_path


def test_to_mask_writes_the_classes_of_the_table(folder):
    common = ("to-mask", folder / "s.tif", folder / "o.geojson", "--classes", folder / "classes.yaml")
    out = folder / "new" / "m.ome.tif"
    assert run(*common, "--out", out) == [f"{out}: 300 x 200 px."]
    found = tifffile.imread(out)
    assert np.bincount(found.ravel()).tolist() == [60_000 - 8_400 - 200, 8_400, 200]
    assert (found[20:30, 200:220] == 2).all()
    run(*common, "--out", out, "--outside", "unlabelled", "--order", "classes")
    assert np.bincount(tifffile.imread(out).ravel())[[0, 1, 2, 255]].tolist() == [0, 8_400, 200, 51_400]
    assert run(*common, "--out", out, "--mpp", "2") == [f"{out}: 75 x 50 px."]
    assert np.bincount(tifffile.imread(out).ravel())[1] == pytest.approx(8_400 / 16, rel=0.05)


def test_to_mask_says_what_it_left_out(folder):
    text = (
        (folder / "o.geojson")
        .read_text()
        .replace("[200, 20], [220, 20], [220, 30], [200, 30], [200, 20]", "[900, 20], [920, 20], [920, 30]")
    )
    (folder / "o.geojson").write_text(text)
    common = ["to-mask", "s.tif", "o.geojson", "--classes", "classes.yaml", "--out", "m.ome.tif"]
    done = CliRunner().invoke(
        typer_app, ["annotation", *[str(folder / each) if "." in each else each for each in common]]
    )
    assert done.stderr == "remark: o.geojson: Outlines outside of the slide (300 x 200 px), left out: 1.\n"


def test_overlaps_follow_the_option(folder):
    data = json.loads((folder / "o.geojson").read_text())
    data["features"][1]["geometry"]["coordinates"] = [[[60, 60], [70, 60], [70, 70], [60, 70], [60, 60]]]
    data["features"].reverse()
    (folder / "o.geojson").write_text(json.dumps(data))
    common = ("to-mask", folder / "s.tif", folder / "o.geojson", "--classes", folder / "classes.yaml")
    for order, tumour in ((None, 0), ("drawing", 0), ("classes", 100)):
        run(*common, "--out", folder / "m.ome.tif", *([] if order is None else ["--order", order]))
        assert (tifffile.imread(folder / "m.ome.tif") == 2).sum() == tumour


def test_show_draws_outlines_in_their_colours_above_a_legend(folder):
    out = folder / "p.png"
    said = run(
        "show", folder / "s.tif", folder / "o.geojson", "--out", out, "--classes", folder / "classes.yaml"
    )
    assert said == [f"{out}: 2 outlines, QuPath GeoJSON."]
    picture = np.asarray(Image.open(out))
    assert picture.shape[1] == 300
    assert picture.shape[0] > 200
    green, red = ((picture[:200] == colour).all(axis=2) for colour in (GREEN, RED))
    assert green[50, 60:140].all()
    assert green[60:110, 80].sum() >= 10  # the hole has a line too
    assert red[20, 202:218].all()
    assert not green[:, 160:].any()
    # Tinted inside, clear outside and in the hole.
    assert picture[65, 65].tolist() == [168, 228, 168]
    assert picture[100, 100].tolist() == picture[10, 10].tolist() == [240, 240, 240]
    legend = picture[200:]
    assert (legend == GREEN).all(axis=2).any()
    assert (legend == RED).all(axis=2).any()


def test_show_takes_every_name_for_a_class_without_a_table(folder):
    run("show", folder / "s.tif", folder / "o.geojson", "--out", folder / "p.png", "--side", "100")
    picture = np.asarray(Image.open(folder / "p.png"))
    assert (picture == GREEN).all(axis=2).any()


def test_classes_prints_a_class_table_that_can_be_read(folder):
    said = run("classes", folder / "o.geojson", folder / "o.geojson", "--slide", folder / "s.tif")
    assert said[:3] == [
        "# name    outlines  area, px  area, mm2",
        "# Gland          2    16,800     0.0042",
        "# tumour         2       400     0.0001",
    ]
    (folder / "printed.yaml").write_text("\n".join(said))
    said = run("classes", folder / "o.geojson", "--out", folder / "c.yaml")
    assert said == [
        "name    outlines  area, px",
        "Gland          1     8,400",
        "tumour         1       200",
        f"{folder / 'c.yaml'}: a class table to start from.",
    ]
    tables = [read_class_table(folder / name) for name in ("printed.yaml", "c.yaml")]
    assert tables[0] == tables[1]
    assert tables[0].names == ("background", "Gland", "tumour")
    assert tables[0].colours[1:] == (GREEN, RED)


def test_bad_input_is_one_message(folder, monkeypatch, capsys):
    (folder / "wrong.yaml").write_text("[background, glands]")
    for arguments, said in (
        (["to-mask", "s.tif", "o.geojson", "--classes", "wrong.yaml", "--out", "m.ome.tif"],
         "2 class names are not in the class table: 'Gland' (1 outline, nearest 'glands'), 'tumour' (1 outline)"),
        (["to-mask", "s.tif", "o.geojson", "--classes", "classes.yaml", "--out", "m.ome.tif", "--outside", "gand"],
         "outside 'gand': no class of the class table"),
        (["to-mask", "s.tif", "classes.yaml", "--classes", "classes.yaml", "--out", "m.ome.tif"],
         "classes.yaml: in no format that is known"),
        (["to-mask", "s.tif", "o.geojson", "--classes", "classes.yaml", "--out", "m.png"],
         "Needed a name that ends with .ome.tif"),
        (["classes", "none.xml"], "none.xml"),
    ):  # fmt: skip
        monkeypatch.chdir(folder)
        monkeypatch.setattr("sys.argv", ["wsi-deform", "annotation", *arguments])
        with pytest.raises(SystemExit) as left:
            app()
        assert left.value.code == 2
        error = capsys.readouterr().err
        assert said in error
        assert "Traceback" not in error
        assert not (folder / "m.ome.tif").exists()


def test_a_manifest_of_outlines_is_built_and_checked_as_one_of_masks(folder):
    slides = folder / "slides"
    (slides / "annotations").mkdir(parents=True)
    for number in range(6):
        picture = np.full((200, 300, 3), 200 + number, np.uint8)
        tifffile.imwrite(slides / f"s{number}.tif", picture, tile=(64, 64), resolution=(20_000, 20_000))
        text = (folder / "o.geojson").read_text().replace("30]", f"{30 + 10 * number}]")
        (slides / "annotations" / f"s{number}.geojson").write_text(text)
    runner = CliRunner()
    out = folder / "m.csv"
    built = runner.invoke(
        typer_app, ["manifest", "build", str(slides), "--each-slide-a-patient", "--out", str(out)]
    )
    assert built.exit_code == 0, built.output
    assert "stratified by class" in built.output
    assert any(line.split()[:2] == ["gland", "33,600"] for line in built.output.splitlines()), built.output
    checked = runner.invoke(typer_app, ["manifest", "check", str(out)])
    assert checked.exit_code == 0, checked.output
    (folder / "classes.yaml").unlink()
    built = runner.invoke(
        typer_app, ["manifest", "build", str(slides), "--each-slide-a-patient", "--out", str(out)]
    )
    assert "every class name of the outlines is taken for a class" in built.output


def test_from_mask_writes_outlines_that_to_mask_reads(folder):
    mask, out = folder / "out" / "masks" / "m.ome.tif", folder / "m.geojson.gz"
    run(
        "to-mask", folder / "s.tif", folder / "o.geojson", "--classes", folder / "classes.yaml", "--out", mask
    )
    write_class_table(read_class_table(folder / "classes.yaml"), folder / "out" / "classes.json")
    assert run("from-mask", mask, "--out", out) == [f"{out}: 2 polygons in 2 features, 12 vertices."]
    again = folder / "again.ome.tif"
    run("to-mask", folder / "s.tif", out, "--classes", folder / "classes.yaml", "--out", again)
    np.testing.assert_array_equal(tifffile.imread(again), tifffile.imread(mask))
    # A hole of 400 um^2 and an area of 50 um^2, at the 0.5 um that the mask has from its slide.
    run(
        "from-mask",
        mask,
        "--out",
        out,
        "--min-area-um2",
        401,
        "--tolerance-um",
        1,
        "--slide",
        folder / "s.tif",
    )
    found = json.loads(gzip.decompress(out.read_bytes()))
    assert [each["geometry"]["coordinates"] for each in found["features"]] == [
        [[[50, 50], [150, 50], [150, 150], [50, 150], [50, 50]]]
    ]


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("m.json", "Needed a name that ends with .geojson.gz. Change --out."),
        ("m.geojson.gz", "Needed the names of the classes. Pass --classes FILE."),
    ],
)
def test_from_mask_tells_what_it_needs(folder, capsys, monkeypatch, out, message):
    mask = folder / "m.ome.tif"
    run(
        "to-mask", folder / "s.tif", folder / "o.geojson", "--classes", folder / "classes.yaml", "--out", mask
    )
    monkeypatch.chdir(folder)
    (folder / "classes.yaml").unlink()
    monkeypatch.setattr("sys.argv", ["wsi-deform", "annotation", "from-mask", "m.ome.tif", "--out", out])
    with pytest.raises(SystemExit):
        app()
    assert message in " ".join(capsys.readouterr().err.split())


def striped_mask(folder, *, names):
    """Stripes of 16 px of the values 0 to 3, tiled; as of `segment` where names are given."""
    mask = folder / "stripes" / "masks" / "s.ome.tif"
    mask.parent.mkdir(parents=True)
    tifffile.imwrite(mask, np.repeat(np.arange(4, dtype=np.uint8), 16)[None].repeat(64, 0), tile=(64, 64))
    if names:
        write_class_table(ClassTable.from_names(names), mask.parents[1] / "classes.json")
    return mask


def outlined(mask, *options):
    """Name -> rings of the outlines that `from-mask` writes."""
    out = mask.parents[1] / "o.geojson.gz"
    run("from-mask", mask, "--out", out, *options)
    features = json.loads(gzip.decompress(out.read_bytes()))["features"]
    return {
        each["properties"]["classification"]["name"]: each["geometry"]["coordinates"] for each in features
    }


def stripe(left, right):
    return [[[left, 0], [right, 0], [right, 64], [left, 64], [left, 0]]]


def test_from_mask_joins_groups_that_a_table_calls_one_class(folder):
    mask = striped_mask(folder, names=["background", "group 1", "group 2", "group 3"])
    named = mask.parents[1] / "classes.yaml"
    named.write_text(
        "classes: [background, {name: gland, values: [3]}, {name: stroma, values: [1, 2]}]\nunlabelled: [255]"
    )
    assert outlined(mask, "--classes", named) == {"stroma": stripe(16, 48), "gland": stripe(48, 64)}
    # Without the option the mask's own table counts, not one in which groups are named.
    assert list(outlined(mask)) == ["group 1", "group 2", "group 3"]


def test_from_mask_reads_the_values_that_to_mask_wrote(folder):
    table = folder / "values.yaml"
    table.write_text(
        "classes: [{name: background, value: 0}, {name: a, value: 2}, {name: b, value: 1}]\nunlabelled: [3]"
    )
    assert outlined(striped_mask(folder, names=None), "--classes", table) == {
        "b": stripe(16, 32),
        "a": stripe(32, 48),
    }


def test_from_mask_refuses_values_without_a_meaning(folder, capsys, monkeypatch):
    mask, table = striped_mask(folder, names=None), folder / "few.yaml"
    table.write_text("{background: 0, a: 1}")
    arguments = ["from-mask", str(mask), "--out", str(folder / "o.geojson.gz"), "--classes", str(table)]
    monkeypatch.setattr("sys.argv", ["wsi-deform", "annotation", *arguments])
    with pytest.raises(SystemExit):
        app()
    said = " ".join(capsys.readouterr().err.split())
    assert "holds 2, 3, which the class table gives no meaning." in said
    assert not (folder / "o.geojson.gz").exists()


def test_classes_remarks_on_a_class_spelled_in_two_ways(folder):
    text = (folder / "o.geojson").read_text()
    (folder / "p.geojson").write_text(text.replace('"Gland"', '"Tumor"'))
    done = CliRunner().invoke(
        typer_app, ["annotation", "classes", str(folder / "o.geojson"), str(folder / "p.geojson")]
    )
    assert done.stderr.splitlines() == [
        "remark: 'tumour' and 'Tumor' are spelled almost alike. If they are one class, give it both names: "
        "{name: Tumor, source_names: [tumour]}."
    ]
