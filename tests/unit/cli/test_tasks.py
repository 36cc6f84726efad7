"""`a2a task ...` and `a2a answer`."""

from __future__ import annotations

import json
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import anyio
import pytest

import a2a.sync
from a2a import Agent, TaskContext, connect
from a2a.cli import tasks as tasks_module
from a2a.delegator import AgentInfo
from a2a.protocol.states import TaskState


def delegated(command: Any, *arguments: str) -> str:
    return str(command("delegate", *arguments, "--no-wait").out.strip())


def reported(command: Any, *arguments: str) -> str:
    """Delegate a task and wait until its result waits for a word."""
    task = delegated(command, *arguments)
    assert command("task", "result", "--wait", task, "--timeout", "20").code == 0
    return task


def test_tasks_are_listed_with_the_newest_first(command: Any, world: Any) -> None:
    assert command("task", "ls").err == "no such tasks\n"
    first, second = delegated(command, "nobody_has_this"), delegated(command, "nor_this")
    head, *rows = command("task", "ls").out.splitlines()
    assert head.split() == ["TASK", "STATE", "AGE", "ATTEMPT", "AGENT", "SKILL"]
    assert [row.split()[0] for row in rows] == [second, first]
    assert [row.split()[1] for row in rows] == ["queued", "queued"]
    shown = [json.loads(line)["id"] for line in command("task", "ls", "--json", "--skill", "nor_this").out.splitlines()]
    assert shown == [second]
    page = command("task", "ls", "--limit", "1")
    assert (len(page.out.splitlines()), page.err) == (2, f"there are more: --before {second}\n")
    page = command("task", "ls", "--limit", "1", "--before", second)
    assert ([row.split()[0] for row in page.out.splitlines()[1:]], page.err) == ([first], "")
    assert command("task", "ls", "--state", "completed").out == ""


@pytest.mark.parametrize("state", ["nope", "queued,parked", ""])
def test_a_state_that_is_none_is_a_usage_error(command: Any, world: Any, state: str) -> None:
    done = command("task", "ls", "--state", state)
    assert (done.code, done.out) == (2, "")
    assert f"got {state!r}" in done.err
    for known in TaskState:
        assert known in done.err


def test_every_state_can_be_asked_for_and_the_help_names_it(command: Any, world: Any) -> None:
    task = delegated(command, "nobody_has_this")
    assert command("task", "ls", "--state", "TASK_STATE_SUBMITTED").out.splitlines()[1].startswith(task)
    told = command("task", "ls", "--help").out
    for state in TaskState:
        assert command("task", "ls", "--state", state).code == 0
        assert state in told


def test_sub_tasks_of_what_is_not_there_are_not_none(command: Any, world: Any) -> None:
    done = command("task", "ls", "--parent", "main-9999")
    assert (done.code, done.err) == (1, "a2a: not_found: there is no task main-9999\n")
    task = delegated(command, "nobody_has_this")
    done = command("task", "ls", "--parent", task)
    assert (done.code, done.err) == (0, "no such tasks\n")


def test_a_task_tells_its_story(command: Any, world: Any) -> None:
    command("delegate", "count_words", "text=a\x1b b", "--key", "k")
    task = json.loads(command("task", "ls", "--json").out)["id"]
    head, *lines = command("task", "show", task).out.splitlines()
    assert head == f"{task}  count_words  completed"
    assert "  key        k" in lines
    assert '  input      {"text": "a\\u001b b"}' in lines
    assert '  result     {"words": 2}' in lines
    story = [line.split(maxsplit=2)[1:] for line in lines[-4:]]
    assert [state for state, _ in story] == ["queued", "leased", "reported", "completed"]
    assert story[1][1].startswith("attempt 1 by helper, fence ")
    shown = json.loads(command("task", "show", task, "--json").out)
    assert f"  context    {shown['contextId']}" in lines
    assert [event["kind"] for event in shown["events"]] == ["created", "grant", "report", "complete"]
    assert shown["metadata"]["input"] == {"text": "a\x1b b"}


