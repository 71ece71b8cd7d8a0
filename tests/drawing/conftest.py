"""Figures as objects."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from matplotlib.figure import Figure

from wsi_deform.drawing import figures, looks_figure, measure_figures, result_figures, run_figures

Drawn = Callable[..., Figure]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Calls what draws a figure, and gives the figure instead of its PNG."""
    for module in (figures, looks_figure, measure_figures):
        monkeypatch.setattr(module, "png_bytes", lambda figure: figure)
    for module in (run_figures, result_figures):
        monkeypatch.setattr(module, "figure_bytes", lambda figure, form: figure)
    return lambda draw, *args, **given: draw(*args, **given)
