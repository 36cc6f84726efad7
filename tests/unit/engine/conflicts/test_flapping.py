"""An agent that processes take from each other again and again, and one that only dies and comes back as often."""

from dataclasses import replace

import pytest

from a2a.engine import snapshot
from a2a.engine.leases import proof
from a2a.engine.policy import LADDERS, Admission, digest
from a2a.engine.records import AgentForgotten, ConflictOpened, ConflictResolved, Offered
from a2a.engine.replay.run import Replay
from a2a.errors import ErrorCode
from a2a.protocol.messages import (
    AgentFilter,
    AgentFind,
    AgentForget,
    Bye,
    ConflictRaise,
    ConflictVote,
    Credit,
    Error,
    HeldStill,
    Ok,
    Ping,
    Pong,
    RaisedSubject,
    Welcome,
)
from a2a.protocol.messages import AgentForgotten as Forgotten


@pytest.fixture
def street(make_town):
    """A town in which an agent may be taken over twice within ten seconds, and not a third time."""

    def make(**policy):
        given = {"ladders": LADDERS, "admission": Admission(operator_token=digest("op")), "takeovers_ms": 10_000}
        return make_town(**(given | policy))

    return make


def comes(town, number, make_card, *, agent="w", **fields):
    """Have another process of the agent say hello; return its connection and the answer."""
    peer = town.dial()
    given = {"instance_id": f"{agent}-{number}", "incarnation": number, "card": make_card("echo")}
    answer = peer.say(town.hello(agent, credit=Credit(1, 256), **(given | fields)))
    if isinstance(answer, Welcome) and answer.secret is not None:
        town.secrets[agent] = answer.secret
    return peer, answer


@pytest.fixture
def flapping(street, make_card):
    """A town in which it was, and the process that is there then."""

    def make(**policy):
        town = street(**policy)
        for number in (1, 2, 3):
            peer, answer = comes(town, number, make_card)
            assert isinstance(answer, Welcome), answer
        return town, peer

    return make


@pytest.fixture
def quarantined(flapping, make_card):
    """A town in which the agent is in quarantine, the process that is there, and what the other one was told."""

    def make(**policy):
        town, there = flapping(**policy)
        comes(town, 4, make_card)
        there.say(Pong())
        _, answer = comes(town, 4, make_card)
        return town, there, answer

    return make


def opened(town):
    return town.said(ConflictOpened)


def test_one_takeover_too_many_is_refused_and_a_conflict(quarantined):
    town, there, answer = quarantined()
    (record,) = opened(town)
    assert (record.kind, record.rule, record.object, record.parties) == ("identity", "d2", "agent:w", {"w": "author"})
    assert [candidate["payload"] for candidate in record.candidates] == [
        b'{"incarnation":3,"instance":"w-3"}',
        b'{"incarnation":4,"instance":"w-4"}',
    ]
    assert (answer.code, answer.retryable, answer.retry_after_ms) == (ErrorCode.DENIED, True, 300_000)
    assert answer.data == {"conflict": record.conflict}
    assert "for another 300 s, while w-3 is here. Stop all of them but one" in answer.detail
    assert answer.detail.endswith(f"a vote on conflict {record.conflict}")
    assert there.closed is None and "conflict.opened" in [mail.kind for mail in there.mail()]


def test_whoever_is_there_is_asked_first_and_may_take_its_time(flapping, make_card):
    town, there = flapping()
    peer, answer = comes(town, 4, make_card)
    assert (answer.code, answer.retry_after_ms, peer.closed) == (ErrorCode.DENIED, 2_000, "refused")
    assert there.notices == [Ping()]
    town.pass_time(1_999)
    assert isinstance(comes(town, 4, make_card)[1], Error), "it has a moment left"
    assert (there.notices, opened(town)) == ([Ping()], [])


def test_an_agent_that_dies_and_comes_back_is_let_in_as_often_as_it_likes(flapping, make_card):
    town, there = flapping(answer_ms=500)
    for number in range(4, 9):
        assert isinstance(comes(town, number, make_card)[1], Error)
        town.pass_time(500)
        there, answer = comes(town, number, make_card)
        assert isinstance(answer, Welcome), "nobody has answered on the connection that was left behind"
    assert opened(town) == []
    assert len(town.coordinator.live.takeovers["w"]) == 2, "who did not answer was not taken over"


def test_who_left_in_good_order_or_died_and_was_missed_was_not_taken_over(street, make_card):
    town = street()
    for number in range(1, 9):
        peer, answer = comes(town, number, make_card)
        assert isinstance(answer, Welcome)
        if number % 2:
            peer.say(Bye("see you"))
        else:
            peer.drop()
    assert opened(town) == [] and town.coordinator.live.takeovers == {}


