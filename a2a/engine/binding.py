"""A2A's operations on the same engine (spec BIND).

An operation becomes one of this protocol's own messages, and its handler decides: an A2A message is a delegation, an
answer or a word, with its id as the key. A refusal becomes one of A2A's errors, by the table in `errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from heapq import nsmallest
from typing import Any

from ..errors import CODES, ErrorCode
from ..protocol.canonical import canonical
from ..protocol.messages import (
    A2ACall,
    A2AResult,
    AgentFilter,
    Error,
    Message,
    TaskAnswer,
    TaskCancel,
    TaskDelegate,
    TaskSteer,
)
from ..protocol.operations import BINDING, PUSH_OPERATIONS, Fault, encode, read_request, weight
from .decision import Called, Decision, Need
from .ledger import Ledger
from .listing import in_archive, newest, page_of, query_of
from .live import Connection, World
from .records import Answered
from .routing import satisfies
from .showing import card, shown
from .task_state import Task
from .tasks import on_task_answer, on_task_cancel, on_task_delegate, on_task_steer, scope_of

__all__ = ["RELAYED_DEPTH", "RELAYED_ITEMS", "listed", "need_of", "on_a2a_call", "on_list"]

RELAYED_DEPTH = 16
RELAYED_ITEMS = 1_000
"""Limits of a message besides its parts: the specification of a task travels in a frame's body (spec LIMIT-2)."""

_OF_A_MESSAGE = ("SendMessage", "SendStreamingMessage")
_OF_A_TASK = ("GetTask", "CancelTask", "SubscribeToTask")

Handler = Callable[[World, Connection, A2ACall, dict[str, Any], int], Called]


def on_a2a_call(world: World, sender: Connection, message: A2ACall, now: int) -> Called:
    """Take a call of one of A2A's operations. Spec BIND-2 to BIND-12."""
    try:
        request = read_request(message.operation, message.version, message.payload)
        return _HANDLERS[message.operation](world, sender, message, request, now)
    except Fault as fault:
        return Called(reply=fault.told)


# Sending --------------------------------------------------------------------------------------------------------------


def _send(world: World, sender: Connection, call: A2ACall, request: dict[str, Any], now: int) -> Called:
    message, configuration = request["message"], request.get("configuration", {})
    if "taskPushNotificationConfig" in configuration:
        raise _no_push()
    streams = call.operation == "SendStreamingMessage"
    waits = not streams and not configuration.get("returnImmediately", False)
    if waits or streams:
        _find_room(world, sender)
    try:
        parts = canonical(message["parts"])
    except ValueError as error:
        raise Fault(-32602, f"message.parts: {error}", fields=[("message.parts", str(error))]) from None
    said: Message
    decision: Decision
    if "taskId" in message:
        said, decision = _say_more(world, sender, message, parts, now)
        task = message["taskId"]
    else:
        said = _delegation(world, sender, message, request, parts)
        decision = on_task_delegate(world, sender, said, now)
        task = getattr(decision.reply, "task", None)
    return _called(said, decision, task, waits=waits, streams=streams, as_response=True)


def _called(said: Message, decision: Decision, task: str | None, **how: Any) -> Called:
    """Return a call's decision, made from that of one of this protocol's own messages."""
    answer = decision.reply
    if not isinstance(answer, Error):
        return Called(decision.records, task=task, **how)
    facts = {"code": answer.code, "retryable": str(answer.retryable).lower()}
    fault = Fault(CODES[ErrorCode(answer.code)].jsonrpc, answer.detail, facts=facts)
    return Called(decision.records, fault.told, said=said, refusal=answer)


def _find_room(world: World, sender: Connection) -> None:
    most = world.policy.calls_max
    if len(sender.calls) >= most:
        detail = f"a connection has at most {most} calls that wait and streams: wait for one of them to end"
        raise Fault(-32603, detail, facts={"code": ErrorCode.QUOTA.value, "retryable": "true"})


