"""Who gets a queued task: one pass after every change, and a pure ranking (spec ROUTE).

Queued tasks that ask for the same kind of agent wait in one bucket, oldest first inside a priority. A pass looks only
at buckets that changed, and at those that an agent which may take more could serve, so its cost does not grow with what
merely waits; whom it asks comes from `slots`, so neither does it with who merely is there.
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
    """Tasks that any of the same agents could do: those that all of `wanted` describe."""

    key: bytes
    wanted: tuple[dict[str, Any], ...]
    named: str | None
    """The one agent that they are for, or None."""
    excluded: tuple[str, ...]
    """Agents that they are not for."""
    kind: tuple[dict[str, Any], ...]
    """What else is wanted: the pool of agents is that of all buckets with the same."""
    kind_key: bytes
    trait: Trait | None = None
    """What it is found by: one of those that are wanted, the one that the fewest other buckets are found by."""
    heap: list[tuple[int, int, str]] = field(default_factory=list)
    """(negative priority, lsn, task)."""

    @classmethod
    def of(cls, key: bytes, wanted: tuple[dict[str, Any], ...]) -> _Bucket:
        """Make the bucket for what these tasks ask for."""
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
    """Those of all other tasks, by a trait that whoever does them has; under None those for anybody."""

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
        """Yield the buckets that an agent could serve, with this skill of its card: anybody may ask for what nobody is.

        However many others there are, they are not looked at.
        """
        yield from self.named.get(agent.id, {}).values()
        for trait in (None, *dict.fromkeys(traits_of(skill, agent))):
            for bucket in self.unnamed.get(trait, {}).values():
                if serves(skill, agent, *bucket.wanted):
                    yield bucket


def _drop(found: dict[_By, dict[bytes, _Bucket]], by: _By, bucket: _Bucket) -> None:
    """Have a bucket no more found by something."""
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
    """The queued tasks that could be offered now, by skill and by what they require, and who has a slot free."""

    def __init__(self) -> None:
        self.slots = FreeSlots()
        self._skills: dict[str, _Skill] = {}
        self._waiting: dict[str, tuple[str, bytes]] = {}
        """Task to the skill and the bucket it waits in."""
        self._changed: dict[str, _Change] = {}

    def add(self, task: Task) -> None:
        """Queue a task, once; either way its bucket is looked at in the next pass."""
        wanted = wanted_of(task)
        skill = task.spec["skill"]
        key = canonical(wanted) if wanted else b""
        self._change(skill).buckets[key] = None
        before = self._waiting.get(task.id)
        if before == (skill, key):
            return
        if before is not None:
            self._change(before[0]).buckets[before[1]] = None  # nobody may ever look at what nothing waits in
        self._waiting[task.id] = (skill, key)
        buckets = self._skills.setdefault(skill, _Skill())
        bucket = buckets.buckets.get(key)
        if bucket is None:
            bucket = _Bucket.of(key, wanted)
            buckets.add(bucket)
        heappush(bucket.heap, (-task.spec.get("priority", 0), task.lsn, task.id))

    def remove(self, task: str) -> None:
        """Let a task wait for something else than an agent, or for nothing: its bucket is tidied in the next pass."""
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
        """Return the skills to look at, and start afresh."""
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
        """Yield the task to offer next of each bucket, best first; the caller sends True back where it was taken.

        Of the buckets that did not change, those are looked at that an agent which may take more could serve: for the
        others nobody was free when they were looked at last.

        Tasks that are no longer queued, or that wait for a later time, leave the bucket on the way. One that some
        agent does not want to see for a while, or may not have, steps aside: those behind it do not wait with it.
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
            head = self._head((skill, bucket.key), bucket, ledger, now)  # what was taken before may have ended others
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
    """Return what an agent must be to get the task now: what it asks for, and what whoever handed it on asked for."""
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
    """Return the agent to offer the task to, or None where nobody suitable has credit.

    In this order: the one who knows it already (a rework, an answer), those who did not lose or decline it before,
    the least loaded. Ties go by rendezvous hashing of (task, agent), so neither the order of arrival nor of iteration
    matters.
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
        # Who is in the pool has lost or declined it, or is not to have it: these are few.
        again = {agent for agent, until in task.shunned.items() if until <= now}
        chosen = pool.least_used(task.id, (agent for agent in pool.share_of if agent not in again or agent in never))
    return chosen


def offers(queues: Queues, ledger: Ledger, live: Live, now: int) -> Iterator[tuple[Task, str | None]]:
    """Yield (task, agent) for everything that can be offered now. The caller applies each before the next is asked.

    A task that an agent would take but whose resources are not free stands in line for them, out of the way of those
    behind it; where it begins to, it is yielded without an agent (spec CLAIM-9).
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
