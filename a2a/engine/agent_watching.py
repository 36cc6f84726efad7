"""A peer's machine for the agents it watches: who came, left and changed, over all its connections (spec REG-3).

Pure, like its siblings: replies and notices in, changed watches out. A find lasts as long as its connection, and
nothing ends it earlier: one per skill is shared by all watchers of the skill, and kept for later ones. A connection may
have a few hundred finds (spec LIMIT-7), some for skills that nobody watches any more; so their number is limited, and
watchers of further skills share one find for all agents. After a new handshake a find is made again, and the
differences in its answer are what happened meanwhile. Used by clients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from ..protocol.messages import AgentEvent, AgentFilter, AgentFind, AgentFound, AgentInfo, Error, Message
from ..protocol.session import PeerSession, Reply

__all__ = ["AgentWatches", "WatchedAgents"]

_VALUES_MAX = 10_000
"""Events kept for a watcher: if it falls further behind, only those are kept that tell how each agent stands now, as
after a lost connection."""

_FINDS_MAX = 64
"""Finds of single skills on one connection: each is told of agents that come and go, even if nobody watches it."""


@dataclass(slots=True, eq=False)
class WatchedAgents:
    """Agents with a skill, or all agents, as one watcher knows them."""

    skill: str | None
    there: dict[str, AgentInfo] = field(default_factory=dict)
    """The agents it was told are there, as they were told."""
    values: list[AgentEvent] = field(default_factory=list)
    """Events not taken yet."""
    kept: int = 0
    """How many events were kept when it last fell too far behind: they are reduced again at twice as many."""
    refused: Error | None = None
    """Why the coordinator refused the watch, if it did."""


class AgentWatches:
    """The agents that one peer watches."""

    def __init__(self, session: PeerSession) -> None:
        self.session = session
        self._watched: dict[str | None, list[WatchedAgents]] = {}
        self._finds: dict[str | None, str] = {}
        """Skill to the find that goes on for it on this connection."""
        self._asked: dict[str, list[WatchedAgents]] = {}
        """Finds without an answer, with the watchers that wait for it."""

    @property
    def are_open(self) -> bool:
        """Whether somebody watches agents."""
        return bool(self._watched)

    def watch(self, skill: str | None = None) -> WatchedAgents:
        """Watch; the returned record changes as news arrive. forget() it when nobody cares any more."""
        watched = WatchedAgents(skill)
        self._watched.setdefault(skill, []).append(watched)
        self._ask(skill, [watched])
        return watched

    def forget(self, watched: WatchedAgents) -> None:
        """Stop watching."""
        others = self._watched.get(watched.skill, [])
        if watched in others:
            others.remove(watched)
            if not others:
                del self._watched[watched.skill]
            goes_on = self._finds.get(watched.skill)
            for find in [find for find, asking in self._asked.items() if asking == [watched] and find != goes_on]:
                del self._asked[find]
                self.session.forget(find)

    def on_welcome(self) -> None:
        """Repeat the finds that are still watched; the session itself repeats those that had no answer."""
        self._finds = {skill: find for skill, find in self._finds.items() if find in self._asked}
        for skill, watching in self._watched.items():
            if skill in self._finds:
                self._asked[self._finds[skill]] = list(watching)
            else:
                self._ask(skill, list(watching))

    def on_reply(self, reply: Reply) -> list[WatchedAgents]:
        """Take a reply, and return the watches that it has news for or ended."""
        asking = self._asked.pop(reply.re, None)
        if asking is None:
            return []
        if isinstance(reply.message, Error):
            for skill in [skill for skill, find in self._finds.items() if find == reply.re]:
                asking = self._living_on(skill)
                del self._finds[skill]
        asking = [watched for watched in asking if watched in self._watched.get(watched.skill, ())]
        for watched in asking:
            if isinstance(reply.message, Error):
                watched.refused = reply.message
                self.forget(watched)
            elif isinstance(reply.message, AgentFound):
                watched.values.extend(_news(watched, reply.message.agents))
        return [watched for watched in asking if watched.values or watched.refused]

    def on_notice(self, message: Message, re: str | None) -> list[WatchedAgents]:
        """Take a notice, and return the watches that it has news for."""
        told: list[WatchedAgents] = []
        if isinstance(message, AgentEvent):
            for skill in [skill for skill, find in self._finds.items() if find == re]:
                told.extend(watched for watched in self._living_on(skill) if self._tell(watched, skill, message))
        return told

    def _tell(self, watched: WatchedAgents, skill: str | None, event: AgentEvent) -> bool:
        """Pass an event of this skill's find to a watcher, and tell whether it is about one of the watcher's agents."""
        agent = event.agent.agent
        if watched.skill != skill and not _has(event.agent, watched.skill):
            if agent not in watched.there:
                return False
            event = replace(event, change="left")  # as the coordinator tells it of an agent that no longer passes
        watched.values.append(event)
        if len(watched.values) > max(_VALUES_MAX, 2 * watched.kept):
            watched.values = list(_newest(watched.values))
            watched.kept = len(watched.values)
        if event.change == "left":
            watched.there.pop(agent, None)
        else:
            watched.there[agent] = event.agent
        return True

    def _ask(self, skill: str | None, asking: list[WatchedAgents]) -> None:
        """Ask which agents are there, and for events, if no find of this connection tells them already."""
        is_crowded = skill is not None and skill not in self._finds and len(self._finds) >= _FINDS_MAX
        if is_crowded and None not in self._finds:
            # Asked before the question who is there, so that nothing in between is missed.
            self._asked[self._find(None, watch=True)] = []
        self._asked[self._find(skill, watch=not is_crowded and skill not in self._finds)] = asking

    def _find(self, skill: str | None, *, watch: bool) -> str:
        request = self.session.request(AgentFind(AgentFilter(skill=skill), watch=watch))
        if watch:
            self._finds[skill] = request
        return request

    def _living_on(self, skill: str | None) -> list[WatchedAgents]:
        """Return the watchers that a skill's find tells; the find of all agents also tells those without a find."""
        others = (known for known in self._watched if skill is None and known not in self._finds)
        return [watched for known in (skill, *others) for watched in self._watched.get(known, ())]


def _has(agent: AgentInfo, skill: str | None) -> bool:
    return any(known["id"] == skill for known in agent.card.get("skills", ()))


def _newest(events: Sequence[AgentEvent]) -> Iterator[AgentEvent]:
    """Reduce untaken events to at most one per agent, the newest last."""
    began: dict[str, str] = {}
    newest: dict[str, AgentEvent] = {}
    for event in events:
        agent = event.agent.agent
        began.setdefault(agent, event.change)
        newest.pop(agent, None)
        newest[agent] = event
    for agent, event in newest.items():
        was_there, is_there = began[agent] != "joined", event.change != "left"
        if is_there:
            yield replace(event, change="changed" if was_there else "joined")
        elif was_there:
            yield event


def _news(watched: WatchedAgents, agents: Sequence[AgentInfo]) -> Iterator[AgentEvent]:
    """Return the events from the agents a watcher knows to those found, and update what it knows."""
    found = {info.agent: info for info in agents}
    there = {agent: info for agent, info in found.items() if info.status != "away"}
    for agent, before in watched.there.items():
        if agent not in there:
            yield AgentEvent("left", found.get(agent) or replace(before, status="away", credit=0, seen_ms=None))
    for agent, info in there.items():
        known = watched.there.get(agent)
        if known is None:
            yield AgentEvent("joined", info)
        elif (known.status, known.labels, known.card) != (info.status, info.labels, info.card):
            yield AgentEvent("changed", info)
    watched.there = there
