"""Formats that are known and not read: told by name or first bytes, and refused with what to do."""

from __future__ import annotations

from pathlib import Path

from wsi_deform.errors import SlideError

OLE_MAGIC = b"\xd0\xcf\x11\xe0"
SCANNER = "export it as TIFF, SVS or DICOM with the software of its scanner"
# What is said here was not tried: no such files could be had.
QUPATH = f"{SCANNER}, or as OME-TIFF with QuPath where that opens it"
# Suffix -> what it is, and how to get out of it. Of these only VSI may be a TIFF at the same time.
CONTAINERS = {
    ".vsi": (
        "an Olympus (Evident) VSI, whose pixels lie in .ets files in a folder of their own and whose own TIFF holds "
        "no more than a preview",
        QUPATH,
    ),
    ".isyntax": ("a Philips iSyntax", SCANNER),
    ".i2syntax": ("a Philips iSyntax", SCANNER),
    ".mds": ("a Motic MDS", SCANNER),
    ".mdsx": ("a Motic MDS", SCANNER),
    ".kfb": ("a KFBio KFB", SCANNER),
    ".sdpc": ("a Sqray SDPC", SCANNER),
}


def refuse_container(path: Path, magic: bytes, *, is_tiff: bool) -> None:
    """Refuse a file of a format that no reader here knows.

    Args:
        path: The file.
        magic: Its first bytes, four or more.
        is_tiff: Whether these are a TIFF's: a TIFF under another suffix is read.

    Raises:
        SlideError: It is of such a format; the message says which, and how to convert it.
    """
    suffix = path.suffix.lower()
    known = CONTAINERS.get(suffix)
    if known is None and magic.startswith(OLE_MAGIC):
        known = ("a Microsoft compound file, as of Motic MDS or Zeiss ZVI", SCANNER)
    if known is None or (is_tiff and suffix != ".vsi"):
        return
    what, remedy = known
    raise SlideError(
        f"{path}: {what}. Needed a format that is read (tiled TIFF, SVS, NDPI, MRXS, DICOM, OME-Zarr, ...): {remedy}."
    )
