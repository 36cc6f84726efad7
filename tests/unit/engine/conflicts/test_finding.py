"""Conflicts about shared context: which writes that lose are one, and what becomes of the key."""

import pytest

from a2a.engine.conflicts.bench import Answer
from a2a.engine.conflicts.finding import TRIES, about_context, digest_of
from a2a.engine.policy import Admission, digest
from a2a.engine.records import ConflictOpened, ConflictResolved, ContextWritten, Merged
from a2a.errors import ErrorCode
from a2a.protocol.messages import (
    ConflictGet,
    ConflictVote,
    ContextOp,
    ContextRead,
    ContextWrite,
    Error,
    Held,
    Ok,
    Seen,
)
from a2a.protocol.messages import ContextWritten as Written

C = "plans"
DB = "decisions/db"


class Writers:
    """Ann and Bob, who write to one context, and somebody who decides."""

    def __init__(self, town):
        self.town = town
        self.ann, self.bob = town.join("ann"), town.join("bob")
        self.count = 0

    def write(self, by, key, value, rev, name=None, **fields):
        self.count += 1
        about = {field: fields.pop(field) for field in ("decision", "guarded") if field in fields}
        op = ContextOp(key, rev, value, **about)
        return by.say(ContextWrite(C, name or f"w{self.count}", [op], **fields))

    def lost(self, by, key, value, rev, **fields):
        """Write what must lose, and return the conflict it is told of, if it is."""
        answer = self.write(by, key, value, rev, **fields)
        assert isinstance(answer, Error), answer
        assert answer.code == ErrorCode.CONFLICT
        return answer.data.get("conflict")

    def value(self, key):
        (found,) = self.ann.say(ContextRead(C, [key])).values
        return found.payload, found.rev, found.author

    @property
    def conflicts(self):
        return list(self.town.ledger.conflicts.values())


@pytest.fixture
def writers(make_town):
    def make(*rungs, **policy):
        ladder = tuple(rung if isinstance(rung, dict) else {"strategy": rung} for rung in rungs or ("human", "abort"))
        town = make_town(
            admission=Admission(operator_token=digest("op")), **({"ladders": {"context": ladder}} | policy)
        )
        return Writers(town)

    return make


# What opens one -------------------------------------------------------------------------------------------------------


def test_two_values_for_one_decision_are_a_conflict(writers):
    case = writers()
    case.write(case.ann, DB, b'"postgres"', 0)
    known = case.lost(case.bob, DB, b'"sqlite"', 0)
    (conflict,) = case.conflicts
    assert (conflict.id, conflict.rule, conflict.object) == (known, "c4", about_context(C, DB))
    assert [(one.form, one.agent, one.payload, one.rev) for one in conflict.candidates] == [
        ("revision", "ann", b'"postgres"', 1),
        ("proposal", "bob", b'"sqlite"', 0),
    ]
    assert [one.digest for one in conflict.candidates] == [digest_of(one.payload) for one in conflict.candidates]
    for peer in (case.ann, case.bob):
        (opened,) = peer.mail()
        assert (opened.conflict, opened.your_role, opened.conflict_kind) == (known, "author", "context")


def test_a_guarded_key_is_one_too(writers):
    case = writers()
    case.write(case.ann, "plan", b"1", 0, guarded=True)
    assert case.lost(case.bob, "plan", b"2", 0)
    assert case.conflicts[0].rule == "c1"


def test_who_rebases_is_told_what_is_there_and_no_more(writers):
    case = writers()
    for key, about in ((DB, {}), ("plan", {"guarded": True})):
        case.write(case.ann, key, b"1", 0, **about)
        assert case.lost(case.bob, key, b"2", 0, rebases=True) is None
        assert isinstance(case.write(case.bob, key, b"2", 1), Written)
    assert case.conflicts == []


def test_who_loses_against_itself_contradicts_nobody(writers):
    case = writers()
    other = case.town.join("ann#2")
    case.write(case.ann, DB, b"1", 0)
    assert case.lost(other, DB, b"2", 0) is None


def test_the_same_value_contradicts_nothing(writers):
    case = writers()
    case.write(case.ann, DB, b"1", 0)
    assert case.lost(case.bob, DB, b"1", 0) is None


