"""How labels are put back in slide order, by name; nothing that is slow is imported here."""

from __future__ import annotations

from typing import Literal

# The label of the nearest sample, or of the scores that are interpolated in the warped mesh of the samples.
Interpolation = Literal["nearest", "linear"]
