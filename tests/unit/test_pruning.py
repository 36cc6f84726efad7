"""The archive is pruned at the start and then regularly."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import anyio
import pytest

from a2a import MemoryStore, Policy, Server, StoreError
from a2a import pruning as pruning_module
from a2a.engine.archived import ArchivedTask
from a2a.pruning import Pruning

DAY = 86_400_000


class Shelf(MemoryStore):
    """A store that tells when it was asked to prune, and may fail."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.failure: StoreError | None = None

    async def prune(self, settled_before: int, limit: int) -> int:
        self.asked.set()
        if self.failure is not None:
            raise self.failure
        return await super().prune(settled_before, limit)

    def fill(self, count: int) -> None:
        for number in range(count):
            self.medium.archive[f"t{number}"] = ArchivedTask(f"t{number}", "s", "k", "failed", number, b"body", number)

    def kept(self) -> int:
        return sum(1 for task in self.medium.archive.values() if task.body)


@pytest.fixture
async def store() -> Any:
    store = Shelf()
    await store.open()
    yield store
    await store.aclose()


async def test_all_that_is_old_enough_goes_batch_by_batch(store):
    store.fill(1_200)
    pruning = Pruning(store, 100, lambda: 1_150)
    assert await pruning.prune() == 1_050
    assert store.kept() == 150
    assert await pruning.prune() == 0
    await pruning.aclose()


async def test_a_failure_is_told_to_the_log_and_the_next_time_it_works(store, monkeypatch, caplog):
    monkeypatch.setattr(pruning_module, "PRUNE_EVERY", 0.01)
    store.fill(3)
    store.failure = StoreError("the disk makes noises")
    with anyio.fail_after(20), caplog.at_level(logging.INFO):
        pruning = Pruning(store, 0, lambda: 99)
        await store.asked.wait()
        store.failure = None
        while store.kept():  # noqa: ASYNC110 - the store is asked again by a timer
            await asyncio.sleep(0.01)
    assert "was not pruned: the disk makes noises" in caplog.text
    await pruning.aclose()


async def test_a_server_prunes_at_its_start_where_its_policy_says_so():
    store = Shelf()
    store.fill(3)
    server = Server(store, Policy(keep_ms=DAY))
    await server.open()
    with anyio.fail_after(20):
        await store.asked.wait()
        while store.kept():  # noqa: ASYNC110 - it goes in a later turn
            await asyncio.sleep(0)
    await server.aclose()


async def test_a_server_that_keeps_everything_prunes_nothing():
    store = Shelf()
    server = Server(store, Policy())
    await server.open()
    await server.aclose()
    assert not store.asked.is_set()
