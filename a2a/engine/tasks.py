"""Delegation: how a task is made, what its attempts stream, ask and hear, and how it is canceled.

In the order of the flow (spec TASK, ART, ASK, STEER, CANCEL). `leases` has how a task is offered and held, `results`
how it comes to its result, `timers` what the clock decides. Handlers read and decide; they never change the ledger.
What may follow any change (offering queued tasks, ending sub-tasks of ended tasks) is in the coordinator's passes.
"""

from __future__ import annotations

from typing import Any

from ..errors import ErrorCode
from ..protocol.canonical import content_hash
from ..protocol.messages import (
    Ok,
    TaskAnswer,
    TaskArtifact,
    TaskAsk,
    TaskCancel,
    TaskCreated,
    TaskDelegate,
    TaskSteer,
)
from ..protocol.states import TaskEvent, TaskState, can
from ..protocol.types import principal_of
from .artifact_hashes import artifact_digest
from .budget import check_budget, plain
from .conflicts.noting import newest_word, word_against, words_noted
from .conflicts.procedure import members_of, terms_of
from .control import forbidden, may_control, said_too_much
from .decision import Decision, no_task, refuse, reply
from .leases import Case, classify, evict, moved, not_current, regain
from .ledger import Ledger
from .live import Connection, World
from .policy import Policy
from .records import Adopted, Answered, ArtifactAppended, Asked, Delegated, Record, Settled, Steered
from .task_state import Artifact, Ask, Task
from .tree import cancel, check_place, deadline_below

__all__ = [
    "on_task_answer",
    "on_task_artifact",
    "on_task_ask",
    "on_task_cancel",
    "on_task_delegate",
    "on_task_steer",
    "scope_of",
]


def scope_of(message: TaskDelegate, agent: str) -> str:
    """Return the scope of a delegation's key (spec TASK-5)."""
    return f"task:{message.parent.task}" if message.parent else f"principal:{principal_of(agent)}"


# Creation -------------------------------------------------------------------------------------------------------------


def on_task_delegate(world: World, sender: Connection, message: TaskDelegate, now: int) -> Decision:
    """Delegate a task; the same key is the same task. Spec TASK-1 to TASK-6."""
    ledger, policy, agent = world.ledger, world.policy, sender.agent or ""
    parent: Task | None = None
    if message.parent is not None:
        parent = ledger.tasks.get(message.parent.task)
        if parent is None:
            return no_task(message.parent.task)
        if classify(ledger, parent, agent, message.parent.fence) not in (Case.CURRENT, Case.LAPSED):
            return not_current(world, parent, agent, message.parent.fence)
    spec: dict[str, Any] = {**message.spec}
    try:
        spec_hash = content_hash(spec, message.payload)
    except ValueError as error:
        return refuse(ErrorCode.MALFORMED, f"the specification has no canonical form: {error}")

    scope = scope_of(message, agent)
    known = ledger.keys.get((scope, message.key))
    if known is not None:
        return _delegated_before(ledger, ledger.tasks[known], agent, spec_hash, message.key, now)

    refusal = _check_room(ledger, policy, 1 if parent is None else 2)
    if refusal is not None:
        return refusal
    if parent is not None:
        refusal = check_place(ledger, policy, parent, message.spec["skill"], spec_hash) or check_budget(
            ledger, parent, plain(message.budget) or {}
        )
        if refusal is not None:
            return refusal
    terms = None
    if "redundancy" in spec:
        try:
            terms = terms_of(policy, spec)
        except ValueError as error:
            return refuse(ErrorCode.MALFORMED, f"redundancy: {error}")
    own_deadline = None if message.limits.deadline_ms is None else now + message.limits.deadline_ms
    lsn = ledger.lsn + 1
    record = Delegated(
        at=now,
        task=ledger.task_id_at(lsn),
        scope=scope,
        key=message.key,
        delegator=agent,
        context_id=message.context_id or (parent.context_id if parent else ledger.own_context_at(lsn)),
        spec=spec,
        spec_hash=spec_hash,
        durations=policy.skills.get(spec["skill"], policy.durations).with_timers(message.timers).to_plain(),
        bounds=policy.bounds.with_limits(message.limits).to_plain(),
        payload=message.payload,
        parent=parent.id if parent else None,
        on_parent_end=message.on_parent_end,
        depth=parent.depth + 1 if parent else 1,
        deadline_at=deadline_below(own_deadline, parent),
        budget=plain(message.budget),
        on_delegator_loss=message.on_delegator_loss,
        loss_ms=message.loss_ms if message.on_delegator_loss != "continue" else 0,
        redrive_of=message.redrive_of,
        terms=terms.to_plain() if terms is not None else None,
    )
    if terms is not None:
        if record.depth >= policy.depth_max:
            return refuse(ErrorCode.DEPTH, f"a tree has at most {policy.depth_max} levels, a group takes two of them")
        members = members_of(ledger, record)
        return reply(TaskCreated(record.task, 1, True, TaskState.BLOCKED.value, record.context_id), record, *members)
    return reply(TaskCreated(record.task, 1, True, TaskState.QUEUED.value, record.context_id), record)


