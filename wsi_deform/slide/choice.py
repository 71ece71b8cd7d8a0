"""Which of several images in one file or folder is the slide: by name where one is asked for, else by what they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Size
from wsi_deform.paths import IMAGE_MARK, clean_id
from wsi_deform.slide.path import SlidePath
from wsi_deform.slide.reader import StoredImage

# What scanners and converters call the pictures that they store beside a slide. Letters around it make another word.
_BESIDE = re.compile(r"(?<![a-z])(macro|label|thumbnail|thumb|overview|preview)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An image that may be the slide.

    Attributes:
        name: As the file calls it; may be empty or that of another image.
        size: Of its finest level, px.
        is_beside: Whether the file says that it is none: a macro, a label, a thumbnail.
        key: What else picks it, as its path in a folder; may be empty.
    """

    name: str
    size: Size
    is_beside: bool = False
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which image is read.

    Attributes:
        number: Its place among the candidates.
        images: For ``SlideInfo.images``: all of them, or none where there is only one.
        remarks: What people should know of the choice.
    """

    number: int
    images: tuple[StoredImage, ...]
    remarks: tuple[str, ...]


def is_named_beside(name: str) -> bool:
    """Whether a name says that an image lies beside the slide: "macro image", "Label", "thumbnail"."""
    return _BESIDE.search(name.replace("_", " ")) is not None


def choose(candidates: Sequence[Candidate], asked: str, path: SlidePath) -> Choice:
    """Choose the image that is read.

    Args:
        candidates: One or more, in the order of the file.
        asked: What ``FILE::NAME`` names; empty takes the slide.
        path: The file, for messages.

    Returns:
        The choice.

    Raises:
        SlideError: No image has the name.

    Convention:
        The slide is the largest image that neither the file nor its name calls a macro, a label, a thumbnail or an
        overview; the first of several as large; the largest of all where all are called so. A name may also be
        the number of an image, from 0.
    """
    if len(candidates) == 1 and not asked:
        return Choice(number=0, images=(), remarks=())
    names = _unique_names([one.name or one.key for one in candidates])
    if asked:
        number = _named(candidates, names, asked, path)
    else:
        beside = [one.is_beside or is_named_beside(one.name) for one in candidates]
        possible = [at for at, is_beside in enumerate(beside) if not is_beside] or list(
            range(len(candidates))
        )
        number = max(possible, key=lambda at: (candidates[at].size.area, -at))
    if len(candidates) == 1:
        return Choice(number=0, images=(), remarks=())
    images = tuple(
        StoredImage(name=name, size=one.size, is_chosen=at == number)
        for at, (name, one) in enumerate(zip(names, candidates, strict=True))
    )
    others = [] if asked else [names[at] for at in possible if at != number]
    return Choice(number=number, images=images, remarks=_remarks(images[number], others))


def refuse_others(images: Sequence[StoredImage], asked: str, path: SlidePath) -> None:
    """Refuse a name of an image, for readers of the slide alone.

    Args:
        images: For ``SlideInfo.images``.
        asked: What ``FILE::NAME`` names; empty, and the name of the slide, are all right.
        path: The file, for messages.

    Raises:
        SlideError: It is another one.
    """
    if not asked or any(image.name == asked and image.is_chosen for image in images):
        return
    if any(image.name == asked for image in images):
        raise SlideError(
            f"{path}: {asked!r} is a picture beside the slide. Needed the slide itself. Leave the name out."
        )
    found = f"it holds {listed(images)}" if images else "it holds one image"
    raise SlideError(
        f"{path}: no image {asked!r} in it: {found}. Needed the slide itself. Leave the name out."
    )


def listed(images: Sequence[StoredImage]) -> str:
    """Images in words: "slide (1600 x 1200 px), macro (400 x 150 px)"."""
    return ", ".join(f"{image.name} ({image.size} px)" for image in images)


def other_images(images: Sequence[StoredImage]) -> str:
    """What is said behind the refusal of an image: which others there are, and how to read one."""
    others = [image for image in images if not image.is_chosen]
    return f" Others in the file: {listed(others)}; FILE{IMAGE_MARK}NAME reads one." if others else ""


def _remarks(chosen: StoredImage, others: Sequence[str]) -> tuple[str, ...]:
    if not others:
        return ()
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    return (
        f"the file holds {len(others) + 1} images that may be the slide; {chosen.name} is read, "
        f"FILE{IMAGE_MARK}NAME picks another: {', '.join(others[:3])}{more}",
    )


def _named(candidates: Sequence[Candidate], names: Sequence[str], asked: str, path: SlidePath) -> int:
    wanted = clean_id(asked)
    for known in (names, [clean_id(one.key) for one in candidates], [name.casefold() for name in names]):
        if wanted in known:
            return list(known).index(wanted)
        wanted = wanted.casefold() if known is not names else wanted
    if asked.isdecimal() and int(asked) < len(names):
        return int(asked)
    found = listed(
        [
            StoredImage(name=name, size=one.size, is_chosen=False)
            for name, one in zip(names, candidates, strict=True)
        ]
    )
    raise SlideError(
        f"{path}: no image {asked!r} in it. Needed one of: {found}. Correct what follows {IMAGE_MARK}"
    )


def _unique_names(names: Sequence[str]) -> list[str]:
    """Names that can be written behind ``FILE::`` and in file names, none twice; a number where there is none."""
    cleaned = [clean_id(name.strip()) if name.strip() else str(at) for at, name in enumerate(names)]
    found: dict[str, None] = {}
    for at, name in enumerate(cleaned):
        while name in found:
            name = f"{name}_{at}"
        found[name] = None
    return list(found)
