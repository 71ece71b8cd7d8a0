"""Networks written for another runtime: in the user's cache folder, made once, compared with PyTorch before use."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wsi_deform.errors import ModelError
from wsi_deform.export.torchscript import TRACED_SIZE
from wsi_deform.export.verify import TOLERANCE, example_input
from wsi_deform.files import write_folder_aside, write_json
from wsi_deform.geometry import Size
from wsi_deform.runtime.choice import RuntimeName, package_version
from wsi_deform.runtime.parts import ENCODERS, Outputs, plain_part
from wsi_deform.runtime.quantised import checksums
from wsi_deform.texts import read_json

logger = logging.getLogger(__name__)

FORMAT = "wsi-deform prepared network 1"
FOLDER, FACTS, STEM = "networks", "network.json", "network"
#: Networks that are kept; those that were prepared longest ago go first.
MOST_KEPT = 16
#: Sizes of the images that are compared, and how many at once; whole strides of the encoder of blocks.
COMPARED = ((1, Size(64, 48)), (2, Size(80, 32)))
COMPARED_ANY = ((1, Size(64, 24)), (2, Size(53, 31)))
TRACED_STRIDES = Size(96, 48)

Engine = Callable[[NDArray[np.float32]], list[NDArray[np.float32]]]
"""(B, channels, H, W) float32, C-contiguous -> the outputs of a network."""


class Kind(Protocol):
    """A module that writes and runs networks: ``openvino_engine``, ``onnx_engine``."""

    SUFFIX: str
    Engine: Any

    def written(self, part: Outputs, path: Path, *, channels: int, size: Size) -> None:
        """Write a network."""
        ...


def kind_of(name: RuntimeName) -> Kind:
    """The module of a runtime other than torch."""
    kind: Any
    if name == "openvino":
        from wsi_deform.runtime import openvino_engine as kind
    else:
        from wsi_deform.runtime import onnx_engine as kind
    found: Kind = kind
    return found


def prepared(network: nn.Module, part: str, name: RuntimeName, *, model_sha256: str, channels: int) -> Path:
    """The file of a network for a runtime: from the cache, or made now.

    Args:
        network: The part of the model.
        part: Its name.
        name: The runtime, not torch.
        model_sha256: What the model is told from others by.
        channels: Channels of its input.

    Returns:
        The file, whole, and checked against its checksum.

    Raises:
        ModelError: The runtime cannot express the network, or computes something else.
    """
    known = [FORMAT, part, name, package_version(name), torch.__version__, model_sha256]
    key = hashlib.sha256("\n".join(map(str, known)).encode()).hexdigest()[:40]
    folder = _folder() / key
    if (found := _whole(folder, kind_of(name))) is not None:
        return found
    return _made(folder, network, part, name, channels)


def blobs_folder() -> Path:
    """Where runtimes keep what they have compiled."""
    return _folder() / "compiled"


def engine_of(path: Path, name: RuntimeName) -> Engine:
    """What runs a written network, with as many threads as torch was told to use."""
    try:
        blobs: Path | None = blobs_folder()
        assert blobs is not None
        blobs.mkdir(parents=True, exist_ok=True)
        _keep_newest(blobs, "*.blob")
    except OSError:
        blobs = None
    engine: Engine = kind_of(name).Engine(path, threads=torch.get_num_threads(), blobs=blobs)
    return engine


def _folder() -> Path:
    from wsi_deform.slide.levels.cache_folder import CACHE

    return CACHE.folder / FOLDER


def _whole(folder: Path, kind: Kind) -> Path | None:
    """The file in a folder, or None where it is not there or not whole."""
    try:
        about = read_json(folder / FACTS)
        if about["format"] == FORMAT and about["files"] == checksums(folder):
            return folder / f"{STEM}{kind.SUFFIX}"
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None


def _made(folder: Path, network: nn.Module, part: str, name: RuntimeName, channels: int) -> Path:
    """Write a network and compare it with PyTorch; in a folder of this process where the cache cannot be written."""
    logger.info("%s: the network %s is written for it, once.", name, part)
    try:
        with write_folder_aside(folder) as aside:
            _write(aside, network, part, name, channels)
    except OSError as error:
        logger.warning("%s: cannot be written (%s): the network is prepared anew each time.", folder, error)
        folder = Path(_own_folder().name) / folder.name
        with write_folder_aside(folder) as aside:
            _write(aside, network, part, name, channels)
    _keep_newest(folder.parent, f"*/{FACTS}")
    return folder / f"{STEM}{kind_of(name).SUFFIX}"


def _write(folder: Path, network: nn.Module, part: str, name: RuntimeName, channels: int) -> None:
    kind, alone = kind_of(name), plain_part(network, part)
    path = folder / f"{STEM}{kind.SUFFIX}"
    size = TRACED_STRIDES if part in ENCODERS else fitting(network, TRACED_SIZE)
    kind.written(alone, path, channels=channels, size=size)
    compare(alone, kind.Engine(path, threads=torch.get_num_threads()), part, name, channels=channels)
    write_json(folder / FACTS, {"format": FORMAT, "part": part, "files": checksums(folder)})


def compare(alone: Outputs, engine: Engine, part: str, name: str, *, channels: int) -> None:
    """Refuse a runtime that computes something else than PyTorch.

    Args:
        alone: The network.
        engine: What shall compute it.
        part: Its name.
        name: The runtime's.
        channels: Channels of its input.

    Raises:
        ModelError: An output has another shape, or differs by more than ``TOLERANCE`` of its greatest value.
    """
    for seed, (batch, size) in enumerate(COMPARED if part in ENCODERS else COMPARED_ANY):
        image = example_input(channels, fitting(alone.network, size), batch=batch, seed=seed)
        image = (image - 127) / 64
        with torch.no_grad():
            needed = alone(image)
        for one, other in zip(engine(image.numpy()), needed, strict=True):
            found = torch.from_numpy(one)
            scale = max(1.0, float(other.abs().max()))
            differs = (
                found.shape != other.shape or not float((found - other).abs().max()) <= TOLERANCE * scale
            )
            if differs:
                raise ModelError(
                    f"runtime {name}: computes something else than PyTorch for the network {part} and images of "
                    f"{size}. Needed the same, to {TOLERANCE:g} of the greatest value. Use --runtime torch."
                )


def fitting(network: nn.Module, size: Size) -> Size:
    """The size, or less where the network takes no larger image."""
    fixed = getattr(network, "fixed_size", None)
    return size if fixed is None else Size(min(size.width, fixed[1]), min(size.height, fixed[0]))


def _keep_newest(folder: Path, pattern: str) -> None:
    """Remove what is more than ``MOST_KEPT``: files that match, or the folders of their facts."""
    import shutil

    def made(path: Path) -> float:
        try:
            return path.stat().st_mtime
        except OSError:  # another process was faster
            return 0.0

    for path in sorted(folder.glob(pattern), key=made, reverse=True)[MOST_KEPT:]:
        if path.name == FACTS:
            shutil.rmtree(path.parent, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@lru_cache(maxsize=1)
def _own_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="wsi-deform-networks-", ignore_cleanup_errors=True)