def _check_room(ledger: Ledger, policy: Policy, times: int) -> Decision | None:
    """Refuse a task that has no room in memory, where every task stays until some time after its end."""
    if len(ledger.tasks) >= times * policy.tasks_max:
        detail = f"{len(ledger.tasks)} tasks are in memory, and at most {times * policy.tasks_max} may be"
    elif ledger.wanted_bytes >= times * policy.tasks_max_bytes:
        detail = (
            f"specifications and inputs of all tasks in memory take {ledger.wanted_bytes} bytes, and"
            f" {times * policy.tasks_max_bytes} is their limit"
        )
    else:
        return None
    return refuse(ErrorCode.QUOTA, f"{detail}: they leave it after they have ended")


def _delegated_before(ledger: Ledger, task: Task, agent: str, spec_hash: str, key: str, now: int) -> Decision:
    if task.spec_hash != spec_hash:
        return refuse(
            ErrorCode.IDEMPOTENCY_MISMATCH,
            f"key {key!r} is task {task.id} with {task.spec_hash}, this specification and input are {spec_hash}",
        )
    created = TaskCreated(task.id, task.generation, False, task.state.value, task.context_id)
    if task.delegator == agent:
        return reply(created)
    # Members of a group have the group's delegator: whoever adopts the group is asked the members' questions too.
    below = [child.id for child in ledger.open_children(task)] if task.group is not None else []
    return reply(created, *(Adopted(now, name, agent) for name in (task.id, *below)))


# An attempt under way -------------------------------------------------------------------------------------------------


def on_task_artifact(world: World, sender: Connection, message: TaskArtifact, now: int) -> Decision:
    """Take a chunk of an artifact that an attempt streams. Spec ART-1, ART-2."""
    agent = sender.agent or ""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return no_task(message.task)
    regained = regain(world, task, agent, message.fence, now)
    if regained is None:
        return not_current(world, task, agent, message.fence)
    known = task.artifacts.get(message.artifact_id)
    mine = known is not None and known.fence == message.fence
    if known is not None and mine and message.chunk_no <= known.last_no:
        return reply(Ok())  # a repeat
    expected = known.last_no + 1 if known is not None and mine and message.append else message.chunk_no
    if message.chunk_no != expected:
        return refuse(
            ErrorCode.CONFLICT,
            f"artifact {message.artifact_id} of task {task.id} continues with chunk {expected}, not {message.chunk_no}",
        )
    if task.chunks >= world.policy.chunks_max:
        return refuse(
            ErrorCode.QUOTA, f"a task has at most {world.policy.chunks_max} artifact chunks, {task.id} has them"
        )
    if task.chunk_bytes + len(message.payload) > world.policy.chunks_max_bytes:
        return refuse(
            ErrorCode.QUOTA,
            f"a task has artifact chunks of at most {world.policy.chunks_max_bytes} bytes together, {task.id} has"
            f" {task.chunk_bytes}, and this one {len(message.payload)}",
        )
    digest = _digest(world, task, known if mine and message.append else None, message)
    if digest != message.digest:
        return refuse(
            ErrorCode.CONFLICT,
            f"artifact {message.artifact_id} of task {task.id} has {digest}, the worker says {message.digest}",
            data={"digest": digest},
        )
    moved(world, task, now)
    record = ArtifactAppended(
        now,
        task.id,
        message.fence,
        message.artifact_id,
        message.name or message.artifact_id,
        message.chunk_no,
        message.append and mine,
        message.last_chunk,
        message.payload,
    )
    return reply(Ok(), *regained, record)


