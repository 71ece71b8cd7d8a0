"""What training minimises: the focal loss of the segmentation and the edge loss of the deformation map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from wsi_deform.annotation.classes import UNLABELLED
from wsi_deform.config_sections import Config
from wsi_deform.deform.targets import EdgeScale
from wsi_deform.errors import ShapeError
from wsi_deform.networks.losses import OWN, NamedLoss, named_loss


def focal_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    gamma: float = 2.0,
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy in which well-recognised samples count less: ``-(1 - p)^gamma log p`` of the true class.

    Args:
        scores: (B, C, h, w), before the softmax. Any floating dtype; the loss is computed in float32 or
            better.
        labels: (B, h, w), uint8 or int64, classes 0 to C - 1; 255 is unlabelled and counts nowhere.
        gamma: 0 is cross-entropy.
        class_weights: (C,), non-negative.
        sample_weights: (B, h, w), non-negative, such as the areas of the warped cells.

    Returns:
        Scalar: the mean over the labelled samples of the batch, weighted by class weight times sample
        weight. Where nothing is labelled (or all weights are 0) it is 0, and so is its gradient.

    Raises:
        ShapeError: Shapes that do not fit, a negative gamma, or a label that is neither a class nor 255.

    Convention:
        The mean divides by the sum of the weights, as ``torch.nn.functional.cross_entropy`` does: scaling all
        weights changes nothing.

    Source:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017; Jin et al., ICLR 2022, appendix A.7.
    """
    sums, weights = focal_sums(
        scores, labels, gamma=gamma, class_weights=class_weights, sample_weights=sample_weights
    )
    return sums.sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)


