"""`a2a conflict ...`, and copies of a task that contradict each other."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from a2a import Agent, AttemptFailed, Patch, TaskContext, sync
from a2a.cli import delegate as delegate_module
from a2a.cli import story as story_module
from a2a.cli.conflicts import _story, _written
from a2a.cli.delegate import _rungs
from a2a.cli.options import Connection
from a2a.engine.policy import LADDERS, Admission, Policy, digest
from a2a.protocol.messages import (
    ClaimAcquire,
    ConflictRaise,
    ContextOp,
    ContextWrite,
    Message,
    PatchRef,
    Pong,
    RaisedSubject,
    Seen,
    TaskAnswer,
    TaskAsk,
    TaskCancel,
    TaskSteer,
)
from a2a.reader import Reader
from tests.unit.engine.conflicts.court import Court, answer
from tests.unit.engine.conftest import DURATIONS, START, Peer, Town


def opinion(name: str, answer: Any) -> Agent:
    agent = Agent(name)

    @agent.skill
    async def judge_it() -> Any:
        return answer

    return agent


@pytest.fixture
def three(world: Any) -> Any:
    """Three agents of which two agree."""
    runs = []
    for name, answer in (("one", {"a": 1}), ("two", {"a": 1.0}), ("three", "something else")):
        stop, ready = world.call(anyio.Event), threading.Event()
        run = partial(opinion(name, answer).run, world.url, stop=stop, ready=ready.set)
        runs.append((stop, world.portal.start_task_soon(run)))
        assert ready.wait(20)
    yield world
    for stop, ended in runs:
        world.call(stop.set)
        ended.result(20)


def test_a_majority_is_the_result_and_the_conflict_is_shown(command: Any, three: Any) -> None:
    done = command("delegate", "judge_it", "--copies", "3", "--agree", "3", "--resolve", "majority,abort")
    assert (done.code, json.loads(done.out)) == (0, {"a": 1})
    (conflict,) = [json.loads(line) for line in command("conflict", "ls", "--json").out.splitlines()]
    assert command("conflict", "ls", "--limit", "1").err == ""
    command("delegate", "judge_it", "--copies", "3", "--agree", "3", "--resolve", "majority,abort")
    page = command("conflict", "ls", "--limit", "1")
    assert page.err == f"there are more: --before {page.out.splitlines()[1].split()[0]}\n"
    older = command("conflict", "ls", "--limit", "1", "--before", page.out.splitlines()[1].split()[0])
    assert (older.out.splitlines()[1].split()[0], older.err) == (conflict["conflict"], "")
    shown = command("conflict", "show", conflict["conflict"]).out
    assert "majority   decided for answer" in shown
    assert "resolved   select" in shown


def test_an_answer_that_is_not_kept_any_more_is_not_shown_as_null(command: Any, three: Any) -> None:
    command("delegate", "judge_it", "--copies", "3", "--agree", "3", "--resolve", "majority,abort")
    (conflict,) = [json.loads(line) for line in command("conflict", "ls", "--json").out.splitlines()]
    shown = json.loads(command("conflict", "show", conflict["conflict"], "--json").out)
    assert not any("isKept" in subject for subject in shown["subjects"])
    for subject in shown["subjects"]:  # as from a namespace that keeps tasks for a time
        if subject["value"] == {"a": 1}:
            lost = subject["group"]
            subject |= {"value": None, "isKept": False}
    story = _story(shown)
    assert f"  answer {lost} is no longer kept" in story
    assert f"  answer {1 - lost} is" in story
    assert not any("null" in line or "from answer" in line for line in story)
    assert any(line.startswith(f"  majority   decided for answer {lost}") for line in story)


def test_what_parties_said_is_shown_with_their_evidence(command: Any, three: Any) -> None:
    command("delegate", "judge_it", "--copies", "3", "--agree", "3", "--resolve", "majority,abort")
    (conflict,) = [json.loads(line) for line in command("conflict", "ls", "--json").out.splitlines()]
    shown = json.loads(command("conflict", "show", conflict["conflict"], "--json").out)
    shown["positions"] = [{"agent": "one", "stance": "", "value": "I counted"}]
    shown["appeal"] = {"by": "two", "ground": "new_evidence", "value": ["the atlas"]}
    story = _story(shown)
    assert story[story.index("  position   one") + 1] == "    I counted"
    assert story[story.index("  appeal     two: new_evidence") + 2] == '      "the atlas"'


def test_what_there_is_nothing_of_is_left_out(command: Any, town: Town) -> None:
    a_late_word(town)
    (conflict,) = town.ledger.conflicts
    shown = json.loads(command("conflict", "show", conflict, "--json").out)
    assert not any(line.startswith("  policy") for line in _story(shown))
    shown["resolution"] = {"outcome": "merge", "ref": None, "by": "merge", "rationale": ""}
    assert "  resolved   merge by merge" in _story(shown)
    shown["subjects"][0]["agent"] = ""  # of a task that has left memory, nobody knows who had it
    assert "  answer 0   word-1 by -" in _story(shown)
    shown["resolution"] |= {"ref": "word-1", "rationale": "it was the first"}
    assert "  resolved   merge word-1 by merge: it was the first" in _story(shown)


def test_what_was_merged_without_asking_anybody_is_shown(command: Any, world: Any) -> None:
    def patch(line: int) -> Patch:
        lines = [f" old {at}" if at != line else f"-old {at}\n+new {at}" for at in range(line - 2, line + 3)]
        body = "\n".join(lines)
        return Patch("repo", "r1", f"--- a/f\n+++ b/f\n@@ -{line - 2},5 +{line - 2},5 @@\n{body}\n")

    runs = []
    for name, answer in (("one", patch(5)), ("two", patch(8))):
        stop, ready = world.call(anyio.Event), threading.Event()
        run = partial(opinion(name, answer).run, world.url, stop=stop, ready=ready.set)
        runs.append((stop, world.portal.start_task_soon(run)))
        assert ready.wait(20)
        assert command("delegate", "judge_it", "--context", "c", "--to", name).code == 0
    deadline, line = time.monotonic() + 20, ""
    while '"merge"' not in line.partition('"resolution"')[2] and time.monotonic() < deadline:
        line = command("conflict", "ls", "--json").out
    shown = command("conflict", "show", json.loads(line)["conflict"]).out
    assert "artifact (a1)" in shown
    assert "merged is" in shown and "-old 5" in shown and "+new 8" in shown
    for stop, ended in runs:
        world.call(stop.set)
        ended.result(20)


def test_a_person_decides_what_the_others_could_not(command: Any, three: Any) -> None:
    task = command(
        "delegate", "judge_it", "--copies", "3", "--resolve", "quorum:3,human,abort", "--no-wait"
    ).out.strip()
    deadline = time.monotonic() + 20
    line = ""
    while '"human"' not in line.partition('"stages"')[2] and time.monotonic() < deadline:
        line = command("conflict", "ls", "--open", "--json").out
    conflict = json.loads(line)
    odd = next(subject["ref"] for subject in conflict["subjects"] if subject["agent"] == "three")
    shown = command("conflict", "show", conflict["conflict"]).out
    assert "something else" in shown and "human" in shown
    done = command("conflict", "resolve", conflict["conflict"], odd, "--reason", "seen it")
    assert (done.code, done.err) == (0, f"{conflict['conflict']}: select {odd}\n")
    assert command("task", "result", "--wait", task, "--timeout", "20").out == "something else\n"
    rows = command("conflict", "ls").out.splitlines()
    assert rows[0].split() == ["CONFLICT", "ABOUT", "KIND", "SUBJECTS", "STATE", "BY"]
    assert rows[1].split()[:4] == [conflict["conflict"], task, "result", "r1"]
    assert command("conflict", "ls", "--open").err == "no such conflicts\n"


@pytest.fixture
def disputed(command: Any, three: Any) -> Iterator[str]:
    """A conflict of this user's that a majority has decided, and whose outcome waits: its effect cannot be undone."""
    rungs = ("--agree", "3", "--resolve", "majority,human,abort")
    done = command("delegate", "judge_it", "--copies", "3", *rungs, "--effect", "irreversible", "--no-wait")
    task = done.out.strip()
    with sync.connect(operator=True) as client:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            found = client.conflicts(task=task)
            if found and client.conflict(found[0]["conflict"])["stages"]:
                break
        yield found[0]["conflict"]
        client.cancel(task)


