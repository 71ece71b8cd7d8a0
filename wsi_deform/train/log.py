"""What a run leaves for people: log.csv, TensorBoard events, learning curves, pictures of validation fields."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.mean_classes import MeanClasses
from wsi_deform.drawing.panels import stacked, write_picture
from wsi_deform.files import write_aside, write_text

COLUMNS = (
    "epoch",
    "loss",
    "segmentation_loss",
    "edge_loss",
    "learning_rate",
    "deformation_learning_rate",
    "seconds",
    "read_seconds",
    "forward_seconds",
    "backward_seconds",
    "samples_per_second",
    "labelled_share",
    "val_miou",
    "val_miou_without_background",
    "val_classes",
    "val_classes_absent",
)
TOTALS = ("seconds", "read_seconds", "forward_seconds", "backward_seconds")
"""What a row holds the sum of; of the rest it holds the mean over the epoch's steps."""
PICTURES = "pictures"


def epoch_row(sums: Mapping[str, float], steps: int) -> dict[str, float]:
    """What the log says of an epoch's steps.

    Args:
        sums: Sums over its steps of what ``training_step`` returns, and of ``seconds``.
        steps: Number of steps.

    Returns:
        Values by column. ``read_seconds`` is waiting for views and reading tiles and labels, ``forward_seconds`` the
        networks and losses, ``backward_seconds`` the gradient and the optimiser; they sum to a little less than
        ``seconds``. ``labelled_share`` is the share of samples that lie on labelled pixels.
    """
    row = {name: value if name in TOTALS else value / max(1, steps) for name, value in sums.items()}
    row.pop("samples", None)
    if sums.get("seconds", 0.0) > 0:
        row["samples_per_second"] = sums.get("samples", 0.0) / sums["seconds"]
    return row


class RunLog:
    """Writes every logged epoch; a context manager.

    Args:
        folder: The run folder.
        rows: Epochs that are logged already; what TensorBoard holds of later ones is from a process that was
            killed before its next checkpoint, and is hidden.
    """

    def __init__(self, folder: Path, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        # TensorBoard's writer takes a second to import, and only training needs it.
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        first = rows[-1]["epoch"] + 1 if rows else 1
        self.events: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=first)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.events.close()

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write all epochs so far; the last one is new.

        Args:
            rows: One mapping per epoch with the keys of ``COLUMNS``; validation columns may be missing, and what is
                no column is left out.
        """
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.folder / "log.csv", text.getvalue())
        newest = rows[-1]
        for name in COLUMNS[1:]:
            if name in newest:
                self.events.add_scalar(name, newest[name], newest["epoch"])

    def show(self, epoch: int, pictures: Mapping[str, NDArray[np.uint8]]) -> None:
        """Put pictures of validation fields into TensorBoard, and into ``pictures/epoch-0040.png``.

        Args:
            epoch: The epoch, from 1.
            pictures: Name of a field -> (H, W, 3) RGB. The file holds all of them, one below the other, of the
                newest validation; TensorBoard keeps those of all.
        """
        if not pictures:
            return
        for name, picture in pictures.items():
            self.events.add_image(f"{PICTURES}/{name}", picture, epoch, dataformats="HWC")
        path = picture_of(self.folder, epoch)
        write_picture(path, stacked(list(pictures.values())))
        for old in path.parent.glob("epoch-*.png"):
            if old != path:
                old.unlink()

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
        over = MeanClasses.from_data(
            next((row.get("miou_classes") for row in reversed(rows) if row.get("miou_classes")), None)
        )
        if over is not None and (said := over.text()):
            scores.set_title(f"mean {said}", fontsize=8, wrap=True)
        if validated:
            scores.legend(frameon=False)
        with write_aside(self.folder / "curves.png") as aside:
            figure.savefig(aside, dpi=110, format="png")


def newest_picture(folder: Path) -> Path | None:
    """The picture of a run's newest validation; None where none was drawn."""
    return max((folder / PICTURES).glob("epoch-*.png"), default=None)


def picture_of(folder: Path, epoch: int) -> Path:
    """Where a run keeps the picture of an epoch's validation."""
    return folder / PICTURES / f"epoch-{epoch:04d}.png"
