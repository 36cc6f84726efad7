"""`a2a task ...` and `a2a answer`: look at tasks, and give the word they wait for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

import click

from ..client import Client
from ..content import artifacts_value
from ..delegator import AgentInfo, TaskEvent
from ..errors import Overruled, StaleBasis, TaskCanceled, TaskFailed, TaskRejected
from ..protocol.states import OUTSIDE, TaskState
from .asking import ask_person, can_ask, choose, how_to_fill, question_lines
from .claims import in_its_way
from .exits import Failure
from .groups import Group
from .identifiers import SKILL, TASK
from .options import Common, common_options
from .output import escape
from .story import (
    ENDED,
    copies_that_wait,
    describe,
    doubtful_failure,
    duration,
    event_record,
    how_far,
    refused_lines,
    seconds_between,
    shortened,
    who_is_able,
    who_is_missing,
)
from .values import checked, parse_value

__all__ = ["answer", "task"]

_TASK = click.argument("task_id", metavar="TASK", type=TASK)
AGENTS_SHOWN = 5
"""The most agents that are named when a task waits for one."""


@click.group(cls=Group)
def task() -> None:
    """Look at tasks; confirm, reject or cancel them. The ledger keeps them across restarts."""


def _known_state(ctx: click.Context, parameter: click.Parameter, named: str | None) -> str | None:
    """Return the state that --state names, in the coordinator's words or in A2A's."""
    if named is not None and named not in {*TaskState, *OUTSIDE.values()}:
        raise click.BadParameter(f"expected one of {', '.join(TaskState)}, got {named!r}")
    return named


@task.command("ls")
@click.option("--state", callback=_known_state, help=f"Only tasks in this state: {', '.join(TaskState)}.")
@click.option("--skill", type=SKILL, help="Only tasks for this skill.")
@click.option("--parent", metavar="TASK", type=TASK, help="Only sub-tasks of this one.")
@click.option("--dead", is_flag=True, help="Only tasks given up after several agents were lost with them.")
@click.option("--before", metavar="TASK", type=TASK, help="Only tasks older than this one.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@common_options()
def list_tasks(
    common: Common,
    state: str | None,
    skill: str | None,
    parent: str | None,
    dead: bool,
    before: str | None,
    limit: int,
) -> None:
    """Show tasks, newest first."""

    async def work(client: Client) -> tuple[list[dict[str, Any]], bool]:
        page = partial(client.list, state=state, skill=skill, parent=parent, dead_letter=dead)
        found = await page(limit=limit, before=before)
        if parent is not None and not found:
            await client.get(parent)  # if there is no such task, this says so
        return found, len(found) == limit and bool(await page(limit=1, before=found[-1]["id"]))

    found, are_more = common.read(work)
    if are_more:
        common.out.note(f"there are more: --before {found[-1]['id']}")
    if common.out.as_json:
        for shown in found:
            common.out.record(shown)
        return
    if not found:
        common.out.note("no such tasks")
        return
    now = datetime.now(UTC).isoformat()
    common.out.table(
        ("TASK", "STATE", "AGE", "ATTEMPT", "AGENT", "SKILL"),
        [
            (
                shown["id"],
                shown["metadata"]["state"],
                duration(seconds_between(shown["metadata"]["createdAt"], now)),
                str(shown["metadata"]["attempt"]),
                shown["metadata"].get("agent", "-"),
                shown["metadata"]["skill"],
            )
            for shown in found
        ],
    )


@task.command("show")
@_TASK
@common_options()
def show_task(common: Common, task_id: str) -> None:
    """Tell a task's story: what was asked for, what happened, what came of it, and who was refused what.

    For a queued task, it also says what the task waits for; for a group, how many of its copies wait.
    """

    async def work(client: Client) -> None:
        shown = await client.get(task_id)
        waits = await _waits_for(client, shown)
        events = [event async for event in _history(client, shown)]
        if common.out.as_json:
            told = {**shown, "events": [event_record(event) for event in events]}
            common.out.record(told | {"waits": waits} if waits else told)
            return
        for line in _head(shown):
            common.out.line(line)
        if waits:
            common.out.line(escape(f"  waits      {waits}"))
        for contradiction in await client.conflicts(task=task_id):
            common.out.line(f"  conflict   {_in_short(contradiction)}")
        for event in events:
            common.out.line(f"  {_clock(event)}  {event.state:<9}  {describe(event)}")

    common.read(work)


def _head(shown: dict[str, Any]) -> list[str]:
    metadata = shown["metadata"]
    lines = [
        f"{shown['id']}  {metadata['skill']}  {metadata['state']}",
        f"  key        {metadata['key']}",
        f"  delegator  {metadata['delegator']} (accepts: {metadata['evaluator']})",
        f"  context    {shown['contextId']}",
    ]
    if "parent" in metadata:
        lines.append(f"  parent     {metadata['parent']}")
    if "children" in metadata:
        lines.append(f"  children   {' '.join(metadata['children'])}")
    if "deadlineAt" in metadata:
        lines.append(f"  deadline   {metadata['deadlineAt']}")
    if "redriveOf" in metadata:
        lines.append(f"  redrives   {metadata['redriveOf']}")
    if "budget" in metadata or "usage" in metadata:
        lines.append(f"  used       {_used(metadata)}")
    lines += _asked_beside_the_skill(metadata["spec"])
    lines.append(f"  input      {shortened(metadata['input'])}")
    if told := how_far(metadata):
        lines.append(f"  progress   {told}")
    lines += [f"  asks       {shortened(asked['question'])}" for asked in metadata["asks"] if asked["isOpen"]]
    if shown["artifacts"]:
        lines.append(f"  result     {shortened(artifacts_value(shown['artifacts']))}")
    lines += [
        f"  moved      {stale['key']}: the result relies on revision {stale['seen']}, it was {stale['current']}"
        for stale in metadata.get("staleBasis", ())
    ]
    if "overruled" in metadata:
        lines.append(f"  overruled  by conflict {metadata['overruled']}: it waits to be confirmed or rejected")
    if metadata.get("reason"):
        detail = metadata.get("detail")
        lines.append(f"  reason     {metadata['reason']}{f': {shortened(detail)}' if detail else ''}")
    lines += [
        f"  evidence   {kept['verdict']} report of {kept['agent']} under fence {kept['fence']}"
        for kept in metadata.get("evidence", ())
    ]
    lines += refused_lines(metadata.get("refused", ()))
    return [escape(line) for line in lines]


def _asked_beside_the_skill(spec: dict[str, Any]) -> list[str]:
    """Return the settings that decide who does a task and when, a line each."""
    lines = []
    if requires := spec.get("requires"):
        lines.append(f"  requires   {shortened(requires)}")
    if resources := spec.get("resources"):
        shared = {"x": "", "s": " (shared)"}
        names = [resource["name"] + shared[resource.get("mode", "x")] for resource in resources]
        lines.append(f"  claims     {shortened(' '.join(names))}")
    if copies := spec.get("redundancy"):
        lines.append(f"  copies     {copies['n']}")
    if priority := spec.get("priority"):
        lines.append(f"  priority   {priority}")
    return lines


async def _waits_for(client: Client, shown: dict[str, Any]) -> str:
    """Return what a queued task, or a group's copies, wait for, as far as it is known; else an empty text."""
    metadata = shown["metadata"]
    if "group" in metadata:
        return await copies_that_wait(client, shown, also_turns=True)
    if metadata["state"] != TaskState.QUEUED:
        return ""
    skill, requires = metadata["skill"], metadata["spec"].get("requires", {})
    if missing := await who_is_missing(client, skill, requires.get("agent")):
        return missing
    for claim in await client.claims(task=shown["id"]):
        if claim["state"] == "waiting":
            return f"for {in_its_way(claim)}"
    here = await who_is_able(client, skill, requires)
    if not here:
        return f"no agent that is here offers {skill} as it requires"
    told = [_keeps_it(one) for one in here]
    return f"for {', '.join(told[:AGENTS_SHOWN])}" + (
        f" and {len(told) - AGENTS_SHOWN} more" if told[AGENTS_SHOWN:] else ""
    )


