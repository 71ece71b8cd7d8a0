"""What challenges ask for, from a folder of masks; what a segmentation cannot give is refused, not made up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from wsi_deform.annotation.classes import UNLABELLED, ClassTable, read_class_table
from wsi_deform.distribute.ledger import Ledger, State
from wsi_deform.errors import MaskError
from wsi_deform.files import write_text
from wsi_deform.mask.bands import constant_tiles, open_mask
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.tiff import write_mask
from wsi_deform.reverse.levels import MaskTile
from wsi_deform.submission.regions import SlideLesions, lesions_of

Challenge = Literal["camelyon16", "camelyon17", "tiger", "panda"]
METASTASIS = ("metastasis", "metastases", "tumour", "tumor")
#: The values of TIGER's masks and what classes with these meanings may be called.
TIGER_VALUES: dict[int, tuple[str, ...]] = {
    1: ("invasive tumour", "invasive tumor"),
    2: ("tumour-associated stroma", "tumor-associated stroma"),
    3: ("in-situ tumour", "in-situ tumor"),
    4: ("healthy glands",),
    5: ("necrosis not in-situ",),
    6: ("inflamed stroma",),
    7: ("rest", "background"),
}
TIGER_NEEDED = (1, 2)
TIGER_PLACE = Path("images") / "breast-cancer-segmentation-for-tils" / "segmentation.tif"
MICRO_UM, MACRO_UM = 200.0, 2000.0
_NODE = re.compile(r"(patient_\d+)_node_(\d+)")
PANDA = (
    "PANDA asks for the ISUP grade of each biopsy, which follows from the Gleason patterns that a pathologist calls "
    "primary and secondary. Areas of a mask are not that, and no rule that makes grades of them was validated here. "
    "The areas of each class are in measurements.csv."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What was written.

    Attributes:
        files: In order.
        remark: What people should know before they hand it in.
    """

    files: tuple[Path, ...]
    remark: str


def write_submission(
    out: Path | str,
    challenge: Challenge,
    *,
    to: Path | str | None = None,
    class_name: str | None = None,
    min_um: float = 0.0,
) -> Submission:
    """Write the files of a challenge from finished masks.

    Args:
        out: The ``--out`` of ``segment``.
        challenge: Which.
        to: The folder to write; None is ``submission/CHALLENGE`` in ``out``.
        class_name: The class that is a metastasis, where its name does not say it.
        min_um: CAMELYON: regions whose longest diameter is shorter are left out.

    Returns:
        The files, each whole or absent.

    Raises:
        MaskError: No finished mask, the classes are not those of the challenge, something that it needs is missing, or
            a segmentation cannot give what it asks for.

    Source:
        The evaluation pages of camelyon16, camelyon17 and tiger on grand-challenge.org; CAMELYON16's evaluation script
        (rows ``probability,x,y``, level-0 px, no header); TIGER's example of an algorithm (the place of the mask).
    """
    if challenge == "panda":
        raise MaskError(f"submission {out}: {PANDA}")
    if challenge not in get_args(Challenge):
        raise MaskError(
            f"submission {challenge!r}: not known. Needed one of {', '.join(get_args(Challenge))}."
        )
    folder = MaskFolder(Path(out))
    states = Ledger(folder).results()
    if not states:
        raise MaskError(f"masks {folder.path}: no finished mask. Needed the --out of wsi-deform segment.")
    classes = read_class_table(folder.classes)
    place = folder.path / "submission" / challenge if to is None else Path(to)
    write = _WRITERS[challenge]
    return write(folder, states, classes, place, class_name, min_um)


