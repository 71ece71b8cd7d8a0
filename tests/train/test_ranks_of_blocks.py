"""Two processes against one, of a model that reads fields in blocks."""

from __future__ import annotations

import json

import pytest
import ranks_worker
import torch
from blocks_study import SETTINGS
from test_ranks import LIMITS, WAIT_S, started

from wsi_deform.config import read_config
from wsi_deform.drawn.study import draw_study
from wsi_deform.geometry import Size
from wsi_deform.train.ranks import Ranks


def test_losses_and_gradients_of_two_processes_with_blocks_are_those_of_the_whole_batch(tmp_path):
    """The blocks that are read too: noise on their scores is drawn by the field's place in the step."""
    study = tmp_path / "study"
    draw_study(study, train=5, val=0, test=0, seed=3, size=Size(512, 256))
    config = read_config(changes=SETTINGS)
    processes = started(2, tmp_path, "ranks_worker", config.model_dump_json(), study, tmp_path)
    try:
        assert [each.wait(WAIT_S) for each in processes] == [0, 0], [each.said() for each in processes]
    finally:
        for each in processes:
            each.kill()
    assert json.loads(config.model_dump_json())["sampling"]["geometry"] == "blocks"
    whole = ranks_worker.step_results(Ranks(), config, study)
    scorers = [name for name in whole if name.startswith("gradient0.segmentation.scorers")]
    assert len(scorers) == 8
    assert any(bool(whole[name].any()) for name in scorers)
    for rank in range(2):
        found = torch.load(tmp_path / f"rank{rank}.pt")["step"]
        assert found.keys() == whole.keys()
        for name, value in whole.items():
            # A choice is all or nothing: where two blocks are nearly alike, rounding decides which is read, and from
            # then on weights are two. What comes before any weight has moved is held.
            if name.startswith("state"):
                continue
            relative, absolute = next(limit for kind, limit in LIMITS.items() if name.startswith(kind))
            if name.startswith("gradient1"):
                # One field alone: normalisations over few cells make rounding of 1e-11 up to 5e-9 of the largest
                # gradient, of about 1e4; what is 0 gets rounding alone.
                relative, absolute = 1e-7, 1e-6
            most = relative * float(value.abs().max()) + absolute
            assert float((found[name] - value).abs().max()) <= most, name


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in another order are other sums."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
