"""Cases of section 18: claims on resources, and who waits for whom."""

from __future__ import annotations

import functools
from typing import Any

from ..case import Role, case
from ..conversation import check
from ..peer import Coordinator, Peer
from ..scenes import LONG, at, ok, only
from ..wire import Frame, parts

coordinator = functools.partial(case, Role.COORDINATOR)


async def claim(peer: Peer, number: int, *names: str | dict[str, str], **fields: Any) -> Frame:
    """Claim names, in mode `x` unless one says otherwise, and return the answer."""
    claims = [name if isinstance(name, dict) else {"name": name, "mode": "x"} for name in names]
    return await peer.request("claim.acquire", claimNo=number, claims=claims, **fields)


async def granted(peer: Peer, number: int, *names: str | dict[str, str], **fields: Any) -> int:
    """Claim names that are free and return the claim's fence."""
    answer = await claim(peer, number, *names, **fields)
    check(answer.kind == "claim.granted", "claim.granted", answer)
    return int(answer.body["claimFence"])


async def denied(peer: Peer, number: int, *names: str | dict[str, str], **fields: Any) -> Frame:
    """Claim names that are not free, without waiting, and return the error."""
    answer = await claim(peer, number, *names, **fields)
    check(answer.kind == "error" and answer.code == "denied", "error denied", answer)
    return answer


async def queued(peer: Peer, number: int, *names: str | dict[str, str], **fields: Any) -> Frame:
    """Claim names that are not free, stand in line, and return the answer."""
    answer = await claim(peer, number, *names, **({"waitMs": 60_000} | fields))
    check(answer.kind == "claim.queued", "claim.queued", answer)
    return answer


def shared(name: str) -> dict[str, str]:
    """Return the resource of this name in mode `s`."""
    return {"name": name, "mode": "s"}


async def pass_time(under: Coordinator, ms: int) -> None:
    """Wait until this much time has passed by the coordinator's clock: until a wait that begins now ends."""
    name, one, two = under.name("clock"), await under.peer(), await under.peer()
    await granted(one, 1, name)
    await queued(two, 1, name, waitMs=ms)
    await two.take("claim.denied", claimNo=1)


@coordinator("CLAIM-1")
async def names_conflict_by_what_they_stand_for(under: Coordinator) -> None:
    """A name conflicts with itself and with `/**` above it, not with names beside it; a shared one only with an `x`."""
    root = under.name("repo")
    one, two = await under.peer(), await under.peer()
    await granted(one, 1, f"{root}/a/src/**")
    for name in (f"{root}/a/src", f"{root}/a/src/x/y", f"{root}/a/src/**", f"{root}/**", f"{root}/a/**"):
        await denied(two, 1, name)
    await granted(two, 2, f"{root}/a/srcs")
    await granted(two, 3, f"{root}/a")
    await granted(two, 4, shared(f"{root}/b"))
    await granted(one, 2, shared(f"{root}/b"))
    await denied(one, 3, f"{root}/b")


@coordinator("CLAIM-1")
async def a_name_that_is_none_is_malformed(under: Coordinator) -> None:
    """An empty segment, a `*` inside and 33 segments are `malformed`."""
    peer = await under.peer()
    for name in ("a//b", "/a", "a/*/b", "a/x*", "", "/".join("a" * 33)):
        answer = await claim(peer, 1, name)
        check(answer.kind == "error" and answer.code == "malformed", f"error malformed to {name!r}", answer)


@coordinator("CLAIM-2")
async def several_names_are_granted_together(under: Coordinator) -> None:
    """A claim with one name taken holds none of the others while it waits, and gets all at once."""
    a, b = under.name("a"), under.name("b")
    one, two, three = await under.peer(), await under.peer(), await under.peer()
    fence = await granted(one, 1, a)
    await queued(two, 1, b, a)
    free = await granted(three, 1, shared(under.name("c")))
    check(free > fence, "a greater fence", free)
    await one.request("claim.release", claimFence=fence)
    grant = await two.take("claim.granted", claimNo=1)
    check([item["name"] for item in grant.body["claims"]] == sorted((a, b)), "both names, in order", grant)
    await denied(three, 2, b)


@coordinator("CLAIM-2")
async def a_name_that_is_there_twice_counts_once(under: Coordinator) -> None:
    """A name claimed both shared and alone, in either order, is granted once, and alone."""
    for turn in (1, -1):
        name, one, two = under.name("a"), await under.peer(), await under.peer()
        answer = await claim(one, 1, *[shared(name), {"name": name, "mode": "x"}][::turn])
        check(answer.kind == "claim.granted", "claim.granted", answer)
        named = only(answer.body["claims"], "name", "mode")
        check(named == [{"name": name, "mode": "x"}], "the name once, alone", answer)
        await denied(two, 1, shared(name))


@coordinator("CLAIM-3")
async def names_all_that_is_in_the_way(under: Coordinator) -> None:
    """Both holders of a shared name are named; a claim in line is in the way of later ones, as a holder is."""
    name = under.name("a")
    one, two, writer, late = [await under.peer() for _ in range(4)]
    for peer in (one, two):
        await granted(peer, 1, shared(name))
    told = str(((await denied(writer, 1, name)).body.get("data") or {}).get("holders"))
    check(one.name in told and two.name in told, f"holders with {one.name} and {two.name}", told)
    await queued(writer, 2, name)
    told = str(((await denied(late, 1, shared(name))).body.get("data") or {}).get("holders"))
    check(writer.name in told and one.name not in told, f"holders with {writer.name} alone", told)


