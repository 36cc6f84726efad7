"""Whether a record about claims could have been written in the state before it. Used by `replay`.

A claim depends on facts that are not all recorded: which queued tasks stood in line, which attempts only waited for
sub-tasks, and how much each agent took. These can only lengthen waits and close more circles, never permit a grant that
the records alone forbid; this is what is checked here. A circle is checked to close, to lead through the wait that was
given up, and to have no step between tasks that could not have waited so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..protocol.states import TaskState
from .capacity import serves
from .claimbook import Claim, owner_of
from .claims import is_kept_for_next, outlived
from .ledger import Ledger
from .live import Live
from .records import Claimed, ClaimEnded, ClaimRecalled, ClaimRenewed, ClaimRequested, Offered, Record
from .task_state import Task
from .tree import above_group
from .waits import in_the_way, resources_of, wait_of

__all__ = ["CHECKS", "expected_instead"]


def expected_instead(ledger: Ledger, record: Record) -> str | None:
    """Return what was expected in place of a record about claims, or None if the record fits."""
    return CHECKS[type(record)](ledger, record)


def _requested(ledger: Ledger, record: ClaimRequested) -> str | None:
    newest = ledger.claims.newest_no(owner_of(record.task, record.agent), record.under)
    if record.claim_no <= newest:
        return f"a number after {newest}"
    if not record.names or list(record.names) != sorted(record.names):
        return "names in canonical order"
    if record.wait_until < record.at:
        return "a wait that ends after it began"
    if record.task is None:
        return None if record.ttl_ms is not None else "a time to live, without a task"
    task = ledger.tasks.get(record.task)
    authority = task.authority if task is not None else None
    is_current = authority is not None and authority.is_open and not authority.lapsed
    if authority is None or not is_current or (authority.fence, authority.holder) != (record.fence, record.agent):
        return f"the current attempt at {record.task}, {record.fence} of {record.agent} is not"
    return None if record.under == str(record.fence) else f"a claim under {record.fence}"


def _claimed(ledger: Ledger, record: Claimed) -> str | None:
    claim = ledger.claims.claims.get(record.claim)
    if claim is None or not claim.is_waiting:
        return f"a claim that waits, {record.claim} does not"
    if is_kept_for_next(ledger, claim):
        return f"a claim on what no offer of {claim.task} has"
    return _in_its_way(ledger, claim)


def _in_its_way(ledger: Ledger, what: Claim | Task) -> str | None:
    obstacles = in_the_way(ledger, Live(), wait_of(what))
    return f"a wait for {obstacles[0].name} of {obstacles[0].owner}" if obstacles else None


def _offered(ledger: Ledger, record: Offered) -> str | None:
    task = ledger.tasks[record.task]
    names = resources_of(task)
    if (record.claims or {}) != names:
        return f"the resources of {task.id}: {names}"
    return _in_its_way(ledger, task) if names else None


def _renewed(ledger: Ledger, record: ClaimRenewed) -> str | None:
    is_held = record.claim_fence in ledger.claims.by_fence
    return None if is_held and record.ttl_ms > 0 else f"a claim that is held, {record.claim_fence} is not"


def _recalled(ledger: Ledger, record: ClaimRecalled) -> str | None:
    claim = ledger.claims.by_fence.get(record.claim_fence)
    if claim is None or not claim.preemptible or claim.recalled:
        return f"a claim that may be called back, {record.claim_fence} may not"
    waiting = (ledger.claims.claims[key] for key in ledger.claims.waiting.meeting(claim.names))
    if not any(other.priority > claim.priority and not wait_of(other).is_beside(claim.owner) for other in waiting):
        return f"somebody of higher priority who waits for claim {claim.id}"
    return None if record.grace_at >= record.at else "a grace"


def _ended(ledger: Ledger, record: ClaimEnded) -> str | None:
    claim = ledger.claims.claims.get(record.claim)
    if claim is None:
        return f"a claim that has not ended, {record.claim} has"
    task = ledger.tasks.get(claim.task) if claim.task is not None else None
    over = {ended.claim for ended in outlived(ledger, task, record.at) if isinstance(ended, ClaimEnded)} if task else ()
    fits = {
        "timeout": claim.is_waiting and claim.wait_until <= record.at,
        "deadlock": claim.is_waiting and is_circle(ledger, (record.data or {}).get("cycle", []), claim.owner),
        "ttl": claim.until is not None and claim.until <= record.at,
        "preempted": bool(claim.recalled) and claim.grace_at <= record.at,
        "ended": claim.id in over,
        "released": True,
    }
    return None if fits.get(record.reason) else f"a reason for claim {claim.id} to end, {record.reason} is none"


def is_circle(ledger: Ledger, cycle: list[dict[str, Any]], owner: str) -> bool:
    """Tell whether each step of a circle leads to the next, and one of them is this owner's wait for a claim.

    A wait for a sub-task, an answer or an agent counts if the tasks of the step may have it, as far as records tell.
    """
    waits = [_step(step, "task", "agent") for step in cycle]
    whom = [_step(step, "waitsForTask", "waitsForAgent") for step in cycle]
    gives_up = any(step.get("for") == "claim" and wait == owner for step, wait in zip(cycle, waits, strict=True))
    return gives_up and whom == [*waits[1:], *waits[:1]] and all(_may_wait(ledger, step) for step in cycle)


def _may_wait(ledger: Ledger, step: dict[str, Any]) -> bool:
    what = step.get("for")
    if what == "claim":
        return True  # who came before it in line is not recorded
    one, other = ledger.open_tasks.get(step.get("task", "")), ledger.open_tasks.get(step.get("waitsForTask", ""))
    if one is None or other is None:
        return False
    if what == "sub-task":
        return other.parent == one.id and (one.holder is not None or one.state is TaskState.BLOCKED)
    if what == "ask":
        is_asked = above_group(ledger, one) is other
        return is_asked and one.open_ask() is not None and None not in (one.holder, other.holder)
    busy = ledger.agents.get(other.holder or "")
    skill = busy.skills.get(one.spec["skill"]) if busy is not None else None
    is_able = busy is not None and skill is not None and serves(skill, busy, one.spec.get("requires") or {})
    return what == "capacity" and one.state is TaskState.QUEUED and is_able


def _step(step: dict[str, Any], task: str, agent: str) -> str:
    return owner_of(step.get(task), step.get(agent, ""))


CHECKS: dict[type[Record], Callable[[Ledger, Any], str | None]] = {
    ClaimRequested: _requested,
    Claimed: _claimed,
    ClaimRenewed: _renewed,
    ClaimRecalled: _recalled,
    ClaimEnded: _ended,
    Offered: _offered,
}
"""The checks of records that have to do with claims."""
