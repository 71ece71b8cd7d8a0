"""The README of an export: how to run it, in a few lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsi_deform.config_blocks import budget_text, label_px_of, scales_of
from wsi_deform.deform.block_choices import words_of
from wsi_deform.model_card import reading_text

MAX_NAMED = 8
"""Of a part with more channels the README names none."""

_LOADING = {
    "torchscript": """\
    import torch
    {part} = torch.jit.load("{file}")
    output = {part}(image)  # float32 tensor""",
    "torch-export": """\
    import torch
    # Guards refuse sizes for the memory layout of results in between; older torch has neither them nor the argument.
    {part} = torch.export.load("{file}").module(check_guards=False)
    output = {part}(image)  # float32 tensor""",
    "onnx": """\
    import onnxruntime
    {part} = onnxruntime.InferenceSession("{file}")
    (output,) = {part}.run(["output"], {{"image": image}})  # float32 array""",
    "monai-bundle": """\
    from monai.bundle import ConfigParser
    parser = ConfigParser()
    parser.read_config("configs/inference.json")
    parser["bundle_root"] = "."  # the folder of this bundle
    parser.get_parsed_content("initialize")  # loads the weights, as tensors only
    {part} = parser.get_parsed_content("{network}")
    output = {part}(image)""",
}


def readme_text(about: Mapping[str, Any]) -> str:
    """The README, in Markdown.

    Args:
        about: What the export's ``model.json`` says.
    """
    sections = [
        f"# Networks of a wsi-deform model ({about['kind']})",
        "Made by `wsi-deform export`. `model.json` says the same for programs; `model_card.md` says what the model is "
        "for and how good it is.",
        "## Networks",
        _networks(about),
        "## Run",
        *(_loading(about, part) for part in about["networks"]),
    ]
    if about["kind"] == "monai-bundle":
        sections += [
            "wsi-deform must be installed: the bundle names its classes. `python -m monai.bundle` needs fire.",
            "- `python -m monai.bundle run --config_file configs/inference.json --slide SLIDE` segments a slide, or "
            "the slides of a folder or manifest, and writes what `wsi-deform segment` writes to `predictions/` "
            "(`--output_dir`): the mask is `masks/NAME.ome.tif`.\n"
            "- `python -m monai.bundle run --config_file configs/train.json --manifest FILE` trains the networks "
            "on, with `--epochs` and `--settings \"['loss.segmentation=monai:DiceCELoss']\"`, in `training/`, and "
            "exports the best as a new bundle there." + ("" if "blocks" in about else _sampled_images(about)),
        ]
    sections += ["## From a slide to a mask", _method(about), "## Checked", _checked(about)]
    return "\n\n".join(sections) + "\n"


def _sampled_images(about: Mapping[str, Any]) -> str:
    return (
        "\n- With pytorch-ignite, `python -m monai.bundle run --config_file configs/sampled_images.json` writes the "
        f"class map of every sampled image in `images/` ({_file_type(about)}) to `predictions/`."
    )


def _file_type(about: Mapping[str, Any]) -> str:
    channels = len(about["networks"]["segmentation"]["input"]["channels"])
    return "PNG" if channels == 3 else f"height x width x {channels} numbers in .npy, channels as above"


def _networks(about: Mapping[str, Any]) -> str:
    rows = ["| network | file | input | output |", "|---|---|---|---|"]
    for part, network in about["networks"].items():
        given, made = network["input"], network["output"]
        channels = ", ".join(
            f"{name} {low} to {high}" if high is not None else f"{name}, at least {low}"
            for name, (low, high) in zip(given["channels"], given["ranges"], strict=True)
        )
        if len(given["channels"]) > MAX_NAMED:
            channels = f"{len(given['channels'])} channels, named in `model.json`"
        rows.append(
            f"| {part} | `{network['file']}` | {given['meaning']}, {_shape(given)} {given['dtype']}: {channels} "
            f"| {made['meaning']}, {_shape(made)} |"
        )
    return "\n".join(rows)


def _shape(tensor: Mapping[str, Any]) -> str:
    return "(" + ", ".join(map(str, tensor["shape"])) + ")"


def _loading(about: Mapping[str, Any], part: str) -> str:
    network = "network" if part == "segmentation" else f"{part}_network"
    return _LOADING[about["kind"]].format(part=part, file=about["networks"][part]["file"], network=network)


