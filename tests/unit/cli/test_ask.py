"""`a2a ask`, with an agent in the place of the squad."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from a2a import Agent, AttemptFailed, TaskContext
from a2a.cli import ask as module

Command = Callable[..., Any]
BOUND = 10.0


class Lead:
    """What the leading agent does in a test, and what it was given."""

    def __init__(self) -> None:
        self.given: list[dict[str, Any]] = []
        self.tasks: list[str] = []
        self.does: Callable[[TaskContext], Awaitable[Any]] = self.find

    async def find(self, task: TaskContext) -> Any:
        told = {"kind": "found", "who": "desk-words", "what": "3 passages"}
        await task.artifact("story", told, append=True, last=False)
        return {"text": "a.md:1, 2 of 2 for it\n  It lasts\x1b[2J long.", "citations": [{"path": "a.md"}]}


@pytest.fixture
def lead() -> Lead:
    return Lead()


@pytest.fixture
def helper(lead: Lead) -> Agent:
    """The agent that `world` runs."""
    agent = Agent("desk")

    @agent.skill(takes_value=True)
    async def answer_question(value: Any, task: TaskContext) -> Any:
        lead.given.append(value)
        lead.tasks.append(task.id)
        return await lead.does(task)

    return agent


def test_the_answer_is_printed_and_who_found_what_beside_it(
    world: Any, command: Command, lead: Lead, tmp_path: Path
) -> None:
    done = command("ask", "how long?", "--folder", str(tmp_path), "--only", "*.md")
    assert done.code == 0, done.err
    assert done.out == "a.md:1, 2 of 2 for it\n  It lasts\\x1b[2J long.\n"
    assert "3 passages" in done.err
    assert f"a2a task tree {lead.tasks[0]}" in done.err
    assert lead.given == [{"question": "how long?", "folder": str(tmp_path), "only": ["*.md"]}]


def test_the_folder_is_this_one_and_goes_to_the_agents_by_its_whole_name(
    world: Any, command: Command, lead: Lead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("ask", "how long?", "--quiet").err == ""
    assert lead.given == [{"question": "how long?", "folder": str(tmp_path), "only": []}]


def test_the_same_question_again_is_asked_again(world: Any, command: Command, lead: Lead) -> None:
    assert [command("ask", "how long?").code for _ in range(2)] == [0, 0]
    assert len(set(lead.tasks)) == 2, "the documents may have changed"


def test_its_conflict_is_named_with_the_coordinator_and_what_it_quotes_is_left_as_it_is(
    world: Any, command: Command, lead: Lead
) -> None:
    async def contradict(task: TaskContext) -> Any:
        text = "  a2a conflict show main-k1 tells.\nThese contradict each other (a2a conflict show main-k7):"
        return {"text": text, "citations": [{"path": "a.md"}], "conflict": "main-k7"}

    lead.does = contradict
    assert command("ask", "how long?").out == (
        "  a2a conflict show main-k1 tells.\n"
        f"These contradict each other (a2a conflict show main-k7 --url {world.url}):\n"
    )


def test_nothing_found_has_an_exit_code_of_its_own(world: Any, command: Command, lead: Lead) -> None:
    async def nothing(task: TaskContext) -> Any:
        return {"text": "Nothing fits.", "citations": []}

    lead.does = nothing
    done = command("ask", "how long?")
    assert (done.code, done.out) == (1, "Nothing fits.\n")


def test_for_programs_everything_is_one_object_per_line(world: Any, command: Command, lead: Lead) -> None:
    told = [json.loads(line) for line in command("ask", "how long?", "--json").out.splitlines()]
    assert [record["kind"] for record in told if record["kind"] == "artifact"] == ["artifact"]
    assert (told[-1]["kind"], told[-1]["result"]["citations"]) == ("result", [{"path": "a.md"}])

    async def fail(task: TaskContext) -> Any:
        raise AttemptFailed("no folder", code="no_such_folder")

    lead.does = fail
    done = command("ask", "how long?", "--json")
    assert done.code == 5
    assert json.loads(done.out.splitlines()[-1]) == {
        "kind": "end", "task": lead.tasks[-1], "reason": "error", "detail": "no folder",
    }  # fmt: skip


def test_a_limit_on_the_time_is_kept(world: Any, command: Command, lead: Lead) -> None:
    async def wait(task: TaskContext) -> Any:
        await anyio.sleep_forever()

    lead.does = wait
    done = command("ask", "how long?", "--timeout", "0.3")
    assert done.code == 4
    assert "no answer within 0.3 s" in done.err


def test_whoever_leaves_is_not_answered_any_more(
    world: Any, command: Command, lead: Lead, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEFT", 0.1)
    canceled = threading.Event()

    async def wait(task: TaskContext) -> Any:
        try:
            await anyio.sleep_forever()
        finally:
            canceled.set()

    lead.does = wait
    assert command("ask", "how long?", "--timeout", "5").code == 4, "time enough for it to begin"
    assert canceled.wait(BOUND)


def test_sigterm_ends_it(world: Any, command: Command, lead: Lead) -> None:
    async def end(task: TaskContext) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        await anyio.sleep_forever()

    lead.does = end
    assert command("ask", "how long?").code == 130


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--folder", "/no/such/folder"), 2, "does not exist"),
        (("--folder", __file__), 2, "is a file"),
        (("--only", "\udcff"), 2, "--only.0: text with a lone surrogate has no UTF-8 form"),
        (("--squad", "no_such_squad"), 1, "there is no squad no_such_squad"),
        (("--url", "wss://nowhere.invalid:1"), 3, "there is no coordinator at wss://nowhere.invalid:1"),
    ],
)
def test_what_cannot_be_done_starts_nothing(
    command: Command, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = command("ask", "how long?", *arguments)
    assert done.code == code
    assert words in done.err


def test_what_is_not_utf8_is_told_with_its_name(command: Command, tmp_path: Path) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    Path(folder).mkdir()
    for name, arguments in (("QUESTION", ("how \udcff?",)), ("--folder", ("how?", "--folder", folder))):
        done = command("ask", *arguments)
        assert (done.code, done.out) == (2, "")
        assert f"{name}: text with a lone surrogate has no UTF-8 form" in done.err
