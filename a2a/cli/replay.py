"""`a2a replay`: print a ledger record by record, or verify it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ..engine import snapshot
from ..engine.archived import ArchiveEntry
from ..engine.conflicts.case import Conflict
from ..engine.context_state import Context
from ..engine.ledger import Ledger
from ..engine.records import Record, from_bytes
from ..engine.replay.archive import digest
from ..engine.replay.run import Replay
from ..engine.task_state import Task
from ..errors import StoreError
from ..stores.base import Entry
from ..stores.reader import LedgerReader
from .exits import ExitCode, Failure
from .output import Output, escape, number_of
from .story import shortened

__all__ = ["Verdict", "replay", "verify"]


@dataclass(slots=True)
class Verdict:
    """The result of replaying a ledger."""

    records: int = 0
    decisions: int = 0
    """How many decisions were run again."""
    stops: int = 0
    """How many recorded hashes of memory, from stops, were compared with the fold."""
    archived: int = 0
    """How many archived tasks, conflicts and contexts were compared."""
    state_hash: str = ""
    snapshot: int | None = None
    """The position of the snapshot that was compared with the fold from the beginning."""
    lsn: int | None = None
    """The first record that differs, or whose snapshot differs."""
    stands: str = ""
    expected: str = ""

    @property
    def is_good(self) -> bool:
        """Whether everything matches."""
        return self.lsn is None


class _UnreadableError(Exception):
    def __init__(self, lsn: int, stands: str, reason: str) -> None:
        super().__init__(reason)
        self.lsn, self.stands = lsn, stands


def _record(entry: Entry) -> Record:
    try:
        return from_bytes(entry.body, entry.payload)
    except ValueError as error:
        raise _UnreadableError(entry.lsn, entry.kind, f"a record this version knows: {error}") from error


def _records(entries: Iterator[Entry]) -> Iterator[Record]:
    for entry in entries:
        record = _record(entry)
        columns = (type(record).__name__, getattr(record, "task", None), record.at)
        if columns != (entry.kind, entry.task, entry.at):
            raise _UnreadableError(entry.lsn, f"{entry.kind} of {entry.task} at {entry.at}", repr(columns))
        yield record


def verify(reader: LedgerReader) -> Verdict:
    """Run every decision of a ledger again, and compare the results with what was recorded."""
    # The records up to here do not cover what a coordinator archives meanwhile.
    with reader.still():
        return _verify(reader)


def _verify(reader: LedgerReader) -> Verdict:
    verdict, again = Verdict(), Replay(reader.namespace())
    try:
        difference = again.run(_records(reader.entries()))
    except _UnreadableError as error:
        verdict.lsn, verdict.stands, verdict.expected = error.lsn, error.stands, str(error)
    else:
        if difference is not None:
            verdict.lsn, verdict.expected = difference.lsn, difference.expected
            verdict.stands = repr(difference.stands)
    if verdict.is_good:
        _compare_archive(reader, again.shelf, verdict)
    verdict.records, verdict.decisions, verdict.stops = again.ledger.lsn, again.decisions, again.stops
    verdict.state_hash = snapshot.state_hash(again.ledger)
    kept = reader.snapshot()
    if kept is not None and verdict.is_good:
        _compare_snapshot(reader, kept.lsn, kept.body, verdict)
    return verdict


def _compare_archive(reader: LedgerReader, shelf: dict[tuple[type, str], bytes], verdict: Verdict) -> None:
    """Compare the archive with the fold of the records; a pruned task leaves nothing to compare."""
    of_tasks = {"state": None, "skill": None, "parent": None, "context_id": None, "dead_letter": False}
    of_conflicts = {"kind": None, "object": None, "task": None}
    _compare_shelf("task", Task, _newest_first(reader.list_archived, of_tasks, reader.end + 1), shelf, verdict)
    if verdict.is_good:
        conflicts = _newest_first(reader.list_conflicts, of_conflicts, reader.end + 1)
        _compare_shelf("conflict", Conflict, conflicts, shelf, verdict)
    if verdict.is_good:
        _compare_shelf("context", Context, _contexts(reader), shelf, verdict)


def _compare_shelf(
    what: str,
    of: type[Task | Conflict | Context],
    archived: Iterator[ArchiveEntry],
    shelf: dict[tuple[type, str], bytes],
    verdict: Verdict,
) -> None:
    for kept in archived:
        verdict.archived += 1
        stands = f"{what} {kept[0]} in the archive"
        try:
            is_same = shelf.get((of, kept[0])) == digest(of, kept.body, kept.beside)
        except ValueError as error:  # a row that was changed on the disk
            is_same, stands = False, f"{stands}, which cannot be read: {error}"
        if not is_same:
            verdict.lsn, verdict.stands, verdict.expected = kept.lsn, stands, f"the {what} as the records tell it"
            return


def _newest_first(
    page: Callable[[dict[str, Any]], Sequence[ArchiveEntry]], wanted: dict[str, Any], before: int
) -> Iterator[ArchiveEntry]:
    while rows := page({**wanted, "limit": 1_000, "before": before}):
        yield from rows
        before = rows[-1].lsn


def _contexts(reader: LedgerReader) -> Iterator[ArchiveEntry]:
    after = ""
    while rows := reader.list_contexts(after, 100):
        yield from rows
        after = rows[-1].context_id


def _compare_snapshot(reader: LedgerReader, lsn: int, body: bytes, verdict: Verdict) -> None:
    """Fold the records after the snapshot, and compare with the fold from the beginning."""
    try:
        ledger: Ledger = snapshot.load(body, reader.namespace(), reader.blob)
    except (StoreError, ValueError):
        return  # a start ignores it too
    verdict.snapshot = lsn
    if ledger.lsn != lsn:  # a row that was changed on the disk: a start trusts its contents
        verdict.lsn, verdict.stands, verdict.expected = (
            ledger.lsn,
            f"its snapshot at {lsn!r}",
            "a snapshot at its record",
        )
        return
    for entry in reader.entries(lsn):
        ledger.apply(from_bytes(entry.body, entry.payload))
    found = snapshot.state_hash(ledger)
    if ledger.lsn != verdict.records or found != verdict.state_hash:
        verdict.lsn, verdict.stands = lsn, f"a snapshot that adds up to the hash {found}"
        verdict.expected = f"one that adds up to {verdict.state_hash}"


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--verify", "is_verify", is_flag=True, help="Run every decision again and compare, instead of printing.")
@click.option("--after", type=click.IntRange(min=0), default=0, help="Print only the records after this one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def replay(file: Path, is_verify: bool, after: int, as_json: bool) -> None:
    """Print the records of a ledger's FILE, one per line, even while its coordinator runs. Nothing is changed.

    With --verify: decide everything again from the recorded inputs, and compare the records, the hashes of memory that
    were recorded at stops, and the snapshot. If they differ, name the first record that does, with exit code 1.
    """
    out = Output(as_json, False)
    try:
        with LedgerReader(file) as reader:
            if is_verify:
                _tell(out, verify(reader))
            else:
                _print(out, reader.entries(after))
    except StoreError as error:
        raise Failure(str(error)) from error
    except _UnreadableError as error:
        raise Failure(f"record {error.lsn} cannot be read: expected {error}, got {error.stands}") from error


def _tell(out: Output, verdict: Verdict) -> None:
    if out.as_json:
        difference = {"lsn": verdict.lsn, "stands": verdict.stands, "expected": verdict.expected}
        counted = {"records": verdict.records, "decisions": verdict.decisions, "stops": verdict.stops}
        reached = {"archived": verdict.archived, "snapshot": verdict.snapshot, "stateHash": verdict.state_hash}
        out.record({"ok": verdict.is_good, **counted, **reached, **({} if verdict.is_good else difference)})
    else:
        folded, again = number_of(verdict.records, "record"), number_of(verdict.decisions, "decision")
        out.line(f"{folded} {'folds' if verdict.records == 1 else 'fold'}, {again} run again")
        out.line(f"state {verdict.state_hash}, compared at {number_of(verdict.stops, 'stop')} of the coordinator")
        if verdict.archived:
            out.line(f"{verdict.archived} archived tasks, conflicts and contexts match the records")
        if verdict.snapshot is not None and verdict.is_good:
            out.line(f"the snapshot of record {verdict.snapshot} and the records after it add up to the same state")
    if not verdict.is_good:
        differs = f"record {verdict.lsn} differs\n  expected  {verdict.expected}\n  got       {verdict.stands}"
        raise Failure(differs, ExitCode.FAILED)


def _print(out: Output, entries: Iterator[Entry]) -> None:
    for entry in entries:
        record = _record(entry)
        named = {item.name: getattr(record, item.name) for item in fields(record) if item.name not in ("at", "task")}
        if out.as_json:
            what = {"lsn": entry.lsn, "record": entry.kind, "version": record.version}
            readable = {name: _readable(value) for name, value in named.items()}
            out.record(what | {"kind": entry.kind, "task": entry.task, "at": entry.at, **readable})
            continue
        clock = datetime.fromtimestamp(entry.at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        shown = {name: value if isinstance(value, bytes) else _readable(value) for name, value in named.items()}
        told = "  ".join(f"{name}={shortened(value)}" for name, value in shown.items() if value not in (None, "", {}))
        out.line(escape(f"{entry.lsn:>8}  {clock}  {entry.kind:<18}  {entry.task or '-':<12}  {told}"))


def _readable(value: Any) -> Any:
    """Return a value in JSON types: bytes become text if they are text, even inside other values."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {name: _readable(item) for name, item in value.items()}
    return [_readable(item) for item in value] if isinstance(value, list | tuple) else value
