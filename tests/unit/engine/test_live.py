"""What is true only now."""

from types import SimpleNamespace

import pytest

from a2a.engine.live import Line
from a2a.protocol.messages import Credit, HeldStill, TaskYield


def test_an_agent_that_is_away_takes_nothing(town):
    live, ledger = town.coordinator.live, town.ledger
    assert live.free_credit("w1", ledger) == 0
    worker = town.worker("w1", tasks=3)
    assert live.free_credit("w1", ledger) == 3
    worker.drop()
    assert live.free_credit("w1", ledger) == 0


def test_what_an_agent_holds_is_taken_from_its_credit(town):
    live, ledger = town.coordinator.live, town.ledger
    boss, worker = town.join("boss"), town.worker("w1", tasks=2)
    boss.delegate("1")
    assert live.free_credit("w1", ledger) == 1
    boss.delegate("2")
    assert live.free_credit("w1", ledger) == 0
    worker.say(Credit(1))
    assert live.free_credit("w1", ledger) == -1
    worker.report(worker.mail()[0])
    assert live.free_credit("w1", ledger) == 0


def test_a_principal_is_there_while_a_process_of_it_is(town):
    live = town.coordinator.live
    first, second = town.join("p#1"), town.join("p#2")
    again = town.join("p#1")
    assert (first.closed, live.present) == ("taken over", {"p": 2})
    second.drop()
    assert live.present == {"p": 1}
    again.drop()
    assert live.present == {}


def test_a_line_keeps_those_alike_in_order_and_finds_them_as_one():
    tasks = {number: SimpleNamespace(id=f"t-{number}", spec={"skill": "s"}) for number in range(4)}
    repo, all_of_it = {"repo": "x"}, {"repo/**": "s"}
    line = Line()
    for number in (2, 0, 3):
        assert line.join(tasks[number], repo, (0, number))
    assert line.join(tasks[1], all_of_it, (0, 1))
    assert not line.join(tasks[2], repo, (0, 2))
    (first, name), (second, other) = sorted(line.meeting({"repo": "x"}), key=lambda found: found[1])
    assert (first.tasks, name) == ([tasks[0], tasks[2], tasks[3]], "repo")
    assert (second.tasks, other) == ([tasks[1]], "repo/**")
    assert (first.at((0, 2)), first.at((0, 1)), first.at((-1, 0)), first.behind((0, 1))) == (tasks[2], None, None, 1)
    assert (line.standing_of("t-2", first), line.standing_of("t-1", first)) == ((0, 2), None)
    assert (line.leave(tasks[2]), line.leave(tasks[2])) == (repo, None)
    assert first.tasks == [tasks[0], tasks[3]]
    for number in (0, 1, 3):
        line.leave(tasks[number])
    assert line == Line()


def test_nothing_of_it_is_stored(town):
    boss, worker = town.join("boss"), town.worker("w1")
    boss.delegate()
    offer = worker.offer()
    count = len(town.records)
    worker.beat(offer, progress_no=1, note="half")
    worker.say(Credit(9, 9))
    worker.say(Credit(1))
    assert len(town.records) == count
    assert town.restart().coordinator.live.progress == {}


# Slots that are free while their attempts wait for sub-tasks ----------------------------------------------------------


@pytest.fixture
def waiting(town):
    """An agent with credit for one, whose only attempt waits for its sub-tasks."""
    boss, worker = town.join("boss"), town.worker("w1")
    boss.delegate("1")
    offer = worker.offer()
    worker.beat(offer, slot="released")
    return boss, worker, offer


def free(town, agent="w1"):
    return town.coordinator.live.free_credit(agent, town.ledger)


def test_a_released_slot_is_free_for_another_task_while_the_lease_goes_on(town, waiting):
    boss, worker, offer = waiting
    assert free(town) == 1
    other = boss.delegate("2")
    assert (town.task(other).holder, town.task(offer.task).holder) == ("w1", "w1")
    assert free(town) == 0
    boss.delegate("3")
    assert free(town) == 0, "one slot was free, not two"


def test_what_waits_is_offered_as_soon_as_a_slot_is_released(town):
    boss, worker = town.join("boss"), town.worker("w1")
    boss.delegate("1")
    offer = worker.offer()
    second = boss.delegate("2")
    worker.beat(offer)
    assert town.task(second).state == "queued"
    worker.beat(offer, slot="released")
    assert town.task(second).holder == "w1"


def test_a_released_slot_is_taken_back_beyond_the_credit(town, waiting):
    boss, worker, offer = waiting
    boss.delegate("2")
    worker.beat(offer, slot="held")
    assert free(town) == -1
    third = boss.delegate("3")
    assert town.task(third).state == "queued"
    worker.report(worker.offer())
    assert free(town) == 0
    worker.report(offer)
    assert town.task(third).holder == "w1"


def test_every_heartbeat_says_it_anew(town, waiting):
    boss, worker, offer = waiting
    worker.beat(offer, slot="released")
    worker.beat(offer, slot="released")
    assert free(town) == 1
    worker.beat(offer)
    assert free(town) == 0


@pytest.mark.parametrize("how", ["report", "yield", "lapse"])
def test_a_slot_is_not_free_twice_when_its_attempt_has_ended(town, waiting, how):
    boss, worker, offer = waiting
    if how == "report":
        worker.report(offer)
    elif how == "yield":
        worker.say(TaskYield(offer.task, offer.fence))
        worker.report(worker.offer())
    else:
        town.pass_time(3_000)
        worker.report(offer)
    assert free(town) == 1
    assert town.coordinator.live.released == {}


def test_a_lease_that_comes_back_has_its_slot_until_it_says_otherwise(town, waiting):
    boss, worker, offer = waiting
    worker.say(Credit(2))
    town.pass_time(3_000)
    worker.beat(offer)
    assert free(town) == 1
    worker.beat(offer, slot="released")
    assert free(town) == 2


def test_a_next_attempt_at_the_same_task_has_a_slot_of_its_own(town, waiting):
    boss, worker, offer = waiting
    worker.say(TaskYield(offer.task, offer.fence))
    assert worker.offer().fence != offer.fence
    assert free(town) == 0


def test_a_later_connection_says_it_anew(town, waiting):
    boss, worker, offer = waiting
    worker.drop()
    again = town.worker("w1", held=[HeldStill(offer.task, offer.fence)])
    assert free(town) == 0
    again.beat(offer, slot="released")
    assert free(town) == 1


def test_who_does_not_hold_it_releases_nothing(town, waiting):
    boss, worker, offer = waiting
    other = town.worker("w2")
    other.beat(offer, slot="released")
    assert free(town, "w2") == 1


def test_what_an_agent_does_not_hold_frees_no_slot(town, waiting):
    town.coordinator.live.released["w1"]["another"] = 1
    assert free(town) == 1
