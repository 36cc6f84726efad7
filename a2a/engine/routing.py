"""Which agent gets a queued task: one pass after every change, and a pure ranking (spec ROUTE).

Queued tasks that ask for the same kind of agent wait in one bucket, oldest first within a priority. A pass looks only
at buckets that changed and at buckets that an agent with new capacity could serve, so its cost does not grow with tasks
that merely wait. The agents to ask come from `slots`, so the cost does not grow with agents that are merely present.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Any, TypeVar

from ..protocol.canonical import canonical
from ..protocol.messages import AgentFilter
from ..protocol.states import TaskState
from .capacity import Trait, serves, traits_of, traits_wanted
from .ledger import Agent, Ledger
from .live import Live
from .schema_hashes import SchemaHashes
from .slots import FreeSlots, share_in_use
from .task_state import Task
from .waits import has_to_wait, resources_of, wait_of

_By = TypeVar("_By")

__all__ = ["Queues", "choose_agent", "offers", "satisfies", "wanted_of"]


@dataclass(slots=True)
class _Bucket:
    """Tasks that any of the same agents could do: those that match all of `wanted`."""

    key: bytes
    wanted: tuple[dict[str, Any], ...]
    named: str | None
    """The one agent the tasks are for, or None."""
    excluded: tuple[str, ...]
    """Agents the tasks are not for."""
    kind: tuple[dict[str, Any], ...]
    """The requirements without `exclude`: all buckets with the same ones share a pool of agents."""
    kind_key: bytes
    trait: Trait | None = None
    """What the bucket is found by: of its wanted traits, the one that the fewest other buckets are found by."""
    heap: list[tuple[int, int, str]] = field(default_factory=list)
    """(negative priority, lsn, task)."""

    @classmethod
    def of(cls, key: bytes, wanted: tuple[dict[str, Any], ...]) -> _Bucket:
        """Make the bucket for tasks that ask for this."""
        if not wanted:
            return cls(key, (), None, (), (), b"")
        named = next((requires["agent"] for requires in wanted if "agent" in requires), None)
        excluded = tuple(agent for requires in wanted for agent in requires.get("exclude", ()))
        others = ({name: requires[name] for name in requires if name != "exclude"} for requires in wanted)
        kind = tuple(requires for requires in others if requires)
        return cls(key, wanted, named, excluded, kind, canonical(kind) if kind else b"")


@dataclass(slots=True)
class _Skill:
    """The buckets of one skill."""

    buckets: dict[bytes, _Bucket] = field(default_factory=dict)
    named: dict[str, dict[bytes, _Bucket]] = field(default_factory=dict)
    """Agent to the buckets of tasks for it alone."""
    unnamed: dict[Trait | None, dict[bytes, _Bucket]] = field(default_factory=dict)
    """The buckets of all other tasks, by a trait that an agent must have to do them; under None those for any agent."""

    def add(self, bucket: _Bucket) -> None:
        self.buckets[bucket.key] = bucket
        if bucket.named is not None:
            self.named.setdefault(bucket.named, {})[bucket.key] = bucket
            return
        traits = traits_wanted(*bucket.wanted)
        bucket.trait = min(traits, key=lambda trait: len(self.unnamed.get(trait, ())), default=None)
        self.unnamed.setdefault(bucket.trait, {})[bucket.key] = bucket

    def drop(self, bucket: _Bucket) -> None:
        del self.buckets[bucket.key]
        if bucket.named is not None:
            _drop(self.named, bucket.named, bucket)
        else:
            _drop(self.unnamed, bucket.trait, bucket)

    def servable(self, skill: dict[str, Any], agent: Agent) -> Iterator[_Bucket]:
        """Yield the buckets that an agent could serve, with this skill of its card.

        Other buckets, however many, are not looked at: tasks may ask for agents that do not exist.
        """
        yield from self.named.get(agent.id, {}).values()
        for trait in (None, *dict.fromkeys(traits_of(skill, agent))):
            for bucket in self.unnamed.get(trait, {}).values():
                if serves(skill, agent, *bucket.wanted):
                    yield bucket


def _drop(found: dict[_By, dict[bytes, _Bucket]], by: _By, bucket: _Bucket) -> None:
    """Remove a bucket from those found by something."""
    beside = found[by]
    del beside[bucket.key]
    if not beside:
        del found[by]


@dataclass(slots=True)
class _Change:
    """What a pass looks at in one skill."""

    buckets: dict[bytes, None] = field(default_factory=dict)
    agents: dict[str, None] = field(default_factory=dict)


class Queues:
    """The queued tasks that could be offered now, by skill and by what they require, and agents with a free slot."""

    def __init__(self) -> None:
        self.slots = FreeSlots()
        self._skills: dict[str, _Skill] = {}
        self._waiting: dict[str, tuple[str, bytes]] = {}
        """Task to the skill and the bucket it waits in."""
        self._changed: dict[str, _Change] = {}

    def add(self, task: Task) -> None:
        """Queue a task, once; in any case its bucket is looked at in the next pass."""
        wanted = wanted_of(task)
        skill = task.spec["skill"]
        key = canonical(wanted) if wanted else b""
        self._change(skill).buckets[key] = None
        before = self._waiting.get(task.id)
        if before == (skill, key):
            return
        if before is not None:
            self._change(before[0]).buckets[before[1]] = None  # else an empty bucket might never be looked at again
        self._waiting[task.id] = (skill, key)
        buckets = self._skills.setdefault(skill, _Skill())
        bucket = buckets.buckets.get(key)
        if bucket is None:
            bucket = _Bucket.of(key, wanted)
            buckets.add(bucket)
        heappush(bucket.heap, (-task.spec.get("priority", 0), task.lsn, task.id))

    def remove(self, task: str) -> None:
        """Remove a task that no longer waits for an agent; the next pass tidies its bucket."""
        place = self._waiting.pop(task, None)
        if place is not None:
            self._change(place[0]).buckets[place[1]] = None

    def has(self, task: str) -> bool:
        """Tell whether a task waits for an agent."""
        return task in self._waiting

    def capacity_changed(self, agent: Agent) -> None:
        """Note that the agent may take more than before."""
        self.slots.changed(agent)
        for skill in agent.skills:
            if skill in self._skills:
                self._change(skill).agents[agent.id] = None

    def take_changed(self) -> dict[str, _Change]:
        """Return the skills to look at, and clear them."""
        changed, self._changed = self._changed, {}
        return changed

    def _change(self, skill: str) -> _Change:
        change = self._changed.get(skill)
        if change is None:
            change = self._changed[skill] = _Change()
        return change

    def heads(
        self, skill: str, change: _Change, ledger: Ledger, now: int
    ) -> Generator[tuple[Task, _Bucket], bool, None]:
        """Yield the next task to offer of each bucket, best first; the caller sends True back if it was taken.

        Of the buckets that did not change, only those that an agent with new capacity could serve are looked at: for
        the others nobody was free when they were last looked at.

        Tasks that are no longer queued, or that wait for a later time, leave the bucket on the way. A task that some
        agent refuses to see for a while, or may not have, steps aside: the tasks behind it do not wait with it.
        """
        buckets = self._skills.get(skill)
        if buckets is None:
            return
        aside: list[tuple[_Bucket, tuple[int, int, str]]] = []
        looked_at = {key: buckets.buckets[key] for key in change.buckets if key in buckets.buckets}
        known = (ledger.agents.get(agent) for agent in change.agents)
        for agent in (agent for agent in known if agent is not None and skill in agent.skills):
            looked_at.update((bucket.key, bucket) for bucket in buckets.servable(agent.skills[skill], agent))
        heads: list[tuple[tuple[int, int, str], int, _Bucket]] = []
        for number, bucket in enumerate(looked_at.values()):
            head = self._head((skill, bucket.key), bucket, ledger, now)
            if head is not None:
                heads.append((head, number, bucket))
        heapify(heads)
        while heads:
            _, number, bucket = heappop(heads)
            head = self._head((skill, bucket.key), bucket, ledger, now)  # offers made meanwhile may have ended tasks
            if head is None:
                continue
            if heads and heads[0][0] < head:
                heappush(heads, (head, number, bucket))
                continue
            task = ledger.tasks[head[2]]
            taken = yield task, bucket
            if taken:
                heappop(bucket.heap)
                del self._waiting[head[2]]
            elif any(until > now for until in task.shunned.values()) or ledger.barred(task):
                aside.append((bucket, heappop(bucket.heap)))
            else:
                continue
            following = self._head((skill, bucket.key), bucket, ledger, now)
            if following is not None:
                heappush(heads, (following, number, bucket))
        for bucket, head in aside:
            heappush(bucket.heap, head)
        for bucket in looked_at.values():
            if not bucket.heap:
                buckets.drop(bucket)
        if not buckets.buckets:
            self._skills.pop(skill, None)

    def _head(self, place: tuple[str, bytes], bucket: _Bucket, ledger: Ledger, now: int) -> tuple[int, int, str] | None:
        heap = bucket.heap
        while heap:
            waits_here = self._waiting.get(heap[0][2]) == place
            task = ledger.tasks.get(heap[0][2])
            if waits_here and task is not None and task.state is TaskState.QUEUED and task.retry_at <= now:
                return heap[0]
            left = heappop(heap)[2]
            if waits_here:
                del self._waiting[left]
        return None


def wanted_of(task: Task) -> tuple[dict[str, Any], ...]:
    """Return what an agent must be to get the task now: as the task and its handoff require."""
    return tuple(requires for requires in (task.spec.get("requires"), task.handed_to) if requires)


def satisfies(agent: Agent, wanted: AgentFilter, hashes: SchemaHashes) -> bool:
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
        and (wanted.input_schema is None or hashes.of(agent, name) == wanted.input_schema)
        for name, skill in agent.skills.items()
    )


def choose_agent(task: Task, bucket: _Bucket, slots: FreeSlots, ledger: Ledger, live: Live, now: int) -> str | None:
    """Return the agent to offer the task to, or None if no suitable agent has credit.

    In this order: the agent that already knows the task (a rework, an answer), agents that did not lose or decline it
    before, the least loaded. Ties go by rendezvous hashing of (task, agent), so the order of arrival and of iteration
    does not matter.
    """
    barred = ledger.barred(task)
    first = bucket.named or (task.last_agent if task.rev or task.asks else None)
    if first is not None and first not in barred and task.shunned.get(first, now) <= now:
        agent = ledger.agents.get(first)
        if agent is not None and share_in_use(agent, task.spec["skill"], bucket.wanted, ledger, live) is not None:
            return first
    pool = slots.pool(task.spec["skill"], bucket.kind_key, bucket.kind, ledger, live) if not bucket.named else None
    if pool is None or not pool.share_of:
        return None
    never = (*bucket.excluded, *sorted(barred))
    chosen = pool.least_used(task.id, dict.fromkeys((*never, *task.shunned)))
    if chosen is None and task.shunned:
        # All agents in the pool have lost or declined it, or must not have it: these are few.
        again = {agent for agent, until in task.shunned.items() if until <= now}
        chosen = pool.least_used(task.id, (agent for agent in pool.share_of if agent not in again or agent in never))
    return chosen


def offers(queues: Queues, ledger: Ledger, live: Live, now: int) -> Iterator[tuple[Task, str | None]]:
    """Yield (task, agent) for everything that can be offered now. The caller applies each before it asks for the next.

    A task that an agent would take, but whose resources are not free, stands in line for them, out of the way of the
    tasks behind it. When it joins the line, it is yielded without an agent (spec CLAIM-9).
    """
    for skill, change in queues.take_changed().items():
        heads = queues.heads(skill, change, ledger, now)
        item = next(heads, None)
        while item is not None:
            task, bucket = item
            agent = choose_agent(task, bucket, queues.slots, ledger, live, now)
            names = resources_of(task) if agent is not None else {}
            wait = wait_of(task, names) if names else None
            if wait is not None and has_to_wait(ledger, live, wait):
                has_claims = wait.owner in ledger.claims.by_owner
                if live.line.join(task, names, wait.standing, has_claims=has_claims):
                    yield task, None
            elif agent is not None:
                yield task, agent
            try:
                item = heads.send(agent is not None)
            except StopIteration:
                item = None
