"""Tasks in words: what happened to one, and its progress while somebody waits for it.

Used by `a2a delegate` and `a2a task ...`. There are words for the events of the protocol (spec STATE-2); other data of
an event is shown as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import asdict
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol, Self

from ..client import Client
from ..delegator import AgentInfo, TaskEvent
from ..errors import A2AError, Overruled, StaleBasis
from ..protocol.states import OPEN_ENDED, TERMINAL, TaskState
from .exits import ExitCode, Failure
from .options import Connection
from .output import Output, escape, is_terminal, paused, to_json

__all__ = [
    "ENDED",
    "Follower",
    "copies_that_wait",
    "describe",
    "doubtful_failure",
    "duration",
    "event_record",
    "follower",
    "how_far",
    "how_to_settle",
    "refused_lines",
    "seconds_between",
    "shortened",
    "told_when_nobody",
    "who_is_able",
    "who_is_missing",
]

ENDED = frozenset(state.value for state in TERMINAL)
AT_WORK = frozenset(state.value for state in OPEN_ENDED)
"""The states in which an attempt is under way."""
_TIMER = "timer"
"""The author of answers and verdicts that nobody gave in time."""
SHOWN_MAX = 200
"""The most characters of a value in a line of the story."""
NOBODY_AFTER = 2.0
"""Seconds for which a task is queued before a check whether any connected agent can do it."""


def describe(event: TaskEvent) -> str:
    """Return in a few words what happened."""
    data, agent = event.data, event.agent or "?"
    words: dict[str, Callable[[], str]] = {
        "created": lambda: f"delegated by {data.get('delegator', '?')}",
        "grant": lambda: f"attempt {data.get('attempt', '?')} by {agent}, fence {data.get('fence', '?')}",
        "offer": lambda: f"attempt {data.get('attempt', '?')} offered to {agent}, fence {data.get('fence', '?')}",
        "accept": lambda: f"{agent} accepts",
        "withdraw": lambda: f"the offer to {agent} ends",
        "revive": lambda: f"{agent} is back with its lease",
        "expire": lambda: f"the lease of {agent} ends",
        "release": lambda: f"{agent} {_let_go(data)}, another attempt follows",
        "dispute": lambda: f"answers contradict each other ({data.get('conflict', '?')})",
        "resolve": lambda: f"conflict {data.get('conflict', '?')} is decided ({data.get('outcome', '?')})",
        "evict": lambda: f"taken away from {agent}",
        "steer": lambda: f"a word from {data.get('by', '?')}",
        "progress": lambda: _progress(event),
        "artifact": lambda: f"artifact {data.get('name') or data.get('artifactId', '?')}",
        "ask": lambda: f"asks (question {data.get('askNo', '?')})",
        "answer": lambda: _answered(event),
        "answer_later": lambda: _answered(event),
        "report": lambda: f"{agent} reports: {data.get('outcome', '?')}{_moved(data)}",
        "rework": lambda: f"sent back by {data.get('by', '?')} for revision {data.get('rev', '?')}",
        "complete": lambda: f"accepted by {data.get('by') or 'nobody in particular'}",
        "fail": lambda: "has failed",
        "reject": lambda: "is rejected",
        "cancel": lambda: _canceled(data),
        "request_cancel": lambda: f"{data.get('by', '?')} wants it to end ({data.get('mode', '?')})",
    }
    parts = [words.get(event.kind, lambda: event.kind)()]
    # These words include the state, or stand beside it: a reason that is the same word adds nothing.
    told = (data.get(name) for name in ("reason", "detail"))
    reason = ": ".join(str(word) for word in told if word not in (None, "", event.state))
    error = data.get("error")
    if isinstance(error, dict):
        again = ", retryable" if error.get("retryable") else ""
        reason = f"{error.get('code', 'error')}{again}: {error.get('detail', '')}"
    if reason:
        parts.append(reason)
    if event.value is not None and not _is_for_program(event):
        parts.append(shortened(event.value))
    return escape(": ".join(parts))


def _answered(event: TaskEvent) -> str:
    by, question = event.data.get("by", "?"), f"question {event.data.get('askNo', '?')}"
    if by != _TIMER:
        return f"answered by {by} ({question})"
    return f"nobody answered in time ({question})" + ("" if _is_for_program(event) else ", its default counts")


def _is_for_program(event: TaskEvent) -> bool:
    """Tell whether the event is a question's default that tells only its asker that there was no answer."""
    return event.data.get("by") == _TIMER and (event.value is None or isinstance(event.value, dict))


