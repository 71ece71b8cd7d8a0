"""The overlay of a slide as a file: classes over the thumbnail, with the slide's name, a scale bar and a legend."""

from __future__ import annotations

import io
import re
from pathlib import Path

from PIL import Image

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.errors import MaskError
from wsi_deform.files import write_aside
from wsi_deform.geometry import Size
from wsi_deform.look.lowres import thumbnail
from wsi_deform.mask.caption import captioned, legend_of, title_rows, title_strip
from wsi_deform.mask.overlay import label_picture_of_mask, overlay
from wsi_deform.mask.scale_bar import scale_bar
from wsi_deform.slide.slide import Slide

OVERLAY_PX = 2048
JPEG_QUALITY = 88
_TITLED = re.compile(rb"wsi-deform picture (\d{1,5}) x (\d{1,5}) px below its title")


def write_overlay(path: Path, slide: Slide, mask: Path, classes: ClassTable) -> None:
    """Write the thumbnail with the classes of a mask drawn over it as a JPEG, whole or absent.

    Args:
        path: The JPEG. Replaced if it exists.
        slide: The slide, open.
        mask: Its mask.
        classes: Names and colours.

    Raises:
        SlideError: The slide cannot be read.
        MaskError: The mask cannot be read.

    Convention:
        The picture is ``OVERLAY_PX`` px long at most; name, bar and legend are beside it, not over it. The comment
        of the file says where the picture lies, so that ``renamed_overlay`` finds the name.
    """
    picture = thumbnail(slide, OVERLAY_PX)
    size = Size(picture.shape[1], picture.shape[0])
    labels = label_picture_of_mask(mask, size)
    picture = overlay(picture, labels, classes.colours, background=classes.background)
    entries = legend_of(labels, classes, size=slide.size, mpp=slide.mpp_xy)
    del labels
    drawn = captioned(picture, title=slide.slide_id, bar=scale_bar(slide.size, slide.mpp_xy), entries=entries)
    comment = f"wsi-deform picture {size.width} x {size.height} px below its title"
    with write_aside(path) as aside:
        Image.fromarray(drawn).save(aside, quality=JPEG_QUALITY, comment=comment.encode())


def picture_in_overlay(opened: Image.Image) -> tuple[int, int, int, int] | None:
    """Where the picture lies in an overlay: left, top, right, bottom, px; None in one of an earlier version.

    Args:
        opened: An overlay that ``write_overlay`` wrote, whose comment says it.
    """
    comment = opened.info.get("comment", b"")
    found = _TITLED.fullmatch(comment if isinstance(comment, bytes) else b"")
    if found is None:
        return None
    width, height = int(found[1]), int(found[2])
    top = title_rows(max(width, height))
    return (0, top, width, top + height) if width <= opened.width and top + height <= opened.height else None


def renamed_overlay(path: Path, name: str, *, aspect: float) -> bytes:
    """An overlay with another name of the slide written above it.

    Args:
        path: What ``write_overlay`` wrote, of this version or of an earlier one.
        name: The other name.
        aspect: Width / height of the slide, um.

    Returns:
        A JPEG. That of an earlier version, which has no name in it, is returned as it is.

    Raises:
        MaskError: It cannot be read, or nobody can say where the name is.
    """
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as opened:
            place = picture_in_overlay(opened)
            if place is None:
                if abs(opened.width - opened.height * aspect) <= 1 + aspect:
                    return data
                raise MaskError(
                    f"overlay {path}: {opened.width} x {opened.height} px, not the proportions of the slide, without "
                    "the comment that says where its name is. Segment with --overwrite, or delete it and segment "
                    "again, to have it made anew."
                )
            _, top, right, bottom = place
            strip = title_strip(name, Size(right, bottom - top), opened.width)
            drawn = opened.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise MaskError(f"overlay {path}: cannot be read ({error}). Delete it, and segment again.") from error
    drawn.paste(strip, (0, 0))
    written = io.BytesIO()
    drawn.save(written, format="JPEG", quality=JPEG_QUALITY)
    return written.getvalue()
