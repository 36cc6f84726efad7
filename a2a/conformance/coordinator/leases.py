"""Cases of section 9: fences, offers and leases."""

from __future__ import annotations

import asyncio
import functools

from ..case import Role, case
from ..conversation import check
from ..peer import Coordinator
from ..scenes import LONG, at, beats_until_revoked, begun, ok
from ..wire import Frame, count, parts

coordinator = functools.partial(case, Role.COORDINATOR)

SHORT = {"leaseMs": 150, "offerMs": 150, "heartbeatMs": 50}
"""Timers of a task whose lease has to run out."""
OFTEN = {"losses": 100}
"""Limits of a task that its only agent may lose again and again until another agent has joined."""


@coordinator("FENCE-1")
async def fences_grow_from_attempt_to_attempt(under: Coordinator) -> None:
    """The fences of two tasks and of three attempts at one are all different, and grow in the order of offers."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    seen: list[int] = []
    created = await client.delegate(skill)
    for _ in range(3):
        offer = await worker.offered(created.task)
        seen.append(offer.fence)
        await worker.request("task.decline", retryAfterMs=0, **at(offer))
    other = await client.delegate(skill)
    offers = {offer.task: offer.fence for offer in [await worker.offered(), await worker.offered()]}
    seen += [offers[created.task], offers[other.task]]
    check(seen == sorted(set(seen)), "fences that grow", seen)


@coordinator("FENCE-3", also=("FENCE-5", "FENCE-7", "REPORT-4", "LEASE-5"))
async def a_spent_fence_changes_the_task_no_more(under: Coordinator) -> None:
    """After its report an attempt can neither stream, ask, checkpoint, hand on nor go on."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill)
    offer = await worker.offered(created.task)
    await worker.admitted(offer)
    generation = (await client.request("task.get", task=created.task))["gen"]
    await worker.refused("stale", "task.accept", **at(offer))
    await worker.refused("stale", "task.artifact", artifactId="a", chunkNo=0, payload=b"[]", **at(offer))
    await worker.refused("stale", "task.ask", askNo=1, payload=b"[]", **at(offer))
    await worker.refused("stale", "task.checkpoint", cpNo=1, payload=b"[]", **at(offer))
    await worker.refused("stale", "task.handoff", **at(offer))
    revoke = await worker.heartbeat(offer)
    check(revoke.kind == "task.revoke" and revoke.body.get("reason") == "superseded", "task.revoke superseded", revoke)
    check((await client.request("task.get", task=created.task))["gen"] == generation, "the same generation", "")


@coordinator("FENCE-3", also=("LEASE-7", "REPORT-3", "REPORT-6"))
async def a_report_behind_a_yield_is_late(under: Coordinator) -> None:
    """A report after its attempt was yielded has verdict `late`, and the task stays queued."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill)
    offer = await worker.offered(created.task)
    await worker.request("agent.update", status="draining")
    await worker.request("task.yield", reason="another time", **at(offer))
    verdict = await worker.report(offer)
    check(verdict.body.get("verdict") == "late", "verdict late", verdict)
    check(await client.state(created.task) == "queued", "the task queued", "")
    await client.nothing("task.review")


@coordinator("FENCE-3", also=("FENCE-5", "OFFER-5"))
async def a_report_behind_a_declined_grant_is_late(under: Coordinator) -> None:
    """A grant is current at once: declining it spends its fence, and a report then has verdict `late`."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill)
    offer = await worker.offered(created.task)
    check(offer.body.get("granted") is True, "a grant", offer)
    await ok(worker, "task.decline", retryAfterMs=600_000, **at(offer))
    verdict = await worker.report(offer)
    check(verdict.body.get("verdict") == "late", "verdict late", verdict)
    check(await client.state(created.task) == "queued", "the task queued", "")


