"""`python -m tests.simulation --seeds N [--start S]`, or `--seed S --trace`."""

from __future__ import annotations

import argparse
import gc
import sys
import time

from .run import run_seed, write_timeline


def main() -> int:
    """Run seeds, print what came of them, and return 1 where one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--trace", action="store_true", help="write down the story")
    parser.add_argument("--digests", action="store_true", help="print each seed's digest and nothing else")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first failure")
    options = parser.parse_args()
    seeds = [options.seed] if options.seed is not None else range(options.start, options.start + options.seeds)
    gc.freeze()  # what was imported stays: no need to look at it behind every world
    started = time.process_time()
    steps = simulated = failed = done = 0
    for seed in seeds:
        outcome = run_seed(seed, trace=options.trace)
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
            print(f"seed {seed} FAILED at {outcome.simulated_ms / 1000:.1f} s, step {outcome.steps}: {outcome.failure}")
            if not options.trace and not options.keep_going:
                print(f"  {write_timeline(run_seed(seed, trace=True))}")
            if not options.keep_going:
                break
    seconds = time.process_time() - started
    if not options.digests:
        print(
            f"{done} seeds, {failed} failed, {steps} steps, {simulated / 3_600_000:.1f} simulated hours, "
            f"{seconds:.1f} s of one core, {steps / seconds:.0f} steps/s"
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