@coordinator("CLAIM-3", also=("CLAIM-5",))
async def lists_who_has_and_who_waits(under: Coordinator) -> None:
    """Held claims come by fence, then the line, including a queued task; `name` selects all that conflicts."""
    root, skill = under.name("a"), under.skill()
    await under.peer(skills=(skill,))
    one, two, three, client = [await under.peer() for _ in range(4)]
    first = await granted(one, 1, shared(f"{root}/x"))
    second = await granted(two, 1, shared(f"{root}/y"), preemptible=True)
    await granted(two, 2, under.name("b"))
    await queued(three, 1, f"{root}/**")
    created = await client.delegate(skill, spec={"resources": [{"name": f"{root}/x"}], "priority": 2})
    await queued(two, 3, f"{root}/**", priority=1)
    page = await client.request("claim.list", name=f"{root}/**")
    claims = page.body["claims"]
    states = [(item["state"], item.get("claimFence")) for item in claims]
    expected = [("held", first), ("held", second), *[("waiting", None)] * 3]
    check(states == expected and not page.body.get("more"), f"{expected}, and no more", page)
    check([item.get("agent") for item in claims[:2]] == [one.name, two.name], "the holders", page)
    check([bool(item.get("preemptible")) for item in claims[:2]] == [False, True], "the second preemptible", page)
    line = [(item.get("position"), item.get("task") or item.get("agent")) for item in claims[2:]]
    check(line == [(1, created.task), (2, two.name), (3, three.name)], "the task, then by priority", page)
    check(one.name in str(claims[2].get("waitsFor")), f"waits for {one.name}", page)
    narrow = await client.request("claim.list", name=f"{root}/x")
    check(len(narrow.body["claims"]) == 4, "the claim on x, and the three that wait", narrow)
    for limit, shown, more in ((1, 1, True), (3, 3, True), (5, 5, False)):
        page = await client.request("claim.list", name=f"{root}/**", limit=limit)
        came = (len(page.body["claims"]), bool(page.body.get("more")))
        check(came == (shown, more), f"{shown} of 5, and whether there are more", page)
    page = await client.request("claim.list", task=created.task)
    check([item.get("task") for item in page.body["claims"]] == [created.task], "what the task waits for", page)


@coordinator("CLAIM-3")
async def says_who_is_in_the_way(under: Coordinator) -> None:
    """Without a wait the refusal names the holder; with one the claim stands in line at its position."""
    name = under.name("a")
    one, two, three = await under.peer(), await under.peer(), await under.peer()
    await granted(one, 1, name)
    error = await denied(two, 1, name)
    check(one.name in str((error.body.get("data") or {}).get("holders")), f"holders with {one.name}", error)
    check((await queued(two, 2, name)).body.get("position") == 1, "position 1", "")
    check((await queued(three, 1, name)).body.get("position") == 2, "position 2", "")


@coordinator("CLAIM-4", also=("RPC-4",))
async def a_claim_is_known_by_its_number(under: Coordinator) -> None:
    """A repeated claim is answered as it stands; with other names it is a mismatch, after its end `stale`."""
    name, peer = under.name("a"), await under.peer()
    fence = await granted(peer, 1, name)
    check(await granted(peer, 1, name) == fence, "the same fence", "")
    answer = await claim(peer, 1, name + "/other")
    check(answer.code == "idempotency_mismatch", "error idempotency_mismatch", answer)
    await peer.request("claim.release", claimFence=fence)
    answer = await claim(peer, 1, name)
    check(answer.code == "stale", "error stale", answer)


@coordinator("CLAIM-4", also=("RPC-4",))
async def a_repeat_tells_how_the_claim_stands_now(under: Coordinator) -> None:
    """A repeat in another mode is a mismatch; one in line tells its current position, a held one its time left."""
    name, (one, two, three) = under.name("a"), [await under.peer() for _ in range(3)]
    answer = await claim(one, 1, name, ttlMs=600_000)
    check((await claim(one, 1, shared(name))).code == "idempotency_mismatch", "error idempotency_mismatch", answer)
    await queued(two, 1, name)
    for position in (2, 2):
        check((await queued(three, 1, name)).body.get("position") == position, "position 2", "")
    await pass_time(under, 150)
    again = await claim(one, 1, name, ttlMs=600_000)
    check(again.body.get("claimFence") == answer.body["claimFence"], "the same fence", again)
    check(again.body.get("ttlMs", 0) <= 600_000 - 150, "what is left of 600,000 ms", again)
    await ok(one, "claim.release", claimFence=answer.body["claimFence"])
    await two.take("claim.granted", claimNo=1)
    check((await queued(three, 1, name)).body.get("position") == 1, "position 1", "")


