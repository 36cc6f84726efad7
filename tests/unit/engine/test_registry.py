"""Who is there: handshake, identity, credit, discovery."""

import pytest

from a2a.engine.decision import NOTHING, Decision
from a2a.engine.leases import proof
from a2a.engine.ledger import Ledger
from a2a.engine.policy import Admission, Bounds, digest
from a2a.engine.records import (
    AgentRegistered,
    AnswersRepeated,
    Declined,
    Evicted,
    LeaseExpired,
    OfferWithdrawn,
    PrincipalBound,
    Revived,
    StatusSet,
    Yielded,
)
from a2a.errors import ErrorCode
from a2a.protocol.canonical import content_hash
from a2a.protocol.messages import (
    AgentEvent,
    AgentFilter,
    AgentFind,
    AgentFound,
    AgentUpdate,
    Bye,
    Credit,
    Error,
    HeldStill,
    HeldVerdict,
    Limits,
    MailboxAck,
    Ok,
    Ping,
    Pong,
    Resume,
    TaskAnswer,
    TaskAsk,
    TaskLease,
    TaskOffer,
    TaskRevoke,
    Welcome,
)

from .conftest import KEY


@pytest.fixture
def turned_away(town):
    """Say a hello that must be refused and end the connection, and return the code."""

    def say(name="w1", *, of=town, **fields):
        peer = of.dial()
        code = peer.refused(of.hello(name, **fields))
        assert peer.closed == "refused"
        assert peer.connection not in of.coordinator.live.connections
        return code

    return say


# The handshake --------------------------------------------------------------------------------------------------------


def test_a_first_hello_is_welcomed_with_a_secret_and_the_limits(town):
    peer = town.dial()
    assert peer.say(town.hello("w1")) == Welcome(
        version="1.0",
        namespace="main",
        epoch=1,
        durability="memory",
        limits=Limits(4 * 2**20, 2 * 2**20, 1024, 200_000, 16_384, 64 * 2**20, 1_000, 3_000),
        next_mseq=1,
        secret="secret-1",
    )
    assert town.said(PrincipalBound) == [PrincipalBound(town.now, "w1", digest("secret-1"))]


def test_a_card_with_skills_is_kept_and_one_without_is_not(town, make_card):
    worker = town.worker("w1", labels={"zone": "eu"})
    town.join("boss", card=make_card())
    assert town.said(AgentRegistered) == [
        AgentRegistered(town.now, "w1", "w1-1", 1, make_card("echo") | {}, {"zone": "eu"})
    ]
    assert worker.seat.card == make_card("echo")


def test_a_card_with_its_labels_has_an_end(make_town, make_card):
    town = make_town(card_max_bytes=500)
    for fields in ({"card": make_card("echo") | {"description": "x" * 500}}, {"labels": {"a": "x" * 500}}):
        peer = town.dial()
        answer = peer.say(town.hello("w1", **fields))
        assert (answer.code, peer.closed) == (ErrorCode.TOO_LARGE, "refused")
        assert "at most 500 bytes, those of w1 " in answer.detail
    assert "w1" not in town.ledger.principals
    worker = town.worker("w1", labels={"a": "x" * 200})
    assert worker.refused(AgentUpdate(labels={"a": "x" * 500})) == ErrorCode.TOO_LARGE
    assert worker.refused(AgentUpdate(card=make_card("echo") | {"description": "x" * 300})) == ErrorCode.TOO_LARGE
    assert worker.say(AgentUpdate(card=make_card("echo") | {"description": "x" * 300}, labels={})) == Ok()
    assert worker.say(AgentUpdate(status="draining")) == Ok()


def test_a_card_of_an_earlier_ledger_that_is_larger_stays_and_may_drain(make_town):
    town = make_town()
    town.worker("w1", labels={"a": "x" * 900})
    again = make_town(list(town.records), card_max_bytes=500)
    assert "w1" in again.ledger.agents
    again.secrets = town.secrets
    operator = again.join("w1", instance_id="w1-1")
    assert operator.say(AgentUpdate(status="draining")) == Ok()


def test_the_same_hello_again_registers_nothing_new(town):
    town.worker("w1").drop()
    count = len(town.records)
    town.worker("w1")
    assert len(town.records) == count


@pytest.mark.parametrize(
    "change",
    [{"labels": {"a": "b"}}, {"instance_id": "w1-2", "incarnation": 1}, {"incarnation": 2}],
)
def test_a_hello_that_says_something_new_is_registered(town, change):
    town.worker("w1").drop()
    town.worker("w1", **change)
    assert len(town.said(AgentRegistered)) == 2


