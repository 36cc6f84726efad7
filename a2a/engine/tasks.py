"""Delegation, from the request to the settled result, in the order of the flow (spec TASK, REPORT, ACCEPT, CANCEL).

Handlers read and decide; they never change the ledger. What may follow any change (offering what is queued, ending
sub-tasks of what has ended, firing timers) is not here but in the coordinator's passes.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any, Literal

from ..errors import ErrorCode
from ..protocol.canonical import content_hash, result_hash
from ..protocol.messages import (
    Error,
    Ok,
    TaskAnswer,
    TaskArtifact,
    TaskAsk,
    TaskCancel,
    TaskConfirm,
    TaskCreated,
    TaskDelegate,
    TaskReport,
    TaskSettled,
    TaskSteer,
    TaskVerdict,
)
from ..protocol.states import TaskEvent, TaskState, can
from ..protocol.types import principal_of
from .budget import check_budget, plain
from .conflicts.finding import stale_conflict
from .conflicts.noting import newest_word, words_noted
from .conflicts.procedure import due_at, members_of, terms_of
from .context import stale_basis
from .decision import Decision, refuse, reply
from .handover import hand_back
from .leases import (
    Case,
    blame,
    canceled,
    classify,
    evict,
    given_back_too_often,
    lapse,
    moved,
    not_current,
    regain,
    withdraw,
)
from .live import Connection, World
from .policy import Policy
from .records import (
    Accepted,
    Adopted,
    Answered,
    ArtifactAppended,
    Asked,
    ConflictOpened,
    Delegated,
    Record,
    Reported,
    ReportKept,
    Reworked,
    Settled,
    Steered,
)
from .task_state import Ask, Result, Task
from .tree import cancel, check_place, deadline_below, needs_no_word

__all__ = [
    "REPORT",
    "artifact_digest",
    "backoff_ceiling",
    "due",
    "may_control",
    "on_task_answer",
    "on_task_artifact",
    "on_task_ask",
    "on_task_cancel",
    "on_task_confirm",
    "on_task_delegate",
    "on_task_report",
    "on_task_steer",
    "scope_of",
    "when_due",
]

_ASKED_HERE = ("group:", "conflict:", "compare:")
"""Scopes of what the coordinator delegates: no delegator waits for its results, they count where it asked."""


def may_control(world: World, sender: Connection, task: Task) -> bool:
    """Tell whether the sender may confirm, cancel or answer for this task (spec AUTH-5).

    That is the operator, the principal that delegated it, and whoever holds the task it is a part of.
    """
    agent = sender.agent or ""
    if sender.role == "operator" or principal_of(agent) == task.principal:
        return True
    parent = world.ledger.tasks.get(task.parent) if task.parent else None  # an archived one has no holder
    return parent is not None and parent.holder == agent


def scope_of(message: TaskDelegate, agent: str) -> str:
    """Return the scope of a delegation's key (spec TASK-5)."""
    return f"task:{message.parent.task}" if message.parent else f"principal:{principal_of(agent)}"


def _missing(task: str) -> Decision:
    return refuse(ErrorCode.NOT_FOUND, f"there is no task {task}")


def _forbidden(sender: Connection, task: Task, what: str) -> Decision:
    return refuse(
        ErrorCode.FORBIDDEN,
        f"only {task.principal}, the holder of its parent or an operator may {what} task {task.id}, not {sender.agent}",
    )


# Creation -------------------------------------------------------------------------------------------------------------


def on_task_delegate(world: World, sender: Connection, message: TaskDelegate, now: int) -> Decision:
    """Somebody wants a task done; the same key is the same task. Spec TASK-1 to TASK-6."""
    ledger, policy, agent = world.ledger, world.policy, sender.agent or ""
    parent: Task | None = None
    if message.parent is not None:
        parent = ledger.tasks.get(message.parent.task)
        if parent is None:
            return _missing(message.parent.task)
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
        return _delegated_before(ledger.tasks[known], agent, spec_hash, message.key, now)

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
        context_id=message.context_id or (parent.context_id if parent else f"{ledger.namespace}-c{lsn}"),
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


