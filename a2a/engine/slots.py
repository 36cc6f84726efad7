"""Which agents have a free slot for what kind of task, the least used first (spec ROUTE-2, ROUTE-4, ROUTE-5).

A choice costs the same whether ten agents are idle or ten thousand: agents that serve one kind of task stand in a pool
of their own, ordered by the share of their credit in use. `moved` notes whatever changes that share, or whether an
agent takes offers at all; the pools are updated when they are next asked for. They are derived from ledger and live
state and never stored; they do not know which task comes first.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from typing import Any

from .capacity import serves
from .ledger import Agent, Ledger
from .live import Live

__all__ = ["FreeSlots", "Pool", "choose_tied", "share_in_use"]

_POOLS_MAX = 64
"""Most pools, one per kind of task, for one skill. Each costs a look whenever one of its agents takes or ends a task;
beyond this the oldest pool is dropped, and made again when it is next asked for."""
_HANDFUL = 8
"""Agents compared one by one: a hash of each pair costs a microsecond."""
_BITS = 64

_Entry = tuple[int, str]
"""The hash of an agent's id, and the id."""


class Pool:
    """The agents that serve one kind of task and have a free slot.

    Args:
        skill: the skill that the tasks need.
        wanted: what else the agents must be.
    """

    __slots__ = ("_entries", "_shares", "share_of", "skill", "wanted")

    def __init__(self, skill: str, wanted: tuple[dict[str, Any], ...]) -> None:
        self.skill = skill
        self.wanted = wanted
        self.share_of: dict[str, int] = {}
        """Agent to the share of its credit in use, in thousandths."""
        self._entries: dict[int, list[_Entry]] = {}
        """The agents with each share, ordered by their hashes."""
        self._shares: list[int] = []
        """The keys of `_entries`, in order."""

    def place(self, entry: _Entry, share: int | None) -> None:
        """Note an agent's share of credit in use; None: it takes nothing, or does not serve these tasks."""
        before = self.share_of.get(entry[1])
        if before == share:
            return
        if before is not None:
            others = self._entries[before]
            del others[bisect_left(others, entry)]
            del self.share_of[entry[1]]
            if not others:
                del self._entries[before]
                del self._shares[bisect_left(self._shares, before)]
        if share is not None:
            self.share_of[entry[1]] = share
            if share not in self._entries:
                self._entries[share] = []
                insort(self._shares, share)
            insort(self._entries[share], entry)

    def least_used(self, task: str, without: Iterable[str] = ()) -> str | None:
        """Return the agent for a task among those with the smallest share in use; None if no agent is left."""
        left_out: dict[int, list[_Entry]] = {}
        for agent in without:
            share = self.share_of.get(agent)
            if share is not None:
                left_out.setdefault(share, []).append((_point(agent), agent))
        for share in self._shares:
            entries = self._entries[share]
            if share in left_out:
                entries = entries.copy()
                for entry in left_out[share]:
                    del entries[bisect_left(entries, entry)]
            if entries:
                return choose_tied(task, entries)
        return None


