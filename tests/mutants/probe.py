"""`python -m tests.mutants.probe`: look for a planted bug in the tree this runs in, and print what was found as JSON.

It runs inside the copy that has the bug. Seeds go on until a checker that was named finds it; what others find on the
way is told too.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import a2a
from tests.simulation.plan import Plan
from tests.simulation.run import run_seed

__all__ = ["names"]

_NAME = re.compile(r"([A-Za-z][A-Za-z0-9-]*): ")


def names(failure: str) -> list[str]:
    """Return the checkers a failure names: that of the property, then that of its special case where there is one."""
    found: list[str] = []
    while (match := _NAME.match(failure)) is not None and len(found) < 2:
        found.append(match[1])
        failure = failure[match.end() :]
    return found


def main() -> int:
    """Look for it."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants.probe", description=__doc__)
    parser.add_argument("--seeds", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--expect", required=True, help="checkers, with commas between them")
    parser.add_argument("--disputes", action="store_true", help="only worlds with groups and conflicts")
    parser.add_argument("--quarrels", action="store_true", help="only worlds in which people quarrel")
    parser.add_argument("--manners", nargs="*", help="only these, in all worlds")
    options = parser.parse_args()
    here = Path.cwd().resolve()
    if here not in Path(a2a.__file__).resolve().parents:
        print(f"the package that runs is {a2a.__file__}, not the copy in {here}", file=sys.stderr)
        return 2
    plan = Plan(disputes=True, tasks=2) if options.disputes else Plan(quarrels=options.quarrels or None)
    if options.manners:
        plan = replace(plan, manners=frozenset(options.manners))
    expected = set(options.expect.split(","))
    others: dict[str, int] = {}
    started = time.process_time()
    seeds = 0
    for seed in range(options.seeds):
        if time.process_time() - started > options.seconds:
            break
        seeds += 1
        failure = run_seed(seed, plan).failure
        if failure is None:
            continue
        found = names(failure)
        caught = expected & set(found)
        if caught:
            print(json.dumps({"by": sorted(caught)[0], "seeds": seeds, "detail": failure, "others": others}))
            return 0
        name = found[0] if found else failure
        others[name] = others.get(name, 0) + 1
    print(json.dumps({"by": None, "seeds": seeds, "detail": "", "others": others}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
