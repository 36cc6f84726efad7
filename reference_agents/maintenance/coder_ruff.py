"""A coder whose tool is ruff: the fixes that ruff itself calls safe."""

from __future__ import annotations

from a2a import Agent, AttemptFailed, TaskContext

from .coding import TOOL_LIMITS, Job, make_proposal
from .decisions import heed
from .findings import RULES_OF, UNTOUCHED, batches, ruff
from .processes import run
from .shapes import Plan, Proposal, Workspace

__all__ = ["agent", "propose_patch", "use_ruff"]

agent = Agent(
    "coder-ruff", version="1.0", description="Proposes ruff's safe fixes.", concurrency=1, labels={"tool": "ruff"}
)


@agent.skill(tags=["code"])
async def propose_patch(
    workspace: Workspace, plan: Plan, task: TaskContext, onto: str = "", files: list[str] | None = None
) -> Proposal:
    """Propose what ruff would change, on the base or on another tree."""
    await heed(task, plan)
    return await make_proposal(agent.name, use_ruff, workspace, plan, onto=onto, files=files, report=task.progress)


async def use_ruff(job: Job) -> list[str]:
    """Apply ruff's safe fixes."""
    rules = RULES_OF.get(job.plan["kind"])
    if rules is None:
        return [f"ruff has nothing to offer for {job.plan['kind']}"]
    options = ("--isolated", "--no-cache", "--exit-zero", "--quiet", "--fix", "--target-version", job.plan["target"])
    for batch in batches(job.paths):
        command = ruff("check", *options, "--select", rules, "--ignore", UNTOUCHED, "--", *batch)
        done = await run(command, cwd=job.folder, limits=TOOL_LIMITS)
        if done.code != 0:
            raise AttemptFailed(f"ruff ended with {done.code}: {done.text[-500:]}", code="tool_failed", retryable=False)
    return []


if __name__ == "__main__":
    agent.main()