def test_a_hello_with_another_card_is_registered(town):
    town.worker("w1")
    town.worker("w1", "other")
    assert list(town.ledger.by_skill) == ["other"]


@pytest.mark.parametrize("versions", [["2.0", "3.0"], ["0.1", "0.9"], ["one", "two"], ["1.1", "1.0"]])
def test_a_peer_that_speaks_no_common_version_is_turned_away(turned_away, versions):
    assert turned_away(versions=versions) == ErrorCode.VERSION


def test_the_answer_to_a_foreign_version_names_those_spoken(town):
    answer = town.dial().say(town.hello("w1", versions=["2.0", "2.1"]))
    assert answer.data == {"versions": ["1.0", "1.0"]}


@pytest.mark.parametrize("token", ["", "wrong", digest("door")])
def test_without_the_token_nobody_enters(make_town, turned_away, token):
    town = make_town(admission=Admission(token=digest("door")))
    assert turned_away(of=town, token=token) == ErrorCode.AUTH
    assert town.join("w1", token="door").seat.agent == "w1"


def test_a_wrong_operators_token_is_turned_away_and_does_not_enter_as_a_member(make_town, turned_away):
    town = make_town(admission=Admission(operator_token=digest("op")))
    assert turned_away(of=town, operator_token="guess") == ErrorCode.AUTH
    assert turned_away(operator_token="op") == ErrorCode.AUTH, "a coordinator without one has no operator"
    assert town.join("human", operator_token="op").seat.role == "operator"
    assert town.join("w1").seat.role == "member"


@pytest.mark.parametrize("name", ["w1", "w1#other"])
def test_a_principal_shows_its_secret_ever_after(town, turned_away, name):
    town.join("w1").drop()
    assert turned_away(name, secret=None) == ErrorCode.AUTH
    assert turned_away(name, secret="guess") == ErrorCode.AUTH
    assert turned_away(name, secret=digest("secret-1")) == ErrorCode.AUTH
    answer = town.dial().say(town.hello(name, secret="secret-1"))
    assert (type(answer), answer.secret) == (Welcome, None)


def test_a_first_hello_may_bring_the_secret_of_an_earlier_ledger(town):
    answer = town.dial().say(town.hello("w1", secret="mine"))
    assert (type(answer), answer.secret) == (Welcome, None)
    assert town.said(PrincipalBound) == [PrincipalBound(town.now, "w1", digest("mine"))]


def test_an_empty_secret_is_none_at_a_first_hello(town):
    peer = town.dial()
    answer = peer.say(town.hello("w1", secret=""))
    assert answer.secret == "secret-1"
    assert town.said(PrincipalBound) == [PrincipalBound(town.now, "w1", digest("secret-1"))]


def test_a_secret_is_kept_as_its_digest_only(town):
    town.join("w1")
    assert "secret-1" not in repr(town.records)


def test_secrets_survive_a_restart(town):
    town.join("w1")
    again = town.restart()
    assert again.dial().say(again.hello("w1", secret="guess")).code == ErrorCode.AUTH
    assert again.dial().say(again.hello("w1", secret="secret-1")).epoch == 2


def test_features_are_those_both_ends_name(town, monkeypatch):
    monkeypatch.setattr("a2a.engine.registry.FEATURES", ("x", "y"))
    assert town.dial().say(town.hello("w1", features=["y", "z"])).features == ["y"]


# One agent, one process -----------------------------------------------------------------------------------------------


def test_a_newer_incarnation_takes_over(town):
    old = town.worker("w1")
    new = town.worker("w1", instance_id="w1-2", incarnation=2)
    assert (old.notices, old.closed) == ([Bye("taken_over")], "taken over")
    assert town.coordinator.live.agents["w1"] is new.seat


def test_the_same_process_that_connects_again_leaves_its_old_connection(town):
    old = town.worker("w1")
    town.worker("w1")
    assert (old.notices, old.closed) == ([Bye("connected again")], "taken over")


def test_an_older_incarnation_is_denied_also_when_the_newer_one_is_away(town, turned_away):
    worker = town.worker("w1", instance_id="w1-2", incarnation=2)
    assert turned_away(instance_id="w1-1", incarnation=1) == ErrorCode.DENIED
    worker.drop()
    assert turned_away(instance_id="w1-1", incarnation=1) == ErrorCode.DENIED
    assert worker.closed is None


def test_an_older_incarnation_without_a_card_is_denied_while_the_newer_is_here(town, turned_away):
    town.join("boss", instance_id="boss-2", incarnation=2)
    assert turned_away("boss", instance_id="boss-1", incarnation=1) == ErrorCode.DENIED


