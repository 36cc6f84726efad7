"""Agents that do not come back, and secrets that are lost."""

import pytest

from a2a.engine import snapshot
from a2a.engine.ledger import AtWork
from a2a.engine.records import AgentForgotten, PrincipalUnbound
from a2a.errors import ErrorCode
from a2a.protocol.messages import (
    AgentFilter,
    AgentFind,
    AgentForget,
    AgentUpdate,
    ClaimAcquire,
    ContextOp,
    ContextWrite,
    Error,
    Resume,
    TaskDecline,
    TaskSettled,
)
from a2a.protocol.messages import AgentForgotten as Forgotten
from tests.unit.engine.growth import work

DAY = 24 * 3600 * 1000


@pytest.fixture
def town(guarded):
    return guarded()


@pytest.fixture
def chief(town):
    return town.join("chief", operator_token="op")


def turned_down(peer, message):
    """Send what must be denied without a trace, and return why."""
    before = len(peer.town.records)
    answer = peer.say(message)
    assert isinstance(answer, Error)
    assert answer.code == ErrorCode.DENIED
    assert peer.town.records[before:] == []
    return answer.detail


# What an operator says ------------------------------------------------------------------------------------------------


def test_a_forgotten_agent_leaves_nothing_behind_and_its_name_is_free(town, chief):
    worker = town.worker("w1", labels={"zone": "eu"})
    chief.delegate(acceptance="auto")
    worker.report(worker.offer())
    worker.say(AgentUpdate(status="draining"))
    worker.drop()
    assert chief.say(AgentForget("w1")) == Forgotten(known=True, bound=True)
    assert town.said(AgentForgotten) == [AgentForgotten(town.now, "w1", "chief")]
    assert town.said(PrincipalUnbound) == [PrincipalUnbound(town.now, "w1", "chief")]
    ledger = town.ledger
    held = (ledger.agents, ledger.by_skill, ledger.mailboxes, ledger.holding, ledger.principals, ledger.claims.numbers)
    assert not any("w1" in each for each in held)
    assert ledger.records_of == {}
    assert chief.say(AgentFind(AgentFilter(skill="echo"))).agents == []
    anybody = town.worker("w1", secret=None, instance_id="another", incarnation=0)
    assert ledger.agents["w1"].status == "ready"
    chief.delegate("next")
    assert anybody.mailbox[0][0] == 1


def test_a_repeat_finds_nothing_to_forget(town, chief):
    town.worker("w1").drop()
    chief.say(AgentForget("w1"))
    count = len(town.records)
    assert chief.say(AgentForget("w1")) == Forgotten()
    assert chief.say(AgentForget("w1", secret_only=True)) == Forgotten()
    assert len(town.records) == count


def test_only_an_operator_has_somebody_forgotten(town):
    town.worker("w1").drop()
    member = town.join("w1#2")
    member.drop()
    for name in ("boss", "w1#2"):
        for secret_only in (False, True):
            peer = town.join(name)
            assert peer.refused(AgentForget("w1", secret_only)) == ErrorCode.FORBIDDEN
            peer.drop()


def test_who_is_here_is_not_forgotten(town, chief):
    worker = town.worker("w1")
    assert turned_down(chief, AgentForget("w1")) == "w1 is here: stop it first"
    worker.drop()
    assert chief.say(AgentForget("w1")).known


def test_who_holds_or_was_offered_something_is_not_forgotten(town, chief):
    worker = town.worker("w1")
    task = chief.delegate()
    worker.drop()
    open_still = f"w1 works on task {task}, or did, or was offered it, and it is open"
    kept = f"{open_still}: it can be forgotten when that is over"
    assert turned_down(chief, AgentForget("w1")) == kept


def test_who_has_worked_on_an_open_task_is_not_forgotten(town, chief):
    worker = town.worker("w1")
    task = chief.delegate()
    worker.beat(worker.offer())
    worker.drop()
    town.pass_time(60_000)
    assert not town.ledger.holding.get("w1")
    assert turned_down(chief, AgentForget("w1")).startswith(f"w1 works on task {task}, or did")
    chief.cancel(task, "kill")
    assert chief.say(AgentForget("w1")).known


def test_who_has_delegated_an_open_task_is_not_forgotten(town, chief):
    boss = town.join("boss")
    task = boss.delegate()
    boss.drop()
    assert turned_down(chief, AgentForget("boss")).startswith(f"boss has delegated task {task}, which is open")
    chief.cancel(task, "kill")
    assert chief.say(AgentForget("boss")) == Forgotten(known=True, bound=True)
    assert "boss" not in town.ledger.mailboxes


