"""Refusals are data: what is kept of them, with what, and how much at most."""

from dataclasses import replace

import pytest

from a2a.engine import refusals
from a2a.engine.policy import Admission, digest
from a2a.engine.records import Refused
from a2a.engine.replay.run import Replay
from a2a.errors import ErrorCode
from a2a.protocol.messages import (
    AgentFilter,
    AgentFind,
    ClaimAcquire,
    ConflictGet,
    ConflictVote,
    ContextOp,
    ContextWrite,
    Held,
    Seen,
    TaskCancel,
    TaskCheckpoint,
    TaskDelegate,
    TaskGet,
    TaskHeartbeat,
    TaskReport,
    TaskYield,
)

MINUTE = 60_000
RESULT = b'[{"artifactId":"r","parts":[{"text":"%s"}]}]'


def kept(town):
    """Let the coordinator record what it has refused, and return it."""
    town.pass_time(0)
    return town.said(Refused)


def told(record):
    return record.agent, record.kind, record.code, record.task or record.conflict


@pytest.fixture
def work(make_town):
    """A task at work, its delegator, its worker and somebody else."""
    town = make_town(admission=Admission(token=digest("open"), operator_token=digest("op")))
    return Work(town)


class Work:
    def __init__(self, town):
        self.town = town
        self.boss = town.join("boss", token="open")
        self.worker = town.worker("w", token="open")
        self.task = self.boss.delegate()
        self.offer = self.worker.offer()
        self.stranger = town.join("stranger", token="open")

    @property
    def shown(self):
        return self.boss.say(TaskGet(self.task)).view["metadata"].get("refused", [])


def test_one_who_may_not_is_refused_at_once_and_kept_with_the_task_afterwards(work):
    before = len(work.town.records)
    work.stranger.say(TaskCancel(work.task))
    assert work.town.records[before:] == [], "the answer waited for nothing"
    (record,) = kept(work.town)
    assert told(record) == ("stranger", "task.cancel", "forbidden", work.task)
    (shown,) = work.shown
    assert (shown["agent"], shown["kind"], shown["code"], shown["times"]) == ("stranger", "task.cancel", "forbidden", 1)
    assert work.task in shown["detail"]


def test_a_plain_delegation_leaves_no_refusal_nor_do_readers_or_repeats_after_a_handshake(work):
    town = work.town
    report = work.worker.reporting(work.offer)
    work.worker.say(report)
    work.worker.drop()
    again = town.worker("w", token="open")
    assert again.say(report).verdict == "duplicate", "the answer may have been lost"
    work.boss.say(TaskGet("main-99999"))
    work.boss.say(ConflictGet("main-k1"))
    review = work.boss.mail()[-1]
    work.boss.confirm(review)
    work.boss.confirm(review)
    assert kept(town) == []


def test_a_report_said_again_on_the_same_connection_is_kept_as_a_duplicate(work):
    report = work.worker.reporting(work.offer)
    assert [work.worker.say(report).verdict for _ in range(2)] == ["admitted", "duplicate"]
    late = work.worker.reporting(work.offer, payload=b'["else"]')
    assert [work.worker.say(late).verdict for _ in range(2)] == ["late", "late"]
    assert [told(record)[1:3] for record in kept(work.town)] == [("task.report", "duplicate")] * 2
    (evidence,) = work.town.task(work.task).evidence
    assert evidence.verdict == "late", "the first one is evidence, as ever"


def test_how_many_reports_of_a_connection_are_known_is_bounded(work):
    for number in range(refusals._REPORTS_KNOWN + 5):
        work.stranger.report(work.offer, payload=b'["%d"]' % number)
    assert len(work.stranger.seat.reported) == refusals._REPORTS_KNOWN


def test_a_report_for_which_there_is_no_room_as_evidence_is_kept_as_a_refusal(make_town):
    work = Work(make_town(evidence_max=1))
    for number in range(2):
        assert work.stranger.report(work.offer, payload=b'["%d"]' % number) == "not_holder"
    (record,) = kept(work.town)
    assert told(record) == ("stranger", "task.report", "not_holder", work.task)
    assert len(work.town.task(work.task).evidence) == 1


