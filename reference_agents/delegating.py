"""Delegates a sub-task for a handler that may have lost its coordinator for a while.

What happens to the sub-task is up to the caller: `errand` follows one to its end, others only want the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import anyio

from a2a import ChildTask, LeaseLapsed, Overruled, StaleBasis, TaskContext

__all__ = ["LOOK_AGAIN", "LOSSES_MAX", "MOVED", "TIMERS", "delegated", "once_current", "result_of"]

One = TypeVar("One")

TIMERS: Final = {"heartbeat": 2.0, "lease": 10.0}
"""An agent that is started again gives its old leases back at once; these are for one that is not, or that hangs."""
LOSSES_MAX: Final = 10
"""Agents may be killed during a run, more often than the coordinator's default allows."""
LOOK_AGAIN: Final = 0.25
MOVED: Final = "decision_moved"
"""Why something was not done or not taken: a decision it relies on has moved."""


async def delegated(task: TaskContext, skill: str, given: dict[str, Any], key: str, **options: Any) -> ChildTask:
    """Return a sub-task to enter, as soon as the attempt is current.

    Args:
        key: names the sub-task within this task, in every attempt.
        options: as for `TaskContext.delegate`; they override the defaults above.
    """
    options = {"timers": TIMERS, "losses": LOSSES_MAX, **options}
    return await once_current(lambda: task.delegate(skill, given, key, **options))


async def once_current(begin: Callable[[], One]) -> One:
    """Call something that needs a current attempt, as soon as the attempt is current."""
    while True:
        try:
            return begin()
        except LeaseLapsed:
            # The coordinator is away. When it is back, the lease goes on, or this attempt is told to stop.
            await anyio.sleep(LOOK_AGAIN)


async def result_of(child: ChildTask) -> Any:
    """Return a sub-task's result if it stands, and what it relies on does too; else reject it for good.

    Raises:
        TaskError: it has none. After such a rejection it is a `TaskFailed` whose detail is `MOVED`, or names the
            conflict that went against it, in every attempt: the task's record says so.
    """
    try:
        return await child.result()
    except StaleBasis:
        await child.reject(rework=False, reason=MOVED)
    except Overruled as lost:
        await child.reject(rework=False, reason=f"overruled by conflict {lost.conflict}")
    return await child.result()
