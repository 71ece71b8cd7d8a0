import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drawn_reader import ArrayReader
from PIL import Image

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import read_config
from wsi_deform.cover import FieldBudget, fields_of, view_of
from wsi_deform.deform.grid import cell_areas, sampling_grid
from wsi_deform.errors import SlideError
from wsi_deform.geometry import Region, Size
from wsi_deform.look.fields import Field
from wsi_deform.model import Model
from wsi_deform.sampled_fields import points_of, sample_fields
from wsi_deform.scale import mpp_remark
from wsi_deform.segment import outside_label, segment_fields, segment_slide
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.slide import Slide
from wsi_deform.tissue_cover import tissue_limit_of

CLASSES = ClassTable.from_names(["background", "dark"])


class Darkness(torch.nn.Module):
    """A segmentation network without weights to learn: class 1 where the sampled image is dark."""

    def __init__(self):
        super().__init__()
        self.threshold = torch.nn.Parameter(torch.zeros(1))

    def forward(self, image):
        dark = self.threshold - image.mean(dim=1)
        return torch.stack((-dark, dark), dim=1)


class Peaks(torch.nn.Module):
    """A deformation network gone wrong: peaks so far apart in height that cells fold."""

    def forward(self, view):
        generator = torch.Generator().manual_seed(0)
        return 25 * torch.randn(len(view), 1, *view.shape[2:], generator=generator)


class WhereDark(torch.nn.Module):
    """A deformation network that asks for samples on and around what is dark in the view."""

    def forward(self, view):
        dark = (view.mean(dim=1, keepdim=True) < 0).float()
        return 2.0 * (F.avg_pool2d(dark, 7, stride=1, padding=3) > 0.02).float()


def make_model(*changes, density=WhereDark):
    model = Model(
        config=read_config(changes=["sampling.budget=[32, 64]", *changes]), classes=CLASSES, mpp=0.5
    )
    model.segmentation = Darkness()
    if model.deformation is not None:
        model.deformation = density()
    return model.eval()


def drawn(width=512, height=256, *, mpp=0.5):
    """White glass with two dark discs, and where they are."""
    y, x = np.mgrid[:height, :width] + 0.5
    discs = ((x - 90) ** 2 + (y - 120) ** 2 < 40**2) | ((x - 400) ** 2 + (y - 90) ** 2 < 60**2)
    pixels = np.where(discs[..., None], 60, 250).astype(np.uint8).repeat(3, axis=2)
    return Slide.from_reader(ArrayReader(pixels, levels=4, mpp=mpp), slide_id="discs"), discs


def iou(predicted, truth):
    return (predicted & truth).sum() / (predicted | truth).sum()


def test_slide_is_segmented_and_sampling_where_it_matters_draws_sharper_borders():
    slide, discs = drawn()
    whole = Region.whole(slide.size)
    learned = segment_slide(slide, make_model("sampling.sigma=0.1")).reverse().region(whole) == 1
    even = segment_slide(slide, make_model("sampling.density=uniform")).reverse().region(whole) == 1
    assert iou(even, discs) > 0.85
    assert iou(learned, discs) > iou(even, discs) + 0.01


def test_fields_meet_without_seams_and_agree_with_one_field_at_the_same_spacing():
    slide, discs = drawn()
    many = make_model(
        "fields={side_um: 64, whole_below_mm2: 0, margin: 0.25}",
        "sampling={budget: [32, 32], density: uniform}",
    )
    segmented = segment_slide(slide, many)
    assert len(segmented.fields) > 4
    assert iou(segmented.reverse().region(Region.whole(slide.size)) == 1, discs) > 0.93
    kept = [field.kept for field in segmented.fields]
    assert all(a.intersection(b).is_empty for a in kept for b in kept if a is not b)


def test_glass_is_not_looked_at_closely():
    slide, _ = drawn()
    model = make_model("fields={side_um: 32, whole_below_mm2: 0, margin: 0}")
    covered = sum(field.kept.size.area for field in fields_of(slide, model))
    assert 0 < covered < 0.6 * slide.size.area
    assert (segment_slide(slide, model).reverse().region(Region(480, 200, 32, 56)) == 0).all()


def ring(width=1600, height=320, *, lumen_px=400, mpp=0.5):
    """White glass, a dark bar but for 160 px at its ends, with a white lumen, and nothing else."""
    pixels = np.full((height, width, 3), 250, np.uint8)
    pixels[40:280, 160 : width - 160] = 60
    pixels[90:230, 600 : 600 + lumen_px] = 250
    return Slide.from_reader(ArrayReader(pixels, levels=4, mpp=mpp), slide_id="ring")


def test_a_mask_is_background_outside_tissue_and_one_cell_around_it_unless_told_otherwise():
    slide, model = ring(), make_model()
    model.segmentation.threshold.data.fill_(500.0)  # every sample is class 1
    whole = Region.whole(slide.size)
    assert (segment_slide(slide, model, limit_to_tissue=False).reverse().region(whole) == 1).all()
    limited = segment_slide(slide, model).reverse().region(whole) == 1
    assert limited[40:280, 160:600].all()
    # Cells of 16 px; the tissue that is found by colour may be one cell larger than the bar.
    assert not limited[:, :128].any()
    assert not limited[:, 1472:].any()


