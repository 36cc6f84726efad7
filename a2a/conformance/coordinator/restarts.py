"""Cases of sections 15 and 13: whether an answer outlasts the coordinator. Each case kills and restarts it."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from ..case import Need, Role, case
from ..conversation import check
from ..peer import Coordinator, card
from ..requirements import Level
from ..scenes import LONG, at, ok
from ..wire import Frame, as_bytes, parts, result
from .outcomes import RETRY, verdict

coordinator = functools.partial(case, Role.COORDINATOR, needs=(Need.RESTART,))

SAME: dict[str, Any] = {"instanceId": "one", "incarnation": 9}
"""Fields of the hello of a process that lives through the crash."""
_SLACK_MS = 50
"""Milliseconds by which the clocks of suite and coordinator may differ over a restart."""


async def restarted(under: Coordinator) -> int:
    """Kill the coordinator and start it again; return how many milliseconds of each time, at least, have passed.

    A time that wrongly begins anew with the process has as much left as before, or more.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    await under.restart()
    return int((loop.time() - began) * 1_000) - _SLACK_MS


@coordinator("DURABLE-1", also=("DURABLE-6", "TASK-1"))
async def what_was_answered_is_there_after_a_crash(under: Coordinator) -> None:
    """Tasks made before the coordinator was killed are there with their keys, and the epoch is greater."""
    name, skill = under.name("client"), under.skill()
    client = await under.peer(name)
    made = [await client.delegate(skill, number, key=f"{number}") for number in range(20)]
    await under.restart()
    back = await under.peer(name)
    check(back.welcome.body["epoch"] > client.welcome.body["epoch"], "a greater epoch", back.welcome)
    for number, created in enumerate(made):
        again = await back.delegate(skill, number, key=f"{number}")
        check(again.task == created.task and again.body.get("created") is False, "the task there is", again)


