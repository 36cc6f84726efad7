"""A peer's watches of agents: what is asked for, what is passed on, what is told behind a lost connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest

from a2a.engine import agent_watching
from a2a.engine.agent_watching import AgentWatches, WatchedAgents
from a2a.protocol.codec import Frame
from a2a.protocol.messages import AgentEvent, AgentFind, AgentFound, AgentInfo, Error, Limits, Message, Welcome
from a2a.protocol.session import Identity, Notice, PeerSession, Reply, Welcomed

CARD: Any = {"name": "helper", "description": "Helps with tests", "version": "1", "skills": []}


def info(agent: str, status: Literal["ready", "draining", "away"] = "ready") -> AgentInfo:
    return AgentInfo(agent, CARD, status)


def taken(watched: WatchedAgents) -> list[tuple[str, str, str]]:
    values, watched.values = watched.values, []
    return [(event.change, event.agent.agent, event.agent.status) for event in values]


class World:
    """A session, and the coordinator's words put into it."""

    def __init__(self) -> None:
        names = (f"id{number}" for number in range(1_000))
        self.session = PeerSession(Identity("ann", "1", 1), lambda: next(names))
        self.watches = AgentWatches(self.session)
        self.connect()

    def connect(self) -> None:
        self.session.disconnected()
        self.session.connected()
        (hello,) = self.session.outgoing()
        welcome = Welcome("1.0", "main", 1, "memory", Limits(1, 1, 1, 1, 1, 1, 1, 1), next_mseq=1)
        self.hear(welcome, hello.id)

    def asked(self) -> list[tuple[str, str | None, bool]]:
        """Return the finds sent since: id, skill, whether it goes on."""
        found = [(frame.id, frame.message) for frame in self.session.outgoing()]
        return [(one, find.filter.skill, find.watch) for one, find in found if isinstance(find, AgentFind)]

    def hear(self, message: Message, re: str) -> list[WatchedAgents]:
        changed: list[WatchedAgents] = []
        for event in self.session.receive(Frame("c", message, re)):
            if isinstance(event, Reply):
                changed += self.watches.on_reply(event)
            elif isinstance(event, Notice):
                changed += self.watches.on_notice(event.message, event.re)
            elif isinstance(event, Welcomed):
                self.watches.on_welcome()
        return changed


@pytest.fixture
def world() -> Iterator[World]:
    yield World()


def test_who_is_there_comes_first_and_then_what_happens(world: World) -> None:
    watched = world.watches.watch("hum")
    [(find, skill, goes_on)] = world.asked()
    assert (skill, goes_on) == ("hum", True) and world.watches.are_open
    assert world.hear(AgentFound([info("a"), info("b", "away")]), find) == [watched]
    assert taken(watched) == [("joined", "a", "ready")]
    assert world.hear(AgentEvent("left", info("a", "away")), find) == [watched]
    assert world.hear(AgentEvent("joined", info("c")), "another find") == []
    assert taken(watched) == [("left", "a", "away")]
    world.watches.forget(watched)
    world.watches.forget(watched)
    assert not world.watches.are_open


def test_one_find_of_a_connection_is_for_all_who_watch_a_skill(world: World) -> None:
    first = world.watches.watch()
    [(find, _, _)] = world.asked()
    world.hear(AgentFound([info("a")]), find)
    second = world.watches.watch()
    [(look, _, goes_on)] = world.asked()
    assert not goes_on, "it would tell everything twice, and nothing ends it"
    assert world.hear(AgentEvent("joined", info("b")), find) == [first, second]
    assert world.hear(AgentFound([info("a"), info("b")]), look) == [second]
    assert taken(first) == [("joined", "a", "ready"), ("joined", "b", "ready")]
    assert taken(second) == [("joined", "b", "ready"), ("joined", "a", "ready")]
    for watched in (first, second):
        world.watches.forget(watched)
    third = world.watches.watch()
    assert [goes_on for _, _, goes_on in world.asked()] == [False], "it goes on while nobody watches"
    world.watches.forget(third)
    world.connect()
    assert world.asked() == [], "nobody watches any more"


def test_behind_a_lost_connection_what_is_otherwise_is_told(world: World) -> None:
    watched = world.watches.watch()
    [(find, _, _)] = world.asked()
    world.hear(AgentFound([info("stays"), info("leaves"), info("drains"), info("vanishes")]), find)
    taken(watched)
    world.connect()
    [(again, _, goes_on)] = world.asked()
    assert goes_on and again != find
    world.hear(
        AgentFound([info("stays"), info("leaves", "away"), info("drains", "draining"), info("comes")]),
        again,
    )
    assert sorted(taken(watched)) == [
        ("changed", "drains", "draining"),
        ("joined", "comes", "ready"),
        ("left", "leaves", "away"),
        ("left", "vanishes", "away"),
    ]


def test_a_find_without_an_answer_is_made_once_more_and_not_twice(world: World) -> None:
    first = world.watches.watch()
    [(find, _, _)] = world.asked()
    second = world.watches.watch()
    world.connect()
    again = {one: goes_on for one, _, goes_on in world.asked()}
    assert sorted(again.values()) == [False, True] and again[find]
    assert world.hear(AgentFound([info("a")]), find) == [first, second]
    assert taken(first) == taken(second) == [("joined", "a", "ready")]


