"""What is asked of matplotlib's objects before they become pixels."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

Drawn = Callable[..., Figure]


def places(figure: Figure) -> list[tuple[float, ...]]:
    """Left, top, width and height of each panel, inches."""
    width, height = figure.get_size_inches()
    boxes = [axes.get_position() for axes in figure.axes]
    return [(box.x0 * width, (1 - box.y1) * height, box.width * width, box.height * height) for box in boxes]


def bars(axes: Axes) -> list[tuple[float, float, float]]:
    """Middle, width and height of each upright bar."""
    return [(p.get_x() + p.get_width() / 2, p.get_width(), p.get_height()) for p in axes.patches]


def lines(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


def style(figure: Figure) -> list[list[float]]:
    """Sizes of type, widths of lines, of the grid and of edges, and sizes of markers that there are, pt."""
    figure.draw_without_rendering()
    marked = [line for axes in figure.axes for line in axes.lines]
    grids = [line for axes in figure.axes for line in (*axes.get_xgridlines(), *axes.get_ygridlines())]
    found = [
        [text.get_fontsize() for text in figure.findobj(Text) if text.get_text()],
        [line.get_linewidth() for line in marked],
        [line.get_linewidth() for line in grids],
        [patch.get_linewidth() for axes in figure.axes for patch in axes.patches],
        [line.get_markersize() for line in marked if line.get_marker() != "None"],
    ]
    return [sorted(set(sizes)) for sizes in found]
