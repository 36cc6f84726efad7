"""Cases of sections 7 and 8: the states of a task, delegating, trees and budgets."""

from __future__ import annotations

import functools
from typing import Any

from ..case import Role, Skipped, case
from ..conversation import check
from ..peer import Coordinator
from ..scenes import LONG, at, begun, ok
from ..wire import digest, parts

coordinator = functools.partial(case, Role.COORDINATOR)


@coordinator("STATE-1", also=("STATE-2", "STATE-3", "STATE-5", "WATCH-2"))
async def goes_through_its_states_one_generation_at_a_time(under: Coordinator) -> None:
    """The events of a task that is reworked once lead from state to state, each with the next generation."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill)
    await client.request("task.watch", task=created.task)
    await worker.admitted(await worker.offered(created.task), "one")
    await client.confirm(await client.reviewed(created.task), "reject", rework=True)
    await worker.admitted(await worker.offered(created.task), "two")
    await client.confirm(await client.reviewed(created.task))
    expected = [
        *(("created", "queued"), ("grant", "leased"), ("report", "reported"), ("rework", "queued")),
        *(("grant", "leased"), ("report", "reported"), ("complete", "completed")),
    ]
    for generation, (event, state) in enumerate(expected, 1):
        came = await client.take_if(lambda frame: frame.kind == "task.event", "task.event")
        is_next = (came.body.get("event"), came.body.get("state")) == (event, state) and came.get("gen") == generation
        check(is_next, f"{event} to {state} as generation {generation}", came)


@coordinator("STATE-3")
async def a_task_that_was_leased_shows_working_while_it_waits_again(under: Coordinator) -> None:
    """A queued task shows TASK_STATE_SUBMITTED, and once it was leased TASK_STATE_WORKING."""
    skill = under.skill()
    client = await under.peer()
    created = await client.delegate(skill)
    shown = (await client.view(created.task))["status"]["state"]
    check(shown == "TASK_STATE_SUBMITTED", "TASK_STATE_SUBMITTED", shown)
    worker = await under.peer(skills=(skill,))
    offer = await worker.offered(created.task)
    await worker.heartbeat(offer)
    await worker.request("agent.update", status="draining")
    await worker.request("task.yield", task=offer.task, fence=offer.fence)
    view = await client.view(created.task)
    check(view["metadata"].get("state") == "queued", "state queued", view["metadata"])
    check(view["status"]["state"] == "TASK_STATE_WORKING", "TASK_STATE_WORKING", view["status"])


@coordinator("STATE-4", also=("CANCEL-5", "ACCEPT-6"))
async def nothing_leads_out_of_the_end(under: Coordinator) -> None:
    """A completed task is neither canceled, reworked nor reported again."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill)
    offer = await worker.offered(created.task)
    await worker.admitted(offer)
    review = await client.reviewed(created.task)
    await client.confirm(review)
    error = await client.refused("not_cancelable", "task.cancel", task=created.task)
    check((error.body.get("data") or {}).get("state") == "completed", "data.state completed", error)
    answer = await client.confirm(review, "reject")
    check(answer.kind == "error" and answer.code == "conflict", "error conflict", answer)
    verdict = await worker.report(offer, "another")
    check(verdict.body.get("verdict") == "late", "verdict late", verdict)
    check(await client.state(created.task) == "completed", "the task completed still", "")


@coordinator("TASK-1", also=("TASK-8",))
async def creates_a_task_and_says_so(under: Coordinator) -> None:
    """`task.created` has the task's id, generation 1, `created: true`, a state and a context."""
    client = await under.peer()
    created = await client.delegate(under.skill())
    is_whole = bool(created.task) and created.get("gen") == 1 and created.body.get("created") is True
    check(is_whole and bool(created.body.get("contextId")), "id, gen 1, created: true and a contextId", created)
    named = await client.delegate(under.skill(), contextId=under.name("context"))
    check(str(named.body.get("contextId")).startswith("context-"), "the context that was named", named)


@coordinator("TASK-2")
async def the_hash_covers_spec_and_input_alone(under: Coordinator) -> None:
    """The same key with the same spec, its fields reordered, and other timers is the same task."""
    client, skill = await under.peer(), under.skill()
    first = client.delegation(skill, 1, key="one")
    first["spec"] = {"skill": skill, "effect": "pure", "priority": 3}
    again = client.delegation(skill, 1, key="one", timers={"leaseMs": 5_000})
    again["spec"] = {"priority": 3, "effect": "pure", "skill": skill}
    one, two = await client.request("task.delegate", **first), await client.request("task.delegate", **again)
    check(two.task == one.task and two.body.get("created") is False, "the task there is, created: false", two)