@coordinator("CLAIM-4")
async def a_number_below_the_newest_is_stale(under: Coordinator) -> None:
    """A number that was skipped, and one denied before a newer one was used, are refused with `stale`."""
    held, (one, two) = under.name("a"), [await under.peer() for _ in range(2)]
    await granted(two, 1, held)
    for _ in range(2):
        await denied(one, 3, held)
    await granted(one, 5, under.name("b"))
    for number in (3, 4):
        answer = await claim(one, number, under.name("c"))
        check(answer.kind == "error" and answer.code == "stale", f"error stale to claim {number}", answer)
    await granted(one, 6, under.name("c"))


@coordinator("CLAIM-4")
async def numbers_begin_anew_with_the_instance_and_the_attempt(under: Coordinator) -> None:
    """Claim 1 of an agent, of its next process, of its attempt and of the next attempt are four claims."""
    who, skill, client = under.name("worker"), under.skill(), await under.peer()
    old = await under.peer(who, skills=(skill,))
    fences = {await granted(old, 1, under.name("a"))}
    worker = await under.peer(who, skills=(skill,))
    fences.add(await granted(worker, 1, under.name("b")))
    created = await client.delegate(skill, timers=LONG)
    for _ in range(2):
        offer = await worker.offered(created.task)
        fences.add(await granted(worker, 1, under.name("c"), **at(offer)))
        await ok(worker, "task.yield", **at(offer))
    check(len(fences) == 4, "four fences", fences)


@coordinator("CLAIM-5")
async def claims_in_line_are_served_by_priority_and_age(under: Coordinator) -> None:
    """Of three claims in line, the one of higher priority is granted first, then the older of two equals."""
    name = under.name("a")
    holder, old, young, urgent = [await under.peer() for _ in range(4)]
    fence = await granted(holder, 1, name)
    await queued(old, 1, name)
    await queued(young, 1, name)
    await queued(urgent, 1, name, priority=5)
    last, current = fence, holder
    for following in (urgent, old, young):
        await current.request("claim.release", claimFence=last)
        grant = await following.take("claim.granted", claimNo=1)
        check(grant.body["claimFence"] > last, "a greater fence", grant)
        last, current = grant.body["claimFence"], following


@coordinator("CLAIM-5")
async def nothing_passes_what_it_conflicts_with_in_line(under: Coordinator) -> None:
    """A shared claim that would be free waits behind an earlier exclusive claim on the name."""
    name = under.name("a")
    reader, writer, late = [await under.peer() for _ in range(3)]
    await granted(reader, 1, shared(name))
    await queued(writer, 1, name)
    await queued(late, 1, shared(name))
    await late.nothing("claim.granted")


@coordinator("CLAIM-5")
async def a_wait_is_over_in_its_time(under: Coordinator) -> None:
    """A claim that waits longer than `waitMs` is denied by mailbox with `timeout`."""
    name = under.name("a")
    one, two = await under.peer(), await under.peer()
    await granted(one, 1, name)
    await queued(two, 1, name, waitMs=150)
    word = await two.take("claim.denied", claimNo=1)
    check(word.body.get("reason") == "timeout", "reason timeout", word)


@coordinator("CLAIM-5", also=("CLAIM-8",))
async def a_wait_ends_with_its_attempt(under: Coordinator) -> None:
    """A claim that waits when its attempt ends is denied with `ended`; nothing is said about claims it held."""
    skill, name, held = under.skill(), under.name("a"), under.name("b")
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    await granted(client, 1, name)
    offer = await worker.offered((await client.delegate(skill)).task)
    await granted(worker, 1, held, **at(offer))
    await queued(worker, 2, name, **at(offer))
    await worker.admitted(offer)
    word = await worker.take("claim.denied", claimNo=2)
    told = (word.body.get("reason"), word.task, word.fence)
    check(told == ("ended", offer.task, offer.fence), "ended, and the attempt", word)
    await worker.nothing("claim.denied")


@coordinator("CLAIM-5", also=("MAIL-4", "CLAIM-7"))
async def a_grant_that_is_over_is_told_as_its_end(under: Coordinator) -> None:
    """An agent that was away while its claim was granted and ended is told `claim.denied` with `ended`."""
    name, who = under.name("a"), under.name("waits")
    holder, late = await under.peer(), await under.peer()
    same: dict[str, Any] = {"instanceId": "one", "incarnation": 9}
    one = await under.peer(who, **same)
    fence = await granted(holder, 1, name)
    await queued(one, 1, name, ttlMs=100)
    one.cut()
    await queued(late, 1, name)
    await ok(holder, "claim.release", claimFence=fence)
    await late.take("claim.granted", claimNo=1)
    back = await under.peer(who, **same)
    word = await back.take("claim.denied", claimNo=1)
    check(word.body.get("reason") == "ended", "reason ended", word)
    await back.nothing("claim.granted")


@coordinator("CLAIM-6", also=("AUTH-4",))
async def only_its_holder_gives_a_claim_back(under: Coordinator) -> None:
    """Another principal is refused with `not_holder`; another process of the holder may release; a repeat is `ok`."""
    name, who = under.name("a"), under.name("holder")
    one, thief = await under.peer(f"{who}#1"), await under.peer()
    fence = await granted(one, 1, name)
    await thief.refused("not_holder", "claim.release", claimFence=fence)
    two = await under.peer(f"{who}#2")
    for _ in range(2):
        answer = await two.request("claim.release", claimFence=fence)
        check(answer.kind == "ok", "ok", answer)
    await granted(thief, 1, name)


