"""`a2a run`, with an agent in the place of the squad."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import click
import pytest

from a2a import Agent, AttemptFailed, TaskContext, squads
from a2a.cli import run as module
from a2a.cli.run import EXIT_OF_ERROR, EXIT_OF_VERDICT
from a2a.cli.runs import runs_dir
from a2a.errors import Forbidden, Gone, NotFound, Refused, Unavailable

Command = Callable[..., Any]


class Lead:
    """What the leading agent does in a test, and what it was given."""

    def __init__(self) -> None:
        self.given: list[dict[str, Any]] = []
        self.tasks: list[str] = []
        self.does: Callable[[TaskContext], Awaitable[Any]] = self.deploy

    async def deploy(self, task: TaskContext) -> Any:
        await task.artifact("story", {"kind": "found", "who": "preparer", "what": "3 files"}, append=True, last=False)
        return self.summary("deployed")

    def summary(self, verdict: str) -> Any:
        return {"verdict": verdict, "text": f"it is {verdict}\x1b[2J", "commit": "", "branch": ""}

    def ends(self, verdict: str) -> Callable[[TaskContext], Awaitable[Any]]:
        async def work(task: TaskContext) -> Any:
            return self.summary(verdict)

        return work

    def fails(self, code: str) -> Callable[[TaskContext], Awaitable[Any]]:
        async def work(task: TaskContext) -> Any:
            raise AttemptFailed(f"it is {code}", code=code)

        return work


@pytest.fixture
def lead() -> Lead:
    return Lead()


@pytest.fixture
def helper(lead: Lead) -> Agent:
    """The agent that `world` runs."""
    agent = Agent("lead")

    @agent.skill(takes_value=True)
    async def maintain(value: Any, task: TaskContext) -> Any:
        lead.given.append(value)
        lead.tasks.append(task.id)
        return await lead.does(task)

    return agent


@pytest.fixture
def repo(tmp_path: Path) -> str:
    folder = tmp_path / "repo"
    folder.mkdir()
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    return str(folder)


@pytest.fixture
def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Have somebody sit there who types these lines."""

    def sit(*lines: str) -> list[str]:
        left = list(lines)

        async def read_line() -> str:
            await anyio.lowlevel.checkpoint()
            return left.pop(0) + "\n"

        monkeypatch.setattr(module, "can_ask", lambda: True)
        monkeypatch.setattr("a2a.cli.asking.read_line", read_line)
        return left

    return sit


def test_a_request_is_carried_out_and_what_came_of_it_is_printed(
    world: Any, command: Command, lead: Lead, repo: str, tmp_path: Path
) -> None:
    done = command("run", "modernise", "--repo", repo, "--branch", "new", "--out", str(tmp_path / "run"))
    assert done.code == 0, done.err
    assert done.out == "it is deployed\\x1b[2J\n"
    assert "3 files" in done.err
    assert f"a2a task tree {lead.tasks[0]} --url {world.url} " in done.err
    assert lead.given == [
        {
            "request": "modernise", "source": {"repository": repo}, "approve": "auto", "branch": "new",
            "allow_unsandboxed": False, "run_dir": str(tmp_path / "run"),
        }
    ]  # fmt: skip


def test_a_command_in_what_came_of_it_finds_the_same_coordinator(world: Any, command: Command, lead: Lead) -> None:
    async def deploy(task: TaskContext) -> Any:
        return {"verdict": "deployed", "text": "sealed: a2a conflict show main-k1"}

    lead.does = deploy
    done = command("run", "modernise", "--sdist", "a==1")
    assert done.out == f"sealed: a2a conflict show main-k1 --url {world.url}\n"


def test_the_same_folder_shows_the_same_result_again(world: Any, command: Command, lead: Lead, tmp_path: Path) -> None:
    wanted = ("run", "modernise", "--sdist", "a==1", "--out", str(tmp_path / "run"))
    assert command(*wanted).code == 0
    again = command(*wanted)
    assert (again.code, again.out) == (0, "it is deployed\\x1b[2J\n")
    assert "3 files" in again.err, "its story can still be read"
    assert len(lead.given) == 1, "it was not done twice"


