"""A shared model's file, checked and unpacked into the user's cache, once."""

from __future__ import annotations

import zipfile
from pathlib import Path

from wsi_deform.errors import ModelError
from wsi_deform.files import write_folder_aside
from wsi_deform.model_package.contents import (
    ARCHIVE,
    CONTENTS,
    Contents,
    member_blocks,
    opened_package,
    sha256_of,
)
from wsi_deform.slide.levels.cache_folder import CACHE

FOLDER = "models"


def models_folder() -> Path:
    """Where shared models lie in the user's cache."""
    return CACHE.folder / FOLDER


def is_package(path: Path) -> bool:
    """Whether a file is a zip, as shared models are, or begins like one: of a cut file its directory is gone."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as opened:
            return opened.read(len(ARCHIVE)) == ARCHIVE or zipfile.is_zipfile(path)
    except OSError:
        return False


def checked_package(path: Path) -> Contents:
    """Read a shared model from end to end.

    Raises:
        ModelError: See ``contents.opened_package`` and ``contents.member_blocks``.
    """
    with opened_package(path) as (opened, contents):
        for member in contents.members:
            for _ in member_blocks(opened, member, path):
                pass
        return contents


def unpacked(path: Path) -> Path:
    """The folder that a shared model is unpacked to, as a run folder has it.

    Args:
        path: The file.

    Returns:
        ``models/<its SHA-256>`` in the cache. What lies there is used again where every file is what the shared model
        says, else it is made anew.

    Raises:
        ModelError: See ``contents.opened_package`` and ``contents.member_blocks``, or the cache cannot be written.
    """
    folder = models_folder() / sha256_of(path)
    with opened_package(path) as (opened, contents):
        if _is_whole(folder, contents):
            return folder
        try:
            with write_folder_aside(folder) as aside:
                for member in contents.members:
                    place = aside / member.name
                    place.parent.mkdir(parents=True, exist_ok=True)
                    with place.open("xb") as file:
                        file.writelines(member_blocks(opened, member, path))
                (aside / CONTENTS).write_bytes(opened.read(CONTENTS))
        except OSError as error:
            raise ModelError(
                f"model {path}: cannot be unpacked to {folder} ({error}). Needed a folder with room; WSI_DEFORM_CACHE "
                "names another one."
            ) from error
    return folder


def _is_whole(folder: Path, contents: Contents) -> bool:
    """Whether a folder holds what a shared model does, and nothing was changed there."""
    for member in contents.members:
        path = folder / member.name
        if not path.is_file() or path.stat().st_size != member.size_bytes or sha256_of(path) != member.sha256:
            return False
    return True
