"""How much of a slide each of several methods reads, so that none is praised for reading more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wsi_deform.config_sections import Config
from wsi_deform.evaluate.masks import Evaluation
from wsi_deform.networks.encoders import PUBLISHED
from wsi_deform.report.files import duration
from wsi_deform.report.tables import NOTHING, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How much a method reads of the average slide.

    Attributes:
        labelled: Samples, or of blocks pixels, that are read to be labelled.
        what: What these are: "samples" or "pixels read".
        seen: Pixels that enter a network, low-res views too, or None if nobody wrote it down.
        pixels: Level-0 pixels of the slide.
    """

    labelled: float | None
    what: str
    seen: float | None
    pixels: float

    @property
    def share(self) -> str:
        """Of the slide's pixels, e.g. "1 / 1,024"; a dash if not known."""
        return f"1 / {self.pixels / self.labelled:,.0f}" if self.labelled else NOTHING

    def text(self) -> str:
        """In words: "1,024 samples, 1 / 1,024 of the pixels"; nothing if not known."""
        return f"{self.labelled:,.0f} {self.what}, {self.share} of the pixels" if self.labelled else ""


def reading(config: Config, evaluation: Evaluation) -> Reading:
    """How much a method read of the slides that it was measured on."""
    costs = [slide.cost for slide in evaluation.slides]
    seen = _mean([cost.read_pixels for cost in costs])
    is_warp = config.blocks is None
    return Reading(
        labelled=_mean([cost.samples for cost in costs]) if is_warp else seen,
        what="samples" if is_warp else "pixels read",
        seen=seen,
        pixels=sum(slide.size.area for slide in evaluation.slides) / max(1, len(costs)),
    )


def _mean(values: Sequence[int | None]) -> float | None:
    """The mean, or None where one is not known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def reading_table(
    configs: Mapping[str, Config],
    reads: Mapping[str, Reading],
    logs: Mapping[str, Sequence[Mapping[str, float]]],
) -> Table:
    """What each method reads of a slide, and what its training took.

    Args:
        configs: Method -> configuration.
        reads: Method -> how much it reads.
        logs: Method -> rows of ``log.csv``.
    """
    rows = []
    for method, each in reads.items():
        epochs = len(logs[method])
        seconds = sum(row.get("seconds", 0.0) for row in logs[method])
        rows.append(
            (
                method,
                f"{each.labelled:,.0f} {each.what}" if each.labelled else NOTHING,
                each.share,
                f"{each.seen:,.0f}" if each.seen else NOTHING,
                _first_weights(configs[method]),
                f"{epochs} epoch{'s' if epochs != 1 else ''}, {duration(seconds)}",
            )
        )
    return Table(
        header=(
            "method",
            "reads of a slide",
            "of its pixels",
            "enter a network, low-res view too",
            "first weights",
            "training",
        ),
        rows=tuple(rows),
    )


def unlike_notes(configs: Mapping[str, Config], reads: Mapping[str, Reading]) -> list[str]:
    """What must be known before a method that reads in blocks is set against one that does not.

    Args:
        configs: Method -> configuration.
        reads: Method -> how much it reads.
    """
    warped = [method for method in reads if configs[method].blocks is None]
    samples = [one for method in warped if (one := reads[method].labelled)]
    notes = []
    for method, each in reads.items():
        if method in warped or not each.labelled or not samples:
            continue
        times = each.labelled / min(samples)
        often = f"{times:,.0f}" if times >= 10 else f"{times:.2g}"
        text = (
            f"{method} is not on the same terms: it reads {often} times as many pixels as {' and '.join(warped)} "
            "take samples"
        )
        if (weights := configs[method].networks.pretrained) is not None:
            of = "ImageNet's photographs" if weights in PUBLISHED else "other images"
            text += f", and its encoder was trained on {of} before; the others begin with random weights"
        notes.append(f"{text}. Where it is ahead, its way of looking is one reason of several.")
    return notes


def _first_weights(config: Config) -> str:
    """What a network's training begins with, in a word."""
    weights = config.networks.pretrained
    return "random" if weights is None else "ImageNet" if weights in PUBLISHED else "a file's"
