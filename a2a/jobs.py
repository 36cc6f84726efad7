"""The workbench: jobs that read what agents wrote, in a process of their own that can be killed.

A comparison decodes payloads, and a hostile one could hold up whoever decodes it. So the coordinator's loop never does:
it hands a job to a worker process and takes the answer as an input; a worker that takes too long is killed, and the
answer is that nobody can say. One job at a time; what waits is bounded by the groups there are, each has one. Used by
the server's shell.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable

from .engine.conflicts.comparators import Compare, run

__all__ = ["Workbench"]

log = logging.getLogger("a2a.jobs")

BUDGET = 5.0
"""Seconds for one job."""
_LINE_MAX = 256 * 1024 * 1024


class Workbench:
    """Runs jobs in a worker, which is started with the first and ends with `aclose`.

    Args:
        done: called in the event loop with a job and its answer: the number of the class, or -1, and why.
    """

    def __init__(self, done: Callable[[Compare, int, str], None], *, budget: float = BUDGET) -> None:
        self._done = done
        self._budget = budget
        # The hand-over between the loop's turn and the one task that waits for the worker.
        self._jobs: asyncio.Queue[Compare] = asyncio.Queue()
        self._worker: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    def put(self, job: Compare) -> None:
        """Have a job done."""
        self._jobs.put_nowait(job)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="workbench")

    async def aclose(self) -> None:
        """Drop what waits, and end the worker."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._kill()

    async def _run(self) -> None:
        while True:
            job = await self._jobs.get()
            try:
                async with asyncio.timeout(self._budget):
                    number, why = await self._ask(job)
            except TimeoutError:
                number, why = -1, f"the comparison took longer than {self._budget:g} s"
                await self._kill()
            except (OSError, ValueError, EOFError) as error:
                number, why = -1, f"the comparison failed: {error}"
                await self._kill()
            if number < 0:
                log.warning("%s of %s: %s", job.member, job.task, why)
            self._done(job, number, why)

    async def _ask(self, job: Compare) -> tuple[int, str]:
        if self._worker is None:
            self._worker = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "a2a.jobs"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_LINE_MAX,
            )
        worker = self._worker
        assert worker.stdin is not None and worker.stdout is not None, "both were asked for"
        worker.stdin.write(_to_line(job))
        await worker.stdin.drain()
        line = await worker.stdout.readline()
        if not line:
            raise EOFError("the worker ended")
        number, why = json.loads(line)
        return int(number), str(why)

    async def _kill(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None and worker.returncode is None:
            worker.kill()
            await worker.wait()


def _to_line(job: Compare) -> bytes:
    firsts = [b64encode(first).decode() for first in job.firsts]
    plain = [job.task, job.member, job.comparator, firsts, b64encode(job.payload).decode()]
    return json.dumps(plain).encode() + b"\n"


def _from_line(line: bytes) -> Compare:
    task, member, comparator, firsts, payload = json.loads(line)
    return Compare(task, member, comparator, tuple(b64decode(first) for first in firsts), b64decode(payload))


def main() -> None:
    """Be a worker: a job a line on stdin, its answer a line on stdout, until stdin ends."""
    for line in sys.stdin.buffer:
        sys.stdout.write(json.dumps(run(_from_line(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
