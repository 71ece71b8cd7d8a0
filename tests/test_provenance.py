"""Provenance: plain data about a run, and files that are whole or absent."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wsi_deform.files import write_aside, write_folder_aside, write_json, write_text
from wsi_deform.provenance import config_sha256, git_state, provenance


def test_provenance_is_plain_data():
    found = provenance(["wsi-deform", "train"], {"sigma": 2}, seed=3)
    assert json.loads(json.dumps(found)) == found
    assert found["command"] == ["wsi-deform", "train"]
    assert found["seed"] == 3
    assert found["torch"] == found["packages"]["torch"] is not None
    assert found["time_utc"].endswith("+00:00")
    assert provenance()["command"] == sys.argv


def test_provenance_does_not_import_torch():
    code = "import sys, wsi_deform.provenance as p; p.provenance(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_config_hash_depends_on_content_only():
    assert config_sha256({"a": 1, "b": [2]}) == config_sha256({"b": [2], "a": 1})
    assert config_sha256({"a": 1}) != config_sha256({"a": 2})
    assert len(config_sha256({})) == 64


def test_git_state_names_commit_and_changes(tmp_path):
    def git(*arguments):
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    assert git_state(tmp_path) is None
    git("init", "-q")
    assert git_state(tmp_path) is None  # no commit yet
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "one")
    clean = git_state(tmp_path)
    assert (len(clean["commit"]), clean["changed"]) == (40, False)
    (tmp_path / "a").write_text("2")
    assert git_state(tmp_path)["changed"] is True


def test_missing_git_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance()["git"] is None


def test_written_file_is_moved_into_place_whole(tmp_path):
    path = tmp_path / "new" / "a.ome.tif"
    with write_aside(path) as aside:
        assert aside.parent == path.parent
        assert aside.name.endswith("a.ome.tif")
        aside.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.ome.tif"]


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail():
        with write_aside(path) as aside:
            aside.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_forgetting_to_write_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), write_aside(tmp_path / "a.txt"):
        pass


def test_json_keeps_letters_and_ends_with_a_newline(tmp_path):
    write_json(tmp_path / "a.json", {"name": "Gewebe µ"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "name": "Gewebe µ"\n}\n'


def test_provenance_of_a_configuration_says_its_hash():
    config = {"b": [1, 2], "a": "x"}
    assert provenance([], config)["config_sha256"] == config_sha256(config)
    assert config_sha256(config) == hashlib.sha256(b'{"a":"x","b":[1,2]}').hexdigest()
    assert provenance([])["config_sha256"] is None
    assert provenance("wsi-deform train", seed=0)["command"] == "wsi-deform train"
    assert provenance(["--slides", Path("https:/me:5ec@host/a")])["command"] == ["--slides", "https:/host/a"]


def test_a_package_that_is_not_there_has_no_version(monkeypatch):
    monkeypatch.setattr("wsi_deform.provenance.RECORDED_PACKAGES", ("numpy", "no-such-package"))
    assert provenance([])["packages"] == {"numpy": np.__version__, "no-such-package": None}


def test_a_folder_is_whole_or_as_it_was(tmp_path):
    place = tmp_path / "inside" / "a"
    with write_folder_aside(place) as aside:
        (aside / "one").write_text("1")

    def half() -> None:
        with write_folder_aside(place) as aside:
            (aside / "two").write_text("2")
            raise RuntimeError("half-written")

    with pytest.raises(RuntimeError, match="half"):
        half()
    assert [path.name for path in place.iterdir()] == ["one"]
    with write_folder_aside(place) as aside:
        (aside / "three").write_text("3")
    assert [path.name for path in place.iterdir()] == ["three"]
    assert [path.name for path in place.parent.iterdir()] == ["a"]
