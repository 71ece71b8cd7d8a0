"""What the real ledger asks of storage for each thing that it does with a slide: counted on a few small slides."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from pipelines.benchmarks.batch import no_segmentation, study_of
from pipelines.night.counted import counted
from wsi_deform.annotation.classes import ClassTable
from wsi_deform.distribute.attempts import outcome_if_done
from wsi_deform.distribute.job import SlideJob
from wsi_deform.distribute.lease import leased
from wsi_deform.distribute.ledger import Ledger
from wsi_deform.distribute.models import chosen_model
from wsi_deform.distribute.out_folder import prepare_folder
from wsi_deform.distribute.sources import slide_sources
from wsi_deform.distribute.tables import Tables
from wsi_deform.distribute.turn import segment_to_folder
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.provenance import provenance
from wsi_deform.slide_results import WantedOutputs

FEW = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What one thing costs.

    Attributes:
        calls: On files of OUT.
        locks: Of these exclusive creations.
        files: Files of OUT that were opened.
        read_bytes: Read from OUT.
        written_bytes: Written to OUT, without the slide's own outputs.
        slide_calls: On the slide's own file.
    """

    calls: float
    locks: float = 0
    files: float = 0
    read_bytes: float = 0
    written_bytes: float = 0
    slide_calls: float = 0


def counted_visits() -> dict[str, Visit]:
    """Do each thing on drawn slides and count.

    Returns:
        "look" (before its turn, a slide that is new), "look done" (one that is done), "work" (its whole turn),
        "pass done" (its turn where another call has done it), "pass taken" (where another one works on it),
        "tables" (of an empty folder), "tables per state" and "record" (where another call has written the tables) ->
        what it costs.
    """
    with _jobs(2 * FEW) as (jobs, classes):
        ledger = Ledger(MaskFolder(jobs[0].out))
        found = {"look": _of(jobs[0], lambda: outcome_if_done(jobs[0], ledger))}
        tables = [_tables(ledger, jobs, classes, jobs[:FEW]), _tables(ledger, jobs, classes, jobs[FEW:])]
        found["work"] = tables[0][1]
        found["look done"] = _of(jobs[0], lambda: outcome_if_done(jobs[0], ledger))
        found["pass done"] = _of(jobs[0], lambda: segment_to_folder(jobs[0]))
        ledger.folder.state(jobs[1].slide_id).unlink()
        with leased(ledger.folder.lease(jobs[1].slide_id)):
            found["pass taken"] = _of(jobs[1], lambda: segment_to_folder(jobs[1]))
        few, many = tables[0][0], tables[1][0]
        found["record"] = tables[1][2]
        each = {name: (getattr(many, name) - getattr(few, name)) / FEW for name in Visit.__slots__}
        found["tables per state"] = Visit(**each)
        found["tables"] = Visit(**{name: getattr(few, name) - FEW * each[name] for name in each})
    return found


def _tables(
    ledger: Ledger, jobs: list[SlideJob], classes: ClassTable, done: list[SlideJob]
) -> tuple[Visit, Visit, Visit]:
    """The tables of a folder in which some more slides are done, what the last of these slides cost, and the record."""
    visits, outcomes = [], []
    for job in done:
        visits.append(_of(job, lambda job=job: outcomes.append(segment_to_folder(job))))  # type: ignore[misc]
    # Once, so that there are tables already.
    Tables(ledger, jobs, classes, provenance()).settle(outcomes[0])
    # The record of the call is written on the way too.
    tables = Tables(ledger, jobs, classes, provenance())
    written = _of(jobs[0], lambda: tables.settle(outcomes[0]))
    others = Tables(ledger, jobs, classes, provenance())
    os.utime(ledger.folder.measurements)
    return written, visits[-1], _of(jobs[0], lambda: others.settle(outcomes[0]))


def _of(job: SlideJob, work: Callable[[], object]) -> Visit:
    with counted(job.out) as here, counted(Path(str(job.source.path))) as there:
        work()
    outputs = [path for path in MaskFolder(job.out).outputs(job.slide_id).values() if str(path) in here.moved]
    return Visit(
        calls=here.total,
        locks=here.calls["create"],
        files=len(here.files),
        read_bytes=here.read_bytes,
        written_bytes=here.written_bytes - sum(path.stat().st_size for path in outputs),
        slide_calls=there.total,
    )


@contextmanager
def _jobs(slides: int) -> Iterator[tuple[list[SlideJob], ClassTable]]:
    """Jobs of drawn slides, in whose place four small files are written."""
    study = study_of(slides)
    out = MaskFolder(Path(tempfile.mkdtemp(dir=study)) / "out")
    chosen = chosen_model(study / "run", "cpu", is_here=True)
    template = {
        "model": chosen.path,
        "model_sha256": chosen.sha256,
        "out": out.path,
        "folder_identity": prepare_folder(out, chosen.classes),
        "wanted": WantedOutputs(limit_to_tissue=True),
        "versions": provenance()["packages"],
    }
    sources = slide_sources(study / "many", out=out.path)
    try:
        with patch("wsi_deform.distribute.turn.segment_to_files", no_segmentation):
            yield [SlideJob(source=source.absolute(), **template) for source in sources], chosen.classes
    finally:
        shutil.rmtree(study)