def test_who_has_a_claim_is_not_forgotten(town, chief):
    boss = town.join("boss")
    boss.say(ClaimAcquire(1, [{"name": "repo/x", "mode": "x"}], ttl_ms=5_000))
    boss.drop()
    (claim,) = town.ledger.claims.claims
    assert turned_down(chief, AgentForget("boss")).startswith(f"boss has claim {claim}, or waits for it")
    town.pass_time(5_000)
    assert chief.say(AgentForget("boss")) == Forgotten(bound=True)


def test_a_name_is_bound_while_something_else_of_its_principal_is_known(town, chief):
    town.worker("w1#a").drop()
    town.worker("w1#b").drop()
    client = town.join("w1#c")
    assert chief.say(AgentForget("w1#a")) == Forgotten(known=True)
    assert chief.say(AgentForget("w1#b")) == Forgotten(known=True), "one of its processes is here"
    client.drop()
    assert chief.say(AgentForget("w1#b")) == Forgotten(bound=True)


def test_a_name_is_bound_while_one_of_its_processes_has_a_claim(town, chief):
    """Whoever took the name would have the claim, and could give back what another process is at work on."""
    process = town.join("w1#b")
    process.say(ClaimAcquire(1, [{"name": "repo/x"}], ttl_ms=5_000))
    process.drop()
    town.worker("w1#a").drop()
    assert chief.say(AgentForget("w1#a")) == Forgotten(known=True)
    town.pass_time(5_000)
    assert chief.say(AgentForget("w1#a")) == Forgotten(bound=True)


def test_a_lost_secret_is_forgotten_and_nothing_else(town, chief):
    worker, boss = town.worker("w1", tasks=2), town.join("boss")
    held, waits = boss.delegate("a"), boss.delegate("b")
    worker.beat(worker.offer())
    worker.drop()
    turned = town.dial()
    assert turned.say(town.hello("w1", secret="new")).code == ErrorCode.AUTH
    assert chief.say(AgentForget("w1", secret_only=True)) == Forgotten(bound=True)
    assert town.ledger.impostures == {}
    again = town.worker("w1", tasks=2, secret="new")
    assert list(town.ledger.holding["w1"]) == [held, waits]
    assert [message.task for message in again.mail()] == [held, waits]
    again.drop()
    assert town.dial().say(town.hello("w1")).code == ErrorCode.AUTH, "the old one opens nothing any more"


def test_a_secret_that_somebody_here_has_is_not_forgotten(town, chief):
    town.worker("w1").drop()
    process = town.join("w1#2")
    kept = turned_down(chief, AgentForget("w1", secret_only=True))
    assert kept == "w1#2 is here, and has the secret of w1: stop it first"
    process.drop()
    assert chief.say(AgentForget("w1", secret_only=True)).bound


@pytest.mark.parametrize("is_restarted", [False, True])
def test_what_an_agent_knows_of_a_forgotten_mailbox_passes_over_nothing(town, chief, is_restarted):
    author, other = town.join("ann"), town.join("other")
    chief.say(ClaimAcquire(1, [{"name": "deploy"}]))
    author.say(ContextWrite("c", "k", [ContextOp("decisions/db", 0, b'"a"')]))
    author.say(ClaimAcquire(1, [{"name": "deploy"}], wait_ms=1_000))
    town.pass_time(1_000)
    author.acknowledge()
    author.drop()
    assert chief.say(AgentForget("ann")).known
    other.say(ContextWrite("c", "k", [ContextOp("decisions/db", 0, b'"b"')]))
    assert [entry.mseq for entry in town.ledger.mailboxes["ann"].entries] == [1]
    again = (town.restart() if is_restarted else town).join("ann", resume=Resume(1))
    assert (again.welcome.resumed, again.welcome.next_mseq) == (False, 1)
    assert [mseq for mseq, _ in again.mailbox] == [1]


def test_an_agent_that_is_forgotten_again_and_again_is_remembered_once(town, chief):
    for number in range(3):
        worker = town.worker("w1", secret=None, instance_id=str(number))
        chief.delegate(str(number), acceptance="auto")
        worker.report(worker.offer())
        worker.drop()
        assert chief.say(AgentForget("w1")) == Forgotten(known=True, bound=True)
    assert town.ledger.forgotten.count == 1


def test_nobody_is_offered_what_waits_when_one_of_a_kind_is_forgotten(town, chief):
    town.worker("w1", tasks=9).drop()
    other = town.worker("w2", tasks=1)
    chief.delegate("a")
    chief.say(AgentForget("w1"))
    waits = chief.delegate("b")
    other.report(other.offer(), "rejected")
    assert other.offer().task == waits
    again = town.worker("w1", "else", tasks=9, secret="new")
    chief.delegate("c")
    assert again.mail() == []


