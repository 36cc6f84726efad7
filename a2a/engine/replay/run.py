"""Runs decisions again: each recorded decision is made anew from the state before it, and compared.

It knows no file; `a2a replay` does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from ...protocol.canonical import content_hash
from ..conflicts.asking import as_it_came
from ..records import (
    Asked,
    ConflictOpened,
    ContextWritten,
    Declined,
    Delegated,
    LeaseExpired,
    Record,
    Reported,
    Settled,
)
from . import agents, archive, conflicts, sharing, tasks
from .past import NotAllowedError, Past, Rule

__all__ = ["RULES", "Difference", "Replay"]

RULES: dict[type[Record], Rule] = {
    **agents.RULES,
    **tasks.RULES,
    **conflicts.RULES,
    **sharing.RULES,
    **archive.RULES,
}
"""Every type of record, and the rule that runs it again."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first record that differs from what was expected."""

    lsn: int
    stands: Record
    expected: str


class Replay(Past):
    """A fold that runs every decision again.

    Args:
        namespace: the namespace with which the ledger's task ids begin.
    """

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace)
        self.decisions = 0
        """Decisions run again so far."""

    def run(self, records: Iterable[Record]) -> Difference | None:
        """Fold the records, and return the first that differs, or None."""
        rest = iter(records)
        ahead: deque[Record] = deque()
        while _fill(ahead, rest, 1):
            record = ahead[0]
            try:
                decisions = RULES[type(record)](self, record)
            except NotAllowedError as error:
                return Difference(self.ledger.lsn + 1, record, str(error))
            except (KeyError, ValueError, AssertionError) as error:
                return Difference(self.ledger.lsn + 1, record, f"a state it fits, there is none: {error!r}")
            finally:
                self.forget_volatile()
            longest = max((len(decision) for decision in decisions), default=0)
            _fill(ahead, rest, longest)
            fitting = [decision for decision in decisions if decision and _is_same(decision, ahead)]
            if not fitting:
                return self._difference(decisions, ahead)
            for _ in range(max(map(len, fitting))):
                applied = ahead.popleft()
                try:
                    self.apply(applied)
                except (KeyError, ValueError, AssertionError) as error:
                    return Difference(self.ledger.lsn + 1, applied, f"a record that fits the state: {error!r}")
            self.decisions += 1
        return None

    def _difference(self, decisions: list[list[Record]], ahead: deque[Record]) -> Difference:
        """Name the first record that no decision explains, by the decision that explains most records."""
        best, expected = -1, "no record"
        for decision in decisions:
            same = next(
                (
                    number
                    for number, (record, stands) in enumerate(zip(decision, ahead, strict=False))
                    if not _is_same([record], [stands])
                ),
                min(len(decision), len(ahead)),
            )
            if same > best and same < len(decision):
                best, expected = same, repr(decision[same])
        position = max(best, 0)
        stands = ahead[position] if position < len(ahead) else ahead[-1]
        return Difference(self.ledger.lsn + 1 + position, stands, expected)


def _fill(ahead: deque[Record], rest: Iterator[Record], count: int) -> bool:
    ahead.extend(islice(rest, max(0, count - len(ahead))))
    return len(ahead) >= count


def _is_same(decision: list[Record], stands: Iterable[Record]) -> bool:
    found = list(islice(stands, len(decision)))
    return len(found) == len(decision) and all(
        _known(record, other) == other for record, other in zip(decision, found, strict=True)
    )


def _known(record: Record, stands: Record) -> Record:
    """Return the record with those values of the recorded one that do not follow from earlier records.

    These are the pause before another attempt, whose bounds are settings, and what heartbeats have told. Also a
    question about answers: earlier versions embedded answers that are not JSON unchanged, and did not look whether
    somebody had written to the context of a task that asks. And who delegated an author's task: earlier versions did
    not record that.
    """
    if isinstance(record, Delegated) and isinstance(stands, Delegated) and record.scope.startswith("conflict:"):
        was_taken = record.context_id.startswith(f"{stands.context_id}-")
        record = replace(record, context_id=stands.context_id) if was_taken else record
    if isinstance(record, Delegated) and isinstance(stands, Delegated) and record.payload != stands.payload:
        payload = as_it_came(record.payload) if record.scope.startswith(("conflict:", "compare:")) else record.payload
        return replace(record, payload=payload, spec_hash=content_hash(record.spec, payload))
    if isinstance(record, Reported) and isinstance(stands, Reported) and record.outcome == "failed":
        paused = record.retry_at is not None and stands.retry_at is not None and stands.retry_at >= stands.at
        return replace(record, retry_at=stands.retry_at) if paused else record
    if isinstance(record, LeaseExpired) and isinstance(stands, LeaseExpired):
        return replace(record, progress_no=stands.progress_no, note=stands.note, usage=stands.usage)
    if isinstance(record, Settled | Declined | Asked) and isinstance(stands, type(record)):
        return replace(record, usage=stands.usage)
    if isinstance(record, ContextWritten) and isinstance(stands, ContextWritten) and stands.delegators is None:
        return replace(record, delegators=None)
    if isinstance(record, ConflictOpened) and isinstance(stands, ConflictOpened):
        return replace(record, candidates=_as_known(record.candidates, stands.candidates))
    return record


def _as_known(found: list[dict[str, Any]] | None, stand: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    if found is None or stand is None or len(found) != len(stand):
        return found
    return [
        {name: value for name, value in one.items() if name in known or name != "delegators"}
        for one, known in zip(found, stand, strict=True)
    ]
