"""MONAI's whole-slide sliding window, as its documentation has it fastest without CUDA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from monai.data.wsi_reader import OpenSlideWSIReader
from monai.inferers import AvgMerger, PatchInferer, WSISlidingWindowSplitter
from numpy.typing import NDArray
from torch import Tensor


class PartReader(OpenSlideWSIReader):  # type: ignore[misc] # MONAI's types are not read
    """MONAI's reader, which reads only some windows: for timing a random part of a slide."""

    def __init__(self, read: set[tuple[int, int]], timed: Callable[..., Any], **options: Any) -> None:
        super().__init__(**options)
        self.chosen = read
        self._read = timed(super().get_data)
        self._nothing: tuple[NDArray[np.uint8], dict[str, Any]] | None = None

    def get_data(self, wsi: Any, location: Any = (0, 0), size: Any = None, **named: Any) -> Any:
        """Pixels of a chosen window, zeros of any other."""
        if tuple(location) in self.chosen:
            return self._read(wsi, location, size, **named)
        if self._nothing is None:
            self._nothing = np.zeros((3, *size), np.uint8), {}
        return self._nothing


def inferred_labels(
    path: str,
    network: Callable[[Tensor], Tensor],
    *,
    window_px: int,
    batch: int,
    buffer: int,
    wanted: set[tuple[int, int]],
    read: set[tuple[int, int]],
    timed: Callable[[Callable[..., Any]], Callable[..., Any]],
) -> NDArray[np.uint8]:
    """Labels of a slide.

    Args:
        path: The slide.
        network: From (B, 3, H, W) RGB in [0, 255] to scores.
        window_px: Side of a window; windows do not overlap.
        batch: Windows per forward pass.
        buffer: Windows that a thread reads ahead.
        wanted: (row, column) of the windows that the network sees, level-0 px.
        read: Those that are read.
        timed: Wraps what reads.

    Returns:
        (H, W) uint8.
    """
    splitter = WSISlidingWindowSplitter(
        patch_size=window_px,
        overlap=0,
        filter_fn=lambda _, location: tuple(location) in wanted,
        reader=PartReader(read, timed, level=0),
    )
    inferer = PatchInferer(
        splitter=splitter,
        merger_cls=AvgMerger,
        batch_size=batch,
        buffer_size=buffer,
        preprocessing=lambda patch: torch.as_tensor(patch).float(),
        postprocessing=lambda scores: scores.argmax(dim=1, keepdim=True).half(),
        value_dtype=torch.float16,
    )
    with torch.no_grad():
        merged = inferer(path, network)
    # Windows that were left out are 0 / 0.
    labels: NDArray[np.uint8] = torch.nan_to_num_(merged[0, 0], nan=0.0).to(torch.uint8).numpy()
    return labels