@coordinator("CLAIM-6")
async def a_claim_is_given_back_by_its_number(under: Coordinator) -> None:
    """Its number releases a claim, held or in line, without notice; number and fence, or neither, is `malformed`."""
    name, (one, two, three) = under.name("a"), [await under.peer() for _ in range(3)]
    fence = await granted(one, 1, name)
    await queued(two, 1, name)
    await queued(three, 1, name)
    for wrong in ({"claimFence": fence, "claimNo": 1}, {}):
        await one.refused("malformed", "claim.release", **wrong)
    await ok(two, "claim.release", claimNo=1)
    await two.nothing("claim.denied")
    await ok(one, "claim.release", claimNo=1)
    await three.take("claim.granted", claimNo=1)
    await two.nothing("claim.granted")


@coordinator("CLAIM-6", also=("AUTH-5",))
async def an_operator_releases_any_claim(under: Coordinator) -> None:
    """An operator releases a claim that another agent holds."""
    name, operator = under.name("a"), await under.operator()
    one, two = await under.peer(), await under.peer()
    fence = await granted(one, 1, name)
    await ok(operator, "claim.release", claimFence=fence)
    await granted(two, 1, name)


@coordinator("CLAIM-6", also=("AUTH-4",))
async def a_tasks_claim_is_its_attempts_alone(under: Coordinator) -> None:
    """Another process of the holder's principal neither releases nor renews a claim of this process's attempt."""
    who, skill, name = under.name("worker"), under.skill(), under.name("a")
    worker, other = await under.peer(f"{who}#1", skills=(skill,)), await under.peer(f"{who}#2")
    client = await under.peer()
    offer = await worker.offered((await client.delegate(skill)).task)
    fence = await granted(worker, 1, name, **at(offer))
    await other.refused("not_holder", "claim.release", claimFence=fence)
    await other.refused("not_holder", "claim.renew", claimFence=fence, ttlMs=100)
    await denied(client, 1, name)


@coordinator("CLAIM-7", also=("ID-8",))
async def a_claim_ends_with_its_time_and_not_with_its_connection(under: Coordinator) -> None:
    """A claim stays when its connection breaks; without `claim.renew` it ends after `ttlMs`."""
    name, who = under.name("a"), under.name("holder")
    one, two = await under.peer(who), await under.peer()
    fence = await granted(one, 1, name, ttlMs=400)
    one.cut()
    await denied(two, 1, name)
    await queued(two, 2, name)
    back = await under.peer(who)
    renewed = await back.request("claim.renew", claimFence=fence, ttlMs=300)
    check(renewed.kind == "claim.granted" and renewed.body.get("claimFence") == fence, "claim.granted", renewed)
    await two.take("claim.granted", claimNo=2)
    await back.refused("stale", "claim.renew", claimFence=fence)


@coordinator("CLAIM-7")
async def a_claim_without_a_time_has_one(under: Coordinator) -> None:
    """No `ttlMs` is a minute, or no limit for a task; a renewal without it keeps the last; only the holder renews."""
    skill, (peer, thief, client) = under.skill(), [await under.peer() for _ in range(3)]
    worker = await under.peer(skills=(skill,))
    answer = await claim(peer, 1, under.name("a"))
    check(0 < answer.body.get("ttlMs", 0) <= 60_000, "60 s", answer)
    offer = await worker.offered((await client.delegate(skill)).task)
    answer = await claim(worker, 1, under.name("b"), **at(offer))
    check(answer.kind == "claim.granted" and "ttlMs" not in answer.body, "no ttlMs", answer)
    fence = await granted(peer, 2, under.name("c"), ttlMs=7_000)
    renewed = await peer.request("claim.renew", claimFence=fence)
    check(0 < renewed.body.get("ttlMs", 0) <= 7_000, "7 s again", renewed)
    await thief.refused("not_holder", "claim.renew", claimFence=fence)


@coordinator("CLAIM-7")
async def a_renewal_begins_the_time_anew(under: Coordinator) -> None:
    """A ten-minute claim that is renewed for a moment ends after that moment; a short claim that is renewed for ten
    minutes does not end at its old time."""
    name, (one, two) = under.name("a"), [await under.peer() for _ in range(2)]
    kept = under.name("b")
    fence = await granted(one, 2, kept, ttlMs=1_500)
    await one.request("claim.renew", claimFence=fence, ttlMs=600_000)
    await pass_time(under, 1_600)
    await denied(two, 2, kept)
    fence = await granted(one, 3, name, ttlMs=600_000)
    await queued(two, 3, name)
    await one.request("claim.renew", claimFence=fence, ttlMs=100)
    await two.take("claim.granted", claimNo=3)


@coordinator("CLAIM-7")
async def the_time_of_a_claim_begins_with_its_grant(under: Coordinator) -> None:
    """A claim that stood in line for longer than its `ttlMs` is granted for all of it."""
    name, (one, two) = under.name("a"), [await under.peer() for _ in range(2)]
    fence = await granted(one, 1, name)
    await queued(two, 1, name, ttlMs=1_000)
    await pass_time(under, 1_100)
    await ok(one, "claim.release", claimFence=fence)
    grant = await two.take("claim.granted", claimNo=1)
    check(grant.body.get("ttlMs", 0) > 0, "time that is left", grant)


