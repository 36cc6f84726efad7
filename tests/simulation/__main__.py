"""`python -m tests.simulation --seeds N [--start S]`, or `--seed S --trace`."""

from __future__ import annotations

import argparse
import gc
import sys
import time

from .plan import Plan
from .run import every_append, run_seed, write_timeline


def main() -> int:
    """Run seeds, print what came of them, and return 1 where one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--trace", action="store_true", help="write down the story")
    parser.add_argument("--every-append", action="store_true", help="die before, during and after each append in turn")
    parser.add_argument("--digests", action="store_true", help="print each seed's digest and nothing else")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first failure")
    options = parser.parse_args()
    seeds = [options.seed] if options.seed is not None else range(options.start, options.start + options.seeds)
    gc.freeze()  # what was imported stays: no need to look at it behind every world
    started = time.process_time()
    steps = simulated = failed = done = 0
    worlds = ((seed, plan) for seed in seeds for plan in (every_append(seed) if options.every_append else (Plan(),)))
    for seed, plan in worlds:
        outcome = run_seed(seed, plan, trace=options.trace)
        done += 1
        steps += outcome.steps
        simulated += outcome.simulated_ms
        if options.digests:
            print(seed, outcome.digest)
            continue
        if outcome.timeline is not None:
            print(f"seed {seed}: {outcome.summary}\n  {write_timeline(outcome)}")
        if outcome.failure is not None:
            failed += 1
            where = f"{seed}" if plan.dies_at is None else f"{seed}, dead {plan.dies_at[1]} append {plan.dies_at[0]},"
            at = f"{outcome.simulated_ms / 1000:.1f} s, step {outcome.steps}"
            print(f"seed {where} FAILED at {at}: {outcome.failure}")
            if not options.trace and not options.keep_going:
                print(f"  {write_timeline(run_seed(seed, plan, trace=True))}")
            if not options.keep_going:
                break
    seconds = time.process_time() - started
    if not options.digests:
        what = "runs" if options.every_append else "seeds"
        print(
            f"{done} {what}, {failed} failed, {steps} steps, {simulated / 3_600_000:.1f} simulated hours, "
            f"{seconds:.1f} s of one core, {steps / seconds:.0f} steps/s"
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
