"""The simulated shell of the coordinator: receive, decode, step, append, send, as `a2a.server` does.

What arrives within one millisecond is stepped at once and appended as one batch; appends overlap; frames leave when all
decisions before them are durable. The coordinator inside is the real one, overheard in two places: the court hears each
record as it becomes true, and each frame as it is sent.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from a2a.engine import snapshot
from a2a.engine.conflicts.bench import Answer, Job, do
from a2a.engine.coordinator import Coordinator
from a2a.engine.decision import Decision, Need, Ready, Row
from a2a.engine.fetching import Fetched
from a2a.engine.live import Connection as Seat
from a2a.engine.records import Record, to_bytes
from a2a.protocol.codec import BadFrame, Decoder, Frame, encode
from a2a.protocol.messages import Message

from .court import Court
from .disk import Disk, Stored
from .liveness import fold
from .network import Connection
from .profiles import Profile
from .timeline import brief
from .world import Event, World

__all__ = ["EPOCH_MS", "FATAL", "Fatal", "SimServer"]

EPOCH_MS = 1_700_000_000_000
"""The wall clock when the world begins."""


class Heard(Coordinator):
    """The real coordinator, overheard by the court."""

    court: Court

    def _commit(self, record: Record) -> None:
        self.court.committing(record, self.ledger.lsn + 1)
        super()._commit(record)
        self.court.committed(record, self.ledger.lsn)

    def step(self, connection: int, frame: Frame | BadFrame, now: int) -> None:
        self.court.arrived(connection)
        super().step(connection, frame, now)

    def _conclude(self, sender: Seat, frame: Frame, refusal: Decision | None, now: int, fetched: Fetched) -> None:
        self.court.stepping(sender.id, frame, now)
        super()._conclude(sender, frame, refusal, now, fetched)
        self.court.stepped()

    def _answer_bad(self, sender: Seat, frame: BadFrame) -> None:
        self.court.stepping(sender.id, frame, self.ledger.at)
        super()._answer_bad(sender, frame)
        self.court.stepped()

    def _send(self, to: Seat, message: Message, *, re: str | None = None) -> None:
        super()._send(to, message, re=re)
        self.court.said(to.id, message, re)


Fatal = Literal["before", "during", "after"]
"""When a process dies: before the append, while it is under way, or when it is durable but nothing was sent yet."""
FATAL: tuple[Fatal, ...] = ("before", "during", "after")
_JOB_LASTS = (15, 15, 4_000)
"""Milliseconds that a job takes at most: over soon, or so long that other answers come in the meantime."""


@dataclass(slots=True)
class _Batch:
    ready: Ready
    fatal: Fatal | None = None
    """The process dies at this append."""


@dataclass(slots=True)
class _Line:
    connection: Connection
    decoder: Decoder


class SimServer:
    """One coordinator process after the other, on one disk."""

    def __init__(self, world: World, profile: Profile, disk: Disk, court: Court) -> None:
        policy = profile.policy
        self.world = world
        self._profile = profile
        self.policy = policy
        self.disk = disk
        self.court = court
        self.is_up = False
        self.crashes = 0
        self.wall_offset = 0
        """How far the wall clock is from the world's, as this process found it at its start."""
        self.dies_at_append = 0.0
        """Chance that an append is the process's last."""
        self.dies_at: tuple[int, Fatal] | None = None
        """The append, counted from 1, that is the process's last."""
        self.appends = 0
        self.restart_pause: tuple[int, int] = (100, 5_000)
        self.wall_jump = 0
        self.coordinator: Heard = None  # type: ignore[assignment]
        self._chance = world.chance("server")
        self._looks = world.chance("archive")
        self._jobs = world.chance("jobs")
        self._lines: dict[int, _Line] = {}
        self._in_flight: deque[_Batch] = deque()
        self._flushing: Event | None = None
        self._timer: Event | None = None
        self._timer_at: int | None = None
        self._secrets = 0

    def clock(self) -> int:
        """Return the time in this process: the wall clock at its start, and on from there."""
        return EPOCH_MS + self.wall_offset + self.world.now

    def world_time(self, clock: int) -> int:
        """Return the world's time at which this process's clock will show a time."""
        return clock - EPOCH_MS - self.wall_offset

    # The process's life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a process with what the disk has."""
        if self.is_up:
            return
        self.is_up = True
        self._in_flight.clear()
        self._lines.clear()
        self._timer = self._timer_at = self._flushing = None
        if self.wall_jump:
            self.wall_offset += self._chance.randint(-self.wall_jump, self.wall_jump)
        records = self.disk.read()
        newest = max((record.at for record in records), default=0)
        if self.clock() < newest:
            self.wall_offset += newest - self.clock()  # the clock continues from the ledger, and is never behind it
        self.coordinator = Heard(self.policy, durability="fsync")
        self.coordinator.court = self.court
        self.court.starting(self.coordinator, records, self.clock())
        stored = self.disk.read()
        if self._looks.random() < 0.5:
            kept = self._looks.randint(0, len(stored))
            self.coordinator.load(snapshot.to_bytes(fold(stored[:kept], self.policy.namespace)))
            stored = stored[kept:]
        self.coordinator.restore(stored, "key", self.clock())
        self.court.started()
        if self.world.timeline is not None:
            self.world.tell("coordinator", f"STARTS, epoch {self.coordinator.ledger.epoch}, {len(records)} records")
        self._wake()

    def crash(self, reason: str, *, keep: int | None = None, restart: bool = True) -> None:
        """Kill the process; what it was writing may be there or not."""
        if not self.is_up:
            return
        self.is_up = False
        self.crashes += 1
        self.disk.crash(keep)
        if self.world.timeline is not None:
            self.world.tell("coordinator", f"CRASHES ({reason}), {self.disk.durable} records are durable")
        World.call_off(self._timer)
        World.call_off(self._flushing)
        self.court.crashed(self.coordinator, self.disk.durable)
        for line in list(self._lines.values()):
            keep_down = self._chance.random()
            line.connection.break_(
                "the coordinator is gone", peer_knows=self._chance.randint(0, 200), keep=(0, keep_down)
            )
        self._lines.clear()
        if restart:
            self.world.after(self._chance.randint(*self.restart_pause), self.start)

    # Connections ------------------------------------------------------------------------------------------------------

    def accept(self, connection: Connection) -> None:
        """Take a connection."""
        number = connection.number
        decoder = Decoder(connection.encoding, self.policy.frame_limits)  # type: ignore[arg-type]
        self._lines[number] = _Line(connection, decoder)
        connection.up.deliver = lambda data: self._received(number, data)
        connection.server_closed = lambda reason: self._closed(number)
        self._secrets += 1
        self.coordinator.opened(number, f"secret-{self._secrets}", self.clock())

    def _received(self, number: int, data: bytes) -> None:
        line = self._lines.get(number)
        if line is None or not self.is_up:
            return
        self.world.mark(b"<", data)
        now = self.clock()
        for frame in line.decoder.decode(data):
            self._step(number, frame, now)
        self._wake()

    def _step(self, number: int, frame: Frame | BadFrame, now: int) -> None:
        if self.world.timeline is not None:
            seat = self.coordinator.live.connections.get(number)
            self.world.tell("coordinator", f"< [{seat.agent if seat else 'closed'}:{number}] {brief(frame)}")
        self.coordinator.step(number, frame, now)

    def _closed(self, number: int) -> None:
        if self._lines.pop(number, None) is None or not self.is_up:
            return
        now = self.clock()
        self.court.closing(number, now)
        self.coordinator.closed(number, now)
        self.court.stepped()
        self._wake()

    # Flushing, as in a2a.server ---------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._flushing is None:
            self._flushing = self.world.after(0, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        ready = self.coordinator.ready(self.clock())
        self.court.handed_out(ready)
        for job in ready.jobs:
            lasts = self._jobs.randint(0, self._jobs.choice(_JOB_LASTS))
            self.world.after(lasts, self._answered, self.coordinator, job)
        if ready.records:
            entries: list[Stored] = [to_bytes(record) for _, record in ready.records]
            batch = _Batch(ready)
            self.appends += 1
            if self.dies_at is not None and self.dies_at[0] == self.appends:
                batch.fatal = self.dies_at[1]
            elif self.dies_at_append and self._chance.random() < self.dies_at_append:
                batch.fatal = self._chance.choice(FATAL)
            if self.world.timeline is not None:
                for lsn, record in ready.records:
                    self.world.tell("coordinator", f"= {lsn} {brief(record)}")
            self._in_flight.append(batch)
            if batch.fatal == "during":
                self.world.after(self._chance.randint(0, 3), self.crash, "around an append")
            elif batch.fatal == "before":
                self.crash("before an append")
                return
            self.disk.append(entries, self._appended, ready.archived)
        elif self._in_flight:
            last = self._in_flight[-1].ready
            last.frames.extend(ready.frames)
            last.closes.extend(ready.closes)
            last.needs.extend(ready.needs)
        else:
            self._send(ready)
        self._arm()

    def _appended(self, stored: bool) -> None:
        if not stored:
            self.crash("an append failed", keep=0)
            return
        batch = self._in_flight.popleft()
        if batch.fatal == "after":
            self.crash("after an append, before the sends", keep=0)
            return
        self._send(batch.ready)

    def _send(self, ready: Ready) -> None:
        by_line: dict[int, list[Frame]] = {}
        for number, frame in ready.frames:
            by_line.setdefault(number, []).append(frame)
        for number, frames in by_line.items():
            line = self._lines.get(number)
            if line is None:
                continue
            if self.world.timeline is not None:
                for frame in frames:
                    self.world.tell("coordinator", f"> [{frame.to}:{number}] {brief(frame)}")
            encoding = line.connection.encoding
            gathers = self._profile.frames_per_message
            for start in range(0, len(frames), gathers):
                line.connection.down.send(encode(frames[start : start + gathers], encoding))  # type: ignore[arg-type]
            if line.connection.down.is_slow and line.connection.down.waiting > self._profile.outbox_messages:
                self.world.after(0, self._give_up, line.connection)
        for number, _ in ready.closes:
            line = self._lines.get(number)
            if line is not None:
                line.connection.close_from_server()
                # The engine has closed it already; the shell hears of the end as of any other.
                self._lines.pop(number)

        for need in ready.needs:
            self.world.after(self._looks.randint(*self.disk.latency), self._look_up, self.coordinator, need)

    def _look_up(self, asking: Heard, need: Need) -> None:
        rows = self.disk.look_up(need)
        self.world.after(self._looks.randint(*self.disk.latency), self._found, asking, need, rows)

    def _found(self, asking: Heard, need: Need, rows: list[Row]) -> None:
        if not self.is_up or self.coordinator is not asking:
            return  # that process is gone
        asking.found(need, rows, self.clock())
        self._wake()

    def _answered(self, asking: Heard, job: Job) -> None:
        if not self.is_up or self.coordinator is not asking:
            return  # the process that wanted to know is gone
        answer = Answer(-1, "it took too long") if self._jobs.random() < 0.02 else do(job)
        now = self.clock()
        self.court.working(now)
        asking.answered(job, answer, now)
        self.court.stepped()
        self._wake()

    def _give_up(self, connection: Connection) -> None:
        if self.world.timeline is not None:
            self.world.tell("coordinator", f"gives up connection {connection.number}: its outbox is full")
        connection.break_("the outbox is full", peer_knows=self._chance.randint(0, 5_000), keep=(0, 0))

    def _arm(self) -> None:
        deadline = self.coordinator.next_deadline()
        if deadline == self._timer_at:
            return
        World.call_off(self._timer)
        self._timer = None
        self._timer_at = deadline
        if deadline is not None:
            self._timer = self.world.at(max(self.world.now, self.world_time(deadline)), self._tick)

    def _tick(self) -> None:
        self._timer = self._timer_at = None
        now = self.clock()
        self.court.ticking(now)
        self.coordinator.tick(now)
        self.court.stepped()
        self._wake()
