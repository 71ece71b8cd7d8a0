"""What the section ``blocks`` of a configuration may say, and what that means in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from wsi_deform.deform.block_choices import block_choice, words_of
from wsi_deform.deform.blocks import LABEL_PX, STRIDE
from wsi_deform.errors import ConfigError

MAX_LEVELS = 8
LabelPx = Literal[2, 4, 8]


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
    label_px: LabelPx = Field(
        4,
        description="Side of what one label is of, px of the finest level. Finer ones follow finer outlines, and cost "
        "more beside the encoder.",
    )
    share: float | None = Field(
        0.5,
        gt=0,
        le=8,
        description="Pixels read, of all levels and with margins, / pixels of the field at the finest.",
    )
    px_per_mm2: float | None = Field(
        None,
        gt=0,
        description="The same as pixels per mm2 of the field, in place of share, which is null then.",
    )
    px: int | None = Field(
        None,
        ge=1,
        description="The same as a number of pixels, of each field or of the slide (budget_of), in place of share, "
        "which is null then.",
    )
    budget_of: Literal["field", "slide"] = Field(
        "field",
        description="field: each field has its own budget. slide: the blocks of all fields of a slide compete for one; "
        "in training each field has the mean.",
    )
    split: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        None,
        description="What each level but the coarsest gets of it; null: twice as much as the one before.",
    )
    choice: str = Field(
        "learned",
        description="Where the next level is read. learned: a scorer says. detail: by the gradient of the brightness. "
        "features: by how much the encoder's features differ from those around. tissue: by the tissue mask. random. "
        "labels: by the labels, an oracle. Or of a plug-in.",
    )
    skip_glass: bool = Field(True, description="Blocks that are tissue on less than 1 % are not read.")
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

    @field_validator("choice")
    @classmethod
    def _known_choice(cls, value: str) -> str:
        try:
            block_choice(value)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _fits(self) -> Blocks:
        if (self.finest_um is None) == (self.finest_px is None):
            raise ValueError("needed one of finest_um and finest_px; set the other to null")
        self._refuse_budgets()
        if self.split is not None and len(self.split) != self.levels - 1:
            raise ValueError(
                f"split of {len(self.split)} parts: needed {self.levels - 1}, one for each level but the coarsest"
            )
        return self

    def _refuse_budgets(self) -> None:
        """A budget said twice, or not at all, or that cannot be."""
        said = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(said) != 1:
            raise ValueError(f"needed one of {', '.join(BUDGETS)}; set the others to null")
        if self.px_per_mm2 is not None and self.finest_um is None:
            raise ValueError(
                "px_per_mm2 with finest_px: images have no mm2. Needed finest_um, or share or px"
            )
        if self.budget_of == "slide" and self.choice == "labels":
            raise ValueError(
                "budget_of slide with choice labels: an oracle is shown the labels of a field when that is read, "
                "and the budget is shared out before. Needed budget_of: field"
            )
        share = None if self.px is not None else self.share_of(1)
        if self.levels > 1 and share is not None and share * 4 ** (self.levels - 1) <= 1:
            raise ValueError(
                f"{said[0]} {getattr(self, said[0]):g}: the first look alone reads "
                f"{0.25 ** (self.levels - 1):.3g} of the finest level's pixels"
                + (
                    ""
                    if self.finest_um is None
                    else f", {self._mm2 * 0.25 ** (self.levels - 1):,.0f} per mm2"
                )
                + ". Needed more, or further levels"
            )

    @property
    def _mm2(self) -> float:
        """Pixels of the finest level per mm2."""
        assert self.finest_um is not None
        return 1e6 / self.finest_um**2

    def share_of(self, dense_px: int) -> float:
        """The budget as ``share``.

        Args:
            dense_px: Pixels of what it is of, a field or all fields of a slide, at the finest level.
        """
        if self.share is not None:
            return self.share
        if self.px_per_mm2 is not None:
            return self.px_per_mm2 / self._mm2
        assert self.px is not None
        return self.px / dense_px


BUDGETS = ("share", "px_per_mm2", "px")
"""Keys of which one says how much is read."""


def scales_of(blocks: Mapping[str, Any]) -> tuple[tuple[float, ...], str]:
    """Lengths of a pixel of each level, the coarsest first, and their unit.

    Args:
        blocks: The section as plain data.

    Returns:
        For example ((10, 5, 2.5), "um").
    """
    finest = blocks["finest_um"] if blocks["finest_um"] is not None else blocks["finest_px"]
    unit = "um" if blocks["finest_um"] is not None else "level-0 px"
    return tuple(finest * 2.0**number for number in reversed(range(blocks["levels"]))), unit


def label_px_of(blocks: Mapping[str, Any]) -> int:
    """Side of what a label is of, px of the finest level; a section of an earlier version does not say it.

    Args:
        blocks: The section as plain data.
    """
    return int(blocks.get("label_px", LABEL_PX))


def looks_text(blocks: Mapping[str, Any]) -> str:
    """How a field is read, after the words "each field is".

    Args:
        blocks: The section as plain data.
    """
    scales, unit = scales_of(blocks)
    first, *further = (f"{each:g}" for each in scales)
    if not further:
        return f"read whole at {first} {unit} per px"
    closer = " and ".join(filter(None, (", ".join(further[:-1]), further[-1])))
    return (
        f"read whole at {first} {unit} per px, then closer, at {closer}, in windows of {blocks['window_px']} px, "
        f"{words_of(blocks['choice'])}: at most {budget_text(blocks)} in all"
    )


def budget_text(blocks: Mapping[str, Any]) -> str:
    """How much is read, after the words "at most".

    Args:
        blocks: The section as plain data; one of an earlier version says ``share`` alone.
    """
    of_slide = blocks.get("budget_of") == "slide"
    if blocks["share"] is not None:
        text = f"{100 * blocks['share']:.3g} % of the pixels of the finest level"
    elif blocks["px_per_mm2"] is not None:
        text = f"{blocks['px_per_mm2']:,.6g} pixels per mm2"
    else:
        return f"{blocks['px']:,} pixels of a " + (
            "slide, whose fields compete for them," if of_slide else "field"
        )
    return text + (" of a slide, whose fields compete for them," if of_slide else "")