def _camelyon16(
    folder: MaskFolder,
    states: Sequence[State],
    classes: ClassTable,
    place: Path,
    class_name: str | None,
    min_um: float,
) -> Submission:
    label = _metastasis(classes, class_name, "CAMELYON16")
    for state in states:
        _mpp(state)
        if not folder.probabilities(state.slide_id).is_file():
            raise MaskError(
                f"slide {state.slide_id}: no probability map, and CAMELYON16 asks for probabilities. Segment again "
                "with --probabilities."
            )
    files, rows = [], []
    for state, lesions in _all_lesions(folder, states, classes, label, min_um, maps=True):
        lines = [
            f"{each.confidence:.4f},{int(each.place_px.x)},{int(each.place_px.y)}\n"
            for each in lesions.regions
        ]
        files.append(place / "lesions" / f"{state.slide_id}.csv")
        write_text(files[-1], "".join(lines))
        rows.append(f"{state.slide_id},{lesions.probability:.4f}\n")
    files.append(place / "slides.csv")
    write_text(files[-1], "".join(rows))
    return Submission(
        files=tuple(files),
        remark="a region's and a slide's probability are the network's highest, which are not calibrated",
    )


def _camelyon17(
    folder: MaskFolder,
    states: Sequence[State],
    classes: ClassTable,
    place: Path,
    class_name: str | None,
    min_um: float,
) -> Submission:
    label = _metastasis(classes, class_name, "CAMELYON17")
    nodes: dict[str, dict[int, str]] = {}
    for state in states:
        _mpp(state)
        if not (named := _NODE.fullmatch(state.slide_id)):
            raise MaskError(
                f"slide {state.slide_id}: not named as a slide of CAMELYON17. Needed patient_NNN_node_M, by which "
                "nodes are put together to patients. Segment only those slides into a folder."
            )
        nodes.setdefault(named[1], {})[int(named[2])] = ""
    for patient, known in nodes.items():
        if sorted(known) != [0, 1, 2, 3, 4]:
            raise MaskError(
                f"patient {patient}: nodes {', '.join(map(str, sorted(known)))}. Needed 0 to 4: a stage counts all of "
                "them. Segment the slides that are missing."
            )
    for state, lesions in _all_lesions(folder, states, classes, label, min_um, maps=False):
        named = _NODE.fullmatch(state.slide_id)
        assert named is not None  # looked at above
        nodes[named[1]][int(named[2])] = node_stage(
            max((each.length_um for each in lesions.regions), default=None)
        )
    rows = ["patient,stage\n"]
    for patient, known in sorted(nodes.items()):
        rows.append(f"{patient}.zip,{patient_stage(list(known.values()))}\n")
        rows += [f"{patient}_node_{node}.tif,{stage}\n" for node, stage in sorted(known.items())]
    path = place / "submission.csv"
    write_text(path, "".join(rows))
    return Submission(
        files=(path,),
        remark="stages are by the length of the longest region alone: cells, of which 200 make a micro-metastasis too, "
        "are not counted, and every false region is at least isolated tumour cells; choose --min-um on training slides",
    )


def node_stage(longest_um: float | None) -> str:
    """The stage of a node by its longest metastasis; None is none."""
    if longest_um is None:
        return "negative"
    return "macro" if longest_um > MACRO_UM else "micro" if longest_um > MICRO_UM else "itc"


def patient_stage(nodes: Sequence[str]) -> str:
    """The simplified pN-stage of CAMELYON17 from the stages of all nodes."""
    positive = sum(stage in ("micro", "macro") for stage in nodes)
    if not positive:
        return "pN0(i+)" if "itc" in nodes else "pN0"
    if "macro" not in nodes:
        return "pN1mi"
    return "pN1" if positive <= 3 else "pN2"


def _tiger(
    folder: MaskFolder,
    states: Sequence[State],
    classes: ClassTable,
    place: Path,
    class_name: str | None,
    min_um: float,
) -> Submission:
    if class_name is not None or min_um:
        raise MaskError("submission tiger: --class and --min-um are of CAMELYON. Leave them out.")
    table = tiger_values(classes)
    files = []
    for state in states:
        # A container is given one slide, and writes where the challenge looks.
        root = place if len(states) == 1 else place / state.slide_id
        files.append(root / TIGER_PLACE)
        _write_values(files[-1], folder.mask(state.slide_id), table, state.mpp)
    return Submission(
        files=tuple(files),
        remark="the segmentation alone: detected-lymphocytes.json and til-score.json, which TIGER asks for too, need a "
        "detector of cells and are not written",
    )


