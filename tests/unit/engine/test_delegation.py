"""The delegator's own machine: what it knows of the tasks it delegated."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from a2a.engine.delegation import Delegation, Delegations, Review
from a2a.protocol.codec import Frame
from a2a.protocol.messages import (
    ConflictResolved,
    Error,
    Limits,
    Message,
    Ok,
    TaskAnswer,
    TaskAsk,
    TaskCancel,
    TaskConfirm,
    TaskCreated,
    TaskDelegate,
    TaskEventNotice,
    TaskFound,
    TaskGet,
    TaskReview,
    TaskSettled,
    TaskWatch,
    Welcome,
)
from a2a.protocol.session import Identity, PeerSession, Reply

HASH = "sha256:" + "1" * 64


class Bench:
    def __init__(self) -> None:
        numbers = itertools.count(1)
        self.session = PeerSession(Identity("d#1", "i", 1), lambda: f"f{next(numbers)}")
        self.delegations = Delegations(self.session)
        self.connect()

    def connect(self) -> None:
        self.session.connected()
        [hello] = self.session.outgoing()
        welcome = Welcome("1.0", "main", 1, "fsync", Limits(1_000, 100, 1, 1, 1, 1, 1, 1), 1)
        self.session.receive(Frame("w", welcome, re=hello.id))
        self.delegations.on_welcome()

    def messages(self) -> list[Message]:
        return [frame.message for frame in self.session.outgoing()]

    def reply(self, frame: Frame, message: Message) -> list[Delegation]:
        [event] = self.session.receive(Frame("r", message, re=frame.id))
        assert isinstance(event, Reply)
        return self.delegations.on_reply(event)

    def delegate(self, *, created: bool = True, state: str = "queued") -> Delegation:
        delegation = self.delegations.delegate(TaskDelegate("k", {"skill": "x"}))
        [frame] = self.session.outgoing()
        assert self.reply(frame, TaskCreated("t-1", 1, created, state, "c")) == [delegation]
        return delegation

    def notice(self, message: Message) -> list[Delegation]:
        return self.delegations.on_notice(message, None)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def review(rev: int = 0, payload: bytes = b"[]") -> TaskReview:
    return TaskReview("t-1", 3, rev, HASH, payload, "w", 1000)


def event(generation: int, kind: str, state: str = "leased") -> TaskEventNotice:
    return TaskEventNotice("t-1", generation, kind, state, 1)


def test_a_created_task_is_known_by_its_id(bench: Bench) -> None:
    delegation = bench.delegate()
    assert (delegation.task, delegation.created, delegation.context_id) == ("t-1", True, "c")
    assert bench.messages() == []


def test_a_task_that_was_watched_before_it_was_there_is_watched_then(bench: Bench) -> None:
    delegation = bench.delegations.delegate(TaskDelegate("k", {"skill": "x"}))
    bench.delegations.watch(delegation)
    [frame] = bench.session.outgoing()
    bench.reply(frame, TaskCreated("t-1", 1, True, "queued", "c"))
    assert bench.messages() == [TaskWatch("t-1")]


def test_a_result_that_is_told_again_stands_at_the_newer_generation(bench: Bench) -> None:
    delegation = bench.delegate()
    for generation in (3, 7):
        bench.notice(replace(review(), generation=generation))
    assert delegation.review is not None and delegation.review.generation == 7


def test_who_rejects_a_result_has_the_one_that_came_meanwhile(bench: Bench) -> None:
    delegation, other = bench.delegate(), bench.delegate()
    bench.notice(review(0))
    read = delegation.review
    bench.notice(review(1))
    newer = delegation.review
    bench.delegations.confirm(delegation, "reject", read=read)
    [frame] = bench.session.outgoing()
    bench.reply(frame, Ok())
    assert delegation.review is newer is not None
    assert other.review is not None and other.review.rev == 1


def test_a_task_that_has_ended_asks_nothing(bench: Bench) -> None:
    delegation = bench.delegate()
    bench.notice(TaskAsk("t-1", 1, b"[]"))
    bench.notice(TaskSettled("t-1", 4, "failed", "attempts"))
    assert delegation.asks == {}


def test_a_refusal_ends_the_delegation(bench: Bench) -> None:
    delegation = bench.delegations.delegate(TaskDelegate("k", {"skill": "x"}))
    [frame] = bench.session.outgoing()
    error = Error("idempotency_mismatch", "other input")
    bench.reply(frame, error)
    assert delegation.refused == error
    assert delegation.has_ended


def test_a_task_that_was_there_before_is_looked_up(bench: Bench) -> None:
    delegation = bench.delegations.delegate(TaskDelegate("k", {"skill": "x"}))
    [frame] = bench.session.outgoing()
    bench.reply(frame, TaskCreated("t-1", 4, False, "completed", "c"))
    [get] = bench.session.outgoing()
    assert get.message == TaskGet("t-1")
    metadata = {"state": "completed", "rev": 1, "resultHash": HASH, "agent": "w", "confirmedBy": "d"}
    bench.reply(get, TaskFound("t-1", 4, {"metadata": metadata}, payload=b"[1]"))
    assert delegation.review == Review(1, HASH, b"[1]", "w", generation=4)
    assert delegation.settled is not None and delegation.settled.state == "completed"


def test_an_open_question_of_an_adopted_task_is_found_again(bench: Bench) -> None:
    delegation = bench.delegations.delegate(TaskDelegate("k", {"skill": "x"}))
    [frame] = bench.session.outgoing()
    bench.reply(frame, TaskCreated("t-1", 4, False, "parked", "c"))
    [get] = bench.session.outgoing()
    asks: list[dict[str, Any]] = [{"askNo": 1, "payload": b"[]", "answer": b"[]"}, {"askNo": 2, "payload": "[2]"}]
    bench.reply(get, TaskFound("t-1", 4, {"metadata": {"state": "parked"}}, asks=asks))
    assert list(delegation.asks) == [2]
    assert delegation.asks[2].payload == b"[2]"


@pytest.mark.parametrize("state", ["completed", "failed", "reported", "parked"])
def test_a_task_of_which_another_process_was_told_is_read_where_there_is_news(bench: Bench, state: str) -> None:
    delegation = bench.delegate()
    bench.delegations.look_up(delegation)
    [look] = bench.session.outgoing()
    assert look.message == TaskGet("t-1", content=False)
    metadata = {"state": state, "rev": 0, "resultHash": HASH, "agent": "w"}
    assert bench.reply(look, TaskFound("t-1", 4, {"metadata": metadata})) == []
    assert (delegation.review, delegation.settled) == (None, None), "what is without its content says nothing"
    [get] = bench.session.outgoing()
    assert get.message == TaskGet("t-1")
    asks: list[dict[str, Any]] = [{"askNo": 1, "payload": b"[]"}] if state == "parked" else []
    assert bench.reply(get, TaskFound("t-1", 4, {"metadata": metadata}, payload=b"[1]", asks=asks)) == [delegation]
    assert delegation.has_ended == (state in ("completed", "failed"))
    assert (delegation.review is not None) == (state in ("completed", "reported"))
    assert list(delegation.asks) == ([1] if state == "parked" else [])
    if not delegation.has_ended:
        bench.delegations.look_up(delegation)
        [look] = bench.session.outgoing()
        bench.reply(look, TaskFound("t-1", 4, {"metadata": metadata}))
    assert bench.messages() == [], "what is known is not read again"


def test_the_end_of_a_task_whose_result_is_known_is_taken_without_its_content(bench: Bench) -> None:
    delegation = bench.delegate()
    bench.notice(review())
    known = delegation.review
    bench.delegations.look_up(delegation)
    [look] = bench.session.outgoing()
    metadata = {"state": "completed", "rev": 0, "resultHash": HASH, "agent": "w", "confirmedBy": "d"}
    assert bench.reply(look, TaskFound("t-1", 4, {"metadata": metadata})) == [delegation]
    assert (bench.messages(), delegation.review) == ([], known)
    assert delegation.settled is not None and delegation.settled.state == "completed"


def test_the_end_of_a_task_with_another_result_than_the_known_one_is_read(bench: Bench) -> None:
    delegation = bench.delegate()
    bench.notice(review())
    bench.delegations.look_up(delegation)
    [look] = bench.session.outgoing()
    metadata = {"state": "completed", "rev": 0, "resultHash": "sha256:" + "0" * 64, "agent": "w"}
    assert bench.reply(look, TaskFound("t-1", 4, {"metadata": metadata})) == []
    assert bench.messages() == [TaskGet("t-1")]
    assert not delegation.has_ended


@pytest.mark.parametrize("state", ["queued", "leased", "canceling", "disputed"])
def test_where_there_is_no_news_of_a_task_nothing_more_is_read(bench: Bench, state: str) -> None:
    delegation = bench.delegate()
    bench.delegations.look_up(delegation)
    [look] = bench.session.outgoing()
    bench.reply(look, TaskFound("t-1", 4, {"metadata": {"state": state, "rev": 0}}))
    assert bench.messages() == []


def test_a_later_revision_is_news(bench: Bench) -> None:
    delegation = bench.delegate()
    bench.notice(review(0))
    bench.delegations.look_up(delegation)
    [look] = bench.session.outgoing()
    bench.reply(look, TaskFound("t-1", 9, {"metadata": {"state": "reported", "rev": 1}}))
    assert bench.messages() == [TaskGet("t-1")]


def test_a_result_that_was_overruled_is_known_from_the_word_or_from_a_look(bench: Bench) -> None:
    delegation = bench.delegate()
    bench.notice(review())
    assert delegation.review is not None
    bench.notice(ConflictResolved("k1", "moot", "it ended", "", dissent=["t-1", "t-2"]))
    assert delegation.review.overruled == ""
    bench.notice(ConflictResolved("k2", "select", "the other", "ann", ref="t-2", dissent=["t-1"]))
    assert delegation.review.overruled == "k2"
    metadata = {"state": "reported", "rev": 0, "resultHash": HASH, "agent": "w", "overruled": "k3"}
    for known in ("k2", "k3"):
        bench.delegations.look_up(delegation)
        [look] = bench.session.outgoing()
        bench.reply(look, TaskFound("t-1", 9, {"metadata": metadata}))
        for get in bench.session.outgoing():
            assert (known, get.message) == ("k2", TaskGet("t-1"))
            bench.reply(get, TaskFound("t-1", 9, {"metadata": metadata}, payload=b"[]"))
        assert delegation.review.overruled == "k3"
    bench.notice(review(1))
    assert delegation.review.overruled == "", "the next revision is another result"


def test_who_accepts_names_the_generation_in_which_it_learned_of_the_result(bench: Bench) -> None:
    delegation = bench.delegate()
    bench.notice(review())
    bench.delegations.confirm(delegation)
    [word] = bench.messages()
    assert (word.verdict, word.if_gen) == ("accept", review().generation)
    bench.delegations.look_up(delegation)
    [look] = bench.session.outgoing()
    metadata = {"state": "reported", "rev": 0, "resultHash": HASH, "agent": "w", "overruled": "k1"}
    bench.reply(look, TaskFound("t-1", 9, {"metadata": metadata}))
    [get] = bench.session.outgoing()
    bench.reply(get, TaskFound("t-1", 9, {"metadata": metadata}, payload=b"[]"))
    bench.delegations.confirm(delegation)
    bench.delegations.confirm(delegation, "reject")
    assert [(word.verdict, word.if_gen) for word in bench.messages()] == [("accept", 9), ("reject", None)]


def test_one_look_waits_for_a_connection_however_long_that_is_away(bench: Bench) -> None:
    delegation = bench.delegate()
    bench.session.disconnected()
    for _ in range(3):
        bench.delegations.look_up(delegation)
    bench.connect()
    [look] = bench.session.outgoing()
    bench.reply(look, TaskFound("t-1", 4, {"metadata": {"state": "leased", "rev": 0}}))
    bench.delegations.look_up(delegation)
    assert bench.messages() == [TaskGet("t-1", content=False)], "the next one is made when that has its answer"


def test_what_was_not_created_or_has_ended_is_not_looked_up(bench: Bench) -> None:
    delegation = bench.delegations.delegate(TaskDelegate("k", {"skill": "x"}))
    [frame] = bench.session.outgoing()
    bench.delegations.look_up(delegation)
    bench.reply(frame, Error("auth", "no"))
    bench.delegations.look_up(delegation)
    assert bench.messages() == []


def test_a_review_is_confirmed_by_its_revision_and_hash(bench: Bench) -> None:
    delegation = bench.delegate()
    assert bench.delegations.confirm(delegation) is None, "there is nothing to confirm yet"
    assert bench.notice(review()) == [delegation]
    bench.delegations.confirm(delegation)
    assert bench.messages() == [TaskConfirm("t-1", 0, HASH, "accept", if_gen=3)]


def test_a_rejected_review_is_gone_and_an_older_one_does_not_replace_a_newer(bench: Bench) -> None:
    delegation = bench.delegate()
    bench.notice(review(0))
    bench.delegations.confirm(delegation, "reject", rework=True, feedback=b'["more"]')
    assert bench.messages() == [TaskConfirm("t-1", 0, HASH, "reject", True, "", b'["more"]')]
    assert delegation.review is None
    bench.notice(review(1, b"[new]"))
    bench.notice(review(0, b"[old]"))
    assert delegation.review == Review(1, HASH, b"[new]", "w", generation=3)


def test_a_settled_notice_brings_the_result_of_an_automatic_acceptance(bench: Bench) -> None:
    delegation = bench.delegate()
    bench.notice(TaskSettled("t-1", 4, "completed", rev=0, result_hash=HASH, agent="w", payload=b"[1]"))
    assert delegation.review == Review(0, HASH, b"[1]", "w")
    assert delegation.has_ended


@pytest.mark.parametrize("known", [None, "sha256:" + "2" * 64])
def test_a_task_that_ends_with_a_result_that_came_to_somebody_else_is_read(bench: Bench, known: str | None) -> None:
    """It was delegated again with its key while the word on it was under way."""
    delegation = bench.delegate(created=False)
    [adopting] = bench.session.outgoing()
    if known is not None:
        bench.notice(replace(review(0), result_hash=known))
    bench.notice(TaskSettled("t-1", 4, "completed", rev=1, result_hash=HASH, agent="w"))
    assert not delegation.has_ended
    [look] = bench.session.outgoing()
    assert adopting.message == look.message == TaskGet("t-1")
    metadata = {"state": "completed", "rev": 1, "resultHash": HASH, "agent": "w"}
    bench.reply(look, TaskFound("t-1", 4, {"metadata": metadata}, payload=b"[1]"))
    assert delegation.has_ended and delegation.review == Review(1, HASH, b"[1]", "w", generation=4)


def test_questions_wait_for_their_answer(bench: Bench) -> None:
    delegation = bench.delegate()
    ask = TaskAsk("t-1", 1, b"[]")
    assert bench.notice(ask) == [delegation]
    assert delegation.asks == {1: ask}
    bench.delegations.answer(delegation, 1, b'["y"]')
    assert delegation.asks == {}
    bench.delegations.cancel(delegation, "coop", "enough")
    assert bench.messages() == [TaskAnswer("t-1", 1, b'["y"]'), TaskCancel("t-1", "coop", "enough")]


def test_a_watch_goes_on_behind_the_newest_generation_after_a_new_connection(bench: Bench) -> None:
    delegation = bench.delegate()
    bench.delegations.watch(delegation)
    [watch] = bench.session.outgoing()
    assert watch.message == TaskWatch("t-1", 0)
    bench.session.receive(Frame("r", event(0, "x"), re=watch.id))
    bench.notice(event(1, "created"))
    bench.notice(event(2, "grant"))
    bench.session.disconnected()
    bench.connect()
    assert TaskWatch("t-1", 2) in bench.messages()


def test_all_who_follow_a_task_go_on_after_a_new_connection(bench: Bench) -> None:
    bench.delegate()
    followed = bench.delegations.follow("t-1", 3)
    further = bench.delegations.follow("t-1", 1)
    bench.messages()
    bench.session.disconnected()
    bench.connect()
    assert bench.messages() == [TaskWatch("t-1", 1)], "the one that delegated it does not watch"
    for generation in (2, 3, 4):
        bench.notice(event(generation, "x"))
    assert [seen.generation for seen in followed.events] == [4]
    assert [seen.generation for seen in further.events] == [2, 3, 4]


def test_who_has_seen_the_end_of_a_task_watches_it_no_more(bench: Bench) -> None:
    followed = bench.delegations.follow("t-1")
    bench.notice(event(1, "cancel", "canceled"))
    assert followed.is_over
    bench.session.disconnected()
    bench.connect()
    assert bench.messages() == []
    refused = bench.delegations.follow("t-2")
    refused.refused = Error("gone", "")
    bench.delegations.follow("t-2", 5)
    assert bench.delegations.watching("t-2") == TaskWatch("t-2", 5), "it waits for no events any more"


def test_who_has_seen_less_misses_nothing_by_a_watch_that_begins_later(bench: Bench) -> None:
    ahead = bench.delegations.follow("t-1", 2)
    behind = bench.delegations.follow("t-1")
    for generation in (3, 4):
        bench.notice(event(generation, "x"))  # by the watch of the first
    assert bench.delegations.watching("t-1") == TaskWatch("t-1", 0)
    for generation in (1, 2, 3, 4):
        bench.notice(event(generation, "x"))
    assert [seen.generation for seen in ahead.events] == [3, 4]
    assert [seen.generation for seen in behind.events] == [1, 2, 3, 4]
    bench.delegations.follow("t-1", 9)
    assert bench.delegations.watching("t-1") == TaskWatch("t-1", 4), "it takes no event from the others"


def test_of_two_that_follow_a_task_alike_the_one_that_stays_goes_on(bench: Bench) -> None:
    staying, leaving = bench.delegations.follow("t-1"), bench.delegations.follow("t-1")
    bench.delegations.forget(leaving)
    bench.notice(event(1, "created"))
    assert [seen.event for seen in staying.events] == ["created"]
    assert leaving.events == []


def test_repeated_events_are_seen_once_and_progress_each_time(bench: Bench) -> None:
    delegation = bench.delegate()
    bench.delegations.watch(delegation)
    for message in (
        event(1, "created"),
        event(2, "grant"),
        event(2, "grant"),
        event(2, "progress"),
        event(2, "progress"),
    ):
        bench.notice(message)
    assert [seen.event for seen in delegation.events] == ["created", "grant", "progress", "progress"]
    assert not delegation.is_over
    bench.notice(event(3, "complete", "completed"))
    assert delegation.is_over


def test_events_of_tasks_that_are_not_watched_are_dropped(bench: Bench) -> None:
    delegation = bench.delegate()
    assert bench.notice(event(2, "grant")) == []
    assert delegation.events == []


def test_progress_that_nobody_takes_does_not_add_up(bench: Bench) -> None:
    """A watch that was left to wait for the result of a task of days."""
    delegation = bench.delegate()
    bench.delegations.watch(delegation)
    bench.notice(event(1, "created"))
    for at in range(1_000):
        assert bench.notice(replace(event(1, "progress"), at=at)) == [delegation]
    kept = [known.at for known in delegation.events if known.event == "progress"]
    assert kept == [*range(254), 999]
    bench.notice(event(2, "artifact"))
    for at in range(1_000, 2_000):
        bench.notice(replace(event(2, "progress"), at=at))
    assert [(known.event, known.at) for known in delegation.events[-2:]] == [("artifact", 1), ("progress", 1_999)]
    assert len(delegation.events) == 258


def test_a_forgotten_task_is_not_watched_any_more(bench: Bench) -> None:
    delegation = bench.delegate()
    bench.delegations.watch(delegation)
    bench.messages()
    bench.delegations.forget(delegation)
    assert bench.messages() == [TaskWatch("t-1", stop=True)]
    assert bench.notice(review()) == []


def test_a_delegation_forgotten_before_its_answer_is_not_repeated(bench: Bench) -> None:
    delegation = bench.delegations.delegate(TaskDelegate("k", {"skill": "x"}))
    bench.delegations.forget(delegation)
    assert bench.session.waiting == 0


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_task_that_was_given_up_before_it_was_known_ends_once_it_is(bench: Bench, is_lost: bool) -> None:
    delegation = bench.delegations.delegate(TaskDelegate("k", {"skill": "x"}))
    frames = bench.session.outgoing()
    bench.delegations.give_up(delegation)
    bench.delegations.forget(delegation)
    assert bench.delegations.are_open, "until its answer is there"
    if is_lost:
        bench.session.disconnected()
        bench.connect()
        assert bench.session.outgoing() == frames
    assert bench.reply(frames[0], TaskCreated("t-1", 1, not is_lost, "queued", "c")) == []
    assert bench.messages() == [TaskCancel("t-1", "coop", "nobody waits for it any more")]
    assert not bench.delegations.are_open


def test_a_task_that_was_given_up_ends_and_one_that_has_ended_is_left_alone(bench: Bench) -> None:
    delegation = bench.delegate()
    bench.delegations.give_up(delegation)
    assert [message.kind for message in bench.messages()] == ["task.cancel"]
    bench.notice(TaskSettled("t-1", 4, "canceled"))
    bench.delegations.give_up(delegation)
    bench.delegations.forget(delegation)
    assert bench.messages() == []
    assert not bench.delegations.are_open


def test_what_was_given_up_before_it_was_sent_is_not_asked_for(bench: Bench) -> None:
    bench.session.disconnected()
    delegation = bench.delegations.delegate(TaskDelegate("k", {"skill": "x"}))
    bench.delegations.give_up(delegation)
    bench.delegations.forget(delegation)
    bench.connect()
    assert bench.messages() == []
    assert not bench.delegations.are_open


def test_somebody_elses_task_is_followed_from_a_generation(bench: Bench) -> None:
    followed = bench.delegations.follow("t-9", 3)
    bench.delegations.on_notice(TaskEventNotice("t-9", 3, "old", "leased", 1), None)
    bench.delegations.on_notice(TaskEventNotice("t-9", 4, "report", "reported", 1), None)
    assert [seen.generation for seen in followed.events] == [4]


@pytest.mark.parametrize("code", ["gone", "not_found"])
@pytest.mark.parametrize("request_", [TaskGet("t-1", content=False), TaskGet("t-1"), TaskWatch("t-1")])
def test_a_task_that_is_not_there_any_more_is_over(bench: Bench, request_: Message, code: str) -> None:
    """No notice tells of it: who waits for one would wait for ever (spec READ-6)."""
    delegation = bench.delegate()
    bench.session.request(request_)
    [frame] = bench.session.outgoing()
    assert bench.reply(frame, Error(code, "it ended long ago")) == [delegation]
    assert delegation.has_ended
    assert delegation.is_over
    assert delegation.refused == Error(code, "it ended long ago")


def test_a_task_that_could_not_be_looked_up_may_be_looked_up_again(bench: Bench) -> None:
    delegation = bench.delegate()
    bench.delegations.look_up(delegation)
    [frame] = bench.session.outgoing()
    assert bench.reply(frame, Error("unavailable", "the archive cannot be read")) == []
    assert not delegation.has_ended


def test_a_watch_that_is_refused_is_made_again_by_whoever_asks_again(bench: Bench) -> None:
    delegation = bench.delegate()
    bench.delegations.watch(delegation)
    [frame] = bench.session.outgoing()
    error = Error("quota", "a connection watches at most 4096 tasks")
    assert bench.reply(frame, error) == [delegation]
    assert (delegation.unwatched, delegation.is_watched, delegation.has_ended) == (error, False, False)
    bench.connect()
    assert bench.messages() == []
    bench.delegations.watch(delegation)
    assert bench.messages() == [TaskWatch("t-1")]


def test_the_refused_end_of_a_watch_is_no_news(bench: Bench) -> None:
    delegation = bench.delegate()
    bench.session.request(TaskWatch("t-1", stop=True))
    [frame] = bench.session.outgoing()
    assert bench.reply(frame, Error("unavailable", "the archive cannot be read")) == []
    assert delegation.unwatched is None
