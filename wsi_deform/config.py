"""Read, check and write configurations: the YAML files in ``configs/``.

A configuration is complete and readable alone: no inheritance, no interpolation. An unknown key is an
error that names the nearest key. What an earlier version wrote means what it meant then (``config_format``).
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from wsi_deform.config_blocks import BUDGETS, looks_text
from wsi_deform.config_files import packaged_configs
from wsi_deform.config_format import FORMAT, KEY, todays
from wsi_deform.config_sections import Config
from wsi_deform.errors import ConfigError
from wsi_deform.plugins import STORED
from wsi_deform.texts import parse_yaml, read_text

YAML_SUFFIXES = (".yaml", ".yml")
OF_BLOCKS_TOO = {"geometry", "interpolation"}
"""Keys of ``sampling`` that decide something where fields are read in blocks."""
OF_FURTHER_LEVELS = (*BUDGETS, "budget_of", "choice", "noise")
"""Keys of ``blocks`` that decide nothing where there is one level; ``split`` is refused there by itself."""

log = logging.getLogger(__name__)


def find_config(text: str) -> Path:
    """The file that a name or a path stands for.

    Args:
        text: The name of a packaged configuration, such as "joint", or the path of a YAML file.

    Returns:
        Its path.

    Raises:
        ConfigError: There is neither; the message lists the names and the nearest one.

    Convention:
        What has a suffix of YAML or a folder is a path, all else a name. Where a name is also a file of the working
        folder (``joint`` or ``joint.yaml``), the packaged configuration is taken, and a warning says so.
    """
    path, packaged = Path(text), packaged_configs()
    is_path = path.suffix.lower() in YAML_SUFFIXES or path.name != text
    if is_path and path.is_file():
        return path
    if not is_path and text in packaged:
        for beside in (path, *(path.with_name(text + suffix) for suffix in YAML_SUFFIXES)):
            if beside.is_file() and not beside.samefile(packaged[text]):
                log.warning(
                    "config %s: the packaged configuration is taken, not the file of that name here; for the file "
                    "write ./%s",
                    text,
                    beside,
                )
        return packaged[text]
    if not is_path and path.is_file():
        return path
    near = difflib.get_close_matches(path.stem.lower(), packaged, n=1, cutoff=0.5)
    meant = f" Did you mean {near[0]}?" if near else ""
    raise ConfigError(
        f"config {text}: {'no such file' if is_path else 'no packaged configuration, and no file'}. Needed a YAML "
        f"file, or one of {', '.join(packaged) or 'none: this installation lacks its configs folder'}.{meant}"
    )


def read_config(path: Path | str | None = None, *, changes: Iterable[str] = ()) -> Config:
    """Read a configuration.

    Args:
        path: A YAML file; None is the default of each key, which is "joint" and stays so, for models count on it. What
            `wsi-deform train` takes where nothing is said is another (``config_files.DEFAULT``).
        changes: ``key=value`` with dots for sections and values in YAML, e.g. ``sampling.budget=[40, 400]``.

    Returns:
        The validated configuration.

    Raises:
        ConfigError: The file cannot be read, is of a newer format, a key is unknown or a value is out of range; all at
            once. Or a change decides nothing: one of samples where fields are read in blocks, or of further levels
            where there is one. Files list every key, and may.

    Convention:
        A file that an earlier version wrote gets what was so then for the keys that it lacks, and a warning names those
        that today's defaults would set otherwise; see ``config_format.todays``. Changes come after that.
    """
    source = "defaults" if path is None else str(path)
    return parse_config({} if path is None else read_yaml(path), source=source, changes=changes)


def read_yaml(path: Path | str) -> dict[str, Any]:
    """What a YAML file says, unchecked.

    Raises:
        ConfigError: It cannot be read, or holds no keys and values.
    """
    try:
        raw = parse_yaml(read_text(Path(path))) or {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"config {path}: cannot be read: {error}. Needed a YAML file.") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"config {path}: found {type(raw).__name__}. Needed keys and values.")
    return raw


def parse_config(
    raw: dict[str, Any], *, source: str, changes: Iterable[str] = (), stored: bool = False
) -> Config:
    """Validate a configuration that was read as plain data.

    Args:
        raw: Nested dictionaries as YAML or JSON give them.
        source: Where they came from, for the error.
        changes: As for ``read_config``.
        stored: Whether it is of a model that is trained: its loss need not be known here.

    Returns:
        The configuration.

    Raises:
        ConfigError: Lists every problem.

    Convention:
        As ``read_config``.
    """
    settings, given = _todays(raw, source), list(changes)
    for change in given:
        _apply(settings, change)
    config = _validated(settings, source, stored=stored)
    _refuse_idle(config, given)
    return config


def _todays(raw: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Settings in today's format, with a warning of what that changed by guess."""
    settings, added = todays(raw, source=source)
    # A format that is written down is no guess.
    if KEY not in raw and (unlike := {key: value for key, value in added.items() if value != _default(key)}):
        log.warning(
            "config %s: no format is given and it is complete as of version 0.1, so that it is read as of then: %s. "
            "For today's defaults instead, write format: %d at its top.",
            source,
            ", ".join(f"{key} {yaml_value(value)}" for key, value in unlike.items()),
            FORMAT,
        )
    return settings


