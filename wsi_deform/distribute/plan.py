"""What a call would do with each slide and why: nothing is written, no slide or weight is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from wsi_deform.annotation.classes import class_table_from_data
from wsi_deform.distribute.job import SlideJob
from wsi_deform.distribute.labelled import with_labels
from wsi_deform.distribute.lease import is_left
from wsi_deform.distribute.ledger import Ledger, is_broken
from wsi_deform.distribute.models import model_sha256, runtime_of
from wsi_deform.distribute.out_folder import refuse_other_classes
from wsi_deform.distribute.sources import SlideSource
from wsi_deform.distribute.standing import (
    MAX_DEATHS,
    broken_files,
    deaths_before,
    is_of,
    why_again,
    without_the_dead,
)
from wsi_deform.errors import SlideError
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.model_file import find_model, read_model_facts
from wsi_deform.model_kind import is_oracle, refuse_patches
from wsi_deform.networks.device import device_name
from wsi_deform.runtime.choice import Asked, device_asked
from wsi_deform.scale import limits_to_tissue
from wsi_deform.slide.path import SlidePath
from wsi_deform.slide.slide import OnBadTile
from wsi_deform.slide_files import FROM_MASK
from wsi_deform.slide_results import WantedOutputs

Action = Literal["segment", "complete", "skip", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSlide:
    """What would be done with a slide.

    Attributes:
        slide_id: The slide.
        slide: Its path.
        action: "segment" it; "complete" files that are made from its mask; "skip" it; or "fail", which is known without
            opening it.
        reason: Why, in words.
    """

    slide_id: str
    slide: SlidePath
    action: Action
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What is asked of a model that is not loaded."""

    mpp: float | None


def planned_slides(
    sources: Sequence[SlideSource],
    model: Path,
    out: Path,
    *,
    overwrite: bool = False,
    on_bad_tile: OnBadTile = "fail",
    retry_failed: bool = False,
    wanted: WantedOutputs = WantedOutputs(),
    device: str = "auto",
    runtime: Asked = Asked(),
) -> tuple[PlannedSlide, ...]:
    """Say what ``segment_slides`` would do with these arguments.

    Args:
        sources: The slides.
        model: As there, and so are all others.
        out: The mask folder; it may not exist yet.
        overwrite: Whether what is done is done again.
        on_bad_tile: What becomes of a slide with a tile that cannot be decoded.
        retry_failed: Whether slides that killed their process are tried again.
        wanted: What is written.
        device: "auto", or a torch device.
        runtime: The runtime that was asked for.

    Returns:
        One for each slide, in their order.

    Raises:
        ModelError: The model's JSON cannot be read, or ``out`` holds masks of other classes.
        ManifestError: The model is an oracle, and no slide has labels.

    Convention:
        Files are looked at as far as their identity needs it: sizes, times and the bytes at their ends.
    """
    path = find_model(model).absolute()
    facts = read_model_facts(path)
    if wanted.patches is not None:
        refuse_patches(facts["config"], f"model {path}")
    sha256 = model_sha256(path)
    chosen = runtime_of(runtime, device_name(device_asked(runtime, device)), path, sha256)
    folder = MaskFolder(out.absolute())
    refuse_other_classes(folder, class_table_from_data(facts["classes"], f"model {path}: classes"))
    needs_labels = is_oracle(facts["config"]) and wanted.patches is None
    if needs_labels:
        sources = with_labels(sources, path)
    ledger = Ledger(folder)
    planned = []
    for source in sources:
        is_limited = limits_to_tissue(wanted.limit_to_tissue, _Facts(mpp=facts["mpp"]), source.tissue_path)
        job = SlideJob(
            source=source.absolute(),
            model=path,
            model_sha256=sha256,
            out=folder.path,
            runtime=chosen,
            wanted=replace(wanted, limit_to_tissue=is_limited),
            needs_labels=needs_labels,
            overwrite=overwrite,
            on_bad_tile=on_bad_tile,
            retry_failed=retry_failed,
        )
        action, reason = _decided(job, ledger)
        planned.append(PlannedSlide(slide_id=job.slide_id, slide=source.path, action=action, reason=reason))
    return tuple(planned)


def _decided(job: SlideJob, ledger: Ledger) -> tuple[Action, str]:
    """What would be done with a slide, and why."""
    if job.source.problem:
        return "fail", job.source.problem
    before = ledger.read(job.slide_id)
    result = before.result
    try:
        identity = job.identity()
    except SlideError as error:
        return "fail", str(error)
    fingerprint = job.fingerprint(identity)
    missing: list[str] = []
    if result is not None and is_of(job, result, job.fingerprints(identity)):
        missing = broken_files(job, ledger.folder, result)
        if not job.overwrite and not missing:
            return "skip", "already done with this model"
        if not job.overwrite and set(missing) <= FROM_MASK:
            return "complete", f"{', '.join(missing)} missing or not whole"
    if job.overwrite and result is not None:
        return "segment", "done, and to be overwritten"
    if before.status == "running" and is_left(ledger.folder.lease(job.slide_id)):
        before = without_the_dead(before)
    deaths = deaths_before(before, fingerprint)
    if deaths >= MAX_DEATHS and not (job.retry_failed or job.overwrite):
        return "fail", f"its process died {deaths} times. --retry-failed tries it again"
    if before.status == "failed":
        return "segment", f"failed before: {before.error}"
    if result is not None:
        return "segment", why_again(job, result, identity, missing)
    if before.status == "running":
        return "segment", "begun and not finished: a process works on it or was cut off"
    return "segment", before.error if is_broken(before) else "new"
