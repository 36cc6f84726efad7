"""Results that patch the same place of one base: how it is found, and what becomes of it."""

import json

import pytest

from a2a.engine import snapshot
from a2a.engine.conflicts.bench import Answer
from a2a.engine.conflicts.overlapping import collision
from a2a.engine.conflicts.patches import DIFF
from a2a.engine.policy import Admission, digest
from a2a.engine.records import ConflictOpened, PatchesCompared
from a2a.errors import ErrorCode
from a2a.protocol.messages import (
    ConflictGet,
    ConflictRaise,
    ConflictVote,
    ContextOp,
    ContextWrite,
    Held,
    PatchRef,
    RaisedSubject,
    Seen,
    TaskConfirm,
)

C = "work"


def patch(line, text, context=0, of="repo", base="r1"):
    """Return a result that changes one line of a file."""
    shown = range(line - context, line + context + 1)
    lines = [f"-old {at}\n+{text}" if at == line else f" old {at}" for at in shown]
    count = len(lines)
    diff = f"--- a/f\n+++ b/f\n@@ -{line - context},{count} +{line - context},{count} @@\n" + "\n".join(lines) + "\n"
    part = {"text": diff, "mediaType": DIFF}
    return json.dumps([{"artifactId": "r", "metadata": {"patch": {"of": of, "base": base}}, "parts": [part]}]).encode()


class Coders:
    """Workers whose results are patches."""

    def __init__(self, town, count=3):
        self.town, self.boss = town, town.join("boss")
        self.workers = {f"w{number}": town.worker(f"w{number}") for number in range(count)}
        self.made = 0

    def reports(self, payload, *patches, context_id=C, by=None, **fields):
        """Have a task done that comes to this, and return it."""
        self.made += 1
        task = (by or self.boss).delegate(f"k{self.made}", context_id=context_id, **fields)
        worker = self.workers[self.town.task(task).holder]
        named = [PatchRef(*one) for one in patches or (("repo", "r1"),)]
        assert worker.report(worker.offer(), payload=payload, patches=named) == "admitted"
        return task

    @property
    def conflicts(self):
        return list(self.town.ledger.conflicts.values())


@pytest.fixture
def coders(make_town):
    def make(*rungs, count=3, **policy):
        ladder = tuple(rung if isinstance(rung, dict) else {"strategy": rung} for rung in rungs or ("human", "abort"))
        ladders = {"ladders": {"artifact": ladder}}
        return Coders(make_town(admission=Admission(operator_token=digest("op")), **(ladders | policy)), count)

    return make


# What opens one -------------------------------------------------------------------------------------------------------


def test_two_that_change_the_same_are_a_conflict_that_nobody_raised(coders):
    case = coders()
    first, second = case.reports(patch(5, "x")), case.reports(patch(5, "y"))
    (conflict,) = case.conflicts
    assert (conflict.kind, conflict.rule, conflict.object) == ("artifact", "a1", f"task:{second}")
    assert [(one.ref, one.form, one.number) for one in conflict.candidates] == [
        (first, "result", 0),
        (second, "result", 1),
    ]
    authors = {case.town.task(task).results[-1].agent: "author" for task in (first, second)}
    assert conflict.parties == authors | {"boss": "delegator"} and len(authors) == 2
    assert conflict.blocks == [first, second] and conflict.raises == []
    assert {str(case.town.task(task).state) for task in (first, second)} == {"disputed"}
    (record,) = case.town.said(PatchesCompared)
    assert (record.task, record.other, record.number) == (second, first, 1)
    review = next(mail for mail in case.boss.mail() if mail.kind == "task.review")
    word = TaskConfirm(first, review.rev, review.result_hash)
    assert case.boss.refused(word) == ErrorCode.CONFLICT, "nothing settles meanwhile"