@pytest.mark.parametrize(("out", "mode"), [(True, "skip"), (False, "skip"), (False, "coop")])
def test_a_run_that_was_canceled_while_nobody_watched_begins_anew_when_it_is_asked_for_again(
    world: Any, command: Command, lead: Lead, tmp_path: Path, out: bool, mode: str
) -> None:
    wanted = ("run", "modernise", "--sdist", "a==1", *(("--out", str(tmp_path / "run")) if out else ()))

    async def hang(task: TaskContext) -> Any:
        told = {"kind": "found", "who": "preparer", "what": "an old story"}
        await task.artifact("story", told, append=True, last=False)
        await anyio.sleep_forever()

    lead.does = hang
    assert command(*wanted, "--timeout", "0.5").code == 4
    assert command("task", "cancel", lead.tasks[0], "--mode", mode).code == 0
    lead.does = lead.deploy
    again = command(*wanted)
    assert (again.code, again.out) == (0, "it is deployed\\x1b[2J\n"), again.err
    assert "an old story" not in again.err and "3 files" in again.err
    shown = f"a2a task show {lead.tasks[0]} --url {world.url}"
    assert f"{lead.tasks[0]} was canceled: the run starts over ({shown})\n" in again.err
    assert len({given["run_dir"] for given in lead.given}) == 1
    assert len(lead.tasks) == 2


@pytest.mark.parametrize(
    ("state", "is_canceled"), [("canceling", True), ("canceled", True), ("parked", False), ("failed", False)]
)
async def test_a_run_that_is_about_to_end_by_a_cancel_is_taken_for_canceled(state: str, is_canceled: bool) -> None:
    class Known:
        async def get(self, task: str) -> Any:
            assert task == "main-7"
            return {"metadata": {"state": state}}

    known: Any = Known()
    assert await module._is_canceled(known, "main-7") == is_canceled
    assert not await module._is_canceled(known, ""), "it never came to a coordinator, which need not be asked"


@pytest.mark.parametrize("refusal", [NotFound, Gone, Unavailable, Forbidden])
async def test_a_run_whose_task_is_not_there_was_not_canceled_and_what_else_is_said_of_it_is_told(
    refusal: type[Refused],
) -> None:
    class Known:
        async def get(self, task: str) -> Any:
            raise refusal(f"{task} is not shown")

    known: Any = Known()
    if refusal in (NotFound, Gone):
        assert not await module._is_canceled(known, "main-7")
        return
    with pytest.raises(refusal, match="main-7 is not shown"):
        await module._is_canceled(known, "main-7")


def test_a_run_whose_task_another_ledger_has_is_delegated_there_anew(
    world: Any, command: Command, lead: Lead, tmp_path: Path
) -> None:
    wanted = ("run", "modernise", "--sdist", "a==1", "--out", str(tmp_path))
    assert command(*wanted).code == 0
    known = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(known | {"task": "main-99999", "name": "run-elsewhere"}))
    assert command(*wanted).code == 0
    assert len(lead.tasks) == 2


@pytest.mark.parametrize("verdict", ["nothing", "answered", "held", *EXIT_OF_VERDICT])
def test_every_verdict_has_its_exit_code(world: Any, command: Command, lead: Lead, verdict: str) -> None:
    lead.does = lead.ends(verdict)
    expected = {"rejected": 7, "refused": 7, "no_evidence": 1, "undecided": 1, "unanswered": 4}.get(verdict, 0)
    for _ in range(2):
        assert command("run", "modernise", "--sdist", "a==1", "--quiet").code == expected
    assert len(set(lead.tasks)) == 2, "the next run is another one"


