"""Which plane of a stack is read: one rule for every format."""

from __future__ import annotations

FOCUS, TIME = "z", "t"


def plane_of(axis: str, length: int) -> int | None:
    """The plane of an axis that is read.

    Args:
        axis: Its letter, in any case.
        length: Number of planes.

    Returns:
        The middle focal plane (z; of an even number the one behind the middle), the first time point (t), or None
        for an axis that means something else and has several planes.
    """
    if axis.lower() == FOCUS:
        return length // 2
    return 0 if axis.lower() == TIME or length == 1 else None


def plane_remark(axis: str, length: int) -> str:
    """What is said of a stack of several planes."""
    if axis.lower() == FOCUS:
        return f"{length} focal planes; the middle one, number {length // 2} from 0, is read"
    return f"{length} time points; the first is read"