@coordinator("TASK-3", also=("RPC-4",))
async def a_key_stands_for_one_task(under: Coordinator) -> None:
    """A repeated key is answered with the task as it is now, even after it has completed."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, "x", key="one")
    await worker.admitted(await worker.offered(created.task))
    await client.confirm(await client.reviewed(created.task))
    again = await client.delegate(skill, "x", key="one")
    check(again.task == created.task and again.body.get("created") is False, "the task there is", again)
    check(again.body.get("state") == "completed" and again["gen"] > created["gen"], "its state of now", again)
    await worker.nothing("task.offer")


@coordinator("TASK-4")
async def the_same_key_with_other_work_is_refused(under: Coordinator) -> None:
    """The key with another input is refused with `idempotency_mismatch`; no task is made."""
    client, skill = await under.peer(), under.skill()
    made = await client.delegate(skill, "x", key="one")
    other = client.delegation(skill, "y", key="one")
    error = await client.refused("idempotency_mismatch", "task.delegate", **other)
    wanted = (made.task, *(digest({"skill": skill}, parts(value)) for value in "xy"))
    check(all(name in str(error) for name in wanted), f"an error that names {wanted}", error)
    page = await client.request("task.list", skill=skill)
    check(len(page.body.get("tasks", [])) == 1, "one task", page)


@coordinator("TASK-5")
async def keys_are_the_principals_own(under: Coordinator) -> None:
    """Two principals use one key for two tasks; two processes of one principal use it for one."""
    skill, name = under.skill(), under.name("client")
    one, two = await under.peer(f"{name}#1"), await under.peer(f"{name}#2")
    other = await under.peer()
    first = await one.delegate(skill, "x", key="shared")
    second = await two.delegate(skill, "x", key="shared")
    third = await other.delegate(skill, "x", key="shared")
    check(first.task == second.task, "one task of one principal", second)
    check(third.task != first.task, "another task of another principal", third)


@coordinator("TASK-6", also=("AUTH-4", "FENCE-7"))
async def a_sub_task_needs_the_parents_fence(under: Coordinator) -> None:
    """A sub-task under another agent's fence, an old or an impossible one, or no task is refused accordingly."""
    skill = under.skill()
    worker, client, thief = await under.peer(skills=(skill,)), await under.peer(), await under.peer()
    created = await client.delegate(skill)
    offer = await worker.offered(created.task)
    sub = client.delegation("anything")
    await thief.refused("not_holder", "task.delegate", **(sub | {"parent": at(offer)}))
    impossible = {"task": offer.task, "fence": 9_007_199_254_740_991}
    await worker.refused("malformed", "task.delegate", **(sub | {"parent": impossible}))
    await worker.refused("not_found", "task.delegate", **(sub | {"parent": {"task": "no-such-task", "fence": 1}}))
    await worker.admitted(offer)
    await worker.refused("stale", "task.delegate", **(sub | {"parent": at(offer)}))


@coordinator("TASK-6", also=("LEASE-8",))
async def a_lapsed_attempt_makes_a_sub_task(under: Coordinator) -> None:
    """A sub-task is made under a lapsed lease's fence while nobody else has the task."""
    client, worker, offer = await begun(under, timers={"leaseMs": 200, "offerMs": 200, "heartbeatMs": 50})
    await ok(worker, "agent.update", status="draining")
    await client.request("task.watch", task=offer.task)
    await client.take("task.event", event="expire")
    await worker.delegate(under.skill("inner"), parent=at(offer))


@coordinator("TASK-7")
async def notices_go_to_the_process_that_came_last(under: Coordinator) -> None:
    """If another process of the principal delegates with the same key, it gets the review."""
    skill, name = under.skill(), under.name("client")
    worker, first = await under.peer(skills=(skill,)), await under.peer(f"{name}#1")
    created = await first.delegate(skill, "x", key="shared")
    second = await under.peer(f"{name}#2")
    await second.delegate(skill, "x", key="shared")
    await worker.admitted(await worker.offered(created.task))
    await second.reviewed(created.task)
    await first.nothing("task.review")