@coordinator("FENCE-8")
async def an_effect_scope_is_the_same_after_a_crash(under: Coordinator) -> None:
    """The restarted coordinator offers a task again with the `effectScope` of the offer before."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill)
    offer = await worker.offered(created.task)
    await worker.request("task.decline", retryAfterMs=600_000, **at(offer))
    await under.restart()
    again = await (await under.peer(skills=(skill,))).offered(created.task, attempt=2)
    scope = offer.body.get("effectScope")
    check(again.body.get("effectScope") == scope, f"effectScope {scope}", again)


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
    worker, who = await under.peer(name, skills=(skill,), **SAME), under.name("client")
    client = await under.peer(who)
    created = await client.delegate(skill, spec={"acceptance": {"evaluator": "auto"}})
    offer = await worker.offered(created.task)
    await worker.heartbeat(offer)
    await under.restart()
    back = await under.peer(name, skills=(skill,), held=[at(offer)], **SAME)
    verdicts = [entry.get("verdict") for entry in back.welcome.body.get("held") or []]
    check(verdicts == ["keep"], "the verdict keep", back.welcome)
    await back.admitted(offer)
    await (await under.peer(who)).settled(created.task, state="completed")
    again = await back.delegate(skill, "another")
    check((await back.offered(again.task)).fence > offer.fence, "a fence greater than before the crash", "")


@coordinator("DURABLE-7", also=("MAIL-4", "DURABLE-5"))
async def an_offers_proof_is_the_same_after_a_crash(under: Coordinator) -> None:
    """An offer that comes again has the same proof, and another offer has another proof."""
    name, skill = under.name("worker"), under.skill()
    worker, client = await under.peer(name, skills=(skill,), credit={"tasks": 2}, **SAME), await under.peer()
    worker.acknowledges = False
    made = [(await client.delegate(skill, number, timers={"offerMs": 60_000})).task for number in range(2)]
    before = [(await worker.offered(task)).body.get("proof") for task in made]
    check(len({*before, None, ""}) == 4, "two proofs, each of its fence", before)
    await under.restart()
    back = await under.peer(name, skills=(skill,), credit={"tasks": 2}, **SAME)
    after = [(await back.offered(task)).body.get("proof") for task in made]
    check(after == before, f"the proofs {before}", after)


@coordinator("DURABLE-5", also=("CLAIM-7", "CTX-2", "ASK-3"))
async def everything_said_before_is_known_after(under: Coordinator) -> None:
    """Context values, claims, questions and checkpoints are there after the crash as they were answered."""
    skill, name, context = under.skill(), under.name("worker"), under.name("context")
    who = under.name("client")
    worker, client = await under.peer(name, skills=(skill,), **SAME), await under.peer(who)
    created = await client.delegate(skill)
    offer = await worker.offered(created.task)
    await worker.request("task.checkpoint", cpNo=1, payload=parts("saved"), **at(offer))
    await client.request("context.write", contextId=context, key="w", ops=[{"key": "a", "value": b"1"}])
    resource = under.name("resource")
    grant = await client.request("claim.acquire", claimNo=1, claims=[{"name": resource}], ttlMs=600_000)
    await worker.request("task.ask", askNo=1, payload=parts("which?"), **at(offer))
    await under.restart()
    client = await under.peer(who)
    values = await client.request("context.read", contextId=context, keys=["a"])
    check(values.body["values"][0].get("rev") == 1, "the value, revision 1", values)
    page = await client.request("claim.list", name=resource)
    fences = [item.get("claimFence") for item in page.body["claims"]]
    check(fences == [grant.body["claimFence"]], "the claim with its fence", page)
    answer = await client.request("task.answer", task=created.task, askNo=1, payload=parts("this"))
    check(answer.kind == "ok", "ok", answer)
    back = await under.peer(name, skills=(skill,), held=[at(offer)], **SAME)
    await back.take("task.answer", task=created.task)
    again = await back.request("task.checkpoint", cpNo=1, payload=parts("saved"), **at(offer))
    check(again.kind == "ok", "ok: the checkpoint is known", again)


@coordinator("DURABLE-5", also=("WATCH-2", "READ-1"))
async def a_tasks_history_is_whole_after_a_crash(under: Coordinator) -> None:
    """A watch from the beginning tells the same events after the crash as before."""
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
    """A lease much shorter than the crash begins anew at the start: no other agent is offered the task meanwhile."""
    skill, who, name = under.skill(), under.name("client"), under.name("worker")
    worker, client = await under.peer(name, skills=(skill,), **SAME), await under.peer(who)
    created = await client.delegate(skill, timers={"leaseMs": 300, "offerMs": 300, "heartbeatMs": 100})
    offer = await worker.offered(created.task)
    await worker.heartbeat(offer)
    await under.restart()
    back = await under.peer(name, skills=(skill,), held=[at(offer)], **SAME)
    check((back.welcome.body.get("held") or [{}])[0].get("verdict") == "keep", "the verdict keep", back.welcome)
    counters = (await (await under.peer(who)).view(created.task))["metadata"].get("counters") or {}
    check(not counters.get("losses") and not counters.get("revivals"), "neither losses nor revivals", counters)


@coordinator("TIME-4", level=Level.SHOULD, also=("TIME-1",))
async def timers_wait_until_everybody_could_be_back(under: Coordinator) -> None:
    """A task whose `queueMs` ends in the crash has not failed while a lease of six seconds runs anew."""
    skill, who = under.skill(), under.name("client")
    worker, client = await under.peer(skills=(skill,)), await under.peer(who)
    held = await client.delegate(skill, timers={"leaseMs": 6_000, "offerMs": 6_000, "heartbeatMs": 1_000})
    await worker.heartbeat(await worker.offered(held.task))
    waiting = await client.delegate(under.skill("nobody"), timers={"queueMs": 1_500})
    is_over = asyncio.get_running_loop().time() + 1.6
    await under.restart()
    back = await under.peer(who)
    await asyncio.sleep(is_over - asyncio.get_running_loop().time())  # the case tries a time that is over
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


@coordinator(
    "DURABLE-5", also=("OFFER-7", "ACCEPT-5", "STEER-1", "ASK-7", "CHECK-3", "TREE-5", "ART-3", "REG-6", "TASK-9")
)
async def the_next_attempt_is_told_what_was_before_a_crash(under: Coordinator) -> None:
    """It is shown as before; words, feedback, answers, checkpoint, sub-tasks and attempts are in the next offer."""
    skill, name, who = under.skill(), under.name("worker"), under.name("client")
    worker, client = await under.peer(name, skills=(skill,), **SAME), await under.peer(who)
    first = await client.delegate(under.skill("nobody"))
    fields: dict[str, Any] = {"limits": {"deadlineMs": 600_000}, "timers": LONG, "contextId": under.name("c")}
    created = await client.delegate(skill, "in", redriveOf=first.task, **fields)
    await ok(worker, "task.decline", retryAfterMs=0, **at(await worker.offered(created.task)))
    offer = await worker.offered(created.task)
    await worker.admitted(offer, "first")
    await client.confirm(await client.reviewed(offer.task), "reject", rework=True, payload=parts("longer"))
    offer = await worker.offered(offer.task, rev=1)
    await ok(client, "task.steer", task=offer.task, key="one", payload=parts("faster"))
    await ok(worker, "task.ask", askNo=1, payload=parts("which?"), **at(offer))
    await ok(client, "task.answer", task=offer.task, askNo=1, payload=parts("this"))
    await ok(worker, "task.checkpoint", cpNo=1, payload=parts("saved"), format="steps/2", **at(offer))
    for number in range(2):
        chunk = {"artifactId": "log", "chunkNo": number, "append": number > 0, "payload": parts(number)}
        await ok(worker, "task.artifact", lastChunk=number > 0, **chunk, **at(offer))
    made = await worker.delegate(under.skill("inner"), parent=at(offer))
    stranger = await under.peer()
    await verdict(stranger, offer, "not_holder", "not mine")
    await stranger.refused("forbidden", "task.steer", task=offer.task, key="two", payload=parts("slower"))
    await ok(worker, "agent.update", status="draining")
    await worker.admitted(offer, outcome="failed", error=RETRY)
    before = await client.request("task.get", task=offer.task, content=True)
    passed = await restarted(under)
    worker, client = await under.peer(name, skills=(skill,), **SAME), await under.peer(who)
    after = await client.request("task.get", task=offer.task, content=True)
    check(_shown(after) == _shown(before), f"{_shown(before)}", _shown(after))
    await worker.nothing("task.offer")
    await ok(worker, "agent.update", status="ready")
    again = await worker.offered(offer.task, rev=1)
    told = again.body
    said = [
        [as_bytes(item.get("payload")) for item in told.get(name) or []] for name in ("steers", "answers", "feedback")
    ]
    check(said == [[parts("faster")], [parts("this")], [parts("longer")]], "word, answer and feedback", again)
    left_off = told.get("checkpoint") or {}
    is_whole = (as_bytes(left_off.get("payload")), left_off.get("format")) == (parts("saved"), "steps/2")
    check(is_whole, "the checkpoint, of the format steps/2", again)
    children = [child.get("task") for child in told.get("children") or []]
    check(children == [made.task], f"the sub-task {made.task}", again)
    ends = [attempt.get("end") for attempt in (told.get("dossier") or {}).get("attempts") or []]
    check(len(ends) == 3 and all(ends), "how three attempts ended", again)
    left = offer.body["deadlineMs"] - passed
    check(0 < told.get("deadlineMs", 0) <= left, f"at most {left} ms, which is left of its deadline", again)
    check(again.fence > offer.fence, "a greater fence", again)
    check(told.get("leaseMs") == LONG["leaseMs"], f"leaseMs {LONG['leaseMs']}, as agreed on", again)
    await worker.admitted(again)


def _shown(found: Frame) -> dict[str, Any]:
    """Return a task as it is shown, without what changes as time passes."""
    shown = {name: found.body.get(name) for name in ("artifacts", "asks", "input", "view")}
    view = dict(found.body["view"])
    metadata = view.get("metadata") or {}
    kept = {name: value for name, value in metadata.items() if not name.endswith("Ms")}
    return shown | {"view": view | {"metadata": kept}, "gen": found["gen"]}


@coordinator("DURABLE-5", also=("ASK-2", "ASK-4", "STEER-2", "ART-2", "CHECK-2", "REPORT-4", "ACCEPT-6", "ACCEPT-4"))
async def a_repeat_is_one_after_a_crash(under: Coordinator) -> None:
    """Messages from and to an attempt are known by number or key; its report and the confirm are known by the hash."""
    skill, name, who = under.skill(), under.name("worker"), under.name("client")
    worker, client = await under.peer(name, skills=(skill,), **SAME), await under.peer(who)
    key = under.name("key")
    offer = await worker.offered((await client.delegate(skill, key=key, timers=LONG)).task)
    ask = {"askNo": 1, "payload": parts("which?")} | at(offer)
    answer = {"task": offer.task, "askNo": 1}
    word = {"task": offer.task, "key": "one"}
    chunk = {"artifactId": "log", "append": True, "lastChunk": False} | at(offer)
    await ok(worker, "task.ask", **ask)
    await ok(client, "task.answer", payload=parts("this"), **answer)
    await ok(client, "task.steer", payload=parts("faster"), **word)
    await ok(worker, "task.artifact", **(chunk | {"chunkNo": 0, "append": False, "payload": parts(0)}))
    await ok(worker, "task.artifact", chunkNo=1, payload=parts(1), **chunk)
    await ok(worker, "task.checkpoint", cpNo=3, payload=parts("saved"), **at(offer))
    await under.restart()
    worker = await under.peer(name, skills=(skill,), held=[at(offer)], **SAME)
    client = await under.peer(who)
    await ok(worker, "task.ask", **ask)
    await worker.refused("conflict", "task.ask", **(ask | {"payload": parts("what?")}))
    await ok(client, "task.answer", payload=parts("this"), **answer)
    error = await client.refused("already_answered", "task.answer", payload=parts("that"), **answer)
    check(as_bytes((error.body.get("data") or {}).get("answer")) == parts("this"), "the answer", error)
    await client.refused("idempotency_mismatch", "task.steer", payload=parts("slower"), **word)
    await ok(client, "task.steer", payload=parts("faster"), **word)
    await ok(worker, "task.artifact", chunkNo=1, payload=parts(1), **chunk)
    await worker.refused("conflict", "task.artifact", chunkNo=3, payload=parts(3), **chunk)
    await ok(worker, "task.artifact", chunkNo=2, payload=parts(2), **(chunk | {"lastChunk": True}))
    error = await worker.refused("conflict", "task.checkpoint", cpNo=2, payload=parts("x"), **at(offer))
    check((error.body.get("data") or {}).get("cpNo") == 3, "data.cpNo 3", error)
    artifact = (await client.request("task.get", task=offer.task)).body["artifacts"][0]
    chunks = [as_bytes(payload) for payload in artifact.get("chunks", [])]
    check(chunks == [parts(number) for number in range(3)], "three chunks", artifact)
    await worker.admitted(offer, artifacts=[{"artifactId": "log"}], steerNo=1)
    review = await client.reviewed(offer.task)
    await under.restart()
    worker = await under.peer(name, skills=(skill,), **SAME)
    client = await under.peer(who)
    await verdict(worker, offer, "duplicate")
    await verdict(worker, offer, "late", "another")
    await client.confirm(review)
    await under.restart()
    client = await under.peer(who)
    check((await client.confirm(review)).body.get("state") == "completed", "completed", "")
    late = await client.confirm(review, "reject")
    check(late.code == "conflict", "error conflict", late)
    again = await client.delegate(skill, key=key, timers=LONG)
    check((again.task, again.body.get("created")) == (offer.task, False), "the task there was", again)


@coordinator("DURABLE-5", also=("MAIL-1", "MAIL-3", "MAIL-4", "MAIL-5"))
async def a_mailbox_goes_on_after_a_crash(under: Coordinator) -> None:
    """Unacknowledged entries come again with their numbers and in their order; a new entry has the next number."""
    skill, who = under.skill(), under.name("client")
    worker, client = await under.peer(skills=(skill,)), await under.peer(who)
    tasks = []
    for number in range(5):
        tasks.append((await client.delegate(skill, number)).task)
        await worker.admitted(await worker.offered(tasks[-1]), number)
        if number == 1:
            await client.reviewed(tasks[1])
            await client.request("bye")
            client = await under.peer(who)
            client.acknowledges = False
    reviews = [await client.reviewed(task) for task in tasks[2:]]
    await under.restart()
    client = await under.peer(who, resume={"lastMseq": reviews[0]["mseq"]})
    again = [await client.take("task.review") for _ in range(2)]
    came = [(review["mseq"], review.task, review.payload) for review in again]
    expected = [(review["mseq"], review.task, review.payload) for review in reviews[1:]]
    check(came == expected, f"{[mseq for mseq, *_ in expected]}, as they were", again)
    await client.confirm(again[0])
    settled = await client.settled(again[0].task)
    check(settled["mseq"] == again[1]["mseq"] + 1, "the next number", settled)


@coordinator("DURABLE-5", also=("BUDGET-1", "BUDGET-2", "BUDGET-3", "READ-3"))
async def what_was_used_and_given_away_counts_after_a_crash(under: Coordinator) -> None:
    """Of 100 tokens 30 were used and a sub-task has 40: 30 are left; a repeated usage counts once."""
    (skill, inner), name, who = (
        [under.skill(word) for word in ("skill", "inner")],
        under.name("worker"),
        under.name("c"),
    )
    worker, client = await under.peer(name, skills=(skill, inner), **SAME), await under.peer(who)
    created = await client.delegate(skill, budget={"tokens": 100}, timers=LONG)
    offer = await worker.offered(created.task)
    spent = await worker.delegate(inner, 1, parent=at(offer), timers=LONG)
    part = await worker.offered(spent.task)
    await worker.admitted(part, usage={"tokens": 30})
    await worker.delegate(under.skill("nobody"), 2, parent=at(offer), budget={"tokens": 40}, timers=LONG)
    await under.restart()
    worker = await under.peer(name, skills=(skill, inner), held=[at(offer)], **SAME)
    client = await under.peer(who)
    await verdict(worker, part, "duplicate", usage={"tokens": 30})
    fields = worker.delegation(inner, 3, parent=at(offer), budget={"tokens": 31}, timers=LONG)
    data = (await worker.refused("budget", "task.delegate", **fields)).body.get("data") or {}
    check((data.get("kind"), data.get("left")) == ("tokens", 30), "30 tokens left", data)
    await client.request("task.cancel", task=created.task, mode="skip")


@coordinator("DURABLE-5", also=("CANCEL-3", "CANCEL-4", "CANCEL-5", "LEASE-10", "FENCE-3", "HELLO-6"))
async def who_is_to_stop_is_so_after_a_crash(under: Coordinator) -> None:
    """Attempts of canceled tasks go on in the same mode; one taken away is told so, one yielded is over."""
    skill, name, who = under.skill(), under.name("worker"), under.name("client")
    worker, client = await under.peer(name, skills=(skill,), **SAME), await under.peer(who)
    offers = []
    for number in range(4):
        created = await client.delegate(skill, number, timers=LONG | {"cancelMs": 600_000})
        offers.append(await worker.offered(created.task))
        await worker.heartbeat(offers[-1])
    worker.acknowledges = False
    coop, kill, taken, given = offers
    await ok(worker, "agent.update", status="draining")
    for offer, mode in ((coop, "coop"), (kill, "kill")):
        await client.request("task.cancel", task=offer.task, mode=mode, graceMs=600_000)
    await ok(client, "task.steer", task=taken.task, key="one", payload=parts("stop"), mode="interrupt")
    await ok(worker, "task.yield", **at(given))
    before = [await client.state(offer.task) for offer in offers]
    passed = await restarted(under)
    worker = await under.peer(name, skills=(skill,), held=[at(offer) for offer in offers], **SAME)
    client = await under.peer(who)
    after = [await client.state(offer.task) for offer in offers]
    check(after == before, f"{before}", after)
    verdicts = [entry.get("verdict") for entry in worker.welcome.body.get("held") or []]
    check(verdicts == ["keep", "keep", "keep", "stale"], "keep, and stale for what was given back", worker.welcome)
    for offer, mode in ((coop, "coop"), (kill, "kill")):
        lease = await worker.heartbeat(offer)
        check(f"cancel:{mode}" in (lease.body.get("directives") or []), f"the directive cancel:{mode}", lease)
    revoke = await worker.take("task.revoke", task=taken.task, fence=taken.fence)
    told = revoke.body.get("reason"), 0 < revoke.body.get("graceMs", 0) <= 600_000 - passed
    check(told == ("steer", True), "steer, with what is left of its grace", revoke)
    await worker.admitted(coop)
    await verdict(worker, kill, "late")
    await client.settled(kill.task, state="canceled")
    await verdict(worker, given, "late")
    await worker.admitted(taken)


@coordinator("DURABLE-5", also=("LEASE-8", "OFFER-1", "OFFER-3", "FENCE-4", "LIMIT-4"))
async def who_comes_back_first_keeps_the_task_after_a_crash(under: Coordinator) -> None:
    """Two lapsed attempts were offered to another agent: one is heard first, one accepted; losses are counted."""
    skill, names, who = under.skill(), [under.name("worker") for _ in range(2)], under.name("client")
    newer: dict[str, Any] = {"instanceId": "two", "incarnation": 10, "credit": {"tasks": 0, "frames": 256}}
    first, client = await under.peer(names[0], skills=(skill,), **SAME), await under.peer(who)
    olds = [await first.offered((await client.delegate(skill, number, timers=LONG)).task) for number in range(2)]
    for offer in olds:
        await first.heartbeat(offer)
    second = await under.peer(names[1], skills=(skill,), **SAME)
    first = await under.peer(names[0], skills=(skill,), **newer)
    news = [await second.offered(offer.task) for offer in olds]
    await under.restart()
    second, client = await under.peer(names[1], skills=(skill,), **SAME), await under.peer(who)
    first = await under.peer(names[0], skills=(skill,), **newer)
    counted = [(await client.view(offer.task))["metadata"].get("counters") or {} for offer in olds]
    check([counters.get("losses") for counters in counted] == [1, 1], "a loss of each", counted)
    lease = await first.heartbeat(olds[0])
    check(lease.kind == "task.lease", "task.lease: the attempt revives", lease)
    await second.refused("stale", "task.accept", **at(news[0]))
    accepted = await second.request("task.accept", **at(news[1]))
    check(accepted.kind == "task.lease", "task.lease", accepted)
    await verdict(first, olds[1], "stale")
    await second.admitted(news[1])
    await first.admitted(olds[0])
    before = await client.view(olds[0].task)
    await under.restart()
    counters = (await (await under.peer(who)).view(olds[0].task))["metadata"].get("counters") or {}
    check(counters == before["metadata"]["counters"] and counters.get("revivals") == 1, "one revival", counters)


@coordinator("DURABLE-5", also=("TREE-4", "TASK-7", "CANCEL-1"))
async def a_tree_is_one_after_a_crash(under: Coordinator) -> None:
    """When the parent ends, its bound sub-task is canceled, and the detached one goes on and is its delegator's."""
    skill, inner, name, who = under.skill(), under.skill("inner"), under.name("worker"), under.name("client")
    worker, client = await under.peer(name, skills=(skill,), **SAME), await under.peer(who)
    offer = await worker.offered((await client.delegate(skill, timers=LONG)).task)
    bound = await worker.delegate(inner, 1, key="part", parent=at(offer))
    detached = await worker.delegate(inner, 2, parent=at(offer), onParentEnd="detach")
    await under.restart()
    worker, client = await under.peer(name, skills=(skill,), held=[at(offer)], **SAME), await under.peer(who)
    again = await worker.delegate(inner, 1, key="part", parent=at(offer))
    check((again.task, again.body.get("created")) == (bound.task, False), "the sub-task there is", again)
    view = await client.view(bound.task)
    check((view["metadata"] or {}).get("parent") == offer.task, f"parent {offer.task}", view)
    await client.request("task.cancel", task=offer.task, mode="skip")
    await client.settled(offer.task, state="canceled")
    states = [await client.state(task.task) for task in (bound, detached)]
    check(states == ["canceled", "queued"], "the bound one canceled, the detached one queued still", states)
    helper = await under.peer(skills=(inner,))
    await helper.admitted(await helper.offered(detached.task))
    await worker.confirm(await worker.reviewed(detached.task))


