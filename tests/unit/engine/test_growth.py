"""What has gone leaves nothing behind, and a step costs the same whatever else there is."""

import json

import pytest

from a2a.engine import agenda, claimbook, delivery, refusals, slots
from a2a.engine.policy import LADDERS, Admission, digest
from a2a.protocol.messages import (
    A2ACall,
    AgentFilter,
    AgentFind,
    AgentForget,
    AgentUpdate,
    ArtifactRef,
    AttemptError,
    Bye,
    ClaimAcquire,
    ClaimList,
    ClaimRelease,
    ClaimRenew,
    ConflictRaise,
    ConflictVote,
    ContextOp,
    ContextRead,
    ContextWatch,
    ContextWrite,
    Held,
    HeldStill,
    RaisedSubject,
    TaskAnswer,
    TaskArtifact,
    TaskAsk,
    TaskCheckpoint,
    TaskDecline,
    TaskGet,
    TaskHandoff,
    TaskList,
    TaskOffer,
    TaskReview,
    TaskSteer,
    TaskWatch,
    TaskYield,
)
from tests.unit.engine.growth import held, work

NO_SCHEMA = AgentFilter(skill="echo", input_schema=f"sha256:{'0' * 64}")


class Stage:
    """A coordinator whose times are short, and those who stay with it."""

    def __init__(self, make_town, **policy):
        ladders = LADDERS | {"resource": ({"strategy": "human"}, {"strategy": "abort"})}
        short = {"linger_ms": 1_000, "raised_keep_ms": 1_000, "linger_contexts_ms": 1_000, "passing_ms": 2_000}
        short |= {"keep_agents_ms": 3_000, "human_ms": 1_000, "ballot_ms": 500, "conflict_rest_ms": 500, "tries_max": 4}
        admission = Admission(operator_token=digest("op"))
        self.town = make_town(**(short | {"ladders": ladders, "admission": admission} | policy))
        self.boss, self.ann = self.town.join("boss"), self.town.join("ann")
        self.operator = self.town.join("op", operator_token="op")
        self.worker = self.town.worker("w1", tasks=8)

    def newest(self, kind, peer=None):
        return next(mail for _, mail in reversed((peer or self.worker).mailbox) if isinstance(mail, kind))

    def given(self, key, **fields):
        """Have the worker begin a new task, and return its offer."""
        self.boss.delegate(key, **fields)
        offer = self.newest(TaskOffer)
        self.worker.beat(offer)
        return offer

    def done(self, offer):
        self.worker.report(offer)
        self.boss.confirm(self.newest(TaskReview, self.boss))

    def skip(self):
        """End all tasks there are."""
        for task in list(self.town.ledger.open_tasks):
            self.operator.cancel(task, "skip")

    def read(self):
        """Have everybody acknowledge all mail there is."""
        for connection in list(self.town.coordinator.live.agents.values()):
            peer = self.town.peers[connection.id]
            if peer.mailbox:
                peer.acknowledge()

    def settled(self):
        """Let everything end that time ends, and return what is held then."""
        self.skip()
        for _ in range(3):
            self.read()
            self.town.pass_time(100_000)
        return held(self.town.coordinator)


def put(context, key, rev=0):
    return ContextWrite(context, f"write {key} {rev}", [ContextOp(key, rev, b"1")])


# What has gone --------------------------------------------------------------------------------------------------------


def tasks_end(stage, number):
    stage.done(stage.given(f"good{number}"))
    error = AttemptError("x", "y", False)
    stage.worker.report(stage.given(f"bad{number}"), "failed", error=error)
    for mode in ("coop", "kill", "skip"):
        stage.boss.cancel(stage.given(f"{mode}{number}").task, mode)
    stage.boss.cancel(stage.boss.delegate(f"queued{number}", f"nobody's {number}"), "skip")
    stage.town.pass_time(2_500)


