"""Models as one file: what is in it, what is refused before anything is unpacked, and models at URLs."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import threading
import zipfile

import fsspec
import numpy as np
import pytest
from blocks_study import block_run
from drawn_reader import ArrayReader
from PIL import Image
from range_server import RangeServer
from typer.testing import CliRunner

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.cli.main import typer_app
from wsi_deform.errors import ModelError
from wsi_deform.model_file import find_model, load_model
from wsi_deform.model_package import fetch
from wsi_deform.model_package.contents import content_problem, name_problem
from wsi_deform.model_package.fetch import model_path
from wsi_deform.model_package.unpack import models_folder
from wsi_deform.runtime.identity import model_sha256
from wsi_deform.runtime.quantised import checksums, read_quantised
from wsi_deform.sharing import check_model, check_text, pack_model
from wsi_deform.slide.slide import Slide

CLASSES = ClassTable.from_names(["background", "tumour"])
MEMBERS = [
    "best.int8/quantised.json",
    "best.int8/segmentation.bin",
    "best.int8/segmentation.xml",
    "best.json",
    "best.md",
    "best.safetensors",
    "licence.txt",
    "thumbnail.jpg",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with a model and its quantised networks."""
    folder = block_run(tmp_path_factory.mktemp("study") / "run", classes=CLASSES)
    about = json.loads((folder / "best.json").read_text())
    about["provenance"] = {"command": "wsi-deform train --slides /home/anna/slides.csv", "python": "3.11"}
    about["data"] = {"manifest": "/home/anna/slides.csv", "data_licences": {"CC BY 4.0": 3}}
    # A path, of which the name alone is passed on.
    about["config"]["networks"]["pretrained"] = "/home/anna/weights.safetensors"
    (folder / "best.json").write_text(json.dumps(about))
    quantised = folder / "best.int8"
    quantised.mkdir()
    (quantised / "segmentation.xml").write_text("<net/>")
    (quantised / "segmentation.bin").write_bytes(b"\x08\x08 weights")
    facts = {
        "format": "wsi-deform quantised 1",
        "model": "best.safetensors",
        "model_sha256": model_sha256(folder / "best.safetensors"),
        "networks": {"segmentation": "segmentation.xml"},
        "files": checksums(quantised),
        "loss_points": 0.125,
        "provenance": {"command": "wsi-deform quantise /home/anna/run", "python": "3.11"},
    }
    (quantised / "quantised.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture(scope="module")
def example():
    pixels = np.full((64, 96, 3), 200, np.uint8)
    return Slide.from_reader(ArrayReader(pixels, levels=1, mpp=0.5), slide_id="patient 7")


@pytest.fixture(scope="module")
def packed(run, example, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed") / "model.zip"
    pack_model(run, out, licence="CC BY 4.0", example=example)
    return out


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_file_holds_the_model_its_card_the_licence_and_checksums_stored_as_they_are(packed, run):
    with zipfile.ZipFile(packed) as opened:
        assert sorted(opened.namelist()) == sorted([*MEMBERS, "contents.json"])
        assert {each.compress_type for each in opened.infolist()} == {zipfile.ZIP_STORED}
        contents = json.loads(opened.read("contents.json"))
        for name in MEMBERS:
            data = opened.read(name)
            expected = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            assert contents["members"][name] == expected
        assert contents["licence"] == "CC BY 4.0"
        assert contents["data_licences"] == {"CC BY 4.0": 3}
        assert opened.read("best.safetensors") == (run / "best.safetensors").read_bytes()
        with Image.open(io.BytesIO(opened.read("thumbnail.jpg"))) as picture:
            assert picture.size == (96, 64)
        # Folders of the machine where it was trained, and the slide's name, are nobody's business.
        assert b"anna" not in packed.read_bytes()
        assert b"patient 7" not in packed.read_bytes()


def test_the_same_model_gives_the_same_file(packed, run, example, tmp_path):
    again = tmp_path / "again.zip"
    assert pack_model(run, again, licence="CC BY 4.0", example=example).sha256 == digest(packed)
    assert again.read_bytes() == packed.read_bytes()


def test_a_shared_model_is_loaded_like_a_run(packed, run):
    assert load_model(packed).classes == CLASSES
    folder = find_model(packed).parent
    assert folder == models_folder() / digest(packed)
    # Its quantised networks are still its own, though the path of its pretrained weights is not in it.
    weights = folder / "best.safetensors"
    quantised = read_quantised(weights, model_sha256(weights))
    assert quantised.loss_points == 0.125
    assert quantised.files["segmentation"].read_text() == "<net/>"
    # What was changed in the cache is not used.
    (folder / "best.json").write_text("{}")
    assert load_model(packed).classes == CLASSES


def test_commands_pack_and_check_and_print_checksums(run, tmp_path):
    out = tmp_path / "model.zip"
    invoke = CliRunner().invoke
    done = invoke(typer_app, ["model", "pack", str(run), "--out", str(out), "--licence", "own slides"])
    assert done.exit_code == 0, done.output
    checked = invoke(typer_app, ["model", "check", str(out)])
    assert checked.exit_code == 0
    assert f"sha256:{digest(out)}" in checked.output
    assert f"{digest(run / 'best.safetensors')}" in checked.output
    assert "licence of the data: own slides" in checked.output
    of_folder = invoke(typer_app, ["model", "check", str(run)])
    assert "licence of the data: CC BY 4.0 (3 slides)" in of_folder.output
    no_licence = invoke(typer_app, ["model", "pack", str(run), "--out", str(out), "--licence", " "])
    assert no_licence.exit_code == 2
    assert "no licence of the data" in no_licence.output
    # Nobody is there to be asked.
    asked = invoke(typer_app, ["model", "pack", str(run), "--out", str(out)])
    assert asked.exit_code == 2
    assert "no licence of the data" in asked.output


def test_an_unpacked_model_is_checked_against_its_contents_and_has_its_licence(packed, tmp_path):
    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(packed) as opened:
        opened.extractall(folder)
    (folder / "notes.txt").write_text("mine")
    found = check_model(folder)
    assert found.contents is not None
    assert "licence of the data: CC BY 4.0" in check_text(found)
    assert "sha256:" not in check_text(found)
    card = folder / "best.md"
    good = card.read_bytes()
    card.write_bytes(good[:-1] + b"!")
    with pytest.raises(ModelError, match=r"best\.md is not what its contents\.json says"):
        check_model(folder)
    card.write_bytes(good + b"!")
    with pytest.raises(ModelError, match=r"differ in best\.md"):
        check_model(folder)
    card.unlink()
    with pytest.raises(ModelError, match=r"differ in best\.md"):
        check_model(folder)


def rewritten(source, target, change):
    """A copy of a shared model whose members ``change`` writes."""
    with zipfile.ZipFile(source) as opened:
        held = {name: opened.read(name) for name in opened.namelist()}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as written:
        change(written, held)
    return target


def with_listed(held, name, data):
    """Its members and one more, which ``contents.json`` lists."""
    contents = json.loads(held["contents.json"])
    contents["members"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return held | {"contents.json": json.dumps(contents).encode(), name: data}


def write_all(written, held):
    for name, data in held.items():
        written.writestr(name, data)


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json",
        "/etc/passwd",
        "best.int8/../../evil",
        "C:/evil",
        "best.int8\\..\\evil",
        "best.int8/aux",
        "notes.txt",
    ],
)
def test_names_that_lead_elsewhere_are_refused(packed, tmp_path, name):
    bad = rewritten(
        packed, tmp_path / "bad.zip", lambda into, held: write_all(into, with_listed(held, name, b"x"))
    )
    with pytest.raises(ModelError, match="a member called"):
        check_model(bad)
    assert not (models_folder() / digest(bad)).exists()


def test_pickles_are_refused_by_name_and_by_content(packed, run, tmp_path):
    import pickle

    data = pickle.dumps({"a": 1})
    assert name_problem("best.int8/weights.pt").startswith("ends in .pt")
    assert content_problem(data[:4], data[-1:]).startswith("is a pickle")
    bad = rewritten(
        packed,
        tmp_path / "bad.zip",
        lambda into, held: write_all(into, with_listed(held, "best.int8/model.dat", data)),
    )
    with pytest.raises(ModelError, match="best.int8/model.dat is a pickle"):
        check_model(bad)
    path = run / "best.int8" / "other.dat"
    path.write_bytes(data)
    try:
        with pytest.raises(ModelError, match="is a pickle, which runs code"):
            pack_model(run, tmp_path / "out.zip", licence="x")
    finally:
        path.unlink()
    assert not (tmp_path / "out.zip").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_bombs_duplicates_links_and_changed_bytes_are_refused(packed, tmp_path):
    def compressed(into, held):
        write_all(into, held)
        into.writestr("best.int8/zeros.bin", bytes(1 << 20), compress_type=zipfile.ZIP_DEFLATED)

    def twice(into, held):
        write_all(into, held)
        into.writestr("best.json", held["best.json"])

    def link(into, held):
        write_all(into, with_listed(held, "best.int8/a", b"/etc/passwd"))
        into.getinfo("best.int8/a").external_attr = 0o120777 << 16

    def unlisted(into, held):
        write_all(into, held | {"best.int8/a": b"x"})

    def changed(into, held):
        write_all(into, held | {"best.md": held["best.md"][:-1] + b"!"})

    def without(into, held):
        contents = json.loads(held["contents.json"])
        del contents["members"]["licence.txt"], held["licence.txt"]
        write_all(into, held | {"contents.json": json.dumps(contents).encode()})

    for number, (change, said) in enumerate(
        (
            (compressed, "is compressed"),
            (twice, "two members called 'best.json'"),
            (link, "is no plain file"),
            (unlisted, "differ in best.int8/a"),
            (changed, "best.md is not what its contents.json says"),
            (without, "without licence.txt"),
        )
    ):
        with pytest.raises(ModelError, match=said):
            check_model(rewritten(packed, tmp_path / f"{number}.zip", change))
    declared = bytearray(packed.read_bytes())
    # The directory says that its first member is longer than the file.
    at = declared.rindex(b"PK\x01\x02", 0, declared.index(b"PK\x05\x06"))
    declared[at + 20 : at + 28] = struct.pack("<II", 1 << 30, 1 << 30)
    (tmp_path / "long.zip").write_bytes(declared)
    with pytest.raises(ModelError, match=r"its members declare 1,07\d,\d{3},\d{3} bytes, more than"):
        check_model(tmp_path / "long.zip")
    for kept in (200, len(packed.read_bytes()) - 200):
        (tmp_path / "cut.zip").write_bytes(packed.read_bytes()[:kept])
        for used in (check_model, load_model):
            with pytest.raises(
                ModelError, match=r"cut\.zip: cannot be read as a shared model \(File is not a zip"
            ):
                used(tmp_path / "cut.zip")


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(packed, monkeypatch):
    monkeypatch.setenv("WSI_DEFORM_MAX_MODEL_MIB", "0.01")
    with pytest.raises(ModelError, match="WSI_DEFORM_MAX_MODEL_MIB"):
        check_model(packed)


@pytest.fixture
def shared_at(packed, monkeypatch):
    """The URL of the shared model, on fsspec's file system in memory, and how often it was opened."""
    files = fsspec.filesystem("memory")
    files.pipe("/models/m.zip", packed.read_bytes())
    monkeypatch.setattr(fetch, "SCHEMES", ("https", "memory"))
    opened = []
    open_before = type(files).open
    monkeypatch.setattr(
        type(files),
        "open",
        lambda self, path, *args, **kw: opened.append(path) or open_before(self, path, *args, **kw),
    )
    yield "memory://models/m.zip", opened
    files.rm("/models/m.zip")


def test_a_url_needs_its_checksum_and_is_fetched_once(packed, shared_at, tmp_path, monkeypatch):
    url, opened = shared_at
    monkeypatch.setenv("WSI_DEFORM_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ModelError, match="a URL without a checksum"):
        model_path(url)
    with pytest.raises(ModelError, match="no checksum"):
        model_path(url, "md5:abc")
    assert opened == []
    with pytest.raises(ModelError, match=rf"its SHA-256 is {digest(packed)}, not {'0' * 64}"):
        model_path(url, "sha256:" + "0" * 64)
    # Nothing of another file stays.
    assert list(models_folder().iterdir()) == []
    found = model_path(url, f"sha256:{digest(packed)}")
    assert found == models_folder() / f"{digest(packed)}.zip"
    assert found.read_bytes() == packed.read_bytes()
    assert model_path(url, f"sha256:{digest(packed).upper()}") == found
    assert len(opened) == 2
    found.write_bytes(b"damaged")
    assert digest(model_path(url, f"sha256:{digest(packed)}")) == digest(packed)
    assert len(opened) == 3
    monkeypatch.setenv("WSI_DEFORM_MAX_MODEL_MIB", "0.01")
    monkeypatch.setenv("WSI_DEFORM_CACHE", str(tmp_path / "other"))
    with pytest.raises(ModelError, match=r"more than 0\.01 MiB"):
        model_path(url, f"sha256:{digest(packed)}")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_that_gives_parts_or_none_is_read_once_from_end_to_end(
    packed, tmp_path, monkeypatch, ranges
):
    monkeypatch.setattr(fetch, "SCHEMES", ("http",))
    monkeypatch.setenv("WSI_DEFORM_CACHE", str(tmp_path / "cache"))
    wanted = f"sha256:{digest(packed)}"
    with RangeServer(packed.parent, ranges=ranges) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = model_path(server.url(packed.name), wanted)
        assert found.read_bytes() == packed.read_bytes()
        assert server.sent_bytes == packed.stat().st_size
        with pytest.raises(
            ModelError, match=r"none\.zip: cannot be fetched \((HTTP status 404|no such file)"
        ):
            model_path(server.url("none.zip"), "sha256:" + "0" * 64)
        server.shutdown()
    assert model_path(server.url(packed.name), wanted) == found


def test_only_https_is_fetched_and_a_path_may_have_a_checksum_too(packed, run):
    with pytest.raises(ModelError, match="needed a URL that starts with https://"):
        model_path("http://example.org/m.zip?token=secret", "sha256:" + "0" * 64)
    assert model_path(str(packed), f"sha256:{digest(packed)}") == packed
    with pytest.raises(ModelError, match="not 000"):
        model_path(str(packed), "sha256:" + "0" * 64)
    with pytest.raises(ModelError, match="a checksum of a folder"):
        model_path(str(run), f"sha256:{digest(packed)}")


def test_segment_takes_a_shared_model(packed, tmp_path):
    Image.fromarray(np.full((64, 64, 3), 245, np.uint8)).save(tmp_path / "a.png")
    arguments = [
        "segment",
        str(tmp_path / "a.png"),
        "--mpp",
        "0.5",
        "--out",
        str(tmp_path / "out"),
        "--dry-run",
    ]
    done = CliRunner().invoke(
        typer_app, [*arguments, "--model", str(packed), "--checksum", f"sha256:{digest(packed)}"]
    )
    assert done.exit_code == 0, done.output
    assert "1 to segment" in done.output
    refused = CliRunner().invoke(typer_app, [*arguments, "--model", "https://example.org/m.zip"])
    assert refused.exit_code == 2
    assert "a URL without a checksum" in refused.output


def test_quantised_networks_of_another_model_are_not_packed(run, tmp_path):
    facts = run / "best.int8" / "quantised.json"
    before = facts.read_text()
    facts.write_text(before.replace(model_sha256(run / "best.safetensors"), "0" * 64))
    try:
        with pytest.raises(ModelError, match=r"made of another model than best\.safetensors is now"):
            pack_model(run, tmp_path / "out.zip", licence="x")
    finally:
        facts.write_text(before)
