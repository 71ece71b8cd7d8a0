"""Train on from the weights of a bundle, and export what came of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from wsi_deform.config import parse_config
from wsi_deform.errors import TrainingError
from wsi_deform.export.folder import export_model
from wsi_deform.for_monai.parts import model_of_parts
from wsi_deform.manifest.read import read_manifest
from wsi_deform.model_file import description_of, save_model
from wsi_deform.train.loop import train

logger = logging.getLogger(__name__)


class SlideTrainer:
    """Trains both networks of a bundle together on labelled slides.

    Args:
        description: ``configs/wsi_deform.json`` of the bundle: classes, and the configuration that it was trained by.
        network: The bundle's ``network``; training starts from its weights.
        deformation_network: The bundle's ``deformation_network``; None where it has none.
        manifest: CSV of slides with masks of the bundle's classes; rows of split "train" are trained on, rows of split
            "val" choose the best epoch.
        output_dir: The run folder. A run that was stopped goes on there.
        epochs: How many.
        settings: Further changes of the configuration, ``key=value`` as for ``wsi-deform train --set``, such as
            ``loss.segmentation=monai:DiceCELoss``.
        device: Where to train.
    """

    def __init__(
        self,
        description: str | Path,
        network: nn.Module,
        deformation_network: nn.Module | None = None,
        *,
        manifest: str | Path | None,
        output_dir: str | Path,
        epochs: int,
        settings: Sequence[str] = (),
        device: str = "auto",
    ) -> None:
        self.description = Path(description)
        self.network = network
        self.deformation_network = deformation_network
        self.manifest = manifest
        self.output_dir = Path(output_dir)
        self.epochs = epochs
        self.settings = [settings] if isinstance(settings, str) else list(settings)
        self.device = device

    def run(self) -> Path:
        """Train, then export the best model as a bundle.

        Returns:
            The new bundle, ``export/monai-bundle`` in the run folder; this one is left as it is.

        Raises:
            TrainingError: No manifest, no training slide, or a loss that is not finite.
            WsiDeformError: A slide or mask cannot be used, or a setting is none.
        """
        if self.manifest is None:
            raise TrainingError(
                "manifest: nothing is given. Needed a CSV of slides with masks: --manifest FILE."
            )
        model = model_of_parts(self.description, self.network, self.deformation_network)
        config = parse_config(
            description_of(model)["config"],
            source=str(self.description),
            # The weights are here: what they once started from may lie nowhere.
            changes=[
                "networks.pretrained=null",
                f"training.epochs={self.epochs}",
                f"device={self.device}",
                *self.settings,
            ],
        )
        start = self.output_dir / "start" / "bundle.safetensors"
        save_model(model, start, facts={})
        result = train(
            config, read_manifest(Path(self.manifest)), model.classes, self.output_dir, init_from=start
        )
        logger.info("trained %d epochs, best mIoU %s", result.epochs, result.best)
        return export_model(self.output_dir, format="monai-bundle")
