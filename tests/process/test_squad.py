"""The maintenance squad as processes: whatever is killed while it works, the run ends well, and nothing is done twice.

The repository is made by the test and needs nothing that is not installed, so no network is used.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import a2a
from a2a.squads import known
from reference_agents.maintenance import AGENTS
from tests.endpoint import Reply, Request, endpoint

BOUND = 100.0
FILES = {
    "figures.py": """\
import os
from collections import OrderedDict


class Square(object):
    def __init__(self, side):
        super(Square, self).__init__()
        self.side = side

    def describe(self):
        return "a square of %s" % self.side


def names(items):
    return set([str(item) for item in items])
""",
    "test_figures.py": """\
from figures import OrderedDict, Square, names


def test_square():
    assert Square(2).describe() == "a square of 2"


def test_names():
    assert names([1, 2]) == {"1", "2"}


def test_what_others_import_from_there():
    assert OrderedDict(a=1) == {"a": 1}
""",
}
PAIRS = {
    "pairs.py": "def pairs(one, other):\n    return list(zip(one, other))\n",
    "test_pairs.py": "from pairs import pairs\n\n\ndef test_pairs():\n    assert pairs([1], [2]) == [(1, 2)]\n",
}
"""The linter wants to know whether the two are of one length; no tool dares to say so."""
STRICT = "    return list(zip(one, other, strict=True))"
KEY = "sk-" + "0123456789abcdef" * 3


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of its own; nothing of the surroundings leads anywhere else."""
    for name in ("A2A_URL", "A2A_TOKEN", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("A2A_STATE_DIR", str(tmp_path / "state"))
    return tmp_path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Old code with tests, one of which breaks when a tool takes an import away that only others use."""
    folder = tmp_path / "figures"
    make_repository(folder, FILES)
    return folder


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
    return subprocess.run(
        ["git", *identity, "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    ).stdout


def make_repository(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    for name, text in files.items():
        (folder / name).write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "as it was")


def free_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"ws://127.0.0.1:{probe.getsockname()[1]}"


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
async def squad_up(home: Path, *added: str, **env: str) -> AsyncIterator[str]:
    """Have a squad up inside the block, and yield where; it leaves no process behind."""
    url = free_url()
    options = [part for name in added for part in ("--with", name)]
    async with command(home, "squad", "squad", "up", "--url", url, "--ready-json", *options, **env) as squad:
        ready = await squad.next_line()
        assert ready is not None and ready["url"] == url, squad.errors.read_text()
        everybody = processes()
        yield url
        everybody |= processes()
    assert squad.process.returncode == 0, squad.errors.read_text()
    assert not [pid for pid in everybody.values() if is_alive(pid)], "it ended all it started"


def run(repository: Path, url: str, folder: Path) -> tuple[str, ...]:
    wanted = ("--repo", str(repository), "--approve", "auto", "--url", url, "--out", str(folder))
    return ("run", "modernise to py311, keep the tests green", *wanted, "--json")


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


def check_result(summary: dict[str, Any], repository: Path) -> None:
    assert summary["verdict"] == "deployed"
    assert summary["findings_after"]["total"] < summary["findings_before"]["total"]
    assert (summary["tests_after"]["passed"], summary["tests_after"]["failed"]) == (3, 0)
    refused = [rejected for rejected in summary["rejected"] if rejected["reason"] == "tests"]
    assert refused and all(rejected["evidence"]["failing_total"] or rejected["evidence"]["vanished_total"]
                           for rejected in refused)  # fmt: skip
    assert git(repository, "rev-parse", summary["branch"]).strip() == summary["commit"]
    assert f"Evidence: sha256:{summary['evidence']}" in git(repository, "show", "--no-patch", summary["branch"])
    assert git(repository, "status", "--porcelain") == "", "nobody's checkout was touched"
    assert git(repository, "rev-parse", "--abbrev-ref", "HEAD").strip() == "main"


async def test_a_run_ends_well_though_every_agent_is_killed_once(home: Path, repository: Path) -> None:
    async with asyncio.timeout(BOUND), squad_up(home) as url:
        async with command(home, "run", *run(repository, url, home / "run")) as working:
            killed: list[str] = []
            while (told := await working.next_line()) is not None:
                story = told.get("value") if told["kind"] == "artifact" else None
                if isinstance(story, dict) and story["kind"] == "work" and story["who"] not in killed:
                    killed.append(story["who"])
                    os.kill(processes()[story["who"]], signal.SIGKILL)
                    if story["who"] == "judge":
                        killed.append("lead")
                        os.kill(processes()["lead"], signal.SIGKILL)
            assert await working.process.wait() == 0, working.errors.read_text()
            assert sorted(killed) == sorted(AGENTS)
            check_result(working.result, repository)
            await check_ledger(url, working.said[-1]["task"])
        restarts = {program["name"]: program["restarts"] for state in known() for program in state["programs"]}
        assert restarts == dict.fromkeys(AGENTS, 1) | {"coordinator": 0}


async def test_a_run_goes_on_when_its_command_is_killed_and_then_the_coordinator(home: Path, repository: Path) -> None:
    url = free_url()
    async with asyncio.timeout(BOUND):
        async with command(home, "first", *run(repository, url, home / "run")) as first:
            root = (await first.until("found", "preparer"))["task"]
            everybody = processes()
            assert sorted(everybody) == sorted([*AGENTS, "coordinator"]), "it started what was not there"
            ledger = known()[0]["db"]
            first.process.kill()
            await first.process.communicate()
        async with command(home, "second", *run(repository, url, home / "run")) as second:
            assert (await second.until("work", "judge"))["task"] == root, "it is the same task"
            assert not [pid for pid in everybody.values() if is_alive(pid)], "they ended with the command"
            async with a2a.connect(url) as client:
                before = await ledger_of(client, root)
            os.kill(processes()["coordinator"], signal.SIGKILL)
            assert await second.end() == 0, second.errors.read_text()
        check_result(second.result, repository)
        assert not known()
        # All of it can be read afterwards: the ledger is what stays.
        serve = ("coordinator", "run", "--listen", url.removeprefix("ws://"), "--db", ledger, "--ready-json")
        async with command(home, "reader", *serve) as reader:
            assert await reader.next_line() is not None, reader.errors.read_text()
            await check_ledger(url, root)
            async with a2a.connect(url) as client:
                after = await ledger_of(client, root)
    done = {key: task for key, task in before.items() if task["metadata"]["state"] == "completed"}
    assert {task["metadata"]["skill"] for task in done.values()} >= {"plan_request", "prepare", "propose_patch"}
    assert {key: after[key] for key in done} == done, "no finished task was touched again"


def strict(request: Request) -> Reply:
    """Answer as a model that knows."""
    usage = {"prompt_tokens": 900, "completion_tokens": 100}
    old = STRICT.replace(", strict=True", "")
    if old not in request.messages[-1]["content"]:
        return Reply("NOTHING", usage=usage)
    return Reply(f"```diff\n--- a/pairs.py\n+++ b/pairs.py\n@@ -2 +2 @@\n-{old}\n+{STRICT}\n```", usage=usage)


def model_at(url: str) -> dict[str, str]:
    return {"A2A_MODEL_URL": url, "A2A_MODEL_NAME": "stand-in", "A2A_MODEL_KEY": KEY, "A2A_LOG": "DEBUG"}


def mentions(folder: Path, words: str) -> list[str]:
    """Return the files below a folder, but for installed ones, that have some words in them."""
    files = (file for file in folder.rglob("*") if file.is_file() and "site-packages" not in file.parts)
    return [str(file) for file in files if words.encode() in file.read_bytes()]


async def test_what_a_model_proposes_is_taken_where_the_tests_hold(home: Path) -> None:
    repository = home / "figures"
    make_repository(repository, FILES | PAIRS)
    with endpoint(script=strict) as model:
        async with asyncio.timeout(BOUND), squad_up(home, "coder-model", **model_at(model.url)) as url:
            async with command(home, "run", *run(repository, url, home / "run")) as working:
                assert await working.end() == 0, working.errors.read_text()
                summary, root = working.result, working.said[-1]["task"]
            await check_ledger(url, root)
            async with a2a.connect(url) as client:
                used = (await client.get(root))["metadata"]["usage"]["tokens"]
    assert summary["verdict"] == "deployed"
    assert STRICT in git(repository, "show", f"{summary['branch']}:pairs.py")
    assert "class Square:" in git(repository, "show", f"{summary['branch']}:figures.py"), "the tools did their part"
    accepted = {accepted["agent"]: accepted["files"] for accepted in summary["accepted"]}
    assert accepted["coder-model"] == ["pairs.py"]
    assert (summary["tests_after"]["passed"], summary["tests_after"]["failed"]) == (4, 0)
    assert "Change-By: coder-model (1 files, 1 findings)" in git(repository, "log", "-1", summary["branch"])
    assert used == 1000 * len(model.requests) > 0, "what a model costs is in the ledger"
    assert {request.headers["authorization"] for request in model.requests} == {f"Bearer {KEY}"}
    assert mentions(home, "coder-model is ready"), "what it logs is among what is looked at"
    assert not mentions(home, KEY), "neither logs nor ledger nor artifacts"


async def test_a_model_that_answers_rubbish_costs_the_run_its_part_and_no_more(home: Path, repository: Path) -> None:
    tampering = "--- /dev/null\n+++ b/setup.cfg\n@@ -0,0 +1 @@\n+[tool:pytest]\n"
    with endpoint("I would rather talk about it.", tampering) as model:
        async with asyncio.timeout(BOUND), squad_up(home, "coder-model", **model_at(model.url)) as url:
            async with command(home, "run", *run(repository, url, home / "run")) as working:
                assert await working.end() == 0, working.errors.read_text()
                summary = working.result
    check_result(summary, repository)
    [failed] = [rejected for rejected in summary["rejected"] if rejected["agent"] == "coder-model"]
    assert failed["reason"] == "agent_failed"
    assert "it touches files that were not shown: setup.cfg" in failed["detail"]
    assert len(model.requests) == 2, "one repair, and no more"
    assert "there is no unified diff in it" in model.requests[1].messages[-1]["content"]


async def test_what_cannot_be_worked_on_is_told_and_left_alone(home: Path) -> None:
    make_repository(home / "dirty", {"one.py": "x = 1\n"})
    (home / "dirty" / "one.py").write_text("x = 2\n")
    make_repository(home / "texts", {"README": "no code here\n"})
    (home / "nothing").mkdir()
    wrong = {
        ("--repo", "dirty"): (2, "has uncommitted changes"),
        ("--repo", "texts"): (2, "has no Python files"),
        ("--repo", "nothing"): (2, "is not inside a git work tree"),
        ("--repo", "absent"): (2, "does not exist"),
        ("--sdist", "no name"): (2, "expected name==version"),
        ("--sdist", "tabulate==0.8.9"): (3, "the package index could not be reached"),
    }
    dirty = git(home / "dirty", "status", "--porcelain")
    nowhere = {"PIP_INDEX_URL": free_url().replace("ws:", "http:"), "PIP_RETRIES": "1", "PIP_CONFIG_FILE": os.devnull}
    async with asyncio.timeout(BOUND), squad_up(home, **nowhere) as url:

        async def attempt(number: int, source: tuple[str, str]) -> tuple[int | None, str]:
            wanted = ("run", "modernise to py311", *source, "--approve", "auto", "--url", url, "--quiet")
            async with command(home, f"wrong-{number}", *wanted) as working:
                await working.process.communicate()
                return working.process.returncode, working.errors.read_text()

        ended = await asyncio.gather(*(attempt(number, source) for number, source in enumerate(wrong)))
    for (code, text), (expected, words) in zip(ended, wrong.values(), strict=True):
        assert code == expected, text
        assert words in text
    assert git(home / "dirty", "status", "--porcelain") == dirty
    assert git(home / "texts", "branch", "--list").split() == ["*", "main"]