@coordinator("CLAIM-8")
async def a_claim_is_for_an_attempt_or_for_none(under: Coordinator) -> None:
    """A claim with only a task or only a fence is malformed, for no task `not_found`; one's own claims conflict."""
    skill, name = under.skill(), under.name("a")
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    offer = await worker.offered((await client.delegate(skill)).task)
    for wrong, code in (
        ({"task": offer.task}, "malformed"),
        ({"fence": offer.fence}, "malformed"),
        ({"task": under.name("task"), "fence": offer.fence}, "not_found"),
    ):
        answer = await claim(worker, 1, name, **wrong)
        check(answer.kind == "error" and answer.code == code, f"error {code}", answer)
    await granted(worker, 1, name)
    await denied(worker, 2, name)
    await denied(worker, 1, name, **at(offer))


@coordinator("CLAIM-8", also=("LEASE-1", "LEASE-8", "WAIT-1"))
async def a_tasks_claim_outlasts_a_lease_that_lapses(under: Coordinator) -> None:
    """A task's claim is held while no other agent has the task; a claim under the lapsed fence revives the attempt."""
    skill, name = under.skill(), under.name("a")
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    timers = {"leaseMs": 600, "offerMs": 60_000, "heartbeatMs": 200}
    offer = await worker.offered((await client.delegate(skill, timers=timers)).task)
    await granted(worker, 1, name, **at(offer))
    await ok(worker, "agent.update", status="draining")
    await ok(client, "task.watch", task=offer.task)
    await client.take("task.event", task=offer.task, event="expire")
    await denied(client, 1, name)
    await granted(worker, 2, under.name("b"), **at(offer))
    await client.take("task.event", task=offer.task, event="revive")


@coordinator("CLAIM-8", also=("FENCE-3",))
async def a_tasks_claim_ends_with_its_attempt(under: Coordinator) -> None:
    """A claim for a task is made under its fence, and its name is free once the attempt has reported."""
    skill, name = under.skill(), under.name("a")
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    offer = await worker.offered((await client.delegate(skill)).task)
    attempt = {"task": offer.task, "fence": offer.fence}
    await granted(worker, 1, name, **attempt)
    await granted(worker, 2, name, **attempt)
    await denied(client, 1, name)
    answer = await claim(client, 2, name, **attempt)
    check(answer.code == "not_holder", "error not_holder", answer)
    await worker.admitted(offer)
    await granted(client, 3, name)
    answer = await claim(worker, 3, name, **attempt)
    check(answer.code == "stale", "error stale", answer)


@coordinator("CLAIM-9")
async def resources_of_a_task_come_with_its_lease(under: Coordinator) -> None:
    """A task whose resource is taken stays queued and lets others pass; once it is free the offer names it."""
    skill, name = under.skill(), under.name("a")
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    fence = await granted(client, 1, name)
    needs = await client.delegate(skill, 1, spec={"resources": [{"name": name}]})
    passes = await client.delegate(skill, 2)
    await worker.admitted(await worker.offered(passes.task))
    await worker.nothing("task.offer", task=needs.task)
    await client.request("claim.release", claimFence=fence)
    offer = await worker.offered(needs.task)
    claims = offer.body.get("claims") or [{}]
    told = (claims[0].get("name"), claims[0].get("mode"), claims[0].get("fence"))
    check(told == (name, "x", offer.fence), "the name, alone, under the attempt's fence", offer)
    await denied(client, 2, name)
    await worker.admitted(offer)
    await granted(client, 3, name)


@coordinator("CLAIM-9")
async def a_task_stands_in_line_with_its_priority_and_age(under: Coordinator) -> None:
    """A task that an agent could take comes before a later claim, and with a higher priority before an earlier one."""
    for priority, is_later in ((0, False), (5, True)):
        skill, name = under.skill(), under.name("a")
        worker, client, holder, other = await under.peer(skills=(skill,)), *[await under.peer() for _ in range(3)]
        fence = await granted(holder, 1, name)
        if is_later:
            await queued(other, 1, name)
        created = await client.delegate(skill, spec={"resources": [{"name": name}], "priority": priority})
        if not is_later:
            await queued(other, 1, name)
        await ok(holder, "claim.release", claimFence=fence)
        offer = await worker.offered(created.task)
        await other.nothing("claim.granted")
        page = await client.request("claim.list", task=offer.task)
        held = [(item.get("claimFence"), item.get("priority", 0)) for item in page.body["claims"]]
        check(held == [(offer.fence, priority)], f"held under its fence, priority {priority}", page)
        await worker.admitted(offer)
        await other.take("claim.granted", claimNo=1)


