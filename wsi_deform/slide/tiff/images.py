"""The images of a TIFF and the pages of their levels: the slide, and what lies beside it."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import tifffile

from wsi_deform.errors import ShapeError, SlideError
from wsi_deform.geometry import Size
from wsi_deform.limits import MAX_IMAGES, MAX_LEVELS
from wsi_deform.slide.channels import Channel
from wsi_deform.slide.choice import is_named_beside
from wsi_deform.slide.declared import TooLargeError
from wsi_deform.slide.path import SlidePath
from wsi_deform.slide.planes import FOCUS, plane_of, plane_remark
from wsi_deform.slide.tiff.ome import OmeXml, ome_xml
from wsi_deform.slide.tiff.page import PAGE_NAME, checked_page, colour_kind, page_size
from wsi_deform.slide.tiff.planes import check_described
from wsi_deform.slide.tiff.stack import ONE_FILE, axes_of
from wsi_deform.texts import parse_json

log = logging.getLogger(__name__)

REDUCED, MASK = 1, 4  # bits of NewSubfileType
APERIO_MACRO = 9
PAGE_NAME_CHARACTERS = 60
_QPI_NAME = re.compile(r"<Name>([^<]{1,80})</Name>")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TiffImage:
    """One image of a TIFF.

    Attributes:
        name: As the file calls it; may be empty.
        size: Of its finest level, px.
        is_beside: Whether the file says that it is a thumbnail, macro or label.
        stacks: Levels that are series of tifffile, with a page per plane; in any order, as are
        pages: Levels that are one page each.
        number: Its number among the images of OME-XML; None where none of them is it.
        channels: What the file says of channels that are stored by themselves.
        are_channels_rgb: Whether three of them are red, green and blue where nothing is said of them.
        significant_bits: Bits that are used of a sample, where the file says it.
        is_told_of: Whether metadata say what its pages are: others of its size are no planes of it.
        remarks: What is known of it before its levels are looked at.
    """

    name: str
    size: Size
    is_beside: bool = False
    stacks: Sequence[Any] = ()
    pages: list[Any] = field(default_factory=list)
    number: int | None = 0
    channels: tuple[Channel, ...] = ()
    are_channels_rgb: bool = True
    significant_bits: int | None = None
    is_told_of: bool = False
    remarks: tuple[str, ...] = ()


def images_in(tif: tifffile.TiffFile, path: SlidePath) -> list[TiffImage]:
    """Find the images of a TIFF.

    Args:
        tif: An open file with one page or more.
        path: The file, for messages.

    Returns:
        One or more images in the order of the file.

    Raises:
        SlideError: The first page is damaged, or the file is a part of an OME-TIFF whose metadata lie in another one.

    Convention:
        A page is a level of an image where its pixels are of the same kind, it is tiled if that is (else flagged as
        reduced), and it is smaller, of the same proportions to a pixel; its place in the file does not matter.
    """
    if tif.is_ome:
        xml = ome_xml(tif.pages.first.description)
        if xml.metadata_file:
            raise SlideError(
                f"{path}: a part of an OME-TIFF of several files, whose metadata are in {xml.metadata_file}. Needed "
                f"all planes in one file. {ONE_FILE}"
            )
        return (
            _images_of_single_planes(tif, xml, path)
            or _images_of_ome(tif, xml, path)
            or [_unfollowed(image, xml) for image in _images_of_pages(tif, path)]
        )
    if tif.is_svs:
        return _slide_and_beside(_images_of_pages(tif, path))
    if tif.is_qpi:
        return _images_of_qpi(tif, path)
    if tif.is_imagej or (tif.is_shaped and not _is_one_plane(tif.pages.first)):
        check_described(tif, path)
        series = tif.series[0]
        if any(axis in "CZT" and length > 1 for axis, length in axes_of(series)):
            return [_image_of(series, path, are_channels_rgb=not tif.is_imagej)]
    return _images_of_pages(tif, path)


def _is_one_plane(page: Any) -> bool:
    """Whether tifffile's own description of a page is of no more than what lies in it, so that no stack begins here."""
    try:
        said = parse_json(page.description)
        return bool(
            page.imagedepth == 1
            and math.prod(said["shape"]) == math.prod(page.shape)
            and (page.planarconfig == 1 or page.samplesperpixel == 1)
        )
    except (ValueError, TypeError, LookupError):
        return False  # tifffile says what is wrong, or reads the older format


