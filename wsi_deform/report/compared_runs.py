"""Training runs side by side: curves, what training cost, and the keys in which their configurations differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsi_deform.config_sections import Config
from wsi_deform.report.cells import SHARE
from wsi_deform.report.compared import Compared
from wsi_deform.report.files import duration
from wsi_deform.report.page import Section
from wsi_deform.report.run import curves
from wsi_deform.report.tables import NOTHING, Table


def run_sections(runs: Mapping[str, Compared]) -> list[Section]:
    """Curves, what training cost, and in what the configurations differ."""
    rows = []
    for name, each in runs.items():
        validated = [row for row in each.log if "val_miou" in row]
        best = max(validated, key=lambda row: row["val_miou"], default=None)
        rows.append(
            (
                name,
                f"{int(each.log[-1]['epoch'])}",
                duration(sum(row.get("seconds", 0.0) for row in each.log)),
                f"{each.log[-1]['loss']:{SHARE}}",
                NOTHING if best is None else f"{best['val_miou']:{SHARE}}",
                NOTHING if best is None else f"{int(best['epoch'])}",
            )
        )
    header = ("run", "epochs", "time in epochs", "training loss, last", "best validation mIoU", "in epoch")
    sections = [
        Section(
            title="Training",
            table=Table(header=header, rows=tuple(rows)),
            pictures=curves({name: each.log for name, each in runs.items()}),
        )
    ]
    differences = different_keys(
        {name: each.config for name, each in runs.items() if each.config is not None}
    )
    if differences:
        sections.append(
            Section(
                title="In what the configurations differ",
                table=Table(
                    header=("key", *runs),
                    rows=tuple((key, *values) for key, values in differences.items()),
                    is_text=True,
                ),
                heading=3,
            )
        )
    return sections


def different_keys(configs: Mapping[str, Config]) -> dict[str, list[str]]:
    """Key -> its value in each configuration, of the keys that are not the same in all."""
    flat = [_flat(config.model_dump(mode="json")) for config in configs.values()]
    keys = list(dict.fromkeys(key for each in flat for key in each))
    held = {key: [each.get(key, NOTHING) for each in flat] for key in keys}
    return {key: values for key, values in held.items() if len(set(values)) > 1}


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted keys of nested settings; empty what is not set."""
    found: dict[str, str] = {}
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = "not set" if value is None else str(value)
    return found
