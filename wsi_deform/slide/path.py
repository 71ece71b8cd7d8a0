"""Where a slide lies: a path on this machine, or a URL that fsspec reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias
from urllib.parse import urlsplit
from urllib.request import url2pathname

from wsi_deform.redact import redacted_url

# A scheme has two letters at least: "C://slides" is a drive.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_LOCAL_SCHEMES = ("file", "local")


@dataclass(frozen=True, slots=True, order=True, repr=False)
class SlideUrl:
    """The URL of a slide that is not on this machine.

    Attributes:
        url: What fsspec is given, as it was written: ``https://...``, ``s3://...``,
            ``simplecache::https://...``.

    Convention:
        ``str`` and ``repr`` leave out passwords and what follows ``?``, which may be a signature: messages and
        logs show it, outputs are named by it. Of a chain (``zip://a.tif::https://...``) the first place counts.
    """

    url: str

    @property
    def protocol(self) -> str:
        """The first protocol, e.g. "https"."""
        return re.split("::|://", self.url, maxsplit=1)[0].lower()

    @property
    def parts(self) -> tuple[str, ...]:
        """The path's folders and name, as ``Path.parts`` has them."""
        return tuple(part for part in urlsplit(self._place).path.split("/") if part)

    @property
    def name(self) -> str:
        """The file name."""
        # A bucket or container alone has no path.
        return self.parts[-1] if self.parts else urlsplit(self._place).netloc

    @property
    def suffix(self) -> str:
        """The last suffix of the file name, as ``Path.suffix`` has it."""
        return PurePosixPath(self.name).suffix

    def __str__(self) -> str:
        """The URL without passwords and signatures."""
        return redacted_url(self.url)

    def __repr__(self) -> str:
        """As ``str``: tracebacks and the logs of workers show it."""
        return f"SlideUrl({str(self)!r})"

    @property
    def _place(self) -> str:
        """The first link of the chain that says where something lies."""
        return next(link for link in str(self).split("::") if "://" in link)


SlidePath: TypeAlias = Path | SlideUrl


def slide_path(path: str | Path | SlideUrl) -> SlidePath:
    """Tell paths from URLs.

    Args:
        path: A path, or text that may be a URL.

    Returns:
        A ``Path`` for paths and ``file://`` URLs, a ``SlideUrl`` for all other URLs.
    """
    if not isinstance(path, str):
        return path
    if not is_url(path):
        return Path(path)
    split = urlsplit(path)
    if split.scheme in _LOCAL_SCHEMES and "::" not in path:
        return Path(url2pathname(split.netloc + split.path))
    return SlideUrl(path)


def is_url(text: str) -> bool:
    """Whether a text is a URL and not a path."""
    return _SCHEME.match(text.rpartition("::")[2]) is not None
