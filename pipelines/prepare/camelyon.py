"""CAMELYON16 and CAMELYON17: lymph nodes, metastases outlined in XML of ASAP.

    CAMELYON16/
        training/normal/normal_001.tif
        training/tumor/tumor_001.tif
        training/lesion_annotations/tumor_001.xml
        testing/images/test_001.tif
        testing/lesion_annotations/test_001.xml         (of slides with metastases)
        testing/reference.csv                           (name, Normal or Tumor, ...)
    CAMELYON17/
        training/center_0/patient_004_node_4.tif        (or in center_0/patient_004/)
        training/lesion_annotations/patient_004_node_4.xml
        training/stages.csv                             (patient, stage; also of each slide)

The XML is read as it is, by column ``annotation``. Slides without metastases have no XML: one without outlines, in
OUT, stands for that of all of them, and makes them background.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.prepare.deal import dealt
from pipelines.prepare.folders import files_by_stem, named_few, read_table, root_with, unmatched
from pipelines.prepare.public_set import Found, PublicSet
from wsi_deform.errors import ManifestError
from wsi_deform.files import write_text
from wsi_deform.manifest.rows import ManifestRow
from wsi_deform.texts import read_text

LICENCE = "CC0 1.0"
# Names of groups: CAMELYON16's, those of its later copies, and CAMELYON17's. "_2" and "Exclusion" are cut out of the
# others, which the reader of ASAP's XML knows; "normal" lies over "metastases".
CLASSES: Mapping[str, Any] = {
    "classes": [
        {"name": "background", "source_names": ["normal"]},
        {"name": "metastasis", "source_names": ["_0", "_1", "Tumor", "metastases"]},
    ],
    "background": "background",
}
NO_OUTLINES = """<?xml version="1.0"?>
<ASAP_Annotations>
	<Annotations />
	<AnnotationGroups />
