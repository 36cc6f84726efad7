"""Snapshots, made in another process, so that a start need not fold the whole log and nobody waits for them.

A snapshot is the state that the records add up to, which the server has in memory: a copy of its process writes it. If
a process must not be copied, or could not be, another process (`python -m a2a.snapshots PATH PID`, this module) reads
the records from the file and folds them onto the previous snapshot. Both return the result through a pipe, and the
server has its store keep it. Both end with the server; if they fail, only the next start takes longer.
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
"""Every snapshot writes each task in memory, which takes a copy 20 us, this process's loop 5 us, and the disk the time
for 1.5 kB; so with many tasks, snapshots are less frequent. A small task comes to four records, so that each task in
memory, however many there are, is written once for every task that is done."""
_COPY_DEADLINE = 60.0
"""Seconds a copy may take, enough for a million tasks. A copy that waits for a lock would wait forever."""
_HEAD = 8
"""Bytes before a snapshot's body that hold its position."""


# The process ----------------------------------------------------------------------------------------------------------


def fold(reader: LedgerReader) -> Ledger:
    """Return the state that the ledger's records add up to, starting from its snapshot if that can be used.

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
        except Exception as error:  # a record that was changed on the disk may raise anything
            raise ValueError(f"record {entry.lsn} does not fold: {error}") from error
        ledger.touched.clear()
        ledger.posted.clear()
    return ledger


def main(arguments: list[str]) -> int:
    """Write a snapshot's position and body to stdout, for the ledger at a path; end with the parent process."""
    path, parent = arguments[0], int(arguments[1])
    tie(parent)
    if os.getppid() != parent:
        return 1  # the parent ended before the tie was made
    os.nice(NICE)
    gc.disable()  # a third of the time would go into looking for reference cycles, and nothing that is dropped is one
    with LedgerReader(path) as reader:
        ledger = fold(reader)
        body = snapshot.to_bytes(ledger, reader.blob_of)
    sys.stdout.buffer.write(ledger.lsn.to_bytes(_HEAD, "big") + body)
    return 0


# The server's side ----------------------------------------------------------------------------------------------------


class Snapshots:
    """Makes snapshots from time to time.

    Args:
        store: where they are kept; a store without a file gets only the one at the end.
        every: records between snapshots, if few tasks are in memory.
        platform: decides whether a copy of this process may make them.
    """

    def __init__(self, store: Store, every: int, *, platform: str = sys.platform) -> None:
        self._store = store
        self._every = every
        self.newest = 0
        """The position of the newest snapshot, or of the last try."""
        self._may_copy = is_safe(platform)
        self._is_next_a_copy = self._may_copy
        """False after a copy that failed: its obstacle may be there again."""
        self._copy: Copy | None = None
        self._making: asyncio.Task[None] | None = None
        """Set while a snapshot is being made: the loop cannot wait for it."""
        self._is_closed = False

    def appended(self, ledger: Ledger) -> None:
        """Make a snapshot if it is time; called when the store was handed all records of the ledger, and no others.

        A copy stands for the ledger as it is now. The store takes the snapshot after those records, so that it is never
        ahead of what is durable.
        """
        path = self._store.path
        due = self.newest + self._every + len(ledger.tasks) * _RECORDS_PER_TASK
        if path is None or ledger.lsn < due or self._making is not None or self._is_closed:
            return
        self.newest = ledger.lsn
        self._copy = self._copied(ledger) if self._is_next_a_copy else None
        self._making = asyncio.get_running_loop().create_task(self._make(path, ledger.lsn))

    async def keep(self, ledger: Ledger) -> None:
        """Keep a snapshot of a ledger that changes no more. A failure is only logged."""
        try:
            await self._store.save_snapshot(Snapshot(ledger.lsn, snapshot.to_bytes(ledger, self._store.blob_of)))
        except (StoreError, MemoryError, ValueError) as error:
            log.warning("no snapshot at record %d: %s", ledger.lsn, error)
        self.newest = ledger.lsn

    async def aclose(self) -> None:
        """End the process that makes a snapshot, if there is one, and make no more."""
        self._is_closed = True
        if self._making is not None:
            self._making.cancel()
            await asyncio.gather(self._making, return_exceptions=True)
        if self._copy is not None:
            self._copy.close()  # a task that is cancelled before it begins has not closed it

    def _copied(self, ledger: Ledger) -> Copy | None:
        # Imports and first-use work happen here: in a copy their lock may be held forever.
        snapshot.to_bytes(Ledger(ledger.namespace))
        self._store.blob_of(b"")
        try:
            return Copy(lambda: snapshot.to_bytes(ledger, self._store.blob_of))
        except OSError as error:
            log.info("this process cannot be copied; another process folds the records: %s", error)
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
