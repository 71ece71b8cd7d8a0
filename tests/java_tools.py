"""Java, Groovy and JTS for tests that need them: what a machine has, and how it is called."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

STAND_INS = Path(__file__).parent / "qupath_stand_ins"
LIMIT_S = 120


def find_jar(name: str) -> Path | None:
    """A library by the name of its jar without version, or None.

    The variable ``WSI_DEFORM_JARS`` names a folder of jars; then come Debian's and those that Maven has fetched.
    """
    wanted = re.compile(rf"{name}(-[0-9][0-9.]*)?\.jar")
    own = os.environ.get("WSI_DEFORM_JARS")
    places = [*([Path(own)] if own else []), Path("/usr/share/java"), Path.home() / ".m2" / "repository"]
    for place in places:
        found = sorted(each for each in place.rglob(f"{name}*.jar") if wanted.fullmatch(each.name))
        if found:
            return found[-1]
    return None


def need_jars(*names: str) -> list[Path]:
    """The jars of some libraries, each under one of the names between ``|``; skips the test where one is missing."""
    if shutil.which("java") is None or shutil.which("javac") is None:
        pytest.skip("needs java and javac")
    found = [
        next((jar for each in name.split("|") if (jar := find_jar(each)) is not None), None) for name in names
    ]
    missing = [name for name, jar in zip(names, found, strict=True) if jar is None]
    if missing:
        pytest.skip(
            f"needs {', '.join(missing)} (.jar) in /usr/share/java, ~/.m2 or the folder WSI_DEFORM_JARS"
        )
    return [jar for jar in found if jar is not None]


def compile_java(sources: list[Path], jars: list[Path], to: Path) -> None:
    """Compile some files."""
    command = ["javac", "-nowarn", "-d", str(to), "-cp", class_path(jars), *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr


class JavaLoop:
    """A program that answers each line on its input with some lines and an empty one."""

    def __init__(self, main: str, jars: list[Path], *arguments: str) -> None:
        command = [
            "java",
            "-Djava.awt.headless=true",
            "-Dfile.encoding=UTF-8",
            "-cp",
            class_path(jars),
            main,
            *arguments,
        ]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            env={**os.environ, "LC_ALL": "C.UTF-8"},  # Java takes the encoding of file names from it
        )

    def ask(self, *arguments: object) -> str:
        """What it answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\t".join(map(str, arguments)) + "\n")
        self._process.stdin.flush()
        lines = []
        for line in self._process.stdout:
            if line == "\n":
                return "".join(lines)
            lines.append(line)
        raise AssertionError("".join(lines))

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=LIMIT_S)


def class_path(jars: list[Path]) -> str:
    """Jars and folders as Java takes them."""
    return os.pathsep.join(map(str, jars))
