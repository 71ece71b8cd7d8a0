"""PCa-Histo, the paper's own prostate biopsies. They are not public: this is a layout for who has them, or the like.

    slides.csv          slide, patient            (file names; mpp may follow, um per pixel)
    slides/<name>.*     any format that the program reads
    masks/<name>.*      TIFF or PNG of 0 background, 1 benign, 2 Gleason 3, 3 Gleason 4, 4 atrophy, 5 HGPIN

The paper splits 266 slides into 200, 27 and 39 at random; here they are dealt by patient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from pipelines.prepare.deal import scaled_counts, split_to_counts, with_splits
from pipelines.prepare.folders import believable_mpp, files_by_stem, read_table, root_with, unmatched
from pipelines.prepare.public_set import Found, PublicSet
from wsi_deform.errors import ManifestError
from wsi_deform.manifest.rows import SPLITS, ManifestRow, Split, slide_id_from_path
from wsi_deform.paths import SLIDE_SUFFIXES, ZARR_SUFFIX

LAYOUT = (
    "slides.csv (columns slide, patient), slides/ and masks/ as data_manifests/public_sets.md describes them"
)
CLASSES = ("background", "benign", "Gleason 3", "Gleason 4", "atrophy", "HGPIN")  # the paper's table 7
PUBLISHED: Mapping[Split, int] = {"train": 200, "val": 27, "test": 39}  # appendix A.6
WARNING = (
    "The paper splits 266 slides at random, and gives 33 biopsies, 122 patients and one slice of each of 220 cores for "
    "them: numbers that do not agree, and a split in which patients are on both sides. Its measures are not comparable "
    "with those on a split by patient, as here."
)


def find(downloaded: Path, out: Path, seed: int) -> Found:
    """The slides; see ``FindRows``."""
    root = root_with(downloaded, "slides.csv", "slides", "masks", what=LAYOUT)
    slides = files_by_stem(root / "slides", (*SLIDE_SUFFIXES, ZARR_SUFFIX))
    masks = files_by_stem(root / "masks", (".tif", ".tiff", ".png"))
    rows, problems = [], []
    for line in read_table(root / "slides.csv", ("slide", "patient")):
        name = slide_id_from_path(line["slide"])
        if not line["patient"]:
            problems.append(f"{line['slide']}: no patient")
        elif name not in slides:
            problems.append(f"{line['slide']}: not in {root / 'slides'}")
        else:
            rows.append(
                ManifestRow(
                    slide=slides[name],
                    slide_id=name,
                    patient=line["patient"],
                    mask=masks.get(name),
                    mpp=believable_mpp(line["mpp"], f"{root / 'slides.csv'}: {line['slide']}")
                    if line.get("mpp")
                    else None,
                )
            )
    if problems:
        shown = "".join(f"\n  {each}" for each in problems[:10])
        raise ManifestError(
            f"{root / 'slides.csv'}: {len(problems)} problems, needed a patient and a file for every slide:{shown}"
        )
    slides_of = Counter(str(row.patient) for row in rows if row.mask)
    wanted = scaled_counts(sum(slides_of.values()), PUBLISHED)
    split_of = split_to_counts(slides_of, wanted, seed)
    made = Counter(split_of[str(row.patient)] for row in rows if row.mask)
    remarks = [WARNING]
    if any(made[split] != wanted[split] for split in SPLITS):
        sizes = ", ".join(f"{split} {made[split]} for {wanted[split]}" for split in SPLITS)
        remarks.append(f"Whole patients do not make the paper's sizes; the nearest are: {sizes} slides.")
    return Found(
        rows=with_splits(rows, split_of),
        classes={"classes": list(CLASSES), "background": CLASSES[0]},
        remarks=(*remarks, *unmatched(masks, {row.slide_id: row for row in rows})),
    )


PCA_HISTO = PublicSet(
    name="pca-histo",
    title="PCa-Histo",
    licence="not public (Jin et al., 2022); ask its owners",
    patients="As slides.csv says; no patient is in two splits.",
    find=find,
)
