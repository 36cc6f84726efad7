"""Rules between a task and those above and below it."""

import pytest

from a2a.engine.policy import Admission, digest
from a2a.engine.records import CancelRequested, Settled
from a2a.engine.tree import cancel, cancel_children, deadline_below
from a2a.errors import ErrorCode
from a2a.protocol.messages import (
    ContextOp,
    ContextWrite,
    Held,
    HeldStill,
    Ok,
    Seen,
    TaskConfirm,
    TaskDelegate,
    TaskLimits,
    TaskRevoke,
    TaskSteer,
    TaskYield,
)

SPEC = {"skill": "s", "acceptance": {"evaluator": "delegator"}}


class Family:
    """A chain of tasks, each the parent of the next, all leased by agents of their own."""

    def __init__(self, town, levels, **fields):
        self.town = town
        self.boss = town.join("boss")
        self.workers, self.tasks, self.offers = [], [], []
        owner, parent = self.boss, None
        for level in range(levels):
            worker = town.worker(f"w{level}", f"s{level}")
            self.tasks.append(owner.delegate("k", f"s{level}", parent=parent, **(fields if parent else {})))
            offer = worker.offer()
            worker.beat(offer)
            self.workers.append(worker)
            self.offers.append(offer)
            owner, parent = worker, Held(offer.task, offer.fence)

    def states(self):
        return [str(self.town.task(task).state) for task in self.tasks]


@pytest.fixture
def family(town):
    def make(levels=3, of=town, **fields):
        return Family(of, levels, **fields)

    return make


# Places ---------------------------------------------------------------------------------------------------------------


def test_a_tree_has_a_bounded_depth(make_town, family):
    town = make_town(depth_max=2)
    kin = family(2, of=town)
    deepest = Held(kin.tasks[1], kin.offers[1].fence)
    assert kin.workers[1].refused(TaskDelegate("x", SPEC, parent=deepest)) == ErrorCode.DEPTH
    assert town.task(kin.tasks[1]).depth == 2


def test_a_task_has_a_bounded_number_of_children(make_town, family):
    town = make_town(children_max=1)
    kin = family(2, of=town)
    parent = Held(kin.tasks[0], kin.offers[0].fence)
    assert kin.workers[0].refused(TaskDelegate("x", SPEC, parent=parent)) == ErrorCode.QUOTA
    same = kin.workers[0].say(TaskDelegate("k", town.task(kin.tasks[1]).spec, parent=parent))
    assert (same.task, same.created) == (kin.tasks[1], False), "the same child is no further one"


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_same_work_does_not_repeat_on_a_path(family, level):
    kin = family()
    again = kin.town.task(kin.tasks[level])
    message = TaskDelegate("again", again.spec, parent=Held(kin.tasks[2], kin.offers[2].fence))
    assert kin.workers[2].refused(message) == ErrorCode.CYCLE


def test_the_same_skill_on_other_input_and_the_same_input_for_another_skill_are_no_cycle(family):
    kin = family(2)
    spec = kin.town.task(kin.tasks[0]).spec
    parent = Held(kin.tasks[1], kin.offers[1].fence)
    assert kin.workers[1].say(TaskDelegate("a", spec, b"[1]", parent=parent)).created
    assert kin.workers[1].say(TaskDelegate("b", spec | {"skill": "new"}, parent=parent)).created


def test_the_same_work_beside_the_path_is_no_cycle(family):
    kin = family(2)
    sibling = kin.town.task(kin.tasks[1]).spec
    assert kin.workers[0].say(TaskDelegate("twin", sibling, parent=Held(kin.tasks[0], kin.offers[0].fence))).created


@pytest.mark.parametrize(
    "own, above, expected", [(None, None, None), (5, None, 5), (None, 7, 7), (5, 7, 5), (9, 7, 7), (7, 7, 7)]
)
def test_the_earlier_deadline_holds(town, own, above, expected):
    boss = town.join("boss")
    parent = town.task(boss.delegate(limits=TaskLimits(deadline_ms=above)))
    start = town.now
    relative = deadline_below(None if own is None else start + own, parent)
    assert (relative and relative - start) == expected
    assert deadline_below(own, None) == own


