"""The deep check of a manifest: every slide and every mask is opened, every value is looked up."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from wsi_deform.annotation.classes import UNLABELLED, ClassTable
from wsi_deform.annotation.duplicates import duplicates_of
from wsi_deform.annotation.label_check import SeenValues, judge_labels
from wsi_deform.annotation.label_file import LabelFile
from wsi_deform.annotation.label_table import label_table
from wsi_deform.annotation.outlines.outline import OutlineSet
from wsi_deform.annotation.outlines.summary import named_outlines, proposed_table
from wsi_deform.annotation.row_check import RowCheck, RowFindings
from wsi_deform.annotation.scales import unit_remarks
from wsi_deform.annotation.suggested_classes import class_table_text, suggested_classes
from wsi_deform.annotation.unknown_values import PASTE, unknown_values_problem
from wsi_deform.annotation.value_text import values_text
from wsi_deform.geometry import mean_mpp
from wsi_deform.kernels.ahead import ahead
from wsi_deform.manifest.problems import EXAMPLES, Problem
from wsi_deform.manifest.rows import Manifest, ManifestRow, patients_remark
from wsi_deform.slide.levels.cache_folder import CACHE

SHOWN_NAMES = 20
_SIZE = re.compile(r" \([\d,]+ x [\d,]+ px\)")  # of one slide


def check_manifest(
    manifest: Manifest,
    classes: ClassTable | None = None,
    *,
    for_training: bool = False,
    scan: bool = True,
    jobs: int = 1,
    on_row: Callable[[ManifestRow], None] | None = None,
    allow_empty_classes: bool = False,
    on_remark: Callable[[str], None] | None = None,
    on_table: Callable[[list[str]], None] | None = None,
    on_findings: Callable[[Sequence[RowFindings]], None] | None = None,
) -> list[Problem]:
    """Open what a manifest points to and say everything that is wrong with it.

    Args:
        manifest: From ``read_manifest``, which has checked the CSV itself.
        classes: What mask values mean; None is a problem where there are masks, told with a table to start from.
        for_training: Whether there must be labelled slides to train on and to validate on; the values of other masks
            are not looked up, levels that slides lack are built, and slides in two splits are remarks.
        scan: Whether every pixel of every mask is looked up, once: of large masks that did not change the counts are
            known from the last time. False only compares sizes.
        jobs: Rows that are looked at at the same time, by threads.
        on_row: Called after each row, in their order, to show progress.
        allow_empty_classes: Whether classes without pixels are remarks instead of problems.
        on_remark: Called with what is no problem and yet worth knowing: classes that val or test lack, slides
            without a patient, masks that are no level of their slide, slides that are there twice, levels to be built.
        on_table: Called with the lines of ``label_table`` where labels were counted.
        on_findings: Called with what was found in the files of each row, in their order.

    Returns:
        All problems, in the order of the rows, then those of all rows together; empty when there are none. With a
        class table and ``scan``, a class that no training mask has is one, and so are masks of one class only.

    Convention:
        What is said does not depend on ``jobs``.
    """
    look = RowCheck(
        classes=classes,
        scan=scan,
        scanned=("train", "val") if for_training else None,
        builds_levels=for_training,
    ).look
    check = _Check(classes=classes)
    for found in ahead(look, manifest.rows, threads=max(1, jobs), max_waiting=2 * max(1, jobs)):
        check.add(found)
        if on_row is not None:
            on_row(found.row)
    if for_training:
        check.training(manifest)
    remarks = [
        *check.scales(),
        *check.frames(),
        *check.outlines(),
        *check.levels(),
        *check.twice(are_remarks=for_training),
    ]
    remarks += check.all_labels(allow_empty_classes=allow_empty_classes)
    if remark := patients_remark(manifest):
        remarks.append(remark)
    if on_remark is not None:
        for each in remarks:
            on_remark(each)
    if on_table is not None and classes is not None:
        on_table(label_table(check.seen.pixels, classes))
    if on_findings is not None:
        on_findings(check.found)
    return check.problems


@dataclass(slots=True, kw_only=True)
class _Check:
    """What has been found so far.

    Attributes:
        problems: In the order of the rows.
        found: Of each row.
        seen: The values of all masks that were counted.
    """

    classes: ClassTable | None
    problems: list[Problem] = field(default_factory=list)
    found: list[RowFindings] = field(default_factory=list)
    seen: SeenValues = field(default_factory=SeenValues)

    def add(self, found: RowFindings) -> None:
        """Take up what was found in the next row."""
        self.found.append(found)
        self.problems += found.problems
        if found.values is not None:
            self.seen.add(
                found.row,
                found.values,
                self.classes,
                px_per_pixel=found.px_per_pixel,
                are_outlines=found.are_outlines,
            )

    def scales(self) -> list[str]:
        """Look at the um per pixel of all slides together, which all have or none has; returns remarks."""
        opened = [each for each in self.found if each.slide is not None]
        without = [each for each in opened if each.slide is not None and each.slide.mpp is None]
        if without and len(without) == len(opened):
            return [
                "no slide has um per pixel: they are taken for photographs, and no setting may be in um "
                "(fields.side_um=null, sampling.coarsest_um=null). If they are slides, fill column mpp of the manifest"
            ]
        for each in without:
            told = len(each.problems)
            each.add(
                f"{each.row.slide}: no microns-per-pixel in the file, and {len(opened) - len(without)} other slides "
                "have them. Needed an mpp of all slides, or of none. Set the mpp column in its manifest row.",
            )
            self.problems += each.problems[told:]
        return unit_remarks(
            [
                (each.row.slide_id, mean_mpp(each.slide.mpp))
                for each in opened
                if each.slide is not None and each.slide.mpp is not None
            ]
        )

    def frames(self) -> list[str]:
        """A remark where masks are no levels of their slides."""
        stretched = [each for each in self.found if each.stretched is not None]
        if not stretched:
            return []
        shown = ", ".join(f"{each.row.slide_id}: {each.stretched:.4g}" for each in stretched[:EXAMPLES])
        return [
            f"{len(stretched)} masks are smaller than their slides by a factor that is no whole number ({shown}): "
            "they are laid over them edge to edge, each level-0 pixel with the label of the mask pixel that its centre "
            "lies in"
        ]

    def outlines(self) -> list[str]:
        """Remarks on what was left out of outlines, repaired or taken for something else, each kind once."""
        counts: dict[str, list[tuple[str, int]]] = {}
        for each in self.found:
            for remark in each.outline_remarks:
                text, _, count = remark.rpartition(": ")
                counts.setdefault(_SIZE.sub("", text), []).append(
                    (each.row.slide_id, int(count.replace(",", "")))
                )
        said = []
        for text, own in counts.items():
            shown = ", ".join(f"{slide_id}: {count:,}" for slide_id, count in own[:EXAMPLES])
            more = ", ..." if len(own) > EXAMPLES else ""
            files = "1 slide" if len(own) == 1 else f"{len(own)} slides"
            said.append(f"outlines of {files}: {text}: {sum(count for _, count in own):,} ({shown}{more})")
        return said

    def levels(self) -> list[str]:
        """A remark where slides lack coarse levels that take a while to be built."""
        seconds = {
            each.row.slide_id: each.slide.build_s for each in self.found if each.slide and each.slide.build_s
        }
        if not seconds:
            return []
        shown = ", ".join(f"{slide_id}: {_time(own)}" for slide_id, own in list(seconds.items())[:EXAMPLES])
        more = ", ..." if len(seconds) > EXAMPLES else ""
        lack = "1 slide lacks" if len(seconds) == 1 else f"{len(seconds)} slides lack"
        return [
            f"{lack} coarse levels; they are built when first read, once, and kept in {CACHE.folder}: about "
            f"{_time(sum(seconds.values()))} in all ({shown}{more})"
        ]

    def twice(self, *, are_remarks: bool) -> list[str]:
        """Look for slides and labels that are there twice; returns remarks."""
        twice = duplicates_of(self.found)
        if are_remarks:
            return [*(f"{each.where}: {each.found}" for each in twice.problems), *twice.remarks]
        self.problems += twice.problems
        return twice.remarks

    def all_labels(self, *, allow_empty_classes: bool) -> list[str]:
        """Look at the values of all masks together; returns remarks."""
        unnamed = [each.unnamed for each in self.found if each.unnamed is not None]
        if self.classes is None and any(each.row.mask is not None for each in self.found):
            self.problems.append(_without_table(self.seen))
        elif self.classes is None and unnamed:
            self.problems.append(_names_without_table(unnamed))
        if self.classes is None or not self.seen.pixels:
            return []
        if any(each.unread for each in self.found):
            # What seems to be missing may be in the masks that were not read; what is unknown stays so.
            unknown = unknown_values_problem(self.seen.total, self.classes, self.seen.unknown)
            self.problems += [] if unknown is None else [unknown]
            return []
        judged = judge_labels(self.seen, self.classes, allow_empty_classes=allow_empty_classes)
        self.problems += judged.problems
        return judged.remarks

    def training(self, manifest: Manifest) -> None:
        """Look for labelled slides in train and val."""
        for split in ("train", "val"):
            rows = manifest.of_split(split)
            without = [row.slide_id for row in rows if LabelFile.of_row(row) is None]
            if len(without) == len(rows):
                found = f"{len(rows)} slides in split {split}, none with a mask or an annotation"
                remedy = f"Set split to {split} for some patients and fill in column mask or annotation"
                self._of_all(found, "at least one labelled slide", remedy)
            elif without:
                found = f"{len(without)} slides of split {split} have no labels: {', '.join(without[:5])}"
                remedy = "Fill in column mask or annotation, or empty split"
                self._of_all(found, "labels for every slide of train and val", remedy)

    def _of_all(self, found: str, needed: str, remedy: str) -> None:
        self.problems.append(Problem(where="manifest", found=found, needed=needed, remedy=remedy))


def _names_without_table(found: Sequence[OutlineSet]) -> Problem:
    """What outlines are called where no class table says what that means."""
    named = named_outlines(found)
    shown = ", ".join(f"{each.name!r} ({each.count:,})" for each in named[:SHOWN_NAMES])
    more = f" and {len(named) - SHOWN_NAMES} more" if len(named) > SHOWN_NAMES else ""
    return Problem(
        where="class table",
        found="no class table says what the class names of the outlines mean"
        + (f": {shown}{more}" if named else ""),
        needed="a class for every name",
        remedy=f"{PASTE[0].upper()}{PASTE[1:]}, as a start",
        paste=class_table_text(proposed_table(named)),
    )


def _without_table(seen: SeenValues) -> Problem:
    """What the masks hold where no class table says what it means."""
    found = "no class table says what the values of the masks mean"
    found += f": {values_text(seen.total)}" if seen.total else ""
    needed, remedy = (
        "the names of the classes and their mask values",
        f"{PASTE[0].upper()}{PASTE[1:]}, as a start",
    )
    if seen.total.keys() <= {UNLABELLED}:
        remedy = "Write classes.yaml beside the manifest, or pass --classes FILE"
        return Problem(where="class table", found=found, needed=needed, remedy=remedy)
    named = ClassTable.from_values(seen.total)
    suggested = suggested_classes(seen.total, named)
    text = class_table_text(named) if suggested is None else suggested.text
    return Problem(where="class table", found=found, needed=needed, remedy=remedy, paste=text)


def _time(seconds: float) -> str:
    """A time as people say it, of a second or more."""
    whole = max(1, round(seconds))
    return f"{whole} s" if whole < 120 else f"{round(whole / 60)} min"
