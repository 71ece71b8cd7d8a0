"""What a run leaves for people: log.csv, TensorBoard events, learning curves."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from wsi_deform.provenance import write_aside, write_text

COLUMNS = (
    "epoch",
    "loss",
    "segmentation_loss",
    "edge_loss",
    "learning_rate",
    "seconds",
    "val_miou",
    "val_miou_without_background",
)


class RunLog:
    """Writes every logged epoch; a context manager."""

    def __init__(self, folder: Path) -> None:
        # TensorBoard's writer takes a second to import, and only training needs it.
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        self.events: Any = SummaryWriter(str(folder / "tensorboard"))

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.events.close()

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write all epochs so far; the last one is new.

        Args:
            rows: One mapping per epoch with the keys of ``COLUMNS``; validation columns may be missing.
        """
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.folder / "log.csv", text.getvalue())
        newest = rows[-1]
        for name in COLUMNS[1:]:
            if name in newest:
                self.events.add_scalar(name, newest[name], newest["epoch"])

    def draw(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Draw the learning curves into ``curves.png``."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.6), layout="constrained")
        losses, scores = figure.subplots(1, 2)
        epochs = [row["epoch"] for row in rows]
        for name, colour in (("loss", "#222222"), ("segmentation_loss", "#0072B2"), ("edge_loss", "#D55E00")):
            losses.plot(epochs, [row[name] for row in rows], label=name.replace("_", " "), color=colour)
        losses.set(xlabel="epoch", ylabel="training loss", ylim=(0, None))
        losses.legend(frameon=False)
        validated = [row for row in rows if "val_miou" in row]
        for name, colour in (("val_miou", "#009E73"), ("val_miou_without_background", "#CC79A7")):
            scores.plot(
                [row["epoch"] for row in validated],
                [row[name] for row in validated],
                label=name.replace("val_", "").replace("_", " "),
                color=colour,
                marker=".",
            )
        scores.set(xlabel="epoch", ylabel="validation mIoU, full resolution", ylim=(0, 1))
        scores.legend(frameon=False)
        with write_aside(self.folder / "curves.png") as aside:
            figure.savefig(aside, dpi=110, format="png")
