"""Pages of tasks as A2A lists them: those whose status changed last come first (spec BIND-11).

Memory has the open tasks and those that ended lately, the archive all others. A page merges both, by the time and the
position of each task; a page token names these two.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from ..protocol.messages import A2AResult
from ..protocol.operations import Fault, encode, milliseconds_of
from ..protocol.states import TERMINAL, outside
from .decision import EndedPage
from .ledger import Ledger
from .live import World
from .showing import shown
from .task_state import Task

__all__ = ["PAGE", "Query", "in_archive", "newest", "page_of", "query_of"]

PAGE = 50
"""Tasks on a page, if the request names no number."""
_TOKEN = re.compile(r"(\d{1,15})\.(\d{1,15})")


@dataclass(frozen=True, slots=True)
class Query:
    """Which tasks to list, and how many."""

    size: int
    behind: tuple[int, int] | None
    """Only tasks that changed before this time, or at it and with a lower position than this."""
    state: str | None
    context_id: str | None
    since: int
    with_artifacts: bool

    def passes(self, task: Task) -> bool:
        """Tell whether a task is listed on any page."""
        return (
            task.since >= self.since
            and (self.context_id is None or self.context_id == task.context_id)
            and (self.state is None or self.state == outside(task.state, was_leased=task.was_leased))
        )

    def is_ahead(self, task: Task) -> bool:
        """Tell whether a task is not on an earlier page."""
        return self.behind is None or _place(task) < self.behind


def query_of(request: dict[str, Any]) -> Query:
    """Return the query of a ListTasksRequest.

    Raises:
        Fault: its page token or its time is invalid.
    """
    behind, since = None, 0
    if token := request.get("pageToken"):
        found = _TOKEN.fullmatch(token)
        if found is None:
            raise Fault(-32602, "pageToken is none that came with a page", fields=[("pageToken", "is unknown")])
        behind = int(found[1]), int(found[2])
    if after := request.get("statusTimestampAfter"):
        try:
            since = milliseconds_of(after)
        except ValueError as error:
            fields = [("statusTimestampAfter", str(error))]
            raise Fault(-32602, f"statusTimestampAfter: {error}", fields=fields) from None
    state = request.get("status")
    return Query(
        request.get("pageSize", PAGE),
        behind,
        None if state == "TASK_STATE_UNSPECIFIED" else state,
        request.get("contextId") or None,
        since,
        request.get("includeArtifacts", False),
    )


def in_archive(query: Query) -> EndedPage | None:
    """Return what to ask the archive for, or None if no archived task passes."""
    ended = {outside(kind, was_leased=True): kind.value for kind in TERMINAL}
    if query.state is not None and query.state not in ended:
        return None
    state = None if query.state is None else ended[query.state]
    return EndedPage(query.size + 1, query.behind, state, query.context_id, query.since, query.with_artifacts)


def _place(task: Task) -> tuple[int, int]:
    return task.since, task.lsn


def newest(ledger: Ledger, query: Query, lent: Iterable[str] = ()) -> list[Task]:
    """Return the tasks of a page, and one more if there is one.

    Args:
        ledger: the ledger.
        query: what is asked for.
        lent: tasks that are in the ledger for this decision only.
    """
    tasks = [ledger.tasks[name] for name in (*lent, *ledger.recalled)]
    if query.context_id is None:
        tasks += _first(ledger.index.newest(query.state), query)
    else:
        tasks += ledger.index.of_context(query.context_id)
    passing = (task for task in tasks if query.passes(task) and query.is_ahead(task))
    return heapq.nlargest(query.size + 1, passing, key=_place)


def _first(tasks: Iterator[Task], query: Query) -> list[Task]:
    """Return as many tasks as a page may need, given tasks with the newest first."""
    found: list[Task] = []
    for task in tasks:
        if task.since < query.since:
            break
        if len(found) > query.size and task.since < found[-1].since:
            break  # not earlier: tasks of one millisecond come in no order
        if query.is_ahead(task):
            found.append(task)
    return found


def _count(ledger: Ledger, query: Query) -> int:
    """Return how many tasks pass that the archive does not count."""
    if query.context_id is not None:
        return sum(map(query.passes, ledger.index.of_context(query.context_id)))
    if not query.since:
        return ledger.index.count(query.state)
    return sum(1 for _ in takewhile(lambda task: task.since >= query.since, ledger.index.newest(query.state)))


def page_of(world: World, query: Query, lent: Collection[str], archived: int) -> A2AResult:
    """Return a page.

    Args:
        world: the coordinator's state, with what the archive found lent to its ledger.
        query: what is asked for.
        lent: tasks that are in the ledger for this decision only.
        archived: how many tasks in the archive pass.
    """
    ledger = world.ledger
    found = newest(ledger, query, lent)
    total = archived + _count(ledger, query)
    tasks: list[bytes] = []
    size = 0
    for task in found[: query.size]:
        one = encode(_one(world, task, query))
        size += len(one)
        if tasks and size > world.policy.call_page_max_bytes:
            break
        tasks.append(one)
    last = found[len(tasks) - 1] if 0 < len(tasks) < len(found) else None
    token = "" if last is None else "{}.{}".format(*_place(last))
    rest = encode({"nextPageToken": token, "pageSize": query.size, "totalSize": total})
    return A2AResult(b'{"tasks":[' + b",".join(tasks) + b"]," + rest[1:])


def _one(world: World, task: Task, query: Query) -> dict[str, Any]:
    """Return a task as a page shows it. If its result cannot be shown, its page still shows the others."""
    if query.with_artifacts:
        try:
            return shown(world, task)
        except Fault:
            return shown(world, task, with_artifacts=False) | {"artifacts": []}
    return shown(world, task, with_artifacts=False)
