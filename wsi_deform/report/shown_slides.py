"""Which slides of many a page shows, why, and their pictures: the mask, the labels, where it was sampled."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_deform.annotation.classes import ClassTable, read_class_table
from wsi_deform.anonymous import LEFT_OUT, Names
from wsi_deform.data.study import open_labelled
from wsi_deform.distribute.ledger import State
from wsi_deform.drawing.figures import POINT_COLOUR, sampling_points_figure
from wsi_deform.errors import MaskError, WsiDeformError
from wsi_deform.geometry import Mpp, Point, Size, both_axes
from wsi_deform.manifest.rows import ManifestRow
from wsi_deform.mask.caption import captioned, legend_of
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.overlay import overlay
from wsi_deform.mask.overlay_file import renamed_overlay
from wsi_deform.mask.samples import read_samples
from wsi_deform.mask.scale_bar import scale_bar
from wsi_deform.report.files import duration
from wsi_deform.report.page import Picture, Section
from wsi_deform.report.pictures import levels_picture, slide_picture, truth_picture
from wsi_deform.slide_results import ORACLES, is_in_blocks

MAX_SLIDES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A slide that is shown, and why.

    Attributes:
        state: Its finished result.
        why: E.g. "mIoU 0.412, the lowest of 16"; empty where it is shown for nothing but its place.
    """

    state: State
    why: str = ""


def choose(
    done: Sequence[State], evaluation: Mapping[str, Any] | None, most: int = MAX_SLIDES
) -> tuple[list[Shown], str]:
    """Choose slides.

    Args:
        done: All finished results, in the order of the page.
        evaluation: The measures of some of them, or None.
        most: At most so many are chosen.

    Returns:
        With measures the worst ones, then the best; else evenly spread ones. And a sentence that says so, empty where
        all are shown.
    """
    scores = {
        slide["slide_id"]: float(slide["predicted"]["miou"])
        for slide in (evaluation or {}).get("slides", [])
        if slide["predicted"].get("miou") is not None
    }
    known = sorted(
        (state for state in done if state.slide_id in scores), key=lambda state: scores[state.slide_id]
    )
    if not known:
        chosen = [Shown(state=state) for state in evenly(done, most)]
        if len(chosen) == len(done):
            return chosen, ""
        return chosen, (
            f"{len(chosen)} of the {len(done):,} segmented slides are shown, evenly spread over the list: none has "
            "measures that would tell the worst."
        )
    worst, best = -(-most // 2), most // 2
    ranked = [
        Shown(state=state, why=f"mIoU {scores[state.slide_id]:.3f}, {_place(place, len(known))}")
        for place, state in enumerate(known)
    ]
    if len(known) <= most:
        return ranked, (
            ""
            if len(ranked) == len(done)
            else f"{len(ranked)} of the {len(done):,} segmented slides are shown, the worst first: those with measures."
        )
    return [*ranked[:worst], *(ranked[-best:][::-1] if best else [])], (
        f"{most} of the {len(done):,} segmented slides are shown: the {worst} with the lowest mean IoU, the lowest "
        f"first, then the {best} with the highest, the highest first."
    )


def evenly(states: Sequence[State], most: int) -> list[State]:
    """At most so many states, evenly spread, the first and the last among them."""
    if len(states) <= most:
        return list(states)
    return [states[place] for place in np.linspace(0, len(states) - 1, most).round().astype(int)]


def _place(place: int, count: int) -> str:
    """Which one it is from the worst, counted from 0, or from the best, whichever is nearer."""
    from_best = count - 1 - place
    if place <= from_best:
        return f"the {_ordinal(place)}lowest of {count:,}"
    return f"the {_ordinal(from_best)}highest of {count:,}"


def _ordinal(place: int) -> str:
    """Of places that are counted from 0: nothing for the first, then "2nd ", "3rd ", "4th "."""
    number = place + 1
    if number == 1:
        return ""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending} "


def slide_section(
    folder: MaskFolder, shown: Shown, names: Names, rows: Mapping[str, ManifestRow] | None = None
) -> Section:
    """Overlay, labels and sampling points of a slide; a file that is gone is said to be gone.

    Args:
        folder: The mask folder.
        shown: The slide.
        names: What it is called.
        rows: Slide id -> its row of a manifest with labels, to show these beside the mask; None shows none.
    """
    state = shown.state
    text = [
        f"{state.width_px:,} x {state.height_px:,} px"
        + (f" at {_shown_mpp(state)} µm per pixel" if state.mpp else "")
        + f"; {_looked_at(state)}, "
        f"{state.tiles:,} tile{'s' if state.tiles != 1 else ''} read, {duration(state.seconds)}."
    ]
    if state.remark:
        text.append(f"Remark: {state.remark}." if names.are_shown else f"It has a remark, {LEFT_OUT}.")
    pictures = []
    classes = read_class_table(folder.classes) if folder.classes.is_file() else None
    path = folder.overlay(state.slide_id)
    if path.is_file():
        try:
            image = path.read_bytes() if names.are_shown else _renamed(path, state, names)
            pictures.append(Picture(image=image, caption="The mask over the slide.", is_slide=True))
        except MaskError:
            text.append(f"The overlay is not shown: {LEFT_OUT}")
    row = (rows or {}).get(state.slide_id)
    if row is not None and classes is not None:
        try:
            image = labels_picture(row, classes, names.slide(state.slide_id))
            pictures.append(
                Picture(image=image, caption="The labels over the slide: what is true.", is_slide=True)
            )
        except WsiDeformError as error:
            text.append(f"The labels are not shown: {error if names.are_shown else LEFT_OUT}")
    if is_in_blocks(state.method):
        pictures += _read_levels(folder, state, names, text)
    elif state.method != "patches":
        pictures += _sampled(folder, state, names, classes, text)
    title = names.slide(state.slide_id) + (f": {shown.why}" if shown.why else "")
    return Section(title=title, text=text, pictures=pictures, heading=3)


