"""The images of an OME-Zarr: of one group, of a converted file with several, or of a SpatialData store."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import zarr

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Size
from wsi_deform.slide.channels import Channel
from wsi_deform.slide.choice import is_named_beside
from wsi_deform.slide.ngff import Multiscale, channels_of, images_of, multiscale_from_data, ngff_of
from wsi_deform.slide.path import SlidePath
from wsi_deform.slide.tiff.ome import OmeImage, ome_xml
from wsi_deform.slide.zarr_store import ZarrPlace

# Groups that hold no slide: label images, tables, OME-XML.
NO_IMAGES = ("labels", "points", "shapes", "tables", "OME")
OME_XML = "OME/METADATA.ome.xml"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ZarrImage:
    """One image.

    Attributes:
        key: Path of its group in the store, or its number within the group.
        name: What it is called; may be empty.
        group: Its group.
        described: Its description, checked.
        stored: Its description, as it is stored.
        channels: What is said of its channels.
        significant_bits: Bits that are used of a sample, where the file says it.
    """

    key: str
    name: str
    group: Any
    described: Multiscale
    stored: Any
    channels: tuple[Channel, ...]
    significant_bits: int | None = None

    def first_array(self, path: SlidePath) -> Any:
        """The array of its first level; the error names the level that is missing."""
        array = self.group[self.described.datasets[0].path]
        if not isinstance(array, zarr.Array):
            raise SlideError(
                f"{path}: {array.name} is a group. Needed an array for every level; copy the folder again."
            )
        return array


def array_size(array: Any, axes: str, path: SlidePath) -> Size:
    """Width and height of a level, px; refuses an array of other axes."""
    if len(array.shape) != len(axes):
        raise SlideError(
            f"{path}: axes {axes}, shape {array.shape}, {array.dtype}. Needed an axis for each side of the array; copy "
            "the folder again."
        )
    return Size(array.shape[axes.index("x")], array.shape[axes.index("y")])


def zarr_images(place: ZarrPlace, path: SlidePath) -> list[ZarrImage]:
    """Find the images of a Zarr.

    Args:
        place: Where it lies.
        path: The file or folder, for messages.

    Returns:
        One or more, in the order of ``OME/series`` where it is said; else of their numbers or names.

    Raises:
        SlideError: There is none.
        ValueError: A description is not NGFF.
    """
    # Nothing beside the mode where the group is the whole: zarr 3.4 refuses options that it makes no use of.
    group = zarr.open_group(place.store, mode="r", **({"path": place.root} if place.root else {}))
    attributes = group.attrs.asdict()
    found = images_of(attributes)
    if found:
        return [_image(str(at), group, attributes, data) for at, data in enumerate(found)]
    described = ome_xml(place.text_of(OME_XML)).images
    images = []
    for number, (key, one) in enumerate(_groups(group)):
        attributes = one.attrs.asdict()
        said = described[number] if number < len(described) else None
        images += [_image(key, one, attributes, data, said) for data in images_of(attributes)[:1]]
    if not images:
        raise SlideError(
            f"{path}: a Zarr folder without the multiscales attribute of NGFF 0.4 to 0.6. Write it as OME-Zarr."
        )
    return images


def _image(
    key: str, group: Any, attributes: Mapping[str, Any], data: Any, said: OmeImage | None = None
) -> ZarrImage:
    described = multiscale_from_data(data)
    own = described.name if isinstance(described.name, str) else ""
    names = [name.rpartition("/")[2] for name in (said.name if said else "", own, key)]
    # The first name that means something, but none hides that it is a macro or label.
    name = next((name for name in names if name and is_named_beside(name)), next(filter(None, names)))
    return ZarrImage(
        key=key,
        name=name,
        group=group,
        described=described,
        stored=data,
        channels=(said.channels if said else ()) or channels_of(attributes),
        significant_bits=said.significant_bits if said else None,
    )


def _groups(group: Any) -> Iterator[tuple[str, Any]]:
    """The groups in a group that may hold images, and their paths, in order."""
    series = _series(group)
    if series:
        yield from ((key, group[key]) for key in series)
        return
    members = _members(group)
    if not members:
        # Servers do not list their folders: images of a converted file have numbers.
        number = 0
        while str(number) in group:
            yield str(number), group[str(number)]
            number += 1
        return
    for name in sorted(members, key=_natural):
        one = members[name]
        if name in NO_IMAGES or "image-label" in ngff_of(one.attrs.asdict()):
            continue
        if images_of(one.attrs.asdict()):
            yield name, one
        else:
            inside = _members(one)
            yield from ((f"{name}/{inner}", inside[inner]) for inner in sorted(inside, key=_natural))


def _members(group: Any) -> dict[str, Any]:
    """The groups right in a group; none where they cannot be listed."""
    try:
        with warnings.catch_warnings():
            # Of other things that lie in the folder.
            warnings.simplefilter("ignore", UserWarning)
            return {str(name): one for name, one in group.groups()}
    except (OSError, NotImplementedError, ValueError):
        return {}


def _series(group: Any) -> list[str]:
    """The order of images that ``OME/series`` says; empty where it says none."""
    # A folder of OME-XML need be no group.
    try:
        series = ngff_of(group["OME"].attrs.asdict()).get("series")
    except KeyError:
        return []
    return [str(key) for key in series] if isinstance(series, list) else []


def _natural(name: str) -> tuple[object, ...]:
    """Numbers by their value."""
    return tuple(
        (0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)
    )
