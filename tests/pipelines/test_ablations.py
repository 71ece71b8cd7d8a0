import csv
import json
import math

import pytest
from tiny_study import MPP, SIZE

from pipelines.ablations.study import Trial, budget_of, write_results
from pipelines.ablations.tables import (
    ENDINGS,
    augmentation_table,
    differences_table,
    draw_curves,
    group_table,
    levels_table,
    methods_table,
    paired,
    points,
    samples_for,
    saved_table,
    time_table,
    with_averages,
)
from pipelines.ablations.trial import RESULT, run_trial
from pipelines.ablations.variants import DEFAULT, VARIANTS, variant_of
from wsi_deform.config import read_config
from wsi_deform.drawn.study import draw_study


def row(variant, budget, seed, miou, group="methods"):
    measured = {name: str(miou) for name in ("test_miou_linear", "val_miou_linear", "test_miou_sampled")}
    about = {"group": group, "variant": variant, "budget": budget, "seed": str(seed)}
    return {**about, **measured, "test_tissue_share": "0.2"}


ROWS = [
    row("joint", "16x64", 0, 0.60),
    row("joint", "16x64", 1, 0.50),
    row("uniform", "16x64", 0, 0.40),
    row("uniform", "16x64", 1, 0.45),
    row("joint", "32x128", 0, 0.90),
    row("uniform", "32x128", 0, 0.60),
    row("sigma .125", "16x64", 0, 0.65, group="geometry"),
]


def test_every_variant_is_a_valid_configuration_of_its_own():
    read = [
        read_config(changes=Trial(variant=variant, budget=(16, 64), seed=0).changes(100, []))
        for variant in VARIANTS
    ]
    assert len({config.model_dump_json() for config in read}) == len(VARIANTS)
    assert len({variant.name for variant in VARIANTS}) == len(VARIANTS)
    assert variant_of(DEFAULT).changes == ()


def test_differences_are_paired_by_seed():
    assert paired(ROWS, "joint", "uniform", "16x64") == pytest.approx([0.20, 0.05])
    assert points([0.20, 0.05]) == "+12.5 (+5.0 to +20.0)"
    assert differences_table(ROWS).rows == (("uniform", "+12.5 (+5.0 to +20.0)", "+30.0 (1)"),)


def test_less_training_of_one_against_more_of_the_other():
    short = [
        {**row("joint", "16x64", seed, miou), "epochs": "60", "train_cpu_seconds": str(80 + seed)}
        for seed, miou in enumerate((0.55, 0.50))
    ]
    long = [
        {**row(name, "16x64", 0, miou), "epochs": "150", "train_cpu_seconds": "120"}
        for name, miou in (("joint", 0.9), ("uniform", 0.45))
    ]
    table = time_table(long, short)
    assert table.header == ("", "16x64")
    assert table.rows == (
        ("joint, 60 epochs, CPU s", "80"),
        ("uniform, 150 epochs, CPU s", "120"),
        ("joint ahead by", "+10.0 (1)"),
    )


def test_training_without_augmentation_by_sampling_stands_beside_training_with_it():
    without = "uniform, no augmentation by sampling"
    rows = [*ROWS, row(without, "16x64", 0, 0.46), row("no augmentation by sampling", "32x128", 0, 0.85)]
    table = augmentation_table(rows)
    assert table.header == ("without it", "16x64", "32x128")
    assert table.rows == (("uniform", "0.460: +6.0 (1)", "–"), ("joint", "–", "0.850: -5.0 (1)"))


