"""Cases of section 5: requests and their repeats, the mailbox, flow."""

from __future__ import annotations

import functools

from ..case import Role, case
from ..conversation import check
from ..peer import Coordinator
from ..requirements import Level
from ..wire import encode, parts

coordinator = functools.partial(case, Role.COORDINATOR)


@coordinator("RPC-1", also=("RPC-2", "RPC-4"))
async def a_repeated_request_is_answered_again(under: Coordinator) -> None:
    """One delegation sent four times gets four replies, each with its frame's id in `re`, and makes one task."""
    client = await under.peer()
    delegation = client.delegation(under.skill())
    first = await client.request("task.delegate", **delegation)
    again = await client.request("task.delegate", **delegation)
    same = client.frame("task.delegate", **delegation)
    await client.send_frames(same, same)
    twice = [await client.reply(same["id"]), await client.reply(same["id"])]
    check({answer.task for answer in (first, again, *twice)} == {first.task}, "the same task each time", again)
    made = [answer.body.get("created") for answer in (first, again, *twice)]
    check(made == [True, False, False, False], "created: true once", made)


@coordinator("RPC-3", also=("RPC-4", "ID-8"), level=Level.MUST)
async def a_request_that_was_cut_off_may_be_sent_again(under: Coordinator) -> None:
    """A delegation whose connection is cut before its reply is sent again on the next one, and makes one task."""
    name, skill = under.name("client"), under.skill()
    client = await under.peer(name)
    delegation = client.delegation(skill, key="once")
    await client.send("task.delegate", **delegation)
    client.cut()
    back = await under.peer(name)
    created = await back.request("task.delegate", **delegation)
    check(created.kind == "task.created", "task.created", created)
    page = await back.request("task.list", skill=skill)
    check(len(page.body.get("tasks", [])) == 1, "one task", page)


@coordinator("RPC-3", also=("RPC-4", "TASK-3"), level=Level.MUST)
async def what_comes_again_in_another_order_is_done_once(under: Coordinator) -> None:
    """Ten delegations cut off in the middle of their replies come again in reverse, and make ten tasks."""
    name, skill = under.name("client"), under.skill()
    client = await under.peer(name)
    delegations = [client.delegation(skill, number, key=f"{number}") for number in range(10)]
    sent = [await client.send("task.delegate", **delegation) for delegation in delegations]
    first = await client.reply(sent[0])
    client.cut()
    back = await under.peer(name)
    again = [await back.request("task.delegate", **delegation) for delegation in reversed(delegations)]
    check(again[-1].task == first.task, "the first one's task", again[-1])
    page = await back.request("task.list", skill=skill)
    made = {answer.task for answer in again}
    check(len(made) == 10 and {view["id"] for view in page.body["tasks"]} == made, "ten tasks", page)


@coordinator("RPC-4", also=("RPC-3",))
async def a_frame_cut_in_the_middle_does_nothing(under: Coordinator) -> None:
    """A delegation that is cut off after its first byte, in the middle, or before its last one makes no task."""
    skill = under.skill()
    for left_out in (1, 2, 40, 100, -1, -2, -9):
        # A new name each time: if a cut is noticed late, what follows is a takeover, of which few pass (CONFLICT-18).
        name = under.name("client")
        client = await under.peer(name)
        frame = client.frame("task.delegate", **client.delegation(skill, key=f"cut {left_out}"))
        whole = client.socket.framed(encode([frame], client.encoding))
        await client.socket.write(whole[:-left_out])  # with a negative number, that many bytes arrive
        client.cut()
        back = await under.peer(name)
        page = await back.request("task.list", skill=skill)
        check(page.body.get("tasks") == [], "no task", page)
        await back.request("bye")


@coordinator("RPC-5")
async def answers_pings_and_no_acknowledgements(under: Coordinator) -> None:
    """`ping` is answered with its nonce; `credit` and `mailbox.ack` are not answered."""
    peer = await under.peer()
    credit = await peer.send("credit", tasks=0, frames=10)
    ack = await peer.send("mailbox.ack", upto=0)
    answer = await peer.request("ping", nonce="here")
    check(answer.kind == "pong" and answer.body.get("nonce") == "here", "pong with the nonce", answer)
    stray = [frame for frame in peer.waiting if frame.get("re") in (credit, ack)]
    check(not stray, "no answer to credit and mailbox.ack", stray)


