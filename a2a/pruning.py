"""Prunes archived tasks, from time to time, once they have been kept as long as the namespace wants (spec READ-6).

The store does it in its writer's queue, a bounded number at a time; the records stay, but the state does not depend on
them. The server owns a `Pruning` if its policy sets a time.
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
"""In seconds. A task is kept for at least a day, so a few minutes more do not matter."""
_BATCH = 500
"""Tasks in one write, so that appends queued after it wait only some milliseconds."""


class Pruning:
    """Prunes a store's archive, at the start and then regularly.

    Args:
        store: an open store.
        keep_ms: for how long a settled task is kept.
        clock: milliseconds since the epoch.
    """

    def __init__(self, store: Store, keep_ms: int, clock: Callable[[], int]) -> None:
        self._store = store
        self._keep_ms = keep_ms
        self._clock = clock
        self._running = asyncio.get_running_loop().create_task(self._run())
        """Mostly asleep; a timer could not wait for the store."""

    async def prune(self) -> int:
        """Prune everything that is old enough, and return how many tasks that were."""
        pruned = 0
        while (count := await self._store.prune(self._clock() - self._keep_ms, _BATCH)) > 0:
            pruned += count
        if pruned:
            log.info("pruned %d tasks", pruned)
        return pruned

    async def aclose(self) -> None:
        """Stop pruning; the store finishes a write under way."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self.prune()
            except StoreError as error:
                log.warning("the archive was not pruned: %s", error)
            await asyncio.sleep(PRUNE_EVERY)
