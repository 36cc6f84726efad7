"""Cases of A2A's operations on this wire: sending messages, tasks, errors, the card."""

from __future__ import annotations

import functools
import json
from typing import Any

from ..case import Need, Role, Skipped, case
from ..conversation import check
from ..peer import Coordinator, Peer
from ..scenes import LONG, ok
from ..wire import Frame, parts, result

__all__ = ["BINDING", "answered", "call", "faulted", "message", "send"]

coordinator = functools.partial(case, Role.COORDINATOR)

BINDING = "urn:a2a-coordinator:binding:websocket:v1"
AT_ONCE = {"returnImmediately": True}


def message(under: Coordinator, skill: str = "", value: Any = "in", **fields: Any) -> dict[str, Any]:
    """Return a message for a skill, with its own id."""
    own = {"metadata": {BINDING: {"skill": skill}}} if skill else {}
    return {"messageId": under.name("message"), "role": "ROLE_USER", "parts": [{"data": value}]} | own | fields


async def call(peer: Peer, operation: str, request: Any = None, **fields: Any) -> str:
    """Send a call and return its id."""
    payload = request if isinstance(request, bytes) else json.dumps(request or {}).encode()
    return await peer.send("a2a.call", operation=operation, payload=payload, **fields)


def response(frame: Frame, operation: str = "a call") -> dict[str, Any]:
    """Return the object in an `a2a.result`."""
    check(frame.kind == "a2a.result", f"a2a.result to {operation}", frame)
    found = json.loads(frame.payload)
    check(isinstance(found, dict), "an object", frame)
    return dict(found)


async def answered(peer: Peer, operation: str, request: Any = None, **fields: Any) -> dict[str, Any]:
    """Make a call and return its response."""
    return response(await peer.reply(await call(peer, operation, request, **fields), operation), operation)


async def send(peer: Peer, sent: dict[str, Any], **configuration: Any) -> dict[str, Any]:
    """Send a message without waiting for its task, and return the task."""
    request = {"message": sent, "configuration": AT_ONCE | configuration}
    task = (await answered(peer, "SendMessage", request)).get("task")
    check(isinstance(task, dict), "a SendMessageResponse with a task", task)
    assert isinstance(task, dict)
    return task


async def faulted(peer: Peer, code: int, operation: str, request: Any = None, **fields: Any) -> Frame:
    """Make a call that has to be answered with this fault, and return the fault."""
    reply = await peer.reply(await call(peer, operation, request, **fields), operation)
    check(reply.kind == "a2a.fault" and reply.body.get("code") == code, f"a2a.fault {code} to {operation}", reply)
    return reply


def state_of(task: dict[str, Any]) -> str:
    """Return a task's state in A2A's words, without their common prefix."""
    return str((task.get("status") or {}).get("state")).removeprefix("TASK_STATE_")


# The binding ----------------------------------------------------------------------------------------------------------


@coordinator("BIND-2", also=("RPC-1", "WIRE-10"))
async def a_call_is_answered_by_a_result_or_a_fault(under: Coordinator) -> None:
    """`ListTasks` is answered by a2a.result with JSON, `GetTask` of no task by a2a.fault, each with the call's id."""
    client = await under.peer()
    page = await answered(client, "ListTasks", {"contextId": under.name("context")})
    check(page.get("tasks") == [], "an empty page", page)
    await faulted(client, -32001, "GetTask", {"id": "no-such-task"})


@coordinator("BIND-4", also=("LIMIT-2",))
async def a_request_has_only_so_many_keys_and_items(under: Coordinator) -> None:
    """A message with 70,000 numbers in a part is refused with InvalidParamsError, and the connection goes on."""
    client = await under.peer()
    await faulted(client, -32602, "SendMessage", {"message": message(under, "any", [0] * 70_000)})
    await faulted(client, -32001, "GetTask", {"id": "no-such-task"})


@coordinator("BIND-2", also=("BIND-20", "HELLO-5"))
async def a_call_before_the_hello_is_refused_by_the_protocol(under: Coordinator) -> None:
    """A call that comes first gets `error auth`, and the connection ends."""
    peer = await under.connect()
    reply = await peer.reply(await call(peer, "ListTasks"), "a2a.call")
    check(reply.kind == "error" and reply.code == "auth", "error auth", reply)
    await peer.ended()


