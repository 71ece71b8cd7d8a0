"""How a slide stands before its turn: whether what lies in the folder is what is asked for, and why not."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from wsi_deform.distribute.job import MASK_VERSION, SlideJob
from wsi_deform.distribute.ledger import State
from wsi_deform.distribute.staging import broken
from wsi_deform.mask.folder import MaskFolder

MAX_DEATHS = 2


def is_of(job: SlideJob, result: State, fingerprints: Collection[str]) -> bool:
    """Whether a finished result is what a job asks for.

    Args:
        job: What is asked for.
        result: The result.
        fingerprints: Of results that will do, see ``SlideJob.fingerprints``.

    Convention:
        A result that lacks tiles is not where that shall be a failure.
    """
    return result.fingerprint in fingerprints and (job.on_bad_tile == "blank" or not result.blank_tiles)


def broken_files(job: SlideJob, folder: MaskFolder, result: State) -> list[str]:
    """Wanted kinds of files of a result that are missing, cut off, or of an earlier attempt."""
    kinds = job.wanted.kinds(has_mpp=result.mpp is not None)
    found = broken(folder, job.slide_id, result.outputs, kinds)
    return [kind for kind in kinds if kind in found or kind in result.earlier]


def why_again(job: SlideJob, result: State, identity: Mapping[str, str], missing: Sequence[str]) -> str:
    """Why a slide that was done is to be done again, in words.

    Args:
        job: What is asked for.
        result: What lies there.
        identity: Of the slide file now.
        missing: What ``broken_files`` gives, where the result is of this job.
    """
    if missing:
        return f"{', '.join(missing)} missing or not whole"
    changed = [name for name, value in identity.items() if result.identity.get(name) != value]
    if result.model != job.model_sha256:
        return "another model"
    if result.mask_version != MASK_VERSION:
        return f"made by wsi-deform {result.versions.get('wsi_deform', 'of unknown version')}, whose masks differ"
    if result.blank_tiles and job.on_bad_tile == "fail":
        return f"{result.blank_tiles} tiles had been left out"
    if changed and result.identity:
        return f"another file ({', '.join(changed)} changed)"
    if not result.runtime.startswith(job.runtime.text):
        return f"another runtime (its networks were computed by {result.runtime})"
    return "other settings"


def deaths_before(before: State, fingerprint: str) -> int:
    """How many processes in a row have died over the slide; another file or model starts anew."""
    return before.deaths if before.fingerprint == fingerprint else 0


def without_the_dead(before: State) -> State:
    """The state of a slide whose owner died over it: one death more where it had begun."""
    return (
        replace(before, status="not_started", deaths=before.deaths + 1)
        if before.status == "running"
        else before
    )