def tiger_values(classes: ClassTable) -> np.ndarray:
    """(256,) uint8: what each label is called in TIGER; 0 is unlabelled.

    Raises:
        MaskError: A class has no meaning in TIGER, or one that is measured is missing.
    """
    known = {name: value for value, names in TIGER_VALUES.items() for name in names}
    table = np.zeros(256, np.uint8)
    strange = [name for name in classes.names if name.lower().strip() not in known]
    found = {known[name.lower().strip()] for name in classes.names if name not in strange}
    missing = [TIGER_VALUES[value][0] for value in TIGER_NEEDED if value not in found]
    if strange or missing:
        problem = "; ".join(
            text
            for text in (
                f"{', '.join(strange)} {'is' if len(strange) == 1 else 'are'} none of TIGER's"
                if strange
                else "",
                f"without {' and '.join(missing)}" if missing else "",
            )
            if text
        )
        names = ", ".join(names[0] for names in TIGER_VALUES.values())
        raise MaskError(
            f"classes of these masks, {', '.join(classes.names)}: {problem}. Needed classes called {names} (or "
            "background), the first two at least. Train on TIGER with `python -m pipelines.prepare tiger-wsirois`, or "
            "rename them in classes.json if they mean the same."
        )
    for label, name in enumerate(classes.names):
        table[label] = known[name.lower().strip()]
    return table


def _write_values(path: Path, mask: Path, table: np.ndarray, mpp: float | None) -> None:
    """The mask with other values, level by level and tile by tile."""
    tiles = open_mask(mask)
    path.parent.mkdir(parents=True, exist_ok=True)

    def changed() -> Iterator[MaskTile]:
        for level in range(len(tiles.levels)):
            for (row, column), label in np.ndenumerate(constant_tiles(tiles, level)):
                if label >= 0:
                    yield MaskTile(level=level, column=column, row=row, label=int(table[label]))
                else:
                    pixels = table[tiles.read_tile(level, column, row)[..., 0]]
                    yield MaskTile(level=level, column=column, row=row, pixels=pixels)

    try:
        write_mask(path, changed(), size=tiles.size, mpp=mpp, tile_px=tiles.levels[0].tile.width)
    finally:
        tiles.close()


def _all_lesions(
    folder: MaskFolder,
    states: Sequence[State],
    classes: ClassTable,
    label: int,
    min_um: float,
    *,
    maps: bool,
) -> Iterator[tuple[State, SlideLesions]]:
    for state in states:
        yield (
            state,
            lesions_of(
                folder.mask(state.slide_id),
                folder.probabilities(state.slide_id) if maps else None,
                label=label,
                background=classes.background,
                mpp=_mpp(state),
                min_um=min_um,
            ),
        )


def _mpp(state: State) -> float:
    if state.mpp is None:
        raise MaskError(
            f"slide {state.slide_id}: no um per pixel, and lesions are measured in um. Segment it again with --mpp UM."
        )
    return state.mpp


def _metastasis(classes: ClassTable, class_name: str | None, challenge: str) -> int:
    """The class that is a metastasis."""
    names = [name.lower().strip() for name in classes.names]
    wanted = METASTASIS if class_name is None else (class_name.lower().strip(),)
    found = [number for number, name in enumerate(names) if name in wanted]
    if len(found) == 1 and found[0] != UNLABELLED:
        return found[0]
    problem = f"{len(found)} of them" if found else "none of them"
    raise MaskError(
        f"classes of these masks, {', '.join(classes.names)}: {problem} called {', '.join(wanted)}. {challenge} asks "
        "for metastases. Name the class that they are with --class NAME, or take masks of a model that knows them."
    )


_Writer = Callable[[MaskFolder, Sequence[State], ClassTable, Path, str | None, float], Submission]
_WRITERS: dict[str, _Writer] = {"camelyon16": _camelyon16, "camelyon17": _camelyon17, "tiger": _tiger}