@coordinator("BIND-2", also=("LIMIT-2",))
async def a_call_whose_payload_is_too_large_is_refused_by_the_protocol(under: Coordinator) -> None:
    """A request beyond `payloadMaxBytes` gets `error too_large`, and the connection goes on."""
    client = await under.peer()
    limit = int((client.welcome.body.get("limits") or {}).get("payloadMaxBytes", 0))
    reply = await client.reply(await call(client, "GetTask", b'{"id":"' + b"x" * limit + b'"}'))
    check(reply.kind == "error" and reply.code == "too_large", "error too_large", reply)
    await client.settle()


@coordinator("BIND-3", also=("BIND-13", "BIND-14"))
async def another_version_is_not_supported(under: Coordinator) -> None:
    """Version 0.3, even with an unknown operation, is -32009; 1.0.7 and an unknown extension are accepted."""
    client = await under.peer()
    for operation in ("ListTasks", "Nonsense"):
        fault = await faulted(client, -32009, operation, version="0.3")
        check(fault.body.get("name") == "VersionNotSupportedError", "VersionNotSupportedError", fault)
    context = {"contextId": under.name("context")}
    await answered(client, "ListTasks", context, version="1.0.7", extensions=["urn:unknown"])
    await answered(client, "ListTasks", context, ext={"a2a-trace": "1"})


@coordinator("BIND-4", also=("BIND-13",))
async def an_operation_that_is_none_is_told_so(under: Coordinator) -> None:
    """`message/send`, the name of another version, is -32601."""
    await faulted(await under.peer(), -32601, "message/send", {})


# Sending --------------------------------------------------------------------------------------------------------------


@coordinator("BIND-5", also=("BIND-1", "BIND-6", "TASK-1", "ACCEPT-1"))
async def a_message_is_a_delegation(under: Coordinator) -> None:
    """A worker gets an offer with the parts and the evaluator `auto`; its result completes the task."""
    skill, context = under.skill(), under.name("context")
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    sent = message(under, skill, {"b": 1, "a": 2}, contextId=context)
    task = await send(client, sent)
    offer = await worker.offered(task["id"])
    check(offer.payload == parts({"b": 1, "a": 2}), "the parts in canonical form", offer)
    spec, key = offer.body.get("spec") or {}, offer.body.get("key")
    check((spec.get("skill"), key) == (skill, sent["messageId"]), "the skill, and the message's id as the key", offer)
    check((spec.get("acceptance") or {}).get("evaluator") == "auto", "the evaluator auto", offer)
    check(task.get("contextId") == context == offer.body.get("contextId"), "the context", task)
    await worker.admitted(offer, "out")
    done = await client.settled(task["id"])
    check(done.body.get("state") == "completed", "completed", done)


@coordinator("BIND-5", also=("TASK-3", "TASK-4", "BIND-14"))
async def a_message_again_makes_no_second_task(under: Coordinator) -> None:
    """A repeat is the same task, on another connection and with its keys reordered; another message is refused."""
    skill, client = under.skill(), await under.peer()
    sent = message(under, skill, {"a": 1, "b": 2})
    task = await send(client, sent)
    turned = dict(reversed(list((sent | {"parts": [{"data": {"b": 2, "a": 1}}]}).items())))
    again = await send(await under.peer(f"{client.name}#2"), turned)
    check(again["id"] == task["id"], "the same task", again)
    other = sent | {"parts": [{"data": "other"}]}
    fault = await faulted(client, -32600, "SendMessage", {"message": other})
    info = (fault.body.get("data") or [{}])[0]
    check((info.get("metadata") or {}).get("code") == "idempotency_mismatch", "its code in metadata", fault)
    check((info.get("metadata") or {}).get("retryable") == "false", "whether it is retryable", fault)
    page = await client.request("task.list", skill=skill)
    check(len(page.body["tasks"]) == 1, "one task", page)


@coordinator("BIND-5", also=("BIND-18", "DURABLE-1"), needs=(Need.RESTART,))
async def a_message_is_the_same_task_after_a_crash(under: Coordinator) -> None:
    """A message sent again after the coordinator was killed, before its task ended, is still one task."""
    name, skill = under.name("client"), under.skill()
    client = await under.peer(name)
    sent = message(under, skill)
    task = await send(client, sent)
    await under.restart()
    worker, back = await under.peer(skills=(skill,)), await under.peer(name)
    again = await call(back, "SendMessage", {"message": sent})
    await worker.admitted(await worker.offered(task["id"]), "out")
    found = response(await back.reply(again)).get("task") or {}
    check((found.get("id"), state_of(found)) == (task["id"], "COMPLETED"), "the same task, completed", found)


