"""What each section of a configuration may say, with its defaults and what it means.

``config`` reads, checks and writes it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from wsi_deform.config_blocks import Blocks
from wsi_deform.config_format import FORMAT
from wsi_deform.config_loss import Loss
from wsi_deform.deform.grid import Border, Placement
from wsi_deform.look.stain import StainChoice
from wsi_deform.reverse.interpolation import Interpolation
from wsi_deform.sample.plan import LevelMode

# Beyond it the weights of a network fit no memory.
Width = Annotated[int, Field(ge=1, le=8192)]
# No pixel is smaller, and no glass slide is longer than 20 cm.
SIDES_UM = (0.01, 200_000.0)
CELLS_UM = (0.01, 20_000.0)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def believable_um(value: float | None, limits: tuple[float, float]) -> float | None:
    """Refuse a length that nothing on a slide has, and say of which unit it looks.

    Args:
        value: um, or None.
        limits: The least and the largest that is believed, um.

    Raises:
        ValueError: It is outside of them.
    """
    low, high = limits
    if value is None or low <= value <= high:
        return value
    other, factor = ("mm", 1000.0) if value < low else ("nm", 0.001)
    meant = value * factor
    hint = f"; if it was meant in {other}, write {meant:g}" if low <= meant <= high else ""
    raise ValueError(f"needed um, {low:g} to {high:,.0f}{hint}")


def refuse_both(key: str, value: float | None, other: str, other_value: float | None) -> None:
    """Refuse a length that is set in um and in px.

    Raises:
        ValueError: Both are set.
    """
    if value is not None and other_value is not None:
        raise ValueError(
            f"{key} {value:g} and {other} {other_value:g}: needed one of them; set the other to null"
        )


class Sampling(_Section):
    """How densely, and where, a field is sampled."""

    geometry: Literal["warp", "blocks"] = Field(
        "warp",
        description="warp: one sampled image, denser where it matters (the paper). blocks: read coarsely, and closer "
        "where it matters, see the section blocks; of this section all other keys but interpolation are of the warp.",
    )
    budget: tuple[int, int] = Field(
        (80, 800), description="Short and long side of the sampled image, px; see size."
    )
    size: Literal["area", "sides", "exact"] = Field(
        "area",
        description="area: as many samples as the budget's product, in the field's aspect ratio. "
        "sides: neither side above the budget's (the paper's appendix A.6). exact: the budget itself, whatever the "
        "field's aspect ratio.",
    )
    density: Literal["learned", "uniform", "tissue", "edges", "edge_based", "edge_positions"] = Field(
        "learned",
        description="learned: the deformation network decides. uniform: the same density everywhere. tissue: the "
        "tissue mask, nothing learned. edges: the target drawn from the labels, an oracle. edge_based: positions near "
        "class borders, predicted by a network that is trained first (Marin et al.). edge_positions: what that is "
        "trained towards, solved from the labels, an oracle.",
    )
    edge_smoothness: float = Field(
        1.0,
        ge=0,
        description="With edge_based and edge_positions: lambda of the paper's equation 2, each pair counted once.",
    )
    edge_lattice: int = Field(
        16, ge=1, description="Cells of their lattice of positions along a field's short side."
    )
    map_scale: float = Field(1.0, gt=0, le=8, description="Side of view and map / side of the sampled image.")
    view_px: tuple[int, int] | None = Field(
        None,
        description="Short and long side of view and map, px, in place of map_scale; null is by map_scale.",
    )
    sigma: float = Field(0.25, gt=0, description="Standard deviation of the pull / short side of the map.")
    sigma_px: float | None = Field(
        None,
        gt=0,
        description="Standard deviation of the pull, px of the map, in place of sigma; null is by sigma.",
    )
    radius_sigmas: float = Field(5.0, gt=0, description="Where the pull ends, in standard deviations.")
    warp_steps: int = Field(2, ge=1, le=8, description="How often the map is applied; 1 is the paper.")
    floor: float = Field(0.0, ge=0, le=1, description="Share of the density that is spread evenly.")
    border: Border = Field("mirror", description="replicate is the paper.")
    placement: Placement = Field("cell", description="corner is the paper's footnote 2.")
    interpolation: Interpolation = Field(
        "linear",
        description="How the mask is put back: probabilities in the warped mesh, or the nearest sample (the paper).",
    )
    level: LevelMode = Field(
        "mip", description="Pyramid level that a sample reads; exact (level 0) is the paper."
    )
    level_bias: float = Field(
        0.0,
        ge=-16,
        le=16,
        description="Octaves added to that level: 0 averages a sample's cell, -2 keeps finer texture.",
    )
    coarsest_um: float | None = Field(
        16.0,
        description="Longer cells are read as if they were this long; null averages cells of any size.",
    )
    coarsest_px: float | None = Field(
        None,
        ge=1,
        description="The same in level-0 px, in place of coarsest_um, which is null then: for images without um per "
        "pixel.",
    )

    @field_validator("budget", "view_px")
    @classmethod
    def _short_side_first(cls, sides: tuple[int, int] | None) -> tuple[int, int] | None:
        if sides is not None and not 1 <= sides[0] <= sides[1]:
            raise ValueError("needed [short, long], both positive, short side first")
        return sides

    @field_validator("coarsest_um")
    @classmethod
    def _believable(cls, value: float | None) -> float | None:
        return believable_um(value, CELLS_UM)

    @model_validator(mode="after")
    def _one_coarsest(self) -> Sampling:
        refuse_both("coarsest_um", self.coarsest_um, "coarsest_px", self.coarsest_px)
        return self

    def pull_px(self, map_short_px: int) -> float:
        """Standard deviation of the pull, px of a deformation map whose short side has so many."""
        return self.sigma * map_short_px if self.sigma_px is None else self.sigma_px


class Fields(_Section):
    """How a slide larger than a core is covered."""

    side_um: float | None = Field(
        2048.0, description="Longest side of a field; null is one field over the whole slide."
    )
    side_px: int | None = Field(
        None,
        ge=1,
        description="The same in level-0 px, in place of side_um, which is null then: for images without um per pixel.",
    )
    whole_below_mm2: float = Field(
        16.0, ge=0, description="With side_um, slides up to this area are one field."
    )
    whole_below_mpx: float = Field(
        0.0, ge=0, description="With side_px, slides of up to so many million level-0 px are one field."
    )
    margin: float = Field(
        0.1, ge=0, le=1, description="Context read around a field / its side; cut off the mask."
    )
    allocation: Literal["equal", "density"] = Field(
        "equal",
        description="density: the slide-level deformation map shares the same total among the fields, in training anew "
        "every validate_every epochs.",
    )
    allocation_ratio: float = Field(
        4.0, ge=1, description="Most, and 1 / least, samples of a field / its equal share."
    )
    cut_to_tissue: bool = Field(
        False, description="Fields shrink to the tissue in them; all samples lie inside."
    )
    exact: bool = Field(
        False,
        description="All fields are exactly side_um (side_px) long, margins included, and overlap: patches. Slides up "
        "to whole_below_mm2 (whole_below_mpx) are no exception.",
    )

    @field_validator("side_um")
    @classmethod
    def _believable(cls, value: float | None) -> float | None:
        return believable_um(value, SIDES_UM)

    @model_validator(mode="after")
    def _one_side(self) -> Fields:
        refuse_both("side_um", self.side_um, "side_px", self.side_px)
        return self


class SegmentationNetwork(_Section):
    """Which network segments the sampled image; other keys are options of that network."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = Field(
        "hrnetv2",
        description="hrnetv2, pspnet, efficientnet-lite0, or monai:NAME, e.g. monai:DynUNet; in blocks the encoder: "
        "efficientnet-lite0, resnet18, resnet34, resnet50, resnet101 or vit. Or of a plug-in.",
    )

    @property
    def options(self) -> dict[str, Any]:
        """The network's own options."""
        return dict(self.model_extra or {})


