"""The end of an attempt, and the delegator's word on its result (spec REPORT, ACCEPT)."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Literal

from ..errors import ErrorCode
from ..protocol.canonical import result_hash
from ..protocol.messages import Error, Ok, TaskConfirm, TaskReport, TaskSettled, TaskVerdict
from ..protocol.states import TaskState
from .budget import plain
from .conflicts.finding import stale_conflict
from .conflicts.noting import word_against
from .context import stale_basis
from .control import forbidden, may_control, said_too_much
from .decision import Decision, no_task, refuse, reply
from .leases import Case, blame, canceled, classify, given_back_too_often
from .live import Connection, World
from .policy import Policy
from .records import Accepted, ConflictOpened, Record, Reported, ReportKept, Reworked, Settled
from .task_state import Result, Task
from .tree import needs_no_word

__all__ = ["REPORT", "backoff_ceiling", "on_task_confirm", "on_task_report", "settled_notice"]

_ASKED_HERE = ("group:", "conflict:", "compare:")
"""Scopes of tasks that the coordinator delegates: no delegator waits for their results, they count where it asked."""


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
"""The answer to a report in each case (spec REPORT-3)."""


def on_task_report(world: World, sender: Connection, message: TaskReport, now: int) -> Decision:
    """Take the report that ends an attempt. Spec REPORT-1 to REPORT-7."""
    agent = sender.agent or ""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return no_task(message.task)
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
        # Killed means killed: the work is kept as evidence, and the task ends as it was told to (spec CANCEL-4).
        kept = _keep(world, task, agent, message, "late", "the task was killed before", now)
        kept.records.append(canceled(task, now))
        return kept

    missing = _missing_artifacts(world, task, message)
    if missing:
        return reply(TaskVerdict(task.id, message.fence, "invalid", missing))
    records: list[Record] = [Accepted(now, task.id, message.fence)] if case is Case.OFFERED else []
    records.extend(_admit(world, task, agent, message, now))
    report = records[-1]
    if isinstance(report, Reported) and report.review and report.stale_basis:
        records.append(_on_what_moved(world, task, report, len(records) + 1))
    return reply(TaskVerdict(task.id, message.fence, "admitted"), *records)


def _missing_artifacts(world: World, task: Task, message: TaskReport) -> str:
    """Return which artifact of the result is missing, incomplete or different, or an empty text. Spec ART-4."""
    for named in message.artifacts:
        artifact = task.artifacts.get(named.artifact_id)
        if artifact is None or artifact.fence != message.fence or not artifact.complete:
            return f"artifact {named.artifact_id} was not streamed to its end under fence {message.fence}"
        if named.digest is not None and named.digest != (digest := world.live.artifact_hashes.of(task.id, artifact)):
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
        # The basis of an answer to the coordinator is checked where the answer becomes a group's result.
        is_held = report.unseen_steer or (report.stale_basis and not task.scope.startswith(_ASKED_HERE))
        if needs_no_word(world.ledger, task) and not is_held:
            return [report, Settled(now, task.id, "completed", by="auto", result_hash=message.result_hash)]
        report.review = True
        return [report]
    if task.state is TaskState.CANCELING:
        return [report, canceled(task, now)]
    if message.outcome == "canceled":
        report.retry_at = now  # unasked: as if the agent had yielded the attempt
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
    """Return the conflict of a result that relies on decisions which have changed. Spec CONFLICT-16."""
    result = Result(task.rev, report.fence, report.agent, report.result_hash, report.payload, report.at)
    lsn = world.ledger.lsn + offset
    return stale_conflict(world.ledger, task, result, report.stale_basis or [], lsn, report.at)


def backoff_ceiling(policy: Policy, failures: int) -> int:
    """Return the longest pause after one more failure than `failures`. Spec REPORT-8."""
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
    if repeated or not _has_room(world.policy, task, verdict):
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


def _has_room(policy: Policy, task: Task, verdict: str) -> bool:
    """Tell whether one more report without authority is kept. Spec LIMIT-7."""
    if len(task.evidence) >= policy.evidence_max:
        return False
    foreign = sum(kept.verdict == "not_holder" for kept in task.evidence)
    return verdict != "not_holder" or foreign < policy.evidence_foreign_max


# The delegator's word -------------------------------------------------------------------------------------------------


def settled_notice(task: Task, *, content: bool = True) -> TaskSettled:
    """Return how a task ended, with its result if it completed and `content` is asked for."""
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
    """Take the delegator's accept or reject of exactly the result it saw. Spec ACCEPT-3 to ACCEPT-6, ACCEPT-8."""
    task = world.ledger.tasks.get(message.task)
    if task is None:
        return no_task(message.task)
    if not may_control(world, sender, task):
        return forbidden(sender, task, "confirm")
    if task.evaluator == "human" and sender.role != "operator":
        return refuse(ErrorCode.FORBIDDEN, f"a human confirms task {task.id}: show the operator's token")
    if task.is_terminal or task.rev > message.rev:
        decision = _confirmed_before(task, message)
        if isinstance(decision.reply, Error):
            decision.records.extend(word_against(world, sender, task, message.verdict, now))
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
    if message.if_gen not in (None, task.generation):
        # The same result, but the delegator saw it before something was decided about it (spec ACCEPT-8).
        return refuse(
            ErrorCode.GENERATION_MISMATCH,
            f"task {task.id} has generation {task.generation}, the word is for {message.if_gen}",
            data={"generation": task.generation, "state": task.state.value},
        )
    if task.group is not None and message.verdict == "reject" and message.rework:
        return refuse(
            ErrorCode.CONFLICT, f"task {task.id} was done by several agents: accept its result, or reject it for good"
        )
    records = _word(task, result, message, sender.agent or "", now)
    if isinstance(records[-1], Reworked) and (refusal := said_too_much(world, task, records[-1].payload)) is not None:
        return refusal
    state = records[-1].state if isinstance(records[-1], Settled) else TaskState.QUEUED.value
    return reply(Ok(state=state), *records)


def _disputed(world: World, task: Task) -> Decision:
    """Refuse a word on a disputed result: nothing settles while a conflict about it is open. Spec CONFLICT-15."""
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
    """Answer a later word: the first one counted. The same word gets the same answer, another is told what counted."""
    if message.verdict == "reject" and any(rev == message.rev for rev, _, _ in task.feedback):
        return reply(Ok(state=task.state.value))  # it was sent back, whatever became of the task since
    if task.settled is None:
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