def _unfollowed(image: TiffImage, xml: OmeXml) -> TiffImage:
    """An image of a file whose OME-XML cannot be followed: what that says of a picture of another size is not of it."""
    number = next((at for at, said in enumerate(xml.images) if said.size == image.size), None)
    scale = (
        " and none of its scales is taken, as none is of this size" if number is None and xml.images else ""
    )
    remark = f"its OME-XML cannot be followed; its pages are taken as they lie{scale}"
    return replace(image, number=number, remarks=(remark,))


def _images_of_single_planes(tif: tifffile.TiffFile, xml: OmeXml, path: SlidePath) -> list[TiffImage]:
    """The images of OME-XML where each is one page and its SubIFDs, as nearly every slide is; none where one is not.

    tifffile's series, which also hold stacks and other files, would parse the text again and cost as much as all else.
    """
    images: list[TiffImage] = []
    for number, said in enumerate(xml.images[: MAX_IMAGES + 1]):
        plane = said.plane
        if plane is None or plane.uuid not in ("", xml.uuid) or plane.page >= len(tif.pages):
            return []
        try:
            page = checked_page(tif.pages[plane.page].aspage(), path)
            found = page_size(page), page.samplesperpixel, page.imagedepth
            if found != (said.size, plane.samples, 1) or min(page.subifds or [8]) < 8:
                return []
            coarse = [checked_page(one.aspage(), path) for one in _sub_pages(page, path)]
        except TooLargeError:
            raise
        except (SlideError, ShapeError):
            return []
        image = TiffImage(
            name=said.name,
            size=said.size,
            pages=[page, *coarse],
            number=number,
            channels=said.channels,
            significant_bits=said.significant_bits,
            is_told_of=True,
        )
        images.append(image)
    if len(images) > MAX_IMAGES:
        return []
    if len(images) == 1 and len(images[0].pages) == 1 < len(tif.pages):
        _add_unlisted_levels(images[0], tif, path)
    return images


def _add_unlisted_levels(image: TiffImage, tif: tifffile.TiffFile, path: SlidePath) -> None:
    """Some writers put levels behind the image, where OME-XML does not tell of them."""
    first = _images_of_pages(tif, path)[0]
    if first.size == image.size:
        image.pages.extend(first.pages[1:])


def _images_of_ome(tif: tifffile.TiffFile, xml: OmeXml, path: SlidePath) -> list[TiffImage]:
    """One image per series that tifffile makes of OME-XML; none where it makes none."""
    check_described(tif, path)
    every = [series for series in tif.series if series.kind == "ome"]
    images, number = [], 0
    for series in every:
        image = _image_of(series, path)
        # tifffile leaves out images without pixels in the file, and keeps the names of the others.
        alike = [at for at in range(number, len(xml.images)) if xml.images[at].size == image.size]
        found = next((at for at in alike if xml.images[at].name == image.name), next(iter(alike), None))
        if found is not None:
            said, number = xml.images[found], found + 1
            image = replace(
                image,
                name=said.name,
                number=found,
                channels=said.channels,
                significant_bits=said.significant_bits,
            )
        images.append(image)
    listed = sum(len(series.pages) for series in every)
    if len(every) == 1 and len(every[0].levels) == 1 and listed == 1 < len(tif.pages):
        _add_unlisted_levels(images[0], tif, path)
    return images


def _images_of_qpi(tif: tifffile.TiffFile, path: SlidePath) -> list[TiffImage]:
    """PerkinElmer's: one page per fluorophore, or one of RGB."""
    check_described(tif, path)
    images = [_image_of(series, path) for series in tif.series]
    stack = tif.series[0].pages
    if len(stack) == 1 and checked_page(tif.series[0].keyframe, path).samplesperpixel > 1:
        return images
    described = [_QPI_NAME.search(page.aspage().description) for page in stack if page is not None]
    names = (Channel(name=found[1] if found else "", is_fluorescence=True) for found in described)
    return [replace(images[0], channels=tuple(names)), *images[1:]]


def _image_of(series: Any, path: SlidePath, *, are_channels_rgb: bool = True) -> TiffImage:
    return TiffImage(
        name=series.name,
        size=page_size(checked_page(series.keyframe, path)),
        stacks=tuple(series.levels),
        are_channels_rgb=are_channels_rgb,
    )


