"""Ledgers of every version that was released open in the code of today, and say what they said."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from a2a import Policy, SqliteStore
from a2a.cli.replay import verify
from a2a.engine import records as records_module
from a2a.engine.coordinator import Coordinator
from a2a.engine.records import Record, Settled, from_bytes
from a2a.engine.replay.run import Replay
from a2a.errors import StoreError
from a2a.protocol.codec import pack, unpack
from a2a.stores import database
from a2a.stores.base import Entry
from a2a.stores.database import MIGRATIONS
from a2a.stores.reader import LedgerReader
from a2a.testing import squad
from tests.ledger_file import insert

from . import ledgers

FROZEN = Path(__file__).parents[3] / "spec" / "frozen"
VERSIONS = sorted(path.name for path in FROZEN.iterdir() if path.is_dir())
FORMS = [
    pytest.param(version, form, id=f"{version}-form{form}") for version in VERSIONS for form in (1, 2, len(MIGRATIONS))
]
ENDS = {"main-10": "completed", "main-22": "failed", "main-38": "canceled", "main-50": "completed", "main-72": "queued"}
"""What became of the tasks of the ledger of 1.0."""


def lines(version: str, name: str) -> list[dict[str, Any]]:
    text = (FROZEN / version / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def stored(line: dict[str, Any]) -> tuple[bytes, bytes | None]:
    return bytes.fromhex(line["body"]), None if line["payload"] is None else bytes.fromhex(line["payload"])


def read(version: str) -> list[Record]:
    return [from_bytes(*stored(line)) for line in lines(version, "ledger")]


def write(path: Path, entries: list[dict[str, Any]], form: int) -> Path:
    """Make a ledger's file as the software did whose database had the first so many migrations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", MIGRATIONS[:form])
        database.create(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (form,)
        rows = [Entry(line["lsn"], line["kind"], line["task"], line["at"], *stored(line)) for line in entries]
        if form < 3:  # a row for each entry
            statement = "INSERT INTO log (lsn, kind, task, at, body, payload) VALUES (?, ?, ?, ?, ?, ?)"
            connection.executemany(statement, rows)
        else:
            insert(connection, [rows], path)
        connection.commit()
    return path


@pytest.mark.parametrize("version", VERSIONS)
def test_each_record_of_a_released_version_is_read(version: str) -> None:
    """And where its form is that of today, with every field as it was."""
    for line in lines(version, "records"):
        record = from_bytes(*stored(line))
        assert type(record).__name__ == line["record"]
        if type(record).version == line["version"]:
            values = {item.name: getattr(record, item.name) for item in fields(record)}
            shown = {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}
            assert line["fields"].items() <= shown.items()


def test_a_version_that_is_to_be_released_is_written_alike(tmp_path: Path) -> None:
    ledgers.write(tmp_path)
    for name in ("ledger", "records"):
        written = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text("utf-8").splitlines()]
        assert written[0].keys() == lines("1.0", name)[0].keys()
        assert [type(from_bytes(*stored(line))).__name__ for line in written] == [
            line.get("record", line.get("kind")) for line in written
        ]
    assert [type(record) for record in ledgers.one_of_each()] == list(records_module.RECORDS.values())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_released_ledger_is_decided_again_as_it_was(version: str) -> None:
    assert Replay("main").run(read(version)) is None


@pytest.mark.parametrize(("version", "form"), FORMS)
async def test_a_released_ledger_opens_and_work_goes_on(version: str, form: int, tmp_path: Path) -> None:
    path = write(tmp_path / "ledger.db", lines(version, "ledger"), form)
    async with squad(store=SqliteStore(path), policy=Policy(linger_ms=10**12)) as running:
        for task, state in ENDS.items():
            shown = await running.client.get(task)
            assert shown["metadata"]["state"] == state, task
        assert shown["metadata"]["skill"] == "nobody-has-it"
        assert await running.client.cancel("main-72") == "canceled"
        plan = await running.client.context("plans").get("plan")
        assert (plan.value, plan.rev) == ({"a": 1, "b": 2}, 2)
    with LedgerReader(path) as reader:
        assert reader.end > len(lines(version, "ledger"))
        assert verify(reader).is_good


def test_a_record_whose_form_has_changed_is_brought_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """No record has changed yet; this one has two older forms for the time of the test."""
    monkeypatch.setattr(Settled, "version", 3)
    upgrades = {
        ("Settled", 1): lambda named: named | {"by": named["by"].upper()},
        ("Settled", 2): lambda named: named | {"detail": f"by {named['by']}"},
    }
    monkeypatch.setattr(records_module, "_UPGRADES", upgrades)
    ledger = read("1.0")
    ended = {record.task: record for record in ledger if isinstance(record, Settled)}
    assert ended["main-10"].detail == "by DESK"
    coordinator = Coordinator(Policy())
    coordinator.restore(ledger, "key", ledger[-1].at)
    end = coordinator.ledger.tasks["main-10"].settled
    assert end is not None and (end.state, end.by) == ("completed", "DESK")


async def test_a_record_of_a_newer_form_is_refused_and_the_ledger_left_as_it_is(tmp_path: Path) -> None:
    entries = lines("1.0", "ledger")
    name, version, values = unpack(bytes.fromhex(entries[-1]["body"]))
    entries[-1]["body"] = pack([name, version + 1, values]).hex()
    path = write(tmp_path / "ledger.db", entries, len(MIGRATIONS))
    with pytest.raises(StoreError):
        async with squad(store=SqliteStore(path)):
            pass
    with LedgerReader(path) as reader:
        assert [entry.body for entry in reader.entries()] == [stored(line)[0] for line in entries]
