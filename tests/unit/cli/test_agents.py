"""`a2a agent ...`; its long-running commands are tried as processes in tests/process."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from a2a import Agent, ConnectError
from a2a.cli import agents as agents_module
from a2a.cli.agents import _serve
from a2a.cli.options import Connection
from a2a.cli.output import Output
from a2a.credentials import StateDirectoryError, default_ledger
from a2a.hosting import host
from a2a.ids import new_suffix
from a2a.link import Link, LinkSettings
from a2a.protocol.session import Identity


def test_who_is_there(command: Any, world: Any) -> None:
    done = command("agent", "ls")
    head, row = done.out.splitlines()
    assert head.split() == ["AGENT", "STATUS", "LOAD", "HEARD", "SKILLS"]
    assert row.startswith("helper  ready   0/8")
    assert "count_words, wait" in row


def test_agents_as_json_and_by_skill(command: Any, world: Any) -> None:
    done = command("agent", "ls", "--skill", "count_words", "--json")
    shown = json.loads(done.out)
    assert (shown["agent"], shown["status"], shown["labels"], shown["credit"]) == (
        "helper",
        "ready",
        {"room": "blue"},
        8,
    )
    assert 0 <= shown["seenMs"] < 60_000
    assert shown["card"]["version"] == "2.0"
    none = command("agent", "ls", "--skill", "flying")
    assert (none.code, none.out, none.err) == (0, "", "no agent has the skill flying\n")


def test_agents_by_status(command: Any, world: Any) -> None:
    async def come_and_go() -> None:
        gone, stop, ready = Agent("gone"), anyio.Event(), anyio.Event()

        @gone.skill
        async def fly() -> None:
            """Nobody waits for it."""

        async with anyio.create_task_group() as group:
            group.start_soon(partial(gone.run, world.url, stop=stop, ready=ready.set))
            await ready.wait()
            stop.set()

    def listed(*options: str) -> list[str]:
        shown = [json.loads(line)["agent"] for line in command("agent", "ls", *options, "--json").out.splitlines()]
        rows = command("agent", "ls", *options).out.splitlines()[1:]
        assert [row.split()[0] for row in rows] == shown
        return shown

    world.call(come_and_go)
    assert listed() == listed("--status", "ready", "--status", "away") == ["gone", "helper"]
    assert listed("--status", "ready") == ["helper"]
    assert listed("--status", "away", "--skill", "fly") == ["gone"]
    assert command("agent", "ls", "--status", "draining").err == "no agent is draining\n"
    none = command("agent", "ls", "--status", "ready", "--status", "draining", "--skill", "fly")
    assert (none.code, none.out, none.err) == (0, "", "no agent is ready or draining and has the skill fly\n")
    assert command("agent", "ls", "--status", "ready", "--skill", "x").err == "no agent has the skill x\n"
    assert "'ready', 'draining', 'away'" in command("agent", "ls", "--status", "here").err


def test_one_agent_with_the_tasks_it_holds(command: Any, world: Any, gate: Any) -> None:
    task = command("delegate", "wait", "--no-wait").out.strip()
    world.call(gate.begun.wait)
    done = command("agent", "show", "helper")
    assert done.out.startswith("helper  ready  version 2.0\n  Helps with tests\n  room=blue\n")
    assert "  skill count_words: Count the words of a text.  [text]\n" in done.out
    assert re.search(rf"^  task {task}: wait, leased, attempt 1, for \d+\.\d s$", done.out, re.MULTILINE)
    shown = json.loads(command("agent", "show", "helper", "--json").out)
    assert [held["id"] for held in shown["tasks"]] == [task]
    world.call(gate.open.set)


def test_the_tasks_an_agent_holds_are_shown_with_how_far_they_are(
    command: Any, world: Any, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("delegate", "wait", "--no-wait")
    world.call(gate.begun.wait)
    monkeypatch.setattr(agents_module, "how_far", lambda metadata: f"50% in\nstate {metadata['state']}")
    [line] = [line for line in command("agent", "show", "helper").out.splitlines() if " task " in line]
    assert line.endswith(" s, 50% in\\nstate leased")
    world.call(gate.open.set)


@pytest.mark.parametrize("what", ["show", "drain"])
def test_an_agent_that_is_not_there_is_named(command: Any, world: Any, what: str) -> None:
    done = command("agent", what, "nobody")
    assert (done.code, done.err) == (1, "a2a: there is no agent nobody\n")


def test_who_was_refused_to_be_an_agent_without_a_card_is_shown(command: Any, world: Any, tmp_path: Path) -> None:
    async def come(secrets: dict[str, str]) -> None:
        settings = LinkSettings(url=world.url, token=world.hosted.tokens.token, secrets=secrets)
        link = Link(settings, Identity("boss", new_suffix(), 1))
        try:
            await link.open()
        finally:
            await link.aclose()

    world.call(come, {"boss": "its own"})
    with pytest.raises(ConnectError, match="auth"):
        world.call(come, {"boss": "a guess"})
    done = command("agent", "show", "boss")
    assert done.code == 0
    head, line = done.out.splitlines()
    assert head == "boss  has no card on file"
    assert line.startswith("  refused    hello of boss: auth: boss is bound to a secret")
    shown = json.loads(command("agent", "show", "boss", "--json").out)
    assert (shown["agent"], shown["card"]) == ("boss", None)
    assert [(kept["kind"], kept["code"]) for kept in shown["refused"]] == [("hello", "auth")]


def test_an_agent_that_processes_take_from_each_other_is_shown_as_that(
    command: Any, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"conflict": "main-k7", "leftMs": 12_000}
    monkeypatch.setattr("a2a.engine.conflicts.flapping.told_of", lambda world, agent, now: told)
    done = command("agent", "show", "helper")
    assert "gets no offers for another 12 s: processes take its id from each other\n" in done.out
    assert f"a2a conflict resolve main-k7 none --url {world.url}\n" in done.out
    shown = json.loads(command("agent", "show", "helper", "--json").out)
    assert shown["quarantine"] == {"conflict": "main-k7", "left": 12.0}
    monkeypatch.undo()
    assert "gets no offers" not in command("agent", "show", "helper").out


def test_draining_needs_the_operators_token_and_is_seen(command: Any, world: Any) -> None:
    done = command("agent", "drain", "helper")
    assert (done.code, done.err) == (0, "helper takes no new tasks; it holds 0 tasks\n")
    assert json.loads(command("agent", "drain", "helper", "--json").out)["status"] == "draining"
    world.hosted.tokens.token_file.with_name("operator-token").unlink()
    refused = command("agent", "drain", "helper")
    assert refused.code == 1
    assert refused.err.startswith("a2a: forbidden: ")


def test_an_agent_is_forgotten_and_a_lost_secret(command: Any, world: Any) -> None:
    async def come(secret: str) -> None:
        settings = LinkSettings(url=world.url, token=world.hosted.tokens.token, secrets={"boss": secret})
        link = Link(settings, Identity("boss", new_suffix(), 1))
        try:
            await link.open()
        finally:
            await link.aclose()

    world.call(come, "its own")
    with pytest.raises(ConnectError, match="boss is bound to a secret"):
        world.call(come, "a new one")
    done = command("agent", "forget", "boss", "--secret")
    told = "the secret of boss is forgotten: start it now; its next connection gets a new one\n"
    assert (done.code, done.out, done.err) == (0, "", told)
    world.call(come, "a new one")
    shown = json.loads(command("agent", "forget", "boss", "--secret", "--json").out)
    assert shown == {"agent": "boss", "forgotten": "secret"}
    world.call(come, "another")
    done = command("agent", "forget", "boss")
    assert (done.code, done.err) == (0, "boss is forgotten\n")
    done = command("agent", "forget", "boss")
    assert (done.code, done.err) == (1, "a2a: nothing is known about boss\n")
    done = command("agent", "forget", "helper")
    assert (done.code, done.err) == (1, "a2a: denied: helper is here: stop it first\n")
    world.hosted.tokens.token_file.with_name("operator-token").unlink()
    done = command("agent", "forget", "boss")
    assert (done.code, done.err.startswith("a2a: forbidden: only an operator may have boss forgotten")) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("run", "no_such_module:agent"), "there is no module no_such_module"),
        (("run", "x:y", "--workers", "0"), "--workers"),
        (("exec", "--", "true"), "--skill"),
        (("exec", "--skill", "x"), "COMMAND"),
        (("exec", "--skill", "x", "--timeout", "0", "--", "true"), "--timeout"),
    ],
)
def test_what_cannot_be_run_is_a_usage_error(command: Any, arguments: tuple[str, ...], named: str) -> None:
    done = command("agent", *arguments)
    assert done.code == 2
    assert named in done.err


def test_an_agent_that_is_not_let_in_ends(command: Any, world: Any, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not the token")
    done = command("agent", "exec", "--skill", "x", "--token-file", str(wrong), "--", "true")
    assert done.code == 3
    assert "refused exec-x: auth" in done.err


async def test_an_agent_whose_name_is_no_text_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "a2a")  # what is logged has the name, which goes to no other process
    with anyio.fail_after(30):
        async with host() as hosted:
            with pytest.raises(ConnectError, match="malformed: the hello cannot be sent"):
                await Agent("\udcff").run(hosted.url)


async def test_an_agent_whose_secret_cannot_be_kept_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A2A_STATE_DIR", "/dev/null/a2a")
    with anyio.fail_after(30), pytest.raises(StateDirectoryError, match="/dev/null/a2a cannot be made"):
        await _serve(Agent("x"), Connection("ws://127.0.0.1:1", None), "x", 0.0, Output())


def test_agents_are_read_from_the_ledger_where_no_coordinator_runs(
    monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    async def leave_an_agent() -> str:
        default_ledger().parent.mkdir(parents=True)
        agent, stop, ready = Agent("judge"), anyio.Event(), anyio.Event()

        @agent.skill
        async def review() -> None:
            """Nobody asks."""

        with anyio.fail_after(30):
            async with host(default_ledger()) as hosted, anyio.create_task_group() as group:
                group.start_soon(partial(agent.run, hosted.url, stop=stop, ready=ready.set))
                await ready.wait()
                stop.set()
        return hosted.url

    url = anyio.run(leave_an_agent)
    monkeypatch.delenv("A2A_TOKEN", raising=False)
    monkeypatch.setattr("a2a.cli.options.DEFAULT_URL", url)
    listed = command("agent", "ls", "--url", url, "--json")
    assert listed.code == 0, listed.err
    told = json.loads(listed.out)
    assert (told["agent"], told["status"], told["skills"]) == ("judge", "away", ["review"])
    shown = command("agent", "show", "judge", "--url", url)
    assert (shown.code, "skill review" in shown.out) == (0, True), shown.err
    assert command("agent", "drain", "judge", "--url", url).code == 3, "changing needs a coordinator"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--skill", "", "--", "tr", "a", "b"), "--skill: expected the name of a skill"),
        (("--skill", "x", "--", "/no/such/program"), "/no/such/program: there is no such program"),
    ],
)
def test_what_can_never_work_is_refused_at_the_start(
    command: Any, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.setattr("a2a.cli.agents.run_loop", lambda main: None)  # it would serve until somebody ends it
    done = command("agent", "exec", *arguments)
    assert (done.code, words in done.err) == (2, True)


# A remote agent -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ftp://h",), "Invalid value for URL: expected http"),
        (("http://u:secret@h",), "without a user"),
        (("http://h", "--bearer-file", "none"), "Invalid value for --bearer-file: none: "),
        (("http://h", "--header-file", "X-Key"), "--header-file: expected NAME=FILE, got 'X-Key'"),
        (("http://h", "--header-file", "X Key=f"), "--header-file: expected NAME=FILE, got 'X Key=f'"),
        (("http://h", "--header-file", "X-Key="), "--header-file: expected NAME=FILE, got 'X-Key='"),
        (("http://h", "--header-file", f"A={__file__}", "--header-file", "a=b"), "each header once, got a again"),
        (("http://h", "--bearer-file", "b", "--header-file", "authorization=a"), "got authorization again"),
        (("http://h", "--header-file", "X-Key=none"), "Invalid value for --header-file: none: "),
        (("http://h", "--away", "0"), "--away"),
        (("http://h", "--concurrency", "0"), "--concurrency"),
    ],
)
def test_a_remote_agent_that_cannot_be_asked_is_a_usage_error(
    command: Any, arguments: tuple[str, ...], words: str
) -> None:
    done = command("agent", "remote", *arguments)
    assert (done.code, words in done.err) == (2, True), done.err
    assert "secret" not in done.err


def test_a_token_that_is_no_line_is_refused_and_not_shown(command: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hush\nhush")
    done = command("agent", "remote", "http://h", "--bearer-file", str(tmp_path / "token"))
    assert (done.code, "one line of printable ASCII" in done.err, "hush" in done.err) == (2, True, False)


def test_without_the_extra_it_says_what_to_install(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    monkeypatch.delitem(sys.modules, "a2a.gateways.calling", raising=False)
    done = command("agent", "remote", "http://h")
    assert (done.code, done.out) == (1, "")
    assert done.err == "a2a: `a2a agent remote` needs httpx2: pip install 'a2a-coordinator[remote]'\n"


def test_a_remote_agent_that_is_not_there_is_not_connected(command: Any) -> None:
    done = command("agent", "remote", "http://127.0.0.1:9")
    assert done.code == 3
    assert "GET http://127.0.0.1:9/.well-known/agent-card.json: " in done.err


def test_the_help_says_what_a_remote_agent_is_called_by_default(command: Any) -> None:
    shown = " ".join(command("agent", "remote", "--help").out.split())
    assert "by default remote-NAME@HOST:PORT/PATH" in shown


def headers_of(arguments: tuple[str, ...], command: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what `a2a agent remote` asks for its headers."""
    made: list[Any] = []
    monkeypatch.setattr("a2a.cli.agents.run_loop", lambda main: None)
    monkeypatch.setattr("a2a.gateways.calling.Caller", lambda asked, headers, allowed: made.append((headers, allowed)))
    done = command("agent", "remote", "http://h", *arguments)
    assert done.code == 0, done.err
    return made[0]


