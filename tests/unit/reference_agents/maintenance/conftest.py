"""Small repositories with real git and real tests in them, and workspaces on them, made without a network."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from reference_agents.maintenance import git
from reference_agents.maintenance.environment import make_environment
from reference_agents.maintenance.evidence import RunSettings, count, run_tests
from reference_agents.maintenance.findings import count_findings
from reference_agents.maintenance.processes import silent
from reference_agents.maintenance.sandbox import Sandbox, detect
from reference_agents.maintenance.shapes import Baseline, Plan, Proposal, Workspace
from reference_agents.maintenance.source import python_files
from reference_agents.maintenance.workspace import Worktree, checkout, make_mirror, patch_of, write_json

WHO = ("-c", "user.name=A Person", "-c", "user.email=person@example.invalid", "-c", "commit.gpgSign=false")


@dataclass(frozen=True)
class Repository:
    """A person's repository."""

    path: Path

    def git(self, *arguments: str) -> str:
        env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        done = subprocess.run(["git", *WHO, *arguments], cwd=self.path, env=env, capture_output=True, check=True)
        return done.stdout.decode().strip()

    def write(self, files: Mapping[str, str | bytes]) -> None:
        for name, content in files.items():
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.encode())

    def commit(self, files: Mapping[str, str | bytes], message: str = "a change") -> str:
        self.write(files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")

    def looks_like(self) -> tuple[str, ...]:
        """Everything a person would see of it: the files, the index, the refs."""
        files = [
            f"{file}:{file.read_bytes()!r}"
            for file in sorted(self.path.rglob("*"))
            if file.is_file() and ".git" not in file.parts
        ]
        index = (self.path / ".git" / "index").read_bytes()
        return (*files, git.digest(index), self.git("for-each-ref"), self.git("symbolic-ref", "HEAD"))


@pytest.fixture
def repository(tmp_path: Path) -> Callable[..., Repository]:
    """Make a repository with one commit."""

    def make(files: Mapping[str, str | bytes], name: str = "project") -> Repository:
        made = Repository(tmp_path / name)
        made.path.mkdir()
        made.git("init", "--quiet", "--initial-branch=main")
        made.commit(files, "the first")
        return made

    return make


@pytest.fixture(scope="session")
def test_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter that has pytest and nothing else: made once, because it is the same for all."""
    folder = tmp_path_factory.mktemp("python")
    work = Worktree(folder / "tree", folder / "scratch")
    for part in (work.path, work.scratch):
        part.mkdir()

    async def make() -> str:
        return (await make_environment(work, folder, "0" * 40, None, silent)).python

    return anyio.run(make)


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """What this machine has to offer; perhaps nothing."""
    return anyio.run(detect, tmp_path_factory.getbasetemp())


@pytest.fixture
def settings(test_python: str, sandbox: Sandbox) -> RunSettings:
    return RunSettings(test_python, sandbox)


WorkspaceMaker = Callable[..., Awaitable[Workspace]]


@pytest.fixture
def workspace_on(tmp_path: Path, settings: RunSettings) -> WorkspaceMaker:
    """Make a workspace on a repository, as the preparer does; with `baseline` the tests really run."""

    async def make(repository: Repository, *, baseline: bool = False) -> Workspace:
        base = repository.git("rev-parse", "HEAD")
        run_dir = tmp_path / "run"
        mirror = await make_mirror(repository.path, run_dir)
        tests: Any = {"total": 0, "passed": 0, "failed": 0, "skipped": 0, "seconds": 0.0}
        workspace = Workspace(
            name="project", repository=str(repository.path), base=base, run_dir=str(run_dir), mirror=str(mirror),
            python=settings.python, pytest_options=[], import_paths=["."],
            files=list(await python_files(mirror, base)), findings={"total": 0, "by_rule": {}},
            tests=Baseline(**tests, path="", digest="", failing=[], unstable=[]), sandbox=settings.sandbox.kind,
            allow_unsandboxed=True, evidence="none", evidence_reason="nobody looked", notes=[],
        )  # fmt: skip
        async with checkout(workspace, "preparer", base) as work:
            workspace["findings"] = await count_findings(work.path, workspace["files"])
            if baseline:
                run = await run_tests(work, settings)
                path = run_dir / "baseline.json"
                digest = write_json(path, {"outcomes": run.outcomes, "unstable": []})
                tally = count(run.outcomes, run.seconds)
                workspace["tests"] = Baseline(**tally, path=str(path), digest=digest, failing=[], unstable=[])
                workspace["evidence"], workspace["evidence_reason"] = "ok", ""
        return workspace

    return make


@pytest.fixture
def tree_with() -> Callable[..., Awaitable[str]]:
    """Make a tree in a workspace's mirror: the base, with some files changed or (None) removed."""

    async def make(workspace: Workspace, changes: Mapping[str, str | bytes | None], owner: str = "author") -> str:
        async with checkout(workspace, owner, workspace["base"]) as work:
            for name, content in changes.items():
                target = work.path / name
                if content is None:
                    target.unlink()
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content if isinstance(content, bytes) else content.encode())
            await git.git(work.path, "add", "--all", "--force")
            return (await git.git(work.path, "write-tree")).decode().strip()

    return make