@coordinator("FENCE-8")
async def all_offers_of_a_task_have_one_effect_scope(under: Coordinator) -> None:
    """The offer after a decline has the same `effectScope`: the next attempt has the same effect keys."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill)
    offer = await worker.offered(created.task)
    scope = offer.body.get("effectScope")
    check(isinstance(scope, str) and 0 < len(scope) <= 64, "an effectScope", offer)
    await ok(worker, "task.decline", retryAfterMs=0, **at(offer))
    again = await worker.offered(created.task, attempt=2)
    check(again.body.get("effectScope") == scope, f"effectScope {scope}", again)


@coordinator("FENCE-4", also=("FENCE-2", "LEASE-8", "OFFER-3", "REPORT-6"))
async def the_zombies_report_is_kept_and_changes_nothing(under: Coordinator) -> None:
    """Once another agent has accepted, the first one's report is `stale` and kept as evidence; the other's counts."""
    skill = under.skill()
    zombie, client = await under.peer(skills=(skill,)), await under.peer()
    # Only the lease runs out: the second agent has its time to accept.
    created = await client.delegate(skill, timers=SHORT | {"leaseMs": 400, "offerMs": 2_000})
    old = await zombie.offered(created.task)
    await zombie.heartbeat(old)
    second = await under.peer(skills=(skill,))
    new = await second.offered(created.task)
    check(new.body.get("granted") is False and new.fence > old.fence, "an offer that is not granted yet", new)
    lease = await second.request("task.accept", **at(new))
    check(lease.kind == "task.lease", "task.lease", lease)
    verdict = await zombie.report(old, "from the grave")
    check(verdict.body.get("verdict") == "stale", "verdict stale", verdict)
    await second.admitted(new, "alive")
    review = await client.reviewed(created.task)
    check(b"alive" in review.payload and review.body.get("agent") == second.name, "the second one's result", review)
    evidence = (await client.view(created.task))["metadata"].get("evidence") or []
    check([item.get("verdict") for item in evidence] == ["stale"], "one stale report as evidence", evidence)


@coordinator("FENCE-5", also=("REPORT-1",))
async def an_impossible_fence_is_malformed(under: Coordinator) -> None:
    """Under a fence that was never minted, a report, a heartbeat and a checkpoint are `malformed`."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    offer = await worker.offered((await client.delegate(skill)).task)
    wrong = Frame(offer | {"fence": 2**53 - 1})
    for reply in (await worker.report(wrong), await worker.heartbeat(wrong)):
        check(reply.kind == "error" and reply.code == "malformed", "error malformed", reply)
    await worker.refused("malformed", "task.checkpoint", cpNo=1, payload=b"[]", **at(wrong))
    await worker.admitted(offer)


@coordinator("FENCE-6")
async def a_fence_is_compared_within_its_task(under: Coordinator) -> None:
    """Of two tasks, the one offered first is reported last, and admitted; their fences do not mix."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    first = await worker.offered((await client.delegate(skill)).task)
    second = await worker.offered((await client.delegate(skill)).task)
    mixed = Frame(first | {"fence": second.fence})
    verdict = await worker.report(mixed)
    check(verdict.body.get("verdict") == "not_holder", "verdict not_holder: no attempt of this task", verdict)
    await worker.admitted(second)
    await worker.admitted(first)


@coordinator("OFFER-1")
async def a_task_has_one_offer_open(under: Coordinator) -> None:
    """If three agents could do a task, only one is offered it."""
    skill = under.skill()
    workers = [await under.peer(skills=(skill,)) for _ in range(3)]
    client = await under.peer()
    created = await client.delegate(skill, timers=LONG)
    # Which of them is offered it is open, and so is whether that comes before or after the answer to a ping.
    offers = [asyncio.create_task(worker.offered(created.task)) for worker in workers]
    try:
        await asyncio.wait(offers, return_when=asyncio.FIRST_COMPLETED)
        for worker in workers:
            await worker.settle()
        came = [await offer for offer in offers if offer.done()]
    finally:
        for offer in offers:
            offer.cancel()
    check(len(came) == 1, "one offer", came)


@coordinator("OFFER-2", also=("OFFER-7",))
async def a_first_offer_is_granted_at_once(under: Coordinator) -> None:
    """The first offer says `granted: true` and carries spec, input, key, context and times; its report is admitted."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, "in", key="the key", spec={"effect": "pure"})
    offer = await worker.offered(created.task)
    body = offer.body
    check(body.get("granted") is True and body.get("attempt") == 1, "granted: true, attempt 1", offer)
    check(body.get("spec") == {"skill": skill, "effect": "pure"} and b"in" in offer.payload, "spec and input", offer)
    check(body.get("key") == "the key" and body.get("delegator") == client.name, "key and delegator", offer)
    check(body.get("contextId") == created.body.get("contextId"), "the context", offer)
    await worker.admitted(offer)