@coordinator("TASK-7", also=("AUTH-5", "TREE-5"))
async def a_sub_task_belongs_to_who_has_its_parent(under: Coordinator) -> None:
    """The next attempt gets the review of a sub-task of the attempt before, unasked, and may confirm it."""
    skill, inner = under.skill(), under.skill("inner")
    first, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, timers=LONG)
    offer = await first.offered(created.task)
    made = await first.delegate(inner, parent=at(offer))
    second = await under.peer(skills=(skill,))
    await first.request("agent.update", status="draining")
    await ok(first, "task.yield", **at(offer))
    await second.offered(created.task)
    helper = await under.peer(skills=(inner,))
    await helper.admitted(await helper.offered(made.task))
    answer = await second.confirm(await second.reviewed(made.task))
    check(answer.kind == "ok", "ok to the word of who has the parent", answer)
    await first.nothing("task.review")


@coordinator("AUTH-5", also=("CANCEL-1",))
async def who_has_the_parent_controls_the_sub_task(under: Coordinator) -> None:
    """The next attempt cancels a sub-task that the attempt before delegated; a stranger may not."""
    skill = under.skill()
    first, client = await under.peer(skills=(skill,)), await under.peer()
    offer = await first.offered((await client.delegate(skill, timers=LONG)).task)
    made = await first.delegate(under.skill("inner"), parent=at(offer))
    second = await under.peer(skills=(skill,))
    await second.refused("forbidden", "task.cancel", task=made.task)
    await first.request("agent.update", status="draining")
    await ok(first, "task.yield", **at(offer))
    await second.offered(offer.task)
    answer = await second.request("task.cancel", task=made.task)
    check(answer.kind == "ok", "ok", answer)


@coordinator("TASK-8")
async def a_sub_task_is_in_its_parents_context(under: Coordinator) -> None:
    """A sub-task that names no context is in its parent's; one that names another is in that."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill)
    offer = await worker.offered(created.task)
    made = await worker.delegate(under.skill("inner"), parent=at(offer))
    check(made.body.get("contextId") == created.body.get("contextId"), "the parent's context", made)
    named = under.name("context")
    other = await worker.delegate(under.skill("inner"), parent=at(offer), contextId=named)
    check(other.body.get("contextId") == named, f"the context {named}", other)


@coordinator("TASK-9")
async def a_named_lease_shortens_the_heartbeat(under: Coordinator) -> None:
    """A task that names only a lease is offered with a heartbeat of at most a third of it."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    frame = client.frame("task.delegate", key="k", spec={"skill": skill}, payload=parts(1), timers={"leaseMs": 900})
    await client.send_frames(frame)
    created = await client.reply(frame["id"])
    offer = await worker.offered(created.task)
    check(offer.body.get("leaseMs") == 900, "leaseMs 900", offer)
    check(20 <= offer.body.get("heartbeatMs", 0) <= 300, "a heartbeat of at most 300 ms", offer)


@coordinator("TASK-10", also=("ACCEPT-1", "REPORT-5"))
async def the_delegator_is_told_however_a_task_ends(under: Coordinator) -> None:
    """`task.settled` comes for a task that completed, failed, was rejected and was canceled, and says which result of
    which revision was confirmed by whom."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    auto = {"acceptance": {"evaluator": "auto"}}
    for outcome, state in (("completed", "completed"), ("failed", "failed"), ("rejected", "rejected")):
        created = await client.delegate(skill, spec=auto)
        await worker.admitted(await worker.offered(created.task), outcome=outcome)
        await client.settled(created.task, state=state)
    created = await client.delegate(under.skill())
    await client.request("task.cancel", task=created.task)
    await client.settled(created.task, state="canceled", reason="canceled")
    created = await client.delegate(skill)
    await worker.admitted(await worker.offered(created.task))
    await client.confirm(await client.reviewed(created.task), "reject", rework=True)
    await worker.admitted(await worker.offered(created.task, rev=1), "better")
    review = await client.reviewed(created.task)
    await client.confirm(review)
    end = await client.settled(created.task, state="completed")
    told = [end.body.get(name) for name in ("rev", "resultHash", "confirmedBy")]
    expected = [1, review.body["resultHash"], client.name]
    check(told == expected, f"rev, resultHash and confirmedBy {expected}", end)


@coordinator("TASK-11")
async def the_worker_is_told_of_an_end_it_did_not_make(under: Coordinator) -> None:
    """A holder gets `task.revoke` when its task ends; the worker of a confirmed result gets `task.settled`."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill)
    offer = await worker.offered(created.task)
    await worker.heartbeat(offer)
    await client.request("task.cancel", task=created.task, mode="skip")
    await worker.take("task.revoke", task=created.task, fence=offer.fence)
    created = await client.delegate(skill)
    await worker.admitted(await worker.offered(created.task))
    await client.confirm(await client.reviewed(created.task))
    await worker.settled(created.task, state="completed")


