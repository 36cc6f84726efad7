"""`a2a replay`: a ledger is read, and proven."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from jsonschema import Draft202012Validator

from a2a import Agent, Policy, Server, SqliteStore, TaskFailed, connect
from a2a.cli.replay import verify
from a2a.engine import plain
from a2a.engine.conflicts.case import Conflict
from a2a.engine.context_state import Context
from a2a.engine.record_schemas import export_records
from a2a.engine.records import ClaimEnded, ContextWritten, Settled, from_bytes, to_bytes
from a2a.engine.task_state import Task
from a2a.hosting import reading
from a2a.protocol.codec import pack, unpack
from a2a.stores.base import Entry
from a2a.stores.reader import LedgerReader
from a2a.stores.rows import LARGE_BYTES
from a2a.testing import squad
from tests.ledger_file import change_entry, change_record, entries_of, write_entries


async def doubled(path: Path, *values: Any) -> Path:
    """Have values doubled, a task each, under a coordinator that stops in good order, and return its ledger."""
    helper = Agent("helper")

    @helper.skill()
    async def double(value: Any) -> Any:
        return 2 * value

    async with squad(helper, store=SqliteStore(path)) as running:
        for number, value in enumerate(values, 1):
            async with running.client.delegate("double", {"value": value}, key=f"k{number}") as task:
                assert await task.result() == 2 * value
    return path


@pytest.fixture
async def ledger(tmp_path: Path) -> Path:
    """A ledger of two tasks that were done."""
    return await doubled(tmp_path / "ledger.db", 1, 2)


def test_a_ledger_of_another_namespace_adds_up_before_it_has_tasks(command: Any, tmp_path: Path) -> None:
    async def run() -> None:
        server = Server(SqliteStore(tmp_path / "l.db"), Policy(namespace="other"))
        await server.open()
        await server.aclose()

    anyio.run(run)
    assert command("replay", str(tmp_path / "l.db"), "--verify").code == 0


def settle_otherwise(path: Path) -> int:
    """Say in the stored record that the first task ended in another way, and return the record's position."""
    return change_record(path, Settled, lambda record: setattr(record, "state", "canceled"))


def test_a_sound_ledger_adds_up(command: Any, ledger: Path) -> None:
    done = command("replay", str(ledger), "--verify")
    assert done.code == 0
    first, state, kept = done.out.splitlines()
    assert "decisions run again" in first
    assert "compared at 1 stop of the coordinator" in state
    assert kept.endswith("add up to the same state")
    told = json.loads(command("replay", str(ledger), "--verify", "--json").out)
    assert (told["ok"], told["stops"], told["snapshot"]) == (True, 1, told["records"])
    assert told["stateHash"] in state


def test_a_record_that_was_touched_is_named(command: Any, ledger: Path) -> None:
    lsn = settle_otherwise(ledger)
    done = command("replay", str(ledger), "--verify")
    assert done.code == 1
    assert f"record {lsn} differs" in done.err
    assert "state='canceled'" in done.err
    told = json.loads(command("replay", str(ledger), "--verify", "--json").out)
    assert (told["ok"], told["lsn"]) == (False, lsn)
    assert "state='completed'" in told["expected"]


async def test_a_claim_that_was_touched_is_named(command: Any, tmp_path: Path) -> None:
    path = tmp_path / "claims.db"
    async with squad(Agent("helper"), store=SqliteStore(path)) as running:
        async with running.client.claim("repo/a/**"):
            pass
        async with running.client.claim("repo/**", ("doc", "s"), priority=3):
            pass
    assert (await anyio.to_thread.run_sync(lambda: command("replay", str(path), "--verify"))).code == 0
    lsn = change_record(path, ClaimEnded, lambda record: setattr(record, "reason", "ended"))
    done = await anyio.to_thread.run_sync(lambda: command("replay", str(path), "--verify"))
    assert (done.code, f"record {lsn} differs" in done.err) == (1, True)
    assert "reason='ended'" in done.err