@coordinator("CLAIM-9", also=("CLAIM-8",))
async def what_is_offered_is_not_granted_to_the_attempt_before(under: Coordinator) -> None:
    """A lapsed attempt's claim on a name that the next offer holds is not granted, and ends with the accept."""
    skill, name = under.skill(), under.name("a")
    old, client, stranger = await under.peer(skills=(skill,)), await under.peer(), await under.peer()
    beside = await granted(stranger, 1, f"{name}/beside")
    spec = {"resources": [{"name": f"{name}/own"}]}
    timers = {"leaseMs": 600, "offerMs": 60_000, "heartbeatMs": 200}
    offer = await old.offered((await client.delegate(skill, spec=spec, timers=timers)).task)
    await queued(old, 1, f"{name}/**", **at(offer))
    await ok(old, "agent.update", status="draining")
    await ok(client, "task.watch", task=offer.task)
    await client.take("task.event", task=offer.task, event="expire")
    new = await under.peer(skills=(skill,))
    again = await new.offered(offer.task)
    await ok(stranger, "claim.release", claimFence=beside)
    await old.nothing("claim.granted")
    await new.heartbeat(again)
    word = await old.take("claim.denied", claimNo=1)
    check(word.body.get("reason") == "ended", "reason ended", word)


@coordinator("CLAIM-10")
async def a_higher_priority_calls_a_willing_holder_back(under: Coordinator) -> None:
    """A preemptible claim of lower priority is called back, with a grace; a claim that is not preemptible is not."""
    name, other = under.name("a"), under.name("b")
    low, high = await under.peer(), await under.peer()
    fence = await granted(low, 1, name, preemptible=True)
    await granted(low, 2, other)
    await queued(high, 1, name, priority=5)
    word = await low.take("claim.preempt", claimFence=fence)
    check(word.body.get("graceMs", 0) > 0, "a grace", word)
    await queued(high, 2, other, priority=5)
    await low.nothing("claim.preempt")
    await low.request("claim.release", claimFence=fence)
    await high.take("claim.granted", claimNo=1)


@coordinator("CLAIM-10")
async def nobody_is_called_back_where_one_would_stay(under: Coordinator) -> None:
    """Of two sharers neither is called back while one is not preemptible; then the other is. An equal recalls none."""
    name, (one, two, high, equal) = under.name("a"), [await under.peer() for _ in range(4)]
    await granted(one, 1, shared(name), preemptible=True, priority=3)
    stays = await granted(two, 1, shared(name), priority=3)
    await queued(high, 1, name, priority=5)
    await one.nothing("claim.preempt")
    await ok(two, "claim.release", claimFence=stays)
    word = await one.take("claim.preempt", claimNo=1)
    page = await high.request("claim.list", name=name)
    recalled = [bool(item.get("recalled")) for item in page.body["claims"]]
    check(recalled == [True, False], "the one that is held called back", page)
    await ok(one, "claim.release", claimFence=word.body["claimFence"])
    await high.take("claim.granted", claimNo=1)
    other = under.name("b")
    await granted(one, 2, other, preemptible=True, priority=5)
    await queued(equal, 1, other, priority=5)
    await one.nothing("claim.preempt")


@coordinator("CLAIM-10", also=("MAIL-4",))
async def a_recall_that_is_over_is_told_as_such(under: Coordinator) -> None:
    """A recall that is sent again after the claim was released has no grace."""
    name, who, high = under.name("a"), under.name("low"), await under.peer()
    same: dict[str, Any] = {"instanceId": "one", "incarnation": 9}
    low = await under.peer(who, **same)
    low.acknowledges = False
    fence = await granted(low, 1, name, preemptible=True)
    await queued(high, 1, name, priority=5)
    await low.take("claim.preempt", claimFence=fence)
    await ok(low, "claim.release", claimFence=fence)
    low.cut()
    word = await (await under.peer(who, **same)).take("claim.preempt", claimFence=fence)
    check(word.body.get("graceMs") == 0, "graceMs 0", word)


@coordinator("CLAIM-10")
async def a_claim_that_was_called_back_ends_with_its_grace(under: Coordinator) -> None:
    """A holder that does not release loses the claim when the grace is over, even if it was renewed meanwhile."""
    name, (low, high) = under.name("a"), [await under.peer() for _ in range(2)]
    fence = await granted(low, 1, name, preemptible=True)
    await queued(high, 1, name, priority=5)
    word = await low.take("claim.preempt", claimFence=fence)
    renewed = await low.request("claim.renew", claimFence=fence, ttlMs=600_000)
    check(renewed.kind == "claim.granted", "claim.granted", renewed)
    grant = await high.take("claim.granted", within=word.body["graceMs"] / 1000 + low.patience, claimNo=1)
    check(grant.body["claimFence"] > fence, "a greater fence", grant)


@coordinator("CLAIM-11")
async def fences_of_claims_grow_from_holder_to_holder(under: Coordinator) -> None:
    """Each new holder of a name has a greater fence, and no two hold it at the same time."""
    name = under.name("a")
    peers = [await under.peer() for _ in range(3)]
    fences: list[int] = []
    for peer in peers:
        fence = await granted(peer, 1, name)
        for other in peers:
            if other is not peer:
                await denied(other, 100 + len(fences), name)
        fences.append(fence)
        await peer.request("claim.release", claimFence=fence)
    check(fences == sorted(set(fences)), "fences that grow", fences)


