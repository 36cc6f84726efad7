"""Cases of section 15 about what tasks share: claims, contexts and conflicts, after the coordinator was killed."""

from __future__ import annotations

import functools
from typing import Any

from ..case import Need, Role, Skipped, case
from ..conversation import check
from ..peer import Coordinator, Peer
from ..scenes import LONG, at, ok, only
from ..wire import parts
from .claims import claim, denied, granted, queued, shared
from .conflicts import ABORT, ONE, TWO, Group, ladder, patch_of, raised, record, reported, told_of
from .contexts import read, refused_for, value_of, write, written
from .restarts import SAME, restarted

coordinator = functools.partial(case, Role.COORDINATOR, needs=(Need.RESTART,))


async def listed(peer: Peer, name: str) -> tuple[list[dict[str, Any]], list[tuple[int | None, int]]]:
    """Return what `claim.list` shows for a name without times, and for each claim its time left and its age."""
    page = await peer.request("claim.list", name=name)
    claims: list[dict[str, Any]] = page.body["claims"]
    return claims, [(shown.pop("ttlMs", None), shown.pop("sinceMs", 0)) for shown in claims]


@coordinator("DURABLE-5", also=("CLAIM-2", "CLAIM-3", "CLAIM-5", "CLAIM-7", "CLAIM-10", "TIME-5"))
async def who_has_and_who_waits_is_the_same_after_a_crash(under: Coordinator) -> None:
    """Claims are listed as before, with less time left; a preemptible one is called back, the line keeps its order."""
    root, names = under.name("a"), [under.name(word) for word in ("holder", "old", "urgent", "high")]
    one, two, three, high = [await under.peer(name, **SAME) for name in names]
    fence = await granted(one, 1, f"{root}/x", ttlMs=600_000)
    await granted(one, 2, shared(f"{root}/shared"), ttlMs=600_000)
    willing = await granted(one, 3, f"{root}/willing", ttlMs=600_000, preemptible=True)
    await queued(two, 1, f"{root}/x", waitMs=600_000)
    await queued(three, 1, f"{root}/x", waitMs=600_000, priority=9)
    before, times = await listed(two, f"{root}/**")
    passed = await restarted(under)
    one, two, three, high = [await under.peer(name, **SAME) for name in names]
    after, later = await listed(two, f"{root}/**")
    check(after == before, f"{before}", after)
    for (was_left, was_since), (left, since) in zip(times, later, strict=True):
        goes_on = left is None if was_left is None else left is not None and 0 < left <= was_left - passed
        check(goes_on and since >= was_since + passed, f"times {passed} ms on from {times}", later)
    await granted(two, 2, shared(f"{root}/shared"))
    await denied(two, 3, f"{root}/shared")
    await queued(high, 1, f"{root}/willing", priority=1)
    await one.take("claim.preempt", claimFence=willing)
    for current, following in ((one, three), (three, two)):
        await ok(current, "claim.release", claimFence=fence)
        grant = await following.take("claim.granted", claimNo=1)
        check(grant.body["claimFence"] > fence, "a greater fence", grant)
        fence = grant.body["claimFence"]


@coordinator("DURABLE-5", also=("CLAIM-10", "MAIL-4", "MAIL-6"))
async def who_was_called_back_is_so_after_a_crash(under: Coordinator) -> None:
    """The holder did not acknowledge its recall: it is told again, once, with what is left of the grace."""
    name, names = under.name("a"), [under.name(word) for word in ("holder", "high")]
    one, high = [await under.peer(who, **SAME) for who in names]
    one.acknowledges = False
    fence = await granted(one, 1, name, ttlMs=600_000, preemptible=True)
    await queued(high, 1, name, priority=2)
    grace = (await one.take("claim.preempt", claimFence=fence)).body["graceMs"]
    passed = await restarted(under)
    one, high = [await under.peer(who, **SAME) for who in names]
    word = await one.take("claim.preempt", claimFence=fence)
    left = max(0, grace - passed)
    check(word.body.get("graceMs", 0) <= left, f"at most {left} ms of its grace", word)
    await one.nothing("claim.preempt")
    await ok(one, "claim.release", claimFence=fence)
    await high.take("claim.granted", claimNo=1)


