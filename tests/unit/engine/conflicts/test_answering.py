"""What is recorded of the answer to a job, where it is still wanted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from a2a.engine.conflicts.answering import taken
from a2a.engine.conflicts.bench import Answer
from a2a.engine.conflicts.comparators import Compare
from a2a.engine.conflicts.merging import Merge
from a2a.engine.conflicts.patches import Overlap
from a2a.engine.policy import Admission, digest
from a2a.engine.records import Classified
from a2a.protocol.messages import ConflictVote


class Group:
    """Three answers to one task; the comparison of the last is a job whose answer has not come."""

    def __init__(self, town, monkeypatch):
        self.town, held, answered = town, [], town.coordinator.answered
        boss = town.join("boss")
        workers = [town.worker(f"w{number}") for number in range(3)]
        self.id = boss.delegate("q", spec={"redundancy": {"n": 3}})
        for text, worker in zip("123", workers, strict=True):
            if text == "3":
                monkeypatch.setattr(town.coordinator, "answered", lambda job, *_: held.append(job))
            parts = b'[{"artifactId":"result","name":"result","parts":[{"data":%s}]}]' % text.encode()
            worker.report(worker.offer(), payload=parts)
        monkeypatch.setattr(town.coordinator, "answered", answered)
        (self.job,) = held
        self.world = town.coordinator.world

    def taken(self, number, why=""):
        return taken(self.world, self.job, Answer(number, why), self.town.now)


@pytest.fixture
def group(make_town, monkeypatch):
    return Group(make_town(admission=Admission(operator_token=digest("op"))), monkeypatch)


def test_what_a_comparison_came_to_is_recorded_as_often_as_it_is_wanted(group):
    assert group.world.live.comparing == {group.id: group.job.member}
    record = group.taken(2, "json-c14n")
    assert record == Classified(group.town.now, group.id, group.job.member, 2, "json-c14n")
    assert group.world.live.comparing == {}
    group.town.coordinator.answered(group.job, Answer(2, "json-c14n"), group.town.now)
    group.town.flush()
    assert group.town.said(Classified)[-1] == record
    assert group.taken(2) is None, "it was said before"


@pytest.mark.parametrize("number", [-1, 0, 1, 2])
def test_the_classes_there_are_and_one_more_may_be_said(group, number):
    assert group.taken(number, "because").number == number


def test_a_class_that_is_not_there_is_an_answer_nobody_can_use(group):
    record = group.taken(3)
    assert (record.number, record.why) == (-1, "the comparison came to class 3, and there are 2")


def test_an_answer_about_another_member_than_the_one_that_is_compared_says_nothing(group):
    before = replace(group.job, member=group.town.task(group.id).group.electorate[0])
    assert taken(group.world, before, Answer(0, "json-c14n"), group.town.now) is None
    assert group.world.live.comparing == {group.id: group.job.member}, "it is still being done"


def test_a_comparison_that_is_over_after_a_persons_word_says_nothing(group):
    (conflict,) = group.town.ledger.conflicts.values()
    first = group.town.task(group.id).group.electorate[0]
    group.town.join("ann", operator_token="op").say(ConflictVote(conflict.id, first, "it is right"))
    assert group.taken(2) is None
    assert group.world.live.comparing == {}


@pytest.mark.parametrize(
    "job",
    [
        Compare("main-99", "main-98", "bytes", (b"[]",), b"[]"),
        Merge("main-99", 0, b"1", b"2", b"3"),
        Overlap("main-99", "main-98", (b"[]",), (b"[]",)),
    ],
    ids=lambda job: type(job).__name__,
)
def test_an_answer_about_what_is_not_there_says_nothing(group, job):
    assert taken(group.world, job, Answer(0, ""), group.town.now) is None


def test_an_overlap_is_answered_by_the_job_that_is_being_done(group):
    job, other = (Overlap("main-99", against, (b"[]",), (b"[]",)) for against in ("main-98", "main-97"))
    group.world.live.overlapping["main-99"] = job
    assert taken(group.world, other, Answer(1, ""), group.town.now) is None
    assert group.world.live.overlapping == {"main-99": job}, "it is still being done"