@coordinator("TASK-11", also=("OFFER-1",))
async def who_has_an_offer_is_told_of_the_end_too(under: Coordinator) -> None:
    """An agent with an offer that is not granted gets `task.revoke` when the task is canceled."""
    skill = under.skill()
    first, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, timers=LONG | {"leaseMs": 300}, limits={"losses": 100})
    await first.heartbeat(await first.offered(created.task))
    second = await under.peer(skills=(skill,))
    offer = await second.offered(created.task)
    check(offer.body.get("granted") is False, "granted: false", offer)
    await client.request("task.cancel", task=created.task)
    await second.take("task.revoke", task=created.task, fence=offer.fence)


@coordinator("TASK-12")
async def a_task_whose_delegator_is_gone_is_cancelled_where_it_said_so(under: Coordinator) -> None:
    """With `onDelegatorLoss: cancel` and a `lossMs`, the task is canceled soon after its delegator has left."""
    name, watcher = under.name("client"), await under.peer()
    client = await under.peer(name)
    created = await client.delegate(under.skill(), onDelegatorLoss="cancel", lossMs=100)
    await watcher.request("task.watch", task=created.task)
    await client.leave()
    await watcher.take("task.event", event="cancel")
    await (await under.peer(name)).settled(created.task, state="canceled")


@coordinator("TASK-12", also=("CANCEL-2",))
async def what_a_delegator_that_is_gone_leaves_behind(under: Coordinator) -> None:
    """After `lossMs` an agent at work is told `coop`, with a grace; a reported task waits, and so does a task with a
    longer `lossMs`."""
    name, skill, watcher = under.name("client"), under.skill(), await under.peer()
    client, worker = await under.peer(name), await under.peer(skills=(skill,))
    loss: dict[str, Any] = {"onDelegatorLoss": "cancel", "lossMs": 200, "timers": LONG | {"cancelMs": 600_000}}
    reported = await worker.offered((await client.delegate(skill, 1, **loss)).task)
    held = await worker.offered((await client.delegate(skill, 2, **loss)).task)
    waits = await client.delegate(under.skill("nobody"), **(loss | {"lossMs": 600_000}))
    await worker.heartbeat(held)
    await worker.admitted(reported)
    await client.leave()
    revoke = await worker.take("task.revoke", task=held.task)
    told = (revoke.body.get("reason"), revoke.body.get("mode", "coop"), revoke.body.get("graceMs", 0) > 0)
    check(told == ("cancel", "coop", True), "cancel, coop, with a grace", revoke)
    states = [await watcher.state(task) for task in (reported.task, waits.task)]
    check(states == ["reported", "queued"], "reported, and queued", states)


@coordinator("TASK-12")
async def a_delegator_that_is_back_in_time_is_not_gone(under: Coordinator) -> None:
    """A task is not canceled after its `lossMs` if its delegator came back before, or if another process of its
    principal was there all the time."""
    names = under.name("back"), under.name("two")
    loss: dict[str, Any] = {"onDelegatorLoss": "cancel", "lossMs": 1_500}
    await under.peer(f"{names[1]}#2")
    tasks = []
    for name in names:
        client = await under.peer(f"{name}#1")
        tasks.append((await client.delegate(under.skill("nobody"), **loss)).task)
        await client.request("bye")
    back = await under.peer(f"{names[0]}#1")
    later = await back.delegate(under.skill("nobody"), timers={"queueMs": 1_700})
    await back.settled(later.task)  # so that the time is over by the coordinator's clock
    states = [await back.state(task) for task in tasks]
    check(states == ["queued", "queued"], "both queued still", states)


@coordinator("TASK-12")
async def a_task_whose_delegator_is_gone_pauses_where_it_said_so(under: Coordinator) -> None:
    """With `onDelegatorLoss: pause` a task is offered to nobody until its delegator is back."""
    name, skill = under.name("client"), under.skill()
    client = await under.peer(name)
    created = await client.delegate(skill, onDelegatorLoss="pause")
    await client.request("bye")
    worker = await under.peer(skills=(skill,))
    await worker.nothing("task.offer")
    await under.peer(name)
    await worker.offered(created.task)


