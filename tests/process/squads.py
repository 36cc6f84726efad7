"""Squads as processes, for tests: commands that run, a squad that is up, and what its ledger says afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import a2a
from a2a.conformance.program import free_port
from a2a.squads import known


def free_url() -> str:
    return f"ws://127.0.0.1:{free_port()}"


@dataclass
class Command:
    """An `a2a` command that runs, and what it has said as JSON lines."""

    process: asyncio.subprocess.Process
    errors: Path
    said: list[dict[str, Any]] = field(default_factory=list)

    async def next_line(self) -> dict[str, Any] | None:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            return None
        told: dict[str, Any] = json.loads(line)
        self.said.append(told)
        return told

    async def until(self, kind: str, who: str) -> dict[str, Any]:
        """Read on until the lead tells such a story."""
        while (told := await self.next_line()) is not None:
            story = told.get("value")
            if told["kind"] == "artifact" and story["kind"] == kind and story["who"] == who:
                return told
        raise AssertionError(f"it ended before {who} {kind}: {self.errors.read_text()}")

    async def end(self) -> int:
        """Read the rest, and return the exit code."""
        while await self.next_line() is not None:
            pass
        return await self.process.wait()

    @property
    def result(self) -> dict[str, Any]:
        last = self.said[-1]
        assert last["kind"] == "result", self.errors.read_text()
        result: dict[str, Any] = last["result"]
        return result


@asynccontextmanager
async def command(home: Path, name: str, *arguments: str, **env: str) -> AsyncIterator[Command]:
    """Run a command for the time of the block; whatever happens it is gone afterwards."""
    errors = home / f"{name}.err"
    with errors.open("wb") as stream:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "a2a", *arguments, cwd=home, env={**os.environ, **env},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stream, limit=16 * 1024 * 1024,
        )  # fmt: skip
    try:
        yield Command(process, errors)
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.communicate(), 30)
            finally:
                if process.returncode is None:
                    process.kill()


@asynccontextmanager
async def squad_up(home: Path, *arguments: str, **env: str) -> AsyncIterator[str]:
    """Have a squad up inside the block, and yield where; it leaves no process behind."""
    url = free_url()
    async with command(home, "squad", "squad", "up", *arguments, "--url", url, "--ready-json", **env) as squad:
        ready = await squad.next_line()
        assert ready is not None and ready["url"] == url, squad.errors.read_text()
        everybody = processes()
        yield url
        everybody |= processes()
    assert squad.process.returncode == 0, squad.errors.read_text()
    assert not [pid for pid in everybody.values() if is_alive(pid)], "it ended all it started"


def processes() -> dict[str, int]:
    """Return name and process id of all that runs in squads now."""
    return {
        program["name"]: program["pid"]
        for state in known()
        for program in state["programs"]
        if program["pid"] is not None
    }


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that ended and that nobody asked about yet does not."""
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat")
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


async def ledger_of(client: a2a.Client, root: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return all tasks of a run by (parent, key), with what happened to each."""
    context = (await client.get(root))["contextId"]
    tasks = await client.list(context_id=context, limit=1000)
    named = {(task["metadata"].get("parent", ""), task["metadata"]["key"]): task for task in tasks}
    assert len(named) == len(tasks), "the same key is the same task"
    return named


async def results_of(client: a2a.Client, task: str) -> int:
    """Return how many results of a task were taken."""
    return len([1 async for event in client.watch(task) if event.data.get("outcome") == "completed"])


async def check_ledger(url: str, root: str) -> None:
    """Check that every task of a run has ended well, with one result that was taken."""
    async with a2a.connect(url) as client:
        for (_, key), task in (await ledger_of(client, root)).items():
            assert task["metadata"]["state"] == "completed", f"{key}: {task['metadata']}"
            assert await results_of(client, task["id"]) == 1, key
