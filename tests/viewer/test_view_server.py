"""The server of the page: who may ask, for what, and what comes back."""

from __future__ import annotations

import csv
import hashlib
import http.client
import io
import json
import re
import threading
from collections.abc import Iterator
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from drawn_results import GLAND, SIZE, TUMOUR, drawn_results, drawn_slide
from PIL import Image

from wsi_deform.distribute.ledger import Ledger, State
from wsi_deform.errors import ConfigError
from wsi_deform.geometry import Region
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.slide import Slide
from wsi_deform.viewer.catalogue import catalogue_of
from wsi_deform.viewer.server import Viewer
from wsi_deform.viewer.site import PAGE, Site

CASE = "slide/case%201"


class Client:
    """Asks a server, byte for byte as it is told to."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer

    def ask(self, target: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.viewer.port, timeout=60)
        try:
            connection.putrequest(method, target, skip_host="host" in headers)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def get(self, place: str) -> tuple[int, dict[str, str], bytes]:
        return self.ask(f"/{self.viewer.token}/{place}")

    def json(self, place: str) -> Any:
        return json.loads(self.get(place)[2])


def serving(path: Path) -> Iterator[Client]:
    with Viewer(catalogue_of(path)) as viewer:
        thread = threading.Thread(target=viewer.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield Client(viewer)
        finally:
            viewer.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> MaskFolder:
    return drawn_results(tmp_path_factory.mktemp("view") / "out", remark="unlike the training slides")


@pytest.fixture(scope="module")
def client(out: MaskFolder) -> Iterator[Client]:
    yield from serving(out.path)


def test_page_and_all_its_files_are_served(client: Client) -> None:
    status, headers, body = client.get("")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    named = re.findall(r'(?:src|href)="([^"#]+)"', body.decode())
    assert set(named) == {"page.css", "icon.svg", "openseadragon.min.js", "main.js"}
    for name in PAGE:
        status, headers, body = client.get(name)
        assert (status, headers["Content-Type"]) == (200, PAGE[name][1])
        for part in re.findall(r'from "\./([^"]+)"', body.decode()):
            assert part in PAGE


def test_nothing_of_the_page_comes_from_another_machine() -> None:
    own = [
        (files("wsi_deform.viewer") / "page" / name).read_text()
        for name, _ in PAGE.values()
        if "/" not in name
    ]
    addresses = {found for text in own for found in re.findall(r"https?://[^\s\"']+", text)}
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, not a place


def test_openseadragon_is_the_published_file_with_its_licence() -> None:
    folder = files("wsi_deform.viewer") / "page" / "openseadragon"
    digest = hashlib.sha256((folder / "openseadragon.min.js").read_bytes()).hexdigest()
    assert digest == "14d587cd3ee7c4861f1a41077ce642029364a21029956ba635bd8fb1202cf9ad"
    assert digest in (folder / "README.md").read_text()
    assert "Neither the name of CodePlex Foundation" in (folder / "LICENSE.txt").read_text()


@pytest.mark.parametrize("target", ["/", "/x/", "/slides.json", "//", "/%00/", "/../"])
def test_without_the_secret_nothing_is_told(client: Client, target: str) -> None:
    status, _, body = client.ask(target)
    assert (status, body) == (403, b"open the address that `wsi-deform view` printed\n")


def test_part_of_the_secret_is_not_enough(client: Client) -> None:
    token = client.viewer.token
    assert len(token) >= 32
    for wrong in (token[:-1], token + "a", token.swapcase(), ""):
        assert client.ask(f"/{wrong}/slides.json")[0] == 403
    assert client.ask(f"/{token}")[0] == 403


def test_every_start_has_a_secret_of_its_own(out: MaskFolder) -> None:
    with Viewer(catalogue_of(out.path)) as first, Viewer(catalogue_of(out.path)) as second:
        assert first.token != second.token
        assert first.url == f"http://127.0.0.1:{first.port}/{first.token}/"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200), ("127.0.0.1:1", 200), ("localhost:8888", 200), ("evil.example", 403),
        ("127.0.0.1.evil.example", 403), ("evil.example:127.0.0.1", 403), ("", 403), ("[::1]:80", 403),
    ],
)  # fmt: skip
def test_only_names_of_this_machine_are_answered(client: Client, host: str, status: int) -> None:
    assert client.ask(f"/{client.viewer.token}/slides.json", host=host)[0] == status


def test_address_for_the_browser_leads_to_the_page_once(client: Client) -> None:
    place = client.viewer.once_url().removeprefix(f"http://127.0.0.1:{client.viewer.port}")
    assert client.viewer.token not in place
    status, headers, _ = client.ask(place)
    assert (status, headers["Location"]) == (303, f"/{client.viewer.token}/")
    assert client.ask(place)[0] == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_methods_that_change_something_are_refused(client: Client, method: str) -> None:
    status, headers, _ = client.ask(f"/{client.viewer.token}/slides.json", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_head_tells_what_get_would_send(client: Client) -> None:
    place = f"/{client.viewer.token}/{CASE}/pixels/2/0_0.jpg"
    _, headers, body = client.ask(place)
    status, told, nothing = client.ask(place, "HEAD")
    assert (status, nothing) == (200, b"")
    assert told["Content-Length"] == headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize(
    "place",
    [
        "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "page/", "openseadragon/", "server.py", "../server.py",
        "slide/..%2fcase%201/info.json", "slide/../case%201/info.json", "slide/%2e%2e/info.json", "slide/",
        "slide/case%201/", "slide/case%201/../../classes.json", "slide/case%202/info.json", "masks/case%201.ome.tif",
        "slide/case%201/pixels/0/0_0.png", "slide/case%201/pixels/0/0_0.jpg/x", "slide/case%201/pixels",
        "slide/case%201/info.json%00", "index.html", "/etc/passwd",
        "file:///etc/passwd", "slide/case%201.json/info.json",
    ],
)  # fmt: skip
def test_paths_lead_nowhere(client: Client, place: str) -> None:
    status, _, body = client.get(place)
    assert status == 404
    assert set(json.loads(body)) == {"error"}


def test_every_answer_tells_the_browser_to_trust_nothing_else(client: Client) -> None:
    for place in (f"/{client.viewer.token}/", f"/{client.viewer.token}/{CASE}/info.json", "/", "/x/none"):
        _, headers, _ = client.ask(place)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self' 'sha256-" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Server"] == "wsi-deform"
        assert "Access-Control-Allow-Origin" not in headers


def test_list_has_states_and_nothing_that_names_files(client: Client, out: MaskFolder) -> None:
    found = client.json("slides.json")
    (slide,) = found["slides"]
    assert (found["title"], slide["id"], slide["status"]) == ("out", "case 1", "done")
    assert slide["remark"] == "unlike the training slides"
    assert str(out.path) not in json.dumps(found)


def test_slide_is_described_with_its_areas(client: Client) -> None:
    found = client.json(f"{CASE}/info.json")
    assert (found["width"], found["height"], found["tile"], found["steps"]) == (1300, 700, 512, 3)
    assert found["um_per_px"] == 0.5
    assert [each["name"] for each in found["classes"]] == ["background", "gland", "tumour"]
    assert [each["background"] for each in found["classes"]] == [True, False, False]
    assert found["classes"][1]["colour"] == list(GLAND)
    assert [each["mm2"] for each in found["classes"]] == [0, 0.11375, 0.11375]
    assert (found["share_of"], [each["share"] for each in found["classes"]]) == ("tissue", [0, 1, 0])
    assert found["remarks"] == ["unlike the training slides"]
    assert found["probabilities"] == ["background", "gland", "tumour"]
    assert found["footprint"]["coarsest_um"] == 512
    assert ["extent", "0.65 x 0.35 mm"] in found["facts"]
    assert (found["pixels"], found["mask"], found["samples"]) == (True, True, True)


def test_tile_of_the_slide_is_what_the_slide_reads_as_a_jpeg_shows_it(
    client: Client, out: MaskFolder
) -> None:
    _, headers, body = client.get(f"{CASE}/pixels/0/2_1.jpg?v=1")
    assert headers["Content-Type"] == "image/jpeg"
    assert headers["Cache-Control"] == "no-store"  # browsers keep tissue on no disk
    slide = open_slide(out.path.parent / "slides" / "case 1.tif")
    expected = slide.read_region(0, Region(1024, 512, 276, 188)).astype(int)
    found = np.asarray(Image.open(BytesIO(body))).astype(int)
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 12  # noise, of which JPEG loses some


def test_tile_of_the_mask_has_the_colours_of_the_classes_that_are_shown(client: Client) -> None:
    def row(query: str) -> list[list[int]]:
        _, headers, body = client.get(f"{CASE}/mask/0/1_0.png{query}")
        assert headers["Content-Type"] == "image/png"
        return np.asarray(Image.open(BytesIO(body)).convert("RGBA"))[40, 137:139].tolist()

    assert row("") == [[*GLAND, 255], [*TUMOUR, 255]]
    assert row("?show=6&v=2") == [[*GLAND, 255], [*TUMOUR, 255]]
    assert [pixel[3] for pixel in row("?show=2")] == [255, 0]
    assert [pixel[3] for pixel in row("?show=0")] == [0, 0]


def test_maps_are_tiles_too(client: Client) -> None:
    def pixel(place: str) -> list[int]:
        body = client.get(f"{CASE}/{place}")[2]
        return np.asarray(Image.open(BytesIO(body)).convert("RGBA"))[40, 137].tolist()

    assert pixel("probabilities/0/1_0.png?class=1") == [*GLAND, 200]
    assert pixel("probabilities/0/1_0.png?class=2") == [*TUMOUR, 0]
    assert pixel("footprint/0/1_0.png") == [0, 34, 78, 255]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("pixels/9/0_0.jpg", "step 9: needed 0 to 2"),
        ("pixels/0/3_0.jpg", "needed one of 3 columns and 2 rows"),
        ("pixels/0/-1_0.jpg", "tile (column -1, row 0)"),
        ("pixels/0/a_0.jpg", "'a': needed a whole number"),
        ("pixels/99999999999999999999/0_0.jpg", "needed a whole number"),
        ("mask/0/0_0.png?show=xyz", "show 'xyz': needed hexadecimal digits"),
        ("probabilities/0/0_0.png?class=7", "class 7: needed 0 to 2"),
        ("probabilities/0/0_0.png", "'': needed a whole number"),
        ("samples.json?x=0&y=0&width=0&height=9", "needed at least 1 x 1 px"),
        ("samples.json", "needed a whole number"),
    ],
)
def test_what_cannot_be_shown_is_said(client: Client, place: str, said: str) -> None:
    status, _, body = client.get(f"{CASE}/{place}")
    assert status == 422
    assert said in json.loads(body)["error"]


def test_samples_and_fields_are_those_in_view(client: Client) -> None:
    found = client.json(f"{CASE}/samples.json?x=0&y=0&width=1300&height=700")
    assert found == {
        "count": 2,
        "x": [325, 975],
        "y": [350, 350],
        "labels": [1, 2],
        "fields": [[0, 0, 1300, 700]],
    }
    assert client.json(f"{CASE}/samples.json?x=900&y=300&width=100&height=100")["labels"] == [2]
    assert client.json(f"{CASE}/samples.json?x=-500&y=-500&width=100&height=100")["fields"] == []


def test_areas_and_outlines_can_be_downloaded(client: Client, out: MaskFolder) -> None:
    _, headers, body = client.get(f"{CASE}/measurements.csv")
    assert headers["Content-Disposition"] == "attachment; filename*=UTF-8''case%201.csv"
    rows = list(csv.DictReader(io.StringIO(body.decode())))
    assert [(row["class"], row["mm2"]) for row in rows] == [
        ("background", "0"),
        ("gland", "0.11375"),
        ("tumour", "0.11375"),
    ]
    _, headers, body = client.get(f"{CASE}/outlines.geojson.gz")
    assert headers["Content-Disposition"] == "attachment; filename*=UTF-8''case%201.geojson.gz"
    assert body == out.geojson("case 1").read_bytes()


def test_thumbnail_of_an_overlay_is_the_slide_without_the_words_around_it(
    client: Client, out: MaskFolder
) -> None:
    before = out.overlay("case 1").read_bytes() if out.overlay("case 1").is_file() else None
    out.overlay("case 1").parent.mkdir(exist_ok=True)
    picture = Image.new("RGB", (600, 400), (255, 0, 0))
    picture.paste((0, 0, 255), (0, 32, 600, 332))
    picture.save(out.overlay("case 1"), comment=b"wsi-deform picture 600 x 300 px below its title")
    try:
        with Image.open(BytesIO(client.get(f"{CASE}/thumbnail.jpg")[2])) as shown:
            assert shown.size == (240, 120)
            pixels = np.asarray(shown)
        assert (pixels[..., 0] < 60).all()
        assert (pixels[..., 2] > 200).all()
    finally:
        out.overlay("case 1").unlink()
        if before is not None:
            out.overlay("case 1").write_bytes(before)


def test_thumbnail_is_the_overlay_made_smaller_and_else_the_slide(client: Client, out: MaskFolder) -> None:
    def size() -> tuple[int, int]:
        return Image.open(BytesIO(client.get(f"{CASE}/thumbnail.jpg")[2])).size

    assert size() == (240, 129)
    Image.new("RGB", (1000, 500), (9, 9, 9)).save(out.overlay("case 1"))
    try:
        assert size() == (240, 120)
    finally:
        out.overlay("case 1").unlink()


def test_one_bad_slide_does_not_break_the_page(tmp_path: Path) -> None:
    out = drawn_results(tmp_path / "out", maps=False)
    (tmp_path / "slides" / "b.svs").write_bytes(b"no slide")
    Ledger(out).write(
        State(slide_id="b", status="failed", slide=str(tmp_path / "slides" / "b.svs"), error="no reader")
    )
    out.samples("b").write_bytes(b"PK")
    out.overlay("b").write_bytes(b"no picture")
    out.mask("case 2").write_bytes(b"")
    out.state("case 2").write_text("{")
    site = Site(catalogue_of(out.path))
    listed = json.loads(site.answer("slides.json").body)["slides"]
    assert [(each["id"], each["status"]) for each in listed] == [
        ("b", "failed"),
        ("case 1", "done"),
        ("case 2", "done"),
    ]
    described = json.loads(site.answer("slide/b/info.json").body)
    assert (described["pixels"], described["mask"], described["reason"]) == (False, False, "no reader")
    assert "no reader can open it" in described["remarks"][0]
    assert site.answer("slide/b/samples.json?x=0&y=0&width=9&height=9").status == 422
    assert (site.answer("slide/b/thumbnail.jpg").status, site.answer("slide/b/thumbnail.jpg").body) == (
        204,
        b"",
    )
    assert site.answer("slide/b/pixels/0/0_0.jpg").status == 200  # white paper
    assert (
        "its mask cannot be shown" in json.loads(site.answer("slide/case%202/info.json").body)["remarks"][1]
    )
    assert site.answer("slide/case%202/mask/0/0_0.png").status == 404
    assert site.answer("slide/case%201/mask/0/0_0.png").status == 200


def test_mask_that_was_made_anew_is_shown_anew(tmp_path: Path) -> None:
    out = drawn_results(tmp_path / "out", maps=False)
    site = Site(catalogue_of(out.path))
    before = site.answer("slide/case%201/mask/2/0_0.png").body
    version = json.loads(site.answer("slides.json").body)["slides"][0]["version"]
    from wsi_deform.mask.tiff import write_nearest_mask

    write_nearest_mask(
        out.mask("case 1"),
        points_px=np.array([[1.0, 1.0]]),
        labels=np.array([2], np.uint8),
        size=SIZE,
        mpp=0.5,
    )
    assert json.loads(site.answer("slides.json").body)["slides"][0]["version"] != version
    assert site.answer("slide/case%201/mask/2/0_0.png").body != before


def test_slide_that_takes_long_does_not_hold_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("fast", "slow"):
        drawn_slide(tmp_path / f"{name}.tif")
    site, go_on = Site(catalogue_of(tmp_path)), threading.Event()

    def tile(slide: Slide, *place: Any) -> np.ndarray:
        if slide.slide_id == "slow":
            go_on.wait(60)
        return np.zeros((9, 9, 3), np.uint8)

    monkeypatch.setattr("wsi_deform.viewer.site.slide_tile", tile)
    waiting = [
        threading.Thread(target=site.answer, args=[f"slide/slow/pixels/0/{n}_0.jpg"]) for n in range(9)
    ]
    for thread in waiting:
        thread.start()
    try:
        found: list[Any] = []
        asked = threading.Thread(
            target=lambda: found.append(site.answer("slide/fast/pixels/0/0_0.jpg").status)
        )
        asked.start()
        asked.join(30)
        assert found == [200]
    finally:
        go_on.set()
        for thread in waiting:
            thread.join()


def test_names_of_any_kind_are_ids(tmp_path: Path) -> None:
    name = "Fall 7 ä%2f+&#?"
    drawn_slide(tmp_path / "slides" / f"{name}.tif")
    site = Site(catalogue_of(tmp_path / "slides"))
    (listed,) = json.loads(site.answer("slides.json").body)["slides"]
    found = json.loads(site.answer(f"slide/{quote(listed['id'], safe='')}/info.json").body)
    assert found["id"] == listed["id"]
    assert (found["mask"], found["classes"], found["status"]) == (False, [], "slide")


def test_port_that_is_taken_is_refused(client: Client, out: MaskFolder) -> None:
    with pytest.raises(ConfigError, match=rf"port {client.viewer.port}: cannot be listened on"):
        Viewer(catalogue_of(out.path), port=client.viewer.port)


def test_mistake_in_an_answer_ends_neither_the_server_nor_the_others(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(target: str) -> None:
        raise ZeroDivisionError(target)

    with monkeypatch.context() as patch:
        patch.setattr(client.viewer.site, "answer", broken)
        assert client.get("slides.json")[0] == 500
    assert "ZeroDivisionError" in caplog.text
    assert client.viewer.token not in caplog.text
    assert client.get("slides.json")[0] == 200