@coordinator("RPC-6")
async def answers_in_the_order_of_the_requests(under: Coordinator) -> None:
    """Requests that change, read and are refused, sent at once, are answered in their order."""
    client = await under.peer()
    skill = under.skill()
    frames = []
    for number in range(30):
        frames.append(client.frame("task.delegate", **client.delegation(skill, key=f"{number}")))
        frames.append(client.frame("task.list", skill=skill))
        frames.append(client.frame("task.get", task="no-such-task"))
        frames.append(client.frame("ping"))
    await client.send_many(frames)
    wanted = [frame["id"] for frame in frames]
    came = []
    for _ in wanted:
        came.append((await client.take_if(lambda frame: frame.get("re") in wanted, "a reply")).get("re"))
    check(came == wanted, "the replies in the order of the requests", came)


@coordinator("RPC-7")
async def sends_a_reply_that_may_wait_in_its_time(under: Coordinator) -> None:
    """Replies that may wait for 200 ms still come, in their order; a reply to a repeat or a refusal does not wait."""
    client, skill = await under.peer(), under.skill()
    delegations = [client.delegation(skill, number, key=f"{number}") for number in range(3)]
    patient = [client.frame("task.delegate", **delegation) | {"slackMs": 200} for delegation in delegations]
    for frame in patient:
        await client.send_frames(frame)
    wanted = [frame["id"] for frame in patient]
    came = [await client.take_if(lambda frame: frame.get("re") in wanted, "a reply that may wait") for _ in wanted]
    check([reply["re"] for reply in came] == wanted, "the replies in the order of the requests", came)
    hour = {"slackMs": 3_600_000}
    for frame in (client.frame("task.delegate", **delegations[0]), client.frame("task.get", task="no-such-task")):
        await client.send_frames(frame | hour)
        await client.reply(frame["id"], frame["kind"])


@coordinator("MAIL-1")
async def numbers_a_mailbox_without_gaps(under: Coordinator) -> None:
    """Entries are numbered 1, 2, 3 in the order of their events, and come in that order even if they had to wait."""
    skill, client = under.skill(), await under.peer()
    worker = await under.peer(skills=(skill,), credit={"tasks": 8, "frames": 1})
    worker.acknowledges = False
    timers = {"offerMs": 60_000, "leaseMs": 60_000}
    tasks = [(await client.delegate(skill, number, timers=timers)).task for number in range(5)]
    await worker.send("credit", tasks=8, frames=64)
    entries = [await worker.take_if(lambda frame: "mseq" in frame, "a mailbox entry") for _ in range(5)]
    check([entry["mseq"] for entry in entries] == [1, 2, 3, 4, 5], "mseq 1 to 5", [e["mseq"] for e in entries])
    check([entry.task for entry in entries] == tasks, "the offers as they were made", [e.task for e in entries])


@coordinator("MAIL-3")
async def refuses_an_acknowledgement_of_what_was_not_sent(under: Coordinator) -> None:
    """An acknowledgement beyond what was sent is refused with `malformed`."""
    peer = await under.peer()
    await peer.send("mailbox.ack", upto=1_000)
    error = await peer.take("error")
    check(error.code == "malformed", "error malformed", error)


@coordinator("MAIL-4", also=("MAIL-5",))
async def sends_again_what_was_not_acknowledged(under: Coordinator) -> None:
    """Entries that were not acknowledged come again on the next connection, with the same numbers; others do not."""
    name, skill = under.name("worker"), under.skill()
    client, worker = await under.peer(), await under.peer(name, skills=(skill,), instanceId="one", incarnation=9)
    worker.acknowledges = False
    tasks = [(await client.delegate(skill)).task for _ in range(3)]
    first = [await worker.offered(task) for task in tasks]
    await worker.send("mailbox.ack", upto=first[0]["mseq"])
    await worker.settle()
    worker.cut()
    back = await under.peer(name, skills=(skill,), instanceId="one", incarnation=9)
    again = [await back.offered(task) for task in tasks[1:]]
    check([e["mseq"] for e in again] == [e["mseq"] for e in first[1:]], "the same numbers", again)
    check([e.fence for e in again] == [e.fence for e in first[1:]], "the same fences", again)
    await back.nothing("task.offer", task=tasks[0])
    check(back.welcome.body.get("nextMseq") == first[1]["mseq"], "nextMseq of the first of them", back.welcome)


