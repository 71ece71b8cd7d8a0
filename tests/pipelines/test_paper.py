"""Studies of the paper: intervals, configurations of trials, binary class tables, and a study run whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.paper.__main__ import main, recorded_data
from pipelines.paper.binary import one_against_others
from pipelines.paper.claims import verdict
from pipelines.paper.intervals import Estimate, estimate, ious, mious
from pipelines.paper.measured import classes_table, missed_table, saved, trimap_of
from pipelines.paper.studies import STUDIES, Scope
from pipelines.paper.systems import METHODS, SYSTEMS
from pipelines.paper.tables import budget_text, headroom_table
from pipelines.paper.trial import Trial, config_of
from wsi_deform.annotation.classes import ClassTable, class_table_from_data
from wsi_deform.report.tables import NOTHING


def record(*images: list[list[int]], seed: int = 0) -> dict[str, Any]:
    """A record of images with these counts."""
    return {
        "trial": {"seed": seed},
        "images": {f"image {number}": {"predicted": counts} for number, counts in enumerate(images)},
    }


class TestIntervals:
    def test_iou_is_hits_over_hits_and_misses_and_false(self) -> None:
        counts = np.array([[6.0, 2.0], [1.0, 3.0]])

        assert ious(counts).tolist() == [6 / 9, 3 / 6]
        assert mious(counts) == pytest.approx((6 / 9 + 3 / 6) / 2)

    def test_a_class_that_is_nowhere_is_not_in_the_mean(self) -> None:
        assert mious(np.array([[4.0, 0.0], [0.0, 0.0]])) == 1.0

    def test_counts_are_pooled_over_images_before_the_ratio(self) -> None:
        found = estimate([record([[1, 0], [0, 9]], [[1, 8], [0, 1]])])

        # Pooled [[2, 8], [0, 10]]: 2/10 and 10/18; the mean of the images' own means would be .667.
        assert found == Estimate(
            value=pytest.approx((0.2 + 10 / 18) / 2), low=None, high=None, seeds=(found.value,)
        )

    def test_a_difference_that_is_the_same_in_every_image_has_an_interval_of_no_width(self) -> None:
        good, bad = [[5, 5], [0, 10]], [[0, 10], [0, 10]]

        found = estimate([record(*[good] * 6)], minus=[record(*[bad] * 6)])

        # Good: 5/10 and 10/15; bad: 0/10 and 10/20.
        assert found is not None
        assert found.value == pytest.approx((0.5 + 10 / 15) / 2 - 0.25)
        assert (found.low, found.high) == (pytest.approx(found.value), pytest.approx(found.value))

    def test_patients_are_resampled_whole(self) -> None:
        images = [[[10, 0], [0, 10]]] * 3 + [[[0, 10], [10, 0]]] * 3
        by_image = estimate([record(*images)])
        of_one = record(*images)
        for image in of_one["images"].values():
            image["patient"] = "all of one"

        assert by_image is not None
        assert by_image.low is not None
        assert by_image.low < 0.34 < by_image.high  # 60 hits of 180
        one_patient = estimate([of_one])
        assert one_patient is not None
        assert one_patient.low is None

    def test_seeds_that_differ_cannot_be_paired(self) -> None:
        one = record([[1, 0], [0, 1]])

        assert estimate([one, one], minus=[one]) is None
        assert estimate([]) is None

    def test_words_are_points_with_both_spreads(self) -> None:
        found = Estimate(value=0.0312, low=0.01, high=0.05, seeds=(0.02, 0.0424))

        assert found.text(signed=True) == "+3.1 [+1.0, +5.0] (+2.0 to +4.2)"


class TestTrials:
    def test_systems_share_all_but_what_makes_them(self) -> None:
        joint, uniform = (
            config_of(Trial(data="cwfid", system=name, budget=(32, 43)), images=31).model_dump()
            for name in ("joint", "uniform")
        )

        differing = {
            (section, key)
            for section, values in joint.items()
            if isinstance(values, dict)
            for key in values
            if values[key] != uniform[section][key]
        }
        assert differing == {("sampling", "density")}

    def test_length_is_in_steps_whatever_the_number_of_images(self) -> None:
        for images, epochs in ((31, 100), (4, 750)):
            config = config_of(
                Trial(data="cwfid", system="joint", budget=(32, 43)), images=images, steps=1500
            )
            assert (config.training.epochs, config.training.batch) == (epochs, 2)

    def test_blocks_are_read_as_their_data_set_says_by_their_own_encoder(self) -> None:
        trial = Trial(data="glas", system="blocks-tissue", budget=(16, 75), variant="share-0.25")
        config = config_of(trial, images=64)
        assert trial.name == "blocks-tissue_share-0.25_seed0"
        assert config.sampling.geometry == "blocks"
        blocks = config.blocks
        assert blocks is not None
        assert (blocks.finest_um, blocks.levels, blocks.window_px, blocks.choice) == (2.5, 3, 64, "tissue")
        assert config.networks.segmentation.options == {"width": 64, "frozen": True}
        assert config.networks.pretrained == "efficientnet-lite0"
        # 600 steps of two of 64 images.
        assert config.training.epochs == 19

    def test_blocks_and_their_first_controls_are_run_with_coarser_labels_too(self) -> None:
        trials = [t for t in STUDIES["blocks"].trials(Scope(data=("glas",))) if "label" in t.variant]
        assert sorted({t.name for t in trials}) == [
            "blocks-detail_share-0.15_label-4_seed0",
            "blocks-detail_share-0.25_label-4_seed0",
            "blocks-detail_share-0.55_label-4_seed0",
            "blocks_share-0.15_label-4_seed0",
            "blocks_share-0.25_label-4_seed0",
            "blocks_share-0.55_label-4_seed0",
            "dense-1_label-4_seed0",
            "dense-2_label-4_seed0",
        ]
        sides = [config_of(t, images=64).blocks.label_px for t in trials]  # type: ignore[union-attr]
        assert set(sides) == {4}
        plain = config_of(Trial(data="glas", system="blocks", budget=(16, 75)), images=64)
        assert plain.blocks is not None
        assert plain.blocks.label_px == 2

    def test_dense_reading_sees_all_of_one_level(self) -> None:
        config = config_of(Trial(data="camvid", system="dense-4", budget=(24, 32)), images=136)
        blocks = config.blocks
        assert blocks is not None
        # A photograph: level-0 px, and no glass.
        assert (blocks.finest_um, blocks.finest_px, blocks.levels) == (None, 4.0, 1)
        assert not blocks.skip_glass

    def test_from_scratch_nothing_is_loaded_and_nothing_is_frozen(self) -> None:
        config = config_of(Trial(data="glas", system="blocks-scratch", budget=(16, 75)), images=64)
        assert config.networks.pretrained is None
        assert config.networks.segmentation.options["frozen"] is False

    def test_warps_show_the_same_encoder_as_many_pixels_as_blocks_read(self) -> None:
        [trial] = [
            each
            for each in STUDIES["blocks"].trials(Scope(data=("cwfid",)))
            if (each.system, each.variant) == ("warp-joint", "share-0.26")
        ]
        config = config_of(trial, images=28)
        # 483 x 648 px of 2 px; the map is as that of 32 x 43 samples.
        assert config.sampling.budget == (246, 330)
        assert pytest.approx(0.26 * 483 * 648, rel=0.01) == 246 * 330
        assert round(config.sampling.map_scale * 246) == 32
        assert (config.sampling.geometry, config.sampling.density) == ("warp", "learned")
        assert config.networks.segmentation.name == "efficientnet-lite0"
        assert config.networks.segmentation.options == {"width": 64, "frozen": True}
        assert config.networks.pretrained == "efficientnet-lite0"
        assert config.training.epochs == 43  # 600 steps of two of 28 images, as blocks

    def test_names_tell_trials_apart(self) -> None:
        trials = {
            trial
            for study in STUDIES.values()
            for trial in study.trials(Scope(data=("cwfid",), seeds=(0, 1)))
        }

        assert len({trial.name for trial in trials}) == len(trials)


def test_one_class_against_all_others_keeps_what_is_unlabelled() -> None:
    classes = ClassTable.from_names(["soil", "crop", "weed"])

    table = one_against_others(classes, "crop")

    assert table.mapping == {255: 255, 0: 0, 2: 0, 1: 1}
    assert (table.names, table.background) == (("other", "crop"), 0)


def test_one_class_against_all_others_keeps_names_in_annotation_files() -> None:
    classes = class_table_from_data(
        {
            "classes": ["soil", {"name": "crop", "source_names": ["plant"]}, "weed"],
            "unlabelled_names": ["unsure"],
            "regions": ["ROI"],
            "ignored": ["ruler"],
        },
        "test",
    )

    table = one_against_others(classes, "crop")

    meant = {"soil": 0, "weed": 0, "other": 0, "crop": 1, "plant": 1, "unsure": 255, "ROI": -1, "ruler": -2}
    assert table.source_mapping == meant


def test_headroom_is_what_four_times_the_samples_gain() -> None:
    def of(budget: tuple[int, int], hits: int) -> tuple[Trial, dict[str, Any]]:
        counts = [[hits, 100 - hits], [100 - hits, hits]]
        return Trial(data="cwfid", system="uniform", budget=budget), record(counts)

    # IoU of both classes: 80 / 120 and 90 / 110.
    records = dict([of((32, 43), 80), of((64, 86), 90)])

    table = headroom_table(records, Scope(data=("cwfid",)))

    assert table.rows[0] == ("CWFID (field)", "32x43", "+15.2", "yes")
    assert budget_text((32, 43)) == "32x43"


def test_every_study_runs_whole_and_is_not_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["all", "--quick", "--out", str(tmp_path), "--budgets", "8x16"]

    assert main(asked) == 0

    records = tmp_path / "records"
    found = json.loads((records / "quick/joint_8x16_dynunet_seed0.json").read_text(encoding="utf-8"))
    assert found["settings"]["sampling"]["budget"] == [8, 16]
    assert len(found["images"]) == 5
    # Five slides of 256 x 128 px, all labelled.
    assert np.sum([image["predicted"] for image in found["images"].values()]) == 5 * 256 * 128
    assert found["cost"]["samples"] == 8 * 16
    # A patch sees every pixel, and has no samples to put true labels at.
    patches = json.loads((records / "quick/patches_8x16_dynunet_seed0.json").read_text(encoding="utf-8"))
    assert patches["pooled"]["sampled"] is None
    assert patches["cost"]["samples"] >= 256 * 128
    pages = {name: (records / name / "README.md").read_text(encoding="utf-8") for name in STUDIES}
    for system in METHODS:
        assert SYSTEMS[system].label in pages["figure4_5"]
    assert "| all | HRNetV2-W48, ImageNet weights |" in pages["claims"]
    assert "| blocks (ours), 50 % | " in pages["blocks"]
    assert "| dense, 1 x the finest um per px, whole | " in pages["blocks"]
    assert "| dense, 1 x the finest um per px, whole (ours 50 %) | " in pages["blocks"]
    warp = json.loads((records / "quick/warp-uniform_share-0.5_seed0.json").read_text(encoding="utf-8"))
    # 16 x 32 px of 4 um, half of them.
    assert warp["settings"]["sampling"]["budget"] == [11, 23]
    assert warp["cost"]["samples"] == 11 * 23
    blocks = json.loads((records / "quick/blocks_share-0.5_seed0.json").read_text(encoding="utf-8"))
    # 128 x 64 um: 8 x 4 px of 16 um, filled up to 16 x 16; of the 512 px of the finest level, half is as much, so that
    # one window of 16 px of each further level is all there is.
    assert blocks["cost"]["read_pixels"] == 256 + 2 * 256
    assert "| Cityscapes 1024x1024 | 96x96 | sigma_px 15 | 35 |" in pages["tables2_to_5"]
    assert "| Cityscapes 1024x1024 | 64x64 | filters_blocks 16x1 | 29 |" in pages["table6"]
    for figure in (
        "figure4_5/figure4_predicted",
        "figure6/quick_flops",
        "figure9/quick_trimap",
        "figure14/figure14",
        "blocks/quick_pixels",
    ):
        assert (records / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    assert recorded_data(records) == ("quick",)
    assert max(path.stat().st_size for path in records.glob("*/*.png")) < 50_000
    capsys.readouterr()
    assert main(["figure4_5", *asked[1:]]) == 0
    assert "9 of 9 trials recorded, 0 to run" in capsys.readouterr().out


class TestMeasured:
    def test_what_is_saved_is_read_off_between_points_on_a_logarithmic_scale(self) -> None:
        ours, theirs = [(10.0, 0.4), (1000.0, 0.6)], [(10.0, 0.3), (400.0, 0.5), (4000.0, 0.7)]

        # .5 lies half way from 10 to 1000: 100 instead of 400. Below .4 and above .6 nothing is said.
        assert saved(ours, theirs) == [(0.5, pytest.approx(0.75))]

    def test_a_curve_that_falls_counts_where_it_first_reaches(self) -> None:
        assert saved([(1.0, 0.5), (2.0, 0.4), (4.0, 0.6)], [(8.0, 0.5)]) == [(0.5, 0.875)]

    def test_bands_of_the_trimap_are_means_over_seeds(self) -> None:
        def of(accuracy: float) -> dict[str, Any]:
            rows = [{"unit": "px", "width": 2, "accuracy": accuracy, "miou": 0.5}]
            return {"measured": {"trimap": [*rows, {"unit": "um", "width": 2, "accuracy": 0, "miou": 0}]}}

        assert trimap_of([of(0.5), of(0.75)]) == {2: 0.625}

    def test_missed_objects_are_those_that_no_pixel_of_the_mask_touches(self) -> None:
        row = {"class": "weed", "unit": "px^2", "from": 10.0, "to": 100.0, "objects": 8, "touched": 6}
        one = {"measured": {"objects": [row, row | {"from": None, "to": None}]}}

        table = missed_table({"joint": [one], "uniform": [{"measured": {"objects": [row | {"touched": 2}]}}]})

        assert table.header == ("objects of the labels", "number", "joint", "uniform")
        assert table.rows == (("weed, 10 to 100 px^2", "8", "25 %", "75 %"),)

    def test_classes_have_their_iou_and_how_far_their_borders_are_off(self) -> None:
        def of(counts: list[list[int]], far: float | None) -> dict[str, Any]:
            rows = [
                {"class": name, "unit": "px", "mean": mean}
                for name, mean in (("soil", far), ("weed", None if far is None else 2 * far))
            ]
            return record(counts) | {"classes": ["soil", "weed"], "measured": {"boundary": rows}}

        table = classes_table(
            {
                "blocks": [of([[6, 2], [1, 3]], 1.0), of([[6, 2], [1, 3]], 2.0)],
                "dense": [of([[1, 0], [0, 9]], None)],
            }
        )

        of_slides = of([[1, 0], [0, 9]], 4.0)
        of_slides["measured"]["boundary"] += [
            {"class": name, "unit": "um", "mean": 0.5} for name in ("soil", "weed")
        ]
        assert classes_table({"slides": [of_slides]}).header[2] == "border, um"
        assert classes_table({"slides": [of_slides]}).rows == (("slides", "100.0", "0.5", "100.0", "0.5"),)
        assert table.header == ("system", "soil, IoU", "border, px", "weed, IoU", "border, px")
        # 6 of 9 and 3 of 6 pixels; means of 1 and 2 px.
        assert table.rows == (
            ("blocks", "66.7", "1.5", "50.0", "3.0"),
            ("dense", "100.0", NOTHING, "100.0", NOTHING),
        )

    def test_on_tissue_pixels_of_glass_do_not_count(self) -> None:
        half = record([[10, 0], [5, 5]])
        half["images"]["image 0"]["on_tissue"] = [[2, 0], [5, 5]]

        found = estimate([half], kind="on_tissue")

        assert found is not None
        assert found.value == pytest.approx((2 / 7 + 5 / 10) / 2)
        assert estimate([record([[10, 0], [5, 5]])], kind="on_tissue") is None


class TestClaims:
    @pytest.mark.parametrize(
        ("value", "low", "high", "seeds", "headroom", "said"),
        [
            (0.05, 0.01, 0.09, (0.04, 0.05, 0.06), 0.1, "reproduced"),
            (0.05, 0.01, 0.09, (-0.01, 0.05, 0.11), 0.1, "undecided"),
            (0.05, -0.01, 0.09, (0.04, 0.05, 0.06), 0.1, "undecided"),
            (0.02, 0.01, 0.04, (0.01, 0.02, 0.03), 0.1, "undecided"),
            (0.01, 0.005, 0.02, (0.005, 0.01, 0.015), 0.1, "not reproduced"),
            (-0.02, -0.05, 0.04, (-0.03, -0.02, -0.01), 0.1, "not reproduced"),
            (0.05, 0.01, 0.09, (0.04, 0.06), 0.1, "undecided"),
            (0.05, 0.01, 0.09, (0.04, 0.05, 0.06), 0.04, "no headroom"),
        ],
    )
    def test_a_gain_of_three_points_is_claimed(
        self,
        value: float,
        low: float,
        high: float,
        seeds: tuple[float, ...],
        headroom: float,
        said: str,
    ) -> None:
        assert verdict(Estimate(value=value, low=low, high=high, seeds=seeds), 0.03, headroom) == said

    def test_what_is_not_recorded_is_not_judged(self) -> None:
        assert verdict(None, 0.03, None) == "not recorded"