def test_another_process_with_the_same_incarnation_is_denied_while_the_first_is_here(town, turned_away):
    first = town.worker("w1")
    assert turned_away(instance_id="w1-b") == ErrorCode.DENIED
    first.drop()
    town.worker("w1", instance_id="w1-b")


def test_the_same_process_may_name_an_older_incarnation_it_is_known_by_its_instance(town):
    town.worker("w1", incarnation=5)
    assert town.worker("w1", incarnation=4).seat.incarnation == 4


# What it holds --------------------------------------------------------------------------------------------------------


def test_an_agent_that_reconnects_keeps_what_it_holds(town, boss):
    worker = town.worker("w1")
    task = boss.delegate()
    offer = worker.offer()
    town.pass_time(400)
    peer = town.dial()
    answer = peer.say(town.hello("w1", held=[HeldStill(task, offer.fence)]))
    assert answer.held == [HeldVerdict(task, offer.fence, "keep", 3_000)]
    town.pass_time(2_999)
    assert town.task(task).holder == "w1"


def test_a_lapsed_lease_is_kept_by_who_comes_back_first(town, boss):
    worker = town.worker("w1")
    task = boss.delegate()
    offer = worker.offer()
    worker.drop()
    town.pass_time(500)
    answer = town.dial().say(town.hello("w1", held=[HeldStill(task, offer.fence)] * 3))
    assert answer.held == [HeldVerdict(task, offer.fence, "keep", 3_000)] * 3
    assert town.said(Revived) == [Revived(town.now, task, offer.fence)], "once, however often it is named"
    assert town.task(task).holder == "w1"


def test_a_lease_that_was_revived_too_often_is_stale(make_town):
    town = make_town(bounds=Bounds(revivals=0))
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate()
    offer = worker.offer()
    worker.drop()
    town.pass_time(500)
    answer = town.dial().say(town.hello("w1", held=[HeldStill(task, offer.fence)]))
    assert answer.held == [HeldVerdict(task, offer.fence, "stale", None)]


def test_what_is_not_the_agents_any_more_is_stale_and_what_never_was_is_unknown(town, boss):
    worker = town.worker("w1")
    done, others = boss.delegate("1"), boss.delegate("2", spec={"requires": {"agent": "w2"}})
    other = town.worker("w2")
    offer = worker.offer()
    worker.report(offer)
    answer = town.dial().say(
        town.hello(
            "w1", held=[HeldStill(done, offer.fence), HeldStill(others, other.offer().fence), HeldStill("main-999", 1)]
        )
    )
    assert [held.verdict for held in answer.held] == ["stale", "stale", "unknown"]
    assert town.task(others).holder == "w2"


def test_what_a_restarted_agent_does_not_hold_any_more_is_lost_at_once(town, boss):
    worker = town.worker("w1", tasks=2)
    lost, kept = boss.delegate("1"), boss.delegate("2")
    offers = {offer.task: offer for offer in worker.mail()}
    town.worker("w1", instance_id="w1-2", incarnation=2, held=[HeldStill(kept, offers[kept].fence)])
    assert town.said(LeaseExpired) == [LeaseExpired(town.now, lost, offers[lost].fence, "the agent restarted")]
    assert town.task(kept).holder == "w1"


def test_a_restarted_agent_gets_the_answers_of_what_it_holds_again(town, boss):
    worker = town.worker("w1", tasks=2)
    asked, other = boss.delegate("1"), boss.delegate("2")
    offers = {offer.task: offer for offer in worker.mail()}
    for number in (1, 2):
        worker.say(TaskAsk(asked, number, b'["?"]', offers[asked].fence))
    boss.say(TaskAnswer(asked, 2, b"[2]"))
    again = [TaskAnswer(asked, 2, b"[2]")]
    assert worker.mail() == again
    back = {"held": [HeldStill(task, offers[task].fence) for task in (asked, other)], "resume": Resume(3)}
    assert town.worker("w1", **back).mail() == [], "the same process has them"
    restarted = town.worker("w1", instance_id="w1-2", incarnation=2, **back)
    assert restarted.mail() == again
    assert town.said(AnswersRepeated) == [AnswersRepeated(town.now, asked, offers[asked].fence)]


def test_an_offer_to_a_restarted_agent_is_withdrawn(town, boss):
    worker = town.worker("w1")
    task = boss.delegate()
    other = town.worker("w2")
    town.pass_time(500)
    fence = other.offer().fence
    worker.say(Credit(0))
    town.worker("w2", tasks=0, instance_id="w2-2", incarnation=2)
    assert town.said(OfferWithdrawn) == [OfferWithdrawn(town.now, task, fence, "the agent restarted")]


def test_the_same_process_loses_nothing_by_not_naming_what_it_holds(town, boss):
    town.worker("w1")
    task = boss.delegate()
    town.worker("w1")
    assert town.task(task).holder == "w1"
    assert town.said(LeaseExpired) == []