@coordinator("DURABLE-5", also=("REG-1", "REG-2", "REG-6", "ID-6", "ERR-6", "ROUTE-1"))
async def agents_are_known_after_a_crash(under: Coordinator) -> None:
    """An away agent is found as it last updated itself, draining; its older process is refused; it gets no offer."""
    skill, name, who = under.skill(), under.name("worker"), under.name("client")
    newer: dict[str, Any] = {"instanceId": "newer", "incarnation": 8, "labels": {"zone": "a"}}
    client = await under.peer(who)
    worker = await under.peer(name, skills=(skill,), **(newer | {"labels": {"zone": "b"}}))
    later = card(name, skill) | {"version": "2", "laterField": {"a": [None]}}
    await ok(worker, "agent.update", card=later, labels={"zone": "a"})
    stranger = await under.connect()
    await stranger.refused("auth", "hello", **under.hello(name, secret="another secret"))
    offer = await worker.offered((await client.delegate(skill, timers=LONG)).task)
    await worker.heartbeat(offer)
    await ok(worker, "agent.update", status="draining")
    await worker.request("bye")
    wanted = {"skill": skill, "labels": {"zone": "a"}}
    before = (await client.request("agent.find", filter=wanted)).body
    await under.restart()
    client = await under.peer(who)
    after = (await client.request("agent.find", filter=wanted)).body
    check(after == before and len(after.get("agents") or []) == 1, f"{before}", after)
    shown = after["agents"][0]
    check(shown.get("card") == later, f"the card {later}", shown)
    check(shown.get("holding") == [offer.task], f"holding {offer.task}", shown)
    older = await under.connect()
    await older.refused("denied", "hello", **under.hello(name, skill, instanceId="older", incarnation=7))
    created = await client.delegate(skill, spec={"requires": {"labels": {"zone": "a"}}})
    worker = await under.peer(name, skills=(skill,), held=[at(offer)], **newer)
    await worker.nothing("task.offer")
    await ok(worker, "agent.update", status="ready")
    await worker.offered(created.task)


