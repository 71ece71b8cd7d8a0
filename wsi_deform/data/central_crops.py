"""Central crops of images, as regions of a manifest."""

from __future__ import annotations

from wsi_deform.errors import ManifestError, SlideError
from wsi_deform.geometry import Region, Size
from wsi_deform.manifest.problems import Problem, problem_text
from wsi_deform.manifest.rows import Manifest
from wsi_deform.slide.open import open_slide


def with_central_crops(manifest: Manifest, size: Size) -> Manifest:
    """Give every slide of a manifest the region of its central crop.

    Args:
        manifest: Its slides are opened, for their sizes. A region that a row has is what is cropped.
        size: Of the crops, level-0 px.

    Returns:
        The same rows with ``region``; half a pixel that is over lies right and below.

    Raises:
        ManifestError: A slide cannot be opened or is smaller than the crop; all of them at once.

    Source:
        Jin et al., ICLR 2022, section 4.2: the central 1,024 x 1,024 px of Cityscapes.
    """
    rows, problems = [], []
    for row in manifest.rows:
        try:
            whole = open_slide(row.slide, slide_id=row.slide_id, region=row.region).region
        except SlideError as error:
            problems.append(
                _problem(row.slide_id, str(error), "a slide that opens", "Mend or remove the row")
            )
            continue
        if size.width > whole.width or size.height > whole.height:
            problems.append(
                _problem(row.slide_id, f"{whole.size} px", f"at least {size} px", "Choose a smaller crop")
            )
            continue
        left, top = (whole.width - size.width) // 2, (whole.height - size.height) // 2
        region = Region(whole.x + left, whole.y + top, size.width, size.height)
        rows.append(row.model_copy(update={"region": region}))
    if problems:
        raise ManifestError(problem_text(f"manifest in {manifest.folder}", problems))
    return manifest.model_copy(update={"rows": tuple(rows)})


def _problem(slide_id: str, found: str, needed: str, remedy: str) -> Problem:
    return Problem(where=f"slide {slide_id}", found=found.rstrip("."), needed=needed, remedy=remedy)