@coordinator("DURABLE-5", also=("CLAIM-4",))
async def numbers_of_claims_are_known_after_a_crash(under: Coordinator) -> None:
    """A held claim has its fence, one in line its position; one that ended and one skipped are stale."""
    (name, free), (who, waits) = [[under.name(word) for word in words] for words in (("a", "b"), ("holder", "waits"))]
    one, two = await under.peer(who, **SAME), await under.peer(waits, **SAME)
    await ok(one, "claim.release", claimFence=await granted(one, 2, free))
    fence = await granted(one, 4, name)
    await queued(two, 1, name)
    await under.restart()
    one, two = await under.peer(who, **SAME), await under.peer(waits, **SAME)
    check(await granted(one, 4, name) == fence, f"the fence {fence}", "")
    check((await queued(two, 1, name)).body.get("position") == 1, "position 1", "")
    other = await claim(one, 4, name + "/other")
    check(other.code == "idempotency_mismatch", "error idempotency_mismatch", other)
    for number in (2, 3):
        answer = await claim(one, number, free)
        check(answer.code == "stale", f"error stale to claim {number}", answer)


@coordinator("DURABLE-5", also=("CLAIM-8", "CLAIM-9", "CLAIM-11"))
async def claims_of_an_attempt_are_its_own_after_a_crash(under: Coordinator) -> None:
    """An attempt's claims, those of its lease and its own, are held under its fence, and free after its report."""
    skill, root, who, name = under.skill(), under.name("a"), under.name("client"), under.name("worker")
    worker, client = await under.peer(name, skills=(skill,), **SAME), await under.peer(who)
    created = await client.delegate(skill, spec={"resources": [{"name": f"{root}/given"}]}, timers=LONG)
    offer = await worker.offered(created.task)
    await worker.heartbeat(offer)
    asked = await granted(worker, 1, f"{root}/asked", **at(offer))
    await under.restart()
    worker, client = await under.peer(name, skills=(skill,), held=[at(offer)], **SAME), await under.peer(who)
    shown, _ = await listed(client, f"{root}/**")
    held = {(item["task"], item["fence"], item["claimFence"]) for item in shown}
    check(held == {(offer.task, offer.fence, fence) for fence in (offer.fence, asked)}, "both claims", shown)
    for word in ("given", "asked"):
        await denied(client, 1, f"{root}/{word}")
    check(await granted(worker, 1, f"{root}/asked", **at(offer)) == asked, "the claim there is", "")
    await worker.admitted(offer)
    await granted(client, 2, f"{root}/**")


@coordinator("DURABLE-5", also=("CTX-2", "CTX-3", "CTX-5", "CTX-6", "CTX-7", "CTX-8"))
async def a_contexts_past_is_known_after_a_crash(under: Coordinator) -> None:
    """Every revision is read as before, deletes too; marks hold, repeats are known, a watch begins after its place."""
    who, context = under.name("writer"), under.name("context")
    one = await under.peer(who)
    for operation in ({"value": b"1"}, {"value": b"2"}, {"delete": True}):
        await written(one, context, {"key": "a"} | operation, reason="because")
    for key, mark in (("b", {"decision": True}), ("c", {"guarded": True})):
        await written(one, context, {"key": key, "ifRev": 0, "value": b"1"} | mark)
    place = (await one.request("context.read", contextId=context)).body["lsn"]
    named = ({"key": "d", "value": b"1"}, {"key": "e", "value": b"1"})
    await written(one, context, *named, key="one")
    await written(one, context, {"key": "d", "value": b"2"})
    before = await read(one, context, prefix="", history=True)
    await under.restart()
    one = await under.peer(who)
    after = await read(one, context, prefix="", history=True)
    check(after == before and len(after) == 8, f"{before}", after)
    check(value_of((await read(one, context, keys=["a"], atRev=2))[0]) == 2, "2 in revision 2 of a", "")
    check(await written(one, context, *named, key="one") == {"d": 1, "e": 1}, "the revisions it became", "")
    refused_for(await write(one, context, named[0], key="one"), "idempotency_mismatch")
    await one.request("context.watch", contextId=context, fromLsn=place)
    events = [(await one.take("context.event")).body["values"] for _ in range(2)]
    told = [[(value["key"], value["rev"]) for value in values] for values in events]
    check(told == [[("d", 1), ("e", 1)], [("d", 2)]], "the two writes behind its place", told)
    for key in ("b", "c"):
        refused_for(await write(one, context, {"key": key, "value": b"2"}), "conflict")
    check(await written(one, context, {"key": "a", "value": b"4"}) == {"a": 4}, "revision 4 of a", "")


