"""Where an OME-Zarr lies: a folder or a zip file, on this machine or behind a URL."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import zarr
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.zip import ZipFileSystem

from wsi_deform.errors import SlideError
from wsi_deform.slide.declared import TooLargeError
from wsi_deform.slide.find import is_zarr_url
from wsi_deform.slide.path import SlidePath, SlideUrl
from wsi_deform.slide.remote import RemoteFile, file_system, remote_errors, storage_options
from wsi_deform.slide.source import ByteSource, LocalFile, SourceFile
from wsi_deform.slide.zarr_limits import GuardedStore

# What is raised for a file that is not in a zip: older versions of fsspec have KeyError.
MISSING = (KeyError, FileNotFoundError, IsADirectoryError, NotADirectoryError)
METADATA = ("zarr.json", ".zgroup", ".zattrs")
# Of a member of a zip file, which may be far shorter there.
MAX_METADATA_BYTES = 64 << 20
# Of a member, in front of its bytes; the last two are the lengths of its name and of what may follow.
LOCAL_HEADER, LOCAL_SIGNATURE = struct.Struct("<4s5H3I2H"), b"PK\3\4"
ENCRYPTED = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ZarrPlace:
    """An open place.

    Attributes:
        store: What zarr reads from; knows what chunks may be once it is told.
        root: Path of the slide's group in it; "" where it is the whole.
        files: fsspec's file system, None for this machine's, and
        where: the place of the slide's group on it.
    """

    store: GuardedStore
    root: str
    files: Any
    where: str

    def text_of(self, name: str) -> str:
        """A small text file in the group; "" where there is none."""
        try:
            if self.files is None:
                return Path(self.where, name).read_text(encoding="utf-8")
            return str(self.files.cat_file(f"{self.where}/{name}" if self.where else name), "utf-8")
        except (KeyError, ValueError):
            return ""
        except remote_errors():
            return ""


def zarr_place(path: SlidePath) -> ZarrPlace:
    """Open the place where an OME-Zarr lies; nothing of it is read but the directory of a zip file.

    Args:
        path: A folder, a zip file (``.ozx``, ``.zarr.zip``), or the URL of one.

    Raises:
        SlideError: A URL's protocol is not known, or a zip file is damaged or holds no Zarr.
    """
    if isinstance(path, SlideUrl):
        if not is_zarr_url(path):
            return _in_zip(RemoteFile(path), path)
        files, where = file_system(path)  # says what is wrong with the protocol
        # Not ``open_group(url, storage_options=...)``: zarr 3.4 refuses options where it makes no use of them.
        store = zarr.storage.FsspecStore.from_url(
            path.url.rstrip("/"), storage_options=storage_options(path), read_only=True
        )
        return ZarrPlace(store=GuardedStore(store), root="", files=files, where=where.rstrip("/"))
    if path.is_dir():
        store = zarr.storage.LocalStore(path, read_only=True)
        return ZarrPlace(store=GuardedStore(store), root="", files=None, where=str(path))
    return _in_zip(LocalFile(path), path)


class _ZipMembers(ZipFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The members of a zip file; parts of those that are not compressed are read where they lie.

    Convention:
        ``zipfile`` of Python 3.12.0 to 3.12.8 and of 3.13.0 and 3.13.1 loses its place where several threads seek in
        members that are not compressed, and gives bytes of others (CPython issue 127847). Shards are read like that, by
        several threads, and of pixels that are not compressed nothing would tell.
    """

    cachable = False  # fsspec would give one file's members for another's

    def __init__(self, source: ByteSource) -> None:
        super().__init__(SourceFile(source))
        self.source = source
        self._starts: dict[str, int] = {}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        """Bytes of a member; from ``start`` to ``end`` if they are given, which may count from its end as in slices.

        Raises:
            FileNotFoundError: There is no such member; KeyError in older versions of fsspec.
            EOFError: The file ends before the member does.
        """
        name = self._strip_protocol(path)
        member = self.zip.NameToInfo.get(name)
        if member is None or (start is None and end is None) or not _is_plain(member):
            return bytes(super().cat_file(path, start=start, end=end, **options))
        first, last, _ = slice(start, end).indices(member.file_size)
        if first >= last:
            return b""
        found = self.source.read(self._start_of(member) + first, last - first)
        if len(found) < last - first:
            raise EOFError(f"{name}: the zip file ends within it")
        return found

    def _start_of(self, member: zipfile.ZipInfo) -> int:
        """Where a member's bytes begin, behind its local header, whose texts may be others than the directory's."""
        if member.filename not in self._starts:
            header = self.source.read(member.header_offset, LOCAL_HEADER.size)
            if len(header) < LOCAL_HEADER.size or not header.startswith(LOCAL_SIGNATURE):
                raise zipfile.BadZipFile(f"no header of {member.filename}")
            *_, name_bytes, extra_bytes = LOCAL_HEADER.unpack(header)
            start = member.header_offset + LOCAL_HEADER.size + name_bytes + extra_bytes
            self._starts[member.filename] = start
        return self._starts[member.filename]


def _is_plain(member: zipfile.ZipInfo) -> bool:
    """Whether a member's bytes lie in the file as they are."""
    return member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & ENCRYPTED


def _in_zip(source: ByteSource, path: SlidePath) -> ZarrPlace:
    try:
        files = _ZipMembers(source)
    except zipfile.BadZipFile as error:
        raise SlideError(f"{path}: a damaged zip file ({error}). Copy or download it again.") from error
    members = files.zip.infolist()
    for member in members:
        if PurePosixPath(member.filename).name in METADATA and member.file_size > MAX_METADATA_BYTES:
            raise TooLargeError(
                f"{path}: declares {member.filename} of {member.file_size:,} bytes. Needed at most "
                f"{MAX_METADATA_BYTES:,} of metadata. The file is damaged, or no slide: copy or export it again."
            )
    root = _root_of([member.filename for member in members], path)
    store = zarr.storage.FsspecStore(
        AsyncFileSystemWrapper(files, asynchronous=True), path="", read_only=True, allowed_exceptions=MISSING
    )
    return ZarrPlace(store=GuardedStore(store, cuts=True), root=root, files=files, where=root)


def _root_of(names: Sequence[str], path: SlidePath) -> str:
    """The uppermost group among the files of a zip, which should be its root but may be a folder in it."""
    groups = {str(PurePosixPath(name).parent) for name in names if PurePosixPath(name).name in METADATA}
    if not groups:
        raise SlideError(
            f"{path}: a zip file without a Zarr. Needed an OME-Zarr in it. Unpack it, and open the slide that it holds."
        )
    root = min(groups, key=lambda group: (0 if group == "." else len(PurePosixPath(group).parts), group))
    return "" if root == "." else root