# Canceling ------------------------------------------------------------------------------------------------------------


def test_canceling_reaches_all_that_is_below(family):
    kin = family()
    assert kin.boss.cancel(kin.tasks[0], "kill", reason="enough", grace_ms=500) == Ok("canceling", "pending")
    assert kin.states() == ["canceling"] * 3
    now = kin.town.now
    assert kin.town.said(CancelRequested) == [
        CancelRequested(now, kin.tasks[0], "kill", "enough", "boss", now + 500),
        CancelRequested(
            now, kin.tasks[1], "kill", f"parent task {kin.tasks[0]} is being canceled", "boss", now + 2_000
        ),
        CancelRequested(
            now, kin.tasks[2], "kill", f"parent task {kin.tasks[1]} is being canceled", "boss", now + 2_000
        ),
    ]
    assert kin.workers[2].mail() == [TaskRevoke(kin.tasks[2], kin.offers[2].fence, "cancel", "kill", 2_000)]


def test_a_kill_after_a_cancel_reaches_all_that_is_below(family):
    kin = family()
    kin.boss.cancel(kin.tasks[0], "coop")
    kin.boss.cancel(kin.tasks[0], "kill")
    assert [kin.town.task(task).cancel.mode for task in kin.tasks] == ["kill"] * 3
    assert len(kin.town.said(CancelRequested)) == 6


def test_what_nobody_works_on_below_ends_at_once(family):
    kin = family(1)
    child = kin.workers[0].delegate("part", "nobody", parent=Held(kin.tasks[0], kin.offers[0].fence))
    assert kin.boss.cancel(kin.tasks[0]) == Ok("canceling", "pending")
    assert kin.town.task(child).state == "canceled"
    assert kin.town.task(kin.tasks[0]).state == "canceling"


@pytest.mark.parametrize("how", ["report", "skip", "confirm"])
def test_when_a_task_ends_what_is_below_is_asked_to_end(family, how):
    kin = family()
    if how == "report":
        kin.workers[0].report(kin.offers[0], "failed")
    elif how == "skip":
        kin.boss.cancel(kin.tasks[0], "skip")
    else:
        kin.workers[0].report(kin.offers[0])
        assert kin.states() == ["reported", "leased", "leased"], "not before the word of the delegator"
        kin.boss.confirm(kin.boss.mail()[-1])
    assert kin.states()[1:] == ["canceling", "canceling"]
    asked = kin.town.said(CancelRequested)
    assert [(record.mode, record.by) for record in asked] == [("coop", "coordinator")] * 2
    kin.town.pass_time(2_000)
    assert kin.states()[1:] == ["canceled", "canceled"]


def test_what_may_outlive_its_parent_is_left_alone(family):
    kin = family(2, on_parent_end="abandon")
    kin.boss.cancel(kin.tasks[0])
    assert kin.states() == ["canceling", "leased"]
    kin.boss.cancel(kin.tasks[0], "skip")
    assert kin.states() == ["canceled", "leased"]
    assert kin.workers[1].report(kin.offers[1]) == "admitted"


def test_what_has_ended_below_stays_as_it_ended(family):
    kin = family(2)
    kin.workers[1].report(kin.offers[1])
    kin.workers[0].confirm(kin.workers[0].mail()[-1])
    kin.boss.cancel(kin.tasks[0], "skip")
    assert kin.states() == ["canceled", "completed"]


def test_whoever_holds_the_parent_cancels_its_children(family):
    kin = family(3)
    assert kin.workers[0].cancel(kin.tasks[1], "skip") == Ok("canceled", "canceled")
    assert kin.workers[0].say(TaskDelegate("x", SPEC)).created
    assert kin.states() == ["leased", "canceled", "canceling"]


