"""The story of a run, for a person to read: who did what, when, one line each."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from a2a.engine.records import Record
from a2a.protocol.codec import BadFrame, Frame
from a2a.protocol.messages import Message

__all__ = ["Timeline", "brief"]


class Timeline:
    """Lines of (time, who, what)."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, now: int, who: str, what: str) -> None:
        """Write one line."""
        self.lines.append(f"{now / 1000:11.3f}  {who:<14} {what}")

    def write(self, path: Path, heading: str) -> None:
        """Write the story into a file."""
        path.write_text("\n".join([heading, "", *self.lines, ""]))


def brief(thing: Frame | BadFrame | Message | Record) -> str:
    """Return a frame, a message or a record in one line, without empty or long fields."""
    if isinstance(thing, BadFrame):
        return f"UNREADABLE {thing.code}: {thing.detail}"
    if isinstance(thing, Frame):
        place = f" #{thing.mseq}" if thing.mseq is not None else ""
        return f"{brief(thing.message)}{place} ({thing.id}{f' re {thing.re}' if thing.re else ''})"
    name = thing.kind if isinstance(thing, Message) else type(thing).__name__
    shown = []
    for item in fields(thing):  # type: ignore[arg-type]
        value = getattr(thing, item.name)
        if value in (None, "", [], {}) or item.name in _LONG:
            continue
        shown.append(f"{item.name}={_short(value)}")
    return f"{name} {' '.join(shown)}"


_LONG = frozenset({"card", "limits", "durations", "bounds", "spec_hash", "context_id", "at"})


def _short(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str) and value.startswith("sha256:"):
        return value[7:15]
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
