"""A MONAI bundle: weights, and configurations from which MONAI builds the networks, segments slides and trains on.

The configurations name classes of this package, which therefore must be installed where the bundle runs.

Source:
    MONAI bundle specification, https://docs.monai.io/en/latest/mb_specification.html
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wsi_deform.export.networks import input_channels, network_arguments
from wsi_deform.export.verify import Runner
from wsi_deform.files import write_json
from wsi_deform.model import Model
from wsi_deform.model_file import description_of

SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)
CLASSES = {"deformation": "DensityNetwork", "segmentation": "ScoreNetwork"}
BLOCKS = "wsi_deform.export.blocks.BlockScores"
#: What a bundle calls the parts: MONAI's tools look for `network_def` and `models/model.pt`.
PREFIXES = {"deformation": "deformation_", "segmentation": ""}
#: What the model is but for its weights, for this package.
DESCRIPTION = "configs/wsi_deform.json"
#: Where the parts are that the configurations name.
PARTS = "wsi_deform.for_monai"
WEIGHTS = {"deformation": "models/deformation.pt", "segmentation": "models/model.pt"}


def write_bundle(model: Model, parts: dict[str, nn.Module], folder: Path, *, version: str) -> None:
    """Write models/ and configs/ of a bundle.

    Args:
        model: The model.
        parts: What ``exported_networks`` gives.
        folder: The bundle's root; it exists.
        version: Version of the bundle, such as 0.1.0.
    """
    for name in ("configs", "models", "docs"):
        (folder / name).mkdir()
    for part, network in parts.items():
        torch.save(network.state_dict(), folder / WEIGHTS[part])
    write_json(folder / "configs" / "inference.json", inference_config(model))
    write_json(folder / "configs" / "train.json", training_config(model))
    if not model.has_blocks:  # of which there are none
        write_json(folder / "configs" / "sampled_images.json", sampled_images_config(model))
    write_json(folder / DESCRIPTION, description_of(model))
    write_json(folder / "configs" / "metadata.json", metadata(model, version=version))


def inference_config(model: Model) -> dict[str, Any]:
    """configs/inference.json: from slides to their masks, through this package's transforms and inferer.

    ``--slide`` is a slide, a folder of slides or a manifest. Weights are loaded as tensors only.
    """
    return {
        **_start(),
        "slide": None,
        "slide_mpp": None,
        "output_dir": "$@bundle_root + '/predictions'",
        **_networks(model),
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": f"{PARTS}.transforms.OpenSlided", "keys": "slide"}],
        },
        "dataset": {
            "_target_": "Dataset",
            "data": {
                "_target_": f"{PARTS}.transforms.slides_of",
                "slide": "@slide",
                "output_dir": "@output_dir",
                "mpp": "@slide_mpp",
            },
            "transform": "@preprocessing",
        },
        "inferer": {
            "_target_": f"{PARTS}.inferer.SlideInferer",
            "description": f"$@bundle_root + '/{DESCRIPTION}'",
            "deformation_network": _deformation_network(model),
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {
                    "_target_": f"{PARTS}.transforms.SaveMaskd",
                    "keys": "pred",
                    "output_dir": "@output_dir",
                    "probabilities": False,
                    "geojson": True,
                }
            ],
        },
        "evaluator": {
            "_target_": f"{PARTS}.inferer.SlideEvaluator",
            "dataset": "@dataset",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
        "initialize": _initialize(model),
        "run": ["$@evaluator.run()"],
    }


def training_config(model: Model) -> dict[str, Any]:
    """configs/train.json: train on from these weights, on the slides of a manifest, in this package's loop."""
    return {
        **_start(),
        "manifest": None,
        "output_dir": "$@bundle_root + '/training'",
        "epochs": model.config.training.epochs,
        "settings": [],
        **_networks(model),
        "trainer": {
            "_target_": f"{PARTS}.trainer.SlideTrainer",
            "description": f"$@bundle_root + '/{DESCRIPTION}'",
            "network": "@network",
            "deformation_network": _deformation_network(model),
            "manifest": "@manifest",
            "output_dir": "@output_dir",
            "epochs": "@epochs",
            "settings": "@settings",
            "device": "$str(@device)",
        },
        "initialize": _initialize(model),
        "run": ["$@trainer.run()"],
    }


def sampled_images_config(model: Model) -> dict[str, Any]:
    """configs/sampled_images.json: class maps of sampled images in a folder.

    The evaluator needs pytorch-ignite; the networks do not.
    """
    # Cell areas are no colour: with them a sampled image is an array.
    suffix = ".png" if len(input_channels(model, "segmentation")) == 3 else ".npy"
    start = _start()
    return {
        **start,
        "imports": ["$import glob", "$import os", *start["imports"]],
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/predictions'",
        "datalist": f"$sorted(glob.glob(os.path.join(@dataset_dir, '*{suffix}')))",
        **_networks(model),
        **_evaluation(suffix),
        "initialize": _initialize(model),
        "run": ["$@evaluator.run()"],
    }


