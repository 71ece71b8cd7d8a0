"""A shared model at a URL: fetched once, and used only where its checksum is the one that was asked for."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from wsi_deform.errors import ModelError, SlideError
from wsi_deform.files import write_aside
from wsi_deform.limits import MODEL, in_unit
from wsi_deform.model_package.contents import BLOCK_BYTES, sha256_of
from wsi_deform.model_package.unpack import models_folder
from wsi_deform.redact import redacted_url
from wsi_deform.slide.path import SlideUrl
from wsi_deform.slide.remote import cause_text, file_system, remote_errors

SCHEMES = ("https",)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_CHECKSUM = re.compile(r"sha256:([0-9a-fA-F]{64})")
NEEDED = "Needed --checksum sha256:... (64 digits), as `wsi-deform model pack` and `model check` print it."


def model_path(model: str, checksum: str | None = None) -> Path:
    """The path of a model that was named by a path or a URL.

    Args:
        model: A folder, a file, or the URL of a shared model, ``https://...``.
        checksum: ``sha256:...`` of the file; needed for a URL.

    Returns:
        The path; of a URL the file in the user's cache, fetched if it is not there yet.

    Raises:
        ModelError: A URL without a checksum or of another kind, a checksum that is none or is of another file, or a
            file that cannot be fetched.
    """
    wanted = None if checksum is None else _digest(checksum)
    if _URL.match(model):
        if wanted is None:
            raise ModelError(f"model {model}: a URL without a checksum. {NEEDED}")
        return _fetched(model, wanted)
    path = Path(model)
    if wanted is not None:
        if path.is_dir():
            raise ModelError(f"model {path}: a checksum of a folder. Needed a file, or no --checksum.")
        if path.is_file() and (found := sha256_of(path)) != wanted:
            raise _other(str(path), found, wanted)
    return path


def _digest(checksum: str) -> str:
    found = _CHECKSUM.fullmatch(checksum.strip())
    if found is None:
        raise ModelError(f"--checksum {checksum[:80]}: no checksum. {NEEDED}")
    return found[1].lower()


def _fetched(url: str, wanted: str) -> Path:
    """The file with this checksum in the cache, downloaded from a URL where it is not there."""
    shown = redacted_url(url)
    if url.split("://")[0].lower() not in SCHEMES:
        raise ModelError(f"model {shown}: needed a URL that starts with {' or '.join(SCHEMES)}://.")
    path = models_folder() / f"{wanted}.zip"
    if path.is_file() and sha256_of(path) == wanted:
        return path
    try:
        files, where = file_system(SlideUrl(url))
        with write_aside(path) as aside:
            # From its beginning to its end: many servers give no parts of a file.
            found = _download(files.open(where, "rb", block_size=0), aside, shown)
            if found != wanted:
                raise _other(shown, found, wanted)
    except SlideError as error:
        raise ModelError(f"model: {error}") from error
    except remote_errors() as error:
        raise ModelError(
            f"model {shown}: cannot be fetched ({cause_text(error, SlideUrl(url))}). Check the URL and the network; or "
            "download it, and give its path."
        ) from error
    return path


def _download(remote: object, aside: Path, shown: str) -> str:
    """Write what a file behind a URL holds; its SHA-256. No more is written than a shared model may have."""
    digest, length = hashlib.sha256(), 0
    with remote as stream, aside.open("wb") as file:  # type: ignore[attr-defined]
        while block := stream.read(BLOCK_BYTES):
            length += len(block)
            if length > MODEL.value:
                raise ModelError(
                    f"model {shown}: more than {in_unit(MODEL.value, MODEL)}. {MODEL.needed(length)}"
                )
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def _other(shown: str, found: str, wanted: str) -> ModelError:
    return ModelError(
        f"model {shown}: its SHA-256 is {found}, not {wanted} as --checksum says. It is another file, or was changed "
        "on its way. Do not use it; ask whoever shared it."
    )