def test_the_story_of_a_failure_says_why(command: Any, world: Any) -> None:
    command("delegate", "fail")
    task = json.loads(command("task", "ls", "--json").out)["id"]
    shown = command("task", "show", task).out
    assert "  reason     error: it went wrong\n" in shown
    assert "helper reports: failed: wrong: it went wrong\n" in shown


def test_the_story_of_a_task_under_way_ends_where_it_is(command: Any, world: Any) -> None:
    task = delegated(command, "nobody_has_this")
    assert (
        command("task", "show", task, "--timeout", "5")
        .out.splitlines()[-1]
        .endswith("delegated by " + _owner(command, task))
    )
    assert len(command("task", "events", task, "--timeout", "5").out.splitlines()) == 1


@pytest.fixture
def helper(helper: Agent, gate: Any) -> Agent:
    """One that says how far it is, and waits."""

    @helper.skill
    async def read(task: TaskContext) -> None:
        await task.progress(0.25, "page\n 3")
        gate.begun.set()
        await gate.open.wait()

    return helper


def test_how_far_the_work_is_stands_in_its_story(command: Any, world: Any, gate: Any) -> None:
    task = delegated(command, "read")
    world.call(gate.begun.wait)

    async def until_told() -> None:
        async with connect(world.url) as client, aclosing(client.watch(task)) as events:
            async for event in events:
                if event.kind == "progress":
                    return

    anyio.run(until_told)
    assert "  progress   25% page\\n 3" in command("task", "show", task).out.splitlines()
    world.call(gate.open.set)
    assert command("task", "result", "--wait", task, "-q", "--timeout", "20").code == 0
    assert "progress" not in command("task", "show", task).out


@pytest.mark.parametrize(
    ("words", "waits"),
    [
        (("nobody_has_this",), "no agent that is here offers nobody_has_this"),
        (("read", "--to", "ghost"), "no agent ghost is here"),
        (("count_words", "text=a", "--resource", "repo/a"), "for repo/a of holder#"),
    ],
)
def test_what_a_queued_task_waits_for_is_told(command: Any, world: Any, words: tuple[str, ...], waits: str) -> None:
    with a2a.sync.connect(world.url, name="holder") as holder, holder.claim("repo/a"):
        task = delegated(command, *words)
        assert f"\n  waits      {waits}" in command("task", "show", task).out
        assert json.loads(command("task", "show", task, "--json").out)["waits"].startswith(waits)


def test_what_a_task_requires_is_told_and_who_is_not_that(command: Any, world: Any) -> None:
    async def delegate() -> tuple[str, str]:
        async with connect(world.url) as client:
            asked = client.delegate("read", labels={"room": "red"}, priority=7)
            copied = client.delegate("nobody_has_this", copies=3, resources=[("repo/a", "s"), "repo/b"])
            async with asked as red, copied as copies:
                return red.id, copies.id

    red, copies = anyio.run(delegate)
    lines = command("task", "show", red).out.splitlines()
    assert '  requires   {"labels": {"room": "red"}}' in lines
    assert "  priority   7" in lines
    assert "  waits      no agent that is here offers read as it requires" in lines
    lines = command("task", "show", copies).out.splitlines()
    assert "  copies     3" in lines
    assert "  claims     repo/a (shared) repo/b" in lines
    assert "  waits      3 of 3 copies wait: no agent that is here offers nobody_has_this" in lines


def test_how_many_copies_wait_for_another_agent_is_told(command: Any, world: Any, gate: Any) -> None:
    task = delegated(command, "read", "--copies", "3")
    world.call(gate.begun.wait)
    waits = "2 of 3 copies wait for another agent that offers read"
    assert f"  waits      {waits}" in command("task", "show", task).out.splitlines()
    assert json.loads(command("task", "show", task, "--json").out)["waits"] == waits
    command("task", "cancel", task)
    assert "waits" not in command("task", "show", task).out
    world.call(gate.open.set)


def test_copies_that_wait_for_their_turn_are_named(command: Any, world: Any) -> None:
    assert command("agent", "drain", "helper").code == 0
    task = delegated(command, "read", "--copies", "2")
    members = json.loads(command("task", "show", task, "--json").out)["metadata"]["group"]["members"]
    told = f"  waits      2 of 2 copies wait for their turn: {' '.join(members)}"
    assert told in command("task", "show", task).out.splitlines()


