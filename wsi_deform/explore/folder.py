"""What `explore` writes before the slides are segmented: the model of the groups, and a class table to name them in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.errors import ModelError
from wsi_deform.explore.features import UnseenSlideError
from wsi_deform.explore.groups import ENCODER, GroupSettings, group_model
from wsi_deform.files import write_text
from wsi_deform.memory import limit_caches
from wsi_deform.model_card import write_model_card
from wsi_deform.model_file import read_model_facts, save_model
from wsi_deform.networks.device import device_name
from wsi_deform.networks.encoders import weight_file
from wsi_deform.provenance import provenance
from wsi_deform.slide.slide import Slide

MODEL, CLASSES = "model", "classes.yaml"
FACTS = "explored"
_HEAD = """\
# Groups of look-alike tissue, found without labels: no diagnosis, and no class until somebody names it.
# Look at the overlays, then write another `name` where you know what a group is. `values` are those of the masks, and
# `source_names` what the outlines call the group: leave both. Two groups that are one class: one entry with both their
# values and both their source_names. What is no class: its value to `unlabelled`, its name to `unlabelled_names`.
"""


def make_group_model(
    slides: Sequence[Slide],
    settings: GroupSettings,
    out: Path,
    *,
    device: str = "auto",
    memory_gib: float | None = None,
    on_left_out: Callable[[str, str], None] | None = None,
) -> Path:
    """Group slides, and store the model and the class table.

    Args:
        slides: Open slides.
        settings: How.
        out: The mask folder; the model goes to ``model`` in it.
        device: "auto", or a torch device.
        memory_gib: Most memory of this process's caches and work, GiB; None is no limit.
        on_left_out: Told the id of a slide that cannot be read, and why; the groups are of the others. None raises.

    Returns:
        The class table, ``classes.yaml``. One that is there stays: somebody may have named the groups.

    Raises:
        ModelError: The encoder's weights are not installed, or the folder holds groups of other slides or another
            number of them.
        SlideError: See ``groups.group_model``; none of the slides can be read.
    """
    weight_file(ENCODER)  # refused before anything is read
    path = out / MODEL / "best.safetensors"
    limit_caches(memory_gib)
    seen, model = list(slides), None
    while model is None:
        known = asdict(settings) | {"slides": sorted(slide.slide_id for slide in seen)}
        if path.is_file():
            _refuse_others(out, read_model_facts(path).get(FACTS) or {}, known)
        try:
            model = group_model(seen, settings, device=device_name(device))
        except UnseenSlideError as error:
            if on_left_out is None or len(seen) == 1:
                raise
            on_left_out(error.slide.slide_id, str(error))
            seen = [slide for slide in seen if slide is not error.slide]
    facts = {"provenance": provenance(seed=settings.seed), FACTS: known}
    save_model(model, path, facts=facts)
    write_model_card(path)
    classes = out / CLASSES
    if not classes.exists():
        write_text(classes, class_text(model.classes))
    return classes


def class_text(classes: ClassTable) -> str:
    """The class table of groups as YAML, with what to do with it."""
    data = classes.to_data()
    for each in data["classes"]:
        if each["name"] != data["background"]:
            each["source_names"] = [each["name"]]
    data.setdefault("unlabelled_names", [])  # where the names of groups go that are no class
    return _HEAD + yaml.safe_dump(data, sort_keys=False, default_flow_style=None)


def _refuse_others(out: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse a folder whose masks would have other groups under the same names."""
    for key, what in (("slides", "the slides"), ("groups", "groups")):
        if found.get(key) != wanted[key]:
            raise ModelError(
                f"{out}: holds groups of {what} {found.get(key)}, not {wanted[key]}. Names of groups would mean two "
                f"things. Needed another --out; for the same groups on other slides: `wsi-deform segment --model "
                f"{out / MODEL}`."
            )
