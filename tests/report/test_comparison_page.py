"""The page that sets methods side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import dump_config, parse_config
from wsi_deform.evaluate.cost import NOTHING, SlideCost
from wsi_deform.evaluate.masks import Evaluation, SlideEvaluation
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.geometry import Point, Size
from wsi_deform.manifest.rows import Manifest, ManifestRow
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.scale_bar import ScaleBar
from wsi_deform.report import comparison
from wsi_deform.report.comparison import _columns, look_of


def test_measures_of_classes_and_others_are_two_tables() -> None:
    values = {"mIoU": 0.5, "IoU gland": 0.25, "pixel accuracy": 0.75}
    assert _columns(values, True) == {"gland": 0.25}
    assert _columns(values, False) == {"mIoU": 0.5, "pixel accuracy": 0.75}


class Named(NamedTuple):
    """A figure by its name, and of what it is."""

    name: str
    logs: Mapping[str, Any]


def test_a_page_of_methods_sets_their_measures_classes_and_curves_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = ClassTable.from_names(["background", "gland"])
    shown: dict[str, Any] = {}
    monkeypatch.setattr(comparison, "write_report", lambda path, **given: shown.update(given) or path)
    monkeypatch.setattr(comparison, "_slides", lambda *given: [])
    monkeypatch.setattr(comparison, "curves", lambda logs: [Named("loss", logs), Named("learning-rate", {})])
    runs, evaluations = {}, {}
    for method, right, long in (("uniform", 60, 5), ("joint", 80, 10)):
        run = runs[method] = tmp_path / method
        run.mkdir()
        config = parse_config({"name": method, "sampling": {"budget": [2, long]}}, source="test")
        (run / "config.yaml").write_text(dump_config(config))
        (run / "log.csv").write_text("epoch,loss,segmentation_loss,seconds\n1,1,1,30.0\n2,1,1,31.0\n")
        slide = SlideEvaluation(
            slide_id="a",
            size=Size(10, 10),
            predicted=Confusion(np.array([[right, 10], [80 - right, 10]])),
            sampled=None,
            cost=SlideCost(samples=2 * long, read_pixels=2 * long),
        )
        evaluations[method] = Evaluation(
            masks=tmp_path, split="test", classes=classes, slides=(slide,), unmeasured=()
        )
    path = comparison.compare_methods(
        tmp_path / "page.html",
        title="t",
        lead=["Drawn slides."],
        best="joint",
        manifest=Manifest(
            rows=(ManifestRow(slide=tmp_path / "a.tif", slide_id="a", data_licence="CC0"),), folder=tmp_path
        ),
        classes=classes,
        runs=runs,
        masks={},
        evaluations=evaluations,
        facts={"seed": 3},
    )
    assert path == tmp_path / "page.html"
    assert [(fact.value, fact.what, fact.more) for fact in shown["facts"]] == [
        ("0.458", "mIoU, uniform", "10 samples, 1 / 10 of the pixels"),
        ("0.694", "mIoU, joint", "20 samples, 1 / 5 of the pixels"),
    ]
    assert shown["lead"] == ["Drawn slides."]
    methods, of_all, of_classes, curves = shown["sections"]
    assert methods.table.rows == (
        ("uniform", "10 samples", "1 / 10", "10", "random", "2 epochs, 1 min 1 s"),
        ("joint", "20 samples", "1 / 5", "20", "random", "2 epochs, 1 min 1 s"),
    )
    assert [text.partition(":")[0] for text in methods.text] == ["uniform", "joint"]
    assert of_all.table.header == ("method", "mIoU", "mIoU without background", "pixel accuracy")
    assert of_all.table.rows == (("uniform", "0.458", "0.250", "0.700"), ("joint", "0.694", "0.500", "0.900"))
    assert of_classes.table.header == ("method", "background", "gland")
    assert of_classes.table.rows == (("uniform", "0.667", "0.250"), ("joint", "0.889", "0.500"))
    # Learning rates say nothing of how methods compare.
    assert [each.name for each in curves.pictures] == ["loss"]
    assert [*curves.pictures[0].logs] == ["uniform", "joint"]
    assert methods.text[1].startswith("joint: The deformation network looks at a low-res view")
    assert shown["provenance"]["data licences"] == "CC0 (1 slide)"
    assert shown["provenance"]["seed"] == 3
    assert "config_sha256" in shown["provenance"]


def measured(slide_id: str, right: int, cost: SlideCost = NOTHING) -> SlideEvaluation:
    """A slide of half background, of which so many of 100 px are labelled right, and half gland."""
    return SlideEvaluation(
        slide_id=slide_id,
        size=Size(600, 200),
        predicted=Confusion(np.array([[right, 100 - right], [0, 100]])),
        sampled=None,
        cost=cost,
    )


def test_three_slides_are_shown_with_where_each_method_sampled_and_what_it_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = ClassTable.from_names(["background", "gland"])
    rows = tuple(ManifestRow(slide=Path(f"{each}.tif"), slide_id=each, mpp=0.5) for each in "abcd")
    rights = {"a": 60, "b": 90, "c": 30, "d": 80}
    joint: Any = SimpleNamespace(slides=[measured(name, right) for name, right in rights.items()])
    other: Any = SimpleNamespace(slides=[measured(name, 100 - right) for name, right in rights.items()])
    white = np.full((20, 60, 3), 255, np.uint8)
    asked: list[Any] = []
    monkeypatch.setattr(comparison, "slide_picture", lambda path, mpp: (white, Size(600, 200)))
    monkeypatch.setattr(
        comparison,
        "open_labelled",
        lambda row, table: (SimpleNamespace(size=Size(600, 200), mpp_xy=Point(0.5, 0.5)), row.slide_id),
    )
    monkeypatch.setattr(comparison, "truth_picture", lambda labels, size: f"truth of {labels}, {size}")
    monkeypatch.setattr(
        comparison,
        "look_of",
        lambda folder, slide, size, mpp: (folder.path.name, slide.predicted.counts[0, 0], f"{size}", mpp.x),
    )
    monkeypatch.setattr(
        comparison,
        "looks_figure",
        lambda picture, truth, looks, table, **named: asked.append((truth, looks, named)) or b"looks",
    )
    masks = {"joint": tmp_path / "one", "uniform": tmp_path / "two"}
    evaluations = {"joint": joint, "uniform": other}
    sections = comparison._slides(Manifest(rows=rows, folder=tmp_path), classes, masks, evaluations, "joint")
    assert sections[0].text == [
        "3 of the 4 held-out slides are shown: those where the mean IoU of joint is lowest, in the middle, and highest."
        " Left: where each method looked. Right: the truth, and the masks."
    ]
    # (30 / 100 + 100 / 170) / 2, and so on.
    assert [section.title for section in sections[1:]] == [
        "c: mIoU 0.444, the worst of 4 (joint)", "a: mIoU 0.657, the middle one of 4 (joint)",
        "b: mIoU 0.905, the best of 4 (joint)",
    ]  # fmt: skip
    assert [(each.image, each.caption, each.is_slide) for each in sections[3].pictures] == [
        (b"looks", "b: the slide and the truth; where joint, uniform looked, and their masks.", True)
    ]
    assert asked[2] == (
        "truth of b, 60 x 20",
        {"joint": ("one", 90, "60 x 20", 0.5), "uniform": ("two", 10, "60 x 20", 0.5)},
        {
            "size": Size(600, 200),
            "title": "slide b",
            "bar": ScaleBar(share=50 / 300, text="50 \N{MICRO SIGN}m"),
        },
    )
    few: Any = SimpleNamespace(slides=joint.slides[:3])
    assert [name for name, _ in comparison.chosen_slides(few)] == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("levels", "cost", "how", "scales"),
    [
        (None, SlideCost(read_pixels=9), "2 samples", ()),
        (("tints", (32.0, 16.0)), SlideCost(read_pixels=4096), "4,096 pixels read",
         ["16 um per px", "8 um per px"]),
        (("tints", (32.0, 16.0)), NOTHING, "where it read closer", ["16 um per px", "8 um per px"]),
    ],
)  # fmt: skip
def test_a_look_says_how_much_was_read_and_how_well_the_slide_was_labelled(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    levels: Any,
    cost: SlideCost,
    how: str,
    scales: list[str],
) -> None:
    samples = SimpleNamespace(points_px=np.zeros((2, 2)))
    seen = SimpleNamespace(samples=samples, labels="labels")
    monkeypatch.setattr(comparison, "sampled_picture", lambda folder, slide_id, size: seen)
    monkeypatch.setattr(comparison, "read_levels", lambda samples, size: levels)
    look = look_of(MaskFolder(tmp_path), measured("a", 60, cost), Size(60, 20), Point(0.5, 0.5))
    assert (look.how, look.what, look.labels, look.scales) == (how, "mIoU 0.657", "labels", scales)
    assert look.levels == (None if levels is None else "tints")
