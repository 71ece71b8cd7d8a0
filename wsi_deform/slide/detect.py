"""Which reader serves which file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wsi_deform.errors import SlideError
from wsi_deform.slide.find import dicom_files, is_zarr_folder
from wsi_deform.slide.image_reader import ImageReader
from wsi_deform.slide.openslide_reader import OpenSlideReader, detect_vendor
from wsi_deform.slide.reader import Reader
from wsi_deform.slide.tiff_index import DamagedSlideError
from wsi_deform.slide.tiff_reader import TiffReader
from wsi_deform.slide.zarr_reader import ZarrReader

TIFF_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
# OpenSlide's names of the formats whose tiles need no more than the TIFF tags say.
DIRECT_VENDORS = (None, "aperio", "generic-tiff")

REMEDY = (
    "Copy the file again in case it is damaged; otherwise convert it to a tiled pyramidal TIFF, for "
    "example with: "
    "vips tiffsave IMAGE SLIDE.tif --tile --pyramid --compression jpeg"
)


def open_reader(path: Path) -> Reader:
    """Open a slide file with the first reader that can read it right.

    Args:
        path: A file, an OME-Zarr folder or a folder of one DICOM series.

    Returns:
        The open reader: tiled TIFF, SVS and OME-TIFF are read directly, the rest by OpenSlide, zarr or
        Pillow.

    Raises:
        SlideError: No reader can; the message has what each of them said.
    """
    if not path.exists():
        raise SlideError(f"{path}: no such file or folder. Check the path.")
    if path.is_dir():
        if is_zarr_folder(path):
            return ZarrReader(path)
        dicom = dicom_files(path)
        if not dicom:
            raise SlideError(
                f"{path}: a folder. Needed a slide file, an OME-Zarr folder or a folder with .dcm files."
            )
        path = dicom[0]
    said = []
    for name, open_one in _candidates(path):
        try:
            return open_one(path)
        except DamagedSlideError:
            raise
        except SlideError as error:
            said.append(f"{name}: {str(error).removeprefix(f'{path}: ')}")
    raise SlideError(f"{path}: no reader can open it. " + " | ".join(said) + f" {REMEDY}")


def _candidates(path: Path) -> list[tuple[str, Callable[[Path], Reader]]]:
    direct, openslide, image = ("tiff", TiffReader), ("openslide", OpenSlideReader), ("image", ImageReader)
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise SlideError(f"{path}: cannot be read ({error}). Check its permissions.") from error
    vendor = detect_vendor(path)
    if magic in TIFF_MAGIC:
        if vendor in DIRECT_VENDORS:
            return [direct, openslide]
        return [openslide]
    if vendor is not None:
        return [openslide]
    if magic.startswith((b"\x89PNG", b"\xff\xd8", b"BM")):
        return [image]
    return [direct, openslide, image]
