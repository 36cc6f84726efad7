"""The scene with which many cases for a coordinator begin: a task under way between a client and a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from .case import Missed
from .conversation import check
from .peer import Coordinator, Peer
from .wire import Frame

__all__ = ["AUTO", "LONG", "at", "beats_until_revoked", "begun", "ok", "only", "soon"]

T = TypeVar("T")

AUTO = {"acceptance": {"evaluator": "auto"}}
"""A `spec` under which an admitted result completes the task."""
LONG = {"leaseMs": 600_000, "offerMs": 600_000, "heartbeatMs": 200_000}
"""Timers of a task that has to outlast its case."""
_BEAT = 0.05
"""Seconds between the heartbeats of an attempt that goes on."""


def at(offer: Frame) -> dict[str, Any]:
    """Return the task and the fence of an attempt: the envelope of its messages, or the `parent` of a sub-task."""
    return {"task": offer.task, "fence": offer.fence}


async def begun(under: Coordinator, **fields: Any) -> tuple[Peer, Peer, Frame]:
    """Return a client, a worker and the offer of a task between them."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, **fields)
    return client, worker, await worker.offered(created.task)


async def ok(peer: Peer, kind: str, /, **fields: Any) -> Frame:
    """Send a request that has to be answered `ok`, and return the answer."""
    answer = await peer.request(kind, **fields)
    check(answer.kind == "ok", f"ok to {kind}", answer)
    return answer


async def soon(peer: Peer, look: Callable[[], Awaitable[T | None]], what: str) -> T:
    """Return what `look` finds, once it finds anything: a refusal is shown soon after its answer (ERR-7)."""
    until = time.monotonic() + peer.patience
    while not (found := await look()):
        check(time.monotonic() < until, what)
        await asyncio.sleep(0.05)
    return found


def only(found: Iterable[Mapping[str, Any]], *names: str) -> list[dict[str, Any]]:
    """Return objects of a frame with these of their fields: others may come with them (WIRE-6)."""
    return [{name: one.get(name) for name in names} for one in found]


async def beats_until_revoked(worker: Peer, offer: Frame, **fields: Any) -> Frame:
    """Send heartbeats until the attempt is told to stop, and return the revoke. `progressNo`, if given, grows.

    If a timer began anew with a heartbeat that it has to ignore, it would never run out.

    Raises:
        Missed: the attempt was not told to stop.
    """
    for number in range(round(worker.patience / _BEAT)):
        more = {"progressNo": fields["progressNo"] + number} if "progressNo" in fields else {}
        answer = await worker.heartbeat(offer, **(fields | more))
        if answer.kind == "task.revoke":
            return answer
        if worker.holds("task.revoke", task=offer.task, fence=offer.fence):
            return await worker.take("task.revoke", task=offer.task, fence=offer.fence)
        await asyncio.sleep(_BEAT)
    raise Missed(f"expected task.revoke with task {offer.task!r}; heartbeats were answered for {worker.patience:g} s")