@coordinator("OFFER-4")
async def an_accept_is_answered_the_same_each_time(under: Coordinator) -> None:
    """`task.accept` of a grant, twice, is answered `task.lease` each time."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    offer = await worker.offered((await client.delegate(skill)).task)
    for _ in range(2):
        lease = await worker.request("task.accept", **at(offer))
        check(lease.kind == "task.lease" and lease.fence == offer.fence, "task.lease of the fence", lease)
    await worker.refused("not_found", "task.accept", task="no-such-task", fence=offer.fence)


@coordinator("OFFER-5")
async def a_decline_of_an_ended_attempt_does_nothing(under: Coordinator) -> None:
    """A repeated decline, after another agent has the task, is `ok` and counts nothing."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill)
    offer = await worker.offered(created.task)
    other = await under.peer(skills=(skill,))
    await worker.request("task.decline", retryAfterMs=60_000, **at(offer))
    await other.heartbeat(await other.offered(created.task))
    again = await worker.request("task.decline", retryAfterMs=60_000, **at(offer))
    check(again.kind == "ok", "ok", again)
    counters = (await client.view(created.task))["metadata"].get("counters") or {}
    check(counters.get("declines") == 1, "one decline counted", counters)


@coordinator("OFFER-6", also=("LEASE-4",))
async def a_grant_without_a_sign_of_life_goes_to_another(under: Coordinator) -> None:
    """An agent that says nothing within `offerMs` loses the grant, which counts as a loss."""
    skill = under.skill()
    silent, client = await under.peer(skills=(skill,)), await under.peer()
    # Time for the other agent to join, or the silent one is asked again; and then for it to be heard, and to stay.
    created = await client.delegate(skill, timers={"offerMs": 1_000, "leaseMs": 60_000})
    await silent.offered(created.task)
    other = await under.peer(skills=(skill,))
    offer = await other.offered(created.task)
    await other.heartbeat(offer)
    check(offer.body.get("attempt") == 2, "attempt 2", offer)
    counters = (await client.view(created.task))["metadata"].get("counters") or {}
    check(counters.get("losses") == 1, "one loss counted", counters)


@coordinator("OFFER-6")
async def an_offer_that_nobody_accepts_is_withdrawn(under: Coordinator) -> None:
    """An offer that was not granted and is not accepted within `offerMs` is withdrawn; an accept then is `stale`."""
    skill = under.skill()
    name, client = under.name("worker"), await under.peer()
    first = await under.peer(name, skills=(skill,))
    created = await client.delegate(skill, timers=LONG | {"offerMs": 1_000}, limits=OFTEN)
    await first.heartbeat(await first.offered(created.task))
    second = await under.peer(skills=(skill,))
    await client.request("task.watch", task=created.task)
    await under.peer(name, skills=(skill,), credit={"tasks": 0, "frames": 256})  # another process: the lease lapses
    offer = await second.offered(created.task)
    check(offer.body.get("granted") is False, "granted: false", offer)
    await client.take("task.event", event="withdraw")
    await second.refused("stale", "task.accept", **at(offer))


@coordinator("OFFER-8")
async def an_offer_tells_what_became_of_earlier_attempts(under: Coordinator) -> None:
    """The offer after a lapsed lease has a dossier: the attempt before with its agent, fence, end and last note."""
    skill = under.skill()
    first, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, timers=SHORT, limits=OFTEN)
    old = await first.offered(created.task)
    await first.heartbeat(old, progressNo=3, note="half way")
    second = await under.peer(skills=(skill,))
    offer = await second.offered(created.task)
    attempts = (offer.body.get("dossier") or {}).get("attempts") or [{}]
    told = attempts[0]
    check(told.get("agent") == first.name and told.get("fence") == old.fence, "the first attempt", offer)
    check(told.get("end") == "lapsed" and told.get("note") == "half way", "its end and its note", told)
    check(told.get("progressNo") == 3, "progressNo 3", told)