@coordinator("TREE-1", also=("LIMIT-7",))
async def a_tree_has_so_many_levels(under: Coordinator) -> None:
    """Sub-tasks of sub-tasks are refused with `depth` before there are a hundred levels."""
    skill = under.skill()
    worker = await under.peer(skills=(skill,), credit={"tasks": 200, "frames": 1_000})
    client = await under.peer()
    created = await client.delegate(skill, 0, timers=LONG)
    for level in range(1, 100):
        offer = await worker.offered(created.task)
        created = await worker.request(
            "task.delegate", **worker.delegation(skill, level, parent=at(offer), timers=LONG)
        )
        if created.kind == "error":
            check(created.code == "depth" and level >= 2, "error depth", created)
            return
    raise Skipped("a tree may have a hundred levels here, which nothing announces")


@coordinator("TREE-2")
async def the_same_work_below_itself_is_a_cycle(under: Coordinator) -> None:
    """A sub-task with the skill and input of a task above it is `cycle`; with another input it is made."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, "same")
    offer = await worker.offered(created.task)
    below = at(offer)
    await worker.refused("cycle", "task.delegate", **worker.delegation(skill, "same", parent=below))
    await worker.delegate(skill, "other", parent=below)


@coordinator("TREE-2")
async def a_cycle_may_lead_over_other_work(under: Coordinator) -> None:
    """The skill and input of a task two levels above are a cycle too; the same input for another skill is not."""
    outer, inner = under.skill("outer"), under.skill("inner")
    worker, client = await under.peer(skills=(outer, inner)), await under.peer()
    top = await worker.offered((await client.delegate(outer, "same", timers=LONG)).task)
    middle = await worker.offered((await worker.delegate(inner, "same", parent=at(top), timers=LONG)).task)
    error = await worker.refused("cycle", "task.delegate", **worker.delegation(outer, "same", parent=at(middle)))
    spelled = f"{error.body.get('detail')} {error.body.get('data')}"  # which of them it stands in is open (ERR-2)
    check(top.task in spelled and middle.task in spelled, f"the path, {top.task} and {middle.task}", error)


@coordinator("TREE-3", also=("TIME-3", "TIME-6"))
async def a_sub_task_has_no_later_deadline_than_its_parent(under: Coordinator) -> None:
    """A sub-task that asks for an hour below a parent with a minute left is offered with at most a minute."""
    skill, inner = under.skill(), under.skill("inner")
    worker, client = await under.peer(skills=(skill, inner)), await under.peer()
    created = await client.delegate(skill, limits={"deadlineMs": 60_000})
    offer = await worker.offered(created.task)
    check(0 < offer.body.get("deadlineMs", 0) <= 60_000, "deadlineMs of at most a minute", offer)
    sub = await worker.delegate(inner, parent=at(offer), limits={"deadlineMs": 3_600_000})
    offered = await worker.offered(sub.task)
    check(0 < offered.body.get("deadlineMs", 0) <= 60_000, "deadlineMs of at most a minute", offered)
    silent = await worker.offered((await worker.delegate(inner, "silent", parent=at(offer))).task)
    check(0 < silent.body.get("deadlineMs", 0) <= 60_000, "deadlineMs of its parent's minute", silent)
    sooner = await worker.delegate(inner, "sooner", parent=at(offer), limits={"deadlineMs": 10_000})
    offered = await worker.offered(sooner.task)
    check(0 < offered.body.get("deadlineMs", 0) <= 10_000, "deadlineMs of its own 10 s", offered)


@coordinator("TREE-4")
async def what_is_below_an_ended_task_is_cancelled_unless_it_says_otherwise(under: Coordinator) -> None:
    """When its parent ends, a sub-task is canceled; a detached one goes on and belongs to its delegator."""
    skill, inner = under.skill(), under.skill("inner")
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill)
    offer = await worker.offered(created.task)
    bound = await worker.delegate(inner, 1, parent=at(offer))
    detached = await worker.delegate(inner, 2, parent=at(offer), onParentEnd="detach")
    await client.request("task.cancel", task=created.task, mode="skip")
    await client.settled(created.task)
    check(await client.state(bound.task) == "canceled", "the bound sub-task canceled", "")
    check(await client.state(detached.task) == "queued", "the detached one queued still", "")
    helper = await under.peer(skills=(inner,))
    await helper.admitted(await helper.offered(detached.task))
    answer = await worker.confirm(await worker.reviewed(detached.task))
    check(answer.kind == "ok", "ok", answer)


@coordinator("TREE-4")
async def what_is_abandoned_goes_on_and_needs_no_word(under: Coordinator) -> None:
    """An abandoned sub-task completes with its result, whether the result comes before or after the parent's end."""
    skill, inner = under.skill(), under.skill("inner")
    worker, client, helper = await under.peer(skills=(skill,)), await under.peer(), await under.peer(skills=(inner,))
    created = await client.delegate(skill, timers=LONG)
    parent = at(await worker.offered(created.task))
    early, late, judged = [
        await helper.offered(
            (await worker.delegate(inner, value, parent=parent, onParentEnd="abandon", timers=LONG, spec=spec)).task
        )
        for value, spec in (("early", {}), ("late", {}), ("judged", {"acceptance": {"evaluator": "human"}}))
    ]
    await helper.admitted(early)
    await worker.reviewed(early.task)
    await client.request("task.cancel", task=created.task, mode="skip")
    await client.settled(created.task)
    check(await client.state(early.task) == "completed", "the one that was reported completed", "")
    await helper.nothing("task.revoke")
    for offer, state in ((late, "completed"), (judged, "reported")):
        await helper.admitted(offer)
        came = await client.state(offer.task)
        check(came == state, f"state {state}", came)


