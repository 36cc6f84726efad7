"""What one attempt leaves to the next: checkpoints, hand-offs, the story so far."""

import pytest

from a2a.engine.records import Checkpointed, HandedOff, HandoffLapsed
from a2a.errors import ErrorCode
from a2a.protocol.messages import AttemptError, Ok, TaskCheckpoint, TaskHandoff, TaskYield


@pytest.fixture
def boss(town):
    return town.join("boss")


@pytest.fixture
def worker(town):
    return town.worker("w1")


@pytest.fixture
def offer(boss, worker):
    boss.delegate()
    return worker.offer()


def checkpoint(offer, number, **fields):
    given = {"payload": b"[%d]" % number, "base_cp": number - 1} | fields
    return TaskCheckpoint(offer.task, offer.fence, number, **given)


# Checkpoints ----------------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_a_record_and_goes_with_the_next_offer(town, worker, offer):
    assert worker.say(checkpoint(offer, 1, format="rows")) == Ok(state="leased")
    assert worker.say(checkpoint(offer, 2, format="rows")) == Ok(state="leased")
    assert town.said(Checkpointed)[-1] == Checkpointed(town.now, offer.task, offer.fence, 2, "rows", True, b"[2]")
    worker.say(TaskYield(offer.task, offer.fence))
    left = worker.offer().checkpoint
    assert (left.cp_no, left.fence, left.agent, left.format, left.payload) == (2, offer.fence, "w1", "rows", b"[2]")


@pytest.mark.parametrize(("number", "base"), [(1, 0), (2, 0), (3, 1), (2, 2), (4, 3)])
def test_a_checkpoint_follows_the_newest(worker, offer, number, base):
    worker.say(checkpoint(offer, 1))
    worker.say(checkpoint(offer, 2))
    assert worker.refused(checkpoint(offer, number, base_cp=base, payload=b'["other"]')) == ErrorCode.CONFLICT


def test_a_checkpoint_that_comes_again_is_no_further_one(town, worker, offer):
    worker.say(checkpoint(offer, 1))
    assert worker.say(checkpoint(offer, 1)) == Ok(state="leased")
    assert len(town.said(Checkpointed)) == 1


def test_a_checkpoint_is_of_bounded_size(make_town):
    town = make_town(checkpoint_max_bytes=4)
    worker = town.worker("w1")
    town.join("boss").delegate()
    offer = worker.offer()
    assert worker.refused(checkpoint(offer, 1, payload=b"[123]")) == ErrorCode.TOO_LARGE
    assert worker.say(checkpoint(offer, 1, payload=b"[12]")) == Ok(state="leased")


def test_only_the_current_attempt_leaves_checkpoints(town, worker, offer):
    assert town.worker("w2", tasks=0).refused(checkpoint(offer, 1)) == ErrorCode.NOT_HOLDER
    worker.say(TaskYield(offer.task, offer.fence))
    assert worker.refused(checkpoint(offer, 1)) == ErrorCode.STALE


# Hand-offs ------------------------------------------------------------------------------------------------------------


def test_a_task_is_handed_on_with_a_note_and_keeps_its_id(town, worker, offer):
    other = town.worker("w2")
    assert worker.say(TaskHandoff(offer.task, offer.fence, "w2", payload=b'["mind the gap"]')) == Ok(state="queued")
    assert town.said(HandedOff) == [HandedOff(town.now, offer.task, offer.fence, "w2", None, b'["mind the gap"]')]
    next_offer = other.offer()
    assert next_offer.task == offer.task
    (prior,) = next_offer.dossier.attempts
    assert (prior.agent, prior.end, prior.payload) == ("w1", "handed_off", b'["mind the gap"]')


def test_a_task_that_nobody_comes_for_is_anybodys_again(town, worker, offer):
    town.worker("w2", tasks=0)
    worker.say(TaskHandoff(offer.task, offer.fence, "w2"))
    assert town.task(offer.task).state == "queued"
    town.pass_time(3_000)
    assert town.said(HandoffLapsed) == [HandoffLapsed(town.now, offer.task)]
    assert town.task(offer.task).holder == "w1"


def test_a_task_is_not_handed_on_to_nobody(town, worker, offer):
    assert worker.refused(TaskHandoff(offer.task, offer.fence, "w2")) == ErrorCode.NO_CAPABLE_AGENT
    assert worker.refused(TaskHandoff(offer.task, offer.fence)) == ErrorCode.NO_CAPABLE_AGENT
    assert town.task(offer.task).holder == "w1"


# The dossier ----------------------------------------------------------------------------------------------------------


def test_the_first_attempt_has_no_dossier_and_the_next_one_knows_how_it_ended(town, worker, offer):
    assert offer.dossier is None
    town.pass_time(200)
    worker.report(offer, "failed", error=AttemptError("disk", "full", True), usage={"tokens": 7})
    town.pass_time(2_000)
    again = next(message for message in worker.mail() if message.kind == "task.offer")
    (prior,) = again.dossier.attempts
    assert (prior.agent, prior.fence, prior.end, prior.detail) == ("w1", offer.fence, "failed", "disk: full")
    assert (prior.ran_ms, prior.usage) == (200, {"tokens": 7})