@coordinator("DURABLE-5", also=("CTX-10", "STEER-4", "ACCEPT-4"))
async def what_a_result_waits_for_is_known_after_a_crash(under: Coordinator) -> None:
    """A result on a decision that had moved, and one that missed a word, are reviewed with that after the crash."""
    skill, context, who = under.skill(), under.name("context"), under.name("client")
    worker, client = await under.peer(skills=(skill,)), await under.peer(who)
    client.acknowledges = False
    tasks: list[str] = []
    for rev in range(2):
        await written(client, context, {"key": "decisions/a", "ifRev": rev, "value": b"1"})
    for says in ({"basis": [{"key": "decisions/a", "rev": 1}]}, {}):
        auto = {"acceptance": {"evaluator": "auto"}}
        created = await client.delegate(skill, len(tasks), contextId=context, spec=auto, timers=LONG)
        offer = await worker.offered(created.task)
        if not says:
            await ok(client, "task.steer", task=offer.task, key="one", payload=parts("more"))
        await worker.admitted(offer, **says)
        tasks.append(created.task)
    await under.restart()
    client = await under.peer(who)
    moved, missed = [await client.reviewed(task) for task in tasks]
    stale = only(moved.body.get("staleBasis", []), "key", "seen", "current")
    check(stale == [{"key": "decisions/a", "seen": 1, "current": 2}], "staleBasis of decisions/a", moved)
    check(missed.body.get("unseenSteer") is True, "unseenSteer: true", missed)
    for review in (moved, missed):
        answer = await client.confirm(review)
        check(answer.body.get("state") == "completed", "completed", answer)


async def shown(peer: Peer, conflict: str) -> dict[str, Any]:
    """Return all that is shown of a conflict, without what changes as time passes."""
    found = await peer.request("conflict.get", conflict=conflict)
    check(found.kind == "conflict.found", "conflict.found", found)
    view = {name: value for name, value in found.body["view"].items() if not name.endswith("Ms")}
    return found.body | {"view": view}


@coordinator("DURABLE-5", also=("CONFLICT-4", "CONFLICT-9", "CONFLICT-11", "CONFLICT-12", "CONFLICT-14", "MAIL-4"))
async def what_is_disputed_is_so_after_a_crash(under: Coordinator) -> None:
    """An open conflict has the same record; it disputes its subjects and blocks its key; raises join or repeat it."""
    names = [under.name(word) for word in ("client", "raiser", "other")]
    client, one, other = [await under.peer(name) for name in names]
    one.acknowledges = False
    context = under.name("context")
    first, second, third = await reported(under, client, "x", "y", "z")
    subjects = ({"task": first}, {"task": second})
    answer = await raised(one, "result", *subjects, claim="x is not y")
    for rev in range(2):
        await written(one, context, {"key": "a", "ifRev": rev, "guarded": True, "value": b'"%d"' % rev})
    contested = await told_of(other, context, {"key": "a", "ifRev": 1, "value": b'"other"'})
    check(contested is not None, "a conflict about the key", contested)
    known = (answer["conflict"], str(contested))
    await ok(one, "conflict.position", conflict=known[0], stance="x", payload=parts("as I said"))
    stranger = await under.peer()
    await stranger.refused("forbidden", "conflict.position", conflict=known[0], payload=parts("as they said"))
    before = [await shown(client, conflict) for conflict in known]
    await under.restart()
    client, one, other = [await under.peer(name) for name in names]
    after = [await shown(client, conflict) for conflict in known]
    check(after == before, f"{before}", after)
    await one.take("conflict.opened", conflict=known[0], yourRole="raiser")
    states = [await client.state(task) for task in (first, second, third)]
    check(states == ["disputed", "disputed", "reported"], "two disputed", states)
    same = await raised(one, "result", *subjects, claim="x is not y")
    check((same["conflict"], same["created"]) == (known[0], False), "the conflict there is", same)
    check(len((await record(one, known[0])).get("raises") or []) == 1, "the raise once", "")
    joins = await raised(other, "result", {"task": second}, {"task": third})
    check((joins["conflict"], joins["created"]) == (known[0], False), "the conflict there is", joins)
    blocked = await told_of(one, context, {"key": "a", "ifRev": 2, "value": b'"next"'})
    check(blocked == contested, f"the conflict {contested}", blocked)
    for task in (first, second, third):
        await client.request("task.cancel", task=task)