def _canceled(data: dict[str, Any]) -> str:
    by = data.get("by")
    return f"ended by {by}" if by and by != _TIMER else "has been ended"


def _let_go(data: dict[str, Any]) -> str:
    if "to" in data:
        return f"hands it on to {data['to'] or 'another agent'}"
    return "gives it back"


def _moved(data: dict[str, Any]) -> str:
    moved = [
        f"{stale['key']} (revision {stale['seen']} was seen, it was {stale['current']})"
        for stale in data.get("staleBasis", ())
    ]
    return f", relying on keys that have moved since: {', '.join(moved)}" if moved else ""


def _progress(event: TaskEvent) -> str:
    share = "" if event.progress is None else f"{event.progress:.0%}"
    return " ".join(part for part in (share, event.note) if part) or f"{event.agent or 'an agent'} is at work"


def how_far(metadata: dict[str, Any]) -> str:
    """Return the progress of the attempt under way; empty if there is no attempt, or no progress."""
    if "progress" not in metadata or metadata["state"] not in AT_WORK:
        return ""
    share, note = metadata["progress"].get("progressBp"), shortened(metadata["progress"]["note"])
    return " ".join(part for part in ("" if share is None else f"{share / 10_000:.0%}", note) if part)


def shortened(value: Any) -> str:
    """Return a value on one line, cut off if it is long."""
    text = value if isinstance(value, str) else f"{len(value)} bytes" if isinstance(value, bytes) else to_json(value)
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 1] + "…"


def refused_lines(refused: Iterable[dict[str, Any]]) -> list[str]:
    """Return refused requests, a line each: who wanted what, and why it was refused."""
    lines = []
    for kept in refused:
        times = f", {kept['times']} times" if kept["times"] > 1 else ""
        what = f"{kept['kind']} of {kept['agent']}{times}: {kept['code']}"
        lines.append(f"  refused    {what}: {shortened(kept['detail'])}".rstrip(": "))
    return lines


def event_record(event: TaskEvent) -> dict[str, Any]:
    """Return an event as the JSON object that --json writes."""
    record = asdict(event)
    if isinstance(event.value, bytes):
        record["value"] = f"{len(event.value)} bytes"
    return record


