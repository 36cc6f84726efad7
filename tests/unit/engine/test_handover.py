"""What one attempt leaves to the next: checkpoints, hand-offs, the story so far."""

import pytest

from a2a.engine.policy import Bounds
from a2a.engine.records import Checkpointed, HandedOff, HandoffLapsed, Revived, Yielded
from a2a.errors import ErrorCode
from a2a.protocol.messages import (
    AgentUpdate,
    AttemptError,
    Credit,
    HeldStill,
    Ok,
    TaskAccept,
    TaskAnswer,
    TaskArtifact,
    TaskAsk,
    TaskCheckpoint,
    TaskDecline,
    TaskHandoff,
    TaskYield,
)


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
    assert town.coordinator.queues._skills == {}, "nothing is kept for whom it was handed to"


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


# What of it serves whom -----------------------------------------------------------------------------------------------


def skilled(town, name, *formats, **fields):
    return town.worker(name, {"id": "echo", "checkpointFormats": list(formats)} if formats else "echo", **fields)


def lose_to(town, worker, offer, other):
    """Let the other agent have the task next, and return its offer."""
    worker.say(AgentUpdate(status="draining"))
    worker.say(TaskYield(offer.task, offer.fence))
    return next(message for message in reversed(other.mail()) if message.kind == "task.offer")


@pytest.mark.parametrize(
    ("formats", "told", "serves"),
    [
        ((), {"format": "rows"}, True),
        (("rows",), {"format": "rows"}, True),
        (("cols", "rows"), {"format": "rows"}, True),
        (("cols",), {"format": "rows"}, False),
        (("cols",), {}, False),
        ((), {"portable": False}, False),
        (("rows",), {"format": "rows", "portable": False}, False),
    ],
)
def test_another_agent_gets_a_checkpoint_it_can_go_on_from(town, worker, offer, formats, told, serves):
    other = skilled(town, "w2", *formats)
    worker.say(checkpoint(offer, 1, **told))
    left = lose_to(town, worker, offer, other).checkpoint
    assert (left is not None) is serves
    assert left is None or (left.agent, left.payload) == ("w1", b"[1]")


@pytest.mark.parametrize(("formats", "serves"), [((), True), (("rows",), True), (("cols",), False)])
def test_an_agent_gets_its_own_checkpoint_whether_portable_or_not(town, boss, formats, serves):
    worker = skilled(town, "w1", *formats)
    boss.delegate()
    offer = worker.offer()
    worker.say(checkpoint(offer, 1, format="rows", portable=False))
    worker.say(TaskYield(offer.task, offer.fence))
    assert (worker.offer().checkpoint is not None) is serves


def test_an_empty_list_of_formats_names_none(town, worker, offer):
    other = town.worker("w2", {"id": "echo", "checkpointFormats": []})
    worker.say(checkpoint(offer, 1, format="rows"))
    assert lose_to(town, worker, offer, other).checkpoint.cp_no == 1


def test_where_the_newest_checkpoint_is_of_no_use_an_older_one_is_taken(town, boss, worker, offer):
    worker.say(checkpoint(offer, 1, payload=b'["old"]'))
    second = town.worker("w2")
    given = lose_to(town, worker, offer, second)
    second.say(checkpoint(given, 1, portable=False, payload=b'["own"]'))
    third = town.worker("w3")
    left = lose_to(town, second, given, third).checkpoint
    assert (left.agent, left.fence, left.payload) == ("w1", offer.fence, b'["old"]')


def test_the_newest_checkpoints_of_four_attempts_are_kept(town, worker, offer):
    left = []
    for number in range(6):
        worker.say(checkpoint(offer, 1))
        worker.say(checkpoint(offer, 2, payload=b"[%d]" % (number + 10)))
        left.append((offer.fence, 2, b"[%d]" % (number + 10)))
        worker.say(TaskYield(offer.task, offer.fence))
        offer = worker.offer()
    kept = [(kept.fence, kept.cp_no, kept.payload) for kept in town.task(offer.task).checkpoints]
    assert kept == left[-4:]
    assert offer.checkpoint.fence == left[-1][0]