@coordinator("DURABLE-5", also=("HAND-1", "HAND-3"))
async def a_task_goes_to_whom_it_was_handed_after_a_crash(under: Coordinator) -> None:
    """A task handed on to an agent that is away waits for it over the crash, with the note; nobody else is asked."""
    skill, names, who = under.skill(), [under.name("worker") for _ in range(2)], under.name("client")
    worker, client = await under.peer(names[0], skills=(skill,), **SAME), await under.peer(who)
    offer = await worker.offered((await client.delegate(skill, timers=LONG)).task)
    await (await under.peer(names[1], skills=(skill,), **SAME)).request("bye")
    await ok(worker, "task.handoff", to=names[1], payload=parts("mind the gap"), **at(offer))
    await under.restart()
    worker = await under.peer(names[0], skills=(skill,), **SAME)
    await worker.nothing("task.offer")
    wanted = await under.peer(names[1], skills=(skill,), **SAME)
    again = await wanted.offered(offer.task)
    attempts = (again.body.get("dossier") or {}).get("attempts") or [{}]
    is_told = attempts[0].get("end") == "handed_off" and as_bytes(attempts[0].get("payload")) == parts("mind the gap")
    check(is_told, "handed_off, with the note", again)
    await wanted.admitted(again)
    client = await under.peer(who)
    await client.reviewed(offer.task)
    counters = (await client.view(offer.task))["metadata"].get("counters") or {}
    check(counters.get("handoffs") == 1, "one handoff", counters)


