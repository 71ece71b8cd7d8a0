"""Slides on a real scheduler and real worker processes, which are killed; the connections are encrypted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster
from forked import Forked
from tiny_study import tiny_model, tiny_study

import wsi_deform
from wsi_deform.distribute import cluster as cluster_module
from wsi_deform.distribute import models as models_module
from wsi_deform.distribute.batch import segment_slides
from wsi_deform.distribute.cluster import OtherVersionsError, connected, difference, for_this_worker
from wsi_deform.distribute.job import SlideJob
from wsi_deform.distribute.ledger import Ledger
from wsi_deform.distribute.models import model_sha256
from wsi_deform.distribute.outcome import Batch
from wsi_deform.distribute.sources import slide_sources
from wsi_deform.distribute.workers import segmented_by_workers
from wsi_deform.errors import SlideError
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.model_file import find_model

pytestmark = pytest.mark.skipif(os.name == "nt", reason="processes are killed by signals")
PATIENCE_S = 180
IDS = ["a", "b", "c"]
# Given to workers: a slide whose files are made waits before they take their places, as long as there is a file "hold".
HOOK = """
import os, time
from pathlib import Path

def dask_setup(worker):
    import wsi_deform.distribute.turn as turn
    folder, publish = Path(os.environ["TEST_HOLD"]), turn.publish

    def held(made, out, slide_id):
        (folder / f"{slide_id}.reached").write_text(str(os.getpid()))
        while (folder / "hold").exists():
            time.sleep(0.05)
        return publish(made, out, slide_id)

    turn.publish = held