@pytest.mark.parametrize("lost", [1, 2])
@pytest.mark.parametrize("goes_on", [0, 3])
def test_a_fence_the_ledger_has_lost_shows_an_older_copy_and_stops_the_coordinator(town, boss, lost, goes_on):
    worker = town.worker("w1", tasks=2)
    early, late = boss.delegate("1"), boss.delegate("2")
    held = [HeldStill(offer.task, offer.fence, 0, offer.proof) for offer in worker.mail()]
    older = town.restart(lost=lost)  # without the offer, and without the task
    for number in range(goes_on):
        older.join(f"other{number}")
    hello = older.hello("w1", held=held)
    assert older.dial().say(hello) is None
    ready = older.coordinator.ready(older.now)
    assert f"w1 holds fence {held[1].fence} of task {late}" in ready.halt
    assert (ready.records, ready.frames) == ([], [])
    assert older.task(early).holder == "w1"


def test_who_an_older_copy_has_never_met_shows_it_too(town, boss):
    records = len(town.records)
    worker = town.worker("w1")
    task = boss.delegate()
    offer = worker.offer()
    older = town.restart(lost=len(town.records) - records)
    assert "w1" not in older.ledger.principals
    older.dial().say(older.hello("w1", held=[HeldStill(task, offer.fence, 0, offer.proof)]))
    assert f"w1 holds fence {offer.fence} of task {task}" in older.coordinator.ready(older.now).halt


def _of_another_agent(task: str, fence: int, offer: TaskOffer) -> str:
    ledger = Ledger("main")
    ledger.proof_key = KEY
    return proof(ledger, "w2", task, fence)


def _of_another_ledger(task: str, fence: int, offer: TaskOffer) -> str:
    ledger = Ledger("main")
    ledger.proof_key = "another key"
    return proof(ledger, "w1", task, fence)


@pytest.mark.parametrize(
    "made_up", [lambda *_: "", lambda *_: "é", lambda *held: held[2].proof, _of_another_agent, _of_another_ledger]
)
def test_a_fence_without_its_proof_stops_nobody(town, boss, made_up):
    """Spec DURABLE-7: else every member could stop the coordinator."""
    worker = town.worker("w1")
    task = boss.delegate()
    offer = worker.offer()
    beyond = town.ledger.lsn + 1_000
    there = [HeldStill(task, beyond, 0, made_up(task, beyond, offer))]
    gone = [HeldStill("main-999", beyond, 0, made_up("main-999", beyond, offer))]
    answer = town.dial().say(town.hello("w1", held=[*there, *gone]))
    assert [verdict.verdict for verdict in answer.held] == ["stale", "unknown"]


def test_a_fence_is_proved_for_its_own_task_alone(town, boss):
    """Spec DURABLE-7: else an agent could stop the coordinator by a proof that it was given."""
    worker = town.worker("w1", tasks=2)
    boss.delegate("1"), boss.delegate("2")
    first, second = worker.mail()
    answer = town.dial().say(town.hello("w1", held=[HeldStill(second.task, first.fence, 0, first.proof)]))
    assert [verdict.verdict for verdict in answer.held] == ["stale"]


def test_an_offer_that_comes_again_has_the_same_proof_and_another_one_has_another(town, boss):
    worker = town.worker("w1", tasks=2)
    boss.delegate("1"), boss.delegate("2")
    first, second = worker.mail()
    assert len({first.proof, second.proof}) == 2
    again = town.restart().worker("w1", tasks=2, resume=Resume(0))
    assert [offer.proof for offer in again.mail()] == [first.proof, second.proof]


def test_fences_that_were_minted_since_the_start_are_not_lost_ones(town, boss):
    again = town.restart()
    worker = again.worker("w1", tasks=2)
    task = again.join("boss").delegate()
    offer = worker.offer()
    held = [HeldStill(task, offer.fence, 0, offer.proof), HeldStill(task, 1)]
    answer = again.dial().say(again.hello("w1", held=held))
    assert [verdict.verdict for verdict in answer.held] == ["keep", "stale"], "a number from before the start is a slip"


def test_a_fence_of_another_namespace_says_nothing_about_this_ledger(town):
    """Spec DURABLE-7."""
    worker = town.worker("w1")
    answer = town.dial().say(town.hello("w1", held=[HeldStill("elsewhere-5", 10**6), HeldStill("no task", 10**6)]))
    assert [verdict.verdict for verdict in answer.held] == ["unknown", "unknown"]
    assert worker.closed is not None


