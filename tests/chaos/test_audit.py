"""The judge of a chaos run sees what is wrong with a ledger: what must not be there, and what is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from a2a import Agent, MemoryStore
from a2a.engine.records import (
    ContextsArchived,
    ContextWritten,
    CoordinatorStarted,
    Delegated,
    Offered,
    Record,
    Reported,
    Settled,
    from_bytes,
)
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
        await running.client.context("plans").put("said", 4, if_rev=0)
        heard.shared["plans", "said"] = 4
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


def lose_a_write(records: list[Record], heard: Heard) -> None:
    del records[records.index(one(records, ContextWritten))]
    records.append(one(records, CoordinatorStarted))


def write_twice(records: list[Record], heard: Heard) -> None:
    again = one(records, ContextWritten)
    change = {**again.changes[0], "if_rev": 1, "rev": 2}
    records.append(replace(again, key="another", changes=[change]))


def write_where_it_has_left(records: list[Record], heard: Heard) -> None:
    again, at = one(records, ContextWritten), records[-1].at
    records.append(ContextsArchived(at, [again.context_id]))
    records.append(replace(again, at=at, key="another"))


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
        (lose_a_write, "lost"),
        (write_twice, "lost"),
        (write_where_it_has_left, "violations"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_what_is_wrong_is_seen(sound: tuple[list[Record], Heard], change: Change, where: str) -> None:
    records, heard = sound
    change(records, heard)
    found: Findings = judge(records, heard)
    assert getattr(found, where)
    assert not found.is_sound


@pytest.mark.parametrize(("took", "counts"), [(500, 1), (5_000, 0)])
def test_an_attempt_is_kept_that_ends_well_after_a_restart_in_time(
    sound: tuple[list[Record], Heard], took: int, counts: int
) -> None:
    records, heard = sound
    at = records.index(one(records, Reported))
    back = records[at].at
    records[at + 2 :] = []  # the rest is numbered as if there had been no restart
    records.insert(at, CoordinatorStarted(back, 2))
    heard.starts = [0, back - took]
    found = judge(records, heard)
    assert (found.running, found.kept) == (counts, counts)
    records[at + 1] = replace(records[at + 1], outcome="failed", retry_at=back)
    found = judge(records, heard)
    assert (found.running, found.kept) == (counts, 0)


def test_a_recovery_lasts_from_the_start_of_the_process_to_the_first_offer(sound: tuple[list[Record], Heard]) -> None:
    records, heard = sound
    first = records.index(one(records, Delegated))
    back = records[first].at
    records[first:] = [CoordinatorStarted(back, 2), replace(records[first], task=f"main-{first + 2}")]
    records.append(Offered(back + 250, records[-1].task, "worker", True))
    heard.starts = [0, back - 1_000]
    assert judge(records, heard).recoveries == [(1.25, 1)]