class FreeSlots:
    """The pools for every skill that an agent has and a task asked for."""

    def __init__(self) -> None:
        self._pools: dict[str, dict[bytes, Pool]] = {}
        """Skill to its pools by kind of task, the oldest first."""
        self._known: dict[str, tuple[_Entry, list[str]]] = {}
        """Agent to its entry, and the skills it was placed under."""
        self._moved: dict[str, None] = {}

    def changed(self, agent: Agent) -> None:
        """Note an agent that came or changed: its skills stay known if it is forgotten before the next choice."""
        self._entry(agent)
        self.moved(agent.id)

    def moved(self, agent: str) -> None:
        """Note that an agent with a card may take more than before, or less, or something else."""
        self._moved[agent] = None

    def forget(self, agent: str, ledger: Ledger) -> None:
        """Remove a forgotten agent at once: thousands may have been forgotten by the next choice."""
        self._moved.pop(agent, None)
        entry, skills = self._known.pop(agent, (None, []))
        if entry is not None:
            for skill in skills:
                self._left(entry, skill, ledger)

    def pool(
        self, skill: str, key: bytes, wanted: tuple[dict[str, Any], ...], ledger: Ledger, live: Live
    ) -> Pool | None:
        """Return the agents for one kind of task as they are now; None if no agent has the skill.

        Args:
            skill: the skill that the tasks need.
            key: identifies `wanted`.
            wanted: what an agent must be besides having the skill.
            ledger: which agents there are, and what they hold.
            live: which agents are connected.
        """
        self._catch_up(ledger, live)
        agents = ledger.by_skill.get(skill)
        if agents is None:
            return None
        pools = self._pools.setdefault(skill, {})
        pool = pools.get(key)
        if pool is None:
            if len(pools) >= _POOLS_MAX:
                del pools[next(iter(pools))]
            pool = pools[key] = Pool(skill, wanted)
            for agent in agents.values():
                pool.place(self._entry(agent)[0], share_in_use(agent, skill, wanted, ledger, live))
        return pool

    def _catch_up(self, ledger: Ledger, live: Live) -> None:
        for agent_id in self._moved:
            agent = ledger.agents.get(agent_id)
            if agent is None:
                continue  # without a card it has no slots
            entry, before = self._entry(agent)
            for skill in before:
                if skill not in agent.skills:
                    self._left(entry, skill, ledger)
            self._known[agent_id] = (entry, list(agent.skills))
            for skill in agent.skills:
                for pool in self._pools.get(skill, {}).values():
                    pool.place(entry, share_in_use(agent, skill, pool.wanted, ledger, live))
        self._moved.clear()

    def _left(self, entry: _Entry, skill: str, ledger: Ledger) -> None:
        """Remove an agent whose card no longer has this skill."""
        if skill not in ledger.by_skill:
            self._pools.pop(skill, None)
        for pool in self._pools.get(skill, {}).values():
            pool.place(entry, None)

    def _entry(self, agent: Agent) -> tuple[_Entry, list[str]]:
        known = self._known.get(agent.id)
        if known is None:
            known = self._known[agent.id] = ((_point(agent.id), agent.id), list(agent.skills))
        return known


def share_in_use(
    agent: Agent, skill: str, wanted: tuple[dict[str, Any], ...], ledger: Ledger, live: Live
) -> int | None:
    """Return the share of an agent's credit in use, in thousandths; None if it is not asked for such a task."""
    if agent.status != "ready":
        return None
    if agent.id in ledger.quarantined:
        return None
    free = live.free_credit(agent.id, ledger)
    if free <= 0 or skill not in agent.skills or not serves(agent.skills[skill], agent, *wanted):
        return None
    credit = live.agents[agent.id].credit_tasks
    return (credit - free) * 1000 // credit


def choose_tied(task: str, entries: Sequence[_Entry]) -> str:
    """Choose among agents that nothing else tells apart: by rendezvous hashing of (task, agent).

    Of more than a handful, only those are compared whose own hashes are nearest to the task's: bit by bit, the agents
    that agree with the task's hash are kept, as long as there are any. `entries` are in the order of their hashes.
    """
    start, end = 0, len(entries)
    if end > _HANDFUL:
        point, prefix = _point(task), 0
        for bit in reversed(range(_BITS)):
            middle = bisect_left(entries, (prefix | 1 << bit, ""), start, end)
            is_upper = middle < end if point >> bit & 1 else middle == start
            if is_upper:
                start, prefix = middle, prefix | 1 << bit
            else:
                end = middle
            if end - start <= _HANDFUL:
                break
    if end - start == 1:
        return entries[start][1]
    return max(entries[start:end], key=lambda entry: (_rendezvous(task, entry[1]), entry[1]))[1]


def _point(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=_BITS // 8).digest(), "big")


def _rendezvous(task: str, agent: str) -> bytes:
    return hashlib.blake2b(f"{task}\n{agent}".encode(), digest_size=8).digest()
