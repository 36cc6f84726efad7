"""Contradictions that a rule decides as soon as they are found: they are recorded, and change nothing else.

A broken circle of waits, a refused fence, contradictory words to one task, two processes of one agent: a rule without a
ladder decides each of them. Noting costs nothing while nothing contradicts anything, and notes each thing only once in
a while (spec CONFLICT-17).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ...protocol.canonical import canonical
from ...protocol.types import principal_of
from ..ledger import Agent, Ledger
from ..live import Connection, World
from ..records import ClaimEnded, ConflictNoted, Record, Settled
from ..task_state import Task
from .case import Candidate
from .finding import digest_of, is_settling

__all__ = [
    "NEWER_PROCESS",
    "are_of_one",
    "cards_noted",
    "circle_noted",
    "expected_instead",
    "fences_noted",
    "instance_refused",
    "newest_word",
    "processes_noted",
    "word_against",
    "words_noted",
]

NEWER_PROCESS = " is the newer process"
"""Ends the rationale of a conflict in which a newer process's card stands."""
_STEPS_MAX = 16
"""Waits of a circle that are its subjects; the claim that was given up lists all of them."""


def _noted(
    world: World,
    kind: str,
    rule: str,
    about: str,
    candidates: list[Candidate],
    chosen: int,
    by: str,
    why: str,
    now: int,
    **said: Any,
) -> list[Record]:
    """Return the record, or nothing if the namespace does not look for this kind or has noted one lately."""
    ledger, policy = world.ledger, world.policy
    if not policy.ladder_for(kind) or is_settling(world, kind, about, now):
        return []
    for number, candidate in enumerate(candidates):
        candidate.number = number
    return [
        ConflictNoted(
            now,
            ledger.conflict_id_at(ledger.lsn + 1),
            kind,
            rule,
            about,
            {candidate.agent: "author" for candidate in candidates if candidate.agent},
            [asdict(candidate) for candidate in candidates],
            candidates[chosen].ref,
            by,
            why,
            **said,
        )
    ]


def _said(ref: str, agent: str, payload: bytes, **where: Any) -> Candidate:
    return Candidate(ref, "word", agent, digest_of(payload), payload, 0, 0, **where)


# Resources ------------------------------------------------------------------------------------------------------------


def circle_noted(world: World, record: ClaimEnded | Settled, now: int) -> list[Record]:
    """Note a broken circle of waits: which wait was given up, and which went on. Spec CONFLICT-17, WAIT-2."""
    ledger = world.ledger
    if isinstance(record, Settled):
        task = ledger.tasks[record.task]
        names = sorted(need["name"] for need in task.spec.get("resources", ()))
        waits = [_said("wait-1", task.delegator, canonical(record.detail), task=task.id, resource=names[0])]
        return _noted(world, "resource", "s2", f"resource:{names[0]}", waits, 0, "victim", record.detail, now)
    steps = [step for step in (record.data or {}).get("cycle", ()) if step["for"] == "claim"][:_STEPS_MAX]
    waits = [
        _said(f"wait-{number}", _owner(ledger, step), canonical(step), task=step.get("task"), resource=step["name"])
        for number, step in enumerate(steps, 1)
    ]
    if not waits:
        return []
    about = f"resource:{min(step['name'] for step in steps)}"
    return _noted(world, "resource", "s2", about, waits, len(waits) - 1, "victim", record.detail, now)


def _owner(ledger: Ledger, step: dict[str, Any]) -> str:
    """Return the agent that waits: for a task its holder, else its delegator."""
    if "task" not in step:
        return str(step["agent"])
    task = ledger.tasks.get(step["task"])
    return "" if task is None else task.holder or task.delegator


def are_of_one(resources: list[str | None]) -> bool:
    """Tell whether all subjects are fences of one resource. Fences of several do not contradict each other."""
    return None not in resources and len(set(resources)) == 1


def fences_noted(
    world: World, about: str, candidates: list[Candidate], by: str, name: str, claim: str, payload: bytes, now: int
) -> list[Record]:
    """Note that a guarded resource refused a fence: the greatest fence holds it. Spec CONFLICT-17, CLAIM-12."""
    greatest = max(range(len(candidates)), key=lambda at: candidates[at].fence or 0)
    why = f"{candidates[greatest].fence} is the greatest fence that was shown"
    return _noted(
        world,
        "resource",
        "s3",
        about,
        candidates,
        greatest,
        "fence",
        why,
        now,
        raiser=by,
        name=name,
        claim=claim,
        payload=payload,
    )


# Words to a task ------------------------------------------------------------------------------------------------------