def test_what_would_be_torn_apart_is_refused_and_no_more(writers):
    case = writers()
    case.write(case.ann, DB, b"1", 0)
    both = [ContextOp(DB, 0, b"2"), ContextOp("more", 0, b"2")]
    for message in (
        ContextWrite(C, "both", both),
        ContextWrite(C, "in view", both[:1], [Seen("more", 0)]),
        ContextWrite(C, "patch", [ContextOp(DB, 0, patch=b"[]")]),
        ContextWrite(C, "delete", [ContextOp(DB, 0, delete=True)]),
        ContextWrite(C, "blind", [ContextOp(DB, None, b"2")]),
    ):
        assert case.bob.refused(message) == ErrorCode.CONFLICT
    case.write(case.ann, "gone", b"1", 0, decision=True)
    case.ann.say(ContextWrite(C, "gone", [ContextOp("gone", 1, delete=True)]))
    assert case.lost(case.bob, "gone", b"2", 1) is None


def test_on_any_other_key_who_insists_has_a_conflict(writers):
    case = writers()
    case.write(case.ann, "n", b"1", 0)
    assert [case.lost(case.bob, "n", b"2", 0) is not None for _ in range(TRIES)] == [False, False, True]


def test_who_only_says_it_again_does_not_insist(writers):
    case = writers()
    case.write(case.ann, "n", b"1", 0)
    for _ in range(2 * TRIES):
        assert case.bob.refused(ContextWrite(C, "lost on its way", [ContextOp("n", 0, b"2")])) == ErrorCode.CONFLICT
    assert case.conflicts == []


def test_who_looks_before_it_tries_again_does_not_insist(writers):
    case = writers()
    for rev in range(2 * TRIES):
        case.write(case.ann, "n", b"%d" % rev, rev)
        assert case.lost(case.bob, "n", b'"mine"', rev) is None
    assert case.conflicts == []


def test_a_success_between_begins_the_count_anew(writers):
    case = writers()
    case.write(case.ann, "n", b"1", 0)
    for _ in range(TRIES - 1):
        assert case.lost(case.bob, "n", b"2", 0) is None
    assert isinstance(case.write(case.bob, "n", b"2", 1), Written)
    case.write(case.ann, "n", b"3", 2)
    assert case.lost(case.bob, "n", b"2", 0) is None


def test_so_many_writers_are_remembered_that_insist(writers):
    case = writers(tries_max=1)
    for key in ("a", "b"):
        case.write(case.ann, key, b"1", 0)
    for _ in range(TRIES):
        assert case.lost(case.bob, "a", b"2", 0) is None
        assert case.lost(case.bob, "b", b"2", 0) is None


def test_two_that_count_together_lose_no_step_and_quarrel_about_nothing(writers):
    case = writers()
    case.write(case.ann, "n", b"0", 0)
    seen = {case.ann: (0, 1), case.bob: (0, 1)}
    done = {case.ann: 0, case.bob: 0}
    for turn in range(400):
        who = case.bob if turn // 2 % 2 else case.ann  # the first try of each finds what the other did
        value, rev = seen[who]
        answer = case.write(who, "n", b"%d" % (value + 1), rev)
        if isinstance(answer, Written):
            seen[who] = (value + 1, answer.revs["n"])
            done[who] += 1
        else:
            seen[who] = (int(answer.data["value"]), answer.data["rev"])
    assert case.conflicts == []
    assert min(done.values()) > 20
    assert case.value("n")[0] == b"%d" % sum(done.values())


@pytest.mark.parametrize("policy", [{"ladders": {}}, {"conflicts_open_max": 0}])
def test_where_there_is_no_ladder_or_no_room_it_is_refused_and_no_more(writers, policy):
    case = writers(**policy)
    case.write(case.ann, DB, b"1", 0)
    assert case.lost(case.bob, DB, b"2", 0) is None


# While it is open -----------------------------------------------------------------------------------------------------


def test_nobody_writes_the_key_while_it_is_open_and_all_others_are_as_before(writers):
    case = writers()
    case.write(case.ann, DB, b"1", 0)
    known = case.lost(case.bob, DB, b"2", 0)
    records = len(case.town.records)
    assert case.lost(case.ann, DB, b"3", 1) == known
    assert case.lost(case.bob, DB, b"2", 0) == known
    assert len(case.town.records) == records
    assert isinstance(case.write(case.bob, "decisions/other", b"1", 0), Written)


