"""Where samples lie that no network decides, and what the segmentation network is told of them."""

import numpy as np
import pytest
import tifffile
import torch
from drawn_reader import ArrayReader

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.annotation.raster import open_label_mask
from wsi_deform.config import read_config
from wsi_deform.cover import fields_of, tissue_of, view_of
from wsi_deform.data.fields import FieldViews, LabelledField
from wsi_deform.deform.density import density_of
from wsi_deform.distribute.job import SlideJob
from wsi_deform.distribute.sources import slide_sources
from wsi_deform.drawn.study import write_labels, write_slide
from wsi_deform.errors import ModelError, ShapeError
from wsi_deform.geometry import Region, Size
from wsi_deform.manifest.rows import Manifest, ManifestRow, write_manifest
from wsi_deform.model import Model
from wsi_deform.sampled_fields import sample_fields
from wsi_deform.segment import segment_slide
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.slide import Slide

CLASSES = ClassTable.from_names(["background", "gland"])
TISSUE = Region(300, 60, 120, 90)
SIZE = Size(640, 320)
NETWORK = "networks.segmentation={name: hrnetv2, width: 2, stem_stride: 4}"
WHITE, PINK = (244, 243, 245), (215, 130, 180)


def pixels_of(tissue=TISSUE):
    pixels = np.empty((SIZE.height, SIZE.width, 3), np.uint8)
    pixels[...] = WHITE
    pixels[tissue.y : tissue.bottom, tissue.x : tissue.right] = PINK
    return pixels


def drawn():
    return Slide.from_reader(ArrayReader(pixels_of(), levels=4, mpp=4.0), slide_id="box")


def model_of(*changes):
    torch.manual_seed(0)
    given = [NETWORK, "sampling.budget=[16, 32]", *changes]
    return Model(config=read_config(changes=given), classes=CLASSES, mpp=4.0).eval()


def share_inside(points, region):
    x, y = points[:, 0], points[:, 1]
    return ((x >= region.x) & (x < region.right) & (y >= region.y) & (y < region.bottom)).mean()


@pytest.fixture
def labels(tmp_path):
    truth = np.zeros((SIZE.height, SIZE.width), np.uint8)
    truth[TISSUE.y : TISSUE.bottom, TISSUE.x : TISSUE.right] = 1
    write_labels(tmp_path / "labels.tif", truth, mpp=4.0)
    return open_label_mask(tmp_path / "labels.tif", slide_size=SIZE, classes=CLASSES)


def test_a_tissue_mask_draws_samples_to_tissue_with_nothing_learned():
    model = model_of("sampling.density=tissue")
    assert model.deformation is None
    uniform = segment_slide(drawn(), model_of("sampling.density=uniform")).fields[0].points_px
    tissue = segment_slide(drawn(), model).fields[0].points_px
    assert share_inside(uniform, TISSUE) == pytest.approx(TISSUE.size.area / SIZE.area, rel=0.2)
    assert share_inside(tissue, TISSUE) > 3 * share_inside(uniform, TISSUE)


def test_fields_cut_to_tissue_spend_all_samples_there_and_call_the_rest_background():
    model = model_of("sampling.density=uniform", "fields.cut_to_tissue=true")
    (field,) = fields_of(drawn(), model)
    assert TISSUE.intersection(field.region) == TISSUE
    assert field.region.size.area < 1.5 * TISSUE.size.area
    segmented = segment_slide(drawn(), model)
    assert segmented.samples == pytest.approx(16 * 32, rel=0.05)
    assert share_inside(segmented.fields[0].points_px, field.region) == 1
    labelled = segmented.reverse().region(Region(0, 0, 200, 300))
    assert (labelled == CLASSES.background).all()


def test_bare_glass_cut_to_tissue_has_no_field():
    glass = Slide.from_reader(
        ArrayReader(np.full((320, 640, 3), 244, np.uint8), levels=3, mpp=4.0), slide_id="g"
    )
    assert fields_of(glass, model_of("fields.cut_to_tissue=true")) == ()


def test_an_oracle_follows_the_borders_of_labels_and_refuses_slides_without(labels):
    oracle = model_of("sampling.density=edges")
    points = segment_slide(drawn(), oracle, labels=labels).fields[0].points_px
    around = Region(TISSUE.x - 20, TISSUE.y - 20, TISSUE.width + 40, TISSUE.height + 40)
    assert share_inside(points, around) > 2 * around.size.area / SIZE.area
    with pytest.raises(ModelError, match="Needed the labels"):
        segment_slide(drawn(), oracle)


def test_the_segmentation_loss_reaches_the_density_unless_cut_off():
    model = model_of("networks.deformation.zero_init_head=false")
    slide, (field,) = drawn(), fields_of(drawn(), model)
    view = view_of(slide, field, Size(32, 16))[None]
    assert sample_fields(model, [slide], [field], view, size=Size(32, 16)).images.requires_grad
    gradients = []
    for cut in (False, True):
        sampled = sample_fields(model, [slide], [field], view, size=Size(32, 16), cut_gradient=cut)
        assert sampled.images.requires_grad is not cut
        if not cut:
            sampled.images.square().mean().backward()
            gradients.append(float(model.deformation.head.weight.grad.abs().sum()))
    assert gradients[0] > 0


