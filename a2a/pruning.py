"""Archived tasks that were kept for as long as the namespace wants are let go, now and then (spec READ-6).

The store does it, in its writer's queue and a bounded number at a time; the records stay as they are, for the state
does not depend on them. The server owns one of these where its policy sets a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from .errors import StoreError
from .stores.base import Store

__all__ = ["Pruning"]

log = logging.getLogger("a2a.pruning")

PRUNE_EVERY = 600.0
"""Seconds: a task is kept for a day at least, some minutes more are nothing to that."""
_BATCH = 500
"""Tasks in one write: what waits in the queue behind it waits some milliseconds."""


class Pruning:
    """Has a store prune its archive, at the start and then regularly.

    Args:
        store: an open one.
        keep_ms: how long a settled task is kept.
        clock: milliseconds since the epoch.
    """

    def __init__(self, store: Store, keep_ms: int, clock: Callable[[], int]) -> None:
        self._store = store
        self._keep_ms = keep_ms
        self._clock = clock
        self._running = asyncio.get_running_loop().create_task(self._run())
        """It mostly sleeps; a timer could not wait for the store."""

    async def prune(self) -> int:
        """Let everything go that is old enough, and return how many tasks that were."""
        pruned = 0
        while (count := await self._store.prune(self._clock() - self._keep_ms, _BATCH)) > 0:
            pruned += count
        if pruned:
            log.info("%d tasks are gone", pruned)
        return pruned

    async def aclose(self) -> None:
        """End it; a write under way is finished by the store."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self.prune()
            except StoreError as error:
                log.warning("the archive was not pruned: %s", error)
            await asyncio.sleep(PRUNE_EVERY)
