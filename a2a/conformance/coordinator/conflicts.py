"""Cases of section 12: groups, equality, the procedure of a conflict and its rungs."""

from __future__ import annotations

import functools
import json
from typing import Any, Self

from ..case import Need, Role, case
from ..conversation import check
from ..peer import Coordinator, Peer
from ..scenes import LONG, at, ok, only
from ..wire import Frame, as_bytes, parts, result

coordinator = functools.partial(case, Role.COORDINATOR)

ABORT = {"strategy": "abort"}


def ladder(*rungs: str | dict[str, Any]) -> list[dict[str, Any]]:
    """Return a policy of these rungs."""
    return [{"strategy": rung} if isinstance(rung, str) else rung for rung in rungs]


class Group:
    """A group with `n` members, each offered to its own worker."""

    def __init__(self, client: Peer, created: Frame, workers: list[Peer], offers: list[Frame], skill: str) -> None:
        self.client = client
        self.task = created.task
        self.workers = workers
        self.offers = offers
        self.skill = skill

    @classmethod
    async def of(
        cls,
        under: Coordinator,
        n: int = 3,
        *,
        value: Any = None,
        spec: Any = None,
        budget: Any = None,
        **redundancy: Any,
    ) -> Self:
        """Delegate to a group, and wait until each worker is offered its member."""
        skill = under.skill()
        client = await under.peer()
        workers = [await under.peer(skills=(skill,), credit={"tasks": 1, "frames": 256}) for _ in range(n)]
        wanted = {"redundancy": {"n": n} | redundancy} | (spec or {})
        timers = {"leaseMs": 60_000, "offerMs": 60_000, "heartbeatMs": 20_000}
        bounded = {} if budget is None else {"budget": budget}
        created = await client.delegate(skill, value, spec=wanted, timers=timers, **bounded)
        offers = [await worker.offered() for worker in workers]
        return cls(client, created, workers, offers, skill)

    async def answer(self, *values: Any, start: int = 0) -> None:
        """Have workers report these values in turn; a worker whose value is None reports nothing."""
        for place, value in enumerate(values, start):
            if value is not None:
                payload = value if isinstance(value, bytes) else result(value)
                await self.workers[place].admitted(self.offers[place], payload=payload)

    async def reviewed(self) -> Any:
        """Return the value of the group's result."""
        review = await self.client.reviewed(self.task)
        return json.loads(review.payload)[0]["parts"][0]["data"]

    async def opened(self, peer: Peer | None = None) -> Frame:
        """Return the notice that a conflict opened."""
        return await (peer or self.client).take("conflict.opened", task=self.task)

    async def resolved(self, peer: Peer | None = None, **match: Any) -> Frame:
        """Return the notice that it is over."""
        return await (peer or self.client).take("conflict.resolved", task=self.task, **match)


async def record(peer: Peer, conflict: str) -> dict[str, Any]:
    """Return a conflict's record."""
    found = await peer.request("conflict.get", conflict=conflict)
    check(found.kind == "conflict.found", "conflict.found", found)
    view: dict[str, Any] = found.body["view"]
    return view


@coordinator("GROUP-1", also=("ROUTE-1",))
async def a_group_is_done_by_agents_that_do_not_share_members(under: Coordinator) -> None:
    """Three members go to three agents, even if one would take all; the group is `blocked` until they report."""
    skill = under.skill()
    client, eager = await under.peer(), await under.peer(skills=(skill,))
    created = await client.delegate(skill, spec={"redundancy": {"n": 3}}, timers={"offerMs": 60_000})
    check(created.body.get("state") == "blocked", "state blocked", created)
    first = await eager.offered()
    await eager.nothing("task.offer")
    second = await under.peer(skills=(skill,))
    other = await second.offered()
    check(len({first.task, other.task, created.task}) == 3, "tasks of their own", other)
    check("redundancy" not in other.body["spec"] and other.body["spec"]["skill"] == skill, "the same spec", other)
    members = ((await client.view(created.task))["metadata"].get("group") or {}).get("members")
    check(isinstance(members, list) and len(members) == 3, "three members in the view", members)


@coordinator("GROUP-2", also=("RUNG-1",))
async def a_group_has_its_result_as_soon_as_it_is_sure(under: Coordinator) -> None:
    """With two of three equal answers the group is reported; the third agent is told to stop."""
    group = await Group.of(under)
    await group.workers[2].heartbeat(group.offers[2])
    await group.answer("x", "x")
    check(await group.reviewed() == "x", "the result x", "")
    revoke = await group.workers[2].take("task.revoke", task=group.offers[2].task)
    check(revoke.body.get("mode", "coop") == "coop", "mode coop", revoke)


@coordinator("STEER-1", also=("GROUP-1",))
async def a_word_to_a_group_is_said_to_its_members(under: Coordinator) -> None:
    """A word to a group itself is refused with `conflict`; a word to a member reaches its worker."""
    group = await Group.of(under, 2)
    await group.client.refused("conflict", "task.steer", task=group.task, key="one", payload=parts("faster"))
    member = group.offers[0].task
    await ok(group.client, "task.steer", task=member, key="one", payload=parts("faster"))
    await group.workers[0].take("task.steer", task=member)
    await group.client.request("task.cancel", task=group.task, mode="skip")


@coordinator("GROUP-2")
async def k_equal_answers_are_waited_for(under: Coordinator) -> None:
    """With `k: 3` two equal answers of three are not enough; three are."""
    group = await Group.of(under, k=3)
    await group.answer("x", "x")
    check(await group.client.state(group.task) == "blocked", "the group blocked", "")
    await group.answer("x", start=2)
    check(await group.reviewed() == "x", "the result x", "")


@coordinator("GROUP-2")
async def a_group_without_any_result_fails(under: Coordinator) -> None:
    """If all members fail, the group fails with reason `unresolved`."""
    group = await Group.of(under, 2)
    for worker, offer in zip(group.workers, group.offers, strict=True):
        await worker.admitted(offer, outcome="failed", error={"code": "no", "retryable": False})
    await group.client.settled(group.task, state="failed", reason="unresolved")


@coordinator("GROUP-1", also=("TREE-3", "TASK-2"))
async def members_are_made_like_their_group(under: Coordinator) -> None:
    """A member has the group's specification except the redundancy, and its context, input and deadline."""
    spec = {"priority": 3, "effect": "pure", "own": {"x": [1]}}
    skill, context = under.skill(), under.name("context")
    workers, client = [await under.peer(skills=(skill,)) for _ in range(2)], await under.peer()
    wanted = spec | {"redundancy": {"n": 2}}
    await client.delegate(skill, "in", spec=wanted, contextId=context, limits={"deadlineMs": 60_000}, timers=LONG)
    for worker in workers:
        offer = await worker.offered()
        came = {name: value for name, value in offer.body["spec"].items() if name != "acceptance"}
        check(came == spec | {"skill": skill}, "the specification without the redundancy", offer)
        check((offer.payload, offer.body.get("contextId")) == (parts("in"), context), "input and context", offer)
        check(0 < offer.body.get("deadlineMs", 0) <= 60_000, "deadlineMs of at most a minute", offer)


@coordinator("GROUP-2", also=("RUNG-1",))
async def the_first_rung_says_how_many_are_enough(under: Coordinator) -> None:
    """Two equal answers of three are enough for a `quorum` of two; a `plurality` waits for all members to end."""
    group = await Group.of(under, policy=ladder({"strategy": "quorum", "k": 2}, "abort"))
    await group.answer("x", "x")
    check(await group.reviewed() == "x", "the result x", "")
    group = await Group.of(under, policy=ladder("plurality", "abort"))
    await group.answer("x", "x")
    check(await group.client.state(group.task) == "blocked", "the group blocked", "")
    error = {"code": "no", "retryable": False}
    await group.workers[2].admitted(group.offers[2], outcome="failed", error=error)
    check(await group.reviewed() == "x", "the result x, which nothing contradicts", "")


