"""A model as one file to pass on: `model pack` writes it, `model check` reads it from end to end."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from wsi_deform.errors import ModelError
from wsi_deform.files import write_aside
from wsi_deform.limits import MODEL, in_unit
from wsi_deform.look.lowres import thumbnail
from wsi_deform.manifest.licences import licences_text
from wsi_deform.model_card import LICENCES, model_card
from wsi_deform.model_file import find_model, load_model, read_model_facts
from wsi_deform.model_package.contents import (
    BLOCK_BYTES,
    CARD,
    CONTENTS,
    FACTS,
    FORMAT,
    LICENCE,
    MAX_MEMBERS,
    QUANTISED,
    THUMBNAIL,
    WEIGHTS,
    Contents,
    content_problem,
    folder_contents,
    name_problem,
    sha256_of,
)
from wsi_deform.model_package.unpack import checked_package, is_package
from wsi_deform.provenance import provenance
from wsi_deform.runtime.identity import model_sha256
from wsi_deform.runtime.quantised import FACTS as QUANTISED_FACTS
from wsi_deform.runtime.quantised import quantised_folder, read_quantised
from wsi_deform.slide.slide import Slide
from wsi_deform.texts import read_json

THUMBNAIL_PX = 768
QUALITY = 85
# The same model gives the same file, whenever it is packed: zip knows no earlier day.
DATE = (1980, 1, 1, 0, 0, 0)
PLAIN_FILE = 0o100644 << 16
# Of the facts of a model: these name folders and files of the machine where it was trained.
PRIVATE = ("command",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a check found.

    Attributes:
        path: The file or folder.
        sha256: Of a shared model's file, whole; None of a folder.
        contents: Of a shared model, as a file or unpacked; None of a run folder.
        facts: What the model's JSON says.
    """

    path: Path
    sha256: str | None
    contents: Contents | None
    facts: Mapping[str, Any]


def pack_model(run: Path, out: Path, *, licence: str, example: Slide | None = None) -> Checked:
    """Write a model as one file.

    Args:
        run: A run folder, or a file of a model, see ``model_file.find_model``.
        out: The file, ``NAME.zip``; replaced where it is there.
        licence: Under which terms the data come that it learned from, in words; not empty.
        example: A slide whose tissue is shown; its label and macro image never are.

    Returns:
        What ``check_model`` finds of it.

    Raises:
        ModelError: There is no such model, it cannot be loaded, no licence was named, the suffix is another one, or
            its quantised networks are of another model, or hold what may not be passed on.
        SlideError: The example cannot be read.

    Convention:
        Of the model's facts the command line that trained it is left out, which names folders.
    """
    if not licence.strip():
        raise ModelError(
            "no licence of the data. Needed the terms under which the training data may be used and passed on, or that "
            "they are unknown: --licence 'CC BY 4.0'."
        )
    if out.suffix.lower() != ".zip":
        raise ModelError(f"{out}: needed a file that ends in .zip.")
    weights = find_model(run)
    load_model(weights)  # whole, and its two files belong together
    facts = _public(read_model_facts(weights))
    texts = {
        FACTS: json.dumps(facts, indent=2, ensure_ascii=False) + "\n",
        CARD: model_card(facts),
        LICENCE: licence.strip() + "\n",
    }
    held: dict[str, bytes | Path] = {name: text.encode() for name, text in texts.items()}
    held |= {WEIGHTS: weights} | _quantised(weights, facts)
    if example is not None:
        held[THUMBNAIL] = _picture(example)
    members = {name: _measured(one) for name, one in sorted(held.items())}
    about = {
        "format": FORMAT,
        "name": facts["config"]["name"],
        "licence": licence.strip(),
        "data_licences": (facts.get("data") or {}).get(LICENCES),
        "wsi_deform": provenance()["wsi_deform"],
        "members": {name: {"bytes": size, "sha256": digest} for name, (size, digest) in members.items()},
    }
    _write(out, {CONTENTS: (json.dumps(about, indent=2, ensure_ascii=False) + "\n").encode(), **held})
    return check_model(out)


def check_model(path: Path) -> Checked:
    """Check a model that somebody shared, as a file or unpacked, or a run folder: every byte of it, and that it loads.

    Raises:
        ModelError: It is none, is damaged or refused, see ``model_package.contents``, or cannot be loaded.
        ConfigError: Its configuration is of a newer format.
    """
    sha256 = contents = None
    if is_package(path):
        contents, sha256 = checked_package(path), sha256_of(path)
    elif path.is_dir():
        contents = folder_contents(path)
    load_model(path)
    return Checked(path=path, sha256=sha256, contents=contents, facts=read_model_facts(find_model(path)))


