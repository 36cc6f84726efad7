"""The store's open path: a ledger that was damaged on the disk is told so, by an error of the store, or is opened.

The ledger that is damaged is a sound one with tasks that are open, settled and archived, claims, values, a conflict
and a snapshot. It is damaged as a file (cut off, overwritten, another file's header, a foreign write-ahead log) and as
what a program that means no good may leave in it: rows that are sound for SQLite, with other bytes inside.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from a2a.engine.policy import Policy
from a2a.engine.records import to_bytes
from a2a.engine.snapshot import to_bytes as to_snapshot
from a2a.errors import StoreError
from a2a.protocol.canonical import content_hash
from a2a.protocol.codec import JSON, Frame, pack, unpack
from a2a.protocol.messages import ConflictList, ContextRead, Credit, Hello, TaskGet, TaskList
from a2a.server import Server
from a2a.snapshots import fold
from a2a.stores.base import Entry, Snapshot
from a2a.stores.reader import LedgerReader
from a2a.stores.sqlite import SqliteStore

from .making import junk
from .play import Play
from .source import Source

__all__ = ["store"]

_TABLES = ("log", "snapshot", "archive", "conflicts", "contexts")
_COLUMNS = {
    "log": ("body", "body", "body", "last", "blobs"),
    "snapshot": ("body", "lsn"),
    "archive": ("body", "lsn", "state", "blobs"),
    "conflicts": ("body", "lsn", "tasks", "blobs"),
    "contexts": ("body", "lsn", "blobs"),
}


def store(data: bytes) -> None:
    """Open a ledger that was damaged, and read what is in it."""
    source = Source(data)
    with tempfile.TemporaryDirectory(prefix="a2a-fuzz-") as folder:
        path = Path(folder) / "ledger.db"
        path.write_bytes(_sound())
        _damage(source, path)
        try:
            with LedgerReader(path) as reader:
                fold(reader)
        except (StoreError, ValueError):
            pass  # the process that makes snapshots ends, and says why
        asyncio.run(_open(path))


async def _open(path: Path) -> None:
    server = Server(SqliteStore(path), Policy())
    try:
        await server.open()
    except StoreError:
        return
    server.coordinator.opened(1, "fresh", server.clock())
    hello = Hello(["1.0", "1.0"], "stranger", "i", 1, credit=Credit())
    asked = [
        hello,
        TaskList(limit=8),
        ConflictList(),
        ContextRead("main-c1"),
        *(TaskGet(f"main-{number}") for number in range(8, 24)),
    ]
    for number, message in enumerate(asked):
        server.coordinator.step(1, Frame(str(number), message), server.clock())
        for need in server.coordinator.ready(server.clock()).needs:
            await server._look_up(need)
    await server.aclose()


def _damage(source: Source, path: Path) -> None:
    content = bytearray(path.read_bytes())
    match source.below(6):
        case 0:
            del content[source.below(len(content)) :]
        case 1:
            head = source.take(1 + source.below(100))
            content[: len(head)] = head
        case 2:
            for _ in range(1 + source.below(8)):
                at, piece = source.below(len(content)), source.take(1 + source.below(16))
                content[at : at + len(piece)] = piece
        case 3:
            Path(f"{path}-wal").write_bytes(source.rest())
            return
        case _:
            with closing(sqlite3.connect(path)) as connection:
                for _ in range(1 + source.below(3)):
                    _damage_row(source, connection)
                connection.commit()
            return
    path.write_bytes(content)


def _damage_row(source: Source, connection: sqlite3.Connection) -> None:
    table = source.pick(_TABLES)
    rows = [row for (row,) in connection.execute(f"SELECT rowid FROM {table} ORDER BY rowid")]
    if not rows:
        return
    row, column = source.pick(rows), source.pick(_COLUMNS[table])
    if source.one_in(12):
        connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (row,))
        return
    [(value,)] = connection.execute(f"SELECT {column} FROM {table} WHERE rowid = ?", (row,))
    changed = _changed(source, value) if isinstance(value, bytes) else source.pick((0, -1, 2**40, "x", b"\xff", 1.5))
    try:
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (changed, row))
    except (sqlite3.Error, OverflowError):
        pass  # what the table itself does not take stays out of it


def _changed(source: Source, value: bytes) -> bytes:
    """Return other bytes: cut off, overwritten, or of the same form with something else in one place."""
    kind = source.below(4)
    if kind == 0:
        return value[: source.below(len(value) + 1)]
    if kind == 1:
        at, piece = source.below(len(value) + 1), source.take(1 + source.below(4))
        return value[:at] + piece + value[at + len(piece) :]
    try:
        return pack(_other(source, unpack(value)))
    except (ValueError, OverflowError, TypeError, RecursionError, UnicodeEncodeError):
        return source.take(32)


def _other(source: Source, value: Any) -> Any:
    """Return the value with something else in one place."""
    if isinstance(value, bytes) and value and source.below(4):
        return _changed(source, value)
    if isinstance(value, list) and value and source.below(8):
        at = source.below(len(value))
        return [*value[:at], _other(source, value[at]), *value[at + 1 :]]
    if isinstance(value, dict) and value and source.below(8):
        name = source.pick(list(value))
        return {**value, name: _other(source, value[name])}
    return junk(source)


@cache
def _sound() -> bytes:
    """Return the bytes of a sound ledger."""
    play = Play(Policy(linger_ms=1_000, linger_contexts_ms=1_000, conflict_rest_ms=0))
    for number, name in enumerate(("a0", "b0", "c0")):
        play.open(number)
        play.greet(number, name)
    for number in range(12):
        _say(play, 2, "task.delegate", key=f"k{number}", spec=_spec(number), payload="[]")
    for number, (connection, task, fence) in enumerate(play.attempts):
        digest = content_hash({"outcome": "completed"}, b"[%d]" % (number % 2))
        report = {"outcome": "completed", "resultHash": digest}
        if number % 4 < 3:
            _say(play, connection, "task.report", task=task, fence=fence, payload=f"[{number % 2}]", **report)
    _say(play, 0, "claim.acquire", claims=[{"name": "a/**"}], claimNo=1)
    _say(play, 1, "claim.acquire", claims=[{"name": "a/b"}], claimNo=1, waitMs=10_000)
    for number in range(3):
        _say(play, 2, "context.write", contextId="main-c1", key=f"w{number}", ops=[{"key": "k", "value": "1"}])
    for number, value in ((0, '{"a":1}'), (1, '{"b":2}')):  # two that contradict each other, and are merged
        ops = [{"key": "decisions/d", "value": value, "ifRev": 0}]
        _say(play, number, "context.write", contextId="main-c1", key=f"d{number}", ops=ops)
    for number, upto in play.sent.items():
        _say(play, number, "mailbox.ack", upto=upto)
    play.pass_time(2_000)
    play.pass_time(2_000)
    _say(play, 2, "context.write", contextId="main-c2", key="w", ops=[{"key": "k", "value": "1"}])
    assert play.attempts, "it is a ledger in which something was done"
    ledger = play.coordinator.ledger
    assert (ledger.conflicts_archived, list(ledger.contexts)) == (1, ["main-c2"]), "and which has archived of each kind"
    body, lsn = to_snapshot(ledger), ledger.lsn
    _say(play, 2, "task.delegate", key="last", spec={"skill": "t"}, payload="[]")
    with tempfile.TemporaryDirectory(prefix="a2a-fuzz-") as folder:
        path = Path(folder) / "ledger.db"
        asyncio.run(_write(path, play, Snapshot(lsn, body)))
        return path.read_bytes()


def _spec(number: int) -> dict[str, Any]:
    spec: dict[str, Any] = {"skill": "s", "acceptance": {"evaluator": ("auto", "delegator")[number % 2]}}
    return spec | ({"redundancy": {"n": 2, "policy": [{"strategy": "human"}]}} if number == 3 else {})


def _say(play: Play, number: int, kind: str, *, payload: str | None = None, **body: Any) -> None:
    frame = {"id": play.next_id(), "kind": kind, "body": body}
    for name in ("task", "fence"):
        if name in body:
            frame[name] = body.pop(name)
    play.say(number, frame | ({} if payload is None else {"payload": payload}), JSON)


async def _write(path: Path, play: Play, kept: Snapshot) -> None:
    ledger = SqliteStore(path)
    end = await ledger.open()
    entries = []
    for lsn, record in play.records:
        body, payload = to_bytes(record)
        entries.append(Entry(lsn, type(record).__name__, getattr(record, "task", None), record.at, body, payload))
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def appended(error: BaseException | None) -> None:
        assert error is None, error
        done.set_result(None)

    ledger.append(entries, end, appended, play.archived)
    await done
    await ledger.save_snapshot(kept)
    await ledger.aclose()
