import csv

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from wsi_deform.train.log import COLUMNS, RunLog, epoch_row, newest_picture

ROW = {
    "epoch": 1,
    "loss": 1.0,
    "segmentation_loss": 0.5,
    "edge_loss": 0.5,
    "learning_rate": 2e-3,
    "deformation_learning_rate": 1e-2,
    "seconds": 2.0,
    "labelled_share": 0.25,
}


def events(folder):
    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return found


def test_times_of_an_epoch_are_summed_and_the_rest_is_averaged_over_its_steps():
    row = epoch_row(
        {
            "loss": 6.0,
            "samples": 4000,
            "labelled_share": 1.5,
            "read_seconds": 1.0,
            "forward_seconds": 2.0,
            "backward_seconds": 0.5,
            "seconds": 4.0,
        },
        3,
    )
    assert row == {
        "loss": 2.0,
        "labelled_share": 0.5,
        "read_seconds": 1.0,
        "forward_seconds": 2.0,
        "backward_seconds": 0.5,
        "seconds": 4.0,
        "samples_per_second": 1000.0,
    }
    assert set(row) < set(COLUMNS)


def test_an_epoch_without_time_has_no_pace():
    assert epoch_row({}, 0) == {}


def test_every_number_is_in_the_table_and_in_tensorboard(tmp_path):
    with RunLog(tmp_path) as log:
        log.write([ROW])
        log.write([ROW, ROW | {"epoch": 2, "val_miou": 0.5}])
    with (tmp_path / "log.csv").open() as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == COLUMNS
    assert [row["val_miou"] for row in table] == ["", "0.5"]
    assert table[1]["labelled_share"] == "0.25"
    found = events(tmp_path)
    assert {"learning_rate", "deformation_learning_rate", "labelled_share"} <= set(found.Tags()["scalars"])
    assert [(each.step, each.value) for each in found.Scalars("val_miou")] == [(2, 0.5)]


def test_epochs_that_a_killed_process_lost_are_hidden_once_they_are_trained_again(tmp_path):
    with RunLog(tmp_path) as log:
        for epoch in (1, 2, 3):
            log.write([ROW | {"epoch": epoch, "loss": 9.0}])
    with RunLog(tmp_path, [ROW]) as log:
        log.write([ROW, ROW | {"epoch": 2, "loss": 0.5}])
    assert [(each.step, each.value) for each in events(tmp_path).Scalars("loss")] == [(1, 9.0), (2, 0.5)]


def test_pictures_of_all_validations_are_in_tensorboard_and_of_the_newest_in_the_folder(tmp_path):
    assert newest_picture(tmp_path) is None
    with RunLog(tmp_path) as log:
        log.show(3, {})
        assert newest_picture(tmp_path) is None
        for epoch in (5, 40):
            log.show(
                epoch, {"P1": np.full((4, 10, 3), epoch, np.uint8), "P2": np.zeros((6, 10, 3), np.uint8)}
            )
    path = newest_picture(tmp_path)
    assert path == tmp_path / "pictures" / "epoch-0040.png"
    assert list(path.parent.iterdir()) == [path]
    with Image.open(path) as opened:
        pixels = np.asarray(opened)
    assert pixels.shape == (10, 10, 3)
    assert pixels[0, 0].tolist() == [40, 40, 40]
    found = events(tmp_path)
    assert [each.step for each in found.Images("pictures/P1")] == [5, 40]
    assert found.Images("pictures/P2")[0].height == 6


@pytest.mark.parametrize("validated", [False, True])
def test_curves_are_drawn_with_and_without_validation(tmp_path, validated):
    row = ROW | ({"val_miou": 0.5, "val_miou_without_background": 0.4} if validated else {})
    with RunLog(tmp_path) as log:
        log.draw([row])
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
