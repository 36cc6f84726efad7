"""`a2a delegate`."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import click
import pytest

from a2a import Agent, TaskContext, connect
from a2a.cli import delegate as delegate_module
from a2a.cli import story
from a2a.cli.delegate import read_input
from a2a.cli.options import Common
from a2a.cli.output import Output


@pytest.mark.parametrize(
    ("pairs", "content", "text", "value"),
    [
        ((), None, None, None),
        (("a=1", "b=x", "c=[1]", "d=a=b", "e="), None, None, {"a": 1, "b": "x", "c": [1], "d": "a=b", "e": ""}),
        (("a=NaN",), None, None, {"a": "NaN"}),
        ((), b'{"a": 1}', None, {"a": 1}),
        (("a=2",), b'{"a": 1, "b": 3}', None, {"a": 2, "b": 3}),
        ((), b"some text\n", None, "some text\n"),
        ((), None, "text", "text"),
        ((), None, "[1]", "[1]"),
    ],
)
def test_the_input_that_arguments_make(pairs: Any, content: bytes | None, text: str | None, value: Any) -> None:
    assert read_input(pairs, None if content is None else io.BytesIO(content), text) == value


@pytest.mark.parametrize(
    ("pairs", "content", "text", "named"),
    [
        (("a",), None, None, "expected KEY=VALUE, got 'a'"),
        (("=1",), None, None, "expected KEY=VALUE"),
        (("a=1",), None, "t", "--text is the whole input"),
        ((), b"1", "t", "--text is the whole input"),
        (("a=1",), b"[1]", None, "expected a JSON object"),
        (("a=1",), b"{'a': 1}", None, "--input -: expected JSON: expected a name in double quotes at line 1, column 2"),
        ((), b"\xff", None, "--input -: expected JSON or text in UTF-8, got the byte 0xff at line 1, column 1"),
        (("\udcff=1",), None, None, "KEY: .*lone surrogate"),
        (("x" * 10_000,), None, None, "expected KEY=VALUE, got 'x{59}…' "),
        (("a=1", "b=2", "a=3"), None, None, "expected one value for a, got 'a=3' as well"),
        (("b=1", "a=12345678901234567890"), None, None, "^a: .* is beyond 2"),
        ((), b'{"a": 1e999}', None, "JSON has no form for inf"),
        ((), None, "\udcff", "lone surrogate"),
    ],
)
def test_what_does_not_go_together(pairs: Any, content: bytes | None, text: str | None, named: str) -> None:
    with pytest.raises(click.UsageError, match=named):
        read_input(pairs, None if content is None else io.BytesIO(content), text)


def test_the_result_is_on_stdout_and_the_progress_on_stderr(command: Any, world: Any) -> None:
    done = command("delegate", "count_words", "text=a b c")
    assert (done.code, done.out) == (0, '{"words": 3}\n')
    assert "attempt 1 by helper" in done.err
    shown = json.loads(command("task", "ls", "--json").out)
    assert shown["metadata"]["state"] == "completed", "it is confirmed by printing it"


def test_a_text_goes_in_and_comes_out_as_it_is(command: Any, world: Any, tmp_path: Path) -> None:
    assert command("delegate", "echo", "--text", "hi", "-q").out == "hi\n"
    (tmp_path / "input").write_text('{"a": "ü"}')
    done = command("delegate", "echo", "--input", str(tmp_path / "input"), "-q")
    assert (done.out, done.err) == ('{"a": "ü"}\n', "")


def test_a_file_that_is_named_as_json_is_none_other(command: Any, world: Any, tmp_path: Path) -> None:
    for name, code, said in (("plan.json", 2, "expected JSON: "), ("plan", 0, "not JSON, so it is taken as text: ")):
        (tmp_path / name).write_text('{"a": 1,\n "b": [}\n')
        done = command("delegate", "echo", "--input", str(tmp_path / name), "--no-wait")
        assert done.code == code
        assert f'--input {tmp_path / name}: {said}expected a value at line 2, column 8\n     "b": [}}\n' in done.err


@pytest.fixture
def helper(helper: Agent) -> Agent:
    @helper.skill
    async def choose(task: TaskContext) -> str:
        """Rely on a decision that somebody else changes meanwhile."""
        chosen = await task.context.get("decisions/db")
        async with connect(name="other") as other:
            await other.context(task.context_id).put("decisions/db", "postgres", if_rev=chosen.rev)
        return f"built on {chosen.value}"

    return helper


def test_a_result_on_a_decision_that_moved_is_shown_and_not_confirmed(command: Any, world: Any) -> None:
    command("context", "put", "plans", "decisions/db", "sqlite", "--if-rev", "0")
    done = command("delegate", "choose", "--context", "plans", "--acceptance", "auto")
    assert (done.code, done.out) == (6, "built on sqlite\n")
    (shown,) = [json.loads(line) for line in command("task", "ls", "--json").out.splitlines()]
    task = shown["id"]
    assert shown["metadata"]["state"] == "reported"
    assert "decisions/db (revision 1 was seen, 2 is current)" in done.err
    at = f"--url {world.url}"
    assert f"a2a task confirm {task} {at}, or a2a task reject {task} {at}\n" in done.err
    head = command("task", "show", task).out
    assert "moved      decisions/db: the result relies on revision 1, it was 2" in head
    later = command("task", "result", task)
    assert (later.code, later.out) == (6, "built on sqlite\n")
    assert later.err == done.err.splitlines(keepends=True)[-1]
    told = command("task", "result", task, "--json")
    assert told.code == 6
    assert json.loads(told.out)["moved"] == {"decisions/db": [1, 2]}
    assert command("task", "confirm", task).code == 0
    story = command("task", "show", task).out
    assert "completed" in story.splitlines()[0]
    moved = "relying on keys that have moved since: decisions/db (revision 1 was seen, it was 2)"
    assert f"helper reports: completed, {moved}\n" in story
    assert command("task", "result", task, "--json").code == 0, "somebody has said that it is good"


def test_json_tells_what_moved(command: Any, world: Any) -> None:
    done = command("delegate", "choose", "--context", "plans", "--json")
    *_, last = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == 6
    assert (last["kind"], last["result"], last["moved"]) == ("stale", "built on None", {"decisions/db": [0, 1]})


def test_the_same_key_is_the_same_task(command: Any, world: Any) -> None:
    first = command("delegate", "count_words", "text=a", "--key", "k")
    second = command("delegate", "count_words", "text=a", "--key", "k")
    assert first.out == second.out
    assert "already existed" in second.err
    refused = command("delegate", "count_words", "text=b", "--key", "k")
    assert refused.code == 1
    assert "idempotency_mismatch" in refused.err


def test_without_waiting_the_id_is_printed(command: Any, world: Any) -> None:
    done = command("delegate", "nobody_has_this", "--no-wait")
    assert done.out.startswith("main-")
    shown = json.loads(command("delegate", "nobody_has_this", "--no-wait", "--key", "k", "--json").out)
    assert shown["created"] is True


def test_json_is_a_stream_that_ends_with_the_result(command: Any, world: Any) -> None:
    lines = [json.loads(line) for line in command("delegate", "count_words", "text=a", "--json").out.splitlines()]
    assert [line["kind"] for line in lines if line["kind"] != "progress"] == ["created", "grant", "report", "result"]
    assert lines[-1] == {"kind": "result", "task": lines[0]["task"], "result": {"words": 1}}


def test_a_failed_task_has_an_exit_code_of_its_own(command: Any, world: Any) -> None:
    done = command("delegate", "fail", "-q")
    assert (done.code, done.out) == (5, "")
    assert done.err.endswith("error: it went wrong\n")
    last = json.loads(command("delegate", "fail", "--json").out.splitlines()[-1])
    assert (last["kind"], last["reason"], last["detail"]) == ("end", "error", "it went wrong")


def test_a_result_that_is_rejected_for_good_has_an_exit_code_of_its_own(command: Any, world: Any) -> None:
    words = ("delegate", "count_words", "text=a", "--acceptance", "human", "--key", "k")
    task = command(*words, "--no-wait").out.strip()
    assert command("task", "result", "--wait", task, "--timeout", "20").code == 0
    assert command("task", "reject", task, "--final").code == 0
    done = command(*words, "--timeout", "20")
    assert (done.code, done.out) == (7, "")


def test_without_a_standard_error_the_result_is_printed(
    command: Any, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    done = command("delegate", "count_words", "text=a")
    assert (done.code, done.out) == (0, '{"words": 1}\n')


def test_a_result_that_can_be_written_nowhere_is_not_confirmed(
    command: Any, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as closed:
        closed.setattr(sys, "stdout", None)
        done = command("delegate", "count_words", "text=a", "-q")
    assert (done.code, done.err) == (1, "a2a: there is no standard output to write to\n")
    assert json.loads(command("task", "ls", "--json").out)["metadata"]["state"] == "reported"


def test_options_reach_the_task(command: Any, world: Any) -> None:
    done = command("delegate", "count_words", "text=a", "--to", "somebody-else", "--deadline", "0.3", "-q")
    assert done.code == 5
    assert "deadline" in done.err
    done = command("delegate", "fail", "retryable=true", "--attempts", "1", "-q")
    assert "1 attempts failed" in done.err
    assert command("delegate", "count_words", "text=a", "--timers", "lease=5000", "-q").code == 0


@pytest.mark.parametrize("timer", ["lease", "laese=5", "lease=x", "lease=-1", "lease=9007199254740992"])
def test_a_timer_that_is_none_is_a_usage_error(command: Any, world: Any, timer: str) -> None:
    done = command("delegate", "count_words", "text=a", "--timers", timer, "--timeout", "20")
    assert done.code == 2
    assert "--timers: expected NAME=MS" in done.err


def test_a_timer_has_one_duration(command: Any) -> None:
    done = command("delegate", "count_words", "--timers", "lease=5000", "--timers", "lease=500")
    assert (done.code, "--timers: expected one number for lease, got 'lease=500' as well" in done.err) == (2, True)


@pytest.mark.parametrize("budget", ["tokens", "tokens=many", "money=3", "tokens=-1", "tokens=" + "9" * 20])
def test_a_budget_that_is_none_is_a_usage_error(command: Any, world: Any, budget: str) -> None:
    done = command("delegate", "count_words", "text=a", "--budget", budget, "--timeout", "20")
    assert done.code == 2
    assert "--budget: expected NAME=NUMBER" in done.err


@pytest.mark.parametrize("rungs", ["", "majority,,abort", "judge:review=x,abort", "judge:review=,abort", "=5,abort"])
def test_rungs_that_are_none_are_a_usage_error(command: Any, rungs: str) -> None:
    done = command("delegate", "count_words", "text=a", "--copies", "2", "--resolve", rungs)
    assert done.code == 2
    assert "--resolve: expected RUNG, RUNG:SKILL or RUNG:SKILL=MICRO, got" in done.err


def test_more_equal_answers_than_copies_are_a_usage_error(command: Any) -> None:
    done = command("delegate", "count_words", "text=a", "--copies", "2", "--agree", "3")
    assert done.code == 2
    assert "--agree: expected at most the 2 of --copies, got 3" in done.err


@pytest.mark.parametrize("deadline", ["nan", "inf", "1e300"])
def test_a_deadline_that_never_comes_is_a_usage_error(command: Any, deadline: str) -> None:
    done = command("delegate", "count_words", "text=a", "--deadline", deadline, "--timeout", "20")
    assert done.code == 2
    assert f"{deadline} is not a number of seconds" in done.err


def test_whoever_gives_up_waiting_is_told_how_to_go_on(command: Any, world: Any) -> None:
    done = command("delegate", "nobody_has_this", "--timeout", "4")
    assert done.code == 4
    assert "main-" in done.err
    assert " goes on: a2a task result --wait main-" in done.err
    assert "not done within 4 s" in done.err


def test_whoever_ends_the_input_at_a_question_is_told_how_to_go_on(
    command: Any, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_line() -> str:
        raise click.Abort

    monkeypatch.setattr(delegate_module, "can_ask", lambda: True)
    monkeypatch.setattr("a2a.cli.asking.read_line", read_line)
    done = command("delegate", "sure", "--timeout", "20")
    assert done.code == 130
    assert " goes on: a2a task result --wait main-" in done.err


def test_sigterm_ends_the_wait_as_ctrl_c_does(world: Any) -> None:
    words = [sys.executable, "-m", "a2a", "delegate", "nobody_has_this", "--timeout", "20"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "queued" in process.stderr.readline()
        process.terminate()
        said = process.communicate(timeout=20)[1]
    assert process.returncode == 130
    assert " goes on: a2a task result --wait main-" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nobody_has_this",), "no agent that is here offers nobody_has_this; it waits"),
        (("echo", "--to", "somebody"), "no agent somebody is here; it waits"),
        (("nobody_has_this", "--to", "helper"), "helper is here and does not offer nobody_has_this; it waits"),
    ],
)
def test_what_nobody_does_is_told_once(
    command: Any, world: Any, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], told: str
) -> None:
    monkeypatch.setattr(story, "NOBODY_AFTER", 0.05)
    done = command("delegate", *words, "--timeout", "6")
    assert done.code == 4
    assert done.err.count(told) == 1
    assert command("delegate", *words, "--timeout", "1", "-q").err == "a2a: not done within 1 s\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nobody_has_this",), "3 of 3 copies wait: no agent that is here offers nobody_has_this\n"),
        (("echo", "--text", "x"), "2 of 3 copies wait for another agent that offers echo\n"),
    ],
)
def test_how_many_copies_wait_and_for_what_is_told(
    command: Any, world: Any, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], told: str
) -> None:
    monkeypatch.setattr(story, "NOBODY_AFTER", 0.05)
    done = command("delegate", *words, "--copies", "3", "--timeout", "6")
    assert (done.code, done.err.count(told)) == (4, 1), done.err


def test_work_that_waits_for_a_busy_agent_is_not_told_to_wait_for_nobody(
    command: Any, world: Any, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(story, "NOBODY_AFTER", 0.05)
    assert command("agent", "drain", "helper").code == 0
    done = command("delegate", "echo", "--text", "x", "--timeout", "1")
    assert done.code == 4
    assert "is here" not in done.err


def test_without_a_terminal_a_question_is_told_and_waited_for(command: Any, world: Any) -> None:
    task = command("delegate", "sure", "--key", "k", "--no-wait").out.strip()

    async def answer() -> None:
        async with connect(world.url) as client:
            async for event in client.watch(task):
                if event.kind == "ask":
                    await client.answer(task, 1, "yes")

    with anyio.from_thread.start_blocking_portal() as portal:
        answering = portal.start_task_soon(answer)
        done = command("delegate", "sure", "--key", "k", "--timeout", "20")
        answering.result(20)
    assert (done.code, done.out) == (0, "true\n")
    assert f"{task} asks; answer with: a2a answer {task} --url {world.url}\n" in done.err


def test_at_a_terminal_the_person_is_asked(command: Any, world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    async def ask_person(who: str, question: Any) -> Any:
        asked.append((who, question))
        return "yes"

    monkeypatch.setattr(delegate_module, "can_ask", lambda: True)
    monkeypatch.setattr(delegate_module, "ask_person", ask_person)
    done = command("delegate", "sure", "--timeout", "20")
    assert (done.code, done.out) == (0, "true\n")
    [(who, question)] = asked
    assert who.startswith("main-")
    assert question == {"question": "sure?", "options": ["yes", "no"]}


def test_a_question_that_somebody_else_answers_is_taken_back(
    command: Any, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken_back: list[str] = []

    async def ask_person(who: str, question: Any) -> Any:
        try:
            async with connect(world.url) as other:
                await other.answer(who, 1, "no")
            await asyncio.Event().wait()
        finally:
            taken_back.append(who)

    monkeypatch.setattr(delegate_module, "can_ask", lambda: True)
    monkeypatch.setattr(delegate_module, "ask_person", ask_person)
    done = command("delegate", "sure", "--timeout", "20")
    assert (done.code, done.out) == (0, "false\n")
    assert len(taken_back) == 1


def test_an_answer_that_comes_second_does_not_count(command: Any, world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask_person(who: str, question: Any) -> Any:
        async with connect(world.url) as other:
            with anyio.CancelScope(shield=True):
                await other.answer(who, 1, "no")
        return "yes"

    monkeypatch.setattr(delegate_module, "can_ask", lambda: True)
    monkeypatch.setattr(delegate_module, "ask_person", ask_person)
    done = command("delegate", "sure", "--timeout", "20")
    assert (done.code, done.out) == (0, "false\n")


def test_without_a_terminal_a_human_is_waited_for(command: Any, world: Any) -> None:
    done = command("delegate", "count_words", "text=a", "--acceptance", "human", "--timeout", "1", "-q")
    assert done.code == 4
    assert "waits for an operator: a2a task confirm main-" in done.err


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What an operator at a terminal is shown."""
    values: list[Any] = []

    class Shown(Output):
        def value(self, value: Any) -> None:
            values.append(value)

    run = Common.run

    def run_shown(self: Common, work: Any) -> Any:
        object.__setattr__(self, "out", Shown())
        return run(self, work)

    monkeypatch.setattr(delegate_module, "_sees_and_answers", lambda client: client.is_operator)
    monkeypatch.setattr(Common, "run", run_shown)
    return values


