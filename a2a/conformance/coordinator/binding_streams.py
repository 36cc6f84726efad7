"""Cases of A2A's streams on this wire: their beginning, their order, their end, and going on after a cut."""

from __future__ import annotations

import functools
import json
from typing import Any

from ..case import Role, case
from ..conversation import check
from ..peer import Coordinator, Peer
from ..wire import Frame, parts
from .binding import call, faulted, message, send

coordinator = functools.partial(case, Role.COORDINATOR)

RESULT = b'[{"artifactId":"a1","parts":[{"text":"one"}]},{"artifactId":"a2","parts":[{"text":"two"}]}]'


async def events(peer: Peer, sent: str, until: Any) -> list[Frame]:
    """Return the events of a stream up to the first for which `until` is true."""
    found: list[Frame] = []
    while not found or not until(found[-1]):
        frame = await peer.reply(sent, "a stream")
        check(frame.kind == "a2a.event", "a2a.event", frame)
        found.append(frame)
    return found


def is_last(event: Frame) -> bool:
    """Tell whether an event is the last of its stream."""
    return event.body.get("last") is True


def told(event: Frame) -> tuple[int, str, str]:
    """Return an event's generation, its type, and the artifact or state in it."""
    check(event.kind == "a2a.event", "a2a.event", event)
    found = json.loads(event.payload)
    check(isinstance(found, dict) and len(found) == 1, "a StreamResponse with one field", event)
    ((name, value),) = found.items()
    if name == "artifactUpdate":
        return event["gen"], "artifact", value["artifact"]["artifactId"]
    return event["gen"], name, value["status"]["state"].removeprefix("TASK_STATE_")


@coordinator("BIND-15", also=("BIND-16", "BIND-4"))
async def a_stream_tells_of_a_task_from_its_beginning_to_its_end(under: Coordinator) -> None:
    """First the Task, then each generation in order, then the artifacts of the result; the last event is marked."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    sent = await call(client, "SendStreamingMessage", {"message": message(under, skill)})
    offer = await worker.offered()
    at = {"task": offer.task, "fence": offer.fence}
    chunk = {"artifactId": "draft", "chunkNo": 0, "payload": parts("dr")}
    await worker.request("task.artifact", **at, **chunk, lastChunk=False)
    await worker.admitted(offer, payload=RESULT)
    found = await events(client, sent, is_last)
    check(all(event.task == offer.task for event in found), "the task in each", found[-1])
    check(told(found[0])[1] == "task", "the Task first", found[0])
    came = [told(event) for event in found[1:]]
    generations = [generation for generation, *_ in came]
    check(generations == sorted(generations), "the order of the generations", came)
    expected = set(range(found[0]["gen"] + 1, generations[-1] + 1))
    check(set(generations) == expected, f"every generation of {sorted(expected)}", came)
    ends = [(name, what) for _, name, what in came[-3:]]
    check(ends == [("artifact", "a1"), ("artifact", "a2"), ("statusUpdate", "COMPLETED")], "the artifacts whole", came)
    await client.nothing("a2a.event")


@coordinator("BIND-16", also=("ART-1", "ART-3"))
async def a_chunk_is_told_as_provisional(under: Coordinator) -> None:
    """A chunk of an attempt is an artifactUpdate with `provisional` and the fence in its metadata."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    sent = await call(client, "SendStreamingMessage", {"message": message(under, skill)})
    offer = await worker.offered()
    at = {"task": offer.task, "fence": offer.fence}
    for number, text in enumerate(("a", "b")):
        piece = {"artifactId": "draft", "chunkNo": number, "append": number > 0, "lastChunk": number > 0}
        await worker.request("task.artifact", **at, **piece, payload=parts(text))
    found = await events(client, sent, lambda event: b'"lastChunk":true' in event.payload.replace(b" ", b""))
    updates = [json.loads(event.payload)["artifactUpdate"] for event in found if told(event)[1] == "artifact"]
    check([update["artifact"]["parts"] for update in updates] == [[{"data": "a"}], [{"data": "b"}]], "both", updates)
    check([update.get("append") for update in updates] == [False, True], "the second appended", updates)
    marks = [(update["metadata"].get("provisional"), update["metadata"].get("fence")) for update in updates]
    check(marks == [(True, offer.fence)] * 2, "provisional, with the fence", updates)


