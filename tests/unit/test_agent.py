"""The agent: its skills, its card, its program."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
from asyncio.subprocess import PIPE
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from a2a import Agent, connect
from a2a.errors import ConnectError, Malformed
from a2a.hosting import host
from a2a.link import LinkSettings
from a2a.testing import squad

BOUND = 20


def test_a_skill_has_a_name_of_its_own() -> None:
    agent = Agent("twin")
    agent.skill(id="x")(lambda: None)
    with pytest.raises(ValueError, match="already has a skill x"):
        agent.skill(id="x")(lambda: None)


def test_an_agent_takes_something() -> None:
    with pytest.raises(ValueError, match="agent idle: expected a concurrency of at least 1, got 0"):
        Agent("idle", concurrency=0)


def test_main_says_when_the_coordinator_turns_it_away() -> None:
    code = "from a2a import Agent; Agent('x').main(['--url', 'nonsense'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


def test_main_serves_with_what_the_command_line_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, served = Agent("x"), list[dict[str, Any]]()

    async def serve(url: str, **options: Any) -> None:
        served.append({"url": url, **options})

    monkeypatch.setattr(agent, "run", serve)
    (tmp_path / "token").write_text("the token\n")
    agent.main(["--url", "ws://there", "--token-file", str(tmp_path / "token"), "--name", "y", "--grace", "2.5"])
    told = {name: served[0][name] for name in ("url", "token", "name", "grace")}
    assert told == {"url": "ws://there", "token": "the token", "name": "y", "grace": 2.5}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "No such file or directory"),
        (b" \n", "expected a token, got an empty file"),
        (b"\xff", "expected a token, as UTF-8 text"),
    ],
)
def test_main_names_a_file_that_has_no_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, told: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SystemExit) as ended:
        Agent("x").main(["--token-file", str(file)])
    assert ended.value.code == 2
    assert f"argument --token-file: {file}: {told}\n" in capsys.readouterr().err


def test_main_refuses_a_level_that_is_none_and_takes_an_empty_one_for_the_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    agent, served = Agent("x"), list[str]()

    async def serve(url: str, **options: Any) -> None:
        served.append(url)

    monkeypatch.setattr(agent, "run", serve)
    monkeypatch.setenv("A2A_LOG", "loud")
    with pytest.raises(SystemExit) as ended:
        agent.main(["--url", "ws://there"])
    assert ended.value.code == 2
    assert "A2A_LOG: expected DEBUG, INFO, WARNING, ERROR or CRITICAL, got 'loud'\n" in capsys.readouterr().err
    monkeypatch.setenv("A2A_LOG", "")
    agent.main(["--url", "ws://there"])
    assert served == ["ws://there"]


@pytest.mark.parametrize(
    ("at_work", "status", "told"), [("", 0, "last words\nand more\n"), ("hang", 3, "last words\n")]
)
def test_who_leaves_with_plain_functions_at_work_ends_with_the_status_and_all_that_was_said(
    at_work: str, status: int, told: str
) -> None:
    code = f"from a2a import Agent; agent = Agent('x'); agent.blocking |= set('{at_work}'.split())\n"
    code += "print('last words'); agent.leave(3); print('and more')"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=environment)
    assert (done.returncode, done.stdout) == (status, told)


@pytest.mark.parametrize("grace", [-1.0, math.inf, math.nan])
async def test_a_grace_is_a_number_of_seconds(grace: float, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="grace: expected (0 or more|a number of) seconds"):
        await Agent("x").run(grace=grace)
    with pytest.raises(SystemExit):
        Agent("x").main([f"--grace={grace}"])
    assert f"expected a number of seconds, got '{grace}'" in capsys.readouterr().err


STUBBORN = """
import threading
from a2a import Agent

agent = Agent("stubborn")

@agent.skill
def hang() -> None:
    print("begun", flush=True)
    threading.Event().wait()