def test_evidence_that_comes_again_after_a_handshake_leaves_nothing(work):
    report = work.stranger.reporting(work.offer, payload=b'["1"]')
    work.stranger.say(report)
    work.stranger.drop()
    assert work.town.join("stranger", token="open").say(report).verdict == "not_holder"
    assert kept(work.town) == []


def test_a_report_whose_hash_is_another_is_kept(work):
    lie = TaskReport(work.task, work.offer.fence, "completed", f"sha256:{'0' * 64}", b'["x"]')
    assert work.worker.say(lie).verdict == "invalid"
    (record,) = kept(work.town)
    assert told(record)[1:3] == ("task.report", "invalid")


def test_what_comes_under_a_dead_fence_is_kept(work):
    work.worker.report(work.offer)
    checkpoint = TaskCheckpoint(work.task, work.offer.fence, 1, b"{}")
    assert work.worker.say(checkpoint).code == ErrorCode.STALE
    assert work.worker.say(TaskHeartbeat(work.task, work.offer.fence)).reason != "not_holder"
    (record,) = kept(work.town)
    assert told(record) == ("w", "task.checkpoint", "stale", work.task)


def test_what_comes_under_somebody_elses_fence_is_kept_beats_too(work):
    assert work.stranger.say(TaskHeartbeat(work.task, work.offer.fence)).reason == "not_holder"
    assert work.stranger.say(TaskYield(work.task, work.offer.fence)).code == ErrorCode.NOT_HOLDER
    child = TaskDelegate("c", {"skill": "echo"}, parent=Held(work.task, work.offer.fence))
    assert work.stranger.say(child).code == ErrorCode.NOT_HOLDER
    write = ContextWrite("c1", "k", [ContextOp("a", value=b"1")], attempt=Held(work.task, work.offer.fence))
    assert work.stranger.say(write).code == ErrorCode.NOT_HOLDER
    kinds = [told(record) for record in kept(work.town)]
    expected = ("task.heartbeat", "task.yield", "task.delegate", "context.write")
    assert kinds == [("stranger", kind, "not_holder", work.task) for kind in expected]


def test_what_honest_agents_meet_where_they_share_leaves_nothing(work):
    work.boss.say(ContextWrite("c1", "k1", [ContextOp("a", value=b"1")]))
    moved = ContextWrite(
        "c1", "k2", [ContextOp("a", 0, b"2")], [Seen("a", 0)], attempt=Held(work.task, work.offer.fence)
    )
    assert work.worker.say(moved).code == ErrorCode.CONFLICT
    work.stranger.say(ClaimAcquire(1, [{"name": "repo", "mode": "x"}]))
    mine = ClaimAcquire(1, [{"name": "repo", "mode": "x"}], task=work.task, fence=work.offer.fence)
    assert work.worker.say(mine).code == ErrorCode.DENIED
    assert kept(work.town) == []


def test_a_vote_of_one_who_may_not_is_kept_with_the_conflict_also_when_it_is_over(make_town):
    town = make_town(admission=Admission(operator_token=digest("op")))
    boss, workers = town.join("boss"), [town.worker(f"w{number}") for number in range(2)]
    rungs = [{"strategy": "human"}, {"strategy": "abort"}]
    group = boss.delegate("q", spec={"redundancy": {"n": 2, "policy": rungs}})
    for worker in workers:
        worker.report(worker.offer(), payload=RESULT % worker.name.encode())
    (conflict,) = town.ledger.conflicts.values()
    vote = ConflictVote(conflict.id, conflict.id)
    assert workers[0].say(vote).code == workers[0].say(vote).code == ErrorCode.FORBIDDEN
    assert [told(record) for record in kept(town)] == [("w0", "conflict.vote", "forbidden", conflict.id)] * 2
    person = town.join("ann", operator_token="op")
    person.say(ConflictVote(conflict.id, None, "neither"))
    record = boss.say(ConflictGet(conflict.id)).view
    other = next(member for member in town.task(group).group.electorate)
    assert person.say(ConflictVote(conflict.id, other)).code == ErrorCode.CONFLICT
    kept(town)
    found = boss.say(ConflictGet(conflict.id))
    assert [it["agent"] for it in found.refused] == ["w0", "w0", "ann"]
    assert found.view == record, "what is sealed stays as it is"
    assert town.task(group).refusals == [], "with the conflict, and not once more with the task"