@pytest.fixture
def proposal_of(tree_with: Callable[..., Awaitable[str]]) -> Callable[..., Awaitable[Proposal]]:
    """Make a proposal without a tool: an agent and the files it would write."""

    async def make(workspace: Workspace, name: str, changes: Mapping[str, str | None], left: int = 0) -> Proposal:
        tree = await tree_with(workspace, changes)
        before = workspace["findings"]["total"]
        return Proposal(
            agent=name, patch=await patch_of(workspace, tree), onto=workspace["base"], findings_before=before,
            findings_left=left, notes=[], elapsed=0.0,
        )  # fmt: skip

    return make


@pytest.fixture
def plan_for() -> Callable[..., Plan]:
    """Make a plan; what is not said is as in the squad's main job."""

    def make(**changes: Any) -> Plan:
        plan = Plan(
            kind="modernise", request="modernise to py311", target="py311", old_name="", new_name="", query="",
            paths=[], may_touch=["tests"],
        )  # fmt: skip
        return Plan(**(plan | changes))

    return make


class FakeContext:
    """What tasks share, as far as a test has put something there."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.read: list[str] = []

    async def get(self, key: str) -> Any:
        self.read.append(key)
        value = self.values.get(key)
        return SimpleNamespace(value=value, exists=value is not None, rev=int(value is not None), author="somebody")

    async def get_many(self, keys: Sequence[str]) -> dict[str, Any]:
        return {key: await self.get(key) for key in keys}


class FakeTask:
    """The context of a task, as far as the agents use it: it remembers what it was told."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, list[str] | None]] = []
        self.notes: list[str] = []
        self.calls: list[tuple[str, Any, str, dict[str, Any]]] = []
        self.artifacts: list[Any] = []
        self.checks = 0
        self.claims: dict[str, int] = {}
        self.context = FakeContext()
        self.budget: dict[str, int] = {}
        self.used = 0
        self.agents: list[str] = []
        self.advisers: list[str] = []
        self.readers: list[str] = []
        self.models: dict[str, str] = {}
        """By agent, for those that have one."""
        self.on_call: Callable[[str, Any, dict[str, Any]], Awaitable[Any]] | None = None

    async def progress(self, fraction: float | None = None, note: str = "") -> None:
        assert fraction is None or 0 <= fraction <= 1
        self.notes.append(note)

    async def ask(self, question: str, *, options: list[str] | None = None, **_: Any) -> Any:
        self.asked.append((question, options))
        return self.answers.pop(0)

    async def artifact(self, name: str, value: Any, **_: Any) -> None:
        self.artifacts.append((name, value))

    @contextlib.asynccontextmanager
    async def delegate(self, skill: str, input: Any, key: str, **options: Any) -> AsyncIterator[Any]:
        self.calls.append((skill, input, key, options))
        assert self.on_call is not None
        answer = self.on_call(skill, input, options)
        yield SimpleNamespace(result=lambda: answer)

    async def find(self, skill: str) -> list[Any]:
        names = {"propose_patch": self.agents, "choose_patch": self.advisers, "read_request": self.readers}[skill]
        labels = {name: {"model": self.models[name]} if name in self.models else {} for name in names}
        return [SimpleNamespace(agent_id=name, status="ready", labels=labels[name]) for name in names]

    def check(self) -> None:
        self.checks += 1

    def use(self, *, tokens: int = 0) -> None:
        self.used += tokens


@pytest.fixture
def fake_task() -> Callable[..., Any]:
    return FakeTask


@pytest.fixture
def isolated_python() -> list[str]:
    """A quick start of this interpreter."""
    return [sys.executable, "-I", "-S"]
