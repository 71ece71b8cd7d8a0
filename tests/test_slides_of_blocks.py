"""Whole slides through a model that reads fields in blocks: what is counted, kept, drawn and said of them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from blocks_study import SETTINGS, block_model, block_run
from tiny_study import tiny_study
from typer.testing import CliRunner

from wsi_deform.annotation.classes import ClassTable, read_class_table
from wsi_deform.baselines.patch_grid import PatchSettings
from wsi_deform.cli.main import typer_app
from wsi_deform.config import read_config
from wsi_deform.config_blocks import scales_of
from wsi_deform.cover import budgets_of
from wsi_deform.distribute import shared
from wsi_deform.distribute.models import model_sha256
from wsi_deform.errors import ModelError
from wsi_deform.evaluate.cost import slide_cost
from wsi_deform.field_tasks import FieldContext
from wsi_deform.flops import NetworkFlops
from wsi_deform.geometry import Size
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.samples import read_samples
from wsi_deform.model_card import model_card
from wsi_deform.model_file import find_model, load_model, read_model_facts
from wsi_deform.report.out import report_out
from wsi_deform.report.pictures import read_levels
from wsi_deform.report.run import describe_config
from wsi_deform.segment import segment_fields
from wsi_deform.slide.open import open_slide
from wsi_deform.slide_files import segment_to_files
from wsi_deform.slide_results import WantedOutputs, method_of


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Slides of 640 x 160 px of .5 um and an untrained model; finest are 160 x 40 px of 2 um."""
    folder = tmp_path_factory.mktemp("study")
    classes = read_class_table(tiny_study(folder, test=1).classes)
    block_run(folder / "run", classes=classes)
    return folder


@pytest.fixture(scope="module")
def slide(study):
    return sorted((study / "slides").iterdir())[-1]


def test_operations_of_fields_that_another_worker_does_are_counted(study, slide, monkeypatch):
    model, opened = load_model(study / "run"), open_slide(slide)
    budgets = budgets_of(opened, model)
    with NetworkFlops(*model.networks) as alone:
        list(segment_fields(opened, model, budgets))
    here = SimpleNamespace(address="tcp://other", log_event=lambda topic, event: None)
    monkeypatch.setattr("distributed.get_worker", lambda: here)
    monkeypatch.setattr(shared, "_context", lambda job, turn: FieldContext(slide=opened, model=model))
    found = shared.fields_on_worker(None, "turn", 0, budgets)
    assert found.flops == alone.total > 0
    assert len(found.fields) == 1


def test_pixels_that_were_read_are_counted_and_kept(study, slide, tmp_path):
    model, opened = load_model(study / "run"), open_slide(slide)
    fields = list(segment_fields(opened, model, budgets_of(opened, model)))
    files = segment_to_files(opened, model, tmp_path, wanted=WantedOutputs(footprint=True))
    # A first look of 40 x 10 px, filled up to 48 x 16, and windows of 16 px.
    (field,) = fields
    assert field.pixels is not None
    assert (field.pixels - 48 * 16) % 16**2 == 0
    assert 48 * 16 < field.pixels <= 0.5 * 160 * 40 + 2 * 16**2
    assert (files.read_pixels, files.samples, files.method) == (field.pixels, 40 * 10, "blocks")
    samples = read_samples(MaskFolder(tmp_path).samples(opened.slide_id))
    (kept,) = samples.fields
    assert kept.areas_px is not None
    np.testing.assert_allclose(kept.areas_px, field.samples.areas_px, rtol=1e-3)
    # 8, 4 and 2 um are 16, 8 and 4 px.
    assert set(np.sqrt(kept.areas_px).tolist()) <= {4.0, 8.0, 16.0}
    footprint = tifffile.imread(MaskFolder(tmp_path).footprint(opened.slide_id), level=0)
    assert set(np.unique(footprint).tolist()) <= {20, 40, 80}
    with tifffile.TiffFile(MaskFolder(tmp_path).footprint(opened.slide_id)) as file:
        assert 'Name="um per pixel read x 10"' in (file.ome_metadata or "")


def test_a_picture_of_levels_shows_where_each_was_read(study, slide, tmp_path):
    model, opened = load_model(study / "run"), open_slide(slide)
    segment_to_files(opened, model, tmp_path)
    samples = read_samples(MaskFolder(tmp_path).samples(opened.slide_id))
    found = read_levels(samples, Size(40, 10))
    assert found is not None
    levels, sides = found
    assert sides == (16.0, 8.0, 4.0)
    areas = samples.fields[0].areas_px
    assert areas is not None
    # A label is 16 x 16 px of the slide: one pixel of the picture.
    assert np.array_equal(levels, 4 - np.log2(np.sqrt(areas)).reshape(10, 40))
    none = replace(samples, fields=tuple(replace(field, areas_px=None) for field in samples.fields))
    assert read_levels(none, Size(40, 10)) is None


