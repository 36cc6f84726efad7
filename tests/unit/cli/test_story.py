"""What happened to a task, in words."""

from __future__ import annotations

import builtins
import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from a2a import TaskEvent
from a2a.cli import story
from a2a.cli.output import Output
from a2a.cli.story import (
    copies_that_wait,
    describe,
    duration,
    event_record,
    follower,
    how_far,
    seconds_between,
    shortened,
)
from a2a.protocol.states import TaskEvent as Kind


def event(kind: str, state: str = "leased", **more: Any) -> TaskEvent:
    data = more.pop("data", {})
    return TaskEvent(kind, "main-1", 2, state, 0.0, data.get("agent"), data=data, **more)


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("created", {"delegator": "root#1"}, "delegated by root#1"),
        ("grant", {"agent": "a", "attempt": 1, "fence": 7}, "attempt 1 by a, fence 7"),
        ("expire", {"agent": "a", "reason": "no heartbeat"}, "the lease of a ends: no heartbeat"),
        ("report", {"agent": "a", "outcome": "failed", "error": {"code": "x", "detail": "y", "retryable": True}},
         "a reports: failed: x, retryable: y"),
        ("report", {"agent": "a", "outcome": "completed", "staleBasis": [{"key": "k", "seen": 1, "current": 3}]},
         "a reports: completed, relying on keys that have moved since: k (revision 1 was seen, it was 3)"),
        ("release", {"agent": "a", "reason": "busy"}, "a gives it back, another attempt follows: busy"),
        ("release", {"agent": "a", "to": "b"}, "a hands it on to b, another attempt follows"),
        ("release", {"agent": "a", "to": None}, "a hands it on to another agent, another attempt follows"),
        ("evict", {"agent": "a", "reason": "stall"}, "taken away from a: stall"),
        ("steer", {"by": "boss"}, "a word from boss"),
        ("fail", {"reason": "attempts", "detail": "3 attempts failed"}, "has failed: attempts: 3 attempts failed"),
        ("complete", {"by": "root#1"}, "accepted by root#1"),
        ("complete", {"by": ""}, "accepted by nobody in particular"),
        ("request_cancel", {"by": "r", "mode": "coop", "reason": "late"}, "r wants it to end (coop): late"),
        ("answer", {"by": "root#1", "askNo": 2}, "answered by root#1 (question 2)"),
        ("cancel", {"by": "root#1", "reason": "late"}, "ended by root#1: late"),
        ("cancel", {"by": "timer", "reason": "delegator lost"}, "has been ended: delegator lost"),
        ("something_new", {}, "something_new"),
        ("grant", {}, "attempt ? by ?, fence ?"),
    ],
)  # fmt: skip
def test_each_event_in_a_few_words(kind: str, data: dict[str, Any], words: str) -> None:
    assert describe(event(kind, data=data)) == words


@pytest.mark.parametrize(
    ("default", "words"),
    [
        ({"answered": False}, "nobody answered in time (question 2)"),
        ("approve", "nobody answered in time (question 2), its default counts: approve"),
    ],
)
def test_a_question_that_nobody_answered_in_time(default: Any, words: str) -> None:
    assert describe(event("answer", value=default, data={"by": "timer", "askNo": 2})) == words


@pytest.mark.parametrize(
    ("kind", "state", "words"), [("cancel", "canceled", "ended by a"), ("reject", "rejected", "is rejected")]
)
def test_a_reason_that_is_the_state_is_not_said_once_more(kind: str, state: str, words: str) -> None:
    assert describe(event(kind, state, data={"by": "a", "reason": state})) == words


@pytest.mark.parametrize("kind", list(Kind))
def test_no_event_of_the_protocol_is_without_words(kind: Kind) -> None:
    assert describe(event(kind.value)) != kind.value


@pytest.mark.parametrize(
    ("state", "progress", "told"),
    [
        ("leased", {"progress": {"note": "page 3", "progressBp": 2_500}}, "25% page 3"),
        ("leased", {"progress": {"note": "page 3"}}, "page 3"),
        ("canceling", {"progress": {"note": "", "progressBp": 10_000}}, "100%"),
        ("leased", {}, ""),
        ("reported", {"progress": {"note": "page 3", "progressBp": 2_500}}, ""),
    ],
)
def test_how_far_an_attempt_is(state: str, progress: dict[str, Any], told: str) -> None:
    assert how_far({"state": state, **progress}) == told


