"""Fields of a large slide on other workers, which are killed; workers that join and cannot do any."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from test_cluster import PATIENCE_S, Cluster, masks, segment, wait_for
from tiny_study import tiny_model, tiny_study

from wsi_deform.cover import budgets_of
from wsi_deform.distribute.ledger import Ledger
from wsi_deform.distribute.shared import MOST_AHEAD, _Offers
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.model_file import load_model, save_model
from wsi_deform.slide.open import open_slide

pytestmark = pytest.mark.skipif(os.name == "nt", reason="processes are killed by signals")
# Given to workers: whoever is to do fields of another's slide waits as long as there is a file "hold".
HELPER_HOOK = """
import os, time, uuid
from pathlib import Path

def dask_setup(worker):
    import wsi_deform.distribute.shared as shared
    folder, context = Path(os.environ["TEST_HOLD"]), shared._context

    def held(job, turn):
        (folder / f"{uuid.uuid4().hex}.reached").write_text(str(os.getpid()))
        while (folder / "hold").exists():
            time.sleep(0.05)
        return context(job, turn)

    shared._context = held
"""
WITHOUT_US = """
import sys
sys.modules["wsi_deform"] = None
for name in [each for each in sys.modules if each.startswith("wsi_deform.")]:
    sys.modules[name] = None
"""
OTHER_TORCH = """
from importlib.metadata import version as real
import wsi_deform.distribute.cluster as cluster
cluster.version = lambda name: "1.0" if name == "torch" else real(name)
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One slide of 13 fields, a model, and its mask as one process makes it."""
    folder = tmp_path_factory.mktemp("study")
    tiny_model(folder / "whole", tiny_study(folder, test=0).classes)
    (slide,) = (folder / "slides").iterdir()
    slide.rename(folder / "slides" / "a.tif")
    model = load_model(folder / "whole")
    fields = model.config.fields.model_copy(update={"side_um": 25.0, "whole_below_mm2": 0.0, "margin": 0.25})
    model.config = model.config.model_copy(update={"fields": fields})
    save_model(model, folder / "run" / "best.safetensors", facts={"epoch": 0})
    assert len(budgets_of(open_slide(folder / "slides" / "a.tif"), model)) > 8
    assert [each.status for each in segment(folder, folder / "serial").outcomes] == ["done"]
    return folder


@pytest.fixture(scope="module")
def module_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = Cluster(tmp_path_factory.mktemp("cluster") / "own", {}, workers=2, hook=HELPER_HOOK)
    try:
        yield found
    finally:
        found.end()


@pytest.mark.parametrize("dies", [False, True])
def test_an_idle_worker_does_fields_of_a_slide_and_may_die_over_them(study, tmp_path, module_cluster, dies):
    cluster = module_cluster
    cluster.hold()
    with ThreadPoolExecutor(1) as pool:
        try:
            future = pool.submit(segment, study, tmp_path, scheduler=str(cluster.file))
            helper = cluster.reached()
            if dies:
                os.kill(helper, signal.SIGKILL)
        finally:
            cluster.go_on()
        (outcome,) = future.result(PATIENCE_S).outcomes
    assert (outcome.status, outcome.state.deaths) == ("done", 0)
    assert outcome.state.pid != helper
    assert masks(tmp_path) == masks(study / "serial")
    serial = Ledger(MaskFolder(study / "serial")).read("a")
    assert outcome.state.samples == serial.samples
    if not dies:
        # What others did is counted, too; sizes beyond the first four are estimated from those that a process has seen.
        assert outcome.state.flops == pytest.approx(serial.flops, rel=0.02)


@pytest.mark.parametrize("hook", [OTHER_TORCH, WITHOUT_US], ids=["other_versions", "without_us"])
def test_slides_of_a_late_worker_that_cannot_do_them_go_to_others(study, tmp_path, caplog, hook):
    caplog.set_level(logging.WARNING)
    slides = tmp_path / "study" / "slides"
    slides.mkdir(parents=True)
    for name in "abcd":
        shutil.copy(study / "slides" / "a.tif", slides / f"{name}.tif")
    (tmp_path / "study" / "run").symlink_to(study / "run")
    found = Cluster(tmp_path / "cluster", {})
    try:
        found.hold()
        with ThreadPoolExecutor(1) as pool:
            try:
                future = pool.submit(segment, tmp_path / "study", tmp_path / "out", scheduler=str(found.file))
                found.reached()
                found.worker_joins(hook)
                # dask itself ends a worker that cannot read its task.
                wait_for(lambda: "It is given no slides" in caplog.text or found.late.returncode is not None)
            finally:
                found.go_on()
            outcomes = future.result(PATIENCE_S).outcomes
    finally:
        found.end()
    if hook == OTHER_TORCH:
        assert "has torch 1.0 (here " in caplog.text
    assert [each.status for each in outcomes] == ["done"] * 4
    expected = tifffile.imread(MaskFolder(study / "serial").mask("a"))
    for name in "abcd":
        np.testing.assert_array_equal(tifffile.imread(MaskFolder(tmp_path / "out").mask(name)), expected)


class StandInClient:
    """A cluster of 100 workers that never do anything."""

    def __init__(self) -> None:
        self.submitted = 0

    def nthreads(self) -> dict[str, int]:
        return {f"tcp://10.0.0.{number}": 1 for number in range(100)}

    def submit(self, *_: object, **__: object) -> StandInFuture:
        self.submitted += 1
        return StandInFuture()


class StandInFuture:
    """Of a task that nobody begins."""

    def add_done_callback(self, _: object) -> None:
        pass

    def done(self) -> bool:
        return False

    def release(self) -> None:
        pass


def test_a_bounded_number_of_fields_is_offered_and_what_nobody_begins_is_the_owner_s():
    client = StandInClient()
    offers = _Offers(client, None, [()] * 1000)  # type: ignore[arg-type]
    assert [offers.claim(0), offers.claim(0), offers.claim(0)] == [0, 1, None]
    offers.offer(0)
    assert client.submitted == MOST_AHEAD - 2
    offers.offer(0)
    assert client.submitted == MOST_AHEAD - 2
    assert [offers.claim(0), offers.claim(0)] == [2, 3]
    offers._told((0.0, (4, "tcp://10.0.0.1")))
    assert offers.claim(0) == 5
    offers._told((0.0, (4, "tcp://10.0.0.2")))
    assert offers.claim(0) == 4
    offers._told((0.0, (6, "tcp://10.9.9.9")))
    offers._asked_s -= 100
    offers.offer(0)
    assert offers.claim(0) == 6  # whoever began it is no more
    offers.offer(10)
    assert client.submitted == MOST_AHEAD - 2 + 10