def test_agents_that_could_begin_are_told_with_what_keeps_them(command: Any, world: Any) -> None:
    assert command("agent", "drain", "helper").code == 0
    task = delegated(command, "read")
    assert "  waits      for helper (is draining)" in command("task", "show", task).out.splitlines()
    command("task", "cancel", task)
    assert "waits" not in command("task", "show", task).out


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, "ann (has room: asked again after a pause, or barred from it)"),
        ({"holding": ("main-1", "main-2")}, "ann (holds 2 of 2 tasks)"),
        ({"status": "draining"}, "ann (is draining)"),
        ({"quarantine": {"conflict": "main-k7", "left": 12.0}}, "ann (gets no offers: main-k7)"),
    ],
)
def test_what_keeps_an_agent_from_a_task(more: dict[str, Any], told: str) -> None:
    ann = AgentInfo("ann", {}, "ready", {}, 2, (), 0.1)
    assert tasks_module._keeps_it(replace(ann, **more)) == told


def _owner(command: Any, task: str) -> str:
    shown = json.loads(command("task", "show", task, "--json").out)
    return str(shown["metadata"]["delegator"])


def test_a_word_is_said_to_the_work_under_way(command: Any, world: Any) -> None:
    task = delegated(command, "nobody_has_this", "--budget", "tokens=10")
    assert command("task", "steer", task, '{"go": "left"}', "--key", "1").err == f"{task}: steered\n"
    assert command("task", "steer", task, '{"go": "left"}', "--key", "1", "--interrupt").err == f"{task}: interrupted\n"
    *_, line = command("task", "show", task).out.splitlines()
    assert line.endswith('{"go": "left"}')
    assert "  used       tokens 0 of 10" in command("task", "show", task).out.splitlines()


@pytest.mark.parametrize("words", [("steer", "main-1", "1e999"), ("reject", "main-1", "\udcff")])
def test_a_word_that_cannot_be_sent_is_a_usage_error(command: Any, words: tuple[str, ...]) -> None:
    done = command("task", *words)
    assert (done.code, done.out) == (2, "")


def test_what_has_ended_is_tried_again_once(command: Any, world: Any) -> None:
    command("delegate", "fail")
    task = json.loads(command("task", "ls", "--json").out)["id"]
    again = command("task", "redrive", task).out.strip()
    assert json.loads(command("task", "redrive", task, "--json").out) == {"task": again, "redriveOf": task}
    assert f"  redrives   {task}" in command("task", "show", again).out.splitlines()
    waiting = delegated(command, "nobody_has_this")
    done = command("task", "redrive", waiting)
    assert (done.code, done.err) == (1, f"a2a: {waiting} is queued: only an ended task can be tried again\n")


def test_dead_letters_are_listed_apart(command: Any, world: Any) -> None:
    command("delegate", "fail")
    assert command("task", "ls", "--dead").err == "no such tasks\n"


@pytest.mark.parametrize("what", ["show", "events", "tree", "result", "confirm", "reject", "cancel", "redrive"])
def test_a_task_that_is_not_there_is_named(command: Any, world: Any, what: str) -> None:
    done = command("task", what, "main-99")
    assert (done.code, done.err) == (1, "a2a: not_found: there is no task main-99\n")


def test_events_are_followed_to_the_end(command: Any, world: Any) -> None:
    task = delegated(command, "nobody_has_this", "--deadline", "0.5")
    lines = command("task", "events", "-f", task, "--json", "--timeout", "20").out.splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["created", "fail"]
    assert (
        command("task", "events", task).out.splitlines()[-1].endswith("has failed: deadline: the deadline has passed")
    )


def test_a_tree_is_drawn_with_what_became_of_each(command: Any, world: Any) -> None:
    assert command("delegate", "twice", "text=a b").out == "5\n"
    top = json.loads(command("task", "ls", "--skill", "twice", "--json").out)["id"]
    first, second, third = command("task", "tree", top).out.splitlines()
    assert first.startswith(f"{top}  twice  completed  helper (attempt 1)  ")
    assert second.startswith("├── ")
    assert third.startswith("└── ")
    assert "count_words  completed" in second and "count_words  completed" in third
    shown = [json.loads(line) for line in command("task", "tree", top, "--json").out.splitlines()]
    assert [task["metadata"]["skill"] for task in shown] == ["twice", "count_words", "count_words"]
    assert shown[1]["metadata"]["key"] == "first", "the order is the one they were made in"


