"""What a rung decides between: the answers of a group, or the conflict's own candidates (spec CONFLICT-11).

Rungs count, ask and show what is on a slate, and need not know where it comes from. The slate is rebuilt from the
ledger each time a conflict goes on; it is not state.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...protocol.types import principal_of
from ..ledger import Ledger
from ..task_state import Task
from .case import Candidate, Conflict, Group, Terms

__all__ = ["Slate", "of_conflict", "of_group", "outranks"]


@dataclass(slots=True)
class Slate:
    """The candidates to choose from."""

    terms: Terms
    classes: list[list[str]]
    """References to equal candidates; classes and members are in ledger order."""
    electorate: int
    payloads: list[bytes]
    """The payload of the first of each class."""
    authors: dict[str, str]
    """Reference to its author, including candidates that are in no class."""
    involved: set[str]
    """Agents that are not asked for their judgment."""
    candidates: list[Candidate] = field(default_factory=list)
    """The author and attempt of each candidate; one for each reference of a class."""
    task: Task | None = None
    """The group, if the candidates are its answers."""


def of_group(ledger: Ledger, task: Task, group: Group, conflict: Conflict) -> Slate:
    """Return the slate of a group."""
    results = {member: ledger.tasks[member].results[-1] for member in group.numbers}
    return Slate(
        group.terms,
        group.classes,
        len(group.electorate),
        [results[members[0]].payload for members in group.classes],
        {member: result.agent for member, result in results.items()},
        {*conflict.parties, *ledger.workers_of(group)},
        [
            Candidate(member, "result", results[member].agent, "", b"", number, 0, member)
            for number, members in enumerate(group.classes)
            for member in members
        ],
        task,
    )


def of_conflict(ledger: Ledger, conflict: Conflict) -> Slate:
    """Return the slate of a conflict that has its own candidates."""
    classes: list[list[str]] = []
    payloads: list[bytes] = []
    for candidate in conflict.candidates:
        if candidate.number == len(classes):
            classes.append([])
            payloads.append(candidate.payload)
        classes[candidate.number].append(candidate.ref)
    involved = {*conflict.parties, *(candidate.agent for candidate in conflict.candidates)}
    for candidate in conflict.candidates:
        task = ledger.tasks.get(candidate.task or "")
        involved.update(task.agents if task is not None else ())
    assert conflict.terms is not None, "it was opened with them"
    return Slate(
        conflict.terms,
        classes,
        len(conflict.candidates),
        payloads,
        {candidate.ref: candidate.agent for candidate in conflict.candidates},
        involved,
        conflict.candidates,
    )


def outranks(ledger: Ledger, one: Candidate, other: Candidate) -> bool:
    """Tell whether the author of one candidate has more to say than the author of another. Spec RUNG-5."""
    return _is_above(ledger, one, other) and not _is_above(ledger, other, one)


def _is_above(ledger: Ledger, one: Candidate, other: Candidate) -> bool:
    if one.is_operator or other.is_operator:
        return one.is_operator and not other.is_operator
    principal = principal_of(one.agent)
    if principal == principal_of(other.agent):
        return False
    return principal in (ledger.delegators(other.task) if other.delegators is None else other.delegators)