def test_a_principal_the_ledger_does_not_know_may_come_from_another_one(town):
    answer = town.dial().say(town.hello("w1", secret="kept", held=[HeldStill("main-99", 100)]))
    assert [verdict.verdict for verdict in answer.held] == ["unknown"]


def test_a_restarted_agent_is_ready_again(town):
    worker = town.worker("w1")
    worker.say(AgentUpdate(status="draining"))
    town.worker("w1")
    assert town.ledger.agents["w1"].status == "draining", "the same process drains on"
    town.worker("w1", instance_id="w1-2", incarnation=2)
    assert town.ledger.agents["w1"].status == "ready"


# The mailbox cursor ---------------------------------------------------------------------------------------------------


def test_a_mailbox_continues_where_the_agent_says(town, boss):
    worker = town.worker("w1", tasks=3)
    tasks = [boss.delegate(str(number)) for number in range(3)]
    again = town.worker("w1", tasks=3, resume=Resume(2))
    assert [offer.task for offer in again.mail()] == tasks[2:]
    assert again.welcome.resumed is True
    assert len(worker.mail()) == 3


def test_without_a_cursor_the_mailbox_starts_behind_what_was_acknowledged(town, boss):
    worker = town.worker("w1", tasks=3)
    tasks = [boss.delegate(str(number)) for number in range(3)]
    worker.acknowledge(1)
    worker.drop()
    again = town.worker("w1", tasks=3)
    assert [mseq for mseq, _ in again.mailbox] == [2, 3]
    assert [offer.task for offer in again.mail()] == tasks[1:]
    assert again.welcome.next_mseq == 2


def test_what_was_acknowledged_on_a_connection_that_is_taken_over_is_not_sent_again(town, boss):
    worker = town.worker("w1", tasks=3)
    tasks = [boss.delegate(str(number)) for number in range(3)]
    worker.acknowledge(2)
    again = town.worker("w1", tasks=3)
    assert (again.welcome.next_mseq, [offer.task for offer in again.mail()]) == (3, tasks[2:])
    assert [entry.mseq for entry in town.ledger.mailboxes["w1"].entries] == [3]


@pytest.mark.parametrize("cursor", [0, 9])
def test_a_cursor_that_cannot_be_right_is_not_believed(town, boss, cursor):
    worker = town.worker("w1", tasks=3)
    for number in range(3):
        boss.delegate(str(number))
    worker.acknowledge(1)
    worker.drop()
    again = town.worker("w1", tasks=3, resume=Resume(cursor))
    assert again.welcome.resumed is False
    assert [mseq for mseq, _ in again.mailbox] == [2, 3]


def test_the_newest_entry_is_a_cursor_and_the_one_after_it_is_not(town, boss):
    town.worker("w1", tasks=3)
    boss.delegate()
    at_the_end = town.worker("w1", resume=Resume(1))
    assert at_the_end.welcome.resumed is True
    assert at_the_end.mailbox == []
    beyond = town.worker("w1", resume=Resume(2))
    assert beyond.welcome.resumed is False


def test_an_acknowledgement_beyond_what_was_sent_is_refused(town, boss):
    worker = town.worker("w1", frames=1, tasks=3)
    for number in range(2):
        boss.delegate(str(number))
    assert [mseq for mseq, _ in worker.mailbox] == [1]
    assert worker.refused(MailboxAck(2)) == ErrorCode.MALFORMED
    assert worker.acknowledge(1) is None
    assert [mseq for mseq, _ in worker.mailbox] == [1, 2]


def test_an_acknowledgement_never_goes_back(town, boss):
    worker = town.worker("w1", tasks=3)
    for number in range(2):
        boss.delegate(str(number))
    worker.acknowledge(2)
    worker.acknowledge(1)
    assert worker.seat.acked_mseq == 2


# Small talk -----------------------------------------------------------------------------------------------------------


def test_a_ping_is_answered_with_its_nonce(town):
    assert town.join("w1").say(Ping("n")) == Pong("n")


def test_whoever_says_bye_is_let_go(town):
    peer = town.join("w1")
    assert peer.say(Bye("done")) == Ok()
    assert peer.closed == "bye"
    assert "w1" not in town.coordinator.live.agents


def test_credit_needs_no_answer(town):
    peer = town.join("w1")
    assert peer.decide(Credit(3, 7)) is NOTHING
    assert (peer.seat.credit_tasks, peer.seat.credit_frames) == (3, 7)
    assert Decision() == NOTHING


# Updates --------------------------------------------------------------------------------------------------------------


def test_an_agent_updates_itself(town, make_card):
    worker = town.worker("w1")
    assert worker.decide(AgentUpdate(status="draining", labels={"a": "b"}, card=make_card("more"))) == Decision(
        [
            AgentRegistered(town.now, "w1", "w1-1", 1, make_card("more"), {"a": "b"}),
            StatusSet(town.now, "w1", "draining", "w1"),
        ],
        Ok(),
    )


