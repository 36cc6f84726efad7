"""Cases of section 18: claims on resources, and who waits for whom."""

from __future__ import annotations

import functools
from typing import Any

from ..case import Role, case
from ..conversation import check
from ..peer import Coordinator, Peer
from ..wire import Frame

coordinator = functools.partial(case, Role.COORDINATOR)


async def claim(peer: Peer, number: int, *names: str | dict[str, str], **fields: Any) -> Frame:
    """Claim names, alone where nothing else is said, and return the answer."""
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
    """Claim names that are not free, and stand in line."""
    answer = await claim(peer, number, *names, **({"waitMs": 60_000} | fields))
    check(answer.kind == "claim.queued", "claim.queued", answer)
    return answer


def shared(name: str) -> dict[str, str]:
    """Return the resource of this name in mode `s`."""
    return {"name": name, "mode": "s"}


@coordinator("CLAIM-1")
async def names_conflict_by_what_they_stand_for(under: Coordinator) -> None:
    """A name conflicts with itself and with `/**` above it; with names beside it not; shared only with alone."""
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
    """A claim of which one name is taken holds none of the others while it waits, and gets all at once."""
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
    """The same claim again is answered as it stands; with other names it is a mismatch, after its end `stale`."""
    name, peer = under.name("a"), await under.peer()
    fence = await granted(peer, 1, name)
    check(await granted(peer, 1, name) == fence, "the same fence", "")
    answer = await claim(peer, 1, name + "/other")
    check(answer.code == "idempotency_mismatch", "error idempotency_mismatch", answer)
    await peer.request("claim.release", claimFence=fence)
    answer = await claim(peer, 1, name)
    check(answer.code == "stale", "error stale", answer)


@coordinator("CLAIM-5")
async def claims_in_line_are_served_by_priority_and_age(under: Coordinator) -> None:
    """Of three that wait the one of higher priority is granted first, then the older of two equals."""
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
    """A shared claim that would be free waits behind one for the name alone that came before it."""
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


@coordinator("CLAIM-6", also=("AUTH-4",))
async def only_its_holder_gives_a_claim_back(under: Coordinator) -> None:
    """Another principal is refused with `not_holder`; another process of the holder's may; again it is `ok`."""
    name, who = under.name("a"), under.name("holder")
    one, thief = await under.peer(f"{who}#1"), await under.peer()
    fence = await granted(one, 1, name)
    await thief.refused("not_holder", "claim.release", claimFence=fence)
    two = await under.peer(f"{who}#2")
    for _ in range(2):
        answer = await two.request("claim.release", claimFence=fence)
        check(answer.kind == "ok", "ok", answer)
    await granted(thief, 1, name)


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


@coordinator("CLAIM-8", also=("FENCE-3",))
async def a_tasks_claim_ends_with_its_attempt(under: Coordinator) -> None:
    """A claim for a task is asked for under its fence, and free once the attempt has reported."""
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


@coordinator("CLAIM-10")
async def a_higher_priority_calls_a_willing_holder_back(under: Coordinator) -> None:
    """A preemptible claim of lower priority is called back; at the end of its grace it ends by itself."""
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


@coordinator("CLAIM-11")
async def fences_of_claims_grow_from_holder_to_holder(under: Coordinator) -> None:
    """Of one name each new holder has a greater fence, and at no time two hold it."""
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
    """Two agents that each hold what the other one waits for: one is told `deadlock` with the circle."""
    a, b = under.name("a"), under.name("b")
    one, two = await under.peer(), await under.peer()
    first = await granted(one, 1, a)
    await granted(two, 1, b)
    await queued(one, 2, b)
    answer = await claim(two, 2, a, waitMs=60_000)
    denials = one.holds("claim.denied")
    if answer.kind == "error":
        check(answer.code == "deadlock", "error deadlock", answer)
        cycle = (answer.body.get("data") or {}).get("cycle")
    else:
        word = denials[0] if denials else await one.take("claim.denied", claimNo=2)
        check(word.body.get("reason") == "deadlock", "reason deadlock", word)
        cycle = word.body.get("cycle")
    told = str(cycle)
    check(a in told and b in told and isinstance(cycle, list) and len(cycle) == 2, "a circle of both names", cycle)
    page = await one.request("claim.list", name=a)
    check(any(item.get("claimFence") == first for item in page.body["claims"]), "what was held, held still", page)


@coordinator("WAIT-2")
async def the_youngest_of_the_lowest_priority_gives_up(under: Coordinator) -> None:
    """In a circle of three the claim of the lowest priority is the one given up, though another closes it."""
    names = [under.name(word) for word in "abc"]
    peers = [await under.peer() for _ in range(3)]
    for peer, name in zip(peers, names, strict=True):
        await granted(peer, 1, name)
    await queued(peers[0], 2, names[1], priority=5)
    await queued(peers[1], 2, names[2], priority=1)
    await queued(peers[2], 2, names[0], priority=5)
    word = await peers[1].take("claim.denied", claimNo=2)
    check(word.body.get("reason") == "deadlock" and len(word.body.get("cycle") or []) == 3, "deadlock, three", word)


@coordinator("WAIT-1", also=("FLOW-5", "WAIT-2"))
async def a_parent_that_only_waits_is_in_the_circle(under: Coordinator) -> None:
    """A parent holds a name its sub-task's resource needs, and only waits: the circle is broken."""
    outer, inner, name = under.skill("outer"), under.skill("inner"), under.name("a")
    parent = await under.peer(skills=(outer,))
    await under.peer(skills=(inner,))
    client = await under.peer()
    offer = await parent.offered((await client.delegate(outer)).task)
    attempt = {"task": offer.task, "fence": offer.fence}
    await granted(parent, 1, name, **attempt)
    sub = await parent.delegate(inner, parent=attempt, spec={"resources": [{"name": name}]})
    await parent.heartbeat(offer, slot="released")
    settled = await parent.settled(sub.task)
    check(settled.body.get("reason") == "deadlock", "failed, deadlock", settled)
