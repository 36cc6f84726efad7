"""The benchmark `restart`: how long a coordinator with a ledger of a million records takes to be ready.

The engine itself writes the ledger, decision by decision as a coordinator makes them, but without connections and with
its own clock: tasks with a result each, nearly all in the archive, some still open. A coordinator is started on it
after a kill at the worst time, when the snapshot is as old as it gets, and after a stop in good order, which leaves a
snapshot of the end. It is ready when it says so on its stdout; the interpreter's start is included.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from a2a.engine import snapshot
from a2a.engine.coordinator import Coordinator
from a2a.engine.policy import Admission, Policy
from a2a.engine.records import to_bytes
from a2a.protocol.canonical import result_hash
from a2a.protocol.codec import Frame
from a2a.protocol.messages import Credit, Hello, MailboxAck, Message, TaskDelegate, TaskReport
from a2a.server import SNAPSHOT_EVERY
from a2a.stores.base import Entry, Snapshot, Store
from a2a.stores.sqlite import SqliteStore
from benchmarks import crowd
from benchmarks.machine import memory_mb
from benchmarks.processes import Processes
from benchmarks.report import Options, Result
from benchmarks.wire import card

__all__ = ["run", "write_ledger"]

RECORDS, RECORDS_QUICK = 1_000_000, 10_000
OPEN = 1_000
"""Tasks that wait for an agent at the end."""
TOGETHER = 32
"""Tasks under way at the same time."""
ROUNDS = 3
FEW = 1_000
"""More records than the starts add."""
TASK_MS = 2
"""Milliseconds of the ledger's clock from one task to the next."""
CLIENT, AGENT = 1, 2
START = 1_700_000_000_000


class _Town:
    """A coordinator without a shell, its client and its agent."""

    def __init__(self, store: Store) -> None:
        self.coordinator = Coordinator(Policy(linger_ms=1_000, admission=Admission()))
        self.now = START
        self._store = store
        self._numbers = 0
        self._waiting = asyncio.Event()
        self._behind = 0
        self.coordinator.restore((), "key", self.now)
        for connection, name, described in ((CLIENT, "client", None), (AGENT, "agent", card(crowd.SKILL))):
            self.coordinator.opened(connection, "secret", self.now)
            hello = Hello(["1.0", "1.0"], name, f"{name}-1", 1, card=described, credit=Credit(2 * TOGETHER, 256))  # type: ignore[arg-type]
            self.say(connection, hello)

    @property
    def end(self) -> int:
        """The newest record."""
        return self.coordinator.ledger.lsn

    def say(self, connection: int, message: Message) -> None:
        self._numbers += 1
        self.coordinator.step(connection, Frame(str(self._numbers), message), self.now)

    def append(self) -> list[tuple[int, Frame]]:
        """Have the store keep the records decided, and return the frames."""
        ready = self.coordinator.ready(self.now)
        entries = []
        for lsn, record in ready.records:
            body, payload = to_bytes(record)
            task = getattr(record, "task", None)
            entries.append(Entry(lsn, type(record).__name__, task, record.at, body, payload))
        if entries:
            self._behind += 1
            self._store.append(entries, entries[0].lsn - 1, self._appended, ready.archived)
        for need in ready.needs:
            # A key that looks like an archived task's; no key is used twice here, so the archive has none.
            self.coordinator.found(need, [], self.now)
        return [*ready.frames, *self.append()] if ready.needs else ready.frames

    def _appended(self, error: BaseException | None) -> None:
        if error is not None:
            raise error
        self._behind -= 1
        self._waiting.set()

    async def written(self, behind: int = 0) -> None:
        """Wait until no more than this many appends are under way."""
        while self._behind > behind:
            self._waiting.clear()
            await self._waiting.wait()

    async def work(self, upto: int, together: int = TOGETHER) -> None:
        """Have tasks done until the ledger has this many records."""
        answer = result_hash("completed", crowd.RESULT)
        while self.end < upto:
            self.now += TASK_MS * together
            self.coordinator.tick(self.now)
            for _ in range(together):
                self._delegate()
            acks: dict[int, int] = {}
            for _ in range(2):  # offers, and then what follows from the reports
                for connection, frame in self.append():
                    if frame.mseq is not None:
                        acks[connection] = frame.mseq
                    if frame.message.kind == "task.offer":
                        task, fence = frame.message.task, frame.message.fence  # type: ignore[attr-defined]
                        self.say(connection, TaskReport(task, fence, "completed", answer, crowd.RESULT))
            for connection, mseq in acks.items():
                self.say(connection, MailboxAck(mseq))
            await self.written(behind=16)

    def leave_open(self, tasks: int) -> None:
        """Delegate tasks that no agent takes any longer."""
        self.say(AGENT, Credit(0, 256))
        for _ in range(tasks):
            self._delegate()
        self.append()

    def _delegate(self) -> None:
        self.say(CLIENT, TaskDelegate(f"key-{self._numbers}", crowd.SPEC, crowd.PAYLOAD))  # type: ignore[arg-type]


async def write_ledger(path: Path, records: int, behind: int) -> None:
    """Write a ledger of this many records, and a snapshot that is `behind` records older than its end."""
    store = SqliteStore(path)
    await store.open()
    try:
        town = _Town(store)
        await town.work(records - behind)
        await _keep_snapshot(store, town)
        await town.work(records)
        town.leave_open(min(OPEN, records // 100))
        await town.written()
    finally:
        await store.aclose()


async def _keep_snapshot(store: Store, town: _Town) -> None:
    town.append()
    await town.written()
    await store.save_snapshot(Snapshot(town.end, snapshot.to_bytes(town.coordinator.ledger)))


async def _start(directory: Path, *, is_killed: bool) -> tuple[float, float]:
    """Start a coordinator and end it; return the seconds until it was ready, and its memory at that time."""
    async with Processes(directory) as processes:
        begin = time.perf_counter()
        coordinator, _ = await crowd.start_coordinator(processes, directory)
        seconds, memory = time.perf_counter() - begin, memory_mb(coordinator.pid)
        if is_killed:
            coordinator.kill()  # a stop would leave a newer snapshot
        return seconds, memory


async def run(options: Options) -> list[Result]:
    """Write the ledger, and start a coordinator on it a few times."""
    records, rounds = (RECORDS_QUICK, 1) if options.is_quick else (RECORDS, ROUNDS)
    with tempfile.TemporaryDirectory(prefix="a2a-benchmark-", dir=options.directory) as name:
        directory = Path(name)
        begin = time.perf_counter()
        # Not quite as old as a snapshot gets: the first start would have a new one made.
        await write_ledger(directory / "ledger.db", records, min(SNAPSHOT_EVERY - FEW, records // 2))
        size = (directory / "ledger.db").stat().st_size / 1e6
        print(f"a ledger of {size:.0f} MB, {time.perf_counter() - begin:.0f} s to write", file=sys.stderr)
        killed = [await _start(directory, is_killed=True) for _ in range(rounds)]
        await _start(directory, is_killed=False)
        stopped = [await _start(directory, is_killed=False) for _ in range(rounds)]
    return [
        Result("restart.records", records, "records"),
        Result("restart.stopped", round(statistics.median(seconds for seconds, _ in stopped), 3), "s"),
        Result("restart.killed", round(statistics.median(seconds for seconds, _ in killed), 3), "s"),
        Result("restart.killed.memory", round(statistics.median(memory for _, memory in killed), 1), "MB"),
    ]