def test_a_value_is_told_on_one_line_and_cannot_move_the_terminal() -> None:
    assert (
        describe(event("ask", value="two\nlines\x1b[2J", data={"askNo": 1})) == "asks (question 1): two\\nlines\\x1b[2J"
    )
    assert len(shortened("x" * 1000)) == story.SHOWN_MAX
    assert shortened({"a": 1}) == '{"a": 1}'
    assert shortened(b"123") == "3 bytes"


@pytest.mark.parametrize(
    ("progress", "note", "words"),
    [(0.5, "half", "50% half"), (0.5, "", "50%"), (None, "half", "half"), (None, "", "a is at work")],
)
def test_progress_in_words(progress: float | None, note: str, words: str) -> None:
    assert describe(event("progress", progress=progress, note=note, data={"agent": "a"})) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (61, "1 min 01 s"), (3599.9, "1 h 00 min"), (7260, "2 h 01 min")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_the_time_between_two_timestamps_is_never_negative() -> None:
    assert seconds_between("2026-01-01T00:00:00.000Z", "2026-01-01T00:00:01.500Z") == 1.5
    assert seconds_between("2026-01-01T00:00:01Z", "2026-01-01T00:00:00+00:00") == 0.0


def test_bytes_do_not_go_into_json() -> None:
    assert event_record(event("artifact", value=b"123"))["value"] == "3 bytes"


def test_lines_are_not_said_twice(capsys: pytest.CaptureFixture[str]) -> None:
    with follower(Output()) as shown:
        for _ in range(3):
            shown.happened(event("progress", progress=0.1))
        shown.happened(event("progress", progress=0.2))
        with shown.paused():
            pass
    assert capsys.readouterr() == ("", "main-1  leased     10%\nmain-1  leased     20%\n")


def test_json_lines_are_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with follower(Output(as_json=True)) as shown:
        shown.happened(event("grant"))
    out, err = capsys.readouterr()
    assert out.startswith('{"kind": "grant", ') and err == ""


def test_nothing_is_said_with_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with follower(Output(is_quiet=True)) as shown:
        shown.happened(event("grant"))
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_one_line_moves_and_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with follower(Output()) as shown:
        shown.happened(event("progress", progress=0.5, note="[bold]half\x1b[2J"))
        with shown.paused():
            terminal.write("QUESTION")
            with shown.paused():
                terminal.write("TOLD MEANWHILE")
            shown.happened(event("progress", progress=0.6))
            terminal.write("ANSWER")
    written = terminal.getvalue()
    assert written.partition("QUESTION")[2].startswith("TOLD MEANWHILEANSWER"), "nothing moves over the question"
    assert "main-1" in written
    assert "50% [bold]half\\x1b[2J" in written
    assert "QUESTION" in written


def test_without_rich_a_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_rich(name: str, *arguments: Any, **named: Any) -> Any:
        if name.startswith("rich"):
            raise ImportError(name)
        return real(name, *arguments, **named)

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(builtins, "__import__", without_rich)
    with follower(Output()) as shown:
        shown.happened(event("progress", progress=0.5))
    assert terminal.getvalue() == "main-1  leased     50%\n"


class Here:
    """What a client sees of a group with one copy that waits and one at work, and of two agents, of which one fits."""

    async def list(self, **_: Any) -> list[dict[str, Any]]:
        waits = {"id": "main-2", "metadata": {"state": "queued", "agent": "a"}}
        return [waits, {"id": "main-3", "metadata": {"state": "leased", "agent": "b"}}]

    async def find(self, skill: str, *, tags: Any = (), **_: Any) -> list[Any]:
        return [SimpleNamespace(agent_id=name, status="ready") for name in "ab" if not tags]


@pytest.mark.parametrize(
    ("requires", "waits"),
    [
        ({}, ""),
        ({"exclude": ["a"]}, "1 of 2 copies waits for another agent that offers echo"),
        ({"tags": ["x"]}, "1 of 2 copies waits: no agent that is here offers echo as it requires"),
    ],
)
async def test_who_had_a_copy_may_have_it_again(requires: dict[str, Any], waits: str) -> None:
    group = {"members": ["main-2", "main-3"]}
    shown = {"id": "main-1", "metadata": {"group": group, "skill": "echo", "spec": {"requires": requires}}}
    client: Any = Here()
    assert await copies_that_wait(client, shown) == waits
