"""Plain PNG, JPEG and BMP images, decoded once into memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Point, Region, Size, tile_region
from wsi_deform.slide.colour import composited
from wsi_deform.slide.reader import WHITE, Level, SlideInfo

TILE = Size(256, 256)
MAX_DECODED_BYTES = 1 << 30
EIGHT_BIT_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "YCbCr", "CMYK"}

# Pillow takes 89 megapixels for an attack; the check below is ours and says what to do.
Image.MAX_IMAGE_PIXELS = MAX_DECODED_BYTES // 3


class ImageReader:
    """A plain image as a slide of one level; implements ``Reader``.

    Convention:
        Pixels are served as stored: an EXIF rotation is not applied, so that a mask drawn on the stored
        pixels fits. The dpi of plain images is a printer's and never taken for um per pixel.
    """

    def __init__(self, path: str | Path) -> None:
        """Decode an image.

        Args:
            path: PNG, JPEG, BMP or any other image that Pillow knows.

        Raises:
            SlideError: Not an image, damaged, more than 8 bits per channel, or over 1 GiB decoded.
        """
        self.path = Path(path)
        try:
            with Image.open(self.path) as image:
                size = Size(*image.size)
                if size.area * 3 > MAX_DECODED_BYTES:
                    raise _too_large(self.path, f"{size} px decode to {size.area * 3} bytes")
                if image.mode not in EIGHT_BIT_MODES:
                    raise SlideError(
                        f"{path}: pixels of mode {image.mode}. Needed 8 bits per channel; convert the "
                        "image to 8-bit RGB or gray."
                    )
                vendor = f"{(image.format or 'plain').lower()}-image"
                self._pixels = _rgb(image)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise _too_large(self.path, str(error)) from error
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            raise SlideError(f"{path}: not a readable image ({error}).") from error
        self._pixels.setflags(write=False)
        self.info = SlideInfo(
            levels=(Level(size=size, downsample=Point(1.0, 1.0), tile=TILE),),
            mpp=None,
            vendor=vendor,
            bounds=Region.whole(size),
        )

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """Read one tile, (H, W, 3) uint8; see ``Reader``."""
        if not self._pixels.size:
            raise SlideError(f"{self.path}: reading from a closed slide. Open the slide again.")
        size = self.info.size
        region = tile_region(column, row, TILE, size)
        if level != 0 or column < 0 or row < 0 or region.is_empty:
            raise SlideError(
                f"{self.path}: tile (column {column}, row {row}) of level {level} wanted; the image has "
                f"level 0 of {size} px."
            )
        return self._pixels[region.y : region.bottom, region.x : region.right]

    def close(self) -> None:
        """Forget the pixels; reading afterwards is an error."""
        self._pixels = np.empty((0, 0, 3), np.uint8)


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        pixels = np.asarray(image.convert("RGBA"))
        return composited(pixels[..., :3], pixels[..., 3], WHITE)
    return np.array(image.convert("RGB"))


def _too_large(path: Path, found: str) -> SlideError:
    return SlideError(
        f"{path}: {found}; a plain image is decoded as a whole, at most {MAX_DECODED_BYTES} bytes. "
        "Convert it to a tiled pyramidal TIFF, "
        "for example with: vips tiffsave IMAGE SLIDE.tif --tile --pyramid --compression jpeg"
    )