class DeformationNetwork(_Section):
    """The network that sees the low-res view."""

    widths: tuple[Width, ...] = Field(
        (24, 24, 3), max_length=64, description="Channels of each convolution before the one of 1 x 1."
    )
    kernel: Literal[3, 5, 7] = Field(3, description="Side of their kernels.")
    dilations: tuple[Width, ...] | None = Field(
        None, description="Dilation of each convolution: larger context; null is 1."
    )
    inputs: Literal["rgb", "rgb+tissue"] = Field(
        "rgb", description="rgb+tissue: the tissue mask as a fourth channel."
    )
    zero_init_head: bool = Field(True, description="Start from the uniform grid.")


class ResizerNetwork(_Section):
    """The network that makes the sampled image out of a larger one."""

    blocks: int = Field(1, ge=1, le=4, description="Residual blocks, r of the paper's Table 6.")
    filters: Literal[16, 32] = Field(16, description="Channels, n of Table 6.")
    input_scale: float = Field(
        4.0,
        ge=1,
        description="Side of the image that it is given / side of the sampled image, up to level 0.",
    )


class Networks(_Section):
    """Both networks."""

    segmentation: SegmentationNetwork = Field(
        default_factory=lambda: SegmentationNetwork.model_validate({"width": 18, "stem_stride": 2})
    )
    deformation: DeformationNetwork = DeformationNetwork()
    resizer: ResizerNetwork | None = Field(
        None,
        description="{blocks: 1 to 4, filters: 16 or 32, input_scale: 4.0}: fields are read finer, evenly, and a "
        "network makes the sampled image (Talebi and Milanfar).",
    )
    area_channel: bool = Field(
        True,
        description="The segmentation network sees how large each sample's cell is, as a fourth channel; false is the "
        "paper.",
    )
    channels_last: bool | None = Field(
        None,
        description="Memory format of both networks; null is what is faster: true on CPUs but for pspnet.",
    )
    pretrained: str | None = Field(
        None,
        description="Local checkpoint of the segmentation network; efficientnet-lite0 is that of the extra pretrained.",
    )
    stain: StainChoice = Field("none", description="Colours are brought to one reference stain per slide.")


