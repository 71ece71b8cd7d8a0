"""The numbers of reports: times, tables, pictures and the pace of training, at the ends of their ranges."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from drawn_reader import ArrayReader
from matplotlib.figure import Figure
from PIL import Image, JpegImagePlugin

from wsi_deform.errors import ModelError
from wsi_deform.geometry import Size
from wsi_deform.report import pace
from wsi_deform.report.files import duration, read_json
from wsi_deform.report.page import Picture, _flat, _inlined
from wsi_deform.report.pictures import slide_picture, truth_picture
from wsi_deform.report.tables import Table, comparison_table, number


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.95, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.4, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (5 * 3600 + 12 * 60 + 59, "5 h 12 min"),
    ],
)
def test_times_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_file_that_is_no_object_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text, said in (("[1]", "found list"), ("{", "cannot be read"), (None, "cannot be read")):
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        with pytest.raises(ModelError, match=rf"a\.json: {said}"):
            read_json(path)


def test_numbers_have_three_digits_and_only_measures_that_are_asked_for_stand_out() -> None:
    assert [number(2 / 3), number(2 / 3, 1), number(float("nan"))] == ["0.667", "0.7", "–"]
    table = comparison_table(
        {"a": {"x": 0.5, "y": -0.25}, "b": {"x": 0.25, "y": -0.5}}, of="system", largest_is_best=["y"]
    )
    assert (table.header, table.best) == (("system", "x", "y"), {(0, 2)})
    assert table.markdown() == (
        "| system | x | y |\n| :-- | --: | --: |\n| a | 0.500 | **-0.250** |\n| b | 0.250 | -0.500 |\n"
    )
    words = Table(header=("a", "b"), rows=(("c", "d"),), is_text=True).markdown()
    assert words == "| a | b |\n| :-- | :-- |\n| c | d |\n"


def png(pixels: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def test_pngs_of_more_than_200_kb_become_good_jpegs_where_that_is_smaller() -> None:
    grey = png(np.random.default_rng(0).integers(120, 136, (200, 200, 3)).astype(np.uint8))
    for length, kind in ((200_000, "png"), (200_001, "jpeg")):
        assert _inlined(Picture(image=grey + bytes(length - len(grey)), caption="")).startswith(
            f"data:image/{kind};base64,"
        )
    made = base64.b64decode(_inlined(Picture(image=grey + bytes(200_001), caption="")).partition(",")[2])
    wanted = io.BytesIO()
    Image.new("RGB", (8, 8)).save(wanted, format="JPEG", quality=88)
    with Image.open(io.BytesIO(made)) as found, Image.open(wanted) as expected:
        assert found.quantization == expected.quantization
        assert JpegImagePlugin.get_sampling(found) == 0  # no colour is blurred
    # One bit a pixel of noise takes more room as JPEG.
    noise = png(np.random.default_rng(0).random((1300, 1300)) < 0.5)
    assert len(noise) > 200_000
    assert base64.b64decode(_inlined(Picture(image=noise, caption="")).partition(",")[2]) == noise


def test_what_says_how_a_page_was_made_is_flat() -> None:
    data = {
        "wsi_deform": "0.1",
        "seed_of": 3,
        "none": None,
        "packages": {"a_b": [1, 2], "deep": {"c": ("x",)}},
    }
    assert _flat(data) == [
        ("wsi-deform", "0.1"),
        ("seed of", "3"),
        ("packages: a b", "1 2"),
        ("packages: deep: c", "x"),
    ]


def timed(epoch: float, seconds: float, **given: float) -> dict[str, float]:
    parts = {"read_seconds": 5.0, "forward_seconds": 2.0, "backward_seconds": 2.5}
    return {
        "epoch": epoch,
        "seconds": seconds,
        **parts,
        "samples_per_second": 400.0,
        "labelled_share": 0.25,
        **given,
    }


def drawn_pace(rows: list[dict[str, float]], monkeypatch: pytest.MonkeyPatch) -> Figure:
    monkeypatch.setattr(pace, "png_bytes", lambda figure: figure)
    found: Any = pace.pace_figure(rows)
    return found


def test_the_parts_of_an_epoch_lie_on_each_other_and_add_up_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [timed(1, 12.0), timed(2, 10.0, labelled_share=0.5, samples_per_second=1000.0), timed(3, 9.0)]
    figure = drawn_pace(rows, monkeypatch)
    times, speeds, shares = figure.axes
    assert figure.get_size_inches() == pytest.approx([12, 3.1])
    tops = [stairs.get_data() for stairs in times.patches]
    assert [stairs.get_label() for stairs in times.patches] == ["reading", "forward", "backward", "other"]
    assert [top.values.tolist() for top in tops] == [[5, 5, 5], [7, 7, 7], [9.5, 9.5, 9.5], [12, 10, 9.5]]
    assert [np.asarray(top.baseline).tolist() for top in tops[:2]] == [[0, 0, 0], [5, 5, 5]]
    assert tops[0].edges.tolist() == [0.5, 1.5, 2.5, 3.5]
    assert times.get_ylim() == (0, 15)
    assert speeds.lines[0].get_ydata().tolist() == [400, 1000, 400]
    assert (speeds.get_ylim(), shares.get_ylim()) == (pytest.approx((0, 1150)), pytest.approx((0, 0.575)))
    assert all(axes.get_xlim() == (0.5, 3.5) and axes.get_axisbelow() is True for axes in figure.axes)
    assert [label.get_text() for label in speeds.get_yticklabels()][1:3] == ["200", "400"]


def test_an_epoch_far_longer_than_most_is_cut_off_and_one_of_nothing_has_a_scale_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = drawn_pace([timed(1, 41.0), timed(2, 10.0), timed(3, 10.0)], monkeypatch)
    assert long.axes[0].get_ylim() == pytest.approx((0, 1.25 * 40))
    none = dict.fromkeys(timed(1, 0.0), 0.0) | {"epoch": 1.0}
    empty = drawn_pace([none], monkeypatch)
    assert [axes.get_ylim() for axes in empty.axes] == [(0, 1.25), (0, 1), (0, 1)]
    assert pace.pace_text([none]) == (
        "0.0 s in training steps: reading 0%, forward 0%, backward 0%. 0 samples per second; 0% of them lay on "
        "labelled pixels. Validation is not counted."
    )


@pytest.mark.parametrize(("epochs", "marker"), [(39, "."), (40, "None")])
def test_epochs_are_marked_where_they_are_few(
    epochs: int, marker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = drawn_pace([timed(number, 10.0) for number in range(epochs)], monkeypatch)
    assert figure.axes[1].lines[0].get_marker() == marker


def test_pictures_of_slides_are_1600_px_long_and_truth_is_asked_at_the_middle_of_their_pixels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from wsi_deform.report import pictures
    from wsi_deform.slide.slide import Slide

    reader = ArrayReader(np.full((90, 3200, 3), 200, np.uint8))
    monkeypatch.setattr(
        pictures, "open_slide", lambda path, mpp: Slide.from_reader(reader, slide_id=str(path), mpp=mpp)
    )
    picture, size = slide_picture(Path("s"))
    assert (picture.shape, size) == ((45, 1600, 3), Size(3200, 90))

    asked = []

    def at_points(points: Any) -> Any:
        asked.append(points)
        return np.arange(6, dtype=np.uint8)

    labels: Any = SimpleNamespace(slide_size=Size(30, 40), at_points=at_points)
    assert truth_picture(labels, Size(3, 2)).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert asked[0].tolist() == [[5, 10], [15, 10], [25, 10], [5, 30], [15, 30], [25, 30]]
