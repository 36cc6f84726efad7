"""Parties and people have their say in a conflict."""

import pytest

from a2a.engine.policy import Admission, digest
from a2a.engine.records import ConflictAppealed
from a2a.errors import ErrorCode
from a2a.protocol.messages import (
    ConflictAppeal,
    ConflictGet,
    ConflictList,
    ConflictPage,
    ConflictPosition,
    ConflictVote,
    Ok,
)
from tests.unit.engine.conflicts.court import ladder

TEXT = b'[{"artifactId":"r","parts":[{"text":"%s"}]}]'


class Case:
    def __init__(self, town, *rungs, effect=None):
        self.town, self.boss = town, town.join("boss")
        self.workers = [town.worker(f"w{number}") for number in range(2)]
        spec = {"redundancy": {"n": 2, "policy": [{"strategy": rung} for rung in rungs]}}
        self.group = self.boss.delegate("q", spec=spec | ({"effect": effect} if effect else {}))
        for worker in self.workers:
            worker.report(worker.offer(), payload=TEXT % worker.name.encode())
        (self.conflict,) = town.ledger.conflicts.values()

    @property
    def task(self):
        return self.town.task(self.group)


@pytest.fixture
def case(make_town):
    def make(*rungs, effect=None, **policy):
        return Case(make_town(admission=Admission(operator_token=digest("op")), **policy), *rungs, effect=effect)

    return make


def test_only_parties_take_a_position_and_the_last_one_counts(case):
    made = case("human", "abort")
    worker, stranger = made.workers[0], made.town.join("stranger")
    position = ConflictPosition(made.conflict.id, b"[1]", "mine")
    assert stranger.refused(position) == ErrorCode.FORBIDDEN
    assert worker.say(position) == Ok()
    records = len(made.town.records)
    assert worker.say(position) == Ok()
    assert len(made.town.records) == records, "a repeat is no further one"
    worker.say(ConflictPosition(made.conflict.id, b"[2]", "mine, again"))
    assert made.conflict.positions[worker.name].payload == b"[2]"
    assert worker.refused(ConflictPosition("main-k1", b"[]")) == ErrorCode.NOT_FOUND


def test_another_process_of_a_partys_principal_speaks_for_it(case):
    made = case("first_wins", "human", "abort", appeal_ms=1_000)
    again = made.town.join("boss#2")
    assert made.boss.say(ConflictPosition(made.conflict.id, b"[1]", "mine")) == Ok()
    assert again.say(ConflictPosition(made.conflict.id, b"[2]", "mine, again")) == Ok()
    assert {party: said.payload for party, said in made.conflict.positions.items()} == {"boss": b"[2]"}
    appeal = ConflictAppeal(made.conflict.id, "new_evidence")
    assert [again.say(appeal), made.boss.say(appeal)] == [Ok(), Ok()], "the same word of the same party"
    assert made.conflict.appeal["by"] == "boss"
    assert made.town.join("bosses#2").refused(appeal) == ErrorCode.FORBIDDEN


def test_a_person_chooses_among_the_subjects_or_none(case):
    made = case("human", "abort")
    person = made.town.join("ann", operator_token="op")
    assert person.refused(ConflictVote(made.conflict.id, made.group)) == ErrorCode.NOT_FOUND
    assert person.refused(ConflictVote("main-k1")) == ErrorCode.NOT_FOUND
    assert person.say(ConflictVote(made.conflict.id, None, "neither")) == Ok(state="reject_all")
    assert (made.task.state, made.conflict.by, made.conflict.rationale) == ("failed", "ann", "neither")
    assert person.say(ConflictVote(made.conflict.id, None)) == Ok(state="reject_all"), "a repeat is no other word"
    assert made.workers[0].refused(ConflictPosition(made.conflict.id, b"[9]")) == ErrorCode.CONFLICT


def test_the_same_word_from_another_process_of_the_same_person_is_a_repeat(case):
    made = case("human", "abort")
    person = made.town.join("ann#1", operator_token="op")
    (chosen,), (other,) = made.task.group.classes
    assert person.say(ConflictVote(made.conflict.id, chosen)) == Ok(state="select")
    again = made.town.join("ann#2", operator_token="op")
    assert again.say(ConflictVote(made.conflict.id, chosen)) == Ok(state="select")
    refusal = again.say(ConflictVote(made.conflict.id, other))
    assert refusal.detail == f"conflict {made.conflict.id} is over: select {chosen}, by ann#1"
    assert made.town.join("bob", operator_token="op").refused(ConflictVote(made.conflict.id, chosen))


def test_a_word_for_any_of_equal_subjects_is_for_all_of_them_also_when_it_comes_again(court):
    case = court(3, redundancy=ladder("human", "abort"))
    case.answers("1", "2", "1")
    person, conflict = case.town.join("ann", operator_token="op"), case.conflict.id
    (first, second), (other,) = case.task.group.classes
    assert person.say(ConflictVote(conflict, second)) == Ok(state="select")
    assert case.conflict.ref == first
    assert [person.say(ConflictVote(conflict, same)) for same in (first, second)] == [Ok(state="select")] * 2
    assert [person.refused(ConflictVote(conflict, no)) for no in (other, None, "main-1")] == [ErrorCode.CONFLICT] * 3