@coordinator("WAIT-2", also=("WAIT-1", "WAIT-3"))
async def a_circle_of_waits_is_broken_and_told(under: Coordinator) -> None:
    """Two agents each hold what the other waits for: one is told `deadlock` with the circle."""
    a, b = under.name("a"), under.name("b")
    one, two = await under.peer(), await under.peer()
    first = await granted(one, 1, a)
    await granted(two, 1, b)
    await queued(one, 2, b)
    answer = await claim(two, 2, a, waitMs=60_000)
    check(answer.kind == "error" and answer.code == "deadlock", "error deadlock to the younger", answer)
    await one.nothing("claim.denied")
    cycle = (answer.body.get("data") or {}).get("cycle")
    told = str(cycle)
    check(a in told and b in told and isinstance(cycle, list) and len(cycle) == 2, "a circle of both names", cycle)
    page = await one.request("claim.list", name=a)
    check(any(item.get("claimFence") == first for item in page.body["claims"]), "what was held, held still", page)


@coordinator("WAIT-2")
async def the_youngest_of_the_lowest_priority_gives_up(under: Coordinator) -> None:
    """In a circle of three the claim of the lowest priority is given up, even if another claim closes the circle."""
    names = [under.name(word) for word in "abc"]
    peers = [await under.peer() for _ in range(3)]
    for peer, name in zip(peers, names, strict=True):
        await granted(peer, 1, name)
    await queued(peers[0], 2, names[1], priority=5)
    await queued(peers[1], 2, names[2], priority=1)
    await queued(peers[2], 2, names[0], priority=5)
    word = await peers[1].take("claim.denied", claimNo=2)
    check(word.body.get("reason") == "deadlock" and len(word.body.get("cycle") or []) == 3, "deadlock, three", word)


@coordinator("WAIT-3", also=("CLAIM-4", "WAIT-2"))
async def a_circle_is_told_step_by_step(under: Coordinator) -> None:
    """Each step says who waits for whom, for which name and with what it wants; so does a repeat."""
    root, b = under.name("a"), under.name("b")
    one, two = await under.peer(), await under.peer()
    await granted(one, 1, f"{root}/x")
    await granted(two, 1, b)
    await queued(one, 2, b)
    steps = {
        (two.name, one.name, "claim", f"{root}/x", (f"{root}/**",)),
        (one.name, two.name, "claim", b, (b,)),
    }
    for _ in range(2):
        answer = await claim(two, 2, f"{root}/**", waitMs=60_000)
        check(answer.kind == "error" and answer.code == "deadlock", "error deadlock", answer)
        cycle = (answer.body.get("data") or {}).get("cycle") or []
        came = {
            (step.get("agent"), step.get("waitsForAgent"), step["for"], step.get("name"), tuple(step.get("wants", ())))
            for step in cycle
        }
        check(came == steps, f"{steps}", answer)


@coordinator("WAIT-2")
async def every_circle_that_a_wait_closes_is_broken(under: Coordinator) -> None:
    """A claim of higher priority closes two circles at once: both other waits are given up, and it stands in line."""
    names = [under.name(word) for word in "abc"]
    peers = [await under.peer() for _ in range(3)]
    fences = [await granted(peer, 1, name) for peer, name in zip(peers, names, strict=True)]
    for peer in peers[1:]:
        await queued(peer, 2, names[0])
    await queued(peers[0], 2, *names[1:], priority=9)
    for peer, fence in zip(peers[1:], fences[1:], strict=True):
        word = await peer.take("claim.denied", claimNo=2)
        check(word.body.get("reason") == "deadlock", "reason deadlock", word)
        await ok(peer, "claim.release", claimFence=fence)
    await peers[0].take("claim.granted", claimNo=2)


@coordinator("WAIT-2", also=("CLAIM-5",))
async def who_comes_before_in_line_is_waited_for(under: Coordinator) -> None:
    """A shared claim behind an exclusive one waits for the owner of that one, who may not wait for it in turn."""
    a, c = under.name("a"), under.name("c")
    reader, writer, late = [await under.peer() for _ in range(3)]
    await granted(reader, 1, shared(a))
    await granted(late, 1, c)
    await queued(writer, 1, a)
    await queued(late, 2, shared(a))
    answer = await claim(writer, 2, c, waitMs=60_000)
    check(answer.kind == "error" and answer.code == "deadlock", "error deadlock", answer)


@coordinator("WAIT-1")
async def what_ends_by_itself_is_no_circle(under: Coordinator) -> None:
    """A wait for one's own claim is no deadlock, and neither is a circle with a holder that is called back."""
    a, b = under.name("a"), under.name("b")
    one, two, three = [await under.peer() for _ in range(3)]
    first = await granted(one, 1, a)
    await queued(three, 1, a)
    await queued(one, 2, a, priority=1)
    await ok(one, "claim.release", claimFence=first)
    await one.take("claim.granted", claimNo=2)
    await granted(one, 3, b, preemptible=True)
    own = under.name("c")
    await granted(two, 1, own)
    await queued(one, 4, own)
    await queued(two, 2, b, priority=5)
    await one.take("claim.preempt", claimNo=3)
    await one.nothing("claim.denied")


