"""`a2a squad`: what is up, and how it ends."""

from __future__ import annotations

import asyncio
import importlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from a2a.cli.squad import detach
from a2a.conformance.program import free_port
from a2a.squads import Place, home_of, state_of
from a2a.statefile import StateFile
from a2a.supervisor import Running, to_state

URL = "ws://127.0.0.1:1"
Command = Callable[..., Any]
HOLD = """\
import signal, sys, threading
from pathlib import Path
from a2a.statefile import StateFile
file = StateFile(Path(sys.argv[1]))
assert file.acquire()
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set() if sys.argv[3] == "ends" else None)
file.write({**__import__("json").loads(sys.argv[2]), "supervisor": __import__("os").getpid()})
print("up", flush=True)
while not ended.wait(0.05):
    pass
file.release()
"""


def described(**programs: int | None) -> dict[str, Any]:
    running = {name: Running(name, pid, "running", 1, since=time.time() - 90) for name, pid in programs.items()}
    return {
        "name": "maintenance", "url": URL, "db": "/state/main.db", "supervisor": 7, "since": 1.0, "logs": "/logs",
        "programs": to_state(running),
    }  # fmt: skip


@pytest.fixture
def up() -> Iterator[StateFile]:
    """A squad that seems to be up, in this process."""
    file = state_of("maintenance", URL)
    assert file.acquire()
    file.write(described(judge=41, lead=None))
    yield file
    file.release()


@pytest.fixture
def supervisor() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """A process that seems to have a squad up."""
    started: list[subprocess.Popen[str]] = []

    def start(manner: str) -> subprocess.Popen[str]:
        path = str(state_of("maintenance", URL).path)
        command = [sys.executable, "-c", HOLD, path, json.dumps(described(judge=41)), manner]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_nothing_is_up_and_that_is_no_error(command: Command) -> None:
    done = command("squad", "ls")
    assert (done.code, done.out) == (0, "")
    assert "no squad is up" in done.err


def test_what_is_up_is_listed(up: StateFile, command: Command) -> None:
    done = command("squad", "ls")
    first, _, judge, lead = done.out.splitlines()
    assert first == f"maintenance at {URL}, ledger in /state/main.db, supervisor 7"
    assert judge.split() == ["maintenance", "judge", "41", "running", "1", "1", "min", "30", "s"]
    assert lead.split()[1:4] == ["lead", "-", "running"]
    told = [json.loads(line) for line in command("squad", "ls", "--json").out.splitlines()]
    assert [(program["name"], program["pid"], program["url"]) for program in told] == [
        ("judge", 41, URL),
        ("lead", None, URL),
    ]
    assert list(told[0]) == ["squad", "url", "name", "pid", "state", "restarts", "exitCode", "since"]
    another = command("squad", "ls", "another")
    assert (another.out, another.err) == ("", "no squad another is up; maintenance is\n")


def test_what_a_killed_supervisor_left_is_not_listed(up: StateFile, command: Command) -> None:
    up.release()
    up.write(described(judge=41))
    assert command("squad", "ls").out == ""


def test_a_squad_is_ended_by_its_supervisor(
    supervisor: Callable[[str], subprocess.Popen[str]], command: Command
) -> None:
    process = supervisor("ends")
    done = command("squad", "down")
    assert done.code == 0, done.err
    assert f"maintenance at {URL} has ended" in done.err
    assert process.wait(10) == 0


def test_a_squad_that_was_ended_is_named_in_json(
    supervisor: Callable[[str], subprocess.Popen[str]], command: Command
) -> None:
    process = supervisor("ends")
    done = command("squad", "down", "--json")
    assert json.loads(done.out) == {"name": "maintenance", "url": URL, "supervisor": process.pid}
    assert (done.code, done.err, process.wait(10)) == (0, "", 0)


def test_a_supervisor_that_does_not_end_is_told(
    supervisor: Callable[[str], subprocess.Popen[str]], command: Command
) -> None:
    process = supervisor("goes on")
    done = command("squad", "down", "--timeout", "0.2", "--url", URL)
    assert done.code == 4
    assert f"(pid {process.pid}) did not end" in done.err


def test_what_is_not_up_cannot_be_ended(command: Command, up: StateFile) -> None:
    done = command("squad", "down", "--url", "ws://127.0.0.1:2")
    assert done.code == 1
    assert "no squad maintenance is up at ws://127.0.0.1:2" in done.err


def test_a_squad_that_is_unknown_is_told(command: Command) -> None:
    for verb in ("up", "down"):
        done = command("squad", verb, "no_such_squad")
        assert done.code == 1
        assert "there is no squad no_such_squad" in done.err


def test_one_that_does_not_come_up_detached_says_why(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty_squad.py").write_text('SQUAD = {"name": "empty", "skill": "x", "agents": {}}\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "wrong.db").mkdir()
    done = command("squad", "up", "empty_squad", "--detach", "--url", URL, "--db", str(tmp_path / "no" / "file.db"))
    assert done.code == 1, done.out
    assert "the squad empty did not come up" in done.err
    assert done.err.count("a2a: ") == 1
    assert home_of("empty", URL).is_dir()


async def test_a_squad_whose_start_is_given_up_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "late_squad.py").write_text('SQUAD = {"name": "late", "skill": "x", "agents": {}}\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    started, starts = list[Any](), subprocess.Popen

    def start(command: list[str], **options: Any) -> Any:
        started.append(starts([sys.executable, "-c", "import time; time.sleep(100)"], **options))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", start)
    with anyio.fail_after(30):
        detaching = asyncio.create_task(detach("late_squad", Place(URL)))
        while not started:
            await anyio.lowlevel.checkpoint()
        detaching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await detaching
    assert started[0].returncode == -signal.SIGTERM


def test_an_agent_that_the_squad_does_not_have_cannot_be_added(command: Command) -> None:
    done = command("squad", "up", "maintenance", "--with", "coder-model", "--with", "nobody", "--url", URL)
    assert done.code == 1
    assert (
        "the squad maintenance has no optional agent nobody; there are: coder-model, judge-model, intent-model, gremlin"
        in done.err
    )


def test_an_added_agent_is_started_detached_as_well(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = {"name": "wider", "skill": "x", "agents": {}, "optional": {"dead": "wider_squad"}}
    (tmp_path / "wider_squad.py").write_text(f'SQUAD = {described}\nprint("no model")\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    url = f"ws://127.0.0.1:{free_port()}"
    done = command("squad", "up", "wider_squad", "--detach", "--with", "dead", "--url", url)
    assert done.code == 1, done.out
    assert "dead does not start: no model" in done.err
    assert done.err.count("no model") == 1, "it says the same each time it is started"


def test_a_squad_may_be_described_in_this_directory(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    assert "there is no squad one_of_ours" in command("squad", "down", "one_of_ours").err
    (tmp_path / "one_of_ours.py").write_text('SQUAD = {"name": "ours", "skill": "x", "agents": {"x": "x"}}')
    importlib.invalidate_caches()
    assert "no squad ours is up" in command("squad", "down", "one_of_ours").err
