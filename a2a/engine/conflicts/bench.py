"""Jobs that read payloads for conflicts, off the loop: their kinds, and how each is done.

A job reads what agents wrote, inside limits. The shell hands it to a worker that can be killed, and passes the answer
to `Coordinator.answered`, which records it. Nothing here is called while a decision is made. A replay does each job
again to check the recorded answer.
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
    """The answer to a job."""

    number: int
    """The class of a comparison; 0 for a merge; 1 if patches collide, else 0. For each: -1 if nobody can say."""
    why: str
    value: bytes | None = None
    """The merged value."""


def do(job: Job) -> Answer:
    """Do a job. Runs in a worker, off the loop."""
    if isinstance(job, Compare):
        return Answer(*comparators.run(job))
    if isinstance(job, Overlap):
        return Answer(*patches.run(job))
    value, why = merging.run(job)
    return Answer(-1 if value is None else 0, why, value)


def name_of(job: Job) -> str:
    """Return the name of a job for people."""
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
        ValueError: the bytes are not a job.
    """
    kind, values = unpack(data)
    return _KINDS[kind](*(tuple(value) if isinstance(value, list) else value for value in values))
