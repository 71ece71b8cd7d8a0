#!/usr/bin/env bash
# OpenSlide 4.0.0 (openslide-bin 4.0.0.2) and 4.0.1 (4.0.1.2) give other colours of the same DICOM slide, where its JPEG frames
# hold RGB without an Adobe marker, as Aperio's scanners write them: PhotometricInterpretation says RGB, 4.0.0 passes over it
# and takes the frames for YCbCr, 4.0.1 believes it. Neither says anything.
# Seen, for one colour (200, 100, 150) in JPEG of quality 95, mean of the picture:
#   OpenSlide 4.0.0: [231, 194, 150], 94 steps beside
#   OpenSlide 4.0.1: [200, 100, 150], 0 steps beside
# A model that was trained with one sees other stains with the other. This script fails when one of the two answers changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/slide.py" <<'PYTHON'
import io
import sys

import numpy as np
import openslide
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, generate_uid

SIDE = 128
COLOUR = (200, 100, 150)


def frame():
    out = io.BytesIO()
    pixels = np.full((SIDE, SIDE, 3), COLOUR, np.uint8)
    Image.fromarray(pixels).save(out, "JPEG", quality=95, keep_rgb=True)
    stored = out.getvalue()
    # The Adobe marker, FF EE and its length, goes: as stored by scanners that rely on PhotometricInterpretation.
    at = stored.find(b"\xff\xee")
    if at >= 0:
        length = int.from_bytes(stored[at + 2 : at + 4], "big")
        stored = stored[:at] + stored[at + 2 + length :]
    # Components are named 0, 1, 2 here, not R, G and B, from which some decoders guess.
    start = stored.find(b"\xff\xc0")
    scan = stored.find(b"\xff\xda")
    changed = bytearray(stored)
    for number in range(3):
        changed[start + 10 + 3 * number] = number
        changed[scan + 5 + 2 * number] = number
    return bytes(changed)


def write(path):
    data, measures, group, optical = Dataset(), Dataset(), Dataset(), Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.50")
    data.SOPClassUID, data.SOPInstanceUID = UID("1.2.840.10008.5.1.4.1.1.77.1.6"), generate_uid()
    data.Modality, data.StudyInstanceUID, data.SeriesInstanceUID = "SM", "1.2", "1.2.3"
    data.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.Rows = data.Columns = SIDE
    data.TotalPixelMatrixColumns, data.TotalPixelMatrixRows = 2 * SIDE, 2 * SIDE
    data.TotalPixelMatrixFocalPlanes, data.DimensionOrganizationType = 1, "TILED_FULL"
    optical.OpticalPathIdentifier = "0"
    data.NumberOfOpticalPaths, data.OpticalPathSequence = 1, [optical]
    measures.PixelSpacing = [0.0005, 0.0005]
    group.PixelMeasuresSequence = [measures]
    data.SharedFunctionalGroupsSequence = [group]
    data.NumberOfFrames, data.PixelData = 4, encapsulate([frame()] * 4)
    pydicom.dcmwrite(path, data, enforce_file_format=True)


path, beside = f"{sys.argv[1]}/slide.dcm", int(sys.argv[2])
write(path)
with openslide.OpenSlide(path) as slide:
    seen = np.asarray(slide.read_region((0, 0), 0, slide.dimensions))[..., :3].reshape(-1, 3).mean(axis=0)
off = int(np.abs(seen - COLOUR).max().round())
print(f"OpenSlide {openslide.__library_version__}: {seen.round().astype(int).tolist()}, {off} steps beside")
sys.exit(not (off > 50 if beside else off <= 1))
PYTHON
for case in "4.0.0.2 1" "4.0.1.2 0"; do
    read -r version beside <<< "$case"
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/python" -m pip install --quiet --disable-pip-version-check \
        "openslide-bin==$version" openslide-python==1.4.1 pydicom==3.0.2 numpy pillow
    mkdir "$folder/slide-$version"
    "$folder/$version/bin/python" "$folder/slide.py" "$folder/slide-$version" "$beside"
done