def _keeps_it(agent: AgentInfo) -> str:
    """Return why an agent has not begun a task that it could do."""
    if agent.quarantine is not None:
        return f"{agent.agent_id} (gets no offers: {agent.quarantine['conflict']})"
    if agent.status != "ready":
        return f"{agent.agent_id} (is {agent.status})"
    if len(agent.holding) >= agent.credit:
        return f"{agent.agent_id} (holds {len(agent.holding)} of {agent.credit} tasks)"
    return f"{agent.agent_id} (has room: asked again after a pause, or barred from it)"


def _in_short(contradiction: dict[str, Any]) -> str:
    """Return a conflict about the task or its result, with its state, in few words."""
    what = f"{contradiction['conflict']}, about {contradiction['object']}"
    if contradiction["isOpen"]:
        return escape(f"{what}: open")
    resolution = contradiction["resolution"]
    return escape(f"{what}: {resolution['outcome']} {resolution.get('ref') or ''}".rstrip())


def _used(metadata: dict[str, Any]) -> str:
    used, may = metadata.get("usage", {}), metadata.get("budget", {})
    kinds = [kind for kind in {**may, **used} if kind not in ("children", "depth")]
    return ", ".join(f"{kind} {used.get(kind, 0)}{f' of {may[kind]}' if kind in may else ''}" for kind in kinds)


