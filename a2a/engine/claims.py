"""Claims: names that one owner has alone or several share, each grant with a fence of its own (spec CLAIM).

Handlers for what peers ask, and what follows by itself: whose turn it is when names become free, which claims end with
an attempt, which the clock ends. `waits` finds out who is in whose way.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import ErrorCode
from ..protocol.messages import (
    ClaimAcquire,
    ClaimDenied,
    ClaimGranted,
    ClaimList,
    ClaimPage,
    ClaimPreempt,
    ClaimQueued,
    ClaimRelease,
    ClaimRenew,
    GrantedName,
    Message,
    Ok,
)
from ..protocol.states import OPEN_ENDED
from ..protocol.types import principal_of
from .claimbook import Claim, owner_of
from .decision import Decision, no_task, refuse, reply
from .leases import not_current, regain
from .ledger import Ledger, MailboxEntry
from .live import Alike, Connection, Line, Standing, World
from .names import Looks, NameIndex, canonical_names, names_meet
from .records import Claimed, ClaimEnded, ClaimRecalled, ClaimRenewed, ClaimRequested, Record
from .task_state import Task
from .waits import (
    Deadlock,
    Obstacle,
    Wait,
    count_before,
    deadlocks,
    given_up,
    gives_way,
    in_the_way,
    wait_of,
)

__all__ = [
    "claim_notice",
    "due_claim",
    "granted_names",
    "is_kept_for_next",
    "leave_line",
    "leave_line_unserved",
    "look_at_line",
    "next_in_line",
    "on_claim_acquire",
    "on_claim_list",
    "on_claim_release",
    "on_claim_renew",
    "outlived",
    "when_claim_due",
]

_IN_WAY_SHOWN = 16
"""How many obstacles are named: in a line of a thousand each waiter would name all before it."""
_LOOKS_MAX = 1_024
"""How many names in the way of one claim are looked at, to tell of them or to call their holders back."""
_LOOKS_OF_LIST = 20_000
"""The same limit for everything that a list shows, shared equally."""


# What peers ask -------------------------------------------------------------------------------------------------------


def on_claim_acquire(world: World, sender: Connection, message: ClaimAcquire, now: int) -> Decision:
    """Request names, all of them or none. Spec CLAIM-3 to CLAIM-5."""
    agent, ledger = sender.agent or "", world.ledger
    if (message.task is None) != (message.fence is None):
        return refuse(ErrorCode.MALFORMED, "a claim for a task names the task and the attempt's fence, any other none")
    regained: list[Record] = []
    if message.task is not None:
        made_for = _for_attempt(world, agent, message.task, message.fence or 0, now)
        if isinstance(made_for, Decision):
            return made_for
        regained = made_for
    claim = _wanted(world, sender, message, now)
    claim.id = ledger.lsn + 1 + len(regained)
    known = ledger.claims.find(claim.owner, claim.under, claim.claim_no)
    if known is not None:
        return _asked_before(world, known, claim, regained, now)
    newest = ledger.claims.newest_no(claim.owner, claim.under)
    if claim.claim_no <= newest:
        return refuse(ErrorCode.STALE, f"claim {claim.claim_no} of {agent} has ended, the newest is {newest}")
    if len(ledger.claims.by_owner.get(claim.owner, ())) >= world.policy.claims_max:
        return refuse(ErrorCode.QUOTA, f"{claim.owner} has {world.policy.claims_max} claims, the most there may be")

    looks = Looks(_LOOKS_MAX)
    obstacles = in_the_way(ledger, world.live, wait_of(claim), looks)
    if obstacles and message.wait_ms == 0:
        return _busy(obstacles, regained)
    ahead = count_before(ledger, world.live, wait_of(claim)) if obstacles else 0
    if ahead > world.policy.line_max:
        return refuse(ErrorCode.QUOTA, f"{ahead} wait for {obstacles[-1].name} already, the most there may be")
    way, refused = _make_way(world, claim, bool(regained), now)
    claim.id += len(way)  # the records that made way come before the request
    requested = [*regained, *way, _requested(claim)]
    if refused is not None:
        ended = ClaimEnded(now, claim.id, "deadlock", refused.detail, {"cycle": refused.cycle})
        return _deadlocked(refused, [*requested, ended])
    if not obstacles:
        granted = ClaimGranted(claim.claim_no, claim.id + 1, *_named(claim), claim.ttl_ms)
        return reply(granted, *requested, Claimed(now, claim.id, waited=False))
    queued = ClaimQueued(claim.claim_no, ahead + 1, claim.task, message.fence)
    return reply(queued, *requested, *_called_back(world, claim, obstacles, looks, now))


def _for_attempt(world: World, agent: str, task_id: str, fence: int, now: int) -> list[Record] | Decision:
    """Return the records that make the attempt current, or the refusal if it cannot claim."""
    task = world.ledger.tasks.get(task_id)
    if task is None:
        return no_task(task_id)
    regained = regain(world, task, agent, fence, now)
    if regained is None:
        return not_current(world, task, agent, fence)
    if not regained and (task.state not in OPEN_ENDED or task.cancel is not None):
        return refuse(ErrorCode.CONFLICT, f"task {task.id} is {task.state}: it claims nothing any more")
    return regained


def _wanted(world: World, sender: Connection, message: ClaimAcquire, now: int) -> Claim:
    of_agent = message.task is None
    return Claim(
        id=0,
        at=now,
        agent=sender.agent or "",
        under=sender.instance if of_agent else str(message.fence),
        claim_no=message.claim_no,
        names=canonical_names(message.claims),
        task=message.task,
        task_fence=message.fence or 0,
        # A claim without a task has no attempt whose end would end it.
        ttl_ms=world.policy.claim_ttl_ms if of_agent and message.ttl_ms is None else message.ttl_ms,
        wait_until=now + message.wait_ms,
        priority=message.priority,
        preemptible=message.preemptible,
    )


def _requested(claim: Claim) -> ClaimRequested:
    return ClaimRequested(
        claim.at,
        claim.agent,
        claim.under,
        claim.claim_no,
        claim.names,
        claim.task,
        claim.task_fence,
        claim.ttl_ms,
        claim.wait_until,
        claim.priority,
        claim.preemptible,
    )


def _asked_before(world: World, known: Claim, again: Claim, regained: list[Record], now: int) -> Decision:
    """Answer a repeat with how the claim stands now. Spec CLAIM-4."""
    if known.names != again.names:
        return refuse(
            ErrorCode.IDEMPOTENCY_MISMATCH,
            f"claim {known.claim_no} of {known.agent} is for {', '.join(known.names)}, not {', '.join(again.names)}",
        )
    if known.ended == "deadlock":
        return _deadlocked(Deadlock(known, known.cycle), regained)
    if known.ended:
        return refuse(
            ErrorCode.STALE, f"claim {known.claim_no} of {known.agent} has ended: {known.ended}", records=regained
        )
    if known.is_waiting:
        ahead = count_before(world.ledger, world.live, wait_of(known))
        return reply(ClaimQueued(known.claim_no, ahead + 1, known.task, known.task_fence or None), *regained)
    return reply(_granted(known, now), *regained)


def _busy(obstacles: list[Obstacle], regained: list[Record]) -> Decision:
    first = obstacles[0]
    return refuse(
        ErrorCode.DENIED,
        f"{first.name} is {'held' if first.is_held else 'waited for'} by {first.owner.partition(':')[2]}",
        data=_told_in_way(obstacles, "holders"),
        records=regained,
    )


def _told_in_way(obstacles: list[Obstacle], name: str) -> dict[str, Any]:
    """Return the first obstacles under a name, and how many more there are."""
    told: dict[str, Any] = {name: [_in_way(obstacle) for obstacle in obstacles[:_IN_WAY_SHOWN]]}
    if len(obstacles) > _IN_WAY_SHOWN:
        told[f"{name}More"] = len(obstacles) - _IN_WAY_SHOWN
    return told


def _in_way(obstacle: Obstacle) -> dict[str, Any]:
    if isinstance(obstacle.what, Task):
        return {"name": obstacle.name, "task": obstacle.what.id, "isHeld": False}
    claim = obstacle.what
    told: dict[str, Any] = {"name": obstacle.name, "agent": claim.agent, "isHeld": obstacle.is_held}
    if claim.task is not None:
        told["task"] = claim.task
    if claim.fence:
        told["claimFence"] = claim.fence
    return told


def _make_way(world: World, claim: Claim, is_back: bool, now: int) -> tuple[list[Record], Deadlock | None]:
    """Break the circles that this claim would close: return what others give up, and the deadlock if it loses."""
    records: list[Record] = []
    for deadlock in deadlocks(world.ledger, world.live, claim.owner, claim, is_back=is_back):
        if deadlock.victim is claim:
            return records, deadlock
        records.append(given_up(deadlock, now))
    return records, None


def _deadlocked(deadlock: Deadlock, records: list[Record]) -> Decision:
    """Refuse a claim that would close a circle; the records say that it did. Spec WAIT-3."""
    return refuse(ErrorCode.DEADLOCK, deadlock.detail, data={"cycle": deadlock.cycle}, records=records)


def on_claim_renew(world: World, sender: Connection, message: ClaimRenew, now: int) -> Decision:
    """Extend a claim for its holder. Spec CLAIM-7."""
    claim = world.ledger.claims.by_fence.get(message.claim_fence)
    if claim is None:
        return _no_claim(world, message.claim_fence)
    if not _is_mine(sender, claim):
        return _not_mine(sender, claim)
    ttl_ms = message.ttl_ms or claim.ttl_ms
    if ttl_ms is None:
        return reply(_granted(claim, now))
    granted = ClaimGranted(claim.claim_no, claim.fence, *_named(claim), ttl_ms)
    return reply(granted, ClaimRenewed(now, claim.fence, ttl_ms))


def on_claim_release(world: World, sender: Connection, message: ClaimRelease, now: int) -> Decision:
    """Release a claim, or stop waiting for it. Spec CLAIM-6."""
    book, agent = world.ledger.claims, sender.agent or ""
    if (message.claim_fence is None) == (message.claim_no is None):
        return refuse(ErrorCode.MALFORMED, "a claim is released by its fence or by its number")
    claim: Claim | None
    if message.claim_fence is not None:
        claim = book.by_fence.get(message.claim_fence)
        if claim is None and message.claim_fence > world.ledger.lsn:
            return _no_claim(world, message.claim_fence)
    else:
        under = sender.instance if message.task is None else str(message.fence)
        claim = book.find(owner_of(message.task, agent), under, message.claim_no or 0)
    if claim is None or claim.ended:
        return reply(Ok())  # a repeat, or it ended by itself: nobody has it, as was asked
    if not _is_mine(sender, claim) and sender.role != "operator":
        return _not_mine(sender, claim)
    return reply(Ok(), ClaimEnded(now, claim.id, "released", is_told=claim.agent != agent and claim.is_waiting))


def _is_mine(sender: Connection, claim: Claim) -> bool:
    """Tell whether the sender may speak for a claim: as its attempt's agent, or as its principal. Spec CLAIM-6."""
    agent = sender.agent or ""
    return claim.agent == agent or (claim.task is None and principal_of(claim.agent) == principal_of(agent))


