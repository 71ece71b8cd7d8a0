"""TIAToolbox's ``SemanticSegmentor``, as its documentation has it fastest without CUDA.

It runs in an environment of its own, since TIAToolbox caps 41 packages: ``measure`` starts it with that environment's
Python (``Case.python``). So this module imports of ours only what needs nothing but torch: HRNetV2 and how its input is
normalised.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from tiatoolbox import __version__
from tiatoolbox.models.engine.io_config import IOSegmentorConfig
from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor
from tiatoolbox.models.models_abc import ModelABC
from torch import Tensor, nn

from pipelines.benchmarks.measure import Facts, Work
from pipelines.benchmarks.stopwatch import Stopwatch
from wsi_deform.networks.hrnet import HRNetV2
from wsi_deform.networks.inputs import network_input

BATCH = 4
PREFIX = "segmentation."
DARK = 128
WARM_UP_PX = 1024


class Dark(nn.Module):
    """Class 1 where a pixel is dark in green: a network that costs nothing."""

    def forward(self, rgb: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 RGB to (B, H, W) labels."""
        return rgb[:, 1] < DARK


class Stored(nn.Module):
    """The segmentation network of a stored model of ours, without the package's configuration and its dependencies."""

    def __init__(self, model: Path) -> None:
        """Load ``NAME.safetensors``, which ``NAME.json`` describes."""
        super().__init__()
        said = json.loads(model.with_suffix(".json").read_text(encoding="utf-8"))
        options = said["config"]["networks"]["segmentation"]
        weights = {
            name.removeprefix(PREFIX): tensor
            for name, tensor in load_file(model).items()
            if name.startswith(PREFIX)
        }
        self.network = HRNetV2(
            width=options["width"],
            stem_stride=options["stem_stride"],
            classes=len(said["classes"]["classes"]),
        )
        self.network.load_state_dict(weights)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, rgb: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 RGB to (B, H, W) labels."""
        scores: Tensor = self.network(network_input(rgb))
        # The same as argmax, which takes six times as long where channels do not come last.
        return scores.max(dim=1).indices


class Labels(ModelABC):  # type: ignore[misc] # TIAToolbox's types are not read
    """A network as TIAToolbox asks for it, which gives labels instead of scores: the least that can be merged."""

    def __init__(self, network: nn.Module, chosen: set[int] | None = None) -> None:
        """Batches that are not among ``chosen``, counted from 0, are seen by ``Dark`` instead."""
        super().__init__()
        self.network = network
        self.instead = Dark()
        self.chosen = chosen
        self.watch = Stopwatch()
        self.batches = self.windows = self.looked_at = 0

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 RGB to (B, H, W) labels."""
        is_chosen = self.chosen is None or self.batches in self.chosen
        self.batches += 1
        self.windows += len(images)
        self.looked_at += len(images) * is_chosen
        look = self.watch.timed(self.network) if is_chosen else self.instead
        labels: Tensor = look(images)
        return labels

    @staticmethod
    def infer_batch(model: Labels, batch_data: Tensor, *, device: str) -> NDArray[Any]:
        """(B, H, W, 3) uint8 to (B, H, W, 1) uint8."""
        with torch.inference_mode():
            labels = model(batch_data.to(device).permute(0, 3, 1, 2))
        found: NDArray[Any] = labels.to(torch.uint8).unsqueeze(-1).numpy()
        return found

    @staticmethod
    def postproc(image: Any) -> Any:
        """(H, W, 1) merged to (H, W)."""
        return image[..., 0]


class TwoScores(Labels):
    """The same with float scores of two classes, which are merged and then decided on, as its own models have it."""

    @staticmethod
    def infer_batch(model: Labels, batch_data: Tensor, *, device: str) -> NDArray[Any]:
        """(B, H, W, 3) uint8 to (B, H, W, 2) float32."""
        labels = Labels.infer_batch(model, batch_data, device=device)
        return np.concatenate((labels == 0, labels == 1), axis=-1, dtype=np.float32)

    @staticmethod
    def postproc(image: Any) -> Any:
        """(H, W, 2) merged to (H, W)."""
        return image.argmax(axis=-1)


