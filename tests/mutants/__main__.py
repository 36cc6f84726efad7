"""`python -m tests.mutants [NAME ...]`: plant each bug of the table, and tell who caught it."""

from __future__ import annotations

import argparse
import sys
import time

from .run import look_for_all
from .table import MUTANTS


def main() -> int:
    """Run the table, print what came of it, and return 1 where a bug survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these; all where none is named")
    parser.add_argument("--seeds", type=int, default=1_000, help="worlds to try for each")
    parser.add_argument("--seconds", type=float, default=240.0, help="seconds of a core to try for each")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    options = parser.parse_args()
    unknown = set(options.names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    chosen = [mutant for mutant in MUTANTS if not options.names or mutant.name in options.names]
    started = time.monotonic()
    width = max(len(mutant.name) for mutant in chosen)
    survived = []
    print(f"{'planted bug':{width}}  {'caught by':9}  {'seeds':>5}  {'seconds':>7}")
    for found in look_for_all(chosen, seeds=options.seeds, seconds=options.seconds, jobs=options.jobs):
        by = found.by or "NOBODY"
        print(f"{found.mutant.name:{width}}  {by:9}  {found.seeds:5}  {found.seconds:7.1f}", flush=True)
        if found.by is None:
            survived.append(found)
            elsewhere = "".join(f"; {name} {count} times" for name, count in found.others.items())
            expected = " or ".join(found.mutant.caught_by)
            print(f"  {found.mutant.says} Expected: {expected}{elsewhere}. {found.detail}", flush=True)
    print(f"{len(chosen) - len(survived)} of {len(chosen)} caught in {time.monotonic() - started:.0f} s")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