def test_after_it_the_key_is_at_rest_for_a_while(writers):
    case = writers("abort", conflict_rest_ms=1_000)
    case.write(case.ann, DB, b"1", 0)
    assert case.lost(case.bob, DB, b"2", 0)
    assert case.lost(case.bob, DB, b"3", 0) is None
    case.town.pass_time(1_000)
    assert case.lost(case.bob, DB, b"3", 0)
    assert len(case.town.said(ConflictOpened)) == 2


# What comes of it -----------------------------------------------------------------------------------------------------


def test_what_is_chosen_is_written_with_the_resolution_in_its_authors_name(writers):
    case = writers()
    case.write(case.ann, DB, b"1", 0)
    known = case.lost(case.bob, DB, b"2", 0, name="mine", reason="smaller")
    person = case.town.join("carl", operator_token="op")
    before = len(case.town.records)
    assert person.say(ConflictVote(known, "proposal-2", "we are one process")) == Ok(state="select")
    kinds = [type(record) for _, record in case.town.records[before:]]
    assert kinds.index(ContextWritten) == kinds.index(ConflictResolved) + 1
    assert case.value(DB) == (b"2", 2, "bob")
    records = len(case.town.records)
    assert case.write(case.bob, DB, b"2", 0, name="mine", reason="smaller").revs == {DB: 2}, "so it is done"
    assert len(case.town.records) == records
    assert isinstance(case.write(case.ann, DB, b"3", 2), Written), "the key is free again"


def test_what_is_not_chosen_is_dissent_and_changes_nothing(writers):
    case = writers("abort")
    case.write(case.ann, DB, b"1", 0)
    known = case.lost(case.bob, DB, b"2", 0)
    assert case.value(DB) == (b"1", 1, "ann")
    shown = case.ann.say(ConflictGet(known)).view
    assert (shown["resolution"]["outcome"], shown["dissent"]) == ("reject_all", ["revision-1", "proposal-2"])


def test_a_name_used_meanwhile_does_not_stand_for_two_writes(writers):
    case = writers()
    case.write(case.ann, DB, b"1", 0)
    known = case.lost(case.bob, DB, b"2", 0, name="mine")
    case.write(case.bob, "other", b"9", 0, name="mine")
    case.town.join("carl", operator_token="op").say(ConflictVote(known, "proposal-2"))
    assert case.value(DB) == (b"2", 2, "bob")
    assert case.write(case.bob, "other", b"9", 0, name="mine").revs == {"other": 1}


def test_a_delegator_has_more_to_say_than_its_worker(writers):
    case = writers("authority", "abort")
    worker = case.town.worker("w")
    case.ann.delegate(context_id=C)
    offer = worker.offer()
    case.write(worker, DB, b'"by the worker"', 0, attempt=Held(offer.task, offer.fence))
    known = case.lost(case.ann, DB, b'"by its delegator"', 0)
    assert case.town.ledger.conflicts[known].by == "authority"
    assert case.value(DB) == (b'"by its delegator"', 2, "ann")


def test_a_delegator_has_more_to_say_after_the_task_has_left_memory(writers):
    case = writers("authority", "abort", linger_ms=0)
    worker = case.town.worker("w")
    task = case.ann.delegate(context_id=C, acceptance="auto")
    offer = worker.offer()
    case.write(worker, DB, b'"by the worker"', 0, attempt=Held(task, offer.fence))
    worker.report(offer)
    case.town.pass_time(5_000)
    assert task not in case.town.ledger.tasks
    known = case.lost(case.ann, DB, b'"by its delegator"', 0)
    assert case.town.ledger.conflicts[known].by == "authority"
    assert case.value(DB) == (b'"by its delegator"', 2, "ann")


def test_who_has_more_to_say_than_an_author_is_known_of_a_value_that_a_conflict_came_to(writers):
    case = writers("authority", "human", "abort", linger_ms=0, conflict_rest_ms=0)
    worker = case.town.worker("w")
    task = case.ann.delegate(context_id=C, acceptance="auto")
    offer = worker.offer()
    case.write(case.bob, DB, b"1", 0)
    first = case.lost(worker, DB, b"2", 0, attempt=Held(task, offer.fence))
    case.town.join("carl", operator_token="op").say(ConflictVote(first, "proposal-2"))
    assert case.value(DB) == (b"2", 2, "w")
    worker.report(offer)
    case.town.pass_time(5_000)
    assert task not in case.town.ledger.tasks
    second = case.lost(case.ann, DB, b"3", 1)
    assert case.town.ledger.conflicts[second].by == "authority"
    assert case.value(DB) == (b"3", 3, "ann")


