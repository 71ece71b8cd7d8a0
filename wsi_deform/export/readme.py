"""The README of an export: how to run it, in a few lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsi_deform.model_card import reading_text

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
            "- `python -m monai.bundle run --config_file configs/train.json --manifest FILE` trains both networks "
            "on, with `--epochs` and `--settings \"['loss.segmentation=monai:DiceCELoss']\"`, in `training/`, and "
            "exports the best as a new bundle there.\n"
            "- With pytorch-ignite, `python -m monai.bundle run --config_file configs/sampled_images.json` writes the "
            f"class map of every sampled image in `images/` ({_file_type(about)}) to `predictions/`.",
        ]
    sections += ["## From a slide to a mask", _method(about), "## Checked", _checked(about)]
    return "\n\n".join(sections) + "\n"


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


def _checked(about: Mapping[str, Any]) -> str:
    verified = about["verified"]
    lines = [
        f"- {each['part']}, input {' x '.join(map(str, each['input']))}: "
        f"differs from the model by at most {each['difference']:.1e} of its greatest value"
        for each in verified["compared"]
    ]
    return "\n".join(lines)
