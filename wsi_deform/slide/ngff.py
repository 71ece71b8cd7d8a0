"""The metadata of OME-Zarr (NGFF 0.4 and 0.5): read from foreign JSON and checked before anything trusts it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wsi_deform.slide.mpp.claims import Claim, Source, claim_of
from wsi_deform.slide.resolution import um_per_unit

BEFORE_0_4 = "tczyx"


class _Described(BaseModel):
    """Foreign JSON: what is not asked for is not looked at."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Axis(_Described):
    """One axis of an image."""

    name: str
    unit: Any = None


class Transform(_Described):
    """A step from pixels to the world; only scales are used."""

    type: str = ""
    scale: tuple[float, ...] | None = None


class Dataset(_Described):
    """One level of an image."""

    path: str
    coordinateTransformations: tuple[Transform, ...] = ()


class Multiscale(_Described):
    """An image and its levels, finest first.

    Attributes:
        axes: In the order of the arrays' axes; before 0.4 they are names only, or not said.
        datasets: One or more levels.
        coordinateTransformations: What all levels share.
    """

    axes: tuple[Axis | str, ...] = tuple(BEFORE_0_4)
    datasets: tuple[Dataset, ...] = Field(min_length=1)
    coordinateTransformations: tuple[Transform, ...] = ()

    @property
    def letters(self) -> str:
        """One lower-case name per axis, run together: "cyx"."""
        return "".join((axis if isinstance(axis, str) else axis.name).lower() for axis in self.axes)

    def claims(self) -> Iterator[Claim]:
        """Um per level-0 pixel from the scales of level 0 and of the whole image, where units are said."""
        found: dict[str, float] = {}
        for name in "xy":
            number = self.letters.index(name)
            axis = self.axes[number]
            um = None if isinstance(axis, str) else um_per_unit(axis.unit)
            steps = self.datasets[0].coordinateTransformations + self.coordinateTransformations
            scale = float(np.prod([step.scale[number] for step in steps if step.scale is not None]))
            if um is not None and np.isfinite(scale) and scale > 0:
                found[name] = scale * um
        yield from claim_of(Source.NGFF, found.get("x"), found.get("y"), has_unit=True)


def images_of(attributes: Mapping[str, Any]) -> list[Any]:
    """The descriptions of a group's images, as they are stored; none where the group describes none.

    Args:
        attributes: The group's own; NGFF's part is under ``ome`` since 0.5, bare before.

    Raises:
        ValueError: They are no list.
    """
    inner = attributes.get("ome")
    images = (inner if isinstance(inner, Mapping) else attributes).get("multiscales") or []
    if not isinstance(images, list):
        raise ValueError(f"multiscales is {type(images).__name__}, needed a list")
    return images


def multiscale_from_data(data: object) -> Multiscale:
    """Check the description of one image.

    Args:
        data: One of ``images_of``.

    Returns:
        The image; x and y are among its axes, and every scale has one number for each axis.

    Raises:
        ValueError: The description is not NGFF 0.4 or 0.5; the message says what is wrong and where.
    """
    try:
        image = Multiscale.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, ("multiscales", *first["loc"])))
        raise ValueError(f"{place}: {first['msg'].lower()}") from error
    letters, count = image.letters, len(image.axes)
    if "x" not in letters or "y" not in letters or not len(letters) == len(set(letters)) == count:
        raise ValueError(f"axes {letters!r}, needed letters with x and y once each")
    steps = [step for dataset in image.datasets for step in dataset.coordinateTransformations]
    for step in (*steps, *image.coordinateTransformations):
        if step.scale is not None and len(step.scale) != count:
            raise ValueError(f"a scale of {len(step.scale)} numbers, needed one for each of {count} axes")
    return image
