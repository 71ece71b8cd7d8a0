"""Folders like those of public data sets: true layouts, names and codes, tiny drawn pictures."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

SHAPE = (48, 64)
RGB = (176, 84, 148)  # stained, so that it is tissue


def picture(seed: int = 0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-30, 30, (*shape, 3))
    return (np.array(RGB) + noise).clip(0, 255).astype(np.uint8)


def stripes(values: Sequence[int], shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """(H, W) uint8, a column of each value from left to right."""
    columns = np.arange(shape[1]) * len(values) // shape[1]
    return np.broadcast_to(np.array(values, np.uint8)[columns], shape).copy()


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def save_picture(path: Path) -> Path:
    return save(path, picture_of(path))


def picture_of(path: Path) -> np.ndarray:
    """A picture for each name: two slides that are alike are refused."""
    return picture(zlib.crc32(path.name.encode()))


def own_labels(path: Path, labels: np.ndarray) -> np.ndarray:
    """Labels whose first two rows tell files apart: two slides with the same labels are refused too."""
    number = zlib.crc32(path.name.encode())
    labels = labels.copy()
    labels[0] = np.roll(labels[0], number % SHAPE[1], axis=0)
    labels[1] = np.roll(labels[1], number // SHAPE[1] % SHAPE[1], axis=0)
    return labels


def save_labels(path: Path, labels: np.ndarray) -> Path:
    return save(path, own_labels(path, labels))


def save_slide(path: Path, mpp: float | None = 0.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    scale = {} if mpp is None else {"resolution": (1e4 / mpp,) * 2, "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, picture_of(path), tile=(64, 64), photometric="rgb", metadata=None, **scale)
    return path


def save_mask(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = own_labels(path, pixels)
    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(
        path, pixels, tile=(64, 64), photometric=photometric, compression="deflate", metadata=None
    )
    return path


def in_red(labels: np.ndarray) -> np.ndarray:
    return np.dstack([labels, np.zeros_like(labels), np.zeros_like(labels)])


def draw_panda(root: Path) -> None:
    lines = ["image_id,data_provider,isup_grade,gleason_score"]
    for number in range(18):
        provider = ("radboud", "karolinska")[number % 2]
        name = f"{number:032x}"
        lines.append(f"{name},{provider},{number % 6},{'negative' if number % 6 == 0 else '3+3'}")
        save_slide(root / "train_images" / f"{name}.tiff")
        if number >= 2:  # two have no mask, one of each provider
            values = range(6) if provider == "radboud" else range(3)
            save_mask(root / "train_label_masks" / f"{name}_mask.tiff", in_red(stripes(list(values))))
    (root / "train.csv").write_text("\n".join(lines) + "\n")


def asap_xml(*outlines: tuple[str, Sequence[tuple[float, float]]]) -> str:
    text = '<?xml version="1.0"?>\n<ASAP_Annotations>\n\t<Annotations>\n'
    for number, (group, points) in enumerate(outlines):
        text += f'\t\t<Annotation Name="Annotation {number}" Type="Polygon" PartOfGroup="{group}" Color="#F4FA58">\n'
        text += "\t\t\t<Coordinates>\n"
        for order, (x, y) in enumerate(points):
            text += f'\t\t\t\t<Coordinate Order="{order}" X="{x}" Y="{y}" />\n'
        text += "\t\t\t</Coordinates>\n\t\t</Annotation>\n"
    groups = "".join(
        f'\t\t<Group Name="{name}" PartOfGroup="None" Color="#64FE2E">\n\t\t\t<Attributes />\n\t\t</Group>\n'
        for name in dict(outlines)
    )
    return (
        f"{text}\t</Annotations>\n\t<AnnotationGroups>\n{groups}\t</AnnotationGroups>\n</ASAP_Annotations>\n"
    )


def lesion(number: int) -> list[tuple[float, float]]:
    return [(10, 10), (40 + number, 10), (40, 40), (10, 40)]


HOLE = [(20, 20), (30, 20), (30, 30), (20, 30)]


def draw_camelyon16(root: Path) -> None:
    for number in range(1, 6):
        save_slide(root / f"training/normal/normal_{number:03}.tif")
        save_slide(root / f"training/tumor/tumor_{number:03}.tif")
        write(
            root / f"training/lesion_annotations/tumor_{number:03}.xml",
            asap_xml(("_0", lesion(number)), ("_2", HOLE)),
        )
        save_slide(root / f"testing/images/test_{number:03}.tif")
    save_slide(root / "training/tumor/tumor_006.tif")  # without its XML
    write(
        root / "testing/lesion_annotations/test_001.xml", asap_xml(("Tumor", lesion(9)), ("Exclusion", HOLE))
    )
    rows = ["test_001,Tumor,IDC,Macro", "test_002,Normal,None,None", "test_003,Tumor,IDC,Micro"]
    write(
        root / "testing/reference.csv",
        "\n".join([*rows, "test_004,Normal,None,None", "test_005,Normal,None,None"]),
    )


def draw_camelyon17(root: Path) -> None:
    lines = ["patient,stage"]
    for patient in range(6):
        lines.append(f"patient_{patient:03}.zip,pN1")
        for node, stage in enumerate(("macro", "negative", "micro")):
            name = f"patient_{patient:03}_node_{node}"
            inner = f"center_{patient % 2}/" + (f"patient_{patient:03}/" if patient % 2 else "")
            save_slide(root / f"training/{inner}{name}.tif")
            lines.append(f"{name}.tif,{stage}")
        write(
            root / f"training/lesion_annotations/patient_{patient:03}_node_0.xml",
            asap_xml(("metastases", lesion(patient)), ("normal", HOLE)),
        )
    write(root / "training/stages.csv", "\n".join(lines) + "\n")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def draw_gleason2019(root: Path) -> None:
    for array in range(1, 5):
        for core in range(2):
            name = f"slide{array:03}_core{core:03}"
            save_picture(root / "Train Imgs" / f"{name}.jpg")
            for expert, values in ((1, (1, 3, 4, 5)), (3, (0, 3, 4, 5)), (5, (6, 3, 3, 5))):
                save_labels(root / f"Maps{expert}_T" / f"{name}_classimg_nonconvex.png", stripes(values))
    save_picture(root / "Train Imgs" / "slide001_core099.jpg")  # nobody's


def draw_arvaniti(root: Path) -> None:
    palette = [0, 255, 0, 0, 0, 255, 255, 255, 0, 255, 0, 0, 255, 255, 255]
    for array in ("ZT76_39_A", "ZT80_38_A", "ZT111_4_A", "ZT199_1_B"):
        for spot in range(2):
            name = f"{array}_1_{spot + 1}"
            save_picture(root / array / f"{name}.jpg")
            masks = {"Gleason_masks_train": "mask"}
            if array.startswith("ZT80"):
                masks = {f"Gleason_masks_test_pathologist{n}": f"mask{n}" for n in (1, 2)}
            for folder, start in masks.items():
                mask = Image.fromarray(own_labels(Path(name), stripes((0, 1, 2, 3, 4))), "P")
                mask.putpalette(palette)
                (root / folder).mkdir(exist_ok=True)
                mask.save(root / folder / f"{start}_{name}.png")
    save_picture(root / "ZT111_4_A" / "ZT111_4_A_9_9.jpg")  # without a mask


def draw_sicapv2(root: Path) -> None:
    lists: dict[str, list[str]] = {
        "Test/Test": [],
        "Test/Train": [],
        "Validation/Val1/Test": [],
        "Validation/Val1/Train": [],
    }
    slides = ["slide_id,patient_id,Gleason_primary,Gleason_secondary"]
    for number, own in enumerate(
        (("Test/Test",), ("Test/Train", "Validation/Val1/Test"), ("Test/Train", "Validation/Val1/Train"))
    ):
        slide = f"16B000185{number}"
        slides.append(f"{slide},{number + 1},4,3")
        for block in range(2):
            name = f"{slide}_Block_Region_{block}_0_0_xini_6803_yini_59786"
            save_picture(root / "images" / f"{name}.jpg")
            save_labels(root / "masks" / f"{name}.png", stripes((0, 3, 4, 5)))
            for each in own:
                lists[each].append(f"{name}.jpg,0,1,1,0,0")
    save_picture(root / "images" / "16B0009999_Block_Region_0_0_0_xini_1_yini_1.jpg")  # in no list
    for name, lines in lists.items():
        write(root / "partition" / f"{name}.csv", "\n".join(["image_name,NC,G3,G4,G5,G4C", *lines]) + "\n")
    write(root / "wsi_labels.csv", "\n".join(slides) + "\n")


def draw_tiger(root: Path) -> None:
    names = [
        "100B",
        "101S",
        "TC_S01_P000001_C0001_B101",
        "TC_S01_P000001_C0001_B102",
        "TC_S01_P000002_C0001_B101",
    ]
    names += [f"TCGA-OL-A5R{n}-01Z-00-DX1.8CE9DCAB-98D3-4163-94AC-1557D86C1E25" for n in range(3)]
    rois = root / "wsirois/wsi-level-annotations"
    for number, name in enumerate(names):
        for folder in (rois, root / "wsibulk"):
            save_slide(folder / "images" / f"{name}.tif")
            save_mask(folder / "tissue-masks" / f"{name}_tissue.tif", np.ones(SHAPE, np.uint8))
        save_mask(rois / "annotations-tissue-cells-masks" / f"{name}.tif", stripes(range(8)))
        if name.startswith("TCGA"):
            save_mask(rois / "annotations-tissue-bcss-masks" / f"{name}.tif", stripes(range(7, -1, -1)))
        if number:
            save_mask(root / "wsibulk/annotations-tumor-bulk/masks" / f"{name}.tif", stripes((0, 1)))


def draw_bcss(root: Path) -> None:
    names = [
        f"TCGA-{site}-A0S{n}-DX1_xmin45749_ymin25055_MPP-0.2500"
        for n, site in enumerate(["A1", "A2", "BH", "OL"])
    ]
    for name in names:
        save_picture(root / "rgbs_colorNormalized" / f"{name}.png")
        save_labels(root / "masks" / f"{name}.png", stripes(range(22)))
    from pipelines.prepare.bcss import CODES

    write(
        root / "meta/gtruth_codes.tsv",
        "\n".join(["label\tGT_code", *(f"{k}\t{v}" for k, v in CODES.items())]) + "\n",
    )


def draw_glas(root: Path) -> None:
    inner = root / "Warwick QU Dataset (Released 2016_07_08)"
    lines = ["name, patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)"]
    for number in range(8):
        name = f"{('train', 'testA')[number % 2]}_{number}"
        save_picture(inner / f"{name}.bmp")
        save_labels(inner / f"{name}_anno.bmp", stripes((0, 7, 12)))
        lines.append(f"{name}, {number}, {('benign', 'malignant')[number // 4]}, healthy")
    write(inner / "Grade.csv", "\n".join(lines) + "\n")


def draw_hubmap(root: Path) -> None:
    table, about = ["id,encoding"], ["image_file,width_pixels,height_pixels,patient_number,sex"]
    for number in range(5):
        name = f"2f6ecfcd{number}"
        save_slide(root / "train" / f"{name}.tiff")
        # 10 px from row 6 of column 3 on, or below, and all of columns 10 to 12.
        table.append(f"{name},{3 * SHAPE[0] + 6 + number} 10 {10 * SHAPE[0] + 1} {3 * SHAPE[0]}")
        about.append(f"{name}.tiff,{SHAPE[1]},{SHAPE[0]},6300{number % 4},Female")
    save_slide(root / "test" / "afa5e8098.tiff")
    write(root / "train.csv", "\n".join(table) + "\n")
    write(root / "HuBMAP-20-dataset_information.csv", "\n".join(about) + "\n")


LAND = [(0, 255, 255), (255, 255, 0), (255, 0, 255), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)]


def draw_deepglobe(root: Path) -> None:
    for number in range(8):
        save_picture(root / "train" / f"{number + 100}_sat.jpg")
        mask = np.array(LAND, np.uint8)[own_labels(Path(f"{number}"), stripes(range(7)))]
        if number == 0:
            mask = np.where(mask == 255, 251, 4).astype(np.uint8)
        save(root / "train" / f"{number + 100}_mask.png", mask)
    save_picture(root / "valid" / "900_sat.jpg")


def draw_cityscapes(root: Path) -> None:
    ids = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33, 0, 3, 29]
    for split, city in (("train", "aachen"), ("train", "bochum"), ("val", "frankfurt"), ("test", "berlin")):
        name = f"{city}_000000_000019"
        save_picture(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png")
        save_labels(
            root / "gtFine" / split / city / f"{name}_gtFine_labelIds.png",
            stripes(ids if split != "test" else [1]),
        )
        save_picture(root / "gtFine" / split / city / f"{name}_gtFine_color.png")


def draw_pca_histo(root: Path) -> None:
    lines = ["slide,patient"]
    for number in range(14):
        save_slide(root / "slides" / f"core_{number:02}.tif", mpp=0.55)
        save_mask(root / "masks" / f"core_{number:02}.tif", stripes(range(6)))
        lines.append(f"core_{number:02}.tif,P{number % 7}")
    write(root / "slides.csv", "\n".join(lines) + "\n")


DRAWN: dict[str, Callable[[Path], None]] = {
    "panda-radboud": draw_panda,
    "panda-karolinska": draw_panda,
    "camelyon16": draw_camelyon16,
    "camelyon17": draw_camelyon17,
    "gleason2019": draw_gleason2019,
    "arvaniti": draw_arvaniti,
    "sicapv2": draw_sicapv2,
    "tiger-wsirois": draw_tiger,
    "tiger-wsibulk": draw_tiger,
    "bcss": draw_bcss,
    "glas": draw_glas,
    "hubmap-kidney": draw_hubmap,
    "deepglobe": draw_deepglobe,
    "cityscapes": draw_cityscapes,
    "pca-histo": draw_pca_histo,
}