def test_a_person_has_more_to_say_than_all_agents(writers):
    case = writers("authority", "abort")
    person = case.town.join("carl", operator_token="op")
    case.write(case.ann, DB, b"1", 0)
    assert case.lost(person, DB, b"2", 0)
    assert case.value(DB) == (b"2", 2, "carl")


def test_a_person_who_wrote_first_has_more_to_say_as_well(writers):
    case = writers("authority", "abort")
    case.write(case.town.join("carl", operator_token="op"), DB, b"1", 0)
    known = case.lost(case.ann, DB, b"2", 0)
    conflict = case.town.ledger.conflicts[known]
    assert (conflict.by, conflict.ref) == ("authority", "revision-1")
    assert case.value(DB) == (b"1", 1, "carl")


def test_a_persons_value_that_a_conflict_came_to_is_still_a_persons(writers):
    case = writers("authority", "abort", conflict_rest_ms=0)
    person = case.town.join("carl", operator_token="op")
    case.write(case.ann, DB, b"1", 0)
    assert case.lost(person, DB, b"2", 0)
    known = case.lost(case.ann, DB, b"3", 1)
    assert case.town.ledger.conflicts[known].by == "authority"
    assert case.value(DB) == (b"2", 2, "carl")


def test_who_had_values_merged_has_more_to_say_than_the_merger(writers):
    case = writers({"strategy": "merge", "skill": "merge"}, "authority", "abort", linger_ms=0, conflict_rest_ms=0)
    merger = case.town.worker("m", "merge")
    case.write(case.ann, DB, b"1", 0)
    case.lost(case.bob, DB, b"2", 0)
    offer = merger.offer()
    merger.report(offer, payload=b'[{"artifactId":"result","parts":[{"data":3}]}]')
    assert case.value(DB) == (b"3", 2, "m")
    case.town.pass_time(5_000)
    assert offer.task not in case.town.ledger.tasks
    known = case.lost(case.bob, DB, b"4", 1)
    case.town.pass_time(case.town.coordinator.policy.judge_ms)
    assert case.town.ledger.conflicts[known].by == "authority"
    assert case.value(DB) == (b"4", 3, "bob")


def test_a_merger_makes_a_new_value(writers):
    case = writers({"strategy": "merge", "skill": "merge"}, "abort")
    merger = case.town.worker("m", "merge")
    case.write(case.ann, DB, b'{"a":1}', 0)
    known = case.lost(case.bob, DB, b'{"b":2}', 0)
    offer = merger.offer()
    merger.report(offer, payload=b'[{"artifactId":"result","parts":[{"data":{"b":2,"a":1}}]}]')
    assert case.town.ledger.conflicts[known].outcome == "merge"
    assert case.value(DB) == (b'{"a":1,"b":2}', 2, "m")


def test_what_each_has_changed_is_merged_where_nobody_is_asked(writers):
    case = writers("merge", "abort")
    case.write(case.ann, DB, b'{"a":1,"b":1}', 0)
    case.write(case.ann, DB, b'{"a":2,"b":1}', 1)
    known = case.lost(case.bob, DB, b'{"a":1,"b":2}', 1)
    conflict = case.town.ledger.conflicts[known]
    assert (conflict.outcome, conflict.ref, conflict.by) == ("merge", None, "merge")
    assert case.value(DB) == (b'{"a":2,"b":2}', 3, "bob")
    (opened, resolved) = case.bob.mail()
    assert (resolved.outcome, resolved.ref, resolved.dissent) == ("merge", None, ["revision-1", "proposal-2"])


class Merging:
    """A merge whose job is done when the test says so."""

    def __init__(self, case, monkeypatch):
        self.case, self.town, self.answers = case, case.town, []
        coordinator = case.town.coordinator
        self.answered = coordinator.answered
        monkeypatch.setattr(coordinator, "answered", lambda *said: self.answers.append(said))
        case.write(case.ann, DB, b'{"a":1,"b":1}', 0)
        case.write(case.ann, DB, b'{"a":2,"b":1}', 1)
        self.known = case.lost(case.bob, DB, b'{"a":1,"b":2}', 1)

    def says(self):
        for job, answer, _ in self.answers:
            self.answered(job, answer, self.town.now)
        self.town.flush()

    @property
    def conflict(self):
        return self.town.ledger.conflicts[self.known]


@pytest.fixture
def merging(writers, monkeypatch):
    return lambda *rungs, **policy: Merging(writers("merge", *rungs, **policy), monkeypatch)


