from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsi_deform.config import dump_config, parse_config
from wsi_deform.config_sections import Config
from wsi_deform.files import write_json
from wsi_deform.provenance import provenance
from wsi_deform.report.pace import pace_figure, pace_text, timed_rows
from wsi_deform.report.run import report_run
from wsi_deform.train.log import RunLog

TIMED = {
    "seconds": 10.0,
    "read_seconds": 5.0,
    "forward_seconds": 2.0,
    "backward_seconds": 2.5,
    "samples_per_second": 400.0,
    "labelled_share": 0.25,
}
LOSSES = {"loss": 1.0, "segmentation_loss": 0.5, "edge_loss": 0.5, "learning_rate": 0.1}


def run_folder(folder: Path, rows: list[dict[str, float]], config: Config, *, picture: bool) -> Path:
    folder.mkdir()
    with RunLog(folder) as log:
        log.write(rows)
        if picture:
            log.show(2, {"P1": np.full((20, 40, 3), 77, np.uint8)})
    (folder / "config.yaml").write_text(dump_config(config))
    write_json(folder / "provenance.json", provenance(seed=7))
    return folder


@pytest.mark.parametrize("epochs", [1, 3, 300])
def test_figure_of_the_time_is_drawn_for_short_and_long_runs(epochs: int) -> None:
    rows = [TIMED | {"epoch": epoch + 1.0, "seconds": 10.0 + 500 * (epoch == 0)} for epoch in range(epochs)]
    with Image.open(io.BytesIO(pace_figure(rows))) as opened:
        assert opened.width > 1200
        assert len(opened.convert("RGB").getcolors(1 << 20) or ()) > 10


def test_text_weighs_epochs_by_their_time() -> None:
    slow = TIMED | {"epoch": 1.0, "seconds": 30.0, "read_seconds": 25.0, "samples_per_second": 200.0}
    text = pace_text([slow, TIMED | {"epoch": 2.0}])
    assert "40 s in training steps: reading 75%, forward 10%, backward 12%" in text
    assert "250 samples per second; 25% of them" in text


def test_rows_of_older_logs_are_left_out() -> None:
    old = {"epoch": 1.0, "seconds": 3.0}
    assert timed_rows([old, TIMED | {"epoch": 2.0}]) == [TIMED | {"epoch": 2.0}]
    assert timed_rows([old]) == []


def test_run_page_shows_the_time_the_newest_picture_and_that_it_stopped_early(tmp_path: Path) -> None:
    rows = [
        {"epoch": epoch, **LOSSES, **TIMED, "val_miou": score, "val_miou_without_background": score}
        for epoch, score in enumerate((0.3, 0.5, 0.5, 0.4), start=1)
    ]
    config = parse_config({"training": {"patience": 2}}, source="test")
    page = report_run(run_folder(tmp_path / "run", rows, config, picture=True)).read_text()
    assert "4 of 250" in page
    assert "epochs, stopped early" in page
    assert page.index("What the model sees") < page.index("Where the time goes")
    assert "Validation fields in epoch 2" in page
    assert page.count("<img") == 5
    assert "labelled share" in page


def test_run_page_of_an_older_log_has_neither(tmp_path: Path) -> None:
    rows = [{"epoch": 1, **LOSSES, "seconds": 3.0}]
    page = report_run(run_folder(tmp_path / "run", rows, Config(), picture=False)).read_text()
    assert "What the model sees" not in page
    assert "Where the time goes" not in page
    assert "stopped early" not in page
    assert page.count("<img") == 2


def test_the_lines_of_the_scale_lie_behind_what_is_drawn() -> None:
    rows = [TIMED | {"epoch": epoch} for epoch in (1.0, 2.0, 3.0)]
    with Image.open(io.BytesIO(pace_figure(rows))) as opened:
        image = np.asarray(opened.convert("RGB"))
    reading = (image == (0x00, 0x72, 0xB2)).all(axis=-1)  # 5 of the 12.5 s that the scale has
    column = int(np.median(np.flatnonzero(reading.any(axis=0))))
    rows_of_it = np.flatnonzero(reading[:, column])
    assert len(rows_of_it) > 100
    assert (np.diff(rows_of_it) == 1).all()