@coordinator("DURABLE-5", also=("CONFLICT-9", "CONFLICT-12"))
async def what_was_decided_is_so_after_a_crash(under: Coordinator) -> None:
    """The record of a closed conflict is the same with its seal, the next one follows it, and its raise repeats it."""
    who = under.name("raiser")
    client, peer = await under.peer(), await under.peer(who)
    first, second = await reported(under, client, "x", "y")
    answer = await raised(peer, "instruction", ONE, TWO, object=f"task:{first}")
    conflict = answer["conflict"]
    await peer.take("conflict.resolved", conflict=conflict)
    before = await record(peer, conflict)
    await under.restart()
    peer = await under.peer(who)
    after = await record(peer, conflict)
    check(after == before, f"{before}", after)
    again = await raised(peer, "instruction", ONE, TWO, object=f"task:{first}")
    told = (again["conflict"], again["created"], again["isOpen"])
    check(told == (conflict, False, False), "the conflict there was", again)
    following = await raised(peer, "instruction", ONE, TWO, object=f"task:{second}")
    await peer.take("conflict.resolved", conflict=following["conflict"])
    view = await record(peer, following["conflict"])
    check(view.get("prev") == before.get("seal") and bool(view.get("prev")), f"prev {before.get('seal')}", view)


@coordinator("DURABLE-5", also=("CONFLICT-6", "CONFLICT-15", "CTX-5"), needs=(Need.RESTART, Need.OPERATOR))
async def a_write_that_is_chosen_after_a_crash_is_there(under: Coordinator) -> None:
    """A chosen value for a guarded key becomes its next revision, marked as its writer wanted before the crash."""
    who, operator, context = under.name("writer"), await under.operator(), under.name("context")
    one, two = await under.peer(), await under.peer(who)
    for rev in range(2):
        await written(one, context, {"key": "a", "ifRev": rev, "guarded": True, "value": b'"%d"' % rev})
    conflict = await told_of(two, context, {"key": "a", "ifRev": 1, "value": b'"other"', "decision": True})
    check(conflict is not None, "a conflict", conflict)
    view = await record(operator, str(conflict))
    chosen = next(subject["ref"] for subject in view["subjects"] if subject.get("agent") == who)
    await under.restart()
    operator, two = await under.operator(), await under.peer(who)
    await ok(operator, "conflict.vote", conflict=conflict, choice=chosen)
    await two.take("conflict.resolved", conflict=conflict)
    (value,) = await read(two, context, keys=["a"])
    told = (value["rev"], value_of(value), bool(value.get("decision")), bool(value.get("guarded")))
    check(told == (3, "other", True, True), "the value, revision 3, a decision and guarded", value)


@coordinator("DURABLE-5", also=("GROUP-2", "COMPARE-2"))
async def a_group_counts_the_answers_from_before_a_crash(under: Coordinator) -> None:
    """An answer from before the crash and an equal one after it are enough of three."""
    group = await Group.of(under, policy=ladder({"strategy": "quorum", "k": 2}, ABORT))
    await group.answer("x")
    client, worker, offer = group.client, group.workers[1], group.offers[1]
    await under.restart()
    worker = await under.peer(worker.name, skills=(group.skill,), held=[at(offer)])
    await worker.admitted(offer, "x")
    client = await under.peer(client.name)
    await client.confirm(await client.reviewed(group.task))
    view = await client.view(group.task)
    members = (view["metadata"].get("group") or {}).get("members") or []
    check(len(members) == 3, "three members in the view", view)


@coordinator("DURABLE-5", also=("GROUP-2", "CTX-10"))
async def what_a_groups_result_relies_on_is_known_after_a_crash(under: Coordinator) -> None:
    """A decision that an answer relied on moves after the crash: the group's result waits for its confirm."""
    skill, context, who = under.skill(), under.name("context"), under.name("client")
    client = await under.peer(who)
    workers = [await under.peer(skills=(skill,)) for _ in range(2)]
    await written(client, context, {"key": "decisions/a", "ifRev": 0, "value": b"1"})
    spec = {"acceptance": {"evaluator": "auto"}, "redundancy": {"n": 2}}
    created = await client.delegate(skill, spec=spec, contextId=context, timers=LONG)
    offers = [await worker.offered() for worker in workers]
    await workers[0].admitted(offers[0], basis=[{"key": "decisions/a", "rev": 1}])
    await under.restart()
    worker, client = await under.peer(workers[1].name, skills=(skill,), held=[at(offers[1])]), await under.peer(who)
    await written(client, context, {"key": "decisions/a", "ifRev": 1, "value": b"2"})
    await worker.admitted(offers[1], basis=[{"key": "decisions/a", "rev": 1}])
    review = await client.reviewed(created.task)
    stale = only(review.body.get("staleBasis", []), "key", "seen", "current")
    check(stale == [{"key": "decisions/a", "seen": 1, "current": 2}], "staleBasis of decisions/a", review)
    await client.confirm(review)