def attempts_end(stage, number):
    town, worker = stage.town, stage.worker
    offer = stage.given(f"y{number}")
    worker.say(TaskYield(offer.task, offer.fence))
    offer = stage.given(f"d{number}")
    worker.say(TaskDecline(offer.task, offer.fence, "busy", 100))
    offer = stage.given(f"l{number}", budget={"tokens": 50})
    worker.beat(offer, usage={"tokens": 9}, slot="released")
    town.pass_time(4_000)
    worker.beat(offer, usage={"tokens": 9})
    offer = stage.given(f"h{number}")
    town.worker("w2", tasks=0).drop()
    worker.say(TaskHandoff(offer.task, offer.fence, "w1"))
    worker.say(TaskHandoff(offer.task, offer.fence, requires={"labels": {"n": str(number)}}))
    town.pass_time(5_000)
    stage.skip()


def questions_and_pieces(stage, number):
    worker = stage.worker
    for hold in ("hot", "cold"):
        offer = stage.given(f"{hold}{number}")
        worker.say(TaskAsk(offer.task, 1, b"[1]", fence=offer.fence, hold=hold))
        stage.boss.say(TaskAnswer(offer.task, 1, b"[2]"))
        stage.done(stage.newest(TaskOffer))
    offer = stage.given(f"a{number}")
    worker.say(TaskCheckpoint(offer.task, offer.fence, 1, b"[1]"))
    worker.say(TaskArtifact(offer.task, offer.fence, "a", 0, b"[1]"))
    stage.boss.say(TaskSteer(offer.task, "go", b"[1]"))
    named = [ArtifactRef("a", f"sha256:{'0' * 64}")]
    worker.report(offer, artifacts=named)
    stage.done(offer)
    worker.report(offer, payload=b"[9]", artifacts=named)


def trees(stage, number):
    for ends in ("cancel", "abandon", "detach"):
        offer = stage.given(f"{ends}{number}")
        for key in ("one", "other"):
            parent = Held(offer.task, offer.fence)
            stage.worker.delegate(key, spec={"n": key}, parent=parent, on_parent_end=ends, acceptance="auto")
        stage.worker.report(stage.newest(TaskOffer))
        stage.done(offer)
        stage.skip()