@coordinator("GROUP-2", also=("CONFLICT-1",))
async def an_answer_that_another_could_equal_in_number_is_not_enough(under: Coordinator) -> None:
    """With `k: 1` one of two answers decides nothing while the other may come; a different answer is a conflict."""
    group = await Group.of(under, 2, k=1, policy=ladder("abort"))
    await group.answer("x")
    check(await group.client.state(group.task) == "blocked", "the group blocked", "")
    await group.answer("y", start=1)
    await group.opened()
    await group.client.settled(group.task, state="failed", reason="unresolved")


@coordinator("GROUP-2", also=("CTX-10", "CONFLICT-16"))
async def what_a_groups_result_relies_on_is_looked_at(under: Coordinator) -> None:
    """Members whose basis has moved are taken as reported; the group's result waits for the delegator."""
    context, writer = under.name("context"), await under.peer()
    for rev in range(2):
        op = {"key": "decisions/a", "ifRev": rev, "value": b"1"}
        await writer.request("context.write", contextId=context, key=f"{rev}", ops=[op])
    skill = under.skill()
    client, workers = await under.peer(), [await under.peer(skills=(skill,)) for _ in range(2)]
    spec = {"acceptance": {"evaluator": "auto"}, "redundancy": {"n": 2}}
    created = await client.delegate(skill, spec=spec, contextId=context, timers=LONG)
    for worker in workers:
        await worker.admitted(await worker.offered(), basis=[{"key": "decisions/a", "rev": 1}])
    review = await client.reviewed(created.task)
    stale = only(review.body.get("staleBasis", []), "key", "seen", "current")
    check(stale == [{"key": "decisions/a", "seen": 1, "current": 2}], "staleBasis of decisions/a", review)
    await client.confirm(review)


@coordinator("RUNG-1", also=("GROUP-4",))
async def a_rung_says_all_that_it_needs(under: Coordinator) -> None:
    """No skill or no `k`, an even panel, a `hold` at the end and 13 rungs are `malformed`; 12 are not."""
    client = await under.peer()
    for policy in (
        *(ladder(strategy, "abort") for strategy in ("verify", "judge", "panel", "quorum")),
        ladder({"strategy": "panel", "skill": "any", "k": 2}, "abort"),
        ladder({"strategy": "human", "onTimeout": "hold"}),
        ladder(*["majority"] * 12, "abort"),
    ):
        spec = {"redundancy": {"n": 2, "policy": policy}}
        await client.refused("malformed", "task.delegate", **client.delegation("any", spec=spec))
    spec = {"redundancy": {"n": 2, "policy": ladder(*["majority"] * 11, "abort")}}
    created = await client.delegate(under.skill(), spec=spec)
    await client.request("task.cancel", task=created.task)


@coordinator("RUNG-1", also=("RUNG-4",))
async def what_each_counting_rung_asks_for(under: Coordinator) -> None:
    """More than a quorum decides; a lead below the margin or half the weight does not; `first_wins` takes the first."""
    for rung, answers, expected in (
        ({"strategy": "quorum", "k": 2}, ("x", "x", "x", "y"), "x"),
        ({"strategy": "plurality", "margin": 2}, ("x", "x", "y"), None),
        ({"strategy": "plurality", "margin": 2}, ("x", "y", "y", "y"), "y"),
        ({"strategy": "weighted"}, ("x", "x", "y", "z"), None),
        ({"strategy": "first_wins"}, ("x", "y", "y"), "x"),
    ):
        group = await Group.of(under, len(answers), k=len(answers), policy=[rung, *ladder("abort")])
        await group.answer(*answers)
        if expected is None:
            await group.client.settled(group.task, state="failed", reason="unresolved")
        else:
            check(await group.reviewed() == expected, f"{expected} of {answers} by {rung}", "")


@coordinator("COMPARE-4", also=("GROUP-1",))
async def no_author_compares(under: Coordinator) -> None:
    """If only the authors have the comparing skill, no agent is asked."""
    skill, comparing, client = under.skill(), under.skill("compare"), await under.peer()
    workers = [await under.peer(skills=(skill, comparing)) for _ in range(2)]
    redundancy = {"n": 2, "comparator": f"agent:{comparing}", "policy": ladder("abort")}
    created = await client.delegate(skill, spec={"redundancy": redundancy}, timers=LONG)
    for worker, answer in zip(workers, "xy", strict=True):
        await worker.admitted(await worker.offered(), answer)
    for worker in workers:
        await worker.nothing("task.offer")
    await client.request("task.cancel", task=created.task)


@coordinator("GROUP-3")
async def a_groups_result_is_not_reworked(under: Coordinator) -> None:
    """A reject with `rework` is refused with `conflict`; one without rejects the group."""
    group = await Group.of(under)
    await group.answer("x", "x")
    review = await group.client.reviewed(group.task)
    answer = await group.client.confirm(review, "reject", rework=True)
    check(answer.kind == "error" and answer.code == "conflict", "error conflict", answer)
    await group.client.confirm(review, "reject")
    await group.client.settled(group.task, state="failed", reason="rejected")


@coordinator("GROUP-4")
async def a_redundancy_that_is_none_is_malformed(under: Coordinator) -> None:
    """An unknown comparator or strategy, `k` above `n`, and a ladder that need not decide are `malformed`."""
    client = await under.peer()
    for redundancy in (
        {"n": 3, "comparator": "no-such"},
        {"n": 3, "policy": ladder("no-such", "abort")},
        {"n": 3, "k": 4},
        {"n": 1},
        {"n": 3, "policy": ladder("majority")},
        {"n": 3, "policy": []},
        {"n": 3, "policy": ladder("merge", "abort")},
    ):
        await client.refused("malformed", "task.delegate", **client.delegation("any", spec={"redundancy": redundancy}))


@coordinator("COMPARE-1")
async def compares_as_the_comparator_says(under: Coordinator) -> None:
    """Answers that are equal under each comparator give a result of two; answers that are not open a conflict."""
    pairs: tuple[tuple[str, Any, Any, bool], ...] = (
        ("json-c14n", b'[{"artifactId":"r","parts":[{"data":{"b":1,"a":2.0}}]}]', {"a": 2, "b": 1}, True),
        ("json-c14n", {"a": 1}, {"a": 2}, False),
        ("bytes", b'[{"artifactId":"r","parts":[{"data":1}]} ]', b'[{"artifactId":"r","parts":[{"data":1}]}]', False),
        ("text-nfc", "cafe\u0301  au\nlait", "caf\u00e9 au lait", True),
        ("text-nfc", "cafe", "cafés", False),
        ("pointers[/a,/b/0]", {"a": 1, "b": [2, 3], "c": 4}, {"a": 1, "b": [2, 9]}, True),
        ("pointers[/a]", {"a": 1}, {"a": 2}, False),
        ("set", [1, "x", 1], ["x", 1, 1], True),
        ("set", [1, "x"], ["x", 1, 1], False),
        ("numeric(0.5)", {"v": 1.0}, {"v": 1.4}, True),
        ("numeric(0.5)", {"v": 1.0}, {"v": 1.6}, False),
    )
    for comparator, one, two, is_equal in pairs:
        group = await Group.of(under, 2, k=2, comparator=comparator, policy=ladder("abort"))
        await group.answer(one, two)
        if is_equal:
            await group.client.reviewed(group.task)
        else:
            await group.opened()
            await group.client.settled(group.task, reason="unresolved")


@coordinator("COMPARE-2", also=("RUNG-4",))
async def a_class_is_what_equals_its_first_member(under: Coordinator) -> None:
    """With a tolerance of 1, the first of the answers 0, 1 and 2 decides the classes, and so the result."""
    for order, winner in (((0, 1, 2), 0), ((1, 0, 2), 1), ((2, 1, 0), 2)):
        group = await Group.of(under, comparator="numeric(1)", policy=ladder("plurality", "abort"), k=3)
        await group.answer(*order)
        check(await group.reviewed() == winner, f"the result {winner} of {order}", "")


