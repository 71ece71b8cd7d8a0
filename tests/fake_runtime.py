"""A runtime that is not there, for tests: what it computes is PyTorch's, or wrong on purpose."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from wsi_deform.runtime import choice, prepared


class FakeKind:
    """Stands in for ``openvino_engine``: writes a name, and knows the network by it."""

    SUFFIX = ".fake"

    def __init__(self, *, factor: float = 1.0) -> None:
        self.factor = factor
        self.networks: dict[str, Any] = {}
        self.written_parts, self.passes = 0, 0

    def written(self, part: Any, path: Path, *, channels: int, size: Any) -> None:
        self.written_parts += 1
        # Of the weights: two parts of a model are two files.
        tensors = b"".join(each.numpy().tobytes() for each in part.state_dict().values())
        name = hashlib.sha256(tensors).hexdigest()
        self.networks[name] = part
        path.write_text(name)

    def Engine(self, path: Path, *, threads: int, blobs: Path | None = None) -> Any:  # noqa: N802
        network = self.networks[path.read_text()]

        def run(image: Any) -> list[Any]:
            self.passes += 1
            with torch.no_grad():
                return [self.factor * each.numpy() for each in network(torch.from_numpy(image))]

        return run


def put_fake(monkeypatch: pytest.MonkeyPatch, cache: Path, *, factor: float = 1.0) -> FakeKind:
    """A fake in place of OpenVINO, and a cache folder of its own."""
    fake = FakeKind(factor=factor)
    monkeypatch.setenv("WSI_DEFORM_CACHE", str(cache))
    monkeypatch.setattr(prepared, "kind_of", lambda name: fake)
    monkeypatch.setitem(choice.EXTRAS, "openvino", ())
    return fake
