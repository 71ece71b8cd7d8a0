"""Where a slide lies: a path on this machine, or a URL that fsspec reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from wsi_deform.paths import IMAGE_MARK, split_image
from wsi_deform.redact import redacted_url

# A scheme has two letters at least: "C://slides" is a drive.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_BEFORE_QUERY = re.compile(r"([^?#]*)(.*)", re.DOTALL)
_LOCAL_SCHEMES = ("file", "local")


@dataclass(frozen=True, slots=True, order=True, repr=False)
class SlideUrl:
    """The URL of a slide that is not on this machine.

    Attributes:
        url: What fsspec is given, as it was written: ``https://...``, ``s3://...``,
            ``simplecache::https://...``.
        image: Which of its images is meant, ``FILE::NAME``; empty where the URL names none.

    Convention:
        ``str`` and ``repr`` leave out passwords and what follows ``?``, which may be a signature: messages and
        logs show it, outputs are named by it. Of a chain (``zip://a.tif::https://...``) the first place counts.
    """

    url: str
    image: str = ""

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
        shown = redacted_url(self.url)
        return f"{shown}{IMAGE_MARK}{self.image}" if self.image else shown

    def __repr__(self) -> str:
        """As ``str``: tracebacks and the logs of workers show it."""
        return f"SlideUrl({str(self)!r})"

    @property
    def _place(self) -> str:
        """The first link of the chain that says where something lies."""
        return next(link for link in redacted_url(self.url).split("::") if "://" in link)


SlidePath: TypeAlias = Path | SlideUrl


def slide_path(path: str | Path | SlideUrl) -> SlidePath:
    """Tell paths from URLs.

    Args:
        path: A path, or text that may be a URL.

    Returns:
        A ``Path`` for paths and ``file://`` URLs, a ``SlideUrl`` for all other URLs. Both keep the name of an image
        after ``::``; ``paths.split_image`` takes it from a ``Path``.
    """
    if not isinstance(path, str):
        return path
    if not is_url(path):
        return Path(path)
    url, image = _without_image(path)
    split = urlsplit(url)
    if split.scheme in _LOCAL_SCHEMES and IMAGE_MARK not in url:
        # It brings HTTP along, which paths do without.
        from urllib.request import url2pathname

        local = url2pathname(split.netloc + split.path)
        return Path(f"{local}{IMAGE_MARK}{image}" if image else local)
    return SlideUrl(url, image)


def is_url(text: str) -> bool:
    """Whether a text is a URL and not a path."""
    before, _, last = re.split("[?#]", text, maxsplit=1)[0].rpartition(IMAGE_MARK)
    # The last link of a chain, or the one before the name of an image.
    link = last if "/" in last or not before else before.rpartition(IMAGE_MARK)[2]
    return _SCHEME.match(link) is not None


def file_of(path: SlidePath) -> tuple[SlidePath, str]:
    """The file, folder or URL of a path, and the image that it names, or ""."""
    if isinstance(path, SlideUrl):
        return SlideUrl(path.url), path.image
    return split_image(path)


def _without_image(url: str) -> tuple[str, str]:
    """A URL, and the image that is named right after its file; "" where none is.

    Convention:
        Before ``?`` and behind the last ``/``: a mark in a password or a signature is part of the secret.
    """
    place, rest = _BEFORE_QUERY.match(url).groups()  # type: ignore[union-attr]
    folder, slash, name = place.rpartition("/")
    file, _, image = name.partition(IMAGE_MARK)
    return (f"{folder}{slash}{file}{rest}", unquote(image)) if "://" in folder + slash else (url, "")
