"""Which version of which slide: so that a file that was changed is never taken for what it was."""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import SlideError
from wsi_deform.geometry import tile_grid
from wsi_deform.paths import special_file
from wsi_deform.slide.dicom.files import dicom_meta
from wsi_deform.slide.find import is_zarr_folder, is_zarr_url
from wsi_deform.slide.path import SlidePath, SlideUrl, file_of
from wsi_deform.slide.reader import Address, Level, Reader, tiles_of
from wsi_deform.slide.remote import remote_version

END_BYTES = 1 << 16
# Looked at inside a file besides its ends and its first TIFF directory: so many blocks, evenly spread.
SAMPLED_BLOCKS, SAMPLED_BYTES = 16, 1 << 12
LOOKED_AT_TILES = 8
ZARR_METADATA = ("zarr.json", ".zattrs", ".zgroup")
# Changes when sidecars are built in another way: old ones are not used and go as the cache fills.
BUILD_VERSION = 1

# Level, column and row of tiles -> their pixels, in order.
TilesOf = Callable[[Sequence[Address]], Iterator[NDArray[np.uint8]]]


def file_version(path: SlidePath) -> tuple[str, ...]:
    """What tells one version of a file from another without reading it: size, time and inode, or a server's word.

    Raises:
        SlideError: There is no such file, or it is a pipe, a socket or a device.
    """
    path, _ = file_of(path)
    if isinstance(path, SlideUrl):
        return _url_version(path)
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a zero byte
        said = error.strerror if isinstance(error, OSError) else error
        raise SlideError(f"{path}: cannot be found ({said}). Check the path.") from error
    if special := special_file(status.st_mode):
        raise SlideError(f"{path}: {special}. Needed a slide file or folder. Check the path.")
    return str(status.st_ino), str(status.st_size), str(status.st_mtime_ns)


def slide_identity(path: SlidePath) -> dict[str, str]:
    """What is known of a slide without opening it, so that another one at its path is never taken for it.

    Args:
        path: A file, folder or URL.

    Returns:
        Names and values. Of a file "bytes", "modified", "inode" and "content", a hash of its ends, its first TIFF
        directory and blocks between; of a folder, or a slide of several files, also "files", a hash of their names,
        sizes and times; of a URL "version", what the server says of it. Of one of several images also "image".

    Raises:
        SlideError: There is no such file, or it cannot be read.
    """
    path, image = file_of(path)
    picked = {"image": image} if image else {}
    if isinstance(path, SlideUrl):
        return picked | {"version": _hash(_url_version(path))}
    try:
        status = path.stat()
        known = picked | {"modified": str(status.st_mtime_ns), "inode": str(status.st_ino)}
        if path.is_dir():
            return known | {"files": _hash(_files_of(path))}
        parts = companions_of(path)
        known |= {"bytes": str(status.st_size), "content": content_of(path, status.st_size)}
        return known | ({"files": _hash([_stamp(part) for part in parts])} if parts else {})
    except OSError as error:
        raise SlideError(
            f"{path}: cannot be read ({error.strerror}). Check the path and its rights."
        ) from error