def _not_mine(sender: Connection, claim: Claim) -> Decision:
    return refuse(ErrorCode.NOT_HOLDER, f"claim {claim.fence} is {claim.agent}'s, not {sender.agent}'s")


def _no_claim(world: World, fence: int) -> Decision:
    if fence > world.ledger.lsn:
        return refuse(ErrorCode.MALFORMED, f"no fence {fence} was minted yet, the newest is {world.ledger.lsn}")
    return refuse(ErrorCode.STALE, f"no claim is held under fence {fence} any more")


def on_claim_list(world: World, sender: Connection, message: ClaimList, now: int) -> Decision:
    """Show who holds and who waits for which names."""
    book, line = world.ledger.claims, world.live.line
    if message.name is not None:
        wanted = {message.name: "x"}
        claims = [book.claims[key] for key in (*book.held.meeting(wanted), *book.waiting.meeting(wanted))]
        tasks = [task for alike, _ in line.meeting(wanted) for task in alike.tasks]
        if message.task is not None:
            claims = [claim for claim in claims if claim.task == message.task]
            tasks = [task for task in tasks if task.id == message.task]
    elif message.task is not None:
        claims = list(book.by_owner.get(owner_of(message.task, ""), {}).values())
        tasks = [line.tasks[message.task]] if message.task in line.tasks else []
    else:
        claims, tasks = list(book.claims.values()), list(line.tasks.values())
    held = sorted((claim for claim in claims if claim.fence), key=lambda claim: claim.fence)
    waits = [wait_of(claim) for claim in claims if not claim.fence]
    waits += [wait_of(task, line.names[task.id]) for task in tasks]
    waits.sort(key=lambda wait: wait.standing)
    shown = [_shown(claim, now) for claim in held[: message.limit]]
    next_ones = waits[: message.limit - len(shown)]
    for position, wait in enumerate(next_ones, 1):
        obstacles = in_the_way(world.ledger, world.live, wait, Looks(_LOOKS_OF_LIST // len(next_ones)))
        what = wait.what
        told: dict[str, Any]
        told = _shown(what, now) if isinstance(what, Claim) else {"task": what.id, "claims": _listed(wait.names)}
        shown.append(told | {"state": "waiting", "position": position} | _told_in_way(obstacles, "waitsFor"))
    return reply(ClaimPage(shown, len(held) + len(waits) > message.limit))


def _shown(claim: Claim, now: int) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "state": "held",
        "claims": _listed(claim.names),
        "agent": claim.agent,
        "priority": claim.priority,
        "preemptible": claim.preemptible,
        "sinceMs": max(0, now - claim.at),
    }
    if claim.task is not None:
        shown["task"], shown["fence"] = claim.task, claim.task_fence
    if claim.fence:
        shown["claimFence"] = claim.fence
    if claim.until is not None:
        shown["ttlMs"] = max(0, claim.until - now)
    if claim.recalled:
        shown["recalled"] = claim.recalled
    return shown


# What is told ---------------------------------------------------------------------------------------------------------


def _listed(names: Any) -> list[dict[str, str]]:
    return [{"name": name, "mode": mode} for name, mode in names.items()]


def _named(claim: Claim) -> tuple[Any, str | None, int | None]:
    return _listed(claim.names), claim.task, claim.task_fence or None


def _granted(claim: Claim, now: int) -> ClaimGranted:
    left = None if claim.until is None else max(0, claim.until - now)
    return ClaimGranted(claim.claim_no, claim.fence, *_named(claim), left)


def claim_notice(ledger: Ledger, entry: MailboxEntry, now: int) -> Message:
    """Return what a mailbox entry about a claim says now: a grant that is over is told as its end. Spec CLAIM-5."""
    claim, facts = ledger.claims.claims.get(entry.number), entry.claim or {}
    number, task, fence = facts.get("claimNo", 0), facts.get("task"), facts.get("fence")
    if entry.kind == "claim.preempt":
        grace_ms = 0 if claim is None else max(0, facts["graceAt"] - now)
        return ClaimPreempt(number, facts["claimFence"], facts["reason"], grace_ms, task, fence)
    if entry.kind == "claim.granted" and claim is not None:
        return _granted(claim, now)
    reason = facts.get("reason", "ended")
    told: Any = reason if reason in ("timeout", "deadlock") else "ended"
    return ClaimDenied(number, told, facts.get("detail") or reason, task, fence, facts.get("cycle", []))


def granted_names(ledger: Ledger, task: Task, fence: int) -> list[GrantedName]:
    """Return the names granted with an offer and still held, for the offer to list. Spec CLAIM-9."""
    claim = ledger.claims.by_fence.get(fence)
    if claim is None or claim.task != task.id:
        return []
    return [GrantedName(name, mode, fence) for name, mode in claim.names.items()]  # type: ignore[arg-type]


# What follows by itself -----------------------------------------------------------------------------------------------


def outlived(ledger: Ledger, task: Task, now: int) -> list[Record]:
    """Return the ends of claims whose attempt is over: spent, superseded, or an offer that is gone. Spec CLAIM-8."""
    mine = ledger.claims.by_owner.get(owner_of(task.id, ""))
    if mine is None:
        return []
    alive = set()
    if task.authority is not None and task.authority.is_open:
        alive.add(task.authority.fence)
    if task.offer is not None:
        alive.add(task.offer.fence)
    over = [claim for claim in mine.values() if claim.task_fence not in alive]
    return [ClaimEnded(now, claim.id, "ended", is_told=claim.is_waiting) for claim in over]


def next_in_line(world: World, now: int) -> Iterator[Record]:
    """Yield what follows from names that became free; the caller applies each record before the next. Spec CLAIM-5.

    A task in line that may be next is queued again: routing offers it, or finds that no agent would take it now.
    """
    line = world.live.line
    freed, world.ledger.freed = world.ledger.freed, []
    behind = _Behind()
    for task in line.holders.values():  # not everything that comes before them is in their way
        line.called[task.id] = task
        world.queues.add(task)
    for wait in _called(world, freed, behind):
        if isinstance(wait.what, Task):
            if not behind.is_behind(wait):
                line.called[wait.what.id] = wait.what
                world.queues.add(wait.what)
                behind.add(wait)
        elif wait.what.is_waiting and not behind.is_behind(wait):
            yield from _its_turn(world, wait, now)
            if not wait.what.fence:
                behind.add(wait)
            elif wait.what.preemptible:
                world.ledger.freed.append(wait.what.names)  # a claim of higher priority behind it may call it back now


def _called(world: World, freed: list[dict[str, str]], behind: _Behind) -> Iterator[Wait]:
    """Yield the waits for names that became free, in the order of the line, without most tasks behind others."""
    book, line = world.ledger.claims, world.live.line
    waiting: set[int] = set()
    alike: dict[int, Alike] = {}
    for names in {tuple(names.items()): names for names in freed}.values():
        waiting.update(book.waiting.meeting(names))
        alike.update((id(found), found) for found, _ in line.meeting(names))
    claims = (wait_of(book.claims[key]) for key in waiting)
    # No two standings are equal, so what stands there is never compared.
    called: list[tuple[Standing, Wait | Alike]] = [(wait.standing, wait) for wait in claims]
    called += [(found.standings[0], found) for found in alike.values()]
    heapq.heapify(called)
    while called:
        standing, first = heapq.heappop(called)
        if isinstance(first, Wait):
            yield first
            continue
        task = first.at(standing)  # a wait yielded before may have made it leave the line
        if task is not None:
            yield wait_of(task, first.names)
        following = _following(line, first, standing, behind.owners(first.names))
        if following is not None:
            heapq.heappush(called, (following, first))


def _following(line: Line, alike: Alike, standing: Standing, waiting: Sequence[str]) -> Standing | None:
    """Return the standing of the next alike task that may go on beside `waiting`, who want the same names."""
    if not waiting:
        place = alike.behind(standing)
        return alike.standings[place] if place < len(alike.standings) else None
    if len(waiting) > 1:
        return None
    own = line.standing_of(waiting[0].removeprefix("task:"), alike)  # a task's own claims are in the way of others only
    return own if own is not None and own > standing else None


class _Behind:
    """The waits that go on in one pass: a later wait that conflicts with one of them need not be looked at.

    So the end of a claim that many wait for costs one look per waiter, and not one per pair.
    """

    def __init__(self) -> None:
        self._index = NameIndex()
        self._owners: dict[tuple[tuple[str, str], ...], list[str]] = {}
        """Names and modes to the first two owners that wait for exactly these."""

    def add(self, wait: Wait) -> None:
        key = tuple(wait.names.items())
        owners = self._owners.setdefault(key, [])
        if not owners:
            self._index.add(key, wait.names)
        if len(owners) < 2 and wait.owner not in owners:
            owners.append(wait.owner)

    def owners(self, names: Mapping[str, str]) -> list[str]:
        """Return who waits for names in conflict with these, at most two, as no wait is beside two owners."""
        # Most waits for the same names have the same modes too.
        found = dict.fromkeys(self._owners.get(tuple(names.items()), ()) if "x" in names.values() else ())
        if len(found) < 2:
            found |= dict.fromkeys(owner for key in self._index.meeting(names) for owner in self._owners[key])
        return list(found)[:2]

    def is_behind(self, wait: Wait) -> bool:
        return any(not wait.is_beside(owner) for owner in self.owners(wait.names))


def _its_turn(world: World, wait: Wait, now: int) -> list[Record]:
    """Return the grant of a claim if nothing is in its way any longer, or the recalls of the claims that are."""
    looks, claim = Looks(_LOOKS_MAX), wait.what
    obstacles = in_the_way(world.ledger, world.live, wait, looks)
    assert isinstance(claim, Claim), "a task is offered, which is no turn of its own"
    if obstacles:
        return _called_back(world, claim, obstacles, looks, now)
    return [] if is_kept_for_next(world.ledger, claim) else [Claimed(now, claim.id, waited=True)]


def is_kept_for_next(ledger: Ledger, claim: Claim) -> bool:
    """Tell whether an offer of a claim's own task already has what the claim waits for. Spec CLAIM-9.

    If it were granted now, it would have the higher fence, and guards would turn the next attempt away.
    """
    task = ledger.tasks.get(claim.task or "")
    offered = ledger.claims.by_fence.get(task.offer.fence) if task is not None and task.offer is not None else None
    return offered is not None and names_meet(claim.names, offered.names) is not None


def _called_back(world: World, claim: Claim, obstacles: list[Obstacle], looks: Looks, now: int) -> list[Record]:
    """Return the recalls that ask the holders to give way, if everything in the way would. Spec CLAIM-10."""
    if looks.are_over:
        return []  # not every obstacle is known
    if not all(gives_way(obstacle, claim.priority) for obstacle in obstacles):
        return []
    reason = f"claim {claim.claim_no} of {claim.agent} has priority {claim.priority}"
    grace_at = now + world.policy.claim_grace_ms
    holders = (obstacle.what for obstacle in obstacles if isinstance(obstacle.what, Claim))
    return [ClaimRecalled(now, holder.fence, reason, grace_at) for holder in holders if not holder.recalled]


def leave_line(world: World, task: Task) -> None:
    """Take a task out of line: whoever waits behind it may go on."""
    names = world.live.line.leave(task)
    mine = world.ledger.claims.by_owner.get(owner_of(task.id, ""), {}).values()
    if names is not None and not any(claim.fence and claim.names == names for claim in mine):
        world.ledger.freed.append(names)  # else it has what it stood in line for


def look_at_line(world: World, agent: str) -> None:
    """Look again at the tasks that this agent might have taken: those that no other agent would take leave the line."""
    known, line = world.ledger.agents.get(agent), world.live.line
    for skill in known.skills if known is not None and line.tasks else ():
        for task in line.by_skill.get(skill, {}).values():
            line.called[task.id] = task
            world.queues.add(task)


def leave_line_unserved(world: World) -> None:
    """Take the tasks out of line that were looked at and that no agent would take now: they wait for agents."""
    called, world.live.line.called = world.live.line.called, {}
    for task in called.values():
        if world.queues.has(task.id):
            leave_line(world, task)


# Time -----------------------------------------------------------------------------------------------------------------


def when_claim_due(claim: Claim) -> int | None:
    """Return when the clock next decides something about a claim, or None."""
    if claim.ended:
        return None
    if claim.is_waiting:
        return claim.wait_until
    times = [time for time in (claim.until, claim.grace_at if claim.recalled else None) if time is not None]
    return min(times) if times else None


def due_claim(claim: Claim, now: int) -> list[Record]:
    """Return what the clock decides about a claim now. Spec CLAIM-5, CLAIM-7, CLAIM-10."""
    due = when_claim_due(claim)
    if due is None or due > now:
        return []
    if claim.is_waiting:
        return [ClaimEnded(now, claim.id, "timeout", "its time to wait is over", is_told=True)]
    is_ttl = claim.until is not None and claim.until <= now
    return [ClaimEnded(now, claim.id, "ttl" if is_ttl else "preempted")]