def test_an_attempt_without_a_checkpoint_pushes_none_out(town, worker, offer):
    worker.say(checkpoint(offer, 1))
    for _ in range(5):
        worker.say(TaskYield(offer.task, offer.fence))
        offer = worker.offer()
    assert offer.checkpoint.payload == b"[1]"


def test_each_attempt_counts_its_checkpoints_from_one(town, worker, offer):
    worker.say(checkpoint(offer, 1))
    worker.say(TaskYield(offer.task, offer.fence))
    again = worker.offer()
    assert worker.say(checkpoint(again, 1, base_cp=0)) == Ok(state="leased")


def test_a_refused_checkpoint_says_which_is_the_newest(worker, offer):
    worker.say(checkpoint(offer, 3, base_cp=0))
    assert worker.say(checkpoint(offer, 5, base_cp=4)).data == {"cpNo": 3}
    assert worker.say(checkpoint(offer, 4, base_cp=3)) == Ok(state="leased")


def test_the_newest_checkpoint_again_is_agreed_to_also_when_the_attempt_has_ended_but_not_to_others(
    town, worker, offer
):
    worker.say(checkpoint(offer, 1))
    worker.say(TaskYield(offer.task, offer.fence))
    assert worker.say(checkpoint(offer, 1)) == Ok(state="leased")
    assert town.worker("w2", tasks=0).refused(checkpoint(offer, 1)) == ErrorCode.NOT_HOLDER
    assert worker.refused(checkpoint(offer, 1, payload=b'["other"]')) == ErrorCode.STALE


def test_a_checkpoint_is_a_sign_of_life(town, worker, offer):
    worker.beat(offer)
    town.pass_time(2_900)
    worker.say(checkpoint(offer, 1))
    town.pass_time(2_900)
    assert town.task(offer.task).holder == "w1"
    town.pass_time(100)
    town.worker("w2")
    worker.say(checkpoint(offer, 2))
    assert len(town.said(Revived)) == 1
    assert town.task(offer.task).holder == "w1"


def test_a_checkpoint_under_an_open_offer_accepts_it(town, worker, offer):
    worker.beat(offer)
    town.pass_time(3_000)
    again = worker.offer()
    assert not again.granted
    worker.say(checkpoint(again, 1))
    assert town.task(offer.task).authority.fence == again.fence


def test_checkpoints_survive_a_restart(town, worker, offer):
    worker.beat(offer)
    worker.say(checkpoint(offer, 1))
    again = town.restart()
    back = again.worker("w1", held=[HeldStill(offer.task, offer.fence)])
    assert back.refused(checkpoint(offer, 2, base_cp=0)) == ErrorCode.CONFLICT
    back.say(checkpoint(offer, 2))
    back.say(TaskYield(offer.task, offer.fence))
    assert back.offer().checkpoint.payload == b"[2]"


@pytest.mark.parametrize("kind", ["checkpoint", "handoff"])
def test_what_does_not_exist_or_was_never_minted_is_refused(town, worker, offer, kind):
    def say(task, fence):
        message = TaskCheckpoint(task, fence, 1, b"[]") if kind == "checkpoint" else TaskHandoff(task, fence)
        return worker.refused(message)

    assert say("main-99", offer.fence) == ErrorCode.NOT_FOUND
    assert say(offer.task, town.ledger.lsn + 1) == ErrorCode.MALFORMED


# Who has it after a hand-off ------------------------------------------------------------------------------------------


def test_a_hand_off_that_comes_again_is_agreed_to_and_not_done_again(town, worker, offer):
    other = town.worker("w2")
    hand = TaskHandoff(offer.task, offer.fence, "w2")
    worker.say(hand)
    assert worker.say(hand) == Ok(state="leased")
    assert len(town.said(HandedOff)) == 1
    given = other.offer()
    other.say(TaskYield(given.task, given.fence))
    assert other.refused(TaskHandoff(given.task, given.fence, "w1")) == ErrorCode.STALE


def test_only_the_holder_hands_on(town, worker, offer):
    other = town.worker("w2", tasks=0)
    assert other.refused(TaskHandoff(offer.task, offer.fence)) == ErrorCode.NOT_HOLDER