@coordinator("COMPARE-3")
async def what_cannot_be_read_equals_its_own_bytes_alone(under: Coordinator) -> None:
    """Two equal answers win over one that is not JSON; two that are not JSON and differ decide nothing."""
    for answers in ((b"no JSON", [1, 2], [2, 1]), ([1, 2], b"no JSON", [2, 1])):  # as the third it might come too late
        group = await Group.of(under, comparator="set", policy=ladder("majority", "abort"))
        await group.answer(*answers)
        check(sorted(await group.reviewed()) == [1, 2], f"the two equal ones of {answers}", "")
    group = await Group.of(under, 2, comparator="set", policy=ladder("majority", "abort"))
    await group.answer(b"no JSON", b"no JSON either")
    await group.client.settled(group.task, state="failed", reason="unresolved")


@coordinator("COMPARE-3", also=("WIRE-5", "LIMIT-2"))
async def hostile_answers_hold_nobody_up(under: Coordinator) -> None:
    """Answers of up to 300,000 brackets, of a number with 100,000 digits and of 500,000 items are compared with each
    other while others are served, and no two of them are taken as equal."""
    group = await Group.of(under, ballotMs=20_000, policy=ladder("majority", "abort"))
    room = group.client.payload_max_bytes - 100
    brackets = min(300_000, room // 2)
    deep = b"[" * brackets + b"]" * brackets
    long = b'[{"artifactId":"r","parts":[{"data":' + b"9" * min(100_000, room) + b"}]}]"
    wide = b'[{"artifactId":"r","parts":[{"data":[' + b"0," * min(500_000, room // 2) + b"0]}]}]"
    for peer in (group.client, *group.workers):
        peer.patience = 20.0
    await group.answer(deep, long, wide)
    other = await under.peer()
    other.patience = 2.0
    for _ in range(20):
        await other.settle()
    await group.client.settled(group.task, within=25.0, state="failed", reason="unresolved")


@coordinator("COMPARE-4", also=("RUNG-3",))
async def an_agent_is_asked_whether_answers_are_the_same(under: Coordinator) -> None:
    """With `agent:SKILL` an agent gets both candidates without their authors; its answer puts them into one class."""
    comparing = under.skill("compare")
    judge = await under.peer(skills=(comparing,))
    group = await Group.of(under, 2, k=2, comparator=f"agent:{comparing}", policy=ladder("majority", "abort"))
    await group.answer("colour", "color")
    asked = await judge.offered()
    question = json.loads(asked.payload)[0]["data"]
    check(len(question["candidates"]) == 2, "two candidates", question)
    named = [worker.name for worker in group.workers if worker.name in asked.payload.decode()]
    check(not named, "no author's name", named)
    await judge.admitted(asked, True)
    check(await group.reviewed() == "colour", "the first one's result", "")


@coordinator("CONFLICT-1", also=("CONFLICT-2", "CONFLICT-7", "CONFLICT-9"))
async def two_answers_against_one(under: Coordinator) -> None:
    """2:1 opens a conflict that the majority decides; every party gets both notices, and the loser is dissent."""
    group = await Group.of(under)
    await group.answer("x", "y")
    opened = await group.opened()
    told = (opened.body.get("rule"), opened.body.get("conflictKind"), opened.body.get("level"))
    check(told == ("r1", "result", 1), "rule r1, kind result, level 1", opened)
    check(opened.body.get("yourRole") == "delegator", "the delegator's role", opened)
    check(await group.client.state(group.task) == "disputed", "state disputed", "")
    await group.answer("x", start=2)
    resolved = await group.resolved(outcome="select")
    check(resolved.body.get("by") == "majority", "decided by majority", resolved)
    check(resolved.body.get("dissent") == [group.offers[1].task], "the second one's answer as dissent", resolved)
    for worker in group.workers[:2]:
        check((await group.opened(worker)).body.get("yourRole") == "author", "an author's role", "")
        await group.resolved(worker)
    check(await group.reviewed() == "x", "the result x", "")
    view = await record(group.client, opened.body["conflict"])
    check(view.get("isOpen") is False and str(view.get("seal", "")).startswith("sha256:"), "a sealed record", view)


@coordinator("CONFLICT-5", also=("RUNG-1", "RUNG-4"))
async def three_different_answers(under: Coordinator) -> None:
    """1:1:1 is undecided by majority and plurality; the last rung decides: for none, or for the first."""
    for last, expected in (("abort", None), ("first_wins", "x")):
        group = await Group.of(under, policy=ladder("majority", "plurality", last))
        await group.answer("x", "y", "z")
        resolved = await group.resolved()
        stages = (await record(group.client, resolved.body["conflict"])).get("stages") or []
        told = [(stage["strategy"], stage["outcome"]) for stage in stages]
        wanted = [("majority", "undecided"), ("plurality", "undecided"), (last, "decided")]
        check(told == wanted, f"{wanted}", told)
        if expected is None:
            await group.client.settled(group.task, state="failed", reason="unresolved")
        else:
            check(await group.reviewed() == expected, "the first answer", "")


@coordinator("RUNG-4", also=("CONFLICT-5",))
async def a_tie_is_not_broken_by_chance(under: Coordinator) -> None:
    """2:2 is undecided by majority, quorum, plurality and weight alike, whoever answered first."""
    for answers in (("x", "x", "y", "y"), ("x", "y", "y", "x"), ("y", "x", "y", "x")):
        rungs = ladder("majority", {"strategy": "quorum", "k": 2}, "plurality", "weighted", "abort")
        group = await Group.of(under, 4, k=4, policy=rungs)
        await group.answer(*answers)
        await group.client.settled(group.task, state="failed", reason="unresolved")


@coordinator("CONFLICT-3", also=("GROUP-2",))
async def one_that_never_answers_counts_as_absent(under: Coordinator) -> None:
    """After the ballot's time, one answer of three against another is no majority: the electorate is three."""
    group = await Group.of(under, ballotMs=300, policy=ladder("majority", "abort"))
    await group.answer("x", "y")
    await group.resolved(outcome="reject_all")
    await group.client.settled(group.task, state="failed", reason="unresolved")


@coordinator("CONFLICT-3")
async def what_comes_after_the_freeze_does_not_enter(under: Coordinator) -> None:
    """Answers that come after the ballot is over are admitted, and do not make a majority."""
    rungs = ladder({"strategy": "human", "timeoutMs": 2_000}, "majority", "abort")
    group = await Group.of(under, 5, ballotMs=200, policy=rungs)
    await group.answer("x", "y")
    opened = await group.opened()
    await group.client.request("task.watch", task=group.task)
    view: dict[str, Any] = {}
    while not view.get("frozenLsn"):
        view = await record(group.client, opened.body["conflict"])
    await group.answer("z", "y", "y", start=2)
    after = await record(group.client, opened.body["conflict"])
    check(len(after["subjects"]) == len(view["subjects"]), "no further subject", after["subjects"])
    await group.client.settled(group.task, state="failed", reason="unresolved")


@coordinator("CONFLICT-4")
async def a_party_says_what_it_thinks(under: Coordinator) -> None:
    """A party's last position is kept with the conflict; a stranger's is refused with `forbidden`."""
    rungs = ladder({"strategy": "human", "timeoutMs": 60_000, "onTimeout": "abort"}, "abort")
    group = await Group.of(under, 2, policy=rungs)
    await group.answer("x", "y")
    conflict = (await group.opened(group.workers[1])).body["conflict"]
    for stance in ("first thought", "second thought"):
        answer = await group.workers[1].request(
            "conflict.position", conflict=conflict, stance=stance, payload=parts(stance)
        )
        check(answer.kind == "ok", "ok", answer)
    stranger = await under.peer()
    await stranger.refused("forbidden", "conflict.position", conflict=conflict, payload=b"[]")
    positions = (await record(group.client, conflict)).get("positions") or []
    check([position.get("stance") for position in positions] == ["second thought"], "the last one", positions)
    same = await under.peer(f"{group.workers[0].name}#2")
    await ok(same, "conflict.position", conflict=conflict, stance="of its principal", payload=b"[]")
    await group.client.request("task.cancel", task=group.task)
    await group.resolved()
    late = await group.workers[1].request("conflict.position", conflict=conflict, stance="late", payload=b"[]")
    check(late.kind == "error" and late.code == "conflict", "error conflict: it is over", late)


@coordinator("CONFLICT-6", needs=(Need.OPERATOR,))
async def an_operator_may_decide_at_any_rung(under: Coordinator) -> None:
    """A person's vote resolves the conflict; a member's is refused with `forbidden`."""
    rungs = ladder({"strategy": "human", "timeoutMs": 60_000, "onTimeout": "abort"}, "abort")
    group = await Group.of(under, 2, policy=rungs)
    operator = await under.operator()
    await group.answer("x", "y")
    conflict = (await group.opened()).body["conflict"]
    vote = {"conflict": conflict, "choice": group.offers[1].task, "reasons": "y it is"}
    await group.client.refused("forbidden", "conflict.vote", **vote)
    answer = await operator.request("conflict.vote", **vote)
    check(answer.kind == "ok", "ok", answer)
    resolved = await group.resolved(outcome="select")
    check(resolved.body.get("by") == operator.name, "decided by the operator", resolved)
    check(await group.reviewed() == "y", "the result y", "")
    other = await operator.request("conflict.vote", conflict=conflict, choice=group.offers[0].task)
    check(other.kind == "error" and other.code == "conflict", "error conflict: it is over", other)


@coordinator("CONFLICT-6", needs=(Need.OPERATOR,), also=("CONFLICT-7",))
async def of_equal_subjects_the_first_one_stands(under: Coordinator) -> None:
    """A vote for the second of two equal answers counts for the first; a repeat is `ok`; for no subject `not_found`."""
    group = await Group.of(under, k=3, policy=ladder("human", "abort"))
    operator = await under.operator()
    await group.answer("y", "x", "x")
    conflict = (await group.opened()).body["conflict"]
    await operator.refused("not_found", "conflict.vote", conflict=conflict, choice=group.task)
    for _ in range(2):
        await ok(operator, "conflict.vote", conflict=conflict, choice=group.offers[2].task)
    resolved = await group.resolved(outcome="select")
    check(resolved.body.get("ref") == group.offers[1].task, "the first of the equal ones", resolved)


@coordinator("CONFLICT-8", needs=(Need.OPERATOR,), also=("CONFLICT-6",))
async def a_persons_word_takes_effect_at_once(under: Coordinator) -> None:
    """An operator's vote takes effect without a wait, even if the effect is irreversible."""
    group = await Group.of(under, 2, policy=ladder("human", "abort"), spec={"effect": "irreversible"})
    operator = await under.operator()
    await group.answer("x", "y")
    conflict = (await group.opened()).body["conflict"]
    await ok(operator, "conflict.vote", conflict=conflict, choice=group.offers[1].task)
    await group.resolved(outcome="select")
    check(await group.reviewed() == "y", "the result y", "")


@coordinator("CONFLICT-16", needs=(Need.OPERATOR,), also=("CTX-10",))
async def a_result_on_what_moved_is_not_voted_on(under: Coordinator) -> None:
    """A vote on a conflict by rule `c3` is refused; the delegator's confirm ends it, for the result."""
    context, skill, operator = under.name("context"), under.skill(), await under.operator()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    for rev in range(2):
        op = {"key": "decisions/a", "ifRev": rev, "value": b"1"}
        await client.request("context.write", contextId=context, key=f"{rev}", ops=[op])
    created = await client.delegate(skill, contextId=context)
    await worker.admitted(await worker.offered(created.task), basis=[{"key": "decisions/a", "rev": 1}])
    conflict = (await client.take("conflict.opened", task=created.task, rule="c3")).body["conflict"]
    await operator.refused("denied", "conflict.vote", conflict=conflict, choice=created.task)
    await client.confirm(await client.reviewed(created.task))
    resolved = await client.take("conflict.resolved", conflict=conflict)
    told = (resolved.body.get("outcome"), resolved.body.get("ref"))
    check(told == ("select", created.task), "the result", resolved)


@coordinator("CONFLICT-6", also=("RUNG-1",))
async def a_human_who_does_not_come(under: Coordinator) -> None:
    """After the rung's time `onTimeout` decides: `abort` for none, `first_wins` for the first answer."""
    for on_timeout, expected in (("abort", None), ("first_wins", "x")):
        rung = {"strategy": "human", "timeoutMs": 200, "onTimeout": on_timeout}
        group = await Group.of(under, 2, policy=ladder(rung))
        await group.answer("x", "y")
        if expected is None:
            await group.client.settled(group.task, state="failed", reason="unresolved")
        else:
            check(await group.reviewed() == expected, "the first answer", "")


@coordinator("CONFLICT-10", also=("CANCEL-2",))
async def a_conflict_about_a_task_that_is_cancelled_is_moot(under: Coordinator) -> None:
    """A cancel of the disputed group closes the conflict as `moot`, and every party is told."""
    rungs = ladder({"strategy": "human", "timeoutMs": 60_000, "onTimeout": "abort"}, "abort")
    group = await Group.of(under, 2, policy=rungs)
    await group.answer("x", "y")
    await group.opened()
    await group.client.request("task.cancel", task=group.task)
    await group.client.settled(group.task, state="canceled")
    for peer in (group.client, *group.workers):
        await group.resolved(peer, outcome="moot")


@coordinator("RUNG-3", also=("RUNG-1",))
async def a_judge_is_asked_in_both_orders(under: Coordinator) -> None:
    """A judge gets the candidates in an order and its reverse, without authors; the same choice twice decides."""
    judging = under.skill("judge")
    judge = await under.peer(skills=(judging,))
    group = await Group.of(
        under, 2, value="the question", policy=ladder({"strategy": "judge", "skill": judging}, "abort")
    )
    await group.answer("x", "y")
    orders = []
    for _ in range(2):
        asked = await judge.offered()
        data = json.loads(asked.payload)[0]["data"]
        text = asked.payload.decode()
        check(not any(worker.name in text for worker in group.workers), "no author's name", text)
        candidates = [json.dumps(candidate) for candidate in data["candidates"]]
        orders.append(candidates)
        choice = next(place for place, candidate in enumerate(candidates) if '"y"' in candidate)
        await judge.admitted(asked, {"choice": choice})
    check(orders[0] == orders[1][::-1], "one order and its reverse", orders)
    check(await group.reviewed() == "y", "the judge's choice", "")


@coordinator("RUNG-3", also=("WIRE-5",))
async def an_answer_that_is_no_json_hides_no_other(under: Coordinator) -> None:
    """An answer that would end the list it is shown in appears as a text, next to the other answer."""
    judging = under.skill("judge")
    judge = await under.peer(skills=(judging,))
    group = await Group.of(under, 2, policy=ladder({"strategy": "judge", "skill": judging}, "abort"))
    await group.answer("x")
    broken = b'[]],"candidates":["x","x"],"input":['
    await group.workers[1].admitted(group.offers[1], payload=broken)
    candidates = json.loads((await judge.offered()).payload)[0]["data"]["candidates"]
    check(broken.decode() in candidates, "the answer as a text", candidates)
    check(any('"x"' in json.dumps(other) for other in candidates if other != broken.decode()), "the other", candidates)


@coordinator("RUNG-3", also=("CONFLICT-5",))
async def a_judge_that_flips_decides_nothing(under: Coordinator) -> None:
    """A judge that chooses the first place in both orders leaves it undecided, and the ladder goes on."""
    judging = under.skill("judge")
    judge = await under.peer(skills=(judging,))
    group = await Group.of(under, 2, policy=ladder({"strategy": "judge", "skill": judging}, "abort"))
    await group.answer("x", "y")
    for _ in range(2):
        await judge.admitted(await judge.offered(), {"choice": 0})
    await group.resolved(outcome="reject_all")
    await group.client.settled(group.task, state="failed", reason="unresolved")


@coordinator("RUNG-3", also=("CONFLICT-5",))
async def a_judge_that_dies_decides_nothing(under: Coordinator) -> None:
    """A judge that goes silent leaves the rung undecided after its time; a late answer decides nothing."""
    judging = under.skill("judge")
    judge = await under.peer(skills=(judging,))
    rung = {"strategy": "judge", "skill": judging, "timeoutMs": 300}
    group = await Group.of(under, 2, policy=ladder(rung, "abort"))
    await group.answer("x", "y")
    asked = await judge.offered()
    await group.resolved(outcome="reject_all")
    await judge.report(asked, {"choice": 0})
    await group.client.settled(group.task, state="failed", reason="unresolved")
    check(await group.client.state(group.task) == "failed", "the group failed", "")


@coordinator("RUNG-3", also=("RUNG-1", "GROUP-1"))
async def no_author_judges(under: Coordinator) -> None:
    """If only the authors have the judge's skill, nobody is asked, and the rung is undecided after its time."""
    skill, judging = under.skill(), under.skill("judge")
    client = await under.peer()
    workers = [await under.peer(skills=(skill, judging)) for _ in range(2)]
    policy = ladder({"strategy": "judge", "skill": judging, "timeoutMs": 300}, "abort")
    created = await client.delegate(
        skill, spec={"redundancy": {"n": 2, "policy": policy}}, timers={"offerMs": 60_000, "leaseMs": 60_000}
    )
    for worker, answer in zip(workers, "xy", strict=True):
        await worker.admitted(await worker.offered(), answer)
    await client.settled(created.task, state="failed", reason="unresolved")
    for worker in workers:
        await worker.nothing("task.offer")


@coordinator("RUNG-1")
async def a_verifier_passes_one(under: Coordinator) -> None:
    """A verifier gets one candidate at a time; the only class it passes wins."""
    verifying = under.skill("verify")
    verifier = await under.peer(skills=(verifying,))
    group = await Group.of(under, 2, policy=ladder({"strategy": "verify", "skill": verifying}, "abort"))
    await group.answer("x", "y")
    for _ in range(2):
        asked = await verifier.offered()
        await verifier.admitted(asked, {"passed": '"y"' in asked.payload.decode()})
    check(await group.reviewed() == "y", "the one that passed", "")


@coordinator("RUNG-1")
async def a_merger_makes_a_new_subject(under: Coordinator) -> None:
    """The group's result is what an agent with the skill makes of both answers."""
    merging = under.skill("merge")
    merger = await under.peer(skills=(merging,))
    group = await Group.of(under, 2, policy=ladder({"strategy": "merge", "skill": merging}, "abort"))
    await group.answer("x", "y")
    await merger.admitted(await merger.offered(), "xy")
    await group.resolved(outcome="merge")
    check(await group.reviewed() == "xy", "what was merged", "")


async def _gives_up(judge: Peer, asked: Frame, cost: int) -> None:
    """Have a judge say what it used, and yield its task."""
    await ok(judge, "task.yield", **at(asked), usage={"costMicro": cost})


@coordinator("RUNG-7")
async def who_is_asked_has_a_share_of_what_a_rung_may_cost(under: Coordinator) -> None:
    """Of the smaller of two limits, 7 millionths, two judges get 4 and 3; without a limit they have no budget."""
    judging = under.skill("judge")
    judge = await under.peer(skills=(judging,))
    rung = {"strategy": "judge", "skill": judging}
    for limits, shares in (({"costMicro": 7}, [4, 3]), ({}, [None, None])):
        ladders = {"policy": ladder(rung | limits, "abort")} | ({"costMicro": 100} if limits else {})
        group = await Group.of(under, 2, **ladders)
        await group.answer("x", "y")
        asked = [await judge.offered() for _ in range(2)]
        budgets = [(offer.body.get("budget") or {}).get("costMicro") for offer in asked]
        check(budgets == shares, f"budgets of {shares}", budgets)
        for offer in asked:
            await judge.admitted(offer, {"choice": 0})
        await group.resolved(outcome="reject_all")


@coordinator("RUNG-8", also=("CONFLICT-9",))
async def a_rung_that_has_used_its_limit_is_over(under: Coordinator) -> None:
    """One judge uses up the rung's limit: the other is told to stop, and the next rung is tried."""
    judging = under.skill("judge")
    judge = await under.peer(skills=(judging,))
    rung = {"strategy": "judge", "skill": judging, "costMicro": 10}
    group = await Group.of(under, 2, policy=ladder(rung, "human", "abort"))
    await group.answer("x", "y")
    conflict = (await group.opened()).body["conflict"]
    first, second = [await judge.offered() for _ in range(2)]
    await judge.heartbeat(second)
    await _gives_up(judge, first, 10)
    await judge.take("task.revoke", task=second.task)
    judged, waiting = (await record(group.client, conflict))["stages"]
    seen = [judged["outcome"], judged["costMicro"], judged["why"][:4], waiting["strategy"], waiting["outcome"]]
    check(
        seen == ["undecided", 10, "cost", "human", "open"], "undecided for its cost, then a person", [judged, waiting]
    )


@coordinator("RUNG-8")
async def a_ladder_that_has_used_its_limit_goes_to_its_last_rung(under: Coordinator) -> None:
    """Once the ladder's limit is used, nobody is asked or waited for any longer, and the last rung decides."""
    judging = under.skill("judge")
    judge = await under.peer(skills=(judging,))
    rung = {"strategy": "judge", "skill": judging}
    group = await Group.of(under, 2, policy=ladder(rung, "human", rung, "first_wins"), costMicro=10)
    await group.answer("x", "y")
    conflict = (await group.opened()).body["conflict"]
    asked = [await judge.offered() for _ in range(2)]
    await _gives_up(judge, asked[0], 10)
    await group.resolved(outcome="select", by="first_wins")
    await judge.nothing("task.offer")
    stages = (await record(group.client, conflict))["stages"]
    seen = [(stage["outcome"], stage["why"].startswith("cost")) for stage in stages]
    check(seen == [("undecided", True)] * 3 + [("decided", False)], "three rungs undecided for the cost", stages)


@coordinator("RUNG-9", also=("BUDGET-3",))
async def what_a_rungs_task_used_is_counted_once_above(under: Coordinator) -> None:
    """A judge's budget is no more than the group has left, and the group has used what both judges used."""
    judging = under.skill("judge")
    judge = await under.peer(skills=(judging,))
    rung = {"strategy": "judge", "skill": judging, "costMicro": 100}
    group = await Group.of(under, 2, policy=ladder(rung, "abort"), budget={"costMicro": 9})
    await group.answer("x", "y")
    asked = [await judge.offered() for _ in range(2)]
    budgets = [offer.body["budget"]["costMicro"] for offer in asked]
    check(budgets == [5, 4], "budgets of 5 and 4, of the 9 there are", budgets)
    for offer in asked:
        await judge.admitted(offer, {"choice": 0}, usage={"costMicro": 3})
    await group.resolved(outcome="reject_all")
    usage = (await group.client.view(group.task))["metadata"].get("usage") or {}
    check(usage.get("costMicro") == 6, "6 millionths used", usage)


@coordinator("RUNG-1")
async def an_irreversible_task_ends_with_abort(under: Coordinator) -> None:
    """A ladder that ends in `first_wins` is `malformed` if the task's effect is irreversible."""
    client = await under.peer()
    spec = {"redundancy": {"n": 2, "policy": ladder("majority", "first_wins")}, "effect": "irreversible"}
    await client.refused("malformed", "task.delegate", **client.delegation(under.skill(), spec=spec))


@coordinator("CONFLICT-8", also=("CONFLICT-7",))
async def an_irreversible_outcome_waits_for_an_appeal(under: Coordinator) -> None:
    """If the effect is irreversible, the outcome waits; an author appeals once, and the ladder goes on above."""
    rungs = ladder("majority", {"strategy": "human", "timeoutMs": 300, "onTimeout": "abort"}, "abort")
    group = await Group.of(under, policy=rungs, spec={"effect": "irreversible"})
    await group.answer("x", "y", "x")
    conflict = (await group.opened(group.workers[1])).body["conflict"]
    check(await group.client.state(group.task) == "disputed", "the group disputed still", "")
    appeal = {"conflict": conflict, "ground": "new_evidence", "payload": parts("look again")}
    stranger = await under.peer()
    await stranger.refused("forbidden", "conflict.appeal", **appeal)
    answer = await group.workers[1].request("conflict.appeal", **appeal)
    check(answer.kind == "ok", "ok", answer)
    second = await group.workers[0].request("conflict.appeal", **appeal)
    check(second.kind == "error", "an error: one appeal for a conflict", second)
    await group.resolved(outcome="reject_all")
    await group.client.settled(group.task, state="failed", reason="unresolved")


@coordinator("CONFLICT-11", also=("CONFLICT-12", "CONFLICT-15"))
async def a_raised_conflict_disputes_the_results_it_is_about(under: Coordinator) -> None:
    """Two results that a member says contradict each other are disputed; a repeat is the same conflict."""
    skill = under.skill()
    worker, client, witness = await under.peer(skills=(skill,)), await under.peer(), await under.peer()
    tasks = []
    for value in ("x", "y"):
        created = await client.delegate(skill, value)
        await worker.admitted(await worker.offered(created.task), value)
        await client.reviewed(created.task)
        tasks.append(created.task)
    said = {"conflictKind": "result", "subjects": [{"task": task} for task in tasks], "claim": "x is not y"}
    first = await witness.request("conflict.raise", **said)
    check(first.kind == "conflict.raised" and first.body.get("created") is True, "conflict.raised, created", first)
    again = await witness.request("conflict.raise", **said)
    same = (again.body.get("conflict"), again.body.get("created"))
    check(same == (first.body["conflict"], False), "the same conflict", again)
    opened = await client.take("conflict.opened", conflict=first.body["conflict"])
    check(opened.body.get("rule") == "raise" and len(opened.body["subjects"]) == 2, "rule raise, two subjects", opened)
    page = await client.request("conflict.list", task=tasks[0])
    check([view.get("conflict") for view in page.body["conflicts"]] == [first.body["conflict"]], "it is listed", page)
    states = [await client.state(task) for task in tasks]
    check(states == ["disputed", "disputed"], "both disputed", states)
    for task in tasks:
        await client.request("task.cancel", task=task)


async def reported(under: Coordinator, client: Peer, *values: Any) -> list[str]:
    """Have tasks done, each by its own agent, and return them, unconfirmed, in the order of their reports."""
    tasks = []
    for value in values:
        skill = under.skill()
        worker = await under.peer(skills=(skill,))
        created = await client.delegate(skill, value)
        await worker.admitted(await worker.offered(created.task), value)
        await client.reviewed(created.task)
        tasks.append(created.task)
    return tasks


async def raised(peer: Peer, kind: str, *subjects: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Raise a conflict and return the body of the answer."""
    answer = await peer.request("conflict.raise", conflictKind=kind, subjects=list(subjects), **fields)
    check(answer.kind == "conflict.raised", "conflict.raised", answer)
    body: dict[str, Any] = answer.body
    return body


ONE, TWO = {"value": b"1"}, {"value": b"2"}


@coordinator("CONFLICT-12", also=("CONFLICT-11", "CONFLICT-15"))
async def a_raise_joins_what_is_open(under: Coordinator) -> None:
    """A raise is about the result reported first; the raiser is a party; another principal's raise about it joins."""
    client, one, two = [await under.peer() for _ in range(3)]
    first, second, third = await reported(under, client, "x", "y", "z")
    answer = await raised(one, "result", {"task": second}, {"task": first})
    check(answer.get("object") == f"task:{first}", f"task:{first}", answer)
    opened = await one.take("conflict.opened", conflict=answer["conflict"])
    check(opened.body.get("yourRole") == "raiser", "the raiser's role", opened)
    check(await client.state(second) == "disputed", "state disputed", "")
    word = await client.request(
        "task.confirm", task=second, rev=0, verdict="accept", resultHash=_hash_of(opened, second)
    )
    check(word.kind == "error" and word.code == "conflict", "error conflict to a word on it", word)
    same = await raised(await under.peer(f"{one.name}#2"), "result", {"task": first}, {"task": second})
    check(len((await record(one, answer["conflict"])).get("raises") or []) == 1, "a repeat of its principal", same)
    other = await raised(two, "result", {"task": second}, {"task": third})
    told = (other["conflict"], other["created"], other["isOpen"])
    check(told == (answer["conflict"], False, True), "the conflict that disputes one of them", other)
    check(len((await record(one, answer["conflict"])).get("raises") or []) == 2, "what was said kept", other)
    for task in (first, second, third):
        await client.request("task.cancel", task=task)


def _hash_of(opened: Frame, task: str) -> str:
    return next(str(subject["resultHash"]) for subject in opened.body["subjects"] if subject["ref"] == task)


@coordinator("CONFLICT-12", also=("CONFLICT-13", "RUNG-1"))
async def a_raise_that_was_decided_is_answered_with_its_end(under: Coordinator) -> None:
    """Of two instructions the first wins at once; the same raise again returns that conflict, which is over."""
    client, peer = await under.peer(), await under.peer()
    (task,) = await reported(under, client, "x")
    answer = await raised(peer, "instruction", ONE, TWO, object=f"task:{task}")
    await peer.take("conflict.resolved", conflict=answer["conflict"], by="first_wins")
    again = await raised(peer, "instruction", ONE, TWO, object=f"task:{task}")
    told = (again["conflict"], again["created"], again["isOpen"])
    check(told == (answer["conflict"], False, False), "the conflict there was", again)


@coordinator("CONFLICT-11", also=("CONFLICT-12",))
async def one_conflict_is_open_about_a_kind_and_an_object(under: Coordinator) -> None:
    """Values that two members raise about one artifact are one conflict; a raise of another kind is another."""
    client, one, two = [await under.peer() for _ in range(3)]
    (task,) = await reported(under, client, "x")
    about = f"task:{task}"
    answer = await raised(one, "artifact", ONE, TWO, object=about)
    other = await raised(two, "artifact", ONE, {"value": b"3"}, object=about)
    check((other["conflict"], other["created"]) == (answer["conflict"], False), "the conflict there is", other)
    third = await raised(two, "result", ONE, {"value": b"3"}, object=about)
    check(third["created"] and third["conflict"] != answer["conflict"], "another one", third)


@coordinator("CONFLICT-12", also=("LIMIT-11",))
async def a_raise_that_says_nothing_is_refused(under: Coordinator) -> None:
    """No object, a subject that is two things or occurs twice, equal subjects and a single one are `malformed`."""
    client, peer = await under.peer(), await under.peer()
    task, equal, fine = await reported(under, client, "x", "x", "y")
    about = {"object": f"task:{task}"}
    wrong: tuple[tuple[str, str, list[dict[str, Any]], dict[str, Any]], ...] = (
        ("malformed", "result", [ONE, TWO], {}),
        ("malformed", "result", [ONE, ONE], about),
        ("malformed", "result", [{"task": task}, {"task": equal}], {}),
        ("malformed", "result", [{"task": task}, {"task": task}, {"task": fine}], {}),
        ("malformed", "result", [{"task": task} | ONE, TWO], {}),
        ("malformed", "result", [{"task": task}], {}),
        ("not_found", "identity", [ONE, TWO], {"object": f"agent:{under.name()}"}),
        ("too_large", "result", [{"value": b"%d" % number} for number in range(17)], about),
    )
    for code, kind, subjects, fields in wrong:
        await peer.refused(code, "conflict.raise", conflictKind=kind, subjects=subjects, **fields)


@coordinator("CONFLICT-12", also=("RUNG-3", "GROUP-2"))
async def there_is_no_conflict_about_a_conflict(under: Coordinator) -> None:
    """A raise about a conflict, a judge's task in one, or a group that is not decided is `denied`."""
    judging = under.skill("judge")
    judge = await under.peer(skills=(judging,))
    client, peer = await under.peer(), await under.peer()
    one, two = await reported(under, client, "x", "y")
    rung = {"strategy": "judge", "skill": judging}
    group = await Group.of(under, 2, policy=ladder(rung, "abort"))
    values = {"conflictKind": "result", "subjects": [ONE, TWO]}
    await peer.refused("denied", "conflict.raise", **values, object=f"task:{group.task}")
    await group.answer("x", "y")
    conflict = (await group.opened()).body["conflict"]
    await peer.refused("denied", "conflict.raise", **values, object=f"conflict:{conflict}")
    asked = await judge.offered()
    await judge.admitted(asked, {"choice": 0})
    subjects = [{"task": asked.task}, {"task": one}]
    await peer.refused("denied", "conflict.raise", conflictKind="result", subjects=subjects, object=f"task:{two}")
    await group.client.request("task.cancel", task=group.task)


@coordinator("CONFLICT-12", also=("ACCEPT-6",))
async def a_worker_contests_a_rejection(under: Coordinator) -> None:
    """The worker of a rejected result raises it alone, by rule `r4`; another agent is `forbidden` to."""
    skill = under.skill()
    worker, client, other = await under.peer(skills=(skill,)), await under.peer(), await under.peer()
    created = await client.delegate(skill)
    await worker.admitted(await worker.offered(created.task))
    await client.confirm(await client.reviewed(created.task), "reject")
    await other.refused("forbidden", "conflict.raise", conflictKind="result", subjects=[{"task": created.task}])
    answer = await raised(worker, "result", {"task": created.task})
    opened = await worker.take("conflict.opened", conflict=answer["conflict"])
    check((opened.body.get("rule"), len(opened.body["subjects"])) == ("r4", 2), "rule r4, two subjects", opened)


@coordinator("CONFLICT-12", also=("ERR-1",))
async def a_raise_about_nothing_is_refused(under: Coordinator) -> None:
    """A raise about an unknown task is `not_found`, one of an unknown kind `malformed`."""
    peer = await under.peer()
    await peer.refused(
        "not_found", "conflict.raise", conflictKind="result", subjects=[{"task": "no-such"}, {"task": "nor-this"}]
    )
    await peer.refused("malformed", "conflict.raise", conflictKind="mood", subjects=[{"value": b"1"}])


@coordinator("CONFLICT-14", also=("CONFLICT-11", "RUNG-6", "CTX-5"))
async def two_values_for_a_decision_are_a_conflict(under: Coordinator) -> None:
    """Another value for a decision that has moved opens a conflict about the key, which is blocked; a merge ends it."""
    one, two, context = await under.peer(), await under.peer(), under.name("context")

    async def write(peer: Peer, rev: int, value: bytes) -> Frame:
        operation = {"key": "decisions/a", "ifRev": rev, "value": value}
        return await peer.request("context.write", contextId=context, key=peer.next_id(), ops=[operation])

    await write(one, 0, b'{"base":1}')
    await write(one, 1, b'{"base":1,"one":1}')
    lost = await write(two, 1, b'{"base":1,"two":2}')
    check(lost.kind == "error" and lost.code == "conflict", "error conflict", lost)
    conflict = (lost.body.get("data") or {}).get("conflict")
    check(bool(conflict), "the conflict in data", lost)
    opened = await two.take("conflict.opened", conflict=conflict)
    told = (opened.body.get("rule"), opened.body.get("conflictKind"))
    check(told == ("c4", "context"), "rule c4, kind context", opened)
    await two.take("conflict.resolved", conflict=conflict, outcome="merge")
    values = await one.request("context.read", contextId=context, keys=["decisions/a"])
    value = json.loads(as_bytes(values.body["values"][0]["payload"]))
    check(value == {"base": 1, "one": 1, "two": 2}, "both changes", values)


async def told_of(peer: Peer, context: str, *ops: dict[str, Any], **fields: Any) -> str | None:
    """Make a write that has to lose, and return the conflict that the refusal names, or None."""
    fields = {"key": peer.next_id()} | fields
    lost = await peer.request("context.write", contextId=context, ops=list(ops), **fields)
    check(lost.kind == "error" and lost.code == "conflict", "error conflict", lost)
    conflict: str | None = (lost.body.get("data") or {}).get("conflict")
    return conflict


@coordinator("CONFLICT-14", also=("CTX-4",))
async def not_every_write_that_lost_is_a_conflict(under: Coordinator) -> None:
    """Two keys, a premise, `rebases`, a value of the same principal, the same value and a plain key open none."""
    name, context = under.name("writer"), under.name("context")
    one, same, two = await under.peer(f"{name}#1"), await under.peer(f"{name}#2"), await under.peer()
    for rev in range(2):
        for key in ("decisions/a", "plain"):
            op = {"key": key, "ifRev": rev, "value": b"%d" % rev}
            await one.request("context.write", contextId=context, key=one.next_id(), ops=[op])
    lost = {"key": "decisions/a", "ifRev": 1, "value": b"7"}
    tries: tuple[tuple[Peer, list[dict[str, Any]], dict[str, Any]], ...] = (
        (two, [lost, {"key": "new", "value": b"1"}], {}),
        (two, [lost], {"depends": [{"key": "plain", "rev": 2}]}),
        (two, [lost], {"rebases": True}),
        (same, [lost], {}),
        (two, [lost | {"value": b"1"}], {}),
        (two, [lost | {"key": "plain"}], {}),
    )
    for peer, ops, fields in tries:
        conflict = await told_of(peer, context, *ops, **fields)
        check(conflict is None, f"no conflict from {ops} {fields}", conflict)


@coordinator("CONFLICT-14", also=("CONFLICT-11",))
async def who_insists_opens_a_conflict(under: Coordinator) -> None:
    """The third write in a row for a past revision opens one, by rule `c1`; a repeat and a newer revision do not."""
    context, (one, two) = under.name("context"), [await under.peer() for _ in range(2)]
    for rev in range(3):
        op = {"key": "a", "ifRev": rev, "value": b'"%d"' % rev}
        await one.request("context.write", contextId=context, key=one.next_id(), ops=[op])
    for key, rev in (("k1", 1), ("k2", 1), ("k2", 1), ("k3", 2), ("k4", 2)):
        conflict = await told_of(two, context, {"key": "a", "ifRev": rev, "value": b"7"}, key=key)
        check(conflict is None, f"no conflict with {key}", conflict)
    conflict = await told_of(two, context, {"key": "a", "ifRev": 1, "value": b"7"}, key="k5")
    check(conflict is not None, "a conflict", conflict)
    opened = await two.take("conflict.opened", conflict=conflict)
    check(opened.body.get("rule") == "c1", "rule c1", opened)


@coordinator("CONFLICT-14", also=("CTX-5", "CONFLICT-6"), needs=(Need.OPERATOR,))
async def one_key_is_not_written_while_it_is_decided(under: Coordinator) -> None:
    """A correct write to the key names the conflict, another key is written; none opens again soon after its end."""
    context, operator = under.name("context"), await under.operator()
    one, two = await under.peer(), await under.peer()

    async def write(peer: Peer, key: str, **op: Any) -> Frame:
        return await peer.request(
            "context.write", contextId=context, key=peer.next_id(), ops=[{"key": key, "value": b'"1"'} | op]
        )

    for rev in range(2):
        await write(one, "a", ifRev=rev, guarded=True, value=b'"%d"' % rev)
    conflict = await told_of(two, context, {"key": "a", "ifRev": 1, "value": b'"other"'})
    check(conflict is not None, "a conflict", conflict)
    again = await told_of(one, context, {"key": "a", "ifRev": 2, "value": b'"next"'})
    check(again == conflict, "the conflict, of a write for the revision that is there", again)
    beside = await write(one, "b")
    check(beside.kind == "context.written", "context.written of another key", beside)
    await ok(operator, "conflict.vote", conflict=conflict)
    await two.take("conflict.resolved", conflict=conflict)
    soon = await told_of(two, context, {"key": "a", "ifRev": 1, "value": b'"third"'})
    check(soon is None, "no conflict so soon", soon)


@coordinator("CONFLICT-17", also=("WAIT-2",))
async def a_broken_circle_is_noted(under: Coordinator) -> None:
    """A circle of two waits is a conflict of kind `resource` by rule `s2`, over at once, for the wait that goes on."""
    names = sorted(under.name("a") for _ in range(2))
    one, two = await under.peer(), await under.peer()
    for peer, name in zip((one, two), names, strict=True):
        answer = await peer.request("claim.acquire", claimNo=1, claims=[{"name": name}])
        check(answer.kind == "claim.granted", "claim.granted", answer)
    await one.request("claim.acquire", claimNo=2, claims=[{"name": names[1]}], waitMs=60_000)
    answer = await two.request("claim.acquire", claimNo=2, claims=[{"name": names[0]}], waitMs=60_000)
    check(answer.code == "deadlock", "error deadlock", answer)
    resolved = await one.take("conflict.resolved", object=f"resource:{names[0]}")
    view = await record(one, resolved.body["conflict"])
    told = (view.get("kind"), view.get("rule"), view.get("isOpen"))
    check(told == ("resource", "s2", False), "a closed conflict of kind resource by rule s2", view)
    stands = next(subject for subject in view["subjects"] if subject["ref"] == resolved.body.get("ref"))
    check(stands.get("agent") == one.name, f"the wait of {one.name}", view)
    await two.request("claim.acquire", claimNo=3, claims=[{"name": names[0]}], waitMs=60_000)
    page = await one.request("conflict.list", conflictKind="resource", object=f"resource:{names[0]}")
    check(len(page.body["conflicts"]) == 1, "recorded once in a minute", page)


@coordinator("CONFLICT-17", also=("CONFLICT-13", "ID-6"))
async def two_processes_of_one_agent_are_a_conflict(under: Coordinator) -> None:
    """A second instance takes over: recorded by rule `d1` as a conflict of kind `identity`, which is over at once."""
    name = under.name("worker")
    await under.peer(name, skills=(under.skill(),))
    newer = await under.peer(name, skills=(under.skill(),))
    page = await newer.request("conflict.list", conflictKind="identity", object=f"agent:{name}")
    views = page.body.get("conflicts") or [{}]
    told = (views[0].get("rule"), views[0].get("isOpen"))
    check(told == ("d1", False), "a closed conflict by rule d1", page)


@coordinator("RUNG-5", also=("CONFLICT-13", "CONFLICT-14", "RUNG-1"))
async def who_delegated_outranks_who_works(under: Coordinator) -> None:
    """Of two values for a decision that cannot be merged, the delegator's stands over its worker's."""
    skill, context = under.skill(), under.name("context")
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, contextId=context)
    offer = await worker.offered(created.task)

    async def write(peer: Peer, rev: int, value: bytes, **fields: Any) -> Frame:
        operation = {"key": "decisions/a", "ifRev": rev, "value": value}
        return await peer.request("context.write", contextId=context, key=peer.next_id(), ops=[operation], **fields)

    await write(client, 0, b'"first"')
    await write(worker, 1, b'"worker"', attempt={"task": offer.task, "fence": offer.fence})
    lost = await write(client, 1, b'"delegator"')
    conflict = (lost.body.get("data") or {}).get("conflict")
    resolved = await client.take("conflict.resolved", conflict=conflict)
    check(resolved.body.get("by") == "authority", "decided by authority", resolved)
    values = await client.request("context.read", contextId=context, keys=["decisions/a"])
    check(as_bytes(values.body["values"][0]["payload"]) == b'"delegator"', "the delegator's value", values)


@coordinator("RUNG-5", also=("CONFLICT-13", "CONFLICT-14"))
async def what_an_operator_wrote_first_stands(under: Coordinator) -> None:
    """Of two values for a decision that cannot be merged, an operator's stands over a member's that came later."""
    context, operator, client = under.name("context"), await under.operator(), await under.peer()
    for number, (peer, value) in enumerate(((operator, b'"operator"'), (client, b'"member"'))):
        operation = {"key": "decisions/a", "ifRev": 0, "value": value}
        answer = await peer.request("context.write", contextId=context, key=f"w{number}", ops=[operation])
    conflict = (answer.body.get("data") or {}).get("conflict")
    resolved = await client.take("conflict.resolved", conflict=conflict)
    check(
        (resolved.body.get("by"), resolved.body.get("ref")) == ("authority", "revision-1"), "the operator's", resolved
    )
    values = await client.request("context.read", contextId=context, keys=["decisions/a"])
    check(as_bytes(values.body["values"][0]["payload"]) == b'"operator"', "the operator's value", values)


@coordinator("CONFLICT-18", also=("CONFLICT-17",))
async def an_agent_that_is_taken_again_and_again_is_kept_from_both(under: Coordinator) -> None:
    """The third takeover of a process that answers is refused with `denied`, and names a conflict by rule `d2`."""
    name, skill = under.name("worker"), under.skill()
    for _ in range(2):
        await under.peer(name, skills=(skill,))
    seated = await under.peer(name, skills=(skill,))
    one = await under.connect(name=name)
    await one.refused("denied", "hello", **under.hello(name, skill))
    ping = await seated.take("ping")
    await seated.send("pong", re=ping.id, nonce=ping.body.get("nonce", ""))
    await seated.settle()
    two = await under.connect(name=name)
    error = await two.refused("denied", "hello", **under.hello(name, skill))
    conflict = str((error.body.get("data") or {}).get("conflict"))
    view = await record(seated, conflict)
    told = (view.get("kind"), view.get("rule"), view.get("isOpen"))
    check(told == ("identity", "d2", True), "an open conflict of kind identity by rule d2", view)
    client = await under.peer()
    await client.delegate(skill)
    await seated.nothing("task.offer")


def patch_of(of: str, path: str, *, base: str = "r1", value: int = 1) -> bytes:
    """Return a result: one artifact that is a JSON Patch of one place."""
    operations = [{"op": "replace", "path": path, "value": value}]
    parts = [{"data": operations, "mediaType": "application/json-patch+json"}]
    artifact = {"artifactId": "patch", "metadata": {"patch": {"of": of, "base": base}}, "parts": parts}
    return json.dumps([artifact], separators=(",", ":")).encode()


@coordinator("PATCH-3", also=("PATCH-1", "PATCH-2", "CONFLICT-11", "COMPARE-3"))
async def two_patches_of_one_place_collide(under: Coordinator) -> None:
    """Two results in one context that patch the same place of one base are a conflict by rule `a1`, told to both."""
    skill, context, thing = under.skill(), under.name("context"), under.name("thing")
    credit = {"tasks": 1, "frames": 256}
    worker, other = [await under.peer(skills=(skill,), credit=credit) for _ in range(2)]
    client = await under.peer()
    for number in range(2):
        await client.delegate(skill, number, contextId=context)
    offers = [(peer, await peer.offered()) for peer in (worker, other)]
    for number, (peer, offer) in enumerate(offers):
        named = [{"of": thing, "base": "r1"}]
        await peer.admitted(offer, payload=patch_of(thing, "/a/b", value=number), patches=named)
    opened = await client.take("conflict.opened")
    told = (opened.body.get("rule"), opened.body.get("conflictKind"), len(opened.body["subjects"]))
    check(told == ("a1", "artifact", 2), "rule a1, kind artifact, two subjects", opened)
    for _, offer in offers:
        check(await client.state(offer.task) == "disputed", "state disputed", "")
    for _, offer in offers:
        await client.request("task.cancel", task=offer.task)


@coordinator("PATCH-2", also=("PATCH-3",))
async def patches_of_other_places_or_bases_do_not_collide(under: Coordinator) -> None:
    """Results that patch another place, another base or another thing are each accepted."""
    skill, context, thing = under.skill(), under.name("context"), under.name("thing")
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    for number, (of, path, base) in enumerate(
        ((thing, "/a", "r1"), (thing, "/b", "r1"), (thing, "/a", "r2"), (thing + "2", "/a", "r1"))
    ):
        created = await client.delegate(skill, number, contextId=context)
        offer = await worker.offered(created.task)
        named = [{"of": of, "base": base}]
        await worker.admitted(offer, payload=patch_of(of, path, base=base), patches=named)
        answer = await client.confirm(await client.reviewed(created.task))
        check(answer.body.get("state") == "completed", "completed", answer)
    await client.nothing("conflict.opened")
