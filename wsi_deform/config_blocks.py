"""What the section ``blocks`` of a configuration may say."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from wsi_deform.deform.blocks import STRIDE, BlockChoice

MAX_LEVELS = 8


class Blocks(BaseModel):
    """How fields are read with ``sampling.geometry: blocks``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    finest_um: float | None = Field(2.5, gt=0, description="um per px of the finest level.")
    finest_px: float | None = Field(
        None,
        ge=1,
        description="The same in level-0 px, in place of finest_um, which is null then: for images without um per "
        "pixel.",
    )
    levels: int = Field(
        3,
        ge=1,
        le=MAX_LEVELS,
        description="How many, each of twice the um per px of the next; the coarsest is read whole. 1: the finest is "
        "read whole.",
    )
    window_px: int = Field(
        64, ge=STRIDE, le=1024, description="Side of a window, px of its level; a multiple of 16."
    )
    margin_px: int = Field(
        0, ge=0, le=256, description="Read around a window on every side, and cut off; a multiple of 16."
    )
    share: float = Field(
        0.5,
        gt=0,
        le=8,
        description="Pixels read, of all levels and with margins, / pixels of the field at the finest.",
    )
    split: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        None,
        description="What each level but the coarsest gets of it; null: twice as much as the one before.",
    )
    choice: BlockChoice = Field(
        "learned",
        description="Where the next level is read. learned: a scorer says. detail: by the gradient of the brightness. "
        "tissue: by the tissue mask. random. labels: by the labels, an oracle.",
    )
    skip_glass: bool = Field(True, description="Blocks without tissue are not read.")
    noise: float = Field(
        0.5,
        ge=0,
        description="Standard deviation of noise on a scorer's scores in training: other blocks are seen.",
    )

    @field_validator("window_px", "margin_px")
    @classmethod
    def _whole_strides(cls, value: int) -> int:
        if value % STRIDE:
            raise ValueError(f"needed a multiple of {STRIDE}")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Blocks:
        if (self.finest_um is None) == (self.finest_px is None):
            raise ValueError("needed one of finest_um and finest_px; set the other to null")
        if self.split is not None and len(self.split) != self.levels - 1:
            raise ValueError(
                f"split of {len(self.split)} parts: needed {self.levels - 1}, one for each level but the coarsest"
            )
        if self.levels > 1 and self.share * 4 ** (self.levels - 1) <= 1:
            raise ValueError(
                f"share {self.share:g}: the first look alone reads {0.25 ** (self.levels - 1):.3g} of the finest "
                "level's pixels. Needed more, or further levels"
            )
        return self