def test_a_refusal_ends_all_who_live_on_the_find(world: World) -> None:
    first = world.watches.watch()
    [(find, _, _)] = world.asked()
    second = world.watches.watch()
    assert world.hear(Error("quota", "too many finds"), find) == [first, second]
    assert first.refused and second.refused and not world.watches.are_open
    assert world.hear(AgentEvent("joined", info("c")), find) == []
    world.asked()
    world.watches.watch()
    assert [goes_on for _, _, goes_on in world.asked()] == [True], "it may be taken now"


def able(agent: str, *skills: str, status: Literal["ready", "away"] = "ready") -> AgentInfo:
    return AgentInfo(agent, CARD | {"skills": [{"id": skill} for skill in skills]}, status)


def test_skills_that_nobody_watches_any_more_take_no_finds_for_ever(world: World) -> None:
    """A find goes on to the end of its connection, and the coordinator takes some hundreds."""
    for number in range(300):
        world.watches.forget(world.watches.watch(f"skill{number}"))
    finds = world.asked()
    assert sum(goes_on for _, _, goes_on in finds) == agent_watching._FINDS_MAX + 1 < 256
    assert [skill for _, skill, goes_on in finds if goes_on][-1] is None, "the last is for all that come after"


def test_who_lives_on_the_find_of_all_is_told_of_the_agents_with_its_skill(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_watching, "_FINDS_MAX", 1)
    first, watched = world.watches.watch("first"), world.watches.watch("hum")
    [(its, _, _), (everybody, skill, goes_on), (find, _, is_watch)] = world.asked()
    assert (skill, goes_on, is_watch) == (None, True, False), "and it comes before the question who is there"
    assert world.hear(AgentFound([]), its) == []
    assert world.hear(AgentFound([able("a", "hum"), able("other")]), everybody) == []
    assert world.hear(AgentFound([able("a", "hum")]), find) == [watched]
    for change, agent in (
        ("joined", able("b", "hum", "sing")),
        ("changed", able("a", "hum", "sing")),
        ("changed", able("other", "hum")),
        ("changed", able("b", "sing")),
        ("left", able("a", "hum", status="away")),
    ):
        assert world.hear(AgentEvent(change, agent), everybody) == [watched]  # type: ignore[arg-type]
    for agent in (able("b", "first"), able("c")):
        assert world.hear(AgentEvent("changed", agent), everybody) == [], "they are none of its own"
    assert taken(watched) == [
        ("joined", "a", "ready"),
        ("joined", "b", "ready"),
        ("changed", "a", "ready"),
        ("changed", "other", "ready"),
        ("left", "b", "ready"),
        ("left", "a", "away"),
    ]
    assert world.hear(AgentEvent("joined", able("d", "first")), its) == [first]
    all_of_them = world.watches.watch()
    assert [goes_on for _, _, goes_on in world.asked()] == [False], "the find of all is there"
    assert world.hear(AgentEvent("joined", able("e")), everybody) == [all_of_them]


def test_who_lives_on_the_find_of_all_ends_with_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_watching, "_FINDS_MAX", 0)
    one, other = world.watches.watch("hum"), world.watches.watch("sing")
    everybody = world.asked()[0][0]
    assert world.hear(Error("too_large", "10001 agents match"), everybody) == [one, other]
    assert one.refused and other.refused and not world.watches.are_open


def test_behind_a_lost_connection_the_finds_are_of_those_who_watch_now(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_watching, "_FINDS_MAX", 1)
    gone = world.watches.watch("gone")
    world.watches.watch("hum")
    for find, _, _ in world.asked():
        world.hear(AgentFound([]), find)
    world.watches.forget(gone)
    world.connect()
    assert [(skill, goes_on) for _, skill, goes_on in world.asked()] == [("hum", True)]


def test_who_takes_nothing_is_told_how_each_agent_stands_and_not_what_came_and_went(world: World) -> None:
    watched = world.watches.watch("x")
    [(find, _, _)] = world.asked()
    world.hear(AgentFound([info("stays"), info("leaves"), info("comes-back")]), find)
    assert len(taken(watched)) == 3

    def happens(change: Literal["joined", "left", "changed"], agent: str) -> None:
        assert world.hear(AgentEvent(change, info(agent, "away" if change == "left" else "ready")), find) == [watched]

    happens("left", "leaves")
    happens("left", "comes-back")
    happens("changed", "stays")
    happens("joined", "new")
    for _ in range(6_000):
        happens("joined", "comes-and-goes")
        happens("left", "comes-and-goes")
    happens("joined", "comes-back")
    assert len(watched.values) < 4_000
    told = taken(watched)
    assert told[:4] == [
        ("left", "leaves", "away"),
        ("left", "comes-back", "away"),
        ("changed", "stays", "ready"),
        ("joined", "new", "ready"),
    ]
    assert told[-1] == ("joined", "comes-back", "ready")


def test_of_one_that_is_far_behind_and_there_again_is_told_that_it_changed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_watching, "_VALUES_MAX", 2)
    watched = world.watches.watch("x")
    [(find, _, _)] = world.asked()
    world.hear(AgentFound([info("one")]), find)
    taken(watched)
    for change in ("left", "joined", "changed"):
        world.hear(AgentEvent(change, info("one")), find)
    assert taken(watched) == [("changed", "one", "ready")]