def test_a_hello_in_anothers_name_is_kept_with_it(work):
    town = work.town
    assert town.dial().say(town.hello("w", token="open", secret="a guess")).code == ErrorCode.AUTH
    older = town.hello("w", token="open", instance_id="older", incarnation=0)
    assert town.dial().say(older).code == ErrorCode.DENIED
    assert [told(record)[:3] for record in kept(town)] == [("w", "hello", "auth"), ("w", "hello", "denied")]
    (info,) = work.boss.say(AgentFind(AgentFilter(agent="w"))).agents
    assert [(it["kind"], it["code"]) for it in info.refused] == [("hello", "auth"), ("hello", "denied")]
    assert list(town.ledger.impostures) == ["w"]


def test_a_hello_in_the_name_of_one_without_a_card_is_told_to_who_asks_for_it(work):
    town = work.town
    for name in ("boss#2", "w"):
        assert town.dial().say(town.hello(name, token="open", secret="a guess")).code == ErrorCode.AUTH
    kept(town)
    for asked in ("boss", "boss#2", "boss#3"):
        found = work.boss.say(AgentFind(AgentFilter(agent=asked)))
        assert (found.agents, [it["agent"] for it in found.refused]) == ([], ["boss#2"])
    for wanted in (AgentFilter(agent="w"), AgentFilter(), AgentFilter(agent="nobody")):
        assert work.boss.say(AgentFind(wanted)).refused == []


def test_one_without_the_token_leaves_nothing_nor_does_a_name_that_nobody_has(work):
    town = work.town
    assert town.dial().say(town.hello("w", token="wrong", secret="a guess")).code == ErrorCode.AUTH
    assert town.dial().say(town.hello("nobody", token="open", operator_token="wrong")).code == ErrorCode.AUTH
    assert kept(town) == []


def test_all_hellos_together_have_one_minute(work):
    town = work.town
    names = [f"a{number}" for number in range(20)]
    for name in names:
        town.join(name, token="open")
    for name in names:
        town.dial().say(town.hello(name, token="open", secret="a guess"))
    assert len(kept(town)) == town.policy.refusals_per_minute
    town.pass_time(MINUTE)
    assert [record.times for record in town.said(Refused)[town.policy.refusals_per_minute :]] == [4]


def test_of_what_is_alike_two_are_kept_and_the_rest_is_a_number_when_the_minute_is_over(work):
    for _ in range(9):
        work.stranger.say(TaskCancel(work.task))
    assert [record.times for record in kept(work.town)] == [1, 1]
    work.town.pass_time(MINUTE - 1)
    assert len(work.town.said(Refused)) == 2
    work.town.pass_time(1)
    assert [record.times for record in work.town.said(Refused)] == [1, 1, 7]
    work.stranger.say(TaskCancel(work.task))
    assert [record.times for record in kept(work.town)] == [1, 1, 7, 1], "another minute"


def test_an_agent_cannot_fill_the_ledger_and_does_not_silence_another(work):
    town = work.town
    tasks = [work.boss.delegate(f"k{number}", "other") for number in range(40)]
    for task in tasks:
        work.stranger.say(TaskCancel(task))
    assert len(kept(town)) == town.policy.refusals_per_minute
    town.join("second", token="open").say(TaskCancel(work.task))
    assert [record.agent for record in kept(town)][-1] == "second"
    town.pass_time(MINUTE)
    (rest,) = [record for record in town.said(Refused) if record.times > 1]
    assert (rest.agent, rest.task, rest.times) == ("stranger", tasks[-1], 40 - town.policy.refusals_per_minute)


