"""The judge of a chaos run sees what is wrong with a ledger: what must not be there, and what is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from a2a import Agent, MemoryStore
from a2a.engine.records import CoordinatorStarted, Delegated, Record, Reported, Settled, from_bytes
from a2a.testing import squad

from .audit import Findings, Heard, judge


@pytest.fixture
async def sound() -> tuple[list[Record], Heard]:
    """A ledger with two finished tasks, and what their client heard."""
    agent = Agent("worker")

    @agent.skill
    async def double(number: int) -> int:
        return 2 * number

    store, heard = MemoryStore(), Heard()
    async with squad(agent, store=store) as running:
        for number in (1, 2):
            async with running.client.delegate("double", {"number": number}, f"key-{number}") as task:
                heard.tasks[task.key] = task.id
                heard.values[task.key] = await task.result()
        await running.client.link.drained(5.0)
    await store.open()
    return [from_bytes(entry.body, entry.payload) for entry in store.read()], heard


def one(records: list[Record], kind: type[Record]) -> Record:
    return next(record for record in records if isinstance(record, kind))


def test_a_sound_ledger_is_found_sound(sound: tuple[list[Record], Heard]) -> None:
    found = judge(*sound)
    assert (found.wrong(), found.tasks, found.roots, found.attempts) == ([], 2, 2, 2)


Change = Callable[[list[Record], Heard], None]


def settle_again(records: list[Record], heard: Heard) -> None:
    records.append(one(records, Settled))


def let_another_report(records: list[Record], heard: Heard) -> None:
    at = records.index(one(records, Reported))
    records[at] = replace(records[at], agent="another")


def report_under_another_fence(records: list[Record], heard: Heard) -> None:
    at = records.index(one(records, Reported))
    records[at] = replace(records[at], fence=1)


def lose_what_was_acknowledged(records: list[Record], heard: Heard) -> None:
    heard.tasks["key-3"] = "main-99"


def lose_the_end(records: list[Record], heard: Heard) -> None:
    del records[records.index(one(records, Settled)) :]


def keep_another_result(records: list[Record], heard: Heard) -> None:
    heard.values["key-1"] = 99


def fail_a_task(records: list[Record], heard: Heard) -> None:
    at = records.index(one(records, Settled))
    records[at] = replace(records[at], state="failed", reason="losses", result_hash=None)


def complete_with_another_hash(records: list[Record], heard: Heard) -> None:
    at = records.index(one(records, Settled))
    records[at] = replace(records[at], result_hash="sha256:" + "0" * 64)


def create_twice(records: list[Record], heard: Heard) -> None:
    records.append(replace(one(records, Delegated), task=f"main-{len(records) + 1}"))


def start_the_same_epoch_again(records: list[Record], heard: Heard) -> None:
    records.append(CoordinatorStarted(records[-1].at, 1))


def forget_a_start(records: list[Record], heard: Heard) -> None:
    heard.starts = [0, 1]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (settle_again, "settled_twice"),
        (let_another_report, "without_holder"),
        (report_under_another_fence, "without_holder"),
        (lose_what_was_acknowledged, "lost"),
        (lose_the_end, "unfinished"),
        (lose_the_end, "lost"),
        (keep_another_result, "lost"),
        (fail_a_task, "lost"),
        (complete_with_another_hash, "without_holder"),
        (create_twice, "violations"),
        (start_the_same_epoch_again, "violations"),
        (forget_a_start, "violations"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_what_is_wrong_is_seen(sound: tuple[list[Record], Heard], change: Change, where: str) -> None:
    records, heard = sound
    change(records, heard)
    found: Findings = judge(records, heard)
    assert getattr(found, where)
    assert not found.is_sound