@coordinator("BIND-16", also=("WATCH-4",))
async def streams_of_one_task_tell_the_same(under: Coordinator) -> None:
    """Two clients get the same events in the same order, also after a third client has left."""
    skill = under.skill()
    worker, one, two = await under.peer(skills=(skill,)), await under.peer(), await under.peer()
    three = await under.peer()
    task = await send(one, message(under, skill))
    offer = await worker.offered(task["id"])
    calls = [(peer, await call(peer, "SubscribeToTask", {"id": task["id"]})) for peer in (one, two, three)]
    for peer, sent in calls:
        check(told(await peer.reply(sent))[1] == "task", "the Task first")
    three.cut()
    await worker.admitted(offer, payload=RESULT)
    first, second = [[told(event) for event in await events(peer, sent, is_last)] for peer, sent in calls[:2]]
    check(first == second, "the same to both", (first, second))


@coordinator("BIND-17", also=("BIND-18",))
async def a_stream_that_was_cut_off_goes_on_behind_a_generation(under: Coordinator) -> None:
    """After a cut, `fromGen` brings the Task and then each generation above it, including those missed."""
    skill, name = under.skill(), under.name("client")
    worker, client = await under.peer(skills=(skill,)), await under.peer(name)
    sent = await call(client, "SendStreamingMessage", {"message": message(under, skill)})
    offer = await worker.offered()
    seen = (await events(client, sent, lambda event: told(event)[2] == "WORKING"))[-1]["gen"]
    client.cut()
    await worker.request("task.ask", task=offer.task, fence=offer.fence, askNo=1, payload=parts("which?"))
    back = await under.peer(name)
    again = await call(back, "SubscribeToTask", {"id": offer.task}, fromGen=seen)
    await back.request("task.answer", task=offer.task, askNo=1, payload=parts("that"))
    await worker.admitted(offer, payload=RESULT)
    found = [told(event) for event in await events(back, again, is_last)]
    check(found[0][1:] == ("task", "INPUT_REQUIRED"), "the Task as it was then", found)
    generations = list(dict.fromkeys(generation for generation, *_ in found[1:]))
    check(generations == list(range(seen + 1, generations[-1] + 1)), f"each generation from {seen + 1}", found)


@coordinator("BIND-16", also=("BIND-10",))
async def a_status_update_says_what_it_tells_of(under: Coordinator) -> None:
    """Event, generation and state are in `metadata`; a question is in its own update; progress is told."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    sent = await call(client, "SendStreamingMessage", {"message": message(under, skill)})
    offer = await worker.offered()
    await worker.heartbeat(offer, progressNo=1, progressBp=5_000, note="half")
    found = await events(client, sent, lambda event: b'"progress"' in event.payload)
    update = json.loads(found[-1].payload)["statusUpdate"]
    check((update["status"].get("message") or {}).get("parts") == [{"text": "half"}], "the note", update)
    await worker.request("task.ask", task=offer.task, fence=offer.fence, askNo=1, payload=parts("which?"))
    await client.request("task.answer", task=offer.task, askNo=1, payload=parts("that"))
    await worker.admitted(offer, payload=RESULT)
    rest = await events(client, sent, is_last)
    updates = [
        (event["gen"], json.loads(event.payload)["statusUpdate"])
        for event in rest
        if told(event)[1] == "statusUpdate" and b'"progress"' not in event.payload
    ]
    marks = [(update["metadata"].get("generation"), bool(update["metadata"].get("event"))) for _, update in updates]
    check(marks == [(gen, True) for gen, _ in updates], "each its own generation, and an event", updates)
    asked = next(update for _, update in updates if update["metadata"].get("event") == "ask")
    words = (asked["status"].get("message") or {}).get("parts")
    check((words, asked["metadata"].get("state")) == ([{"data": "which?"}], "parked"), "the question, parked", asked)


@coordinator("BIND-17")
async def a_stream_may_begin_behind_nothing(under: Coordinator) -> None:
    """With `fromGen` 0 all events follow the Task, even a question that was already answered, with its words."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    task = await send(client, message(under, skill))
    offer = await worker.offered(task["id"])
    await worker.request("task.ask", task=offer.task, fence=offer.fence, askNo=1, payload=parts("which?"))
    await client.request("task.answer", task=offer.task, askNo=1, payload=parts("that"))
    again = await call(client, "SubscribeToTask", {"id": offer.task}, fromGen=0)
    first = told(await client.reply(again))
    check(first[1] == "task", "the Task first", first)
    await worker.admitted(offer, payload=RESULT)
    came = await events(client, again, is_last)
    check(any(b"which?" in event.payload for event in came), "the question", came)
    found = [told(event) for event in came]
    generations = list(dict.fromkeys(generation for generation, *_ in found))
    check(generations == list(range(1, generations[-1] + 1)), "each generation from 1", found)


