"""`a2a run`: have a squad work on a repository, watch it, answer its questions, and see the outcome."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from ..client import Client, connect
from ..credentials import default_ledger
from ..delegator import TaskHandle
from ..errors import A2AError, Gone, NotFound, Refused, TaskError, leaves
from ..squads import Definition, Place, find_place, state_of
from .asking import can_ask, place_of, question_lines, read_answer, read_text, stem_of
from .at_work import squad_at_work
from .board import Display, display
from .exits import ExitCode, Failure
from .options import Common, Connection, common_options, retyped
from .output import Output, escape
from .parameters import Seconds
from .runs import Run, begin
from .signals import ended_by_sigterm
from .squad import chosen_url, described
from .values import checked

__all__ = ["run"]

TIMERS: Final = {"heartbeat": 2.0, "lease": 10.0}
LOSSES_MAX: Final = 20
ATTEMPTS_MAX: Final = 5
REFRESH: Final = 0.5
"""Seconds between two looks at all tasks of the run."""
TASKS_SHOWN: Final = 500

EXIT_OF_VERDICT: Final = {
    "rejected": ExitCode.REJECTED,
    "refused": ExitCode.REJECTED,
    "no_evidence": ExitCode.FAILED,
    "undecided": ExitCode.FAILED,
    "unanswered": ExitCode.TIMEOUT,
}
"""All other verdicts are what was asked for."""
EXIT_OF_ERROR: Final = {
    **dict.fromkeys(
        ("bad_source", "no_such_path", "not_a_repository", "dirty_worktree", "no_commit", "not_python",
         "no_such_release", "bad_archive", "bad_branch", "unclear"), ExitCode.USAGE,
    ),
    "offline": ExitCode.NOT_CONNECTED,
}  # fmt: skip
"""Errors in the request or its repository are found before anything is changed; all others are failed tasks."""

_FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("request")
@click.option("--repo", type=_FOLDER, help="A git repository without uncommitted changes.")
@click.option("--sdist", metavar="NAME==VERSION", help="A source distribution of the package index.")
@click.option(
    "--approve",
    type=click.Choice(["ask", "auto", "never"]),
    help="Who approves: you; nobody, as long as tests pass and safety agrees; or never: it stops before the commit.  "
    "[default: ask at a terminal, else auto]",
)
@click.option(
    "--answer-within",
    type=Seconds(min=0, min_open=True),
    metavar="SECONDS",
    help="How long a question waits for a person before the run ends.  [default: a day]",
)
@click.option("--branch", default="", help="The branch to create.  [default: a name of its own]")
@click.option("--out", type=_FOLDER, metavar="DIR", help="The folder of the run; name it again to continue that run.")
@click.option(
    "--db", type=click.Path(dir_okay=False, path_type=Path), help="The ledger of the coordinator, if one is started."
)
@click.option("--keep", is_flag=True, help="Leave the coordinator and agents running.")
@click.option(
    "--allow-unsandboxed", is_flag=True, help="Run tests even if no sandbox works, with all your permissions."
)
@click.option(
    "--squad", "squad_name", default="maintenance", show_default=True, metavar="NAME", help="Use another squad."
)
@common_options(timeout=None)
def run(
    common: Common,
    request: str,
    repo: Path | None,
    sdist: str | None,
    approve: str | None,
    answer_within: float | None,
    branch: str,
    out: Path | None,
    db: Path | None,
    keep: bool,
    allow_unsandboxed: bool,
    squad_name: str,
) -> int:
    """Have a squad of agents carry out REQUEST on a repository, and commit what passes to a branch of its own.

    `a2a run "modernise to py311, keep the tests green" --repo PATH`. A coordinator and agents are started if none are
    running. Nothing is pushed, and no checkout is touched. If a run was killed, the same command continues it; after
    `a2a task cancel` it starts over. Runs on one repository take turns; each starts from what is checked out when its
    turn comes. Without a terminal, a question says how to answer it from elsewhere.

    Exit codes: 0 done; 1 no evidence, or nobody to decide on it; 2 this request or repository cannot be worked on; 3 no
    coordinator, or no package index; 4 timeout, including that of a question; 5 the task failed; 7 rejected by you, or
    refused by safety.
    """
    if (repo is None) == (sdist is None):
        raise click.UsageError("expected one of --repo PATH and --sdist NAME==VERSION")
    if repo is not None and not repo.is_dir():
        raise click.UsageError(f"--repo: {repo} " + ("is not a folder" if repo.exists() else "does not exist"))
    if sdist is not None and not all(sdist.partition("==")):
        raise click.UsageError(f"--sdist: expected name==version, got {sdist!r}")
    if out is not None:
        checked(str(out), "--out")
    name, wanted = ("repository", str(repo.resolve())) if repo is not None else ("sdist", sdist)
    source = {name: checked(wanted, "--sdist" if repo is None else "--repo")}
    given = {
        "request": checked(request, "REQUEST"),
        "source": source,
        "approve": approve or ("ask" if can_ask() else "auto"),
        "branch": checked(branch, "--branch"),
        "allow_unsandboxed": allow_unsandboxed,
    }
    if answer_within is not None:
        if given["approve"] != "ask":
            raise click.UsageError(f"--answer-within: expected --approve ask, got {given['approve']}")
        given["answer_within"] = answer_within
    definition, url = described(squad_name), chosen_url(common.connection)

    async def whole() -> int:
        wanted = {**given, "head": await _head(repo)}
        if branch and (branch.startswith("-") or (await _git("/", "check-ref-format", f"refs/heads/{branch}"))[0]):
            # Otherwise the deployer would say so after all the work is done.
            raise click.UsageError(f"--branch: {branch!r} is not a valid name of a branch")
        # A user who is not let in learns that before a folder is made.
        await find_place(definition, url, token=common.connection.token, db=db)
        with ended_by_sigterm(), begin(out, wanted, sdist or Path(str(source["repository"])).name) as this:
            if branch and repo is not None and not this.is_resumed and (taken := await _in_the_way(repo, branch)):
                if out is None:
                    shutil.rmtree(this.folder)
                beside = "" if taken == branch else f", which rules out {branch}"
                raise click.UsageError(f"--branch: {repo} has a branch {taken} already{beside}")
            word = "continues" if this.is_resumed else "begins"
            common.out.note(f"the run {word} in {this.folder}")
            async with (
                asyncio.timeout(common.timeout),
                squad_at_work(definition, common, name=squad_name, url=url, db=db, keep=keep) as up,
            ):
                return await _through(definition, up, common, this, given)

    try:
        return asyncio.run(whole())
    except TimeoutError as exc:
        if common.timeout is None:
            raise
        raise TimeoutError(f"not done within {common.timeout:g} s; the same command continues it") from exc


async def _head(repo: Path | None) -> str:
    """Return the commit a repository is at: after another commit, an unfinished run is not the one that is wanted.

    Raises:
        UsageError: it is not a repository; the squad would find that out only after all its agents have started.
    """
    if repo is None:
        return ""
    code, said, why = await _git(repo, "rev-parse", "--is-inside-work-tree")
    if code:
        # Not every error means that: it may belong to another user, whom git does not trust.
        raise click.UsageError(f"--repo: {repo} is not inside a git work tree: {why}")
    if said != "true":
        raise click.UsageError(f"--repo: {repo} is not inside a git work tree")
    return (await _git(repo, "rev-parse", "--quiet", "HEAD"))[1]


async def _in_the_way(repo: Path, branch: str) -> str | None:
    """Return the branch that prevents one of this name: git keeps a branch's prefix as a folder of refs."""
    parts = branch.split("/")
    folders = ["/".join(parts[:end]) for end in range(1, len(parts))]
    ways = [f"refs/heads/{name}" for name in (*folders, branch)]
    there = (await _git(repo, "for-each-ref", "--format=%(refname:lstrip=2)", *ways))[1].splitlines()
    return next((name for name in there if name in folders or name == branch or name.startswith(f"{branch}/")), None)