def _images_of_pages(tif: tifffile.TiffFile, path: SlidePath) -> list[TiffImage]:
    """Images of pages of which no metadata tell, largest levels first."""
    images: dict[int, TiffImage] = {}
    pages = [(page_size(page), page) for page in _all_pages(tif, path)]
    for place in sorted(range(len(pages)), key=lambda one: -pages[one][0].area):
        size, page = pages[place]
        home = next((image for image in images.values() if _is_level(page, size, image)), None)
        if home is not None:
            home.pages.append(page)
            continue
        name = _aperio_name(page) if tif.is_svs else _page_name(page)
        if len(images) == MAX_IMAGES:
            raise TooLargeError(
                f"{path}: over {MAX_IMAGES:,} pages that are no levels of others. Needed a slide, and a few pictures "
                "beside it. Write the slide into a file of its own."
            )
        images[place] = TiffImage(
            name=name, size=size, is_beside=bool(int(page.subfiletype) & REDUCED), pages=[page]
        )
    return [images[place] for place in sorted(images)]


def _all_pages(tif: tifffile.TiffFile, path: SlidePath) -> list[Any]:
    """All pages of a file, SubIFDs behind theirs; without masks of transparency, and damaged ones but the first."""
    found: list[Any] = []
    for page in tif.pages:
        top = page.aspage()
        for one in [top, *_sub_pages(top, path)]:
            try:
                key = checked_page(one.aspage(), path)
                page_size(key)  # says what is wrong with sides of 0 px
                if not int(key.subfiletype) & MASK:
                    found.append(key)
            except (SlideError, ShapeError) as error:
                if not found:
                    raise
                log.warning("%s: a page behind the first is left out (%s).", path, error)
    return found


def _sub_pages(page: Any, path: SlidePath) -> Iterable[Any]:
    """The pages in the SubIFDs of a page."""
    if not page.subifds:
        return ()
    if len(page.subifds) > MAX_LEVELS:
        raise TooLargeError(
            f"{path}: a page with {len(page.subifds):,} SubIFDs. Needed at most {MAX_LEVELS}, its coarse levels. "
            "The file is damaged: copy or download it again."
        )
    pages: Iterable[Any] = page.pages
    return pages


def _is_level(page: Any, size: Size, image: TiffImage) -> bool:
    """Whether a page is a coarser level of an image, none of whose levels so far is coarser."""
    first, last = image.pages[0], page_size(image.pages[-1])
    # Thumbnails, labels and macro images are stripped.
    if first.is_tiled != page.is_tiled or not (page.is_tiled or int(page.subfiletype) & REDUCED):
        return False
    if not (size.width < last.width and size.height < last.height):
        return False
    aspect = image.size.height / image.size.width
    if abs(size.height - size.width * aspect) >= 1 + aspect or colour_kind(page) != colour_kind(first):
        return False
    return int(page.subfiletype) != APERIO_MACRO and not is_named_beside(_page_name(page))


def _slide_and_beside(images: list[TiffImage]) -> list[TiffImage]:
    """Of an Aperio slide: the middle of its focal planes, and what is not tiled and so lies beside it."""
    planes = [image for image in images if image.pages[0].is_tiled and image.size == images[0].size]
    if len(planes) < 2:
        return images
    middle = planes[plane_of(FOCUS, len(planes)) or 0]
    middle = replace(middle, name="slide", remarks=(plane_remark(FOCUS, len(planes)),))
    return [middle, *(image for image in images if image not in planes)]


def _aperio_name(page: Any) -> str:
    """What Aperio calls a page: slide, thumbnail, label or macro."""
    if page.is_tiled:
        return "slide"
    second: str = page.description.partition("\n")[2].strip().partition(" ")[0].lower()
    if is_named_beside(second):
        return second
    if not int(page.subfiletype) & REDUCED:
        return "thumbnail"
    return "macro" if int(page.subfiletype) == APERIO_MACRO else "label"


def _page_name(page: Any) -> str:
    """The PageName of a page, else a short description."""
    for said in (page.tags.valueof(PAGE_NAME), page.description):
        if (
            isinstance(said, str)
            and 0 < len(said.strip()) <= PAGE_NAME_CHARACTERS
            and said.strip()[0] not in "<{"
        ):
            return said.strip().partition("\n")[0]
    return ""