def test_a_party_takes_a_position_and_the_last_one_is_shown(command: Any, disputed: str, tmp_path: Any) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("I counted them")
    assert command("conflict", "position", disputed, "none of them").code == 0
    done = command("conflict", "position", disputed, "the first", "--evidence", str(notes))
    assert (done.code, done.out, done.err) == (0, "", f"{disputed}: your position is kept with it\n")
    shown = command("conflict", "show", disputed).out
    assert ": the first\n    I counted them\n" in shown and "none of them" not in shown
    told = json.loads(command("conflict", "position", disputed, "neither", "--json").out)
    assert [taken["stance"] for taken in told["positions"]] == ["neither"]


def test_what_waits_for_a_person_is_told_to_who_waits_also_where_all_is_quiet(
    command: Any, three: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delegate_module, "LOOK_AGAIN", 0.05)
    rungs = ("--copies", "3", "--agree", "3", "--effect", "irreversible", "--timeout", "6")
    done = command("delegate", "judge_it", *rungs, "--resolve", "quorum:3,human,abort", "-q")
    task = command("task", "ls", "--skill", "judge_it").out.splitlines()[-1].split()[0]
    (conflict,) = [json.loads(line)["conflict"] for line in command("conflict", "ls", "--json").out.splitlines()]
    how = f"a2a conflict resolve {conflict} SUBJECT --url {three.url}"
    assert done.err.splitlines() == [
        f"{task}: conflict {conflict} waits for a person: {how}",
        "a2a: not done within 6 s",
    ]
    done = command("delegate", "judge_it", *rungs, "--resolve", "majority,human,abort")
    assert done.err.count(" can be appealed: a2a conflict appeal ") == 1
    assert "waits for a person" not in done.err


