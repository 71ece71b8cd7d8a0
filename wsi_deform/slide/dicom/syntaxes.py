"""Transfer syntaxes: how the frames of a DICOM file are coded, and which of them are read."""

from __future__ import annotations

from enum import Enum

from wsi_deform.slide.dicom.meta import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT


class Codec(Enum):
    """How one frame is stored."""

    RAW = "uncompressed"
    RLE = "RLE"
    DEFLATE = "deflated frames"
    JPEG = "JPEG"
    JPEG_LOSSLESS = "JPEG lossless"
    JPEG_LS = "JPEG-LS"
    JPEG_2000 = "JPEG 2000"
    JPEG_XL = "JPEG XL"


_DICOM = IMPLICIT

CODECS = {
    IMPLICIT: Codec.RAW,
    EXPLICIT: Codec.RAW,
    DEFLATED: Codec.RAW,  # the dataset as a whole is deflated
    BIG_ENDIAN: Codec.RAW,
    f"{_DICOM}.5": Codec.RLE,
    f"{_DICOM}.8.1": Codec.DEFLATE,
    f"{_DICOM}.4.50": Codec.JPEG,
    f"{_DICOM}.4.51": Codec.JPEG,
    f"{_DICOM}.4.57": Codec.JPEG_LOSSLESS,
    f"{_DICOM}.4.70": Codec.JPEG_LOSSLESS,
    f"{_DICOM}.4.80": Codec.JPEG_LS,
    f"{_DICOM}.4.81": Codec.JPEG_LS,
    f"{_DICOM}.4.90": Codec.JPEG_2000,
    f"{_DICOM}.4.91": Codec.JPEG_2000,
    f"{_DICOM}.4.201": Codec.JPEG_2000,  # high throughput, which the decoder reads too
    f"{_DICOM}.4.202": Codec.JPEG_2000,
    f"{_DICOM}.4.203": Codec.JPEG_2000,
    f"{_DICOM}.4.110": Codec.JPEG_XL,
    f"{_DICOM}.4.111": Codec.JPEG_XL,
    f"{_DICOM}.4.112": Codec.JPEG_XL,
}
