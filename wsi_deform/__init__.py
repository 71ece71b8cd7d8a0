"""wsi-deform: segment gigapixel whole-slide images by learning where to look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsi_deform.model_file import load_model
    from wsi_deform.segment import segment_slide
    from wsi_deform.slide.open import open_slide

__all__ = ["load_model", "open_slide", "segment_slide"]

_HOMES = {
    "load_model": "wsi_deform.model_file",
    "open_slide": "wsi_deform.slide.open",
    "segment_slide": "wsi_deform.segment",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `import wsi_deform` alone loads neither torch nor OpenSlide."""
    if name not in _HOMES:
        raise AttributeError(f"module 'wsi_deform' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
