"""What the section ``loss`` of a configuration may say."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from wsi_deform.deform.targets import EdgeScale
from wsi_deform.errors import ModelError
from wsi_deform.networks.losses import refuse_unknown_loss
from wsi_deform.plugins import STORED


class SegmentationLoss(BaseModel):
    """What the segmentation network minimises; other keys are arguments of that loss."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = Field("focal", description="focal, or monai:NAME, e.g. monai:DiceCELoss; or of a plug-in.")

    @field_validator("name")
    @classmethod
    def _known(cls, value: str, info: ValidationInfo) -> str:
        # A model that is stored needs no loss: it may come from where a plug-in had it.
        if value != "focal" and not (info.context or {}).get(STORED):
            try:
                refuse_unknown_loss(value)
            except ModelError as error:
                raise ValueError(f"{error} Or focal, with loss.focal_gamma") from error
        return value

    @model_validator(mode="after")
    def _own_has_no_arguments(self) -> SegmentationLoss:
        if self.name == "focal" and self.options:
            raise ValueError(f"focal takes no {', '.join(self.options)}; its gamma is loss.focal_gamma")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of a loss of MONAI or of a plug-in."""
        return dict(self.model_extra or {})


class Loss(BaseModel):
    """Equation 4."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    segmentation: SegmentationLoss = SegmentationLoss()
    focal_gamma: float = Field(0.0, ge=0, description="0 is cross-entropy; 2 is the paper's focal loss.")
    edge_weight: float = Field(1.0, ge=0, description="gamma of equation 4; 0 is the single loss.")
    edge_decay: Literal["none", "linear", "cosine"] = Field(
        "none", description="How the edge weight falls to 0 over the run."
    )
    edge_scale: EdgeScale = Field(
        "mean",
        description="mean: map and target both with mean 1, on which the paper's gamma of 100 becomes 1. paper: the "
        "bare squared error of a map that sums to 1 and edges as they are.",
    )
    edge_target: Literal["edge", "class_numbers", "region", "both"] = Field(
        "edge",
        description="edge: borders of each class. class_numbers: edges of the map of class numbers (the paper, word "
        "for word), a control. region: labelled parts but background. both: the mean of edge and region.",
    )
    edge_blur: float = Field(1.0, ge=0, description="Standard deviation of the target's blur, map cells.")
    edge_floor: float = Field(0.03, ge=0, description="Added to the target / its maximum.")
    segmentation_gradient: bool = Field(
        True, description="Whether the segmentation loss moves the sampling grid; false cuts it off."
    )
    class_weights: Literal["none", "inverse", "effective"] = Field(
        "none",
        description="Weight of a class: 1, 1 / its labelled share, or by the effective number of samples.",
    )
    weighting: Literal["none", "area", "mixed"] = Field(
        "none", description="Weight of a sample: 1, the area of its cell, or the mean of both."
    )

    @field_validator("segmentation", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _no_setting_of_another_loss(self) -> Loss:
        name = self.segmentation.name
        if name != "focal" and self.focal_gamma > 0:
            raise ValueError(
                f"focal_gamma {self.focal_gamma:g} is of the loss focal, not of {name}: set it to 0, and gamma beside "
                "the name where that loss has one"
            )
        if name != "focal" and self.weighting != "none":
            raise ValueError(
                f"weighting {self.weighting}: {name} cannot weigh samples; needed weighting: none"
            )
        return self
