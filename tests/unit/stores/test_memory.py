"""What is special about the store in memory: its medium outlives it, and it can crash."""

from __future__ import annotations

import asyncio

import pytest

from a2a.errors import StoreError
from a2a.stores.memory import Medium, MemoryStore


async def test_it_promises_no_more_than_memory():
    assert MemoryStore().durability == "memory"


async def test_a_new_store_is_empty():
    first, second = MemoryStore(), MemoryStore()
    assert first.medium is not second.medium
    assert await second.open() == 0


async def test_an_empty_medium_that_is_handed_over_is_used():
    medium = Medium()
    assert MemoryStore(medium).medium is medium


async def test_nobody_is_called_inside_append(make_entries):
    store = MemoryStore()
    await store.open()
    told: list[BaseException | None] = []
    store.append(make_entries(1), 0, told.append)
    assert told == []
    await store.aclose()
    assert told == [None]


async def test_a_crash_keeps_the_entries_and_calls_nobody(make_entries):
    store = MemoryStore()
    await store.open()
    told: list[BaseException | None] = []
    store.append(make_entries(1, 2), 0, told.append)
    store.crash()
    await asyncio.sleep(0)
    with pytest.raises(StoreError, match="not open"):
        store.append(make_entries(3), 2, lambda error: None)

    assert await store.open() == 2
    await asyncio.sleep(0)
    assert told == []
    store.crash()

    after = MemoryStore(store.medium)
    assert await after.open() == 2
    assert list(after.read()) == make_entries(1, 2)
    store.crash()  # the dead one cannot release what another holds now
    assert store.medium.holder is after


async def test_callbacks_of_one_turn_run_before_what_is_scheduled_behind_them(make_entries):
    store = MemoryStore()
    await store.open()
    told: list[int] = []
    store.append(make_entries(1), 0, lambda error: told.append(1))
    store.append(make_entries(2), 1, lambda error: told.append(2))
    await asyncio.sleep(0)
    assert told == [1, 2]


async def test_a_batch_appended_by_a_callback_is_told_in_a_later_turn(make_entries):
    store = MemoryStore()
    await store.open()
    told: list[int] = []

    def append_another(error: BaseException | None) -> None:
        store.append(make_entries(2), 1, lambda error: told.append(2))
        told.append(1)

    store.append(make_entries(1), 0, append_another)
    await asyncio.sleep(0)
    assert told == [1]
    await asyncio.sleep(0)
    assert told == [1, 2]
