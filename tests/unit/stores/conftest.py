"""What the tests of the stores share: entries to append, and a wait for what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from a2a.engine.archived import ArchivedTask
from a2a.stores.base import Entry, Store

MakeEntries = Callable[..., list[Entry]]
Append = Callable[[Store, Sequence[Entry], int], Awaitable[None]]


@pytest.fixture
def make_entries() -> MakeEntries:
    """Give a function that makes `count` consecutive entries from position `first`."""

    def make(first: int, count: int = 1, *, task: str | None = "t1", payload: bytes | None = None) -> list[Entry]:
        return [
            Entry(lsn, "Reported", task, 1_700_000_000_000 + lsn, f"body {lsn}".encode(), payload)
            for lsn in range(first, first + count)
        ]

    return make


@pytest.fixture
def append() -> Append:
    """Give a function that appends a batch and returns when it is durable, or raises what `done` was told."""

    async def append_and_wait(
        store: Store, entries: Sequence[Entry], expected: int, archived: Sequence[ArchivedTask] = ()
    ) -> None:
        told: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        store.append(entries, expected, told.set_result, archived)
        async with asyncio.timeout(20):
            error = await told
        if error is not None:
            raise error

    return append_and_wait
