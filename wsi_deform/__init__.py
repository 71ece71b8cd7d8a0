"""wsi-deform: segment gigapixel whole-slide images by learning where to look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsi_deform.errors import WsiDeformError
    from wsi_deform.geometry import Region, Size
    from wsi_deform.model_file import load_model
    from wsi_deform.notebook.mask import segment_slide
    from wsi_deform.notebook.slide import open_slide
    from wsi_deform.slide_files import segment_to_files
    from wsi_deform.slide_results import WantedOutputs

__all__ = [
    "Region",
    "Size",
    "WantedOutputs",
    "WsiDeformError",
    "load_model",
    "open_slide",
    "segment_slide",
    "segment_to_files",
]

_HOMES = {
    "Region": "wsi_deform.geometry",
    "Size": "wsi_deform.geometry",
    "WantedOutputs": "wsi_deform.slide_results",
    "WsiDeformError": "wsi_deform.errors",
    "load_model": "wsi_deform.model_file",
    "open_slide": "wsi_deform.notebook.slide",
    "segment_slide": "wsi_deform.notebook.mask",
    "segment_to_files": "wsi_deform.slide_files",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `import wsi_deform` alone loads neither torch nor OpenSlide."""
    if name not in _HOMES:
        raise AttributeError(f"module 'wsi_deform' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """What completion offers: the public names, and what the module has besides."""
    return sorted({*globals(), *__all__})
