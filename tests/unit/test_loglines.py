"""Lines of the log that stay lines, whatever passes."""

from __future__ import annotations

import logging

import anyio
import pytest

from a2a import Agent
from a2a.loglines import brief
from a2a.protocol.codec import Frame
from a2a.protocol.messages import TaskDelegate, TaskGet
from a2a.testing import squad

BOUND = 20


def test_what_is_small_is_logged_whole() -> None:
    frame = Frame("f-1", TaskGet("main-1"), re="f-0")
    assert brief(frame) == str(frame)


def test_of_what_is_large_the_message_its_head_and_its_envelope_are_logged() -> None:
    frame = Frame("f-1", TaskDelegate("k", {"skill": "x"}, payload=b"x" * 2_000_000), re="f-0")
    line = brief(frame)
    assert len(line) < 5_000
    assert line.startswith("Frame(id='f-1', message=TaskDelegate(key='k'")
    assert "re='f-0'" in line
    assert f" {len(str(frame)) - 4_000} characters " in line


async def test_a_large_payload_makes_no_large_line_of_any_peer(caplog: pytest.LogCaptureFixture) -> None:
    agent = Agent("echo")

    @agent.skill
    async def echo(text: str) -> str:
        return text

    caplog.set_level(logging.DEBUG, "a2a")
    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            assert await running.client.call("echo", {"text": "x" * 200_000}) == "x" * 200_000
    lines = [record.getMessage() for record in caplog.records]
    assert {"a2a.server", "a2a.link"} <= {record.name for record in caplog.records}
    assert max(len(line) for line in lines) < 5_000
    assert any("TaskReport" in line and " characters " in line for line in lines)
