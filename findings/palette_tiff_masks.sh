#!/usr/bin/env bash
# A mask of class numbers in a tiled TIFF with a colour table (PhotometricInterpretation 3), made so that viewers show it in
# colours, is another mask to each reader: OpenSlide 4.0.1 and libvips 8.18 give the colours and never the numbers, level by
# level, without a word and with no way to ask for them; tifffile and Pillow give the numbers.
# Seen, for 64 x 64 px of class 2 whose colour in the table is (10, 20, 30):
#   OpenSlide 4.0.1: (10, 20, 30)
#   libvips: 3 bands, [10.0, 20.0, 30.0]
#   tifffile: 2
#   Pillow: mode P, 2
# The same file without the table (PhotometricInterpretation 1) is 2 in all four. Who reads class numbers through OpenSlide
# or libvips gets red levels for classes. This script fails when one of the answers changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/mask.py" <<'PYTHON'
import sys

import numpy as np
import openslide
import pyvips
import tifffile
from PIL import Image

table = np.zeros((3, 256), np.uint16)
table[:, 2] = np.array([10, 20, 30]) * 257
labels = np.full((64, 64), 2, np.uint8)


def answers(path):
    with openslide.OpenSlide(path) as slide:
        yield f"OpenSlide {openslide.__library_version__}: {slide.read_region((5, 5), 0, (1, 1)).getpixel((0, 0))[:3]}"
    picture = pyvips.Image.new_from_file(path)
    yield f"libvips: {picture.bands} bands, {picture(5, 5)}"
    yield f"tifffile: {tifffile.imread(path)[5, 5]}"
    with Image.open(path) as opened:
        yield f"Pillow: mode {opened.mode}, {opened.getpixel((5, 5))}"


table_path, gray_path = f"{sys.argv[1]}/table.tif", f"{sys.argv[1]}/gray.tif"
tifffile.imwrite(table_path, labels, tile=(64, 64), photometric="palette", colormap=table)
tifffile.imwrite(gray_path, labels, tile=(64, 64), photometric="minisblack")
with_table, gray = list(answers(table_path)), list(answers(gray_path))
print("with a colour table:", *with_table, "without:", *gray, sep="\n")
expected = ["OpenSlide 4.0.1: (10, 20, 30)", "libvips: 3 bands, [10.0, 20.0, 30.0]", "tifffile: 2", "Pillow: mode P, 2"]
plain = ["OpenSlide 4.0.1: (2, 2, 2)", "libvips: 1 bands, [2.0]", "tifffile: 2", "Pillow: mode L, 2"]
sys.exit(with_table != expected or gray != plain)
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    openslide-bin==4.0.1.2 openslide-python==1.4.7 pyvips==3.2.0 pyvips-binary==8.18.7 tifffile==2026.3.3 pillow numpy
"$folder/venv/bin/python" "$folder/mask.py" "$folder"
