"""What the model knows of a task: the ledger's half of SEMANTICS 2.3, with all that is no decision left out.

A fence is a number of the task (its first attempt has 1), a result is its hash, time is only which timer may fire.
"""

from __future__ import annotations

from typing import NamedTuple

from a2a.protocol.states import TASK, TERMINAL, TaskState

__all__ = ["CURRENT", "ENDED", "HASHES", "LAPSED", "NEW", "NEXT", "OFFERED", "Limits", "Task", "dead", "runs"]

NEXT: dict[tuple[str, str], str] = {(state.value, event.value): after.value for (state, event), after in TASK.items()}
"""The transition table, by plain words: they hash faster than the members of an enumeration."""
ENDED = frozenset(state.value for state in TERMINAL)
HASHES = ("A", "B")
"""The results an attempt may come to."""
OFFERED, CURRENT, LAPSED = "offered", "current", "lapsed"
"""Cases of FENCE-5 in which a fence has a say; the others are told apart where they are answered."""


class Limits(NamedTuple):
    """The bounds of LIMIT-4, as small as they can be and still be reached."""

    attempts: int = 2
    losses: int = 1
    declines: int = 2
    reworks: int = 1
    revivals: int = 1
    asks: int = 0
    handoffs: int = 0
    drains: int = 0
    """How often the world takes an attempt away for nobody's fault; the protocol does not bound it."""
    disputes: int = 0
    """How often somebody says that the result contradicts something."""


class Task(NamedTuple):
    """One task, as the records have made it."""

    state: str = TaskState.QUEUED.value
    holders: tuple[int, ...] = ()
    """Whose each fence is, from the first."""
    cur: int = 0
    """The current fence; 0: there was none yet."""
    is_open: bool = False
    lapsed: bool = False
    offer: int = 0
    """The fence on offer; 0: none."""
    outcomes: tuple[str, ...] = ()
    """What was admitted under each fence: a hash, another outcome's word, or nothing."""
    rev: int = 0
    results: tuple[tuple[int, str], ...] = ()
    """(fence, hash) of each revision's result."""
    losses: int = 0
    failures: int = 0
    declines: int = 0
    revivals: int = 0
    handoffs: int = 0
    drains: int = 0
    evicted: str = ""
    """Why the current attempt was asked to give the task back: `stall`, a loss, or `drain`, nobody's fault."""
    asks: tuple[str, ...] = ()
    """Each question: nothing, `?` open, `-` withdrawn, else its answer."""
    cancel: str = ""
    by: str = ""
    """Who or what ended it."""
    digest: str = ""
    """The hash it completed with."""
    conflicts: tuple[str, ...] = ()
    """Each conflict about its results: `?` open, `stands`, `overruled`, or `moot`, where the task ended otherwise."""
    overruled: bool = False
    """The newest result is not the one that was chosen."""


NEW = Task()


def runs(task: Task) -> bool:
    """Whether somebody has a lease that has not lapsed."""
    return task.is_open and not task.lapsed


def dead(task: Task) -> int:
    """Return the fences without authority, as bits: what was superseded, spent, withdrawn or declined.

    Written from FENCE-2 to FENCE-4 and used by the invariants only, so that it cannot share a mistake with the rules.
    """
    alive = (1 << task.cur if task.is_open else 0) | (1 << task.offer if task.offer else 0)
    return ((2 << len(task.holders)) - 2) & ~alive
