"""Closed conflicts leave memory when nobody needs them at hand, and are shown from the archive as before."""

from __future__ import annotations

import pytest

from a2a.engine import plain, snapshot
from a2a.engine.conflicts.case import Conflict
from a2a.engine.policy import Admission, digest
from a2a.engine.records import ConflictsArchived, Refused
from a2a.errors import ErrorCode
from a2a.protocol.messages import (
    ConflictAppeal,
    ConflictGet,
    ConflictList,
    ConflictPage,
    ConflictPosition,
    ConflictRaise,
    ConflictRaised,
    ConflictVote,
    ContextOp,
    ContextWrite,
    Ok,
    RaisedSubject,
    TaskOffer,
)

LINGER = 2_000
TEXT = b'[{"artifactId":"r","parts":[{"text":"%s"}]}]'


class Case:
    """A boss whose groups contradict themselves, their two workers, and a person who decides."""

    def __init__(self, town):
        self.town, self.boss = town, town.join("boss")
        self.workers = [town.worker(f"w{number}", tasks=8) for number in range(2)]
        self.ann = town.join("ann", operator_token="op")

    def disputed(self, key="q"):
        spec = {"redundancy": {"n": 2, "policy": [{"strategy": "human"}]}}
        task = self.boss.delegate(key, spec=spec, acceptance="auto")
        for worker in self.workers:
            worker.report(worker.offer(), payload=TEXT % worker.name.encode())
        return self.town.task(task).conflicts[0]

    def over(self, key="q"):
        """Have a conflict opened and decided, and return its id."""
        name = self.disputed(key)
        conflict = self.town.ledger.conflicts[name]
        assert self.ann.say(ConflictVote(name, conflict.record.get("ref") or self.first(conflict))) == Ok("select")
        return name

    def first(self, conflict):
        return self.town.task(conflict.task).group.electorate[0]

    def read_all(self):
        for peer in (self.boss, *self.workers, self.ann):
            if peer.mail():
                peer.acknowledge()

    def shelved(self, key="q"):
        """Have a conflict leave, and return its id."""
        name = self.over(key)
        self.leave()
        assert name not in self.town.ledger.conflicts
        return name

    def leave(self):
        self.read_all()
        self.town.pass_time(4 * LINGER)


@pytest.fixture
def make_case(make_town):
    return lambda **policy: Case(
        make_town(**({"admission": Admission(operator_token=digest("op")), "linger_ms": LINGER} | policy))
    )


@pytest.fixture
def case(make_case):
    return make_case()


def left(town):
    return [name for record in town.said(ConflictsArchived) for name in record.conflicts]


# When -----------------------------------------------------------------------------------------------------------------


def test_a_conflict_leaves_when_it_is_over_and_its_tasks_have_left(case):
    name = case.over()
    was = case.town.ledger.conflicts[name]
    case.leave()
    ledger = case.town.ledger
    assert (ledger.conflicts, ledger.conflicts_about, ledger.conflict_mail) == ({}, {}, {})
    assert ledger.conflicts_archived == 1
    kept = case.town.shelved[name]
    assert plain.from_bytes(Conflict, kept.body, kept.beside) == was
    assert (kept.lsn, kept.kind, kept.object, kept.tasks) == (was.opened_lsn, "result", was.object, (was.task,))


def test_one_that_was_over_before_a_restart_leaves_after_it(case):
    name = case.over()
    case.read_all()
    again = case.town.restart()
    for agent, mailbox in again.ledger.mailboxes.items():
        again.join(agent, incarnation=2).acknowledge(mailbox.next_mseq - 1)
    again.pass_time(4 * LINGER)
    assert left(again) == [name]


def test_one_that_is_open_stays(case):
    name = case.disputed()
    case.read_all()
    case.town.pass_time(10 * LINGER)
    assert name in case.town.ledger.open_conflicts
    assert left(case.town) == []


def test_one_about_which_somebody_has_mail_stays(case):
    name = case.over()
    for peer in (case.boss, case.workers[0]):
        peer.acknowledge()
    case.town.pass_time(10 * LINGER)
    assert name in case.town.ledger.conflicts, "w1 has not said that it has heard"
    case.leave()
    assert left(case.town) == [name]


def test_one_stays_while_a_task_whose_view_names_it_is_there(make_case):
    case = make_case(linger_conflicts_max=0, linger_ms=60_000)
    name = case.over()
    case.read_all()
    case.town.pass_time(20_000)
    assert name in case.town.ledger.conflicts
    case.town.pass_time(180_000)
    assert left(case.town) == [name]


