"""Cases of section 16: reading and watching tasks."""

from __future__ import annotations

import asyncio
import functools
import time
from typing import Any

from ..case import Role, case
from ..conversation import check
from ..peer import Coordinator
from ..scenes import AUTO
from ..wire import as_bytes, parts, result

coordinator = functools.partial(case, Role.COORDINATOR)


@coordinator("READ-1", also=("READ-3",))
async def shows_a_task_as_a2a_does(under: Coordinator) -> None:
    """A view has `id`, `contextId`, `status.state` of A2A and the metadata; payloads come if they are asked for."""
    skill, context = under.skill(), under.name("context")
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, "in", key="the key", contextId=context)
    await worker.admitted(await worker.offered(created.task), "out")
    found = await client.request("task.get", task=created.task, content=True)
    view = found.body["view"]
    check(view.get("id") == created.task and view.get("contextId") == context, "id and contextId", view)
    check(view["status"].get("state") == "TASK_STATE_WORKING", "TASK_STATE_WORKING", view)
    metadata = view["metadata"]
    told = {name: metadata.get(name) for name in ("skill", "key", "delegator", "state", "agent", "pendingAcceptance")}
    expected = {
        "skill": skill,
        "key": "the key",
        "delegator": client.name,
        "state": "reported",
        "agent": worker.name,
        "pendingAcceptance": True,
    }
    check(told == expected, f"{expected}", told)
    check(as_bytes(found.body.get("input")) == parts("in") and found.payload == result("out"), "input, result", found)
    short = await client.request("task.get", task=created.task, content=False)
    check(not short.payload and "input" not in short.body, "no payloads", short)


@coordinator("READ-1", also=("READ-6",))
async def a_task_that_never_was_is_not_found(under: Coordinator) -> None:
    """`task.get`, `task.watch`, `task.cancel` and `task.confirm` of an unknown task are refused with `not_found`."""
    client = await under.peer()
    for kind in ("task.get", "task.watch", "task.cancel"):
        await client.refused("not_found", kind, task="no-such-task")
    await client.refused("not_found", "task.confirm", task="no-such-task", rev=0, resultHash="sha256:" + "0" * 64)


@coordinator("READ-7")
async def tells_how_the_coordinator_stands(under: Coordinator) -> None:
    """Namespace and epoch are the welcome's, the newest record and the time grow, tasks are counted by state."""
    client = await under.peer()
    first = await client.request("coordinator.get")
    check(first.kind == "coordinator.found", "coordinator.found", first)
    told = {name: client.welcome.body[name] for name in ("namespace", "epoch")}
    check({name: first.body.get(name) for name in told} == told, f"{told}", first)
    await client.delegate(under.skill())
    until = time.monotonic() + under.patience
    while True:
        second = await client.request("coordinator.get")
        is_counted = second.body.get("tasks", {}).get("queued", 0) > 0
        if is_counted and second.body["upMs"] > first.body["upMs"]:
            break
        check(time.monotonic() < until, "a queued task, and more time, a second later", second)
        await asyncio.sleep(0.05)
    check(second.body["lsn"] > first.body["lsn"], f"a record behind {first.body['lsn']}", second)
    amounts = {amount["what"]: amount for amount in second.body.get("amounts") or []}
    for what in ("agents", "peers", "tasks", "taskBytes", "contexts", "contextBytes", "conflicts", "claims", "mail"):
        count, most = (amounts.get(what, {}).get(name) for name in ("count", "most"))
        check(isinstance(count, int) and 0 <= count <= (count if most is None else most), f"how many {what}", second)
    check(amounts["tasks"]["count"] > 0 and amounts["peers"]["count"] > 0, "a task and a peer at least", second)


@coordinator("READ-2")
async def lists_tasks_newest_first_in_pages(under: Coordinator) -> None:
    """Five tasks in pages of two are listed newest first, each once, and the last page names no next one."""
    skill, client = under.skill(), await under.peer()
    made = [(await client.delegate(skill, number)).task for number in range(5)]
    listed: list[str] = []
    before = None
    for size in (2, 2, 1):
        page = await client.request("task.list", skill=skill, limit=2, before=before)
        listed += [view["id"] for view in page.body["tasks"]]
        before = page.body.get("nextBefore")
        check(len(page.body["tasks"]) == size, f"{size} tasks on the page", page)
    check(listed == made[::-1] and before is None, "all five, newest first", listed)


@coordinator("READ-2")
async def lists_by_state_skill_parent_and_context(under: Coordinator) -> None:
    """Each filter leaves the tasks it names; a state may be the protocol's or A2A's."""
    skill, inner, context = under.skill(), under.skill("inner"), under.name("context")
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    done = await client.delegate(skill, 1, spec=AUTO, contextId=context)
    await worker.admitted(await worker.offered(done.task))
    failed = await client.delegate(skill, 3)
    error = {"code": "none", "detail": "it does not work", "retryable": False}
    await worker.admitted(await worker.offered(failed.task), outcome="failed", error=error)
    held = await client.delegate(skill, 2, timers={"offerMs": 60_000})
    offer = await worker.offered(held.task)
    below = await worker.delegate(inner, parent={"task": offer.task, "fence": offer.fence})
    filters: tuple[tuple[dict[str, Any], list[str]], ...] = (
        ({"skill": skill}, [held.task, failed.task, done.task]),
        ({"skill": skill, "state": "completed"}, [done.task]),
        ({"skill": skill, "state": "TASK_STATE_COMPLETED"}, [done.task]),
        ({"skill": skill, "state": "leased"}, [held.task]),
        ({"parent": held.task}, [below.task]),
        ({"contextId": context}, [done.task]),
        ({"skill": skill, "deadLetter": True}, []),
    )
    for wanted, expected in filters:
        page = await client.request("task.list", **wanted)
        check([view["id"] for view in page.body.get("tasks", [])] == expected, f"{expected} for {wanted}", page)


