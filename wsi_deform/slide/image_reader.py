"""Plain PNG, JPEG and BMP images, decoded as a whole; so many of them stay decoded as fit a limit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Point, Region, Size, tile_region
from wsi_deform.slide.cache import PICTURES
from wsi_deform.slide.channels import GRAYSCALE
from wsi_deform.slide.choice import refuse_others
from wsi_deform.slide.codec_header import jpeg_head
from wsi_deform.slide.colour import ORIENTATION_REMARK, UNTURNED, composited, range_remark, to_8_bit
from wsi_deform.slide.identity import file_version
from wsi_deform.slide.jpeg_damage import jpeg_damage
from wsi_deform.slide.picture import opened_picture
from wsi_deform.slide.reader import WHITE, Level, SlideInfo

TILE = Size(256, 256)
GRAY_MODES = {"1", "L", "LA", "I"}
EXIF_ORIENTATION = 0x0112
EIGHT_BIT_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "YCbCr"}


class ImageReader:
    """A plain image as a slide of one level; implements ``Reader``.

    A study may have thousands of images open: their pixels are in ``PICTURES``, and an image that had to leave is
    decoded again when it is read again.

    Attributes:
        is_picture: Always True: it is decoded as a whole, and nothing of it need stay in memory.

    Convention:
        Pixels are served as stored: an EXIF rotation is not applied, so that a mask drawn on the stored
        pixels fits. The dpi of plain images is a printer's and never taken for um per pixel.
    """

    is_picture = True

    def __init__(self, path: str | Path, asked: str = "") -> None:
        """Decode an image.

        Args:
            path: PNG, JPEG, BMP or any other image that Pillow knows.
            asked: The name of one of its images, of which it has none.

        Raises:
            SlideError: Damaged, gray of more than 8 bits, larger than ``limits.PICTURE`` allows, or an image of it is
                named.
            NotThisReaderError: Not an image that Pillow knows.
        """
        self.path = Path(path)
        refuse_others((), asked, self.path)
        with opened_picture(self.path, bands=3) as image:
            size = Size(*image.size)
            remarks = _remarks(image, self.path)
            vendor = f"{(image.format or 'plain').lower()}-image"
            self._key = (str(self.path.absolute()), *file_version(self.path))
            # Decoded now, so that a damaged one is refused here.
            PICTURES.get(self._key, lambda: self._whole(image))
        self._is_open = True
        self.info = SlideInfo(
            levels=(Level(size=size, downsample=Point(1.0, 1.0), tile=TILE),),
            mpp=None,
            vendor=vendor,
            bounds=Region.whole(size),
            remarks=remarks,
        )

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """Read one tile, (H, W, 3) uint8; see ``Reader``."""
        if not self._is_open:
            raise SlideError(f"{self.path}: reading from a closed slide. Open the slide again.")
        size = self.info.size
        region = tile_region(column, row, TILE, size)
        if level != 0 or column < 0 or row < 0 or region.is_empty:
            raise SlideError(
                f"{self.path}: tile (column {column}, row {row}) of level {level} wanted; the image has "
                f"level 0 of {size} px."
            )
        pixels = PICTURES.get(self._key, self._decoded)
        # A copy: a tile that is kept must not keep the image.
        return pixels[region.y : region.bottom, region.x : region.right].copy()

    def close(self) -> None:
        """Reading afterwards is an error."""
        self._is_open = False

    def _decoded(self) -> NDArray[np.uint8]:
        with opened_picture(self.path, bands=3) as image:
            pixels = self._whole(image)
        if pixels.shape[:2] != self.info.size.shape:
            raise SlideError(
                f"{self.path}: was {self.info.size} px and is {pixels.shape[1]} x {pixels.shape[0]} px now. Needed "
                "a file that stays as it is. Open the slide again."
            )
        return pixels

    def _whole(self, image: Image.Image) -> NDArray[np.uint8]:
        """Decode an open picture."""
        pixels = _rgb(image)
        stored = self.path.read_bytes() if image.format == "JPEG" else b""
        if stored and (damage := jpeg_damage(pixels, stored, jpeg_head(stored))):
            raise SlideError(
                f"{self.path}: its JPEG has {damage}. The file is damaged: copy or download it again."
            )
        return pixels


def _remarks(image: Image.Image, path: Path) -> tuple[str, ...]:
    """Refuse gray of more than 8 bits; remarks on gray, on deep RGB, and on a picture that viewers turn."""
    # What is stored of a PNG, of whose 16 bits Pillow keeps the upper 8 without a word: "RGB;16B", "LA;16B".
    stored = str(image.tile[0][-1]) if image.format == "PNG" and image.tile else image.mode
    depth, is_gray = 16 if "16" in stored else 8, stored.partition(";")[0] in GRAY_MODES
    if image.mode == "CMYK":
        raise SlideError(
            f"{path}: colours of inks (CMYK). Needed RGB, or gray. Convert it, by its own profile: vips icc_transform "
            "IMAGE 'SLIDE.tif[tile,pyramid,compression=deflate]' srgb"
        )
    if image.mode not in EIGHT_BIT_MODES or (is_gray and depth > 8):
        found = f"{depth} bits and gray" if depth > 8 else f"mode {image.mode}"
        raise SlideError(
            f"{path}: pixels are {found}. Needed 8 bits per channel, or 16 of RGB. {to_8_bit(65535)}"
        )
    # Not asked for where there is none: Pillow would decode a PNG to look behind its pixels.
    orientation = image.getexif().get(EXIF_ORIENTATION, UNTURNED) if "exif" in image.info else UNTURNED
    frames = getattr(image, "n_frames", 1)
    return (
        *((f"{frames} pictures in the file; the first is read",) if frames > 1 else ()),
        *((GRAYSCALE,) if is_gray else ()),
        *((range_remark(depth, depth),) if depth > 8 else ()),
        *((ORIENTATION_REMARK.format(orientation),) if orientation != UNTURNED else ()),
    )


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        pixels = np.asarray(image.convert("RGBA"))
        return composited(pixels[..., :3], pixels[..., 3], WHITE)
    return np.array(image.convert("RGB"))
