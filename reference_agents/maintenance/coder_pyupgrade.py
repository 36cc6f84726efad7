"""A coder whose tool is pyupgrade: newer syntax for the Python versions still supported."""

from __future__ import annotations

import sys
from typing import Final

from a2a import Agent, AttemptFailed, TaskContext

from .coding import TOOL_LIMITS, Job, make_proposal
from .decisions import heed
from .processes import run
from .shapes import Plan, Proposal, Workspace

__all__ = ["agent", "propose_patch", "use_pyupgrade"]

BATCH: Final = 20
"""Files in one run: it takes about a second for these, and then there is something to report."""
NEWEST: Final = 15
"""The newest minor version of Python 3 for which this pyupgrade has rules."""

agent = Agent(
    "coder-pyupgrade", version="1.0", description="Proposes pyupgrade's newer syntax.", concurrency=1,
    labels={"tool": "pyupgrade"},
)  # fmt: skip


@agent.skill(tags=["code"])
async def propose_patch(
    workspace: Workspace, plan: Plan, task: TaskContext, onto: str = "", files: list[str] | None = None
) -> Proposal:
    """Propose what pyupgrade would change, on the base or on another tree."""
    await heed(task, plan)
    return await make_proposal(agent.name, use_pyupgrade, workspace, plan, onto=onto, files=files, report=task.progress)


async def use_pyupgrade(job: Job) -> list[str]:
    """Rewrite the files for the plan's Python version."""
    if job.plan["kind"] != "modernise":
        return [f"pyupgrade has nothing to offer for {job.plan['kind']}"]
    command = [
        sys.executable,
        "-I",
        "-m",
        "pyupgrade",
        "--exit-zero-even-if-changed",
        _option(job.plan["target"]),
        "--",
    ]
    # It reports a file in another encoding as unreadable, and then exits as if it had failed with all files.
    paths = [path for path in job.paths if _is_utf8((job.folder / path).read_bytes())]
    for start in range(0, len(paths), BATCH):
        batch = paths[start : start + BATCH]
        done = await run([*command, *batch], cwd=job.folder, limits=TOOL_LIMITS)
        if done.code != 0:
            detail = f"pyupgrade ended with {done.code}: {done.text[-500:]}"
            raise AttemptFailed(detail, code="tool_failed", retryable=False)
        await job.report(0.1 + 0.8 * (start + len(batch)) / len(paths), f"{start + len(batch)} files done")
    return [f"{path}: not UTF-8, which pyupgrade does not read" for path in sorted({*job.paths} - {*paths})]


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _option(target: str) -> str:
    minor = min(int(target.removeprefix("py3")), NEWEST)
    return f"--py3{minor}-plus"


if __name__ == "__main__":
    agent.main()