def _digest(world: World, task: Task, before: Artifact | None, message: TaskArtifact) -> str | None:
    """Return the hash of an artifact with its last chunk, if the worker names one. Spec ART-4."""
    if not message.last_chunk or message.digest is None:
        return message.digest  # with any other chunk the digest says nothing
    if before is None:
        return artifact_digest([message.payload])
    return world.live.artifact_hashes.of(task.id, before, message.payload)


def on_task_ask(world: World, sender: Connection, message: TaskAsk, now: int) -> Decision:
    """Take a question of an attempt to the delegator or the human. Spec ASK-1, ASK-2."""
    agent = sender.agent or ""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return no_task(message.task)
    if message.fence is None:
        return refuse(ErrorCode.MALFORMED, f"task.ask for task {task.id} needs the fence of the asking attempt")
    known = next((ask for ask in task.asks if ask.ask_no == message.ask_no and not ask.withdrawn), None)
    same = known is not None and known.payload == message.payload
    if same and known.fence == message.fence and task.minted_for(message.fence) == agent:  # type: ignore[union-attr]
        return reply(Ok())  # a repeat; a cold question has spent the fence it was asked under
    regained = regain(world, task, agent, message.fence, now)
    if regained is None:
        return not_current(world, task, agent, message.fence)
    if same:
        return reply(Ok(), *regained)  # an earlier attempt asked it; the answer came with the offer
    if known is not None:
        return refuse(
            ErrorCode.CONFLICT, f"question {message.ask_no} of task {task.id} was asked before, in other words"
        )
    if len(task.asks) >= world.policy.asks_max:
        return refuse(
            ErrorCode.QUOTA, f"a task asks at most {world.policy.asks_max} questions, {task.id} has asked them"
        )
    if not regained and not can(task.state, TaskEvent.ASK):
        return refuse(ErrorCode.CONFLICT, f"task {task.id} is {task.state}: it asks nothing any more")
    wait_ms = task.durations.ask_ms if message.timeout_ms is None else message.timeout_ms
    record = Asked(
        now,
        task.id,
        message.fence,
        message.ask_no,
        message.hold,
        message.auth,
        now + wait_ms,
        message.payload,
        message.default,
    )
    return reply(Ok(), *regained, record)


def on_task_answer(world: World, sender: Connection, message: TaskAnswer, now: int) -> Decision:
    """Take an answer to a question from somebody entitled; the first answer counts. Spec ASK-3, ASK-4."""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return no_task(message.task)
    if not may_control(world, sender, task):
        return forbidden(sender, task, "answer for")
    ask: Ask | None = next((ask for ask in task.asks if ask.ask_no == message.ask_no), None)
    if ask is None:
        return refuse(ErrorCode.NOT_FOUND, f"task {task.id} has not asked question {message.ask_no}")
    rank = _rank(sender)
    # Nobody has read the answer yet, so one of higher authority may replace it (spec ASK-4).
    is_unread = not ask.told and not ask.offered
    is_replaced = ask.answer is not None and is_unread and rank > ask.rank and not task.is_terminal
    if ask.answer is not None and not is_replaced:
        if ask.answer == message.payload:
            return reply(Ok(state=task.state.value))
        said = (ask.by or "", ask.answer), (sender.agent or "", message.payload)
        return refuse(
            ErrorCode.ALREADY_ANSWERED,
            f"question {ask.ask_no} of task {task.id} was answered by {ask.by}",
            data={"askNo": ask.ask_no, "by": ask.by, "answer": ask.answer},
            records=words_noted(world, task, "answer", *said, now),
        )
    if task.is_terminal or ask.withdrawn:
        return refuse(ErrorCode.CONFLICT, f"task {task.id} is {task.state}: nobody waits for the answer any more")
    if message.if_gen not in (None, task.generation):
        return _moved_on(world, sender, task, message.if_gen or 0, message.payload, now)
    too_much = said_too_much(world, task, message.payload)
    if too_much is not None:
        return too_much
    before: list[Record] = []
    if is_replaced:
        both = (ask.by or "", ask.answer), (sender.agent or "", message.payload)
        before = words_noted(world, task, "answer", *both, now, replaces=True)
    return reply(Ok(), *before, Answered(now, task.id, ask.ask_no, sender.agent or "", message.payload, rank))