@coordinator("DURABLE-5", also=("ASK-1", "ASK-6", "MAIL-6", "TIME-5"))
async def a_question_is_asked_again_after_a_crash(under: Coordinator) -> None:
    """A question its delegator did not acknowledge comes again with its default, and with what is left of its time."""
    skill, name, who = under.skill(), under.name("worker"), under.name("client")
    worker, client = await under.peer(name, skills=(skill,), **SAME), await under.peer(who)
    client.acknowledges = False
    offer = await worker.offered((await client.delegate(skill, timers=LONG)).task)
    asked = {"askNo": 1, "payload": parts("which?"), "default": parts("any"), "timeoutMs": 600_000}
    await ok(worker, "task.ask", **asked, **at(offer))
    was = await client.take("task.ask", task=offer.task)
    passed = await restarted(under)
    client = await under.peer(who)
    again = await client.take("task.ask", task=offer.task, askNo=1)
    told = (again.payload, as_bytes(again.body.get("default")))
    check(told == (parts("which?"), parts("any")), "the question and its default", again)
    left = was.body["timeoutMs"] - passed
    check(0 < again.body.get("timeoutMs", 0) <= left, f"at most {left} ms", again)
    check(await client.state(offer.task) == "parked", "state parked", "")
    await ok(client, "task.answer", task=offer.task, askNo=1, payload=parts("this"))
    worker = await under.peer(name, skills=(skill,), held=[at(offer)], **SAME)
    answer = await worker.take("task.answer", task=offer.task, askNo=1)
    check(answer.payload == parts("this"), "the answer", answer)
    await worker.admitted(offer)
