"""``python -m pipelines.compare A B [--set key=value ...] [--tolerance T]``: see ``commits.py``."""

from __future__ import annotations

import sys

from pipelines.compare.commits import main

if __name__ == "__main__":
    sys.exit(main())