async def test_a_deep_tree_is_drawn_with_lines_that_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    below = {"a": ["b", "c"], "b": ["d"], "c": ["e"]}

    def shown(task: str) -> dict[str, Any]:
        metadata = {"skill": "s", "state": "queued", "createdAt": "2026-01-01T00:00:00Z", "children": below.get(task)}
        if task in "de":
            metadata |= {"state": {"d": "leased", "e": "failed"}[task], "progress": {"note": "waits for b"}}
        return {"id": task, "metadata": metadata, "status": {"timestamp": "2026-01-01T00:00:03Z"}}

    class Client:
        async def list(self, *, parent: str, limit: int, before: str | None) -> list[dict[str, Any]]:
            return [shown(child) for child in reversed(below.get(parent, []))]

    client: Any = Client()
    lines = [line async for line in tasks_module._draw(client, shown("a"), "2026-01-01T00:00:09Z", "", "")]
    assert lines == [
        "a  s  queued  9.0 s",
        "├── b  s  queued  9.0 s",
        "│   └── d  s  leased  9.0 s  waits for b",
        "└── c  s  queued  9.0 s",
        "    └── e  s  failed  3.0 s",
    ]


def test_a_result_that_is_not_there_yet_is_a_failure(command: Any, world: Any) -> None:
    task = delegated(command, "nobody_has_this")
    done = command("task", "result", task)
    assert (done.code, done.out) == (1, "")
    assert f"{task} is queued: there is no result yet" in done.err
    assert command("task", "result", "--wait", task, "--timeout", "0.3").code == 4


def test_a_result_can_be_read_and_confirmed_later(command: Any, world: Any) -> None:
    task = reported(command, "count_words", "text=a b")
    done = command("task", "result", task)
    assert (done.out, done.err) == ('{"words": 2}\n', f"not confirmed yet: a2a task confirm {task} --url {world.url}\n")
    assert command("task", "confirm", task).err == f"{task}: confirmed\n"
    assert command("task", "confirm", task).code == 0, "a repeat gets the same answer"
    shown = json.loads(command("task", "result", task, "--json").out)
    assert shown == {"task": task, "state": "completed", "result": {"words": 2}}


@pytest.mark.parametrize(("arguments", "code"), [(("fail",), 5), (("nobody_has_this", "--deadline", "0.2"), 5)])
def test_the_result_of_what_failed_is_its_exit_code(
    command: Any, world: Any, arguments: tuple[str, ...], code: int
) -> None:
    task = delegated(command, *arguments)
    done = command("task", "result", "--wait", task, "--timeout", "20")
    assert (done.code, done.out) == (code, "")
    assert f"task {task}: " in done.err


def test_a_result_is_sent_back_with_feedback(command: Any, world: Any) -> None:
    task = reported(command, "draft")
    assert command("task", "reject", task, "longer").err == f"{task}: sent back\n"
    done = command("task", "events", task, "--json")
    assert [line for line in done.out.splitlines() if '"rework"' in line and '"longer"' in line]


def test_after_a_rejection_the_next_result_is_waited_for(command: Any, world: Any) -> None:
    task = reported(command, "echo", "--text", "x")
    # Nobody takes it up before the wait has begun: the agent that had it does not take more.
    assert command("agent", "drain", "helper").code == 0
    assert command("task", "reject", task, "again").code == 0
    done = command("task", "result", "--wait", task, "--timeout", "0.3")
    assert (done.code, done.err) == (4, "a2a: not done within 0.3 s\n")


def test_a_revision_is_what_the_wait_ends_with(command: Any, world: Any) -> None:
    task = reported(command, "draft")
    assert command("task", "reject", task, "longer").code == 0
    assert command("task", "result", "--wait", task, "-q", "--timeout", "20").out == "draft longer\n"


