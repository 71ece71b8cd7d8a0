"""The slides of several paths together, and of those the ones whose names end as wanted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from wsi_deform.distribute.sources import MANIFEST_SUFFIXES, SlideSource, distinct_names, slide_sources
from wsi_deform.errors import SlideError
from wsi_deform.manifest.rows import Split
from wsi_deform.paths import id_key, split_image
from wsi_deform.slide.path import SlidePath


def selected_sources(
    paths: Sequence[SlidePath],
    *,
    out: Path,
    mpp: float | None = None,
    split: Split | None = None,
    suffixes: Iterable[str] = (),
) -> tuple[SlideSource, ...]:
    """All slides that some paths stand for; none is opened.

    Args:
        paths: Each as ``slide_sources`` takes it.
        out: As there; so are ``mpp`` and ``split``.
        mpp: Level-0 um per pixel of all slides, or None.
        split: Of manifests, only the rows of this split, or None.
        suffixes: Only slides whose file names end so, with or without a dot, in any case; empty takes all.

    Returns:
        At least one slide, in the order of the paths; a slide that two of them stand for comes once.

    Raises:
        SlideError: As ``slide_sources``; or no name ends as wanted; or slides of different paths have one id that a
            manifest gave, so that it cannot be changed.
        ManifestError: As ``slide_sources``.
        MaskError: As ``slide_sources``.

    Convention:
        ``suffixes`` leaves the names of the others as they are. Slides of different paths that would share a name are
        named as those of one folder are, from the lowest folder that holds them.
    """
    found: dict[object, SlideSource] = {}
    named: set[object] = set()
    for path in paths:
        sources = slide_sources(path, out=out, mpp=mpp, split=split)
        for source in sources:
            place = (source.path.absolute() if isinstance(source.path, Path) else source.path, source.region)
            if place not in found:
                found[place] = source
                if path.suffix.lower() in MANIFEST_SUFFIXES:
                    named.add(place)
    chosen = [(place, source) for place, source in found.items() if _ends(source, suffixes)]
    if not chosen:
        raise SlideError(
            f"slides: none of {len(found)} has a name that ends in {', '.join(sorted(set(suffixes)))}. Needed one or "
            "more. Choose another --ext, or leave it out."
        )
    return _told_apart(
        [source for _, source in chosen], {id(each) for place, each in chosen if place in named}
    )


def _ends(source: SlideSource, suffixes: Iterable[str]) -> bool:
    """Whether a slide's name ends as wanted; what has a problem and no suffix, such as a folder, is never left out."""
    wanted = tuple(f".{each.lower().lstrip('.')}" for each in suffixes)
    path = split_image(source.path)[0] if isinstance(source.path, Path) else source.path
    return not wanted or path.name.lower().endswith(wanted) or bool(source.problem and not path.suffix)


def _told_apart(sources: Sequence[SlideSource], fixed: set[int]) -> tuple[SlideSource, ...]:
    """The slides with a name of their own each."""
    counts = Counter(id_key(each.slide_id) for each in sources)
    alike = [each for each in sources if counts[id_key(each.slide_id)] > 1]
    if not alike:
        return tuple(sources)
    free = [each for each in alike if id(each) not in fixed and isinstance(each.path, Path)]
    paths = [each.path.absolute() for each in free if isinstance(each.path, Path)]
    names: dict[int, str] = {}
    if paths:
        above = Path(os.path.commonpath([path.parent for path in paths]))
        names = {id(each): name for each, name in zip(free, distinct_names(paths, above), strict=True)}
    result = tuple(replace(each, slide_id=names[id(each)]) if id(each) in names else each for each in sources)
    counts = Counter(id_key(each.slide_id) for each in result)
    if again := [each for each in result if counts[id_key(each.slide_id)] > 1]:
        raise SlideError(
            f"slides {again[0].path} and {again[1].path}: both are named {again[0].slide_id}. Needed names of their "
            "own for their outputs. List them in one manifest CSV with a column slide_id, or give each an --out."
        )
    return result
