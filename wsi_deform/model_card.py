"""The model card: what a model is for, what it learned from, how good it was, where it came from; for people.

Everything is read from the JSON beside the model, so a card can be written for any model at any time.

Source:
    Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsi_deform.annotation.mean_classes import MeanClasses
from wsi_deform.config_blocks import budget_text, label_px_of, looks_text, scales_of
from wsi_deform.files import write_text
from wsi_deform.manifest.licences import licences_text
from wsi_deform.model_file import read_model_facts

LICENCES = "data_licences"
FULL = "\n\nThe full configuration is in the JSON beside the model."
LIMITS = (
    "For research use only. Not a medical device: not for diagnosis, and no substitute for a pathologist.",
    "Metrics hold for slides like those of validation: stain, scanner, organ and labelling style. Measure it on "
    "slides of your own before you rely on it.",
    "A class that was never labelled in training cannot be found; what lies outside all fields is background.",
)


def write_model_card(path: Path) -> Path:
    """Write the card of a stored model beside it.

    Args:
        path: The ``.safetensors`` file.

    Returns:
        The card, ``NAME.md``; it is whole or absent.

    Raises:
        ModelError: The JSON beside the model cannot be read.
    """
    card = path.with_suffix(".md")
    write_text(card, model_card(read_model_facts(path), name=path.stem))
    return card


def model_card(about: Mapping[str, Any], *, name: str | None = None) -> str:
    """The card, in Markdown.

    Args:
        about: What ``read_model_facts`` gives. Beyond what ``save_model`` writes, ``data`` is shown where it
            is there: ``{"train": {"slides": 12, "patients": 9, "fields": 40}, "val": {...}, "manifest": "a.csv",
            "manifest_sha256": "...", "data_licences": {"CC BY 4.0": 15}}``, each part optional.
        name: What to call the model; default: the name of its configuration.
    """
    config = about["config"]
    title = config["name"] if name is None else f"{config['name']} ({name})"
    sections = {
        "What it does": _purpose(about),
        "Classes": _classes(about["classes"]),
        "Training data": _data(about),
        "Metrics": _metrics(about),
        "Sampling and networks": _settings(config),
        "Limits": _list(LIMITS),
        "Provenance": _provenance(about.get("provenance") or {}),
        "Licence": _licence(about),
    }
    parts = [f"# Model card: {title}"]
    for heading, text in sections.items():
        parts += [f"## {heading}", text]
    return "\n\n".join(parts) + "\n"


def _purpose(about: Mapping[str, Any]) -> str:
    sampling = about["config"]["sampling"]
    names = [each["name"] for each in about["classes"]["classes"]]
    background = about["classes"].get("background")
    wanted = [each for each in names if each != background] or names
    kind = "images" if about["mpp"] is None else "histology slides"
    start = f"Segments {kind} into {len(names)} classes: {_joined(wanted)}" + (
        f", and {background}" if background in names and wanted != names else ""
    )
    blocks = about["config"].get("blocks")
    if about["config"]["networks"]["segmentation"].get("head") == "groups":
        return (
            f"Puts tissue into {len(wanted)} groups that look alike to an encoder of photographs, found without labels "
            "(`wsi-deform explore`). A group is no diagnosis, and no class that anyone has named. Each field is "
            f"{looks_text(blocks)}. {_scale(about['mpp'])}"
        )
    if blocks:
        return (
            f"{start}. Each field is {looks_text(blocks)}. It writes a mask at full resolution. "
            f"{_scale(about['mpp'])}"
        )
    short, long = sampling["budget"]
    samples = {
        "area": f"{short * long:,} samples ({short} x {long}, or as many in another shape)",
        "sides": f"at most {short} x {long} samples",
        "exact": f"{short} x {long} samples",
    }[sampling["size"]]
    where = {
        "learned": "denser where a learned deformation map says so",
        "uniform": "everywhere equally dense",
        "tissue": "denser on tissue, by a mask and nothing learned",
        "edges": "denser at the borders of labels, which must be known of every "
        "slide that it segments: an oracle for comparison, not for use",
        "edge_based": "at positions that a network, trained before all else, expects near class borders (Marin et al., "
        "2019)",
        "edge_positions": "at positions solved from the labels, which must be known of every slide that it segments: "
        "an oracle for comparison, not for use",
    }[sampling["density"]]
    return (
        f"{start}. It looks at {samples} per field, {where}, and writes a mask at full resolution. "
        f"{_scale(about['mpp'])}"
    )


def _scale(mpp: float | None) -> str:
    if mpp is None:
        return "Its training images have no um per pixel: it knows objects by their size in pixels."
    return (
        f"Its training slides have {mpp:g} um per pixel at level 0 (median); beyond a factor of 4 from that the "
        "program warns."
    )


def _classes(table: Mapping[str, Any]) -> str:
    rows: list[tuple[str, ...]] = [
        (
            str(index),
            each["name"]
            + (" (the background)" if each["name"] == table.get("background") != "background" else ""),
            "#" + "".join(f"{part:02x}" for part in each["color"]),
            ", ".join(map(str, each["values"])),
        )
        for index, each in enumerate(table["classes"])
    ]
    header: tuple[str, ...] = ("index", "class", "colour", "values in masks")
    if any("source_names" in each for each in table["classes"]):
        header = (*header, "names in annotation files")
        rows = [
            (*row, ", ".join([each["name"], *each.get("source_names", [])]))
            for row, each in zip(rows, table["classes"], strict=True)
        ]
    unlabelled = ", ".join(map(str, table.get("unlabelled", []))) or "none"
    parts = [_table(header, rows), f"Values that mean unlabelled, and counted nowhere: {unlabelled}."]
    if groups := table.get("groups"):
        said = "; ".join(f"{group} is {_joined(members)}" for group, members in groups.items())
        parts.append(f"Groups of classes, which are also measured together: {said}.")
    return "\n\n".join(parts)


def _data(about: Mapping[str, Any]) -> str:
    data = about.get("data") or {}
    rows = []
    for split, title in (("train", "training"), ("val", "validation"), ("test", "test")):
        counts = data.get(split) or {}
        if counts:
            rows.append((title, *(str(counts.get(key, "-")) for key in ("slides", "patients", "fields"))))
    lines = [_table(("split", "slides", "patients", "fields"), rows)] if rows else []
    if "manifest" in data or "manifest_sha256" in data:
        digest = f", SHA-256 `{data['manifest_sha256']}`" if "manifest_sha256" in data else ""
        lines.append(f"Manifest: `{data.get('manifest', 'not named')}`{digest}.")
    pretrained = about["config"]["networks"]["pretrained"]
    if pretrained:
        # The folder says more of a machine than of the model.
        lines.append(f"The segmentation network started from `{Path(pretrained).name}`.")
    if not rows:
        lines.append("The counts of slides and patients were not recorded with this model.")
    return "\n\n".join(lines)


def _licence(about: Mapping[str, Any]) -> str:
    licences = (about.get("data") or {}).get(LICENCES)
    said = "the program does not know them"
    if licences:
        said = f"as their manifest says, the training and validation slides come under: {licences_text(licences)}"
    return (
        "The code is licensed under Apache-2.0. The weights carry whatever terms their training data and pretrained "
        f"weights, if any, set; {said}."
    )


#: What metrics are called for people; others are times and rates, which say nothing of the model.
_METRIC_NAMES = {
    "val_miou": "validation mIoU, full resolution",
    "val_miou_without_background": "validation mIoU without background",
    "loss": "training loss",
    "segmentation_loss": "segmentation part",
    "edge_loss": "edge part",
}


def _metrics(about: Mapping[str, Any]) -> str:
    metrics = about.get("metrics") or {}
    rows = [
        (title, f"{metrics[key]:.4f}")
        for key, title in _METRIC_NAMES.items()
        if isinstance(metrics.get(key), int | float)
    ]
    over = MeanClasses.from_data(metrics.get("miou_classes"))
    means = f"\n\nThe validation mIoU {over.text()}." if over is not None and over.text() else ""
    means = means.replace("mIoU over", "mIoU is over")
    when = f"After epoch {about['epoch']}" if "epoch" in about else "At the time of saving"
    of = f" of {about['config']['training']['epochs']}" if "epoch" in about else ""
    if not rows:
        return f"{when}{of}: none recorded with this model."
    unseen = (
        ""
        if over is not None
        else "\n\nThere were no validation slides: nothing here says how it does on new slides."
    )
    chosen = (
        "\n\nValidation slides chose between epochs: on untouched slides expect less. "
        "`wsi-deform evaluate` measures those."
        if "val_miou" in metrics
        else unseen
    )
    return f"{when}{of}:\n\n" + _table(("measure", "value"), rows) + means + chosen


def _settings(config: Mapping[str, Any]) -> str:
    sampling, networks, fields = config["sampling"], config["networks"], config["fields"]
    segmentation = dict(networks["segmentation"])
    name = segmentation.pop("name", "unknown")
    if name == "hrnetv2":
        segmentation.setdefault("fuse", "bilinear")  # its default, and all that there was before the option
    options = ", ".join(f"{key} {value}" for key, value in segmentation.items())
    side, side_px, below = fields["side_um"], fields["side_px"], fields["whole_below_mm2"]
    cover = (
        f"patches of {f'{side:g} um' if side else f'{side_px} px'} cover the tissue"
        if fields.get("exact")
        else f"fields of up to {side:g} um cover the tissue; slides up to {below:g} mm2 are one field"
        if side
        else f"fields of up to {side_px} px cover the slide"
        + (
            f"; slides of up to {mpx:g} million px are one field"
            if (mpx := fields.get("whole_below_mpx"))
            else ""
        )
        if side_px
        else "one field over the whole slide"
    )
    if blocks := config.get("blocks"):
        read = [f"encoder: {name}" + (f" ({options})" if options else ""), *_blocks(blocks, sampling), cover]
        return _list([*read, *_stain(networks["stain"])]) + FULL
    lines = [
        f"segmentation network: {name}"
        + (f" ({options})" if options else "")
        + (", sees the areas of the samples' cells beside the colours" if networks["area_channel"] else ""),
        _density(sampling),
        f"pyramid level: {reading_text(sampling)}; mask from samples: {sampling['interpolation']}",
        cover,
        *_stain(networks["stain"]),
    ]
    if (resizer := networks.get("resizer")) is not None:
        lines.insert(
            1,
            f"resizer: {resizer['blocks']} residual block{'s' if resizer['blocks'] != 1 else ''} of "
            f"{resizer['filters']} filters make the sampled image out of one {resizer['input_scale']:g} times as long "
            "along each axis, or of level 0 where that is smaller",
        )
    if sampling["density"] == "edge_based":
        lines.insert(
            1,
            f"network of positions: trained first, for {config['training']['auxiliary_epochs']} epochs, then frozen",
        )
    if sampling["density"] == "learned":
        deformation = networks["deformation"]
        widths = " - ".join(map(str, deformation["widths"]))
        seen = "the colours and the tissue mask" if deformation["inputs"] == "rgb+tissue" else "the colours"
        lines.insert(
            1, f"deformation network: convolutions of {widths} channels on {seen} of the low-res view"
        )
    return _list(lines) + FULL


def _stain(stain: str) -> list[str]:
    return (
        [] if stain == "none" else [f"stain: colours are brought to one reference per slide first ({stain})"]
    )


def _blocks(blocks: Mapping[str, Any], sampling: Mapping[str, Any]) -> list[str]:
    """How fields are read in blocks, with the settings that matter there."""
    scales, unit = scales_of(blocks)
    read = f"levels: {_joined([f'{each:g}' for each in scales])} {unit} per px"
    if blocks["levels"] > 1:
        margin = f" and a margin of {blocks['margin_px']} px" if blocks["margin_px"] else ""
        split = blocks["split"]
        parts = (
            "each level twice that of the one before"
            if split is None
            else f"split {_joined([*map(str, split)])}"
        )
        read += (
            f"; windows of {blocks['window_px']} px{margin}; pixels read, of all levels: at most "
            f"{budget_text(blocks)}; {parts}"
        )
    lines = [read]
    if blocks["levels"] > 1:
        noise = f", noise {blocks['noise']:g} in training" if blocks["choice"] == "learned" else ""
        glass = ", never without tissue" if blocks["skip_glass"] else ""
        lines.append(f"choice of blocks: {blocks['choice']}{noise}{glass}")
    side = label_px_of(blocks)
    return [
        *lines,
        f"mask from labels, one for {side} x {side} px of the finest level: {sampling['interpolation']}",
    ]


def _density(sampling: Mapping[str, Any]) -> str:
    """Where samples lie, with the settings that matter there."""
    if sampling["density"] in ("edge_based", "edge_positions"):
        return (
            f"positions: {sampling['density'].replace('_', ' ')}, lattice of {sampling['edge_lattice']} cells along "
            f"the short side, lambda {sampling['edge_smoothness']:g}"
        )
    return (
        f"density: {sampling['density']}, sigma {_sigma(sampling)}, "
        f"{sampling['warp_steps']} warp step{'s' if sampling['warp_steps'] != 1 else ''}, floor {sampling['floor']:g}"
    )


def _sigma(sampling: Mapping[str, Any]) -> str:
    """The standard deviation of the pull."""
    if sampling["sigma_px"] is not None:
        return f"{sampling['sigma_px']:g} px of the map"
    return f"{sampling['sigma']:g} of the map's short side"


def reading_text(sampling: Mapping[str, Any]) -> str:
    """The pyramid level that a sample reads, in words.

    Args:
        sampling: That section of a configuration.
    """
    level, bias, coarsest_um = str(sampling["level"]), sampling["level_bias"], sampling["coarsest_um"]
    if level == "exact":
        return level
    if bias:
        level += f", {abs(bias):g} octaves {'finer' if bias < 0 else 'coarser'} than a sample's cell"
    if (coarsest_px := sampling.get("coarsest_px")) is not None:
        return f"{level}, at most about {coarsest_px:g} level-0 px per pixel"
    return level if coarsest_um is None else f"{level}, at most about {coarsest_um:g} um per pixel"


def _provenance(known: Mapping[str, Any]) -> str:
    git = known.get("git") or {}
    commit = f"`{git['commit']}`" + (" with changes" if git.get("changed") else "") if git else None
    packages = {key: value for key, value in (known.get("packages") or {}).items() if value}
    command = known.get("command")
    rows = {
        "wsi-deform": known.get("wsi_deform"),
        "commit": commit,
        "command": f"`{command if isinstance(command, str) else ' '.join(command)}`" if command else None,
        "seed": known.get("seed"),
        "configuration, SHA-256": f"`{known['config_sha256']}`" if known.get("config_sha256") else None,
        "time (UTC)": known.get("time_utc"),
        "Python": known.get("python"),
        "packages": ", ".join(f"{key} {value}" for key, value in packages.items()) or None,
        "platform": known.get("platform"),
    }
    found = [(key, str(value)) for key, value in rows.items() if value is not None]
    return _table(("what", "value"), found) if found else "Not recorded with this model."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    # A bar in a class name or a command would end its cell.
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
