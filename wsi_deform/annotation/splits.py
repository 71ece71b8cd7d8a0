"""Patients dealt to splits or folds: shares of slides and of the pixels of every class, as far as patients allow."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from wsi_deform.errors import ManifestError
from wsi_deform.manifest.rows import SPLITS, ManifestRow, Split

TRIALS, MAX_DEALS = 64, 20_000  # so many orders of patients are tried, and of many patients fewer
Part = TypeVar("Part", Split, int)
SLIDES = -1  # stands among the classes for the number of slides


@dataclass(slots=True)
class _Deal(Generic[Part]):
    """Splits as they fill up.

    Attributes:
        targets: Part (a split or a fold) -> its share of all, summing to 1.
        totals: Class, or ``SLIDES`` -> pixels, or slides, of all patients.
        left: The same -> patients that have it and were not dealt yet.
        held: Part -> the same of the patients that it has.
        dealt: Patient -> part.
        ranked: Whether it is worse that an earlier part lacks a class than that a later one does.
    """

    targets: Mapping[Part, float]
    totals: Mapping[int, int]
    left: dict[int, int]
    held: dict[Part, dict[int, int]] = field(default_factory=dict)
    dealt: dict[str, Part] = field(default_factory=dict)
    ranked: bool = True

    def give(self, patient: str, has: Mapping[int, int]) -> None:
        """Give a patient to the part that lacks most of what the patient has.

        What few patients have left is not waited for: with no more of them than parts that are without, the first of
        these gets the patient. That no part is empty comes before all.
        """
        part = self._urgent(has)
        part = self._neediest(has) if part is None else part
        self.dealt[patient] = part
        held = self.held.setdefault(part, {})
        for key, number in has.items():
            held[key] = held.get(key, 0) + number
            self.left[key] -= 1

    def _urgent(self, has: Mapping[int, int]) -> Part | None:
        for key in sorted(has, key=lambda key: (key != SLIDES, self.left[key], key)):
            without = [part for part in self.targets if key not in self.held.get(part, {})]
            if without and self.left[key] <= len(without):
                return without[0]
        return None

    def _neediest(self, has: Mapping[int, int]) -> Part:
        def lacks(part: Part) -> tuple[int, float]:
            held = self.held.get(part, {})
            full = [held.get(key, 0) / (self.targets[part] * self.totals[key]) for key in has]
            return sum(key not in held for key in has), -sum(full)

        return max(self.targets, key=lacks)

    def fault(self) -> tuple[int, float]:
        """How far it is from what is wanted: classes that parts lack, earlier ones first; wrong shares."""
        without, wrong = 0, 0.0
        for place, (part, target) in enumerate(self.targets.items()):
            held = self.held.get(part, {})
            weight = 10 ** (len(self.targets) - place) if self.ranked else 1
            without += sum(key not in held for key in self.totals) * weight
            wrong += sum(abs(held.get(key, 0) / total - target) for key, total in self.totals.items())
        return without, wrong


def split_patients(
    rows: Sequence[ManifestRow],
    shares: Mapping[Split, float],
    seed: int,
    pixels: Mapping[str, Mapping[int, int]] | None = None,
) -> dict[str, Split]:
    """Deal patients to splits so that slides, and the pixels of every class, come near to the shares.

    Args:
        rows: Where some have labels, only patients with labelled slides are dealt.
        shares: Positive numbers; 0 or absent leaves a split out.
        seed: Decides the orders in which patients are dealt.
        pixels: Slide id -> class -> labelled pixels; None, or nothing of a slide, counts slides alone.

    Returns:
        Patient -> split. Every wanted split gets a patient if there are enough, train first; a class goes to train, to
        val and to test, in this order, as far as it has patients.

    Raises:
        ManifestError: No share is positive.
    """
    wanted = [split for split in SPLITS if shares.get(split, 0) > 0]
    if not wanted or any(share < 0 for share in shares.values()):
        raise ManifestError(
            f"shares {dict(shares)}: needed positive numbers for at least one split. Write e.g. 0.7, 0.15, "
            "0.15."
        )
    whole = sum(shares[split] for split in wanted)
    return _dealt(rows, {split: shares[split] / whole for split in wanted}, seed, pixels)


def fold_patients(
    rows: Sequence[ManifestRow],
    folds: int,
    seed: int,
    pixels: Mapping[str, Mapping[int, int]] | None = None,
) -> dict[str, int]:
    """Deal patients to folds of equal shares, by slides and the pixels of every class as ``split_patients`` does.

    Args:
        rows: Where some have labels, only patients with labelled slides are dealt.
        folds: How many, 2 or more.
        seed: Decides the orders in which patients are dealt.
        pixels: Slide id -> class -> labelled pixels; None, or nothing of a slide, counts slides alone.

    Returns:
        Patient -> fold, from 0. No fold is without a patient.

    Raises:
        ManifestError: There are fewer than 2 folds, or fewer patients than folds.
    """
    patients = {str(row.patient) for row in _to_deal(rows)}
    if not 2 <= folds <= len(patients):
        raise ManifestError(
            f"{folds} folds of {len(patients)} patients: needed 2 folds or more, and a patient for each. Choose "
            "another number of folds."
        )
    return _dealt(rows, dict.fromkeys(range(folds), 1 / folds), seed, pixels, ranked=False)


def _to_deal(rows: Sequence[ManifestRow]) -> list[ManifestRow]:
    return [row for row in rows if row.mask or row.annotation] or list(rows)


def _dealt(
    rows: Sequence[ManifestRow],
    targets: Mapping[Part, float],
    seed: int,
    pixels: Mapping[str, Mapping[int, int]] | None,
    *,
    ranked: bool = True,
) -> dict[str, Part]:
    """The best of several ways to deal the patients to parts."""
    patients: dict[str, dict[int, int]] = {}
    for row in _to_deal(rows):
        has = patients.setdefault(str(row.patient), {SLIDES: 0})
        has[SLIDES] += 1
        for index, number in (pixels or {}).get(row.slide_id, {}).items():
            if number > 0:
                has[index] = has.get(index, 0) + number
    order = sorted(patients)
    chance = random.Random(seed)
    chance.shuffle(order)
    if all(has.keys() == {SLIDES} for has in patients.values()):
        return _by_slides(order, patients, targets)
    totals: dict[int, int] = {}
    owners: dict[int, int] = {}
    for has in patients.values():
        for key, number in has.items():
            totals[key] = totals.get(key, 0) + number
            owners[key] = owners.get(key, 0) + 1
    deals = []
    for _ in range(max(1, min(TRIALS, MAX_DEALS // len(order)))):
        deal = _Deal(targets, totals, dict(owners), ranked=ranked)
        # Whoever has what few have comes first, while there is a choice.
        for patient in sorted(order, key=lambda name: min(owners[key] for key in patients[name])):
            deal.give(patient, patients[patient])
        deals.append(deal)
        chance.shuffle(order)
    return min(deals, key=_Deal.fault).dealt


def _by_slides(
    order: Sequence[str], patients: Mapping[str, Mapping[int, int]], targets: Mapping[Part, float]
) -> dict[str, Part]:
    """By numbers of slides: one patient each first; then whoever lacks most of what it should have."""
    wanted = list(targets)
    total = sum(has[SLIDES] for has in patients.values())
    missing = {part: total * share for part, share in targets.items()}
    dealt: dict[str, Part] = {}
    for number, patient in enumerate(order):
        part = wanted[number] if number < len(wanted) else max(wanted, key=lambda one: missing[one])
        dealt[patient] = part
        missing[part] -= patients[patient][SLIDES]
    return dealt
