"""What is true only now."""

from a2a.protocol.messages import Credit


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