def _delegated_before(task: Task, agent: str, spec_hash: str, key: str, now: int) -> Decision:
    if task.spec_hash != spec_hash:
        return refuse(
            ErrorCode.IDEMPOTENCY_MISMATCH,
            f"key {key!r} is task {task.id} with {task.spec_hash}, this specification and input are {spec_hash}",
        )
    created = TaskCreated(task.id, task.generation, False, task.state.value, task.context_id)
    if task.delegator == agent:
        return reply(created)
    return reply(created, Adopted(now, task.id, agent))


# An attempt under way -------------------------------------------------------------------------------------------------


def on_task_artifact(world: World, sender: Connection, message: TaskArtifact, now: int) -> Decision:
    """An attempt streams a piece of what it makes. Spec ART-1, ART-2."""
    agent = sender.agent or ""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return _missing(message.task)
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
    before = known.chunks if known is not None and mine and message.append else []
    if message.last_chunk and message.digest not in (None, digest := artifact_digest([*before, message.payload])):
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


def artifact_digest(chunks: list[bytes]) -> str:
    """Return the hash of an artifact: of its chunks' bytes in a row. Spec ART-4."""
    return f"sha256:{hashlib.sha256(b''.join(chunks)).hexdigest()}"


def on_task_ask(world: World, sender: Connection, message: TaskAsk, now: int) -> Decision:
    """An attempt needs an answer from the delegator or the human. Spec ASK-1, ASK-2."""
    agent = sender.agent or ""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return _missing(message.task)
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
        return reply(Ok(), *regained)  # asked by an attempt before this one; the answer came with the offer
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
    """Somebody entitled answers a question; the first answer counts. Spec ASK-3, ASK-4."""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return _missing(message.task)
    if not may_control(world, sender, task):
        return _forbidden(sender, task, "answer for")
    ask: Ask | None = next((ask for ask in task.asks if ask.ask_no == message.ask_no), None)
    if ask is None:
        return refuse(ErrorCode.NOT_FOUND, f"task {task.id} has not asked question {message.ask_no}")
    rank = _rank(sender)
    # Nobody has read the answer yet, so one of higher authority may take its place (spec ASK-4).
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
    before: list[Record] = []
    if is_replaced:
        both = (ask.by or "", ask.answer), (sender.agent or "", message.payload)
        before = words_noted(world, task, "answer", *both, now, replaces=True)
    return reply(Ok(), *before, Answered(now, task.id, ask.ask_no, sender.agent or "", message.payload, rank))


def _rank(sender: Connection) -> int:
    return 1 if sender.role == "operator" else 0


def _moved_on(world: World, sender: Connection, task: Task, expected: int, said: bytes, now: int) -> Decision:
    """Refuse a word on a task that has gone on; where another principal's word did that, the two contradict."""
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
    """Somebody entitled says a word while the work is under way. Spec STEER-1 to STEER-3."""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return _missing(message.task)
    if not may_control(world, sender, task):
        return _forbidden(sender, task, "steer")
    known = next((steer for steer in task.steers if steer.key == message.key), None)
    if known is not None:
        if known.payload == message.payload:
            return reply(Ok(state=task.state.value))
        return refuse(
            ErrorCode.IDEMPOTENCY_MISMATCH, f"key {message.key!r} of task {task.id} stands for another word already"
        )
    if message.if_gen not in (None, task.generation):
        return _moved_on(world, sender, task, message.if_gen or 0, message.payload, now)
    if task.is_terminal or task.state in (TaskState.REPORTED, TaskState.CANCELING):
        return refuse(ErrorCode.CONFLICT, f"task {task.id} is {task.state}: nobody is at work to hear it")
    if len(task.steers) >= world.policy.steers_max:
        return refuse(
            ErrorCode.QUOTA, f"a task hears at most {world.policy.steers_max} words, {task.id} has heard them"
        )
    records: list[Record] = [Steered(now, task.id, message.key, sender.agent or "", message.payload)]
    authority = task.authority
    if message.mode == "interrupt" and task.state is TaskState.LEASED and authority and not authority.evicted:
        records.append(evict(task, "steer", now))
    return reply(Ok(state=task.state.value), *records)