@coordinator("DURABLE-5", also=("CONFLICT-8", "GROUP-3"))
async def an_appeal_counts_once_over_a_crash(under: Coordinator) -> None:
    """A conflict that waits for an appeal still waits after the crash; a second appeal is refused then too."""
    rungs = ladder("majority", {"strategy": "human", "timeoutMs": 600_000, "onTimeout": "abort"}, "abort")
    group = await Group.of(under, policy=rungs, spec={"effect": "irreversible"})
    await group.answer("x", "y", "x")
    conflict = (await group.opened(group.workers[1])).body["conflict"]
    before = await shown(group.client, conflict)
    await under.restart()
    authors = [await under.peer(worker.name) for worker in group.workers]
    after = await shown(authors[0], conflict)
    check(after == before, f"{before}", after)
    appeal = {"conflict": conflict, "ground": "new_evidence", "payload": parts("look again")}
    await ok(authors[1], "conflict.appeal", **appeal)
    before = await shown(authors[0], conflict)
    await under.restart()
    authors = [await under.peer(worker.name) for worker in group.workers]
    after = await shown(authors[0], conflict)
    check(after == before, f"{before}", after)
    second = await authors[0].request("conflict.appeal", **appeal)
    check(second.kind == "error", "an error: one appeal for a conflict", second)
    client = await under.peer(group.client.name)
    await client.request("task.cancel", task=group.task, mode="skip")


@coordinator("DURABLE-5", also=("PATCH-2", "PATCH-3"))
async def a_patch_collides_with_one_from_before_a_crash(under: Coordinator) -> None:
    """Two results patch one place, the second after the crash: both are a conflict by rule `a1`."""
    skill, context, thing = under.skill(), under.name("context"), under.name("thing")
    credit = {"tasks": 1, "frames": 256}
    names, who = [under.name("worker") for _ in range(2)], under.name("client")
    workers = [await under.peer(name, skills=(skill,), credit=credit, **SAME) for name in names]
    client = await under.peer(who)
    for number in range(2):
        await client.delegate(skill, number, contextId=context, timers=LONG)
    offers = [await worker.offered() for worker in workers]
    patched = [{"payload": patch_of(thing, "/a/b", value=number)} for number in range(2)]
    named = [{"of": thing, "base": "r1"}]
    await workers[0].admitted(offers[0], patches=named, **patched[0])
    await under.restart()
    client = await under.peer(who)
    worker = await under.peer(names[1], skills=(skill,), held=[at(offers[1])], credit=credit, **SAME)
    await worker.admitted(offers[1], patches=named, **patched[1])
    opened = await client.take("conflict.opened")
    told = (opened.body.get("rule"), len(opened.body["subjects"]))
    check(told == ("a1", 2), "rule a1, two subjects", opened)
    for offer in offers:
        await client.request("task.cancel", task=offer.task)


@coordinator("DURABLE-5", also=("LIMIT-9",))
async def a_full_context_is_full_after_a_crash(under: Coordinator) -> None:
    """Beyond values of 16,777,216 bytes another value is refused with `quota`, before the crash and after it, until one
    of them is deleted."""
    who, context = under.name("writer"), under.name("context")
    one = await under.peer(who)
    if one.payload_max_bytes < 262_144:
        raise Skipped("no message here is as large as the values of a write may be, 262,144 bytes")
    value = b'"' + b"x" * 65_534 + b'"'
    frames = []
    for number in range(64):
        ops = [{"key": f"{number}/{place}", "value": value} for place in range(4)]
        frames.append(one.frame("context.write", contextId=context, key=f"{number}", ops=ops))
        await one.send_frames(frames[-1])
    for frame in frames:
        answer = await one.reply(frame["id"])
        check(answer.kind == "context.written", "context.written", answer)
    more = {"key": "more", "value": b"1"}
    refused_for(await write(one, context, more), "quota")
    await under.restart()
    one = await under.peer(who)
    refused_for(await write(one, context, more), "quota")
    await written(one, context, {"key": "0/0", "delete": True})
    await written(one, context, more)
