"""How an agent raises a conflict that no rule has found (spec CONFLICT-11, CONFLICT-12)."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

from ...errors import ErrorCode
from ...protocol.codec import pack
from ...protocol.messages import ConflictRaise, ConflictRaised, RaisedSubject
from ...protocol.states import TaskState
from ...protocol.types import principal_of
from ..decision import Decision, no_task, refuse, reply
from ..ledger import Ledger
from ..live import Connection, World
from ..records import ConflictJoined, ConflictOpened
from ..task_state import Task
from .case import Candidate, Conflict
from .finding import about_context, digest_of, has_room, terms_by, written_at
from .noting import are_of_one, fences_noted

__all__ = ["on_conflict_raise"]

_TOPICS = {
    "result": "task",
    "artifact": "task",
    "instruction": "task",
    "context": "context",
    "resource": "resource",
    "identity": "agent",
}
"""Conflict kind to the type of its object."""


def on_conflict_raise(world: World, sender: Connection, message: ConflictRaise, now: int) -> Decision:
    """An agent says that things contradict each other. Spec CONFLICT-11, CONFLICT-12."""
    ledger, policy, agent = world.ledger, world.policy, sender.agent or ""
    if len(message.subjects) > policy.conflict_subjects_max:
        return refuse(ErrorCode.TOO_LARGE, f"a conflict has at most {policy.conflict_subjects_max} subjects")
    if not policy.ladder_for(message.conflict_kind):
        return refuse(ErrorCode.DENIED, f"nothing says here how a conflict of kind {message.conflict_kind} is decided")
    found = _candidates(world, sender, message, now)
    if isinstance(found, Decision):
        return found
    about = _about(ledger, message, found)
    if isinstance(about, Decision):
        return about
    size = len(message.payload) + sum(len(candidate.payload) for candidate in found)
    if size > policy.conflict_max_bytes:
        return refuse(
            ErrorCode.TOO_LARGE,
            f"what contradicts each other, with its evidence, has at most {policy.conflict_max_bytes} bytes; this has "
            f"{size}: leave what it is about in artifacts, and say what matters",
        )
    name = _name(agent, message.conflict_kind, about, found)
    disputed = [ledger.tasks[candidate.ref] for candidate in found if candidate.form == "result"]
    known = _known(ledger, f"{message.conflict_kind} {about}", disputed)
    repeated = next((conflict for conflict in known if any(raised.name == name for raised in conflict.raises)), None)
    if repeated is not None:
        return reply(_raised(repeated))
    opened = next((conflict for conflict in known if conflict.is_open), None)
    if opened is not None:
        return _join(world, opened, agent, name, message, now)
    refusal = _check_group(ledger, message, about) or _check_room(world, agent, known, about)
    if refusal is not None:
        return refusal
    if message.conflict_kind == "resource" and are_of_one([candidate.resource for candidate in found]):
        noted = fences_noted(world, about, found, agent, name, message.claim, message.payload, now)
        if noted:
            return reply(ConflictRaised(ledger.conflict_id_at(ledger.lsn + 1), True, False, about), *noted)
        return reply(_raised(known[-1]))  # just noted, for subjects that another agent has shown
    record = _opened(world, agent, message, about, found, disputed, name, now)
    return reply(ConflictRaised(record.conflict, True, True, about), record)


def _raised(conflict: Conflict) -> ConflictRaised:
    return ConflictRaised(conflict.id, False, conflict.is_open, conflict.object)


def _name(agent: str, kind: str, about: str, candidates: list[Candidate]) -> str:
    """Return the name of a raise: a hash of who says that what contradicts what."""
    what = sorted([candidate.digest, candidate.task or ""] for candidate in candidates)
    return hashlib.sha256(pack([principal_of(agent), kind, about, what])).hexdigest()


# What contradicts each other ------------------------------------------------------------------------------------------


def _candidates(world: World, sender: Connection, message: ConflictRaise, now: int) -> list[Candidate] | Decision:
    agent = sender.agent or ""
    found: list[Candidate] = []
    for number, subject in enumerate(message.subjects, 1):
        candidate = _candidate(world, sender, subject, number)
        if isinstance(candidate, Decision):
            return candidate
        found.append(candidate)
    if len(found) == 1:
        against = _rejection(world, agent, found[0], now)
        if isinstance(against, Decision):
            return against
        found.append(against)
    if len({candidate.ref for candidate in found}) != len(found):
        return refuse(ErrorCode.MALFORMED, "each subject of a conflict is another")
    digests = list(dict.fromkeys(candidate.digest for candidate in found))
    if len(digests) == 1:
        return refuse(ErrorCode.MALFORMED, "all subjects are the same: nothing contradicts anything")
    for candidate in found:
        candidate.number = digests.index(candidate.digest)
    return found


def _candidate(world: World, sender: Connection, subject: RaisedSubject, number: int) -> Candidate | Decision:
    ledger, agent, is_operator = world.ledger, sender.agent or "", sender.role == "operator"
    named = [subject.task is not None, subject.key is not None, subject.resource is not None, subject.value is not None]
    if named.count(True) != 1:
        return refuse(ErrorCode.MALFORMED, "a subject is a task, a key's revision, a resource's fence or a value")
    if subject.task is not None:
        return _result(ledger, subject.task)
    if subject.key is not None:
        return _revision(ledger, subject, number)
    if subject.resource is not None:
        return _fence(ledger, subject, agent, number)
    assert subject.value is not None, "one of the four is there"
    return Candidate(
        f"value-{number}",
        "value",
        agent,
        digest_of(subject.value),
        subject.value,
        0,
        ledger.lsn + 1,
        is_operator=is_operator,
    )


def _fence(ledger: Ledger, subject: RaisedSubject, agent: str, number: int) -> Candidate:
    """Return a fence that was shown for a resource. If it is current, the book of claims says whose it is."""
    shown, claim = b"%d" % (subject.fence or 0), ledger.claims.by_fence.get(subject.fence or 0)
    is_its = claim is not None and subject.resource in claim.names
    return Candidate(
        f"fence-{number}",
        "fence",
        claim.agent if claim is not None and is_its else agent,
        digest_of(shown),
        shown,
        0,
        ledger.lsn,
        claim.task if claim is not None and is_its else None,
        subject.fence or 0,
        resource=subject.resource,
        delegators=ledger.delegators(claim.task if claim is not None and is_its else None),
    )


def _result(ledger: Ledger, task_id: str) -> Candidate | Decision:
    task = ledger.tasks.get(task_id)
    if task is None:
        return no_task(task_id)
    if task.scope.startswith("conflict:"):
        return refuse(ErrorCode.DENIED, f"task {task_id} was asked in a conflict: there is no conflict about one")
    if not task.results:
        return refuse(ErrorCode.NOT_FOUND, f"task {task_id} is {task.state} and has no result")
    result = task.results[-1]
    at = next((event.lsn for event in reversed(task.history) if event.event == "report"), task.lsn)
    return Candidate(
        task_id,
        "result",
        result.agent,
        result.result_hash,
        result.payload,
        0,
        at,
        task_id,
        result.fence,
        delegators=ledger.delegators(task_id),
    )


def _revision(ledger: Ledger, subject: RaisedSubject, number: int) -> Candidate | Decision:
    context = ledger.contexts.get(subject.context_id or "")
    entry = context.entries.get(subject.key or "") if context is not None else None
    revision = entry.revision(subject.rev or entry.rev) if entry is not None else None
    if context is None or entry is None or revision is None or revision.payload is None:
        detail = f"{subject.key} of context {subject.context_id} has no revision {subject.rev or ''} with a value"
        return refuse(ErrorCode.NOT_FOUND, detail)
    return Candidate(
        f"revision-{number}",
        "revision",
        revision.origin.author,
        digest_of(revision.payload),
        revision.payload,
        0,
        written_at(context, entry.key, subject.rev or entry.rev),
        revision.origin.task,
        revision.origin.fence,
        context.id,
        entry.key,
        subject.rev or entry.rev,
        is_operator=revision.origin.is_operator,
        delegators=revision.origin.delegators,
    )


def _rejection(world: World, agent: str, result: Candidate, now: int) -> Candidate | Decision:
    """Return the rejection that a worker contests: its result was rejected recently. Spec CONFLICT-12."""
    task = world.ledger.tasks.get(result.ref) if result.form == "result" else None
    word = _rejected(task) if task is not None else None
    if task is None or word is None:
        return refuse(ErrorCode.MALFORMED, "at least two things contradict each other, unless a result was rejected")
    by, at, lsn, payload = word
    if result.agent != agent:
        return refuse(ErrorCode.FORBIDDEN, f"the worker of task {task.id} may contest its rejection, not {agent}")
    if now - at > world.policy.contest_ms:
        return refuse(
            ErrorCode.DENIED,
            f"a rejection is contested within {world.policy.contest_ms} ms, that of task {task.id} was {now - at} ago",
        )
    return Candidate("rejection-2", "rejection", by, digest_of(payload), payload, 1, lsn)


def _rejected(task: Task) -> tuple[str, int, int, bytes] | None:
    """Return who rejected the newest result of a task, when, the position in the ledger, and in which words."""
    if task.settled is not None:
        if task.settled.reason not in ("rejected", "reworks") or not task.settled.by:
            return None
        last = task.history[-1]
        return task.settled.by, last.at, last.lsn, b"[]"
    if task.results[-1].rev == task.rev:
        return None
    word = next(event for event in reversed(task.history) if event.event == "rework")
    return word.data["by"], word.at, word.lsn, word.payload or b"[]"


# What it is about -----------------------------------------------------------------------------------------------------


def _about(ledger: Ledger, message: ConflictRaise, found: list[Candidate]) -> str | Decision:
    """Return the object of the conflict: derived from its subjects, or as the raiser names it."""
    wanted = _TOPICS[message.conflict_kind]
    results = sorted((candidate.lsn, candidate.ref) for candidate in found if candidate.form == "result")
    keys = {(candidate.context_id or "", candidate.key or "") for candidate in found if candidate.form == "revision"}
    resources = {candidate.resource for candidate in found if candidate.form == "fence"}
    derived = {
        "task": [f"task:{ref}" for _, ref in results[:1]],
        "context": [about_context(*name) for name in sorted(keys)[:1]],
        "resource": [f"resource:{name}" for name in resources] if len(resources) == 1 else [],
        "agent": [],
    }[wanted]
    about = message.object or next(iter(derived), "")
    head, _, name = about.partition(":")
    if head == "conflict":
        return refuse(ErrorCode.DENIED, "there is no conflict about a conflict: take a position, or appeal")
    if head != wanted or not name:
        detail = f"a conflict of kind {message.conflict_kind} is about `{wanted}:…`, not {about or 'nothing'}"
        return refuse(ErrorCode.MALFORMED, detail)
    if wanted == "task" and name not in ledger.tasks:
        return no_task(name)
    if wanted == "agent" and name not in ledger.agents:
        return refuse(ErrorCode.NOT_FOUND, f"no agent {name} is known")
    return about


def _known(ledger: Ledger, topic: str, disputed: list[Task]) -> list[Conflict]:
    """Return the conflicts about the same topic, and those that already dispute one of these results."""
    about = [ledger.conflicts[known] for known in ledger.conflicts_about.get(topic, ())]
    others = [ledger.conflicts[known] for task in disputed for known in task.conflicts if known in ledger.conflicts]
    return [*about, *(other for other in others if other.blocks and other not in about)]


def _check_group(ledger: Ledger, message: ConflictRaise, about: str) -> Decision | None:
    """Refuse to raise what a group finds itself: while it is undecided, it finds out whether its answers contradict."""
    task = ledger.open_tasks.get(about.removeprefix("task:"))
    if message.conflict_kind != "result" or task is None or task.group is None or task.group.decided is not None:
        return None
    return refuse(
        ErrorCode.DENIED,
        f"the answers of group {task.id} are still counted: what contradicts what among them, it finds itself",
    )


def _check_room(world: World, agent: str, known: list[Conflict], about: str) -> Decision | None:
    policy, principal = world.policy, principal_of(agent)
    if not has_room(world):
        return refuse(ErrorCode.QUOTA, f"at most {policy.conflicts_open_max} conflicts are open beside those of groups")
    own = sum(
        principal_of(conflict.raiser) == principal and bool(conflict.raises)
        for conflict in world.ledger.open_conflicts.values()
    )
    if own >= policy.conflicts_raised_max:
        return refuse(ErrorCode.QUOTA, f"{principal} has raised {own} conflicts that are open, and may have no more")
    if sum(bool(conflict.raises) for conflict in known) >= policy.conflicts_about_max:
        return refuse(
            ErrorCode.QUOTA, f"about {about} at most {policy.conflicts_about_max} conflicts are raised, they were"
        )
    return None


def _join(world: World, conflict: Conflict, agent: str, name: str, message: ConflictRaise, now: int) -> Decision:
    """Keep a further raise with the conflict that is already open. Spec CONFLICT-12."""
    if len(conflict.raises) >= world.policy.conflict_raises_max:
        return reply(_raised(conflict))
    subjects: list[dict[str, Any]] = [
        {field: value for field, value in asdict(subject).items() if value is not None} for subject in message.subjects
    ]
    record = ConflictJoined(
        now, conflict.id, agent, name, message.conflict_kind, message.object, message.claim, subjects, message.payload
    )
    return reply(_raised(conflict), record)


def _opened(
    world: World,
    agent: str,
    message: ConflictRaise,
    about: str,
    found: list[Candidate],
    disputed: list[Task],
    name: str,
    now: int,
) -> ConflictOpened:
    ledger = world.ledger
    terms = terms_by(world.policy, message.conflict_kind)
    blocks = [task.id for task in disputed if task.state is TaskState.REPORTED]
    parties = {candidate.agent: "author" for candidate in found}
    for task in disputed:
        if not task.is_terminal:
            parties.setdefault(ledger.addressee(task), "delegator")
    parties.setdefault(agent, "raiser")
    return ConflictOpened(
        now,
        ledger.conflict_id_at(ledger.lsn + 1),
        None,
        message.conflict_kind,
        "r4" if found[-1].form == "rejection" else "raise",
        terms.ladder,
        now,
        parties,
        object=about,
        candidates=[asdict(candidate) for candidate in found],
        terms=terms.to_plain(),
        blocks=blocks,
        by=agent,
        claim=message.claim,
        name=name,
        payload=message.payload,
    )
