"""The metadata of OME-Zarr (NGFF 0.4 to 0.6): read from foreign JSON and checked before anything trusts it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wsi_deform.limits import MAX_IMAGES, MAX_LEVELS
from wsi_deform.slide.channels import Channel
from wsi_deform.slide.mpp.claims import Claim, Source, claim_of
from wsi_deform.slide.resolution import um_per_unit

BEFORE_0_4 = "tczyx"
# Steps that leave lengths as they are.
UNSCALED = ("identity", "translation")


class _Described(BaseModel):
    """Foreign JSON: what is not asked for is not looked at."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Axis(_Described):
    """One axis of an image."""

    name: str
    unit: Any = None


class Transform(_Described):
    """A step from pixels to the world; only scales are used, also those in a sequence (0.6).

    A scale in a file of its own (0.4), an affine or a rotation (0.6) is none that can be used.
    """

    type: str = ""
    scale: tuple[float, ...] | None = None
    transformations: tuple[Transform, ...] = ()
    output: Any = None

    @property
    def leads_to(self) -> str:
        """The name of the coordinate system that it ends in (0.6), or ""."""
        name = self.output.get("name") if isinstance(self.output, Mapping) else self.output
        return name if isinstance(name, str) else ""

    @property
    def is_known(self) -> bool:
        """Whether what it does to lengths is known."""
        if self.type == "sequence":
            return all(step.is_known for step in self.transformations)
        return self.scale is not None or self.type in UNSCALED

    @property
    def scales(self) -> list[tuple[float, ...]]:
        """Its scale and those of the steps that it is made of."""
        own = [] if self.scale is None else [self.scale]
        return own + [scale for step in self.transformations for scale in step.scales]


class CoordinateSystem(_Described):
    """What the axes of an image are, since 0.6."""

    name: str = ""
    axes: tuple[Axis, ...]


class Dataset(_Described):
    """One level of an image."""

    path: str
    coordinateTransformations: tuple[Transform, ...] = ()


class Shown(_Described):
    """How a channel is to be shown."""

    label: Any = ""
    color: Any = ""

    @property
    def channel(self) -> Channel:
        """Its name and colour, as far as they are said."""
        label = self.label if isinstance(self.label, str) else ""
        try:
            red, green, blue = bytes.fromhex(self.color)
        except (TypeError, ValueError):
            return Channel(name=label)
        return Channel(name=label, colour=(red, green, blue))


class Omero(_Described):
    """How an image is to be shown."""

    channels: tuple[Shown, ...] = ()


class Multiscale(_Described):
    """An image and its levels, finest first.

    Attributes:
        name: Its name, or "".
        coordinateSystems: Since 0.6, one or more.
        axes: In the order of the arrays' axes; before 0.4 they are names only, or not said; since 0.6 they are those
            of the coordinate system that the levels lead to.
        datasets: One or more levels, each of which is opened.
        coordinateTransformations: What all levels share.
    """

    name: Any = ""
    coordinateSystems: tuple[CoordinateSystem, ...] | None = None
    axes: tuple[Axis | str, ...] = tuple(BEFORE_0_4)
    datasets: tuple[Dataset, ...] = Field(min_length=1, max_length=MAX_LEVELS)
    coordinateTransformations: tuple[Transform, ...] = ()

    @property
    def letters(self) -> str:
        """One lower-case name per axis, run together: "cyx"."""
        return "".join((axis if isinstance(axis, str) else axis.name).lower() for axis in self.axes)

    def steps_of(self, level: int) -> tuple[Transform, ...]:
        """The steps from the pixels of a dataset to the world."""
        return self.datasets[level].coordinateTransformations + self.coordinateTransformations

    def scales_of(self, level: int) -> list[tuple[float, ...]]:
        """The scales from the pixels of a dataset to the world."""
        return [scale for step in self.steps_of(level) for scale in step.scales]

    def claims(self, level: int = 0) -> Iterator[Claim]:
        """Um per pixel of a dataset from its scales and those of the whole image, where units are said.

        Args:
            level: Number of the dataset that is the finest level.

        Yields:
            The claim; none where a step is no scale, or there is no step at all.
        """
        steps = self.steps_of(level)
        if not steps or not all(step.is_known for step in steps):
            return
        found: dict[str, float] = {}
        letters, scales = self.letters, self.scales_of(level)
        for name in "xy":
            number = letters.index(name)
            axis = self.axes[number]
            um = None if isinstance(axis, str) else um_per_unit(axis.unit)
            scale = math.prod(scale[number] for scale in scales)
            if um is not None and math.isfinite(scale) and scale > 0:
                found[name] = scale * um
        yield from claim_of(Source.NGFF, found.get("x"), found.get("y"), has_unit=True)


def ngff_of(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """NGFF's part of the attributes of a group: under ``ome`` since 0.5, bare before."""
    inner = attributes.get("ome")
    return inner if isinstance(inner, Mapping) else attributes


def channels_of(attributes: Mapping[str, Any]) -> tuple[Channel, ...]:
    """What a group says of its channels, for showing them; none where it says nothing that can be used."""
    said = ngff_of(attributes).get("omero")
    if said is None:
        return ()
    try:
        shown = Omero.model_validate(said)
    except ValidationError:
        return ()
    return tuple(each.channel for each in shown.channels)


def images_of(attributes: Mapping[str, Any]) -> list[Any]:
    """The descriptions of a group's images, as they are stored; none where the group describes none.

    Args:
        attributes: The group's own.

    Raises:
        ValueError: They are no list, or too many.
    """
    images = ngff_of(attributes).get("multiscales") or []
    if not isinstance(images, list):
        raise ValueError(f"multiscales is {type(images).__name__}, needed a list")
    if len(images) > MAX_IMAGES:
        raise ValueError(f"multiscales describes {len(images):,} images, needed at most {MAX_IMAGES:,}")
    return images


def multiscale_from_data(data: object) -> Multiscale:
    """Check the description of one image.

    Args:
        data: One of ``images_of``.

    Returns:
        The image; x and y are among its axes, and every scale has one number for each axis.

    Raises:
        ValueError: The description is not NGFF 0.4, 0.5 or 0.6; the message says what is wrong and where.
    """
    try:
        image = _with_axes(Multiscale.model_validate(data))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, ("multiscales", *first["loc"])))
        raise ValueError(f"{place}: {first['msg'].lower()}") from error
    letters, count = image.letters, len(image.axes)
    if "x" not in letters or "y" not in letters or not len(letters) == len(set(letters)) == count:
        raise ValueError(f"axes {letters!r}, needed letters with x and y once each")
    for scale in (scale for level in range(len(image.datasets)) for scale in image.scales_of(level)):
        if len(scale) != count:
            raise ValueError(f"a scale of {len(scale)} numbers, needed one for each of {count} axes")
    return image


def _with_axes(image: Multiscale) -> Multiscale:
    """An image of 0.6 as it was before: with the axes of the coordinate system that its levels lead to.

    Steps from there to other coordinate systems, which the whole image shares, say nothing of its levels.
    """
    systems = image.coordinateSystems
    if systems is None:
        return image
    if not systems:
        raise ValueError("coordinateSystems is empty, needed one with the axes")
    named = {system.name: system for system in systems}
    steps = (step for dataset in image.datasets for step in dataset.coordinateTransformations)
    system = next((named[step.leads_to] for step in steps if step.leads_to in named), systems[0])
    return image.model_copy(update={"axes": system.axes, "coordinateTransformations": ()})
