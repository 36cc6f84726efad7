"""A coder whose tool is libcst: f-strings, unused imports, new names."""

from __future__ import annotations

import json
import keyword
import sys
from pathlib import Path
from typing import Final

from a2a import Agent, AttemptFailed, TaskContext

from .coding import TOOL_LIMITS, Job, make_proposal
from .decisions import heed
from .processes import run
from .shapes import Kind, Plan, Proposal, Workspace

__all__ = ["agent", "propose_patch", "use_libcst"]

CODEMODS: Final = Path(__file__).with_name("codemods.py")
STEPS_OF: Final[dict[Kind, list[str]]] = {
    "modernise": ["fstrings", "unused-imports"],
    "fix-lint": ["unused-imports"],
    "remove-unused": ["unused-imports"],
    "rename": [],
}

agent = Agent(
    "coder-libcst", version="1.0", description="Proposes f-strings, fewer imports, new names.", concurrency=1,
    labels={"tool": "libcst"},
)  # fmt: skip


@agent.skill(tags=["code"])
async def propose_patch(
    workspace: Workspace, plan: Plan, task: TaskContext, onto: str = "", files: list[str] | None = None
) -> Proposal:
    """Propose what the codemods would change, on the base or on another tree."""
    await heed(task, plan)
    return await make_proposal(agent.name, use_libcst, workspace, plan, onto=onto, files=files, report=task.progress)


async def use_libcst(job: Job) -> list[str]:
    """Run the codemods of the plan's kind, file by file."""
    plan = job.plan
    steps = STEPS_OF.get(plan["kind"])
    if steps is None:
        return [f"libcst has nothing to offer for {plan['kind']}"]
    old, new = (plan["old_name"], plan["new_name"]) if plan["kind"] == "rename" else ("", "")
    if plan["kind"] == "rename" and not (_is_name(_last_part(old)) and _is_name(_last_part(new))):
        raise AttemptFailed(f"cannot rename {old!r} to {new!r}: not a name", code="bad_name", retryable=False)
    description = job.scratch / "codemods.json"
    description.write_text(json.dumps({"paths": list(job.paths), "steps": steps, "old_name": old, "new_name": new}))
    notes: list[str] = []
    looked_at = 0

    async def hear(line: str) -> None:
        nonlocal looked_at
        told = json.loads(line)
        looked_at += 1
        if told["note"]:
            notes.append(": ".join(part for part in (told["path"], told["note"]) if part))
        await job.report(0.1 + 0.8 * looked_at / len(job.paths), f"{looked_at} of {len(job.paths)} files")

    command = [sys.executable, "-I", str(CODEMODS), str(description)]
    done = await run(command, cwd=job.folder, limits=TOOL_LIMITS, on_line=hear)
    if done.code != 0:
        detail = f"libcst ended with {done.code}: {done.err.decode(errors='replace')[-500:]}"
        raise AttemptFailed(detail, code="tool_failed", retryable=False)
    return notes


def _last_part(name: str) -> str:
    return name.rpartition(".")[2]


def _is_name(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name)


if __name__ == "__main__":
    agent.main()