def test_an_agent_updates_its_labels_or_its_card_alone(town, make_card):
    worker = town.worker("w1", labels={"a": "b"})
    worker.say(AgentUpdate(labels={"c": "d"}))
    assert town.said(AgentRegistered)[-1].labels == {"c": "d"}
    worker.say(AgentUpdate(card=make_card("more")))
    assert town.said(AgentRegistered)[-1] == AgentRegistered(town.now, "w1", "w1-1", 1, make_card("more"), {"c": "d"})


def test_an_update_that_changes_nothing_is_no_record(town, make_card):
    worker = town.worker("w1")
    assert worker.decide(AgentUpdate(status="ready", labels={}, card=make_card("echo"))) == Decision([], Ok())


def test_only_an_operator_updates_another_agent(make_town):
    town = make_town(admission=Admission(operator_token=digest("op")))
    town.worker("w1")
    message = AgentUpdate("w1", "draining")
    assert town.join("w2").refused(message) == ErrorCode.FORBIDDEN
    assert town.join("w1#2", secret=town.secrets["w1"]).refused(message) == ErrorCode.FORBIDDEN
    assert town.join("human", operator_token="op").say(message) == Ok()
    assert town.said(StatusSet) == [StatusSet(town.now, "w1", "draining", "human")]


def test_who_has_no_card_on_file_cannot_be_updated(town):
    assert town.join("boss").refused(AgentUpdate(status="draining")) == ErrorCode.NOT_FOUND


# Discovery ------------------------------------------------------------------------------------------------------------


def found(peer, **wanted):
    return [agent.agent for agent in peer.say(AgentFind(AgentFilter(**wanted))).agents]


@pytest.fixture
def neighbours(town):
    schema = {"type": "object"}
    town.worker("c", "paint", labels={"zone": "eu"})
    town.worker("a", {"id": "echo", "tags": ["fast"], "inputModes": ["image/png"]}, labels={"zone": "eu"})
    town.worker("b", {"id": "echo", "inputSchema": schema}, labels={"zone": "us"}).drop()
    return content_hash(schema, b"")


def test_agents_are_found_by_what_they_are_in_the_order_of_their_names(boss, neighbours):
    assert found(boss) == ["a", "b", "c"]
    assert found(boss, agent="b") == ["b"]
    assert found(boss, agent="nobody") == []
    assert found(boss, skill="echo") == ["a", "b"]
    assert found(boss, skill="cook") == []
    assert found(boss, tags=["fast"]) == ["a"]
    assert found(boss, labels={"zone": "eu"}) == ["a", "c"]
    assert found(boss, media_type="image/png") == ["a"]
    assert found(boss, input_schema=neighbours) == ["b"]
    assert found(boss, skill="paint", input_schema=neighbours) == []
    assert found(boss, agent="a", labels={"zone": "us"}) == []


def test_an_agent_is_shown_with_what_it_does_now(town, boss, neighbours):
    painter = town.join("c", instance_id="c-1", card=town.ledger.agents["c"].card, credit=Credit(2), labels={"a": "b"})
    task = boss.delegate(skill="paint")
    painter.say(AgentUpdate(status="draining"))
    town.pass_time(250)
    (info,) = boss.say(AgentFind(AgentFilter(agent="c"))).agents
    assert (info.status, info.labels, info.credit, info.holding) == ("draining", {"a": "b"}, 2, [task])
    assert info.seen_ms == 250
    (away,) = boss.say(AgentFind(AgentFilter(agent="b"))).agents
    assert (away.status, away.credit, away.seen_ms) == ("away", 0, None)


def test_an_answer_with_too_many_agents_is_refused(make_town):
    town = make_town(found_max=1)
    town.worker("a")
    peer = town.worker("b")
    assert peer.refused(AgentFind()) == ErrorCode.TOO_LARGE
    assert found(peer, agent="a") == ["a"]


def test_a_watcher_hears_who_joins_changes_and_leaves(town, boss):
    boss.say(AgentFind(AgentFilter(labels={"zone": "eu"}), watch=True))
    worker = town.worker("w1", labels={"zone": "eu"})
    town.worker("w2", labels={"zone": "us"})
    worker.say(AgentUpdate(status="draining"))
    worker.drop()
    told = [(event.change, event.agent.agent, event.agent.status) for event in boss.notices]
    assert told == [("joined", "w1", "ready"), ("changed", "w1", "draining"), ("left", "w1", "away")]
    assert all(isinstance(event, AgentEvent) for event in boss.notices)