def test_the_newest_are_shown(make_town):
    work = Work(make_town(refusals_per_minute=100, refusals_alike_max=100))
    for number in range(refusals.REFUSALS_KEPT + 3):
        work.stranger.say(TaskCancel(work.task))
        work.town.pass_time(1)
        assert len(work.shown) == min(number + 1, refusals.REFUSALS_KEPT)
    lsns = [kept.lsn for kept in work.town.task(work.task).refusals]
    assert lsns == [lsn for lsn, record in work.town.records if isinstance(record, Refused)][-refusals.REFUSALS_KEPT :]


def test_a_detail_is_cut_where_ids_are_long(work):
    key, parent = "k" * 256, Held(work.task, work.offer.fence)
    for payload in (b"[1]", b"[2]"):
        answer = work.worker.say(TaskDelegate(key, {"skill": "other"}, payload, parent=parent))
    assert len(answer.detail) > refusals._DETAIL_MAX
    (record,) = kept(work.town)
    assert record.detail == answer.detail[: refusals._DETAIL_MAX]


def test_a_stop_in_good_order_waits_for_no_minute(work):
    for _ in range(4):
        work.stranger.say(TaskCancel(work.task))
    work.town.coordinator.stop(work.town.now)
    work.town.flush()
    assert [record.times for record in work.town.said(Refused)] == [1, 1, 2]


def test_an_archived_task_is_not_brought_back_for_a_refusal(make_town):
    work = Work(make_town(linger_ms=0))
    work.worker.report(work.offer)
    work.boss.confirm(work.boss.mail()[-1])
    for peer in (work.worker, work.boss):
        peer.mail()
        peer.acknowledge()
    for _ in range(4):
        work.stranger.say(TaskCancel(work.task))
    work.town.pass_time(5_000)
    assert work.task not in work.town.ledger.tasks
    assert len(work.town.said(Refused)) == 2, "the others are counted, and their task is gone when the minute is over"
    work.stranger.say(TaskCancel(work.task))
    work.town.pass_time(2 * MINUTE)
    assert len(work.town.said(Refused)) == 2
    assert work.task not in work.town.ledger.tasks


def test_what_leaves_nothing_takes_no_share(make_town):
    town = make_town(linger_ms=0, refusals_per_minute=1)
    work = Work(town)
    work.worker.report(work.offer)
    work.boss.confirm(work.boss.mail()[-1])
    for peer in (work.worker, work.boss):
        peer.mail()
        peer.acknowledge()
    town.pass_time(5_000)
    assert work.task not in town.ledger.tasks
    work.stranger.say(TaskCancel(work.task))
    other = work.boss.delegate("k2", "other")
    work.stranger.say(TaskCancel(other))
    assert [record.task for record in kept(town)] == [other]


def test_the_coordinator_asks_to_be_looked_at_at_once_and_when_a_minute_is_over(work):
    town = work.town
    work.worker.report(work.offer)
    work.boss.confirm(work.boss.mail()[-1])
    work.stranger.say(TaskCancel(work.task))
    assert town.coordinator.next_deadline() <= town.now
    kept(town)
    assert town.now < town.coordinator.next_deadline() <= town.now + MINUTE


def test_a_minute_is_looked_at_when_it_is_over():
    waiting = refusals.Refusals(per_minute=1, alike_max=1)
    assert waiting.next_deadline() is None
    for at in (10, 20, 30):
        waiting.add(Refused(at, "a", "task.cancel", "forbidden", "", "main-1"))
    assert waiting.next_deadline() == 10
    assert [record.times for record in waiting.take(30)] == [1]
    assert waiting.next_deadline() == 10 + MINUTE
    assert waiting.take(9 + MINUTE) == []
    assert [record.times for record in waiting.take(10 + MINUTE)] == [2]
    assert waiting.next_deadline() is None


@pytest.mark.parametrize("wrong", [{"code": "quota"}, {"times": 0}, {"task": None}, {"task": "main-999"}])
def test_a_refusal_that_could_not_be_is_noticed_when_the_ledger_is_decided_again(work, wrong):
    work.stranger.say(TaskCancel(work.task))
    kept(work.town)
    records = work.town.said()
    assert Replay("main").run(records) is None
    *before, last = records
    differs = Replay("main").run([*before, replace(last, **wrong)])
    assert differs is not None and differs.lsn == len(records)