@coordinator("MAIL-5")
async def goes_on_where_the_agent_says_it_is(under: Coordinator) -> None:
    """With `resume.lastMseq` the mailbox goes on after that entry, and `resumed` is true."""
    name, skill = under.name("worker"), under.skill()
    client, worker = await under.peer(), await under.peer(name, skills=(skill,), instanceId="one", incarnation=9)
    worker.acknowledges = False
    tasks = [(await client.delegate(skill)).task for _ in range(3)]
    first = [await worker.offered(task) for task in tasks]
    worker.cut()
    resume = {"lastMseq": first[1]["mseq"]}
    back = await under.peer(name, skills=(skill,), instanceId="one", incarnation=9, resume=resume)
    check(back.welcome.body.get("resumed") is True, "resumed: true", back.welcome)
    check(back.welcome.body.get("nextMseq") == first[2]["mseq"], "nextMseq behind it", back.welcome)
    await back.offered(tasks[2])
    await back.nothing("task.offer")


@coordinator("MAIL-5", also=("MAIL-4",))
async def begins_at_the_oldest_where_it_does_not_know_the_place(under: Coordinator) -> None:
    """A `resume.lastMseq` beyond the newest entry resumes nothing: unacknowledged entries come again."""
    name, skill = under.name("worker"), under.skill()
    client, worker = await under.peer(), await under.peer(name, skills=(skill,), instanceId="one", incarnation=9)
    worker.acknowledges = False
    task = (await client.delegate(skill)).task
    offer = await worker.offered(task)
    worker.cut()
    odd = {"lastMseq": offer["mseq"] + 1_000}
    back = await under.peer(name, skills=(skill,), instanceId="one", incarnation=9, resume=odd)
    check(not back.welcome.body.get("resumed"), "resumed: false", back.welcome)
    check(back.welcome.body.get("nextMseq") == offer["mseq"], "nextMseq of the oldest", back.welcome)
    await back.take_if(lambda frame: frame.get("mseq") == offer["mseq"], "the oldest entry")


@coordinator("MAIL-6")
async def an_entry_is_as_true_as_can_be_said_when_it_is_sent(under: Coordinator) -> None:
    """The offer of a task that was canceled while its agent was away comes as the `task.revoke` of its fence."""
    name, skill = under.name("worker"), under.skill()
    client, worker = await under.peer(), await under.peer(name, skills=(skill,), instanceId="one", incarnation=9)
    worker.acknowledges = False
    created = await client.delegate(skill, timers={"offerMs": 600_000, "leaseMs": 600_000, "heartbeatMs": 200_000})
    offer = await worker.offered(created.task)
    worker.cut()
    await client.request("task.cancel", task=created.task, mode="skip")
    back = await under.peer(name, skills=(skill,), instanceId="one", incarnation=9)
    entry = await back.take_if(lambda frame: frame.get("mseq") == offer["mseq"], "the entry with the offer's number")
    check(entry.kind == "task.revoke" and entry.fence == offer.fence, "task.revoke of the fence", entry)


@coordinator("MAIL-8")
async def forgets_the_mailbox_of_a_process_that_has_left(under: Coordinator) -> None:
    """The numbers of `name#1` begin at 1 again after it left with an empty mailbox."""
    name, skill = f"{under.name('client')}#1", under.skill()
    worker = await under.peer(skills=(skill,))
    for _ in range(2):
        client = await under.peer(name)
        created = await client.delegate(skill)
        await worker.admitted(await worker.offered(created.task))
        review = await client.reviewed(created.task)
        check(review["mseq"] == 1, "mseq 1", review)
        await client.confirm(review)
        await client.settled(created.task)
        await client.settle()
        await client.request("bye")


@coordinator("MAIL-8", also=("MAIL-4",))
async def keeps_the_mailbox_of_a_process_that_left_with_mail_in_it(under: Coordinator) -> None:
    """Entries that `name#1` had not acknowledged when it left come with the same numbers when it is back."""
    name, skill = f"{under.name('client')}#1", under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer(name)
    client.acknowledges = False
    created = await client.delegate(skill)
    await worker.admitted(await worker.offered(created.task))
    review = await client.reviewed(created.task)
    await client.request("bye")
    back = await under.peer(name)
    check(back.welcome.body.get("nextMseq") == review["mseq"], "nextMseq of what waits", back.welcome)
    check((await back.reviewed(created.task))["mseq"] == review["mseq"], "the review again", "another number")


