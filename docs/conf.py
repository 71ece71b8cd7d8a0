"""How ``make docs`` makes the pages. Sphinx's source is the repository's root, so that links are those of the files."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = PROJECT["name"]
release = PROJECT["version"]
project_copyright = "the wsi-deform contributors"
html_title = f"{project} {release}"

extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = [
    "*.md",
    "configs/README.md",
    "data_manifests/*.md",
    "docker/README.md",
    "docs/*.md",
    "pipelines/**.md",
]
# Sphinx walks through every folder that is not named here.
exclude_patterns = [".*", "build", "demo", "dist", "shared", "tests", "wsi_deform"]

# GitHub's anchors, of every heading.
myst_heading_anchors = 6
# Reports of studies lie below their pages, which link to them.
suppress_warnings = ["toc.not_included"]

html_theme = "furo"
templates_path = ["_templates"]
html_additional_pages = {"index": "start.html"}
# Two hyphens of an option stay two.
smartquotes = False
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sphinx = False
# Nothing is fetched when a page is read.
html_theme_options = {"navigation_with_keys": False}

HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
ENTRY = re.compile(r"^- \[([^\]]+)\]\(([^)#:]+)\.md\)", re.MULTILINE)


def contents(index: str) -> str:
    """The sidebar's contents: of each section of the index page the links that begin an item of a list.

    Args:
        index: The page's Markdown.

    Returns:
        Hidden toctrees, a caption each.
    """
    _, *parts = HEADING.split(index)
    listed: set[str] = set()
    trees = []
    for caption, text in zip(parts[::2], parts[1::2], strict=True):
        # A page that several readers are sent to stands where it comes first.
        entries = [(title, page) for title, page in ENTRY.findall(text) if page not in listed]
        listed |= {page for _, page in entries}
        if entries:
            lines = "\n".join(f"{title} <{page}>" for title, page in entries)
            trees.append(f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{lines}\n```\n")
    return "\n".join(trees)


def add_contents(app: Any, page: str, source: list[str]) -> None:
    """Sphinx's event: a page was read."""
    if page == root_doc:
        source[0] += "\n" + contents(source[0])


def setup(app: Any) -> dict[str, bool]:
    """Sphinx's entry point of a configuration."""
    app.connect("source-read", add_contents)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