async def _git(folder: Path | str, *arguments: str) -> tuple[int, str, str]:
    """Run git in a folder, and return its exit code, its output and its error."""
    command = ("git", "-C", str(folder), *arguments)
    try:
        git = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as exc:
        raise Failure(f"git is needed but does not start: {exc}") from exc
    said, why = (text.decode(errors="replace").strip() for text in await git.communicate())
    return git.returncode or 0, said, why


# The task -------------------------------------------------------------------------------------------------------------


async def _through(definition: Definition, place: Place, common: Common, this: Run, given: dict[str, Any]) -> int:
    """Delegate the request, show its progress, and report the outcome."""
    there = replace(common.connection, url=place.url)
    async with connect(place.url, token=place.token, operator=True) as client:
        if this.is_resumed and await _is_canceled(client, this.task):
            # Whoever asks again knows that it was canceled, or has to learn it: its story would end without a reason.
            common.out.note(f"{this.task} was canceled: the run starts over ({there.typed(f'task show {this.task}')})")
            this.begin_anew()
        handle = client.delegate(
            definition.skill,
            {**given, "run_dir": str(this.folder)},
            key=this.key,
            timers=TIMERS,
            losses=LOSSES_MAX,
            attempts=ATTEMPTS_MAX,
        )
        async with handle as task:
            this.task, this.url = task.id, place.url
            this.save()
            try:
                elsewhere = _how_to_answer(there, given.get("answer_within"))
                with display(common.out, there.options) as shown:
                    await _watch(client, task, shown, elsewhere)
                result = await task.result()
            except (asyncio.CancelledError, click.Abort):
                common.out.note(
                    "the run stays open: the same command continues it; "
                    f"{there.typed(f'task cancel {task.id}')} ends it"
                )
                raise
            except TaskError as error:
                this.ended = "failed"
                this.save()
                raise await _failure(client, task, error, common.out, there) from error
        verdict = str(result.get("verdict", "")) if isinstance(result, dict) else ""
        code = EXIT_OF_VERDICT.get(verdict, ExitCode.OK)
        this.ended = verdict if code else "completed"
        this.save()
    _tell(definition, common.out, there, this, place, result)
    return code