def test_what_a_sample_reads_stands_beside_averages_of_the_same_seed(tmp_path):
    averages = [
        row("joint", "16x64", 1, 0.40),
        row("uniform", "16x64", 1, 0.30),
        row("uniform", "16x64", 0, 0.90),
        row("joint, 4 octaves finer", "16x64", 1, 0.38, group="levels"),
        row("uniform, point-sampled", "16x64", 1, 0.35, group="baselines"),
        row("uniform, point-sampled", "24x96", 1, 0.5, group="baselines"),
    ]
    with (tmp_path / "averages.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(averages[0]))
        writer.writeheader()
        writer.writerows(averages)
    default = [each for each in ROWS if each["budget"] == "16x64"]
    default.append(row("uniform, at most 8 um", "16x64", 1, 0.32, group="levels"))
    default.append(row("tissue mask", "16x64", 0, 0.58))
    assert levels_table(with_averages(default, tmp_path / "averages.csv")).rows == (
        ("16x64", "its cell, averaged", "0.400", "–", "0.600 ± 0.300 (2)", "–", "+10.0 (1)", "–"),
        (
            "16x64",
            "at most 16 um",
            "0.550 ± 0.050 (2)",
            "+10.0 (1)",
            "0.425 ± 0.025 (2)",
            "-17.5 (-50.0 to +15.0)",
            "+12.5 (+5.0 to +20.0)",
            "+2.0 (1)",
        ),
        ("16x64", "at most 8 um", "–", "–", "0.320", "+2.0 (1)", "–", "–"),
        ("16x64", "4 octaves finer", "0.380", "-2.0 (1)", "–", "–", "–", "–"),
        ("16x64", "a point of level 0", "–", "–", "0.350", "+5.0 (1)", "–", "–"),
        ("24x96", "a point of level 0", "–", "–", "0.500", "–", "–", "–"),
    )
    assert with_averages(averages, tmp_path / "none.csv") == averages
    assert {f"joint{ending}" for ending in ENDINGS.values()} <= {variant.name for variant in VARIANTS}


def test_a_curve_is_read_between_its_budgets_and_not_beyond():
    curve = [(1024, 0.4), (4096, 0.6)]
    assert samples_for(0.5, curve) == pytest.approx(2048)
    assert samples_for(0.3, curve) == 1024
    assert math.isinf(samples_for(0.7, curve))


def test_samples_that_uniform_needs():
    # Seed 0: joint with 1,024 samples equals uniform with 4,096, and with 4,096 it is beyond the curve of uniform.
    rows = dict(saved_table(ROWS).rows)
    assert rows["16x64"] == "4.00 (4.00 to 4.00)"
    assert rows["32x128"] == "over 1 in 1 of 1 seeds"


def test_tables_have_a_row_for_each_method_and_variant(tmp_path):
    table = methods_table(ROWS)
    assert table.header == ("method", "16x64", "32x128")
    assert [cells[0] for cells in table.rows] == ["joint", "uniform"]
    assert table.rows[0][1] == "0.550 ± 0.050 (2)"
    assert methods_table(ROWS, "test_tissue_share").rows[0][1] == "0.200 ± 0.000 (2)"
    group = group_table(ROWS, "geometry")
    assert [cells[0] for cells in group.rows] == ["joint", "sigma .125"]
    assert group.rows[1][3] == "+5.0 (1)"
    with pytest.raises(ValueError, match="colours: neither a table nor a group"):
        group_table(ROWS, "colours")
    draw_curves(ROWS, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["joint", "edge oracle", "cut to tissue"])
def test_a_trial_trains_measures_and_lands_in_the_results(tmp_path, name):
    draw_study(tmp_path / "slides", train=2, val=1, test=1, size=SIZE, mpp=MPP, slides_per_patient=1)
    trial = Trial(variant=variant_of(name), budget=budget_of("8x32"), seed=3)
    small = ["networks.segmentation={name: hrnetv2, width: 4, stem_stride: 1}"]
    found = run_trial(
        trial.folder(tmp_path),
        slides=tmp_path / "slides" / "manifest.csv",
        changes=trial.changes(1, small),
    )
    assert 0 <= found["test_miou"] <= 1
    assert found["test_miou_sampled"] > 0.3
    assert json.loads((trial.folder(tmp_path) / RESULT).read_text()) == found
    write_results(tmp_path)
    with (tmp_path / "results.csv").open(newline="") as file:
        (read,) = csv.DictReader(file)
    assert (read["variant"], read["budget"], read["seed"]) == (name, "8x32", "3")
    assert float(read["test_miou"]) == pytest.approx(found["test_miou"], abs=1e-5)
