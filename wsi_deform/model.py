"""A model: both networks, the configuration and class table they were trained with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config_sections import Config
from wsi_deform.deform.density import deformation_map, density_of, uniform_map
from wsi_deform.deform.equation2 import solved_lattices
from wsi_deform.deform.lattice import lattice_size, uniform_lattice
from wsi_deform.deform.targets import target_map, wanted_map
from wsi_deform.errors import NOT_ONE_IMAGE, ConfigError, ModelError
from wsi_deform.geometry import Size, sampled_size, size_of_area
from wsi_deform.look.appearance import TrainingSlides
from wsi_deform.model_blocks import BlockModel, block_network
from wsi_deform.model_kind import ORACLES
from wsi_deform.networks.deformation import DeformationNetwork
from wsi_deform.networks.inputs import area_input, network_input, rgb_of_input, view_input
from wsi_deform.networks.positions import PositionNetwork
from wsi_deform.networks.registry import segmentation_network
from wsi_deform.networks.resizer import Resizer

MIN_SIDE_PX = 4


class Model(BlockModel):
    """Both networks and what they were made for.

    Args:
        config: The configuration; its ``sampling`` and ``networks`` sections fix what the model does.
        classes: The class table.
        mpp: Level-0 um per pixel of the slides it was trained on; None for images that have none.
        trained_on: What these slides look like; None where nobody knows, as of models of earlier versions.

    Raises:
        ConfigError: There is no mpp, and the configuration has lengths in um.

    Attributes:
        deformation: Low-res view -> logits of the deformation map; None where no map is learned.
        positions: Low-res view -> offsets of a lattice of positions; None unless the density is "edge_based". Always in
            evaluation mode: only ``train.positions`` trains it, before anything else.
        resizer: A finer image -> the sampled image; None unless the configuration asks for one.
        segmentation: Sampled image -> scores.
        computed_by: What computes the networks, and how precisely, in words for masks; see ``runtime``.
    """

    computed_by = "torch float32"

    def __init__(
        self,
        *,
        config: Config,
        classes: ClassTable,
        mpp: float | None,
        trained_on: TrainingSlides | None = None,
    ) -> None:
        super().__init__()
        _refuse_misfits(config, mpp)
        self.config = config
        self.classes = classes
        self.mpp = mpp
        self.trained_on = trained_on
        networks = config.networks
        self.deformation: DeformationNetwork | None = None
        if config.sampling.density == "learned" and not self.has_blocks:
            self.deformation = DeformationNetwork(
                in_channels=4 if networks.deformation.inputs == "rgb+tissue" else 3,
                widths=networks.deformation.widths,
                kernel=networks.deformation.kernel,
                dilations=networks.deformation.dilations,
                zero_init_head=networks.deformation.zero_init_head,
            )
        self.positions: PositionNetwork | None = None
        if config.sampling.density == "edge_based" and not self.has_blocks:
            self.positions = PositionNetwork(in_channels=4 if self.sees_tissue else 3).eval()
        self.segmentation: nn.Module = (
            block_network(config, classes.count)
            if self.has_blocks
            else segmentation_network(
                networks.segmentation.name,
                classes=classes.count,
                in_channels=4 if self.sees_areas else 3,
                **networks.segmentation.options,
            )
        )
        self.resizer: Resizer | None = None
        if networks.resizer is not None:
            self.resizer = Resizer(blocks=networks.resizer.blocks, filters=networks.resizer.filters)

    def train(self, mode: bool = True) -> Model:
        """Training mode or not, of all networks but ``positions``."""
        super().train(mode)
        if self.positions is not None:
            self.positions.eval()
        return self

    @property
    def networks(self) -> list[nn.Module]:
        """All networks that are run one by one, each with one image-like input."""
        if self.has_blocks:
            return self.blocks.parts()
        parts = (self.segmentation, self.deformation, self.positions, self.resizer)
        return [part for part in parts if part is not None]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def to_device(self, device: str | torch.device) -> Model:
        """Itself on a device, both networks in the memory format of ``networks.channels_last``.

        Convention:
            The format changes speed alone: scores agree up to rounding, and stored tensors are the same. ``null`` is
            what was measured on CPUs, where channels last takes .7 of the time with the deformation network and with
            HRNetV2, .8 with MONAI's DynUNet, and 1.2 times as long with PSPNet's dilated convolutions; elsewhere
            PyTorch's own format.
        """
        if self.device != torch.device(device):
            self.to(device)
        wanted, on_cpu = self.config.networks.channels_last, self.device.type == "cpu"
        dilated = self.config.networks.segmentation.name == "pspnet"
        for network, faster in ((self.segmentation, on_cpu and not dilated), (self.deformation, on_cpu)):
            if network is not None:
                last = faster if wanted is None else wanted
                memory_format = torch.channels_last if last else torch.contiguous_format
                network.to(memory_format=memory_format)  # type: ignore[call-overload]
        return self

    def sampled_size(self, region: Size) -> Size:
        """Size of the sampled image of a level-0 region, px, from ``sampling.budget`` and ``sampling.size``."""
        short, long = self.config.sampling.budget
        if self.config.sampling.size == "sides":
            return sampled_size(region, Size(long, short), min_px=MIN_SIDE_PX)
        if self.config.sampling.size == "exact":
            short, long = max(MIN_SIDE_PX, short), max(MIN_SIDE_PX, long)
            return Size(long, short) if region.width >= region.height else Size(short, long)
        return size_of_area(region, short * long, min_px=MIN_SIDE_PX)

    def map_size(self, sampled: Size) -> Size:
        """Size of the low-res view and the deformation map for a sampled image of this size, px.

        Where ``sampling.view_px`` says it, the long side lies along the sampled image's, along x of a square one.
        """
        if self.has_blocks:
            return self.layout(sampled).root
        if self.config.sampling.view_px is not None:
            short, long = self.config.sampling.view_px
            return Size(long, short) if sampled.width >= sampled.height else Size(short, long)
        scale = self.config.sampling.map_scale
        return Size(max(1, round(sampled.width * scale)), max(1, round(sampled.height * scale)))

    @property
    def sees_tissue(self) -> bool:
        """Whether views carry the tissue mask as a fourth channel."""
        if self.has_blocks:
            return self.block_settings.skip_glass or self.block_settings.choice == "tissue"
        sampling, deformation = self.config.sampling, self.config.networks.deformation
        return sampling.density == "tissue" or (
            sampling.density in ("learned", "edge_based") and deformation.inputs == "rgb+tissue"
        )

    @property
    def needs_labels(self) -> bool:
        """Whether it is an oracle, whose samples lie where the labels of the slide that it segments say."""
        if self.has_blocks:
            return self.block_settings.choice == "labels"
        return self.config.sampling.density in ORACLES

    @property
    def has_lattice(self) -> bool:
        """Whether samples lie where a lattice of positions says, not where a deformation map does."""
        return not self.has_blocks and self.config.sampling.density in ("edge_based", "edge_positions")

    def read_size(self, sampled: Size, region: Size) -> Size | None:
        """Size of the image that is read for the resizer; None without one.

        Args:
            sampled: Size of the sampled image, px.
            region: Size of the field's region, level-0 px.

        Returns:
            The sampled size times ``networks.resizer.input_scale``, but at most the region's along each axis. A field
            that is no larger is therefore given whole, as in the paper; of a larger one the resizer sees area means.
        """
        settings = self.config.networks.resizer
        if settings is None:
            return None
        width, height = (
            max(1, round(side * settings.input_scale)) for side in (sampled.width, sampled.height)
        )
        return Size(min(width, region.width), min(height, region.height))

    def logits(self, view: Tensor) -> Tensor:
        """What the deformation network says of low-res views, before the softmax.

        Args:
            view: (B, 3, H, W) RGB in [0, 255]; (B, 4, H, W) with the tissue share in [0, 1] where the model sees it.

        Returns:
            (B, 1, H, W).

        Raises:
            ModelError: There is no deformation network.
        """
        if self.deformation is None:
            raise ModelError(
                f"density {self.config.sampling.density}: this model has no deformation network. "
                "Needed density: learned."
            )
        logits: Tensor = self.deformation(view_input(view))
        return logits

    def lattice(self, view: Tensor, targets: Tensor | None = None) -> Tensor:
        """The lattice of positions of low-res views, where ``has_lattice``.

        Args:
            view: As for ``density``.
            targets: (B, n, m, 2) of ``target_of``, where ``needs_labels``.

        Returns:
            (B, n, m, 2), (x, y), unit frame of the fields; the first and last row and column lie on the frame.

        Raises:
            ModelError: An oracle without labels, or the model has deformation maps.
        """
        if self.positions is None:
            if not self.has_lattice:
                raise ModelError(
                    f"density {self.config.sampling.density}: this model has no lattice. Needed density: edge_based."
                )
            return self.with_labels(targets)
        size = lattice_size(Size(view.shape[3], view.shape[2]), self.config.sampling.edge_lattice)
        offsets: Tensor = self.positions(view_input(view), size)
        return (uniform_lattice(size).to(offsets) + offsets).clamp(0, 1)

    def density(self, view: Tensor, targets: Tensor | None = None) -> Tensor:
        """The deformation map of low-res views.

        Args:
            view: (B, 3, H, W) RGB in [0, 255]; (B, 4, H, W) with the tissue share in [0, 1] where ``sees_tissue``.
            targets: (B, 1, H, W) of ``target_of``, where ``needs_labels``.

        Returns:
            (B, 1, H, W), positive, sums to 1 over each map.

        Raises:
            ModelError: An oracle without labels.
        """
        sampling = self.config.sampling
        if sampling.density == "uniform":
            return uniform_map(Size(view.shape[3], view.shape[2]), batch=view.shape[0]).to(view.device)
        if sampling.density == "learned":
            return deformation_map(self.logits(view), floor=sampling.floor)
        if sampling.density == "tissue":
            # The same floor as the target that a learned density is trained towards.
            return density_of(
                target_map(view[:, 3:4], floor=self.config.loss.edge_floor), floor=sampling.floor
            )
        if self.has_lattice:
            raise ModelError(
                f"density {sampling.density}: positions are predicted, and there is no map of density. Needed another "
                "density."
            )
        return density_of(self.with_labels(targets), floor=sampling.floor)

    def with_labels(self, targets: Tensor | None) -> Tensor:
        """What an oracle goes by, which must be there.

        Raises:
            ModelError: It is None.
        """
        if targets is None:
            kind = "blocks.choice labels" if self.has_blocks else f"density {self.config.sampling.density}"
            raise ModelError(
                f"{kind}: an oracle whose samples lie where labels say. Needed the "
                "labels of the slide: give them, such as a manifest with a column mask to `wsi-deform segment`, or "
                "take another model."
            )
        return targets

    def target_of(self, fractions: Tensor) -> Tensor:
        """The deformation map that is wanted, from labels; where ``has_lattice``, the lattice of positions.

        Args:
            fractions: (B, C, H, W) class fractions of the cells of the map.

        Returns:
            (B, 1, H, W), mean 1 per image, or with ``loss.edge_scale: paper`` the edges as they are; or
            (B, n, m, 2) float32, (x, y), unit frame. Where ``has_blocks`` the fractions: they say how mixed blocks are.

        Source:
            Jin et al., ICLR 2022, section 2.4; ``loss.edge_target`` names ours beside it.
        """
        if self.has_blocks:
            return fractions
        if self.has_lattice:
            sampling = self.config.sampling
            return solved_lattices(
                fractions, cells=sampling.edge_lattice, smoothness=sampling.edge_smoothness
            )
        settings = self.config.loss
        # What an oracle samples by is a density, on whatever scale the loss is.
        return wanted_map(
            fractions,
            settings.edge_target,
            background=self.classes.background,
            blur_std=settings.edge_blur,
            floor=settings.edge_floor,
            scale="mean" if self.needs_labels else settings.edge_scale,
        )

    def entering_pixels(self, read: Size, view: Size) -> int:
        """Pixels of one field that enter a network, of a warp.

        Args:
            read: Of what is read of it: the sampled image, or what a resizer makes that of.
            view: Of its low-res view, which is no network's input where nothing of the grid is learned.
        """
        looks = self.deformation is not None or self.positions is not None
        return read.area + (view.area if looks else 0)

    @property
    def sees_areas(self) -> bool:
        """Whether the segmentation network is told how large each sample's cell is; all are alike if uniform."""
        return (
            self.config.networks.area_channel
            and self.config.sampling.density != "uniform"
            and not self.has_blocks
        )

    def segmentation_input(self, images: Tensor, areas: Tensor) -> Tensor:
        """What the segmentation network is given of sampled fields.

        Args:
            images: (B, 3, h, w) RGB in [0, 255]; with a resizer of ``read_size``.
            areas: (B, h, w) areas of the warped cells, in any unit.

        Returns:
            (B, 3, h, w) the images; (B, 4, h, w) with each cell's area / the mean of its field where ``sees_areas``.

        Convention:
            What looks alike at two magnifications need not be alike: in a warped image a texture's period says little
            without the size of the cells.
        """
        if self.resizer is not None:
            size = Size(areas.shape[2], areas.shape[1])
            return rgb_of_input(self.resizer(network_input(images), size))
        if not self.sees_areas:
            return images
        relative = areas / areas.mean(dim=(1, 2), keepdim=True)
        return torch.cat((images, relative[:, None].to(images)), dim=1)

    def scores(self, sampled: Tensor) -> Tensor:
        """The segmentation network's scores.

        Args:
            sampled: (B, 3, h, w) RGB in [0, 255]; (B, 4, h, w) of ``segmentation_input`` where ``sees_areas``. Three
                channels of pixels that are all alike, such as a patch, will do there too.

        Returns:
            (B, classes, h, w) logits.
        """
        if self.has_blocks:
            raise ModelError(NOT_ONE_IMAGE.format(name="this model"))
        seen = network_input(sampled[:, :3])
        if self.sees_areas:
            relative = sampled[:, 3:] if sampled.shape[1] > 3 else torch.ones_like(sampled[:, :1])
            seen = torch.cat((seen, area_input(relative)), dim=1)
        scores: Tensor = self.segmentation(seen)
        return scores


def _refuse_misfits(config: Config, mpp: float | None) -> None:
    """Settings that contradict each other, or the images.

    Raises:
        ConfigError: A resizer whose samples do not lie evenly; lengths in um of images that have no um per pixel.
    """
    if config.networks.resizer is not None and config.sampling.density != "uniform":
        raise ConfigError(
            f"networks.resizer, sampling.density {config.sampling.density}: a resizer makes an even image out of a "
            "finer even one. Needed sampling.density=uniform, or networks.resizer=null."
        )
    if mpp is None and config.lengths_in_um:
        found = " and ".join(f"{key} {value:g}" for key, value in config.lengths_in_um.items())
        cell = (
            "blocks.finest_um=null with blocks.finest_px"
            if config.sampling.geometry == "blocks"
            else "sampling.coarsest_um=null (coarsest_px, if it matters)"
        )
        raise ConfigError(
            f"config {config.name}: {found} are in um, and the training images have no um per pixel. Needed an mpp "
            "in the files or in the column mpp of the manifest, or nothing in um: fields.side_um=null (with "
            f"fields.side_px, if images are to be cut) and {cell}."
        )