@coordinator("TREE-4", also=("CANCEL-3",))
async def a_cancel_goes_down_while_the_parent_winds_down(under: Coordinator) -> None:
    """A cancel of a task at work also asks the agents below it, at once and cooperatively."""
    skill, inner = under.skill(), under.skill("inner")
    worker, client, helper = await under.peer(skills=(skill,)), await under.peer(), await under.peer(skills=(inner,))
    offer = await worker.offered((await client.delegate(skill, timers=LONG)).task)
    await worker.heartbeat(offer)
    below = await helper.offered((await worker.delegate(inner, parent=at(offer), timers=LONG)).task)
    await helper.heartbeat(below)
    await client.request("task.cancel", task=offer.task, graceMs=60_000)
    revoke = await helper.take("task.revoke", task=below.task)
    check(revoke.body.get("mode", "coop") == "coop", "mode coop", revoke)
    check(await client.state(offer.task) == "canceling", "the parent winding down still", "")


@coordinator("TREE-4", also=("CANCEL-2",))
async def who_works_below_an_ended_task_is_told_to_stop(under: Coordinator) -> None:
    """When the parent ends, the agent at work on a sub-task gets a cooperative `task.revoke`."""
    skill, inner = under.skill(), under.skill("inner")
    worker, client, helper = await under.peer(skills=(skill,)), await under.peer(), await under.peer(skills=(inner,))
    created = await client.delegate(skill, timers=LONG)
    child = await worker.delegate(inner, parent=at(await worker.offered(created.task)), timers=LONG)
    offer = await helper.offered(child.task)
    await helper.heartbeat(offer)
    await client.request("task.cancel", task=created.task, mode="skip")
    revoke = await helper.take("task.revoke", task=child.task)
    is_right = (revoke.fence, revoke.body.get("reason"), revoke.body.get("mode")) == (offer.fence, "cancel", "coop")
    check(is_right, "task.revoke of its fence, for a cancel, coop", revoke)


@coordinator("TREE-5", also=("TASK-7",))
async def the_next_attempt_finds_the_sub_tasks_by_their_keys(under: Coordinator) -> None:
    """A second attempt is offered with the sub-tasks made so far, and gets the same task for the same delegation."""
    skill, inner = under.skill(), under.skill("inner")
    first, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill)
    offer = await first.offered(created.task)
    made = await first.delegate(inner, "x", key="part", parent=at(offer))
    second = await under.peer(skills=(skill,))
    await first.request("bye", drain=True)
    again = await second.offered(created.task)
    children = [child.get("task") for child in again.body.get("children") or []]
    check(children == [made.task], "the sub-task in `children`", again)
    found = await second.delegate(inner, "x", key="part", parent=at(again))
    check(found.task == made.task and found.body.get("created") is False, "the sub-task there is", found)
    helper = await under.peer(skills=(inner,))
    await helper.admitted(await helper.offered(made.task))
    await second.reviewed(made.task)