@pytest.mark.parametrize(
    "other",
    [
        {"payload": patch(9, "y")},
        {"payload": patch(5, "x")},
        {"payload": patch(5, "y", base="r2"), "named": ("repo", "r2")},
        {"payload": patch(5, "y", of="docs"), "named": ("docs", "r1")},
        {"payload": patch(5, "y"), "context_id": "elsewhere"},
        {"payload": b'[{"parts":[{"text":"no patch"}]}]'},
        {"payload": b"no result"},
    ],
)
def test_others_are_none(coders, other):
    case = coders()
    case.reports(patch(5, "x"))
    named = [other.pop("named")] if "named" in other else []
    case.reports(other.pop("payload"), *named, **other)
    assert case.conflicts == []
    assert case.town.ledger.patches.due == {}


def test_what_cannot_be_compared_is_recorded_and_opens_nothing(coders):
    case = coders()
    case.reports(patch(5, "x"))
    case.reports(b"no result")
    (record,) = case.town.said(PatchesCompared)
    assert record.number == -1 and "JSON array" in record.why


def test_a_result_is_one_conflict_with_all_it_collides_with(coders):
    case = coders()
    first, second = case.reports(patch(5, "x")), case.reports(patch(9, "x"))
    both = json.loads(patch(5, "y"))
    both[0]["parts"][0]["text"] += "@@ -9,1 +9,1 @@\n-old 9\n+y\n"
    third = case.reports(json.dumps(both).encode())
    (conflict,) = case.conflicts
    assert [one.ref for one in conflict.candidates] == [first, second, third]


def test_what_was_accepted_long_ago_is_still_in_the_way(coders):
    case = coders(linger_ms=0)
    first = case.reports(patch(5, "x"), acceptance="auto")
    for peer in (case.boss, *case.workers.values()):
        if peer.mailbox:
            peer.acknowledge()
    case.town.pass_time(10_000)
    assert first not in case.town.ledger.tasks
    second = case.reports(patch(5, "y"))
    (conflict,) = case.conflicts
    assert ([one.ref for one in conflict.candidates], conflict.blocks) == ([first, second], [second])


def test_what_was_sent_back_rejected_or_failed_is_in_nobodys_way(coders):
    case = coders()
    for fields in ({"rework": True}, {}):
        task = case.reports(patch(5, "x"))
        review = next(mail for mail in reversed(case.boss.mail()) if mail.kind == "task.review")
        case.boss.confirm(review, verdict="reject", **fields)
        if fields:
            case.boss.cancel(task, "kill")
    assert case.town.ledger.patches.known == {}
    case.reports(patch(5, "y"))
    assert case.conflicts == []


def test_the_answers_of_a_group_are_its_own_affair_and_its_result_is_not(coders):
    case = coders()
    case.reports(patch(5, "x"))
    group = case.boss.delegate("g", context_id=C, spec={"redundancy": {"n": 2, "policy": [{"strategy": "first_wins"}]}})
    for member, text in zip(case.town.task(group).group.electorate, ("y", "z"), strict=True):
        worker = case.workers[case.town.task(member).holder]
        worker.report(worker.offer(), payload=patch(5, text), patches=[PatchRef("repo", "r1")])
    case.town.pass_time(60_000)
    assert [conflict.rule for conflict in case.conflicts] == ["r1", "a1"]
    assert case.conflicts[1].object == f"task:{group}"


def test_what_a_merger_makes_of_answers_is_the_groups_result_and_no_other(coders):
    case = coders()
    merger = case.town.worker("m", "merge")
    case.reports(patch(5, "x"))
    rungs = [{"strategy": "merge", "skill": "merge"}, {"strategy": "abort"}]
    group = case.boss.delegate("g", context_id=C, spec={"redundancy": {"n": 2, "policy": rungs}})
    for member, text in zip(case.town.task(group).group.electorate, ("y", "z"), strict=True):
        worker = case.workers[case.town.task(member).holder]
        worker.report(worker.offer(), payload=patch(5, text), patches=[PatchRef("repo", "r1")])
    merger.report(merger.offer(), payload=patch(5, "yz"), patches=[PatchRef("repo", "r1")])
    assert [(conflict.rule, conflict.object) for conflict in case.conflicts[1:]] == [("a1", f"task:{group}")]