def _delegation(
    world: World, sender: Connection, message: dict[str, Any], request: dict[str, Any], parts: bytes
) -> TaskDelegate:
    """Return a message without a task as the delegation that it is."""
    ledger, key = world.ledger, message["messageId"]
    relayed: dict[str, Any] = {"message": {name: value for name, value in message.items() if name != "parts"}}
    if "metadata" in request:
        relayed["metadata"] = request["metadata"]
    modes = request.get("configuration", {}).get("acceptedOutputModes")
    if modes:
        relayed["acceptedOutputModes"] = modes
    depth, items = weight(relayed)
    if depth > RELAYED_DEPTH or items > RELAYED_ITEMS:
        detail = f"what a message says beside its parts nests at most {RELAYED_DEPTH} deep and has at most"
        raise Fault(-32602, f"{detail} {RELAYED_ITEMS} keys and items; here it is {depth} and {items}")
    said = TaskDelegate(key, {"skill": ""}, parts, context_id=message.get("contextId"))
    known = ledger.keys.get((scope_of(said, sender.agent or ""), key))
    skill = _skill(ledger, message, ledger.tasks[known] if known is not None else None)
    media = list(dict.fromkeys(part["mediaType"] for part in message["parts"] if "mediaType" in part))
    if known is None:
        _check_media(world, skill, media)
    said.spec = {"skill": skill, "acceptance": {"evaluator": "auto"}, **relayed}  # type: ignore[typeddict-item]
    if len(media) == 1:
        said.spec["requires"] = {"mediaType": media[0]}
    return said


def _skill(ledger: Ledger, message: dict[str, Any], known: Task | None) -> str:
    """Return the skill a message is for: the one it names, else its task's, else the only one on file."""
    named = message.get("metadata", {}).get(BINDING)
    if named is not None:
        skill = named.get("skill") if isinstance(named, dict) else None
        if not isinstance(skill, str) or not 0 < len(skill) <= 128:
            field = f"message.metadata.{BINDING}"
            raise Fault(-32602, f"{field} is an object whose `skill` names one", fields=[(field, "names no skill")])
        return skill
    if known is not None:
        return str(known.spec["skill"])
    skills = ledger.by_skill
    if len(skills) == 1:
        return next(iter(skills))
    few = ", ".join(nsmallest(20, skills)) + (", ..." if len(skills) > 20 else "") if skills else "none yet"
    field = f"message.metadata.{BINDING}.skill"
    raise Fault(-32602, f"name the skill in {field}; known are: {few}", fields=[(field, "is missing")])


def _check_media(world: World, skill: str, media: list[str]) -> None:
    """Refuse media that no agent with the skill takes; if nobody has it yet, an agent that takes them may come."""
    agents, hashes = world.ledger.by_skill.get(skill, {}), world.live.schema_hashes
    for one in media if agents else ():
        wanted = AgentFilter(skill=skill, media_type=one)
        if not any(satisfies(agent, wanted, hashes) for agent in agents.values()):
            raise Fault(
                -32005, f"no agent with the skill {skill} takes {one}", facts={"mediaType": one, "skill": skill}
            )


def _say_more(
    world: World, sender: Connection, message: dict[str, Any], parts: bytes, now: int
) -> tuple[Message, Decision]:
    """Take a message to a task: the answer to its open question, or else a word to the agent at work on it."""
    task, key = _task(world, message["taskId"]), message["messageId"]
    if message.get("contextId") not in (None, task.context_id):
        detail = f"task {task.id} is of context {task.context_id}, not {message['contextId']}"
        raise Fault(-32602, detail, fields=[("message.contextId", "is not the task's")])
    ask = next((ask for ask in task.asks if ask.key == key), None)
    was_word = any(steer.key == key for steer in task.steers)
    if ask is None and not was_word:
        if task.is_terminal:
            detail = f"task {task.id} has ended as {task.state}: send a message without taskId to begin another"
            raise Fault(-32004, detail, facts={"taskId": task.id})
        ask = task.open_ask()
    if ask is None:
        word = TaskSteer(task.id, key, parts)
        return word, on_task_steer(world, sender, word, now)
    answer = TaskAnswer(task.id, ask.ask_no, parts)
    decision = on_task_answer(world, sender, answer, now)
    for record in decision.records:
        if isinstance(record, Answered):
            record.key = key
    return answer, decision


# Tasks ----------------------------------------------------------------------------------------------------------------


def _task(world: World, task_id: str) -> Task:
    task = world.ledger.tasks.get(task_id)
    if task is None:
        raise Fault(-32001, f"there is no task {task_id}", facts={"taskId": task_id})
    return task