def test_a_payload_that_was_touched_is_named(command: Any, ledger: Path) -> None:
    lsn = next(entry.lsn for entry in entries_of(ledger) if entry.kind == "Reported")
    change_entry(ledger, lsn, payload=b"[3]")
    done = command("replay", str(ledger), "--verify")
    assert (done.code, f"record {lsn} differs" in done.err) == (1, True)


def test_a_value_of_a_context_that_was_touched_is_named(command: Any, tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"

    async def write() -> None:
        async with squad(store=SqliteStore(path)) as running:
            context = running.client.context("plans")
            await context.put("decisions/db", {"engine": "sqlite"}, if_rev=0)
            await context.patch("decisions/db", [{"op": "replace", "path": "/engine", "value": "postgres"}], if_rev=1)

    anyio.run(write)
    assert command("replay", str(path), "--verify").code == 0
    printed = command("replay", str(path))
    assert (printed.code, "changes=[{" in printed.out) == (0, True)
    written = [json.loads(line) for line in command("replay", str(path), "--json").out.splitlines()]
    [change] = next(record["changes"] for record in written if record["record"] == "ContextWritten")
    assert json.loads(change["value"]) == {"engine": "sqlite"}
    entry = [entry for entry in entries_of(path) if entry.kind == "ContextWritten"][-1]
    record, lsn = from_bytes(entry.body, entry.payload), entry.lsn
    assert isinstance(record, ContextWritten)
    record.changes[0]["value"] = b'{"engine":"mysql"}'
    change_entry(path, lsn, body=to_bytes(record)[0])
    done = command("replay", str(path), "--verify")
    assert done.code == 1
    assert f"record {lsn} differs" in done.err
    assert "postgres" in done.err


@pytest.mark.parametrize(
    ("lsn", "fields", "reason"),
    [(3, {"body": b"\x91"}, "a record this version knows"), (1, {"kind": "Offered"}, "CoordinatorStarted")],
)
def test_what_is_no_record_is_named(command: Any, ledger: Path, lsn: int, fields: dict[str, Any], reason: str) -> None:
    change_entry(ledger, lsn, **fields)
    done = command("replay", str(ledger), "--verify")
    assert done.code == 1
    assert reason in done.err


def test_a_record_that_is_missing_is_named(command: Any, ledger: Path) -> None:
    entries = entries_of(ledger)
    write_entries(ledger, [entries[:2], entries[3:]])
    done = command("replay", str(ledger), "--verify")
    assert done.code == 1
    assert "entry 3 is missing" in done.err


def test_a_snapshot_that_says_something_else_is_named(ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as connection:
        [(lsn, body)] = connection.execute("SELECT lsn, body FROM snapshot")
        blobs, state = unpack(plain.checked(body))
        version, shapes, value = unpack(state)
        changed = unpack(value)
        names = unpack(shapes)["_State"]
        changed[names.index("epoch")] += 1
        connection.execute("UPDATE snapshot SET body = ?", (pack([blobs, pack([version, shapes, pack(changed)])]),))
        connection.commit()
    with LedgerReader(ledger) as reader:
        verdict = verify(reader)
    assert (verdict.is_good, verdict.lsn) == (False, lsn)
    assert "a snapshot that adds up to" in verdict.stands


@pytest.mark.parametrize("stands", [1, b"x", "text"])
def test_a_snapshot_in_the_place_of_another_is_named(ledger: Path, stands: Any) -> None:
    with closing(sqlite3.connect(ledger)) as connection:
        [(lsn,)] = connection.execute("SELECT lsn FROM snapshot")
        connection.execute("UPDATE snapshot SET lsn = ?", (stands,))
        connection.commit()
    with LedgerReader(ledger) as reader:
        verdict = verify(reader)
    assert (verdict.is_good, verdict.lsn, verdict.stands) == (False, lsn, f"its snapshot at {stands!r}")


def archive_first(path: Path) -> str:
    """Start a coordinator that keeps nothing in memory, until its tasks have left; return the first task."""

    async def run() -> str:
        server = Server(SqliteStore(path), Policy(linger_ms=0, linger_contexts_ms=0))
        await server.open()
        tasks = [str(entry.task) for entry in server.store.read() if entry.kind == "Delegated"]
        with anyio.fail_after(30):
            ledger = server.coordinator.ledger
            while ledger.tasks or ledger.conflicts or ledger.contexts:  # noqa: ASYNC110 - that they leave is told to nobody
                await anyio.sleep(0.01)
        await server.aclose()
        return tasks[0]

    return anyio.run(run)


def test_the_archive_is_compared_with_what_the_records_tell(command: Any, ledger: Path) -> None:
    task = archive_first(ledger)
    assert (
        "2 archived tasks, conflicts and contexts match the records" in command("replay", str(ledger), "--verify").out
    )
    with closing(sqlite3.connect(ledger)) as connection:
        [(body,)] = connection.execute("SELECT body FROM archive WHERE task = ?", (task,))
        changed = plain.from_bytes(Task, body)
        changed.results[0].payload = b'["something else"]'
        connection.execute("UPDATE archive SET body = ? WHERE task = ?", (plain.to_bytes(changed), task))
        connection.commit()
    done = command("replay", str(ledger), "--verify")
    assert done.code == 1
    assert f"task {task} in the archive" in done.err


def test_an_archived_task_that_cannot_be_read_is_named(command: Any, ledger: Path) -> None:
    task = archive_first(ledger)
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute("UPDATE archive SET body = x'00' WHERE task = ?", (task,))
        connection.commit()
    done = command("replay", str(ledger), "--verify")
    assert done.code == 1
    assert f"got       task {task} in the archive, which cannot be read" in done.err


def test_what_is_archived_meanwhile_is_not_compared(
    command: Any, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = LedgerReader.entries
    was_archived: list[str] = []

    def entries(reader: LedgerReader, after: int = 0) -> Iterator[Entry]:
        yield from read(reader, after)
        if not was_archived:
            was_archived.append(archive_first(ledger))

    monkeypatch.setattr(LedgerReader, "entries", entries)
    told = json.loads(command("replay", str(ledger), "--verify", "--json").out)
    assert (told["ok"], told["archived"], len(was_archived)) == (True, 0, 1)
    later = json.loads(command("replay", str(ledger), "--verify", "--json").out)
    assert (later["ok"], later["archived"], later["records"] > told["records"]) == (True, 2, True)


async def test_an_archived_conflict_is_compared_and_shown(command: Any, tmp_path: Path) -> None:
    path, rivals = tmp_path / "ledger.db", [Agent("one"), Agent("two")]
    for rival in rivals:

        @rival.skill()
        async def guess(answer: str = rival.name) -> str:
            return answer

    async with squad(*rivals, store=SqliteStore(path)) as running:
        async with running.client.delegate("guess", copies=2, resolve=["abort"], key="q") as task:
            with pytest.raises(TaskFailed):
                await task.result()
        [was] = await running.client.conflicts()
    await anyio.to_thread.run_sync(archive_first, path)
    done = await anyio.to_thread.run_sync(lambda: command("replay", str(path), "--verify"))
    assert "4 archived tasks, conflicts and contexts match the records" in done.out
    async with reading(path) as settings, connect(name="reader", settings=settings) as client:
        assert await client.conflicts() == [was]
    with closing(sqlite3.connect(path)) as connection:
        [(body,)] = connection.execute("SELECT body FROM conflicts")
        changed = plain.from_bytes(Conflict, body)
        changed.outcome = "select"
        connection.execute("UPDATE conflicts SET body = ?", (plain.to_bytes(changed),))
        connection.commit()
    done = await anyio.to_thread.run_sync(lambda: command("replay", str(path), "--verify"))
    assert (done.code, f"conflict {was['conflict']} in the archive" in done.err) == (1, True)


async def test_an_archived_context_is_compared_and_shown(command: Any, tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    async with squad(store=SqliteStore(path)) as running:
        await running.client.context("plans").put("a", 1)
        async with running.client.delegate("nobody", key="k") as task:
            await task.cancel()
    await anyio.to_thread.run_sync(archive_first, path)
    done = await anyio.to_thread.run_sync(lambda: command("replay", str(path), "--verify"))
    assert "2 archived tasks, conflicts and contexts match the records" in done.out
    async with reading(path) as settings, connect(name="reader", settings=settings) as client:
        assert (await client.context("plans").get("a")).value == 1
    with closing(sqlite3.connect(path)) as connection:
        [(body,)] = connection.execute("SELECT body FROM contexts")
        changed = plain.from_bytes(Context, body)
        changed.entries["a"].revisions[0].payload = b"2"
        connection.execute("UPDATE contexts SET body = ?", (plain.to_bytes(changed),))
        connection.commit()
    done = await anyio.to_thread.run_sync(lambda: command("replay", str(path), "--verify"))
    assert (done.code, "context plans in the archive" in done.err) == (1, True)


@pytest.fixture
async def heavy(tmp_path: Path) -> Path:
    """A ledger of one task with large payloads."""
    return await doubled(tmp_path / "heavy.db", "x" * LARGE_BYTES)


def test_a_task_with_large_payloads_adds_up_and_is_shown_from_the_archive(command: Any, heavy: Path) -> None:
    task = archive_first(heavy)
    assert "1 archived tasks, conflicts and contexts match the records" in command("replay", str(heavy), "--verify").out
    with closing(sqlite3.connect(heavy)) as connection:
        [(archived,)] = connection.execute("SELECT length(body) FROM archive")
        [(logged,)] = connection.execute("SELECT total(length(body)) FROM log")
    assert (archived < 4_096, logged < 16_384) == (True, True), "what is large is not in it"

    async def look() -> dict[str, Any]:
        async with reading(heavy) as settings, connect(name="reader", settings=settings) as client:
            return await client.get(task)

    [artifact] = anyio.run(look)["artifacts"]
    assert "x" * 2 * LARGE_BYTES in str(artifact)
    blob = next(file for file in Path(f"{heavy}.blobs").rglob("*") if file.is_file())
    blob.write_bytes(b"damaged")
    done = command("replay", str(heavy), "--verify")
    assert done.code == 1
    assert f"{blob}: a large payload of this ledger is damaged" in done.err


def test_an_archived_task_tells_its_story_without_a_coordinator(ledger: Path) -> None:
    task = archive_first(ledger)

    async def look() -> tuple[dict[str, Any], list[str]]:
        async with reading(ledger) as settings, connect(name="reader", settings=settings) as client:
            events = []
            async for event in client.watch(task):
                events.append(event.kind)
                if event.kind == "complete":
                    break
            return await client.get(task), events

    shown, events = anyio.run(look)
    assert (shown["id"], shown["metadata"]["state"]) == (task, "completed")
    assert events == ["created", "grant", "report", "complete"]


def test_a_snapshot_of_another_version_is_left_aside(ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute("UPDATE snapshot SET body = x'00'")
        connection.commit()
    with LedgerReader(ledger) as reader:
        verdict = verify(reader)
    assert (verdict.is_good, verdict.snapshot) == (True, None)


def test_the_log_is_printed_one_line_a_record(command: Any, ledger: Path) -> None:
    with LedgerReader(ledger) as reader:
        kinds = [entry.kind for entry in reader.entries()]
    lines = command("replay", str(ledger)).out.splitlines()
    assert [line.split()[3] for line in lines] == kinds
    assert [int(line.split()[0]) for line in command("replay", str(ledger), "--after", "4").out.splitlines()][0] == 5
    shown = [json.loads(line) for line in command("replay", str(ledger), "--json").out.splitlines()]
    assert [line["kind"] for line in shown] == kinds
    assert next(line["payload"] for line in shown if line["kind"] == "Reported").startswith("[")
    schemas = export_records()
    for line in shown:
        Draft202012Validator(schemas[f"{line['record']}.json"]).validate(line)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_the_log_is_printed_up_to_what_is_no_record(command: Any, ledger: Path, options: tuple[str, ...]) -> None:
    change_entry(ledger, 3, body=b"\x91")
    done = command("replay", str(ledger), *options)
    assert (done.code, len(done.out.splitlines())) == (1, 2)
    assert done.err.startswith("a2a: record 3 cannot be read: expected a record this version knows")


def test_what_is_no_ledger_says_so(command: Any, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("nothing of the kind" * 100)
    done = command("replay", str(tmp_path / "x"), "--verify")
    assert done.code == 1
    assert "cannot be read" in done.err