# The end of an attempt ------------------------------------------------------------------------------------------------

REPORT: dict[Case, Literal["admit", "duplicate_or_late", "stale", "not_holder", "malformed"]] = {
    Case.IMPOSSIBLE: "malformed",
    Case.NOT_HOLDER: "not_holder",
    Case.CURRENT: "admit",
    Case.LAPSED: "admit",
    Case.OFFERED: "admit",
    Case.SPENT: "duplicate_or_late",
    Case.STALE: "stale",
}
"""What a report gets in each case (spec REPORT-3)."""


def on_task_report(world: World, sender: Connection, message: TaskReport, now: int) -> Decision:
    """An attempt has ended. Spec REPORT-1 to REPORT-7."""
    agent = sender.agent or ""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return _missing(message.task)
    if message.result_hash != result_hash(message.outcome, message.payload):
        return reply(
            TaskVerdict(task.id, message.fence, "invalid", "resultHash is not the hash of this outcome and payload")
        )
    case = classify(world.ledger, task, agent, message.fence)
    known = task.outcomes.get(message.fence)
    answer = REPORT[case]
    if answer == "malformed":
        return refuse(ErrorCode.MALFORMED, f"no fence {message.fence} was minted yet, the newest is {world.ledger.lsn}")
    if answer == "not_holder":
        return _keep(
            world, task, agent, message, "not_holder", f"fence {message.fence} of task {task.id} is not {agent}'s", now
        )
    if known is not None:
        if known == (message.outcome, message.result_hash):
            return reply(TaskVerdict(task.id, message.fence, "duplicate", "this report was admitted before"))
        return _keep(world, task, agent, message, "late", "another report was admitted under this fence", now)
    if answer == "duplicate_or_late":
        return _keep(world, task, agent, message, "late", f"the attempt had ended; the task is {task.state}", now)
    if answer == "stale":
        return _keep(world, task, agent, message, "stale", "a newer attempt has the task", now)
    if (
        task.state is TaskState.CANCELING
        and task.cancel is not None
        and task.cancel.mode == "kill"
        and message.outcome == "completed"
    ):
        # Killed means killed: the work is kept to look at, the task ends as it was told to (spec CANCEL-4).
        kept = _keep(world, task, agent, message, "late", "the task was killed before", now)
        kept.records.append(canceled(task, now))
        return kept

    missing = _missing_artifacts(task, message)
    if missing:
        return reply(TaskVerdict(task.id, message.fence, "invalid", missing))
    records: list[Record] = [Accepted(now, task.id, message.fence)] if case is Case.OFFERED else []
    records.extend(_admit(world, task, agent, message, now))
    report = records[-1]
    if isinstance(report, Reported) and report.review and report.stale_basis:
        records.append(_on_what_moved(world, task, report, len(records) + 1))
    return reply(TaskVerdict(task.id, message.fence, "admitted"), *records)


def _missing_artifacts(task: Task, message: TaskReport) -> str:
    """Return what the result says is part of it and is not there whole, or an empty text. Spec ART-4."""
    for named in message.artifacts:
        artifact = task.artifacts.get(named.artifact_id)
        if artifact is None or artifact.fence != message.fence or not artifact.complete:
            return f"artifact {named.artifact_id} was not streamed to its end under fence {message.fence}"
        if named.digest not in (None, digest := artifact_digest(artifact.chunks)):
            return f"artifact {named.artifact_id} has {digest}, not {named.digest}"
    return ""


