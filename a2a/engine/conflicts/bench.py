"""What is read off the loop for conflicts: the kinds of job there are, and what each comes to.

A job reads what agents wrote, inside limits; the shell has it done by a worker that can be killed, and hands its answer
to `Coordinator.answered`, which records it. Nothing here is called while a decision is made; a replay does a job once
more to look at what was recorded of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass

from ...protocol.codec import pack, unpack
from . import comparators, merging, patches
from .comparators import Compare
from .merging import Merge
from .patches import Overlap

__all__ = ["Answer", "Job", "do", "from_bytes", "name_of", "to_bytes"]

Job = Compare | Merge | Overlap
_KINDS: dict[str, Callable[..., Job]] = {"compare": Compare, "merge": Merge, "overlap": Overlap}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a job came to."""

    number: int
    """The class of what was compared; 0 for what was merged; 1 where patches collide, else 0; -1: nobody can say."""
    why: str
    value: bytes | None = None
    """What was merged."""


def do(job: Job) -> Answer:
    """Do a job. In a worker, off the loop."""
    if isinstance(job, Compare):
        return Answer(*comparators.run(job))
    if isinstance(job, Overlap):
        return Answer(*patches.run(job))
    value, why = merging.run(job)
    return Answer(-1 if value is None else 0, why, value)


def name_of(job: Job) -> str:
    """Return what a person knows a job by."""
    if isinstance(job, Compare):
        return f"comparing {job.member} of {job.task}"
    if isinstance(job, Overlap):
        return f"holding {job.task} against {job.other}"
    return f"merging for {job.conflict}"


def to_bytes(job: Job) -> bytes:
    """Return a job as the worker reads it."""
    kind = next(name for name, known in _KINDS.items() if known is type(job))
    return pack([kind, astuple(job)])


def from_bytes(data: bytes) -> Job:
    """Read a job.

    Raises:
        ValueError: it is none.
    """
    kind, values = unpack(data)
    return _KINDS[kind](*(tuple(value) if isinstance(value, list) else value for value in values))