</ASAP_Annotations>
"""
NEGATIVE = "negative"
NOT_EXHAUSTIVE = (
    "Not every metastasis of every slide is outlined: see the README of the download for the slides that are not "
    "exhaustively annotated, and the page of the set."
)
_NODE = re.compile(r"(patient_\d+)_node_\d+")


def no_outlines(out: Path) -> Path:
    """An annotation file without outlines, in OUT; written if it is not there."""
    path = out / "annotations" / "no_metastasis.xml"
    if not path.is_file() or path.read_text(encoding="utf-8") != NO_OUTLINES:
        write_text(path, NO_OUTLINES)
    return path


def find_16(downloaded: Path, out: Path, seed: int) -> Found:
    """The slides of CAMELYON16; see ``FindRows``."""
    root = root_with(downloaded, "training", "testing", what="training/ and testing/ of CAMELYON16")
    training, testing = root / "training", root / "testing"
    normal, tumour = (files_by_stem(training / name, (".tif",)) for name in ("normal", "tumor"))
    tested = files_by_stem(testing / "images", (".tif",))
    outlined = files_by_stem(training / "lesion_annotations", (".xml",))
    outlined_test = files_by_stem(testing / "lesion_annotations", (".xml",))
    empty = no_outlines(out)
    rows = [ManifestRow(slide=path, slide_id=name, annotation=empty) for name, path in normal.items()]
    rows += [
        ManifestRow(slide=path, slide_id=name, annotation=outlined.get(name)) for name, path in tumour.items()
    ]
    kinds = {row.slide_id: [int(row.slide_id in tumour)] for row in rows}
    rows = list(dealt(rows, seed, kinds=kinds, shares={"train": 0.8, "val": 0.2}))
    normal_tests = _normal_tests(testing / "reference.csv")
    for name, path in tested.items():
        said = outlined_test.get(name) or (empty if name.lower() in normal_tests else None)
        rows.append(
            ManifestRow(slide=path, slide_id=name, annotation=said, split=None if said is None else "test")
        )
    remarks = [NOT_EXHAUSTIVE]
    if not normal_tests:
        remarks.append(
            "No testing/reference.csv that calls slides Normal: nobody says which test slides are without metastases, "
            "and those without XML are in no split."
        )
    if contradicting := sorted(name for name in outlined_test if name.lower() in normal_tests):
        remarks.append(
            f"{len(contradicting)} Normal slides have XML, which counts: {named_few(contradicting)}."
        )
    return Found(
        rows=tuple(rows),
        classes=CLASSES,
        remarks=(*remarks, *unmatched(outlined, tumour), *unmatched(outlined_test, tested)),
    )


def _normal_tests(table: Path) -> set[str]:
    """Test slides without metastases by the reference, a CSV without a header; none where it is not there.

    Convention:
        Only what is called so counts as background: a reference that is read wrongly makes no slide healthy.
    """
    if not table.is_file():
        return set()
    try:
        text = read_text(table, "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(
            f"table {table}: cannot be read ({error}). Needed a CSV in UTF-8. Download it again."
        ) from error
    first = text.partition("\n")[0]
    lines = csv.reader(text.splitlines(), delimiter=max(",;\t", key=first.count), skipinitialspace=True)
    return {
        Path(cells[0].strip().lower()).stem
        for cells in lines
        if any(cell.strip().lower() == "normal" for cell in cells[1:])
    }


def find_17(downloaded: Path, out: Path, seed: int) -> Found:
    """The training slides of CAMELYON17; see ``FindRows``."""
    root = root_with(downloaded, "training", what="training/ of CAMELYON17")
    training = root / "training"
    outlined = files_by_stem(training / "lesion_annotations", (".xml",))
    centres = sorted(each for each in training.iterdir() if each.is_dir() and each.name.startswith("cent"))
    slides = {
        name: (path, centre.name)
        for centre in centres
        for name, path in files_by_stem(centre, (".tif",)).items()
        if _NODE.fullmatch(name)
    }
    if not slides:
        raise ManifestError(
            f"{training}: no slide patient_XXX_node_Y.tif in center_0/ to center_4/. Needed them. Unpack the archives "
            "of patients."
        )
    negative = _negative_nodes(training, root)
    empty = no_outlines(out)
    rows, kinds = [], {}
    for name, (path, centre) in slides.items():
        node = _NODE.fullmatch(name)
        said = outlined.get(name) or (empty if name in negative else None)
        rows.append(
            ManifestRow(
                slide=path,
                slide_id=name,
                patient=node.group(1) if node else None,
                annotation=said,
                extra={"centre": centre},
            )
        )
        kinds[name] = [2 * [each.name for each in centres].index(centre) + int(name in outlined)]
    remarks = [
        f"{sum(name in outlined for name in slides)} slides are outlined; isolated tumour cells may be left out.",
        "Slides that stages.csv calls negative count as background; of the others without XML nobody knows where the "
        "metastases are: they are in no split.",
    ]
    if not negative:
        remarks.append("No stages.csv: no slide counts as background but for what is outlined.")
    if contradicting := sorted(negative & outlined.keys()):
        remarks.append(
            f"{len(contradicting)} negative slides have XML, which counts: {named_few(contradicting)}."
        )
    return Found(
        rows=dealt(rows, seed, kinds=kinds),
        classes=CLASSES,
        remarks=(*remarks, *unmatched(outlined, slides)),
    )


def _negative_nodes(*folders: Path) -> set[str]:
    """Slides without metastases by the table of stages; none where it is not there."""
    tables = [folder / name for folder in folders for name in ("stages.csv", "stage_labels.csv")]
    table = next((path for path in tables if path.is_file()), None)
    if table is None:
        return set()
    return {
        Path(line["patient"]).stem
        for line in read_table(table, ("patient", "stage"))
        if line["stage"].strip().lower() == NEGATIVE
    }


CAMELYON16 = PublicSet(
    name="camelyon16",
    title="CAMELYON16",
    licence=LICENCE,
    patients="The set does not say whose slides these are: that no patient is in two splits is not guaranteed.",
    find=find_16,
)
CAMELYON17 = PublicSet(
    name="camelyon17",
    title="CAMELYON17, training",
    licence=LICENCE,
    patients="By names, patient_XXX_node_Y.",
    find=find_17,
)