def test_a_task_that_has_ended_is_not_ended_again(family):
    kin = family(1)
    kin.boss.cancel(kin.tasks[0], "skip")
    task, ledger = kin.town.task(kin.tasks[0]), kin.town.ledger
    assert cancel(ledger, task, "skip", "", "boss", kin.town.now) == []
    assert cancel_children(ledger, task, "coop", "", "boss", kin.town.now) == []
    assert len(kin.town.said(Settled)) == 1


# Notices --------------------------------------------------------------------------------------------------------------


def test_the_notices_of_a_sub_task_go_to_whoever_holds_its_parent(town, family):
    kin = family(2)
    child, worker = kin.tasks[1], kin.workers[1]
    heir = town.worker("heir", "s0")
    town.pass_time(2_000)
    worker.beat(kin.offers[1])
    town.pass_time(1_000)
    offer = heir.offer()
    heir.accept(offer)
    kin.workers[0].mail()
    worker.report(kin.offers[1])
    (review,) = heir.mail()
    assert (review.kind, review.task) == ("task.review", child)
    assert heir.confirm(review) == Ok(state="completed")
    assert [notice.kind for notice in heir.mail()] == ["task.settled"]
    assert [notice.kind for notice in kin.workers[0].mail()] == []


def test_the_notices_of_a_sub_task_go_to_its_delegator_while_nobody_holds_the_parent(town, family):
    kin = family(2)
    first = kin.workers[0]
    first.say(TaskYield(kin.tasks[0], kin.offers[0].fence))
    first.mail()
    kin.workers[1].report(kin.offers[1])
    assert "task.review" in [notice.kind for notice in first.mail()]


# What outlives its parent ---------------------------------------------------------------------------------------------


def end_parent(family):
    """The middle of three tasks completes; what is below it goes on if it may."""
    family.workers[1].report(family.offers[1])
    family.workers[0].confirm(family.workers[0].mail()[-1])
    assert family.states()[1] == "completed"


@pytest.mark.parametrize("on_end", ["detach", "abandon"])
def test_what_may_outlive_its_parent_goes_on_when_it_ends_or_is_cancelled(town, family, on_end):
    chain = family(on_parent_end=on_end)
    chain.workers[0].cancel(chain.tasks[1])
    assert chain.states() == ["leased", "canceling", "leased"]
    chain.workers[1].say(TaskYield(chain.tasks[1], chain.offers[1].fence))
    assert chain.states() == ["leased", "canceled", "leased"]
    assert town.said(CancelRequested)[-1].task == chain.tasks[1]


def test_the_result_of_a_detached_task_waits_for_its_delegator(family):
    chain = family(on_parent_end="detach")
    end_parent(chain)
    chain.workers[2].report(chain.offers[2])
    assert chain.states()[2] == "reported"
    review = chain.workers[1].mail()[-1]
    assert review.task == chain.tasks[2]
    assert chain.workers[1].confirm(review) == Ok(state="completed")


def test_a_detached_task_ends_by_its_principal_from_another_process(town, family):
    chain = family(on_parent_end="detach")
    end_parent(chain)
    chain.workers[2].report(chain.offers[2])
    other = town.join("w1#other")
    review = chain.workers[1].mail()[-1]
    assert town.worker("stranger", "x").refused(confirming(review)) == ErrorCode.FORBIDDEN
    assert other.confirm(review) == Ok(state="completed")


def confirming(review):
    return TaskConfirm(review.task, review.rev, review.result_hash)


@pytest.mark.parametrize("first", ["parent", "report"])
def test_the_result_of_an_abandoned_task_is_taken_as_reported_when_its_parent_has_ended(town, family, first):
    chain = family(on_parent_end="abandon")
    if first == "parent":
        end_parent(chain)
        chain.workers[2].report(chain.offers[2])
    else:
        chain.workers[2].report(chain.offers[2])
        assert chain.states()[2] == "reported", "its parent is there to say a word"
        end_parent(chain)
    assert chain.states()[2] == "completed"
    assert town.task(chain.tasks[2]).settled.by == "auto"