agent.main(["--grace", "0.1"])
"""


async def test_an_agent_ends_in_time_whatever_its_plain_functions_do(tmp_path: Path) -> None:
    with anyio.fail_after(BOUND):
        async with host(tmp_path / "ledger.db") as hosted, connect(hosted.url, token=hosted.tokens.token) as client:
            environment = os.environ | {"A2A_URL": hosted.url, "A2A_TOKEN": hosted.tokens.token}
            program = (sys.executable, "-c", STUBBORN)
            process = await asyncio.create_subprocess_exec(*program, stdout=PIPE, stderr=PIPE, env=environment)
            try:
                async with client.delegate("hang") as task:
                    assert process.stdout is not None
                    assert await process.stdout.readline() == b"begun\n"
                    process.terminate()
                    _, told = await process.communicate()
                    assert process.returncode == 0
                    assert f"skill hang on task {task.id}, fence ".encode() in told
                    assert b"has not ended; it ends with the process" in told
                    # Given back; the agent waits for the coordinator's answer, but not for ever.
                    states = (event.state async for event in task.events() if event.kind != "created")
                    await anext(state async for state in states if state == "queued")
                    await task.cancel()
            finally:
                if process.returncode is None:
                    process.kill()


async def test_what_is_named_goes_before_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[LinkSettings] = []

    class Listening:
        def __init__(self, agent: Agent, settings: LinkSettings, agent_id: str, grace: float | None) -> None:
            ran.append(settings)

        async def run(self, *_: Any) -> None: ...

    monkeypatch.setattr("a2a.agent.Runner", Listening)
    monkeypatch.setenv("A2A_URL", "ws://environment:1")
    agent, said = Agent("x"), LinkSettings(url="ws://said:1", token="said", secrets={})
    patient = replace(said, patience=math.inf)
    await agent.run(settings=said)
    await agent.run("ws://named:1", settings=said)
    await agent.run(token="named", settings=said)
    await agent.run(settings=replace(said, patience=3.0))
    assert ran == [
        patient,
        replace(patient, url="ws://named:1"),
        replace(patient, token="named"),
        replace(said, patience=3.0),
    ]
    await agent.run()
    assert (ran[-1].url, ran[-1].patience) == ("ws://environment:1", math.inf)


async def test_the_card_is_what_others_find(helper: Agent) -> None:
    card = helper.card()
    assert (card["name"], card["version"], card["description"]) == ("helper", "2.0", "Helps with tests")
    assert [skill["id"] for skill in card["skills"]][:2] == ["count_words", "wait"]
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            [found] = await running.client.find(agent="helper")
            assert found.card == card


async def test_an_agent_whose_skills_change_tells_the_coordinator_while_it_runs():
    agent = Agent("pupil", labels={"year": "1"})
    agent.skill(id="read")(lambda: "read")
    await agent.update()  # it runs nowhere
    with anyio.fail_after(BOUND):
        async with squad(agent, n=2) as running:
            agent.skill(id="write")(lambda: "written")
            agent.labels["year"] = "2"
            await agent.update()
            found = await running.client.find("write")
            assert [(info.agent_id, info.labels) for info in found] == [
                ("pupil/1", {"year": "2"}),
                ("pupil/2", {"year": "2"}),
            ]
            assert await running.client.call("write") == "written"
            running.drop("pupil/1")
            await running.advance(0)
            assert len(await running.client.find("write")) == 2, "the next hello says it as well"
    assert not agent.runs


@pytest.mark.parametrize("is_away", [False, True])
async def test_an_update_that_is_refused_does_not_keep_the_agent_out(is_away: bool):
    agent = Agent("pupil")
    agent.skill(id="read")(lambda: "read")
    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            for number in range(256):
                agent.skill(id=f"write-{number}")(lambda: "written")
            if is_away:
                running.drop("pupil")
            with pytest.raises(Malformed, match="at most 256 items"):
                await agent.update()
            running.drop("pupil")
            await running.advance(0)
            (info,) = await running.client.find(agent="pupil")
            assert (info.status, info.skills) == ("ready", ["read"])


async def test_an_agent_whose_hello_cannot_be_read_is_told_so() -> None:
    labels: Any = {1: "a"}
    with anyio.fail_after(BOUND):
        async with squad() as running:
            with pytest.raises(ConnectError, match="refused odd: malformed"):
                await Agent("odd", labels=labels).run(settings=running.settings)
