"""The images of one DICOM series: which is the slide, which are its levels, and what lies beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Size
from wsi_deform.slide.dicom.codestream import BadFrameError
from wsi_deform.slide.dicom.files import DicomImage, dicom_images
from wsi_deform.slide.dicom.header import damaged, read_instance
from wsi_deform.slide.dicom.instance import Instance
from wsi_deform.slide.dicom.kind import Kind
from wsi_deform.slide.dicom.level import DicomLevel, not_rgb
from wsi_deform.slide.reader import StoredImage

# A level is the slide made smaller: its sides may differ from that by a pixel of rounding and so much.
STRETCH = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The images of a series.

    Attributes:
        levels: Of the slide, finest first.
        images: All images, the slide first.
        remarks: What to know of how they were read.
        is_plain: Whether nothing in the headers is known that OpenSlide reads in another way.
    """

    levels: tuple[DicomLevel, ...]
    images: tuple[StoredImage, ...]
    remarks: tuple[str, ...]
    is_plain: bool


def read_series(path: Path) -> Series:
    """Find and open the images of a slide.

    Args:
        path: A file of it, or the folder that holds it and no other slide.

    Returns:
        Its levels, each with a tile of every edge decoded.

    Raises:
        SlideError: There is no slide, or more than one, or its finest level cannot be read.
    """
    instances, remarks = _read_all(dicom_images(path), path)
    slide = [one for one in instances if one.kind is Kind.VOLUME]
    if not slide:
        slide = [one for one in instances if one.kind is Kind.UNKNOWN and one.frames > 1]
        remarks += [f"ImageType {one.image_type or 'is empty'}: taken for the slide." for one in slide[:1]]
        slide = [replace(one, kind=Kind.VOLUME) for one in slide]
    if not slide:
        kinds = ", ".join(sorted({one.kind.value for one in instances}))
        raise SlideError(
            f"{path}: images of a slide's {kinds} only. Needed an image of the slide itself (ImageType VOLUME). Copy "
            "the whole series."
        )
    images = _images(slide)
    levels, said = _levels(images)
    remarks += said
    beside = [
        one for one in instances if one.kind is not Kind.VOLUME and one.uid not in {two.uid for two in slide}
    ]
    finest = levels[0]
    if finest.planes > 1:
        remarks.append(f"{finest.planes} focal planes: number {finest.plane + 1}, the middle one, is read.")
    names = finest.instances[0].path_names
    if len(names) > 1:
        remarks.append(f"{len(names)} optical paths ({', '.join(names)}): the first one is read.")
    contradicts = finest.contradicts_its_frames()
    if contradicts:
        remarks.append(
            f"PhotometricInterpretation {finest.instances[0].photometric} and the headers of the frames disagree on "
            "what the channels are: the frames are believed"
        )
    return Series(
        levels=tuple(levels),
        images=_stored_images(finest.size, beside),
        remarks=tuple(remarks),
        is_plain=not contradicts
        and finest.planes == 1
        and not said
        and not any(level.has_bad_table() for level in levels),
    )


def _read_all(files: Sequence[DicomImage], path: Path) -> tuple[list[Instance], list[str]]:
    """Each instance once, by the UID of its image and its place in it; and what was left out."""
    found: dict[tuple[str, int], Instance] = {}
    said = []
    for file in files:
        try:
            one = read_instance(file.path)
        except SlideError as error:
            if file.path == path:
                raise
            if file.may_be_slide:
                raise SlideError(f"{path}: a file of its series is damaged: {error}") from error
            said.append(f"Its {file.kind.value} {file.path.name} cannot be read and is left out.")
            continue
        found.setdefault((one.uid, one.first_frame), one)
    return list(found.values()), said


def _images(instances: Sequence[Instance]) -> list[list[Instance]]:
    """The files of each image, largest image first."""
    images: dict[str, list[Instance]] = {}
    for one in instances:
        images.setdefault(one.uid, []).append(one)
    return sorted(images.values(), key=lambda parts: (-parts[0].size.area, parts[0].path.name))


def _levels(images: Sequence[list[Instance]]) -> tuple[list[DicomLevel], list[str]]:
    """Open the levels; a coarse one that cannot be read is left out, and said."""
    by_size: dict[Size, list[list[Instance]]] = {}
    for parts in images:
        by_size.setdefault(parts[0].size, []).append(parts)
    finest = images[0][0].size
    levels: list[DicomLevel] = []
    said: list[str] = []
    for size, alike in by_size.items():
        if not _is_same_view(finest, size):
            said.append(
                f"{alike[0][0].path.name} ({size} px) shows another part than the slide and is left out."
            )
            continue
        try:
            level = DicomLevel(_one_of(alike))
            level.check_edges()
        except (SlideError, BadFrameError) as error:
            path = alike[0][0].path
            if not levels:
                raise error if isinstance(error, SlideError) else damaged(path, str(error)) from error
            reason = str(error).removeprefix(f"{path}: ")
            said.append(f"Stored level of {size} px cannot be read and is built anew: {reason}")
            continue
        levels.append(level)
    return levels, said


def _one_of(alike: Sequence[list[Instance]]) -> list[Instance]:
    """Of images of one size the one that is read: the middle of the focal planes."""
    first = alike[0][0]
    if len(alike) == 1:
        return alike[0]
    names = {name for parts in alike for name in parts[0].path_names}
    if first.samples == 1 and len(names) > 1:
        raise not_rgb(first.path, sorted(names))
    depths = {parts[0].depth for parts in alike}
    if len(depths) == len(alike):
        return sorted(alike, key=lambda parts: parts[0].depth)[len(alike) // 2]
    raise SlideError(
        f"{first.path}: {len(alike)} images of {first.size} px in one series ("
        f"{', '.join(parts[0].path.name for parts in alike)}). Needed one slide in a series. Move the others away."
    )


def _is_same_view(finest: Size, size: Size) -> bool:
    x, y = finest.width / size.width, finest.height / size.height
    loose = STRETCH + 1 / size.short
    return abs(x / y - 1) <= loose


def _stored_images(size: Size, beside: Sequence[Instance]) -> tuple[StoredImage, ...]:
    """What ``inspect`` lists: the slide, and its label, overview and thumbnail by their kinds."""
    if not beside:
        return ()
    images = [StoredImage(name="volume", size=size, is_chosen=True)]
    for one in sorted(beside, key=lambda one: one.path.name):
        count = sum(image.name.partition("-")[0] == one.kind.value for image in images)
        name = f"{one.kind.value}-{count + 1}" if count else one.kind.value
        images.append(StoredImage(name=name, size=one.size, is_chosen=False))
    return tuple(images)
