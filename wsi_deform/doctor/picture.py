"""A tiny drawn picture in the formats of slides, and how near what was read comes to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE_PX = 64
MPP = 0.5
# What lossy codecs may change of a soft picture; a wrong colour or place is far off.
LOSSY = 24
WHOLE_SLIDE_CLASS = "1.2.840.10008.5.1.4.1.1.77.1.6"


def picture() -> NDArray[np.uint8]:
    """(64, 64, 3) uint8 RGB: a soft ramp in each channel, another one in each, so that exchanges show."""
    ramp = np.linspace(0, 255, SIDE_PX)
    x, y = np.meshgrid(ramp, ramp)
    return np.stack([x, y, 255 - (x + y) / 2], axis=-1).astype(np.uint8)


def check_alike(found: NDArray[Any], wanted: NDArray[Any], *, tolerance: int = 0) -> None:
    """Refuse pixels that are not those that were drawn.

    Raises:
        ValueError: They have another shape, or differ by more than the tolerance.
    """
    if found.shape != wanted.shape:
        raise ValueError(f"read as {found.shape}, drawn as {wanted.shape}")
    most = int(np.abs(found.astype(np.int16) - wanted.astype(np.int16)).max())
    if most > tolerance:
        raise ValueError(f"pixels differ by up to {most} of 255 from those that were drawn")


def write_tiff(path: Path, **how: Any) -> Path:
    """Write the picture as a tiled TIFF of one tile, with tifffile's own words for compression."""
    import tifffile

    tifffile.imwrite(path, picture(), tile=(SIDE_PX, SIDE_PX), photometric="rgb", metadata=None, **how)
    return path


def write_zarr(path: Path) -> Path:
    """Write the picture as an OME-Zarr of version 0.4 with one level."""
    import zarr

    pixels = np.moveaxis(picture(), -1, 0)
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    array = group.create_array("0", shape=pixels.shape, chunks=pixels.shape, dtype="uint8")
    array[...] = pixels
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    scale = [{"type": "scale", "scale": [1.0, MPP, MPP]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    return path


def write_dicom(path: Path) -> Path:
    """Write the picture as a DICOM slide of one uncompressed frame."""
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

    slide, measures, group, light = Dataset(), Dataset(), Dataset(), Dataset()
    slide.file_meta = FileMetaDataset()
    slide.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slide.SOPClassUID, slide.SOPInstanceUID = UID(WHOLE_SLIDE_CLASS), generate_uid()
    slide.StudyInstanceUID, slide.SeriesInstanceUID, slide.Modality = generate_uid(), generate_uid(), "SM"
    slide.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "NONE"]
    slide.SamplesPerPixel, slide.PhotometricInterpretation, slide.PlanarConfiguration = 3, "RGB", 0
    slide.Rows = slide.Columns = slide.TotalPixelMatrixRows = slide.TotalPixelMatrixColumns = SIDE_PX
    slide.BitsAllocated, slide.BitsStored, slide.HighBit, slide.PixelRepresentation = 8, 8, 7, 0
    slide.DimensionOrganizationType = "TILED_FULL"
    light.OpticalPathIdentifier = "0"
    slide.NumberOfOpticalPaths, slide.TotalPixelMatrixFocalPlanes, slide.NumberOfFrames = 1, 1, 1
    slide.OpticalPathSequence = [light]
    measures.PixelSpacing = [MPP / 1000, MPP / 1000]
    group.PixelMeasuresSequence = [measures]
    slide.SharedFunctionalGroupsSequence = [group]
    slide.PixelData = picture().tobytes()
    slide["PixelData"].VR = "OB"
    pydicom.dcmwrite(path, slide, enforce_file_format=True)
    return path


def write_czi(path: Path) -> Path:
    """Write the picture as a CZI, with Zeiss' library."""
    from pylibCZIrw import czi

    with czi.create_czi(str(path)) as writer:
        writer.write(np.ascontiguousarray(picture()[..., ::-1]), plane={})
        writer.write_metadata("drawn", scale_x=MPP * 1e-6, scale_y=MPP * 1e-6)
    return path
