"""The scripts of docs/cluster.md."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from tiny_study import tiny_model, tiny_study

import wsi_deform
from wsi_deform.distribute.ledger import Ledger
from wsi_deform.mask.folder import MaskFolder

PAGE = Path(__file__).parents[2] / "docs" / "cluster.md"
# Says what SLURM would be asked for, and starts such workers here; dask-jobqueue's local jobs have no prologue.
LOCAL = """
import json, sys
import dask_jobqueue
from dask_jobqueue.local import LocalCluster

def of_slurm(**asked):
    known = {name: asked[name] for name in ("cores", "processes", "memory")}
    print(dask_jobqueue.core.__name__, json.dumps(asked), flush=True)
    return LocalCluster(**known, python=sys.executable, scheduler_options={"dashboard": False})

dask_jobqueue.SLURMCluster = of_slurm
"""


def block(language: str) -> str:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_job_script_is_bash_and_its_programs_have_its_options() -> None:
    script = block("bash")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    of_dask = {entry.name: entry for entry in entry_points(group="dask_cli")}
    for name in ("scheduler", "worker"):
        (line,) = (line for line in script.splitlines() if f"dask {name}" in line)
        known = {option for parameter in of_dask[name].load().params for option in parameter.opts}
        assert set(re.findall(r"--[\w-]+", line)) <= known


def test_the_script_for_dask_jobqueue_segments_slides(tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
    tiny_model(tmp_path / "run", tiny_study(tmp_path).classes)
    script = tmp_path / "segment_slurm.py"
    script.write_text(LOCAL + block("python").replace("jobs=16", "jobs=1"))
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "wsi-deform"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m wsi_deform "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(wsi_deform.__file__).parents[1]),
    }
    arguments = ["--slides", "slides", "--model", "run", "--out", "out"]
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 done, 0 skipped, 0 failed" in done.stdout
    states = Ledger(MaskFolder(tmp_path / "out")).all()
    assert [state.status for state in states] == ["done"] * 3
