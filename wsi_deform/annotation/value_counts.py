"""How often each raw value occurs in a mask; of masks that are slow to read, known from the last time."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

from wsi_deform.annotation.mask_file import MaskFile, raw_value_counts
from wsi_deform.errors import AnnotationError, SlideError
from wsi_deform.files import write_json
from wsi_deform.geometry import Region
from wsi_deform.slide.identity import file_version
from wsi_deform.slide.levels.cache_folder import CACHE
from wsi_deform.texts import read_json

# Masks that decode to less are counted in the time that it takes to look them up.
KEPT_FROM_BYTES = 100 << 20
# Changes when values are counted in another way.
COUNT_VERSION = 1
SUFFIX = ".values.json"

logger = logging.getLogger(__name__)


def counted_values(
    path: Path | str, channel: int | None = None, *, colours: bool = False, part: Region | None = None
) -> dict[int, int]:
    """Count the raw values of a mask file, or take the counts of the same file from the cache folder.

    Args:
        path: TIFF or PNG.
        channel: Which channel holds the labels, where there are several.
        colours: Whether those of several channels without a name are colours, see ``MaskFile``.
        part: The mask pixels that count, or None for all; counts of a part are not kept.

    Returns:
        Raw value -> number of pixels, in rising order of values.

    Raises:
        AnnotationError: The mask cannot be read.

    Convention:
        A file is the same while its path, size, inode and time of change are.
    """
    path = Path(path)
    file = MaskFile(path, channel, colours=colours)
    if file.decoded_bytes < KEPT_FROM_BYTES or part is not None:
        return raw_value_counts(path, channel, colours=colours, part=part)
    # A file of some hundred bytes per large mask: too little to be worth a limit of its own.
    kept = CACHE.folder / f"{_key(path, channel, by_colour=file.by_colour)}{SUFFIX}"
    try:
        held = read_json(kept)
        return {int(value): int(number) for value, number in held.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        logger.debug("mask %s: no counts kept as %s", path, kept)
    counts = raw_value_counts(path, channel, colours=colours)
    try:
        write_json(kept, {str(value): number for value, number in counts.items()})
    except OSError as error:
        logger.info("mask %s: its counts are not kept for the next time (%s)", path, error)
    return counts


def _key(path: Path, channel: int | None, *, by_colour: bool) -> str:
    try:
        said = [COUNT_VERSION, str(path.resolve()), *file_version(path), "colours" if by_colour else channel]
    except SlideError as error:
        raise AnnotationError(f"mask {error}") from error
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:40]
