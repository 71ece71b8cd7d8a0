"""What an NDPI says of its light, which OpenSlide passes over."""

from __future__ import annotations

import struct
from pathlib import Path

import tifffile

from wsi_deform.slide.tiff.first_page import first_page

FILTER_SET, WAVELENGTH_NM = 65434, 65451
TIFF_MAGIC = (b"II", b"MM")


def ndpi_remarks(path: Path) -> tuple[str, ...]:
    """A remark on a Hamamatsu slide that was scanned through a filter of fluorescence.

    Args:
        path: An NDPI, or another file of Hamamatsu's that OpenSlide reads.

    Returns:
        The remark; none for transmitted light, of which no wavelength is written, and for a file that cannot be read.
    """
    try:
        with path.open("rb") as file:
            if file.read(2) not in TIFF_MAGIC:
                return ()  # VMS and VMU are text
            page = first_page(file, is_ndpi=True)
            if page is not None and (FILTER_SET not in page.entries or page.is_zero(WAVELENGTH_NM)):
                return ()  # nearly always, and the file need not be parsed
            file.seek(0)
            with tifffile.TiffFile(file, is_ndpi=True) as tif:
                tags = tif.pages.first.tags
                name, wavelength = tags.valueof(FILTER_SET), tags.valueof(WAVELENGTH_NM)
    except (OSError, ValueError, LookupError, TypeError, struct.error, tifffile.TiffFileError):
        return ()  # OpenSlide has opened it
    if (
        not isinstance(name, str)
        or not name.strip()
        or not isinstance(wavelength, int | float)
        or wavelength <= 0
    ):
        return ()
    return (
        f"fluorescence ({name.strip()[:60]}, {wavelength:g} nm), stored as a picture; models have seen stained tissue "
        "in transmitted light",
    )