def test_what_is_made_below_a_task_is_what_its_own_result_is_made_of(coders):
    case = coders()
    above = case.boss.delegate("above", context_id=C)
    holder = case.workers[case.town.task(above).holder]
    offer = holder.offer()
    below = case.reports(patch(5, "x"), by=holder, parent=Held(above, offer.fence), acceptance="auto")
    assert case.town.task(below).parent == above
    holder.report(offer, payload=patch(5, "y"), patches=[PatchRef("repo", "r1")])
    assert case.conflicts == []


@pytest.mark.parametrize("word", [{}, {"verdict": "reject"}, {"verdict": "reject", "rework": True}, None])
def test_the_end_of_a_conflict_that_a_word_decides_makes_room_for_one_of_patches(coders, word):
    case = coders(conflicts_open_max=1)
    case.boss.say(ContextWrite(C, "k", [ContextOp("decisions/x", 0, b"1")]))
    case.boss.delegate("d", context_id=C)
    worker = next(worker for worker in case.workers.values() if worker.mailbox)
    worker.report(worker.offer(), basis=[Seen("decisions/x", 0)])
    review = next(mail for mail in case.boss.mail() if mail.kind == "task.review")
    case.reports(patch(5, "x")), case.reports(patch(5, "y"))
    assert [conflict.rule for conflict in case.conflicts] == ["c3"], "there is no room for another"
    case.boss.cancel(review.task) if word is None else case.boss.confirm(review, **word)
    assert [conflict.rule for conflict in case.conflicts] == ["c3", "a1"]


@pytest.mark.parametrize("policy", [{"ladders": {}}, {"conflicts_open_max": 0}])
def test_where_there_is_no_ladder_or_no_room_none_opens(coders, policy):
    case = coders(**policy)
    case.reports(patch(5, "x"))
    case.reports(patch(5, "y"))
    assert case.conflicts == []
    assert len(case.town.said(PatchesCompared)) == (policy != {"ladders": {}})


def test_what_is_disputed_already_is_not_disputed_again(coders):
    case = coders()
    first, second = case.reports(patch(5, "x")), case.reports(patch(9, "x"))
    subjects = [RaisedSubject(task=first), RaisedSubject(task=second)]
    case.boss.say(ConflictRaise("artifact", subjects, claim="they are both wrong"))
    case.reports(patch(5, "y"))
    assert [conflict.rule for conflict in case.conflicts] == ["raise"]


def test_what_stands_after_a_conflict_is_looked_at_again(coders):
    case = coders()
    person = case.town.join("ann", operator_token="op")
    first, second = case.reports(patch(5, "x")), case.reports(patch(9, "x"))
    subjects = [RaisedSubject(task=first), RaisedSubject(task=second)]
    raised = case.boss.say(ConflictRaise("artifact", subjects, claim="one of them is wrong"))
    third = case.reports(patch(5, "y"))
    person.say(ConflictVote(raised.conflict, first))
    assert [conflict.rule for conflict in case.conflicts] == ["raise", "a1"]
    assert [one.ref for one in case.conflicts[-1].candidates] == [first, third]


# Jobs -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def slow(coders, monkeypatch):
    def make(*rungs, **policy):
        case = coders(*rungs, **policy)
        case.jobs, case.answered = [], case.town.coordinator.answered
        monkeypatch.setattr(case.town.coordinator, "answered", lambda *said: case.jobs.append(said))

        def says(**fields):
            job, answer, _ = case.jobs.pop(0)
            case.answered(job, Answer(**fields) if fields else answer, case.town.now)
            case.town.flush()

        case.says = says
        return case

    return make