def test_who_passes_a_watchers_filter_no_more_has_left_for_it(town, boss):
    boss.say(AgentFind(AgentFilter(skill="echo"), watch=True))
    boss.say(AgentFind(AgentFilter(labels={"zone": "eu"}), watch=True))
    worker = town.worker("w1", labels={"zone": "eu"})
    assert [event.change for event in boss.notices] == ["joined", "joined"]
    boss.notices.clear()
    worker.say(AgentUpdate(labels={"zone": "us"}))
    assert [(event.change, event.agent.labels) for event in boss.notices] == [
        ("changed", {"zone": "us"}),
        ("left", {"zone": "us"}),
    ]
    boss.notices.clear()
    town.worker("w1", "count", instance_id="w1-2", incarnation=2)
    assert [event.change for event in boss.notices] == ["left"], "the process that took it over cannot do it"
    boss.notices.clear()
    town.peers[len(town.peers)].drop()
    assert boss.notices == []


def test_who_has_no_card_comes_and_goes_unseen(town, boss):
    boss.say(AgentFind(watch=True))
    town.join("chief").drop()
    assert boss.notices == []


def test_who_only_looked_once_hears_nothing(town, boss):
    boss.say(AgentFind())
    town.worker("w1")
    assert boss.notices == []


def test_a_watch_that_was_refused_is_none(make_town):
    town = make_town(found_max=0)
    town.worker("w0")
    boss = town.join("boss")
    assert isinstance(boss.say(AgentFind(watch=True)), Error)
    town.worker("w1")
    assert boss.notices == []


def test_a_connection_watches_with_a_bounded_number_of_finds(make_town):
    town = make_town(finds_max=2)
    boss, other = town.join("boss"), town.join("other")
    for _ in range(2):
        assert isinstance(boss.say(AgentFind(watch=True)), AgentFound)
    assert boss.refused(AgentFind(watch=True)) == ErrorCode.QUOTA
    town.worker("w1")
    assert len(boss.notices) == 2, "the one that was refused is none"
    assert isinstance(boss.say(AgentFind()), AgentFound), "to look once is always allowed"
    assert isinstance(other.say(AgentFind(watch=True)), AgentFound), "each connection counts for itself"


def test_a_watch_ends_with_its_connection(town, boss):
    boss.say(AgentFind(watch=True))
    boss.drop()
    town.worker("w1")
    assert boss.notices == []
    assert town.coordinator.live.finders == {}


def test_what_a_process_holds_it_may_use_on_a_new_connection(town, boss):
    worker = town.worker("w1")
    boss.delegate()
    offer = worker.offer()
    again = town.worker("w1")
    assert again.beat(offer) == TaskLease(offer.task, offer.fence, 3_000)
    assert isinstance(again.mail()[0], TaskOffer | TaskRevoke)


def test_a_secret_kept_from_an_earlier_ledger_is_bound_again(make_town):
    town = make_town()
    peer = town.join("old-hand", secret="kept")
    (welcome,) = peer.replies.values()
    assert welcome.secret is None, "nothing new is issued"
    assert town.dial().refused(town.hello("old-hand", secret=None, incarnation=9)) == ErrorCode.AUTH
    assert town.dial().refused(town.hello("old-hand", secret="other", incarnation=9)) == ErrorCode.AUTH


# Leaving --------------------------------------------------------------------------------------------------------------


def evicted(town):
    return [(record.task, record.reason, record.grace_at - town.now) for record in town.said(Evicted)]


def test_a_drain_with_a_grace_takes_away_what_the_agent_has(town, boss):
    worker = town.worker("w1", tasks=3)
    works, asks, stops = (boss.delegate(key) for key in ("works", "asks", "stops"))
    offers = {offer.task: offer for offer in worker.mail()}
    worker.say(TaskAsk(asks, 1, b"[]", offers[asks].fence))
    boss.cancel(stops)
    worker.mail()
    assert worker.say(AgentUpdate(status="draining", grace_ms=700)) == Ok()
    assert evicted(town) == [(works, "drain", 700), (asks, "drain", 700)], "what is canceled has a grace of its own"
    assert worker.mail() == [TaskRevoke(task, offers[task].fence, "drain", "coop", 700) for task in (works, asks)]
    town.pass_time(700)
    assert [record.task for record in town.said(LeaseExpired) if not record.counted] == [works, asks]
    assert [str(town.task(task).state) for task in (works, asks)] == ["queued", "parked"]
    boss.say(TaskAnswer(asks, 1, b"[]"))
    other = town.worker("w2", tasks=2)
    assert {town.task(task).offer.agent for task in (works, asks)} == {"w2"}
    assert len(other.mail()) == 2