@coordinator("READ-4")
async def reading_changes_nothing(under: Coordinator) -> None:
    """A task has the same generation after it was read, listed and watched."""
    client, skill = await under.peer(), under.skill()
    created = await client.delegate(skill)
    for _ in range(3):
        await client.view(created.task)
        await client.request("task.list", skill=skill)
    await client.request("task.watch", task=created.task)
    found = await client.request("task.get", task=created.task)
    check(found["gen"] == created["gen"], f"generation {created['gen']}", found)


@coordinator("WATCH-1", also=("WATCH-2",))
async def a_watch_from_a_generation_begins_behind_it(under: Coordinator) -> None:
    """`fromGen: 2` of a task that has had three events brings the third, and then those that follow."""
    skill = under.skill()
    worker, client, watcher = await under.peer(skills=(skill,)), await under.peer(), await under.peer()
    created = await client.delegate(skill)
    await worker.admitted(await worker.offered(created.task))
    review = await client.reviewed(created.task)
    watch = await watcher.send("task.watch", task=created.task, fromGen=2)
    check((await watcher.reply(watch)).kind == "ok", "ok", "")
    await client.confirm(review)
    events = [await watcher.take("task.event", re=watch) for _ in range(2)]
    told = [(event["gen"], event.body.get("event")) for event in events]
    check(told == [(3, "report"), (4, "complete")], "report, complete", told)


@coordinator("WATCH-2")
async def a_watch_from_the_beginning_tells_everything(under: Coordinator) -> None:
    """A watch of a task that has ended tells its whole history, with the delegator's and the agent's names."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, spec=AUTO)
    await worker.admitted(await worker.offered(created.task))
    await client.settled(created.task)
    await client.request("task.watch", task=created.task, fromGen=0)
    events = [await client.take("task.event", task=created.task) for _ in range(4)]
    told = [event.body.get("event") for event in events]
    check(told == ["created", "grant", "report", "complete"], "created, grant, report, complete", told)
    check((events[0].body.get("data") or {}).get("delegator") == client.name, "the delegator", events[0])
    check((events[1].body.get("data") or {}).get("agent") == worker.name, "the agent", events[1])


@coordinator("WATCH-3")
async def a_watch_ends_when_it_is_told_to(under: Coordinator) -> None:
    """After `stop: true` no further event comes; a second watch replaces the first."""
    skill, client = under.skill(), await under.peer()
    created = await client.delegate(skill)
    first = await client.send("task.watch", task=created.task)
    await client.reply(first)
    await client.take("task.event", re=first)
    second = await client.send("task.watch", task=created.task, fromGen=1)
    await client.reply(second)
    await client.request("task.watch", task=created.task, stop=True)
    await client.request("task.cancel", task=created.task)
    await client.nothing("task.event")


@coordinator("WATCH-3")
async def a_second_watch_replaces_the_first(under: Coordinator) -> None:
    """An event after a second watch of a task comes once, to the second watch."""
    skill, client = under.skill(), await under.peer()
    created = await client.delegate(skill)
    first = await client.send("task.watch", task=created.task)
    await client.reply(first)
    second = await client.send("task.watch", task=created.task, fromGen=1)
    await client.reply(second)
    await client.request("task.cancel", task=created.task)
    await client.take("task.event", event="cancel", re=second)
    await client.nothing("task.event", event="cancel")


@coordinator("WATCH-4", also=("RPC-5", "LEASE-2"))
async def tells_progress_as_it_comes(under: Coordinator) -> None:
    """A watcher gets a heartbeat with a greater `progressNo`; later watchers get the greater of two."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill)
    await client.request("task.watch", task=created.task)
    offer = await worker.offered(created.task)
    await worker.heartbeat(offer, progressNo=2, progressBp=5_000, note="half")
    event = await client.take("task.event", event="progress")
    data = event.body.get("data") or {}
    check(data.get("note") == "half" and data.get("progressBp") == 5_000, "half, 5000", event)
    await worker.heartbeat(offer, progressNo=1, progressBp=1_000, note="old")
    progress = (await client.view(created.task))["metadata"].get("progress") or {}
    check(progress.get("note") == "half", "the greater one's note", progress)
    watcher = await under.peer()
    await watcher.request("task.watch", task=created.task)
    event = await watcher.take("task.event", event="progress")
    check((event.body.get("data") or {}).get("note") == "half", "the latest, as the watch begins", event)
