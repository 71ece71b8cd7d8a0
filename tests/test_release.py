"""What a release says of itself: one version in all places, and a page that knows every format."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from wsi_deform import config_format, model_file
from wsi_deform.distribute import job
from wsi_deform.export import folder as export_folder
from wsi_deform.mask import geojson
from wsi_deform.model_package import contents
from wsi_deform.runtime import prepared, quantised

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "versions.md").read_text(encoding="utf-8")


def test_the_version_is_the_same_in_all_places():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    # The changelog has its heading, or what came since the last release stands under "Unreleased".
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0].split()[0] in ("Unreleased", version)


@pytest.mark.parametrize(
    ("what", "written"),
    [
        ("configuration", f"`format: {config_format.FORMAT}`"),
        ("model", f'"{model_file.FORMAT}"'),
        ("mask", f"`MASK_VERSION` {job.MASK_VERSION}"),
        ("outlines", f"`format: {geojson.FORMAT}`"),
        ("shared model", f'"{contents.FORMAT}"'),
        ("export", f'"{export_folder.EXPORT_FORMAT}"'),
        ("int8 networks", f'"{quantised.FORMAT}"'),
        ("prepared networks", f'"{prepared.FORMAT}"'),
    ],
)
def test_the_page_of_versions_has_today_s_format(what, written):
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| {what} |")]
    assert written in row
