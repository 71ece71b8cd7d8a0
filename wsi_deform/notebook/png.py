"""Pictures as notebooks show them."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray


def png_of(picture: NDArray[np.uint8]) -> bytes:
    """The PNG file of a picture, (H, W, 3) uint8 RGB."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(picture).save(file, format="PNG")
    return file.getvalue()
