"""A sample of the fuzz: damaged files are used, or refused with errors of our own."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import pytest

from pipelines.fuzz.cases import WEIGHTS, Case, cases
from pipelines.fuzz.child import drawn_case, outcome
from pipelines.fuzz.seeds import SEEDS
from pipelines.fuzz.targets import use
from pipelines.fuzz.watched import WatchedChild


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("seeds")


@pytest.mark.parametrize("kind", SEEDS)
def test_damaged_files_are_used_or_refused(kind: str, seeds: Path, tmp_path: Path):
    found = []
    for number in range(5):
        (out := tmp_path / str(number)).mkdir()
        path = drawn_case(kind, number, 0, seeds, out)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.append(outcome(kind, path))
    assert [each["ok"] in ("used", "refused") for each in found] == [True] * 5, found
    assert max(float(str(each["seconds"])) for each in found) < 10


@pytest.mark.parametrize("kind", SEEDS)
def test_files_that_are_not_damaged_are_used(kind: str, seeds: Path, tmp_path: Path):
    drawn_case(kind, 0, 0, seeds, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        use(kind, seeds / kind / SEEDS[kind][0])


def test_every_kind_has_its_share_and_cases_repeat(seeds: Path, tmp_path: Path):
    assert WEIGHTS.keys() == SEEDS.keys()
    first = [case for case, _ in zip(cases(7), range(66), strict=False)]
    assert Counter(case.kind for case in first)["svs"] == 6
    assert first[:2] == [Case("tiff-jpeg", 0, 7), Case("tiff-jpeg", 1, 7)]
    drawn = []
    for name in "ab":
        (tmp_path / name).mkdir()
        drawn.append(drawn_case("svs", 3, 7, seeds, tmp_path / name).read_bytes())
    assert drawn[0] == drawn[1]


def test_a_case_that_takes_too_long_is_a_failure_and_the_next_one_is_done():
    with WatchedChild(seconds=0.0) as child:
        assert child.outcome(Case("manifest", 0, 0))["said"] == "more than 0 s"
        child._seconds = 10.0
        assert child.outcome(Case("manifest", 0, 0))["ok"] in ("used", "refused")
        child._mib = 1
        assert "MiB of memory, 1 at most" in child.outcome(Case("svs", 0, 0))["said"]
