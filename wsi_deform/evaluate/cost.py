"""What a mask cost: taken from the states that `wsi-deform segment` wrote, beside the measures of what it bought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from wsi_deform.mask.folder import MaskFolder
from wsi_deform.texts import read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideCost:
    """The cost of a slide's mask; None where nobody wrote it down.

    Attributes:
        samples: Samples taken.
        read_pixels: Pixels, of whatever levels, that entered a network.
        decoded_pixels: Pixels of tiles of the slide that were decoded, of whatever level.
        decoded_bytes: Their bytes.
        flops: Floating-point operations of both networks, the grid and the interpolation, see ``flops.py``.
        seconds: From opening the slide to its files.
        peak_memory_bytes: Most memory that the process had held when the slide was done.
    """

    samples: int | None = None
    read_pixels: int | None = None
    decoded_pixels: int | None = None
    decoded_bytes: int | None = None
    flops: int | None = None
    seconds: float | None = None
    peak_memory_bytes: int | None = None


NOTHING = SlideCost()
COSTS = tuple(each.name for each in fields(SlideCost))


def slide_cost(folder: MaskFolder, slide_id: str) -> SlideCost:
    """Read the cost of a finished slide; all None for masks that came from elsewhere."""
    try:
        state = read_json(folder.state(slide_id))
    except (OSError, ValueError):
        return NOTHING
    # Where the newest attempt failed, the mask is of the one before.
    result = state.get("kept") if isinstance(state, dict) and state.get("status") != "done" else state
    return NOTHING if not isinstance(result, dict) else _cost(result)


def mean_cost_of_rows(costs: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Mean over slides of each cost that is known of every one; the largest for memory.

    Args:
        costs: Name of the cost -> amount, as in ``SlideCost``.
    """
    means: dict[str, float | None] = {}
    for name in COSTS:
        values = [value for cost in costs if (value := cost.get(name)) is not None]
        if not values or len(values) < len(costs):
            means[name] = None
        else:
            means[name] = max(values) if name == "peak_memory_bytes" else sum(values) / len(values)
    return means


def _cost(result: Mapping[str, Any]) -> SlideCost:
    held = {name: result.get(name) for name in COSTS}
    known = {name: value for name, value in held.items() if _is_amount(value)}
    return SlideCost(**known)


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
