"""Settings that differ between two runs, in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MAX_SHOWN = 8


def differences(before: Mapping[str, Any], now: Mapping[str, Any], *, now_word: str = "now") -> str:
    """The settings that differ, e.g. "loss.focal_gamma 2.0 (now 0.0)"; empty where none does.

    Args:
        before: Sections of settings of the earlier one.
        now: Of the later one.
        now_word: What the later values are called.

    Convention:
        "absent" is an option of another network. Of more than eight the others are counted.
    """
    one, two = flat(before), flat(now)
    said = [
        f"{key} {json.dumps(one[key]) if key in one else 'absent'} "
        f"({now_word} {json.dumps(two[key]) if key in two else 'absent'})"
        for key in {**one, **two}
        if key not in one or key not in two or one[key] != two[key]
    ]
    return ", ".join(said[:MAX_SHOWN]) + (
        f" and {len(said) - MAX_SHOWN} more" if len(said) > MAX_SHOWN else ""
    )


def flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Dotted key -> value."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return found


def list_differences(key: str, before: object, now: object) -> str:
    """How a list differs, e.g. "slides without b, with c" or "classes a, b (now b, a)"."""
    if not (isinstance(before, list) and isinstance(now, list)):
        return f"{key} {json.dumps(before)} (now {json.dumps(now)})"
    gone, new = [each for each in before if each not in now], [each for each in now if each not in before]
    if not gone and not new:
        return f"{key} in another order"
    parts = [f"without {_few(gone)}" if gone else "", f"with {_few(new)}" if new else ""]
    return f"{key} (now {' and '.join(part for part in parts if part)})"


def _few(names: list[Any]) -> str:
    shown = ", ".join(map(str, names[:MAX_SHOWN]))
    return shown + (f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else "")
