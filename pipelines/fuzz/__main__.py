"""``python -m pipelines.fuzz [--cases 3000] [--seed 0] [--workers 2]``: damaged files, and what becomes of them.

Each case is a small sound file of some kind with one to four things damaged. It passes where the program uses it or
refuses it with an error of its own, within 10 s and 2 GiB of memory. Cases run one after the other in child processes,
which are watched, and replaced when they die. What fails is kept with its error; the exit status is 1 then.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from pipelines.fuzz.cases import Case, cases
from pipelines.fuzz.child import drawn_case
from pipelines.fuzz.watched import WatchedChild

CASES = 3000


def main() -> int:
    """Run the cases, keep what fails and say how it went."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.fuzz", description=__doc__.split("\n\n")[1])
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kind", default="", help="only kinds whose name starts so")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="where failing files are kept")
    chosen = parser.parse_args()
    every = list(
        islice((one for one in cases(chosen.seed) if one.kind.startswith(chosen.kind)), chosen.cases)
    )
    with ThreadPoolExecutor(chosen.workers) as pool:
        parts = [every[number :: chosen.workers] for number in range(chosen.workers)]
        found = [one for part in pool.map(_run, parts) for one in part]
    failed = [(case, said) for case, said in found if not said["ok"]]
    for case, said in failed:
        _keep(case, said, chosen.out)
    print(f"{len(found)} cases, seed {chosen.seed}: {_counts(found)}")
    for what, unit in (("seconds", "s"), ("mib", "MiB")):
        case, said = max(found, key=lambda one: float(str(one[1][what])))
        print(f"most {unit}: {said[what]} ({case})")
    return 1 if failed else 0


def _run(part: list[Case]) -> list[tuple[Case, dict[str, object]]]:
    with WatchedChild() as child:
        return [(case, child.outcome(case)) for case in part]


def _counts(found: list[tuple[Case, dict[str, object]]]) -> str:
    counts = Counter(str(said["ok"]) or "FAILED" for _, said in found)
    return ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))


def _keep(case: Case, said: dict[str, object], out: Path) -> None:
    """Draw the file of a case again, and write its error beside it."""
    place = out / f"{case.kind}-{case.number}"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        drawn_case(case.kind, case.number, case.seed, Path(name), place)
    (place / "said.txt").write_text(
        "\n".join(f"{key}: {value}" for key, value in said.items()), encoding="utf-8"
    )
    print(f"FAILED {case}: {said.get('said')} -> {place}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
