"""The page in a real browser: it loads, shows pixels, follows its switches and keys, and complains of nothing."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_results import drawn_results
from headless import Tab, browser, chromium

from wsi_deform.distribute.ledger import Ledger, State
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.viewer.catalogue import catalogue_of
from wsi_deform.viewer.server import Viewer

Colour = tuple[int, int, int]
PROGRAM = chromium()
pytestmark = pytest.mark.skipif(
    PROGRAM is None or os.name == "nt",
    reason="no Chromium on this machine (WSI_DEFORM_CHROMIUM names one): the page is not looked at",
)
SHOWN = "document.querySelector('#state').textContent === 'done' && !document.querySelector('#scale').hidden"
SEEN = """(() => {
    const canvas = document.querySelector("#canvas canvas");
    const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    return [0.3, 0.7].map((x) => {
        context.drawImage(canvas, x * canvas.width, canvas.height / 2, 1, 1, 0, 0, 1, 1);
        return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
    });
})()"""
# A slide of grey 200, and 50 % of the colours of gland and tumour over it.
GREY, GLAND, TUMOUR = (200, 200, 200), (215, 180, 100), (100, 179, 158)
OVERFLOW = "document.documentElement.scrollWidth - window.innerWidth"


class Browser:
    """A tab, and the loop that it lives in."""

    def __init__(self, runner: asyncio.Runner, tab: Tab) -> None:
        self.tab = tab
        self.run: Callable[[Awaitable[Any]], Any] = lambda work: runner.run(work)  # type: ignore[arg-type]

    def ask(self, expression: str) -> Any:
        return self.run(self.tab.ask(expression))

    def until(self, expression: str) -> Any:
        return self.run(self.tab.until(expression))

    def problems(self) -> list[str]:
        """What the browser complained about; OpenSeadragon calls it an error when a tile comes too late to be used."""
        return [each for each in self.tab.problems if "loaded before reset" not in each]

    def seen(self) -> list[list[int]]:
        """The colours of two places of the picture: of gland, and of tumour."""
        return self.ask(SEEN)

    def becomes(self, gland: Colour, tumour: Colour) -> None:
        """Wait until the picture has these colours, but for what JPEG rounds."""
        for _ in range(200):
            seen = self.seen()
            if np.abs(np.subtract(seen, [gland, tumour])).max() <= 3:
                return
            self.run(asyncio.sleep(0.1))
        raise AssertionError(f"{seen} never became {gland}, {tumour}; problems: {self.tab.problems}")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> MaskFolder:
    return drawn_results(tmp_path_factory.mktemp("page") / "out", grey=200)


@pytest.fixture(scope="module")
def url(out: MaskFolder) -> Iterator[str]:
    with Viewer(catalogue_of(out.path)) as viewer:
        thread = threading.Thread(target=viewer.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield viewer.url
        finally:
            viewer.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    assert PROGRAM is not None
    with asyncio.Runner() as runner:
        opened = browser(PROGRAM)
        tab = runner.run(opened.__aenter__())
        try:
            yield Browser(runner, tab)
        finally:
            runner.run(opened.__aexit__(None, None, None))


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_page_shows_the_slide_with_its_mask_and_follows_its_switches(
    chrome: Browser, url: str, width: int, height: int
) -> None:
    chrome.tab.problems.clear()
    chrome.run(chrome.tab.size(width, height))
    chrome.run(chrome.tab.open(url))
    chrome.until(SHOWN)
    chrome.becomes(GLAND, TUMOUR)
    assert chrome.ask(OVERFLOW) <= 0
    assert chrome.ask("document.querySelector('#scale-text').textContent") in ("50 µm", "100 µm", "200 µm")
    switch = "document.querySelector('#legend input[data-class=\"1\"]').click()"
    chrome.ask(switch)
    chrome.becomes(GREY, TUMOUR)
    chrome.ask(switch)
    chrome.becomes(GLAND, TUMOUR)
    assert chrome.problems() == []


def test_whole_slide_stays_in_view_when_the_window_changes(chrome: Browser, url: str) -> None:
    chrome.run(chrome.tab.size(1280, 800))
    chrome.run(chrome.tab.open(url))
    chrome.until(SHOWN)
    chrome.becomes(GLAND, TUMOUR)
    chrome.run(chrome.tab.size(900, 800))
    # 1,300 px of the slide over the width of the picture: a bar of 100 um, 200 px, has its share of it.
    width = "parseFloat(document.querySelector('#scale-bar').style.width)"
    chrome.until("document.querySelector('#canvas').clientWidth < 600")
    chrome.until(
        f"Math.abs({width} / parseFloat(document.querySelector('#scale-text').textContent) "
        "- 2 * document.querySelector('#canvas').clientWidth / 1300) < 0.01"
    )


def test_keys_do_what_the_list_of_keys_says(chrome: Browser, url: str) -> None:
    chrome.tab.problems.clear()
    chrome.run(chrome.tab.size(1280, 800))
    chrome.run(chrome.tab.open(url))
    chrome.until(SHOWN)
    chrome.becomes(GLAND, TUMOUR)
    press = lambda key: chrome.run(chrome.tab.press(key))  # noqa: E731
    press("m")
    chrome.becomes(GREY, GREY)
    press("m")
    chrome.becomes(GLAND, TUMOUR)
    press("s")
    chrome.until("document.querySelector('#sample-count').textContent === '2 in view'")
    before = chrome.ask("document.querySelector('#scale-text').textContent")
    press("+")
    chrome.until(f"document.querySelector('#scale-text').textContent !== {before!r}")
    press("?")
    assert chrome.ask("document.querySelector('#help').open")
    assert chrome.ask("document.activeElement.textContent") == "Close"
    press("Escape")
    chrome.until("!document.querySelector('#help').open")
    assert chrome.problems() == []


def test_page_follows_the_batch_and_bad_slides_stay_themselves(
    chrome: Browser, url: str, out: MaskFolder
) -> None:
    chrome.tab.problems.clear()
    chrome.run(chrome.tab.size(1280, 800))
    chrome.run(chrome.tab.open(url))
    chrome.until(SHOWN)
    Ledger(out).write(State(slide_id="b", status="failed", slide="/none/<b>.svs", error="<b>no</b> mpp"))
    chrome.until("document.querySelector('#counts').textContent === '1 done, 1 failed'")
    chrome.until("[...document.querySelectorAll('#list img')].some((each) => each.naturalWidth === 240)")
    # What others wrote is text, never HTML.
    assert chrome.ask("document.querySelector('#list').innerText").count("<b>no</b> mpp") == 1
    chrome.ask("document.querySelectorAll('#list button')[0].click()")
    chrome.until("document.querySelector('#name').textContent === 'b'")
    assert "<b>no</b> mpp" in chrome.ask("document.querySelector('#message').textContent")
    chrome.ask("document.querySelectorAll('#list button')[1].click()")
    chrome.until(SHOWN)
    chrome.becomes(GLAND, TUMOUR)
    assert chrome.ask("document.querySelector('#message').hidden")
    assert chrome.problems() == []


def test_the_page_on_keys_has_all_keys(chrome: Browser, url: str) -> None:
    chrome.run(chrome.tab.open(url))
    chrome.until("document.querySelectorAll('#keys tr').length > 0")
    rows = chrome.ask(
        "[...document.querySelectorAll('#keys tr')].map(r => [r.children[0].textContent, r.children[1].textContent])"
    )
    docs = (Path(__file__).parents[2] / "docs" / "view.md").read_text(encoding="utf-8")
    for key, words in rows:
        assert f"| `{key}` | {words} |" in docs
