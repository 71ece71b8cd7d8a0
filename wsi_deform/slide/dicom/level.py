"""One level of a DICOM slide: which frame of which file lies where."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Size, tile_grid
from wsi_deform.slide.declared import check_block, check_filled, check_sizes
from wsi_deform.slide.dicom.codestream import codestream
from wsi_deform.slide.dicom.decode import UNCODED, decoded, is_rgb
from wsi_deform.slide.dicom.frames import Frames
from wsi_deform.slide.dicom.header import damaged
from wsi_deform.slide.dicom.instance import FramePlace, Instance
from wsi_deform.slide.dicom.syntaxes import CODECS

PHOTOMETRICS = {
    1: ("MONOCHROME1", "MONOCHROME2"),
    3: ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"),
}


class DicomLevel:
    """An image of a series, in one file or in the parts of a concatenation. Safe in threads.

    Attributes:
        instances: The headers of its files, in order of their frames.
        size: px.
        tile: Of a frame, px.
        planes: Number of focal planes.
        plane: The one that is read, the middle one.

    Convention:
        Frames that say nothing of their place fill the image row by row, then the focal planes, then the optical
        paths. Of n focal planes number ``n // 2`` from 0 is read, in order of their depth; of several optical paths
        the first.

    Source:
        DICOM PS3.3, C.7.6.17.3.
    """

    def __init__(self, instances: Sequence[Instance]) -> None:
        """Open the files of an image.

        Args:
            instances: Headers of files that share their UID, at least one.

        Raises:
            SlideError: Pixels of this kind are not read, frames are missing, or a file is damaged.
        """
        self.instances = tuple(sorted(instances, key=lambda one: one.first_frame))
        first = self.instances[0]
        self.size, self.tile, self.planes = first.size, first.tile, first.planes
        for instance in self.instances:
            check_pixels(instance)
            if (instance.size, instance.tile, instance.samples) != (first.size, first.tile, first.samples):
                raise damaged(
                    instance.path, f"another image than that of {first.path.name}, under the same UID"
                )
        self._check_parts()
        self._files = [Frames(instance) for instance in self.instances]
        self._places = self._sparse() if first.is_sparse else None
        if self._places is not None:
            check_filled(tile_grid(self.size, self.tile).area, len(self._places), first.path)
        if self._places is None:
            self._check_count()
        self.plane = self.planes // 2

    @property
    def path(self) -> str:
        """Its first file, for messages."""
        return str(self.instances[0].path)

    @property
    def spacings(self) -> tuple[tuple[float, float], ...]:
        """Um per pixel along x and y by PixelSpacing: that of the image, else each that its frames say, once."""
        said = self.instances[0].mpp
        if said is not None:
            return (said,)
        return tuple(dict.fromkeys(one for file in self._files for one in file.rest.spacings))

    def has_tile(self, column: int, row: int) -> bool:
        """Whether a tile is stored; a sparse image may leave some out."""
        return self._places is None or (column, row) in self._places

    def read_tile(self, column: int, row: int) -> NDArray[np.uint8]:
        """Decode the frame of a tile that is stored.

        Returns:
            (tile.height, tile.width, 3) RGB; not clipped at the image's edge.

        Raises:
            BadFrameError: It is damaged.
            SlideError: Its bytes are missing.
        """
        part, number = self._frame(column, row)
        return decoded(self._files[part].stored(number), self.instances[part])

    def contradicts_its_frames(self) -> bool:
        """Whether PhotometricInterpretation and the coded frames differ on what the channels are."""
        instance = self.instances[0]
        codec = CODECS[instance.meta.syntax]
        if codec in UNCODED or instance.samples == 1:
            return False
        said = is_rgb(instance, codestream(self._files[0].stored(0), codec))
        # Every JPEG 2000 frame with a transform decodes to RGB, however the file calls it.
        return said != (instance.photometric in ("RGB", "YBR_ICT", "YBR_RCT"))

    def has_bad_table(self) -> bool:
        """Whether an offset table does not lead to the frames; OpenSlide 4.0.1 follows it and kills the process."""
        return any(file.has_bad_table() for file in self._files)

    def check_edges(self) -> None:
        """Decode a tile of each edge: writers have stored edge tiles of the wrong size.

        Raises:
            BadFrameError: One cannot be decoded.
            SlideError: Its bytes are missing.
        """
        grid = tile_grid(self.size, self.tile)
        right, bottom = grid.width - 1, grid.height - 1
        for column, row in sorted({(0, 0), (right, 0), (0, bottom), (right, bottom)}):
            if self.has_tile(column, row):
                self.read_tile(column, row)

    def close(self) -> None:
        """Release the files; reading afterwards is an error."""
        for file in self._files:
            file.close()

    def _frame(self, column: int, row: int) -> tuple[int, int]:
        """Number of the file and of the frame in it."""
        if self._places is not None:
            return self._places[column, row]
        grid = tile_grid(self.size, self.tile)
        number = (self.plane * grid.height + row) * grid.width + column
        for part, instance in enumerate(self.instances):
            if instance.first_frame <= number < instance.first_frame + instance.frames:
                return part, number - instance.first_frame
        raise damaged(self.instances[0].path, f"no file with frame {number + 1}")

    def _check_parts(self) -> None:
        """All parts of a concatenation, one after the other."""
        first, expected = self.instances[0], 0
        for instance in self.instances:
            if instance.first_frame != expected:
                break
            expected += instance.frames
        else:
            if len(self.instances) >= first.parts:
                return
        raise SlideError(
            f"{first.path}: {len(self.instances)} of the {first.parts} files that this image is divided into. Needed "
            "all of them in one folder. Copy the whole series."
        )

    def _check_count(self) -> None:
        first = self.instances[0]
        frames = sum(instance.frames for instance in self.instances)
        needed = tile_grid(self.size, self.tile).area * self.planes * len(first.optical_paths)
        if frames != needed:
            raise SlideError(
                f"{first.path}: {frames} frames of {self.tile} px. Needed {needed} to fill {self.size} px (focal "
                f"planes: {self.planes}, optical paths: {len(first.optical_paths)}). Copy the whole series again, or "
                "export it again."
            )

    def _sparse(self) -> dict[tuple[int, int], tuple[int, int]]:
        """Tile -> file and frame, of the first optical path and the middle of the focal planes at each tile."""
        found: dict[tuple[int, int], list[tuple[float, int, int]]] = {}
        wanted = self._first_path([place for file in self._files for place in file.rest.places])
        for part, file in enumerate(self._files):
            for number, place in enumerate(file.rest.places):
                if place.path == wanted:
                    found.setdefault(self._tile_at(place, part), []).append((place.depth, part, number))
        for tile, frames in found.items():
            if len({depth for depth, _, _ in frames}) != len(frames):
                raise damaged(self.instances[0].path, f"two frames at column {tile[0]}, row {tile[1]}")
        self.planes = max((len(frames) for frames in found.values()), default=1)
        return {tile: sorted(frames)[len(frames) // 2][1:] for tile, frames in found.items()}

    def _first_path(self, places: Sequence[FramePlace]) -> str:
        paths = {place.path for place in places}
        return next(
            (name for name in self.instances[0].optical_paths if name in paths), min(paths, default="")
        )

    def _tile_at(self, place: FramePlace, part: int) -> tuple[int, int]:
        column, x = divmod(place.x, self.tile.width)
        row, y = divmod(place.y, self.tile.height)
        grid: Size = tile_grid(self.size, self.tile)
        if x or y or not (0 <= column < grid.width and 0 <= row < grid.height):
            raise SlideError(
                f"{self.instances[part].path}: a frame at ({place.x}, {place.y}). Needed frames of {self.tile} px side "
                f"by side in {self.size} px. Convert the slide to a tiled pyramidal TIFF with a program that reads it."
            )
        return column, row


def check_pixels(instance: Instance) -> None:
    """Refuse pixels that are not read, before any is.

    Raises:
        SlideError: They are not 8-bit RGB or gray, or in a codec that is not known; or a frame is too large.
    """
    path, syntax = instance.path, instance.meta.syntax
    if syntax not in CODECS:
        raise SlideError(
            f"{path}: pixels in transfer syntax {syntax or 'unknown'}. Needed one that is read: uncompressed, RLE, "
            "deflated, JPEG, JPEG lossless, JPEG-LS, JPEG 2000, HTJ2K or JPEG XL. Export the slide in one of these."
        )
    if instance.bits != (8, 8) or instance.is_signed:
        raise SlideError(
            f"{path}: {'signed ' if instance.is_signed else ''}pixels of {instance.bits[1]} bits in "
            f"{instance.bits[0]}. Needed 8 bits per channel; export the slide with 8 bits."
        )
    if instance.samples == 1 and len(instance.optical_paths) > 1:
        raise not_rgb(path, instance.path_names)
    if instance.photometric not in PHOTOMETRICS.get(instance.samples, ()):
        raise SlideError(
            f"{path}: {instance.samples} channels of photometric interpretation "
            f"{instance.photometric or 'unknown'}. Needed RGB, YBR or gray; export the slide in RGB."
        )
    if instance.photometric == "YBR_FULL_422" and CODECS[syntax] in UNCODED:
        raise SlideError(
            f"{path}: uncompressed pixels of YBR_FULL_422. Needed RGB or YBR_FULL; export the slide in RGB."
        )
    check_sizes([instance.size], path)
    check_block("frames", instance.tile, instance.tile.area * 3, path)


def not_rgb(path: object, names: Sequence[str]) -> SlideError:
    """A slide of several channels that are no colours."""
    return SlideError(
        f"{path}: {len(names)} channels of gray ({', '.join(names)}), as of fluorescence. Needed RGB: "
        "export the slide as a picture in RGB."
    )
