"""An annotation file on disk: unpacked within limits, and what it is at first sight."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from wsi_deform.annotation.outlines.xml_events import Event, xml_events
from wsi_deform.errors import AnnotationError
from wsi_deform.limits import ANNOTATION, in_unit

GZIP, ZIP = b"\x1f\x8b", b"PK"
UTF16 = (b"\xff\xfe", b"\xfe\xff")
BOM = b"\xef\xbb\xbf"
HEAD_BYTES = 1 << 16
SHOWN_CHARACTERS = 60
NOT_OURS = "__MACOSX/"


class AnnotationFile:
    """The content of an annotation file, unpacked; what formats are recognised by and read from.

    Attributes:
        path: The file.
        image: File name or stem of the slide; chooses among several images of one file. None where it is not known.
        data: Its bytes, without gzip or zip around them.
    """

    def __init__(self, path: Path, *, image: str | None = None) -> None:
        """Read and unpack a file.

        Raises:
            AnnotationError: It cannot be read or unpacked, or holds more than ``limits.ANNOTATION``.
        """
        self.path = path
        self.image = image
        try:
            with path.open("rb") as file:
                stored = self._limited(file)
            if stored.startswith(GZIP):
                with gzip.GzipFile(fileobj=io.BytesIO(stored)) as unzipped:
                    stored = self._limited(unzipped)
            elif stored.startswith(ZIP):
                stored = self._from_zip(stored)
        # RuntimeError: a password; NotImplementedError: a compression that Python has not.
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, ValueError) as error:
            raise self.error(f"cannot be read ({error}). Check the file, or export it again") from error
        self.data = stored

    def error(self, what: str, number: int | None = None) -> AnnotationError:
        """An error that names the file, and the feature where a number is given; ``what`` has no stop at its end."""
        where = f"annotations {self.path}" + ("" if number is None else f": feature {number}")
        return AnnotationError(f"{where}: {what}.")

    @cached_property
    def head(self) -> bytes:
        """Its first bytes from the first that says something, without a byte order mark."""
        return self.data[:HEAD_BYTES].removeprefix(BOM).lstrip()

    @property
    def is_xml(self) -> bool:
        """Whether it looks like XML."""
        return self.head.startswith(b"<") or self.data[:4] in (b"\xff\xfe<\0", b"\xfe\xff\0<")

    @cached_property
    def root(self) -> str | None:
        """The name of the outermost element of XML; None for what is no XML."""
        if not self.is_xml:
            return None
        return next((name for name, _ in self.events()), None)

    def events(self) -> Iterator[Event]:
        """Starts and ends of the elements of XML, see ``xml_events``.

        Raises:
            AnnotationError: It is no sound XML, or holds what XML of strangers must not.
        """
        try:
            yield from xml_events(self.data)
        except ValueError as error:
            raise self.error(f"no sound XML ({error}). Export it again") from error

    @cached_property
    def json(self) -> Any:
        """What JSON says; None for what is no JSON at first sight.

        Raises:
            AnnotationError: It looks like JSON and is none.
        """
        if self.is_xml or not (self.head.startswith((b"{", b"[")) or self.data.startswith(UTF16)):
            return None
        try:
            # Formats look at fixed depths: how deep the rest is does not matter, and to find out takes seconds.
            return json.loads(self.data.decode("utf-16" if self.data.startswith(UTF16) else "utf-8-sig"))
        except RecursionError:
            raise self.error("no sound JSON (nested too deeply). Export it again") from None
        except ValueError as error:
            raise self.error(f"no sound JSON ({error}). Export it again") from error

    def shown_head(self) -> str:
        """Its first characters, for messages."""
        return repr(self.head[:SHOWN_CHARACTERS].decode("utf-8", "replace"))

    def _limited(self, file: Any) -> bytes:
        """All bytes of a stream.

        Raises:
            OSError: There are more than ``limits.ANNOTATION``.
        """
        most = ANNOTATION.value
        found: bytes = file.read(most + 1)
        if len(found) > most:
            raise OSError(f"more than {in_unit(most, ANNOTATION)}. {ANNOTATION.needed(2 * most)}")
        return found

    def _from_zip(self, stored: bytes) -> bytes:
        with zipfile.ZipFile(io.BytesIO(stored)) as archive:
            held = [
                each
                for each in archive.infolist()
                if not each.is_dir() and not each.filename.startswith(NOT_OURS)
            ]
            if len(held) != 1:
                raise OSError(f"a zip file of {len(held)} files. Needed one. Unpack it")
            with archive.open(held[0]) as file:
                return self._limited(file)