@pytest.mark.parametrize("also", [(), ("chief",)])
def test_what_was_refused_before_a_secret_was_forgotten_is_not_told_of_it_afterwards(guarded, also):
    town = guarded(refusals_per_minute=2)
    chief = town.join("chief", operator_token="op")
    town.worker("w1").drop()
    for name in (*["w1"] * 5, *also):
        town.dial().say(town.hello(name, secret="new"))
    assert chief.say(AgentForget("w1", secret_only=True)).bound
    town.worker("w1", secret="new")
    town.pass_time(60_000)
    assert town.ledger.impostures.keys() == set(also)


def test_a_process_of_a_forgotten_agents_name_is_waited_for_as_long_as_any(town, chief):
    """Not until the agent would have been given up that it is no more."""
    town.worker("ann#1").drop()
    chief.say(AgentForget("ann#1"))
    process, other = town.join("ann#1", secret=None, instance_id="another"), town.join("other")
    process.say(ContextWrite("c", "k", [ContextOp("decisions/db", 0, b'"a"')]))
    process.drop()
    other.say(ContextWrite("c", "k", [ContextOp("decisions/db", 0, b'"b"')]))
    town.pass_time(60_000)
    assert town.ledger.mailboxes["ann#1"].entries
    town.pass_time(town.policy.passing_ms)
    assert "ann#1" not in town.ledger.mailboxes


# As time passes -------------------------------------------------------------------------------------------------------


def test_an_agent_that_is_away_for_a_month_is_forgotten_and_its_name_stays_its_own(town, boss):
    worker = town.worker("w1")
    boss.delegate(acceptance="auto")
    worker.report(worker.offer())
    worker.drop()
    town.pass_time(30 * DAY - 1)
    assert "w1" in town.ledger.agents
    town.pass_time(1)
    assert town.said(AgentForgotten) == [AgentForgotten(town.now, "w1")]
    assert (town.ledger.agents, "w1" in town.ledger.mailboxes) == ({}, False)
    assert town.dial().say(town.hello("w1", secret="another")).code == ErrorCode.AUTH
    again = town.worker("w1", resume=Resume(7))
    boss.delegate("next")
    assert [mseq for mseq, _ in again.mailbox] == [1]


def test_it_counts_anew_from_a_start_and_from_a_return(town):
    town.worker("w1").drop()
    town.pass_time(20 * DAY)
    again = town.restart()
    again.pass_time(20 * DAY)
    worker = again.worker("w1")
    again.pass_time(20 * DAY)
    worker.drop()
    again.pass_time(30 * DAY - 1)
    assert again.said(AgentForgotten) == []
    again.pass_time(1)
    assert again.said(AgentForgotten) == [AgentForgotten(again.now, "w1")]


def test_who_is_waited_for_is_looked_at_again_later(town, boss):
    worker = town.worker("w1")
    task = boss.delegate()
    worker.beat(worker.offer())
    worker.drop()
    town.pass_time(31 * DAY)
    assert town.said(AgentForgotten) == [], "a task that it has worked on is open"
    boss.cancel(task, "kill")
    town.pass_time(30 * DAY)
    assert [record.agent for record in town.said(AgentForgotten)] == ["w1"]
    assert isinstance(boss.mail()[-1], TaskSettled)


def test_where_nothing_is_set_nobody_is_forgotten(make_town):
    town = make_town(keep_agents_ms=None)
    town.worker("w1").drop()
    town.pass_time(400 * DAY)
    assert "w1" in town.ledger.agents


def test_who_is_given_up_is_found_without_a_look_at_the_tasks_that_are_open(make_town):
    costs = []
    for count in (4, 60):
        town = make_town(keep_agents_ms=400)
        boss = town.join("boss")
        town.worker("big", tasks=count)
        for number in range(count):
            boss.delegate(str(number))
        town.worker("w1", "other").drop()
        town.pass_time(399)
        costs.append(work(lambda town=town: town.pass_time(1)))
        assert "w1" not in town.ledger.agents
    assert costs[1] < costs[0] + 50


def test_agents_are_at_work_as_long_as_a_task_is_open_that_they_had(town, boss):
    first, ledger = town.worker("w1"), town.ledger
    boss.delegate("one")
    other = boss.delegate("other", "other")
    offer = first.offer()
    town.worker("w2", "echo", "other", tasks=2)
    first.say(TaskDecline(offer.task, offer.fence))
    assert [name for name in ("boss", "w1", "w2") if name in ledger.at_work] == ["w1", "w2"]
    assert town.restart().ledger.at_work == ledger.at_work
    assert snapshot.load(snapshot.to_bytes(ledger), "main").at_work == ledger.at_work
    boss.cancel(offer.task, "skip")
    assert [name for name in ("w1", "w2") if name in ledger.at_work] == ["w2"]
    boss.cancel(other, "skip")
    assert ledger.at_work == AtWork()
