"""What a run shows while it is under way: the tree of its tasks, and the story that its leading agent tells.

The tree comes from the coordinator's tasks of one context; the story comes as chunks of an artifact, each `{kind, who,
what}`. With `rich` installed and a terminal, the tree moves below the story. Otherwise each part of the story is a
line, and progress is shown when it changes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import click

from ..delegator import TaskEvent
from .options import retyped
from .output import Output, escape, is_terminal, paused, uses_color
from .story import ENDED, describe, duration, event_record

__all__ = ["Board", "Display", "display", "story_line"]

STORY = "story"
PERSON = "person"
"""The kind of a line about something that waits for a person: never hidden, and it ends with the command to type."""
WORDS = {
    "work": "works on {what}",
    "plan": "understands: {what}",
    "found": "{what}",
    "evidence": "{what}",
    "refused": "contradicted by evidence: {what}",
    "unused": "not taken: {what}",
    "conflict": "contradict each other: {what}",
    "judged": "decides: {what}",
    "reviewed": "says: {what}",
    "lost": "was {what}",
    "retry": "{what}",
    "failed": "failed: {what}",
    "feedback": "says: {what}",
    "patch": "wrote the patch to {what}",
    "deployed": "made commit {what}",
    "person": "{what}",
}
COLORS = {
    "refused": "red", "conflict": "yellow", "lost": "yellow", "retry": "yellow", "failed": "red", "evidence": "yellow",
    "judged": "green", "deployed": "green", "person": "yellow",
}  # fmt: skip
SIGNS = {"completed": "✓", "failed": "✗", "rejected": "✗", "canceled": "-", "parked": "?", "queued": "…"}
NOTES_EVERY = 2.0
"""Seconds between two lines about the same thing, when lines stay."""


class Board:
    """All tasks of a context, as the coordinator last showed them."""

    def __init__(self) -> None:
        self.tasks: dict[str, dict[str, Any]] = {}

    def update(self, tasks: list[dict[str, Any]]) -> None:
        """Take over the coordinator's view of tasks, in any order."""
        for task in tasks:
            self.tasks[task["id"]] = task

    def lines(self, now: float) -> Iterator[tuple[str, str]]:
        """Yield (state, line) for each task, a parent before its sub-tasks; without ended ones below the second level.

        Args:
            now: seconds since the epoch, by the coordinator's clock as far as ours agrees with it.
        """
        roots = [task for task in self.tasks.values() if task["metadata"].get("parent") not in self.tasks]
        for root in sorted(roots, key=_created):
            yield from self._below(root, 0, now)

    def _below(self, task: dict[str, Any], depth: int, now: float) -> Iterator[tuple[str, str]]:
        state = task["metadata"]["state"]
        if depth > 1 and state in ENDED:
            return
        yield state, _row(task, depth, now)
        children = [child for child in self.tasks.values() if child["metadata"].get("parent") == task["id"]]
        for child in sorted(children, key=_created):
            yield from self._below(child, depth + 1, now)


def _created(task: dict[str, Any]) -> tuple[str, str]:
    return task["metadata"]["createdAt"], task["id"]


def _row(task: dict[str, Any], depth: int, now: float) -> str:
    metadata = task["metadata"]
    state = metadata["state"]
    ended = _seconds(task["status"]["timestamp"]) if state in ENDED else now
    took = max(0.0, ended - _seconds(metadata["createdAt"]))
    parts = [
        f"{'  ' * depth}{SIGNS.get(state, '●')} {metadata['skill']}".ljust(24),
        str(metadata.get("agent") or "nobody yet").ljust(18),
        duration(took).rjust(9),
    ]
    progress = metadata.get("progress") or {}
    if state == "parked":
        parts.append("waits for an answer")
    elif state not in ENDED:
        share = progress.get("progressBp")
        parts.append(" ".join(filter(None, ["" if share is None else f"{share / 100:.0f} %", progress.get("note")])))
    losses = metadata.get("counters", {}).get("losses", 0)
    if losses:
        parts.append(f"({losses} lost)")
    return escape("  ".join(part for part in parts if part))


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def story_line(value: Any) -> tuple[str, str] | None:
    """Return (kind, line) for a chunk of the story; None if it is not one."""
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        return None
    kind, who, what = value["kind"], str(value.get("who", "")), str(value.get("what", ""))
    words = WORDS.get(kind, "{what}").replace("{what}", what)
    return kind, escape(f"{who:<16} {words}")


