"""The page that sets methods side by side."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import dump_config, parse_config
from wsi_deform.config_sections import Config
from wsi_deform.evaluate.masks import Evaluation, SlideEvaluation
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.geometry import Point, Size
from wsi_deform.manifest.rows import Manifest, ManifestRow
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.scale_bar import ScaleBar
from wsi_deform.report import comparison
from wsi_deform.report.comparison import _columns, _seconds, share_sampled


def test_samples_of_a_page_of_methods_are_a_share_of_the_average_slide() -> None:
    evaluation: Any = SimpleNamespace(
        slides=[SimpleNamespace(size=Size(2048, 512)), SimpleNamespace(size=Size(1024, 512))]
    )
    config = parse_config({"sampling": {"budget": [16, 64]}}, source="test")
    assert share_sampled(config, evaluation) == "1 / 768"
    assert isinstance(config, Config)
    values = {"mIoU": 0.5, "IoU gland": 0.25, "pixel accuracy": 0.75}
    assert _columns(values, True) == {"gland": 0.25}
    assert _columns(values, False) == {"mIoU": 0.5, "pixel accuracy": 0.75}
    assert _seconds({"joint": [{"seconds": 40.4}, {"seconds": 2.0}, {}]}) == {
        "training of joint": "42 s, 3 epochs"
    }


def test_a_page_of_methods_sets_their_measures_classes_and_curves_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = ClassTable.from_names(["background", "gland"])
    shown: dict[str, Any] = {}
    monkeypatch.setattr(comparison, "write_report", lambda path, **given: shown.update(given) or path)
    monkeypatch.setattr(comparison, "_slides", lambda *given: [])
    monkeypatch.setattr(comparison, "curves", lambda logs: [{name: len(logs[name]) for name in logs}])
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
        )
        evaluations[method] = Evaluation(
            masks=tmp_path, split="test", classes=classes, slides=(slide,), unmeasured=()
        )
    path = comparison.compare_methods(
        tmp_path / "page.html",
        title="t",
        manifest=Manifest(rows=(), folder=tmp_path),
        classes=classes,
        runs=runs,
        masks={},
        evaluations=evaluations,
        facts={"seed": 3},
    )
    assert path == tmp_path / "page.html"
    assert [(fact.value, fact.what) for fact in shown["facts"]] == [
        ("0.458", "mIoU, uniform"),
        ("0.694", "mIoU, joint"),
        ("1 / 10", "samples / pixels of the slide, uniform"),
        ("1 / 5", "samples / pixels of the slide, joint"),
    ]
    of_all, of_classes, curves = shown["sections"]
    assert of_all.table.header == ("method", "mIoU", "mIoU without background", "pixel accuracy")
    assert of_all.table.rows == (("uniform", "0.458", "0.250", "0.700"), ("joint", "0.694", "0.500", "0.900"))
    assert of_classes.table.header == ("method", "background", "gland")
    assert of_classes.table.rows == (("uniform", "0.667", "0.250"), ("joint", "0.889", "0.500"))
    assert curves.pictures == [{"uniform": 2, "joint": 2}]
    assert shown["lead"][1].startswith("joint: The deformation network looks at a low-res view")
    assert shown["provenance"]["training of uniform"] == "61 s, 2 epochs"
    assert shown["provenance"]["seed"] == 3
    assert "config_sha256" in shown["provenance"]


def test_three_slides_are_shown_with_where_each_method_sampled_and_what_it_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = ClassTable.from_names(["background", "gland"])
    rows = tuple(ManifestRow(slide=Path(f"{each}.tif"), slide_id=each, mpp=0.5) for each in "abcd")
    rights = {"a": 60, "b": 90, "c": 30, "d": 80}
    evaluation: Any = SimpleNamespace(
        slides=[
            SimpleNamespace(slide_id=name, predicted=Confusion(np.array([[right, 100 - right], [0, 100]])))
            for name, right in rights.items()
        ]
    )
    white = np.full((20, 60, 3), 255, np.uint8)
    asked: list[Any] = []
    monkeypatch.setattr(comparison, "slide_picture", lambda path, mpp: (white, Size(600, 200)))
    monkeypatch.setattr(
        comparison,
        "open_labelled",
        lambda row, table: (SimpleNamespace(size=Size(600, 200), mpp_xy=Point(0.5, 0.5)), row.slide_id),
    )
    monkeypatch.setattr(comparison, "truth_picture", lambda labels, size: f"truth of {labels}, {size}")

    def sampled(folder: MaskFolder, slide_id: str, size: Size) -> Any:
        samples = SimpleNamespace(points_px=f"{folder.path.name} {slide_id}")
        return SimpleNamespace(samples=samples, labels=f"labels {size}")

    monkeypatch.setattr(comparison, "sampled_picture", sampled)
    monkeypatch.setattr(
        comparison, "levels_picture", lambda samples, picture, **named: None
    )  # none in blocks
    monkeypatch.setattr(
        comparison,
        "sampling_points_figure",
        lambda *given, **named: asked.append((given[1], named)) or b"points",
    )
    monkeypatch.setattr(
        comparison,
        "comparison_figure",
        lambda picture, maps, table, title, bar: asked.append((maps, title, bar)) or b"maps",
    )
    masks = {"uniform": tmp_path / "one", "joint": tmp_path / "two"}
    sections = comparison._slides(
        Manifest(rows=rows, folder=tmp_path), classes, masks, {"uniform": evaluation, "joint": evaluation}
    )
    assert sections[0].text == [
        "3 of the 4 held-out slides are shown: those where the mean IoU of joint is lowest, in the middle, and highest."
    ]
    assert sections[0].legend == list(zip(classes.names, classes.colours, strict=True))
    # (30 / 100 + 100 / 170) / 2, and so on.
    assert [section.title for section in sections[1:]] == [
        "c: mIoU 0.444, the worst of 4", "a: mIoU 0.657, the middle one of 4", "b: mIoU 0.905, the best of 4",
    ]  # fmt: skip
    assert [(each.image, each.caption) for each in sections[3].pictures] == [
        (b"maps", "b: the slide, the truth, and the masks."),
        (b"points", "b: where uniform samples."),
        (b"points", "b: where joint samples."),
    ]
    bar = ScaleBar(share=50 / 300, text="50 \N{MICRO SIGN}m")
    assert asked[6:9] == [
        (
            {"truth": "truth of b, 60 x 20", "uniform": "labels 60 x 20", "joint": "labels 60 x 20"},
            "slide b",
            bar,
        ),
        ("one b", {"size": Size(600, 200), "title": "uniform", "bar": bar}),
        ("two b", {"size": Size(600, 200), "title": "joint", "bar": bar}),
    ]
    few: Any = SimpleNamespace(slides=evaluation.slides[:3])
    assert [name for name, _ in comparison.chosen_slides(few)] == ["c", "a", "b"]