def test_the_command_writes_states_and_a_page_of_blocks(study, slide, tmp_path):
    out = tmp_path / "out"
    arguments = ["segment", "--slides", str(slide), "--model", str(study / "run"), "--device", "cpu"]
    done = CliRunner().invoke(typer_app, [*arguments, "--out", str(out)])
    assert done.exit_code == 0, done.output
    name = open_slide(slide).slide_id
    cost = slide_cost(MaskFolder(out), name)
    assert cost.read_pixels is not None
    assert cost.read_pixels > 48 * 16
    assert "Read in blocks, of several levels" in (out / "summary.md").read_text()
    page = report_out(out).read_text()
    assert "from blocks, some of which are read more closely" in page
    assert f"{cost.read_pixels:,} pixels read, 400 labels in 1 field" in page
    assert "The finest level that was read at each place" in page
    assert "Where the slide was sampled" not in page


def test_patches_of_blocks_are_refused_before_a_slide_is_read(study, tmp_path):
    no_slide = tmp_path / "no.svs"
    no_slide.write_bytes(b"nothing that could be read")
    arguments = ["segment", "--slides", str(no_slide), "--model", str(study / "run"), "--method", "patches"]
    for more in ([], ["--dry-run"]):
        done = CliRunner().invoke(
            typer_app, [*arguments, "--out", str(tmp_path / "out"), "--device", "cpu", *more]
        )
        said = " ".join(done.output.split())
        assert done.exit_code == 2, said
        assert "labels a field out of several looks, not one image such as a patch" in said
        assert "Needed --method sampled" in said
    model = load_model(study / "run")
    opened = open_slide(next((study / "slides").iterdir()))
    with pytest.raises(ModelError, match="this model labels a field out of several looks"):
        segment_to_files(opened, model, tmp_path, wanted=WantedOutputs(patches=PatchSettings()))


def test_a_mask_of_other_blocks_is_another_mask(study, tmp_path):
    classes = read_class_table(study / "classes.yaml")
    other = block_run(tmp_path, "blocks.share=0.4", classes=classes)
    assert model_sha256(find_model(study / "run")) != model_sha256(find_model(other))


def test_an_oracle_of_blocks_is_named():
    classes = ClassTable.from_names(["background", "gland"])
    assert method_of(block_model("blocks.choice=labels", classes=classes)) == "block oracle"
    assert method_of(block_model(classes=classes)) == "blocks"


def test_a_card_and_a_report_say_how_blocks_are_read(study):
    card = model_card(read_model_facts(find_model(study / "run")))
    looks = (
        "read whole at 8 um per px, then closer, at 4 and 2, in windows of 16 px, where a scorer, which learns from "
        "labels, says that reading closer tells classes apart: at most 50 % of the pixels of the finest level in all"
    )
    assert f"Each field is {looks}. It writes a mask" in card
    assert (
        "- encoder: efficientnet-lite0 (width 8)\n- levels: 8, 4 and 2 um per px; windows of 16 px; pixels"
        in card
    )
    assert "- choice of blocks: learned, noise 0.5 in training, never without tissue\n" in card
    assert "budget" not in card
    assert "deformation" not in card
    (said,) = describe_config(read_config(changes=SETTINGS))
    assert said.startswith(f"Each field is {looks}. The encoder efficientnet-lite0 sees all that is read")
    dense = read_config(changes=[*SETTINGS, "blocks={levels: 1, finest_um: null, finest_px: 3}"])
    assert describe_config(dense)[0].startswith(
        "Each field is read whole at 3 level-0 px per px. The encoder"
    )
    assert dense.blocks is not None
    assert scales_of(dense.blocks.model_dump()) == ((3.0,), "level-0 px")


@pytest.mark.parametrize("choice", ["detail", "features", "tissue", "random", "labels"])
def test_each_choice_has_words(choice):
    words = {
        "detail": "where there is most detail, by the gradient of the brightness and nothing learned",
        "features": "where the encoder's features differ most from those around, and nothing learned from labels",
        "tissue": "where there is tissue, by a mask and nothing learned",
        "random": "at random places",
        "labels": "where classes meet in the labels, which must be known of every slide that it segments: an oracle",
    }
    assert words[choice] in describe_config(read_config(changes=[*SETTINGS, f"blocks.choice={choice}"]))[0]