class Optimiser(_Section):
    """Adam with a decaying learning rate."""

    learning_rate: float = Field(2e-3, gt=0, description="Of the segmentation network, at its highest.")
    deformation_learning_rate: float = Field(
        1e-2, gt=0, description="Of the network that decides where to look, at its highest."
    )
    betas: tuple[float, float] = Field((0.9, 0.999), description="Adam's two decays per step.")
    weight_decay: float = Field(0.0, ge=0, description="Times the weights, added to their gradients (L2).")
    warmup_epochs: float = Field(0.0, ge=0, description="Epochs in which the rates rise from 0.")
    deformation_warmup_epochs: float = Field(
        0.0, ge=0, description="The same for the deformation network alone."
    )
    decay: Literal["cosine", "step", "none"] = Field(
        "cosine", description="How the rates fall. cosine: to 0 over the run. step: by 10 every step_epochs."
    )
    step_epochs: int = Field(100, ge=1, description="With step: epochs between two decays by 10.")
    clip_norm: float | None = Field(
        5.0, gt=0, description="Longer gradients are shortened to this norm; null never."
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Decay per step of an average of the weights that is validated and kept.",
    )


class Augmentation(_Section):
    """Changes of the training fields."""

    flip_x: bool = Field(True, description="Left-right, half of the time.")
    flip_y: bool = Field(False, description="Top-bottom, half of the time.")
    shift_cells: float = Field(1.0, ge=0, description="Whole grid shifted by up to this many cells.")
    warp_cells: float = Field(0.3, ge=0, description="Standard deviation of a smooth random warp, in cells.")
    transpose: bool = Field(
        False, description="Rows for columns, half of the time; with both flips all quarter turns."
    )
    rotate_degrees: float = Field(0.0, ge=0, le=180, description="Fields turned by up to this angle.")
    stain_jitter: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Standard deviation of changes of each stain's (HED) strength, and 1/10 of offset.",
    )
    move: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Fields moved on their slide by up to this share of their side, anew in each epoch: random crops.",
    )


class Training(_Section):
    """The loop."""

    epochs: int = Field(250, ge=1, description="Passes over the training fields.")
    auxiliary_epochs: int = Field(
        50, ge=1, description="With edge_based: epochs of the network of positions, before all others."
    )
    patience: int | None = Field(
        None, ge=1, description="Stop after so many validations without a better one; null never."
    )
    batch: int = Field(2, ge=1, description="Fields per step and process.")
    mixed_shapes: bool = Field(
        False,
        description="A batch may hold sampled images of several sizes; false groups fields of one size.",
    )
    fields_per_slide: int | None = Field(
        None, ge=1, description="Fields drawn of each slide for an epoch; null takes all."
    )
    rare_classes: float = Field(
        0.0,
        ge=0,
        le=1,
        description="How much more often fields with rare classes are drawn: 0 not, 1 by their rarity.",
    )
    validate_every: int = Field(5, ge=1, description="Epochs between validations.")
    keep: int = Field(
        0, ge=0, description="Models of so many validated epochs are kept beside best and last."
    )
    pictures: int = Field(2, ge=0, description="Validation fields drawn into TensorBoard at each validation.")
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Of the segmentation network (autocast); densities and grids stay in float32."
    )
    compile: bool = Field(False, description="torch.compile of the segmentation network.")
    workers: int = Field(0, ge=0, description="Loader processes (spawned); 0 reads in the main process.")
    cache_gib: float = Field(
        2.0,
        ge=0,
        description="Memory for decoded tiles, for plain images and for label masks, so much of each.",
    )
    threads: int | None = Field(None, ge=1, description="Threads of torch; null leaves its default.")


