"""Texts that can be shown to anybody: without the places and names of this machine and its user."""

from __future__ import annotations

import getpass
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import wsi_deform
from wsi_deform.doctor.finding import Finding
from wsi_deform.redact import redacted

# Where systems keep what is everybody's.
_SYSTEM = ("usr", "lib", "lib64", "etc", "dev", "proc", "sys", "bin", "sbin", "System", "Library")
_PATH = re.compile(r"(?<![\w.~>/:-])/(?:[^\s/'\"<>:;,()]+/)+(?=[^\s/'\"<>:;,()])")
_MIN_NAME = 3


class Shortener:
    """Replaces paths by words.

    Args:
        places: Word -> the folder that it stands for, besides those that every machine has.

    Convention:
        Folders of the system stay; of any other path that nobody foresaw only the last name stays.
    """

    def __init__(self, places: Mapping[str, Path]) -> None:
        known: dict[str, Path] = {
            **places,
            "<temporary>": Path(tempfile.gettempdir()),
            "<wsi-deform>": Path(wsi_deform.__file__).parent,
            "<environment>": Path(sys.prefix),
            "<python>": Path(sys.base_prefix),
            "~": Path.home(),
        }
        words: dict[str, str] = {}
        for word, path in known.items():
            for written in (path.absolute(), path.resolve()):
                if written != Path(written.anchor) and written.parts[1:2] not in [
                    (each,) for each in _SYSTEM
                ]:
                    words.setdefault(str(written), word)
        # What lies inside another place is replaced first.
        self._words = sorted(words.items(), key=lambda each: -len(each[0]))
        self._user = _user_name()

    def text(self, text: str) -> str:
        """A text without places, the user's name and secrets of URLs."""
        text = redacted(text)
        for path, word in self._words:
            text = re.sub(rf"{re.escape(path)}(?![\w-])", word.replace("\\", r"\\"), text)
        text = _PATH.sub(_last_name, text)
        if len(self._user) >= _MIN_NAME and self._user != "root":
            text = re.sub(rf"(?<![\w-]){re.escape(self._user)}(?![\w-])", "<user>", text)
        return text

    def finding(self, found: Finding) -> Finding:
        """A finding whose texts can be shown."""
        return replace(found, text=self.text(found.text), remedy=self.text(found.remedy))


def _last_name(found: re.Match[str]) -> str:
    return found[0] if found[0].split("/")[1] in _SYSTEM else ".../"


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""  # a user whom the container does not know
