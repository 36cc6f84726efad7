"""How full a coordinator is."""

from a2a.engine.policy import LADDERS
from a2a.protocol.messages import ClaimAcquire, ContextOp, ContextWrite, CoordinatorGet

CLAIMS = [{"name": "repo/x", "mode": "x"}]


def amounts(peer):
    return {amount.what: (amount.count, amount.most) for amount in peer.say(CoordinatorGet()).amounts}


def test_it_tells_where_it_stands_and_what_is_open(town, boss):
    worker = town.worker("w1", tasks=2)
    boss.delegate("a", payload=b"[1]")
    worker.beat(worker.offer())
    boss.delegate("b")
    boss.delegate("c", "nobody has it")
    boss.cancel(boss.delegate("d", "nobody has it"), "kill")
    town.pass_time(500)
    found = boss.say(CoordinatorGet())
    assert (found.namespace, found.epoch, found.lsn, found.up_ms) == ("main", 1, town.ledger.lsn, 500)
    assert found.tasks == {"leased": 1, "offered": 1, "queued": 1}
    assert sum(found.tasks.values()) == len(town.ledger.open_tasks) == 3
    again = town.restart(after=1_000).join("boss").say(CoordinatorGet())
    assert (again.epoch, again.up_ms) == (2, 0)


def test_it_tells_how_much_there_is_of_what_is_bounded(make_town):
    town = make_town(tasks_max=10, tasks_max_bytes=5_000, contexts_max=20, contexts_max_bytes=6_000, ladders=LADDERS)
    boss, worker = town.join("boss"), town.worker("w1", tasks=0)
    town.worker("w2").drop()
    boss.delegate("a", payload=b"[1]")
    boss.say(ClaimAcquire(1, CLAIMS, ttl_ms=60_000))
    worker.say(ClaimAcquire(1, CLAIMS, ttl_ms=60_000, wait_ms=60_000))
    for peer, value in ((boss, b"1"), (worker, b"2")):
        peer.say(ContextWrite("plans", "w", [ContextOp("decisions/db", 0, value)]))
    found = amounts(boss)
    assert found["agents"] == (2, None)
    assert found["peers"] == (2, None)
    assert found["tasks"] == (len(town.ledger.tasks), 10)
    assert found["taskBytes"] == (town.ledger.wanted_bytes, 5_000)
    assert found["contexts"] == (1, 20)
    assert found["contextBytes"] == (town.ledger.context_bytes, 6_000)
    assert found["conflicts"] == (len(town.ledger.open_conflicts), 1_000)
    assert (found["claims"], found["claimsWaiting"]) == ((2, None), (1, None))
    waits = sum(len(mailbox.entries) for mailbox in town.ledger.mailboxes.values())
    assert found["mail"] == (waits, None)
    assert town.ledger.open_conflicts and waits


def test_what_is_counted_one_by_one_is_counted_once_a_second(town, boss):
    boss.delegate("a", "nobody has it")
    assert boss.say(CoordinatorGet()).tasks == {"queued": 1}
    boss.delegate("b", "nobody has it")
    town.pass_time(999)
    assert boss.say(CoordinatorGet()).tasks == {"queued": 1}
    assert amounts(boss)["tasks"][0] == 2
    town.pass_time(1)
    assert boss.say(CoordinatorGet()).tasks == {"queued": 2}