async def _is_canceled(client: Client, task: str) -> bool:
    """Tell whether somebody has canceled a run's task, or it is canceling; a run may have no task yet."""
    if not task:
        return False
    try:
        shown = await client.get(task)
    except (NotFound, Gone):
        return False  # this coordinator does not know it, or no longer: delegating it again creates it
    return shown["metadata"]["state"] in ("canceling", "canceled")


def _how_to_answer(there: Connection, within: float | None) -> str:
    """Return the hint for a question that nobody here can answer; `TASK` stands for the task's id."""
    how = there.typed("answer TASK ANSWER")
    how_long = "a day, or as long as --answer-within says" if within is None else f"{within:g} s"
    return f"there is nobody to ask here, and the question waits for {how_long}; answer with: {how}"


async def _watch(client: Client, task: TaskHandle, shown: Display, elsewhere: str) -> None:
    """Show events until there is a result, and answer questions meanwhile."""
    asking: dict[int, asyncio.Task[None]] = {}
    try:
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(_refresh(client, task.context_id, shown))
            async for event in task.events():
                shown.happened(event)
                number = event.data.get("askNo")
                if event.kind == "ask" and isinstance(number, int):
                    asking[number] = group.create_task(_answer(client, task, number, event.value, shown, elsewhere))
                elif event.kind in ("answer", "answer_later") and number in asking:
                    asking.pop(number).cancel()  # somebody else may have been faster
            for waiting in (looking, *asking.values()):
                waiting.cancel()
    except BaseExceptionGroup as failures:
        raise leaves(failures)[0] from failures