@coordinator("BIND-6", also=("BIND-14",))
async def a_message_for_no_skill_is_told_what_to_do(under: Coordinator) -> None:
    """With two skills on file, a message that names none is -32602, and so is one whose metadata is malformed."""
    one, two = under.skill("one"), under.skill("two")
    await under.peer(skills=(one, two))
    client = await under.peer()
    fault = await faulted(client, -32602, "SendMessage", {"message": message(under)})
    check(BINDING in str(fault.body.get("message")), "the place where the skill is named", fault)
    kinds = [detail.get("@type", "").rpartition(".")[2] for detail in fault.body.get("data") or []]
    check(kinds == ["ErrorInfo", "BadRequest"], "ErrorInfo and BadRequest", fault)
    for wrong in ({"skill": 7}, "text", {}):
        await faulted(client, -32602, "SendMessage", {"message": message(under, metadata={BINDING: wrong})})


@coordinator("BIND-7", also=("WIRE-6",))
async def what_a_message_says_beside_its_parts_is_relayed(under: Coordinator) -> None:
    """The worker sees the message's metadata and unknown fields, the request's metadata, and the accepted modes."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    sent = message(under, skill, referenceTaskIds=["t"], tomorrow={"x": [1]})
    sent["metadata"]["own"] = {"k": None}
    request = {"message": sent, "metadata": {"m": 1}}
    request["configuration"] = AT_ONCE | {"acceptedOutputModes": ["text/plain"]}
    await answered(client, "SendMessage", request)
    spec = (await worker.offered()).body.get("spec") or {}
    expected = {name: value for name, value in sent.items() if name != "parts"}
    check(spec.get("message") == expected, "the message without its parts", spec)
    check((spec.get("metadata"), spec.get("acceptedOutputModes")) == ({"m": 1}, ["text/plain"]), "the others", spec)


@coordinator("BIND-7", also=("LIMIT-2",))
async def what_a_message_says_beside_its_parts_is_bounded(under: Coordinator) -> None:
    """1,001 items in metadata are -32602; more than that in a part are accepted."""
    skill, client = under.skill(), await under.peer()
    large = message(under, skill)
    large["metadata"]["many"] = list(range(1_001))
    await faulted(client, -32602, "SendMessage", {"message": large})
    await send(client, message(under, skill, list(range(5_000))))


@coordinator("BIND-6", also=("BIND-18",))
async def a_message_again_is_for_the_skill_of_its_task(under: Coordinator) -> None:
    """A repeat without its skill is for its task's skill, even if agents have several: -32600, as another message."""
    one, two = under.skill("one"), under.skill("two")
    await under.peer(skills=(one, two))
    client = await under.peer()
    sent = message(under, one)
    task = await send(client, sent)
    silent = {name: value for name, value in sent.items() if name != "metadata"}
    fault = await faulted(client, -32600, "SendMessage", {"message": silent, "configuration": AT_ONCE})
    check(task["id"] in str(fault.body), f"the task {task['id']}, of which the message is another now", fault)