@coordinator("OFFER-8", also=("BUDGET-1", "REPORT-6"))
async def an_offer_tells_all_that_was_left(under: Coordinator) -> None:
    """The dossier has why an attempt yielded and what it used, reports without authority, and discarded artifacts."""
    client, worker, offer = await begun(under)
    stranger = await under.peer()
    await ok(worker, "task.artifact", artifactId="log", chunkNo=0, payload=parts("a"), **at(offer))
    await stranger.report(offer, "not mine")
    await ok(worker, "task.yield", reason="no luck", usage={"tokens": 5}, **at(offer))
    again = await worker.offered(offer.task, attempt=2)
    dossier = again.body.get("dossier") or {}
    (told,) = dossier.get("attempts") or [{}]
    check((told.get("end"), told.get("detail")) == ("yielded", "no luck"), "yielded, no luck", told)
    check((told.get("usage") or {}).get("tokens") == 5, "5 tokens", told)
    kept = [(item.get("agent"), item.get("verdict")) for item in dossier.get("evidence") or []]
    check(kept == [(stranger.name, "not_holder")], "the report without authority", dossier)
    check(dossier.get("discarded") == ["log"], "the artifact of the attempt before", dossier)
    await client.request("task.cancel", task=offer.task)


@coordinator("LEASE-1", also=("LEASE-5",))
async def heartbeats_keep_a_lease(under: Coordinator) -> None:
    """Heartbeats keep a lease of 1.5 s for twice its length."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, timers={"leaseMs": 1_500, "offerMs": 1_500, "heartbeatMs": 250})
    offer = await worker.offered(created.task)
    other = await under.peer(skills=(skill,))
    for _ in range(12):
        lease = await worker.heartbeat(offer)
        told = count(lease.body.get("leaseMs"))
        # The frame says what remains when it is written (TIME-6).
        check(lease.kind == "task.lease" and 1_250 < told <= 1_500, "task.lease of 1,500 ms", lease)
        await asyncio.sleep(0.25)  # the heartbeat's own interval
    await other.nothing("task.offer")
    counters = (await client.view(created.task))["metadata"].get("counters") or {}
    check(not counters.get("losses") and not counters.get("revivals"), "neither losses nor revivals", counters)


@coordinator("LEASE-1", also=("ART-1", "CHECK-1", "CLAIM-8"))
async def what_else_is_said_under_a_fence_keeps_a_lease_too(under: Coordinator) -> None:
    """One attempt only sends chunks, one only checkpoints, one only claims: each keeps a lease of 1.5 s for longer."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    timers = {"leaseMs": 1_500, "offerMs": 60_000, "heartbeatMs": 250}
    offers = [await worker.offered((await client.delegate(skill, timers=timers)).task) for _ in range(3)]
    for offer in offers:
        await worker.heartbeat(offer)
    streams, saves, claims = (at(offer) for offer in offers)
    resource = [{"name": under.name("resource")}]
    for number in range(4):
        await asyncio.sleep(0.5)  # a third of the lease
        await ok(worker, "task.artifact", artifactId="a", chunkNo=number, payload=parts(number), **streams)
        await ok(worker, "task.checkpoint", cpNo=number + 1, baseCp=number, payload=parts(number), **saves)
        await worker.request("claim.acquire", claimNo=number + 1, claims=resource, **claims)
    for offer in offers:
        counters = (await client.view(offer.task))["metadata"].get("counters") or {}
        check(not counters.get("losses") and not counters.get("revivals"), "neither losses nor revivals", counters)