def labels_picture(row: ManifestRow, classes: ClassTable, name: str) -> bytes:
    """The labels of a slide drawn over it as a mask is, with name, scale bar and legend; a JPEG.

    Raises:
        WsiDeformError: The slide or its labels cannot be read.
    """
    slide, labels = open_labelled(row, classes)
    picture, size = slide_picture(row.slide, mpp=row.mpp)
    true = truth_picture(labels, Size(picture.shape[1], picture.shape[0]))
    drawn = captioned(
        overlay(picture, true, classes.colours, background=classes.background),
        title=name,
        bar=scale_bar(size, slide.mpp_xy),
        entries=legend_of(true, classes, size=size, mpp=slide.mpp_xy),
    )
    buffer = io.BytesIO()
    Image.fromarray(drawn).save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()


def _sampled(
    folder: MaskFolder, state: State, names: Names, classes: ClassTable | None, text: list[str]
) -> list[Picture]:
    """Where a slide was sampled, in the colours of the classes that the samples were given."""
    try:
        samples = read_samples(folder.samples(state.slide_id))
        try:
            picture, size = slide_picture(Path(state.slide), mpp=_mpp_of(state))
        except WsiDeformError as error:
            text.append(f"The slide itself is not shown: {error if names.are_shown else LEFT_OUT}")
            picture, size = _blank(samples.size), samples.size
        points = sampling_points_figure(
            picture,
            samples.points_px,
            size=size,
            bar=scale_bar(size, _mpp_of(state)),
            colours=None if classes is None else _colours_of(samples.labels, classes),
        )
    except WsiDeformError as error:
        text.append(f"The sampling points are not shown: {error if names.are_shown else LEFT_OUT}")
        return []
    coloured = "; their colour is the class that they were given, dark is background" if classes else ""
    return [Picture(image=points, caption=f"Where the slide was sampled{coloured}.", is_slide=True)]


def _read_levels(folder: MaskFolder, state: State, names: Names, text: list[str]) -> list[Picture]:
    """Which level of a slide was the finest that was read, place by place."""
    try:
        samples = read_samples(folder.samples(state.slide_id))
        picture, size = slide_picture(Path(state.slide), mpp=_mpp_of(state))
        drawn = levels_picture(
            samples, picture, size=size, title=names.slide(state.slide_id), mpp=_mpp_of(state)
        )
    except WsiDeformError as error:
        text.append(f"Which levels were read is not shown: {error if names.are_shown else LEFT_OUT}")
        return []
    if drawn is None:
        return []
    caption = "The finest level that was read at each place; where nothing is drawn, the coarsest."
    return [Picture(image=drawn, caption=caption, is_slide=True)]


def _colours_of(labels: NDArray[np.uint8], classes: ClassTable) -> NDArray[np.uint8]:
    """(N, 3) RGB of samples: the colour of the class, dark where that is the background or none."""
    dark = tuple(int(POINT_COLOUR[place : place + 2], 16) for place in (1, 3, 5))
    palette = np.full((256, 3), dark, np.uint8)
    palette[: classes.count] = classes.colours
    if classes.background is not None:
        palette[classes.background] = dark
    return palette[labels]


def _renamed(path: Path, state: State, names: Names) -> bytes:
    """An overlay that has the id of a slide in place of its name."""
    both = both_axes(_mpp_of(state) or 1.0)
    aspect = state.width_px * both.x / max(1.0, state.height_px * both.y)
    return renamed_overlay(path, names.slide(state.slide_id), aspect=aspect)


def _mpp_of(state: State) -> Mpp | None:
    """The scale that a slide was segmented at."""
    return Point(*state.mpp_xy) if state.mpp_xy is not None and len(state.mpp_xy) == 2 else state.mpp


def _shown_mpp(state: State) -> str:
    """The same for people."""
    both = both_axes(_mpp_of(state) or 0.0)
    x, y = f"{both.x:.4g}", f"{both.y:.4g}"
    return x if x == y else f"{x} x {y}"


def _looked_at(state: State) -> str:
    """How the network saw a slide, in words."""
    many = "s" if state.fields != 1 else ""
    if state.method == "patches":
        return f"{state.fields:,} patch{'es' if many else ''} of {state.samples:,} pixels in all"
    said = f"{state.samples:,} samples in {state.fields} field{many}"
    if is_in_blocks(state.method):
        read = "" if state.read_pixels is None else f"{state.read_pixels:,} pixels read, "
        said = f"{read}{state.samples:,} labels in {state.fields} field{many}"
    if state.method in ORACLES:
        return f"{state.method}: {said}, placed by the labels of the slide itself"
    return said


def _blank(size: Size, max_px: int = 1200) -> Any:
    """White paper in the shape of a slide."""
    scale = max_px / size.long
    shape = (max(1, round(size.height * scale)), max(1, round(size.width * scale)), 3)
    return np.full(shape, 255, np.uint8)