@coordinator("BIND-7")
async def what_is_empty_of_a_configuration_is_not_relayed(under: Coordinator) -> None:
    """Empty `acceptedOutputModes` are not in the `spec`; metadata nested 17 deep is -32602."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    await send(client, message(under, skill), acceptedOutputModes=[])
    spec = (await worker.offered()).body.get("spec") or {}
    check("acceptedOutputModes" not in spec, "no acceptedOutputModes", spec)
    deep = message(under, skill)
    for _ in range(17):
        deep["metadata"] = deep["metadata"] | {"deep": [deep["metadata"].get("deep")]}
    await faulted(client, -32602, "SendMessage", {"message": deep})


@coordinator("BIND-7", also=("ROUTE-1", "BIND-18"))
async def each_media_type_has_to_be_taken_by_somebody(under: Coordinator) -> None:
    """Both of two types are checked, and neither is required; a skill nobody has and a repeat are not checked."""
    skill, client = under.skill(), await under.peer()
    name = under.name("worker")
    card = under.hello(name, skill)["card"] | {"defaultInputModes": ["image/png"]}
    painter = await under.peer(name, skills=(skill,), card=card)
    plain = await under.peer(skills=(skill,), credit={"tasks": 0, "frames": 256})
    both = [{"text": "a", "mediaType": kind} for kind in ("image/png", "text/plain")]
    odd = [both[0], {"text": "a", "mediaType": "image/gif"}]
    await faulted(client, -32005, "SendMessage", {"message": message(under, skill, parts=odd)})
    offer = await painter.offered((await send(client, message(under, skill, parts=both[::-1])))["id"])
    check("requires" not in offer.body["spec"], "nothing that is required", offer)
    await send(client, message(under, under.skill("nobody"), parts=odd))
    sent = _media(under, skill, "text/plain")
    task = await send(client, sent)
    await ok(plain, "agent.update", card=card)
    again = await send(client, sent)
    check(again["id"] == task["id"], "the same task", again)


@coordinator("BIND-7", also=("ROUTE-1",))
async def a_media_type_nobody_takes_is_refused(under: Coordinator) -> None:
    """A part of a type that no agent with the skill takes is -32005; a part that some agent takes goes to it."""
    skill, client = under.skill(), await under.peer()
    name = under.name("worker")
    card = under.hello(name, skill)["card"] | {"defaultInputModes": ["image/png"]}
    painter = await under.peer(name, skills=(skill,), card=card)
    plain = await under.peer(skills=(skill,))
    await faulted(client, -32005, "SendMessage", {"message": _media(under, skill, "image/gif")})
    task = await send(client, _media(under, skill, "image/png"))
    await painter.offered(task["id"])
    await plain.nothing("task.offer", task=task["id"])


def _media(under: Coordinator, skill: str, media_type: str) -> dict[str, Any]:
    return message(under, skill, parts=[{"raw": "aGk=", "mediaType": media_type}])


@coordinator("BIND-8", also=("ASK-3", "BIND-10"))
async def a_message_to_a_task_that_asks_answers_it(under: Coordinator) -> None:
    """The question is in `status.message`; a message with `taskId` reaches the worker as its answer."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    task = await send(client, message(under, skill))
    offer = await worker.offered(task["id"])
    await worker.request("task.ask", task=offer.task, fence=offer.fence, askNo=1, payload=parts("which?"))
    asked = await answered(client, "GetTask", {"id": offer.task})
    words = (asked["status"].get("message") or {}).get("parts")
    check((state_of(asked), words) == ("INPUT_REQUIRED", [{"data": "which?"}]), "the question", asked)
    after = await send(client, message(under, value="that", taskId=offer.task))
    check(state_of(after) == "WORKING", "TASK_STATE_WORKING", after)
    answer = await worker.take("task.answer", task=offer.task)
    check(answer.payload == parts("that"), "the parts as the answer", answer)


@coordinator("BIND-8", also=("BIND-18",))
async def an_answer_again_answers_no_later_question(under: Coordinator) -> None:
    """An answer sent again while a second question is open leaves that question open."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    task = await send(client, message(under, skill))
    offer = await worker.offered(task["id"])
    at = {"task": offer.task, "fence": offer.fence}
    await worker.request("task.ask", **at, askNo=1, payload=parts("one?"))
    answer = message(under, value="first", taskId=offer.task)
    await send(client, answer)
    await worker.request("task.ask", **at, askNo=2, payload=parts("two?"))
    again = await send(client, answer)
    check(state_of(again) == "INPUT_REQUIRED", "the second question open", again)
    await send(client, message(under, value="second", taskId=offer.task))
    await worker.admitted(offer)
    ended = await send(client, answer)
    check(state_of(ended) == "COMPLETED", "the task, also after its end", ended)


@coordinator("BIND-8", also=("STEER-1",))
async def a_message_to_a_task_at_work_is_a_word(under: Coordinator) -> None:
    """A message to a task that asks nothing reaches the worker as one `task.steer`, even if it is sent twice."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    task = await send(client, message(under, skill))
    offer = await worker.offered(task["id"])
    await worker.heartbeat(offer)
    word = message(under, value="hurry", taskId=task["id"], contextId=task["contextId"])
    await send(client, word)
    await send(client, word)
    steer = await worker.take("task.steer", task=offer.task)
    check(steer.payload == parts("hurry"), "the parts as the word", steer)
    await worker.nothing("task.steer")
    await client.request("task.cancel", task=offer.task, mode="skip")
    await client.settled(offer.task)
    again = await send(client, word)
    check(again["id"] == offer.task, "the task, also after its end", again)


@coordinator("BIND-8", also=("BIND-13", "BIND-14", "AUTH-5", "ERR-5"))
async def a_message_to_a_task_may_be_refused(under: Coordinator) -> None:
    """It is -32001 for no task, -32602 in another context, -32600 `forbidden` for a stranger, -32004 after the end."""
    skill = under.skill()
    worker, client, stranger = await under.peer(skills=(skill,)), await under.peer(), await under.peer()
    task = await send(client, message(under, skill))
    offer = await worker.offered(task["id"])
    more = message(under, taskId=task["id"])
    await faulted(client, -32001, "SendMessage", {"message": message(under, taskId="no-such-task")})
    await faulted(client, -32602, "SendMessage", {"message": more | {"contextId": under.name("context")}})
    fault = await faulted(stranger, -32600, "SendMessage", {"message": more})
    info = (fault.body.get("data") or [{}])[0]
    check((info.get("metadata") or {}).get("code") == "forbidden", "the code forbidden", fault)
    await worker.admitted(offer)
    await faulted(client, -32004, "SendMessage", {"message": more})


