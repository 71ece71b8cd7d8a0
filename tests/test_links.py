"""Every link and every anchor in every Markdown file of the repository leads somewhere."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("configs", "data_manifests", "docker", "docs", "pipelines", "wsi_deform")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])

FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|^\[[^\]]+\]:\s+(\S+)", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z]+:", re.IGNORECASE)


def links(text: str) -> list[str]:
    """What Markdown links to and shows, but for addresses on the web; code is none."""
    found = LINK.findall(CODE.sub("", FENCE.sub("", text)))
    return [one or other for one, other in found if not ELSEWHERE.match(one or other)]


def anchors(text: str) -> list[str]:
    """Anchors of headings by the rule of GitHub, which is MyST's with ``myst_heading_anchors``."""
    found: list[str] = []
    for title in re.findall(r"^#{1,6} +(.+?)(?: +#+)? *$", FENCE.sub("", text), re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        again = sum(re.fullmatch(rf"{re.escape(slug)}(-\d+)?", each) is not None for each in found)
        found.append(f"{slug}-{again}" if again else slug)
    return found


@cache
def anchors_of(page: Path) -> frozenset[str]:
    return frozenset(anchors(page.read_text(encoding="utf-8")))


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    found = []
    for link in links(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        # GitHub shows a folder's README; a built page has no folders, so that the file itself is named.
        if not target.is_file() or (anchor and anchor not in anchors_of(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(page: Path) -> None:
    assert broken(page) == []


def test_pages_are_found() -> None:
    names = {page.relative_to(ROOT).as_posix() for page in PAGES}
    assert {"README.md", "docs/index.md", "configs/README.md", "pipelines/paper/README.md"} <= names


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# What `it` is: 3.5 µm\n\n## One\n\n## One\n", encoding="utf-8")
    page = tmp_path / "a.md"
    good = "[a](b.md) [b](b.md#what-it-is-35-µm) [c](b.md#one-1) [web](https://example.org/x) [i](#here)\n"
    code = "`[no](link)`\n\n```\n[none](either)\n# none-either\n```\n\n## Here\n"
    page.write_text(f"{good}[d](c.md) [e](b.md#two) ![f](g.png)\n[folder](.) [i](#none-either)\n{code}")
    assert broken(page) == ["c.md", "b.md#two", "g.png", ".", "#none-either"]


def test_every_page_of_docs_is_on_the_index_page() -> None:
    index = ROOT / "docs" / "index.md"
    listed = {link.partition("#")[0] for link in links(index.read_text(encoding="utf-8"))}
    assert {page.name for page in index.parent.glob("*.md")} - listed == {"index.md"}