@pytest.mark.parametrize("state", ["parked", "parked and lapsed", "canceling"])
def test_only_what_is_at_work_is_handed_on(town, boss, worker, offer, state):
    town.worker("w2", tasks=0)
    if state == "canceling":
        boss.cancel(offer.task)
    else:
        worker.say(TaskAsk(offer.task, 1, b"[]", offer.fence))
    if state == "parked and lapsed":
        town.pass_time(3_000)
    assert worker.refused(TaskHandoff(offer.task, offer.fence, "w2")) == ErrorCode.CONFLICT


def test_the_holder_of_a_lapsed_lease_hands_on_before_somebody_else_accepts(town, worker, offer):
    worker.beat(offer)
    second = town.worker("w2")
    town.pass_time(3_000)
    given = second.offer()
    third = town.worker("w3")
    assert worker.say(TaskHandoff(offer.task, offer.fence, "w3")) == Ok(state="queued")
    assert [message.kind for message in second.mail()] == ["task.revoke"]
    assert third.offer().granted
    assert second.refused(TaskAccept(given.task, given.fence)) == ErrorCode.STALE


def test_a_task_is_handed_on_a_bounded_number_of_times(make_town):
    town = make_town(bounds=Bounds(handoffs=1))
    town.join("boss").delegate()
    first, second = town.worker("w1"), town.worker("w2", tasks=0)
    offer = first.offer()
    second.say(Credit(1))
    first.say(TaskHandoff(offer.task, offer.fence, "w2"))
    assert town.task(offer.task).handoffs == 1
    assert second.refused(TaskHandoff(offer.task, second.offer().fence, "w1")) == ErrorCode.QUOTA


def test_what_the_next_agent_must_be_comes_beside_what_the_task_asks_for(town, boss):
    holder = town.worker("w1", labels={"zone": "a"})
    task = boss.delegate(spec={"requires": {"labels": {"zone": "a"}, "exclude": ["w4"]}})
    offer = holder.offer()
    town.worker("w2", labels={"gpu": "yes"})
    town.worker("w4", labels={"gpu": "yes", "zone": "a"})
    hand = TaskHandoff(task, offer.fence, requires={"labels": {"gpu": "yes"}})
    assert holder.refused(hand) == ErrorCode.NO_CAPABLE_AGENT
    assert holder.refused(TaskHandoff(task, offer.fence, "w2")) == ErrorCode.NO_CAPABLE_AGENT
    assert holder.refused(TaskHandoff(task, offer.fence, requires={"exclude": []})) == ErrorCode.NO_CAPABLE_AGENT
    fits = town.worker("w3", labels={"gpu": "yes", "zone": "a"}, tasks=0)
    town.worker("w5", labels={"zone": "a"})
    assert holder.say(hand) == Ok(state="queued")
    assert town.task(task).state == "queued"
    fits.say(Credit(1))
    assert town.task(task).holder == "w3"


def test_an_agent_hands_on_to_another_and_not_to_itself(town, worker, offer):
    town.worker("w2", tasks=0)
    assert worker.refused(TaskHandoff(offer.task, offer.fence, "w1")) == ErrorCode.NO_CAPABLE_AGENT


@pytest.mark.parametrize("requires", [None, {"labels": {"zone": "a"}}, {"exclude": ["w1", "w9"]}])
def test_who_hands_on_does_not_get_the_task_back_before_the_wish_has_lapsed(town, boss, requires):
    holder = town.worker("w1", labels={"zone": "a"})
    task = boss.delegate()
    offer = holder.offer()
    other = town.worker("w2", labels={"zone": "a"}, tasks=0)
    holder.say(TaskHandoff(task, offer.fence, requires=requires))
    town.pass_time(2_999)
    assert town.task(task).state == "queued"
    other.say(Credit(1))
    assert town.task(task).holder == "w2"
    other.say(TaskHandoff(task, town.task(task).authority.fence, requires={"labels": {"zone": "a"}}))
    assert town.task(task).holder == "w1", "who handed it on before is another one again"


def test_what_nobody_else_comes_for_goes_back_to_who_handed_it_on(town, worker, offer):
    town.worker("w2", tasks=0)
    worker.say(TaskHandoff(offer.task, offer.fence))
    town.pass_time(3_000)
    assert town.said(HandoffLapsed) == [HandoffLapsed(town.now, offer.task)]
    assert town.task(offer.task).holder == "w1"


