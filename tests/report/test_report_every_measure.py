"""Nothing that `evaluate` measures is forgotten in the page: every number of its data is looked for there."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from drawn_evaluation import drawn_evaluation

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.anonymous import AnonymousNames
from wsi_deform.evaluate import cost
from wsi_deform.evaluate.folder import write_all
from wsi_deform.evaluate.tables import evaluation_data
from wsi_deform.report import cells
from wsi_deform.report.evaluated import evaluated_sections
from wsi_deform.report.page import Section, write_report

# What a page says otherwise: sizes by their words, and where a bin or a class begins.
WORDS = {"from", "to", "width", "colours", "groups", "mpp"}
# Rows of slides are whole in slides.csv; the page has those measures of them that fit into a line.
OF_SLIDES = {"pooled", "measured", "missed", "intervals"}


def numbers(data: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Every number in the data, with the path of keys that leads to it."""
    if isinstance(data, Mapping):
        for name, value in data.items():
            if name not in WORDS or isinstance(value, Mapping):
                yield from numbers(value, f"{key}.{name}")
    elif isinstance(data, list):
        for place, value in enumerate(data):
            yield from numbers(value, f"{key}[{place}]")
    elif isinstance(data, int | float) and not isinstance(data, bool):
        yield key, data


def shown_as(key: str, value: float) -> set[str]:
    """How a page may write a number: lengths and ratios to two digits, counts whole, shares to three or in percent."""
    if isinstance(value, int):
        return {f"{value:,}"}
    if ".objects" in key:
        return {f"{value:.0%}", f"{value:.1%}"}
    if ".missed" in key:
        return {f"{value:.0%}", f"{value:,.0f}"}
    if (".boundary" in key and "capped" not in key) or ".ratio" in key:
        return {f"{value:,.2f}"}
    return {f"{value:.3f}", f"{value:.1%}"}


def texts_of(sections: list[Section], folder: Path) -> list[str]:
    page = write_report(folder / "page.html", title="t", sections=sections).read_text(encoding="utf-8")
    page = re.sub(r"<style>.*?</style>|<img[^>]*>", "", page, flags=re.DOTALL)
    return [html.unescape(each) for each in re.findall(r">([^<>]+)<", page)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    write_all(drawn_evaluation(), folder / "evaluation", provenance={}, figures=False)
    return folder / "evaluation" / "test" / "evaluation.json"


def test_every_number_of_an_evaluation_is_in_its_page(written: Path, tmp_path: Path) -> None:
    data = json.loads(written.read_text(encoding="utf-8"))
    sections, fact = evaluated_sections(written)
    words = " ".join(texts_of(sections, tmp_path)) + f" {fact.value} {fact.more}"
    shown = set(re.findall(r"[0-9]+(?:,[0-9]{3})*(?:[.][0-9]+)?%?", words))
    wanted = list(numbers({name: data[name] for name in OF_SLIDES}))
    assert len(wanted) > 700
    missing = [(key, value) for key, value in wanted if not shown_as(key, value) & shown]
    assert missing == []


def test_every_interval_stands_below_its_measure(written: Path) -> None:
    data = json.loads(written.read_text(encoding="utf-8"))
    sections, _ = evaluated_sections(written)
    cells = [cell for section in sections if section.table for row in section.table.rows for cell in row]
    gland, held = data["pooled"]["predicted"]["recall"]["gland"], data["intervals"]["recall"]["gland"]
    assert f"{gland:.3f}\n{held[0]:.3f} to {held[1]:.3f}" in cells
    ratio, (low, high) = data["measured"]["frequency"][2]["ratio"], data["intervals"]["frequency"][2]["ratio"]
    assert f"{ratio:.2f}\n{low:.2f} to {high:.2f}" in cells
    row = data["measured"]["objects"][0]
    low, high = data["intervals"]["objects"][0]["touched"]
    assert f"{row['touched']:,}\n{row['touched'] / row['objects']:.0%}, {low:.0%} to {high:.0%}" in cells


def test_groups_of_classes_are_rows_of_their_own(tmp_path: Path) -> None:
    one = drawn_evaluation(2)
    table = ClassTable.from_names(list(one.classes.names))
    grouped = replace(one, classes=replace(table, groups=(("any tissue", (1, 2)),)))
    write_all(grouped, tmp_path / "evaluation", provenance={}, figures=False)
    sections, _ = evaluated_sections(tmp_path / "evaluation.json")
    assert sections[0].table is not None
    row = next(row for row in sections[0].table.rows if row[0] == "group any tissue (gland, nerve)")
    held = evaluation_data(grouped)["pooled"]["predicted"]["groups"]["any tissue"]
    assert row[1:5] == tuple(f"{held[key]:.3f}" for key in ("iou", "dice", "precision", "recall"))


def test_of_very_many_slides_the_worst_are_shown_and_the_page_says_so(written: Path, tmp_path: Path) -> None:
    data = json.loads(written.read_text(encoding="utf-8"))
    data["slides"] = [
        {**slide, "slide_id": f"Miller {place:03d}-{slide['slide_id']}", "patient": f"Patient {place}"}
        for place in range(300)
        for slide in data["slides"]
    ][:600]
    data["missed"] = [{**each, "slide_id": "Miller"} for each in data["missed"]]
    path = tmp_path / "evaluation" / "test" / "evaluation.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(data))
    sections, _ = evaluated_sections(path)
    every = next(section for section in sections if section.title == "Every slide, the worst first")
    assert every.table is not None
    assert len(every.table.rows) == 100
    assert every.notes == [
        "100 of 600 slides, the worst ones, are shown. All are in evaluation/test/slides.csv."
    ]
    scores = [float(row[2]) for row in every.table.rows]
    assert scores == sorted(scores)
    page = write_report(tmp_path / "page.html", title="t", sections=sections)
    assert page.stat().st_size < 1_500_000
    hidden, _ = evaluated_sections(path, AnonymousNames(tmp_path))
    assert "Miller" not in write_report(tmp_path / "page.html", title="t", sections=hidden).read_text()
    assert "Patient" not in page.read_text()


def test_figures_are_written_as_png_and_svg(written: Path, tmp_path: Path) -> None:
    sections, _ = evaluated_sections(written)
    write_report(tmp_path / "page.html", title="t", sections=sections, figures=tmp_path / "figures")
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    kinds = {
        "calibration", "classes", "confusion", "cost-decoded-pixels", "cost-flops", "cost-peak-memory-bytes",
        "cost-read-pixels", "cost-seconds", "frequency", "objects", "trimap",
    }  # fmt: skip
    assert names == {f"{kind}-test.{form}" for kind in kinds for form in ("png", "svg")}
    assert (tmp_path / "figures" / "confusion-test.png").read_bytes().startswith(b"\x89PNG")
    assert b"gland" in (tmp_path / "figures" / "confusion-test.svg").read_bytes()


def test_every_cost_has_its_words() -> None:
    assert tuple(cells.COSTS) == cost.COSTS
