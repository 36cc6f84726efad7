"""What plain functions wait for: each runs in a thread of its own, and no event loop knows what it does there.

Found in the stacks of the threads, so it costs nothing unless asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from types import FrameType
from typing import Any

from ..runner import Runner

__all__ = ["waits"]

_WAITING = Future.result.__code__
_PLAIN = Runner._blocking.__code__


def waits(runners: Iterable[Runner]) -> dict[tuple[str, int], Future[Any] | None]:
    """Return what the plain function of each attempt, a task and a fence, waits for; None while it is at work."""
    plain = {
        id(running.context): key
        for runner in runners
        for key, running in list(runner._running.items())
        if (skill := runner._agent.skills.get(running.context.skill)) is not None and not skill.is_async
    }
    # A function that has not begun, or has just ended, is in no stack, and counts as at work.
    found: dict[tuple[str, int], Future[Any] | None] = dict.fromkeys(plain.values())
    if plain:
        found.update((plain[context], future) for context, future in _waiting() if context in plain)
    return found


def _waiting() -> Iterator[tuple[int, Future[Any]]]:
    """Yield the contexts, by identity, whose thread waits for a call in the event loop, with that call's future."""
    for frame in sys._current_frames().values():
        future: Future[Any] | None = None
        at: FrameType | None = frame
        while at is not None:
            if at.f_code is _WAITING and not at.f_locals["self"].done():
                future = at.f_locals["self"]
            elif at.f_code is _PLAIN:
                if future is not None:
                    yield id(at.f_locals["context"]), future
                break
            at = at.f_back