def test_a_word_that_is_said_before_the_comparison_stands(slow):
    case = slow()
    case.reports(patch(5, "x"), acceptance="auto")
    second = case.reports(patch(5, "y"))
    review = next(mail for mail in case.boss.mail() if mail.kind == "task.review")
    case.boss.confirm(review)
    case.says()
    (conflict,) = case.conflicts
    assert conflict.blocks == [] and str(case.town.task(second).state) == "completed"


def test_what_takes_too_long_is_recorded_and_opens_nothing(slow):
    case = slow()
    case.reports(patch(5, "x"))
    case.reports(patch(5, "y"))
    case.says(number=-1, why="it took longer than 5 s")
    (record,) = case.town.said(PatchesCompared)
    assert (record.number, record.why) == (-1, "it took longer than 5 s")
    assert case.conflicts == [] and case.town.ledger.patches.due == {}


def test_an_answer_about_a_result_that_was_sent_back_says_nothing(slow):
    case = slow()
    case.reports(patch(5, "x"), acceptance="auto")
    task = case.reports(patch(5, "y"))
    review = next(mail for mail in case.boss.mail() if mail.kind == "task.review")
    case.boss.confirm(review, verdict="reject", rework=True)
    worker = case.workers[case.town.task(task).holder]
    worker.report(worker.offer(), payload=patch(7, "z"), patches=[PatchRef("repo", "r1")])
    assert len(case.jobs) == 2
    case.says()
    assert case.town.said(PatchesCompared) == [] and len(case.jobs) == 1, "the newer one is looked at already"
    case.says()
    (record,) = case.town.said(PatchesCompared)
    assert record.number == 0 and case.conflicts == []


def test_the_next_is_looked_at_where_the_one_that_was_is_gone(slow):
    case = slow()
    first = case.reports(patch(5, "w"))
    case.reports(patch(5, "x"), acceptance="auto")
    case.jobs.clear()
    case.reports(patch(5, "y"))
    case.boss.confirm(next(mail for mail in case.boss.mail() if mail.kind == "task.review"), verdict="reject")
    assert str(case.town.task(first).state) == "failed"
    case.says()
    assert case.town.said(PatchesCompared) == []
    case.says()
    (conflict,) = case.conflicts
    assert len(conflict.candidates) == 2


def test_what_somebody_says_meanwhile_is_the_conflict_there_is(slow):
    case = slow()
    case.reports(patch(5, "x"), acceptance="auto")
    second = case.reports(patch(5, "y"), acceptance="auto")
    subjects = [RaisedSubject(task=second), RaisedSubject(value=b'"I doubt it"')]
    case.boss.say(ConflictRaise("artifact", subjects))
    case.says()
    assert [(conflict.rule, conflict.object) for conflict in case.conflicts] == [("raise", f"task:{second}")]


def test_none_opens_before_all_were_looked_at(slow):
    case = slow()
    for text in ("x", "x", "y"):
        last = case.reports(patch(5, text), acceptance="auto")
    case.jobs.pop(0)
    case.says()
    assert case.town.ledger.patches.known[last].collides
    world = case.town.coordinator.world
    assert collision(world, last, case.town.now) is None and case.conflicts == []
    case.says()
    assert [len(conflict.candidates) for conflict in case.conflicts] == [3]
    assert collision(world, last, case.town.now) is None


def test_a_snapshot_knows_what_others_are_held_against(slow):
    case = slow()
    for text in ("x", "y", "z"):
        case.reports(patch(5, text))
    case.jobs.pop(0)
    case.says()
    ledger = case.town.ledger
    again = snapshot.load(snapshot.to_bytes(ledger), ledger.namespace)
    assert again.patches == ledger.patches and len(again.patches.known) == 3
    assert list(again.patches.due) == list(ledger.patches.due)