def words_noted(
    world: World,
    task: Task,
    what: str,
    first: tuple[str, Any],
    second: tuple[str, Any],
    now: int,
    *,
    replaces: bool = False,
    rule: str = "i2",
) -> list[Record]:
    """Note two words to a task, from two principals, that contradict each other. Spec CONFLICT-17.

    Args:
        world: where the task is.
        task: the task.
        what: what the words are about, in one word.
        first: who said the first word, and what.
        second: who said the second word, and what.
        now: the current time.
        replaces: whether the second takes the place of the first because its author has more to say.
        rule: the rule that found it.
    """
    if not first[0] or first[0] == "timer" or principal_of(first[0]) == principal_of(second[0]):
        return []
    words = [
        _said(f"{what}-{number}", by, said if isinstance(said, bytes) else canonical(said))
        for number, (by, said) in enumerate((first, second), 1)
    ]
    by, why = ("authority", f"{second[0]} has more to say") if replaces else ("first_wins", f"{first[0]} said so first")
    return _noted(world, "instruction", rule, f"task:{task.id}", words, int(replaces), by, why, now)


def word_against(world: World, sender: Connection, task: Task, word: str, now: int) -> list[Record]:
    """Note a word that contradicts how another principal has ended a task. Spec CONFLICT-17."""
    end = task.settled
    was_said = end is not None and (
        (end.state in ("completed", "canceled") and end.by not in ("auto", "timer", "coordinator"))
        or end.reason in ("rejected", "reworks")
    )
    if end is None or not was_said or end.state == "rejected":
        return []  # the end was not a controller's word
    return words_noted(world, task, "word", (end.by, end.state), (sender.agent or "", word), now)


def newest_word(task: Task, expected: int) -> tuple[str, bytes] | None:
    """Return who said the newest word to a task after a generation, and what; None if there is none."""
    said = (event for event in reversed(task.history[expected:]) if event.data.get("by") and event.payload is not None)
    word = next(said, None)
    return None if word is None else (word.data["by"], word.payload or b"")


# Who is who -----------------------------------------------------------------------------------------------------------


def instance_refused(agent: str, incarnation: int, one: dict[str, Any], other: dict[str, Any]) -> str | None:
    """Return why a process does not take the place of another of its agent, or None if it does. Spec ID-6, ID-7.

    Args:
        agent: the agent.
        incarnation: its newest known incarnation.
        one: the process that is connected, or was last: its `instance` and `incarnation`.
        other: `instance` and `incarnation` of the process that arrives.
    """
    if other["incarnation"] < incarnation:
        return f"{agent} has incarnation {incarnation}; {other['incarnation']} is an older one"
    if other["incarnation"] == one["incarnation"]:
        return f"{agent} is here already, with the same incarnation"
    return None


def processes_noted(world: World, agent: str, one: dict[str, Any], other: dict[str, Any], now: int) -> list[Record]:
    """Note that two processes, one connected and one arriving, claim to be the same agent. Spec CONFLICT-17."""
    known = world.ledger.agents.get(agent)
    incarnation = max(known.incarnation if known is not None else 0, one["incarnation"])
    why = instance_refused(agent, incarnation, one, other)
    chosen = 0 if why is not None else 1
    return _instances_noted(
        world, agent, "d1", one, other, chosen, why or f"incarnation {other['incarnation']} is the newer one", now
    )


def cards_noted(world: World, known: Agent, instance: str, card: dict[str, Any], now: int) -> list[Record]:
    """Note that another process of an agent brings a different card with the same version. Spec CONFLICT-17."""
    is_other = known.instance != instance and known.card != card
    if not is_other or not card.get("skills") or known.card.get("version") != card.get("version"):
        return []
    return _instances_noted(world, known.id, "d3", known.card, card, 1, f"{instance}{NEWER_PROCESS}", now)


def _instances_noted(
    world: World, agent: str, rule: str, one: dict[str, Any], other: dict[str, Any], chosen: int, why: str, now: int
) -> list[Record]:
    both = [_said(f"instance-{number}", agent, canonical(said)) for number, said in enumerate((one, other), 1)]
    return _noted(world, "identity", rule, f"agent:{agent}", both, chosen, "incarnation", why, now)


# Looking at a record --------------------------------------------------------------------------------------------------

_RULES = {
    "s2": "resource",
    "s3": "resource",
    "i1": "instruction",
    "i2": "instruction",
    "d1": "identity",
    "d3": "identity",
}
"""The rules of this module, and the kind of each."""


def expected_instead(ledger: Ledger, record: ConflictNoted) -> str | None:
    """Return what was expected instead of a record that does not fit the state, or None if it fits."""
    if _RULES.get(record.rule) != record.kind:
        return f"a rule that is about {record.kind}, {record.rule} is not"
    refs = [candidate["ref"] for candidate in record.candidates]
    if record.ref not in refs:
        return f"one of {refs}"
    known = ledger.conflicts_about.get(f"{record.kind} {record.object}", ())
    if any(conflict in ledger.open_conflicts for conflict in known):
        return f"no other conflict about {record.object}, one is open"
    if record.rule == "s3":
        fences = {candidate["ref"]: candidate["fence"] for candidate in record.candidates}
        return None if fences[record.ref] == max(fences.values()) else "the greatest fence"
    if record.kind == "instruction":
        principals = {principal_of(candidate["agent"]) for candidate in record.candidates}
        return None if len(principals) == 2 else "words of two principals"
    return None
