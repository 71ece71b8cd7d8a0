"""All public data sets, by name."""

from __future__ import annotations

from pipelines.prepare import (
    arvaniti,
    bcss,
    camelyon,
    cityscapes,
    deepglobe,
    glas,
    gleason2019,
    hubmap,
    panda,
    pca_histo,
    sicapv2,
    tiger,
)
from pipelines.prepare.public_set import PublicSet

PUBLIC_SETS: dict[str, PublicSet] = {
    each.name: each
    for each in (
        panda.RADBOUD,
        panda.KAROLINSKA,
        camelyon.CAMELYON16,
        camelyon.CAMELYON17,
        gleason2019.GLEASON2019,
        arvaniti.ARVANITI,
        sicapv2.SICAPV2,
        tiger.WSIROIS,
        tiger.WSIBULK,
        bcss.BCSS,
        glas.GLAS,
        hubmap.HUBMAP,
        deepglobe.DEEPGLOBE,
        cityscapes.CITYSCAPES,
        pca_histo.PCA_HISTO,
    )
}
