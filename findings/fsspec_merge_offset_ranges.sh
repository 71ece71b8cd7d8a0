#!/usr/bin/env bash
# fsspec 2026.1.0 (and all versions back to 2024.6 that were tried): utils.merge_offset_ranges, which readers of tiles over
# a network use to ask for neighbouring tiles in one request, loses the end of a range that holds another one: a tile that
# lies inside a larger range overwrites its end. 2026.2.0 keeps it.
# Seen, for the ranges [0, 900) and [100, 150), which together are [0, 900):
#   2026.1.0: starts [0] ends [150]
#   2026.2.0: starts [0] ends [900]
# Who asks through it gets 150 of 900 bytes without an error. This script fails when either of the two answers changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/merge.py" <<'PYTHON'
import sys

import fsspec
from fsspec.utils import merge_offset_ranges

paths, starts, ends = merge_offset_ranges(["tiles"] * 2, [0, 100], [900, 150], max_gap=64)
print(f"{fsspec.__version__}: starts {starts} ends {ends}")
sys.exit((starts, ends) != ([0], [int(sys.argv[1])]))
PYTHON
python3 -m venv "$folder/venv"
for pair in 2026.1.0:150 2026.2.0:900; do
    "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check "fsspec==${pair%:*}"
    "$folder/venv/bin/python" "$folder/merge.py" "${pair#*:}"
done