def test_a_comparison_is_made_again_after_a_restart(slow):
    case = slow()
    case.reports(patch(5, "x"))
    case.reports(patch(5, "y"))
    again = case.town.restart()
    assert [conflict.rule for conflict in again.ledger.conflicts.values()] == ["a1"]


# What comes of it -----------------------------------------------------------------------------------------------------


def test_what_collides_in_context_only_is_merged_by_itself_and_shown(coders):
    case = coders("merge", "abort")
    tasks = [case.reports(patch(5, "x", context=3)), case.reports(patch(7, "y", context=3))]
    (conflict,) = case.conflicts
    assert (conflict.outcome, conflict.ref, conflict.by) == ("merge", None, "merge")
    found = case.boss.say(ConflictGet(conflict.id))
    (merged,) = [one["payload"] for one in found.payloads if one["ref"] == "merged"]
    (artifact,) = json.loads(merged)
    assert artifact["metadata"] == {"patch": {"of": "repo", "base": "r1"}}
    assert "-old 5\n+x\n old 6\n-old 7\n+y\n" in artifact["parts"][0]["text"]
    for task in tasks:
        assert case.town.task(task).results[-1].overruled == conflict.id
        assert str(case.town.task(task).state) == "reported"
    assert case.town.ledger.patches.known == {}


def test_what_both_changed_is_not_merged_by_itself(coders):
    case = coders("merge", "abort")
    case.reports(patch(5, "x")), case.reports(patch(5, "y"))
    (conflict,) = case.conflicts
    assert (conflict.by, "both have changed" in conflict.stages[0].why) == ("abort", True)


def test_more_than_two_are_not_merged_by_themselves(coders):
    case = coders("merge", "abort")
    case.reports(patch(5, "x", context=2), acceptance="auto")
    case.reports(patch(9, "x", context=1), acceptance="auto")
    case.reports(patch(7, "y", context=2))
    (conflict,) = case.conflicts
    assert conflict.stages[0].why == "two are merged by themselves, and no more"


def test_a_merger_makes_one_where_a_skill_is_named(coders):
    case = coders({"strategy": "merge", "skill": "merge"}, "abort")
    merger = case.town.worker("m", "merge")
    case.reports(patch(5, "x")), case.reports(patch(5, "y"))
    offer = merger.offer()
    merger.report(offer, payload=patch(5, "xy"), patches=[PatchRef("repo", "r1")])
    (conflict,) = case.conflicts
    assert (conflict.outcome, conflict.ref) == ("merge", offer.task)
    assert len(case.town.said(ConflictOpened)) == 1, "what was made for it contradicts nobody"


def test_a_person_chooses_and_the_other_is_overruled(coders):
    case = coders()
    first, second = case.reports(patch(5, "x")), case.reports(patch(5, "y"))
    case.town.join("carl", operator_token="op").say(ConflictVote(case.conflicts[0].id, second, "shorter"))
    assert [bool(case.town.task(task).results[-1].overruled) for task in (first, second)] == [True, False]
    assert list(case.town.ledger.patches.known) == [second]


def test_raised_results_are_merged_by_themselves_too(coders):
    case = coders("merge", "abort")
    tasks = [case.reports(patch(5, "x")), case.reports(patch(9, "y"))]
    case.boss.say(ConflictRaise("artifact", [RaisedSubject(task=task) for task in tasks]))
    assert case.conflicts[0].outcome == "merge"


def test_who_is_above_the_author_of_a_patch_has_more_to_say_after_the_task_has_left_memory(coders):
    case = coders("authority", "abort", linger_ms=0, count=2)
    first = case.reports(patch(5, "x"), acceptance="auto", by=case.workers["w0"], spec={"requires": {"agent": "w1"}})
    case.town.pass_time(5_000)
    assert first not in case.town.ledger.tasks
    second = case.reports(patch(5, "y"), spec={"requires": {"agent": "w0"}})
    (conflict,) = case.conflicts
    assert (conflict.by, conflict.ref) == ("authority", second)