@pytest.mark.parametrize("code", [*EXIT_OF_ERROR, "no_proposals"])
def test_what_is_wrong_is_told_in_words_and_as_an_exit_code(
    world: Any, command: Command, lead: Lead, tmp_path: Path, code: str
) -> None:
    lead.does = lead.fails(code)
    wanted = ("run", "modernise", "--sdist", "a==1", "--quiet", "--out", str(tmp_path / "run"))
    done = command(*wanted)
    assert done.code == {"offline": 3, "no_proposals": 5}.get(code, 2)
    assert f"a2a: it is {code}" in done.err
    lead.does = lead.deploy
    assert command(*wanted).code == 0, "the same folder may try again"


def test_for_programs_everything_is_one_object_per_line(world: Any, command: Command, lead: Lead) -> None:
    done = command("run", "modernise", "--sdist", "a==1", "--json")
    told = [json.loads(line) for line in done.out.splitlines()]
    assert [record["kind"] for record in told if record["kind"] == "artifact"] == ["artifact"]
    assert (told[-1]["kind"], told[-1]["task"], told[-1]["result"]["verdict"]) == ("result", lead.tasks[0], "deployed")
    lead.does = lead.fails("dirty_worktree")
    done = command("run", "modernise", "--sdist", "b==1", "--json")
    assert json.loads(done.out.splitlines()[-1])["code"] == "dirty_worktree"


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (["approve"], "approve"),
        (["", "1"], "approve"),
        (["2"], "reject"),
        (["3", "", "reject: FEEDBACK", "too much"], "reject: too much"),
        (["leave setup.py alone"], "leave setup.py alone"),
        (["4", "mine.patch"], "edit: mine.patch"),
        (["5"], "5"),
        (["9" * 5000], "9" * 5000),  # more digits than Python takes for a number
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_question_is_answered_at_the_terminal(
    world: Any, command: Command, lead: Lead, at_a_terminal: Callable[..., list[str]], typed: list[str], answer: str
) -> None:
    options = ["approve", "reject", "reject: FEEDBACK", "edit: PATH"]

    async def ask(task: TaskContext) -> Any:
        return {"verdict": "deployed", "text": await task.ask("Commit this?", options=options)}

    lead.does = ask
    left = at_a_terminal(*typed)
    done = command("run", "modernise", "--sdist", "a==1")
    assert (done.code, done.out) == (0, f"{answer}\n"), done.err
    assert lead.given[0]["approve"] == "ask", "somebody is there"
    assert "Commit this?" in done.err and left == []