def test_tokens_are_read_again_and_the_last_ones_stay_while_a_file_is_away(
    command: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token, key = tmp_path / "token", tmp_path / "key"
    token.write_text("one\n")
    key.write_text("k=1")
    options = ("--bearer-file", str(token), "--header-file", f"X-Key={key}", "--allow-host", "Other")
    headers, allowed = headers_of(options, command, monkeypatch)
    assert (headers(), allowed) == ({"Authorization": "Bearer one", "X-Key": "k=1"}, ["other"])
    token.write_text("two")
    assert headers()["Authorization"] == "Bearer two"
    token.unlink()
    assert headers() == {"Authorization": "Bearer two", "X-Key": "k=1"}


def show(card: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every remote agent show this card."""

    async def pieces() -> AsyncIterator[bytes]:
        yield json.dumps(card).encode()

    answer = httpx2.MockTransport(lambda request: httpx2.Response(200, content=pieces()))
    monkeypatch.setattr("a2a.gateways.calling.httpx2.AsyncClient", partial(httpx2.AsyncClient, transport=answer))


@pytest.mark.parametrize(
    ("card", "words"),
    [
        (
            {"skills": [], "streaming": True},
            "expected an interface JSONRPC or HTTP+JSON of A2A 1.0 in the card, got none",
        ),
        ({"supportedInterfaces": [{"url": "http://other/", "protocolBinding": "JSONRPC"}]}, "--allow-host other"),
        ({"supportedInterfaces": [{"url": "/rpc", "protocolBinding": "JSONRPC"}]}, "the card names no skill"),
    ],
)
def test_a_card_that_is_of_no_use_is_told(command: Any, monkeypatch: pytest.MonkeyPatch, card: Any, words: str) -> None:
    show(card, monkeypatch)
    done = command("agent", "remote", "http://127.0.0.1:9")
    assert (done.code, words in done.err) == (1, True), done.err


def test_what_the_card_demands_is_told_at_the_start_with_the_option_that_gives_it(
    command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = {
        "name": "Far",
        "supportedInterfaces": [{"url": "/rpc", "protocolBinding": "JSONRPC"}],
        "skills": [{"id": "x"}],
        "securitySchemes": {"token": {"httpAuthSecurityScheme": {"scheme": "Bearer"}}},
    }
    served: list[Any] = []

    async def serve(agent: Any, connection: Any, name: str, grace: float, *_: Any) -> None:
        served.append((name, agent.concurrency, agent.away, grace))

    show(card, monkeypatch)
    monkeypatch.setattr("a2a.cli.agents._serve", serve)
    done = command("agent", "remote", "http://h/", "--away", "7", "--grace", "1", "--concurrency", "2")
    assert done.code == 0, done.err
    assert done.err == (
        "http://h/.well-known/agent-card.json: the agent asks for a bearer token: --bearer-file FILE\n"
        "without it, tasks will fail, unless the card asks for more than the agent needs\n"
    )
    assert served == [("remote-far@h", 2, 7.0, 1.0)]
