"""`python -m tests.chaos --cycles N --seed S [--rate 50] [--ledger 10000]`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from .audit import Findings, Heard, judge, read_ledger
from .plan import Fault, draw
from .processes import ChaosError
from .report import table
from .run import Town, town
from .work import forest_of, place_of

__all__ = ["chaos", "main"]


async def chaos(
    folder: Path, plan: list[Fault], *, agents: int, rate: float, ledger: int = 0, progress: bool = False
) -> tuple[Findings, Town]:
    """Follow a plan, wait until all is quiet, and judge the ledger.

    Raises:
        ChaosError: something that had to happen did not, so that there is nothing to judge.
    """
    faults: list[int] = []
    async with town(folder, agents=agents, rate=rate) as running:
        await running.start()
        await running.fill(ledger)
        load = asyncio.create_task(running.load())
        try:
            for number, fault in enumerate(plan, 1):
                await running.finish(fault.results)
                faults.append(int(time.time() * 1000))
                await running.strike(fault)
                if progress:
                    print(f"{number:4} {fault.kind} {fault.target}, {len(running.book.open)} trees open", flush=True)
            await running.finish(1)
        finally:
            load.cancel()
            await asyncio.wait([load])
        await running.converged()
        await running.end()
    heard = Heard(
        {f"tree-{tree}": task for tree, task in running.book.tasks.items()},
        {f"tree-{tree}": value for tree, value in running.book.values.items()},
        running.starts,
        faults,
        {(forest_of(tree), place_of(tree)): value for tree, value in running.book.values.items() if tree > 0},
    )
    found = judge(await read_ledger(running.ledger), heard)
    found.violations.extend(running.book.contradictions)
    return found, running


def main() -> int:
    """Run, print the table, and return 1 if something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--cycles", type=int, default=300, help="faults, one after the other")
    parser.add_argument("--seed", type=int, default=1, help="the plan")
    parser.add_argument("--rate", type=float, default=50.0, help="tasks a second, in trees")
    parser.add_argument("--agents", type=int, default=3, help="processes that do the work")
    parser.add_argument("--ledger", type=int, default=10_000, help="tasks in the ledger before it begins")
    parser.add_argument("--folder", type=Path, help="where the ledger and the logs go; kept, also when all is well")
    options = parser.parse_args()
    names = [f"agent/{number}" for number in range(1, options.agents + 1)]
    plan = draw(options.seed, options.cycles, names)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="a2a-chaos-"))
    try:
        found, running = asyncio.run(
            chaos(folder, plan, agents=options.agents, rate=options.rate, ledger=options.ledger, progress=True)
        )
    except ChaosError as error:
        print(f"seed {options.seed} FAILED, see {folder}: {error}", file=sys.stderr)
        return 1
    print(table(plan, found, running.load_seconds, options.rate))
    for detail in found.wrong():
        print(detail)
    if not found.is_sound:
        print(f"seed {options.seed} FAILED, see {folder}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