def test_one_that_was_not_heard_of_lately_is_just_replaced(street, make_card):
    town = street()
    for number in range(1, 9):
        assert isinstance(comes(town, number, make_card)[1], Welcome)
        town.pass_time(1_001)
    assert town.coordinator.live.takeovers == {}


def test_the_same_process_may_connect_as_often_as_it_likes(street, make_card):
    town = street()
    for _ in range(9):
        assert isinstance(comes(town, 1, make_card)[1], Welcome)
    assert town.coordinator.live.takeovers == {}


def test_the_process_that_is_there_may_connect_again(flapping, make_card):
    town, _ = flapping()
    assert isinstance(comes(town, 3, make_card)[1], Welcome)


def test_takeovers_that_are_rare_are_no_conflict(street, make_card):
    town = street()
    for number in range(1, 9):
        assert isinstance(comes(town, number, make_card)[1], Welcome)
        town.pass_time(5_000)
        town.peers[max(town.peers)].say(Pong())
    assert opened(town) == []


def test_an_answer_of_long_ago_does_not_count(flapping, make_card):
    town, there = flapping(takeovers_ms=60_000)
    comes(town, 4, make_card)
    there.say(Pong())
    town.pass_time(59_000)
    comes(town, 4, make_card)
    assert len(opened(town)) == 1
    town, there = flapping(takeovers_ms=60_000, conflicts_open_max=0)
    comes(town, 4, make_card)
    there.say(Pong())
    seat = there.seat
    seat.asked_at -= 60_000
    assert "is asked whether" in comes(town, 4, make_card)[1].detail
    assert there.notices == [Ping(), Ping()]


# While it lasts -------------------------------------------------------------------------------------------------------


def test_it_gets_no_offers_and_what_it_holds_goes_on(flapping, make_card):
    town, there = flapping()
    boss = town.join("boss")
    held = boss.delegate()
    offer = there.offer()
    comes(town, 4, make_card)
    there.say(Pong())
    comes(town, 4, make_card)
    waits = boss.delegate("k2")
    assert town.task(waits).state == "queued"
    assert there.beat(offer).kind == "task.lease"
    other = town.worker("v")
    assert town.task(waits).holder == "v" and other.offer().task == waits
    assert there.report(offer) == "admitted"
    assert town.task(held).state == "reported"


def test_what_it_holds_lapses_as_with_any_other(flapping, make_card):
    town, there = flapping()
    boss = town.join("boss")
    task = boss.delegate()
    offer = there.offer()
    comes(town, 4, make_card)
    there.say(Pong())
    comes(town, 4, make_card)
    there.drop()
    peer, answer = comes(town, 4, make_card)
    assert isinstance(answer, Welcome), "nobody is there"
    assert (town.task(task).state, town.task(task).losses) == ("queued", 1), "the other one does not hold it"
    town.pass_time(2_000)
    assert town.said(Offered)[-1].agent == "w" and town.said(Offered)[-1].task == task
    assert len(town.said(Offered)) == 1 and offer.task == task


def test_no_process_takes_the_place_of_another_that_answers(quarantined, make_card):
    town, there, _ = quarantined()
    before = len(town.said())
    for number in (5, 6):
        there.say(Pong())
        town.pass_time(5_000)
        _, answer = comes(town, number, make_card)
        assert answer.data == {"conflict": opened(town)[0].conflict}
    assert answer.retry_after_ms == 290_000
    assert all(record.__class__.__name__ == "Refused" for record in town.said()[before:])
    town.pass_time(2_000)
    assert isinstance(comes(town, 7, make_card)[1], Welcome), "it does not answer any more"


def test_it_can_be_seen(flapping, make_card):
    town, there = flapping()
    boss = town.join("boss")
    (info,) = boss.say(AgentFind(AgentFilter(agent="w"), watch=True)).agents
    assert info.quarantine is None
    comes(town, 4, make_card)
    there.say(Pong())
    comes(town, 4, make_card)
    (event,) = boss.notices
    assert event.change == "changed"
    assert event.agent.quarantine == {"conflict": opened(town)[0].conflict, "leftMs": 300_000}
    town.pass_time(300_000)
    assert boss.notices[-1].change == "changed" and boss.notices[-1].agent.quarantine is None


def test_a_restart_does_not_end_it(quarantined):
    town, _, _ = quarantined()
    again = town.restart()
    (conflict,) = again.ledger.quarantined.values()
    assert again.ledger.open_conflicts[conflict].rule == "d2"
    loaded = snapshot.load(snapshot.to_bytes(again.ledger), "main")
    assert loaded.quarantined == again.ledger.quarantined == {"w": conflict}


# Its end --------------------------------------------------------------------------------------------------------------


