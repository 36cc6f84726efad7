"""Who has a say about a task."""

from a2a.errors import ErrorCode
from a2a.protocol.messages import Held, Ok, TaskAnswer, TaskCancel, TaskConfirm
from tests.unit.engine.stages import ask, bring


def test_only_those_entitled_confirm(guarded):
    town = guarded()
    boss, worker = town.join("boss"), town.worker("w1")
    boss.delegate()
    worker.report(worker.offer())
    (review,) = boss.mail()
    message = TaskConfirm(review.task, 0, review.result_hash)
    assert worker.refused(message) == ErrorCode.FORBIDDEN
    assert town.join("bos").refused(message) == ErrorCode.FORBIDDEN
    assert town.join("operator", operator_token="op").say(message) == Ok(state="completed")


def test_another_process_of_the_principal_confirms(town, boss, review):
    assert town.join("boss#2").confirm(review) == Ok(state="completed")


def test_whoever_holds_the_parent_confirms_its_children(town, boss, task, worker, offer):
    helper = town.worker("helper", "help")
    child = worker.delegate("part", "help", parent=Held(task, offer.fence))
    helper.report(helper.offer())
    (review,) = worker.mail()
    other = town.worker("w2")
    assert other.refused(TaskConfirm(child, 0, review.result_hash)) == ErrorCode.FORBIDDEN
    town.pass_time(500)
    other.accept(other.offer())
    assert other.confirm(review) == Ok(state="completed")


def test_only_those_entitled_answer(town, task, worker, offer):
    worker.say(ask(offer))
    assert town.join("stranger").refused(TaskAnswer(task, 1, b"[]")) == ErrorCode.FORBIDDEN
    assert worker.refused(TaskAnswer(task, 1, b"[]")) == ErrorCode.FORBIDDEN
    assert town.join("boss#2").say(TaskAnswer(task, 1, b"[]")) == Ok()


def test_only_those_entitled_cancel(guarded):
    town = guarded()
    task, boss, worker, _ = bring(town, "leased")
    assert worker.refused(TaskCancel(task)) == ErrorCode.FORBIDDEN
    assert town.join("stranger").refused(TaskCancel(task)) == ErrorCode.FORBIDDEN
    assert boss.refused(TaskCancel("main-99")) == ErrorCode.NOT_FOUND
    assert isinstance(town.join("op", operator_token="op").cancel(task), Ok)


def test_whose_word_it_is_not_is_told_whose_it_is(town, boss, task, worker, offer):
    refusal = worker.say(TaskCancel(task))
    assert refusal.code == ErrorCode.FORBIDDEN
    assert refusal.detail == f"only boss, the holder of its parent or an operator may cancel task {task}, not w1"


def test_whoever_held_the_parent_has_a_say_as_long_as_it_does(town, boss, task, worker, offer):
    child = worker.delegate("part", "help", parent=Held(task, offer.fence))
    other = town.worker("w2")
    town.pass_time(500)
    other.accept(other.offer())
    boss.cancel(task, "skip")
    assert other.refused(TaskCancel(child)) == ErrorCode.FORBIDDEN
