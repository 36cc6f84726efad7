"""The command line with real processes and signals: what survives, what ends, and that nothing stays behind."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

BOUND = 40.0


class Process:
    """A command of `a2a` under way; every wait has a bound."""

    def __init__(self, *arguments: str, **options: Any) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "a2a", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )
        assert self.popen.stdout is not None and self.popen.stderr is not None
        self._streams = {"out": self.popen.stdout.fileno(), "err": self.popen.stderr.fileno()}
        self.written = {"out": b"", "err": b""}

    @property
    def pid(self) -> int:
        return self.popen.pid

    def line(self, containing: str = "", stream: str = "out") -> str:
        """Return the next line with these words."""
        while True:
            whole, found, rest = self.written[stream].partition(b"\n")
            if found:
                self.written[stream] = rest
                if containing in whole.decode():
                    return whole.decode()
            elif not self._read(stream):
                pytest.fail(f"it ended without saying {containing!r}; the rest: {self.written}")

    def _read(self, stream: str) -> bool:
        ready, _, _ = select.select([self._streams[stream]], [], [], BOUND)
        assert ready, f"nothing on std{stream} within {BOUND:g} s; so far: {self.written}"
        piece = os.read(self._streams[stream], 65_536)
        self.written[stream] += piece
        return bool(piece)

    def ready(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.line())
        return found

    def send(self, number: int) -> None:
        self.popen.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        self.send(number)
        return self.wait()

    def wait(self) -> int:
        out, err = self.popen.communicate(timeout=BOUND)
        self.written = {"out": self.written["out"] + out, "err": self.written["err"] + err}
        return self.popen.returncode


Start = Callable[..., Process]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a state directory of its own."""
    monkeypatch.setenv("A2A_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("A2A_TOKEN", raising=False)
    monkeypatch.delenv("A2A_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    """Start commands; whatever still runs at the end of the test is killed by its number."""
    with ExitStack() as stack:

        def begin(*arguments: str, **options: Any) -> Process:
            process = Process(*arguments, **options)
            stack.callback(_stop, process.popen)
            return process

        yield begin


def _stop(popen: subprocess.Popen[bytes]) -> None:
    if popen.poll() is None:
        popen.kill()
        popen.wait(BOUND)
    for stream in (popen.stdout, popen.stderr):
        if stream is not None:
            stream.close()


@pytest.fixture
def a2a(home: Path) -> Callable[..., str]:
    """Run a command to its end, and return what it wrote to stdout."""

    def run(*arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "a2a", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=BOUND, check=False)
        assert done.returncode == code, f"exit code {done.returncode}: {done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout

    return run


@pytest.fixture
def coordinator(start: Start, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Process, dict[str, Any]]]:
    """Start a coordinator on a ledger here; commands find it from then on."""

    def begin(listen: str = "127.0.0.1:0") -> tuple[Process, dict[str, Any]]:
        process = start("coordinator", "run", "--listen", listen, "--db", "ledger.db", "--ready-json")
        ready = process.ready()
        monkeypatch.setenv("A2A_URL", ready["url"])
        return process, ready

    return begin


def has_ended(pid: int) -> bool:
    """Wait until a process that is not ours has ended, within the bound."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], BOUND)[0])
    finally:
        os.close(handle)


def test_any_program_is_an_agent_and_its_tasks_can_be_looked_at(start: Start, a2a: Any, coordinator: Any) -> None:
    process, ready = coordinator()
    assert (ready["pid"], ready["epoch"], ready["durability"]) == (process.pid, 1, "fsync")
    agent = start("agent", "exec", "--skill", "upper", "--json", "--", "tr", "a-z", "A-Z")
    assert agent.ready()["agent"] == "exec-upper"
    assert a2a("delegate", "upper", "--text", "hello") == "HELLO\n"
    Path("input.txt").write_text("from a file")
    assert a2a("delegate", "upper", "--input", "input.txt", "--key", "k") == "FROM A FILE\n"
    assert a2a("delegate", "upper", "--input", "input.txt", "--key", "k") == "FROM A FILE\n"

    listed = [json.loads(line) for line in a2a("task", "ls", "--json").splitlines()]
    assert [task["metadata"]["state"] for task in listed] == ["completed", "completed"]
    task = listed[0]["id"]
    assert "exec-upper" in a2a("task", "show", task)
    assert a2a("task", "tree", task).startswith(f"{task}  upper  completed  exec-upper (attempt 1)")
    assert a2a("task", "result", task) == "FROM A FILE\n"
    assert "upper" in a2a("agent", "ls")
    assert agent.end() == 0
    assert process.end() == 0
    assert a2a("task", "ls", code=3) == ""


def test_a_person_takes_a_position_appeals_and_decides(home: Path, start: Start, a2a: Any, coordinator: Any) -> None:
    coordinator()
    for name, answer in (("one", "Lyon"), ("two", "Lyon"), ("three", "Paris")):
        start("agent", "exec", "--name", name, "--skill", "capital", "--json", "--", "echo", answer).ready()
    rungs = ("--copies", "3", "--agree", "3", "--resolve", "majority,human,abort", "--effect", "irreversible")
    delegating = start("delegate", "capital", "--text", "France", *rungs)
    told = delegating.line("can be appealed: ", "err")
    conflict = told.partition("a2a conflict appeal ")[2].split()[0]
    assert "majority has decided" in a2a("conflict", "ls", "--open")
    Path("atlas.txt").write_text("page 7: Paris")
    a2a("conflict", "position", conflict, "it is Paris")
    a2a("conflict", "appeal", conflict, "new_evidence", "--evidence", "atlas.txt")
    assert f": a2a conflict resolve {conflict} SUBJECT" in delegating.line("waits for a person: ", "err")
    shown = a2a("conflict", "show", conflict)
    assert ": it is Paris\n" in shown and ": new_evidence\n    page 7: Paris\n" in shown
    subjects = json.loads(a2a("conflict", "show", conflict, "--json"))["subjects"]
    (paris,) = [subject["ref"] for subject in subjects if subject["agent"] == "three"]
    a2a("conflict", "resolve", conflict, paris)
    assert delegating.line() == "Paris"


SLOW = """
import os, sys
with open("runs", "a") as runs:
    runs.write(os.environ["A2A_TASK"] + "\\n")
open("begun", "w").close()
open("go").read()
print(sys.stdin.read().upper(), end="")
"""


def test_a_coordinator_that_is_killed_comes_back_and_the_work_is_done_once(
    home: Path, start: Start, a2a: Any, coordinator: Any
) -> None:
    first, ready = coordinator()
    for name in ("begun", "go"):
        os.mkfifo(name)
    Path("slow.py").write_text(SLOW)
    agent = start("agent", "exec", "--skill", "slow", "--json", "--", sys.executable, "slow.py")
    agent.ready()
    delegating = start("delegate", "slow", "--text", "done")
    Path("begun").read_text()  # the handler is at work
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    Path("go").write_text("now")  # and ends while nobody is there to hear of it

    second, again = coordinator(ready["url"].removeprefix("ws://"))
    assert (again["url"], again["epoch"]) == (ready["url"], 2)
    assert delegating.wait() == 0
    assert delegating.written["out"] == b"DONE\n"
    [task] = [json.loads(line) for line in a2a("task", "ls", "--json").splitlines()]
    assert (task["metadata"]["state"], task["metadata"]["attempt"]) == ("completed", 1)
    assert Path("runs").read_text() == f"{task['id']}\n"
    assert agent.end() == 0
    assert second.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_coordinator_ends_cleanly(start: Start, coordinator: Any, number: int) -> None:
    process, ready = coordinator()
    assert process.end(number) == 0
    assert process.written["err"] == b""
    again, after = coordinator(ready["url"].removeprefix("ws://"))
    assert after["epoch"] == 2
    assert again.end() == 0


def test_a_coordinator_that_can_tell_nobody_where_it_is_ends_and_says_so(home: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "a2a", "coordinator", "run", "--listen", "127.0.0.1:0", "--db", "ledger.db"]
    try:
        done = subprocess.run(
            [*command, "--ready-json"], stdout=writer, stderr=subprocess.PIPE, timeout=BOUND, check=False
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"a2a: nobody reads the standard output any longer\n")


def test_a_ledger_that_cannot_be_written_ends_the_coordinator_with_70(start: Start, a2a: Any, coordinator: Any) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    process = start(
        "coordinator", "run", "--listen", "127.0.0.1:0", "--db", "ledger.db", "--ready-json", preexec_fn=limit
    )
    url = process.ready()["url"]
    Path("large.txt").write_text("x" * 400_000)
    a2a("delegate", "nobody", "--input", "large.txt", "--no-wait", "--url", url, "--timeout", "3", code=4)
    assert process.wait() == 70
    assert b"start the coordinator again" in process.written["err"]
    again, _ = coordinator()
    assert a2a("task", "ls", "--json") == "", "what was not answered did not happen"
    assert again.end() == 0


def test_a_ledger_is_backed_up_while_its_coordinator_works_and_started_from_that(
    home: Path, start: Start, a2a: Any, coordinator: Any
) -> None:
    process, _ = coordinator()
    a2a("delegate", "nobody", "--text", "x" * 100_000, "--no-wait", "--key", "before")
    busy = start("bench", "--seconds", "3600", "--in-flight", "1")
    first = json.loads(a2a("task", "ls", "--skill", "nobody", "--json"))
    while not a2a("task", "ls", "--skill", "bench.echo", "--json"):
        pass  # each look is a process
    made = json.loads(a2a("coordinator", "backup", "ledger.db", "copy.db", "--json"))
    later = json.loads(a2a("coordinator", "backup", "ledger.db", "later.db", "--json"))
    assert later["lsn"] > made["lsn"] > 2, "the coordinator went on"
    assert busy.end(signal.SIGINT) == 130
    assert process.end() == 0
    assert sorted(str(file) for file in home.glob("copy.db*")) == [f"{home}/copy.db", f"{home}/copy.db.blobs"]
    for name in ("copy.db", "later.db"):
        a2a("replay", name, "--verify")
    assert len(a2a("replay", "copy.db", "--json").splitlines()) == made["lsn"]

    for suffix in ("", ".blobs"):
        Path(f"ledger.db{suffix}").rename(f"old.db{suffix}")
        Path(f"copy.db{suffix}").rename(f"ledger.db{suffix}")
    restored, ready = coordinator()
    assert ready["epoch"] == 2
    listed = json.loads(a2a("task", "ls", "--skill", "nobody", "--json"))
    assert (listed["id"], listed["metadata"]["state"]) == (first["id"], "queued")
    assert restored.end() == 0


def test_a_coordinator_with_tls_is_found_by_who_trusts_its_certificate(
    home: Path, start: Start, a2a: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path("authority.pem")
    issued.private_key_pem.write_to_path("key.pem")
    issued.cert_chain_pems[0].write_to_path("cert.pem")
    files = ("--tls-cert", "cert.pem", "--tls-key", "key.pem")
    process = start("coordinator", "run", "--listen", "127.0.0.1:0", "--db", "ledger.db", "--ready-json", *files)
    url = process.ready()["url"]
    assert url.startswith("wss://127.0.0.1:")
    monkeypatch.setenv("A2A_URL", url)
    a2a("task", "ls", code=3)
    monkeypatch.setenv("SSL_CERT_FILE", str(home / "authority.pem"))
    agent = start("agent", "exec", "--skill", "upper", "--json", "--", "tr", "a-z", "A-Z")
    agent.ready()
    assert a2a("delegate", "upper", "--text", "hello") == "HELLO\n"
    assert agent.end() == 0
    assert process.end() == 0


AGENT = """
from a2a import Agent

agent = Agent("greeter", version="1.0")

@agent.skill
async def greet() -> str:
    return "hello"
"""


def test_workers_are_started_again_and_end_with_their_supervisor(start: Start, a2a: Any, coordinator: Any) -> None:
    coordinator()
    Path("greeters.py").write_text(AGENT)
    supervisor = start("agent", "run", "greeters:agent", "--workers", "2", "--json")
    pids = {worker["agent"]: worker["pid"] for worker in (supervisor.ready(), supervisor.ready())}
    assert sorted(pids) == ["greeter/1", "greeter/2"]
    os.kill(pids["greeter/1"], signal.SIGKILL)
    again = supervisor.ready()
    assert again["agent"] == "greeter/1"
    assert "greeter/1 ended (SIGKILL) and is started again" in supervisor.line(stream="err")
    assert a2a("delegate", "greet", "--to", "greeter/1") == "hello\n"
    assert supervisor.end() == 0
    assert has_ended(again["pid"])
    assert has_ended(pids["greeter/2"])


def test_workers_end_when_their_supervisor_is_killed(start: Start, coordinator: Any) -> None:
    coordinator()
    Path("greeters.py").write_text(AGENT)
    supervisor = start("agent", "run", "greeters:agent", "--workers", "2", "--json")
    pids = [supervisor.ready()["pid"], supervisor.ready()["pid"]]
    supervisor.end(signal.SIGKILL)
    assert all(has_ended(pid) for pid in pids)


def test_dev_starts_an_agent_again_when_its_file_changes(
    start: Start, a2a: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("greeters.py").write_text(AGENT)
    dev = start("dev", "greeters:agent", "--listen", "127.0.0.1:0", "--ready-json")
    monkeypatch.setenv("A2A_URL", dev.ready()["url"])
    dev.line("greeter is ready", "err")
    assert a2a("delegate", "greet") == "hello\n"
    Path("greeters.py").write_text(AGENT.replace("hello", "hello again"))
    dev.line("greeters.py changed: greeters:agent is started again", "err")
    dev.line("greeter is ready", "err")
    assert a2a("delegate", "greet") == "hello again\n"
    Path("words.py").write_text("hello = ")  # it is not imported yet, and in no package with it
    dev.line("words.py changed: greeters:agent is started again", "err")
    dev.line("greeter is ready", "err")
    Path("greeters.py").write_text("from words import hello\n" + AGENT.replace('"hello"', "hello"))
    dev.line("greeters:agent ended (exit code 2) and will be started again when one of its files changes", "err")
    Path("words.py").write_text("hello = 'hello at last'")
    dev.line("greeter is ready", "err")
    assert a2a("delegate", "greet") == "hello at last\n"
    children = Path(f"/proc/{dev.pid}/task/{dev.pid}/children").read_text().split()
    assert dev.end(signal.SIGINT) == 0
    assert len(children) == 1
    assert has_ended(int(children[0]))


def test_an_agent_may_start_first_and_ends_when_told_to(start: Start) -> None:
    waiting = start("agent", "exec", "--skill", "upper", "--url", "ws://127.0.0.1:1", "--", "tr", "a-z", "A-Z")
    told = "WARNING a2a.link: nothing listens at 127.0.0.1:1; exec-upper waits until it is there"
    assert waiting.line(stream="err") == told
    began = time.monotonic()
    assert waiting.end() == 0
    assert time.monotonic() - began < BOUND / 2


def test_ctrl_c_leaves_the_task_to_go_on(start: Start, a2a: Any, coordinator: Any) -> None:
    coordinator()
    delegating = start("delegate", "nobody_has_this")
    task = delegating.line("queued", "err").split()[0]
    assert delegating.end(signal.SIGINT) == 130
    assert f"{task} goes on: a2a task result --wait {task}" in delegating.written["err"].decode()
    assert json.loads(a2a("task", "ls", "--json"))["metadata"]["state"] == "queued"
    a2a("task", "cancel", task)


@pytest.mark.parametrize(("number", "grace"), [(signal.SIGKILL, "600"), (signal.SIGTERM, "0.1")])
def test_a_program_ends_with_its_agent_however_that_ends(
    start: Start, a2a: Any, coordinator: Any, tmp_path: Path, number: int, grace: str
) -> None:
    """Another attempt does the work again, so the one whose agent was killed must not go on beside it."""
    coordinator()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    program = ("sh", "-c", f"exec 3>{pipe}; echo up >&3; exec sleep 600")
    agent = start("agent", "exec", "--skill", "long", "--grace", grace, "--", *program)
    a2a("delegate", "long", "--text", "x", "--no-wait")
    with pipe.open("rb", buffering=0) as open_while_it_lives:  # opens when the program does
        assert open_while_it_lives.read(3) == b"up\n"
        agent.end(number)
        ended, _, _ = select.select([open_while_it_lives], [], [], BOUND)
        assert ended and open_while_it_lives.read() == b"", "the last holder of the pipe is gone"


def test_a_tap_shows_what_agents_and_commands_say_and_leaves_nothing_behind(
    a2a: Any, start: Start, coordinator: Any, home: Path
) -> None:
    _, ready = coordinator()
    tap = start("tap", "--url", ready["url"], "--port", "0")
    relay = tap.line("export A2A_URL=", "err").rpartition("=")[2]
    start("agent", "exec", "--skill", "upper", "--url", relay, "--json", "--", "tr", "a-z", "A-Z").line()
    assert a2a("delegate", "upper", "--text", "hello", "--url", relay) == "HELLO\n"
    assert "< task.offer main-" in tap.line("< task.offer ")
    assert "HELLO" in tap.line("> task.report ")
    assert tap.end() == 0
    there = [entry.name for entry in (home / "state" / "coordinators").iterdir()]
    assert there == [ready["url"].removeprefix("ws://").replace(":", "_")]
