"""Which of several images in an annotation file is the slide."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from wsi_deform.annotation.outlines.found import shown
from wsi_deform.annotation.outlines.stored import AnnotationFile

SHOWN = 5


def chosen_image(file: AnnotationFile, names: Sequence[str]) -> int:
    """Choose an image of a file.

    Args:
        file: The file; its ``image`` says which slide is wanted.
        names: File names of its images, with or without folders.

    Returns:
        The number of the image whose name is that of the slide, without folder and suffix; or else of the only one.

    Raises:
        AnnotationError: There are several, and none or more than one has that name.
    """
    if len(names) == 1:
        return 0
    wanted = None if file.image is None else _stem(file.image)
    fitting = [number for number, name in enumerate(names) if _stem(name) == wanted]
    if len(fitting) == 1:
        return fitting[0]
    few = ", ".join(shown(name) for name in names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    what = "no slide was named" if wanted is None else f"{len(fitting)} of them are called {shown(wanted)}"
    raise file.error(
        f"it holds {len(names)} images ({few}), and {what}. Needed the file name of one of them. Name the slide's file "
        "as the annotations do, or export the slide alone"
    )


def _stem(name: str) -> str:
    """A name without its folder and its last suffix, in lower case."""
    return PurePosixPath(name.replace("\\", "/")).stem.lower()
