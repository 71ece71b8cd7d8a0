"""What a reader of an annotation format is."""

from __future__ import annotations

from typing import Protocol

from wsi_deform.annotation.outlines.found import Found
from wsi_deform.annotation.outlines.stored import AnnotationFile


class OutlineFormat(Protocol):
    """A format of annotation files: a class without state; ``open.FORMATS`` holds one of each.

    Attributes:
        name: For people: "ASAP XML".
        is_cropped: Whether its program counts from the corner of what it shows of a slide (``openslide.bounds-x`` and
            ``-y``) rather than from the corner of level 0.
    """

    name: str
    is_cropped: bool

    def recognises(self, file: AnnotationFile) -> bool:
        """Whether a file is in this format, by its content: the root element, or the members, never the suffix."""

    def read(self, file: AnnotationFile, found: Found) -> None:
        """Put everything that the file draws into ``found``, in the order it was drawn.

        Raises:
            AnnotationError: Something in the file has the wrong type, or is missing; names the feature.
        """