def test_a_task_that_has_asked_is_handed_on_as_well(town, boss, worker, offer):
    worker.say(TaskAsk(offer.task, 1, b"[]", offer.fence))
    boss.say(TaskAnswer(offer.task, 1, b"[]"))
    town.worker("w2")
    worker.say(TaskHandoff(offer.task, offer.fence))
    assert town.task(offer.task).holder == "w2", "its last agent does not come first any more"


def test_the_member_of_a_group_is_not_handed_on_to_who_works_on_another(town, boss):
    boss.delegate(spec={"redundancy": {"n": 2}})
    first, second = town.worker("w1"), town.worker("w2", tasks=2)
    offer = first.offer()
    assert second.offer().task != offer.task
    assert first.refused(TaskHandoff(offer.task, offer.fence, "w2")) == ErrorCode.NO_CAPABLE_AGENT
    assert first.refused(TaskHandoff(offer.task, offer.fence)) == ErrorCode.NO_CAPABLE_AGENT
    town.worker("w3")
    assert first.say(TaskHandoff(offer.task, offer.fence)) == Ok(state="queued")
    assert town.task(offer.task).holder == "w3"


def test_the_wish_holds_for_the_next_attempt_only(town, worker, offer):
    other = town.worker("w2")
    worker.say(TaskHandoff(offer.task, offer.fence, "w2"))
    given = other.offer()
    assert town.task(offer.task).handed_to == {"agent": "w2"}
    other.say(TaskDecline(given.task, given.fence, retry_after_ms=60_000))
    assert town.task(offer.task).handed_to == {}
    assert town.task(offer.task).holder == "w1"


def test_the_wish_does_not_lapse_before_its_time(town, worker, offer):
    other = town.worker("w2", tasks=0)
    worker.say(TaskHandoff(offer.task, offer.fence, "w2"))
    town.pass_time(2_999)
    assert town.task(offer.task).state == "queued"
    other.say(Credit(1))
    assert town.task(offer.task).holder == "w2"
    town.pass_time(1)
    assert town.said(HandoffLapsed) == []


def test_the_wish_outlives_a_restart(town, worker, offer):
    town.worker("w2", tasks=0)
    worker.say(TaskHandoff(offer.task, offer.fence, "w2"))
    again = town.restart()
    again.worker("w1")
    assert again.task(offer.task).state == "queued"
    again.worker("w2")
    assert again.task(offer.task).holder == "w2"


def test_who_handed_a_task_on_is_not_asked_first_again(town, worker, offer):
    other = town.worker("w2")
    assert worker.say(TaskHandoff(offer.task, offer.fence)) == Ok(state="queued")
    assert town.task(offer.task).holder == "w2"
    assert other.offer().dossier.attempts[0].end == "handed_off"


# How each attempt ended -----------------------------------------------------------------------------------------------


def is_lost(town, boss, worker, offer):
    worker.beat(offer, progress_no=4, note="half way", usage={"tokens": 3})
    town.pass_time(3_000)


def declines(town, boss, worker, offer):
    worker.say(TaskDecline(offer.task, offer.fence, "unsupported"))


def yields(town, boss, worker, offer):
    worker.say(TaskYield(offer.task, offer.fence, "lunch", usage={"tokens": 3}))


def fails(town, boss, worker, offer):
    worker.report(offer, "failed", error=AttemptError("disk", "full", True), usage={"tokens": 3})
    town.pass_time(town.task(offer.task).retry_at - town.now)


def gives_up(town, boss, worker, offer):
    worker.report(offer, "canceled")


def asks(town, boss, worker, offer):
    worker.say(TaskAsk(offer.task, 1, b"[]", offer.fence, hold="cold"))
    boss.say(TaskAnswer(offer.task, 1, b"[]"))


def is_sent_back(town, boss, worker, offer):
    worker.report(offer)
    boss.confirm(boss.mail()[-1], verdict="reject", rework=True)