def _admit(world: World, task: Task, agent: str, message: TaskReport, now: int) -> list[Record]:
    error = asdict(message.error) if message.error else None
    report = Reported(
        now,
        task.id,
        message.fence,
        agent,
        message.outcome,
        message.result_hash,
        message.payload,
        error=error,
        usage=plain(message.usage),
        artifacts=[named.artifact_id for named in message.artifacts] or None,
        unseen_steer=message.steer_no < len(task.steers),
        basis=[asdict(seen) for seen in message.basis] or None,
        stale_basis=stale_basis(world.ledger, task.context_id, message.basis) or None,
        patches=[asdict(patch) for patch in message.patches] or None,
    )
    detail = message.error.detail if message.error else ""
    if message.outcome == "completed":
        # What an answer to the coordinator relies on is looked at where it becomes a group's result.
        is_held = report.unseen_steer or (report.stale_basis and not task.scope.startswith(_ASKED_HERE))
        if needs_no_word(world.ledger, task) and not is_held:
            return [report, Settled(now, task.id, "completed", by="auto", result_hash=message.result_hash)]
        report.review = True
        return [report]
    if task.state is TaskState.CANCELING:
        return [report, canceled(task, now)]
    if message.outcome == "canceled":
        report.retry_at = now  # unasked: as if the agent had given the attempt back
        report.counted, report.lost = blame(world, task, agent, message.fence)
        return [report, *given_back_too_often(task, report.counted, report.lost, now)]
    if message.outcome == "rejected":
        return [report, Settled(now, task.id, "rejected", "rejected", detail, agent)]
    if message.error is None or not message.error.retryable:
        return [report, Settled(now, task.id, "failed", "error", detail, agent)]
    if task.failures + 1 >= task.bounds.attempts:
        return [
            report,
            Settled(
                now, task.id, "failed", "attempts", f"{task.failures + 1} attempts failed, the last: {detail}", agent
            ),
        ]
    report.retry_at = now + _backoff(world.policy, task)
    return [report]


def _on_what_moved(world: World, task: Task, report: Reported, offset: int) -> ConflictOpened:
    """Return the conflict of a result that rests on decisions which have moved. Spec CONFLICT-16."""
    result = Result(task.rev, report.fence, report.agent, report.result_hash, report.payload, report.at)
    lsn = world.ledger.lsn + offset
    return stale_conflict(world.ledger, task, result, report.stale_basis or [], lsn, report.at)


def backoff_ceiling(policy: Policy, failures: int) -> int:
    """Return how long the pause is at most after one more failure than these. Spec REPORT-8."""
    return min(policy.backoff_max_ms, policy.backoff_ms << min(failures, 30))


def _backoff(policy: Policy, task: Task) -> int:
    """Return the pause before the next attempt: exponential, with full jitter drawn from (task, attempt)."""
    ceiling = backoff_ceiling(policy, task.failures)
    draw = int.from_bytes(hashlib.blake2b(f"{task.id}\n{task.attempt}".encode(), digest_size=4).digest(), "big")
    return draw * ceiling >> 32


def _keep(
    world: World,
    task: Task,
    agent: str,
    message: TaskReport,
    verdict: Literal["late", "stale", "not_holder"],
    reason: str,
    now: int,
) -> Decision:
    """Answer a report without authority, and keep it: refusals are data (spec REPORT-6)."""
    answer = TaskVerdict(task.id, message.fence, verdict, reason)
    repeated = any(
        kept.agent == agent and kept.fence == message.fence and kept.result_hash == message.result_hash
        for kept in task.evidence
    )
    if repeated or len(task.evidence) >= world.policy.evidence_max:
        return reply(answer)
    record = ReportKept(
        now,
        task.id,
        message.fence,
        agent,
        verdict,
        message.outcome,
        message.result_hash,
        message.payload,
        plain(message.usage),
    )
    return reply(answer, record)


# The delegator's word -------------------------------------------------------------------------------------------------


