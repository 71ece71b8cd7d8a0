"""From a run to a folder that runs elsewhere: networks, what they are, how to use them, checked after writing."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal, get_args

from wsi_deform.errors import ModelError
from wsi_deform.export.blocks import block_meanings, block_parts
from wsi_deform.export.bundle import WEIGHTS, run_bundle, write_bundle
from wsi_deform.export.networks import exported_networks, input_channels
from wsi_deform.export.onnx import require_onnx, run_onnx, write_onnx
from wsi_deform.export.readme import readme_text
from wsi_deform.export.torch_export import run_torch_export, write_torch_export
from wsi_deform.export.torchscript import TRACED_SIZE, require_torchscript, run_torchscript, write_torchscript
from wsi_deform.export.verify import TOLERANCE, Runner, fitting, side_step, verify
from wsi_deform.files import write_folder_aside, write_json, write_text
from wsi_deform.model import Model
from wsi_deform.model_card import model_card
from wsi_deform.model_file import CHECKSUM, find_model, load_model, read_model_facts
from wsi_deform.provenance import provenance

Format = Literal["monai-bundle", "torchscript", "torch-export", "onnx"]
SUFFIXES: dict[Format, str] = {"torchscript": ".ts", "torch-export": ".pt2", "onnx": ".onnx"}
EXPORT_FORMAT = "wsi-deform export 1"
FACTS = "model.json"
BUNDLE_VERSION = "0.1.0"


def export_model(run: Path | str, *, format: Format, out: Path | str | None = None) -> Path:
    """Write the networks of a trained model for use without this program, and check what was written.

    Args:
        run: A run folder, or a file of a model, see ``find_model``.
        format: ``monai-bundle``, ``torchscript``, ``torch-export`` or ``onnx``.
        out: The folder to write; default: ``export/FORMAT`` in the run folder. An earlier export there is replaced.

    Returns:
        The folder: the networks, ``model.json`` (classes, sampling, tensors, checks), ``model_card.md`` and a README.

    Raises:
        ModelError: No such model, an unknown format, a package is missing, the folder holds something else, the
            network cannot be written in that format, or what was written does not compute what the model computes.

    Convention:
        The folder is written aside and moved into place when all checks are passed: it is whole or absent.
    """
    if format not in get_args(Format):
        raise ModelError(f"export format {format!r}: needed one of {', '.join(get_args(Format))}.")
    if format == "onnx":
        require_onnx()
    if format == "torchscript":
        require_torchscript()
    source = find_model(Path(run))
    folder = source.parent / "export" / format if out is None else Path(out)
    _check_free(folder)
    model = load_model(source)
    refuse_parts_left_out(model, source)
    with write_folder_aside(folder) as aside:
        files = _write_networks(model, format, aside)
        compared = verify(model, _runners(format, aside, files), source=folder)
        about = _facts(model, source, format, aside, files, compared)
        write_json(aside / FACTS, about)
        text = readme_text(about)
        write_text(aside / ("docs/README.md" if format == "monai-bundle" else "README.md"), text)
        write_text(aside / "model_card.md", model_card(read_model_facts(source)))
    return folder


def refuse_parts_left_out(model: Model, source: Path) -> None:
    """Refuse a model with a network that no format has a place for: without it the others are of no use.

    Raises:
        ModelError: It has a network of positions or a resizer.
    """
    left_out = [
        f"{what} ({setting})"
        for what, setting, network in (
            ("network of positions", "sampling.density=edge_based", model.positions),
            ("resizer", "networks.resizer", model.resizer),
        )
        if network is not None
    ]
    if left_out:
        raise ModelError(
            f"model {source}: its {' and '.join(left_out)} cannot be exported, and the segmentation network alone was "
            "trained on what that makes. Needed a model whose density is learned or that has none. Segment with "
            "wsi-deform itself."
        )


def _write_networks(model: Model, format: Format, folder: Path) -> dict[str, str]:
    """Write the networks; part -> file, relative to the folder."""
    parts = exported_networks(model)
    if format == "monai-bundle":
        write_bundle(model, parts, folder, version=BUNDLE_VERSION)
        return {part: WEIGHTS[part] for part in parts}
    parts = block_parts(model) if model.has_blocks else parts
    files = {part: f"{part}{SUFFIXES[format]}" for part in parts}
    for part, network in parts.items():
        size = fitting(model, part, TRACED_SIZE)
        path, channels = folder / files[part], len(input_channels(model, part))
        if format == "torch-export":
            write_torch_export(network, path, channels=channels, size=size, step=side_step(part))
        else:
            write = write_onnx if format == "onnx" else write_torchscript
            write(network, path, channels=channels, size=size)
    return files


def _runners(format: Format, folder: Path, files: dict[str, str]) -> dict[str, Runner]:
    """What runs each written network, as its users would."""
    if format == "monai-bundle":
        return {part: run_bundle(folder, part) for part in files}
    run = {"onnx": run_onnx, "torchscript": run_torchscript, "torch-export": run_torch_export}[format]
    return {part: run(folder / file) for part, file in files.items()}


def _facts(
    model: Model,
    source: Path,
    format: Format,
    folder: Path,
    files: dict[str, str],
    compared: list[dict[str, object]],
) -> dict[str, Any]:
    """What a program must know to use the networks."""
    stored = read_model_facts(source)
    networks = {
        part: {
            "file": file,
            "sha256": _sha256(folder / file),
            "input": _input_of(model, part),
            "output": _output_of(model, part),
        }
        for part, file in files.items()
    }
    config = model.config.model_dump(mode="json")
    blocks = {"blocks": config["blocks"]} if model.has_blocks else {}
    return {
        "format": EXPORT_FORMAT,
        "kind": format,
        "networks": networks,
        "classes": model.classes.to_data(),
        "mpp": model.mpp,
        "sampling": config["sampling"],
        **blocks,
        "fields": config["fields"],
        "stain": config["networks"]["stain"],
        "verified": {"tolerance": TOLERANCE, "compared": compared},
        "model": {
            "file": source.name,
            "sha256": stored.get(CHECKSUM) or _sha256(source),
            **{key: stored[key] for key in ("epoch", "metrics", "provenance") if key in stored},
        },
        "provenance": provenance(config=config, seed=model.config.seed),
    }


def _input_of(model: Model, part: str) -> dict[str, Any]:
    channels = input_channels(model, part)
    meaning = "low-res view of a field" if part == "deformation" else "sampled image of a field"
    if model.has_blocks:
        meaning, _, _ = block_meanings(model, part)
    return {
        "name": "image",
        "meaning": meaning,
        "shape": ["batch", len(channels), "height", "width"],
        "dtype": "float32",
        "channels": list(channels),
        "ranges": [list(limits) for limits in channels.values()],
    }


def _output_of(model: Model, part: str) -> dict[str, Any]:
    deformation = part == "deformation"
    if model.has_blocks:
        _, meaning, channels = block_meanings(model, part)
        shape = ["batch", len(channels), "rows", "columns"]
        return {
            "name": "output",
            "meaning": meaning,
            "shape": shape,
            "dtype": "float32",
            "channels": channels,
        }
    return {
        "name": "output",
        "meaning": "deformation map, sums to 1 over each image"
        if deformation
        else "scores before the softmax",
        "shape": ["batch", 1 if deformation else model.classes.count, "height", "width"],
        "dtype": "float32",
        "channels": ["density"] if deformation else list(model.classes.names),
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _check_free(folder: Path) -> None:
    """Refuse to replace anything but an earlier export."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / FACTS).is_file():
        raise ModelError(
            f"export {folder}: holds files, but no {FACTS} of an earlier export. "
            "Needed a new or empty folder. Choose another --out."
        )
    if folder.exists() and not folder.is_dir():
        raise ModelError(f"export {folder}: is a file. Needed a folder. Choose another --out.")