def test_a_patch_is_edited_in_an_editor(
    world: Any,
    command: Command,
    lead: Lead,
    at_a_terminal: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    patch = tmp_path / "it.patch"
    patch.write_text("old\n")

    async def ask(task: TaskContext) -> Any:
        await task.artifact("story", {"kind": "patch", "who": "judge", "what": str(patch)}, append=True, last=False)
        return {"verdict": "deployed", "text": await task.ask("Commit this?", options=["approve", "edit: PATH"])}

    def edit(*, filename: str) -> None:
        Path(filename).write_text("new\n")

    monkeypatch.setattr("click.edit", edit)
    lead.does = ask
    at_a_terminal("edit")
    done = command("run", "modernise", "--sdist", "a==1")
    assert done.out == f"edit: {patch}.edited\n"
    assert (patch.read_text(), Path(f"{patch}.edited").read_text()) == ("old\n", "new\n")


def test_who_ends_the_input_at_a_question_is_told_how_to_go_on(
    world: Any, command: Command, lead: Lead, at_a_terminal: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask(task: TaskContext) -> Any:
        return {"verdict": "deployed", "text": await task.ask("Commit this?", options=["approve"])}

    async def read_line() -> str:
        raise click.Abort

    lead.does = ask
    at_a_terminal()
    monkeypatch.setattr("a2a.cli.asking.read_line", read_line)
    done = command("run", "modernise", "--sdist", "a==1")
    assert done.code == 130
    assert f"the same command continues it; a2a task cancel {lead.tasks[0]} --url " in done.err


def test_where_nobody_sits_it_says_how_to_answer(world: Any, command: Command, lead: Lead) -> None:
    async def ask(task: TaskContext) -> Any:
        answer = await task.ask("Commit this?", options=["approve"], default="approve", timeout=2.0)
        return {"verdict": "deployed", "text": answer}

    lead.does = ask
    done = command("run", "modernise", "--sdist", "a==1", "--approve", "ask")
    assert (done.code, done.out) == (0, "approve\n")
    assert "the question waits for a day, or as long as --answer-within says" in done.err
    assert f"answer with: a2a answer {lead.tasks[0]} ANSWER --url {world.url}\n" in done.err
    assert "answer_within" not in lead.given[0]


def test_a_conflict_that_waits_for_a_person_is_told_also_where_all_is_quiet(
    world: Any, command: Command, lead: Lead
) -> None:
    async def wait(task: TaskContext) -> Any:
        for kind, what in (
            ("found", "3 files"),
            ("person", "it waits for you: a2a conflict resolve main-k1 TASK"),
        ):
            await task.artifact("story", {"kind": kind, "who": "lead", "what": what}, append=True, last=False)
        return lead.summary("deployed")

    lead.does = wait
    done = command("run", "modernise", "--sdist", "a==1", "--quiet")
    assert done.err.endswith(f"it waits for you: a2a conflict resolve main-k1 TASK --url {world.url}\n")
    assert "3 files" not in done.err


def test_how_long_a_person_is_waited_for_is_passed_on_and_said(world: Any, command: Command, lead: Lead) -> None:
    async def ask(task: TaskContext) -> Any:
        await task.ask("Commit this?", default="nobody", timeout=0.5)
        return lead.summary("unanswered")

    lead.does = ask
    done = command("run", "modernise", "--sdist", "a==1", "--approve", "ask", "--answer-within", "0.5")
    assert (done.code, lead.given[0]["answer_within"]) == (4, 0.5)
    assert f"the question waits for 0.5 s; answer with: a2a answer {lead.tasks[0]} ANSWER" in done.err


def test_a_limit_on_the_time_leaves_the_run_to_be_taken_up(world: Any, command: Command, lead: Lead) -> None:
    async def wait(task: TaskContext) -> Any:
        await anyio.sleep_forever()

    lead.does = wait
    done = command("run", "modernise", "--sdist", "a==1", "--timeout", "5")
    assert done.code == 4
    assert "the same command continues it" in done.err


def test_sigterm_ends_the_command_in_order(world: Any, command: Command, lead: Lead) -> None:
    async def end(task: TaskContext) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        await anyio.sleep_forever()

    lead.does = end
    done = command("run", "modernise", "--sdist", "a==1")
    assert done.code == 130
    (task,) = lead.tasks
    assert f"the same command continues it; a2a task cancel {task} --url {world.url} ends it" in done.err


@pytest.mark.parametrize(("wanted", "beside"), [("taken", ""), ("taken/by/it", ", which rules out taken/by/it")])
def test_a_branch_that_is_there_is_no_place_for_what_comes_of_it(
    command: Command, repo: str, wanted: str, beside: str
) -> None:
    _commit_and_branch(repo, "taken")
    done = command("run", "modernise", "--repo", repo, "--branch", wanted)
    assert done.code == 2
    assert f"--branch: {repo} has a branch taken already{beside}\n" in done.err
    assert list(runs_dir().iterdir()) == []


@pytest.mark.parametrize("wanted", ["ta", "taken-2", "by/taken"])
def test_a_branch_with_a_name_of_its_own_may_be_made(
    world: Any, command: Command, lead: Lead, repo: str, wanted: str
) -> None:
    _commit_and_branch(repo, "taken")
    assert command("run", "modernise", "--repo", repo, "--branch", wanted).code == 0
    assert lead.given[0]["branch"] == wanted


def test_a_branch_cannot_have_the_name_of_others_folder(command: Command, repo: str) -> None:
    _commit_and_branch(repo, "taken/by")
    done = command("run", "modernise", "--repo", repo, "--branch", "taken")
    assert done.code == 2
    assert f"--branch: {repo} has a branch taken/by already, which rules out taken\n" in done.err


def _commit_and_branch(repo: str, branch: str) -> None:
    who = ("-c", "user.name=x", "-c", "user.email=x@x")
    subprocess.run(["git", "-C", repo, *who, "commit", "--quiet", "--allow-empty", "-m", "x"], check=True)
    subprocess.run(["git", "-C", repo, "branch", branch], check=True)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "expected one of --repo PATH and --sdist NAME==VERSION"),
        (("--repo", ".", "--sdist", "a==1"), 2, "expected one of --repo PATH and --sdist NAME==VERSION"),
        (("--repo", "/no/such/folder"), 2, "/no/such/folder does not exist"),
        (("--repo", __file__), 2, "is not a folder"),
        (("--repo", "/"), 2, "/ is not inside a git work tree"),
        (("--sdist", "foo"), 2, "expected name==version, got 'foo'"),
        (("--sdist", "a==1", "--branch", "a..b"), 2, "--branch: 'a..b' is not a valid name of a branch"),
        (("--sdist", "a==1", "--branch=-a"), 2, "--branch: '-a' is not a valid name of a branch"),
        (("--sdist", "a==1", "--answer-within", "9"), 2, "expected --approve ask, got auto"),
        (("--sdist", "a==1", "--approve", "ask", "--answer-within", "0"), 2, "'--answer-within': 0.0 is not in"),
        (("--repo", ".", "--branch", "\udcff"), 2, "--branch: text with a lone surrogate has no UTF-8 form"),
        (("--repo", ".", "--out", "\udcff"), 2, "--out: text with a lone surrogate has no UTF-8 form"),
        (("--sdist", "a==\udcff"), 2, "--sdist: text with a lone surrogate has no UTF-8 form"),
        (("--sdist", "a==1", "--squad", "no_such_squad"), 1, "there is no squad no_such_squad"),
        (
            ("--sdist", "a==1", "--url", "wss://nowhere.invalid:1"),
            3,
            "there is no coordinator at wss://nowhere.invalid:1",
        ),
    ],
)
def test_what_cannot_be_done_starts_nothing(
    command: Command, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = command("run", "modernise", *arguments)
    assert done.code == code
    assert words in done.err
    assert done.out == ""
    assert not runs_dir().exists()


def test_why_git_does_not_take_a_repository_is_told(command: Command, tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: /no/such/folder\n")
    done = command("run", "modernise", "--repo", str(tmp_path))
    assert done.code == 2
    assert f"{tmp_path} is not inside a git work tree: fatal: not a git repository: /no/such/folder" in done.err


def test_a_repository_whose_name_is_not_utf8_is_told_so(command: Command, tmp_path: Path) -> None:
    repo = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    Path(repo).mkdir()
    done = command("run", "modernise", "--repo", repo)
    assert done.code == 2
    assert "--repo: text with a lone surrogate has no UTF-8 form" in done.err


@pytest.mark.parametrize("arguments", [("run", "modernise", "--sdist", "a==1"), ("ask", "how long?"), ("squad", "up")])
def test_a_wrong_token_is_told_before_anything_is_made(
    world: Any, command: Command, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr(squads, "DEFAULT_URL", world.url)
    monkeypatch.delenv("A2A_URL")
    monkeypatch.setenv("A2A_TOKEN", "another")
    done = command(*arguments)
    assert (done.code, done.out) == (3, "")
    assert "auth: the token does not open this namespace" in done.err
    assert not runs_dir().exists()
    assert not squads.known()