def focal_sums(
    scores: Tensor,
    labels: Tensor,
    *,
    gamma: float = 2.0,
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The two parts of ``focal_loss`` for each image, for a mean over more images than are at hand here.

    Args:
        scores: As for ``focal_loss``.
        labels: As for ``focal_loss``.
        gamma: As for ``focal_loss``.
        class_weights: As for ``focal_loss``.
        sample_weights: As for ``focal_loss``.

    Returns:
        Weighted losses summed over each image, (B,), and the sum of its weights, (B,).

    Raises:
        ShapeError: As ``focal_loss``.
    """
    _require_pair(scores, labels, gamma)
    labels = labels.long()
    labelled = labels != UNLABELLED
    targets = labels.where(labelled, 0)
    if int(targets.max()) >= scores.shape[1] or int(targets.min()) < 0:
        raise ShapeError(
            f"labels from {int(targets.min())} to {int(targets.max())}: the scores have "
            f"classes 0 to {scores.shape[1] - 1}, and {UNLABELLED} is unlabelled. "
            "Check the class table against the model's."
        )
    scores = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
    log_p = F.log_softmax(scores, dim=1).gather(1, targets.unsqueeze(1)).squeeze(1)
    loss = -log_p
    if gamma > 0:
        # expm1 keeps the digits of 1 - p near p = 1; the clamp keeps the slope of a power below 1 finite.
        loss = loss * (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).eps) ** gamma
    weights = _weights(scores, labelled, targets, class_weights, sample_weights)
    return (loss * weights).sum((1, 2)), weights.sum((1, 2))


def named_loss_of(
    config: Config,
    classes: int,
    class_weights: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> NamedLoss | None:
    """The loss of MONAI or of a plug-in that ``loss.segmentation`` names; None where it is our own.

    Raises:
        ModelError: There is no such loss, or it refuses its arguments.
    """
    settings = config.loss.segmentation
    if settings.name == OWN:
        return None
    return named_loss(
        settings.name, classes=classes, class_weights=class_weights, device=device, options=settings.options
    )


def class_weights_of(kind: Literal["inverse", "effective"], pixels: Sequence[float]) -> Tensor:
    """How much a labelled pixel of each class counts.

    Args:
        kind: "inverse": by 1 / n, so that all classes count the same together. "effective": by the inverse of the
            effective number of samples, ``(1 - beta) / (1 - beta ** n)``: rare classes weigh about as with "inverse",
            frequent ones no less than a limit, because their pixels repeat each other.
        pixels: For each class n, its labelled pixels in all training fields; any unit of area will do.

    Returns:
        (C,) float32. Their mean over all labelled pixels is 1; a class without a pixel has 1.

    Raises:
        ShapeError: A negative number, or no labelled pixel at all.

    Convention:
        ``beta = (N - 1) / N``. N, the number of pixels that are different at all, is the mean of n over the classes
        that are there: with n in the millions ``beta ** n`` is ``exp(-n / N)``, so only shares matter, not the size of
        the data set or of a pixel. A class with the mean n has 1.6 times the weight of one that is everywhere.

    Source:
        Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, equations 2 and 4.
    """
    if min(pixels, default=0) < 0 or not sum(pixels) > 0:
        raise ShapeError(
            f"labelled pixels per class {list(pixels)}: needed numbers of 0 or more, some above. "
            "Check the masks of the training slides."
        )
    seen = [number for number in pixels if number > 0]
    mean = sum(seen) / len(seen)

    def weight(number: float) -> float:
        # 1 - exp(-x), with all digits where x is small.
        return mean / number if kind == "inverse" else -1 / math.expm1(-number / mean)

    mean_weight = sum(weight(number) * number for number in seen) / sum(seen)
    return torch.tensor([weight(number) / mean_weight if number > 0 else 1.0 for number in pixels])


def edge_loss(deformation_map: Tensor, target: Tensor, *, scale: EdgeScale = "mean") -> Tensor:
    """Mean squared difference of two deformation maps.

    Args:
        deformation_map: (B, 1, H, W), positive; on the scale "mean" whatever it sums to.
        target: (B, 1, H, W), non-negative. No gradient flows into it. On the scale "mean" an image where it is 0
            everywhere asks for the uniform map.
        scale: "mean": both are scaled to mean 1 per image. "paper": both as they are, where the map is a softmax, which
            sums to 1, and the target is the edges, ``target_map(..., scale="paper")``.

    Returns:
        Scalar, the mean over cells and images.

    Raises:
        ShapeError: Not two floating-point (B, 1, H, W) of the same size.

    Convention:
        A deformation map sums to 1 and its target does not: with mean 1 only shapes are compared. On this scale a
        weight of 1 beside the segmentation loss works; with both summing to 1 the gradient would be N^2
        times smaller. The paper's scale, with its weight of 100, is there to be measured: no softmax over N cells comes
        near edges of size 1 everywhere, so that it is pulled towards the strongest ones alone.

    Source:
        Jin et al., ICLR 2022, equation 4 and appendix A.7; the scale "mean" is ours.
    """
    return edge_losses(deformation_map, target, scale=scale).mean()


def edge_losses(deformation_map: Tensor, target: Tensor, *, scale: EdgeScale = "mean") -> Tensor:
    """``edge_loss`` of each image, (B,): the mean over its cells, so that images of all sizes count the same.

    Args:
        deformation_map: As for ``edge_loss``.
        target: As for ``edge_loss``.
        scale: As for ``edge_loss``.

    Raises:
        ShapeError: As ``edge_loss``.
    """
    if (
        deformation_map.dim() != 4
        or deformation_map.shape[1] != 1
        or deformation_map.shape != target.shape
        or not (deformation_map.is_floating_point() and target.is_floating_point())
    ):
        raise ShapeError(
            f"deformation map {tuple(deformation_map.shape)} {deformation_map.dtype} and "
            f"target {tuple(target.shape)} {target.dtype}: needed floating-point (B, 1, H, W) of one size."
        )
    wanted = target.detach().to(torch.promote_types(target.dtype, torch.float32))
    found = deformation_map.to(wanted.dtype)
    if scale == "mean":
        wanted, found = _mean_one(wanted), _mean_one(found)
    return F.mse_loss(found, wanted, reduction="none").mean((1, 2, 3))


def _mean_one(values: Tensor) -> Tensor:
    """Each image of (B, 1, H, W) divided by its mean; all ones where that is 0."""
    mean = values.mean((2, 3), keepdim=True)
    empty = mean <= torch.finfo(values.dtype).tiny
    return torch.where(
        empty, torch.ones_like(values), values / torch.where(empty, torch.ones_like(mean), mean)
    )


def _weights(
    scores: Tensor,
    labelled: Tensor,
    targets: Tensor,
    class_weights: Tensor | None,
    sample_weights: Tensor | None,
) -> Tensor:
    """(B, h, w): what each sample counts; 0 where unlabelled."""
    weights = labelled.to(scores.dtype)
    if class_weights is not None:
        if class_weights.shape != (scores.shape[1],):
            raise ShapeError(
                f"class weights of shape {tuple(class_weights.shape)}: needed one for each "
                f"of {scores.shape[1]} classes."
            )
        weights = weights * class_weights.to(weights)[targets]
    if sample_weights is not None:
        if sample_weights.shape != labelled.shape:
            raise ShapeError(
                f"sample weights of shape {tuple(sample_weights.shape)}: needed {tuple(labelled.shape)}, "
                "as the labels."
            )
        weights = weights * sample_weights.to(weights)
    return weights


def _require_pair(scores: Tensor, labels: Tensor, gamma: float) -> None:
    if scores.dim() != 4 or not scores.is_floating_point():
        raise ShapeError(
            f"scores of shape {tuple(scores.shape)}, {scores.dtype}: needed floating-point (B, C, h, w)."
        )
    if labels.dtype not in (torch.uint8, torch.int64):
        raise ShapeError(f"labels of dtype {labels.dtype}: needed uint8 or int64.")
    needed = (scores.shape[0], *scores.shape[2:])
    if labels.shape != needed:
        raise ShapeError(f"labels of shape {tuple(labels.shape)}: needed {needed}, as the scores.")
    if gamma < 0:
        raise ShapeError(f"gamma {gamma}: needed 0 or more.")
