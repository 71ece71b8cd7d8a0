from pathlib import Path

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.manifest.read import read_manifest
from wsi_deform.manifest.rows import COLUMNS

FOLDER = Path(__file__).parents[1] / "data_manifests"


def test_the_example_reads_and_its_page_names_every_column():
    manifest = read_manifest(FOLDER / "example.csv", check_files=False)
    assert [row.split for row in manifest.rows] == ["train", "train", "val", "test"]
    assert manifest.rows[-1].mpp == 0.25
    page = (FOLDER / "README.md").read_text()
    assert all(f"`{column}`" in page for column in COLUMNS if column != "annotation")
    classes = read_class_table(FOLDER / "classes.yaml")
    assert classes.names == ("background", "benign", "tumour")
    assert classes.mapping[2] == 1
