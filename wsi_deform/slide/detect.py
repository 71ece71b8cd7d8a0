"""Which reader serves which file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wsi_deform.errors import SlideError
from wsi_deform.slide.containers import refuse_container
from wsi_deform.slide.declared import TooLargeError
from wsi_deform.slide.dicom.files import dicom_meta
from wsi_deform.slide.find import CZI_MAGIC, TIFF_MAGIC, is_zarr_folder, is_zarr_url
from wsi_deform.slide.image_reader import ImageReader
from wsi_deform.slide.openslide_reader import OpenSlideReader, detect_vendor
from wsi_deform.slide.path import SlidePath, SlideUrl
from wsi_deform.slide.reader import Reader
from wsi_deform.slide.remote import DOWNLOAD, RemoteFile
from wsi_deform.slide.tiff.index import DamagedSlideError
from wsi_deform.slide.tiff.reader import TiffReader

TIFF_SUFFIXES = (".tif", ".tiff")
# OpenSlide's names of the formats whose tiles need no more than the TIFF tags say.
DIRECT_VENDORS = (None, "aperio", "generic-tiff")

REMEDY = (
    "Copy the file again in case it is damaged; otherwise convert it to a tiled pyramidal TIFF, for "
    "example with: "
    "vips tiffsave IMAGE SLIDE.tif --tile --pyramid --compression jpeg"
)


def open_reader(path: SlidePath) -> Reader:
    """Open a slide file with the first reader that can read it right.

    Args:
        path: A file, an OME-Zarr folder, a folder of one DICOM series, or a URL.

    Returns:
        The open reader: tiled TIFF, SVS and OME-TIFF are read directly, DICOM by OpenSlide or, where that reads
        less, directly, the rest by OpenSlide, zarr or Pillow.

    Raises:
        SlideError: No reader can; the message has what each of them said.
    """
    if isinstance(path, SlideUrl):
        return _open_remote(path)
    if not path.exists():
        raise SlideError(f"{path}: no such file or folder. Check the path.")
    if path.is_dir():
        if is_zarr_folder(path):
            return _open_zarr(path)
        return _open_dicom(path)
    # A file may be TIFF and DICOM at once; OpenSlide goes by its suffix too.
    if path.suffix.lower() not in TIFF_SUFFIXES and dicom_meta(path) is not None:
        return _open_dicom(path)
    said = []
    for name, open_one in _candidates(path):
        try:
            return open_one(path)
        except (DamagedSlideError, TooLargeError):
            raise
        except SlideError as error:
            said.append(f"{name}: {str(error).removeprefix(f'{path}: ')}")
    raise SlideError(f"{path}: no reader can open it. " + " | ".join(said) + f" {REMEDY}")


def _open_zarr(path: Path | SlideUrl) -> Reader:
    # zarr takes a fifth of a second to import, which most slides need not wait for.
    from wsi_deform.slide.zarr_reader import ZarrReader

    return ZarrReader(path)


def _open_remote(url: SlideUrl) -> Reader:
    """Open a slide on another machine: only what can be read in parts."""
    if is_zarr_url(url):
        return _open_zarr(url)
    source = RemoteFile(url)
    magic = source.read(0, 4)
    if magic not in TIFF_MAGIC:
        raise SlideError(
            f"{url}: not a TIFF (it starts with {magic!r}). Over a network, tiled TIFF, SVS, OME-TIFF and "
            f"OME-Zarr (whose name ends in .zarr) can be read. {DOWNLOAD}"
        )
    reader = TiffReader(source)
    special = reader.tiles.index.special
    if special is not None:
        raise SlideError(
            f"{url}: a slide of {special}, which needs OpenSlide, and OpenSlide reads files on this machine "
            f"only. {DOWNLOAD}"
        )
    return reader


def _open_dicom(path: Path) -> Reader:
    # pydicom takes a fifth of a second to import.
    from wsi_deform.slide.dicom.open import open_dicom

    return open_dicom(path)


def _open_czi(path: Path) -> Reader:
    from wsi_deform.slide.czi_reader import CziReader

    return CziReader(path)


def _candidates(path: Path) -> list[tuple[str, Callable[[Path], Reader]]]:
    direct, openslide, image = ("tiff", TiffReader), ("openslide", OpenSlideReader), ("image", ImageReader)
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise SlideError(f"{path}: cannot be read ({error}). Check its permissions.") from error
    refuse_container(path, magic, is_tiff=magic in TIFF_MAGIC)
    vendor = detect_vendor(path)
    if magic in TIFF_MAGIC:
        if vendor in DIRECT_VENDORS:
            return [direct, openslide]
        return [openslide]
    if magic == CZI_MAGIC[:4]:
        return [openslide, ("czi", _open_czi)]
    if vendor is not None:
        return [openslide]
    if magic.startswith((b"\x89PNG", b"\xff\xd8", b"BM")):
        return [image]
    return [direct, openslide, image]