def _get(world: World, sender: Connection, call: A2ACall, request: dict[str, Any], now: int) -> Called:
    return Called(reply=A2AResult(encode(shown(world, _task(world, request["id"])))))


def _cancel(world: World, sender: Connection, call: A2ACall, request: dict[str, Any], now: int) -> Called:
    task = _task(world, request["id"])
    said = TaskCancel(task.id)
    return _called(said, on_task_cancel(world, sender, said, now), task.id)


def _subscribe(world: World, sender: Connection, call: A2ACall, request: dict[str, Any], now: int) -> Called:
    task = _task(world, request["id"])
    if task.is_terminal:
        raise Fault(-32004, f"task {task.id} has ended as {task.state}: GetTask shows it", facts={"taskId": task.id})
    if call.from_gen is not None and call.from_gen > task.generation:
        raise Fault(
            -32602, f"task {task.id} has generation {task.generation}, not {call.from_gen}", facts={"taskId": task.id}
        )
    _find_room(world, sender)
    return Called(task=task.id, streams=True, from_gen=call.from_gen)


def _list(world: World, sender: Connection, call: A2ACall, request: dict[str, Any], now: int) -> Called:
    return Called(reply=page_of(world, query_of(request), (), 0))


# The archive ----------------------------------------------------------------------------------------------------------


def need_of(ledger: Ledger, sender: Connection, message: A2ACall) -> Need | None:
    """Return what has to be looked up in the archive before a call can be decided."""
    try:
        request = read_request(message.operation, message.version, message.payload)
        if message.operation == "ListTasks":
            page = in_archive(query_of(request))
            return None if page is None else Need(sender.id, ended=page)
    except Fault:
        return None  # the handler says why
    key: tuple[str, str] | None = None
    named: str | None = None
    contexts: tuple[str, ...] = ()
    staying: tuple[str, ...] = ()
    if message.operation in _OF_A_TASK:
        named = request["id"]
    elif message.operation in _OF_A_MESSAGE:
        named = request["message"].get("taskId")
        if named is None:
            said = TaskDelegate(request["message"]["messageId"], {"skill": ""})
            scope = scope_of(said, sender.agent or "")
            if (scope, said.key) not in ledger.keys and ledger.archived.may_have(scope, said.key):
                key = (scope, said.key)
            context_id = request["message"].get("contextId")
            if context_id is not None:
                is_away = ledger.may_have_archived_context(context_id)
                contexts, staying = ((context_id,), ()) if is_away else ((), (context_id,))
    tasks = (named,) if named is not None and ledger.may_have_archived(named) else ()
    if not tasks and not key and not contexts:
        return None
    return Need(sender.id, tasks, key, contexts=contexts, staying=staying)


def listed(ledger: Ledger, message: A2ACall) -> list[Task]:
    """Return the tasks in memory that may be on a page: some may leave memory before the archive answers."""
    return newest(ledger, query_of(_request(message)))


def on_list(world: World, message: A2ACall, lent: Collection[str], archived: int) -> Called:
    """Answer with a page merged from memory and the archive."""
    return Called(reply=page_of(world, query_of(_request(message)), lent, archived))


def _request(message: A2ACall) -> dict[str, Any]:
    return read_request(message.operation, message.version, message.payload)


# The rest -------------------------------------------------------------------------------------------------------------


def _card(world: World, sender: Connection, call: A2ACall, request: dict[str, Any], now: int) -> Called:
    if not world.live.addresses:
        raise Fault(-32007, "the coordinator listens nowhere: a card would name no interface")
    return Called(reply=A2AResult(encode(card(world.ledger, world.live.addresses))))


def _push(world: World, sender: Connection, call: A2ACall, request: dict[str, Any], now: int) -> Called:
    raise _no_push()


def _no_push() -> Fault:
    return Fault(-32003, "nothing is pushed: use SendStreamingMessage, or SubscribeToTask")


_HANDLERS: dict[str, Handler] = {
    "SendMessage": _send,
    "SendStreamingMessage": _send,
    "GetTask": _get,
    "ListTasks": _list,
    "CancelTask": _cancel,
    "SubscribeToTask": _subscribe,
    **dict.fromkeys(PUSH_OPERATIONS, _push),
    "GetExtendedAgentCard": _card,
}
