"""Frames about what has left memory: which connections wait, and in which order their frames go on (spec READ-5).

A frame about an archived task, conflict or context waits until the shell has looked in the archive, and so do later
frames on its connection: they are answered in the order they came. Nobody else waits. This module knows what a message
is about, not what it means; the coordinator decides.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..protocol.codec import BadFrame, Frame
from ..protocol.messages import (
    A2ACall,
    ConflictAppeal,
    ConflictGet,
    ConflictList,
    ConflictPosition,
    ConflictRaise,
    ConflictVote,
    ContextRead,
    ContextWatch,
    ContextWrite,
    Hello,
    Message,
    TaskDelegate,
    TaskList,
)
from . import plain
from .binding import listed, need_of
from .conflicts import shelving
from .conflicts.case import Conflict
from .context_state import Context
from .decision import Need, Row
from .ledger import Ledger
from .live import Connection, World
from .reading import in_memory, page_wanted
from .records import ContextRecalled, Recalled, Record
from .task_state import Task
from .tasks import scope_of

__all__ = ["AtHand", "Fetched", "Waiting", "need_for"]


@dataclass(slots=True)
class AtHand:
    """What memory has for a page that waits for the archive: it may have left memory when the answer comes."""

    views: list[tuple[int, dict[str, Any]]] | None = None
    """(lsn, view) of tasks."""
    tasks: Sequence[Task] = ()
    conflicts: Sequence[Conflict] | None = None

    @staticmethod
    def of(world: World, message: Message, need: Need) -> AtHand:
        """Return what memory has now of what a message asks for."""
        if isinstance(message, TaskList):
            return AtHand(views=in_memory(world, message))
        if isinstance(message, ConflictList):
            return AtHand(conflicts=shelving.in_memory(world.ledger, message))
        if isinstance(message, A2ACall) and need.ended is not None:
            return AtHand(tasks=listed(world.ledger, message))
        return AtHand()


@dataclass(slots=True)
class Fetched:
    """What the archive had."""

    tasks: dict[str, Task] = field(default_factory=dict)
    conflicts: dict[str, Conflict] = field(default_factory=dict)
    contexts: dict[str, Context] = field(default_factory=dict)
    stored: dict[tuple[type, str], tuple[bytes, Sequence[bytes]]] = field(default_factory=dict)
    """The stored forms that tasks and contexts were read from, by class and id, with what was kept beside each."""
    page: list[Conflict] | None = None
    """For a page of conflicts: those that pass, in memory and in the archive, newest first."""
    gone: dict[str, str] = field(default_factory=dict)
    """Tasks that are no longer kept, with how each ended."""
    failure: str = ""
    """Why the archive could not be read, or empty."""
    views: list[tuple[int, dict[str, Any]]] | None = None
    """For a page of tasks: the views of those that were in memory when it was asked for."""
    passing: int | None = None
    """For a page of A2A's tasks: how many in the archive pass."""

    @staticmethod
    def of(need: Need, rows: Sequence[Row] | None, passing: int, at_hand: AtHand) -> Fetched:
        """Read what was found for a need, and add what was at hand.

        Args:
            need: what was looked up.
            rows: what was found; None: the archive could not be read.
            passing: how many tasks all pages have, where a page of ended tasks was asked for.
            at_hand: what memory had when the archive was asked.
        """
        fetched = Fetched.read(rows)
        fetched.views = at_hand.views
        if at_hand.conflicts is not None:
            every = {conflict.opened_lsn: conflict for conflict in (*fetched.conflicts.values(), *at_hand.conflicts)}
            fetched.page = [every[lsn] for lsn in sorted(every, reverse=True)]
        if need.ended is not None:
            fetched.passing = passing
            fetched.tasks |= {task.id: task for task in at_hand.tasks}
        return fetched

    @staticmethod
    def read(rows: Sequence[Row] | None) -> Fetched:
        """Read rows of the archive; a task without a body is gone."""
        if rows is None:
            return Fetched(failure="the archive cannot be read")
        fetched = Fetched()
        for name, body, beside, what, state in rows:
            try:
                if what == "conflict":
                    fetched.conflicts[name] = plain.from_bytes(Conflict, body, beside)
                elif what == "context":
                    fetched.contexts[name] = plain.from_bytes(Context, body, beside)
                    fetched.stored[Context, name] = body, beside
                elif body:
                    fetched.tasks[name] = plain.from_bytes(Task, body, beside)
                    fetched.stored[Task, name] = body, beside
                else:
                    fetched.gone[name] = state
            except ValueError as error:
                return Fetched(failure=f"{what} {name} cannot be read from the archive: {error}")
        return fetched

    def contexts_back(self, ledger: Ledger, now: int) -> Iterator[Record]:
        """Yield the records that bring the contexts back.

        For a frame that goes on in them, before it is decided: the ids it makes depend on the positions of its records.
        """
        for name in self.contexts:
            if name not in ledger.contexts:
                yield ContextRecalled(now, name, plain.whole(Context, *self.stored[Context, name]))

    def task_back(self, ledger: Ledger, record: Record, now: int) -> Record | None:
        """Return what brings back the task that a record is about to add to, or None if it is in memory."""
        about = getattr(record, "task", None)
        if about is None or (Task, about) not in self.stored or about in ledger.tasks:
            return None
        return Recalled(now, about, plain.whole(Task, *self.stored[Task, about]))