def contested(case, key="decisions/db"):
    """Have a conflict about a key opened and merged."""
    for by, name, value in ((case.boss, "one", b'{"a":1}'), (case.workers[0], "other", b'{"b":2}')):
        by.say(ContextWrite("plans", f"{name} {key}", [ContextOp(key, 0, value)]))
    case.town.pass_time(100)
    return next(reversed(case.town.ledger.conflicts))


def test_one_about_no_task_stays_as_long_as_a_rule_may_look_at_when_it_ended(make_case):
    case = make_case(conflict_rest_ms=30_000)
    name = contested(case)
    case.read_all()
    case.town.pass_time(29_000)
    assert name in case.town.ledger.conflicts
    case.town.pass_time(5_000)
    assert left(case.town) == [name]


def test_one_about_no_task_stays_while_somebody_has_mail_about_it(make_case):
    case = make_case(conflict_rest_ms=0)
    name = contested(case)
    case.workers[0].acknowledge()
    case.town.pass_time(10 * LINGER)
    assert name in case.town.ledger.conflicts, "w1 has not said that it has heard"
    case.leave()
    assert left(case.town) == [name]


def test_what_somebody_raised_stays_for_a_day_and_so_long_the_same_raise_is_a_repeat(case):
    said = ConflictRaise("result", [RaisedSubject(task=case.boss.delegate(key)) for key in "ab"])
    for worker in case.workers:
        for mail in worker.mail():
            assert isinstance(mail, TaskOffer)
            worker.report(mail, payload=TEXT % mail.task.encode())
    raised = case.boss.say(said)
    assert isinstance(raised, ConflictRaised)
    case.ann.say(ConflictVote(raised.conflict, None))
    case.read_all()
    for task in said.subjects:
        case.boss.cancel(task.task)
    case.read_all()
    for _ in range(23):
        case.town.pass_time(3_600_000)
    assert case.boss.say(said) == ConflictRaised(raised.conflict, False, False, raised.object)
    case.read_all()
    case.town.pass_time(2 * 3_600_000)
    assert left(case.town) == [raised.conflict]
    assert case.town.ledger.tasks == {}, "and what it was about is archived as well"
    again = case.workers[0].say(said)
    assert isinstance(again, ConflictRaised)
    assert again.created and again.conflict != raised.conflict


def test_the_oldest_leave_sooner_where_more_are_over_than_there_is_room_for(make_case):
    case = make_case(linger_ms=600_000, linger_conflicts_max=2, conflict_rest_ms=0)
    names = [contested(case, f"decisions/{number}") for number in range(5)]
    case.read_all()
    case.town.pass_time(5_000)
    assert (len(left(case.town)), len(set(names) - set(left(case.town)))) == (3, 2)


# From the archive -----------------------------------------------------------------------------------------------------


def test_one_is_shown_from_the_archive_as_it_was(case):
    name = case.disputed()
    case.workers[0].say(ConflictPosition(name, b"[1]", "mine"))
    case.ann.say(ConflictVote(name, case.first(case.town.ledger.conflicts[name]), "by hand"))
    assert case.workers[1].refused(ConflictPosition(name, b"[2]")) == ErrorCode.CONFLICT
    case.town.pass_time(100)
    was = case.boss.say(ConflictGet(name, content=False))
    assert len(was.refused) == 1
    case.leave()
    assert name not in case.town.ledger.conflicts
    assert case.boss.say(ConflictGet(name, content=False)) == was
    content = case.boss.say(ConflictGet(name))
    assert content.payloads == [{"party": "w0", "payload": b"[1]"}], "task.get has the answers"


def test_what_is_said_to_one_is_answered_as_before_and_not_kept(case):
    name = case.over()
    chosen = case.town.ledger.conflicts[name].ref
    case.leave()
    records = len(case.town.said(Refused))
    assert case.workers[0].refused(ConflictPosition(name, b"[9]")) == ErrorCode.CONFLICT
    assert case.workers[0].refused(ConflictAppeal(name, "new_evidence")) == ErrorCode.CONFLICT
    assert case.boss.refused(ConflictVote(name, None)) == ErrorCode.FORBIDDEN
    assert case.ann.refused(ConflictVote(name, None)) == ErrorCode.CONFLICT
    assert case.ann.say(ConflictVote(name, chosen)) == Ok("select"), "a repeat"
    case.town.pass_time(1_000)
    assert len(case.town.said(Refused)) == records
    assert case.town.ledger.conflicts == {}