def test_an_abandoned_result_is_taken_also_after_a_restart(family):
    chain = family(on_parent_end="abandon")
    chain.workers[2].report(chain.offers[2])
    chain.workers[1].report(chain.offers[1])
    review = chain.workers[0].mail()[-1]
    again = chain.town.restart()
    again.worker("w0", "s0", held=[HeldStill(chain.tasks[0], chain.offers[0].fence)]).confirm(review)
    assert again.task(chain.tasks[2]).state == "completed"


@pytest.mark.parametrize("first", ["parent", "report"])
def test_a_result_that_a_human_evaluates_waits_though_it_is_abandoned(make_town, family, first):
    town = make_town(admission=Admission(operator_token=digest("op")))
    chain = family(of=town, on_parent_end="abandon", acceptance="human")
    if first == "report":
        chain.workers[2].report(chain.offers[2])
    chain.workers[1].report(chain.offers[1])
    operator = chain.town.join("chief", operator_token="op")
    review = [mail for mail in chain.workers[0].mail() if mail.kind == "task.review"][-1]
    operator.confirm(review)
    assert chain.states()[1] == "completed"
    if first == "parent":
        chain.workers[2].report(chain.offers[2])
    assert chain.states()[2] == "reported"


@pytest.mark.parametrize("evaluator", ["delegator", "auto"])
@pytest.mark.parametrize("first", ["parent", "report"])
def test_an_abandoned_result_that_did_not_see_the_newest_word_waits_for_one(family, evaluator, first):
    chain = family(on_parent_end="abandon", acceptance=evaluator)
    chain.workers[1].say(TaskSteer(chain.tasks[2], "k", b"[]"))
    if first == "report":
        chain.workers[2].report(chain.offers[2])
    chain.workers[1].report(chain.offers[1])
    if evaluator != "auto":
        chain.workers[0].confirm(chain.workers[0].mail()[-1])
    assert chain.states()[1] == "completed"
    if first == "parent":
        chain.workers[2].report(chain.offers[2])
    assert chain.states()[2] == "reported"
    (review,) = [mail for mail in chain.workers[1].mail() if mail.kind == "task.review"]
    assert chain.workers[1].confirm(review) == Ok(state="completed")


@pytest.mark.parametrize("evaluator", ["delegator", "auto"])
@pytest.mark.parametrize("first", ["parent", "report"])
def test_an_abandoned_result_on_a_decision_that_moved_waits_for_a_word(family, evaluator, first):
    chain = family(on_parent_end="abandon", acceptance=evaluator)
    context = chain.town.task(chain.tasks[2]).context_id
    chain.boss.say(ContextWrite(context, "k", [ContextOp("decisions/x", 0, b"1")]))
    stale = chain.workers[2].reporting(chain.offers[2], basis=[Seen("decisions/x", 0)])
    if first == "report":
        chain.workers[2].say(stale)
    chain.workers[1].report(chain.offers[1])
    if evaluator != "auto":
        chain.workers[0].confirm(chain.workers[0].mail()[-1])
    assert chain.states()[1] == "completed"
    if first == "parent":
        chain.workers[2].say(stale)
    assert chain.states()[2] == "reported"


def test_a_result_that_comes_while_it_is_cancelled_with_its_parent_is_taken_as_reported(make_town, family):
    town = make_town(on_confirm_timeout="hold")  # else silence would decide, a while later
    chain = family(of=town)
    end_parent(chain)
    assert chain.states()[2] == "canceling"
    chain.workers[2].report(chain.offers[2])
    assert chain.states()[2] == "completed"
    assert town.task(chain.tasks[2]).settled.by == "auto"


def test_a_root_has_no_parent_to_be_abandoned_by(town):
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate(on_parent_end="abandon")
    worker.report(worker.offer())
    assert town.task(task).state == "reported"


def test_a_rejected_abandoned_result_is_worked_on_again(family):
    chain = family(on_parent_end="abandon")
    chain.workers[2].report(chain.offers[2])
    chain.workers[1].confirm(chain.workers[1].mail()[-1], verdict="reject", rework=True)
    end_parent(chain)
    assert chain.states()[2] == "leased"
    chain.workers[2].report(chain.workers[2].offer())
    assert chain.states()[2] == "completed"