@pytest.mark.parametrize(
    ("ends", "end", "detail", "progress"),
    [
        (is_lost, "lapsed", "not heard in time", (4, "half way", {"tokens": 3})),
        (declines, "declined", "unsupported", (0, None, None)),
        (yields, "yielded", "lunch", (0, None, {"tokens": 3})),
        (fails, "failed", "disk: full", (0, None, {"tokens": 3})),
        (gives_up, "canceled", "", (0, None, None)),
        (asks, "asked", "", (0, None, None)),
        (is_sent_back, "completed", "", (0, None, None)),
    ],
)
def test_the_next_attempt_is_told_how_the_one_before_it_ended(town, boss, worker, offer, ends, end, detail, progress):
    ends(town, boss, worker, offer)
    other = town.worker("w2")
    town.pass_time(0)
    given = [message for peer in (worker, other) for message in peer.mail() if message.kind == "task.offer"][-1]
    (prior,) = given.dossier.attempts
    assert (prior.agent, prior.fence, prior.end, prior.detail) == ("w1", offer.fence, end, detail)
    assert (prior.progress_no, prior.note, prior.usage) == progress
    assert (given.dossier.evidence, given.dossier.discarded) == ([], [])


def test_an_offer_nobody_answered_is_told(town, boss, worker, offer):
    worker.beat(offer)
    town.pass_time(3_000)
    again = worker.offer()
    town.pass_time(500)
    third = worker.offer()
    assert not again.granted
    assert [(prior.fence, prior.end) for prior in third.dossier.attempts] == [
        (offer.fence, "lapsed"),
        (again.fence, "unanswered"),
    ]


def test_an_attempt_that_came_back_has_not_ended(town, worker, offer):
    worker.beat(offer)
    town.pass_time(3_000)
    worker.beat(offer)
    worker.say(TaskYield(offer.task, offer.fence))
    assert [prior.end for prior in worker.offer().dossier.attempts] == ["yielded"]


def test_a_dossier_has_what_was_not_admitted_and_what_was_streamed_before(town, worker, offer):
    worker.say(TaskArtifact(offer.task, offer.fence, "draft", 0, b"[]"))
    worker.say(TaskYield(offer.task, offer.fence))
    again = worker.offer()
    late = worker.reporting(offer)
    assert worker.say(late).verdict == "stale"
    worker.say(TaskArtifact(again.task, again.fence, "other", 0, b"[]"))
    worker.say(TaskYield(again.task, again.fence))
    third = worker.offer()
    assert third.dossier.evidence == [
        {"fence": offer.fence, "agent": "w1", "verdict": "stale", "resultHash": late.result_hash}
    ]
    assert third.dossier.discarded == ["draft", "other"]
    assert [prior.fence for prior in third.dossier.attempts] == [offer.fence, again.fence]


def test_how_long_an_attempt_ran_counts_from_its_acceptance(town, worker, offer):
    worker.beat(offer)
    town.pass_time(3_000)
    again = worker.offer()
    town.pass_time(200)
    worker.accept(again)
    accepted = town.now
    town.pass_time(300)
    worker.say(TaskYield(again.task, again.fence))
    prior = worker.offer().dossier.attempts[-1]
    assert (prior.at, prior.ran_ms) == (accepted + 300, 300)


def test_an_offer_that_is_sent_again_tells_of_what_came_before_it_only(town, worker, offer):
    worker.beat(offer)
    worker.say(TaskYield(offer.task, offer.fence))
    again = worker.offer()
    worker.say(TaskArtifact(again.task, again.fence, "draft", 0, b"[]"))
    second = town.worker("w2")
    worker.say(Credit(0))
    town.pass_time(3_000)
    third = second.offer()
    second.say(TaskDecline(third.task, third.fence, retry_after_ms=60_000))
    worker.beat(again)
    back = town.worker("w1", tasks=0, held=[HeldStill(again.task, again.fence)])
    sent = next(mail for mail in back.mail() if mail.kind == "task.offer" and mail.fence == again.fence)
    assert [prior.fence for prior in sent.dossier.attempts] == [offer.fence]
    assert sent.dossier.discarded == []


def test_a_yield_says_who_and_why(town, task, worker, offer):
    worker.say(TaskYield(task, offer.fence, "tired"))
    assert town.said(Yielded) == [Yielded(town.now, task, offer.fence, "tired", counted=True)]