def test_a_copy_that_waits_is_told_of_also_where_the_others_contradict_each_other(
    command: Any, three: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(story_module, "NOBODY_AFTER", 0.5)  # they do by then
    done = command("delegate", "judge_it", "--copies", "4", "--agree", "4", "--timeout", "6")
    assert done.code == 4
    assert done.err.count("1 of 4 copies waits for another agent that offers judge_it\n") == 1, done.err


def test_who_is_asked_to_judge_is_no_copy(command: Any, three: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story_module, "NOBODY_AFTER", 0.05)
    rungs = ("--copies", "3", "--agree", "3", "--resolve", "judge:nobody_judges,abort", "--timeout", "6")
    done = command("delegate", "judge_it", *rungs)
    assert "contradict each other" in done.err and "copies" not in done.err
    (task,) = [line.split()[0] for line in command("task", "ls").out.splitlines() if " disputed " in line]
    assert "  waits  " not in command("task", "show", task).out


def test_a_party_appeals_and_the_ladder_goes_on(command: Any, disputed: str, tmp_path: Any) -> None:
    assert "open, majority has decided, and can be appealed\n" in command("conflict", "show", disputed).out
    atlas = tmp_path / "atlas.txt"
    atlas.write_text("page 7")
    assert command("conflict", "appeal", disputed, "dislike").code == 2
    done = command("conflict", "appeal", disputed, "new_evidence", "--evidence", str(atlas))
    assert (done.code, done.out, done.err) == (0, "", f"{disputed}: appealed, open, human\n")
    shown = command("conflict", "show", disputed).out
    assert ": new_evidence\n    page 7\n" in shown
    told = json.loads(command("conflict", "appeal", disputed, "new_evidence", "--json").out)
    assert told["appeal"]["ground"] == "new_evidence", "said again it is the same one"
    again = command("conflict", "appeal", disputed, "wrong_subject")
    assert (again.code, f"denied: conflict {disputed} was appealed once, by " in again.err) == (1, True)


def test_evidence_that_is_no_text_is_refused_with_the_place(command: Any, tmp_path: Any) -> None:
    picture = tmp_path / "picture"
    picture.write_bytes(b"\x89PNG")
    for words in (("raise", "main-1"), ("position", "main-k1", "no"), ("appeal", "main-k1", "new_evidence")):
        done = command("conflict", *words, "--evidence", str(picture))
        said = "--evidence: expected text in UTF-8, got the byte 0x89 at line 1, column 1"
        assert (done.code, said in done.err) == (2, True)


def test_who_is_no_party_is_told_who_is(command: Any, disputed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")
    for word in (("position", disputed, "no"), ("appeal", disputed, "new_evidence")):
        done = command("conflict", *word)
        assert done.code == 1
        assert f"is no party to conflict {disputed}; the parties are: " in done.err
        assert "one (author)" in done.err and "(delegator)" in done.err


def test_nothing_is_said_to_what_is_over(command: Any, three: Any) -> None:
    command("delegate", "judge_it", "--copies", "3", "--agree", "3", "--resolve", "majority,abort")
    (conflict,) = [json.loads(line)["conflict"] for line in command("conflict", "ls", "--json").out.splitlines()]
    for word in (("position", conflict, "no"), ("appeal", conflict, "new_evidence")):
        done = command("conflict", *word)
        assert (done.code, f"conflict: conflict {conflict} is over: select" in done.err) == (1, True)


def test_what_no_rule_sees_is_raised_shown_and_decided(command: Any, world: Any, tmp_path: Any) -> None:
    tasks = [command("delegate", "count_words", f"text={text}", "--no-wait").out.strip() for text in ("a", "a b")]
    deadline = time.monotonic() + 20
    while command("task", "ls", "--state", "reported").out.count("main-") < 2 and time.monotonic() < deadline:
        pass
    seen = tmp_path / "seen.txt"
    seen.write_text("I counted them")
    raised = command("conflict", "raise", *tasks, "--claim", "not both", "--evidence", str(seen), "--value", "7")
    conflict = raised.out.strip()
    assert raised.code == 0
    assert command("conflict", "raise", *tasks, "--value", "7").out.strip() == conflict, "the same is the same one"
    shown = command("conflict", "show", conflict).out
    for line in (f"holds up   {' '.join(tasks)}", "not both", "I counted them", "answer 2   value-3 by", "    7"):
        assert line in shown, shown
    refused = command("task", "confirm", tasks[0])
    assert (refused.code, f"conflict {conflict} about its result is open" in refused.err) == (1, True)
    assert command("conflict", "resolve", conflict, "value-3").code == 0
    rows = command("conflict", "ls", "--kind", "result", "--about", f"task:{tasks[0]}").out.splitlines()
    assert rows[1].split()[:6] == [conflict, tasks[0], "result", "raise", "1:1:1", "select"]
    assert command("conflict", "ls", "--about", tasks[0]).out.splitlines() == rows, "as the table shows it"
    mistaken = command("conflict", "ls", "--about", "tsk:1")
    assert (mistaken.code, "expected one of task:ID, context:ID/KEY" in mistaken.err) == (2, True)
    assert command("conflict", "ls", "--kind", "context").err == "no such conflicts\n"
    unknown = command("conflict", "ls", "--task", "main-999")
    assert (unknown.code, unknown.err) == (1, "a2a: not_found: there is no task main-999\n")
    assert command("conflict", "raise").code == 2


def test_a_result_that_was_overruled_waits_for_a_word(command: Any, world: Any) -> None:
    said = ("delegate", "count_words", "text=a b", "--key", "k")
    task = command(*said, "--no-wait").out.strip()
    assert command("task", "result", "--wait", task).code == 0
    conflict = command("conflict", "raise", task, "--value", "7").out.strip()
    assert f"  conflict   {conflict}, about task:{task}: open\n" in command("task", "show", task).out
    assert command("conflict", "resolve", conflict, "value-2").code == 0
    assert f"overruled  by conflict {conflict}" in command("task", "show", task).out
    for read in (("task", "result", task), said):
        done = command(*read, "-q")
        assert (done.code, json.loads(done.out)) == (6, {"words": 2})
        assert f"was overruled by conflict {conflict}; confirm or reject it: a2a task confirm {task}" in done.err
    told = command("task", "result", task, "--json")
    assert (told.code, json.loads(told.out)["overruled"]) == (6, conflict)
    last = json.loads(command(*said, "--json").out.splitlines()[-1])
    assert last == {"kind": "overruled", "task": task, "result": {"words": 2}, "conflict": conflict}
    assert command("task", "confirm", task).code == 0
    shown = command("task", "show", task).out
    assert "overruled" not in shown
    assert f"  conflict   {conflict}, about task:{task}: select value-2\n" in shown
    assert command("task", "result", task).code == 0, "somebody has said that it is good"


def test_revisions_and_fences_are_raised_too(command: Any, world: Any) -> None:
    for key in ("db", "orm"):
        command("context", "put", "plans", key, f"for {key}")
    raised = command(
        "conflict", "raise", "--kind", "context", "--revision", "plans", "db", "1", "--revision", "plans", "orm", "1"
    )
    shown = command("conflict", "show", raised.out.strip()).out
    assert "about      context:plans/db" in shown
    assert ", orm 1 of plans" in shown
    raised = command("conflict", "raise", "--kind", "resource", "--fence", "repo", "3", "--fence", "repo", "4")
    assert ", fence 3 of repo" in command("conflict", "show", raised.out.strip()).out


def test_a_conflict_that_is_not_there_is_named(command: Any, world: Any) -> None:
    words = (("resolve", "main-k9", "none"), ("position", "main-k9", "no"), ("appeal", "main-k9", "new_evidence"))
    for what in (("show", "main-k9"), *words):
        done = command("conflict", *what)
        assert (done.code, done.err) == (1, "a2a: not_found: there is no conflict main-k9\n")


def test_rungs_are_read_with_their_skill_or_number() -> None:
    assert _rungs("majority, judge:review,quorum:2,plurality:3,abort") == [
        {"strategy": "majority"},
        {"strategy": "judge", "skill": "review"},
        {"strategy": "quorum", "k": 2},
        {"strategy": "plurality", "margin": 3},
        {"strategy": "abort"},
    ]
    assert _rungs("panel:a=b=50,retry=0") == [
        {"strategy": "panel", "skill": "a=b", "costMicro": 50},
        {"strategy": "retry", "costMicro": 0},
    ]
    assert _rungs(None) == []


def test_a_policy_that_decides_nothing_is_refused(command: Any, world: Any) -> None:
    done = command("delegate", "judge_it", "--copies", "2", "--resolve", "majority")
    assert done.code == 1
    assert "the last rung must always decide" in done.err


def test_what_decides_between_copies_needs_copies(command: Any, world: Any) -> None:
    for wanted in (("--resolve", "majority,abort"), ("--resolve-cost", "0")):
        done = command("delegate", "count_words", "--text", "a", *wanted)
        assert done.code == 2
        assert "--copies" in done.err
    assert command("task", "ls", "--json").out == ""


def test_a_text_inside_an_answer_is_shown_line_by_line() -> None:
    shown = _written({"patch": {"text": "-one\n+two \\n\n"}})
    assert shown == ["{", '  "patch": {', '    "text": "-one', "      +two \\\\n", '      "', "  }", "}"]


def test_what_a_rung_was_told_is_shown(command: Any, three: Any) -> None:
    judging = Agent("judge")

    @judging.skill(id="weigh", takes_value=True)
    async def weigh(value: Any, task: TaskContext) -> Any:
        task.use(cost_micro=3)
        raise AttemptFailed("it is all the same to me", code="unsure", retryable=False)

    stop, ready = three.call(anyio.Event), threading.Event()
    ended = three.portal.start_task_soon(partial(judging.run, three.url, stop=stop, ready=ready.set))
    assert ready.wait(20)
    rungs = "quorum:3,judge:weigh=5,majority,abort"
    assert command("delegate", "judge_it", "--copies", "3", "--resolve", rungs, "--resolve-cost", "100").code == 0
    (conflict,) = [json.loads(line) for line in command("conflict", "ls", "--json").out.splitlines()]
    shown = command("conflict", "show", conflict["conflict"]).out
    assert "judge      undecided, for 6 micro: cost: the rung has used 6 of 5" in shown
    assert shown.count("by judge, failed: it is all the same to me") == 2
    three.call(stop.set)
    ended.result(20)


# One of each ----------------------------------------------------------------------------------------------------------


def answers_differ(town: Town) -> None:
    Court(town, 2).answers("1", "2")


def a_raise(town: Town) -> None:
    values = [RaisedSubject(value=b"1"), RaisedSubject(value=b"2")]
    town.worker("w")
    town.join("ann").say(ConflictRaise("identity", values, "agent:w"))


def a_contested_rejection(town: Town) -> None:
    boss, worker = town.join("boss"), town.worker("w")
    task = boss.delegate()
    worker.report(worker.offer(), payload=answer("1"))
    boss.confirm(boss.mail()[-1], verdict="reject")
    worker.say(ConflictRaise("result", [RaisedSubject(task=task)]))


def write(peer: Peer, key: str, value: bytes, rev: int, **about: Any) -> None:
    peer.say(ContextWrite("plans", f"{peer.name} {rev}", [ContextOp(key, rev, value, **about)]))


def two_values(town: Town, **about: Any) -> None:
    for name in ("ann", "bob"):
        write(town.join(name), "db", name.join('""').encode(), 0, **about)


def a_moved_decision(town: Town) -> None:
    ann, boss, worker = town.join("ann"), town.join("boss"), town.worker("w")
    write(ann, "decisions/db", b"1", 0)
    boss.delegate(context_id="plans")
    write(ann, "decisions/db", b"2", 1)
    worker.report(worker.offer(), payload=answer("1"), basis=[Seen("decisions/db", 1)])


def two_patches(town: Town) -> None:
    boss = town.join("boss")
    for name in ("x", "y"):
        worker = town.worker(name, name)
        boss.delegate(name, name, context_id="c")
        diff = f"--- a/f\n+++ b/f\n@@ -5,1 +5,1 @@\n-old\n+{name}\n"
        part = {"text": diff, "mediaType": "text/x-diff"}
        result = [{"artifactId": "r", "metadata": {"patch": {"of": "repo", "base": "r1"}}, "parts": [part]}]
        worker.report(worker.offer(), payload=json.dumps(result).encode(), patches=[PatchRef("repo", "r1")])


def claim(peer: Peer, number: int, name: str) -> None:
    peer.say(ClaimAcquire(number, [{"name": name}], wait_ms=60_000))


def a_circle_of_claims(town: Town) -> None:
    ann, bob = town.join("ann"), town.join("bob")
    for peer, number, name in ((ann, 1, "a"), (bob, 1, "b"), (ann, 2, "b"), (bob, 2, "a")):
        claim(peer, number, name)


def two_fences(town: Town) -> None:
    shown = [RaisedSubject(resource="repo", fence=fence) for fence in (2, 3)]
    town.join("guard").say(ConflictRaise("resource", shown))


def asked_task(town: Town) -> tuple[Peer, Peer, str]:
    boss, worker, person = town.join("boss"), town.worker("w"), town.join("ann", operator_token="op")
    task = boss.delegate()
    worker.say(TaskAsk(task, 1, b"[]", worker.offer().fence))
    return boss, person, task


def a_late_word(town: Town) -> None:
    boss, person, task = asked_task(town)
    seen = town.task(task).generation
    boss.say(TaskSteer(task, "a", b'["left"]'))
    person.say(TaskSteer(task, "b", b'["right"]', seen))


def two_answers(town: Town) -> None:
    boss, person, task = asked_task(town)
    for peer, said in ((boss, b'["yes"]'), (person, b'["no"]')):
        peer.say(TaskAnswer(task, 1, said))


def a_cancel_too_late(town: Town) -> None:
    boss, worker, person = town.join("boss"), town.worker("w"), town.join("ann", operator_token="op")
    task = boss.delegate()
    worker.report(worker.offer(), payload=answer("1"))
    boss.confirm(boss.mail()[-1])
    person.say(TaskCancel(task))


def two_processes(town: Town) -> None:
    town.worker("w")
    town.dial().say(town.hello("w", instance_id="w-2"))


def a_process_too_many(town: Town) -> None:
    for number in (1, 2, 3):
        there = town.worker("w", instance_id=f"w-{number}", incarnation=number)
    for _ in range(2):
        town.dial().say(town.hello("w", instance_id="w-4", incarnation=4))
        there.say(Pong())


def two_cards(town: Town) -> None:
    town.worker("w").drop()
    town.worker("w", "echo", "plan", instance_id="w-2", incarnation=2)


EVERY_RULE: list[tuple[str, Callable[[Town], None], str]] = [
    ("result r1", answers_differ, "  answer 1   "),
    ("identity raise", a_raise, "  answer 1   value-2 by ann\n"),
    ("result r4", a_contested_rejection, "  answer 1   rejection-2 by boss\n"),
    ("context c1", partial(two_values, guarded=True), "  answer 1   proposal-2 by bob, db 0 of plans\n"),
    ("context c3", a_moved_decision, "  answer 1   revision-2 by ann, decisions/db 2 of plans\n"),
    ("context c4", partial(two_values, decision=True), "  answer 0   revision-1 by ann, db 1 of plans\n"),
    ("artifact a1", two_patches, "    ++y\n"),
    ("resource s2", a_circle_of_claims, "  answer 0   wait-1 by bob, a wait for a\n"),
    ("resource s3", two_fences, "  answer 1   fence-2 by guard, fence 3 of repo\n"),
    ("instruction i1", a_late_word, "  answer 1   word-2 by ann\n"),
    ("instruction i2", two_answers, "  answer 1   answer-2 by ann\n"),
    ("instruction i2", a_cancel_too_late, "  answer 1   word-2 by ann\n"),
    ("identity d1", two_processes, "  answer 1   instance-2 by w\n"),
    ("identity d2", a_process_too_many, "  policy     human\n"),
    ("identity d3", two_cards, "  answer 1   instance-2 by w\n"),
]


SPEC = Path(__file__).parents[3] / "spec" / "v1" / "protocol.md"


def test_every_rule_of_the_protocol_is_among_them() -> None:
    named = re.findall(r"`([a-z]\d)`", SPEC.read_text(encoding="utf-8"))
    assert {what.split()[1] for what, _, _ in EVERY_RULE} == {"raise", *named}


class Told:
    """A link to a coordinator without a shell."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def call(self, message: Message) -> Message | None:
        return self._peer.say(message)


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> Town:
    """A coordinator that looks for every contradiction there is, which the commands find."""
    policy = Policy(durations=DURATIONS, ladders=LADDERS, admission=Admission(operator_token=digest("op")))
    town = Town(policy, [], START)

    @asynccontextmanager
    async def connected() -> AsyncIterator[Reader]:
        reader: Any = Reader()
        reader._link = Told(town.join("looker"))
        yield reader

    monkeypatch.setattr(Connection, "client", lambda connection: connected())
    return town


@pytest.mark.parametrize(("what", "cause", "line"), EVERY_RULE)
def test_a_conflict_of_every_rule_is_listed_and_shown(
    command: Any, town: Town, what: str, cause: Callable[[Town], None], line: str
) -> None:
    cause(town)
    kind, rule = what.split()
    (conflict,) = [known for known in town.ledger.conflicts.values() if known.rule == rule]
    listed, shown = command("conflict", "ls"), command("conflict", "show", conflict.id)
    assert (listed.code, shown.code, listed.err, shown.err) == (0, 0, "", "")
    assert [conflict.id, kind, rule] in [row.split()[:1] + row.split()[2:4] for row in listed.out.splitlines()]
    assert shown.out.startswith(f"{conflict.id}  {kind} ({rule})  ")
    assert line in shown.out, shown.out
    assert not any(told.endswith((" ", ":")) for told in shown.out.splitlines()), shown.out