"""


class Cluster:
    """A scheduler and one worker (or more) of one thread, each a process of its own.

    Attributes:
        file: The scheduler's file.
        scheduler: The process.
    """

    def __init__(self, folder: Path, tls: Mapping[str, str], *, workers: int = 1, hook: str = HOOK) -> None:
        self.folder, self.file = folder, folder / "scheduler.json"
        folder.mkdir()
        (folder / "hook.py").write_text(hook)
        self.environment = {
            **os.environ,
            **tls,
            "PYTHONPATH": str(Path(wsi_deform.__file__).parents[1]),
            "TEST_HOLD": str(folder),
        }
        protocol = "tls" if tls else "tcp"
        here = ["--scheduler-file", self.file, "--protocol", protocol, "--no-dashboard"]
        self.scheduler = self._started("scheduler", "--host", "127.0.0.1", "--port", "0", *here)
        wait_for(self.file.exists)
        self.arguments = [*here, "--nthreads", "1", "--local-directory", folder]
        self.worker = self._started(
            "worker", *self.arguments, "--nworkers", workers, "--preload", folder / "hook.py"
        )
        self.late: Forked | None = None

    @property
    def address(self) -> str:
        return str(json.loads(self.file.read_text())["address"])

    def worker_joins(self, hook: str) -> None:
        """Start one more worker, with what is to be done in it first."""
        (self.folder / "late.py").write_text(hook)
        self.late = self._started(
            "worker", *self.arguments, "--nworkers", 1, "--preload", self.folder / "late.py"
        )

    def hold(self) -> None:
        """Let slides wait in the middle from now on."""
        for left in self.folder.glob("*.reached"):
            left.unlink()
        (self.folder / "hold").touch()

    def go_on(self) -> None:
        (self.folder / "hold").unlink(missing_ok=True)

    def reached(self) -> int:
        """Wait until a slide is in the middle; the number of the process that has it."""
        found: list[Path] = []
        wait_for(lambda: bool(found.extend(self.folder.glob("*.reached")) or found))
        wait_for(lambda: found[0].read_text() != "")
        return int(found[0].read_text())

    def end(self) -> None:
        self.go_on()
        # The nanny takes its worker along.
        for process in (self.late, self.worker, self.scheduler):
            if process is None:
                continue
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            with suppress(TimeoutError):
                process.wait(60)

    def _started(self, *arguments: object) -> Forked:
        log = self.folder / f"{arguments[0]}.log"
        return Forked("dask", *arguments, said=log, variables=self.environment)


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three slides, a model, and their masks as one process makes them."""
    folder = tmp_path_factory.mktemp("study")
    tiny_model(folder / "run", tiny_study(folder).classes)
    for name, source in zip(IDS, sorted((folder / "slides").iterdir()), strict=True):
        source.rename(folder / "slides" / f"{name}.tif")
    assert [each.status for each in segment(folder, folder / "serial").outcomes] == ["done"] * 3
    return folder


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """dask's variables for encrypted connections, with a certificate made for it; none where there is no openssl."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    program = shutil.which("openssl")
    if program is None:
        return {}
    made = [
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        key,
        "-out",
        certificate,
        "-days",
        "2",
        "-subj",
        "/CN=x",
    ]
    subprocess.run([program, "req", "-x509", *map(str, made)], check=True, capture_output=True)
    found = {"DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True"}
    found["DASK_DISTRIBUTED__COMM__TLS__CA_FILE"] = str(certificate)
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        found[f"DASK_DISTRIBUTED__COMM__TLS__{role}__CERT"] = str(certificate)
        found[f"DASK_DISTRIBUTED__COMM__TLS__{role}__KEY"] = str(key)
    return found


@pytest.fixture(scope="module")
def module_cluster(tmp_path_factory: pytest.TempPathFactory, tls: dict[str, str]) -> Iterator[Cluster]:
    found = Cluster(tmp_path_factory.mktemp("cluster") / "own", tls)
    try:
        yield found
    finally:
        found.end()


@pytest.fixture
def cluster(module_cluster: Cluster, tls: dict[str, str]) -> Iterator[Cluster]:
    """The cluster, with this process configured for its connections."""
    with configured(tls):
        yield module_cluster
    module_cluster.go_on()


@contextmanager
def configured(variables: Mapping[str, str]) -> Iterator[None]:
    names = {name: name[5:].lower().replace("__", ".").replace("_", "-") for name in variables}
    with dask.config.set({names[name]: value or None for name, value in variables.items()}):
        yield


def segment(study: Path, out: Path, **options: Any) -> Batch:
    return segment_slides(
        slide_sources(study / "slides", out=out), study / "run", out, device="cpu", **options
    )


def command(study: Path, out: Path, cluster: Cluster) -> Forked:
    given = {"--slides": study / "slides", "--model": study / "run", "--out": out, "--device": "cpu"}
    arguments = [each for pair in given.items() for each in pair]
    return Forked(
        *("wsi_deform", "segment", *arguments, "--scheduler", cluster.file),
        said=cluster.folder / "command.log",
        variables=cluster.environment,
    )


def masks(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in MaskFolder(out).mask("a").parent.iterdir()}


def test_workers_of_a_scheduler_s_file_make_the_same_masks_and_load_the_model_once(study, tmp_path, cluster):
    batch = segment(study, tmp_path, scheduler=str(cluster.file))
    assert [each.status for each in batch.outcomes] == ["done"] * 3
    assert masks(tmp_path) == masks(study / "serial")
    assert {each.state.pid for each in batch.outcomes} != {os.getpid()}

    def models_loaded() -> int:
        from wsi_deform.distribute import models

        return models._loaded.cache_info().misses

    with Client(cluster.address) as client:
        assert [*client.run(models_loaded).values()] == [1]


def test_connections_are_encrypted_as_dask_s_own_configuration_says(cluster, tls):
    if not tls:
        pytest.skip("there is no openssl to make a certificate")
    assert cluster.address.startswith("tls://")
    nothing = {name: "" for name in tls if "CLIENT" in name or "CA_FILE" in name}
    said = "cannot be reached.*dask's own configuration has the certificates"
    with configured(nothing), pytest.raises(SlideError, match=said):
        connected(cluster.address, timeout_s=2)


def test_arrays_of_slides_and_masks_are_computed_by_workers(study, cluster):
    slide = wsi_deform.open_slide(study / "slides" / "a.tif")
    mask = wsi_deform.segment_slide(slide, wsi_deform.load_model(study / "run"))
    with Client(cluster.address) as client:
        pixels, labels = client.compute([slide.to_dask(0), mask.to_dask(0)], sync=True)
        row = slide.to_dask(0).mean(axis=(1, 2)).compute()
    whole = slide.read(0, 0, 640, 160)
    np.testing.assert_array_equal(pixels, whole)
    np.testing.assert_array_equal(labels, mask.labels())
    np.testing.assert_allclose(row, whole.mean(axis=(1, 2)))


def test_a_worker_that_is_killed_in_the_middle_of_a_slide_costs_nothing(study, tmp_path, cluster):
    cluster.hold()
    with ThreadPoolExecutor(1) as pool:
        try:
            future = pool.submit(segment, study, tmp_path, scheduler=str(cluster.file))
            worker = cluster.reached()
            assert worker != cluster.worker.pid  # which is the nanny
            assert not [*masks_if_any(tmp_path)]
            os.kill(worker, signal.SIGKILL)
        finally:
            cluster.go_on()
        batch = future.result(PATIENCE_S)
    assert [each.status for each in batch.outcomes] == ["done"] * 3
    assert masks(tmp_path) == masks(study / "serial")


def masks_if_any(out: Path) -> Iterator[Path]:
    folder = MaskFolder(out).mask("a").parent
    yield from folder.iterdir() if folder.exists() else ()


def test_after_the_client_was_killed_a_rerun_makes_what_is_missing(study, tmp_path, cluster):
    cluster.hold()
    client = command(study, tmp_path, cluster)
    try:
        cluster.reached()
        client.kill()
    finally:
        cluster.go_on()
    # The worker finishes the slide that it has, and the others are taken back.
    wait_for(lambda: len([*masks_if_any(tmp_path)]) == 1)
    wait_for(lambda: Ledger(MaskFolder(tmp_path)).read("a").status == "done")
    batch = segment(study, tmp_path, scheduler=str(cluster.file))
    assert [each.status for each in batch.outcomes] == ["skipped", "done", "done"]
    assert masks(tmp_path) == masks(study / "serial")


def test_a_scheduler_that_is_killed_ends_the_command_with_its_reason_and_a_rerun_goes_on(study, tmp_path):
    found = Cluster(tmp_path / "cluster", {})
    out = tmp_path / "out"
    try:
        found.hold()
        client = command(study, out, found)
        found.reached()
        found.scheduler.kill()
        code, said = client.wait(PATIENCE_S), client.said()
    finally:
        found.end()
    assert code == 2, said
    assert f"scheduler {found.file}: was lost" in said
    assert "Start it and its workers again and give the same command" in said
    assert "Traceback" not in said
    assert "0 done, 0 failed" in MaskFolder(out).summary.read_text()
    batch = segment(study, out)
    assert {each.status for each in batch.outcomes} <= {"done", "skipped"}
    assert masks(out) == masks(study / "serial")


def test_a_scheduler_or_a_worker_with_other_versions_is_refused_by_name(
    study, tmp_path, cluster, monkeypatch
):
    real = cluster_module.version

    def pretend(name: str) -> None:
        monkeypatch.setattr(cluster_module, "version", lambda each: "1.0+cpu" if each == name else real(each))

    pretend("torch")
    with pytest.raises(OtherVersionsError, match=r"worker tls?c?p?://\S+: has torch [\d.]+ \(here 1\.0\)"):
        segment(study, tmp_path, scheduler=str(cluster.file))
    pretend("distributed")
    with pytest.raises(OtherVersionsError, match=r"scheduler \S+: has distributed [\d.]+ \(here 1\.0\)"):
        segment(study, tmp_path, scheduler=str(cluster.file))
    assert not [*masks_if_any(tmp_path)]


def test_a_worker_that_joins_late_with_other_versions_is_refused_too(study, tmp_path, cluster):
    model, out = find_model(study / "run"), tmp_path / "out"
    out.mkdir()
    sources = slide_sources(study / "slides", out=out)
    jobs = [
        SlideJob(
            source=source,
            model=model,
            model_sha256=model_sha256(model),
            out=out,
            versions={"torch": "1.0+cu130", "python": "3.11.1"},
        )
        for source in sources
    ]
    with pytest.raises(OtherVersionsError, match=r"worker \S+: has torch [\d.]+ \(here 1\.0\)"):
        list(segmented_by_workers(jobs[:1], workers=1, scheduler=cluster.address))


def test_threads_of_a_worker_share_its_memory_and_load_one_model(study, tmp_path, monkeypatch):
    model = find_model(study / "run")
    (source,) = slide_sources(study / "slides" / "a.tif", out=tmp_path)
    about = {"model": model, "model_sha256": model_sha256(model), "out": tmp_path}
    job = SlideJob(
        source=source, device="auto", memory_gib=3.0, versions=cluster_module.versions_here(), **about
    )
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            processes=False,
            dashboard_address="127.0.0.1:0",
            protocol="tcp",
        ) as threads,
        Client(threads) as client,
    ):
        there = client.submit(for_this_worker, job).result(PATIENCE_S)
    assert (there.memory_gib, there.is_isolated) == (1.5, True)
    assert there.device in ("cpu", "cuda", "mps")
    loads = []

    def slowly(path: Path, *, device: str) -> str:
        loads.append(device)
        time.sleep(0.3)
        return "model"

    models_module._loaded.cache_clear()
    monkeypatch.setattr(models_module, "load_model", slowly)
    with ThreadPoolExecutor(3) as pool:
        found = pool.map(lambda _: models_module.loaded_model(model, "sha", "cpu"), range(3))
        assert [*found] == ["model"] * 3
    models_module._loaded.cache_clear()
    assert loads == ["cpu"]


def test_builds_of_a_version_and_mended_pythons_are_the_same():
    assert difference({"torch": "2.13.0"}, {"torch": "2.13.0", "numpy": "1"}) == ""
    found = {"torch": "2.6.0", "python": "3.12", "zarr": "missing"}
    assert difference({"torch": "2.13.0", "python": "3.11", "zarr": "3.1"}, found) == (
        "torch 2.6.0 (here 2.13.0), python 3.12 (here 3.11), zarr missing (here 3.1)"
    )
    comparable = cluster_module._comparable
    assert [comparable("torch", "2.13.0+cu130"), comparable("python", "3.11.7")] == ["2.13.0", "3.11"]


def test_a_scheduler_s_file_that_is_not_there_or_is_another_file_is_refused(tmp_path):
    with pytest.raises(
        SlideError, match=r"none\.json: has no address .*running `dask scheduler --scheduler-file"
    ):
        connected(str(tmp_path / "none.json"), timeout_s=0.1)
    other = tmp_path / "other.json"
    for text in ("{}", "[1]", "no json"):
        other.write_text(text)
        with pytest.raises(SlideError, match=r"other\.json: has no address"):
            connected(str(other), timeout_s=0.1)


def test_a_process_for_slides_ends_without_freeing_what_it_holds():
    program = """
import atexit

class Held:
    def __del__(self):
        print("freed")

from wsi_deform.distribute.workers import prepare_worker
prepare_worker(1)
atexit.register(print, "registered later")
held = Held()
print("done", end=" ")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "done registered later\n"), ended.stderr
