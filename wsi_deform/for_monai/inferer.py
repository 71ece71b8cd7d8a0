"""From an open slide to its mask, as MONAI's inferers are called, and a loop over slides."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from monai.data import Dataset
from monai.inferers import Inferer
from torch import nn

from wsi_deform.for_monai.parts import model_of_parts
from wsi_deform.notebook.mask import SlideMask, segment_slide
from wsi_deform.slide.slide import Slide

logger = logging.getLogger(__name__)


class SlideInferer(Inferer):  # type: ignore[misc]
    """Segments a slide by sampling it where the deformation network says.

    Args:
        description: ``configs/wsi_deform.json`` of the bundle: classes, fields, sampling.
        deformation_network: The bundle's ``deformation_network``; None where it has none.
        batch: Most fields per forward pass.
        limit_to_tissue: Whether the mask is background outside the slide's tissue; None is yes, but for models that
            were trained on images without mpp.
    """

    def __init__(
        self,
        description: str | Path,
        deformation_network: nn.Module | None = None,
        *,
        batch: int = 1,
        limit_to_tissue: bool | None = None,
    ) -> None:
        super().__init__()
        self.description = description
        self.deformation_network = deformation_network
        self.batch = batch
        self.limit_to_tissue = limit_to_tissue

    def __call__(self, inputs: Slide, network: nn.Module, *args: Any, **kwargs: Any) -> SlideMask:
        """Segment a slide.

        Args:
            inputs: An open slide, as ``OpenSlided`` gives it.
            network: The bundle's ``network``.
            args: Not used; MONAI's inferers take them.
            kwargs: Not used.

        Returns:
            The mask. Its samples are in memory and pixels are rendered when they are asked for: ``labels(level)``,
            ``to_dask()``, or ``SaveMaskd`` for files.

        Raises:
            SlideError: The slide cannot be read, or is too coarse for the model.
            ModelError: The networks are not of the model that ``description`` describes.
        """
        model = model_of_parts(self.description, network, self.deformation_network)
        return segment_slide(inputs, model, batch=self.batch, limit_to_tissue=self.limit_to_tissue)


class SlideEvaluator:
    """Runs inferer and postprocessing over slides, one after the other; it needs no pytorch-ignite.

    Args:
        dataset: Items with an open slide under ``slide_key``, as ``OpenSlided`` makes them.
        network: The segmentation network.
        inferer: Of ``SlideInferer``.
        postprocessing: Called with each item and the mask under ``pred_key``.
        slide_key: Where the slide is.
        pred_key: Where the mask is put.
    """

    def __init__(
        self,
        dataset: Dataset,
        network: nn.Module,
        inferer: SlideInferer,
        postprocessing: Callable[[dict[str, Any]], Any] | None = None,
        *,
        slide_key: str = "slide",
        pred_key: str = "pred",
    ) -> None:
        self.dataset = dataset
        self.network = network
        self.inferer = inferer
        self.postprocessing = postprocessing
        self.slide_key = slide_key
        self.pred_key = pred_key

    def run(self) -> None:
        """Segment all slides.

        Raises:
            SlideError: A slide cannot be used; those before it are written. A folder of many slides, of which some
                are bad, is for ``wsi-deform segment``.
        """
        count = len(self.dataset)
        for number in range(count):
            item = self.dataset[number]
            mask = self.inferer(item[self.slide_key], self.network)
            if self.postprocessing is not None:
                self.postprocessing({**item, self.pred_key: mask})
            logger.info(
                "slide %d of %d: %s%s", number + 1, count, mask, f"; {mask.remark}" if mask.remark else ""
            )
