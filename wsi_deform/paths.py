"""Odd names and odd files: which names can be written everywhere, and what lies at a path that is no file.

A name can be anything but "/" and the zero byte for the disk, but JSON, XML, CSV and terminals take less, and
a disk of another machine still less. Everything that names an output or tells a path to people asks here.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import unicodedata
from pathlib import Path

# Outputs are called "<id>.probability.ome.tif" and the like, and are written aside under a longer name;
# disks take 255 bytes.
LONGEST_ID_BYTES = 200

ESCAPED_BYTES = range(0xDC80, 0xDD00)  # how Python holds the bytes of a name that are not UTF-8
UNWRITABLE = ("Cc", "Cs", "Zl", "Zp")  # controls, halves of characters, separators of lines and paragraphs
SEPARATORS = re.compile(r'[/\\:*?"<>|]')
# What Windows takes for devices, with any suffix.
RESERVED = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)
# To open one is to wait for ever, or to read for ever.
SPECIAL_FILES = ("is a named pipe", "is a socket", "is a device")
# Between a file and the name of one of its images.
IMAGE_MARK = "::"
# Of files that are taken for slides.
SLIDE_SUFFIXES = frozenset((
    ".svs", ".tif", ".tiff", ".btf", ".tf8", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".bif", ".svslide",
    ".qptiff", ".ptif", ".ptiff", ".dcm", ".png", ".jpg", ".jpeg", ".bmp", ".ozx",
    # Known as slides, and refused with what to convert them with: see slide/containers.py.
    ".czi", ".vsi", ".isyntax", ".i2syntax", ".mds", ".mdsx", ".kfb", ".sdpc",
))  # fmt: skip
ZARR_SUFFIX = ".zarr"  # of folders
# Longest first, so that "a.ome.tif" loses both.
ZIPPED_ZARR_SUFFIXES = (".ome.zarr.zip", ".zarr.zip")
DOUBLE_SUFFIXES = (
    *ZIPPED_ZARR_SUFFIXES, ".ome.tiff", ".ome.tif", ".ome.btf", ".ome.tf8", ".ome.zarr", ".ome.ozx",
)  # fmt: skip
ID_RULE = 'a name without / \\ : * ? " < > | and no leading dot'


def printable(path: object) -> str:
    r"""A path or a text as it can be shown and stored.

    Args:
        path: Anything; its ``str`` is taken.

    Returns:
        The same, but with every character that UTF-8, JSON, XML or a terminal cannot take written as an escape:
        ``\xff`` for a byte that is not UTF-8, ``\n`` for a line feed.
    """
    text = str(path)
    # Nearly always, and fast.
    return text if text.isprintable() else "".join(map(_shown, text))


def path_problem(path: object) -> str:
    """What is wrong with the characters of a path, with the remedy; empty when nothing is.

    Args:
        path: A path, or one name of it.
    """
    text = str(path)
    bad = "" if text.isprintable() else next(filter(_unwritable, text), "")
    if not bad:
        return ""
    found = f"is not UTF-8 (byte {_shown(bad)})" if ord(bad) in ESCAPED_BYTES else f"holds {_shown(bad)!r}"
    return (
        f"its name {found}. Needed characters that every file can hold. Rename it, or make a link to it with "
        "another name."
    )


def id_problem(slide_id: str) -> str:
    """What a slide's id must be and is not, e.g. "at most 200 bytes (it has 231)"; empty when it is all right."""
    size = len(slide_id.encode(errors="surrogateescape"))
    if not slide_id.strip(" .") or slide_id.startswith(".") or SEPARATORS.search(slide_id):
        return ID_RULE
    if any(map(_unwritable, slide_id)):
        return "a name of printable characters"
    if RESERVED.fullmatch(slide_id):
        return "a name that Windows does not keep for a device"
    if size > LONGEST_ID_BYTES:
        return f"at most {LONGEST_ID_BYTES} bytes (it has {size}), because outputs are called after it"
    return ""


def clean_id(name: str) -> str:
    """An id from the name of a file: ``_`` takes the place of what no id may hold; it may be too long.

    Args:
        name: A file name without suffix; may be anything that a disk or a server has.

    Returns:
        The same name where it is a good id, as nearly every name is.
    """
    # Nearly always, and fast.
    writable = name if name.isprintable() else "".join("_" if _unwritable(each) else each for each in name)
    cleaned = SEPARATORS.sub("_", writable)
    if cleaned.startswith("."):
        cleaned = f"_{cleaned[1:]}"
    return f"_{cleaned}" if not cleaned.strip(" ") or RESERVED.fullmatch(cleaned) else cleaned


def id_key(slide_id: str) -> str:
    """What two ids share when some disk takes them for one: letter case and the way accents are written."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", slide_id).casefold())


def split_image(path: Path) -> tuple[Path, str]:
    """The file and the image of a path ``FILE::NAME``, which names one of several images in a file or folder.

    Args:
        path: Any path.

    Returns:
        The file, and the name; the path itself and "" where it names no image.

    Convention:
        A file that lies at the whole path is that file, whatever its name. Else the first ``::`` that follows
        something that is there counts; the first one where nothing is.
    """
    text = str(path)
    if IMAGE_MARK not in text or os.path.lexists(path):
        return path, ""
    ends = [found.start() for found in re.finditer(IMAGE_MARK, text) if found.start()]
    end = next((end for end in ends if os.path.lexists(text[:end])), ends[0] if ends else len(text))
    return Path(text[:end]), text[end + len(IMAGE_MARK) :]


def id_with_image(slide_id: str, image: str) -> str:
    """The id of an image of a slide's file: the name of the image becomes part of it."""
    return clean_id(f"{slide_id}__{image}") if image else slide_id


def without_slide_suffix(name: str) -> str:
    """The name of a file without the suffix of a slide, also a double one such as ``.ome.tif``; other dots are kept."""
    lower = name.lower()
    for suffix in DOUBLE_SUFFIXES:
        if lower.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    dot = lower.rfind(".")
    known = dot > 0 and lower[dot:] in (*SLIDE_SUFFIXES, ZARR_SUFFIX)
    return name[:dot] if known else name


def id_of_file(name: str, image: str = "") -> str:
    """The id of a slide, from the name of its file and of the image in it that is meant, if one is named.

    Convention:
        Characters that no file should have in its name, e.g. ``:`` and line feeds, become ``_``. The name of an image
        (``FILE::NAME``) follows behind two of them.
    """
    return id_with_image(clean_id(without_slide_suffix(name)), image)


def trouble_at(path: Path) -> str:
    """Why a path is neither a file nor a folder, e.g. "does not exist" or "is a named pipe"; empty when it is one."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            return f"is a link to {printable(path.readlink())}, which does not exist"
        return "does not exist"
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "is a link that leads back to itself"
        return f"cannot be looked at ({error.strerror})"
    except ValueError:  # a zero byte
        return "does not exist"
    return special_file(mode)


def special_file(mode: int) -> str:
    """What a file is that is neither a file nor a folder, by its ``st_mode``; empty for files and folders."""
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return ""
    pipe, socket, device = SPECIAL_FILES
    return pipe if stat.S_ISFIFO(mode) else socket if stat.S_ISSOCK(mode) else device


def _unwritable(character: str) -> bool:
    # U+FFFE and U+FFFF are no characters; XML refuses them.
    return unicodedata.category(character) in UNWRITABLE or ord(character) in (0xFFFE, 0xFFFF)


def _shown(character: str) -> str:
    if not _unwritable(character):
        return character
    code = ord(character)
    if code in ESCAPED_BYTES:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