@coordinator("LEASE-4", also=("LEASE-8",))
async def revives_a_lapsed_lease_that_is_heard_again(under: Coordinator) -> None:
    """A heartbeat after the lease lapsed revives the attempt; meanwhile the agent is not told to stop."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    # Once the lease has lapsed, the same agent may be offered the task again, and would be told when that offer ends.
    created = await client.delegate(skill, timers=SHORT | {"offerMs": 60_000})
    await client.request("task.watch", task=created.task)
    offer = await worker.offered(created.task)
    await worker.heartbeat(offer)
    await client.take("task.event", event="expire")
    await worker.nothing("task.revoke", task=created.task)
    lease = await worker.heartbeat(offer)
    check(lease.kind == "task.lease" and lease.fence == offer.fence, "task.lease of the same fence", lease)
    await client.take("task.event", event="revive")
    await worker.admitted(offer)


@coordinator("LEASE-8", also=("FENCE-4", "OFFER-3"))
async def who_comes_back_first_keeps_the_task(under: Coordinator) -> None:
    """A heartbeat under a lapsed lease withdraws another agent's offer; that agent is told, and cannot accept."""
    skill = under.skill()
    first, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, timers=SHORT | {"leaseMs": 600, "offerMs": 60_000}, limits=OFTEN)
    old = await first.offered(created.task)
    await first.heartbeat(old)
    second = await under.peer(skills=(skill,))
    new = await second.offered(created.task)
    lease = await first.heartbeat(old)
    check(lease.kind == "task.lease" and lease.fence == old.fence, "task.lease of the same fence", lease)
    revoke = await second.take("task.revoke", task=created.task, fence=new.fence)
    check(revoke.body.get("graceMs", 0) == 0, "graceMs 0", revoke)
    await second.refused("stale", "task.accept", **at(new))
    await first.admitted(old)


@coordinator("LEASE-8", also=("LIMIT-4",))
async def an_attempt_revives_so_often_and_no_more(under: Coordinator) -> None:
    """Three times a lapsed attempt is heard again and goes on; the fourth time it is told to stop."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, timers=SHORT | {"offerMs": 60_000}, limits=OFTEN)
    await client.request("task.watch", task=created.task)
    offer = await worker.offered(created.task)
    await worker.heartbeat(offer)
    for _ in range(3):
        await client.take("task.event", event="expire")
        lease = await worker.heartbeat(offer)
        check(lease.kind == "task.lease", "task.lease", lease)
    await client.take("task.event", event="expire")
    last = await worker.heartbeat(offer)
    told = last.kind, last.body.get("reason")
    check(told == ("task.revoke", "superseded"), "task.revoke superseded: no revival is left", last)
    verdict = await worker.report(offer)
    check(verdict.body.get("verdict") == "admitted", "verdict admitted, with or without a revival left", verdict)


@coordinator("LEASE-8", also=("FENCE-7", "STATE-2"))
async def a_sign_of_life_accepts_an_open_offer(under: Coordinator) -> None:
    """A checkpoint under an offer that was not granted accepts it: the earlier holder comes too late."""
    skill = under.skill()
    first, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, timers=SHORT | {"leaseMs": 600, "offerMs": 60_000}, limits=OFTEN)
    old = await first.offered(created.task)
    await first.heartbeat(old)
    second = await under.peer(skills=(skill,))
    new = await second.offered(created.task)
    check(new.body.get("granted") is False, "granted: false", new)
    await ok(second, "task.checkpoint", cpNo=1, payload=parts(1), **at(new))
    revoke = await first.heartbeat(old)
    check(revoke.kind == "task.revoke", "task.revoke: another has accepted", revoke)


@coordinator("LEASE-8", also=("ASK-3", "STATE-2"))
async def a_parked_task_stays_parked_when_its_attempt_revives(under: Coordinator) -> None:
    """An attempt that asked lapses and is heard again: its lease runs, the generation stays, and it gets the answer."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    # Long enough that it does not run out a second time before the answer is given.
    created = await client.delegate(skill, timers=SHORT | {"leaseMs": 600, "offerMs": 5_000})
    await client.request("task.watch", task=created.task)
    offer = await worker.offered(created.task)
    asked = await worker.request("task.ask", askNo=1, payload=b"[]", **at(offer))
    check(asked.kind == "ok", "ok", asked)
    expired = await client.take("task.event", event="expire")
    check(expired.body.get("state") == "parked", "the task parked", expired)
    lease = await worker.heartbeat(offer)
    check(lease.kind == "task.lease" and lease.fence == offer.fence, "task.lease of the same fence", lease)
    answered = await client.request("task.answer", askNo=1, payload=b"[]", ifGen=expired["gen"], task=created.task)
    check(answered.kind == "ok", f"ok to an answer at generation {expired['gen']}", answered)
    await worker.take("task.answer", task=created.task, askNo=1)
    await client.nothing("task.event", event="revive")


@coordinator("LEASE-4")
async def a_cancel_ends_when_the_lease_runs_out(under: Coordinator) -> None:
    """A task in `canceling` whose holder is no longer heard is canceled."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, timers={"cancelMs": 60_000})
    await worker.heartbeat(await worker.offered(created.task))
    answer = await client.request("task.cancel", task=created.task)
    check(answer.body.get("will") == "pending", "will pending", answer)
    await client.settled(created.task, state="canceled")


@coordinator("LEASE-5")
async def a_heartbeat_about_nothing_is_told_to_stop(under: Coordinator) -> None:
    """A heartbeat for an unknown task gets `task.revoke`, reason `unknown`; after the task's end, reason `settled`."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    unknown = await worker.request("task.heartbeat", task="no-such-task", fence=1)
    check(unknown.kind == "task.revoke" and unknown.body.get("reason") == "unknown", "task.revoke unknown", unknown)
    created = await client.delegate(skill, spec={"acceptance": {"evaluator": "auto"}})
    offer = await worker.offered(created.task)
    await worker.admitted(offer)
    after = await worker.heartbeat(offer)
    check(after.kind == "task.revoke" and after.body.get("reason") == "settled", "task.revoke settled", after)


@coordinator("LEASE-7")
async def a_yield_gives_the_attempt_back(under: Coordinator) -> None:
    """A yield is `ok`, counts as a decline, and another attempt follows; a repeat does nothing."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill)
    offer = await worker.offered(created.task)
    await worker.heartbeat(offer)
    other = await under.peer(skills=(skill,))
    for _ in range(2):
        answer = await worker.request("task.yield", reason="another time", **at(offer))
        check(answer.kind == "ok", "ok", answer)
    await other.offered(created.task)
    verdict = await worker.report(offer)
    check(verdict.body.get("verdict") == "stale", "verdict stale: another has the task", verdict)
    counters = (await client.view(created.task))["metadata"].get("counters") or {}
    check(counters.get("declines") == 1, "one decline counted", counters)


@coordinator("LEASE-7", also=("OFFER-5", "LIMIT-4"))
async def a_yield_of_what_was_not_taken_is_a_decline(under: Coordinator) -> None:
    """A yield of an offer not granted is `ok` and counts as a decline; a decline after a question is refused."""
    name, skill, client = under.name("worker"), under.skill(), await under.peer()
    old = await under.peer(name, skills=(skill,))
    created = await client.delegate(skill, timers=LONG)
    await old.heartbeat(await old.offered(created.task))
    other = await under.peer(skills=(skill,))
    await under.peer(name, skills=(skill,), credit={"tasks": 0, "frames": 256})
    offer = await other.offered(created.task)
    check(offer.body.get("granted") is False, "an offer that is not granted", offer)
    await ok(other, "task.yield", **at(offer))
    counters = (await client.view(created.task))["metadata"].get("counters") or {}
    check((counters.get("declines"), counters.get("losses")) == (1, 1), "a decline, and the loss before", counters)
    _, worker, offer = await begun(under, timers=LONG)
    await ok(worker, "task.ask", askNo=1, payload=parts("which?"), **at(offer))
    await worker.refused("conflict", "task.decline", **at(offer))


@coordinator("LEASE-7", also=("LIMIT-4", "REG-6"))
async def what_a_draining_agent_gives_back_counts_as_nothing(under: Coordinator) -> None:
    """A yield by a draining agent is no decline."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill)
    offer = await worker.offered(created.task)
    await worker.request("agent.update", status="draining")
    await ok(worker, "task.yield", **at(offer))
    counters = (await client.view(created.task))["metadata"].get("counters") or {}
    check(not counters.get("declines") and not counters.get("losses"), "neither declines nor losses", counters)


@coordinator("LEASE-8", also=("REPORT-7",))
async def the_lapsed_holders_report_withdraws_the_offer(under: Coordinator) -> None:
    """A report under a lapsed lease is admitted while another agent has only an offer; that offer is revoked."""
    skill = under.skill()
    first, client = await under.peer(skills=(skill,)), await under.peer()
    # An offer that nobody answered would be withdrawn as well, but not within this case.
    created = await client.delegate(skill, timers=SHORT | {"leaseMs": 300, "offerMs": 60_000})
    old = await first.offered(created.task)
    await first.heartbeat(old)
    second = await under.peer(skills=(skill,))
    new = await second.offered(created.task)
    await first.admitted(old)
    revoke = await second.take("task.revoke", task=created.task, fence=new.fence)
    check(revoke.body.get("graceMs", 0) == 0, "graceMs 0", revoke)
    await second.refused("stale", "task.accept", **at(new))


@coordinator("LEASE-10", also=("TIME-7",))
async def takes_an_attempt_away_that_gets_nowhere(under: Coordinator) -> None:
    """With `stallMs` an attempt that only sends heartbeats is revoked for `stall`, and then lapses for good."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    timers = LONG | {"stallMs": 200, "cancelMs": 200}
    created = await client.delegate(skill, timers=timers)
    await client.request("task.watch", task=created.task)
    offer = await worker.offered(created.task)
    revoke = await beats_until_revoked(worker, offer)
    check(revoke.body.get("reason") == "stall" and revoke.body.get("graceMs", 0) > 0, "stall with a grace", revoke)
    await client.take("task.event", event="expire")
    after = await worker.heartbeat(offer)
    check(after.kind == "task.revoke", "task.revoke: no sign of life revives it", after)
    counters = (await client.view(created.task))["metadata"].get("counters") or {}
    check(counters.get("losses") == 1, "one loss counted", counters)


@coordinator("LEASE-10", also=("REG-6", "LIMIT-4"))
async def counts_what_was_taken_away_by_its_reason(under: Coordinator) -> None:
    """An attempt yielded after `attempt` counts as a loss, after `steer` as nothing, and neither as a decline; a drain
    that lapses counts as nothing."""
    expected = {"attempt": (1, 0), "steer": (0, 0), "drain": (0, 0)}
    for reason, counted in expected.items():
        timers = LONG | {"cancelMs": 60_000} | ({"attemptMs": 100} if reason == "attempt" else {})
        client, worker, offer = await begun(under, timers=timers)
        await worker.heartbeat(offer)
        await client.request("task.watch", task=offer.task)
        if reason == "steer":
            await ok(client, "task.steer", task=offer.task, key="one", payload=parts("stop"), mode="interrupt")
        elif reason == "drain":
            await ok(worker, "agent.update", status="draining", graceMs=100)
        revoke = await worker.take("task.revoke", task=offer.task, fence=offer.fence)
        check(revoke.body.get("reason") == reason, f"reason {reason}", revoke)
        if reason == "drain":
            await client.take("task.event", event="expire")
        else:
            await ok(worker, "task.yield", **at(offer))
        counters = (await client.view(offer.task))["metadata"].get("counters") or {}
        told = (counters.get("losses", 0), counters.get("declines", 0))
        check(told == counted, f"losses and declines {counted} for {reason}", counters)


@coordinator("LEASE-6", also=("CANCEL-2", "CANCEL-7"))
async def tells_how_long_there_is_to_wind_down(under: Coordinator) -> None:
    """A cancel with a grace is told by a `task.revoke` with mode and grace, and by the leases until then."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, timers=LONG | {"cancelMs": 1_000})
    offer = await worker.offered(created.task)
    await worker.heartbeat(offer)
    await client.request("task.cancel", task=created.task, mode="coop", graceMs=600_000)
    revoke = await worker.take("task.revoke", task=created.task)
    told = (revoke.body.get("reason"), revoke.body.get("mode", "coop"))
    is_told = told == ("cancel", "coop") and 1_000 < revoke.body.get("graceMs", 0) <= 600_000
    check(is_told, "cancel, coop, and its own grace", revoke)
    lease = await worker.heartbeat(offer)
    check("cancel:coop" in (lease.body.get("directives") or []), "the directive cancel:coop", lease)
    await worker.request("task.yield", **at(offer))
    await client.settled(created.task, state="canceled")