def _start() -> dict[str, Any]:
    """What each configuration starts with."""
    return {
        "imports": ["$import torch"],
        "bundle_root": ".",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    }


def _networks(model: Model) -> dict[str, Any]:
    """The networks and where their weights lie."""
    config: dict[str, Any] = {}
    for part, arguments in network_arguments(model).items():
        prefix = PREFIXES[part]
        config[f"{prefix}ckpt_path"] = f"$@bundle_root + '/{WEIGHTS[part]}'"
        config[f"{prefix}network_def"] = {
            "_target_": BLOCKS if model.has_blocks else f"wsi_deform.export.networks.{CLASSES[part]}",
            **arguments,
        }
        config[f"{prefix}network"] = f"$@{prefix}network_def.to(@device).eval()"
    return config


def _initialize(model: Model) -> list[str]:
    """What loads the weights."""
    return [
        f"$@{PREFIXES[part]}network_def.load_state_dict("
        f"torch.load(@{PREFIXES[part]}ckpt_path, map_location=@device, weights_only=True))"
        for part in network_arguments(model)
    ]


def _deformation_network(model: Model) -> str | None:
    return "@deformation_network" if "deformation" in network_arguments(model) else None


def _evaluation(suffix: str) -> dict[str, Any]:
    """From image files to class maps, with MONAI's transforms and its ignite evaluator."""
    # MONAI reads pictures as (x, y) unless told not to.
    reader = (
        {"reader": "PILReader", "reverse_indexing": False}
        if suffix == ".png"
        else {"reader": "NumpyReader", "channel_dim": -1}
    )
    return {
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image", **reader},
                {"_target_": "EnsureChannelFirstd", "keys": "image", "channel_dim": -1},
                {"_target_": "EnsureTyped", "keys": "image", "dtype": "$torch.float32"},
            ],
        },
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': i} for i in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 1,
            "shuffle": False,
            "num_workers": 0,
        },
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
                # The writer turns axes as the reader would have.
                {"_target_": "Lambdad", "keys": "pred", "func": "$lambda labels: labels.transpose(-1, -2)"},
                {
                    "_target_": "SaveImaged",
                    "keys": "pred",
                    "output_dir": "@output_dir",
                    "output_ext": ".png",
                    "output_dtype": "$torch.uint8",
                    "output_postfix": "classes",
                    "resample": False,
                    "separate_folder": False,
                },
            ],
        },
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
    }


def metadata(model: Model, *, version: str) -> dict[str, Any]:
    """configs/metadata.json: what the bundle is, and the tensors of its main network."""
    names = ", ".join(model.classes.names)
    channels = input_channels(model, "segmentation")
    image = {
        "type": "image",
        "format": "magnitude",
        "modality": "natural image" if model.mpp is None else "histopathology",
        "num_channels": len(channels),
        "spatial_shape": ["*", "*"],
        "dtype": "float32",
        "value_range": [0, 255],
        "is_patch_data": False,
        "channel_def": {str(index): name for index, name in enumerate(channels)},
    }
    pred = {
        "type": "image",
        "format": "segmentation",
        "modality": "n/a",
        "num_channels": model.classes.count,
        "spatial_shape": ["*", "*"],
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
        "channel_def": {str(index): name for index, name in enumerate(model.classes.names)},
    }
    return {
        "schema": SCHEMA,
        "version": version,
        "changelog": {version: "exported by wsi-deform"},
        "monai_version": importlib.metadata.version("monai"),
        "pytorch_version": importlib.metadata.version("torch").partition("+")[0],
        "numpy_version": importlib.metadata.version("numpy"),
        "required_packages_version": {"wsi-deform": importlib.metadata.version("wsi-deform")},
        "name": f"wsi-deform {model.config.name}",
        "task": f"semantic segmentation of {'images' if model.mpp is None else 'histology slides'} "
        + ("in blocks of several levels" if model.has_blocks else "through a deformed sampling grid"),
        "description": f"Scores of the classes {names} for "
        + (
            f"{_slides(model)} that are read in blocks, and the networks that say which to read more closely. "
            if model.has_blocks
            else f"images sampled from {_slides(model)}, and the network that says where to sample. "
        )
        + "See docs/README.md and model.json.",
        "authors": "not stated",
        "copyright": "not stated",
        "intended_use": "research use only; not a medical device",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
    }


def _slides(model: Model) -> str:
    return "images without scale" if model.mpp is None else f"slides of {model.mpp:g} um per pixel"


def run_bundle(folder: Path, part: str) -> Runner:
    """One network of a written bundle, built and loaded by MONAI from its configuration."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(folder / "configs" / "inference.json")
    parser.read_meta(folder / "configs" / "metadata.json")
    parser["bundle_root"] = str(folder)
    parser["device"] = "$torch.device('cpu')"
    parser.get_parsed_content("initialize")
    network: Runner = parser.get_parsed_content(f"{PREFIXES[part]}network")
    return network
