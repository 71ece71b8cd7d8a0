"""Which classes a mean IoU is over, as data and in words: a mean over fewer classes than the table is never silent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanClasses:
    """The classes of a mean IoU, by name, in the order of the class table.

    Attributes:
        labelled: Those that occur in the labels.
        over: Those that the mean is over; one that is in no label and yet predicted is among them with an IoU of 0.
            Empty where there is no mean.
        absent: Those that are neither in the labels nor predicted; in no mean.

    Convention:
        Labels of one class are no measure of telling classes apart: whoever says that class everywhere has an IoU of
        1. There is no mean IoU of them.
    """

    labelled: tuple[str, ...]
    over: tuple[str, ...]
    absent: tuple[str, ...]

    @classmethod
    def from_data(cls, data: object) -> MeanClasses | None:
        """Take up what ``to_data`` made; None where there is nothing of the kind, as in files of older versions."""
        if not isinstance(data, Mapping) or not {"labelled", "over", "absent"} <= data.keys():
            return None
        return cls(**{name: tuple(map(str, data[name])) for name in ("labelled", "over", "absent")})

    def to_data(self) -> dict[str, Any]:
        """The three lists, for JSON."""
        return {"labelled": list(self.labelled), "over": list(self.over), "absent": list(self.absent)}

    @property
    def is_measured(self) -> bool:
        """Whether there is a mean."""
        return len(self.labelled) > 1

    @property
    def is_whole(self) -> bool:
        """Whether every class of the table is in the mean and in the labels."""
        return self.is_measured and not self.absent and len(self.labelled) == len(self.over)

    def text(self, *, without: str | None = None) -> str:
        """Say which classes the mean is over, or why there is none.

        Args:
            without: A class that is left out of the mean, the background; None for none.

        Returns:
            "" where it is over all classes, and all are labelled; else "over 3 of 5 classes (absent: a, b)" or
            "cannot be measured: ...", to follow a value or a name.
        """
        if not self.labelled:
            return "cannot be measured: no pixel is labelled"
        if not self.is_measured:
            return f"cannot be measured: the labels hold only class {self.labelled[0]!r}"
        over = [name for name in self.over if name != without]
        absent = [name for name in self.absent if name != without]
        guessed = [name for name in over if name not in self.labelled]
        said = [f"absent: {', '.join(absent)}"] if absent else []
        said += [f"in no label and counted as 0: {', '.join(guessed)}"] if guessed else []
        return f"over {len(over)} of {len(over) + len(absent)} classes ({'; '.join(said)})" if said else ""
