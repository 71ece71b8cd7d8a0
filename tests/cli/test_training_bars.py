import io

import pytest
from rich.console import Console

from wsi_deform.cli import training_bars
from wsi_deform.cli.training_bars import Pace, TrainingBars, clock


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def time(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(training_bars, "time", clock)
    return clock


def train(bars, time, *, epochs, validated=(), step_s=0.5, resumed_at=0):
    bars.start(epochs=epochs, steps=4, fields=7, samples=4000, resumed_at=resumed_at)
    for epoch in range(resumed_at, epochs):
        for step in range(4):
            time.now += step_s
            bars.step(epoch=epoch, step=step + 1, loss=2.0 / (epoch + 1))
        row = {"epoch": epoch + 1, "loss": 2.0 / (epoch + 1), "samples_per_second": 2000.0}
        bars.epoch(row | ({"val_miou": 0.1 * (epoch + 1)} if epoch + 1 in validated else {}))


def test_without_a_terminal_there_is_a_line_per_validated_epoch(time):
    out = io.StringIO()
    with TrainingBars(Console(file=out), title="training joint") as bars:
        train(bars, time, epochs=4, validated=(2, 4))
    assert out.getvalue().splitlines() == [
        "training joint: 4 epochs of 4 steps, 7 fields",
        "training joint: epoch 2/4, loss 1.0000, val mIoU 0.200, 2,000 samples/s, ETA 0:00:04",
        "training joint: epoch 4/4, loss 0.5000, val mIoU 0.400, 2,000 samples/s",
    ]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {
                "val_miou": 0.25,
                "miou_classes": {"labelled": ["a", "b"], "over": ["a", "b"], "absent": ["[c]"]},
            },
            "val mIoU 0.250 over 2 of 3 classes (absent: [c])",
        ),
        (
            {"miou_classes": {"labelled": ["a"], "over": [], "absent": ["b"]}},
            "val mIoU cannot be measured: the labels hold only class 'a'",
        ),
        (
            {"val_miou": 0.25, "miou_classes": {"labelled": ["a"] * 2, "over": ["a"] * 2, "absent": []}},
            "val mIoU 0.250",
        ),
    ],
)
def test_a_line_says_which_classes_a_mean_is_over(time, row, said):
    out = io.StringIO()
    with TrainingBars(Console(file=out, markup=False)) as bars:
        bars.start(epochs=1, steps=1, fields=1, samples=1, resumed_at=0)
        bars.epoch({"epoch": 1, "loss": 1.0, **row})
    assert out.getvalue().splitlines()[-1] == f"training: epoch 1/1, loss 1.0000, {said}"


def test_without_a_terminal_and_validation_there_is_a_line_a_minute_and_the_last(time):
    out = io.StringIO()
    with TrainingBars(Console(file=out, markup=False)) as bars:
        train(bars, time, epochs=100, resumed_at=20)
    lines = out.getvalue().splitlines()
    assert lines[0] == "training: 100 epochs of 4 steps, 7 fields, from epoch 21"
    assert [line.split()[2] for line in lines[1:]] == ["50/100,", "80/100,", "100/100,"]


def test_in_a_terminal_a_bar_shows_loss_score_pace_and_time_left(time, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    out = io.StringIO()
    with TrainingBars(Console(file=out, force_terminal=True, width=160)) as bars:
        train(bars, time, epochs=4, validated=(2,))
    shown = out.getvalue()
    assert "training (7 fields)" in shown
    assert "16/16" in shown
    assert "val mIoU 0.200" in shown
    assert "2,000 samples/s" in shown
    assert "ETA" in shown
    assert "epoch 2/4" not in shown


def test_pace_leaves_out_what_happens_between_epochs_and_the_time_left_does_not(time):
    pace = Pace(epochs=10, steps=4, samples=4000, done=2)
    for _ in range(2):
        for _ in range(4):
            time.now += 0.5
            pace.step()
        time.now += 8.0  # validation
        pace.epoch()
    assert pace.samples_per_second == pytest.approx(2000)
    assert pace.seconds_left(4) == pytest.approx(60)


def test_times_are_hours_minutes_and_seconds():
    assert [clock(seconds) for seconds in (0, 59.6, 3600 * 30 + 61)] == ["0:00:00", "0:01:00", "30:01:01"]
