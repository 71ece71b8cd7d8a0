"""One slide from file to mask: the work that runs in a loop, in worker processes and on a cluster alike."""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.cover import budgets_of, mpp_remark
from wsi_deform.distribute.ledger import Ledger, State, this_process
from wsi_deform.distribute.outputs import OnField, WantedOutputs, write_outputs
from wsi_deform.distribute.sources import SlideSource
from wsi_deform.errors import ModelError, WsiDeformError
from wsi_deform.geometry import Size
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.overlay import label_picture_of_mask, overlay
from wsi_deform.memory import fields_per_batch, limit_caches
from wsi_deform.model import Model, find_model, load_model, read_model_facts
from wsi_deform.provenance import write_aside
from wsi_deform.slide.lowres import thumbnail
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.path import SlidePath
from wsi_deform.slide.slide import Slide

OVERLAY_PX = 2048
JPEG_QUALITY = 88

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideJob:
    """Everything that a worker needs to segment a slide; plain data that pickles.

    Attributes:
        source: The slide.
        model: Path of the model's ``.safetensors``.
        model_sha256: What ``model_sha256`` gives for it.
        out: The mask folder.
        device: Torch device, e.g. "cpu".
        threads: Threads that render and encode the mask; more than 1 gained nothing on 2 cores (benchmark `mask`).
        wanted: What is written besides the mask, and how that is put back.
        batch: Most fields per forward pass.
        memory_gib: Most memory of the process that does it, GiB, or None.
        versions: Package -> version, for the state.
    """

    source: SlideSource
    model: Path
    model_sha256: str
    out: Path
    device: str = "cpu"
    threads: int = 1
    wanted: WantedOutputs = WantedOutputs()
    batch: int = 1
    memory_gib: float | None = None
    versions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def slide_id(self) -> str:
        """The slide's name."""
        return self.source.slide_id

    def fingerprint(self) -> str:
        """Hash of what the files depend on: model, slide file, mpp override, tissue mask, and what is wanted."""
        path, tissue = self.source.path, self.source.tissue_path
        parts = [
            self.model_sha256,
            path.name if isinstance(path, Path) else str(path),
            _bytes_of(path),
            self.source.mpp,
            asdict(self.wanted),
        ]
        if tissue is not None:
            parts += [tissue.name, _bytes_of(tissue)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _bytes_of(path: SlidePath) -> int:
    """Size of a file; 0 for a folder, a URL, or what cannot be read: opening it will say so."""
    try:
        return path.stat().st_size if isinstance(path, Path) and path.is_file() else 0
    except OSError:
        return 0


def segment_to_folder(job: SlideJob, on_field: OnField | None = None) -> State:
    """Segment a slide and write its samples, overlay and mask; whatever goes wrong is recorded, not raised.

    Args:
        job: The slide, the model and where to write.
        on_field: Called after each field with how many are done and how many there are.

    Returns:
        The slide's new state, "done" or "failed", as it also stands in the ledger.

    Raises:
        MaskError: The ledger itself cannot be written.
    """
    ledger = Ledger(MaskFolder(job.out))
    running = State(
        slide_id=job.slide_id,
        status="running",
        slide=str(job.source.absolute().path),
        fingerprint=job.fingerprint(),
        model=job.model_sha256,
        started_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=job.versions,
        **this_process(),
    )
    ledger.write(running)
    remove_outputs(ledger.folder, job.slide_id)
    started = time.monotonic()
    try:
        state = replace(running, status="done", **_segmented(job, ledger.folder, on_field))
    except WsiDeformError as error:
        state = replace(running, status="failed", error=str(error))
    except Exception as error:  # noqa: BLE001  one bad slide never stops the rest
        reason = f"slide {job.source.path}: {type(error).__name__}: {error}"
        state = replace(running, status="failed", error=reason, traceback=traceback.format_exc())
        logger.info("%s: not foreseen", job.slide_id, exc_info=True)
    except BaseException:
        remove_outputs(ledger.folder, job.slide_id)
        ledger.write(State(slide_id=job.slide_id, slide=running.slide))
        raise
    if state.status == "failed":
        remove_outputs(ledger.folder, job.slide_id)
    state = replace(state, seconds=round(time.monotonic() - started, 3))
    ledger.write(state)
    return state


def remove_outputs(folder: MaskFolder, slide_id: str) -> None:
    """Remove what an earlier call left of a slide: a mask stands only beside the state "done"."""
    for path in folder.outputs(slide_id):
        path.unlink(missing_ok=True)
        # Files that were written aside when the process was killed.
        name = glob.escape(path.name)
        for pattern in (f".aside-{'[0-9a-f]' * 12}-{name}", f".{name}.{'[0-9a-f]' * 8}.part"):
            for half_written in path.parent.glob(pattern):
                half_written.unlink(missing_ok=True)


def model_sha256(model: Path) -> str:
    """Hash of a model: its tensors, and of the JSON beside it what segmentation depends on.

    Args:
        model: A ``.safetensors`` file.

    Raises:
        ModelError: It, or the JSON beside it, cannot be read.
    """
    facts = read_model_facts(model)
    config = facts["config"]
    used = [
        facts["mpp"],
        facts["classes"],
        {key: config.get(key) for key in ("sampling", "fields", "networks")},
    ]
    digest = hashlib.sha256(json.dumps(used, sort_keys=True).encode())
    try:
        with model.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise ModelError(f"model {model}: cannot be read ({error}). Check the file.") from error
    return digest.hexdigest()


@lru_cache(maxsize=1)
def loaded_model(path: Path, sha256: str, device: str) -> Model:
    """The model, loaded once per process.

    Args:
        path: Its ``.safetensors``.
        sha256: Its hash: a file that was written again is another model.
        device: Where to put the weights.
    """
    return load_model(find_model(path), device=device)


def _segmented(job: SlideJob, folder: MaskFolder, on_field: OnField | None) -> dict[str, Any]:
    """Segment the slide, write its files, and return what its state says of them."""
    source = job.source
    slide = open_slide(source.path, mpp=source.mpp, slide_id=source.slide_id, tissue_path=source.tissue_path)
    model = loaded_model(job.model, job.model_sha256, job.device)
    # Before the first look at the slide: strips are decoded for the tissue view already.
    limit_caches(job.memory_gib)
    budgets = budgets_of(slide, model)
    written = write_outputs(
        slide,
        model,
        budgets,
        folder,
        wanted=job.wanted,
        batch=fields_per_batch(model, budgets, wanted=job.batch, memory_gib=job.memory_gib),
        threads=job.threads,
        on_field=on_field,
    )
    write_overlay(folder.overlay(job.slide_id), slide, folder.mask(job.slide_id), model.classes)
    return {
        "width_px": slide.size.width,
        "height_px": slide.size.height,
        "mpp": slide.mpp_or_none,
        "remark": "; ".join(filter(None, (mpp_remark(slide, model), written.remark))),
        "fields": len(budgets),
        "samples": written.samples,
        "tiles": written.tiles,
        "class_pixels": written.class_pixels,
        "class_pixels_in_tissue": written.class_pixels_in_tissue,
        "removed_pixels": written.removed_pixels,
        "tissue_pixels": written.tissue_pixels,
    }


def write_overlay(path: Path, slide: Slide, mask: Path, classes: ClassTable) -> None:
    """Write the thumbnail with the classes of a mask drawn over it as a JPEG, whole or absent."""
    picture = thumbnail(slide, OVERLAY_PX)
    labels = label_picture_of_mask(mask, Size(picture.shape[1], picture.shape[0]))
    drawn = overlay(picture, labels, classes.colours, background=classes.background)
    with write_aside(path) as aside:
        Image.fromarray(drawn).save(aside, quality=JPEG_QUALITY)
