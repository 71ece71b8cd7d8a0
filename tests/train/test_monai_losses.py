"""Losses of MONAI by name: MONAI's own values where all is labelled, and nothing of what is not."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from wsi_deform.config import parse_config, read_config
from wsi_deform.errors import ConfigError, ModelError
from wsi_deform.networks.monai_losses import SUPPORTED, MonaiLoss
from wsi_deform.train.losses import focal_sums, named_loss_of

DISTANCES = [[0.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.5, 0.8], [1.0, 0.5, 0.0, 0.3], [1.0, 0.8, 0.3, 0.0]]
#: Each loss as a configuration says it, and how MONAI is called for scores and class numbers.
ON_ONE_HOT = {"to_onehot_y": True, "softmax": True}
CASES = [
    ("DiceLoss", {}, ON_ONE_HOT),
    ("DiceLoss", {"squared_pred": True, "jaccard": True, "include_background": False}, ON_ONE_HOT),
    ("DiceCELoss", {}, ON_ONE_HOT),
    ("DiceCELoss", {"lambda_dice": 0.3, "lambda_ce": 2.0, "label_smoothing": 0.1}, ON_ONE_HOT),
    ("DiceFocalLoss", {"gamma": 1.5, "lambda_focal": 3.0}, ON_ONE_HOT),
    ("FocalLoss", {"alpha": 0.3, "gamma": 1.5}, {"to_onehot_y": True, "use_softmax": True}),
    ("GeneralizedDiceLoss", {"w_type": "simple"}, ON_ONE_HOT),
    ("GeneralizedDiceFocalLoss", {}, ON_ONE_HOT),
    ("GeneralizedWassersteinDiceLoss", {"dist_matrix": DISTANCES, "weighting_mode": "GDL"}, {}),
    ("TverskyLoss", {"alpha": 0.3, "beta": 0.7}, ON_ONE_HOT),
]


@pytest.fixture
def scores() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(3, 4, 6, 9, dtype=torch.float64).mul(3).requires_grad_()


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.randint(0, 4, (3, 6, 9), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def partly(labels: torch.Tensor) -> torch.Tensor:
    hidden = torch.rand(labels.shape, generator=torch.Generator().manual_seed(2)) < 0.6
    return labels.masked_fill(hidden, 255)


def mean_of(loss: MonaiLoss, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """What a step makes of the sums."""
    losses, counts = loss.sums(scores, labels, 255)
    return losses.sum() / counts.sum()


def monai(name: str, options: dict, called: dict) -> torch.nn.Module:
    import monai.losses

    given = {key: torch.tensor(value) if key == "dist_matrix" else value for key, value in options.items()}
    return getattr(monai.losses, name)(**given, **called)


def test_every_supported_loss_is_compared_below():
    assert {name for name, _, _ in CASES} == set(SUPPORTED)


@pytest.mark.parametrize(("name", "options", "called"), CASES)
def test_fully_labelled_it_is_monais_own_call_in_value_and_gradient(scores, labels, name, options, called):
    ours = mean_of(MonaiLoss(name, classes=4, options=options), scores, labels)
    own = monai(name, options, called)
    # MONAI 1.5 mixes the images of a batch in the Wasserstein loss.
    parts = range(len(scores)) if name == "GeneralizedWassersteinDiceLoss" else [slice(None)]
    theirs = torch.stack(
        [own(scores[each].reshape(-1, 4, 6, 9), labels[each].reshape(-1, 1, 6, 9)) for each in parts]
    ).mean()
    assert abs(float((ours - theirs).detach())) < 1e-6
    torch.testing.assert_close(
        torch.autograd.grad(ours, scores), torch.autograd.grad(theirs, scores), atol=1e-7, rtol=1e-4
    )


@pytest.mark.parametrize(("name", "options", "called"), CASES)
def test_what_is_unlabelled_changes_nothing(scores, partly, name, options, called):
    loss = MonaiLoss(name, classes=4, options=options)
    found = mean_of(loss, scores, partly)
    (gradient,) = torch.autograd.grad(found, scores)
    hidden = partly == 255
    assert 0.3 < hidden.float().mean() < 0.9
    assert gradient.isfinite().all()
    assert (gradient.movedim(1, -1)[hidden] == 0).all()
    assert (gradient.movedim(1, -1)[~hidden] != 0).any()
    changed = scores.detach().movedim(1, -1).clone()
    changed[hidden] = torch.tensor([50.0, -50.0, 7.0, 0.0], dtype=torch.float64)
    assert float(mean_of(loss, changed.movedim(-1, 1), partly)) == float(found.detach())
    # Cutting the unlabelled part of an image off is the same as not labelling it.
    half = partly[:1].clone().fill_(255)
    half[:, :, :4] = 1
    half[:, 2, 1] = 3
    cut = monai(name, options, called)(scores[:1, :, :, :4], half[:, None, :, :4])
    assert abs(float((mean_of(loss, scores[:1], half) - cut).detach())) < 1e-6


@pytest.mark.parametrize("name", ["DiceCELoss", "TverskyLoss"])
def test_an_image_without_labels_counts_as_none_and_its_gradient_is_0(scores, labels, name):
    loss = MonaiLoss(name, classes=4)
    without = labels.clone()
    without[1] = 255
    losses, counts = loss.sums(scores, without, 255)
    assert counts.tolist() == [1, 0, 1]
    assert losses[1] == 0
    (gradient,) = torch.autograd.grad(losses.sum(), scores)
    assert (gradient[1] == 0).all()
    assert float(losses.detach().sum() / 2) == pytest.approx(
        float(mean_of(loss, scores.detach()[[0, 2]], labels[[0, 2]]))
    )
    nothing, count = loss.sums(scores, torch.full_like(labels, 255), 255)
    nothing.sum().backward()
    assert count.sum() == 0


def test_scores_of_half_precision_and_labels_of_a_byte_are_taken(scores, labels):
    loss = MonaiLoss("DiceCELoss", classes=4)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = loss.sums(scores.detach().bfloat16(), labels.to(torch.uint8), 255)
    assert found.dtype == torch.float32
    expected, _ = loss.sums(scores.detach().bfloat16().float(), labels, 255)
    torch.testing.assert_close(found, expected)


def test_class_weights_are_monais_weight(scores, labels):
    from monai.losses import DiceCELoss

    weights = torch.tensor([0.5, 1.0, 2.0, 4.0])
    loss = MonaiLoss("DiceCELoss", classes=4, class_weights=weights)
    theirs = DiceCELoss(**ON_ONE_HOT, weight=weights.double())(scores.detach()[:1], labels[:1].unsqueeze(1))
    assert abs(float(mean_of(loss, scores.detach().float()[:1], labels[:1])) - float(theirs)) < 1e-5
    given = MonaiLoss("DiceCELoss", classes=4, options={"weight": weights.tolist()})
    assert mean_of(given, scores.float(), labels) == mean_of(loss, scores.float(), labels)


@pytest.mark.parametrize(
    ("name", "options", "weights", "said"),
    [
        ("DiceLoss", {"include_backgroud": False}, None, "Did you mean 'include_background'"),
        ("DiceLoss", {"softmax": False}, None, "softmax is set here"),
        ("DiceCELoss", {"batch": True}, None, "batch is set here"),
        ("DiceLoss", {"weight": [1.0, 2.0]}, None, "length of the `weight` sequence"),
        ("DiceCELoss", {"lambda_ce": -1.0}, None, "lambda_ce should be no less than 0.0"),
        ("GeneralizedWassersteinDiceLoss", {}, None, "dist_matrix"),
        ("TverskyLoss", {}, torch.ones(4), "takes no class weights.*monai:DiceCELoss"),
        ("DiceLoss", {"weight": [1.0] * 4}, torch.ones(4), "both weight and loss.class_weights"),
        ("DiceLoss", {"include_background": False}, torch.ones(4), "include_background: true"),
    ],
)
def test_what_a_loss_cannot_take_is_refused_before_training(name, options, weights, said):
    with pytest.raises(ModelError, match=f"monai:{name}.*{said}"):
        MonaiLoss(name, classes=4, options=options, class_weights=weights)


def test_one_class_is_refused():
    with pytest.raises(ModelError, match="with 1 class: needed 2 or more"):
        MonaiLoss("DiceLoss", classes=1)


def test_a_configuration_names_a_loss_alone_or_with_its_arguments():
    alone = read_config(changes=["loss.segmentation=monai:DiceCELoss"]).loss.segmentation
    assert (alone.name, alone.options) == ("monai:DiceCELoss", {})
    given = read_config(changes=["loss.segmentation={name: monai:DiceCELoss, lambda_ce: 0.5}"])
    loss = named_loss_of(given, 4)
    assert loss.loss.lambda_ce == 0.5
    assert named_loss_of(read_config(), 4) is None


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ({"segmentation": "dice_ce"}, "Did you mean 'monai:DiceCELoss'"),
        ({"segmentation": "monai:DiceCE"}, "Did you mean 'monai:DiceCELoss'"),
        (
            {"segmentation": "monai:HausdorffDTLoss"},
            "where some samples are unlabelled. Known: monai:DiceCELoss",
        ),
        ({"segmentation": {"name": "focal", "gamma": 2}}, "its gamma is loss.focal_gamma"),
        ({"segmentation": "monai:DiceLoss", "focal_gamma": 2.0}, "focal_gamma 2 is of the loss focal"),
        ({"segmentation": "monai:DiceLoss", "weighting": "area"}, "cannot weigh samples"),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(loss, said):
    with pytest.raises(ConfigError, match=said):
        parse_config({"loss": loss}, source="test")


def test_dice_and_focal_agree_on_which_samples_count(scores, partly):
    _, weights = focal_sums(scores, partly)
    _, counts = MonaiLoss("DiceLoss", classes=4).sums(scores, partly, 255)
    assert ((weights > 0) == (counts > 0)).all()


def test_reading_a_configuration_imports_no_monai():
    code = (
        "import sys; from wsi_deform.config import read_config; "
        "read_config(changes=['loss.segmentation=monai:DiceCELoss']); print('monai' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
