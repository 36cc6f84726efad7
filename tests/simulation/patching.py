"""Results that patch the same things, in a world: who makes them, and what must hold when they collide.

Drawn separately, in some of the worlds with quarrels. Each patch changes one line of one file and shows the line before
and the line after it, so that collisions can be told without the engine's code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from a2a.engine.records import (
    ConflictOpened,
    ConflictResolved,
    GroupDecided,
    PatchesCompared,
    Reported,
    Reworked,
    Settled,
)
from a2a.engine.work import Attempt
from a2a.protocol.messages import PatchRef

from .court import Cause, Court, LifeChecker
from .profiles import Profile
from .world import World

if TYPE_CHECKING:
    from .town import Town

__all__ = ["PATCHING", "PatchesCollide", "draw_patching", "is_merged", "patch_of"]

_LINES = 8
_KEPT = 16
"""Results of one base that a new one is compared with, itself included (PATCH-2)."""


def _patches(world: World) -> bool:
    return world.chance("patching").random() < 0.4


def draw_patching(world: World, profile: Profile, ladder: tuple[dict[str, Any], ...]) -> None:
    """Set a ladder for conflicts about patches, in worlds that have patches."""
    if _patches(world):
        profile.policy = replace(profile.policy, ladders={**profile.policy.ladders, "artifact": ladder})


def patch_of(town: Town, attempt: Attempt, what: str) -> bytes | None:
    """Return an attempt's result if it is a patch, or None; `what` tells it from other results."""
    if town.quarrels is None or not _patches(town.world):
        return None
    chance = town.world.chance("patch", what)
    if chance.random() < 0.4:
        return None
    line, base, new = chance.randint(2, _LINES), chance.choice(("r1", "r1", "r2")), chance.choice("xyz")
    attempt.patches = [PatchRef("repo", base)]
    hunk = f"@@ -{line - 1},3 +{line - 1},3 @@\n old {line - 1}\n-old {line}\n+{new}\n old {line + 1}\n"
    part = {"mediaType": "text/x-diff", "text": f"--- a/f\n+++ b/f\n{hunk}"}
    if chance.random() < 0.1:
        part["text"] = "no diff"
    artifact = {"artifactId": "patch", "metadata": {"patch": {"of": "repo", "base": base}}, "parts": [part]}
    return json.dumps([artifact]).encode()


def is_merged(payload: bytes, candidates: list[dict[str, Any]]) -> bool:
    """Whether a patch has the changes of two, and nothing else."""
    (artifact,) = json.loads(payload)
    said = {known["digest"]: json.loads(known["payload"])[0] for known in candidates}
    texts = [one["parts"][0]["text"].split("@@\n")[1] for one in said.values()]
    changes = sorted(line for text in texts for line in text.split("\n") if line.startswith(("-", "+")))
    merged = artifact["parts"][0]["text"].partition("@@ -")[2]
    shown = sorted(line for line in merged.split("\n") if line.startswith(("-", "+")))
    first, last = (int(text.partition("-old ")[2].partition("\n")[0]) for text in texts)
    is_same = all(one["metadata"] == artifact["metadata"] for one in said.values())
    return is_same and changes == shown and abs(first - last) == 2


@dataclass(slots=True)
class _Patch:
    context: str
    base: str
    hunk: str
    line: int | None
    """0: it cannot be read; None: the result says that it patches something, but has no patch."""
    waits: list[str]
    """The results it has not been compared with yet."""
    collides: list[str] = field(default_factory=list)
    is_due: bool = False
    """A conflict has to say so."""

    def expected(self, other: _Patch) -> int:
        if 0 in (self.line, other.line):
            return -1
        if self.line is None or other.line is None:
            return 0
        return int(self.hunk != other.hunk and abs(self.line - other.line) <= 2)


