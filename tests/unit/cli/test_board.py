"""What a run shows while it goes on."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest

from a2a import TaskEvent
from a2a.cli import board
from a2a.cli.board import Board, Display, display, story_line
from a2a.cli.output import Output

AT = "2026-01-01T00:00:{:02d}Z"
NOW = 1767225660.0  # a minute after the beginning of 2026


def task(name: str, state: str, *, at: int = 0, parent: str | None = None, **metadata: Any) -> dict[str, Any]:
    above = {} if parent is None else {"parent": parent}
    return {
        "id": name,
        "status": {"state": "-", "timestamp": AT.format(30)},
        "metadata": {"skill": name, "state": state, "createdAt": AT.format(at), "counters": {}} | above | metadata,
    }


def told(kind: str, **event: Any) -> TaskEvent:
    data = {"name": "story"} if kind == "artifact" else {}
    return TaskEvent(
        **({"kind": kind, "task": "t", "generation": 1, "state": "leased", "at": 0.0, "data": data} | event)
    )


def story(kind: str, who: str, what: str) -> TaskEvent:
    return told("artifact", value={"kind": kind, "who": who, "what": what})


@pytest.fixture
def plain() -> Display:
    return Display(Output())


def test_the_tree_has_parents_before_their_children_in_the_order_of_their_making() -> None:
    shown = Board()
    shown.update([task("later", "leased", at=9, parent="root"), task("first", "completed", at=1, parent="root")])
    shown.update([task("below", "leased", at=10, parent="later"), task("root", "leased")])
    shown.update([task("gone", "completed", at=11, parent="later")])
    lines = [line for _, line in shown.lines(NOW)]
    assert [line.split()[1] for line in lines] == ["root", "first", "later", "below"]
    assert [len(line) - len(line.lstrip()) for line in lines] == [0, 2, 2, 4]


def test_a_row_says_who_how_long_and_how_far() -> None:
    shown = Board()
    progress = {"progressBp": 2500, "note": "1 of 4\x1b[2J"}
    shown.update([task("work", "leased", agent="coder", progress=progress, counters={"losses": 2})])
    ((state, line),) = shown.lines(NOW)
    assert state == "leased"
    assert line.split() == [
        "●",
        "work",
        "coder",
        "1",
        "min",
        "00",
        "s",
        "25",
        "%",
        "1",
        "of",
        "4\\x1b[2J",
        "(2",
        "lost)",
    ]
    shown.update([task("work", "completed", agent="coder", progress=progress)])
    assert next(shown.lines(NOW))[1].split() == ["✓", "work", "coder", "30.0", "s"]
    shown.update([task("work", "parked")])
    assert "waits for an answer" in next(shown.lines(NOW))[1]


def test_a_story_becomes_a_sentence_and_moves_no_terminal() -> None:
    assert story_line({"kind": "work", "who": "judge", "what": "it"}) == ("work", f"{'judge':<16} works on it")
    assert story_line({"kind": "new", "who": "x", "what": "\x1b[2J"}) == ("new", f"{'x':<16} \\x1b[2J")
    assert story_line("no story") is None
    assert story_line({"what": "no story"}) is None


def test_each_line_is_told_once_though_the_lead_tells_it_again(
    plain: Display, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        plain.happened(story("found", "preparer", "3 files"))
        plain.happened(story("patch", "judge", "/run/it.patch"))
    assert capsys.readouterr().err.count("3 files") == 1
    assert plain.patch == "/run/it.patch"


def test_what_happens_to_the_lead_itself_is_told(plain: Display, capsys: pytest.CaptureFixture[str]) -> None:
    plain.happened(told("grant", agent="lead", data={"attempt": 2, "fence": 9}))
    plain.happened(told("expire", agent="lead", data={"reason": "the agent restarted"}))
    plain.happened(told("created"))
    first, second = capsys.readouterr().err.splitlines()
    assert "attempt 2 by lead" in first
    assert "the agent restarted" in second


def test_of_progress_only_what_changed_and_now_and_then(
    plain: Display, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("a2a.cli.board.time.monotonic", lambda: clock[0])
    for seconds, note in ((0, "one"), (1, "two"), (2, "two"), (9, "two"), (10, "three")):
        clock[0] = 100.0 + seconds
        plain.happened(told("progress", note=note))
    assert [line.split()[-1] for line in capsys.readouterr().err.splitlines()] == ["one", "two", "three"]


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with display(Output(is_quiet=True)) as shown:
        shown.happened(story("found", "preparer", "3 files"))
        shown.refreshed()
        with shown.paused():
            pass
    assert capsys.readouterr() == ("", "")


def test_what_waits_for_a_person_is_told_also_where_all_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with display(Output(is_quiet=True), " --url ws://there:1") as shown:
        shown.happened(story("person", "propose", "it waits for a person: a2a conflict resolve k7 TASK"))
    assert capsys.readouterr().err.endswith("person: a2a conflict resolve k7 TASK --url ws://there:1\n")


def test_a_command_in_a_line_finds_the_coordinator_of_who_reads_it(capsys: pytest.CaptureFixture[str]) -> None:
    with display(Output(), " --url ws://there:1") as shown:
        shown.happened(story("waits", "lead", "waits for run m-1 (a2a task show m-1 tells more)"))
    assert capsys.readouterr().err.endswith("(a2a task show m-1 --url ws://there:1 tells more)\n")


def test_for_programs_every_event_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    with display(Output(as_json=True)) as shown:
        shown.happened(story("found", "preparer", "3 files"))
    assert json.loads(capsys.readouterr().out)["value"]["what"] == "3 files"


def test_at_a_terminal_the_tree_moves_below_the_story(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with display(Output()) as shown:
        assert isinstance(shown, board._Live)
        shown.board.update([task("root", "leased", agent="lead"), task("step", "leased", parent="root")])
        shown.refreshed()
        shown.happened(story("refused", "coder", "one.py [bold]breaks[/]"))
        shown.happened(told("progress", note="not a line"))
        with shown.paused():
            terminal.write("a question")
    text = terminal.getvalue()
    assert "root" in text and "step" in text
    assert "contradicted by evidence: one.py [bold]breaks[/]" in text
    assert "not a line" not in text
