"""From the stored bytes of a DICOM frame to RGB."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_deform.geometry import Size
from wsi_deform.slide.codec_header import declared_jpeg, has_too_many_scans, jpeg_head
from wsi_deform.slide.colour import rgb_from_gray
from wsi_deform.slide.dicom.codestream import BadFrameError, Codestream, codestream
from wsi_deform.slide.dicom.instance import Instance
from wsi_deform.slide.dicom.syntaxes import CODECS, Codec
from wsi_deform.slide.jpeg_damage import jpeg_damage

# Decoders raise RuntimeError and ValueError, and on scrambled bytes nearly anything.
DECODE_ERRORS = (
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zlib.error,
)
RGB = "RGB"
GRAY = ("MONOCHROME1", "MONOCHROME2")
UNCODED = (Codec.RAW, Codec.RLE, Codec.DEFLATE)


def decoded(stored: bytes, instance: Instance) -> NDArray[np.uint8]:
    """Decode a frame.

    Args:
        stored: Its bytes.
        instance: The header of its file, with a codec and a photometric interpretation that are read.

    Returns:
        (tile.height, tile.width, 3) RGB.

    Raises:
        BadFrameError: It is damaged or not as the header says; nothing large has been allocated for it.

    Convention:
        Where the header of a JPEG or JPEG 2000 frame says whether its channels are RGB, it is believed, and the
        file's PhotometricInterpretation where it does not.
    """
    codec, tile = CODECS[instance.meta.syntax], instance.tile
    header = None if codec in UNCODED else _checked(codestream(stored, codec), instance)
    if codec is Codec.JPEG and declared_jpeg(jpeg_head(stored))[1] and has_too_many_scans(stored):
        raise BadFrameError("its JPEG has more scans than any program writes")
    try:
        pixels = _pixels(stored, instance, codec, header)
    except BadFrameError:
        raise
    except DECODE_ERRORS as error:
        raise BadFrameError(f"{type(error).__name__}: {error}") from error
    if pixels.dtype != np.uint8 or pixels.shape[:2] != tile.shape or pixels.shape[2:] not in ((), (1,), (3,)):
        raise BadFrameError(f"decodes to {pixels.shape} {pixels.dtype}, needed {tile} px of 8 bits")
    if pixels.shape[2:] != (3,):
        return rgb_from_gray(255 - pixels if instance.photometric == "MONOCHROME1" else pixels)
    # The decoder of JPEG makes RGB of what it decodes.
    if codec is not Codec.JPEG and not is_rgb(instance, header):
        pixels = _rgb_from_ybr(pixels)
    return np.ascontiguousarray(pixels)


def is_rgb(instance: Instance, header: Codestream | None) -> bool:
    """Whether the channels of a frame are red, green and blue; else they are luma and chroma."""
    if header is None or header.is_rgb is None:
        return instance.photometric == RGB
    return header.is_rgb


def _checked(header: Codestream, instance: Instance) -> Codestream:
    size = Size(max(header.width, 1), max(header.height, 1))
    if size != instance.tile:
        raise BadFrameError(f"a frame of {size} px where the file declares {instance.tile}")
    if header.channels not in (0, instance.samples) or header.bits not in (0, 8):
        raise BadFrameError(
            f"{header.channels} channels of {header.bits} bits where the file declares {instance.samples} of 8"
        )
    return header


def _pixels(stored: bytes, instance: Instance, codec: Codec, header: Codestream | None) -> NDArray[Any]:
    """The channels of a frame, (H, W) or (H, W, channels)."""
    if codec in UNCODED:
        return _uncoded(stored, instance, codec)
    if codec is Codec.JPEG:
        if instance.samples == 1:
            return _whole(imagecodecs.jpeg8_decode(stored), stored)
        space = "rgb" if is_rgb(instance, header) else "ycbcr"
        return _whole(imagecodecs.jpeg8_decode(stored, colorspace=space, outcolorspace="rgb"), stored)
    decoders = {
        Codec.JPEG_LOSSLESS: imagecodecs.jpegsof3_decode,
        Codec.JPEG_LS: imagecodecs.jpegls_decode,
        Codec.JPEG_2000: imagecodecs.jpeg2k_decode,
        Codec.JPEG_XL: imagecodecs.jpegxl_decode,
    }
    return _array(decoders[codec](stored))


def _uncoded(stored: bytes, instance: Instance, codec: Codec) -> NDArray[np.uint8]:
    """Samples as they are, channel by channel or pixel by pixel."""
    tile, samples = instance.tile, instance.samples
    wanted = tile.area * samples
    is_planar = instance.is_planar
    if codec is Codec.RLE:
        segments = struct.unpack_from("<I", stored)[0]
        if segments != samples:
            raise BadFrameError(f"{segments} segments of RLE, needed {samples}")
        flat = np.frombuffer(imagecodecs.dicomrle_decode(stored, "u1", out=wanted), np.uint8)
        is_planar = True
    else:
        # Frames of an odd number of bytes are padded.
        data = zlib.decompressobj(-15).decompress(stored, wanted) if codec is Codec.DEFLATE else stored
        flat = np.frombuffer(data, np.uint8)
    if len(flat) != wanted:
        raise BadFrameError(f"{len(flat)} bytes, needed {wanted}")
    if is_planar:
        return np.moveaxis(flat.reshape(samples, *tile.shape), 0, -1)
    return flat.reshape(*tile.shape, samples)


def _array(pixels: Any) -> NDArray[Any]:
    return np.asarray(pixels)


def _whole(pixels: Any, stored: bytes) -> NDArray[Any]:
    """What a JPEG decoded to, unless it lacks data.

    Raises:
        BadFrameError: It does.
    """
    if damage := jpeg_damage(_array(pixels), stored, jpeg_head(stored)):
        raise BadFrameError(f"its JPEG has {damage}")
    return _array(pixels)


def _rgb_from_ybr(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Full-range luma and chroma, as JPEG and DICOM define them, to RGB."""
    size = pixels.shape[1], pixels.shape[0]
    image = Image.frombytes("YCbCr", size, np.ascontiguousarray(pixels).tobytes())
    return np.array(image.convert("RGB"))