class PatchesCollide(LifeChecker):
    """A result that patches something is compared with each standing patch of the same, and a conflict names exactly
    those that it collides with (PATCH-2, PATCH-3).
    """

    name = "PATCH-3"
    records = (Reported, GroupDecided, Reworked, Settled, ConflictResolved, PatchesCompared, ConflictOpened)

    def __init__(self, court: Court) -> None:
        super().__init__(court)
        self._known: dict[str, _Patch] = {}

    def starting(self) -> None:
        self._known.clear()
        for record in self.court.log:
            if isinstance(record, self.records):
                self._fold(record)
        for patch in self._known.values():
            patch.is_due = False  # why none opened then is no longer known

    def before(self, record: Any, lsn: int, cause: Cause) -> None:
        if isinstance(record, PatchesCompared):
            patch = self._known.get(record.task)
            self.hold(patch is not None, f"{record.task} is held against {record.other}, and patches nothing")
            assert patch is not None, "just seen"
            self.hold(record.other in patch.waits, f"{record.task} is held against {record.other}, not {patch.waits}")
            expected = patch.expected(self._known[record.other])
            given_up = record.number < 0 and cause.kind == "job"
            self.hold(record.number == expected or given_up, f"{record} comes to {record.number}, not {expected}")
        elif isinstance(record, ConflictOpened) and record.rule == "a1":
            task = record.object.removeprefix("task:")
            *others, last = [known["ref"] for known in record.candidates or ()]
            patch = self._known[task]
            self.hold(not patch.waits, f"{record.conflict} opens, {task} was not held against {patch.waits}")
            self.hold((last, set(others)) == (task, set(patch.collides)), f"{others} are named, not {patch.collides}")
            waits = [ref for ref in (*others, last) if self.model.tasks[ref].state == "reported"]
            self.hold(waits == record.blocks, f"{waits} wait for a word, {record.blocks} are held up")

    def after(self, record: Any, lsn: int, cause: Cause) -> None:
        self._fold(record)
        patch = self._known.get(record.task) if isinstance(record, PatchesCompared) else None
        if patch is not None and not patch.waits and patch.collides:
            disputed = [one for one in (*patch.collides, record.task) if self.model.disputing(one) is not None]
            about = [one for one in self.model.rulings.values() if one.object == f"task:{record.task}"]
            patch.is_due = not disputed and not about

    def _fold(self, record: Any) -> None:
        if isinstance(record, Reported):
            self._reported(record)
        elif isinstance(record, Reworked) or (isinstance(record, Settled) and record.state != "completed"):
            self._drop(record.task)
        elif isinstance(record, ConflictResolved):
            ruling = self.model.rulings[record.conflict]
            digests = {known["ref"]: known["digest"] for known in ruling.candidates}
            for task in ruling.blocks if record.outcome != "moot" else ():
                is_chosen = record.outcome == "select" and digests[task] == digests[record.ref or ""]
                if not is_chosen:
                    self._drop(task)
        elif isinstance(record, PatchesCompared):
            patch = self._known[record.task]
            patch.waits.remove(record.other)
            if record.number > 0:
                patch.collides.append(record.other)
        elif isinstance(record, ConflictOpened) and record.rule == "a1":
            patch = self._known[record.object.removeprefix("task:")]
            patch.collides, patch.is_due = [], False

    def _reported(self, record: Reported) -> None:
        above = self._above(record.task)
        asked_here = any(self.model.tasks[task].scope.startswith(("group:", "conflict:", "compare:")) for task in above)
        if record.outcome != "completed" or not record.patches or asked_here:
            return
        self._drop(record.task)
        (named,) = record.patches
        artifact = json.loads(record.payload)[0]
        text = artifact["parts"][0]["text"]
        shown = int(text.split("@@ -")[1].split(",")[0]) + 1 if "@@ -" in text else 0
        line = shown if "metadata" in artifact else None
        context = self.model.tasks[record.task].context_id
        beside = [
            task for task, known in self._known.items() if (known.context, known.base) == (context, named["base"])
        ]
        for task in beside[: max(0, len(beside) - _KEPT + 1)]:
            self._drop(task)
        waits = [
            task
            for task in beside
            if task in self._known and task not in above and record.task not in self._above(task)
        ]
        self._known[record.task] = _Patch(context, named["base"], text, line, waits)

    def _above(self, task: str | None) -> list[str]:
        found = []
        while task in self.model.tasks:
            found.append(task or "")
            task = self.model.tasks[task or ""].parent
        return found

    def _drop(self, task: str) -> None:
        self._known.pop(task, None)
        for patch in self._known.values():
            patch.waits = [other for other in patch.waits if other != task]
            patch.collides = [other for other in patch.collides if other != task]
            patch.is_due = patch.is_due and bool(patch.collides)

    def look(self, now: int) -> None:
        for task, patch in self._known.items():
            self.hold(not patch.is_due, f"{task} collides with {patch.collides}, and no conflict says so")

    def unfinished(self) -> str | None:
        if not self.court.policy.ladder_for("artifact"):
            return None
        return next(
            (f"{task} was not held against {one.waits}" for task, one in self._known.items() if one.waits), None
        )


PATCHING = (PatchesCollide,)
