"""Runs cases against an implementation, several at a time, each with a time limit, and returns the outcomes.

A run depends on its cases alone: each has its own names and connections, so that cases do not meet.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from .case import Case, Failed, Need, Skipped
from .requirements import Level
from .socket import Closed

__all__ = ["CASE_SECONDS", "Outcome", "Status", "judged", "run_cases"]

CASE_SECONDS = 30.0
"""A case that lasts longer has failed: everything it waits for has its own bound."""
JOBS = 8
_ODD = (AttributeError, LookupError, TypeError, ValueError)
"""Errors a case meets if a field is missing or of another type: the implementation's failure."""


class Status(StrEnum):
    """How a case ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A case, and how it ended."""

    case: Case
    status: Status
    seconds: float
    detail: str = ""
    """Why it failed or was skipped."""
    trace: tuple[str, ...] = ()
    """The frames of a case that failed, connection by connection."""
    encoding: str = ""
    """The encoding it was tried in."""


async def run_cases(
    cases: Sequence[Case],
    try_case: Callable[[Case], Awaitable[None]],
    *,
    trace_of: Callable[[Case], Iterable[str]] = lambda _: (),
    jobs: int = JOBS,
    seconds: float = CASE_SECONDS,
    told: Callable[[Outcome], None] = lambda _: None,
) -> list[Outcome]:
    """Try each case, and return the outcomes in the order of `cases`.

    Args:
        cases: The cases.
        try_case: Tries one case on the implementation.
        trace_of: Returns the frames of a case that was tried.
        jobs: How many at a time. Cases that need to be alone follow, one after the other, and those that judge the
            others come last.
        seconds: How long one case may last.
        told: Called with each outcome as it is known.
    """
    found: dict[str, Outcome] = {}
    room = asyncio.Semaphore(jobs)

    async def one(chosen: Case) -> None:
        async with room:
            found[chosen.id] = await _outcome(chosen, try_case, trace_of, seconds)
            told(found[chosen.id])

    last = [chosen for chosen in cases if Need.OTHERS in chosen.needs]
    alone = [chosen for chosen in cases if chosen.needs & {Need.ALONE, Need.RESTART} and chosen not in last]
    async with asyncio.TaskGroup() as group:
        for chosen in cases:
            if chosen not in alone and chosen not in last:
                group.create_task(one(chosen))
    for chosen in (*alone, *last):
        await one(chosen)
    return [found[chosen.id] for chosen in cases]


async def _outcome(
    chosen: Case,
    try_case: Callable[[Case], Awaitable[None]],
    trace_of: Callable[[Case], Iterable[str]],
    seconds: float,
) -> Outcome:
    started = time.monotonic()
    status, detail = Status.PASSED, ""
    try:
        async with asyncio.timeout(seconds):
            await try_case(chosen)
    except Skipped as exc:
        status, detail = Status.SKIPPED, str(exc)
    except Failed as exc:
        status, detail = Status.FAILED, str(exc)
    except Closed as exc:
        status, detail = Status.FAILED, f"expected an open connection; {exc}"
    except _ODD as exc:
        status, detail = Status.FAILED, f"expected what the specification describes; {type(exc).__name__}: {exc}"
    except TimeoutError:
        status, detail = Status.FAILED, f"expected an end within {seconds:g} s; the case still goes on"
    except (LookupError, TypeError, ValueError, AttributeError, StopIteration) as exc:
        # A case takes a frame apart as the specification describes it, and fails on a frame of another form.
        status, detail = Status.FAILED, f"expected a frame of the form the specification gives; {exc!r}"
    trace = tuple(trace_of(chosen)) if status is Status.FAILED else ()
    return Outcome(chosen, status, time.monotonic() - started, detail, trace)


def judged(outcomes: Iterable[Outcome], *, strict: bool = False) -> bool:
    """Return whether an implementation conforms: no MUST failed; if strict, nothing failed and nothing was skipped."""
    for outcome in outcomes:
        if outcome.status is Status.FAILED and (strict or outcome.case.level is Level.MUST):
            return False
        if outcome.status is Status.SKIPPED and strict:
            return False
    return True
