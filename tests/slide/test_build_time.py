"""How long coarse levels take to be built, from the time of a few tiles."""

from __future__ import annotations

import time

import pytest

from wsi_deform.geometry import Point, Size
from wsi_deform.slide.levels import build_time
from wsi_deform.slide.levels.build_time import build_seconds
from wsi_deform.slide.reader import Level


def test_the_time_of_eight_tiles_is_that_of_all(monkeypatch):
    monkeypatch.setattr(build_time.os, "cpu_count", lambda: 2)
    level = Level(size=Size(20_000, 10_000), downsample=Point(1, 1), tile=Size(500, 500))
    read = []

    def read_tile(column, row):
        read.append((column, row))
        time.sleep(0.02)

    # 800 tiles of 20 ms by two threads, and 200 Mpx of means.
    assert build_seconds(level, read_tile) == pytest.approx(8 + 1.2, rel=0.5)
    assert len(set(read)) == 8
    assert all(0 <= column < 40 and 0 <= row < 20 for column, row in read)
    assert len({row for _, row in read}) == 8


def test_a_slide_of_one_tile_reads_one():
    read = []
    level = Level(size=Size(300, 300), downsample=Point(1, 1), tile=Size(512, 512))
    build_seconds(level, lambda *place: read.append(place))
    assert read == [(0, 0)]