def _clock(event: TaskEvent) -> str:
    return datetime.fromtimestamp(event.at).strftime("%H:%M:%S.%f")[:-3]


async def _history(client: Client, shown: dict[str, Any]) -> AsyncGenerator[TaskEvent, None]:
    """Yield the events of a task so far."""
    known = shown["metadata"]["generation"]
    async with aclosing(client.watch(shown["id"])) as events:
        async for event in events:
            if event.kind != "progress":
                yield event
                if event.generation >= known:
                    return


@task.command("events")
@_TASK
@click.option("-f", "--follow", is_flag=True, help="Continue until the task has ended.")
@common_options(timeout=None)
def show_events(common: Common, task_id: str, follow: bool) -> None:
    """Show what happened to a task, one event per line."""

    async def work(client: Client) -> None:
        shown = await client.get(task_id)
        async with aclosing(client.watch(task_id) if follow else _history(client, shown)) as events:
            async for event in events:
                if common.out.as_json:
                    common.out.record(event_record(event))
                else:
                    common.out.line(f"{_clock(event)}  {event.state:<9}  {describe(event)}")

    common.read(work)


@task.command("tree")
@_TASK
@common_options()
def show_tree(common: Common, task_id: str) -> None:
    """Draw a task and everything delegated below it, with states, agents, attempts and durations."""

    async def work(client: Client) -> None:
        shown = await client.get(task_id)
        if common.out.as_json:
            async for below in _below(client, shown):
                common.out.record(below)
            return
        now = datetime.now(UTC).isoformat()
        async for line in _draw(client, shown, now, "", ""):
            common.out.line(line)

    common.read(work)


