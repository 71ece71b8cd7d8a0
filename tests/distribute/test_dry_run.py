"""What a call would do with a slide, where the ledger tells of deaths, cuts and earlier attempts."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_study import tiny_model, tiny_study

from wsi_deform.distribute.job import SlideJob
from wsi_deform.distribute.lease import _text
from wsi_deform.distribute.ledger import Ledger, State
from wsi_deform.distribute.models import model_sha256
from wsi_deform.distribute.plan import planned_slides
from wsi_deform.distribute.sources import SlideSource
from wsi_deform.errors import ManifestError
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.model_file import find_model
from wsi_deform.slide_results import WantedOutputs


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    tiny_model(folder / "run", tiny_study(folder).classes)
    return folder


def plan(study: Path, out: Path, **options: Any) -> tuple[str, str]:
    source = SlideSource(path=study / "slides" / "P001-A.tif", slide_id="a")
    (only,) = planned_slides([source], study / "run", out, **options)
    return only.action, only.reason


def fingerprint_of(study: Path) -> str:
    model = find_model(study / "run")
    source = SlideSource(path=study / "slides" / "P001-A.tif", slide_id="a").absolute()
    job = SlideJob(source=source, model=model, model_sha256=model_sha256(model), out=study)
    # A model of slides with an mpp limits masks to tissue.
    return replace(job, wanted=WantedOutputs(limit_to_tissue=True)).fingerprint()


@pytest.mark.parametrize(
    ("state", "options", "expected"),
    [
        ({"status": "not_started"}, {}, ("segment", "new")),
        ({"status": "failed", "error": "no slide."}, {}, ("segment", "failed before: no slide.")),
        (
            {"status": "running"},
            {},
            ("segment", "begun and not finished: a process works on it or was cut off"),
        ),
        (
            {"status": "failed", "deaths": 2},
            {},
            ("fail", "its process died 2 times. --retry-failed tries it again"),
        ),
        (
            {"status": "running", "deaths": 1},
            {},
            ("fail", "its process died 2 times. --retry-failed tries it again"),
        ),
        (
            {"status": "failed", "deaths": 2, "error": "e"},
            {"retry_failed": True},
            ("segment", "failed before: e"),
        ),
        (
            {"status": "failed", "deaths": 2, "error": "e"},
            {"overwrite": True},
            ("segment", "failed before: e"),
        ),
    ],
)
def test_what_the_ledger_tells_of_a_slide_decides(
    study: Path, tmp_path: Path, state: dict[str, Any], options: dict[str, Any], expected: tuple[str, str]
) -> None:
    folder = MaskFolder(tmp_path)
    Ledger(folder).write(State(slide_id="a", fingerprint=fingerprint_of(study), **state))
    if state["status"] == "running" and "deaths" in state:
        # Left by a process of this machine, which is no longer there.
        said = json.loads(_text("x", 0))
        folder.lease("a").write_text(json.dumps({**said, "pid": 2**22 + 1}))
    before = folder.state("a").read_bytes()
    assert plan(study, tmp_path, **options) == expected
    assert folder.state("a").read_bytes() == before


def test_a_slide_that_is_missing_or_has_a_problem_fails_and_the_others_are_planned(
    study: Path, tmp_path: Path
) -> None:
    sources = [
        SlideSource(path=tmp_path / "none.svs", slide_id="none"),
        SlideSource(path=tmp_path / "odd", slide_id="odd", problem="is a named pipe."),
        SlideSource(path=study / "slides" / "P001-A.tif", slide_id="a"),
    ]
    found = planned_slides(sources, study / "run", tmp_path / "out")
    assert [each.action for each in found] == ["fail", "fail", "segment"]
    assert "none.svs" in found[0].reason
    assert found[1].reason == "is a named pipe."


def test_an_oracle_needs_labels_in_a_plan_too(study: Path, tmp_path: Path) -> None:

    shutil.copytree(study / "run", tmp_path / "oracle")
    about = json.loads((tmp_path / "oracle" / "best.json").read_text())
    about["config"]["sampling"]["density"] = "edges"
    (tmp_path / "oracle" / "best.json").write_text(json.dumps(about))
    source = SlideSource(path=study / "slides" / "P001-A.tif", slide_id="a")
    with pytest.raises(ManifestError, match="slides without labels"):
        planned_slides([source], tmp_path / "oracle", tmp_path / "out")