def _method(about: Mapping[str, Any]) -> str:
    """The steps around the networks, with this model's numbers."""
    if "blocks" in about:
        return _method_of_blocks(about)
    sampling = about["sampling"]
    short, long = sampling["budget"]
    if sampling["size"] == "area":
        size = f"{short * long} samples in the field's aspect ratio"
    elif sampling["size"] == "exact":
        size = f"{short} x {long} px (short x long side), whatever the field's aspect ratio"
    else:
        size = f"at most {short} x {long} px (short x long side) in the field's aspect ratio"
    names = ", ".join(f"{index} {each['name']}" for index, each in enumerate(about["classes"]["classes"]))
    known = (
        "images without um per pixel"
        if about["mpp"] is None
        else f"slides of {about['mpp']:g} um per pixel at level 0"
    )
    steps = [
        f"The model knows {known}. A field (a region of the slide, or all "
        f"of it) gets a sampled image of {size}."
    ]
    if "deformation" in about["networks"]:
        scale = f", {sampling['map_scale']:g} times that size" if sampling["map_scale"] != 1 else ""
        if (view := sampling["view_px"]) is not None:
            scale = f", {view[0]} x {view[1]} px (short x long side)"
        sigma = f"{sampling['sigma']:g} times the map's short side"
        if sampling["sigma_px"] is not None:
            sigma = f"{sampling['sigma_px']:g} px of the map"
        steps += [
            f"Read the low-res view of the field, area-averaged{scale or ', of that size'}; `deformation` makes the "
            "deformation map of it.",
            "Grid: every sample is pulled towards the map cells around it, weighted by density times a Gaussian of "
            f"{sigma} (cut at {sampling['radius_sigmas']:g} standard "
            f"deviations; border: {sampling['border']}), {sampling['warp_steps']} times. "
            "`wsi_deform.deform.grid.sampling_grid` does it and needs numpy and torch only.",
        ]
    else:
        steps.append(
            f'Grid: density "{sampling["density"]}" needs no network (`wsi_deform.deform`).'
            if sampling["density"] != "uniform"
            else "Grid: uniform, one sample in the centre of each of the equal cells that tile the field."
        )
    if about["stain"] != "none":
        steps.append(
            f"Colours: the slide's RGB is brought to one reference stain first ({about['stain']}), for view and "
            "sampled image alike."
        )
    areas = ""
    if len(about["networks"]["segmentation"]["input"]["channels"]) > 3:
        areas = (
            "; beside it the areas of the samples' cells (`wsi_deform.deform.grid.cell_areas`, without sign) / "
            "their mean"
        )
    steps += [
        "Sampled image: the slide's RGB at the grid's points, bilinear, pyramid level: "
        f"{reading_text(sampling)}{areas}.",
        f"`segmentation` scores every sample; classes: {names}.",
        f"Mask: every pixel of the slide takes its class from the samples around it ({sampling['interpolation']}).",
    ]
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, start=1))


def _method_of_blocks(about: Mapping[str, Any]) -> str:
    """The same for fields that are read in blocks."""
    blocks = about["blocks"]
    scales, unit = scales_of(blocks)
    label_px = label_px_of(blocks)
    finest = len(scales) - 1
    names = ", ".join(f"{index} {each['name']}" for index, each in enumerate(about["classes"]["classes"]))
    steps = [
        f"A field (a region of the slide, or all of it) is read whole at {scales[0]:g} {unit} per px, area-averaged, "
        "and its right and bottom edge repeated up to a multiple of 16 px: level 0. `look0` makes features of it, one "
        f"cell for {2 * label_px} x {2 * label_px} px. A channel of ones behind them says that all was read."
    ]
    if about["stain"] != "none":
        steps.append(f"Colours: the slide's RGB is brought to one reference stain first ({about['stain']}).")
    for level in range(1, finest + 1):
        parents = "" if level == 1 else f", and only in blocks of which level {level - 1} was read"
        how = {
            "learned": f"by the mean of `scorer{level}` over their cells, whose input is the features of all levels "
            f"before, resized (bilinear, edge on edge) to the cells of level {level - 1} and put behind each other",
            "detail": "by the mean size of the gradient of the brightness in the level before",
            "features": "by the mean distance of its cells' features from the mean of the 3 x 3 cells around, in the "
            "level before",
            "tissue": "by their share of tissue",
            "random": "at random",
            "labels": "by how mixed the labels in them are",
        }.get(blocks["choice"], words_of(blocks["choice"]))
        margin = (
            f" with {blocks['margin_px']} px around them, whose cells are cut off"
            if blocks["margin_px"]
            else ""
        )
        steps.append(
            f"Level {level}, {scales[level]:g} {unit} per px, is read in windows of {blocks['window_px']} px{margin}"
            f"{parents}: the best {how}. `look{level}` makes their features; put at their places they are 0 where "
            "nothing was read, and the last channel is 1 where something was."
        )
    steps += [
        f"The best are as many as the budget allows, at most {budget_text(blocks)} in all: "
        "`wsi_deform.cover.windows_of`"
        + (f", split {blocks['split']}." if blocks["split"] is not None else "."),
        f"`merge0` to `merge{finest}` of the features of each level, resized to the cells of level {finest} and "
        f"summed; `head` scores that sum, one label for {label_px} x {label_px} px of level {finest}; "
        f"classes: {names}.",
        "Mask: every pixel of the slide takes its class from the labels around it "
        f"({about['sampling']['interpolation']}).",
        "`wsi_deform.looks` is all of this.",
    ]
    if about["kind"] == "monai-bundle":
        steps.insert(
            0,
            "`network` holds the parts below as `network.backbone`, `joins`, `scorers`, `merges` and `head` "
            "(`wsi_deform.networks.blocks`); called by itself it labels a first look.",
        )
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, start=1))


def _checked(about: Mapping[str, Any]) -> str:
    verified = about["verified"]
    lines = [
        f"- {each['part']}, input {' x '.join(map(str, each['input']))}: "
        f"differs from the model by at most {each['difference']:.1e} of its greatest value"
        for each in verified["compared"]
    ]
    return "\n".join(lines)