def test_it_ends_by_itself_and_what_waits_is_offered(quarantined):
    town, there, _ = quarantined()
    boss = town.join("boss")
    task = boss.delegate()
    town.pass_time(299_999)
    assert town.task(task).state == "queued"
    town.pass_time(1)
    (resolved,) = town.said(ConflictResolved)
    assert (resolved.outcome, resolved.ref) == ("reject_all", None)
    assert town.task(task).holder == "w" and town.ledger.quarantined == {}


@pytest.mark.parametrize("choice", ["instance-1", "instance-2", None])
def test_a_person_ends_it(quarantined, choice):
    town, there, _ = quarantined()
    boss, person = town.join("boss"), town.join("ann", operator_token="op")
    task = boss.delegate()
    assert isinstance(person.say(ConflictVote(opened(town)[0].conflict, choice, "the other one is stopped")), Ok)
    assert town.task(task).holder == "w"
    assert "conflict.resolved" in [mail.kind for mail in there.mail()]


# Where it does not open -----------------------------------------------------------------------------------------------


def test_where_nobody_looks_for_it_all_are_let_in(street, make_card):
    town = street(ladders={})
    for number in range(1, 9):
        assert isinstance(comes(town, number, make_card)[1], Welcome)


@pytest.mark.parametrize("why", ["open", "room"])
def test_the_takeover_is_refused_also_where_no_conflict_can_open(flapping, make_card, why):
    town, there = flapping(conflicts_open_max=16 if why == "open" else 0)
    if why == "open":
        values = [RaisedSubject(value=b"1"), RaisedSubject(value=b"2")]
        there.say(ConflictRaise("identity", values, "agent:w"))
    comes(town, 4, make_card)
    there.say(Pong())
    town.pass_time(1_000)
    _, answer = comes(town, 4, make_card)
    assert (answer.code, answer.data, answer.retry_after_ms) == (ErrorCode.DENIED, None, 9_000)
    assert [record for record in opened(town) if record.rule == "d2"] == []


def test_a_process_that_shows_what_is_lost_stops_the_coordinator_first(flapping, make_card):
    town, _ = flapping()
    held = HeldStill("main-9", 10**6, 0, proof(town.ledger, "w", "main-9", 10**6))
    comes(town, 4, make_card, held=[held])
    assert "older copy" in (town.coordinator.ready(town.now).halt or "")
    town.coordinator._ready.halt = None


@pytest.mark.parametrize("why", ["time", "room"])
def test_agents_that_were_taken_over_long_ago_are_forgotten(street, make_card, monkeypatch, why):
    town = street()
    for agent in ("a", "b"):
        for number in (1, 2):
            comes(town, number, make_card, agent=agent)
    assert list(town.coordinator.live.takeovers) == ["a", "b"]
    if why == "time":
        town.pass_time(10_000)
    else:
        monkeypatch.setattr("a2a.engine.conflicts.flapping._KNOWN_MAX", 2)
    for number in (1, 2):
        comes(town, number, make_card, agent="c")
    assert list(town.coordinator.live.takeovers) == ["b", "c"]


# Decided again --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"object": "agent:nobody"},
        {"kind": "resource"},
        {"ladder": [{"strategy": "human", "timeoutMs": 5}, {"strategy": "abort"}]},
        {"respond_at": 1},
        {"parties": {}},
        {"by": "somebody"},
    ],
)
def test_a_quarantine_that_is_not_what_follows_is_found(quarantined, change):
    town, _, _ = quarantined()
    records = [replace(record, **change) if record.__class__ is ConflictOpened else record for record in town.said()]
    assert Replay("main").run(records) is not None


def test_a_quarantine_of_an_agent_that_was_never_there_is_found(quarantined):
    town, _, _ = quarantined()
    (record,) = opened(town)
    candidates = [candidate | {"agent": "nobody"} for candidate in record.candidates]
    forged = replace(record, object="agent:nobody", parties={"nobody": "author"}, candidates=candidates)
    records = town.said()
    at = records.index(record)
    difference = Replay("main").run([*records[:at], forged])
    assert difference is not None and "has said hello" in difference.expected


def test_who_is_in_quarantine_is_not_forgotten(quarantined):
    town, there, _ = quarantined()
    (conflict,) = town.ledger.quarantined.values()
    there.drop()
    chief = town.join("chief", operator_token="op")
    answer = chief.say(AgentForget("w"))
    assert isinstance(answer, Error)
    assert (answer.code, conflict in answer.detail) == (ErrorCode.DENIED, True)
    chief.say(ConflictVote(conflict, None))
    assert chief.say(AgentForget("w")) == Forgotten(known=True, bound=True)


def test_an_offer_to_an_agent_in_quarantine_is_found(quarantined):
    town, _, _ = quarantined()
    task = town.join("boss").delegate()
    records = [record for record in town.said() if not isinstance(record, AgentForgotten)]
    assert Replay("main").run([*records, Offered(town.now, task, "w", True)]) is not None
