"""Patches: whether two patches of one base collide, and what a merge of both is (spec PATCH).

The patch of a text is a unified diff, the patch of data a JSON Patch (RFC 6902). Two diffs collide if their hunks
overlap, context included: neither applies to what the other has made. Two that collide only in context are merged. This
reads what agents wrote, so it runs as a job, inside limits, and its answer is recorded; nothing here is called while a
decision is made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ...protocol.canonical import canonical
from .comparators import Incomparable, artifacts_of

__all__ = ["CHANGES_MAX", "DIFF", "JSON_PATCH", "Overlap", "merge_patches", "overlap", "run", "told_where"]

DIFF = "text/x-diff"
JSON_PATCH = "application/json-patch+json"
CHANGES_MAX = 500
"""Hunks of one diff, and operations of one JSON Patch. Each is compared with each one of the other patch."""

Span = tuple[int, int, tuple[str, ...]]
"""(first line, line after the last, replacement lines), lines of the base counted from 0."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """A job: does a result patch what another has patched, in the same place?"""

    task: str
    other: str
    """The task whose result was reported earlier."""
    one: bytes
    two: bytes


def run(job: Overlap, *, loosely: bool = False) -> tuple[int, str]:
    """Do a job, and return 1 if they collide, 0 if they do not, -1 if nobody can say; and why.

    Args:
        job: the job.
        loosely: read diffs as earlier versions did: a carriage return at the end of a line is part of a file's name.
    """
    try:
        where = overlap(job.two, job.one, loosely=loosely)
    except (Incomparable, ValueError) as reason:  # a number or a text in it may have no value, or no canonical form
        return -1, str(reason)
    return (1, f"both change {where}") if where else (0, "nothing that both change")


def overlap(one: bytes, two: bytes, *, loosely: bool = False) -> str:
    """Return the place where two results collide, or an empty text.

    Raises:
        Incomparable: a patch is not what its media type says, or is beyond the limits.
    """
    others = _patches(two, loosely=loosely)
    for name, patch in _patches(one, loosely=loosely).items():
        other = others.get(name)
        if other is not None and (where := patch.meets(other)):
            return f"{where} of {name[0]}"
    return ""


def merge_patches(one: bytes, two: bytes, *, loosely: bool = False) -> bytes:
    """Return the result with the changes of both, in canonical form. The order of the two does not matter.

    Args:
        one: a result that patches something.
        two: another one.
        loosely: as in `run`; also skip lines after a hunk that the hunk does not count.

    Raises:
        Incomparable: both change the same place, or they are not patches only.
    """
    mine, others = (_patches(result, alone=True, loosely=loosely) for result in (one, two))
    artifacts = []
    for number, name in enumerate(sorted({*mine, *others}), 1):
        both = [found[name] for found in (mine, others) if name in found]
        merged = both[0].part() if len(both) == 1 else both[0].merged_with(both[1])
        patch = {"of": name[0], "base": name[1]}
        artifacts.append({"artifactId": f"patch-{number}", "metadata": {"patch": patch}, "parts": [merged]})
    return canonical(artifacts)


def _patches(
    payload: bytes, *, alone: bool = False, loosely: bool = False
) -> dict[tuple[str, str], _Diff | _JsonPatch]:
    """Return the patches of a result by object and base. With `alone`, the result must contain nothing else."""
    found: dict[tuple[str, str], _Diff | _JsonPatch] = {}
    for artifact in artifacts_of(payload):
        metadata = artifact.get("metadata") if isinstance(artifact, dict) else None
        patch = metadata.get("patch") if isinstance(metadata, dict) else None
        parts = artifact.get("parts") if isinstance(artifact, dict) else None
        if not isinstance(patch, dict):
            if alone:
                raise Incomparable("a result that is more than patches is not merged")
            continue
        name = patch.get("of"), patch.get("base")
        if not isinstance(name[0], str) or not isinstance(name[1], str) or (name[0], name[1]) in found:
            raise Incomparable("a patch names what it is of and its base, in one artifact of a result")
        if not isinstance(parts, list) or len(parts) != 1 or not isinstance(parts[0], dict):
            raise Incomparable(f"the patch of {name[0]} is an artifact with one part")
        found[name[0], name[1]] = _patch(parts[0], name[0], alone=alone, loosely=loosely)
    return found


def _patch(part: dict[str, Any], of: str, *, alone: bool, loosely: bool) -> _Diff | _JsonPatch:
    kind = part.get("mediaType")
    if kind == DIFF and isinstance(part.get("text"), str):
        return _Diff.read(part["text"], is_whole=alone and not loosely, loosely=loosely)
    if kind == JSON_PATCH and isinstance(part.get("data"), list):
        return _JsonPatch.read(part["data"])
    raise Incomparable(f"the patch of {of} is a text of {DIFF}, or data of {JSON_PATCH}")


# Texts ----------------------------------------------------------------------------------------------------------------

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_NO_FILE = "/dev/null"
_SIGNS = (" ", "-", "+")
_BLANK = ("", "\r")
"""An empty line of context that has lost its leading space: editors strip it, and `diff` can be told to."""
_SIGNATURE = "-- "
"""The line that ends a patch in a mail."""
_BEYOND = ("rename ", "copy ", "GIT binary patch", "Binary files ", "old mode ", "new mode ")
"""What a diff may say that its lines do not show."""


@dataclass(slots=True)
class _Hunk:
    """Some lines of the base that a diff shows, and what becomes of them."""

    begin: int
    lines: list[tuple[str, str]]
    """(` `, `-` or `+`; the line)."""

    @property
    def end(self) -> int:
        return self.begin + sum(sign != "+" for sign, _ in self.lines)

    def changes(self) -> Iterator[Span]:
        """Yield each run of lines that are not context."""
        at, begin = self.begin, -1
        new: list[str] = []
        for sign, line in [*self.lines, (" ", "")]:
            if sign == " ":
                if begin >= 0:
                    yield begin, at, tuple(new)
                at, new, begin = at + 1, [], -1
                continue
            begin = at if begin < 0 else begin
            if sign == "+":
                new.append(line)
            else:
                at += 1


@dataclass(slots=True)
class _File:
    """What a diff does to one file."""

    names: tuple[str, str]
    """As the lines `---` and `+++` name it."""
    hunks: list[_Hunk] = field(default_factory=list)

    def old_lines(self) -> dict[int, str]:
        """Return the lines of the base that are shown."""
        found: dict[int, str] = {}
        for hunk in self.hunks:
            kept = [line for sign, line in hunk.lines if sign != "+"]
            found.update(enumerate(kept, hunk.begin))
        return found


@dataclass(slots=True)
class _Diff:
    files: dict[str, _File]

    @classmethod
    def read(cls, text: str, *, is_whole: bool, loosely: bool) -> _Diff:
        """Read a diff. With `is_whole` nothing may be lost: no hunk has more lines than it says."""
        diff, lines, count = cls({}), text.split("\n"), 0
        file: _File | None = None
        at, is_behind = 0, False
        while at < len(lines):
            line = lines[at]
            if line.startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ "):
                file = diff._begin(*(head if loosely else head.removesuffix("\r") for head in lines[at : at + 2]))
                at += 2
                is_behind = False
            elif (opened := _HUNK.match(line)) is not None and file is not None:
                count += 1
                at = _read_hunk(file, opened, lines, at + 1)
                is_behind = is_whole
            elif line.startswith(_BEYOND):
                raise Incomparable(f"a diff that says {line[:40]!r} is not compared")
            elif is_behind and line[:1] in _SIGNS and line.rstrip("\r") != _SIGNATURE:
                raise Incomparable(f"the hunk before {line[:40]!r} has more lines than it says")
            else:
                at += 1
                is_behind = is_behind and line in _BLANK
        if not count or count > CHANGES_MAX:
            raise Incomparable(f"a diff has 1 to {CHANGES_MAX} hunks, this one {count}")
        return diff

    def _begin(self, old: str, new: str) -> _File:
        names = (old[4:].partition("\t")[0], new[4:].partition("\t")[0])
        shown = names[0] if names[1] == _NO_FILE else names[1]
        name = shown[2:] if shown.startswith(("a/", "b/")) else shown
        if name in self.files:
            raise Incomparable(f"a diff changes {name} in one place, this one in two")
        self.files[name] = _File(names)
        return self.files[name]

    def meets(self, other: _Diff | _JsonPatch) -> str:
        if not isinstance(other, _Diff):
            return "the whole"
        for name, file in self.files.items():
            theirs = other.files.get(name)
            for one in file.hunks:
                for two in theirs.hunks if theirs is not None else ():
                    if one != two and _touch(one.begin, one.end, two.begin, two.end):
                        return f"lines {max(one.begin, two.begin) + 1} on of {name}"
        return ""

    def part(self) -> dict[str, Any]:
        return {"mediaType": DIFF, "text": "".join(_written(name, file) for name, file in sorted(self.files.items()))}

    def merged_with(self, other: _Diff | _JsonPatch) -> dict[str, Any]:
        if not isinstance(other, _Diff):
            raise Incomparable("a diff and a JSON Patch are not merged")
        both = dict(self.files)
        for name, theirs in other.files.items():
            both[name] = _merged(name, both[name], theirs) if name in both else theirs
        return _Diff(both).part()


def _read_hunk(file: _File, opened: re.Match[str], lines: list[str], at: int) -> int:
    """Read the lines of a hunk, and return the index after them."""
    olds, news = int(opened[2] or 1), int(opened[3] or 1)
    hunk = _Hunk(int(opened[1]) - (olds > 0), [])
    while at < len(lines) and (olds > 0 or news > 0):
        is_blank = lines[at] in _BLANK and at < len(lines) - 1 and olds > 0 and news > 0
        line = f" {lines[at]}" if is_blank else lines[at]
        if line[:1] not in _SIGNS:
            break
        sign = line[0]
        hunk.lines.append((sign, line[1:]))
        olds, news = olds - (sign != "+"), news - (sign != "-")
        at += 1
        if at < len(lines) and lines[at].startswith("\\"):
            sign, line = hunk.lines[-1]
            hunk.lines[-1] = (sign, f"{line}\n{lines[at]}")
            at += 1
    is_behind = bool(file.hunks) and hunk.begin < file.hunks[-1].end
    if hunk.begin < 0 or olds or news or is_behind or not hunk.lines:
        raise Incomparable(f"a hunk that begins with {opened[0]} has other lines than it says")
    file.hunks.append(hunk)
    return at


def _touch(begin: int, end: int, first: int, last: int) -> bool:
    """Tell whether two spans of lines overlap. An empty span overlaps one that it lies inside of or at the edge of."""
    if begin == end or first == last:
        return begin <= last and first <= end
    return max(begin, first) < min(end, last)


def told_where(end: int, begin: int, of: str) -> str:
    """Describe where two changes meet. One ends before line `end`, the other starts at line `begin`, counted from 0."""
    how = "both have changed" if begin < end else "the changes of both meet at"
    return f"{how} line {begin + 1} of {of}"


def _merged(name: str, one: _File, two: _File) -> _File:
    """Return what both do to a file, with every line that either shows."""
    if one.names != two.names:
        raise Incomparable(f"one makes or removes {name}, and the other does not")
    shown, theirs = one.old_lines(), two.old_lines()
    if any(shown.get(at, line) != line for at, line in theirs.items()):
        raise Incomparable(f"they show different lines of {name}: their base is not the same")
    shown |= theirs
    changes = sorted({change for file in (one, two) for hunk in file.hunks for change in hunk.changes()})
    for before, after in pairwise(changes):
        if after[0] <= before[1]:
            raise Incomparable(told_where(before[1], after[0], name))
    inserted = {begin: new for begin, end, new in changes if begin == end}
    removed = {line for begin, end, _ in changes for line in range(begin, end)}
    instead = {end - 1: new for begin, end, new in changes if begin < end}
    merged = _File(one.names)
    at = -1
    for line in sorted({*shown, *inserted}):
        if line != at:
            merged.hunks.append(_Hunk(line, []))
        lines = merged.hunks[-1].lines
        lines.extend(("+", text) for text in inserted.get(line, ()))
        at = line
        if line in shown:
            lines.append(("-" if line in removed else " ", shown[line]))
            lines.extend(("+", text) for text in instead.get(line, ()))
            at = line + 1
    return merged


def _written(name: str, file: _File) -> str:
    lines, shift = [f"--- {file.names[0]}", f"+++ {file.names[1]}"], 0
    for hunk in file.hunks:
        olds = hunk.end - hunk.begin
        news = sum(sign != "-" for sign, _ in hunk.lines)
        old, new = hunk.begin + (olds > 0), hunk.begin + shift + (news > 0)
        lines.append(f"@@ -{old},{olds} +{new},{news} @@")
        lines.extend(sign + line for sign, line in hunk.lines)
        shift += news - olds
    return "\n".join(lines) + "\n"


# Data -----------------------------------------------------------------------------------------------------------------

_OPERATIONS = {"add": 1, "remove": 1, "replace": 1, "move": 2, "copy": 2, "test": 1}
"""Operation to the number of places it names."""


@dataclass(frozen=True, slots=True)
class _Touched:
    """A place that an operation reads or changes."""

    steps: tuple[str, ...]
    is_written: bool
    shifts: bool
    """Whether it may add or remove an item of a list, which moves the items after it."""

    def meets(self, other: _Touched) -> bool:
        if not self.is_written and not other.is_written:
            return False
        common = min(len(self.steps), len(other.steps))
        if self.steps[:common] == other.steps[:common]:
            return True
        return self.moves(other) or other.moves(self)

    def moves(self, other: _Touched) -> bool:
        above = len(self.steps) - 1
        is_beside = self.shifts and len(other.steps) > above and other.steps[:above] == self.steps[:above]
        return is_beside and _is_item(other.steps[above])


@dataclass(slots=True)
class _JsonPatch:
    operations: list[dict[str, Any]]
    touched: list[list[_Touched]]

    @classmethod
    def read(cls, operations: list[Any]) -> _JsonPatch:
        if not 0 < len(operations) <= CHANGES_MAX:
            raise Incomparable(f"a JSON Patch has 1 to {CHANGES_MAX} operations, this one {len(operations)}")
        return cls(operations, [list(_touched(operation)) for operation in operations])

    def meets(self, other: _Diff | _JsonPatch) -> str:
        if not isinstance(other, _JsonPatch):
            return "the whole"
        for number, mine in enumerate(self.touched):
            for at, theirs in enumerate(other.touched):
                if any(one.meets(two) for one in mine for two in theirs):
                    if canonical(self.operations[number]) == canonical(other.operations[at]):
                        continue
                    return str(self.operations[number]["path"]) or "all"
        return ""

    def part(self) -> dict[str, Any]:
        return {"mediaType": JSON_PATCH, "data": self.operations}

    def merged_with(self, other: _Diff | _JsonPatch) -> dict[str, Any]:
        where = self.meets(other)
        if where or not isinstance(other, _JsonPatch):
            raise Incomparable(f"both have changed {where}")
        known = {canonical(operation) for operation in self.operations}
        rest = [operation for operation in other.operations if canonical(operation) not in known]
        one, two = sorted((self.operations, rest), key=canonical)
        return {"mediaType": JSON_PATCH, "data": [*one, *two]}


def _touched(operation: Any) -> Iterator[_Touched]:
    kind = operation.get("op") if isinstance(operation, dict) else None
    places = _OPERATIONS.get(kind) if isinstance(kind, str) else None
    if places is None:
        raise Incomparable("an operation of a JSON Patch is one of " + ", ".join(_OPERATIONS))
    for field_name in ("path", "from")[:places]:
        pointer = operation.get(field_name)
        if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
            raise Incomparable(f"{kind}: expected a JSON Pointer as {field_name}")
        steps = tuple(step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:])
        is_read = kind == "test" or (kind == "copy" and field_name == "from")
        shifts = not is_read and kind != "replace" and bool(steps) and _is_item(steps[-1])
        yield _Touched(steps, not is_read, shifts)


def _is_item(step: str) -> bool:
    return step == "-" or step.isdecimal()