@pytest.mark.parametrize(
    ("lumen_px", "mpp", "kept"),
    [(400, 0.5, True), (1200, 0.5, True), (400, 2.0, True), (1200, 2.0, False)],
)  # 140 px high: 14,000, 42,000, 224,000 and 672,000 um2
def test_lumens_stay_in_the_limit_and_large_enclosed_glass_does_not(lumen_px, mpp, kept):
    limit = tissue_limit_of(ring(width=2000, lumen_px=lumen_px, mpp=mpp), 0)
    rows, columns = limit.cells.shape
    assert limit.cells[rows // 2, int(columns * (600 + lumen_px / 2) / 2000)] == kept


def test_holes_of_a_tissue_mask_from_a_file_are_meant(tmp_path):
    pixels = np.full((320, 1600), 255, np.uint8)
    pixels[90:230, 600:1000] = 0
    Image.fromarray(pixels).save(tmp_path / "tissue.png")
    Image.fromarray(np.full((320, 1600, 3), 60, np.uint8)).save(tmp_path / "slide.png")
    slide = open_slide(tmp_path / "slide.png", mpp=0.5, tissue_path=tmp_path / "tissue.png")
    limit = tissue_limit_of(slide, 0)
    assert not limit.cells[10, 50]
    assert limit.cells[1, 50]
    assert tissue_limit_of(slide, None) is None


def test_convention_points_are_in_the_slide_edge_frame_row_by_row():
    slide, _ = drawn()
    (field,) = fields_of(slide, make_model())
    grid = torch.tensor([[[0.0, 0.0], [1.0, 0.0]], [[0.5, 0.5], [0.25, 1.0]]])
    assert points_of(field, grid).tolist() == [[0, 0], [512, 0], [256, 128], [128, 256]]


@pytest.mark.parametrize(("bias", "tiles"), [(0, 1), (-1, 2), (-2, 8), (-3, 32), (-9, 32)])
def test_a_bias_of_the_level_reads_finer_than_the_samples_cells(bias, tiles):
    slide, _ = drawn()
    model = make_model("sampling.density=uniform", f"sampling.level_bias={bias}")
    (field,) = fields_of(slide, model)
    size = Size(64, 32)  # 8 x 8 px a cell: level 3, one tile of 64 x 64
    sampled = sample_fields(model, [slide], [field], view_of(slide, field, size)[None], size=size)
    assert sampled.tiles == (tiles,)
    assert 0 <= sampled.read_seconds < 600


@pytest.mark.parametrize(("coarsest_um", "tiles"), [("null", 1), (8, 1), (2, 2), (1, 8), (0.01, 32)])
def test_no_pixel_is_coarser_than_the_limit_in_um(coarsest_um, tiles):
    slide, _ = drawn()  # 0.5 um per px
    model = make_model("sampling.density=uniform", f"sampling.coarsest_um={coarsest_um}")
    (field,) = fields_of(slide, model)
    size = Size(64, 32)
    sampled = sample_fields(model, [slide], [field], view_of(slide, field, size)[None], size=size)
    assert sampled.tiles == (tiles,)


def test_a_folded_grid_is_segmented_all_the_same():
    slide, _ = drawn()
    model = make_model("sampling.radius_sigmas=3", density=Peaks)
    segmented = segment_slide(slide, model)  # refused areas below 0 once
    (field,) = segmented.fields
    assert field.areas_px.min() >= 0
    assert segmented.reverse().region(Region.whole(slide.size)).shape == slide.size.shape


def test_folded_cells_have_the_areas_that_their_four_corners_span():
    slide, _ = drawn()
    model = make_model("sampling.radius_sigmas=3", density=Peaks)
    (field,) = fields_of(slide, model)
    size = Size(32, 16)
    view = view_of(slide, field, Size(64, 32))[None]
    density = model.density(view)
    sampled = sample_fields(model, [slide], [field], view, size=size)
    settings = model.config.sampling
    sigma_px = settings.sigma * min(density.shape[-2:])
    corners = sampling_grid(
        density,
        sigma_px=sigma_px,
        radius_px=settings.radius_sigmas * sigma_px,
        size=Size(33, 17),
        placement="corner",
        warp_steps=settings.warp_steps,
    )
    signed = cell_areas(corners)
    assert signed.min() < 0
    torch.testing.assert_close(sampled.areas, signed.abs())


@pytest.mark.parametrize(("sigmas", "radius_px"), [(0.5, 4.0), (1, 8.0), (3, 24.0), (5, 40.0)])
def test_radius_sigmas_is_where_the_pull_ends(sigmas, radius_px):
    slide, _ = drawn()
    model = make_model(f"sampling.radius_sigmas={sigmas}")
    (field,) = fields_of(slide, model)
    size = Size(64, 32)
    view = view_of(slide, field, size)[None]
    sampled = sample_fields(model, [slide], [field], view, size=size)
    # sigma is a fourth of the map's short side of 32 px
    expected = sampling_grid(model.density(view), sigma_px=8.0, radius_px=radius_px, size=size, warp_steps=2)
    torch.testing.assert_close(sampled.grid, expected)


def test_slide_that_is_too_coarse_for_the_model_is_refused():
    slide, _ = drawn(mpp=400.0)
    with pytest.raises(SlideError, match=r"discs(.|\n)*400 um per pixel(.|\n)*the 0\.5 of(.|\n)*mpp column"):
        segment_slide(slide, make_model())


@pytest.mark.parametrize(("mpp", "remark"), [(0.5, ""), (1.9, ""), (6.0, "trained at 0.5"), (None, "no mpp")])
def test_an_mpp_far_from_the_models_is_remarked_upon(mpp, remark):
    slide, _ = drawn(mpp=mpp)
    found = mpp_remark(slide, make_model())
    assert remark in found
    assert bool(found) == bool(remark)


def test_slide_without_mpp_is_refused_by_a_model_with_lengths_in_um():
    slide, _ = drawn(mpp=None)
    said = r"discs: no mpp.*side_um 2048 and sampling\.coarsest_um 16\).*--mpp; the model's training slides have 0\.5"
    with pytest.raises(SlideError, match=said):
        segment_slide(slide, make_model())
    with pytest.raises(SlideError, match=r"\(sampling\.coarsest_um 16\)"):
        segment_slide(slide, make_model("fields.side_um=null"))


def test_slide_without_mpp_is_segmented_where_nothing_is_in_um():
    slide, discs = drawn(mpp=None)
    model = make_model("fields.side_um=null", "sampling.coarsest_um=null")
    predicted = segment_slide(slide, model).reverse().region(Region.whole(slide.size)) == 1
    assert iou(predicted, discs) > 0.85


def test_progress_is_told_field_by_field():
    slide, _ = drawn()
    calls = []
    model = make_model("fields={side_um: 64, whole_below_mm2: 0}")
    segment_slide(slide, model, on_field=lambda done, total: calls.append((done, total)))
    assert calls == [(index + 1, len(calls)) for index in range(len(calls))]


def test_sampled_sizes_of_tiny_slides_are_never_below_what_networks_accept():
    assert make_model().sampled_size(Size(3, 5000)).short >= 4


def test_areas_are_level_0_px_and_numbers_are_of_all_fields():
    slide, _ = drawn()
    segmented = segment_slide(slide, make_model("fields={side_um: 64, whole_below_mm2: 0, margin: 0}"))
    for field in segmented.fields:
        assert float(field.areas_px.sum()) == pytest.approx(field.kept.size.area, rel=1e-4)
        assert field.lattice.area == len(field.labels) == len(field.areas_px)
    assert segmented.samples == sum(len(field.labels) for field in segmented.fields)
    assert repr(segmented).startswith(
        f"SegmentedSlide('discs', 512 x 256 px, {len(segmented.fields)} fields, {segmented.samples:,} samples, linear, "
    )
    whole = segment_slide(slide, make_model(), limit_to_tissue=False)
    assert (
        repr(whole)
        == "SegmentedSlide('discs', 512 x 256 px, 1 field, 2,048 samples, linear, not limited to tissue)"
    )


@pytest.mark.parametrize(("batch", "passes"), [(None, 5), (1, 5), (2, 3), (3, 3), (4, 2)])
def test_neighbours_of_one_size_share_a_pass(batch, passes):
    slide, _ = drawn()
    model = make_model("sampling.density=uniform")
    fields = [Field(region, region) for region in (Region(64 * n, 0, 64, 64) for n in range(5))]
    sizes = [Size(8, 8)] * 4 + [Size(8, 4)]
    budgets = [FieldBudget(field=field, size=size) for field, size in zip(fields, sizes, strict=True)]
    seen = []
    model.segmentation.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    found = list(segment_fields(slide, model, budgets, **({"batch": batch} if batch else {})))
    assert [len(each.samples.labels) for each in found] == [64] * 4 + [32]
    assert len(seen) == passes
    assert sum(seen) == 5
    assert seen[-1] == 1
    seen.clear()
    segment_slide(slide, model, budgets=budgets, **({"batch": batch} if batch else {}))
    assert len(seen) == passes


def test_outside_a_region_nothing_is_labelled_and_else_it_is_background():
    slide, _ = drawn()
    assert outside_label(CLASSES, slide) == 0
    assert outside_label(ClassTable.from_names(["dark", "background"]), slide) == 1
    reader = ArrayReader(np.zeros((20, 20, 3), np.uint8), mpp=0.5)
    part = Slide.from_reader(reader, slide_id="part", region=Region(0, 0, 9, 9))
    assert outside_label(CLASSES, part) == 255
