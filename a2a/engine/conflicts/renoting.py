"""Decides again, for a replay, what `noting` decided, from the state before the record (spec CONFLICT-17).

The record itself tells who was connected. Whether the contradiction was noted at all, or too soon after the last one,
follows from settings that are not recorded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from ...protocol.messages import ConflictRaise, Message, RaisedSubject, TaskAnswer, TaskCancel, TaskConfirm
from ..live import World
from ..records import ClaimEnded, ConflictNoted, Record, Settled
from ..task_state import Task
from .noting import NEWER_PROCESS, cards_noted, circle_noted, newest_word, processes_noted, words_noted

__all__ = ["noted_again"]

Say = Callable[[str, Message, str], list[Record]]
"""Have an agent say something in a role, and return the records of the decision."""


def noted_again(
    world: World, record: ConflictNoted, broken: Iterable[ClaimEnded | Settled], say: Say
) -> list[list[Record]] | None:
    """Return the decisions that may have begun with a record, or None if its task has left memory.

    Args:
        world: the state before the record.
        record: the record.
        broken: the circles of waits that were broken lately.
        say: has an agent say something.
    """
    if record.rule == "s2":
        return [circle_noted(world, circle, record.at) for circle in broken if circle.at == record.at]
    if record.kind == "identity":
        return [_who(world, record)]
    if record.rule == "s3":
        shown = [RaisedSubject(resource=one["resource"], fence=one["fence"]) for one in record.candidates]
        message = ConflictRaise("resource", shown, record.object, record.claim, record.payload or b"")
        return [say(record.raiser, message, "member")]
    task = world.ledger.tasks.get(record.object.removeprefix("task:"))
    return None if task is None else _words(world, record, task, say)


def _who(world: World, record: ConflictNoted) -> list[Record]:
    agent = record.object.removeprefix("agent:")
    one, other = (json.loads(candidate["payload"]) for candidate in record.candidates)
    if record.rule == "d1":
        return processes_noted(world, agent, one, other, record.at)
    known = world.ledger.agents[agent]
    return cards_noted(world, known, record.rationale.removesuffix(NEWER_PROCESS), other, record.at)


def _words(world: World, record: ConflictNoted, task: Task, say: Say) -> list[list[Record]]:
    _, second = record.candidates
    agent, payload = second["agent"], second["payload"]
    if record.rule == "i1":
        word = newest_word(task, 0)
        said = (agent, payload)
        return [words_noted(world, task, "word", word, said, record.at, rule="i1")] if word is not None else []
    said_again: list[Message]
    if second["ref"].startswith("answer-"):
        said_again = [TaskAnswer(task.id, ask.ask_no, payload) for ask in task.asks]
    else:
        said_again = _on_its_end(task, json.loads(payload))
    return [say(agent, message, role) for message in said_again for role in ("member", "operator")]


def _on_its_end(task: Task, word: Any) -> list[Message]:
    """Return what may have been said to a task that had ended. Which result a word named is not recorded."""
    if word == "cancel":
        return [TaskCancel(task.id)]
    hashes = [*(result.result_hash for result in task.results), ""]
    return [TaskConfirm(task.id, task.rev, result_hash, word) for result_hash in dict.fromkeys(hashes)]
