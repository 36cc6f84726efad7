"""A peer's watches of contexts: what is asked for, what is passed on, where a watch goes on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from a2a.engine import context_watching
from a2a.engine.context_watching import ContextWatches, Watched
from a2a.protocol.codec import Frame
from a2a.protocol.messages import ContextEventNotice, ContextValue, ContextWatch, Error, Limits, Message, Ok, Welcome
from a2a.protocol.session import Identity, Notice, PeerSession, Reply, Welcomed


class World:
    """A session, and the coordinator's words put into it."""

    def __init__(self) -> None:
        names = (f"id{number}" for number in range(1_000))
        self.session = PeerSession(Identity("ann", "1", 1), lambda: next(names))
        self.watches = ContextWatches(self.session)
        self.connect()

    def connect(self) -> None:
        self.session.disconnected()
        self.session.connected()
        (hello,) = self.session.outgoing()
        welcome = Welcome("1.0", "main", 1, "memory", Limits(1, 1, 1, 1, 1, 1, 1, 1), next_mseq=1)
        self.hear(welcome, hello.id)

    def asked(self, *, grant: bool = True) -> list[tuple[str, ContextWatch]]:
        """Return the watch requests sent since, with their ids, and grant them."""
        found = [
            (frame.id, frame.message) for frame in self.session.outgoing() if isinstance(frame.message, ContextWatch)
        ]
        for request, _ in found if grant else ():
            assert self.hear(Ok(), request) == []
        return found

    def hear(self, message: Message, re: str) -> list[Watched]:
        changed: list[Watched] = []
        for event in self.session.receive(Frame("c", message, re)):
            if isinstance(event, Reply):
                changed += self.watches.on_reply(event)
            elif isinstance(event, Notice):
                changed += self.watches.on_notice(event.message, event.re)
            elif isinstance(event, Welcomed):
                self.watches.on_welcome()
        return changed

    def event(self, lsn: int, re: str, *keys: str) -> list[Watched]:
        return self.hear(ContextEventNotice("c", lsn, [ContextValue(key, 1) for key in keys]), re)


@pytest.fixture
def world() -> Iterator[World]:
    yield World()


def keys(watched: Watched) -> list[str]:
    return [value.key for value in watched.values]


def test_what_is_written_is_passed_on_once(world: World) -> None:
    watched = world.watches.watch("c", "a", 5)
    ((request, message),) = world.asked()
    assert message == ContextWatch("c", "a", 5)
    assert world.event(6, request, "a1", "a2") == [watched]
    assert world.event(6, request, "a1", "a2") == []
    assert world.event(7, request, "a1") == [watched]
    assert (keys(watched), watched.lsn) == (["a1", "a2", "a1"], 7)


def test_a_watch_goes_on_where_it_stands_after_a_new_connection(world: World) -> None:
    watched = world.watches.watch("c", "", 0)
    ((before, _),) = world.asked()
    world.event(9, before, "a")
    world.connect()
    ((request, message),) = world.asked()
    assert message == ContextWatch("c", "", 9)
    assert world.event(10, before, "late") == [], "an event of the watch before comes again for this one"
    world.event(10, request, "b")
    assert keys(watched) == ["a", "b"]


def test_a_watch_that_was_never_answered_is_not_asked_for_twice(world: World) -> None:
    world.session.disconnected()
    world.watches.watch("c", "", 3)
    world.connect()
    assert [message for _, message in world.asked(grant=False)][-1] == ContextWatch("c", "", 3)
    assert world.session.waiting == 1


def test_watchers_of_one_prefix_share_a_watch_from_where_the_last_one_stands(world: World) -> None:
    first = world.watches.watch("c", "", 10)
    second = world.watches.watch("c", "", 4)
    (_, (request, message)) = world.asked()
    assert message == ContextWatch("c", "", 4)
    assert world.event(5, request, "old") == [second]
    assert world.event(11, request, "new") == [first, second]
    assert (keys(first), keys(second)) == (["new"], ["old", "new"])
    world.watches.forget(first)
    assert world.asked() == []
    world.watches.forget(second)
    world.watches.forget(second)
    assert [message for _, message in world.asked()] == [ContextWatch("c", "", stop=True)]
    assert not world.watches.are_open
    assert world.event(12, request, "more") == []


def test_other_prefixes_are_other_watches(world: World) -> None:
    all_of_it, some = world.watches.watch("c", "", 0), world.watches.watch("c", "a", 0)
    (first, _), (second, _) = world.asked()
    assert world.event(1, second, "a") == [some]
    assert world.event(1, first, "a", "b") == [all_of_it]
    assert (keys(all_of_it), keys(some)) == (["a", "b"], ["a"])


def test_a_watcher_that_is_too_slow_has_to_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_watching, "_VALUES_MAX", 3)
    slow, quick = world.watches.watch("c", "", 0), world.watches.watch("c", "", 0)
    request, _ = world.asked()[-1]
    world.event(1, request, "a", "b", "c")
    quick.values.clear()
    assert world.event(2, request, "d") == [slow, quick]
    assert slow.refused is not None
    assert (slow.refused.code, keys(slow), keys(quick)) == ("gone", [], ["d"])
    assert world.event(3, request, "e") == [quick]
    assert keys(slow) == []


def test_a_watch_that_is_refused_is_over(world: World) -> None:
    watched = world.watches.watch("c", "", 0)
    ((request, _),) = world.asked(grant=False)
    assert world.hear(Error("gone", "too far back"), request) == [watched]
    assert watched.refused is not None
    assert not world.watches.are_open
    world.watches.forget(watched)
    assert world.asked() == []