@coordinator("BIND-9", also=("BIND-10", "TASK-10"))
async def a_message_is_answered_when_its_task_has_ended(under: Coordinator) -> None:
    """No answer comes while the worker is at work; then the completed task comes with its artifacts."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    sent = await call(client, "SendMessage", {"message": message(under, skill)})
    offer = await worker.offered()
    await worker.heartbeat(offer)
    await client.nothing("a2a.result")
    own = b'[{"artifactId":"a","parts":[{"text":"out","tomorrow":1}],"own":{"x":1}}]'
    await worker.admitted(offer, payload=own)
    task = response(await client.reply(sent)).get("task") or {}
    check(state_of(task) == "COMPLETED", "TASK_STATE_COMPLETED", task)
    check(task.get("artifacts") == json.loads(own), "the artifacts, unknown fields included", task)
    check("history" not in task, "no history", task)
    await client.settled(offer.task)


@coordinator("BIND-9")
async def a_message_is_answered_when_its_task_asks(under: Coordinator) -> None:
    """The question answers the message; the end answers the message that answered the question."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    sent = await call(client, "SendMessage", {"message": message(under, skill)})
    offer = await worker.offered()
    await worker.request("task.ask", task=offer.task, fence=offer.fence, askNo=1, payload=parts("which?"))
    asked = response(await client.reply(sent)).get("task") or {}
    check(state_of(asked) == "INPUT_REQUIRED", "TASK_STATE_INPUT_REQUIRED", asked)
    answer = await call(client, "SendMessage", {"message": message(under, taskId=offer.task)})
    await client.nothing("a2a.result")
    await worker.admitted(offer)
    ended = response(await client.reply(answer)).get("task") or {}
    check(state_of(ended) == "COMPLETED", "TASK_STATE_COMPLETED", ended)


@coordinator("BIND-18", also=("BIND-9", "WIRE-3"))
async def a_call_with_the_id_of_another_takes_its_place(under: Coordinator) -> None:
    """Of two messages that wait under one id, the first is no longer answered."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    same = client.next_id()
    offers = []
    for _ in range(2):
        payload = json.dumps({"message": message(under, skill)}).encode()
        await client.send("a2a.call", id=same, operation="SendMessage", payload=payload)
        offers.append(await worker.offered())
    for offer in offers:
        await worker.admitted(offer)
        await client.settled(offer.task)
    found = response(await client.reply(same)).get("task") or {}
    check(found.get("id") == offers[1].task, "the second one's task", found)
    await client.nothing("a2a.result")


# Tasks ----------------------------------------------------------------------------------------------------------------


@coordinator("BIND-10", also=("READ-3",))
async def a_failed_task_says_why(under: Coordinator) -> None:
    """A task whose worker has failed for good shows TASK_STATE_FAILED, no artifacts, and a message in its status."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    task = await send(client, message(under, skill))
    error = {"code": "broken", "detail": "it broke", "retryable": False}
    await worker.admitted(await worker.offered(task["id"]), outcome="failed", error=error)
    await client.settled(task["id"])
    shown = await answered(client, "GetTask", {"id": task["id"], "historyLength": 5})
    check((state_of(shown), shown.get("artifacts")) == ("FAILED", []), "failed, without artifacts", shown)
    said = shown["status"].get("message") or {}
    check(said.get("role") == "ROLE_AGENT" and bool(said.get("parts")), "words of the agent's role", shown)
    check((shown.get("metadata") or {}).get("state") == "failed", "the view's metadata", shown)