def test_a_merge_is_a_job_and_its_answer_a_record(merging):
    case = merging("abort")
    assert case.conflict.is_open and case.town.said(Merged) == []
    assert case.case.lost(case.case.ann, DB, b"3", 2) == case.known, "meanwhile the key waits"
    assert len(case.answers) == 1, "it is asked for once"
    case.says()
    (record,) = case.town.said(Merged)
    assert (record.conflict, record.number, record.payload) == (case.known, 0, b'{"a":2,"b":2}')
    assert case.case.value(DB) == (b'{"a":2,"b":2}', 3, "bob")
    case.says()
    assert len(case.town.said(Merged)) == 1


def test_a_merge_that_nobody_can_make_is_undecided_and_recorded(merging):
    case = merging("first_wins")
    ((job, _, _),) = case.answers
    case.answers[:] = [(job, Answer(-1, "it took longer than 5 s"), 0)]
    case.says()
    (record,) = case.town.said(Merged)
    assert (record.payload, record.why) == (None, "it took longer than 5 s")
    assert [(stage.winner, stage.why) for stage in case.conflict.stages][0] == (None, "it took longer than 5 s")
    assert case.conflict.by == "first_wins" and case.case.value(DB) == (b'{"a":2,"b":1}', 2, "ann")


def test_a_merge_has_the_time_of_its_rung(merging):
    case = merging("abort", judge_ms=3_000)
    case.town.pass_time(2_999)
    assert case.conflict.is_open
    case.town.pass_time(1)
    assert (case.conflict.by, case.conflict.stages[0].why) == ("abort", "nobody could say in time")
    case.says()
    assert case.town.said(Merged) == [] and case.town.coordinator.live.merging == {}


def test_a_merge_may_come_after_its_time_where_a_start_gives_everybody_more(merging):
    town = merging("abort", judge_ms=1_000, recovery_grace_ms=5_000).town
    again = town.restart(after=2_000)
    (conflict,) = again.ledger.conflicts.values()
    assert conflict.outcome == "merge"


def test_a_merge_that_comes_when_another_rung_is_under_way_says_nothing(merging):
    case = merging("human", "abort", judge_ms=3_000)
    case.town.pass_time(3_000)
    case.says()
    assert case.town.said(Merged) == [] and case.conflict.stage.strategy == "human"


def test_a_merge_under_way_is_not_asked_for_again(merging):
    case = merging("abort")
    case.town.ledger.stirred[case.known] = case.conflict
    case.case.write(case.case.ann, "other", b"1", 0)
    assert case.town.ledger.stirred == {} and len(case.answers) == 1


def test_a_merge_that_comes_after_a_persons_word_says_nothing(merging):
    case = merging("abort")
    case.town.join("carl", operator_token="op").say(ConflictVote(case.known, "revision-1", "as it is"))
    case.says()
    assert case.town.said(Merged) == []
    assert case.case.value(DB) == (b'{"a":2,"b":1}', 2, "ann")


def test_a_merge_is_asked_for_again_after_a_restart(merging):
    again = merging("abort").town.restart()
    (conflict,) = again.ledger.conflicts.values()
    assert (conflict.outcome, conflict.stages[0].merged) == ("merge", b'{"a":2,"b":2}')


def test_what_was_merged_takes_effect_when_nobody_can_appeal_any_more(writers):
    case = writers("merge", "abort", appeal_ms=1_000)
    case.write(case.ann, DB, b'{"a":1}', 0)
    assert case.lost(case.bob, DB, b'{"b":1}', 0)
    assert case.value(DB)[1] == 1
    case.town.pass_time(1_000)
    assert case.value(DB) == (b'{"a":1,"b":1}', 2, "bob")


@pytest.mark.parametrize(("values", "rev"), [((b"1",), 0), ((b'{"a":1}', b'{"a":2}'), 1)])
def test_what_both_have_changed_is_not(writers, values, rev):
    case = writers("merge", "abort")
    for at, value in enumerate(values):
        case.write(case.ann, DB, value, at)
    known = case.lost(case.bob, DB, b'{"a":3}', rev)
    assert case.town.ledger.conflicts[known].outcome == "reject_all"


def test_what_both_began_with_has_to_be_kept(writers):
    case = writers("merge", "abort")
    for at in range(20):
        case.write(case.ann, DB, b'{"a":%d}' % at, at)
    known = case.lost(case.bob, DB, b'{"a":0,"b":1}', 1)
    assert "is not kept" in case.town.ledger.conflicts[known].stages[0].why