@coordinator("BIND-17", also=("BIND-13",))
async def a_stream_may_be_refused(under: Coordinator) -> None:
    """It is -32001 for no task, -32602 from a generation that does not exist, -32004 for a task that has ended."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    task = await send(client, message(under, skill))
    await faulted(client, -32001, "SubscribeToTask", {"id": "no-such-task"})
    await faulted(client, -32602, "SubscribeToTask", {"id": task["id"]}, fromGen=1_000)
    await worker.admitted(await worker.offered(task["id"]))
    await client.settled(task["id"])
    await faulted(client, -32004, "SubscribeToTask", {"id": task["id"]})


@coordinator("BIND-15", also=("BIND-5", "BIND-17"))
async def a_message_again_goes_on_with_its_stream(under: Coordinator) -> None:
    """A message sent again resumes a stream that was cut off; after the task has ended, it brings the Task alone."""
    skill, name = under.skill(), under.name("client")
    worker, client = await under.peer(skills=(skill,)), await under.peer(name)
    sent = {"message": message(under, skill)}
    first = told(await client.reply(await call(client, "SendStreamingMessage", sent)))
    check(first[1] == "task", "the Task first", first)
    client.cut()
    offer = await worker.offered()
    back = await under.peer(name)
    again = await call(back, "SendStreamingMessage", sent)
    await worker.admitted(offer, payload=RESULT)
    found = await events(back, again, is_last)
    check(found[-1].task == offer.task, "the same task", found[-1])
    ended = await events(back, await call(back, "SendStreamingMessage", sent), is_last)
    check([told(event)[1:] for event in ended] == [("task", "COMPLETED")], "the Task alone", ended[-1])


@coordinator("BIND-15", also=("BIND-10",))
async def a_stream_ends_with_the_agents_fault(under: Coordinator) -> None:
    """If a worker reports a result that is no list of artifacts, the stream ends with -32006."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    sent = await call(client, "SendStreamingMessage", {"message": message(under, skill)})
    await worker.admitted(await worker.offered(), payload=b'"out"')
    fault = await client.take_if(lambda frame: frame.get("re") == sent and frame.kind != "a2a.event", "a2a.fault")
    check(fault.kind == "a2a.fault" and fault.body.get("code") == -32006, "a2a.fault -32006", fault)
    await client.nothing("a2a.event", last=True)


@coordinator("BIND-18", also=("BIND-9", "RPC-3"))
async def a_call_that_was_cut_off_is_made_again(under: Coordinator) -> None:
    """The connection ends while a message waits; the same message on the next one is answered with the same task."""
    skill, name = under.skill(), under.name("client")
    worker, client = await under.peer(skills=(skill,)), await under.peer(name)
    sent = {"message": message(under, skill)}
    await call(client, "SendMessage", sent)
    offer = await worker.offered()
    client.cut()
    back = await under.peer(name)
    again = await call(back, "SendMessage", sent)
    await worker.admitted(offer)
    reply = await back.reply(again)
    check(reply.kind == "a2a.result", "a2a.result", reply)
    check(json.loads(reply.payload)["task"]["id"] == offer.task, "the same task", reply)


@coordinator("BIND-18", also=("BIND-13",))
async def calls_that_wait_are_bounded(under: Coordinator) -> None:
    """Beyond 1,024 waiting calls on one connection, the next is -32603 with `quota`; it can be sent later."""
    client = await under.peer()
    skill = under.skill()
    task = await send(client, message(under, skill))
    request = json.dumps({"id": task["id"]}).encode()
    for _ in range(1_024):
        await call(client, "SubscribeToTask", request)
    fault = await faulted(client, -32603, "SubscribeToTask", request)
    info = (fault.body.get("data") or [{}])[0]
    check((info.get("metadata") or {}).get("code") == "quota", "the code quota", fault)
    await client.request("task.cancel", task=task["id"])
    await call(client, "SendStreamingMessage", {"message": message(under, skill)})
