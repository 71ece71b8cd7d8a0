"""What a shared model's file holds, and what is refused of one that a stranger sent, before anything of it is unpacked.

It is a zip whose members are stored as they are, so that its size bounds theirs: ``best.safetensors`` and ``best.json``
(the model), ``best.md`` (its card), ``licence.txt`` (of the data), ``thumbnail.jpg`` (of an example), ``best.int8/``
(its quantised networks), and ``contents.json``, which has the length and the SHA-256 of each of the others.
"""

from __future__ import annotations

import hashlib
import re
import stat
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_deform.errors import ModelError
from wsi_deform.limits import MODEL, TEXT, in_unit
from wsi_deform.paths import RESERVED
from wsi_deform.texts import parse_json

FORMAT = "wsi-deform model package 1"
CONTENTS = "contents.json"
WEIGHTS, FACTS, CARD = "best.safetensors", "best.json", "best.md"
LICENCE, THUMBNAIL, QUANTISED = "licence.txt", "thumbnail.jpg", "best.int8/"
NEEDED = (WEIGHTS, FACTS, CARD, LICENCE)
KNOWN = (*NEEDED, THUMBNAIL)
MAX_MEMBERS = 256
MAX_DEPTH = 5
BLOCK_BYTES = 1 << 20
REMEDY = "Do not use it; ask whoever shared it for one that `wsi-deform model pack` wrote."
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ENCRYPTED = 1
_PICKLES = (
    ".pkl",
    ".pickle",
    ".pt",
    ".pth",
    ".pt2",
    ".ckpt",
    ".joblib",
    ".npy",
    ".npz",
    ".py",
    ".pyc",
    ".so",
    ".dll",
)
# A pickle's first bytes from protocol 2 on; an archive, as PyTorch makes of pickles.
_MAGIC = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
ARCHIVE = b"PK\x03\x04"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file in a shared model: its name, its length in bytes and its SHA-256, lower-case hexadecimal."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a shared model's ``contents.json`` says, and it holds.

    Attributes:
        members: All files but ``contents.json``, in the order of their names.
        licence: Of the data that it learned from, as whoever packed it said.
        about: The JSON, whole.
    """

    members: tuple[Member, ...]
    licence: str
    about: Mapping[str, Any]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, lower-case hexadecimal."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def name_problem(name: str) -> str:
    """What is wrong with the name of a member; empty when nothing is.

    Convention:
        ``KNOWN`` names, and files in ``QUANTISED`` up to four folders deep, of plain letters: no ``..``, no root, no
        drive, no backslash, nothing that Windows takes for a device.
    """
    if name in KNOWN:
        return ""
    if not name.startswith(QUANTISED):
        return "is no file of a model"
    parts = name.split("/")
    if len(parts) > MAX_DEPTH or not all(
        _PART.fullmatch(part) and not RESERVED.fullmatch(part) for part in parts
    ):
        return f"is no plain name in {QUANTISED}"
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    if found := next((suffix for suffix in suffixes if suffix in _PICKLES), ""):
        return f"ends in {found}: such files can run code"
    return ""


def content_problem(first: bytes, last: bytes) -> str:
    """Whether bytes look like something that runs code when it is loaded: what is wrong, or an empty text.

    Args:
        first: The first bytes of a file, four or more.
        last: Its last byte.
    """
    if first.startswith(ARCHIVE):
        return "is an archive, which may hold pickles"
    return (
        "is a pickle, which runs code when it is loaded" if first.startswith(_MAGIC) and last == b"." else ""
    )


@contextmanager
def opened_package(path: Path) -> Iterator[tuple[zipfile.ZipFile, Contents]]:
    """Open a shared model, look at its directory, and refuse what is not as ``pack`` writes it; nothing is unpacked.

    Args:
        path: The file.

    Yields:
        The zip and its contents; the checksums of the members are not compared yet, see ``member_blocks``.

    Raises:
        ModelError: It cannot be read, is no shared model or of a newer version, is beyond the limit of
            ``limits.MODEL``, or holds what is refused: names that lead elsewhere, twice the same name, links,
            compressed or encrypted members, members longer than the file, pickles by their names.
    """
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MODEL.value:
            raise ModelError(f"model {path}: {in_unit(size_bytes, MODEL)}. {MODEL.needed(size_bytes)}")
        with zipfile.ZipFile(path) as opened:
            infos = _checked(opened.infolist(), size_bytes, path)
            yield opened, _contents(opened, infos, path)
    except (
        OSError,
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        EOFError,
        UnicodeDecodeError,
    ) as error:
        raise ModelError(
            f"model {path}: cannot be read as a shared model ({error}). Needed a file that `wsi-deform model pack` "
            "wrote, whole. Copy or download it again."
        ) from error


def member_blocks(opened: zipfile.ZipFile, member: Member, path: Path) -> Iterator[bytes]:
    """The bytes of a member, block by block.

    Raises:
        ModelError: At the end, where its length or its checksum is not what ``contents.json`` says; or at the start,
            where it is a pickle or an archive. What was read until then is not to be used.
    """
    digest, length, first, last = hashlib.sha256(), 0, b"", b""
    with opened.open(member.name) as stream:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
            length += len(block)
            first, last = first or block[:4], block[-1:]
            if length > member.size_bytes:
                break
            yield block
    if length != member.size_bytes or digest.hexdigest() != member.sha256:
        raise _other(member, digest.hexdigest(), path)
    if member.name.startswith(QUANTISED) and (problem := content_problem(first, last)):
        raise ModelError(f"model {path}: {member.name} {problem}. {REMEDY}")


def _checked(infos: list[zipfile.ZipInfo], size_bytes: int, path: Path) -> dict[str, zipfile.ZipInfo]:
    """Name -> entry of the zip's directory, all of which may be read."""

    def refuse(problem: str) -> None:
        raise ModelError(f"model {path}: {problem}. {REMEDY}")

    if len(infos) > MAX_MEMBERS:
        refuse(f"{len(infos)} members, needed at most {MAX_MEMBERS}")
    seen: set[str] = set()
    total = 0
    for info in infos:
        shown = repr(info.orig_filename)[:200]
        # The name as it stands in the file: zipfile cuts one off at a zero byte.
        if info.orig_filename != CONTENTS and (problem := name_problem(info.orig_filename)):
            refuse(f"a member called {shown} {problem}")
        if info.filename.casefold() in seen:
            refuse(f"two members called {shown}")
        seen.add(info.filename.casefold())
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            refuse(f"{shown} is no plain file")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            refuse(f"{shown} is compressed ({info.compress_size:,} bytes that become {info.file_size:,})")
        if info.flag_bits & _ENCRYPTED:
            refuse(f"{shown} is encrypted")
        total += info.file_size
    if total > size_bytes:
        refuse(f"its members declare {total:,} bytes, more than the {size_bytes:,} of the file")
    return {info.filename: info for info in infos}


