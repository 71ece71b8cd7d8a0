"""Files of a slide between staging and their places."""

from __future__ import annotations

from pathlib import Path

from wsi_deform.distribute.staging import broken, publish, signature
from wsi_deform.mask.folder import MaskFolder


def test_a_signature_is_the_size_and_a_hash_of_64_kib_at_both_ends(tmp_path: Path) -> None:
    # States on disk hold signatures: another one for the same file, and every slide would be done again.
    path = tmp_path / "a.tif"
    path.write_bytes(b"a" * 65536 + b"between it" + b"c" * 65536)
    assert signature(path) == "131082-4fb795d30034317a2f67866b"


def test_a_signature_of_a_folder_changes_with_any_file_and_name_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "a.ome.zarr"
    (folder / "0").mkdir(parents=True)
    (folder / "zarr.json").write_text("{}")
    (folder / "0" / "c").write_bytes(b"chunk")
    first = signature(folder)
    assert first == "2-6d35004eac7104c27eede4a3"
    (folder / "0" / "c").write_bytes(b"chunK")
    second = signature(folder)
    (folder / "0" / "c").rename(folder / "0" / "d")
    assert len({first, second, signature(folder)}) == 3


def test_a_folder_takes_the_place_of_an_older_one_whole(tmp_path: Path) -> None:
    made, folder = MaskFolder(tmp_path / "made"), MaskFolder(tmp_path / "out")
    for place, text in ((folder, "old"), (made, "new")):
        place.ome_zarr("a").mkdir(parents=True)
        (place.ome_zarr("a") / f"{text}.json").write_text(text)
    signatures = publish(made, folder, "a")
    assert [path.name for path in folder.ome_zarr("a").iterdir()] == ["new.json"]
    assert [path.name for path in folder.ome_zarr("a").parent.iterdir()] == ["a.ome.zarr"]
    assert broken(folder, "a", signatures, ["ome_zarr"]) == []
    (folder.ome_zarr("a") / "new.json").unlink()
    assert broken(folder, "a", signatures, ["ome_zarr"]) == ["ome_zarr"]
