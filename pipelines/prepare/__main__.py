"""Manifest and class table of a public data set, from the folder that was downloaded.

    python -m pipelines.prepare SET DOWNLOADED --out OUT [--seed 0]

What each SET needs, its licence and what is odd about it: data_manifests/public_sets.md. Slides and masks stay where
they are; OUT gets ``manifest.csv``, ``classes.yaml`` and ``labels/`` where the program cannot read labels as they are.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipelines.prepare.prepare import prepare
from pipelines.prepare.registry import PUBLIC_SETS
from wsi_deform.errors import WsiDeformError


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, prepare, print what was found; 2 where nothing could be done."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.prepare",
        description="Make a manifest and a class table of a public data set.",
    )
    parser.add_argument(
        "set", choices=sorted(PUBLIC_SETS), metavar="SET", help=", ".join(sorted(PUBLIC_SETS))
    )
    parser.add_argument("downloaded", type=Path, metavar="DOWNLOADED", help="its folder, archives unpacked")
    parser.add_argument("--out", type=Path, required=True, help="gets manifest.csv and classes.yaml")
    parser.add_argument(
        "--seed", type=int, default=0, help="decides splits where the set has none (default 0)"
    )
    given = parser.parse_args(arguments)
    try:
        with progress():
            prepared = prepare(PUBLIC_SETS[given.set], given.downloaded, given.out, seed=given.seed)
    except WsiDeformError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        reason = error.strerror or error
        print(
            f"error: {error.filename or given.out}: {reason}. Check the path and its rights.", file=sys.stderr
        )
        return 2
    except KeyboardInterrupt:
        print("interrupted: labels that were converted stay; the same command goes on", file=sys.stderr)
        return 130
    for line in prepared.lines:
        print(line)
    print(f"wrote {prepared.path}. Next: wsi-deform manifest check {prepared.path}")
    return 0


@contextmanager
def progress() -> Iterator[None]:
    """Say on stderr which labels were converted: thousands of them take minutes."""
    logger = logging.getLogger("pipelines.prepare")
    handler, level = logging.StreamHandler(sys.stderr), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


if __name__ == "__main__":
    sys.exit(main())
