"""Who gets a queued task: one pass after every change, and a pure ranking (spec ROUTE).

Queued tasks that ask for the same kind of agent wait in one bucket, oldest first inside a priority. A pass looks only
at skills where something changed, so its cost does not grow with what merely waits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from ..protocol.canonical import canonical, content_hash
from ..protocol.messages import AgentFilter
from ..protocol.states import TaskState
from .capacity import serves
from .ledger import Agent, Ledger, Task
from .live import Live
from .waits import has_to_wait, resources_of, wait_of

__all__ = ["Queues", "choose_agent", "offers", "satisfies", "wanted_of"]


@dataclass(slots=True)
class _Bucket:
    """Tasks that any of the same agents could do: those that all of `wanted` describe."""

    wanted: tuple[dict[str, Any], ...]
    heap: list[tuple[int, int, str]] = field(default_factory=list)
    """(negative priority, lsn, task)."""


class Queues:
    """The queued tasks that could be offered now, by skill and by what they require."""

    def __init__(self) -> None:
        self._skills: dict[str, dict[bytes, _Bucket]] = {}
        self._waiting: dict[str, bytes] = {}
        """Task to the bucket it waits in."""
        self._changed: dict[str, None] = {}

    def add(self, task: Task) -> None:
        """Queue a task, once; either way its skill is looked at in the next pass."""
        wanted = wanted_of(task)
        skill = task.spec["skill"]
        key = canonical(wanted) if wanted else b""
        self._changed[skill] = None
        if self._waiting.get(task.id) == key:
            return
        self._waiting[task.id] = key
        buckets = self._skills.setdefault(skill, {})
        bucket = buckets.get(key)
        if bucket is None:
            bucket = buckets[key] = _Bucket(wanted)
        heappush(bucket.heap, (-task.spec.get("priority", 0), task.lsn, task.id))

    def remove(self, task: str) -> None:
        """Let a task wait for something else than an agent."""
        self._waiting.pop(task, None)

    def has(self, task: str) -> bool:
        """Tell whether a task waits for an agent."""
        return task in self._waiting

    def capacity_changed(self, agent: Agent) -> None:
        """Note that the agent may take more than before."""
        for skill in agent.skills:
            if skill in self._skills:
                self._changed[skill] = None

    def take_changed(self) -> list[str]:
        """Return the skills to look at, and start afresh."""
        changed, self._changed = list(self._changed), {}
        return changed

    def heads(self, skill: str, ledger: Ledger, now: int) -> Generator[tuple[Task, _Bucket], bool, None]:
        """Yield the task to offer next of each bucket, best first; the caller sends True back where it was taken.

        Tasks that are no longer queued, or that wait for a later time, leave the bucket on the way. One that some
        agent does not want to see for a while, or may not have, steps aside: those behind it do not wait with it.
        """
        buckets = self._skills.get(skill, {})
        aside: list[tuple[_Bucket, tuple[int, int, str]]] = []
        open_buckets = list(buckets.items())
        while open_buckets:
            best: tuple[tuple[int, int, str], bytes, _Bucket] | None = None
            for key, bucket in list(open_buckets):
                head = self._head(key, bucket, ledger, now)
                if head is None:
                    open_buckets.remove((key, bucket))
                elif best is None or head < best[0]:
                    best = (head, key, bucket)
            if best is None:
                break
            head, key, bucket = best
            task = ledger.tasks[head[2]]
            taken = yield task, bucket
            if taken:
                heappop(bucket.heap)
                del self._waiting[head[2]]
            elif any(until > now for until in task.shunned.values()) or ledger.barred(task):
                aside.append((bucket, heappop(bucket.heap)))
            else:
                open_buckets.remove((key, bucket))
        for bucket, head in aside:
            heappush(bucket.heap, head)
        for key in [key for key, bucket in buckets.items() if not bucket.heap]:
            del buckets[key]
        if not buckets:
            self._skills.pop(skill, None)

    def _head(self, key: bytes, bucket: _Bucket, ledger: Ledger, now: int) -> tuple[int, int, str] | None:
        heap = bucket.heap
        while heap:
            waits_here = self._waiting.get(heap[0][2]) == key
            task = ledger.tasks.get(heap[0][2])
            if waits_here and task is not None and task.state is TaskState.QUEUED and task.retry_at <= now:
                return heap[0]
            left = heappop(heap)[2]
            if waits_here:
                del self._waiting[left]
        return None


def wanted_of(task: Task) -> tuple[dict[str, Any], ...]:
    """Return what an agent must be to get the task now: what it asks for, and what whoever handed it on asked for."""
    return tuple(requires for requires in (task.spec.get("requires"), task.handed_to) if requires)


def satisfies(agent: Agent, wanted: AgentFilter) -> bool:
    """Tell whether the agent passes a discovery filter."""
    requires: dict[str, Any] = {}
    if wanted.agent is not None:
        requires["agent"] = wanted.agent
    if wanted.labels:
        requires["labels"] = wanted.labels
    if wanted.tags:
        requires["tags"] = wanted.tags
    if wanted.media_type is not None:
        requires["mediaType"] = wanted.media_type
    of_skill = (
        wanted.skill is not None or wanted.tags or wanted.media_type is not None or wanted.input_schema is not None
    )
    if not of_skill:
        return serves({}, agent, requires)
    return any(
        (wanted.skill is None or skill["id"] == wanted.skill)
        and serves(skill, agent, requires)
        and (wanted.input_schema is None or _schema_hash(skill) == wanted.input_schema)
        for skill in agent.skills.values()
    )


def _schema_hash(skill: dict[str, Any]) -> str | None:
    schema = skill.get("inputSchema")
    return None if schema is None else content_hash(schema, b"")


def choose_agent(task: Task, wanted: tuple[dict[str, Any], ...], ledger: Ledger, live: Live, now: int) -> str | None:
    """Return the agent to offer the task to, or None where nobody suitable has credit.

    In this order: the one who knows it already (a rework, an answer), those who did not lose or decline it before,
    the least loaded. Ties go by rendezvous hashing of (task, agent), so neither the order of arrival nor of iteration
    matters.
    """
    best: tuple[bool, bool, int] | None = None
    tied: list[str] = []
    knows = task.last_agent if task.rev or task.asks else None
    barred = ledger.barred(task)
    for agent in ledger.by_skill.get(task.spec["skill"], {}).values():
        if agent.status != "ready":
            continue
        if agent.id in ledger.quarantined:
            continue
        free = live.free_credit(agent.id, ledger)
        if free <= 0 or not serves(agent.skills[task.spec["skill"]], agent, *wanted):
            continue
        shunned_until = task.shunned.get(agent.id)
        if agent.id in barred or (shunned_until is not None and shunned_until > now):
            continue
        credit = live.agents[agent.id].credit_tasks
        score = (shunned_until is not None and agent.id != knows, agent.id != knows, (credit - free) * 1000 // credit)
        if best is None or score < best:
            best, tied = score, [agent.id]
        elif score == best:
            tied.append(agent.id)
    if not tied:
        return None
    return tied[0] if len(tied) == 1 else max(tied, key=lambda agent: (_rendezvous(task.id, agent), agent))


def _rendezvous(task: str, agent: str) -> bytes:
    return hashlib.blake2b(f"{task}\n{agent}".encode(), digest_size=8).digest()


def offers(queues: Queues, ledger: Ledger, live: Live, now: int) -> Iterator[tuple[Task, str | None]]:
    """Yield (task, agent) for everything that can be offered now. The caller applies each before the next is asked.

    A task that an agent would take but whose resources are not free stands in line for them, out of the way of those
    behind it; where it begins to, it is yielded without an agent (spec CLAIM-9).
    """
    for skill in queues.take_changed():
        heads = queues.heads(skill, ledger, now)
        item = next(heads, None)
        while item is not None:
            task, bucket = item
            agent = choose_agent(task, bucket.wanted, ledger, live, now)
            names = resources_of(task) if agent is not None else {}
            wait = wait_of(task, names) if names else None
            if wait is not None and has_to_wait(ledger, live, wait):
                if live.line.join(task, names, wait.standing):
                    yield task, None
            elif agent is not None:
                yield task, agent
            try:
                item = heads.send(agent is not None)
            except StopIteration:
                item = None
