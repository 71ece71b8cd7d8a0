"""What is compared: the default recipe, and what differs from it in one place each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One recipe.

    Attributes:
        name: Its row in the tables and its folder.
        group: What it is compared within.
        changes: ``key=value`` over the study's settings.
    """

    name: str
    group: str
    changes: tuple[str, ...] = ()


DEFAULT = "joint"

UNIFORM = "sampling.density=uniform"

METHODS = (
    Variant(name="joint", group="methods"),
    Variant(name="uniform", group="methods", changes=(UNIFORM,)),
    Variant(name="tissue mask", group="methods", changes=("sampling.density=tissue",)),
    Variant(name="cut to tissue", group="methods", changes=(UNIFORM, "fields.cut_to_tissue=true")),
    Variant(name="gradient cut", group="methods", changes=("loss.segmentation_gradient=false",)),
    Variant(name="no area channel", group="methods", changes=("networks.area_channel=false",)),
    Variant(name="edge oracle", group="methods", changes=("sampling.density=edges",)),
    Variant(name="uniform, point-sampled", group="baselines", changes=(UNIFORM, "sampling.level=exact")),
    Variant(name="joint, point-sampled", group="baselines", changes=("sampling.level=exact",)),
    Variant(name="joint, cut to tissue", group="baselines", changes=("fields.cut_to_tissue=true",)),
)

READINGS = {
    **{f"at most {um} um": (f"sampling.coarsest_um={um}",) for um in (32, 16, 8)},
    **{
        f"{octaves} octave{'s' if octaves > 1 else ''} finer": (
            "sampling.coarsest_um=null",
            f"sampling.level_bias={-octaves}",
        )
        for octaves in (1, 2, 3, 4)
    },
}
"""What a sample reads besides its cell: the settings of each reading."""

LEVELS = (
    *(
        Variant(name=f"{method}, {reading}", group="levels", changes=(*changes, *reads))
        for reading, reads in READINGS.items()
        for method, changes in ((DEFAULT, ()), ("uniform", (UNIFORM,)))
    ),
    Variant(
        name="tissue mask, 2 octaves finer",
        group="levels",
        changes=("sampling.density=tissue", *READINGS["2 octaves finer"]),
    ),
    Variant(
        name="gradient cut, 2 octaves finer",
        group="levels",
        changes=("loss.segmentation_gradient=false", *READINGS["2 octaves finer"]),
    ),
)

GEOMETRY = (
    Variant(name="1 warp step", group="geometry", changes=("sampling.warp_steps=1",)),
    Variant(name="3 warp steps", group="geometry", changes=("sampling.warp_steps=3",)),
    Variant(name="sigma .125", group="geometry", changes=("sampling.sigma=0.125",)),
    Variant(
        name="sigma .125, 1 warp step",
        group="geometry",
        changes=("sampling.sigma=0.125", "sampling.warp_steps=1"),
    ),
    Variant(name="sigma .4", group="geometry", changes=("sampling.sigma=0.4",)),
    Variant(name="floor .2", group="geometry", changes=("sampling.floor=0.2",)),
    Variant(name="floor .4", group="geometry", changes=("sampling.floor=0.4",)),
    Variant(name="border replicate", group="geometry", changes=("sampling.border=replicate",)),
    Variant(name="map scale 2", group="geometry", changes=("sampling.map_scale=2",)),
)

LOSSES = (
    Variant(name="focal loss", group="losses", changes=("loss.focal_gamma=2",)),
    Variant(name="cross-entropy", group="losses", changes=("loss.focal_gamma=0",)),
    Variant(name="edge weight .1", group="losses", changes=("loss.edge_weight=0.1",)),
    Variant(name="edge weight 10", group="losses", changes=("loss.edge_weight=10",)),
    Variant(name="edge weight to 0", group="losses", changes=("loss.edge_decay=linear",)),
    Variant(name="region target", group="losses", changes=("loss.edge_target=region",)),
    Variant(name="edge and region target", group="losses", changes=("loss.edge_target=both",)),
    Variant(name="edge floor .1", group="losses", changes=("loss.edge_floor=0.1",)),
    Variant(name="edge blur 2", group="losses", changes=("loss.edge_blur=2",)),
    Variant(name="area weights", group="losses", changes=("loss.weighting=area",)),
    Variant(name="mixed weights", group="losses", changes=("loss.weighting=mixed",)),
    Variant(name="class weights inverse", group="losses", changes=("loss.class_weights=inverse",)),
)

COLLAPSE = (
    Variant(name="single loss", group="collapse", changes=("loss.edge_weight=0",)),
    Variant(
        name="single loss, area weights",
        group="collapse",
        changes=("loss.edge_weight=0", "loss.weighting=area"),
    ),
    Variant(
        name="single loss, mixed weights",
        group="collapse",
        changes=("loss.edge_weight=0", "loss.weighting=mixed"),
    ),
    Variant(
        name="single loss, head not zeroed",
        group="collapse",
        changes=("loss.edge_weight=0", "networks.deformation.zero_init_head=false"),
    ),
    Variant(
        name="single loss, head not zeroed, area weights",
        group="collapse",
        changes=(
            "loss.edge_weight=0",
            "networks.deformation.zero_init_head=false",
            "loss.weighting=area",
        ),
    ),
)

AUGMENTATION = (
    Variant(
        name="no augmentation by sampling",
        group="augmentation",
        changes=("augmentation.shift_cells=0", "augmentation.warp_cells=0"),
    ),
    Variant(
        name="uniform, no augmentation by sampling",
        group="augmentation",
        changes=(UNIFORM, "augmentation.shift_cells=0", "augmentation.warp_cells=0"),
    ),
    Variant(
        name="cut to tissue, no augmentation by sampling",
        group="augmentation",
        changes=(
            UNIFORM,
            "fields.cut_to_tissue=true",
            "augmentation.shift_cells=0",
            "augmentation.warp_cells=0",
        ),
    ),
    Variant(
        name="tissue mask, no augmentation by sampling",
        group="augmentation",
        changes=("sampling.density=tissue", "augmentation.shift_cells=0", "augmentation.warp_cells=0"),
    ),
)

TRAINING = (
    Variant(name="head not zeroed", group="training", changes=("networks.deformation.zero_init_head=false",)),
    Variant(
        name="deformation rate 2e-3",
        group="training",
        changes=("optimiser.deformation_learning_rate=0.002",),
    ),
    Variant(
        name="deformation warm-up", group="training", changes=("optimiser.deformation_warmup_epochs=10",)
    ),
    Variant(name="warm-up", group="training", changes=("optimiser.warmup_epochs=5",)),
    Variant(name="EMA .99", group="training", changes=("optimiser.ema=0.99",)),
    Variant(name="transposed too", group="training", changes=("augmentation.transpose=true",)),
    Variant(name="stain jitter .05", group="training", changes=("augmentation.stain_jitter=0.05",)),
    Variant(name="dilations 1 2 4", group="training", changes=("networks.deformation.dilations=[1, 2, 4]",)),
    Variant(name="tissue channel", group="training", changes=("networks.deformation.inputs=rgb+tissue",)),
    Variant(name="rare classes .5", group="training", changes=("training.rare_classes=0.5",)),
)

VARIANTS = (*METHODS, *LEVELS, *GEOMETRY, *LOSSES, *COLLAPSE, *AUGMENTATION, *TRAINING)


def variant_of(name: str) -> Variant:
    """The variant of a name.

    Raises:
        KeyError: There is none.
    """
    return {variant.name: variant for variant in VARIANTS}[name]