async def _refresh(client: Client, context: str, shown: Display) -> None:
    while True:
        shown.board.update(await client.list(context_id=context, limit=TASKS_SHOWN))
        shown.refreshed()
        await asyncio.sleep(REFRESH)


async def _answer(client: Client, task: TaskHandle, number: int, question: Any, shown: Display, elsewhere: str) -> None:
    """Have the person at the terminal answer a question that is still open, or say how to answer it from elsewhere."""
    asks = (await client.get(task.id))["metadata"]["asks"]
    if not any(ask["askNo"] == number and ask["isOpen"] for ask in asks):
        return
    with shown.paused():
        click.echo("", err=True)
        for line in question_lines(question):
            click.echo(line, err=True)
        if not can_ask():
            click.echo(elsewhere.replace("TASK", task.id), err=True)
            return
        answer = await _prompt(question, shown)
    try:
        await task.answer(number, answer)
    except Refused as refused:
        click.echo(escape(f"that answer came too late: {refused}"), err=True)


async def _prompt(question: Any, shown: Display) -> str:
    """Read an answer: an option, by its words or its number, or any other text."""
    options = [str(option) for option in question.get("options") or ()] if isinstance(question, dict) else []
    while True:
        said = await read_answer("> ")
        if (place := place_of(said, options)) is not None:
            said = options[place]
        if said == "edit" and shown.patch:
            return await _edited(shown.patch)
        if said in options and (stem := stem_of(said)):
            value = await read_text(f"{said.removeprefix(stem).strip().lower()}> ")
            if not value and stem == "edit:" and shown.patch:
                return await _edited(shown.patch)
            if not value:
                continue
            return f"{stem} {value}"
        return said


async def _edited(patch: str) -> str:
    """Open a copy of the patch in the person's editor, and return the answer that submits it."""
    copy = Path(f"{patch}.edited")
    await asyncio.to_thread(lambda: copy.write_bytes(Path(patch).read_bytes()))
    await asyncio.to_thread(click.edit, filename=str(copy))
    return f"edit: {copy}"


async def _failure(client: Client, task: TaskHandle, error: TaskError, out: Output, there: Connection) -> Failure:
    """Return the error for a failed task: the reason in words, and its exit code."""
    code = ""
    with contextlib.suppress(A2AError):
        code = str(((await client.get(task.id))["metadata"].get("error") or {}).get("code", ""))
    text = error.detail or error.reason
    if out.as_json:
        out.record({"kind": "end", "task": task.id, "reason": error.reason, "code": code, "detail": error.detail})
    exit_code = EXIT_OF_ERROR.get(code, ExitCode.TASK_FAILED)
    where = "" if exit_code is not ExitCode.TASK_FAILED else f" ({there.typed(f'task show {task.id}')} says more)"
    return Failure(text + where, exit_code)


def _tell(definition: Definition, out: Output, there: Connection, this: Run, place: Place, result: Any) -> None:
    """Print the result, and how to look at all of it later."""
    told = result if isinstance(result, dict) else {}
    if out.as_json:
        out.record({"kind": "result", "task": this.task, "run": str(this.folder), "result": result})
        return
    out.line(retyped(str(told["text"]), there.options) if "text" in told else str(result))
    if told.get("commit"):
        repository = shlex.quote(str(told.get("repository", "")))
        out.note(f"\nthe commit:     git -C {repository} show {shlex.quote(str(told.get('branch', '')))}")
    out.note(f"the run:        {this.folder}")
    out.note(f"look again:     {there.typed(f'task tree {this.task}')}   (or: task ls, task show ID)")
    state = state_of(definition.name, place.url).read()
    is_ours = state is not None and state["db"] and state["supervisor"] == os.getpid()
    if state is not None and is_ours and Path(state["db"]) != default_ledger():
        # The default ledger can be read even while no coordinator runs.
        serve = f"a2a coordinator run --listen {place.listen} --db {shlex.quote(state['db'])}"
        out.note(f"                while its coordinator runs: {serve}")
