"""The disk under a ledger: what a sync costs on it, and how to simulate a slower one.

A slower disk is a library that is preloaded into the coordinator and adds time to each of its syncs; it needs a C
compiler. Run as a program, this module prints the median of a sync, with or without the library.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from benchmarks.machine import sync_seconds
from benchmarks.processes import Processes, output
from benchmarks.report import BenchmarkError, Options

__all__ = ["environment", "sync_p50_ms"]

SOURCE = Path(__file__).with_name("slowsync.c")
COMPILERS = ("cc", "gcc", "clang")
COMPILED_WITHIN = 60.0


async def environment(directory: Path, options: Options) -> dict[str, str]:
    """Return the variables that give a process the disk of this run: none for the real disk.

    Raises:
        BenchmarkError: a slower disk is wanted, and there is no C compiler, or it failed.
    """
    if not options.slow_sync_us:
        return {}
    library = directory / "slowsync.so"
    if not library.exists():
        await _compile(library)
    return {"LD_PRELOAD": str(library), "SLOW_SYNC_US": str(options.slow_sync_us)}


async def _compile(library: Path) -> None:
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise BenchmarkError(f"a slower disk needs a C compiler, and none of {', '.join(COMPILERS)} is here")
    await output(compiler, "-shared", "-fPIC", "-O2", "-o", library, SOURCE, "-ldl", within=COMPILED_WITHIN)


async def sync_p50_ms(processes: Processes, directory: Path, options: Options) -> float:
    """Return the median of a sync on the disk of this run, as a process started like a coordinator sees it, in ms.

    Raises:
        BenchmarkError: the disk is not as slow as it should be, so the figures would be those of another disk.
    """
    role = ("-m", "benchmarks.disk", str(directory))
    _, told = await processes.start_ready("sync", *role, environment=await environment(directory, options))
    found = float(told["sync_p50_ms"])
    if found * 1000 < options.slow_sync_us:
        raise BenchmarkError(f"expected a sync of at least {options.slow_sync_us} us, it takes {found * 1000:.0f} us")
    return found


def main() -> None:
    """Measure syncs in the directory named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path)
    print(json.dumps({"sync_p50_ms": sync_seconds(parser.parse_args().directory) * 1000}), flush=True)


if __name__ == "__main__":
    main()
