"""What a DICOM image of a slide shows: the slide itself, its label, an overview."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from enum import Enum


class Kind(Enum):
    """What an image shows."""

    VOLUME = "volume"
    LABEL = "label"
    OVERVIEW = "overview"
    THUMBNAIL = "thumbnail"
    UNKNOWN = "unknown"


# The third value of ImageType; LOCALIZER is what OVERVIEW was called before 2011.
WORDS = {
    "VOLUME": Kind.VOLUME,
    "LABEL": Kind.LABEL,
    "OVERVIEW": Kind.OVERVIEW,
    "LOCALIZER": Kind.OVERVIEW,
    "THUMBNAIL": Kind.THUMBNAIL,
}
# Other words for what shows the label, or may show it.
PRIVATE_WORDS = {"MACRO": Kind.OVERVIEW, "LOCALISER": Kind.OVERVIEW, "BARCODE": Kind.LABEL}
ALIKE = 0.75


def kind_of(image_type: Sequence[str], *, has_label: bool = False) -> Kind:
    """What an image shows.

    Args:
        image_type: The values of its ImageType, misspelt ones too ("ORGINAL", "LABLE").
        has_label: Whether the file says that the label of the slide is in the image.

    Returns:
        The kind. A word for a label or an overview anywhere in the type wins over "VOLUME": an image that may show
        a name must not be taken for the slide. Where no word says it, a label if there is one in the image, else
        unknown.
    """
    words = [word.strip().upper() for word in image_type]
    found = {kind for word in words if (kind := (WORDS | PRIVATE_WORDS).get(word))}
    if not found:
        alike = (difflib.get_close_matches(word, WORDS, n=1, cutoff=ALIKE) for word in words)
        found = {WORDS[match[0]] for match in alike if match}
    for kind in (Kind.LABEL, Kind.OVERVIEW, Kind.THUMBNAIL, Kind.VOLUME):
        if kind in found:
            return kind
    return Kind.LABEL if has_label else Kind.UNKNOWN