@coordinator("TREE-6")
async def a_task_may_end_before_its_sub_tasks(under: Coordinator) -> None:
    """A parent reports and completes while its sub-task is queued."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, spec={"acceptance": {"evaluator": "auto"}})
    offer = await worker.offered(created.task)
    await worker.delegate(under.skill("inner"), parent=at(offer))
    await worker.admitted(offer)
    await client.settled(created.task, state="completed")


@coordinator("BUDGET-1", also=("READ-3",))
async def counts_each_attempt_once_with_the_most_it_told(under: Coordinator) -> None:
    """Usage that heartbeats and the report tell counts once, at its greatest number."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill)
    offer = await worker.offered(created.task)
    for tokens in (10, 30, 20):
        await worker.heartbeat(offer, usage={"tokens": tokens})
    await worker.admitted(offer, usage={"tokens": 25})
    usage = (await client.view(created.task))["metadata"].get("usage") or {}
    check(usage.get("tokens") == 30, "30 tokens used", usage)


@coordinator("BUDGET-3")
async def a_sub_task_reserves_what_it_may_use(under: Coordinator) -> None:
    """Of a budget of 100 tokens one sub-task reserves 80; another of 30 is refused with `budget`."""
    skill, inner = under.skill(), under.skill("inner")
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, budget={"tokens": 100})
    offer = await worker.offered(created.task)
    below = at(offer)
    await worker.delegate(inner, 1, parent=below, budget={"tokens": 80})
    error = await worker.refused(
        "budget", "task.delegate", **worker.delegation(inner, 2, parent=below, budget={"tokens": 30})
    )
    data = error.body.get("data") or {}
    check(data.get("kind") == "tokens" and data.get("left") == 20, "kind tokens, 20 left", error)
    await worker.delegate(inner, 3, parent=below, budget={"tokens": 20})


@coordinator("BUDGET-2")
async def bounds_how_many_sub_tasks_there_are(under: Coordinator) -> None:
    """With `children: 1` a second sub-task is refused with `budget`."""
    skill, inner = under.skill(), under.skill("inner")
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, budget={"children": 1})
    offer = await worker.offered(created.task)
    await worker.delegate(inner, 1, parent=at(offer))
    await worker.refused("budget", "task.delegate", **worker.delegation(inner, 2, parent=at(offer)))


@coordinator("BUDGET-3", also=("BUDGET-1",))
async def what_was_used_is_not_given_away(under: Coordinator) -> None:
    """If an ended sub-task used 70 of 100, one of 31 is refused, and after one of 30 even one without a budget."""
    skill, inner = under.skill(), under.skill("inner")
    worker, client = await under.peer(skills=(skill, inner)), await under.peer()
    auto = {"acceptance": {"evaluator": "auto"}}
    for kind in ("tokens", "costMicro", "steps"):
        created = await client.delegate(skill, kind, budget={kind: 100}, timers=LONG)
        offer = await worker.offered(created.task)
        below = at(offer)
        used = await worker.delegate(inner, 1, parent=below, budget={kind: 80}, spec=auto)
        await worker.admitted(await worker.offered(used.task), usage={kind: 70})
        await worker.settled(used.task)
        for budget, left in (({kind: 31}, 30), ({kind: 30}, None), ({}, 0), ({kind: 1}, 0)):
            fields = worker.delegation(inner, budget, parent=below, budget=budget, timers=LONG)
            if left is None:
                await worker.offered((await worker.request("task.delegate", **fields)).task)
                continue
            data = (await worker.refused("budget", "task.delegate", **fields)).body.get("data") or {}
            told = (data.get("task"), data.get("kind"), data.get("left"))
            check(told == (created.task, kind, left), f"{left} {kind} left of {created.task}", data)
        zero = await worker.delegate(inner, "zero", parent=below, budget={kind: 0})
        await worker.offered(zero.task)
        await client.request("task.cancel", task=created.task, mode="skip")


@coordinator("BUDGET-2", also=("BUDGET-3",))
async def a_budget_is_shared_with_the_first_above_that_names_it(under: Coordinator) -> None:
    """Two levels below a budget of 10 tokens the refusal names the task that has it, past one that names none."""
    skill, inner = under.skill(), under.skill("inner")
    worker, client = await under.peer(skills=(skill, inner)), await under.peer()
    top = await worker.offered((await client.delegate(skill, budget={"tokens": 10}, timers=LONG)).task)
    middle = await worker.offered((await worker.delegate(inner, parent=at(top), budget={"steps": 5}, timers=LONG)).task)
    for budget, kind, left, payer in (
        ({"tokens": 11}, "tokens", 10, top),
        ({"tokens": 1, "steps": 6}, "steps", 5, middle),
    ):
        fields = worker.delegation(under.skill("leaf"), parent=at(middle), budget=budget)
        data = (await worker.refused("budget", "task.delegate", **fields)).body.get("data") or {}
        told = (data.get("task"), data.get("kind"), data.get("left"))
        check(told == (payer.task, kind, left), f"{left} {kind} left of {payer.task}", data)