def work(
    *,
    side: int,
    slide: str,
    mask: str,
    folder: str,
    threads: int,
    model: str,
    window_px: int,
    part: float,
    zero: bool,
    scores: bool = False,
) -> Work:
    """A slide, from file to labels in a Zarr group.

    Args:
        side: Of the slide; a column of the results.
        slide: Its file.
        mask: ``.npy`` of (rows, columns), the windows that hold tissue.
        folder: Where the Zarr groups go.
        threads: Of torch; ``measure`` sets them.
        model: ``.safetensors`` of a model of patches.
        window_px: Side of a window; windows do not overlap.
        part: Share of the batches that the network sees. The engine does all of its work in any case.
        zero: Whether the network costs nothing.
        scores: Whether it gives scores of two classes instead of labels; only where it costs nothing.
    """
    network = (Dark() if zero else Stored(Path(model))).eval()
    tissue: NDArray[np.uint8] = np.load(mask).astype(np.uint8)
    batches = -(-int(tissue.sum()) // BATCH)

    def run(number: int) -> Facts:
        kind = TwoScores if scores else Labels
        labels = kind(network, _part_of(batches, part, number) if part < 1 else None)
        out = Path(folder) / f"tiatoolbox-{zero}-{scores}-{number}"
        start, cpu = time.perf_counter(), time.process_time()
        found = segmented(labels, Path(slide), tissue, out, window_px=window_px)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
        more = labels.watch.extrapolated(labels.windows / labels.looked_at)
        return {
            "seconds": seconds + more["more_seconds"],
            "cpu_seconds": cpu_seconds + more["more_cpu_seconds"],
            "cpu_of_rest": cpu_seconds - labels.watch.cpu_seconds,
            "decoded_mpx": labels.windows * window_px**2 / 1e6,
            "windows": labels.windows,
            "predictions": str(found),
        }

    _warm_up(network, window_px)
    return Work(run=run, facts={"part": part, "version": __version__})


def _part_of(batches: int, part: float, number: int) -> set[int]:
    """A random part; those of different runs do not overlap while there are enough."""
    count = max(1, round(part * batches))
    order = np.random.default_rng(0).permutation(batches)
    return {int(each) for each in np.take(order, range(number * count, (number + 1) * count), mode="wrap")}


def segmented(labels: Labels, slide: Path, tissue: NDArray[np.uint8], out: Path, *, window_px: int) -> Path:
    """Segment a slide.

    Args:
        labels: The network.
        slide: The file.
        tissue: (rows, columns), not 0 where a window is looked at.
        out: A folder to be made.
        window_px: Side of a window.

    Returns:
        The Zarr group, whose ``predictions`` are (H, W).
    """
    # At the full resolution of the file: nothing is resized.
    full = [{"units": "baseline", "resolution": 1.0}]
    shape = (window_px, window_px)
    settings = IOSegmentorConfig(
        input_resolutions=full,
        output_resolutions=full,
        patch_input_shape=shape,
        patch_output_shape=shape,
        stride_shape=shape,
    )
    # A process that reads ahead costs more CPU seconds and memory than it saves where the network fills the processor.
    engine = SemanticSegmentor(model=labels, batch_size=BATCH, num_workers=0, device="cpu", verbose=False)
    written = engine.run(
        [slide],
        masks=[tissue],
        patch_mode=False,
        ioconfig=settings,
        auto_get_mask=False,
        save_dir=out,
        overwrite=True,
        output_type="zarr",
    )
    return Path(written[slide])


def _warm_up(network: nn.Module, window_px: int) -> None:
    """Import and compile everything on a picture of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (WARM_UP_PX, WARM_UP_PX, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory(prefix="tiatoolbox-warm-up-") as folder:
        picture = Path(folder) / "picture.png"
        Image.fromarray(pixels).save(picture)
        cells = WARM_UP_PX // window_px
        segmented(
            Labels(network),
            picture,
            np.ones((cells, cells), np.uint8),
            Path(folder) / "out",
            window_px=window_px,
        )
