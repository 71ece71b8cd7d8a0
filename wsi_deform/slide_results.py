"""What is asked of a slide's files, and what is known of them when they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from wsi_deform.annotation.classes import UNLABELLED, ClassTable
from wsi_deform.baselines.patch_settings import PatchSettings
from wsi_deform.errors import ConfigError
from wsi_deform.geometry import Size
from wsi_deform.mask.folder import OutputKind
from wsi_deform.reverse.interpolation import Interpolation

if TYPE_CHECKING:
    # Slow to import, and of no use to a process that only says what is wanted.
    from wsi_deform.mask.tissue_limit import TissueCounts
    from wsi_deform.model import Model
    from wsi_deform.slide.slide import Slide

Method = Literal["sampled", "patches", "edge oracle", "blocks", "block oracle", "groups"]
ORACLES: dict[str, str] = {
    "edge oracle": "oracle: sampled where its own labels have borders, for comparison, not for use",
    "block oracle": "oracle: read closely where its own labels have several classes, for comparison, not for use",
}
"""Methods that look at the labels -> what people should know of them."""
SHOWN_TILES = 3  # of those that could not be decoded
NOTES = ORACLES | {
    "groups": "groups of look-alike tissue, found without labels: no diagnosis, and no class that anyone has named",
}
"""Methods whose masks are no answer to a question that somebody asked -> what people should know of them."""
# Remarked upon: a slide with less tissue, and a class that lost more of its pixels to the limit (and of the slide).
MIN_TISSUE_SHARE, MAX_REMOVED_SHARE, MIN_REMOVED_SHARE = 0.001, 0.5, 0.001


def method_of(model: Model) -> Method:
    """How a model looks at a slide."""
    if model.makes_groups:
        return "groups"
    if model.has_blocks:
        return "block oracle" if model.needs_labels else "blocks"
    return "edge oracle" if model.needs_labels else "sampled"


def is_in_blocks(method: str) -> bool:
    """Whether pixels of several levels were read of a slide that was looked at so."""
    return method in ("blocks", "block oracle", "groups")


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedOutputs:
    """What is written of a slide besides its mask, samples and overlay, and how the mask is put back.

    Attributes:
        interpolation: "nearest" or "linear"; None takes what the model was configured with.
        probabilities: Whether a probability map is written.
        footprint: Whether a footprint map is written; a slide without mpp has none.
        geojson: Whether the outlines of the mask are written.
        coloured: Whether a copy of the mask in the colours of its classes is written.
        ome_zarr: Whether the mask is written as labels of OME-Zarr too.
        limit_to_tissue: Whether labels outside the slide's tissue become background; None is yes, but for models that
            were trained on images without mpp (``scale.limits_to_tissue``).
        patches: How the slide is cut into patches, all of which the network sees; None samples it.

    Raises:
        ConfigError: Patches and what only samples have.
    """

    interpolation: Interpolation | None = None
    probabilities: bool = False
    footprint: bool = False
    geojson: bool = True
    coloured: bool = False
    ome_zarr: bool = False
    limit_to_tissue: bool | None = None
    patches: PatchSettings | None = None

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if self.patches is not None and (self.footprint or self.interpolation is not None):
            found = "a footprint map" if self.footprint else f"interpolation {self.interpolation}"
            raise ConfigError(
                f"{found} of patches: they look at every pixel, and nothing is put back from samples. Leave it out, or "
                "use the method sampled."
            )

    def settings(self) -> dict[str, Any]:
        """What the pixels of the mask depend on."""
        known = {"interpolation": self.interpolation, "limit_to_tissue": self.limit_to_tissue}
        return known if self.patches is None else known | {"patches": asdict(self.patches)}

    def kinds(self, *, has_mpp: bool) -> tuple[OutputKind, ...]:
        """The files that a finished slide has; a footprint map only where the slide's mpp is known."""
        maps: list[OutputKind] = ["probabilities"] if self.probabilities else []
        maps += ["footprint"] if self.footprint and has_mpp else []
        maps += ["geojson"] if self.geojson else []
        maps += ["coloured"] if self.coloured else []
        maps += ["ome_zarr"] if self.ome_zarr else []
        samples: list[OutputKind] = ["samples"] if self.patches is None else []
        return (*samples, *maps, "overlay", "mask")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideFiles:
    """What is known of a slide's files.

    Attributes:
        width_px: Level-0 width of the slide.
        height_px: Level-0 height of the slide.
        mpp: Level-0 um per pixel, whose square is the area of a pixel, or None where nobody said.
        mpp_xy: Level-0 um per pixel along x and y, or None.
        fields: Number of fields, or patches.
        samples: Number of samples, or pixels of all patches.
        tiles: Tiles that were read for them.
        class_pixels: Level-0 pixels of each class of the mask.
        class_pixels_in_tissue: Of these those that are tissue.
        removed_pixels: Level-0 pixels of each class that the limit to tissue made background.
        tissue_pixels: Level-0 pixels that are tissue and have a class: the sum of ``class_pixels_in_tissue``.
        remark: What people should know before they trust the mask; else empty.
        blank_tiles: Tiles of the slide that could not be decoded and were left out.
        blank_pixels: Level-0 pixels of the mask that are unlabelled for that.
        method: How it was looked at: "sampled", "blocks", "patches", or "edge oracle" and "block oracle", which
            look where labels say; "groups" where blocks were grouped without labels.
        runtime: What computed the networks, and how precisely, such as "torch float32".
        read_pixels: Pixels, of whatever levels, that entered a network: views, sampled images, windows with their
            margins, patches; None where nobody counted.
        decoded_pixels: Pixels of tiles of the slide that were decoded, of whatever level; None where nobody counted.
        decoded_bytes: Their bytes.
        flops: Floating-point operations of networks, grids and interpolation, see ``flops.py``.
        peak_memory_bytes: Most memory that this process had held when the slide was done.
    """

    width_px: int
    height_px: int
    mpp: float | None
    mpp_xy: tuple[float, float] | None
    fields: int
    samples: int
    tiles: int
    class_pixels: tuple[int, ...]
    class_pixels_in_tissue: tuple[int, ...]
    removed_pixels: tuple[int, ...]
    tissue_pixels: int
    remark: str
    blank_tiles: int = 0
    blank_pixels: int = 0
    method: Method = "sampled"
    runtime: str = "torch float32"
    read_pixels: int | None = None
    decoded_pixels: int | None = None
    decoded_bytes: int | None = None
    flops: int | None = None
    peak_memory_bytes: int | None = None


