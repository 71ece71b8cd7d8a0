"""BCSS: regions of breast cancer slides of TCGA, with masks of 22 codes.

rgbs_colorNormalized/TCGA-A1-A0SK-DX1_xmin45749_ymin25055_MPP-0.2500.png     (or images/, as the script names it)
masks/<the same name>.png
meta/gtruth_codes.tsv                                                        label, GT_code
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pipelines.prepare.deal import dealt
from pipelines.prepare.folders import believable_mpp, files_by_stem, read_table, root_with, unmatched
from pipelines.prepare.public_set import Found, PublicSet
from wsi_deform.errors import ManifestError
from wsi_deform.manifest.rows import ManifestRow

LAYOUT = "masks/ and rgbs_colorNormalized/ (or images/) of BCSS"
IMAGE_FOLDERS = ("rgbs_colorNormalized", "images", "rgbs")
# The groups that the set's paper measures: 21 kinds of tissue, most of them rare, become five.
GROUPS: dict[str, tuple[str, ...]] = {
    "tumour": ("tumor", "angioinvasion", "dcis"),
    "stroma": ("stroma",),
    "inflammatory": ("lymphocytic_infiltrate", "plasma_cells", "other_immune_infiltrate"),
    "necrosis": ("necrosis_or_debris",),
    "other": (
        "glandular_secretions", "blood", "metaplasia_NOS", "fat", "mucoid_material", "normal_acinus_or_duct",
        "lymphatics", "nerve", "skin_adnexa", "blood_vessel", "other",
    ),
}  # fmt: skip
UNLABELLED = ("outside_roi", "exclude", "undetermined")
CODES = {
    name: code
    for code, name in enumerate(
        (
            "outside_roi",
            "tumor",
            "stroma",
            "lymphocytic_infiltrate",
            "necrosis_or_debris",
            "glandular_secretions",
            "blood",
            "exclude",
            "metaplasia_NOS",
            "fat",
            "plasma_cells",
            "other_immune_infiltrate",
            "mucoid_material",
            "normal_acinus_or_duct",
            "lymphatics",
            "undetermined",
            "nerve",
            "skin_adnexa",
            "blood_vessel",
            "angioinvasion",
            "dcis",
            "other",
        )  # fmt: skip
    )
}
TEST_SITES = ("OL", "LL", "E2", "EW", "GM", "S3")  # hospitals that the set's paper tests on
DEFAULT_MPP = 0.25
_NAME = re.compile(r"(TCGA-([0-9A-Z]{2})-[0-9A-Z]{4})")
_MPP = re.compile(r"MPP-(\d*\.?\d+)")


def find(downloaded: Path, out: Path, seed: int) -> Found:
    """The regions; see ``FindRows``."""
    root = root_with(downloaded, "masks", what=LAYOUT)
    folder = next((root / name for name in IMAGE_FOLDERS if (root / name).is_dir()), None)
    if folder is None:
        raise ManifestError(
            f"{root}: no folder {' or '.join(IMAGE_FOLDERS)}. Needed {LAYOUT}. Unpack the images."
        )
    images, masks = files_by_stem(folder, (".png",)), files_by_stem(root / "masks", (".png",))
    rows, sites = [], {}
    for name, path in images.items():
        barcode = _NAME.match(name)
        if barcode is None:
            raise ManifestError(
                f"{path}: no TCGA barcode in its name. Needed TCGA-XX-XXXX. Leave the file out."
            )
        mpp = _MPP.search(name)
        sites[name] = barcode.group(2)
        rows.append(
            ManifestRow(
                slide=path,
                slide_id=name,
                patient=barcode.group(1),
                mask=masks.get(name),
                mpp=believable_mpp(mpp.group(1), str(path)) if mpp else DEFAULT_MPP,
                extra={"site": barcode.group(2)},
            )
        )
    # Sites are whole hospitals, so that no patient is on both sides; what they leave is dealt.
    tested = {name for name, site in sites.items() if site in TEST_SITES}
    learned = dealt(
        [row for row in rows if row.slide_id not in tested], seed, shares={"train": 0.8, "val": 0.2}
    )
    split_of = {row.slide_id: row.split for row in learned}
    for name in tested & masks.keys():
        split_of[name] = "test"
    return Found(
        rows=tuple(row.model_copy(update={"split": split_of.get(row.slide_id)}) for row in rows),
        classes=class_data(_codes(root)),
        remarks=(
            f"The test split is the hospitals {', '.join(TEST_SITES)}, as in the set's paper.",
            "22 codes became 5 classes by their values in classes.yaml; change them there for others.",
            *unmatched(masks, images),
        ),
    )


def class_data(codes: dict[str, int]) -> dict[str, Any]:
    """The class table of some codes by name."""
    return {
        "classes": [
            {"name": group, "values": [codes[name] for name in names]} for group, names in GROUPS.items()
        ],
        "background": None,
        "unlabelled": [codes[name] for name in UNLABELLED],
    }


def _codes(root: Path) -> dict[str, int]:
    """The codes that the set says, where it says them; otherwise those that it is known for."""
    table = root / "meta" / "gtruth_codes.tsv"
    if not table.is_file():
        return CODES
    found = {line["label"]: line["GT_code"] for line in read_table(table, ("label", "GT_code"))}
    if found != {name: str(code) for name, code in CODES.items()}:
        raise ManifestError(
            f"{table}: other labels or codes than the 22 of BCSS. Needed those, by which classes are grouped. "
            "Download the set again."
        )
    return CODES


BCSS = PublicSet(
    name="bcss",
    title="BCSS",
    licence="CC0 1.0",
    patients="By TCGA barcode.",
    find=find,
)