def test_a_result_that_a_conflict_goes_against_while_the_human_reads_is_shown_again(
    command: Any, world: Any, shown: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    async def read_line() -> str:
        if not read:
            async with (
                connect(world.url, operator=True) as other,
                other.delegate("count_words", {"text": "a"}) as stands,
            ):
                await stands.result()
                [doubtful] = [task["id"] for task in await other.list(skill="draft")]
                read.append(await other.raise_conflict("result", stands.id, doubtful))
                await other.resolve(read[0], stands.id)
        return "y"

    monkeypatch.setattr("a2a.cli.asking.read_line", read_line)
    done = command("delegate", "draft", "--acceptance", "human", "--timeout", "20")
    assert done.code == 0, done.err
    assert "has changed since: look at it again" in done.err
    assert f"It was overruled by conflict {read[0]}." in done.err
    assert shown == ["draft", "draft", "draft"], "twice to say the word, and then as the result"


def test_at_a_terminal_the_human_sees_the_result_and_says_the_word(
    command: Any, world: Any, shown: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = iter(["\n", "longer please\n", "  \n", "y\n"])

    async def read_line() -> str:
        return next(said)

    monkeypatch.setattr("a2a.cli.asking.read_line", read_line)
    done = command("delegate", "draft", "--acceptance", "human", "--timeout", "20")
    assert done.code == 0, done.err
    assert shown == ["draft", "draft longer please", "draft longer please"]