def check_text(checked: Checked) -> str:
    """What a check found, a line for each thing."""
    contents = checked.contents
    if contents is None:
        licences = (checked.facts.get("data") or {}).get(LICENCES)
        said = licences_text(licences) if licences else "not recorded"
        return f"{checked.path}: a whole model that loads.\nlicence of the data: {said}"
    lines = [f"{member.sha256}  {member.size_bytes:>12,}  {member.name}" for member in contents.members]
    return "\n".join(
        [
            *lines,
            f"licence of the data: {contents.licence}",
            f"{checked.path}: whole, and the model loads.",
            *(() if checked.sha256 is None else (f"sha256:{checked.sha256}",)),
        ]
    )


def _quantised(weights: Path, facts: Mapping[str, Any]) -> dict[str, bytes | Path]:
    """The quantised networks of a model, if it has some, as those of the model whose facts are passed on."""
    folder = quantised_folder(weights)
    found: dict[str, bytes | Path] = dict(plain_files(folder))
    if not found:
        return {}
    read_quantised(weights, model_sha256(weights))
    about = read_json(folder / QUANTISED_FACTS)
    about |= {"model": WEIGHTS, "model_sha256": model_sha256(weights, facts=facts)}
    about["provenance"] = _without_private(about.get("provenance"))
    return found | {QUANTISED + QUANTISED_FACTS: (json.dumps(about, indent=2) + "\n").encode()}


def plain_files(folder: Path) -> dict[str, Path]:
    """The files of quantised networks: name in a shared model -> path; none where there is no such folder.

    Raises:
        ModelError: One is a link, a pickle or an archive, or has a name that cannot be packed.
    """
    found = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() and not folder.is_symlink() else ():
        if path.is_dir() and not path.is_symlink():
            continue
        name = QUANTISED + path.relative_to(folder).as_posix()
        problem = name_problem(name) if path.is_file() and not path.is_symlink() else "is no plain file"
        if not problem:
            with path.open("rb") as opened:
                first = opened.read(4)
                opened.seek(max(0, path.stat().st_size - 1))
                problem = content_problem(first, opened.read(1))
        if problem:
            raise ModelError(
                f"{path}: {problem}. Needed only plain files that run no code. Move it elsewhere."
            )
        found[name] = path
    if len(found) > MAX_MEMBERS // 2:
        raise ModelError(f"{folder}: {len(found)} files. Needed at most {MAX_MEMBERS // 2}.")
    return found


def _without_private(provenance: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (provenance or {}).items() if key not in PRIVATE}


def _public(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a model without what names folders of the machine where it was trained."""
    public = dict(facts) | {"provenance": _without_private(facts.get("provenance"))}
    public.pop("explored", None)
    config = dict(facts["config"])
    networks = dict(config["networks"])
    if networks.get("pretrained"):
        networks["pretrained"] = Path(networks["pretrained"]).name
    data = dict(facts.get("data") or {})
    if "manifest" in data:
        data["manifest"] = Path(str(data["manifest"])).name
    return public | {"config": config | {"networks": networks}} | ({"data": data} if data else {})


def _picture(slide: Slide) -> bytes:
    """The slide's tissue as a small JPEG, without anything that its file says of itself."""
    written = io.BytesIO()
    Image.fromarray(thumbnail(slide, THUMBNAIL_PX)).save(written, format="JPEG", quality=QUALITY)
    return written.getvalue()


def _measured(held: bytes | Path) -> tuple[int, str]:
    """Length and SHA-256 of a member."""
    if isinstance(held, Path):
        return held.stat().st_size, sha256_of(held)
    return len(held), hashlib.sha256(held).hexdigest()


def _write(out: Path, held: Mapping[str, bytes | Path]) -> None:
    """Write the zip; it is whole or absent."""
    try:
        with write_aside(out) as aside, zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED) as package:
            for name, one in held.items():
                info = zipfile.ZipInfo(name, DATE)
                info.external_attr = PLAIN_FILE
                if isinstance(one, bytes):
                    package.writestr(info, one)
                    continue
                with one.open("rb") as source, package.open(info, "w", force_zip64=True) as member:
                    while block := source.read(BLOCK_BYTES):
                        member.write(block)
    except OSError as error:
        raise ModelError(
            f"{out}: cannot be written ({error}). Needed a folder that may be written."
        ) from error
    if (size := out.stat().st_size) > MODEL.value:
        raise ModelError(f"{out}: {in_unit(size, MODEL)}. {MODEL.needed(size)}")
