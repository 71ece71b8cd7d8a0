"""Files on other machines: ranges of bytes through fsspec, many at once."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from wsi_deform.errors import SlideError
from wsi_deform.redact import redacted
from wsi_deform.slide.path import SlideUrl

# Ranges this near are asked for as one, which costs less than a request of its own, up to this size.
MERGE_GAP_BYTES = 4 << 10
MERGE_MAX_BYTES = 1 << 20
ATTEMPTS = 3
FIRST_PAUSE_S = 0.2
# No limit on a whole answer, which may be long on a thin line: only on silence.
CONNECT_S, SILENCE_S = 30, 60

DOWNLOAD = "Download the slide first and open the copy."
# What servers call the version of a file.
VERSION_KEYS = ("etag", "last-modified", "lastmodified", "mtime", "updated", "md5hash", "created", "size")
_HTTP = ("http", "https")


class RemoteFile:
    """A file behind a URL; implements ``ByteSource``.

    Attributes:
        path: Its URL.
        size_bytes: Its length.
    """

    is_far = True

    def __init__(self, url: SlideUrl) -> None:
        """Ask for its size, and for one byte in its middle, as proof that ranges can be read.

        Raises:
            SlideError: The file, the server, or the package for its protocol is missing, or the server gives
                only whole files.
        """
        self.path = url
        self.is_open = True
        self._files, self._where = file_system(url)
        size = _info(self._files, self._where, url).get("size")
        if not size:
            raise SlideError(f"{url}: the server does not say its size, or it is empty. {DOWNLOAD}")
        self.size_bytes = int(size)
        self._prove_ranges()

    def read(self, offset: int, count: int) -> bytes:
        """Read bytes; see ``ByteSource``."""
        return self.read_many([(offset, count)])[0]

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read several (offset, count) in as few requests as are worth it, all at once."""
        if not self.is_open:
            raise SlideError(f"{self.path}: reading from a closed file. Open the slide again.")
        ends = [(offset, min(offset + count, self.size_bytes)) for offset, count in ranges]
        spans = _merged(sorted({span for span in ends if span[1] > span[0]}))
        stored = self._fetch(spans)
        found = []
        for start, end in ends:
            # Spans are few: a batch of tiles.
            holder = next((span for span in spans if span[0] <= start and end <= span[1]), None)
            found.append(b"" if holder is None else stored[holder][start - holder[0] : end - holder[0]])
        return found

    def close(self) -> None:
        """Read no more."""
        self.is_open = False

    def _fetch(self, spans: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
        """The bytes of each [start, end), asked for again where an answer fails."""
        stored: dict[tuple[int, int], bytes] = {}
        wrong: object = None
        for attempt in range(ATTEMPTS):
            open_spans = [span for span in spans if span not in stored]
            if not open_spans:
                break
            if attempt:
                time.sleep(FIRST_PAUSE_S * 2 ** (attempt - 1))
            starts, ends = [span[0] for span in open_spans], [span[1] for span in open_spans]
            paths = [self._where] * len(open_spans)
            answers = self._files.cat_ranges(paths, starts, ends, on_error="return")
            for span, answer in zip(open_spans, answers, strict=True):
                if isinstance(answer, bytes) and len(answer) == span[1] - span[0]:
                    stored[span] = answer
                elif isinstance(answer, bytes):
                    wrong = f"{len(answer)} bytes for {span[1] - span[0]} at {span[0]}"
                else:
                    wrong = answer
        missing = [span for span in spans if span not in stored]
        if missing:
            raise SlideError(
                f"{self.path}: {len(missing)} of {len(spans)} ranges could not be read in {ATTEMPTS} attempts "
                f"({cause_text(wrong, self.path)}). Check the network and the server; then try again, or download the "
                "slide."
            )
        return stored

    def _prove_ranges(self) -> None:
        if self.size_bytes < 2:
            return
        at = self.size_bytes // 2
        try:
            # fsspec's file object, unlike its ``cat_file``, does not take a whole file for a range.
            with self._files.open(self._where, "rb", cache_type="none") as file:
                file.seek(at)
                found = file.read(1)
        except remote_errors() as error:
            raise SlideError(
                f"{self.path}: the server does not give parts of a file ({cause_text(error, self.path)}). Needed "
                f"support for HTTP Range requests. {DOWNLOAD}"
            ) from error
        if len(found) != 1:
            raise SlideError(f"{self.path}: byte {at} of {self.size_bytes} wanted, got none. {DOWNLOAD}")


def file_system(url: SlideUrl) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the file's path on it.

    Raises:
        SlideError: The protocol is not known, or its package is not installed.
    """
    # Slow to import, and slides on this machine do without it.
    import fsspec

    try:
        files, where = fsspec.core.url_to_fs(url.url, **storage_options(url))
    except ImportError as error:
        # fsspec's own words name the package of any other protocol: "Install s3fs to access S3".
        wanted = "Install it: pip install aiohttp" if url.protocol in _HTTP else str(error).rstrip(".")
        raise SlideError(
            f"{url}: a package for {url.protocol} is missing. {wanted}. Or: {DOWNLOAD}"
        ) from error
    except remote_errors() as error:
        raise SlideError(f"{url}: cannot be opened ({cause_text(error, url)}). Check the URL.") from error
    return files, where


def storage_options(url: SlideUrl) -> dict[str, Any]:
    """What fsspec's file system is told."""
    if url.protocol not in _HTTP or "::" in url.url:
        return {}
    try:
        import aiohttp
    except ImportError:
        return {}  # fsspec says what is missing
    # Compressed answers have other lengths than the ranges that were asked for.
    return {
        "client_kwargs": {
            "headers": {"Accept-Encoding": "identity"},
            "timeout": aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S),
        }
    }


