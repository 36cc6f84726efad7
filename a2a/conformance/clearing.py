"""Ends and forgets what a run has left with a coordinator, as far as the coordinator lets an operator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .case import Failed
from .peer import Coordinator, Peer, Settings
from .socket import Closed
from .wire import Frame

__all__ = ["CLEARING_SECONDS", "GREETING", "Cleared", "clear"]

GREETING = "greeting"
"""Stands for the case in the name of the peer that greets the coordinator before the cases and clears up after them."""

CLEARING_SECONDS = 5.0
"""How long clearing may take."""
_AT_ONCE = 100
"""How many requests are under way at a time."""
_PAGE = 1_000
_OPEN = ("queued", "offered", "leased", "parked", "blocked", "disputed", "reported", "canceling")
"""The states that are not final (STATE-1)."""
_ODD = (AttributeError, LookupError, TypeError, ValueError)
"""Errors from an answer where a field is missing or of another type: the cases have already reported that."""


@dataclass(slots=True)
class Cleared:
    """What clearing has done."""

    ended: set[tuple[str, Any]] = field(default_factory=set)
    """What was open and has ended: the kind of the request that ended it, and its task, conflict or claim."""
    forgotten: set[str] = field(default_factory=set)
    """The agents of which the coordinator no longer knows anything."""
    stayed: set[str] = field(default_factory=set)
    """The run's other agents, so far as clearing got."""
    why: str = ""
    """Why agents stayed: what the newest refusal said, or what stopped the clearing."""

    @property
    def canceled(self) -> int:
        """How many tasks were canceled."""
        return sum(kind == "task.cancel" for kind, _ in self.ended)


async def clear(settings: Settings, *, within: float = CLEARING_SECONDS) -> Cleared:
    """End what the agents of a run left open, and have them forgotten. A failure is returned, never raised.

    An agent stays while something of its own is open (REG-7): a task it delegated, a conflict it is party to, a claim.
    The agent that asks for all this stays in any case, under the name with which the run greeted the coordinator.

    Args:
        settings: Where the coordinator is, with the operator's token and the agents of the run.
        within: Seconds that clearing may take.
    """
    under = Coordinator(settings, GREETING)
    name = under.name()
    agents = settings.agents - {name}
    cleared = Cleared(stayed=agents | {name})
    try:
        async with asyncio.timeout(within):
            operator = await under.peer(name, operatorToken=settings.operator_token)
            while True:
                before = len(cleared.ended)
                await _end_what_is_open(operator, agents, cleared.ended)
                await _forget(operator, sorted(cleared.stayed - {name}), cleared)
                if len(cleared.ended) == before:
                    break  # otherwise a claim that was released may have gone to an agent that waited for it
    except TimeoutError:
        cleared.why = f"it took longer than {within:g} s"
    except (Failed, Closed, OSError, *_ODD) as error:
        cleared.why = str(error)
    finally:
        await under.aclose()
    return cleared


async def _end_what_is_open(operator: Peer, agents: set[str], ended: set[tuple[str, Any]]) -> None:
    tasks = [
        view["id"]
        for state in _OPEN
        async for view in _pages(operator, "task.list", "tasks", state=state)
        if view["metadata"].get("delegator") in agents
    ]
    conflicts = [
        view["conflict"]
        async for view in _pages(operator, "conflict.list", "conflicts", isOpen=True)
        if not agents.isdisjoint(party["agent"] for party in view["parties"])
    ]
    page = await operator.request("claim.list", limit=_PAGE)
    held = [claim for claim in page.body["claims"] if claim["state"] == "held"]  # a waiting claim is held next time
    claims = [claim["claimFence"] for claim in held if claim["agent"] in agents]
    for kind, name, found, fields in (
        ("task.cancel", "task", tasks, {"mode": "skip"}),
        ("conflict.vote", "conflict", conflicts, {}),
        ("claim.release", "claimFence", claims, {}),
    ):
        async for asked, answer in _answers(operator, kind, [{name: value} | fields for value in found]):
            if answer.kind == "ok":
                ended.add((kind, asked[name]))


async def _forget(operator: Peer, agents: Sequence[str], cleared: Cleared) -> None:
    async for asked, answer in _answers(operator, "agent.forget", [{"agent": agent} for agent in agents]):
        if answer.kind == "error" and answer.code != "malformed":
            cleared.why = str(answer.body.get("detail", answer.code))
            continue
        cleared.stayed.discard(asked["agent"])  # a name that is no agent's id was nobody's either
        if answer.body.get("known") or answer.body.get("bound"):
            cleared.forgotten.add(asked["agent"])


async def _pages(operator: Peer, kind: str, name: str, **fields: Any) -> AsyncIterator[dict[str, Any]]:
    """Yield the entries of a list, page by page."""
    before = None
    while True:
        page = await operator.request(kind, limit=_PAGE, before=before, **fields)
        for view in page.body[name]:
            yield view
        before = page.body.get("nextBefore")
        if before is None:
            return


async def _answers(
    operator: Peer, kind: str, requests: Sequence[dict[str, Any]]
) -> AsyncIterator[tuple[dict[str, Any], Frame]]:
    """Make requests of one kind, many at a time, and yield each with its answer."""
    for start in range(0, len(requests), _AT_ONCE):
        asked = requests[start : start + _AT_ONCE]
        frames = [operator.frame(kind, **fields) for fields in asked]
        await operator.send_many(frames)
        for fields, frame in zip(asked, frames, strict=True):
            yield fields, await operator.reply(frame["id"], kind)