def content_of(path: Path, size: int) -> str:
    """A hash of some of a file's bytes, among them its index where that is a TIFF's."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        head = file.read(END_BYTES)
        digest.update(head)
        for offset in [_tiff_directory(head), size - END_BYTES]:
            file.seek(max(0, offset))
            digest.update(file.read(END_BYTES))
        for offset in np.linspace(0, size, SAMPLED_BLOCKS + 2)[1:-1].astype(np.int64).tolist():
            file.seek(offset)
            digest.update(file.read(SAMPLED_BYTES))
    return digest.hexdigest()[:40]


def _tiff_directory(head: bytes) -> int:
    """Where the first directory of a TIFF lies, from its header; 0 for other files."""
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 16:
        return 0
    version = struct.unpack_from(order + "H", head, 2)[0]
    if version == 43:
        return min(int(struct.unpack_from(order + "Q", head, 8)[0]), sys.maxsize)
    return int(struct.unpack_from(order + "I", head, 4)[0]) if version == 42 else 0


def _hash(said: object) -> str:
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:40]


def slide_key(path: SlidePath, reader: Reader) -> str:
    """A name for the pixels of a slide.

    Args:
        path: Where it lies.
        reader: Its reader, of the stored levels.

    Returns:
        A hash of the sizes of its levels, of some of its tiles, and of what says that its files are the same:
        for files, size, time of change and both ends, so that a moved or renamed file keeps its name; for
        folders and URLs also where they lie.
    """
    path, image = file_of(path)
    picked = [image] if image else []

    def tiles(wanted: Sequence[Address]) -> Iterator[NDArray[np.uint8]]:
        return tiles_of(reader, wanted)

    said = json.dumps([BUILD_VERSION, _files_of(path), *pixels_of(reader.info.levels, tiles), *picked])
    return hashlib.sha256(said.encode()).hexdigest()[:40]


def pixels_of(stored: Sequence[Level], tiles: TilesOf) -> tuple[object, object]:
    """The sizes of stored levels and their tiles, and a hash of some tiles of the coarsest one.

    Args:
        stored: The levels that the slide stores.
        tiles: Reads tiles of them.

    Raises:
        SlideError: A tile cannot be read.
    """
    # Spread evenly: cheap, and bound to the pixels themselves.
    grid = tile_grid(stored[-1].size, stored[-1].tile)
    numbers = sorted(set(np.linspace(0, grid.area - 1, LOOKED_AT_TILES).astype(int).tolist()))
    looked_at = [(len(stored) - 1, number % grid.width, number // grid.width) for number in numbers]
    digest = hashlib.sha256()
    for tile in tiles(looked_at):
        digest.update(tile.tobytes())
    layout = [(level.size.width, level.size.height, level.tile.width, level.tile.height) for level in stored]
    return layout, digest.hexdigest()


def slide_key_of(name: str) -> str:
    """A key for pixels that the caller names."""
    return hashlib.sha256(json.dumps([BUILD_VERSION, "named", name]).encode()).hexdigest()[:40]


def _url_version(url: SlideUrl) -> tuple[str, ...]:
    if not is_zarr_url(url):
        return remote_version(url)
    for name in ZARR_METADATA:
        try:
            return name, *remote_version(url, name)
        except SlideError as error:
            said = error
    raise said


def _files_of(path: SlidePath) -> list[object]:
    if isinstance(path, SlideUrl):
        return [path.url, *_url_version(path)]
    if path.is_dir():
        if is_zarr_folder(path):
            # Writers replace chunks, which changes the time of their folder.
            folders = _zarr_folders(path)
            files = [one / name for one in folders for name in ZARR_METADATA if (one / name).is_file()]
            return [str(path.absolute()), *map(_stamp, folders), *map(_stamp, files)]
        return [str(path.absolute()), *map(_stamp, _dicom_files(path))]
    with path.open("rb") as file:
        size = path.stat().st_size
        ends = file.read(END_BYTES)
        file.seek(max(0, size - END_BYTES))
        ends += file.read(END_BYTES)
    status = path.stat()
    parts = companions_of(path)
    return [
        status.st_size,
        status.st_mtime_ns,
        hashlib.sha256(ends).hexdigest(),
        *([str(path.absolute()), *map(_stamp, parts)] if parts else []),
    ]


def _zarr_folders(path: Path) -> list[Path]:
    """The groups and arrays of a Zarr; the chunks of arrays are not listed."""
    if (path / ".zarray").is_file() or (path / "c").is_dir():
        return [path]
    inside = sorted(one for one in path.iterdir() if one.is_dir())
    return [path, *(found for one in inside for found in _zarr_folders(one))]


def companions_of(path: Path) -> list[Path]:
    """The other files of a slide of several files; none of one that is a file alone."""
    suffix = path.suffix.lower()
    if suffix == ".mrxs":
        folder = path.with_suffix("")
        return sorted(folder.iterdir()) if folder.is_dir() else []
    if suffix in (".vms", ".vmu"):
        return sorted(one for one in path.parent.iterdir() if one.is_file())
    return [] if dicom_meta(path) is None else _dicom_files(path.parent)


def _dicom_files(folder: Path) -> list[Path]:
    """The whole slide images of a folder, of any series: no header is parsed."""
    found = (path for path in folder.iterdir() if not path.name.startswith("."))
    images = [path for path in found if (meta := dicom_meta(path)) is not None and meta.is_whole_slide]
    return sorted(images, key=lambda path: (-path.stat().st_size, path.name))


def _stamp(path: Path) -> list[object]:
    status = path.stat()
    return [path.name, status.st_size, status.st_mtime_ns]
