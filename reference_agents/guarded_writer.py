"""A writer whose file no process ruins, not even one that was asleep while its task went to another.

It claims the file, shows the claim's fence to the guard of the file, and writes. A process that stood still past its
lease does not know of the next attempt, and writes as if nothing had happened. By then the guard has seen a higher
fence and turns it away, and that is recorded as a conflict. Start `python -m reference_agents.guarded_writer --name
NAME` several times.
"""

from __future__ import annotations

import sys
import time

from a2a import Agent, FencedOff, FileGuard, SyncTaskContext, reporting

agent = Agent("writer", version="1.0")


@agent.skill(tags=["text"])
def write_report(path: str, text: str, task: SyncTaskContext, seconds: float = 0.0) -> int:
    """Write a text into a file, after some seconds of work on it, and return which attempt that was."""
    guard, name = FileGuard(path), f"files/{path.strip('/')}"
    with task.claim(name, wait=60) as claim, reporting(lambda refused: task.raise_fenced_off(name, refused)):
        guard.touch(claim.fence)  # from now on the guard refuses older claims
        task.progress(note="has the file")
        time.sleep(seconds)  # the work; a stopped process resumes here
        try:
            guard.write(f"{text} (attempt {task.attempt})\n", claim.fence)
        except FencedOff as refused:
            print(f"turned away: {refused}", file=sys.stderr, flush=True)
            raise
    return task.attempt


if __name__ == "__main__":
    agent.main()