def test_an_outcome_is_appealed_once_before_it_takes_effect(case):
    made = case("first_wins", "human", "abort", appeal_ms=1_000)
    loser = made.workers[1] if made.task.group.classes[0][0] == made.task.group.electorate[0] else made.workers[0]
    assert made.task.state == "disputed", "the outcome waits"
    appeal = ConflictAppeal(made.conflict.id, "new_evidence", b'["look"]')
    assert made.town.join("stranger").refused(appeal) == ErrorCode.FORBIDDEN
    assert loser.say(appeal) == Ok()
    assert loser.say(appeal) == Ok()
    assert made.boss.refused(ConflictAppeal(made.conflict.id, "wrong_subject")) == ErrorCode.DENIED
    assert len(made.town.said(ConflictAppealed)) == 1
    assert (made.conflict.level, made.conflict.stage.strategy) == (2, "human")
    made.town.pass_time(2_000)
    assert made.task.state == "disputed"


def test_a_person_may_decide_against_an_outcome_of_the_last_rung_that_has_no_effect_yet(case):
    made = case("first_wins", appeal_ms=1_000)
    person = made.town.join("ann", operator_token="op")
    second = made.task.group.classes[1][0]
    assert person.say(ConflictVote(made.conflict.id, second)) == Ok(state="select")
    assert (made.conflict.by, made.conflict.ref, made.task.state) == ("ann", second, "reported")


def test_an_outcome_that_nobody_appeals_takes_effect(case):
    made = case("first_wins", appeal_ms=1_000)
    made.town.pass_time(999)
    assert made.task.state == "disputed"
    made.town.pass_time(1)
    assert made.task.state == "reported"
    assert made.workers[0].refused(ConflictAppeal(made.conflict.id, "new_evidence")) == ErrorCode.CONFLICT


def test_after_a_start_nobody_has_lost_the_time_to_appeal(case):
    made = case("first_wins", "human", "abort", appeal_ms=1_000)
    made.boss.delegate("r")
    made.workers[0].accept(made.workers[0].offer())
    again = made.town.restart(after=2_000)
    worker = again.join("w1", held=[])
    assert again.task(made.group).state == "disputed", "the grace is not over"
    assert worker.say(ConflictAppeal(made.conflict.id, "new_evidence")) == Ok()


def test_where_nothing_can_be_undone_there_is_time_to_appeal(case):
    made = case("plurality", "abort", effect="irreversible", appeal_irreversible_ms=500)
    assert made.task.state == "failed", "a tie refuses all"


def test_what_follows_from_a_persons_silence_is_appealed_as_any_outcome(court):
    silence = {"strategy": "human", "timeoutMs": 1_000, "onTimeout": "first_wins"}
    policy = {"appeal_irreversible_ms": 500}
    made = court(2, policy=policy, effect="irreversible", redundancy=ladder(silence, "plurality", "abort"))
    made.answers("1", "2")
    made.town.pass_time(1_499)
    assert (made.conflict.stages[0].winner, made.task.state) == (0, "disputed"), "it has no effect yet"
    assert made.workers[1].say(ConflictAppeal(made.conflict.id, "new_evidence")) == Ok()
    assert (made.task.state, made.conflict.by) == ("failed", "abort"), "the ladder went on above it"


def test_what_has_no_outcome_is_not_appealed(case):
    made = case("human", "abort", appeal_ms=1_000)
    assert made.workers[0].refused(ConflictAppeal(made.conflict.id, "new_evidence")) == ErrorCode.DENIED


def test_conflicts_are_listed_newest_first_and_in_pages(case):
    made = case("first_wins")
    made.boss.delegate("r", spec={"redundancy": {"n": 2, "policy": [{"strategy": "human"}, {"strategy": "abort"}]}})
    for worker in made.workers:
        worker.report(worker.offer(), payload=TEXT % worker.name.encode())
    older, newer = made.town.ledger.conflicts
    page = made.boss.say(ConflictList(limit=1))
    assert ([shown["conflict"] for shown in page.conflicts], page.next_before) == ([newer], newer)
    assert made.boss.say(ConflictList(before=newer)).conflicts[0]["conflict"] == older
    assert [shown["conflict"] for shown in made.boss.say(ConflictList(is_open=True)).conflicts] == [newer]
    assert made.boss.say(ConflictList(task=made.group)).conflicts[0]["conflict"] == older
    assert made.boss.refused(ConflictList(before="main-k1")) == ErrorCode.NOT_FOUND
    assert made.boss.refused(ConflictGet("main-k1")) == ErrorCode.NOT_FOUND
    assert made.boss.say(ConflictGet(older, content=False)).payloads == []
    assert isinstance(page, ConflictPage)
