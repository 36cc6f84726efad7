"""Snapshots made aside, so that a start need not fold the whole log and nobody waits for them.

A snapshot is what the records add up to, which is what the server has in memory: a copy of its process writes that
down. Where a process must not be copied, or could not be, another one reads the records from the file and folds them
behind the snapshot before; it is this module: `python -m a2a.snapshots PATH PID`. Both hand the result back through a
pipe, and the server has its store keep it. Both end with the server, and where they fail the next start only takes
longer.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from pathlib import Path

from .engine import snapshot
from .engine.ledger import Ledger
from .engine.records import from_bytes
from .errors import StoreError
from .forking import NICE, Copy, is_safe
from .stores.base import Snapshot, Store
from .stores.reader import LedgerReader
from .tether import tie

__all__ = ["Snapshots", "fold", "main"]

log = logging.getLogger("a2a.snapshots")

_RECORDS_PER_TASK = 4
"""A task in memory is written down with every snapshot, which takes a copy 20 us, 5 us of this process's loop, and
what the disk takes for 1.5 kB: with many tasks there they are made less often. Four records are what a small task comes
to, so that however many there are, each is written down once for every one that is done."""
_COPY_DEADLINE = 60.0
"""Seconds a copy may take, enough for a million tasks. One that waits for a lock would wait for ever."""
_HEAD = 8
"""Bytes before the snapshot's body that say which position it stands for."""


# The process ----------------------------------------------------------------------------------------------------------


def fold(reader: LedgerReader) -> Ledger:
    """Return what the ledger's records add up to, by way of its snapshot where there is one that can be used.

    Raises:
        ValueError: the records do not fold.
    """
    namespace, kept = reader.namespace(), reader.snapshot()
    ledger = Ledger(namespace)
    if kept is not None:
        try:
            ledger = snapshot.load(kept.body, namespace, reader.blob)
        except (StoreError, ValueError) as error:
            log.warning("the snapshot of record %s cannot be used: %s", kept.lsn, error)
    for entry in reader.entries(ledger.lsn):
        try:
            ledger.apply(from_bytes(entry.body, entry.payload))
        except Exception as error:  # a record that was changed on the disk runs into anything
            raise ValueError(f"record {entry.lsn} does not fold: {error}") from error
        ledger.touched.clear()
        ledger.posted.clear()
    return ledger


def main(arguments: list[str]) -> int:
    """Write the position and the body of a snapshot of the ledger at a path to stdout; end with the process named."""
    path, parent = arguments[0], int(arguments[1])
    tie(parent)
    if os.getppid() != parent:
        return 1  # it ended before the tie was there
    os.nice(NICE)
    gc.disable()  # a third of the work is to look through what was folded, and nothing that is dropped is a ring
    with LedgerReader(path) as reader:
        ledger = fold(reader)
        body = snapshot.to_bytes(ledger, reader.blob_of)
    sys.stdout.buffer.write(ledger.lsn.to_bytes(_HEAD, "big") + body)
    return 0


# The server's side ----------------------------------------------------------------------------------------------------


class Snapshots:
    """Has a snapshot made now and then.

    Args:
        store: where they are kept; one without a file gets none, but the one at the end.
        every: records from one to the next, where few tasks are in memory.
        platform: what decides whether a copy of this process may make them.
    """

    def __init__(self, store: Store, every: int, *, platform: str = sys.platform) -> None:
        self._store = store
        self._every = every
        self.newest = 0
        """The position of the newest snapshot, or of the last try."""
        self._may_copy = is_safe(platform)
        self._is_next_a_copy = self._may_copy
        """Not after one that failed: what is in the way of it may be there again."""
        self._copy: Copy | None = None
        self._making: asyncio.Task[None] | None = None
        """While one is made: the loop cannot wait for it."""
        self._is_closed = False

    def appended(self, ledger: Ledger) -> None:
        """Look whether it is time again; called when all records of the ledger were handed to the store, and no more.

        A copy stands for the ledger as it is now. The store takes what comes of it behind the records, so that a
        snapshot is never ahead of what is durable.
        """
        path = self._store.path
        due = self.newest + self._every + len(ledger.tasks) * _RECORDS_PER_TASK
        if path is None or ledger.lsn < due or self._making is not None or self._is_closed:
            return
        self.newest = ledger.lsn
        self._copy = self._copied(ledger) if self._is_next_a_copy else None
        self._making = asyncio.get_running_loop().create_task(self._make(path, ledger.lsn))

    async def keep(self, ledger: Ledger) -> None:
        """Keep a snapshot of a ledger that changes no more. A failure is told to the log and to nobody else."""
        try:
            await self._store.save_snapshot(Snapshot(ledger.lsn, snapshot.to_bytes(ledger, self._store.blob_of)))
        except (StoreError, MemoryError, ValueError) as error:
            log.warning("no snapshot at record %d: %s", ledger.lsn, error)
        self.newest = ledger.lsn

    async def aclose(self) -> None:
        """End the process that makes one, if there is one. None is made any more."""
        self._is_closed = True
        if self._making is not None:
            self._making.cancel()
            await asyncio.gather(self._making, return_exceptions=True)
        if self._copy is not None:
            self._copy.close()  # a task that was cancelled before it began has not

    def _copied(self, ledger: Ledger) -> Copy | None:
        # What is imported or worked out at the first use is so here: in a copy the lock for it may be held for ever.
        snapshot.to_bytes(Ledger(ledger.namespace))
        self._store.blob_of(b"")
        try:
            return Copy(lambda: snapshot.to_bytes(ledger, self._store.blob_of))
        except OSError as error:
            log.info("this process cannot be copied, another one folds the records: %s", error)
            return None

    async def _make(self, path: Path, lsn: int) -> None:
        copy = self._copy
        self._is_next_a_copy = self._may_copy and copy is None
        try:
            made = await _run_aside(path) if copy is None else Snapshot(lsn, await copy.result(_COPY_DEADLINE))
            self._is_next_a_copy = self._may_copy
            await self._store.save_snapshot(made)
            log.info("snapshot at record %d, %d bytes", made.lsn, len(made.body))
        except (OSError, StoreError) as error:
            log.warning("no snapshot was made: %s", error)
        finally:
            self._copy = self._making = None


async def _run_aside(path: Path) -> Snapshot:
    command = (sys.executable, "-P", "-m", __name__, str(path), str(os.getpid()))
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode or len(output) < _HEAD:
        said = errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise OSError(f"the process that folds {path} ended with {process.returncode}: {said}")
    return Snapshot(int.from_bytes(output[:_HEAD], "big"), output[_HEAD:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
