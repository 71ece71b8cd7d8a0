"""Pages in a real browser: nothing is loaded from elsewhere, and nothing sticks out, on a desk or a telephone."""

from __future__ import annotations

import asyncio
import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_evaluation import drawn_evaluation, evaluation_of
from drawn_results import drawn_results
from headless import browser, chromium
from PIL import Image

from wsi_deform.evaluate.folder import write_all
from wsi_deform.report.folder import report_folder
from wsi_deform.report.page import Picture, Section, write_report

PROGRAM = chromium()
needs_browser = pytest.mark.skipif(
    PROGRAM is None or os.name == "nt",
    reason="no Chromium on this machine (WSI_DEFORM_CHROMIUM names one): the page is not looked at",
)
SEEN = """(() => ({
    sticksOut: document.documentElement.scrollWidth - window.innerWidth,
    loaded: performance.getEntriesByType("resource").filter((each) => !each.name.startsWith("data:")).length,
    broken: [...document.images].filter((each) => !each.naturalWidth).length,
    images: document.images.length,
    narrowest: Math.min(...[...document.querySelectorAll("tbody th")].filter((each) => each.offsetWidth)
        .map((each) => each.offsetWidth)),
    ground: getComputedStyle(document.body).backgroundColor,
    lost: [...document.querySelectorAll("nav a")].filter((each) => !document.querySelector(each.hash)).length,
}))()"""


async def looked_at(page: Path, *, dark: bool = False, script: bool = True) -> list[dict[str, Any]]:
    assert PROGRAM is not None
    found = []
    async with browser(PROGRAM) as tab:
        if dark:
            scheme = [{"name": "prefers-color-scheme", "value": "dark"}]
            await tab.call("Emulation.setEmulatedMedia", features=scheme)
        for width in (1280, 390):
            await tab.size(width, 900)
            await tab.open(page.as_uri())
            await tab.until("location.protocol === 'file:' && document.readyState === 'complete'")
            found.append(await tab.ask(SEEN))
        assert tab.problems == []
    return found


@needs_browser
def test_a_page_fits_desks_and_telephones_and_loads_nothing(tmp_path: Path) -> None:
    long = "a_name_without_any_place_to_break_" * 4
    out = drawn_results(tmp_path / "out", long, maps=False, grey=200)
    slides = drawn_evaluation().slides
    slides = (replace(slides[0], slide_id=long), *slides[1:])
    write_all(evaluation_of(list(slides)), out.path / "evaluation", provenance={}, figures=False)
    page = report_folder(out.path)
    assert "<script" not in page.read_text(encoding="utf-8")
    for seen in asyncio.run(looked_at(page)):
        assert seen["images"] == 11
        assert {key: seen[key] for key in ("sticksOut", "loaded", "broken", "lost")} == {
            "sticksOut": 0, "loaded": 0, "broken": 0, "lost": 0,
        }  # fmt: skip
        assert seen["narrowest"] >= 100
        assert seen["ground"] == "rgb(255, 255, 255)"
    assert asyncio.run(looked_at(page, dark=True))[0]["ground"] == "rgb(20, 23, 27)"


def test_pictures_of_slides_are_as_small_as_a_page_of_5_mb_needs_them(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (500, 3000, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format="JPEG", quality=95)
    sections = [
        Section(
            title=str(number), pictures=[Picture(image=buffer.getvalue(), caption="c", is_slide=True)] * 2
        )
        for number in range(20)
    ]
    text = write_report(tmp_path / "p.html", title="t", sections=sections).read_text()
    assert len(text) < 5_000_000
    assert 2 * 20 > text.count("<img") > 10
    assert text.count("2 pictures left out: the page would be too large.") > 5