@pytest.mark.parametrize("payload", [b"[]", b'[{"parts":[{"data":1e999}]}]', b"[%s]" % (b" " * 70_000)])
def test_what_is_no_value_is_not_written(writers, payload):
    case = writers({"strategy": "merge", "skill": "merge"}, "abort")
    merger = case.town.worker("m", "merge")
    case.write(case.ann, DB, b"1", 0)
    known = case.lost(case.bob, DB, b"2", 0)
    merger.report(merger.offer(), payload=payload)
    assert case.town.ledger.conflicts[known].outcome == "reject_all"
    assert case.value(DB) == (b"1", 1, "ann")


def test_a_key_that_is_contested_stays_so_over_a_restart(writers):
    case = writers()
    case.write(case.ann, DB, b"1", 0)
    known = case.lost(case.bob, DB, b"2", 0)
    again = case.town.restart()
    assert again.ledger.contested == {(C, DB): known}


# A result on what has moved -------------------------------------------------------------------------------------------


class Stale:
    """A result that rests on a decision which somebody has changed meanwhile."""

    def __init__(self, case, **task):
        self.case, self.town = case, case.town
        self.boss, self.worker = self.town.join("boss"), self.town.worker("w")
        case.write(case.ann, DB, b"1", 0)
        self.task = self.boss.delegate(context_id=C, **task)
        offer = self.worker.offer()
        case.write(case.bob, DB, b"2", 1)
        self.worker.report(offer, basis=[Seen(DB, 1)])
        (self.review,) = [mail for mail in self.boss.mail() if mail.kind == "task.review"]
        (self.conflict,) = self.town.ledger.conflicts.values()


def test_a_result_on_a_decision_that_moved_is_a_conflict_of_its_own(writers):
    stale = Stale(writers())
    assert (stale.conflict.rule, stale.conflict.kind, stale.conflict.task) == ("c3", "context", stale.task)
    assert stale.conflict.parties == {"w": "author", "bob": "author", "boss": "delegator"}
    assert [(one.form, one.ref) for one in stale.conflict.candidates] == [
        ("result", stale.task),
        ("revision", "revision-2"),
    ]
    person = stale.town.join("carl", operator_token="op")
    assert person.refused(ConflictVote(stale.conflict.id, stale.task)) == ErrorCode.DENIED


@pytest.mark.parametrize(
    ("word", "outcome", "by"),
    [
        ({}, "select", "boss"),
        ({"verdict": "reject"}, "reject_all", "boss"),
        ({"verdict": "reject", "rework": True}, "reject_all", "boss"),
        (None, "reject_all", "timer"),
    ],
)
def test_the_word_on_the_result_decides_it(writers, word, outcome, by):
    stale = Stale(writers())
    if word is None:
        stale.town.pass_time(10_000)
    else:
        stale.boss.confirm(stale.review, **word)
    assert (stale.conflict.outcome, stale.conflict.by) == (outcome, by)
    notices = [mail.kind for mail in stale.worker.mail() if mail.kind.startswith("conflict.")]
    assert notices == ["conflict.opened", "conflict.resolved"]


def test_the_result_that_was_sent_back_is_shown_and_not_the_one_that_came_then(writers):
    stale = Stale(writers())
    stale.boss.confirm(stale.review, verdict="reject", rework=True)
    stale.worker.report(stale.worker.offer(), payload=b'[{"artifactId":"r","parts":[{"text":"anew"}]}]')
    first, second = stale.town.task(stale.task).results
    found = stale.boss.say(ConflictGet(stale.conflict.id))
    assert found.view["subjects"][0]["resultHash"] == first.result_hash != second.result_hash
    assert {said["ref"]: said["payload"] for said in found.payloads}[stale.task] == first.payload


def test_a_task_that_ends_otherwise_leaves_it_moot(writers):
    stale = Stale(writers())
    stale.boss.cancel(stale.task)
    assert stale.conflict.outcome == "moot"


def test_what_was_never_there_is_nobodys(writers):
    case = writers()
    boss, worker = case.town.join("boss"), case.town.worker("w")
    boss.delegate(context_id=C)
    worker.report(worker.offer(), basis=[Seen("decisions/none", 3)])
    (conflict,) = case.conflicts
    assert [one.form for one in conflict.candidates] == ["result"]
