"""`python -m tests.conformance [NAME ...]`: have the suite try each wrong peer, and tell which case found it."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from .judging import Judged, judge_all
from .wrong import WRONG, Wrong


def main() -> int:
    """Run the table, print the outcomes, and return 1 if a wrong peer was not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these; all where none is named")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    parser.add_argument(
        "--whole", action="store_true", help="try every case of the role, and not only the areas of the row"
    )
    parser.add_argument("--verbose", action="store_true", help="name all cases that failed")
    options = parser.parse_args()
    unknown = set(options.names) - {wrong.name for wrong in WRONG}
    if unknown:
        parser.error(f"no such wrong peer: {', '.join(sorted(unknown))}")
    rows = [wrong for wrong in WRONG if not options.names or wrong.name in options.names]
    return asyncio.run(_run(rows, options))


async def _run(rows: list[Wrong], options: argparse.Namespace) -> int:
    started = time.monotonic()
    width = max(len(wrong.name) for wrong in rows)
    survived = 0
    print(f"{'wrong peer':{width}}  {'role':11}  {'seconds':>7}  found by")
    async for judged in judge_all(rows, whole=options.whole, jobs=options.jobs):
        wrong, by = judged.wrong, judged.by[0] if judged.is_found else "NOBODY"
        print(f"{wrong.name:{width}}  {wrong.role:11}  {judged.seconds:7.1f}  {by}", flush=True)
        if not judged.is_found:
            survived += 1
            _explain(judged)
        if options.verbose:
            print(f"  {', '.join((*judged.by, *judged.others))}")
    print(f"{len(rows) - survived} of {len(rows)} found in {time.monotonic() - started:.0f} s")
    return 1 if survived else 0


def _explain(judged: Judged) -> None:
    failed = (*judged.by, *judged.others)
    named = f"Failed: {', '.join(failed[:8])}" if failed else "Nothing failed"
    print(f"  {judged.wrong.says} Broken: {', '.join(judged.missing or judged.wrong.broken)}.", flush=True)
    print(f"  {named}, of {judged.tried}. {judged.detail[:300]}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