@coordinator("WAIT-1", also=("FLOW-5",))
async def a_sub_task_that_outlasts_its_parent_is_not_waited_for(under: Coordinator) -> None:
    """A detached sub-task that needs what its parent holds stays queued, even if the parent only waits."""
    outer, inner, name = under.skill("outer"), under.skill("inner"), under.name("a")
    parent, client = await under.peer(skills=(outer,)), await under.peer()
    await under.peer(skills=(inner,))
    offer = await parent.offered((await client.delegate(outer, timers=LONG)).task)
    await granted(parent, 1, name, **at(offer))
    needs = {"resources": [{"name": name}]}
    sub = await parent.delegate(inner, parent=at(offer), spec=needs, onParentEnd="detach")
    await parent.heartbeat(offer, slot="released")
    check(await client.state(sub.task) == "queued", "state queued", "")
    await parent.nothing("task.settled")


@coordinator("WAIT-1", also=("WAIT-2", "WAIT-3", "ASK-5"))
async def a_question_upwards_is_a_wait(under: Coordinator) -> None:
    """A sub-task asks its parent, which then wants what it holds: a deadlock, unless the parent only waits."""
    outer, inner, name = under.skill("outer"), under.skill("inner"), under.name("a")
    parent, worker = await under.peer(skills=(outer,)), await under.peer(skills=(inner,))
    client = await under.peer()
    offer = await parent.offered((await client.delegate(outer, timers=LONG)).task)
    await parent.delegate(inner, parent=at(offer), timers=LONG)
    below = await worker.offered()
    await granted(worker, 1, name, **at(below))
    await ok(worker, "task.ask", **at(below), askNo=1, payload=parts("which?"))
    answer = await claim(parent, 1, name, waitMs=60_000, **at(offer))
    check(answer.kind == "error" and answer.code == "deadlock", "error deadlock", answer)
    kinds = sorted(step.get("for") for step in (answer.body.get("data") or {}).get("cycle") or [])
    check(kinds == ["ask", "claim"], "a claim and a question", answer)
    await parent.heartbeat(offer, slot="released")
    await queued(parent, 2, name, **at(offer))


@coordinator("WAIT-1", also=("WAIT-2", "GROUP-2"))
async def a_group_waits_for_one_of_its_members(under: Coordinator) -> None:
    """Both members of a group need what the waiting parent holds: they fail, and the group with them."""
    outer, inner, name = under.skill("outer"), under.skill("inner"), under.name("a")
    parent, client = await under.peer(skills=(outer,)), await under.peer()
    for _ in range(2):
        await under.peer(skills=(inner,))
    offer = await parent.offered((await client.delegate(outer, timers=LONG)).task)
    await granted(parent, 1, name, **at(offer))
    spec = {"resources": [shared(name)], "redundancy": {"n": 2}}
    group = await parent.delegate(inner, parent=at(offer), spec=spec)
    await parent.heartbeat(offer, slot="released")
    await parent.settled(group.task, state="failed")


@coordinator("WAIT-4", also=("WAIT-2", "WAIT-3"))
async def a_busy_agent_is_waited_for(under: Coordinator) -> None:
    """The only agent for a sub-task is at a task that then wants what the waiting parent holds: a deadlock."""
    outer, inner, name = under.skill("outer"), under.skill("inner"), under.name("a")
    parent, client = await under.peer(skills=(outer,)), await under.peer()
    worker = await under.peer(skills=(inner,), credit={"tasks": 1, "frames": 256})
    offer = await parent.offered((await client.delegate(outer, timers=LONG)).task)
    await granted(parent, 1, name, **at(offer))
    other = await worker.offered((await client.delegate(inner, timers=LONG)).task)
    await worker.heartbeat(other)
    sub = await parent.delegate(inner, parent=at(offer), timers=LONG)
    await parent.heartbeat(offer, slot="released")
    answer = await claim(worker, 1, name, waitMs=60_000, **at(other))
    check(answer.kind == "error" and answer.code == "deadlock", "error deadlock", answer)
    kinds = sorted(step.get("for") for step in (answer.body.get("data") or {}).get("cycle") or [])
    check(kinds == ["capacity", "claim", "sub-task"], "a claim, a sub-task and an agent", answer)
    await worker.admitted(other)
    await worker.offered(sub.task)


@coordinator("WAIT-1", also=("FLOW-5", "WAIT-2"))
async def a_parent_that_only_waits_is_in_the_circle(under: Coordinator) -> None:
    """A parent holds a name that its sub-task's resource needs, and only waits: the circle is broken."""
    outer, inner, name = under.skill("outer"), under.skill("inner"), under.name("a")
    parent = await under.peer(skills=(outer,))
    await under.peer(skills=(inner,))
    client = await under.peer()
    offer = await parent.offered((await client.delegate(outer, timers=LONG)).task)
    attempt = {"task": offer.task, "fence": offer.fence}
    await granted(parent, 1, name, **attempt)
    sub = await parent.delegate(inner, parent=attempt, spec={"resources": [{"name": name}]})
    check(await client.state(sub.task) == "queued", "state queued while the parent works", "")
    await parent.heartbeat(offer, slot="released")
    settled = await parent.settled(sub.task)
    check(settled.body.get("reason") == "deadlock", "failed, deadlock", settled)