def remote_version(url: SlideUrl, member: str = "") -> tuple[str, ...]:
    """What the server says about the version of a file: its size, ETag and time, as far as it does.

    Args:
        url: The file, or a folder.
        member: A file in the folder.

    Raises:
        SlideError: There is no such file, or the server does not answer.
    """
    files, where = file_system(url)
    where = f"{where.rstrip('/')}/{member}" if member else where
    found = {key.lower(): value for key, value in _info(files, where, url).items()}
    return tuple(f"{key}={found[key]}" for key in VERSION_KEYS if found.get(key) is not None)


def remote_errors() -> tuple[type[Exception], ...]:
    """What fsspec's file systems raise; the errors of a package only where it is loaded."""
    found: list[type[Exception]] = [OSError, ValueError, RuntimeError, ImportError]
    for module, name in (
        ("aiohttp", "ClientError"),
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
    ):
        loaded = sys.modules.get(module)
        if loaded is not None:
            found.append(getattr(loaded, name))
    return tuple(found)


def _info(files: Any, where: str, url: SlideUrl) -> Mapping[str, Any]:
    try:
        return files.info(where)  # type: ignore[no-any-return]
    except remote_errors() as error:
        raise SlideError(
            f"{url}: cannot be found ({cause_text(error, url)}). Check the URL, the network and the rights to read it."
        ) from error


def cause_text(error: object, url: SlideUrl) -> str:
    """What went wrong, and why: fsspec's HTTP reports a refused connection as a missing file.

    The URL's secrets are left out, also where a package quotes only a part of it.
    """
    cause = error.__cause__ if isinstance(error, BaseException) and error.__cause__ is not None else error
    status = getattr(cause, "status", None)
    if status is not None:
        return redacted(f"HTTP status {status} {getattr(cause, 'message', '')}".strip(), url.url)
    if isinstance(cause, FileNotFoundError):
        return "no such file"
    text = f"{type(cause).__name__}: {cause}" if isinstance(cause, BaseException) else str(cause)
    return redacted(text, url.url)


def _merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted [start, end) with those that are near as one; every span lies in one of the results."""
    # fsspec.utils.merge_offset_ranges does the same, but before 2026.2 it loses the end of a range that holds others.
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        near = merged and start - merged[-1][1] <= MERGE_GAP_BYTES
        if near and (end <= merged[-1][1] or end - merged[-1][0] <= MERGE_MAX_BYTES):
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged
