"""Cases of section 15 and 13: what an answer is worth when the coordinator dies. Each kills it and starts it again."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from ..case import Need, Role, case
from ..conversation import check
from ..peer import Coordinator
from ..requirements import Level
from ..wire import parts, result

coordinator = functools.partial(case, Role.COORDINATOR, needs=(Need.RESTART,))


@coordinator("DURABLE-1", also=("DURABLE-6", "TASK-1"))
async def what_was_answered_is_there_after_a_crash(under: Coordinator) -> None:
    """After `task.created` the coordinator is killed: the task is there with its key, and the epoch is greater."""
    name, skill = under.name("client"), under.skill()
    client = await under.peer(name)
    made = [await client.delegate(skill, number, key=f"{number}") for number in range(20)]
    await under.restart()
    back = await under.peer(name)
    check(back.welcome.body["epoch"] > client.welcome.body["epoch"], "a greater epoch", back.welcome)
    for number, created in enumerate(made):
        again = await back.delegate(skill, number, key=f"{number}")
        check(again.task == created.task and again.body.get("created") is False, "the task there is", again)


@coordinator("DURABLE-2", also=("DURABLE-4", "MAIL-4"))
async def a_verdict_that_came_is_true_after_a_crash(under: Coordinator) -> None:
    """After `admitted` the coordinator is killed: the result is there, and its review comes."""
    name, skill = under.name("client"), under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer(name)
    client.acknowledges = False
    created = await client.delegate(skill)
    await worker.admitted(await worker.offered(created.task), "kept")
    await under.restart()
    back = await under.peer(name)
    review = await back.reviewed(created.task)
    check(review.payload == result("kept"), "the result", review)
    answer = await back.confirm(review)
    check(answer.body.get("state") == "completed", "completed", answer)


@coordinator("DURABLE-5", also=("HELLO-6", "LEASE-3", "TIME-4", "FENCE-1"))
async def a_crash_interrupts_no_attempt(under: Coordinator) -> None:
    """A worker that holds an attempt over the crash is told `keep`, and its report under the old fence is admitted."""
    name, skill = under.name("worker"), under.skill()
    same: dict[str, Any] = {"instanceId": "one", "incarnation": 9}
    worker, who = await under.peer(name, skills=(skill,), **same), under.name("client")
    client = await under.peer(who)
    created = await client.delegate(skill, spec={"acceptance": {"evaluator": "auto"}})
    offer = await worker.offered(created.task)
    await worker.heartbeat(offer)
    await under.restart()
    held = [{"task": offer.task, "fence": offer.fence}]
    back = await under.peer(name, skills=(skill,), held=held, **same)
    verdicts = [entry.get("verdict") for entry in back.welcome.body.get("held") or []]
    check(verdicts == ["keep"], "the verdict keep", back.welcome)
    await back.admitted(offer)
    await (await under.peer(who)).settled(created.task, state="completed")
    again = await back.delegate(skill, "another")
    check((await back.offered(again.task)).fence > offer.fence, "a fence greater than before the crash", "")


@coordinator("DURABLE-7", also=("MAIL-4", "DURABLE-5"))
async def an_offers_proof_is_the_same_after_a_crash(under: Coordinator) -> None:
    """An offer that comes again has the proof it had, and another offer has another one."""
    name, skill = under.name("worker"), under.skill()
    same: dict[str, Any] = {"instanceId": "one", "incarnation": 9}
    worker, client = await under.peer(name, skills=(skill,), credit={"tasks": 2}, **same), await under.peer()
    worker.acknowledges = False
    made = [(await client.delegate(skill, number, timers={"offerMs": 60_000})).task for number in range(2)]
    before = [(await worker.offered(task)).body.get("proof") for task in made]
    check(len({*before, None, ""}) == 4, "two proofs, each of its fence", before)
    await under.restart()
    back = await under.peer(name, skills=(skill,), credit={"tasks": 2}, **same)
    after = [(await back.offered(task)).body.get("proof") for task in made]
    check(after == before, f"the proofs {before}", after)


@coordinator("DURABLE-5", also=("CLAIM-7", "CTX-2", "ASK-3"))
async def everything_said_before_is_known_after(under: Coordinator) -> None:
    """Context values, claims, questions and checkpoints are there after the crash as they were answered."""
    skill, name, context = under.skill(), under.name("worker"), under.name("context")
    same: dict[str, Any] = {"instanceId": "one", "incarnation": 9}
    who = under.name("client")
    worker, client = await under.peer(name, skills=(skill,), **same), await under.peer(who)
    created = await client.delegate(skill)
    offer = await worker.offered(created.task)
    at: dict[str, Any] = {"task": offer.task, "fence": offer.fence}
    await worker.request("task.checkpoint", cpNo=1, payload=parts("saved"), **at)
    await client.request("context.write", contextId=context, key="w", ops=[{"key": "a", "value": b"1"}])
    resource = under.name("resource")
    grant = await client.request("claim.acquire", claimNo=1, claims=[{"name": resource}], ttlMs=600_000)
    await worker.request("task.ask", askNo=1, payload=parts("which?"), **at)
    await under.restart()
    client = await under.peer(who)
    values = await client.request("context.read", contextId=context, keys=["a"])
    check(values.body["values"][0].get("rev") == 1, "the value, revision 1", values)
    page = await client.request("claim.list", name=resource)
    fences = [item.get("claimFence") for item in page.body["claims"]]
    check(fences == [grant.body["claimFence"]], "the claim with its fence", page)
    answer = await client.request("task.answer", task=created.task, askNo=1, payload=parts("this"))
    check(answer.kind == "ok", "ok", answer)
    back = await under.peer(name, skills=(skill,), held=[at], **same)
    await back.take("task.answer", task=created.task)
    again = await back.request("task.checkpoint", cpNo=1, payload=parts("saved"), **at)
    check(again.kind == "ok", "ok: the checkpoint is known", again)


@coordinator("DURABLE-5", also=("WATCH-2", "READ-1"))
async def a_tasks_history_is_whole_after_a_crash(under: Coordinator) -> None:
    """A watch from the beginning tells after the crash what it told before."""
    skill, who = under.skill(), under.name("client")
    worker, client = await under.peer(skills=(skill,)), await under.peer(who)
    created = await client.delegate(skill, spec={"acceptance": {"evaluator": "auto"}})
    await worker.admitted(await worker.offered(created.task))
    await client.settled(created.task)

    async def history(peer: Any) -> list[tuple[Any, ...]]:
        await peer.request("task.watch", task=created.task)
        events = [await peer.take("task.event", task=created.task) for _ in range(4)]
        return [(event["gen"], event.body["event"], event.body["state"], event.body["at"]) for event in events]

    before = await history(client)
    await under.restart()
    after = await history(await under.peer(who))
    check(after == before, f"{before}", after)


@coordinator("TIME-4", also=("LEASE-4",))
async def nobody_loses_a_lease_to_the_crash(under: Coordinator) -> None:
    """A lease much shorter than the crash runs anew from the start: nobody else is offered the task meanwhile."""
    skill, who, name = under.skill(), under.name("client"), under.name("worker")
    same: dict[str, Any] = {"instanceId": "one", "incarnation": 9}
    worker, client = await under.peer(name, skills=(skill,), **same), await under.peer(who)
    created = await client.delegate(skill, timers={"leaseMs": 300, "offerMs": 300, "heartbeatMs": 100})
    offer = await worker.offered(created.task)
    await worker.heartbeat(offer)
    await under.restart()
    held = [{"task": offer.task, "fence": offer.fence}]
    back = await under.peer(name, skills=(skill,), held=held, **same)
    check((back.welcome.body.get("held") or [{}])[0].get("verdict") == "keep", "the verdict keep", back.welcome)
    counters = (await (await under.peer(who)).view(created.task))["metadata"].get("counters") or {}
    check(not counters.get("losses") and not counters.get("revivals"), "neither losses nor revivals", counters)


@coordinator("TIME-4", level=Level.SHOULD, also=("TIME-1",))
async def timers_wait_until_everybody_could_be_back(under: Coordinator) -> None:
    """A task whose time to be taken ends in the crash has not failed while a lease of six seconds runs anew."""
    skill, who = under.skill(), under.name("client")
    worker, client = await under.peer(skills=(skill,)), await under.peer(who)
    held = await client.delegate(skill, timers={"leaseMs": 6_000, "offerMs": 6_000, "heartbeatMs": 1_000})
    await worker.heartbeat(await worker.offered(held.task))
    waiting = await client.delegate(under.skill("nobody"), timers={"queueMs": 1_500})
    is_over = asyncio.get_running_loop().time() + 1.6
    await under.restart()
    back = await under.peer(who)
    await asyncio.sleep(is_over - asyncio.get_running_loop().time())  # a time that is over is what is tried
    state = await back.state(waiting.task)
    check(state == "queued", "state queued", state)


@coordinator("ID-4", also=("AUTH-3", "DURABLE-5"))
async def a_principal_is_bound_after_a_crash(under: Coordinator) -> None:
    """A hello with another secret is refused with `auth` after the crash as before."""
    name = under.name()
    await under.peer(name)
    await under.restart()
    other = await under.connect()
    await other.refused("auth", "hello", **under.hello(name, secret="another secret"))
    await under.peer(name)
