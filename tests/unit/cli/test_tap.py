"""`a2a tap`."""

from __future__ import annotations

import json
import os
import signal
import socket
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from a2a.cli import tap as module
from a2a.cli.tap import line_of
from a2a.credentials import coordinator_dir
from a2a.tap import Passed

AT = datetime(2026, 1, 2, 3, 4, 5, 67_000)


def test_a_frame_is_a_line_with_its_task_and_fence_in_front() -> None:
    frame = {"id": "b2", "kind": "task.report", "task": "main-7", "fence": 8, "payload": "[]", "body": {"outcome": "x"}}
    line = line_of(Passed(1, "counter", True, frame), AT)
    assert line == (
        '03:04:05.067  counter              > task.report main-7/8  {"id": "b2", "outcome": "x", "payload": "[]"}'
    )
    asked = line_of(Passed(2, "", False, {"kind": "ok", "task": "main-7", "body": [1]}), AT)
    assert asked == '03:04:05.067  connection 2         < ok main-7  {"body": [1]}'
    assert line_of(Passed(2, "", True, None, "has connected"), AT).endswith("connection 2         > has connected")


def test_a_long_frame_is_cut_off_unless_all_of_it_is_wanted() -> None:
    passed = Passed(1, "a", False, {"kind": "k", "body": {"text": "x" * 1_000}})
    assert line_of(passed, AT).endswith("x… (1012 characters)")
    assert line_of(passed, AT, is_full=True).endswith('x"}')


def frames(*told: dict[str, Any]) -> list[Passed]:
    return [
        Passed(1, "", True, None, "has connected"),
        *(Passed(1, "counter#2", True, frame) for frame in told),
        Passed(2, "other", False, {"kind": "ok"}),
    ]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Passed]:
    """What a tap tells in place of what passes: then somebody ends it."""
    told: list[Passed] = []

    class Tap:
        def __init__(self, url: str, tell: Any) -> None:
            self.tell = tell

        async def listen(self, port: int) -> Any:
            for passed in told:
                self.tell(passed)
            os.kill(os.getpid(), signal.SIGTERM)
            return Listener()

    class Listener:
        url = "ws://127.0.0.1:7599"

        async def aclose(self) -> None:
            told.clear()

    async def stop_at_once(stop: Any, *, task_status: Any) -> None:
        task_status.started()
        stop.set()

    monkeypatch.setattr(module, "Tap", Tap)
    monkeypatch.setattr(module, "stop_on_signals", stop_at_once)
    monkeypatch.setattr(os, "kill", lambda *_: None)
    return told


def test_only_what_is_asked_for_is_shown(command: Any, told: list[Passed]) -> None:
    one, two = {"kind": "task.offer", "task": "main-7"}, {"kind": "task.report", "task": "main-8"}
    for wanted, seen in (
        ((), ["has connected", "task.offer", "task.report", "ok"]),
        (("--agent", "counter"), ["task.offer", "task.report"]),
        (("--agent", "counter#2", "--kind", "task.offer"), ["task.offer"]),
        (("--kind", "task.offer", "--kind", "ok"), ["task.offer", "ok"]),
        (("--task", "main-8"), ["task.report"]),
    ):
        told[:] = frames(one, two)
        done = command("tap", *wanted)
        assert done.code == 0, done.err
        assert [word for line in done.out.splitlines() for word in seen if word in line] == seen
        assert len(done.out.splitlines()) == len(seen)
    assert "export A2A_URL=ws://127.0.0.1:7599" in done.err
    told[:] = frames(one)
    assert command("tap", "-q").err == ""


def test_json_is_an_object_for_each_frame(command: Any, told: list[Passed]) -> None:
    told[:] = frames({"kind": "task.offer"})
    first, second, third = map(json.loads, command("tap", "--json").out.splitlines())
    assert (first["note"], first["connection"], first["from"]) == ("has connected", 1, "peer")
    assert (second["frame"], second["agent"]) == ({"kind": "task.offer"}, "counter#2")
    assert third["from"] == "coordinator"


def test_what_cannot_be_done_is_said(command: Any, monkeypatch: pytest.MonkeyPatch, told: list[Passed]) -> None:
    done = command("tap", "--url", "ws://127.0.0.1:7599")
    assert (done.code, "expected two addresses" in done.err) == (1, True)
    coordinator_dir("ws://127.0.0.1:7599").mkdir(parents=True)
    done = command("tap")
    assert (done.code, "has the tokens of a coordinator that was at ws://127.0.0.1:7599" in done.err) == (1, True)
    coordinator_dir("ws://127.0.0.1:7599").rmdir()
    told[:] = frames({"kind": "x"})
    monkeypatch.setattr("sys.stdout", None)
    done = command("tap")
    assert (done.code, "no standard output" in done.err) == (1, True)


def test_a_port_that_is_taken_is_said(command: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command("tap", "--port", str(port))
    assert (done.code, f"cannot listen on port {port}: " in done.err) == (1, True)


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A2A_STATE_DIR", str(tmp_path / "state"))
