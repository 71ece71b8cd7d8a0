"""Which reader serves which file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wsi_deform.errors import NotThisReaderError, SlideError
from wsi_deform.plugins import failed_plugins
from wsi_deform.slide.added import open_added
from wsi_deform.slide.choice import refuse_others
from wsi_deform.slide.containers import refuse_container
from wsi_deform.slide.dicom.meta import PREFIX_AT, is_dicom
from wsi_deform.slide.find import CZI_MAGIC, TIFF_MAGIC, is_zarr_folder, is_zarr_url
from wsi_deform.slide.image_reader import ImageReader
from wsi_deform.slide.openslide_reader import OpenSlideReader, detect_vendor
from wsi_deform.slide.path import SlidePath, SlideUrl, file_of
from wsi_deform.slide.picture import AGAIN
from wsi_deform.slide.reader import Reader
from wsi_deform.slide.remote import DOWNLOAD, RemoteFile
from wsi_deform.slide.tiff.first_page import is_aperio
from wsi_deform.slide.tiff.reader import TiffReader

TIFF_SUFFIXES = (".tif", ".tiff")
# OpenSlide's names of the formats whose tiles need no more than the TIFF tags say.
DIRECT_VENDORS = (None, "aperio", "generic-tiff")

ZIP_MAGIC = b"PK\x03\x04"
PICTURE_MAGIC = (b"\x89PNG", b"\xff\xd8", b"BM")
MIRAX_SUFFIX = ".mrxs"  # such a file is a JPEG of its slide

REMEDY = (
    "Copy the file again in case it is damaged; otherwise convert it to a tiled pyramidal TIFF, where libvips can read "
    "it with: vips tiffsave IMAGE SLIDE.tif --tile --pyramid --compression jpeg"
)


def open_reader(path: SlidePath) -> Reader:
    """Open a slide with the reader that its content calls for.

    Args:
        path: A file, an OME-Zarr folder, a folder of one DICOM series, or a URL; with ``::NAME`` one of its images.

    Returns:
        The open reader: tiled TIFF, SVS and OME-TIFF are read directly, DICOM by OpenSlide or, where that reads
        less, directly, the rest by OpenSlide, zarr or Pillow.

    Raises:
        SlideError: The slide is refused, or no reader knows it; then the message has what each of them said.

    Convention:
        What a reader says of the picture (its channels, planes, bits, damage) is final. Only what does not know the
        container or the compression (``NotThisReaderError``) passes on to the next, and at last to those
        that were added (``slide/added.py``). An OME-TIFF has no next: OpenSlide would serve its first plane as gray and
        lose its scale.
    """
    file, asked = file_of(path)
    if isinstance(file, SlideUrl):
        return _open_remote(file, asked)
    if not file.exists():
        raise SlideError(f"{path}: no such file or folder. Check the path.")
    if file.is_dir():
        return _open_zarr(file, asked) if is_zarr_folder(file) else _open_dicom(file, asked)
    # A file may be TIFF and DICOM at once; OpenSlide goes by its suffix too.
    head = _head(file)
    if file.suffix.lower() not in TIFF_SUFFIXES and is_dicom(head):
        return _open_dicom(file, asked)
    # What libvips makes of a TIFF in a compression that it does not know is black, without a word.
    remedy = "" if head.startswith(TIFF_MAGIC) else f" {REMEDY}"
    said = []
    try:
        candidates = _candidates(file, head)
    except SlideError as error:
        # A format that is known, and that no reader here reads.
        if (reader := open_added(file, asked, head)[0]) is not None:
            return reader
        raise SlideError(f"{error}{failed_plugins()}") from error
    for name, open_one in candidates:
        try:
            return open_one(file, asked)
        except NotThisReaderError as error:
            reason = str(error).removeprefix(f"{file}: ")
            said.append(f"{name}: {reason.removesuffix(AGAIN) if remedy else reason}")
    reader, more = open_added(file, asked, head)
    if reader is not None:
        return reader
    raise SlideError(f"{file}: no reader can open it. {' | '.join(said + more)}{remedy}{failed_plugins()}")


def _head(path: Path) -> bytes:
    """The first bytes of a file, as far as they say of what kind it is."""
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(PREFIX_AT + 4)
    except OSError as error:
        raise SlideError(f"{path}: cannot be read ({error}). Check its permissions.") from error


def _open_zarr(path: SlidePath, asked: str) -> Reader:
    # zarr takes a fifth of a second to import, which most slides need not wait for.
    from wsi_deform.slide.zarr_reader import ZarrReader

    return ZarrReader(path, asked)


def _open_remote(url: SlideUrl, asked: str) -> Reader:
    """Open a slide on another machine: only what can be read in parts."""
    if is_zarr_url(url):
        return _open_zarr(url, asked)
    source = RemoteFile(url)
    magic = source.read(0, 4)
    if magic == ZIP_MAGIC:
        return _open_zarr(url, asked)
    if magic not in TIFF_MAGIC:
        raise SlideError(
            f"{url}: not a TIFF (it starts with {magic!r}). Over a network, tiled TIFF, SVS, OME-TIFF and "
            f"OME-Zarr (whose name ends in .zarr, or zipped) can be read. {DOWNLOAD}"
        )
    reader = TiffReader(source, asked)
    special = reader.tiles.index.special
    if special is not None:
        raise SlideError(
            f"{url}: a slide of {special}, which needs OpenSlide, and OpenSlide reads files on this machine "
            f"only. {DOWNLOAD}"
        )
    return reader


def _open_dicom(path: Path, asked: str) -> Reader:
    # pydicom takes a fifth of a second to import.
    from wsi_deform.slide.dicom.open import open_dicom

    reader = open_dicom(path)
    refuse_others(reader.info.images, asked, path)
    return reader


def _open_czi(path: Path, asked: str) -> Reader:
    from wsi_deform.slide.czi_reader import CziReader

    refuse_others((), asked, path)
    return CziReader(path)


def _candidates(path: Path, head: bytes) -> list[tuple[str, Callable[[Path, str], Reader]]]:
    """The readers that a file is offered to, in order, by its first bytes and OpenSlide's name of its format."""
    magic = head[:4]
    refuse_container(path, magic, is_tiff=magic in TIFF_MAGIC)
    if magic == ZIP_MAGIC:
        return [("zarr", _open_zarr)]
    # OpenSlide opens a file four times to tell what it is. What is DICOM as well is that to it.
    if not is_dicom(head):
        if magic in TIFF_MAGIC and is_aperio(path):
            return [("tiff", TiffReader), ("openslide", OpenSlideReader)]
        if magic.startswith(PICTURE_MAGIC) and path.suffix.lower() != MIRAX_SUFFIX:
            return [("image", ImageReader)]
    vendor = detect_vendor(path)
    if magic in TIFF_MAGIC and vendor in DIRECT_VENDORS:
        return [("tiff", TiffReader), *([] if vendor is None else [("openslide", OpenSlideReader)])]
    if magic == CZI_MAGIC[:4]:
        return [("openslide", OpenSlideReader), ("czi", _open_czi)]
    if vendor is not None:
        return [("openslide", OpenSlideReader)]
    if magic.startswith(PICTURE_MAGIC):
        return [("image", ImageReader)]
    return [("tiff", _no_tiff), ("openslide", OpenSlideReader), ("image", ImageReader)]


def _no_tiff(path: Path, _asked: str) -> Reader:
    raise NotThisReaderError(f"{path}: not a TIFF file, it starts with {_head(path)[:4]!r}.")