@coordinator("BIND-10", also=("BIND-13",))
async def a_result_that_is_no_list_of_artifacts_is_told_so(under: Coordinator) -> None:
    """If a worker's result is no list of artifacts or has an invalid part, the waiting call and GetTask get -32006."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    for wrong in (b'["out"]', b'[{"artifactId":"a","parts":[{"text":5}]}]'):
        sent = await call(client, "SendMessage", {"message": message(under, skill)})
        offer = await worker.offered()
        await worker.admitted(offer, payload=wrong)
        fault = await client.reply(sent)
        check(fault.kind == "a2a.fault" and fault.body.get("code") == -32006, "a2a.fault -32006", fault)
        await faulted(client, -32006, "GetTask", {"id": offer.task})


@coordinator("BIND-11", also=("READ-2", "AUTH-6"))
async def lists_tasks_by_when_they_changed(under: Coordinator) -> None:
    """Five tasks of one context, the first changed last, in pages of two: each comes once, and `totalSize` is 5."""
    skill, context, client = under.skill(), under.name("context"), await under.peer()
    made = [(await send(client, message(under, skill, contextId=context)))["id"] for _ in range(5)]
    await answered(client, "CancelTask", {"id": made[0]})
    listed: list[tuple[str, str]] = []
    token = ""
    for size in (2, 2, 1):
        request = {"contextId": context, "pageSize": 2, "pageToken": token}
        page = await answered(client, "ListTasks", request)
        check((len(page["tasks"]), page["totalSize"], page["pageSize"]) == (size, 5, 2), f"{size} of 5", page)
        listed += [(task["status"]["timestamp"], task["id"]) for task in page["tasks"]]
        token = page["nextPageToken"]
        check(bool(token) is (size == 2), "a token, and none at the end", page)
    check(sorted(task for _, task in listed) == sorted(made), "each once", listed)
    # The cancel may come within the millisecond in which the last one was made.
    newest = sorted(listed, key=lambda shown: (shown[0], made.index(shown[1])), reverse=True)
    check(listed == newest, "the newest status first, and of two equals the one created later", listed)
    other = await answered(await under.peer(), "ListTasks", {"contextId": context})
    check(len(other["tasks"]) == 5, "what every member may read", other)


@coordinator("BIND-11")
async def lists_what_passes_with_artifacts_where_they_are_asked_for(under: Coordinator) -> None:
    """`status`, `contextId` and `statusTimestampAfter` filter the list; artifacts need `includeArtifacts`."""
    skill, context = under.skill(), under.name("context")
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    done = await send(client, message(under, skill, contextId=context))
    await worker.admitted(await worker.offered(done["id"]), "out")
    await client.settled(done["id"])
    waiting = await send(client, message(under, under.skill("nobody"), contextId=context))
    for status, expected in (("COMPLETED", [done["id"]]), ("SUBMITTED", [waiting["id"]]), ("REJECTED", [])):
        page = await answered(client, "ListTasks", {"contextId": context, "status": f"TASK_STATE_{status}"})
        check([task["id"] for task in page["tasks"]] == expected, f"{expected} for {status}", page)
        check(all("artifacts" not in task for task in page["tasks"]), "no artifacts", page)
    page = await answered(client, "ListTasks", {"contextId": context, "includeArtifacts": True})
    shown = {task["id"]: task.get("artifacts") for task in page["tasks"]}
    check(shown == {done["id"]: json.loads(result("out")), waiting["id"]: []}, "artifacts", page)
    late = {"contextId": context, "statusTimestampAfter": "2999-01-01T00:00:00Z"}
    check((await answered(client, "ListTasks", late))["totalSize"] == 0, "nothing in a thousand years", late)


@coordinator("BIND-11", also=("BIND-10", "BIND-19"))
async def a_page_has_fifty_tasks_and_is_not_lost_to_one(under: Coordinator) -> None:
    """Of 51 tasks 50 are on a page; the one that cannot be shown is on the next; an unspecified state is no filter."""
    skill, context = under.skill(), under.name("context")
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    broken = await send(client, message(under, skill, contextId=context))
    await worker.admitted(await worker.offered(broken["id"]), payload=b'"out"')
    await client.settled(broken["id"])
    nobody = under.skill("nobody")
    for _ in range(50):
        await send(client, message(under, nobody, contextId=context))
    request = {"contextId": context, "includeArtifacts": True, "status": "TASK_STATE_UNSPECIFIED"}
    page = await answered(client, "ListTasks", request)
    check((len(page["tasks"]), page["totalSize"], page["pageSize"]) == (50, 51, 50), "50 of 51", page.get("totalSize"))
    rest = await answered(client, "ListTasks", request | {"pageToken": page["nextPageToken"]})
    shown = [(task["id"], task.get("artifacts")) for task in rest["tasks"]]
    check(shown == [(broken["id"], [])], "the one that cannot be shown, without artifacts", rest)
    since = {"contextId": context, "statusTimestampAfter": rest["tasks"][0]["status"]["timestamp"]}
    check((await answered(client, "ListTasks", since))["totalSize"] == 51, "from that time on, all of them", since)
    everywhere = await answered(client, "ListTasks", {"contextId": "", "pageSize": 1})
    check(everywhere["totalSize"] >= 51, "an empty contextId is none", everywhere.get("totalSize"))


@coordinator("BIND-11", also=("LIMIT-1",))
async def a_page_is_bounded_in_bytes(under: Coordinator) -> None:
    """Of two tasks with results of 600,000 bytes, a page with artifacts has one, and leads to the other."""
    skill, context = under.skill(), under.name("context")
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    if client.payload_max_bytes < 600_100:
        raise Skipped("a result has fewer bytes here")
    made = []
    for _ in range(2):
        made.append((await send(client, message(under, skill, contextId=context)))["id"])
        await worker.admitted(await worker.offered(made[-1]), "x" * 600_000)
        await client.settled(made[-1])
    request = {"contextId": context, "includeArtifacts": True}
    came: list[str] = []
    for _ in range(2):
        page = await answered(client, "ListTasks", request)
        check(
            (len(page["tasks"]), page["totalSize"]) == (1, 2), "one task of two", [task["id"] for task in page["tasks"]]
        )
        came += [task["id"] for task in page["tasks"]]
        request["pageToken"] = page["nextPageToken"]
    check(came == made[::-1] and not request["pageToken"], "both, the newest first", came)


@coordinator("BIND-10", also=("ASK-1",))
async def what_is_no_list_of_parts_is_shown_as_text(under: Coordinator) -> None:
    """A question that is no list of parts is shown as text; a task whose result is unconfirmed has no artifacts."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    created = await client.delegate(skill, timers=LONG)
    offer = await worker.offered(created.task)
    await worker.request("task.ask", task=offer.task, fence=offer.fence, askNo=1, payload=b'{"which":1}')
    asked = await answered(client, "GetTask", {"id": offer.task})
    words = (asked["status"].get("message") or {}).get("parts")
    check(words == [{"text": '{"which":1}'}], "the question as a text", asked)
    await client.request("task.answer", task=offer.task, askNo=1, payload=parts("that"))
    await worker.admitted(offer)
    await client.reviewed(offer.task)
    shown = await answered(client, "GetTask", {"id": offer.task})
    check(shown.get("artifacts") == [], "no artifacts", shown)