@coordinator("FLOW-4")
async def a_lapsed_lease_gives_its_credit_back(under: Coordinator) -> None:
    """An agent that takes one task at a time is offered another one after its lease has lapsed."""
    skill, other = under.skill(), under.skill("other")
    worker = await under.peer(skills=(skill, other), credit={"tasks": 1, "frames": 256})
    client = await under.peer()
    timers = {"leaseMs": 300, "offerMs": 60_000, "heartbeatMs": 100}
    offer = await worker.offered((await client.delegate(skill, timers=timers)).task)
    await worker.heartbeat(offer)
    # The task that goes first when there is room again (ROUTE-3).
    waits = await client.delegate(other, spec={"priority": 9})
    await worker.offered(waits.task)


@coordinator("FLOW-1", also=("FLOW-4",))
async def offers_no_more_than_the_credit(under: Coordinator) -> None:
    """An agent with a credit of 2 tasks is offered two of five; a report makes room for a third."""
    skill = under.skill()
    worker = await under.peer(skills=(skill,), credit={"tasks": 2, "frames": 256})
    client = await under.peer()
    for _ in range(5):
        await client.delegate(skill)
    offers = [await worker.offered(), await worker.offered()]
    await worker.nothing("task.offer")
    await worker.admitted(offers[0])
    await worker.offered()
    await worker.nothing("task.offer")


@coordinator("FLOW-1")
async def sends_no_more_mail_than_the_credit(under: Coordinator) -> None:
    """With a credit of 2 frames two entries are on the wire; an acknowledgement lets the next one come."""
    skill = under.skill()
    worker = await under.peer(skills=(skill,), credit={"tasks": 10, "frames": 2})
    worker.acknowledges = False
    client = await under.peer()
    for _ in range(5):
        await client.delegate(skill)
    first = await worker.offered()
    await worker.offered()
    await worker.nothing("task.offer")
    await worker.send("mailbox.ack", upto=first["mseq"])
    await worker.offered()
    await worker.nothing("task.offer")


@coordinator("FLOW-2")
async def new_credit_counts_from_then_on(under: Coordinator) -> None:
    """An agent without credit for tasks gets none; `credit` lets one come."""
    skill = under.skill()
    worker = await under.peer(skills=(skill,), credit={"tasks": 0, "frames": 256})
    client = await under.peer()
    created = await client.delegate(skill)
    await worker.nothing("task.offer")
    await worker.send("credit", tasks=1, frames=256)
    await worker.offered(created.task)


@coordinator("FLOW-3")
async def an_agent_that_names_no_credit_takes_no_task(under: Coordinator) -> None:
    """A hello without `credit` brings no offers."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,), credit=None), await under.peer()
    created = await client.delegate(skill)
    await worker.nothing("task.offer")
    check(await client.state(created.task) == "queued", "the task queued", "")


@coordinator("FLOW-5")
async def an_attempt_that_only_waits_gives_its_credit_free(under: Coordinator) -> None:
    """With `slot: released` an agent with a credit of one task is offered the sub-task it waits for."""
    skill = under.skill()
    worker = await under.peer(skills=(skill,), credit={"tasks": 1, "frames": 256})
    client = await under.peer()
    created = await client.delegate(skill, "outer")
    outer = await worker.offered(created.task)
    await worker.heartbeat(outer)
    inner = await worker.delegate(skill, "inner", parent={"task": outer.task, "fence": outer.fence})
    await worker.nothing("task.offer", task=inner.task)
    await worker.heartbeat(outer, slot="released")
    await worker.offered(inner.task)


@coordinator("MAIL-2", also=("DURABLE-2",))
async def no_event_without_its_notice(under: Coordinator) -> None:
    """An admitted report has its review in the delegator's mailbox, however soon the delegator comes back."""
    name, skill = under.name("client"), under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer(name)
    created = await client.delegate(skill, payload=parts("x"))
    offer = await worker.offered(created.task)
    client.cut()
    await worker.admitted(offer)
    review = await (await under.peer(name)).reviewed(created.task)
    check(review.get("mseq") is not None, "a mailbox entry", review)
