import numpy as np
import pytest
import torch
from tiny_study import tiny_model

from wsi_deform.annotation.classes import ClassTable, read_class_table
from wsi_deform.config import parse_config
from wsi_deform.data.study import open_labelled
from wsi_deform.drawing.panels import WIDTH_PX, Stages, field_picture, stacked
from wsi_deform.drawn.study import draw_study
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.model import Model
from wsi_deform.model_file import load_model
from wsi_deform.train.pictures import chosen_fields, draw_fields, stages_of

CLASSES = ClassTable.from_names(["background", "gland"])


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    made = draw_study(folder, train=0, val=3, test=0, size=Size(1024, 256), seed=2)
    classes = read_class_table(made.classes)
    validation = [open_labelled(row, classes) for row in read_manifest(made.manifest).of_split("val")]
    return load_model(tiny_model(folder / "run", classes)), validation


def stages(aspect=4.0, size=Size(32, 8), **changes):
    rows, columns = (np.arange(count) for count in size.shape)
    points = np.stack(np.meshgrid((columns + 0.5) / size.width, (rows + 0.5) / size.height), axis=-1)
    made = {
        "title": "slide",
        "aspect": aspect,
        "view": np.full((*size.shape, 3), 200, np.uint8),
        "points": points,
        "density": np.ones(size.shape),
        "image": np.full((*size.shape, 3), 150, np.uint8),
        "labels": np.zeros(size.shape, np.uint8),
        "predicted": np.zeros(size.shape, np.uint8),
    }
    return Stages(**{**made, **changes})


@pytest.mark.parametrize("aspect", [0.2, 0.7, 1.0, 2.5, 12.0])
def test_pictures_of_every_aspect_have_one_width_and_a_sane_height(aspect):
    picture = field_picture(stages(aspect), CLASSES)
    assert picture.dtype == np.uint8
    assert picture.shape[1:] == (WIDTH_PX, 3)
    assert 400 < picture.shape[0] < 1600
    assert stacked([picture, picture]).shape[0] == 2 * picture.shape[0]


def test_labels_prediction_and_what_is_wrong_show_in_their_colours():
    predicted = np.zeros((8, 32), np.uint8)
    predicted[:, 16:] = 1
    labels = np.zeros((8, 32), np.uint8)
    labels[:4] = 255
    picture = field_picture(stages(labels=labels, predicted=predicted), CLASSES)
    panels = [picture[top : top + 170, 780:1450] for top in (70, 300, 480)]
    colours = [
        {tuple(colour) for colour in np.unique(panel.reshape(-1, 3), axis=0).tolist()} for panel in panels
    ]
    background, gland = CLASSES.colours
    assert {background, (255, 255, 255)} <= colours[0]
    assert gland not in colours[0]
    assert {background, gland} <= colours[1]
    assert (213, 60, 40) in colours[2]


def test_uniform_map_and_a_field_without_labels_are_drawn_too():
    whole = field_picture(stages(labels=np.full((8, 32), 255, np.uint8)), CLASSES)
    assert whole.min() < 60


def test_many_points_are_thinned_evenly():
    size = Size(600, 150)
    rows, columns = (np.arange(count) for count in size.shape)
    points = np.stack(np.meshgrid((columns + 0.5) / size.width, (rows + 0.5) / size.height), axis=-1)
    few = field_picture(stages(), CLASSES)
    many = field_picture(stages(points=points), CLASSES)
    assert few.shape == many.shape
    ink = [(picture[60:240, 18:750].max(axis=2) < 130).mean() for picture in (few, many)]
    assert 0 < ink[0] < ink[1] < 0.4


def test_fields_are_drawn_as_the_model_sees_and_labels_them(study):
    model, validation = study
    items = chosen_fields(model, validation, max_fields=2)
    assert [item.slide.slide_id for item in items] == [slide.slide_id for slide, _ in validation[:2]]
    model.train()
    pictures = draw_fields(model, items)
    assert list(pictures) == [item.slide.slide_id for item in items]
    assert not model.training
    seen = stages_of(model, items[0])
    assert seen.image.shape == (*items[0].size.shape, 3)
    assert seen.points.shape == (*items[0].size.shape, 2)
    assert seen.labels.shape == seen.predicted.shape == items[0].size.shape
    assert seen.density.sum() == pytest.approx(1, rel=1e-4)
    assert seen.aspect == 4.0
    assert seen.title.startswith(items[0].slide.slide_id)


def test_drawing_changes_neither_chance_nor_weights(study):
    model, validation = study
    items = chosen_fields(model, validation, max_fields=1)
    torch.manual_seed(3)
    expected = torch.rand(2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(3)
    draw_fields(model, items)
    assert torch.equal(torch.rand(2), expected)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_no_pictures_are_chosen_where_none_are_wanted(study):
    assert chosen_fields(*study, max_fields=0) == []


@pytest.mark.parametrize("density", ["learned", "uniform", "tissue", "edges"])
def test_slides_of_many_fields_give_those_with_most_to_see_and_every_density_is_drawn(study, density):
    model, validation = study
    config = parse_config(
        {
            "sampling": {"budget": [12, 24], "density": density},
            "fields": {"side_um": 64.0, "whole_below_mm2": 0.0},
            "networks": {"segmentation": {"name": "hrnetv2", "width": 4, "stem_stride": 1}},
        },
        source="test",
    )
    model = Model(config=config, classes=model.classes, mpp=0.5)
    items = chosen_fields(model, validation, max_fields=5)
    assert len(items) == 5
    assert len({(item.slide.slide_id, item.field) for item in items}) == 5
    assert {item.slide.slide_id for item in items} == {slide.slide_id for slide, _ in validation}
    first = items[0].labels.cell_fractions(items[0].field.region, Size(32, 32))
    assert first[1:].max() > 0.5  # a gland, not only background
    assert len(draw_fields(model, items[:4])) == 4
