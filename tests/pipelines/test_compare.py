from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
try:
    from pipelines.compare import commits
finally:
    sys.path.remove(str(ROOT))

CURVE = [{"epoch": 0, "step": 1, "loss": 2.0}, {"epoch": 0, "step": 2, "loss": 1.0}]


def test_the_first_step_beyond_the_tolerance_is_named():
    other = [CURVE[0], CURVE[1] | {"loss": 1.25}]
    assert commits.first_difference(CURVE, CURVE, 0.0) == (None, 0.0)
    assert commits.first_difference(CURVE, other, 0.1) == ("epoch 1, step 2", 0.25)
    assert commits.first_difference(CURVE, other, 0.3) == (None, 0.25)
    missing, _ = commits.first_difference(CURVE, CURVE[:1], 0.0)
    assert missing is not None
    assert missing.startswith("step 2 of all")
    not_a_number, _ = commits.first_difference(CURVE, [CURVE[0] | {"loss": float("nan")}, CURVE[1]], 9.0)
    assert not_a_number == "epoch 1, step 1"


def test_epochs_are_put_side_by_side():
    one, two = (
        [{"loss": 1.0, "val_miou": 0.5}, {"loss": 0.5}],
        [{"loss": 1.5, "val_miou": 0.25}, {"loss": 0.5}],
    )
    lines = commits.table(["A", "B"], one, two).splitlines()
    assert lines[2] == "| 1 | 1.000000 | 1.500000 | +0.5 | 0.500000 | 0.250000 | -0.25 |"
    assert lines[3] == "| 2 | 0.500000 | 0.500000 | +0 |  |  |  |"
    assert not commits.scores_agree(one, two, 0.1)
    assert commits.scores_agree(one, two, 0.5)
    assert not commits.scores_agree(one, one[:1], 0.5)


def worktrees():
    # Paths alone: in another worktree somebody may commit meanwhile.
    lines = commits._git(ROOT, "worktree", "list", "--porcelain").splitlines()
    return [line for line in lines if line.startswith("worktree ")]


def test_a_commit_agrees_with_itself_and_leaves_no_worktree(capsys, monkeypatch):
    # A new checkout would compile its kernels first, which takes longer than to train four small slides without.
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    try:
        before = worktrees()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: there are no commits to compare")
    assert commits.main(["HEAD", "HEAD", "--set", "training.epochs=1"]) == commits.EQUAL
    assert "All 2 steps agree: losses at most 0 apart" in capsys.readouterr().out
    assert worktrees() == before


def test_an_unknown_commit_is_an_error(capsys):
    assert commits.main(["no-such-commit", "HEAD"]) == commits.FAILED
    assert "no-such-commit" in capsys.readouterr().err
