"""One of two gloo processes on the CPU: what ``test_ranks.py`` compares with one process."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.config import parse_config
from wsi_deform.config_sections import Config
from wsi_deform.data.batches import load
from wsi_deform.data.fields import FieldBatch, FieldViews
from wsi_deform.data.study import median_mpp, open_labelled
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.model import Model
from wsi_deform.train.ranks import Ranks, joined_ranks, synchronise_batch_norm
from wsi_deform.train.schedule import optimiser_of
from wsi_deform.train.step import Learner, learner_of, training_step
from wsi_deform.train.training_fields import training_fields

BATCHES = ([0, 1, 2, 3], [4], [3, 1, 0])
EPOCHS = 3


def batch_norm_results(ranks: Ranks) -> dict[str, torch.Tensor]:
    """Outputs, gradients and running statistics of this process's rows; process 1 of 2 has none of the last input."""
    torch.manual_seed(0)
    layer = nn.BatchNorm2d(3).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, -2.0, 0.5]))
        layer.bias.copy_(torch.tensor([0.0, 1.0, 3.0]))
    network = nn.Sequential(layer)
    inputs = [torch.randn(rows, 3, 4, 5).double() * 3 + 100 for rows in (3, 5, 1)]
    targets = [torch.randn_like(each) for each in inputs]
    synchronise_batch_norm(network, ranks)
    found: dict[str, torch.Tensor] = {}
    for number, (whole, target) in enumerate(zip(inputs, targets, strict=True)):
        counted = len(whole[ranks.rank :: ranks.world]) > 0
        rows = slice(ranks.rank, None, ranks.world) if counted else slice(0, 1)
        own = whole[rows].clone().requires_grad_()
        with ranks.counting(counted):
            out = network(own)
        network.zero_grad()
        ((out - target[rows]).square().sum() * float(counted)).backward()
        found |= {f"out{number}": out.detach(), f"gradient{number}": own.grad}
        weight, bias = network.get_parameter("0.weight"), network.get_parameter("0.bias")
        found |= {f"weight{number}": ranks.sum(weight.grad), f"bias{number}": ranks.sum(bias.grad)}
    network.eval()
    found["evaluated"] = network(inputs[0]).detach()
    return found | {f"state.{name}": tensor.clone() for name, tensor in network.state_dict().items()}


def _in_double(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        each.double() if isinstance(each, torch.Tensor) and each.is_floating_point() else each
        for each in arguments
    )


def step_results(ranks: Ranks, config: Config, folder: Path) -> dict[str, torch.Tensor]:
    """Losses and averaged gradients of a few batches from the same weights, and the losses of training on them.

    Convention:
        Networks and losses compute in float64, so that nothing is left of rounding but what a wrong sum cannot hide in:
        in float32 the gradients of biases before batch normalisation, which are 0, are rounding of the size of Adam's
        epsilon, and Adam makes steps of the learning rate of them.
    """
    manifest, classes = read_manifest(folder / "manifest.csv"), read_class_table(folder / "classes.yaml")
    opened = [open_labelled(row, classes) for row in manifest.of_split("train")]
    torch.manual_seed(0)
    model = Model(config=config, classes=classes, mpp=median_mpp([slide for slide, _ in opened]))
    items = training_fields(opened, model)
    # Of two shapes: the first batch holds one field of the other one, which only process 0 has.
    items[3] = replace(items[3], size=Size(40, 30), map_size=Size(40, 30))
    shares = list(
        load(FieldViews(items, tissue=model.sees_tissue), BATCHES, 0, rank=ranks.rank, world=ranks.world)
    )
    with register_module_forward_pre_hook(_in_double):
        return _learned(learner_of(model.double().train(), optimiser_of(model), ranks=ranks), shares)


def _learned(learner: Learner, shares: Sequence[Sequence[FieldBatch]]) -> dict[str, torch.Tensor]:
    model = learner.model
    # Curves of blocks part by rounding after the first step: no more than that is of use.
    steps = [(0, 0)] if model.has_blocks else [(e, n) for e in range(EPOCHS) for n in range(len(shares))]
    found: dict[str, torch.Tensor] = {}
    for number, share in enumerate(shares):
        loss, numbers = learner.loss(share, epoch=0, step=number, edge_weight=0.5)
        learner.optimiser.zero_grad()
        loss.backward()
        found[f"loss{number}"] = torch.tensor(
            [numbers["loss"], numbers["labelled_share"]], dtype=torch.float64
        )
        found |= {
            f"gradient{number}.{name}": weight.grad.clone()
            for name, weight in model.named_parameters()
            if weight.grad is not None
        }
    losses = [
        training_step(learner, shares[number], epoch=epoch, step=number, edge_weight=0.5)["loss"]
        for epoch, number in steps
    ]
    found["curve"] = torch.tensor(losses, dtype=torch.float64)
    return found | {f"state.{name}": tensor for name, tensor in model.state_dict().items()}


def main(config: str, folder: Path, out: Path) -> None:
    """Work and leave the results."""
    torch.set_num_threads(1)
    with joined_ranks("cpu") as ranks:
        results = {
            "batch_norm": batch_norm_results(ranks),
            "step": step_results(ranks, parse_config(json.loads(config), source="test"), folder),
            "gathered": ranks.gather(ranks.rank),
            "any": [ranks.any(ranks.rank == 1), ranks.any(False)],
        }
    torch.save(results, out / f"rank{ranks.rank}.pt")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
