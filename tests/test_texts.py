"""JSON and YAML of strangers: read as they are, or refused before they fill the memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.config import read_config
from wsi_deform.errors import AnnotationError, ConfigError, ManifestError
from wsi_deform.manifest.read import read_manifest
from wsi_deform.texts import parse_json, parse_yaml, read_text

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)
)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb: [x, 2.5, null, true]",
        "a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]",
        "- 2020-01-02",
        "",
        "~",
        "a: 'b'",
    ],
)
def test_yaml_says_what_pyyaml_says(text: str):
    assert parse_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "more than 100,000 values with all that its aliases stand for"),
        ("- x\n" * 100_001, "more than 100,000 values"),
        ("[" * 65 + "]" * 65, "nested more than 64 deep"),
        ("[" * 100_000, "nested more than 64 deep"),
        ("a: &a [*a]", "alias 'a' of what it lies in"),
        ("a: *b", "alias 'b' of what it lies in, or of nothing"),
        ("a: 2020-99-99", "month must be in"),
        ("a: " + "9" * 5000, "integer string conversion"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("? [a]\n: b", "unhashable key"),
        ("a: [", "expected"),
    ],
)
def test_yaml_that_is_none_or_too_much_is_refused(text: str, said: str):
    with pytest.raises(ValueError, match=said):
        parse_yaml(text)


def test_json_that_is_none_or_too_deep_is_refused():
    deep = "[" * 64 + "]" * 64
    assert parse_json(deep)
    for text, said in (
        (f"[{deep}]", "nested more than 64"),
        ("[" * 10**6, "nested more than 64"),
        ("{", "Expecting"),
    ):
        with pytest.raises(ValueError, match=said):
            parse_json(text)
    wide = "[" + ",".join(["[1]"] * 1000) + "]"
    assert len(parse_json(wide)) == 1000


def test_files_larger_than_the_limit_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WSI_DEFORM_MAX_TEXT_MIB", "0.001")
    for name in ("a.csv", "a.yaml", "a.json"):
        (tmp_path / name).write_text("slide\n" + "a,b\n" * 1000)
    with pytest.raises(
        OSError, match=r"0\.00382 MiB\. Needed at most 0\.000999 MiB .* WSI_DEFORM_MAX_TEXT_MIB to 1"
    ):
        read_text(tmp_path / "a.csv")
    for kind, error, name in (
        (read_manifest, ManifestError, "a.csv"),
        (read_class_table, AnnotationError, "a.json"),
        (read_class_table, AnnotationError, "a.yaml"),
        (read_config, ConfigError, "a.yaml"),
    ):
        with pytest.raises(error, match=rf"{name}: cannot be read.*WSI_DEFORM_MAX_TEXT_MIB"):
            kind(tmp_path / name)
