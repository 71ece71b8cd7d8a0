"""The process that uses damaged files one after the other: cases come in as lines, what became of them goes out."""

from __future__ import annotations

import json
import logging
import random
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

from pipelines.fuzz.mutate import damaged_file
from pipelines.fuzz.seeds import SEEDS
from pipelines.fuzz.targets import use
from wsi_deform.errors import WsiDeformError


def drawn_case(kind: str, number: int, seed: int, seeds: Path, out: Path) -> Path:
    """Write the file of a case: always the same for the same kind, number and seed.

    Args:
        kind: One of ``SEEDS``.
        number: Of the case.
        seed: Of the run.
        seeds: A folder for sound files, drawn there when they are first needed.
        out: An empty folder for the case.
    """
    name, draw = SEEDS[kind]
    sound = seeds / kind / name
    if not sound.exists():
        sound.parent.mkdir(parents=True, exist_ok=True)
        draw(sound)
    return damaged_file(sound, kind, random.Random(f"{seed} {kind} {number}"), out)


def outcome(kind: str, path: Path) -> dict[str, object]:
    """Use a file, and say what became of it: ``ok`` is "used", "refused" or "" for what must not be."""
    started = time.monotonic()
    try:
        use(kind, path)
        found = {"ok": "used"}
    except WsiDeformError as error:
        found = {"ok": "refused", "said": f"{type(error).__name__}: {error}"[:500]}
    except Exception as error:  # noqa: BLE001  it is what is looked for
        found = {
            "ok": "",
            "said": f"{type(error).__name__}: {error}"[:500],
            "trace": traceback.format_exc()[-3000:],
        }
    return found | {"seconds": round(time.monotonic() - started, 3)}


def main() -> None:
    """Take cases from standard input until it ends."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        seeds = Path(name) / "seeds"
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:
            kind, number, seed = json.loads(line)
            with tempfile.TemporaryDirectory(dir=name) as out:
                path = drawn_case(kind, number, seed, seeds, Path(out))
                print(json.dumps({"drawn": True}), flush=True)
                print(json.dumps(outcome(kind, path)), flush=True)


if __name__ == "__main__":
    main()