def clients_come_and_go(stage, number):
    client = stage.town.join(f"client#{number}")
    task = client.delegate(f"k{number}", "nobody's", on_delegator_loss="cancel", loss_ms=100)
    for message in (TaskWatch(task), ContextWatch(f"c{number}"), AgentFind(NO_SCHEMA, watch=True)):
        client.say(message)
    call = {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hello"}]}}
    client.say(A2ACall("SendStreamingMessage", json.dumps(call).encode()))
    client.say(ClaimAcquire(1, [{"name": f"r{number}"}], ttl_ms=500))
    client.drop()
    stage.town.pass_time(4_000)


def principals_come_and_go(stage, number):
    town = stage.town
    client = town.join(f"client{number}")
    client.delegate(f"k{number}", "nobody's", on_delegator_loss="cancel", loss_ms=100)
    client.drop()
    town.dial().say(town.hello(f"client{number}", secret="no"))
    town.pass_time(4_000)
    stage.operator.say(AgentForget(f"client{number}"))


def agents_come_and_go(stage, number):
    skill = {"id": "echo", "inputSchema": {"n": number}}
    stage.ann.say(AgentFind(NO_SCHEMA))
    agent = stage.town.worker(f"elastic#{number}", skill, f"s{number}", labels={"n": str(number)})
    stage.boss.delegate(f"k{number}", f"s{number}", spec={"requires": {"labels": {"n": str(number)}}})
    agent.say(Bye(drain=True))
    stage.skip()
    agent = stage.town.worker(f"idle#{number}", f"t{number}")
    agent.say(AgentUpdate(labels={"m": str(number)}))
    agent.drop()


def processes_take_over(stage, number):
    offer = stage.given(f"k{number}")
    still = [HeldStill(offer.task, offer.fence)] if number % 2 else []
    again = {"instance_id": f"p{number}", "incarnation": number + 2, "held": still}
    stage.town.pass_time(2_000)
    stage.worker = stage.town.worker("w1", "echo", f"s{number}", tasks=8, **again)
    stage.skip()


def claims_end(stage, number):
    ann, boss = stage.ann, stage.boss
    fence = ann.say(ClaimAcquire(number + 1, [{"name": "one"}, {"name": f"r{number}"}])).claim_fence
    boss.say(ClaimAcquire(2 * number + 1, [{"name": "one"}], wait_ms=100))
    offer = stage.given(f"k{number}", spec={"resources": [{"name": f"t{number}"}]})
    stage.boss.delegate(f"line{number}", spec={"resources": [{"name": "one"}]})
    ann.say(ClaimRenew(fence))
    stage.town.pass_time(150)
    boss.say(ClaimAcquire(2 * number + 2, [{"name": "one"}], wait_ms=50_000, priority=3))
    ann.say(ClaimRelease(fence))
    boss.say(ClaimRelease(claim_no=2 * number + 2))
    stage.done(offer)
    stage.skip()


def contexts_rest(stage, number):
    context, ann = f"c{number}", stage.ann
    ann.say(ContextWrite(context, "w1", [ContextOp("a", 0, b"1")]))
    ann.say(ContextWrite(context, "w2", [ContextOp("a", 1, delete=True), ContextOp("b", 0, b"2")]))
    for value in range(4):
        stage.boss.say(ContextWrite(context, f"v{value}", [ContextOp("b", 0, b"%d" % value)]))
    ann.say(ContextRead(context, prefix=""))
    stage.town.pass_time(2_000)


def conflicts_close(stage, number):
    said = [RaisedSubject(value=b"[%d]" % value) for value in range(2)]
    raised = stage.ann.say(ConflictRaise("resource", said, f"resource:r{number}"))
    stage.boss.say(ConflictRaise("resource", said, f"resource:r{number}"))
    stage.operator.say(ConflictVote(raised.conflict, None, "neither"))
    w2 = stage.town.worker("w2", tasks=8)
    stage.boss.delegate(f"g{number}", spec={"redundancy": {"n": 2, "policy": [{"strategy": "first_wins"}]}})
    for peer in (stage.worker, w2):
        peer.report(stage.newest(TaskOffer, peer), payload=b'["%s"]' % peer.name.encode())
    stage.skip()


BOUNDS = (
    (agenda, "_PRUNED_FROM"),
    (claimbook, "_OWNERS_KEPT"),
    (claimbook, "_ENDED_KEPT"),
    (delivery, "_ACK_EVERY"),
    (refusals, "_REPORTS_KNOWN"),
)
"""What some is kept of that has gone: so few that it is there from the beginning."""
ROUNDS = (
    tasks_end,
    attempts_end,
    questions_and_pieces,
    trees,
    clients_come_and_go,
    principals_come_and_go,
    agents_come_and_go,
    processes_take_over,
    claims_end,
    contexts_rest,
    conflicts_close,
)


@pytest.mark.parametrize("a_round", ROUNDS)
def test_nothing_is_held_of_what_has_gone(make_town, monkeypatch, a_round):
    for module, bound in BOUNDS:
        monkeypatch.setattr(module, bound, 2)
    stage = Stage(make_town)

    def settled(numbers):
        for number in numbers:
            a_round(stage, number)
            stage.read()
        return stage.settled()

    before, after = settled(range(10)), settled(range(10, 40))
    assert {path: (before[path], length) for path, length in after.items() if length >= before[path] + 30} == {}


# What else there is ---------------------------------------------------------------------------------------------------


def tasks_at_work(stage, count):
    stage.town.worker("big", "bulk", tasks=count)
    for number in range(count):
        stage.ann.delegate(f"bulk{number}", "bulk")


def tasks_nobody_does(stage, count):
    for number in range(count):
        stage.ann.delegate(f"o{number}", "nobody's", on_delegator_loss="pause")


def tasks_each_for_another_agent(stage, count):
    for number in range(count):
        requires = ({"labels": {"n": str(number)}}, {"tags": [f"t{number}"]}, {"mediaType": f"m/{number}"})[number % 3]
        stage.ann.delegate(f"o{number}", spec={"requires": requires})


def tasks_in_line(stage, count):
    stage.town.worker("liner", "lined", tasks=2)
    stage.ann.say(ClaimAcquire(1, [{"name": "far"}], ttl_ms=10**9))
    for number in range(count):
        stage.ann.delegate(f"o{number}", "lined", spec={"resources": [{"name": "far"}]})


def tasks_that_only_wait(stage, count):
    tasks_in_line(stage, 1)
    tasks_at_work(stage, count)
    big = next(peer for peer in stage.town.peers.values() if peer.name == "big")
    for offer in big.mail():
        big.beat(offer, slot="released")


def sub_tasks(stage, count):
    offer = stage.given("parent")
    for number in range(count):
        stage.worker.delegate(f"c{number}", "nobody's", spec={"n": number}, parent=Held(offer.task, offer.fence))


def tasks_settled(stage, count):
    for number in range(count):
        stage.ann.delegate(f"o{number}", "nobody's")
    stage.skip()


def agents(stage, count):
    for number in range(count):
        stage.town.worker(f"other{number}", "another", f"s{number}")


def clients(stage, count):
    for number in range(count):
        stage.town.join(f"other#{number}")


def claims_held(stage, count):
    for number in range(count):
        stage.town.join(f"holder#{number}").say(ClaimAcquire(1, [{"name": f"far/{number}"}], ttl_ms=10**9))


def claims_in_line(stage, count):
    stage.ann.say(ClaimAcquire(1, [{"name": "far"}], ttl_ms=10**9))
    for number in range(count):
        stage.town.join(f"waiter#{number}").say(ClaimAcquire(1, [{"name": "far"}], ttl_ms=10**9, wait_ms=10**9))


def contexts(stage, count):
    for number in range(count):
        stage.ann.say(put(f"other{number}", "a"))
        stage.ann.say(put("shared", f"k{number}"))


def watches(stage, count):
    for number in range(count):
        stage.ann.say(TaskWatch(stage.ann.delegate(f"o{number}", "nobody's")))
        stage.ann.say(ContextWatch(f"other{number}"))


def conflicts(stage, count):
    for number in range(count):
        said = [RaisedSubject(value=b"[%d]" % value) for value in range(2)]
        raiser = stage.town.join(f"raiser#{number}")
        raised = raiser.say(ConflictRaise("resource", said, f"resource:r{number}"))
        if number % 2:
            stage.operator.say(ConflictVote(raised.conflict, None, "neither"))


SORTS = (
    tasks_at_work,
    tasks_nobody_does,
    tasks_each_for_another_agent,
    tasks_in_line,
    tasks_that_only_wait,
    sub_tasks,
    tasks_settled,
    agents,
    clients,
    claims_held,
    claims_in_line,
    contexts,
    watches,
    conflicts,
)


AGENTS_MAY_BE_WAITED_FOR = {"join as an agent", "new labels"}
"""Each task that only waits is asked whether it waits for the agent. A client is nobody to wait for."""


def steps(stage):
    """Yield the name of a step, and what takes it."""
    town, boss, worker = stage.town, stage.boss, stage.worker
    boss.delegate("before")  # whoever came since is looked at once, with the next task
    town.pass_time(1)  # and so is what was put off
    worker.report(stage.newest(TaskOffer))
    yield "delegate", lambda: boss.delegate("mine")
    offer = stage.newest(TaskOffer)
    yield "accept", lambda: worker.accept(offer)
    yield "heartbeat", lambda: worker.beat(offer, progress_no=1)
    yield "watch", lambda: boss.say(TaskWatch(offer.task))
    yield "checkpoint", lambda: worker.say(TaskCheckpoint(offer.task, offer.fence, 1, b"[1]"))
    yield "artifact", lambda: worker.say(TaskArtifact(offer.task, offer.fence, "a", 0, b"[1]"))
    yield "claim of a task", lambda: worker.say(ClaimAcquire(1, [{"name": "its"}], task=offer.task, fence=offer.fence))
    yield "claims of a task", lambda: boss.say(ClaimList(task=offer.task))
    yield "ask", lambda: worker.say(TaskAsk(offer.task, 1, b"[1]", fence=offer.fence))
    yield "answer", lambda: boss.say(TaskAnswer(offer.task, 1, b"[1]"))
    yield "steer", lambda: boss.say(TaskSteer(offer.task, "go", b"[1]"))
    yield "report", lambda: worker.report(offer)
    yield "confirm", lambda: boss.confirm(stage.newest(TaskReview, boss))
    yield "get", lambda: boss.say(TaskGet(offer.task))
    yield "delegate to nobody", lambda: boss.delegate("never", "never")
    again = stage.given("again")
    yield "decline", lambda: worker.say(TaskDecline(again.task, again.fence, "busy", 10))
    yield "cancel", lambda: boss.cancel(again.task, "skip")
    yield "claim", lambda: boss.say(ClaimAcquire(1, [{"name": "mine"}]))
    fence = next(reversed(town.ledger.claims.by_fence))
    yield "wait for a claim", lambda: worker.say(ClaimAcquire(1, [{"name": "mine"}], wait_ms=9_000))
    yield "renew", lambda: boss.say(ClaimRenew(fence))
    yield "release", lambda: boss.say(ClaimRelease(fence))
    yield "write", lambda: boss.say(put("mine", "a"))
    yield "write beside others", lambda: boss.say(put("shared", "mine"))
    yield "read", lambda: boss.say(ContextRead("shared", ["mine"]))
    joined = []
    yield "join", lambda: joined.append(town.join("new#1"))
    yield "find", lambda: joined[0].say(AgentFind(AgentFilter(skill="echo")))
    yield "leave", joined[0].drop
    yield "join as an agent", lambda: joined.append(town.worker("new#2", "new"))
    yield "new labels", lambda: joined[1].say(AgentUpdate(labels={"a": "b"}))
    yield "leave as an agent", joined[1].drop
    attached = town.join("attached")
    attached.delegate("attached", "never", on_delegator_loss="pause")
    yield "leave a task that pauses", attached.drop
    boss.delegate("listed", "never", context_id="mine")
    for name, request in (
        ("list", b'{"pageSize":1}'),
        ("list a state", b'{"pageSize":1,"status":"TASK_STATE_COMPLETED"}'),
        ("list a context", b'{"pageSize":1,"contextId":"mine"}'),
        ("list what is new", b'{"pageSize":1,"statusTimestampAfter":"2090-01-01T00:00:00Z"}'),
    ):
        yield name, lambda request=request: boss.say(A2ACall("ListTasks", request))
    for name, listed in (
        ("tasks of a context", TaskList(context_id="mine")),
        ("sub-tasks", TaskList(parent=offer.task)),
        ("tasks for a skill", TaskList(skill="never", limit=1)),
        ("tasks in no state", TaskList("disputed")),
        ("tasks that are dead letters", TaskList(dead_letter=True)),
    ):
        yield name, lambda listed=listed: boss.say(listed)
    yield "look", lambda: town.coordinator.tick(town.now)


@pytest.mark.parametrize("sort", SORTS)
def test_a_step_costs_the_same_whatever_else_there_is(make_town, monkeypatch, sort):
    monkeypatch.setattr(claimbook, "_OWNERS_KEPT", 2)
    monkeypatch.setattr(slots, "_POOLS_MAX", 2)
    costs = []
    for count in (4, 60):
        stage = Stage(make_town, linger_ms=10**9, human_ms=10**9, conflicts_raised_max=100)
        sort(stage, count)
        stage.read()
        costs.append({name: work(call) for name, call in steps(stage)})
    few, many = costs
    for name in AGENTS_MAY_BE_WAITED_FOR if sort is tasks_that_only_wait else ():
        del few[name]
    # One instruction for each of those that there are would be 56 more.
    assert {name: (few[name], many[name]) for name in few if many[name] > few[name] + 50 + few[name] // 50} == {}
