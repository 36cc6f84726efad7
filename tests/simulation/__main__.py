"""`python -m tests.simulation --seeds N [--start S] [--jobs J]`, or `--seed S [S ...] [--trace]`."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing

from .plan import Plan
from .run import Outcome, every_append, run_seed, write_timeline

_SHARE = 5
"""Seeds that a process is given at a time: enough to outweigh the hand-over, few enough to end together."""


def main() -> int:
    """Run seeds, print the outcomes, and return 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first")
    parser.add_argument("--seed", type=int, nargs="+", help="only these")
    parser.add_argument("--jobs", type=int, default=1, help="how many processes share them; 0: one for each core")
    parser.add_argument("--trace", action="store_true", help="write down the story")
    parser.add_argument(
        "--every-append", action="store_true", help="small worlds, dead before, during and after each append"
    )
    parser.add_argument("--digests", action="store_true", help="print each seed's digest and nothing else")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first failure")
    options = parser.parse_args()
    seeds = options.seed or range(options.start, options.start + options.seeds)
    gc.freeze()  # the imported modules stay: no need to scan them after every world
    worlds = ((seed, plan) for seed in seeds for plan in (every_append(seed) if options.every_append else (Plan(),)))
    steps = simulated = failed = done = 0
    seconds = 0.0
    with closing(_played(worlds, options.jobs or len(os.sched_getaffinity(0)), options.trace)) as played:
        for plan, outcome, spent in played:
            done += 1
            seconds += spent
            steps += outcome.steps
            simulated += outcome.simulated_ms
            if options.digests:
                print(outcome.seed, outcome.digest)
                continue
            if outcome.timeline is not None:
                print(f"seed {outcome.seed}: {outcome.summary}\n  {write_timeline(outcome)}")
            if outcome.failure is not None:
                failed += 1
                _tell(plan, outcome, may_run_again=not options.trace and not options.keep_going)
                if not options.keep_going:
                    break
    if not options.digests:
        what = "runs" if options.every_append else "seeds"
        print(
            f"{done} {what}, {failed} failed, {steps} steps, {simulated / 3_600_000:.1f} simulated hours, "
            f"{seconds:.1f} s of one core, {steps / seconds:.0f} steps/s of a core"
        )
    return 1 if failed else 0


def _played(worlds: Iterable[tuple[int, Plan]], jobs: int, trace: bool) -> Iterator[tuple[Plan, Outcome, float]]:
    """Run worlds, and yield the outcome of each, in their order."""
    if jobs == 1 or trace:
        yield from (_play((seed, plan), trace) for seed, plan in worlds)
        return
    with ProcessPoolExecutor(jobs, initializer=gc.freeze) as pool:
        try:
            yield from pool.map(_play, worlds, chunksize=_SHARE)
        finally:
            pool.shutdown(cancel_futures=True)


def _play(world: tuple[int, Plan], trace: bool = False) -> tuple[Plan, Outcome, float]:
    """Run one world; return its plan, its outcome, and the seconds of a core that it took."""
    seed, plan = world
    started = time.process_time()
    outcome = run_seed(seed, plan, trace=trace)
    return plan, outcome, time.process_time() - started


def _tell(plan: Plan, outcome: Outcome, *, may_run_again: bool) -> None:
    """Print which world failed and how; if its story was not written down, run it again for that."""
    seed = outcome.seed
    where = f"{seed}" if plan.dies_at is None else f"{seed}, dead {plan.dies_at[1]} append {plan.dies_at[0]},"
    at = f"{outcome.simulated_ms / 1000:.1f} s, step {outcome.steps}"
    print(f"seed {where} FAILED at {at}: {outcome.failure}")
    if may_run_again:
        print(f"  {write_timeline(run_seed(seed, plan, trace=True))}")


if __name__ == "__main__":
    sys.exit(main())