def test_views_with_tissue_have_a_fourth_channel_that_the_deformation_network_sees():
    model = model_of("networks.deformation.inputs=rgb+tissue", "networks.deformation.zero_init_head=false")
    slide, (field,) = drawn(), fields_of(drawn(), model)
    view = view_of(slide, field, Size(64, 32), tissue=model.sees_tissue)
    assert view.shape == (4, 32, 64)
    assert float(view[3].mean()) == pytest.approx(tissue_of(slide).fraction, abs=1e-3)
    other = view.clone()
    other[3] = 1 - other[3]
    assert not torch.allclose(model.density(view[None]), model.density(other[None]))


def test_loaders_give_the_tissue_channel(labels):
    slide = drawn()
    model = model_of("sampling.density=tissue")
    (field,) = fields_of(slide, model)
    item = LabelledField(slide=slide, labels=labels, field=field, size=Size(32, 16), map_size=Size(32, 16))
    assert FieldViews([item], tissue=True)[0][1].shape == (4, 16, 32)
    assert FieldViews([item])[0][1].shape == (3, 16, 32)


def test_the_segmentation_network_sees_how_large_cells_are():
    model = model_of("sampling.density=tissue")
    images = torch.rand(1, 3, 16, 32) * 255
    areas = torch.rand(1, 16, 32) + 0.1
    assert model.sees_areas
    seen = model.segmentation_input(images, areas)
    assert float(seen[:, 3].mean()) == pytest.approx(1.0, abs=1e-5)
    assert not torch.allclose(
        model.scores(seen), model.scores(model.segmentation_input(images, areas.flip(2)))
    )
    # Three channels are cells that are all alike.
    even = model.segmentation_input(images, torch.ones(1, 16, 32))
    torch.testing.assert_close(model.scores(images), model.scores(even))
    for plain in ("networks.area_channel=false", "sampling.density=uniform"):
        assert model_of(plain).segmentation_input(images, areas) is images


def test_weights_that_nobody_learned_become_a_density():
    weights = torch.tensor([[[[0.0, 1.0], [3.0, 0.0]]]])
    torch.testing.assert_close(density_of(weights), weights / 4)
    torch.testing.assert_close(density_of(weights, floor=1.0), torch.full((1, 1, 2, 2), 0.25))
    with pytest.raises(ShapeError, match="0 everywhere"):
        density_of(torch.zeros(1, 1, 2, 2))
    with pytest.raises(ShapeError, match=r"needed \(B, 1, H, W\)"):
        density_of(torch.ones(2, 2))


@pytest.mark.parametrize(
    ("target", "densest"), [("edge", "border"), ("region", "inside"), ("both", "border")]
)
def test_target_kinds(labels, target, densest):
    model = model_of(f"loss.edge_target={target}", "loss.edge_blur=0.5")
    size = Size(64, 32)
    fractions = torch.from_numpy(labels.cell_fractions(Region.whole(SIZE), size))[None]
    wanted = model.target_of(fractions)[0, 0]
    inside, border, outside = wanted[10, 36], wanted[10, 30], wanted[28, 5]
    assert wanted.mean() == pytest.approx(1.0, abs=1e-5)
    assert outside < inside or densest == "border"
    assert border > outside
    assert (border > inside) == (densest == "border")


def test_an_oracle_samples_by_a_density_on_whatever_scale_the_edge_loss_is(labels):
    size = Size(64, 32)
    fractions = torch.from_numpy(labels.cell_fractions(Region.whole(SIZE), size))[None]
    paper = "loss.edge_scale=paper", "loss.edge_floor=0", "loss.edge_target=class_numbers"
    raw = model_of(*paper).target_of(fractions)
    assert raw.min() == 0
    assert raw.mean() != pytest.approx(1.0, abs=0.1)
    oracle = model_of(*paper, "sampling.density=edges").target_of(fractions)
    torch.testing.assert_close(oracle, raw / raw.mean())
    none = torch.zeros_like(fractions)
    assert (model_of(*paper, "sampling.density=edges").target_of(none) == 1).all()


def test_the_tissue_mask_of_a_manifest_decides_what_is_segmented(tmp_path):
    """The slide's left half is tissue by its mask, whatever its colours are."""
    write_slide(tmp_path / "slide.tif", pixels_of(), mpp=4.0)
    tissue = np.zeros((SIZE.height // 8, SIZE.width // 8), np.uint8)
    tissue[:, : tissue.shape[1] // 2] = 255
    tifffile.imwrite(tmp_path / "tissue.tif", tissue)
    row = ManifestRow(slide=tmp_path / "slide.tif", slide_id="slide", tissue_mask=tmp_path / "tissue.tif")
    write_manifest(Manifest(rows=(row,), folder=tmp_path), tmp_path / "manifest.csv")
    (source,) = slide_sources(tmp_path / "manifest.csv", out=tmp_path / "out")
    assert source.tissue_path == tmp_path / "tissue.tif"
    slide = open_slide(source.path, tissue_path=source.tissue_path)
    assert tissue_of(slide).fraction == pytest.approx(0.5, abs=0.02)
    (field,) = fields_of(slide, model_of("fields.cut_to_tissue=true"))
    assert field.region.right == pytest.approx(SIZE.width / 2, abs=10)
    jobs = [
        SlideJob(source=each, model=tmp_path, model_sha256="0", out=tmp_path)
        for each in (source, slide_sources(tmp_path / "slide.tif", out=tmp_path / "out")[0])
    ]
    assert jobs[0].fingerprint() != jobs[1].fingerprint()
