"""Files of a slide between staging and their places."""

from __future__ import annotations

from pathlib import Path

from wsi_deform.distribute.staging import signature


def test_a_signature_is_the_size_and_a_hash_of_64_kib_at_both_ends(tmp_path: Path) -> None:
    # States on disk hold signatures: another one for the same file, and every slide would be done again.
    path = tmp_path / "a.tif"
    path.write_bytes(b"a" * 65536 + b"between it" + b"c" * 65536)
    assert signature(path) == "131082-4fb795d30034317a2f67866b"