def _rank(sender: Connection) -> int:
    return 1 if sender.role == "operator" else 0


def _moved_on(world: World, sender: Connection, task: Task, expected: int, said: bytes, now: int) -> Decision:
    """Refuse a word on a task that has gone on; if another principal's word moved it, the two contradict each other."""
    word = newest_word(task, expected)
    noted: list[Record] = []
    if word is not None:
        noted = words_noted(world, task, "word", word, (sender.agent or "", said), now, rule="i1")
    return refuse(
        ErrorCode.GENERATION_MISMATCH,
        f"task {task.id} has generation {task.generation}, the request is for {expected}",
        data={"generation": task.generation, "state": task.state.value},
        records=noted,
    )


def on_task_steer(world: World, sender: Connection, message: TaskSteer, now: int) -> Decision:
    """Take a word from somebody entitled while the work is under way. Spec STEER-1 to STEER-3."""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return no_task(message.task)
    if not may_control(world, sender, task):
        return forbidden(sender, task, "steer")
    known = next((steer for steer in task.steers if steer.key == message.key), None)
    if known is not None:
        if known.payload == message.payload:
            return reply(Ok(state=task.state.value))
        return refuse(
            ErrorCode.IDEMPOTENCY_MISMATCH, f"key {message.key!r} of task {task.id} stands for another word already"
        )
    if message.if_gen not in (None, task.generation):
        return _moved_on(world, sender, task, message.if_gen or 0, message.payload, now)
    if task.is_terminal or task.is_reported or task.state is TaskState.CANCELING:
        return refuse(ErrorCode.CONFLICT, f"task {task.id} is {task.state}: nobody is at work to hear it")
    if task.group is not None:
        return refuse(ErrorCode.CONFLICT, f"task {task.id} is done by several agents: say it to its members")
    if len(task.steers) >= world.policy.steers_max:
        return refuse(
            ErrorCode.QUOTA, f"a task hears at most {world.policy.steers_max} words, {task.id} has heard them"
        )
    too_much = said_too_much(world, task, message.payload)
    if too_much is not None:
        return too_much
    records: list[Record] = [Steered(now, task.id, message.key, sender.agent or "", message.payload)]
    authority = task.authority
    if message.mode == "interrupt" and task.state is TaskState.LEASED and authority and not authority.evicted:
        records.append(evict(task, "steer", now))
    return reply(Ok(state=task.state.value), *records)


def on_task_cancel(world: World, sender: Connection, message: TaskCancel, now: int) -> Decision:
    """Cancel a task for somebody entitled. Spec CANCEL-1 to CANCEL-5."""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return no_task(message.task)
    if not may_control(world, sender, task):
        return forbidden(sender, task, "cancel")
    if task.state is TaskState.CANCELED:
        return reply(Ok(state=task.state.value, will="canceled"))
    if task.is_terminal:
        return refuse(
            ErrorCode.NOT_CANCELABLE,
            f"task {task.id} has ended as {task.state}",
            data={"state": task.state.value},
            records=word_against(world, sender, task, "cancel", now),
        )
    asked_before = task.cancel is not None and task.cancel.mode == message.mode and task.cancel.by == sender.agent
    if task.is_reported and asked_before:
        # A repeat of a request answered `pending`: the report came first, and the delegator may reject the result.
        return reply(Ok(state=task.state.value, will="too_late"))
    records = cancel(world.ledger, task, message.mode, message.reason, sender.agent or "", now, message.grace_ms)
    at_once = any(isinstance(record, Settled) and record.task == task.id for record in records)
    return reply(Ok(state="canceled" if at_once else "canceling", will="canceled" if at_once else "pending"), *records)
