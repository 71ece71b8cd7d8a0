"""Records of calls: what is broken is told apart, named and left, and never ends what reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from wsi_deform.anonymous import AS_THEY_ARE
from wsi_deform.distribute.records import BrokenRecord, Record, newest_record
from wsi_deform.distribute.tables import _new_record
from wsi_deform.distribute.unwritable import OutFolderUnwritableError
from wsi_deform.files import write_json
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.report.out import out_provenance

OLD, NEW = "20260101T000000Z", "20260301T000000Z"


def holding(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


BROKEN = [
    (holding(b""), "is no JSON (Expecting value: line 1 column 1 (char 0))"),
    (
        holding(b'{"device": "cpu", "slid'),
        "is no JSON (Unterminated string starting at: line 1 column 19 (char 18))",
    ),
    (holding(b"[1, 2]"), "holds a list, not an object"),
    (holding(b"null"), "holds a NoneType, not an object"),
    (holding(b'"text"'), "holds a str, not an object"),
    (holding(b'{"provenance": ["git"]}'), "holds no provenance of a call"),
    (holding(b'{"provenance": null}'), "holds no provenance of a call"),
    (holding(b"\x89PNG\r\n\x1a\n\xff\xfe"), "is no text"),
    (holding(b"[" * 100_000), "is no JSON (nested more than 64 deep)"),
    (Path.mkdir, "cannot be read (Is a directory)"),
]


@pytest.mark.parametrize(("broken", "why"), BROKEN, ids=range(len(BROKEN)))
def test_of_a_broken_record_it_is_said_what_is_wrong_and_the_one_before_it_counts(
    tmp_path: Path, broken: Callable[[Path], object], why: str
) -> None:
    folder = MaskFolder(tmp_path)
    write_json(folder.run(OLD), {"device": "cpu", "provenance": {"seed": 7}})
    broken(folder.run(NEW))
    assert newest_record(folder) == (
        Record(name=f"{OLD}.json", data={"device": "cpu", "provenance": {"seed": 7}}),
        (BrokenRecord(name=f"{NEW}.json", why=why),),
    )
    assert out_provenance(folder, AS_THEY_ARE, [{"provenance": ["git"]}, {"provenance": None}]) == {
        "record": f"runs/{OLD}.json",
        "device": "cpu",
        "seed": 7,
        "records that cannot be read": [f"runs/{NEW}.json: {why}"],
    }
    assert folder.run(NEW).exists()  # it may be that of a call that has just begun
    folder.run(OLD).unlink()
    assert newest_record(folder)[0] is None


def test_a_record_without_secrets_is_read_as_it_is_and_older_broken_ones_do_not_matter(
    tmp_path: Path,
) -> None:
    folder = MaskFolder(tmp_path)
    assert newest_record(folder) == (None, ())
    write_json(folder.run(NEW), {"slides": [{"slide": "https://me:word@host/a.svs"}]})
    folder.run(OLD).write_bytes(b"{")
    record, broken = newest_record(folder)
    assert record is not None
    assert record.data == {"slides": [{"slide": "https://host/a.svs"}]}
    assert broken == ()


def test_a_file_where_records_should_lie_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(OutFolderUnwritableError, match=r"runs: cannot be written: File exists"):
        _new_record(MaskFolder(tmp_path))


def test_of_calls_that_began_in_one_second_the_last_is_the_newest(tmp_path):
    folder = MaskFolder(tmp_path)
    names = ["20261130T222426Z", *(f"20261130T222426Z-{number}" for number in range(1, 11))]
    for name in names:
        folder.run(name).parent.mkdir(exist_ok=True)
        folder.run(name).write_text(json.dumps({"call": name}), encoding="utf-8")
        record, broken = newest_record(folder)
        assert record is not None
        assert record.data == {"call": name}
        assert broken == ()
    folder.run("20261130T222427Z").write_text("{}", encoding="utf-8")
    record, _ = newest_record(folder)
    assert record is not None
    assert record.name == "20261130T222427Z.json"
