"""Scripts for QuPath, which find what was written of a slide by the file name of the image that is open there."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from wsi_deform.errors import MaskError
from wsi_deform.files import write_text
from wsi_deform.mask.folder import MaskFolder

SCRIPTS = ("import_annotations.groovy", "show_mask.groovy")
"""Outlines as annotations; the mask in colours over the image."""

_PLACE = "//@results@\n"
_FOLDER = "String folder = ''"
_ASCII = 128


def write_qupath_scripts(out: Path) -> tuple[Path, ...]:
    """Write the scripts, each whole in one file, as QuPath's script editor opens them.

    Args:
        out: The folder that `segment` filled, or any folder, which is made if missing; they go into ``qupath`` in it.

    Returns:
        The files, in the order of ``SCRIPTS``. Replaced if they exist.

    Raises:
        MaskError: A file cannot be written.

    Convention:
        Where ``out`` holds masks, the scripts name it by its absolute path; else they ask for the folder in QuPath.
        They are plain ASCII, so that no encoding of QuPath's machine changes them.
    """
    folder = MaskFolder(out)
    named = out.resolve().as_posix() if (out / "masks").is_dir() else ""
    written = []
    for name in SCRIPTS:
        path = folder.qupath / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, qupath_script(name, named))
        except OSError as error:
            raise MaskError(
                f"script {path}: cannot be written ({error}). Check folder, rights and free space."
            ) from error
        written.append(path)
    return tuple(written)


def qupath_script(name: str, folder: str = "") -> str:
    """The text of one of ``SCRIPTS`` that looks in a folder, or asks for one if it is empty."""
    held = resources.files("wsi_deform.mask") / "qupath"
    text = (held / name).read_text(encoding="ascii")
    shared = (held / "results.groovy").read_text(encoding="ascii")
    return text.replace(_PLACE, shared).replace(_FOLDER, f"String folder = '{_groovy(folder)}'", 1)


def _groovy(text: str) -> str:
    """A text as it stands between single quotes in Groovy, in ASCII."""
    shown = text.replace("\\", "\\\\").replace("'", "\\'")
    units = shown.encode("utf-16-be", "surrogatepass")
    codes = [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]
    return "".join(chr(code) if chr(code) >= " " and code < _ASCII else f"\\u{code:04x}" for code in codes)