async def _children(client: Client, shown: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the sub-tasks of a task, in the order they were made."""
    if not shown["metadata"].get("children"):
        return []
    found: list[dict[str, Any]] = []
    while True:
        page = await client.list(parent=shown["id"], limit=1000, before=found[-1]["id"] if found else None)
        found += page
        if len(page) < 1000:
            return found[::-1]


async def _below(client: Client, shown: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield shown
    for child in await _children(client, shown):
        async for below in _below(client, child):
            yield below


async def _draw(client: Client, shown: dict[str, Any], now: str, first: str, rest: str) -> AsyncIterator[str]:
    metadata = shown["metadata"]
    ended = shown["status"]["timestamp"] if metadata["state"] in ENDED else now
    parts = [shown["id"], metadata["skill"], metadata["state"]]
    if metadata.get("agent"):
        parts.append(f"{metadata['agent']} (attempt {metadata['attempt']})")
    parts.append(duration(seconds_between(metadata["createdAt"], ended)))
    note = (metadata.get("progress") or {}).get("note")
    if note and metadata["state"] not in ENDED:
        parts.append(note)
    yield first + escape("  ".join(parts))
    children = await _children(client, shown)
    for child in children:
        is_last = child is children[-1]
        branch, below = ("└── ", "    ") if is_last else ("├── ", "│   ")
        async for line in _draw(client, child, now, rest + branch, rest + below):
            yield line


# The word a task waits for --------------------------------------------------------------------------------------------


@task.command("result")
@_TASK
@click.option("--wait", is_flag=True, help="Wait until there is one, or until --timeout.")
@common_options(timeout=None)
def show_result(common: Common, task_id: str, wait: bool) -> None:
    """Print a task's result: text as it is, anything else as JSON.

    Exit codes: 1 there is no result yet; 5 the task failed or was canceled; 6 the result relies on decisions that have
    moved, or lost a conflict, and waits to be confirmed or rejected; 7 the agent refused the task, or its result was
    rejected for good.
    """

    async def work(client: Client) -> None:
        shown = await client.get(task_id)
        while wait and not _has_result(shown):
            # From this generation on: an earlier result that was rejected does not count.
            async with aclosing(client.watch(task_id, shown["metadata"]["generation"])) as events:
                async for event in events:
                    if event.state in ENDED or event.state == "reported":
                        break
            shown = await client.get(task_id)
        value, state = _result(shown), shown["metadata"]["state"]
        stale = shown["metadata"].get("staleBasis", ())
        moved = {one["key"]: (one["seen"], one["current"]) for one in stale}
        overruled = shown["metadata"].get("overruled", "")
        if common.out.as_json:
            told = {"task": task_id, "state": state, "result": value}
            told |= {"moved": moved} if moved else {}
            common.out.record(told | {"overruled": overruled} if overruled else told)
        else:
            if state == "reported" and not moved and not overruled:
                common.out.note(f"not confirmed yet: {common.connection.typed(f'task confirm {task_id}')}")
            common.out.value(value)
        if overruled:
            raise doubtful_failure(Overruled(task_id, value, overruled), common.connection)
        if moved:
            raise doubtful_failure(StaleBasis(task_id, value, moved), common.connection)

    common.read(work)


def _has_result(shown: dict[str, Any]) -> bool:
    return shown["metadata"]["state"] in ENDED or shown["metadata"]["state"] == "reported"


def _result(shown: dict[str, Any]) -> Any:
    metadata = shown["metadata"]
    state = metadata["state"]
    if state in ("completed", "reported"):
        return artifacts_value(shown["artifacts"])
    kind = {"failed": TaskFailed, "canceled": TaskCanceled, "rejected": TaskRejected}.get(state)
    if kind is None:
        raise Failure(f"{shown['id']} is {state}: there is no result yet (--wait waits for it)")
    raise kind(shown["id"], metadata.get("reason") or state, metadata.get("detail", ""))


@task.command("confirm")
@_TASK
@common_options()
def confirm_task(common: Common, task_id: str) -> None:
    """Accept the current result of a task."""
    common.run(lambda client: client.confirm(task_id))
    _done(common, task_id, "confirmed")


@task.command("reject")
@_TASK
@click.argument("feedback", default="")
@click.option("--final", is_flag=True, help="No further revision: the task ends.")
@click.option("--reason", default="", help="A short reason for programs.")
@common_options()
def reject_task(common: Common, task_id: str, feedback: str, final: bool, reason: str) -> None:
    """Reject the current result of a task; the next revision sees the FEEDBACK.

    With --final there is no next revision, and FEEDBACK is the reason.
    """
    checked(feedback, "FEEDBACK")
    if final and feedback:
        if reason:
            raise click.UsageError("with --final, expected FEEDBACK or --reason, got both: no revision follows")
        feedback, reason = "", feedback
    common.run(lambda client: client.reject(task_id, feedback, rework=not final, reason=reason))
    _done(common, task_id, "rejected" if final else "sent back")


@task.command("cancel")
@_TASK
@click.argument("reason", default="")
@click.option(
    "--mode",
    type=click.Choice(["coop", "kill", "skip"]),
    default="coop",
    show_default=True,
    help="Let the agent wind down, give it no time, or do not wait for it.",
)
@common_options()
def cancel_task(common: Common, task_id: str, reason: str, mode: Literal["coop", "kill", "skip"]) -> None:
    """Cancel a task and everything delegated below it."""
    came_of_it = common.run(lambda client: client.cancel(task_id, reason, mode=mode))
    _done(common, task_id, "canceled" if came_of_it == "canceled" else "canceling")


@task.command("steer")
@_TASK
@click.argument("word")
@click.option(
    "--interrupt", is_flag=True, help="Have the attempt give the task back; the next attempt begins with WORD."
)
@click.option("--key", help="The same key means the same word, however often it is sent.")
@common_options()
def steer_task(common: Common, task_id: str, word: str, interrupt: bool, key: str | None) -> None:
    """Send a WORD to the agent at work: JSON if it parses, else text."""
    value = parse_value(word, "WORD", common.out.note)
    common.run(lambda client: client.steer(task_id, value, key, interrupt=interrupt))
    _done(common, task_id, "interrupted" if interrupt else "steered")


@task.command("redrive")
@_TASK
@common_options()
def redrive_task(common: Common, task_id: str) -> None:
    """Try an ended task again: create a new task with the same skill and input, and print its id."""

    async def work(client: Client) -> str:
        shown = await client.get(task_id)
        if shown["metadata"]["state"] not in ENDED:
            raise Failure(f"{task_id} is {shown['metadata']['state']}: only an ended task can be tried again")
        async with client.redrive(shown) as again:
            return again.id

    new = common.run(work)
    if common.out.as_json:
        common.out.record({"task": new, "redriveOf": task_id})
    else:
        common.out.line(new)


def _done(common: Common, task_id: str, what: str) -> None:
    if common.out.as_json:
        common.out.record({"task": task_id, "done": what})
    else:
        common.out.note(f"{task_id}: {what}")


@click.command()
@_TASK
@click.argument("value", required=False)
@click.option(
    "--ask", "number", type=click.IntRange(min=0), help="The number of the question.  [default: the oldest open one]"
)
@common_options(timeout=None)
def answer(common: Common, task_id: str, value: str | None, number: int | None) -> None:
    """Answer a task's question with VALUE: JSON if it parses, else text. Without VALUE, answer at the terminal.

    If the question has options, VALUE is one of them or its number; for one such as
    `reject: FEEDBACK`, replace the last word with your own text.
    """

    async def work(client: Client) -> int:
        asked = _open_ask((await client.get(task_id))["metadata"]["asks"], task_id, number)
        question = asked["question"]
        options = question.get("options") if isinstance(question, dict) else None
        chosen: Any
        if value is None:
            if not can_ask():
                lines = "\n".join(question_lines(question))
                raise Failure(f"question {asked['askNo']} of {task_id}: {lines}\ngive the answer as VALUE")
            chosen = await ask_person(task_id, question)
        elif isinstance(options, list) and options:
            chosen = choose(value, options)
            if chosen is None:
                listed = ", ".join(map(str, options))
                raise Failure(f"expected one of {listed}{how_to_fill(options)}, got {value!r}")
        else:
            chosen = parse_value(value, "VALUE", common.out.note)
        await client.answer(task_id, asked["askNo"], chosen)
        return int(asked["askNo"])

    _done(common, task_id, f"question {common.run(work)} answered")


def _open_ask(asks: list[dict[str, Any]], task_id: str, number: int | None) -> dict[str, Any]:
    waiting = [asked for asked in asks if asked["isOpen"] and number in (None, asked["askNo"])]
    if not waiting:
        raise Failure(f"{task_id} {'has no open question' if number is None else f'has no open question {number}'}")
    return waiting[0]
