"""`python -m tests.model`: walk all profiles, then show that each planted variant of the rules is caught."""

from __future__ import annotations

import argparse
import sys
import time

from .profiles import LARGE, SMALL, missing, walk_one
from .task import NEXT
from .variants import VARIANTS, walk_variant


def main() -> int:
    """Walk, print what was found, and return 1 where a promise is broken, a variant survives or a key is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--small", action="store_true", help="only the profiles that run with the tests")
    parser.add_argument("--profile", help="only this one, without the variants")
    options = parser.parse_args()
    chosen = [item for item in (SMALL if options.small else LARGE) if options.profile in (None, item.profile.name)]
    if not chosen:
        parser.error(f"no such profile: {options.profile}")
    started = time.process_time()
    is_well = True
    states = transitions = 0
    exercised: set[tuple[str, str]] = set()
    print(f"{'profile':22}  {'states':>8}  {'steps':>9}  {'depth':>5}  {'seconds':>7}  broken")
    for sized in chosen:
        found, taken = walk_one(sized)
        exercised |= taken
        states, transitions = states + found.states, transitions + found.transitions
        broken = "nothing" if found.violation is None else str(found.violation)
        size = f"{found.states:8}  {found.transitions:9}  {found.depth:5}  {found.seconds:7.1f}"
        print(f"{found.name:22}  {size}  {broken}", flush=True)
        if found.violation is not None:
            is_well = False
            print("\n".join(found.trace))
    print(f"{states} states, {transitions} steps, {time.process_time() - started:.1f} s of one core")
    if options.profile is not None:
        return 0 if is_well else 1
    for sentence in missing(exercised):
        is_well = False
        print(sentence)
    print(f"{len(exercised)} of {len(NEXT)} keys of the transition table taken\n")
    return 0 if _variants() and is_well else 1


def _variants() -> bool:
    width = max(len(variant.rules.__name__) for variant in VARIANTS)
    print(f"{'planted variant':{width}}  {'caught by':9}  {'after':>5}  {'states':>7}  what is wrong")
    caught = 0
    for variant in VARIANTS:
        found = walk_variant(variant)
        by = "NOBODY" if found.violation is None else found.violation.name
        caught += by in variant.caught_by
        unexpected = "" if by in variant.caught_by else f" (expected: {' or '.join(variant.caught_by)})"
        row = f"{len(found.trace):5}  {found.states:7}  {variant.says}{unexpected}"
        print(f"{variant.rules.__name__:{width}}  {by:9}  {row}", flush=True)
    print(f"{caught} of {len(VARIANTS)} caught")
    return caught == len(VARIANTS)


if __name__ == "__main__":
    sys.exit(main())
