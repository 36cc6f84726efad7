"""What many cases for a coordinator begin with: a task under way between a client and a worker."""

from __future__ import annotations

from typing import Any

from .conversation import check
from .peer import Coordinator, Peer
from .wire import Frame

__all__ = ["AUTO", "LONG", "at", "begun", "ok"]

AUTO = {"acceptance": {"evaluator": "auto"}}
"""Of a `spec`: an admitted result completes the task."""
LONG = {"leaseMs": 600_000, "offerMs": 600_000, "heartbeatMs": 200_000}
"""Timers of a task that has to outlast its case."""


def at(offer: Frame) -> dict[str, Any]:
    """Return the task and the fence of an attempt: the envelope of what it says, or the `parent` of a sub-task."""
    return {"task": offer.task, "fence": offer.fence}


async def begun(under: Coordinator, **fields: Any) -> tuple[Peer, Peer, Frame]:
    """Return a client, a worker and the offer of a task between them."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, **fields)
    return client, worker, await worker.offered(created.task)


async def ok(peer: Peer, kind: str, /, **fields: Any) -> Frame:
    """Send a request that has to be answered `ok`."""
    answer = await peer.request(kind, **fields)
    check(answer.kind == "ok", f"ok to {kind}", answer)
    return answer