class Display:
    """Writes the story to stderr, a line each; progress now and then, when it changes."""

    def __init__(self, out: Output, at: str = "") -> None:
        self.out = out
        self.at = at
        """The options with which a command reaches the coordinator; see `Connection.options`."""
        self.board = Board()
        self.patch = ""
        """The file of the patch that is to be decided on."""
        self._began = time.monotonic()
        self._told: set[str] = set()
        self._noted = ("", 0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def happened(self, event: TaskEvent) -> None:
        """Show one event of the root task."""
        if event.kind == "artifact" and event.data.get("name") == STORY:
            if isinstance(event.value, dict) and event.value.get("kind") == "patch":
                self.patch = str(event.value.get("what", ""))
            told = story_line(event.value)
            # After a crash, the leading agent's next attempt tells its story from the beginning.
            if told is not None and told[1] not in self._told:
                self._told.add(told[1])
                kind, line = told
                self.say(kind, line + self.at if kind == PERSON else retyped(line, self.at))
        elif event.kind == "progress":
            self.progressed(event)
        elif event.kind in ("grant", "offer", "accept", "expire", "withdraw", "release", "revive", "answer"):
            self.say(event.kind, f"{(event.agent or 'lead'):<16} {describe(event)}")

    def progressed(self, event: TaskEvent) -> None:
        """Show the current progress."""
        last, at = self._noted
        now = time.monotonic()
        if event.note and event.note != last and now - at >= NOTES_EVERY:
            self._noted = (event.note, now)
            self.say("progress", escape(f"{'':<16} {event.note}"))

    def say(self, kind: str, line: str) -> None:
        """Write one line that stays."""
        stamped = f"{time.monotonic() - self._began:7.1f} s  {line}"
        if kind == PERSON:
            self.out.need_person(stamped)
        elif kind in COLORS and uses_color(sys.stderr) and not self.out.is_quiet:
            click.echo(click.style(stamped, fg=COLORS[kind]), err=True)
        else:
            self.out.note(stamped)

    def refreshed(self) -> None:
        """Note that the board has changed."""

    def paused(self) -> AbstractContextManager[None]:
        """Release the terminal inside the block."""
        return nullcontext()


class _Records(Display):
    """Writes each event as a JSON object on stdout."""

    def happened(self, event: TaskEvent) -> None:
        self.out.record(event_record(event))


class _Live(Display):
    """Writes the story in lines, with the moving tree below."""

    def __init__(self, out: Output, at: str = "") -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__(out, at)
        self._console = Console(stderr=True, markup=False, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True, get_renderable=self._render)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def progressed(self, event: TaskEvent) -> None:
        """Do nothing: the tree shows progress."""

    def say(self, kind: str, line: str) -> None:
        stamped = f"{time.monotonic() - self._began:7.1f} s  {line}"
        self._console.print(stamped, style=COLORS.get(kind, ""), soft_wrap=True)

    def refreshed(self) -> None:
        self._live.refresh()

    def paused(self) -> AbstractContextManager[None]:
        return paused(self._live)

    def _render(self) -> Any:
        from rich.text import Text

        styles = {"completed": "dim green", "failed": "red", "leased": "bold", "parked": "magenta"}
        text = Text(no_wrap=True, overflow="ellipsis")
        for state, line in self.board.lines(time.time()):
            text.append(line + "\n", style=styles.get(state, ""))
        return text


def display(out: Output, at: str = "") -> Display:
    """Return what fits: JSON lines, a moving tree if `rich` is installed and stderr is a terminal, else lines.

    Args:
        at: the options with which a command reaches the coordinator; see `Connection.options`.
    """
    if out.as_json:
        return _Records(out, at)
    if not out.is_quiet and is_terminal(sys.stderr):
        try:
            return _Live(out, at)
        except ImportError:
            pass  # rich is an extra
    return Display(out, at)