def seconds_between(earlier: str, later: str) -> float:
    """Return the seconds between two timestamps of the protocol (RFC 3339)."""
    return max(0.0, (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds())


def duration(seconds: float) -> str:
    """Return a duration for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def doubtful_failure(doubt: StaleBasis | Overruled, connection: Connection) -> Failure:
    """Return the error for a result that does not count until it is confirmed or rejected."""
    return Failure(f"{doubt}: {how_to_settle(doubt.task, connection)}", ExitCode.CONFLICT_OPEN)


def how_to_settle(task: str, connection: Connection) -> str:
    """Return the commands that confirm or reject a task's result."""
    return ", or ".join(connection.typed(f"task {word} {task}") for word in ("confirm", "reject"))


class Follower(Protocol):
    """Shows the progress of a task to somebody who waits for it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def happened(self, event: TaskEvent) -> None:
        """Show one event."""

    def paused(self) -> AbstractContextManager[None]:
        """Release the terminal inside the block, to ask the person in front of it a question."""


@asynccontextmanager
async def told_when_nobody(
    client: Client, skill: str, to: str | None, say: Callable[[str], None]
) -> AsyncIterator[Callable[[TaskEvent], None]]:
    """Report inside the block if a task stays queued because no connected agent can do it; the task goes on waiting.

    For a group, report how many copies wait for that reason, and again when the number changes.

    Args:
        client: looks up the connected agents.
        skill: the skill that is asked for.
        to: the only agent that may do it, if one is named.
        say: gets the report.

    Yields a function to call with each event of the task.
    """
    may_wait, moved = asyncio.Event(), asyncio.Event()
    group = ""

    def note(event: TaskEvent) -> None:
        nonlocal group
        # A group has no events about its copies.
        group = event.task if event.state in (TaskState.BLOCKED, TaskState.DISPUTED) else ""
        if group or event.state == TaskState.QUEUED:
            may_wait.set()
        else:
            may_wait.clear()
        moved.set()

    async def look() -> None:
        told = ""
        while True:
            await may_wait.wait()
            moved.clear()
            try:
                async with asyncio.timeout(NOBODY_AFTER):
                    await moved.wait()
            except TimeoutError:
                missing, looked_at = told, group
                with contextlib.suppress(A2AError):  # the task goes on without the hint too
                    if looked_at:
                        missing = await copies_that_wait(client, await client.get(looked_at))
                    else:
                        missing = await who_is_missing(client, skill, to)
                if missing and missing != told:
                    say(missing if looked_at else f"{missing}; it waits")
                told = missing
                if not looked_at:
                    if missing:
                        return
                    await moved.wait()  # the agent is there, and busy with something else

    looking = asyncio.create_task(look())
    try:
        yield note
    finally:
        looking.cancel()
        await asyncio.wait([looking])


async def copies_that_wait(client: Client, shown: dict[str, Any], *, also_turns: bool = False) -> str:
    """Return how many copies of a group wait for an agent that is not connected, and for which; empty if none does.

    Args:
        client: looks up the copies and the connected agents.
        shown: the group.
        also_turns: also count copies that only wait for their turn.
    """
    metadata = shown["metadata"]
    if "group" not in metadata:
        return ""
    members = metadata["group"]["members"]
    copies = [one for one in await client.list(parent=shown["id"], limit=1000) if one["id"] in members]
    waiting = [one["id"] for one in copies if one["metadata"]["state"] == TaskState.QUEUED]
    if not waiting:
        return ""
    how_many = f"{len(waiting)} of {len(members)} copies {'waits' if len(waiting) == 1 else 'wait'}"
    skill, requires = metadata["skill"], metadata["spec"].get("requires", {})
    if missing := await who_is_missing(client, skill, requires.get("agent")):
        return f"{how_many}: {missing}"
    able = await who_is_able(client, skill, requires)
    if not able:
        return f"{how_many}: no agent that is here offers {skill} as it requires"
    # An agent that worked on one copy does no other (spec GROUP-1).
    had = {one["metadata"].get("agent") for one in copies if one["id"] not in waiting}
    if had.issuperset(one.agent_id for one in able):
        return f"{how_many} for another agent that offers {skill}"
    return f"{how_many} for their turn: {' '.join(sorted(waiting))}" if also_turns else ""


async def who_is_able(client: Client, skill: str, requires: dict[str, Any]) -> list[AgentInfo]:
    """Return the connected agents that offer a skill as a task requires it."""
    wanted = {"agent": requires.get("agent"), "media_type": requires.get("mediaType")}
    found = await client.find(skill, tags=requires.get("tags", ()), labels=requires.get("labels"), **wanted)
    return [one for one in found if one.status != "away" and one.agent_id not in requires.get("exclude", ())]


async def who_is_missing(client: Client, skill: str, to: str | None) -> str:
    """Return who is missing for a task with this skill; empty if an agent for it is connected."""
    here = [agent for agent in await client.find(skill, agent=to) if agent.status != "away"]
    if here:
        return ""
    if to is not None and not any(agent.status != "away" for agent in await client.find(agent=to)):
        return f"no agent {to} is here"
    return f"no agent that is here offers {skill}" if to is None else f"{to} is here and does not offer {skill}"


def follower(out: Output) -> Follower:
    """Return what fits: JSON lines, a live line if `rich` is installed and stderr is a terminal, else lines."""
    if out.as_json:
        return _Records(out)
    if not out.is_quiet and is_terminal(sys.stderr):
        try:
            return _Live()
        except ImportError:
            pass  # rich is an extra
    return _Lines(out)


class _Lines:
    """Writes each event to stderr, a line each; progress when it changes."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._said = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def happened(self, event: TaskEvent) -> None:
        line = f"{event.task}  {event.state:<9}  {describe(event)}"
        if line != self._said:
            self._said = line
            self._out.note(line)

    def paused(self) -> AbstractContextManager[None]:
        return nullcontext()


class _Records(_Lines):
    """Writes each event as a JSON object on stdout."""

    def happened(self, event: TaskEvent) -> None:
        self._out.record(event_record(event))


class _Live:
    """Keeps one moving line on stderr, with `rich`."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[name]}", markup=False),
            BarColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=Console(stderr=True, markup=False, highlight=False),
            transient=True,
        )
        self._line = self._progress.add_task("", total=None, name="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def happened(self, event: TaskEvent) -> None:
        known = None if event.progress is None else event.progress * 100
        self._progress.update(self._line, description=describe(event), name=event.task)
        if known is not None:
            self._progress.update(self._line, total=100, completed=known)

    def paused(self) -> AbstractContextManager[None]:
        return paused(self._progress.live)