def folder_contents(folder: Path) -> Contents | None:
    """What the ``contents.json`` of an unpacked shared model says, which its files are, byte for byte.

    Returns:
        None where the folder has none, as a run folder. Files beside those of the model are not looked at.

    Raises:
        ModelError: ``contents.json`` is not as it was written, or a file is missing, longer, shorter or another one.
    """
    path = folder / CONTENTS
    if not path.is_file():
        return None
    own = [one for one in folder.rglob("*") if one.is_file()]
    held = {one.relative_to(folder).as_posix(): one.stat().st_size for one in own}
    contents = _read(
        path.read_bytes(), {name: size for name, size in held.items() if not name_problem(name)}, folder
    )
    for member in contents.members:
        if (found := sha256_of(folder / member.name)) != member.sha256:
            raise _other(member, found, folder)
    return contents


def _contents(opened: zipfile.ZipFile, infos: Mapping[str, zipfile.ZipInfo], path: Path) -> Contents:
    """What ``contents.json`` says, which fits the directory."""
    if CONTENTS not in infos:
        raise _refused(path, f"a zip without {CONTENTS}")
    if infos[CONTENTS].file_size > TEXT.value:
        raise _refused(path, f"{CONTENTS} of {infos[CONTENTS].file_size:,} bytes")
    held = {name: info.file_size for name, info in infos.items() if name != CONTENTS}
    return _read(opened.read(CONTENTS), held, path)


def _refused(path: Path, problem: str) -> ModelError:
    return ModelError(f"model {path}: {problem}. Needed what `wsi-deform model pack` wrote.")


def _other(member: Member, sha256: str, path: Path) -> ModelError:
    return ModelError(
        f"model {path}: {member.name} is not what its {CONTENTS} says (SHA-256 {sha256}, needed {member.sha256}). It "
        f"is damaged, or was changed. {REMEDY}"
    )


def _read(text: bytes, held: Mapping[str, int], path: Path) -> Contents:
    """What ``contents.json`` says, which fits the names and bytes of the other files."""

    def refuse(problem: str) -> ModelError:
        return _refused(path, problem)

    try:
        about = parse_json(text.decode("utf-8"))
    except ValueError as error:
        raise refuse(f"{CONTENTS} is no JSON ({error})") from error
    found = about.get("format") if isinstance(about, dict) else None
    if found != FORMAT:
        raise refuse(
            f'{CONTENTS} of format "{str(found)[:60]}", not "{FORMAT}" (a newer version may have written it)'
        )
    members, licence = _members(about), about.get("licence")
    if members is None or not isinstance(licence, str):
        raise refuse(f"{CONTENTS} without members, their bytes and sha256, or licence")
    said = {member.name: member.size_bytes for member in members}
    if said != held:
        other = sorted(name for name in said.keys() | held.keys() if said.get(name) != held.get(name))
        raise refuse(f"{CONTENTS} and what is there differ in {', '.join(other[:4])}")
    if missing := [name for name in NEEDED if name not in held]:
        raise refuse(f"without {', '.join(missing)}")
    return Contents(members=tuple(members), licence=licence, about=about)


def _members(about: Mapping[str, Any]) -> list[Member] | None:
    """The members that ``contents.json`` lists; None where it is not as it was written."""
    listed = about.get("members")
    if not isinstance(listed, dict):
        return None
    found = []
    for name, said in sorted(listed.items()):
        size, digest = (said.get("bytes"), said.get("sha256")) if isinstance(said, dict) else (None, None)
        if not isinstance(size, int) or not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            return None
        found.append(Member(name=name, size_bytes=size, sha256=digest))
    return found