def settled_notice(task: Task, *, content: bool = True) -> TaskSettled:
    """Return how a task ended, with its result where it completed and `content` is asked for."""
    end = task.settled
    assert end is not None, "only a settled task has an end"
    result = task.results[-1] if task.results and end.state == "completed" else None
    return TaskSettled(
        task.id,
        task.generation,
        end.state,  # type: ignore[arg-type]
        end.reason,
        end.detail,
        task.rev,
        result.result_hash if result else None,
        end.by or None,
        result.agent if result else task.last_agent,
        result.payload if result and content else None,
    )


def on_task_confirm(world: World, sender: Connection, message: TaskConfirm, now: int) -> Decision:
    """The delegator accepts or rejects exactly the result it saw. Spec ACCEPT-3 to ACCEPT-6."""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return _missing(message.task)
    if not may_control(world, sender, task):
        return _forbidden(sender, task, "confirm")
    if task.evaluator == "human" and sender.role != "operator":
        return refuse(ErrorCode.FORBIDDEN, f"a human confirms task {task.id}: show the operator's token")
    if task.is_terminal or task.rev > message.rev:
        decision = _confirmed_before(task, message)
        if isinstance(decision.reply, Error):
            decision.records.extend(_against(world, sender, task, message.verdict, now))
        return decision
    result = task.results[-1] if task.results else None
    if task.state is TaskState.DISPUTED and task.is_reported:
        return _disputed(world, task)
    if task.state is not TaskState.REPORTED or result is None or result.rev != message.rev:
        return refuse(
            ErrorCode.CONFLICT, f"task {task.id} is {task.state} and has no result of revision {message.rev} to confirm"
        )
    if result.result_hash != message.result_hash:
        return refuse(
            ErrorCode.CONFLICT,
            f"revision {message.rev} of task {task.id} is {result.result_hash}, not {message.result_hash}",
            data={"rev": result.rev, "resultHash": result.result_hash},
        )
    if task.group is not None and message.verdict == "reject" and message.rework:
        return refuse(
            ErrorCode.CONFLICT, f"task {task.id} was done by several agents: accept its result, or reject it for good"
        )
    records = _word(task, result, message, sender.agent or "", now)
    state = records[-1].state if isinstance(records[-1], Settled) else TaskState.QUEUED.value
    return reply(Ok(state=state), *records)


def _disputed(world: World, task: Task) -> Decision:
    """Nothing settles while a conflict about it is open. Spec CONFLICT-15."""
    is_open = world.ledger.open_conflicts
    conflict = next(known for known in task.conflicts if known in is_open and task.id in is_open[known].blocks)
    return refuse(
        ErrorCode.CONFLICT,
        f"task {task.id} is disputed: conflict {conflict} about its result is open",
        data={"conflict": conflict},
    )


def _word(task: Task, result: Result, message: TaskConfirm, by: str, now: int) -> list[Record]:
    if message.verdict == "accept":
        return [Settled(now, task.id, "completed", by=by, result_hash=result.result_hash)]
    if not message.rework:
        return [Settled(now, task.id, "failed", "rejected", message.reason_code, by)]
    if len(task.feedback) >= task.bounds.reworks:
        return [Settled(now, task.id, "failed", "reworks", f"rejected {len(task.feedback) + 1} times", by)]
    return [Reworked(now, task.id, result.rev, by, message.reason_code, message.payload or b"[]")]


def _confirmed_before(task: Task, message: TaskConfirm) -> Decision:
    """The first word counted. The same word again is answered the same, another one is told what counted."""
    if task.settled is None:
        if message.verdict == "reject" and any(rev == message.rev for rev, _, _ in task.feedback):
            return reply(Ok(state=task.state.value))
        return refuse(
            ErrorCode.CONFLICT,
            f"revision {message.rev} of task {task.id} was rejected, revision {task.rev} is under way",
        )
    end = task.settled
    agreed = (end.state == "completed") == (message.verdict == "accept")
    if agreed and (end.result_hash is None or end.result_hash == message.result_hash):
        return reply(Ok(state=end.state))
    return refuse(
        ErrorCode.CONFLICT,
        f"task {task.id} has ended as {end.state}, by {end.by or 'the coordinator'}",
        data={"state": end.state, "resultHash": end.result_hash},
    )


