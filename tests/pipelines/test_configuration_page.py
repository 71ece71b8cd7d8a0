from __future__ import annotations

from typing import Any

from pipelines.configuration_page import PAGE, keys, page_text, unit_of
from wsi_deform.config_blocks import Blocks
from wsi_deform.config_sections import Config, ResizerNetwork


def leaves(data: dict[str, Any], above: str = "") -> set[str]:
    """Dotted names of all values of nested dictionaries."""
    found: set[str] = set()
    for key, value in data.items():
        found |= leaves(value, f"{above}{key}.") if isinstance(value, dict) else {above + key}
    return found


def test_the_page_is_what_the_models_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page_text(), "run python -m pipelines.configuration_page"


def test_every_key_of_a_file_is_on_it_and_explained() -> None:
    everything = Config().model_dump()
    everything["blocks"] = Blocks().model_dump()
    everything["networks"]["resizer"] = ResizerNetwork().model_dump()
    # Options of the default network are told of apart, since another network has others.
    own = {f"networks.segmentation.{name}" for name in ("width", "stem_stride")}
    explained = dict(keys())
    assert explained.keys() == leaves(everything) - own
    assert [key for key, info in explained.items() if not info.description] == []


def test_rows_have_default_values_unit_and_meaning() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for row in (
        "| `whole_below_mm2` | `16.0` | number, at least 0 | mm² | With side_um, slides up to this area are one "
        "field. |",
        "| `epochs` | `250` | whole number, at least 1 | epochs | Passes over the training fields. |",
        "| `stain` | `none` | `none`, `macenko` | – | Colours are brought to one reference stain per slide. |",
        "| `betas` | `[0.9, 0.999]` | 2 numbers | – | Adam's two decays per step. |",
        "| `kernel` | `3` | `3`, `5`, `7` | – | Side of their kernels. |",
        "| `hrnetv2` | `width` (needed), `stem_stride: 4`, `fuse: bilinear` |",
    ):
        assert row in page.splitlines()


def test_units_follow_names() -> None:
    units = {
        "fields.side_px": "level-0 px",
        "blocks.window_px": "px",
        "training.cache_gib": "GiB",
        "seed": "–",
    }
    assert {key: unit_of(key) for key in units} == units