class Config(_Section):
    """Everything that a run depends on besides its slides and its seed."""

    format: Literal[2] = Field(
        FORMAT, description="Of this file; without it, a whole one is read as of version 0.1."
    )
    name: str = Field("joint", description="For people.")
    seed: int = Field(0, description="Of first weights, order and augmentation.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    sampling: Sampling = Sampling()
    blocks: Blocks | None = Field(
        None, description="With sampling.geometry blocks: how fields are read in looks; {} for what is usual."
    )
    fields: Fields = Fields()
    networks: Networks = Networks()
    loss: Loss = Loss()
    optimiser: Optimiser = Optimiser()
    augmentation: Augmentation = Augmentation()
    training: Training = Training()

    @model_validator(mode="after")
    def _exact_fields_have_a_scale(self) -> Config:
        if self.fields.exact:
            no_side = self.fields.side_um is None and self.fields.side_px is None
            if no_side or self.sampling.budget[0] != self.sampling.budget[1]:
                raise ValueError(
                    "fields.exact: needed fields.side_um or side_px, and a square sampling.budget such as [512, 512]"
                )
            if self.fields.margin >= 0.5 or self.fields.cut_to_tissue or self.fields.allocation != "equal":
                raise ValueError(
                    "fields.exact: needed fields.margin below 0.5, cut_to_tissue: false and allocation: equal"
                )
        return self

    @model_validator(mode="after")
    def _exact_images_are_all_alike(self) -> Config:
        if self.sampling.size == "exact" and self.fields.allocation != "equal":
            raise ValueError(
                f"sampling.size exact with fields.allocation {self.fields.allocation}: needed allocation: equal, or "
                "another size, for shares of samples are images of other sizes"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _blocks_of_their_geometry(cls, raw: Any) -> Any:
        """The section stands where it is used, and nowhere else."""
        if not isinstance(raw, dict):
            return raw
        sampling = raw.get("sampling")
        geometry = (
            sampling.get("geometry") if isinstance(sampling, dict) else getattr(sampling, "geometry", None)
        )
        if geometry == "blocks" and raw.get("blocks") is None:
            return raw | {"blocks": {}}
        if geometry != "blocks" and raw.get("blocks") is not None:
            raise ValueError(
                "a section blocks with sampling.geometry warp: needed geometry: blocks, or blocks: null"
            )
        return raw

    @model_validator(mode="after")
    def _blocks_fit_the_rest(self) -> Config:
        if self.sampling.geometry == "blocks":
            for key, found, needed in (
                ("networks.resizer", self.networks.resizer, None),
                ("augmentation.shift_cells", self.augmentation.shift_cells, 0),
                ("augmentation.warp_cells", self.augmentation.warp_cells, 0),
                ("fields.exact", self.fields.exact, False),
                ("fields.allocation", self.fields.allocation, "equal"),
                ("loss.weighting", self.loss.weighting, "none"),
                # Of several networks that are run as their looks come, not one.
                ("training.compile", self.training.compile, False),
            ):
                if found != needed:
                    raise ValueError(
                        f"sampling.geometry blocks with {key} {found}: needed {'null' if needed is None else needed}"
                    )
            has_scorers = (
                self.blocks is not None and self.blocks.choice == "learned" and self.blocks.levels > 1
            )
            if has_scorers and not self.loss.edge_weight:
                raise ValueError(
                    "sampling.geometry blocks with blocks.choice learned and loss.edge_weight 0: nothing would teach "
                    "the scorers. Needed an edge_weight above 0, or another choice such as detail"
                )
        return self

    @property
    def lengths_in_um(self) -> dict[str, float]:
        """Dotted key -> value of what is set in um: a slide without um per pixel cannot be read by it."""
        lengths = {"fields.side_um": self.fields.side_um}
        if self.sampling.geometry == "blocks":
            lengths["blocks.finest_um"] = self.blocks.finest_um if self.blocks else None
        else:
            lengths["sampling.coarsest_um"] = self.sampling.coarsest_um
        return {key: value for key, value in lengths.items() if value is not None}