def test_a_result_is_rejected_for_good(command: Any, world: Any) -> None:
    task = reported(command, "draft")
    assert command("task", "reject", task, "--final", "--reason", "wrong").err == f"{task}: rejected\n"
    done = command("task", "result", task)
    assert (done.code, done.err) == (7, f"a2a: task {task}: rejected: wrong\n")


def test_what_is_said_against_a_result_for_good_is_the_reason(command: Any, world: Any) -> None:
    task = reported(command, "draft")
    both = command("task", "reject", task, "no", "--final", "--reason", "wrong")
    assert both.code == 2
    assert "with --final, expected FEEDBACK or --reason, got both" in both.err
    long = command("task", "reject", task, "no " * 30, "--final")
    assert long.code == 1
    assert "reasonCode: String should have at most 64 characters, got a string of 90" in long.err
    assert command("task", "reject", task, "not what was asked", "--final").code == 0
    assert command("task", "result", task).err == f"a2a: task {task}: rejected: not what was asked\n"


def test_a_task_is_cancelled(command: Any, world: Any) -> None:
    task = delegated(command, "nobody_has_this")
    assert command("task", "cancel", task, "not needed").err == f"{task}: canceled\n"
    assert command("task", "result", task).code == 5
    assert "  reason     canceled: not needed\n" in command("task", "show", task).out
    task = delegated(command, "nobody_has_this", "a=1")
    command("task", "cancel", task)
    assert "  reason     canceled\n" in command("task", "show", task).out


def test_a_task_under_way_winds_down(command: Any, world: Any, gate: Any) -> None:
    task = delegated(command, "wait")
    world.call(gate.begun.wait)
    done = command("task", "cancel", task, "--json")
    assert json.loads(done.out) == {"task": task, "done": "canceling"}
    assert command("task", "result", "--wait", task, "--timeout", "20").code == 5
    assert gate.ended == [task]


@pytest.fixture
def asking(command: Any, world: Any) -> str:
    """A task that asks whether one is sure: yes or no."""
    task = delegated(command, "sure")

    async def until_asked() -> None:
        async with connect(world.url) as client:
            async for event in client.watch(task):
                if event.kind == "ask":
                    return

    anyio.run(until_asked)
    return task


@pytest.mark.parametrize(("value", "result"), [("yes", "true"), ("no", "false"), ("1", "true"), ("2", "false")])
def test_a_question_is_answered_with_an_option_or_its_number(
    command: Any, asking: str, value: str, result: str
) -> None:
    assert command("answer", asking, value).err == f"{asking}: question 1 answered\n"
    assert command("task", "result", "--wait", asking, "-q", "--timeout", "20").out == f"{result}\n"


def test_an_answer_that_is_no_option_is_refused(command: Any, asking: str) -> None:
    done = command("answer", asking, "maybe")
    assert (done.code, done.err) == (1, "a2a: expected one of yes, no, got 'maybe'\n")


def test_without_a_terminal_the_question_is_told(command: Any, asking: str) -> None:
    done = command("answer", asking)
    assert done.code == 1
    assert f"question 1 of {asking}: sure?\n  1  yes\n  2  no\n" in done.err
    assert f"{asking}  sure  parked" in command("task", "show", asking).out


def test_at_a_terminal_the_person_is_asked(command: Any, asking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask_person(who: str, question: Any) -> Any:
        assert (who, question["question"]) == (asking, "sure?")
        return "yes"

    monkeypatch.setattr(tasks_module, "can_ask", lambda: True)
    monkeypatch.setattr(tasks_module, "ask_person", ask_person)
    assert json.loads(command("answer", asking, "--json").out) == {"task": asking, "done": "question 1 answered"}


def test_what_asks_nothing_is_not_answered(command: Any, world: Any, asking: str) -> None:
    for number in (0, 2):  # a peer may count from 0 (spec ASK-2)
        done = command("answer", asking, "yes", "--ask", str(number))
        assert (done.code, done.err) == (1, f"a2a: {asking} has no open question {number}\n")
    task = delegated(command, "nobody_has_this")
    assert command("answer", task, "yes").err == f"a2a: {task} has no open question\n"
