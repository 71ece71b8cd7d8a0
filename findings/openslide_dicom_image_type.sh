#!/usr/bin/env bash
# OpenSlide 4.0.1 (openslide-bin 4.0.1.2): a DICOM slide whose finest level has a third value of ImageType that it does not
# know is opened all the same, even when that very file is named: it passes over it and serves the next level as level 0,
# with that level's um per pixel, and no error. (A misspelt first value does no harm.)
# Seen, for a slide of 512 x 256 px at 0.5 um per px in two files, the finer with ImageType ORIGINAL\PRIMARY\VOLUM\NONE (a
# letter missing, as ORGINAL and LABLE are written by real converters), the coarser DERIVED\PRIMARY\VOLUME\RESAMPLED:
#   VOLUME: levels ((512, 256), (256, 128)) mpp 0.5
#   VOLUM: levels ((256, 128),) mpp 1
# Who works from it segments at half the resolution without a word. This script fails when either of the two answers changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/slide.py" <<'PYTHON'
import io
import sys
from pathlib import Path

import numpy as np
import openslide
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, generate_uid

SIDE = 128
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"


def write(path, width, height, mpp, image_type):
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([x % 256, y % 256, (x + y) % 256], axis=-1).astype(np.uint8)
    frames = []
    for top in range(0, height, SIDE):
        for left in range(0, width, SIDE):
            out = io.BytesIO()
            Image.fromarray(pixels[top : top + SIDE, left : left + SIDE]).save(out, "JPEG", quality=90)
            frames.append(out.getvalue())
    data, measures, group, optical = Dataset(), Dataset(), Dataset(), Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = UID(JPEG_BASELINE)
    data.SOPClassUID, data.SOPInstanceUID = UID(WHOLE_SLIDE), generate_uid()
    data.Modality, data.StudyInstanceUID, data.SeriesInstanceUID = "SM", "1.2", "1.2.3"
    data.ImageType = image_type
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "YBR_FULL_422", 0
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.Rows = data.Columns = SIDE
    data.TotalPixelMatrixColumns, data.TotalPixelMatrixRows = width, height
    data.TotalPixelMatrixFocalPlanes, data.DimensionOrganizationType = 1, "TILED_FULL"
    optical.OpticalPathIdentifier = "0"
    data.NumberOfOpticalPaths, data.OpticalPathSequence = 1, [optical]
    measures.PixelSpacing = [mpp / 1000, mpp / 1000]
    group.PixelMeasuresSequence = [measures]
    data.SharedFunctionalGroupsSequence = [group]
    data.NumberOfFrames, data.PixelData = len(frames), encapsulate(frames)
    pydicom.dcmwrite(path, data, enforce_file_format=True)


answers = []
for word in ("VOLUME", "VOLUM"):
    case = Path(sys.argv[1], word)
    case.mkdir()
    write(case / "fine.dcm", 512, 256, 0.5, ["ORIGINAL", "PRIMARY", word, "NONE"])
    write(case / "coarse.dcm", 256, 128, 1.0, ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"])
    with openslide.OpenSlide(case / "fine.dcm") as slide:
        answers.append(f"{word}: levels {slide.level_dimensions} mpp {float(slide.properties['openslide.mpp-x']):g}")
print(f"OpenSlide {openslide.__library_version__}", *answers, sep="\n")
sys.exit(answers != ["VOLUME: levels ((512, 256), (256, 128)) mpp 0.5", "VOLUM: levels ((256, 128),) mpp 1"])
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    openslide-bin==4.0.1.2 openslide-python==1.4.7 pydicom==3.0.2 numpy pillow
"$folder/venv/bin/python" "$folder/slide.py" "$folder"
