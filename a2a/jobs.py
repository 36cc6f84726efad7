"""The workbench: runs jobs that read what agents wrote, in a process of its own that can be killed.

Comparing or merging payloads means decoding them, and a hostile payload could hold up the process that does it. So the
coordinator's loop never decodes: it hands a job to a worker process and takes the answer as an input. A worker that
takes too long is killed, and the answer is that nobody can say. Jobs run one at a time; those that wait are bounded by
the number of groups, conflicts and patches, as each has one. Used by the server's shell.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import astuple

from .engine.conflicts.bench import Answer, Job, do, from_bytes, name_of, to_bytes
from .protocol.codec import pack, unpack

__all__ = ["Workbench"]

log = logging.getLogger("a2a.jobs")

BUDGET = 5.0
"""Seconds for one job."""
_LINE_MAX = 256 * 1024 * 1024


class Workbench:
    """Runs jobs in a worker process, which starts with the first job and ends with `aclose`.

    Args:
        done: called in the event loop with a job and its answer.
    """

    def __init__(self, done: Callable[[Job, Answer], None], *, budget: float = BUDGET) -> None:
        self._done = done
        self._budget = budget
        # The hand-over between the loop and the one task that waits for the worker.
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()
        self._worker: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_at_work = False

    def put(self, job: Job) -> None:
        """Queue a job."""
        self._jobs.put_nowait(job)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="workbench")

    @property
    def is_busy(self) -> bool:
        """Whether a job waits or runs."""
        return self._is_at_work or not self._jobs.empty()

    async def aclose(self) -> None:
        """Drop the jobs that wait, and end the worker."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._kill()

    async def _run(self) -> None:
        while True:
            job = await self._jobs.get()
            self._is_at_work, level = True, logging.WARNING
            try:
                async with asyncio.timeout(self._budget):
                    answer, level = await self._ask(job), logging.INFO  # "nobody can say" is an answer
            except TimeoutError:
                answer = Answer(-1, f"it took longer than {self._budget:g} s")
                await self._kill()
            except (OSError, ValueError, EOFError) as error:
                answer = Answer(-1, f"it failed: {error}")
                await self._kill()
            if answer.number < 0:
                log.log(level, "%s: %s", name_of(job), answer.why)
            self._is_at_work = False
            self._done(job, answer)

    async def _ask(self, job: Job) -> Answer:
        if self._worker is None:
            self._worker = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "a2a.jobs"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_LINE_MAX,
            )
        worker = self._worker
        assert worker.stdin is not None and worker.stdout is not None, "both were asked for"
        worker.stdin.write(_line(to_bytes(job)))
        await worker.stdin.drain()
        line = await worker.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError("the worker ended")
        return Answer(*unpack(b64decode(line)))

    async def _kill(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None and worker.returncode is None:
            worker.kill()
            await worker.wait()


def _line(data: bytes) -> bytes:
    return b64encode(data) + b"\n"


def main() -> None:
    """Run as a worker: read a job per line from stdin, write its answer as a line to stdout, until stdin ends."""
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(_line(pack(astuple(do(from_bytes(b64decode(line)))))))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