def slide_files_of(
    slide: Slide,
    classes: ClassTable,
    counts: TissueCounts,
    wanted: WantedOutputs,
    remarks: Sequence[str],
    *,
    method: Method,
    fields: int,
    samples: int,
    tiles: int,
    read_pixels: int | None,
    blank_pixels: int = 0,
) -> SlideFiles:
    """What is known of a slide's files, with what people should know of how it was read and of the limit to tissue."""
    if not slide.is_cropped:
        # With pixels beside them to which samples in them are the nearest. Of a cropped slide all else is unlabelled.
        blank_pixels = int(counts.pixels[UNLABELLED])
    said = [
        *slide.remarks,
        blank_remark(slide, blank_pixels),
        *remarks,
        # Glass looks like some group too: that it became background says nothing.
        tissue_remark(counts, slide.region.size, classes, losses=method != "groups")
        if wanted.limit_to_tissue
        else "",
    ]
    count = classes.count
    return SlideFiles(
        width_px=slide.size.width,
        height_px=slide.size.height,
        mpp=slide.mpp_or_none,
        mpp_xy=None if slide.mpp_xy is None else (slide.mpp_xy.x, slide.mpp_xy.y),
        fields=fields,
        samples=samples,
        tiles=tiles,
        class_pixels=tuple(counts.pixels[:count].tolist()),
        class_pixels_in_tissue=tuple(counts.pixels_in_tissue[:count].tolist()),
        removed_pixels=tuple(counts.removed[:count].tolist()),
        # Of cells that the edge of a region crosses only what lies in it, and nothing that could not be read.
        tissue_pixels=int(counts.pixels_in_tissue[:UNLABELLED].sum()),
        remark="; ".join(one for one in said if one),
        blank_tiles=len(slide.blanks),
        blank_pixels=blank_pixels,
        method=method,
        read_pixels=read_pixels,
    )


def blank_remark(slide: Slide, blank_pixels: int) -> str:
    """What people should know of tiles that could not be decoded; empty when all could."""
    said = []
    if blanks := slide.blanks:
        places = [f"level {each.tile[0]} at level-0 px ({each.region.x}, {each.region.y})" for each in blanks]
        more = f" and {len(places) - SHOWN_TILES} more" if len(places) > SHOWN_TILES else ""
        said.append(
            f"{_tiles(len(blanks))} could not be decoded and {'was' if len(blanks) == 1 else 'were'} left out: "
            f"{', '.join(places[:SHOWN_TILES])}{more}; {blank_pixels:,} level-0 px "
            f"({blank_pixels / slide.size.area:.2%} of the slide) are unlabelled"
        )
    if remade := slide.remade_tiles:
        said.append(
            f"{_tiles(remade)} of coarse levels could not be decoded and {'was' if remade == 1 else 'were'} made anew "
            "of finer ones"
        )
    return "; ".join(said)


def _tiles(count: int) -> str:
    return f"{count} tile{'s' if count != 1 else ''}"


def tissue_remark(counts: TissueCounts, size: Size, classes: ClassTable, *, losses: bool = True) -> str:
    """What people should know of the limit to tissue before they trust a mask; empty when all is well.

    Args:
        counts: Of the mask.
        size: Of the slide, or of the region of it that was segmented, px.
        classes: The class table.
        losses: Whether it is told which classes lost much to the limit.
    """
    if classes.background is None:
        return "no class is the background: labels are not limited to tissue, glass has some class"
    remedy = "if that is wrong, give a tissue_mask in the manifest, or use --no-limit-to-tissue"
    share = counts.tissue_pixels / size.area
    if share < MIN_TISSUE_SHARE:
        return f"tissue was found on {share:.2%} of the slide, all else is background: {remedy}"
    lost = []
    for name, removed, kept in (
        zip(classes.names, counts.removed, counts.pixels, strict=False) if losses else ()
    ):
        if removed > max(MAX_REMOVED_SHARE * (removed + kept), MIN_REMOVED_SHARE * size.area):
            lost.append(f"{removed / (removed + kept):.0%} of {name}")
    return f"{', '.join(lost)} lay outside the tissue and became background: {remedy}" if lost else ""
