"""A model that groups the tissue of some slides by what it looks like: no labels, no training.

An encoder of photographs sees the slides; k-means puts what it sees into K groups; the result is a model like any
other, which ``segment`` takes: it reads a slide coarsely, then closer where features differ from those around.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import find_config, read_config
from wsi_deform.data.study import median_mpp
from wsi_deform.errors import ConfigError
from wsi_deform.explore.clusters import components_of, grouped, nearest_mean_scores, told_scores
from wsi_deform.explore.features import OnField, cell_features, fields_of_all
from wsi_deform.model import Model
from wsi_deform.networks.encoders import weight_file
from wsi_deform.networks.groups import GroupNetwork
from wsi_deform.networks.weights import load_pretrained
from wsi_deform.slide.slide import Slide
from wsi_deform.unlike import training_slides

ENCODER = "efficientnet-lite0"
MAX_GROUPS = 32
SHARE = 2.0
"""All tissue at all levels, with the margins of windows."""
MAX_PIXELS = 128e6
"""That are read of all slides, about: so many take the encoder some minutes on two cores."""
MIN_SHARE = 0.1
WIDTH = 24
"""Principal components that are kept of features."""
WINDOW_PX, MARGIN_PX = 128, 16
FIELD_UM = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    """How slides are grouped.

    Attributes:
        groups: K.
        finest_um: Um per px of the finest level that is read.
        share: Pixels read / pixels of the fields at the finest level; None is ``SHARE``, less of large slides.
        seed: Of all that is drawn.

    Raises:
        ConfigError: A number that cannot be.
    """

    groups: int = 6
    finest_um: float = 1.25
    share: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if not 2 <= self.groups <= MAX_GROUPS:
            raise ConfigError(f"{self.groups} groups: needed 2 to {MAX_GROUPS}.")


def group_names(groups: int) -> list[str]:
    """Names of the classes: the background, and groups that nobody has named."""
    return ["background", *(f"look-alike group {number}" for number in range(1, groups + 1))]


def group_model(
    slides: Sequence[Slide],
    settings: GroupSettings = GroupSettings(),
    *,
    device: str = "cpu",
    on_field: OnField | None = None,
) -> Model:
    """Group the tissue of slides.

    Args:
        slides: Open slides that have um per px; their groups are the same.
        settings: How.
        device: Where the encoder runs.
        on_field: Called after each field that is seen with how many are done and how many there are.

    Returns:
        The model, in evaluation mode. The largest group is class 1; equal slides, settings and device give equal
        models.

    Raises:
        ModelError: The weights of the encoder are not installed.
        UnseenSlideError: A slide cannot be read; the others may do without it.
        SlideError: A slide has no um per px, or there is too little tissue for so many groups.
    """
    weights = weight_file(ENCODER)
    mpp = median_mpp([slide for slide in slides if slide.mpp])  # refuses a slide without
    share = settings.share if settings.share is not None else _share(slides, settings, mpp)
    seen = _model(settings, share, mpp, choice="random", width=None)
    load_pretrained(seen.segmentation, weights)
    seen.to_device(device).eval()
    features = cell_features(slides, seen, seed=settings.seed, on_field=on_field)
    components = components_of(features.finest, WIDTH)
    points = components.of(features.finest)
    labels, means = grouped(points, settings.groups, seed=settings.seed)
    model = _model(settings, share, mpp, choice="features", width=WIDTH)
    load_pretrained(model.segmentation, weights)
    network = _network(model)
    for level, of_level in enumerate(features.levels[:-1]):
        own = components_of(of_level, WIDTH)
        weight, bias = told_scores(own.of(of_level), labels, settings.groups)
        network.put(level, mean=own.mean, axes=own.axes, weight=weight, bias=bias)
    weight, bias = nearest_mean_scores(points, means, labels)
    last = len(features.levels) - 1
    network.put(last, mean=components.mean, axes=components.axes, weight=weight, bias=bias)
    model.trained_on = training_slides(slides, model)
    return model.to_device(device).eval()


def _share(slides: Sequence[Slide], settings: GroupSettings, mpp: float | None) -> float:
    """How much is read: less of many or large slides, so that it stays a matter of minutes."""
    model = _model(settings, SHARE, mpp, choice="random", width=1)
    dense = sum(model.layout(budget.size).dense_px for _, budget in fields_of_all(slides, model))
    return min(SHARE, max(MIN_SHARE, MAX_PIXELS / dense))


def _model(
    settings: GroupSettings, share: float, mpp: float | None, *, choice: str, width: int | None
) -> Model:
    """A model whose groups are not known yet; without a width its network projects nothing."""
    network = {"name": ENCODER, "head": "groups", "width": width or 1, "frozen": True}
    changes: dict[str, Any] = {
        "name": "groups",
        "seed": settings.seed,
        "blocks.finest_um": settings.finest_um,
        "blocks.levels": 3,
        "blocks.window_px": WINDOW_PX,
        "blocks.margin_px": MARGIN_PX,
        "blocks.share": share,
        "blocks.choice": choice,
        "fields.side_um": FIELD_UM,
        "fields.whole_below_mm2": 1,
        "networks.segmentation": network,
    }
    config = read_config(find_config("blocks"), changes=[f"{key}={value}" for key, value in changes.items()])
    model = Model(config=config, classes=ClassTable.from_names(group_names(settings.groups)), mpp=mpp)
    if width is None:
        _network(model).joins = nn.ModuleList(nn.Identity() for _ in range(3))
    return model


def _network(model: Model) -> GroupNetwork:
    network = model.segmentation
    assert isinstance(network, GroupNetwork)
    return network
