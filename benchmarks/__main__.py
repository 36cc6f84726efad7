"""The runner: `python -m benchmarks [NAME ...] [--quick] [--json] [--dir DIR] [--slow-sync US]`.

Prints the facts of the machine, then the results of each benchmark named, or of all. Exit codes: 0 measured, 1 failed,
2 usage, 130 on Ctrl-C, 143 on SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from benchmarks import backlog, big, conflict, delegate, discover, fanout, idle, long, machine, micro, restart, stream
from benchmarks.peers import runner as peers
from benchmarks.report import BenchmarkError, Note, Options, Result, as_facts, as_json, as_table

__all__ = ["BENCHMARKS", "main"]

BENCHMARKS: dict[str, Callable[[Options], Awaitable[Sequence[Result | Note]]]] = {
    "delegate": delegate.run,
    "big": big.run,
    "stream": stream.run,
    "fanout": fanout.run,
    "conflict": conflict.run,
    "discover": discover.run,
    "idle": idle.run,
    "backlog": backlog.run,
    "restart": restart.run,
    "long": long.run,
    "micro": micro.run,
    "peers": peers.run,
}
NOT_QUICK = frozenset({"peers"})
"""Left out of a quick run unless named: their setup takes longer than all other benchmarks."""


SLOW_SYNC_MAX_US = 100_000
"""A disk that takes longer is broken."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks named on the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the coordinator.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="one short round; the figures are rough")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--dir", type=Path, help="where the ledger lies while measuring; must be on a disk")
    parser.add_argument(
        "--slow-sync",
        type=_microseconds,
        default=0,
        metavar="US",
        help="add so many microseconds to each sync of a coordinator: a slower disk (needs a C compiler)",
    )
    arguments = parser.parse_args(argv)
    names = arguments.names or [name for name in BENCHMARKS if not (arguments.quick and name in NOT_QUICK)]
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"no benchmark {', '.join(unknown)}; there is: {', '.join(BENCHMARKS)}")
    try:
        directory = machine.disk_directory(arguments.dir)
    except ValueError as exc:
        parser.error(f"--dir: {exc}")
    make_options = Options.quick if arguments.quick else Options
    options = make_options(directory, machine.installed_event_loop(), slow_sync_us=arguments.slow_sync)
    try:
        asyncio.run(_run(names, options, in_json=arguments.json))
    except BenchmarkError as exc:
        print(f"benchmarks: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    return 0


def _microseconds(text: str) -> int:
    number = int(text)
    if not 0 <= number <= SLOW_SYNC_MAX_US:
        raise argparse.ArgumentTypeError(f"expected 0 to {SLOW_SYNC_MAX_US}, got {number}")
    return number


async def _run(names: Sequence[str], options: Options, *, in_json: bool) -> None:
    me = asyncio.current_task()
    assert me is not None, "a coroutine runs in a task"
    # Ctrl-C cancels this task already; SIGTERM must do the same, so that the processes started are ended.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, me.cancel)
    facts = machine.facts(options.directory, options.loop) | {"slow_sync_us": options.slow_sync_us}
    print(json.dumps({"name": "machine", **facts}) if in_json else as_facts(facts) + "\n", flush=True)
    for name in names:
        results = await BENCHMARKS[name](options)
        print("\n".join(map(as_json, results)) if in_json else as_table(results), flush=True)


if __name__ == "__main__":
    sys.exit(main())
