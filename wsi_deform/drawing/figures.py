"""Figures of slides, as PNG bytes: sampling points and label maps; and how any figure becomes bytes.

They have a white ground and need no screen: ``Figure`` objects with the Agg canvas, never pyplot, whose
state is global.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.drawing.names import plain
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Size
from wsi_deform.mask.scale_bar import ScaleBar

WIDTH_IN = 12.0
DPI = 130
MAX_PANEL_IN = 9.0  # height of one panel; a tall slide gets narrow panels instead of a figure without end
TITLE_IN, LEGEND_IN, GAP_IN = 0.27, 0.34, 0.12
INK, FAINT = "#1b1f24", "#6b7280"
POINT_COLOUR = "#00344f"  # against pink tissue and against glass
MAX_POINTS = 20_000
LEGEND_COLUMNS = 7
LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")

Form = Literal["png", "svg"]
"""What a figure is written as."""


def sampling_points_figure(
    picture: NDArray[np.uint8],
    points_px: NDArray[np.float64],
    *,
    size: Size,
    title: str = "",
    max_points: int = MAX_POINTS,
    bar: ScaleBar | None = None,
    colours: NDArray[np.uint8] | None = None,
) -> bytes:
    """Draw where a slide was sampled.

    Args:
        picture: (H, W, 3) uint8 RGB, a thumbnail of the whole slide.
        points_px: (N, 2) float64 (x, y), slide edge frame, level-0 px.
        size: Level-0 size of the slide, px.
        title: Written above.
        max_points: Of more points, so many are drawn, chosen at random but always the same.
        bar: Drawn below the picture; None draws none.
        colours: (N, 3) uint8 RGB of each point, or None for one colour.

    Returns:
        PNG bytes.

    Raises:
        ShapeError: An array has another shape.

    Convention:
        The picture is lightened, so that the points stand out. The slide's edge is the picture's edge.
    """
    check_picture(picture)
    if points_px.ndim != 2 or points_px.shape[1] != 2:
        raise ShapeError(f"points_px: shape {points_px.shape}. Needed (N, 2), last axis (x, y).")
    if colours is not None and colours.shape != (len(points_px), 3):
        raise ShapeError(f"colours: shape {colours.shape}. Needed ({len(points_px)}, 3), RGB of each point.")
    figure, (axes,) = panel_axes(
        picture.shape[1] / picture.shape[0], [title], rows_below=int(bar is not None)
    )
    show_picture(axes, lightened(picture), size)
    if bar is not None:
        draw_bar(figure, axes, bar, rows_below=0)
    draw_points(figure, axes, points_px, max_points=max_points, colours=colours)
    return png_bytes(figure)


def comparison_figure(
    picture: NDArray[np.uint8],
    label_maps: Mapping[str, NDArray[np.uint8]],
    classes: ClassTable,
    *,
    title: str = "slide",
    bar: ScaleBar | None = None,
) -> bytes:
    """Draw a slide and label maps of it beside each other, or below each other where the slide is wide.

    Args:
        picture: (H, W, 3) uint8 RGB, a thumbnail of the whole slide.
        label_maps: Name -> (H', W') uint8 class indices of the whole slide at any resolution, 255 unlabelled;
            usually the truth first, then a prediction per method.
        classes: Names and colours; the legend has those that occur in some map.
        title: Of the picture.
        bar: Drawn between the panels and the legend; None draws none.

    Returns:
        PNG bytes.

    Raises:
        ShapeError: An array has another shape.
    """
    check_picture(picture)
    for name, labels in label_maps.items():
        if labels.ndim != 2 or labels.dtype != np.uint8:
            raise ShapeError(f"label map {name}: {labels.dtype} {labels.shape}. Needed (H, W) uint8.")
    handles = class_patches(classes, label_maps.values())
    legend_rows = max(1, -(-len(handles) // LEGEND_COLUMNS))
    aspect = picture.shape[1] / picture.shape[0]
    figure, panels = panel_axes(aspect, [title, *label_maps], rows_below=legend_rows + (bar is not None))
    size = Size(picture.shape[1], picture.shape[0])
    show_picture(panels[0], picture, size)
    palette = class_palette(classes)
    for axes, labels in zip(panels[1:], label_maps.values(), strict=True):
        show_picture(axes, palette[labels], size)
    draw_legend(figure, handles)
    if bar is not None:
        draw_bar(figure, panels[0], bar, rows_below=legend_rows)
    return png_bytes(figure)


def png_bytes(figure: Figure) -> bytes:
    """A figure as PNG."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Letters that the font lacks are boxes; nobody can do anything about it.
        warnings.filterwarnings("ignore", r"Glyph \d+")
        figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def svg_bytes(figure: Figure) -> bytes:
    """A figure as SVG whose letters stay letters, the same bytes for the same figure."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "wsi-deform"}):
        warnings.filterwarnings("ignore", r"Glyph \d+")
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def figure_bytes(figure: Figure, form: Form) -> bytes:
    """A figure as PNG or SVG."""
    return svg_bytes(figure) if form == "svg" else png_bytes(figure)


def draw_points(
    figure: Figure,
    axes: Axes,
    points_px: NDArray[np.float64],
    *,
    max_points: int = MAX_POINTS,
    colours: NDArray[np.uint8] | None = None,
) -> None:
    """Draw points on a panel, of more than ``max_points`` so many, chosen at random but always the same."""
    if len(points_px) > max_points:
        chosen = np.random.default_rng(0).choice(len(points_px), max_points, replace=False)
        points_px, colours = points_px[chosen], None if colours is None else colours[chosen]
    # As large as leaves half of the evenly covered picture free, within what can be seen and told apart.
    panel_in2 = float(np.prod(axes.get_position().size * figure.get_size_inches()))
    area_pt2 = float(np.clip(0.12 * panel_in2 * 72**2 / max(1, len(points_px)), 0.5, 9.0))
    ink = POINT_COLOUR if colours is None else colours / 255
    axes.scatter(points_px[:, 0], points_px[:, 1], s=area_pt2, c=ink, linewidths=0)


def patch(name: str, colour: Sequence[int]) -> Patch:
    """An entry of a legend; the colour is RGB of 0 to 255."""
    return Patch(facecolor=np.divide(colour, 255), edgecolor=FAINT, linewidth=0.5, label=plain(name))


def class_patches(classes: ClassTable, label_maps: Iterable[NDArray[np.uint8]]) -> list[Patch]:
    """Entries of the classes that occur in some map."""
    occur = {int(label) for labels in label_maps for label in np.flatnonzero(np.bincount(labels.ravel()))}
    return [
        patch(name, colour)
        for index, (name, colour) in enumerate(zip(classes.names, classes.colours, strict=True))
        if index in occur
    ]


def class_palette(classes: ClassTable) -> NDArray[np.uint8]:
    """(256, 3) uint8 RGB of each label; what is no class is white."""
    palette = np.full((256, 3), 255, np.uint8)
    palette[: classes.count] = classes.colours
    return palette


def draw_legend(figure: Figure, handles: Sequence[Patch], *, at_right_in: float | None = None) -> None:
    """Draw a legend at the foot of a figure, from its left edge; or at its right edge, so many inches higher."""
    if not handles:
        return
    higher = 0.0 if at_right_in is None else at_right_in / figure.get_figheight()
    figure.legend(
        handles=list(handles),
        loc="lower left" if at_right_in is None else "center right",
        bbox_to_anchor=(0 if at_right_in is None else 1, higher),
        ncols=min(len(handles), LEGEND_COLUMNS),
        frameon=False,
        fontsize=9,
        borderaxespad=0.1,
        labelcolor=INK,
        handlelength=1.2,
    )


def panel_axes(
    aspect: float, titles: Sequence[str], *, rows_below: int, columns: int | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure of panels in reading order, with room for rows of legend below them.

    Args:
        aspect: Width / height of a panel.
        titles: One per panel.
        rows_below: Rows of legend.
        columns: How many panels stand side by side; None takes what their aspect suggests.
    """
    columns = columns or max(1, min(len(titles), int(4 / aspect)))
    rows = -(-len(titles) // columns)
    width = min((WIDTH_IN - GAP_IN * (columns - 1)) / columns, MAX_PANEL_IN * aspect)
    height = width / aspect
    title_in = TITLE_IN if any(titles) else 0.0
    # Narrow panels still leave room for the legend's words.
    whole_width = max(columns * (width + GAP_IN) - GAP_IN, 4.0)
    whole_height = rows * (height + title_in + GAP_IN) + rows_below * LEGEND_IN
    figure = Figure(figsize=(whole_width, whole_height), facecolor="white")
    panels = []
    for number, title in enumerate(titles):
        row, column = divmod(number, columns)
        left, top = column * (width + GAP_IN), row * (height + title_in + GAP_IN) + title_in
        axes = figure.add_axes(
            (
                left / whole_width,
                1 - (top + height) / whole_height,
                width / whole_width,
                height / whole_height,
            )
        )
        axes.set_axis_off()
        axes.set_title(plain(title), loc="left", fontsize=10, color=INK, pad=4)
        panels.append(axes)
    return figure, panels


def draw_bar(figure: Figure, axes: Axes, bar: ScaleBar, *, rows_below: int) -> None:
    """Draw the bar of a panel at the left of a row of its own, its length beside it, above so many rows of legend."""
    length, gap = bar.share * axes.get_position().width, 0.08 / figure.get_figwidth()
    y = (rows_below + 0.5) * LEGEND_IN / figure.get_figheight()
    line = Line2D([0, length], [y, y], color=INK, linewidth=2.5, solid_capstyle="butt")
    figure.add_artist(line)
    figure.text(length + gap, y, bar.text, ha="left", va="center", fontsize=9, color=INK)


def show_picture(axes: Axes, picture: NDArray[np.uint8], size: Size) -> None:
    """Show a picture so that the axes count in px of a frame of this size, edge to edge."""
    axes.imshow(picture, extent=(0, size.width, size.height, 0), aspect="auto")
    axes.set(xlim=(0, size.width), ylim=(size.height, 0))


def lightened(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture on which points stand out."""
    return (255 - (255 - picture.astype(np.float32)) * 0.55).astype(np.uint8)


def check_picture(picture: NDArray[np.uint8]) -> None:
    """Refuse what is no RGB picture.

    Raises:
        ShapeError: It is not (H, W, 3) uint8.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ShapeError(f"picture: {picture.dtype} {picture.shape}. Needed (H, W, 3) uint8 RGB.")