@coordinator("BUDGET-2", also=("TREE-1",))
async def bounds_how_many_levels_there_are_below(under: Coordinator) -> None:
    """With `depth: 1` a sub-task is made, and one below it is refused with `budget`; with `depth: 0` none is made."""
    skill, inner = under.skill(), under.skill("inner")
    worker, client = await under.peer(skills=(skill, inner)), await under.peer()
    for levels in (1, 0):
        above = await worker.offered((await client.delegate(skill, budget={"depth": levels}, timers=LONG)).task)
        top = above.task
        for level in range(levels):
            above = await worker.offered((await worker.delegate(inner, level, parent=at(above), timers=LONG)).task)
        fields = worker.delegation(under.skill("leaf"), parent=at(above))
        data = (await worker.refused("budget", "task.delegate", **fields)).body.get("data") or {}
        check((data.get("task"), data.get("kind")) == (top, "depth"), f"the depth of {top}", data)


@coordinator("BUDGET-4", also=("LEASE-10",))
async def warns_and_then_takes_the_attempt_away(under: Coordinator) -> None:
    """At four fifths of a budget the lease says `budget_low`; at all of it the attempt is revoked for `budget`."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, budget={"tokens": 100})
    offer = await worker.offered(created.task)
    lease = await worker.heartbeat(offer, usage={"tokens": 79})
    check("budget_low" not in (lease.body.get("directives") or []), "no budget_low yet", lease)
    lease = await worker.heartbeat(offer, usage={"tokens": 80})
    check("budget_low" in (lease.body.get("directives") or []), "the directive budget_low", lease)
    await worker.send("task.heartbeat", task=offer.task, fence=offer.fence, usage={"tokens": 100})
    await worker.take("task.revoke", task=created.task, reason="budget")


@coordinator("BUDGET-4", also=("BUDGET-2",))
async def holds_attempts_against_the_budget_they_share(under: Coordinator) -> None:
    """Attempts of two sub-tasks use 50 and 30 of the parent's 100 tokens: the second is told `budget_low`."""
    skill, inner = under.skill(), under.skill("inner")
    worker, client = await under.peer(skills=(skill, inner)), await under.peer()
    created = await client.delegate(skill, budget={"tokens": 100})
    parent = at(await worker.offered(created.task))
    first = await worker.offered((await worker.delegate(inner, 1, parent=parent)).task)
    second = await worker.offered((await worker.delegate(inner, 2, parent=parent)).task)
    lease = await worker.heartbeat(first, usage={"tokens": 50})
    check("budget_low" not in (lease.body.get("directives") or []), "no budget_low yet", lease)
    lease = await worker.heartbeat(second, usage={"tokens": 30})
    check("budget_low" in (lease.body.get("directives") or []), "the directive budget_low", lease)


@coordinator("BUDGET-5")
async def a_task_with_nothing_left_fails(under: Coordinator) -> None:
    """A task whose attempt used the whole budget and yielded fails with reason `budget`."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, budget={"tokens": 10})
    offer = await worker.offered(created.task)
    await worker.request("task.yield", task=offer.task, fence=offer.fence, usage={"tokens": 10})
    await client.settled(created.task, state="failed", reason="budget")


@coordinator("BUDGET-5", also=("BUDGET-2",))
async def a_budget_of_zero_is_not_used_up_yet(under: Coordinator) -> None:
    """A task with a budget of zero is offered, and an agent that uses nothing completes it."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, budget={"tokens": 0})
    await worker.admitted(await worker.offered(created.task))
    await client.reviewed(created.task)


@coordinator("WIRE-14")
async def compares_hashes_and_never_values(under: Coordinator) -> None:
    """The same JSON value with other white space is other work under the same key."""
    client, skill = await under.peer(), under.skill()
    await client.delegate(skill, key="one", payload=b'[{"text":"a"}]')
    spaced = client.delegation(skill, key="one", payload=b'[{"text": "a"}]')
    await client.refused("idempotency_mismatch", "task.delegate", **spaced)
