"""Patients dealt to splits: by shares, or to the counts that a paper states."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from wsi_deform.annotation.folder import DEFAULT_SHARES
from wsi_deform.annotation.splits import split_patients
from wsi_deform.manifest.rows import SPLITS, ManifestRow, Split


def dealt(
    rows: Sequence[ManifestRow],
    seed: int,
    *,
    kinds: Mapping[str, Iterable[int]] | None = None,
    shares: Mapping[Split, float] = DEFAULT_SHARES,
) -> tuple[ManifestRow, ...]:
    """Give every labelled slide a split; slides of one patient share it.

    Args:
        rows: All slides. Those without labels stay without a split; one without a patient is taken for one of its own.
        seed: The same seed and rows give the same splits.
        kinds: Slide id -> what every split shall have its share of, such as a grade; nothing is known of others.
        shares: Of train, val and test.

    Returns:
        The rows in their order.
    """
    grouped = [row.model_copy(update={"patient": group_of(row)}) for row in rows]
    pixels = {slide_id: dict.fromkeys(own, 1) for slide_id, own in (kinds or {}).items()}
    labelled = [row for row in grouped if has_labels(row)]
    split_of = split_patients(labelled, shares, seed, pixels) if labelled else {}
    return with_splits(rows, split_of)


def with_splits(rows: Sequence[ManifestRow], split_of: Mapping[str, Split]) -> tuple[ManifestRow, ...]:
    """Rows with the splits of their patients; none where there are no labels."""
    return tuple(
        row.model_copy(update={"split": split_of.get(group_of(row)) if has_labels(row) else None})
        for row in rows
    )


def has_labels(row: ManifestRow) -> bool:
    """Whether a slide has a mask or an annotation."""
    return row.mask is not None or row.annotation is not None


def group_of(row: ManifestRow) -> str:
    """What must not be in two splits: the patient, or the slide where nobody knows."""
    return row.patient if row.patient is not None else f"slide {row.slide_id}"


def scaled_counts(total: int, published: Mapping[Split, int]) -> dict[Split, int]:
    """The published sizes of splits, for a set of another size.

    Args:
        total: Slides that there are.
        published: Slides in each split, as a paper states it.

    Returns:
        Counts that sum to ``total`` in the published proportions, by largest remainders: the published counts
        themselves where they sum to that.
    """
    whole = sum(published.values())
    counts = {split: total * count // whole for split, count in published.items()}
    by_rest = sorted(published, key=lambda split: (-(total * published[split] % whole), SPLITS.index(split)))
    for split in by_rest[: total - sum(counts.values())]:
        counts[split] += 1
    return counts


def split_to_counts(slides: Mapping[str, int], counts: Mapping[Split, int], seed: int) -> dict[str, Split]:
    """Deal patients so that splits have exactly so many slides, or as nearly as whole patients allow.

    Args:
        slides: Patient -> number of slides.
        counts: Wanted slides of val and test; train gets all others.
        seed: Decides which of the many ways it is.

    Returns:
        Patient -> split.

    Convention:
        Which sums whole patients can make is counted out, patient by patient in a drawn order; of the sums nearest to
        the wanted ones (by the slides that val and test are off together) one is taken, and traced back. No split that
        is wanted is empty, where there are patients enough.
    """
    order = sorted(slides)
    random.Random(seed).shuffle(order)
    wanted = counts.get("val", 0), counts.get("test", 0)
    room = max(slides.values(), default=0)  # a sum just above may be nearer than the next below
    shape = wanted[0] + room + 1, wanted[1] + room + 1
    made = np.zeros(shape, bool)
    made[0, 0] = True
    before = []
    for patient in order:
        before.append(made)
        made = made | _moved(made, slides[patient], 0) | _moved(made, 0, slides[patient])
    off = np.abs(np.arange(shape[0]) - wanted[0])[:, None] + np.abs(np.arange(shape[1]) - wanted[1])
    # A split is empty only where there are too few patients, and train last.
    off[0] += sum(shape) * (wanted[0] > 0)
    off[:, 0] += sum(shape) * (wanted[1] > 0)
    left = sum(slides.values()) - np.add.outer(np.arange(shape[0]), np.arange(shape[1]))
    off[left <= 0] += 4 * sum(shape)
    place = np.unravel_index(int(np.where(made, off, off.max() + 1).argmin()), shape)
    val, test = int(place[0]), int(place[1])
    split_of: dict[str, Split] = {}
    for patient, reached in zip(reversed(order), reversed(before), strict=True):
        own = slides[patient]
        # What is still needed goes in first, so that a drawn order decides and not the alphabet.
        if val >= own and reached[val - own, test]:
            split_of[patient], val = "val", val - own
        elif test >= own and reached[val, test - own]:
            split_of[patient], test = "test", test - own
        else:
            split_of[patient] = "train"
    return split_of


def _moved(made: np.ndarray, down: int, right: int) -> np.ndarray:
    moved = np.zeros_like(made)
    if down < made.shape[0] and right < made.shape[1]:
        moved[down:, right:] = made[: made.shape[0] - down, : made.shape[1] - right]
    return moved