def need_for(ledger: Ledger, sender: Connection, message: Message) -> Need | None:
    """Return what has to be looked up before the message can be decided, or, nearly always, None."""
    if ledger.conflicts_archived:
        if isinstance(message, ConflictList):
            wanted = shelving.page_wanted(ledger, message)
            return None if wanted is None else Need(sender.id, conflicts=wanted)
        if isinstance(message, ConflictGet | ConflictPosition | ConflictVote | ConflictAppeal):
            is_archived = ledger.may_have_archived_conflict(message.conflict)
            return Need(sender.id, conflict=message.conflict) if is_archived else None
    if not ledger.archived.layers and not ledger.contexts_archived.layers:
        return None
    if isinstance(message, TaskList):
        page = page_wanted(ledger, message)
        return None if page is None else Need(sender.id, page=page)
    if isinstance(message, A2ACall):
        return need_of(ledger, sender, message)
    key: tuple[str, str] | None = None
    named: tuple[str, ...]
    every_context = _contexts_of(message)
    contexts = tuple(name for name in every_context if ledger.may_have_archived_context(name))
    if isinstance(message, TaskDelegate):
        named = (message.parent.task,) if message.parent is not None else ()
        scope = scope_of(message, sender.agent or "")
        if (scope, message.key) in ledger.keys:
            contexts = ()  # a repeat begins nothing in it
        elif ledger.archived.may_have(scope, message.key):
            key = (scope, message.key)
    elif isinstance(message, ContextWrite):
        named = (message.attempt.task,) if message.attempt is not None else ()
    elif isinstance(message, ConflictRaise):
        about = message.object.partition(":") if message.object.startswith("task:") else ("", "", "")
        named = (*(subject.task for subject in message.subjects if subject.task is not None), about[2])
    elif isinstance(message, Hello):
        named = tuple(held.task for held in message.held)
    else:
        task = getattr(message, "task", None)
        if (task is None or task in ledger.tasks) and not contexts:
            return None
        named = () if task is None else (task,)
    tasks = tuple(task for task in named if ledger.may_have_archived(task))
    if not tasks and not key and not contexts:
        return None
    staying = tuple({*named, *every_context} - {*tasks, *contexts})
    return Need(sender.id, tasks, key, contexts=contexts, staying=staying)


def _contexts_of(message: Message) -> tuple[str, ...]:
    """Return the contexts that a message reads, or goes on in."""
    named: Iterable[str | None]
    if isinstance(message, ContextRead | ContextWrite | TaskDelegate):
        named = (message.context_id,)
    elif isinstance(message, ContextWatch):
        named = () if message.stop else (message.context_id,)
    elif isinstance(message, ConflictRaise):
        named = dict.fromkeys(subject.context_id for subject in message.subjects)
    else:
        return ()
    return tuple(name for name in named if name is not None)


class Waiting:
    """The connections that wait for the archive, each with its frames in order. Their owner stops reading them."""

    def __init__(self) -> None:
        self.wanted: dict[object, int] = {}
        """Ids, and keys with their scope, that are being looked up or have to stay for it, each counted.

        They do not leave memory meanwhile: the archive would answer without what another frame has just changed, and
        nobody would look for what was in memory before.
        """
        self._frames: dict[int, deque[Frame | BadFrame]] = {}
        self._at_hand: dict[int, AtHand] = {}

    def __contains__(self, connection: int) -> bool:
        return connection in self._frames

    def begin(self, need: Need, frame: Frame, at_hand: AtHand) -> None:
        """Have a connection wait with this frame, and keep what is at hand for it."""
        self._frames[need.connection] = deque([frame])
        self._at_hand[need.connection] = at_hand
        self.keep(need)

    def keep(self, need: Need) -> None:
        """Keep what is being looked up in memory, should it come back meanwhile."""
        for name in _names(need):
            self.wanted[name] = self.wanted.get(name, 0) + 1

    def add(self, connection: int, frame: Frame | BadFrame) -> None:
        """Put a frame behind those that wait."""
        self._frames[connection].append(frame)

    def end(self, need: Need) -> tuple[deque[Frame | BadFrame], AtHand]:
        """Return the frames that waited, first the one that needed the archive, and what was at hand for it."""
        self.let_go(need)
        return self._frames.pop(need.connection), self._at_hand.pop(need.connection)

    def let_go(self, need: Need) -> None:
        """End what `keep` began."""
        for name in _names(need):
            self.wanted[name] -= 1
            if not self.wanted[name]:
                del self.wanted[name]


def _names(need: Need) -> tuple[object, ...]:
    names = (*need.tasks, *need.contexts, *need.staying)
    return names if need.key is None else (*names, need.key)