def _default(key: str) -> Any:
    """Today's value of a dotted key where nothing is said."""
    found: Any = Config()
    for name in key.split("."):
        found = getattr(found, name)
    return found


def _validated(settings: dict[str, Any], source: str, *, stored: bool) -> Config:
    try:
        return Config.model_validate(settings, context={STORED: stored})
    except ValidationError as error:
        problems = [_problem(each) for each in error.errors()]
        raise ConfigError(f"config {source}:\n" + "\n".join(f"  - {each}" for each in problems)) from error


def dump_config(config: Config) -> str:
    """The configuration as YAML: complete, with what each key means as a comment."""
    return "\n".join(_yaml_lines(config, "")) + "\n"


def _yaml_lines(section: BaseModel, indent: str) -> list[str]:
    lines = []
    for key, info in type(section).model_fields.items():
        value = getattr(section, key)
        if isinstance(value, BaseModel):
            lines += [f"{indent}{key}:", *_yaml_lines(value, indent + "  ")]
        else:
            comment = f"  # {info.description}" if info.description else ""
            lines.append(f"{indent}{key}: {yaml_value(value)}{comment}")
    lines += [f"{indent}{key}: {yaml_value(value)}" for key, value in (section.model_extra or {}).items()]
    return lines


def yaml_value(value: Any) -> str:
    """A value as a configuration writes it, on one line."""
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def _apply(raw: dict[str, Any], change: str) -> None:
    key, equals, value = change.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {change}: needed key=value, e.g. sampling.warp_steps=1.")
    *sections, last = key.strip().split(".")
    target = raw
    for section in sections:
        if target.get(section) is None:  # null is a section that is left out
            target[section] = {}
        target = target[section]
        if not isinstance(target, dict):
            raise ConfigError(f"--set {change}: {section} is a value, not a section.")
    try:
        target[last] = parse_yaml(value)
    except ValueError as error:
        raise ConfigError(f"--set {change}: the value is not YAML: {error}.") from error


def is_of_samples(change: str) -> bool:
    """Whether a change is of samples, so that it decides nothing where fields are read in blocks.

    Args:
        change: ``key=value``, as for ``read_config``.
    """
    key, _, value = change.partition("=")
    section, _, name = key.strip().partition(".")
    if section != "sampling":
        return False
    if name:
        return name.partition(".")[0] not in OF_BLOCKS_TOO
    try:
        given = parse_yaml(value)
    except ValueError:
        return False  # refused where it is read
    return isinstance(given, dict) and not given.keys() <= OF_BLOCKS_TOO


def _refuse_idle(config: Config, changes: Iterable[str]) -> None:
    """Refuse changes that decide nothing where fields are read in blocks."""
    blocks = config.blocks
    if blocks is None:
        return
    finest = "blocks.finest_px" if blocks.finest_um is None else "blocks.finest_um"
    budgets = ", ".join(f"blocks.{each}" for each in BUDGETS)
    keys = f"{finest} and blocks.levels" if blocks.levels == 1 else f"{finest}, and one of {budgets}"
    for change in changes:
        key, _, value = change.partition("=")
        section, _, name = key.strip().partition(".")
        if is_of_samples(change):
            raise ConfigError(
                f"--set {change}: config {config.name} reads fields in blocks (sampling.geometry), where this decides "
                f"nothing. How much is read there say {keys}. Needed one of these, or --config joint for samples."
            )
        if section == "blocks" and name in OF_FURTHER_LEVELS and blocks.levels == 1:
            found = parse_yaml(value)
            # Null is no budget, and all is what one level reads.
            if found is not None and (name, found) != ("share", 1):
                raise ConfigError(
                    f"--set {change}: with blocks.levels 1 each field is {looks_text(blocks.model_dump())}, and this "
                    f"decides nothing. Needed another {finest}, or more levels, as --config blocks has."
                )


def _problem(error: Any) -> str:
    """One line: where, what was found, what was needed."""
    where = ".".join(str(part) for part in error["loc"]) or "file"
    if error["type"] != "extra_forbidden":
        return f"{where}: found {error['input']!r}. {error['msg']}."
    model: Any = Config
    for part in error["loc"][:-1]:
        model = model.model_fields[str(part)].annotation
        # A section that may be null.
        model = next((each for each in get_args(model) if each is not type(None)), model)
    known = list(model.model_fields)
    unknown = str(error["loc"][-1])
    near = difflib.get_close_matches(unknown, known, n=1)
    remedy = f'Did you mean "{near[0]}"?' if near else f"Known keys: {', '.join(known)}."
    return f'{where}: unknown key "{unknown}". {remedy}'
