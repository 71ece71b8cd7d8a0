"""What a TIFF's first page says, read without a library: what a file is can be told before it is parsed."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

IMAGE_DESCRIPTION, SOFTWARE, TILE_WIDTH, TILE_LENGTH, NDPI_FORMAT = 270, 305, 322, 323, 65420
APERIO, TRESTLE = b"Aperio", b"MedScan"

HEAD_BYTES = 16
BYTE_ORDERS = {b"II": "<", b"MM": ">"}
BIG = 43
ASCII = 2
# Bytes, whole numbers and floats of up to 4 bytes: they lie in the entry of their tag.
SMALL_NUMBERS = (1, 3, 4, 6, 8, 9, 11)
# Pages of slides have some tens of tags; one with more is left to a library.
MOST_TAGS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstPage:
    """The tags of a first page.

    Attributes:
        entries: Of each tag its code, and its entry as it is stored.
        order: The byte order, as ``struct`` has it.
        is_big: Whether the file is a BigTIFF.
    """

    entries: dict[int, bytes]
    order: str
    is_big: bool

    def text(self, code: int, characters: int, file: BinaryIO) -> bytes:
        """The first characters of a text; none where there is no such tag, or it holds something else.

        Raises:
            OSError: The file cannot be read.
        """
        entry = self.entries.get(code)
        if entry is None:
            return b""
        kind, count, offset = struct.unpack(f"{self.order}2xH{'QQ' if self.is_big else 'II'}", entry)
        if kind != ASCII:
            return b""
        if count <= (room := 8 if self.is_big else 4):
            return entry[-room:][: min(count, characters)]
        return _read(file, offset, min(count, characters))

    def is_zero(self, code: int) -> bool:
        """Whether a tag says nothing but 0, as a number of up to 4 bytes, or is not there."""
        entry = self.entries.get(code)
        if entry is None:
            return True
        kind, count = struct.unpack_from(f"{self.order}2xH{'Q' if self.is_big else 'I'}", entry)
        return kind in SMALL_NUMBERS and count == 1 and not any(entry[-8 if self.is_big else -4 :])


def first_page(file: BinaryIO, *, is_ndpi: bool = False) -> FirstPage | None:
    """The first page of a TIFF.

    Args:
        file: It, open for reading.
        is_ndpi: Whether it is Hamamatsu's, which say in 8 bytes where their first page lies; a TIFF does in 4.

    Returns:
        Its tags; None where the file is no TIFF, ends before, or has more tags than any slide.

    Raises:
        OSError: It cannot be read.
    """
    head = _read(file, 0, HEAD_BYTES)
    order = BYTE_ORDERS.get(head[:2])
    if order is None or len(head) < HEAD_BYTES:
        return None
    is_big = struct.unpack_from(f"{order}H", head, 2) == (BIG,)
    (place,) = struct.unpack_from(f"{order}{'Q' if is_big or is_ndpi else 'I'}", head, 8 if is_big else 4)
    count_kind, entry_bytes = ("Q", 20) if is_big else ("H", 12)
    counted = _read(file, place, struct.calcsize(count_kind))
    if len(counted) < struct.calcsize(count_kind):
        return None
    (count,) = struct.unpack(f"{order}{count_kind}", counted)
    if count > MOST_TAGS:
        return None
    stored = file.read(count * entry_bytes)
    if len(stored) < count * entry_bytes:
        return None
    entries = [stored[at : at + entry_bytes] for at in range(0, len(stored), entry_bytes)]
    codes = struct.unpack(order + f"H{entry_bytes - 2}x" * count, stored)
    return FirstPage(entries=dict(zip(codes, entries, strict=True)), order=order, is_big=is_big)


def is_aperio(path: Path) -> bool:
    """Whether a TIFF is Aperio's by what OpenSlide tells it by: tiles, and a description that begins so.

    Args:
        path: A TIFF file.

    Returns:
        False also where something makes it another maker's first, and where it cannot be read.
    """
    try:
        with path.open("rb", buffering=0) as file:
            page = first_page(file)
            return (
                page is not None
                and page.order == "<"
                and TILE_WIDTH in page.entries
                and TILE_LENGTH in page.entries
                and NDPI_FORMAT not in page.entries
                and page.text(IMAGE_DESCRIPTION, len(APERIO), file) == APERIO
                and page.text(SOFTWARE, len(TRESTLE), file) != TRESTLE
            )
    except OSError:
        return False


def _read(file: BinaryIO, offset: int, count: int) -> bytes:
    """Bytes at a place; fewer, or none, where the file ends before."""
    if offset >= 1 << 63:
        return b""
    file.seek(offset)
    return file.read(count)