@coordinator("BIND-11", also=("BIND-14",))
async def a_page_that_is_none_is_refused(under: Coordinator) -> None:
    """A size of 0 or 101, an unknown state, token or time is -32602, and the field is named."""
    client = await under.peer()
    for field, value in (
        ("pageSize", 0),
        ("pageSize", 101),
        ("status", "working"),
        ("pageToken", "nonsense"),
        ("statusTimestampAfter", "yesterday"),
    ):
        fault = await faulted(client, -32602, "ListTasks", {field: value})
        named = [
            violation.get("field")
            for detail in fault.body.get("data") or []
            for violation in detail.get("fieldViolations", [])
        ]
        check(field in named, f"{field} named", fault)


@coordinator("BIND-12", also=("CANCEL-2", "CANCEL-3"))
async def cancels_a_task(under: Coordinator) -> None:
    """A waiting task is canceled at once, and again; a task at work is asked to stop; a completed one is -32002."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    waiting = await send(client, message(under, under.skill("nobody")))
    for _ in range(2):
        canceled = await answered(client, "CancelTask", {"id": waiting["id"]})
        check(state_of(canceled) == "CANCELED", "TASK_STATE_CANCELED", canceled)
    held = await send(client, message(under, skill))
    offer = await worker.offered(held["id"])
    await worker.heartbeat(offer)
    shown = await answered(client, "CancelTask", {"id": held["id"]})
    check(state_of(shown) == "WORKING", "TASK_STATE_WORKING", shown)
    await worker.take("task.revoke", task=offer.task)
    await worker.admitted(offer)
    await client.settled(held["id"])
    fault = await faulted(client, -32002, "CancelTask", {"id": held["id"]})
    check(fault.body.get("name") == "TaskNotCancelableError", "TaskNotCancelableError", fault)
    await faulted(client, -32001, "CancelTask", {"id": "no-such-task"})


# Types and errors -----------------------------------------------------------------------------------------------------


@coordinator("BIND-19", also=("BIND-13",))
async def wrong_requests_are_told_apart(under: Coordinator) -> None:
    """Invalid JSON is -32700, a request of the wrong form -32602; null and unknown fields are no error."""
    skill, client = under.skill(), await under.peer()
    deep = b'{"x":' + b"[" * 200 + b"]" * 200 + b"}"
    for wrong in (b"nonsense", b'{"id":"a","id":"b"}', deep, b"1 2"):
        await faulted(client, -32700, "GetTask", wrong)
    for wrong in (b"[]", b"{}", b'{"id":7}', b'{"id":""}'):
        await faulted(client, -32602, "GetTask", wrong)
    good = message(under, skill)
    for field, value in (
        ("messageId", None),
        ("role", "ROLE_AGENT"),
        ("parts", []),
        ("parts", [{}]),
        ("parts", [{"text": "a", "data": 1}]),
        ("metadata", "text"),
    ):
        await faulted(client, -32602, "SendMessage", {"message": good | {field: value}})
    page = await client.request("task.list", skill=skill)
    check(page.body["tasks"] == [], "no task of what was refused", page)
    await send(client, good | {"taskId": None, "tomorrow": 1}, historyLength=None, tomorrow=1)


@coordinator("BIND-19", also=("BIND-5",))
async def what_is_left_empty_is_absent(under: Coordinator) -> None:
    """A message whose `contextId`, `taskId`, and a part's `mediaType` and `filename` are empty is a delegation."""
    skill = under.skill()
    worker, client = await under.peer(skills=(skill,)), await under.peer()
    part = {"data": "in", "mediaType": "", "filename": "", "metadata": None}
    task = await send(client, message(under, skill, parts=[part], contextId="", taskId=""))
    offer = await worker.offered(task["id"])
    check(offer.payload == parts("in"), "the part without what is empty", offer)