def _against(world: World, sender: Connection, task: Task, word: str, now: int) -> list[Record]:
    """Note a word that contradicts how a task has ended, where that was another principal's. Spec CONFLICT-17."""
    end = task.settled
    was_said = end is not None and (
        (end.state in ("completed", "canceled") and end.by not in ("auto", "timer", "coordinator"))
        or end.reason in ("rejected", "reworks")
    )
    if end is None or not was_said or end.state == "rejected":
        return []  # no controller of the task ended it
    return words_noted(world, task, "word", (end.by, end.state), (sender.agent or "", word), now)


def on_task_cancel(world: World, sender: Connection, message: TaskCancel, now: int) -> Decision:
    """Somebody entitled wants the task to end. Spec CANCEL-1 to CANCEL-5."""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return _missing(message.task)
    if not may_control(world, sender, task):
        return _forbidden(sender, task, "cancel")
    if task.state is TaskState.CANCELED:
        return reply(Ok(state=task.state.value, will="canceled"))
    if task.is_terminal:
        return refuse(
            ErrorCode.NOT_CANCELABLE,
            f"task {task.id} has ended as {task.state}",
            data={"state": task.state.value},
            records=_against(world, sender, task, "cancel", now),
        )
    asked_before = task.cancel is not None and task.cancel.mode == message.mode and task.cancel.by == sender.agent
    if task.is_reported and asked_before:
        # A repeat of what was answered `pending`: the report came first, and the result is the delegator's to reject.
        return reply(Ok(state=task.state.value, will="too_late"))
    records = cancel(world.ledger, task, message.mode, message.reason, sender.agent or "", now, message.grace_ms)
    at_once = any(isinstance(record, Settled) and record.task == task.id for record in records)
    return reply(Ok(state="canceled" if at_once else "canceling", will="canceled" if at_once else "pending"), *records)


# Timers ---------------------------------------------------------------------------------------------------------------


def when_due(world: World, task: Task) -> int | None:
    """Return the earliest time at which `due` may have something to decide, or None where nothing waits for time."""
    if task.is_terminal:
        return None
    state, durations = task.state, task.durations
    # Work that is done and paid for is not lost to the deadline: from the report on, the confirm timer counts.
    has_deadline = task.deadline_at is not None and not task.is_reported
    times: list[int] = [task.deadline_at] if has_deadline and task.deadline_at is not None else []
    if state is TaskState.QUEUED:
        if durations.queue_ms is not None:
            times.append(task.since + durations.queue_ms)
    elif state is TaskState.OFFERED and task.offer is not None:
        times.append(task.offer.at + durations.offer_ms)
    elif state is TaskState.REPORTED:
        if _confirm_timer_runs(world.policy, task):
            times.append(task.since + durations.confirm_ms)
    elif task.holder is not None:
        times.append(world.live.lease_until.get(task.id, task.since + durations.lease_ms))
        times.extend(time for time, _ in _patience(world, task))
    conflict_at = due_at(world, task)
    if conflict_at is not None:
        times.append(conflict_at)
    if state is TaskState.QUEUED and task.handed_to:
        times.append(task.since + durations.lease_ms)
    lost_at = _delegator_lost_at(world, task)
    if lost_at is not None:
        times.append(lost_at)
    if state is TaskState.PARKED:
        times.extend(ask.deadline_at for ask in task.asks if ask.is_open)
    if state is TaskState.CANCELING and task.cancel is not None:
        times.append(task.cancel.grace_at)
    return max(min(times), world.live.grace_until) if times else None