def pages(peer, limit, **wanted):
    before, found = None, []
    while True:
        page = peer.say(ConflictList(limit=limit, before=before, **wanted))
        assert isinstance(page, ConflictPage), page
        assert len(page.conflicts) <= limit
        found += [shown["conflict"] for shown in page.conflicts]
        before = page.next_before
        if before is None:
            return found


def test_a_list_goes_on_in_the_archive(make_case):
    case = make_case(conflict_rest_ms=0)
    old = [case.shelved(f"q{number}") for number in range(3)]
    key = contested(case)
    case.leave()
    open_one = case.disputed("r")
    every = [open_one, key, *old[::-1]]
    for limit in (1, 2, 5, 100):
        assert pages(case.boss, limit) == every
    assert pages(case.boss, 2, is_open=False) == every[1:]
    assert pages(case.boss, 2, is_open=True) == [open_one]
    assert pages(case.boss, 2, conflict_kind="context") == [key]
    assert pages(case.boss, 2, object="context:plans/decisions/db") == [key]
    about = case.boss.say(ConflictGet(old[1])).view["task"]
    assert pages(case.boss, 2, task=about) == [old[1]]
    assert case.boss.refused(ConflictList(before="main-k1000000")) == ErrorCode.NOT_FOUND


def test_one_about_results_of_tasks_that_had_ended_is_listed_for_each_of_them(make_case):
    case = make_case(conflict_rest_ms=0)
    ended = []
    for worker, key in zip(case.workers, "ab", strict=True):
        ended.append(case.boss.delegate(key, acceptance="auto"))
        for other in case.workers:
            for mail in other.mail():
                if isinstance(mail, TaskOffer) and mail.task == ended[-1]:
                    other.report(mail, payload=TEXT % worker.name.encode())
    raised = ConflictRaise("result", [RaisedSubject(task=task) for task in ended])
    name = case.boss.say(raised).conflict
    assert [pages(case.boss, 2, task=task) for task in ended] == [[name]] * 2
    case.ann.say(ConflictVote(name, ended[1]))
    case.leave()
    case.town.pass_time(86_400_000)  # what somebody raised stays for a day
    assert name in left(case.town)
    assert [pages(case.boss, 2, task=task) for task in ended] == [[name]] * 2
    assert pages(case.boss, 2, task="main-1") == []


def test_one_that_leaves_while_a_page_is_looked_up_is_on_it(case):
    old, new = case.shelved("a"), case.over("b")
    reader = case.town.join("reader")
    case.town.is_slow = True
    assert reader.say(ConflictList()) is None
    case.leave()
    assert left(case.town) == [old, new]
    case.town.is_slow = False
    case.town.look_up()
    page = next(answer for answer in reader.replies.values() if isinstance(answer, ConflictPage))
    assert [shown["conflict"] for shown in page.conflicts] == [new, old]


def test_what_never_was_is_not_found_in_the_archive_either(case):
    case.shelved()
    for name in ("main-k1", "main-k999999", "main-1", "other-k1", "main-kx"):
        assert case.boss.refused(ConflictGet(name)) == ErrorCode.NOT_FOUND


def test_where_the_archive_cannot_be_read_it_may_be_asked_again(case):
    name = case.shelved()
    case.town.is_slow = True
    for message in (ConflictGet(name), ConflictList()):
        assert case.boss.say(message) is None
        case.town.coordinator.found(case.town.needs.pop(0), None, case.town.now)
        case.town.flush()
        answer = list(case.boss.replies.values())[-1]
        assert (answer.code, answer.retryable) == (ErrorCode.UNAVAILABLE, True)


def test_a_damaged_one_says_so(case):
    name = case.shelved()
    case.town.shelved[name] = case.town.shelved[name]._replace(body=b"\xc1")
    assert case.boss.refused(ConflictGet(name)) == ErrorCode.UNAVAILABLE


def test_another_coordinator_knows_that_it_was_there(case):
    name = case.shelved()
    was = case.boss.say(ConflictGet(name))
    kept = snapshot.load(snapshot.to_bytes(case.town.ledger), "main")
    assert (kept.conflicts_archived, kept.conflicts) == (1, {})
    again = case.town.restart()
    assert again.join("reader").say(ConflictGet(name)) == was


def test_an_open_conflict_is_not_archived(case):
    name = case.disputed()
    with pytest.raises(ValueError, match="which is open"):
        case.town.ledger.apply(ConflictsArchived(case.town.now, [name]))