@coordinator("BIND-20", also=("AUTH-1", "HELLO-5"))
async def a_hello_without_the_token_is_the_challenge(under: Coordinator) -> None:
    """A hello with another token gets `error auth` with words, and the connection ends."""
    if not under.settings.token:
        raise Skipped("the coordinator admits everybody")
    peer = await under.connect()
    reply = await peer.request("hello", **under.hello(under.name(), token="another"))
    check(reply.kind == "error" and reply.code == "auth", "error auth", reply)
    check(bool(reply.body.get("detail")), "words", reply)
    await peer.ended()


@coordinator("BIND-21", also=("BIND-1",))
async def the_card_names_the_binding_and_the_skills(under: Coordinator) -> None:
    """The card has an interface with the binding's URI and 1.0, each skill on file once, and the capabilities."""
    one, two, client = under.skill("one"), under.skill("two"), await under.peer()
    await under.peer(skills=(one, two))
    await under.peer(skills=(one,))
    card = await answered(client, "GetExtendedAgentCard")
    named = [(shown.get("protocolBinding"), shown.get("protocolVersion")) for shown in card["supportedInterfaces"]]
    check((BINDING, "1.0") in named, "the binding among the interfaces", card["supportedInterfaces"])
    listed = [skill["id"] for skill in card["skills"]]
    check(listed.count(one) == 1 and listed.count(two) == 1, "each skill once", listed)
    told = card["capabilities"]
    check(told.get("streaming") is True and not told.get("pushNotifications"), "streaming, and no pushing", told)
    check(told.get("extendedAgentCard") is True, "extendedAgentCard", told)
    required = {"name", "description", "version", "defaultInputModes", "defaultOutputModes"}
    check(required <= set(card), f"{sorted(required)}", sorted(card))


@coordinator("BIND-21")
async def a_skill_is_shown_as_the_agent_with_the_smallest_id_has_it(under: Coordinator) -> None:
    """A skill is shown with its own modes, or if it names none, with those of that agent's card."""
    skill, client = under.skill(), await under.peer()
    names = sorted(under.name("worker") for _ in range(2))
    for place, name in reversed(list(enumerate(names))):
        card = under.hello(name, skill)["card"] | {
            "defaultInputModes": [f"in/card{place}"],
            "defaultOutputModes": [f"out/card{place}"],
        }
        card["skills"][0] |= {"description": f"{place}", "inputModes": [f"in/own{place}"]}
        await under.peer(name, skills=(skill,), card=card)
    shown = next(found for found in (await answered(client, "GetExtendedAgentCard"))["skills"] if found["id"] == skill)
    told = (shown["description"], shown.get("inputModes"), shown.get("outputModes"))
    check(
        told == ("0", ["in/own0"], ["out/card0"]), "the first one's words and modes, the card's for the output", shown
    )


@coordinator("BIND-22", also=("BIND-4", "BIND-13"))
async def nothing_is_pushed(under: Coordinator) -> None:
    """The four operations on push configurations, and a message that carries a configuration, are -32003."""
    client = await under.peer()
    for name in ("Create", "Get", "List", "Delete"):
        operation = f"{name}TaskPushNotificationConfig{'s' if name == 'List' else ''}"
        await faulted(client, -32003, operation, {"taskId": "no-such-task", "id": "1"})
    configuration = {"taskPushNotificationConfig": {"url": "https://example.com/"}}
    request = {"message": message(under, under.skill()), "configuration": configuration}
    await faulted(client, -32003, "SendMessage", request)