def _patience(world: World, task: Task) -> list[tuple[int, str]]:
    """Return when the holder's time is up, and why, however alive it is. Spec LEASE-10, TIME-7."""
    authority, durations = task.authority, task.durations
    if authority is None or task.holder is None or task.state is TaskState.CANCELING:
        return []
    if authority.evicted:
        return [(authority.grace_at, authority.evicted)]
    if task.state is TaskState.PARKED:
        return []
    times: list[tuple[int, str]] = []
    if durations.attempt_ms is not None:
        times.append((task.since + durations.attempt_ms, "attempt"))
    if durations.stall_ms is not None:
        progress = world.live.progress.get(task.id)
        moved_at = max(task.since, progress.moved_at if progress is not None else 0, world.live.started_at)
        times.append((moved_at + durations.stall_ms, "stall"))
    return times


def _delegator_lost_at(world: World, task: Task) -> int | None:
    """Return when a task ends for want of anybody to do it for, or None. Spec TASK-12."""
    if task.on_delegator_loss != "cancel" or task.is_reported or task.state is TaskState.CANCELING:
        return None
    since = world.live.away_since.get(task.principal)
    return None if since is None else since + task.loss_ms


def _confirm_timer_runs(policy: Policy, task: Task) -> bool:
    """Tell whether silence decides about a result. Where a human was asked for, it does not."""
    return policy.on_confirm_timeout != "hold" and task.evaluator != "human"


def due(world: World, task: Task, now: int) -> list[Record]:
    """Return what the clock decides about a task now. Spec TIME-1 to TIME-5."""
    if task.is_terminal:
        return []
    state, durations = task.state, task.durations
    if task.deadline_at is not None and task.deadline_at <= now and not task.is_reported:
        return [Settled(now, task.id, "failed", "deadline", "the deadline has passed")]
    if state is TaskState.QUEUED and durations.queue_ms is not None and task.since + durations.queue_ms <= now:
        detail = f"no agent took {task.spec['skill']} within {durations.queue_ms} ms"
        return [Settled(now, task.id, "failed", "no_capable_agent", detail)]
    if state is TaskState.OFFERED and task.offer is not None and task.offer.at + durations.offer_ms <= now:
        return withdraw(task, now, "unanswered")
    if (
        state is TaskState.REPORTED
        and task.since + durations.confirm_ms <= now
        and _confirm_timer_runs(world.policy, task)
    ):
        result = task.results[-1]
        if result.is_contradicted:
            why = "it was overruled" if result.overruled else "it relies on decisions that have moved"
            detail = f"{why}, and nobody said that it is good all the same"
            return [Settled(now, task.id, "failed", "unconfirmed", detail, "timer")]
        if world.policy.on_confirm_timeout == "accept":
            return [Settled(now, task.id, "completed", by="timer", result_hash=result.result_hash)]
        return [Settled(now, task.id, "failed", "unconfirmed", "nobody confirmed the result in time", "timer")]
    if state is TaskState.CANCELING and task.cancel is not None and task.cancel.grace_at <= now:
        return [canceled(task, now)]
    if state is TaskState.PARKED:
        for ask in task.asks:
            if ask.is_open and ask.deadline_at <= now:
                if ask.default is None:
                    return [
                        Settled(now, task.id, "failed", "unanswered", f"nobody answered question {ask.ask_no} in time")
                    ]
                return [Answered(now, task.id, ask.ask_no, "timer", ask.default)]
    lost_at = _delegator_lost_at(world, task)
    if lost_at is not None and lost_at <= now:
        return cancel(world.ledger, task, "coop", "its delegator has gone", "timer", now)
    if task.holder is not None and world.live.lease_until.get(task.id, task.since + durations.lease_ms) <= now:
        return lapse(world, task, now, "not heard in time")
    for time, reason in _patience(world, task):
        if time <= now:
            is_evicted = task.authority is not None and bool(task.authority.evicted)
            return lapse(world, task, now, reason) if is_evicted else [evict(task, reason, now)]
    return hand_back(task, now)