def test_a_drain_without_a_grace_leaves_the_leases(town, boss):
    worker = town.worker("w1")
    boss.delegate()
    worker.beat(worker.offer())
    worker.say(AgentUpdate(status="draining"))
    assert evicted(town) == []
    worker.say(AgentUpdate(status="draining", grace_ms=0))
    assert len(evicted(town)) == 1, "also where it was draining before"
    worker.say(AgentUpdate(status="draining", grace_ms=0))
    assert len(evicted(town)) == 1


def test_a_grace_says_nothing_to_who_is_ready(town, boss):
    worker = town.worker("w1")
    boss.delegate()
    worker.say(AgentUpdate(status="ready", grace_ms=5))
    worker.say(AgentUpdate(grace_ms=5))
    assert evicted(town) == []


def test_a_drain_takes_nothing_from_others(town, boss):
    first, second = town.worker("w1"), town.worker("w2")
    boss.delegate("1")
    boss.delegate("2")
    first.say(AgentUpdate(status="draining", grace_ms=5))
    assert [town.task(task).holder for task, _, _ in evicted(town)] == ["w1"]
    assert len(second.mail()) == 1


def test_an_operator_drains_an_agent(make_town):
    town = make_town(admission=Admission(operator_token=digest("op")))
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate()
    worker.beat(worker.offer())
    drain = AgentUpdate(agent="w1", status="draining", grace_ms=5)
    assert boss.refused(drain) == ErrorCode.FORBIDDEN
    assert evicted(town) == []
    assert town.join("chief", operator_token="op").say(drain) == Ok()
    assert evicted(town) == [(task, "drain", 5)]


def test_who_leaves_for_long_gives_everything_back_and_that_counts_against_nobody(make_town):
    town = make_town(bounds=Bounds(losses=0, declines=1))
    boss, worker = town.join("boss"), town.worker("w1", tasks=4)
    works, asks, stops = (boss.delegate(key) for key in ("works", "asks", "stops"))
    offers = {offer.task: offer for offer in worker.mail()}
    worker.say(TaskAsk(asks, 1, b"[]", offers[asks].fence))
    boss.cancel(stops)
    town.pass_time(100)
    assert worker.say(Bye("over", drain=True)) == Ok()
    assert worker.closed is not None
    tasks = [town.task(task) for task in (works, asks, stops)]
    assert [str(task.state) for task in tasks] == ["queued", "parked", "canceled"]
    assert [(task.losses, task.declines) for task in tasks] == [(0, 0)] * 3
    assert town.ledger.holding["w1"] == {}
    assert [record.task for record in town.said(Yielded)] == [works, asks]


def test_who_leaves_for_long_hands_back_an_offer_and_leaves_the_lapsed_lease_as_it_was(make_town):
    town = make_town(bounds=Bounds(losses=1, declines=1))
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate()
    offer = worker.offer()
    worker.beat(offer)
    other = town.worker("w2")
    town.pass_time(3_000)
    fence = other.offer().fence
    other.say(Bye(drain=True))
    assert town.said(Declined) == [Declined(town.now, task, fence, "busy", town.now, counted=False)]
    assert (town.task(task).declines, town.task(task).losses) == (0, 1)
    assert isinstance(worker.beat(offer), TaskLease)


def test_who_leaves_without_that_word_keeps_what_it_has(town, boss):
    worker = town.worker("w1")
    task = boss.delegate()
    worker.beat(worker.offer())
    worker.say(Bye())
    assert town.task(task).holder == "w1"


def test_a_lapsed_attempt_that_was_taken_away_does_not_come_back_with_a_hello(town, boss):
    worker = town.worker("w1")
    task = boss.delegate()
    offer = worker.offer()
    worker.beat(offer)
    worker.say(AgentUpdate(status="draining", grace_ms=5))
    town.pass_time(5)
    answer = town.dial().say(town.hello("w1", held=[HeldStill(task, offer.fence)]))
    assert answer.held == [HeldVerdict(task, offer.fence, "stale", None)]
    assert town.said(Revived) == []


def test_an_attempt_that_is_being_taken_away_is_kept_over_a_hello_until_its_grace_is_over(town, boss):
    worker = town.worker("w1")
    task = boss.delegate()
    offer = worker.offer()
    worker.beat(offer)
    worker.say(AgentUpdate(status="draining", grace_ms=500))
    answer = town.dial().say(town.hello("w1", held=[HeldStill(task, offer.fence)]))
    assert answer.held == [HeldVerdict(task, offer.fence, "keep", 3_000)]
    town.pass_time(499)
    assert town.task(task).holder == "w1"
    town.pass_time(1)
    assert town.task(task).holder is None
