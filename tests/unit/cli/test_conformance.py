"""`a2a conformance run` and `a2a conformance ls`."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import a2a.cli.conformance as module
from a2a.conformance import playing
from a2a.conformance.case import Case, Failed, Need, Role, Skipped
from a2a.conformance.peer import Coordinator
from a2a.conformance.requirements import Level, requirements
from a2a.conformance.runner import Outcome, Status
from a2a.conformance.stand_in import PeerSettings
from a2a.conformance.uncovered import REASONS
from a2a.credentials import load_tokens

Write = Callable[..., None]

SERVER = f"{sys.executable} -m a2a coordinator run --listen 127.0.0.1:{{port}} --db {{state}}/ledger.db"
TOKEN_FILE = "{state}/coordinators/127.0.0.1_{port}/token"
SILENT = """
import os, pathlib, socket, sys, time
pathlib.Path(sys.argv[2]).write_text(str(os.getpid()))
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(600)
"""


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch) -> Write:
    """Have the suite consist of the cases that are written with this."""
    written: list[Case] = []
    monkeypatch.setattr(playing, "CASES", written)

    def add(run: Any, requirement: str = "ID-1", role: Role = Role.COORDINATOR, **fields: Any) -> None:
        level = fields.pop("level", Level.MUST)
        written.append(Case(requirement, run.__name__, role, level, "It is tried.", run, **fields))

    return add


async def passes(under: Any) -> None:
    pass


async def fails(under: Any) -> None:
    raise Failed("expected ok; came: \x1b[2J")


async def is_skipped(under: Any) -> None:
    raise Skipped("nobody can")


# A coordinator --------------------------------------------------------------------------------------------------------


def test_our_coordinator_is_found_with_its_tokens(command: Any, world: Any) -> None:
    done = command("conformance", "run", "HELLO-1", "AUTH-2", "--url", world.url, "--verbose", "--encoding", "both")
    assert done.code == 0, done.out + done.err
    assert f"4 cases on {world.url}, in json and msgpack" in done.err
    lines = done.out.splitlines()
    assert len([line for line in lines if line.startswith("passed   MUST")]) == 8, "the operator's token was found"
    assert any(line.endswith("HELLO-1/refuses_what_comes_before_a_hello [msgpack]") for line in lines)
    assert any(line.endswith("WIRE-3/every_frame_fits_the_schema_of_its_kind [json]") for line in lines)
    assert lines[-1] == "conforms: 8 of 8 MUST passed"


def test_the_report_is_written_in_every_form(command: Any, world: Any, tmp_path: Path) -> None:
    forms = {"--json-file": "r.json", "--junit": "r.xml", "--html": "r.html", "--md": "r.md"}
    options = [word for option, name in forms.items() for word in (option, str(tmp_path / name))]
    done = command("conformance", "run", "HELLO-1", "--url", world.url, "--json", *options)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["conforms"], told["version"], told["peer"]) == (True, "1.0", world.url)
    assert [(case["requirement"], case["encoding"]) for case in told["cases"]] == [
        ("HELLO-1", "json"),
        ("WIRE-3", "json"),
    ]
    assert (tmp_path / "r.json").read_text() == done.out.rstrip("\n")
    assert ElementTree.parse(tmp_path / "r.xml").getroot().get("tests") == "2"
    assert (tmp_path / "r.html").read_text().startswith("<!DOCTYPE html>")
    assert (tmp_path / "r.md").read_text().startswith("## a2a conformance: coordinator")
    tokens = load_tokens(world.url)
    assert tokens is not None
    for name in forms.values():
        assert tokens.token not in (tmp_path / name).read_text(), "a report is passed on"


def test_the_exit_code_is_the_verdict(command: Any, world: Any, write: Write) -> None:
    write(passes)
    write(fails, level=Level.SHOULD)
    write(is_skipped)
    run = ("conformance", "run", "--url", world.url)
    assert command(*run).code == 0
    strict = command(*run, "--strict")
    assert strict.code == 8
    assert "does not conform (strict): 1 of 2 MUST passed, 0 of 1 SHOULD passed, 1 skipped" in strict.out
    assert "nobody can" in strict.out
    write(fails, "ID-2")
    done = command(*run, "--quiet")
    assert (done.code, done.err) == (8, "")
    assert done.out == "does not conform: 1 of 3 MUST passed, 0 of 1 SHOULD passed, 1 skipped\n"
    assert "\\u001b[2J" in command(*run, "--verbose").out


def test_encodings_do_not_meet_in_one_ledger(command: Any, world: Any, write: Write) -> None:
    names = []

    async def is_named(under: Coordinator) -> None:
        names.append(under.name())

    write(is_named)
    assert command("conformance", "run", "--url", world.url, "--encoding", "both").code == 0
    assert command("conformance", "run", "--url", world.url).code == 0
    assert len(set(names)) == 3


def test_restarts_come_behind_all_that_may_wait_for_a_timer(command: Any, world: Any, write: Write) -> None:
    tried = []

    async def restarts(under: Coordinator) -> None:
        tried.append(("restarts", under.encoding))

    async def waits(under: Coordinator) -> None:
        tried.append(("waits", under.encoding))

    write(restarts, needs=frozenset({Need.RESTART}))
    write(waits)
    done = command("conformance", "run", "--url", world.url, "--encoding", "both", "--json")
    assert tried == [("waits", "json"), ("waits", "msgpack"), ("restarts", "json"), ("restarts", "msgpack")]
    reported = [(case["id"], case["encoding"]) for case in json.loads(done.out)["cases"]]
    assert reported == [(f"ID-1/{name}", how) for how in ("json", "msgpack") for name in ("restarts", "waits")]


def test_what_came_in_all_cases_is_judged_behind_the_restarts(command: Any, world: Any, write: Write) -> None:
    tried = []

    async def judges(under: Coordinator) -> None:
        tried.append(("judges", under.encoding, under.forms.frames))

    async def restarts(under: Coordinator) -> None:
        await under.peer()
        tried.append(("restarts", under.encoding, under.forms.frames))

    async def greets(under: Coordinator) -> None:
        await under.peer()
        tried.append(("greets", under.encoding, under.forms.frames))

    write(judges, "WIRE-3", needs=frozenset({Need.OTHERS}))
    write(restarts, needs=frozenset({Need.RESTART}))
    write(greets, "ID-2")
    run = ("conformance", "run", "--url", world.url)
    assert command(*run, "--encoding", "both").code == 0
    assert tried == [
        ("greets", "json", 1),
        ("greets", "msgpack", 1),
        *(("restarts", "json", 2), ("judges", "json", 2)),
        *(("restarts", "msgpack", 2), ("judges", "msgpack", 2)),
    ]
    tried.clear()
    assert command(*run, "ID-2").code == 0
    assert tried == [("greets", "json", 1), ("judges", "json", 1)], "it comes with any"


def test_what_a_run_left_at_a_url_is_cleared_with_the_operators_token(
    command: Any, world: Any, write: Write, tmp_path: Path
) -> None:
    async def delegates(under: Coordinator) -> None:
        await (await under.peer()).delegate(under.skill())

    write(delegates)
    run = ("conformance", "run", "--url", world.url, "--encoding", "both")
    done = command(*run)
    assert (done.code, done.err.splitlines()[-1]) == (
        0,
        "2 open tasks of the run canceled, 3 of its agents forgotten, 1 stayed",
    ), "of each encoding who has delegated, and of one who has greeted"
    (tmp_path / "wrong").write_text("another")
    done = command(*run, "--operator-token-file", str(tmp_path / "wrong"))
    assert done.code == 0, "it is no failure of the run"
    told = "0 open tasks of the run canceled, 0 of its agents forgotten, 4 stayed: expected welcome; came: "
    assert done.err.splitlines()[-1].startswith(told)
    assert "forgotten" not in command(*run, "--quiet").err


def test_without_the_operators_token_it_is_told_what_stays(
    command: Any, world: Any, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(passes)
    kept = load_tokens(world.url)
    assert kept is not None
    monkeypatch.setattr(module, "load_tokens", lambda _: replace(kept, operator_token=""))
    done = command("conformance", "run", "--url", world.url)
    assert done.code == 0
    assert done.err.splitlines()[-1] == "1 agents of the run stay, and their tasks: only an operator can forget them"


def test_tokens_may_come_from_files_and_the_environment(
    command: Any, world: Any, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    async def sees(under: Coordinator) -> None:
        seen.append((under.settings.token, under.settings.operator_token))

    async def greeted(*_: Any, **__: Any) -> tuple[str, str]:
        return "1.0", ""

    write(sees)
    monkeypatch.setattr(module, "_version", greeted)
    run = ("conformance", "run", "--url", world.url)
    kept = load_tokens(world.url)
    assert kept is not None
    (tmp_path / "token").write_text("one\n")
    (tmp_path / "operator").write_text("two\n")
    monkeypatch.setenv("A2A_TOKEN", "three")
    assert command(*run).code == 0
    files = ("--token-file", str(tmp_path / "token"), "--operator-token-file", str(tmp_path / "operator"))
    assert command(*run, *files).code == 0
    assert seen == [("three", kept.operator_token), ("one", "two")]
    assert command(*run, "--token-file", str(tmp_path / "none")).code == 2


def test_a_wrong_token_is_told_before_every_case_fails_of_it(command: Any, world: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("wrong")
    done = command("conformance", "run", "--url", world.url, "--token-file", str(tmp_path / "token"))
    assert done.code == 3
    assert "refuses the suite" in done.err
    assert "--token-file" in done.err


def test_where_nobody_listens_there_is_nothing_to_try(command: Any) -> None:
    done = command("conformance", "run", "--url", "ws://127.0.0.1:1")
    assert done.code == 3
    assert "nothing listens at ws://127.0.0.1:1" in done.err


def test_that_nothing_is_answered_is_told_before_all_cases_fail_of_it(
    command: Any, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    write(passes)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}"
        done = command("conformance", "run", "--url", url)
    says = f"{url} does not welcome the suite: nothing came within 0.1 s"
    assert done.err.splitlines().count(says) == 1


def test_why_a_coordinator_does_not_welcome_the_suite_is_told(
    command: Any, world: Any, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Coordinator, "hello", lambda *_: {"versions": ["7.0", "7.0"], "agentId": "x"})
    write(passes)
    done = command("conformance", "run", "--url", world.url)
    assert f"{world.url} does not welcome the suite: expected a welcome, got error: " in done.err


def test_the_suite_starts_a_coordinator_and_starts_it_again(command: Any, write: Write) -> None:
    async def comes_back(under: Coordinator) -> None:
        name = under.name()
        await under.peer(name)
        await under.restart()
        await under.peer(name)

    write(comes_back, needs=frozenset({Need.RESTART}))
    done = command("conformance", "run", "--cmd", SERVER, "--token-file", TOKEN_FILE)
    assert done.code == 0, done.out + done.err
    assert "of the run" not in done.err, "its ledger goes with it"


def test_what_was_tried_is_told_of_a_coordinator_that_dies(command: Any, write: Write, tmp_path: Path) -> None:
    pid = tmp_path / "pid"

    async def kills(under: Coordinator) -> None:
        peer = await under.peer()
        os.kill(int(pid.read_text()), signal.SIGKILL)
        await peer.ended()
        await under.peer()

    async def comes_too_late(under: Coordinator) -> None:
        await under.peer()

    write(passes)
    write(kills, "ID-2", needs=frozenset({Need.ALONE}))
    write(comes_too_late, "ID-4", needs=frozenset({Need.RESTART}))
    program = f"sh -c 'echo $$ > {pid}; exec {SERVER}'"
    done = command("conformance", "run", "--cmd", program, "--token-file", TOKEN_FILE, "--json")
    assert done.code == 8, done.err
    told = {case["id"]: case for case in json.loads(done.out)["cases"]}
    assert [told[name]["outcome"] for name in ("ID-1/passes", "ID-2/kills", "ID-4/comes_too_late")] == [
        "passed",
        "failed",
        "failed",
    ]
    assert "; the coordinator died of signal 9: " in told["ID-4/comes_too_late"]["detail"]


def test_a_foreign_coordinator_is_restarted_by_a_command(
    command: Any, world: Any, write: Write, tmp_path: Path
) -> None:
    async def restarts(under: Coordinator) -> None:
        await under.restart()
        await under.peer()

    write(restarts, needs=frozenset({Need.RESTART}))
    run = ("conformance", "run", "--url", world.url)
    assert "no command was given that restarts the coordinator" in command(*run).out
    done = command(*run, "--restart", f"touch '{tmp_path / 'done'}'", "--strict")
    assert done.code == 0, done.out
    assert (tmp_path / "done").exists()


def test_a_program_that_does_not_listen_is_no_coordinator(command: Any) -> None:
    done = command("conformance", "run", "--cmd", f"{sys.executable} -c 'print(\"no thanks\")'")
    assert done.code == 1
    assert "no thanks" in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_what_was_started(
    command: Any, write: Write, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def is_interrupted(under: Coordinator) -> None:
        os.kill(os.getpid(), number)
        await under.connect()  # which nobody answers

    write(is_interrupted)
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    (tmp_path / "silent.py").write_text(SILENT)
    pid = tmp_path / "pid"
    done = command("conformance", "run", "--cmd", f"{sys.executable} {tmp_path / 'silent.py'} {{port}} {pid}")
    assert done.code == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


# Agents and clients ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Role.AGENT, Role.CLIENT])
def test_for_agents_and_clients_the_suite_listens(
    command: Any, write: Write, tmp_path: Path, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    async def play(chosen: list[Case], settings: PeerSettings, *, encoding: str, jobs: int, told: Any) -> list[Outcome]:
        settings.announce("ws://127.0.0.1:1")
        asked.append((settings.command, settings.listen, settings.token, settings.run, encoding, jobs))
        outcomes = [Outcome(case, Status.PASSED, 0.5) for case in chosen]
        for outcome in outcomes:
            told(outcome)
        return outcomes

    write(passes, role=role)
    monkeypatch.setattr(playing, "play_peer", play)
    (tmp_path / "token").write_text("door")
    run = ("conformance", "run", "--role", role.value, "--jobs", "3", "--encoding", "both", "--verbose")
    done = command(*run, "--cmd", "true {url}", "--token-file", str(tmp_path / "token"))
    assert done.code == 0, done.err
    first, second = asked
    assert (first[:3], first[4:]) == (("true {url}", "127.0.0.1:0", "door"), ("json", 3))
    assert second[4] == "msgpack"
    assert first[3] != second[3]
    assert "ID-1/passes [msgpack]" in done.out
    done = command(*run, "--listen", "127.0.0.1:7", "--quiet")
    assert done.err == "listening at ws://127.0.0.1:1\n" * 2, "who is to come has to know where to"
    assert asked[-1][:3] == (None, "127.0.0.1:7", "")


def test_what_a_client_may_be_started_with_is_in_the_help(command: Any, write: Write, tmp_path: Path) -> None:
    named = {*re.findall(r"{\w+}", command("conformance", "run", "--help").out)} - {"{names}", "{port}"}
    told = tmp_path / "told.json"
    tells = f"import json, os, sys; json.dump([sys.argv[1:], dict(os.environ)], open({str(told)!r}, 'w'))"

    async def starts(under: Any) -> None:
        await under.start()
        await under.program.exited()

    write(starts, role=Role.CLIENT)
    program = shlex.join([sys.executable, "-c", tells, *(f"{name[1:-1]}={name}" for name in named)])
    assert command("conformance", "run", "--role", "client", "--cmd", program).code == 0
    pairs, variables = json.loads(told.read_text())
    filled = dict(pair.split("=", 1) for pair in pairs)
    assert filled.keys() == {"state", "url", "token", "encoding", "skill", "key", "input"}
    assert not {f"{{{name}}}" for name in filled} & {*filled.values()}
    assert [variables[f"A2A_{name}"] for name in ("STATE_DIR", "URL", "TOKEN")] == [
        filled[name] for name in ("state", "url", "token")
    ]


def test_an_address_that_is_taken_is_no_fault_of_an_agent(command: Any, write: Write, world: Any) -> None:
    write(passes, role=Role.AGENT)
    taken = world.url.removeprefix("ws://")
    done = command("conformance", "run", "--role", "agent", "--cmd", "true", "--listen", taken)
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith(f"a2a: cannot listen on {taken}: Address already in use\n")


# Usage ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "expected one of --url"),
        (("--url", "ws://127.0.0.1:1", "--cmd", "x"), "expected one of --url"),
        (("--cmd", "x", "--restart", "y"), "--restart goes with --url"),
        (("--cmd", "'x"), "is not a command line"),
        (("--cmd", ""), "is not a command line"),
        (("--cmd", "/no/such/program {url}"), "--cmd: /no/such/program: there is no such program"),
        (("--role", "agent", "--cmd", "no-such-program"), "--cmd: no-such-program: there is no such program"),
        (("--url", "http://127.0.0.1:1"), "expected ws://HOST:PORT"),
        (("--url", "ws://127.0.0.1:high"), "expected ws://HOST:PORT"),
        (("--role", "agent", "--listen", "127.0.0.1"), "expected HOST:PORT"),
        (("--role", "agent", "--listen", "127.0.0.1:99999"), "expected HOST:PORT"),
        (("--role", "agent", "--listen", "x/y:1"), "expected HOST:PORT"),
        (("--url", "ws://127.0.0.1:1", "NO-1"), "no case is called NO-1"),
        (("--url", "ws://127.0.0.1:1", "--html", "/no/such/place/r.html"), "there is no directory /no/such/place"),
        (("--url", "ws://127.0.0.1:1", "--jobs", "0"), "--jobs"),
    ],
)
def test_what_does_not_go_together_is_told_before_anything_is_tried(
    command: Any, options: tuple[str, ...], says: str
) -> None:
    done = command("conformance", "run", *options)
    assert done.code == 2
    assert says in " ".join(done.err.split())


def test_a_url_is_for_a_coordinator(command: Any, write: Write) -> None:
    write(passes, role=Role.AGENT)
    for option in ("--url", "--restart"):
        done = command("conformance", "run", "--role", "agent", option, "ws://127.0.0.1:1")
        assert done.code == 2
        assert f"{option} is for a coordinator" in " ".join(done.err.split())
    done = command("conformance", "run", "--role", "client")
    assert done.code == 2
    assert "there is no case for the role client" in done.err


# Lists ----------------------------------------------------------------------------------------------------------------


def test_cases_are_listed(command: Any, write: Write) -> None:
    write(passes)
    write(fails, "LEASE-8", Role.AGENT, level=Level.SHOULD, also=("FENCE-1",), needs=frozenset({Need.ALONE}))
    assert "ID-1/passes" in command("conformance", "ls").out
    assert "LEASE-8" not in command("conformance", "ls", "ID").out
    assert "ID-1" not in command("conformance", "ls", "--level", "SHOULD").out
    [told] = [json.loads(line) for line in command("conformance", "ls", "--role", "agent", "--json").out.splitlines()]
    assert told == {
        "id": "LEASE-8/fails",
        "requirement": "LEASE-8",
        "also": ["FENCE-1"],
        "role": "agent",
        "level": "SHOULD",
        "needs": ["alone"],
        "says": "It is tried.",
    }
    assert command("conformance", "ls", "NO-1").code == 2


def test_requirements_are_listed_with_their_cases_or_why_there_is_none(
    command: Any, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(passes)
    write(passes, role=Role.CLIENT)
    write(fails, "LEASE-8", Role.AGENT, also=("FENCE-1",))
    monkeypatch.setattr(module, "REASONS", {**REASONS, "ID-2": "nobody sees it"})

    def listed(*options: str) -> dict[str, Any]:
        done = command("conformance", "ls", "--requirements", "--json", *options)
        assert done.code == 0
        return {told["requirement"]: told for told in map(json.loads, done.out.splitlines())}

    found = listed()
    assert list(found) == list(requirements())
    assert (found["ID-1"]["cases"], found["FENCE-1"]["cases"]) == (["ID-1/passes"], ["LEASE-8/fails"])
    assert (found["ID-2"]["cases"], found["ID-2"]["reason"]) == ([], "nobody sees it")
    assert found["ID-1"]["text"] == requirements()["ID-1"].text
    assert "LEASE-8" not in listed("--role", "coordinator")
    assert listed("LEASE-8", "TREE").keys() == {"LEASE-8", *(name for name in requirements() if "TREE-" in name)}
    assert {told["level"] for told in listed("--level", "MUST").values()} == {"MUST"}
    assert listed("--level", "MAY") == {}
    assert "nobody sees it" in command("conformance", "ls", "--requirements").out
