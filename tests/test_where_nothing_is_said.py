"""What functions do, and what data says, where nobody says anything: a changed default changes what people get."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch

from wsi_deform.data.augment import random_change
from wsi_deform.data.batches import Share, load, shares_of, shuffled_batches
from wsi_deform.data.crops import drawn_fields
from wsi_deform.data.fields import FieldBatch, FieldViews, LabelledField
from wsi_deform.distribute.batch import segment_slides
from wsi_deform.distribute.job import SlideJob
from wsi_deform.distribute.ledger import State
from wsi_deform.distribute.outcome import Outcome
from wsi_deform.distribute.sources import SlideSource, slide_sources
from wsi_deform.evaluate.boundary import Boundary, Distances
from wsi_deform.evaluate.folder import write_all
from wsi_deform.evaluate.masks import SlideEvaluation, evaluate_masks
from wsi_deform.evaluate.objects import ObjectCounts
from wsi_deform.evaluate.slide_measures import Measured, MeasuresWanted
from wsi_deform.slide_files import fields_to_files, segment_to_files
from wsi_deform.slide_results import SlideFiles, WantedOutputs
from wsi_deform.train.checkpoint import Counters
from wsi_deform.train.log import RunLog
from wsi_deform.train.loop import TrainingResult
from wsi_deform.train.losses import edge_loss, edge_losses, focal_loss, focal_sums
from wsi_deform.train.ranks import Ranks
from wsi_deform.train.step_loss import hash_of


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Default of each parameter; what is made anew each time, as what it makes; functions are left out."""
    found = {
        name: each.default
        for name, each in inspect.signature(function).parameters.items()
        if each.default is not inspect.Parameter.empty and not inspect.isfunction(each.default)
    }
    made = {
        name: each.default_factory()
        for name, each in getattr(function, "__dataclass_fields__", {}).items()
        if callable(each.default_factory)
    }
    return found | made


def none(*names: str) -> dict[str, None]:
    return dict.fromkeys(names)


WANTED = WantedOutputs()
COSTS = none("read_pixels", "decoded_pixels", "decoded_bytes", "flops", "peak_memory_bytes")


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (
            random_change,
            {"transpose": False, "rotate_degrees": 0.0, "stain_jitter": 0.0, "places": None},
        ),
        (Share, {"counted": True}),
        (shuffled_batches, {"mixed": False, "weights": None}),
        (shares_of, {"rank": 0, "world": 1}),
        (load, {"rank": 0, "world": 1}),
        (drawn_fields, {"weights": None}),
        (LabelledField, {"read_size": None}),
        (FieldBatch, {"counted": True}),
        (FieldViews, {"tissue": False, "stain": "none", "cache_bytes": 536870912}),
        (
            segment_slides,
            none("scheduler", "memory_gib", "watcher", "command")
            | {"device": "auto", "overwrite": False, "retry_failed": False, "workers": 1, "wanted": WANTED}
            | {"fields": 1},
        ),
        (
            SlideJob,
            {"folder_identity": "", "device": "cpu", "threads": 1, "wanted": WANTED, "needs_labels": False}
            | {"batch": 1, "memory_gib": None, "overwrite": False, "seen": "", "retry_failed": False}
            | {"is_isolated": False, "versions": {}},
        ),
        (
            State,
            COSTS
            | dict.fromkeys(
                ("slide", "attempt", "fingerprint", "model", "error", "traceback", "started_utc"), ""
            )
            | dict.fromkeys(("remark", "host"), "")
            | dict.fromkeys(
                ("seconds", "width_px", "height_px", "fields", "samples", "tiles", "deaths", "pid"), 0
            )
            | dict.fromkeys(("class_pixels", "class_pixels_in_tissue", "removed_pixels"), ())
            | dict.fromkeys(("identity", "outputs", "earlier", "versions"), {})
            | {"status": "not_started", "method": "sampled"}
            | none("mpp", "tissue_pixels", "kept"),
        ),
        (Outcome, {"again": ""}),
        (SlideSource, none("mpp", "tissue_path", "region", "labels", "label_channel") | {"problem": ""}),
        (slide_sources, none("mpp", "split")),
        (Boundary, {"cap_px": 512}),
        (Distances.of, {"capped": 0}),
        (write_all, {"figures": True}),
        (
            evaluate_masks,
            {"split": "all", "on_slide": None, "allow_empty_classes": False}
            | {"wanted": MeasuresWanted(near_borders=False)},
        ),
        (ObjectCounts, {"missed": ()}),
        (
            Measured,
            none("trimap", "boundary", "objects", "calibration", "frequency")
            | {"probabilities_of": frozenset()},
        ),
        (
            segment_to_files,
            {"wanted": WANTED, "batch": 1, "threads": 1} | none("labels", "memory_gib", "on_field"),
        ),
        (fields_to_files, {"remark": "", "method": "sampled", "threads": 1, "on_field": None}),
        (SlideFiles, COSTS | {"method": "sampled"}),
        (
            WantedOutputs,
            {"probabilities": False, "footprint": False, "geojson": True}
            | none("interpolation", "limit_to_tissue", "patches"),
        ),
        (
            Counters,
            {"epoch": 0, "step": 0, "sums": {}, "rows": [], "waited": 0, "identity": {}}
            | none("best", "best_epoch"),
        ),
        (RunLog, {"rows": ()}),
        (TrainingResult, {"miou_classes": None}),
        (focal_loss, {"gamma": 2.0} | none("class_weights", "sample_weights")),
        (focal_sums, {"gamma": 2.0} | none("class_weights", "sample_weights")),
        (edge_loss, {"scale": "mean"}),
        (edge_losses, {"scale": "mean"}),
        (Ranks, {"rank": 0, "world": 1, "device": torch.device("cpu"), "counted": True}),
        (hash_of, {"rank": 0}),
    ],
)
def test_where_nothing_is_said(function: Callable[..., Any], expected: dict[str, Any]) -> None:
    found = defaults(function)
    assert {name: found[name] for name in expected} == expected


def test_a_slide_that_was_measured_by_nothing_else_has_nothing_else() -> None:
    found = defaults(SlideEvaluation)
    assert {name: found[name] for name in ("patient", "mpp")} == none("patient", "mpp")
    assert (found["measured"].trimap, found["cost"].samples) == (None, None)
