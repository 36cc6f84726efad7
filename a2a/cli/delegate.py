"""`a2a delegate`: delegate a task, show its progress, print and confirm its result."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import click

from ..client import Client
from ..content import artifacts_value
from ..delegator import BUDGETS, TIMERS, TaskEvent, TaskHandle
from ..errors import A2AError, AlreadyAnswered, GenerationMismatch, Overruled, StaleBasis, TaskError, leaves
from ..protocol.canonical import NUMBER_MAX
from .asking import ask_person, can_ask, read_answer
from .identifiers import AGENT, CONTEXT, SKILL
from .options import Common, Connection, common_options
from .output import Output, is_terminal
from .parameters import Number, Seconds
from .signals import ended_by_sigterm
from .story import ENDED, Follower, doubtful_failure, follower, how_to_settle, told_when_nobody
from .values import checked, decoded, parse_json, parse_value, quoted

__all__ = ["delegate", "read_input"]

LOOK_AGAIN = 1.0
"""Seconds between two looks at a conflict between answers."""


@click.command()
@click.argument("skill", type=SKILL)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--input",
    "file",
    type=click.File("rb"),
    metavar="FILE",
    help="A file with the input, JSON if it parses (*.json: always), else text; - is stdin.",
)
@click.option("--text", help="The input, as text.")
@click.option("--key", help="The same key means the same task, now and after any restart.")
@click.option("--to", metavar="AGENT", type=AGENT, help="Only this agent may do it.")
@click.option(
    "--context",
    "context_id",
    metavar="CONTEXT",
    type=CONTEXT,
    help="The context that the task shares with others; see `a2a context`.",
)
@click.option("--timers", multiple=True, metavar="NAME=MS", help=f"Its timers: {', '.join(TIMERS)}.")
@click.option("--budget", multiple=True, metavar="KIND=NUMBER", help=f"The most it may use: {', '.join(BUDGETS)}.")
@click.option("--resource", "resources", multiple=True, metavar="NAME", help="Claim this name for each attempt.")
@click.option("--copies", type=click.IntRange(1, 32), default=1, help="Give it to this many agents, to get one result.")
@click.option("--agree", type=click.IntRange(1, 32), help="How many equal answers decide.")
@click.option(
    "--resolve",
    metavar="RUNG,...",
    help="How to settle differing answers, in turn: majority,judge:SKILL,human,abort.",
)
@click.option(
    "--resolve-cost",
    type=Number(min=0),
    metavar="MICRO",
    help="The most that settling them may cost; for one rung: judge:SKILL=MICRO.",
)
@click.option("--compare", metavar="COMPARATOR", help="When answers count as equal: numeric(0.01), agent:SKILL, ...")
@click.option(
    "--effect",
    type=click.Choice(["pure", "idempotent", "irreversible"]),
    help="What it does to the outside world; decisions about an irreversible one can be appealed.",
)
@click.option(
    "--deadline",
    type=Seconds(min=0, min_open=True),
    metavar="SECONDS",
    help="The task fails unless it has a result by then.",
)
@click.option("--attempts", type=click.IntRange(1, 1000), help="How many attempts may fail before the task fails.")
@click.option(
    "--acceptance",
    type=click.Choice(["auto", "delegator", "human"]),
    default="delegator",
    show_default=True,
    help="Who says that the result is good: nobody, this command by printing it, or an operator.",
)
@click.option("--no-wait", is_flag=True, help="Print the task's id and exit.")
@common_options(timeout=None)
def delegate(
    common: Common,
    skill: str,
    pairs: tuple[str, ...],
    file: Any,
    text: str | None,
    timers: tuple[str, ...],
    budget: tuple[str, ...],
    resolve: str | None,
    compare: str | None,
    no_wait: bool,
    acceptance: str,
    **options: Any,
) -> None:
    """Delegate a task and print its result: text as it is, anything else as JSON.

    A VALUE is JSON if it parses, else text: `a2a delegate resize width=300 mode=fit`. Progress goes to stderr. Ctrl-C
    leaves the task running.

    Exit codes: 5 the task failed or was canceled; 6 the result relies on decisions that have moved, or lost a
    conflict, and waits to be confirmed or rejected; 7 the agent refused the task, or its result was rejected for good.
    """
    told = options["agree"] or resolve is not None or compare or options["resolve_cost"] is not None
    if options["copies"] == 1 and told:
        raise click.UsageError("--agree, --resolve... and --compare decide between copies: give --copies too")
    if options["agree"] is not None and options["agree"] > options["copies"]:
        raise click.UsageError(f"--agree: expected at most the {options['copies']} of --copies, got {options['agree']}")
    value = read_input(pairs, file, text, common.out.note)
    options |= {
        "acceptance": acceptance,
        "timers": {name: number / 1000 for name, number in _numbers("--timers", timers, TIMERS, "MS").items()},
        "budget": _numbers("--budget", budget, BUDGETS, "NUMBER"),
        "resolve": _rungs(resolve),
        "comparator": compare,
    }

    async def work(client: Client) -> None:
        handle = client.delegate(skill, value, **options)
        if no_wait:
            async with handle as task:
                _say_id(common.out, task)
            return
        with ended_by_sigterm():
            async with handle as task:
                with _told_to_go_on(common, task.id):
                    await _see_through(client, task, common, acceptance, skill, options["to"])

    common.run(work)


def read_input(pairs: tuple[str, ...], file: Any, text: str | None, note: Callable[[str], None] | None = None) -> Any:
    """Return the input that the arguments make: an object of pairs, on top of the file's; or a text.

    Args:
        note: told of a value that looks like JSON but is not, and so is a text.

    Raises:
        UsageError: they exclude each other.
    """
    if text is not None:
        if pairs or file:
            raise click.UsageError("--text is the whole input: leave out --input and KEY=VALUE")
        return checked(text, "--text")
    named = {}
    for pair in pairs:
        name, is_pair, value = pair.partition("=")
        if not is_pair or not name:
            raise click.UsageError(f"expected KEY=VALUE, got {quoted(pair)} (use --text for text, --input for a file)")
        if name in named:
            raise click.UsageError(f"expected one value for {name}, got {quoted(pair)} as well")
        named[checked(name, "KEY")] = parse_value(value, name, note)
    if file is None:
        return named or None
    where = f"--input {getattr(file, 'name', '-')}"
    content = decoded(file.read(), where, wanted="JSON or text")
    if not named and not where.endswith(".json"):
        return parse_value(content, where, note)
    value = parse_json(content, where)
    if named and not isinstance(value, dict):
        raise click.UsageError(f"{where}: with KEY=VALUE, expected a JSON object in the file")
    return value | named if named else value


def _numbers(option: str, pairs: tuple[str, ...], known: tuple[str, ...], unit: str) -> dict[str, int]:
    numbers = {}
    for pair in pairs:
        name, _, number = pair.partition("=")
        if name not in known or not _is_number(number):
            raise click.UsageError(f"{option}: expected NAME={unit} with one of {', '.join(known)}, got {pair!r}")
        if name in numbers:
            raise click.UsageError(f"{option}: expected one number for {name}, got {pair!r} as well")
        numbers[name] = int(number)
    return numbers


def _is_number(text: str) -> bool:
    """Tell whether a text is a number that fits a message."""
    return text.isdecimal() and len(text) < 20 and int(text) <= NUMBER_MAX


def _rungs(text: str | None) -> list[dict[str, Any]]:
    """Read `majority,judge:review=5000,quorum:2,abort`: rungs, a skill or number after a colon, and a cost.

    Anything after the last `=` is a cost: a mistyped cost must not become a part of the skill's name.

    Raises:
        UsageError: a rung is missing, or a cost is not a number.
    """
    rungs = []
    for part in text.split(",") if text is not None else ():
        named, is_priced, cost = part.strip().rpartition("=")
        if not is_priced:
            named, cost = cost, ""
        if not named or (is_priced and not _is_number(cost)):
            raise click.UsageError(f"--resolve: expected RUNG, RUNG:SKILL or RUNG:SKILL=MICRO, got {part.strip()!r}")
        strategy, _, argument = named.partition(":")
        rung: dict[str, Any] = {"strategy": strategy}
        if cost:
            rung["costMicro"] = int(cost)
        if _is_number(argument):
            rung["margin" if strategy == "plurality" else "k"] = int(argument)
        elif argument:
            rung["skill"] = argument
        rungs.append(rung)
    return rungs


def _say_id(out: Output, task: TaskHandle) -> None:
    if out.as_json:
        out.record({"task": task.id, "created": task.created})
    else:
        out.line(task.id)


@contextlib.contextmanager
def _told_to_go_on(common: Common, task: str) -> Any:
    """Tell a user who stops waiting that the task goes on."""
    try:
        yield
    except BaseException as error:
        if not isinstance(leaves(error)[0], asyncio.CancelledError | click.Abort):
            raise
        wait, cancel = (common.connection.typed(f"task {words} {task}") for words in ("result --wait", "cancel"))
        common.out.note(f"{task} goes on: {wait}, or {cancel}")
        raise


async def _see_through(
    client: Client, task: TaskHandle, common: Common, acceptance: str, skill: str, to: str | None
) -> None:
    out, connection = common.out, common.connection
    if not task.created:
        out.note(f"{task.id} already existed")
    try:
        with follower(out) as shown:

            def say(text: str) -> None:
                with shown.paused():
                    out.note(f"{task.id}: {text}")

            async with (
                _person(task, shown, out, connection) as note,
                _disputes(client, task, common, shown) as note_dispute,
                told_when_nobody(client, skill, to, say) as note_state,
            ):
                looked_at = 0
                async for event in task.events():
                    shown.happened(event)
                    note(event)
                    note_dispute(event)
                    note_state(event)
                    if acceptance == "human" and event.state == "reported" and event.generation > looked_at:
                        looked_at = await _have_accepted(client, task, common, shown) or event.generation
            value = await task.result()
    except TaskError as error:
        if out.as_json:
            out.record({"kind": "end", "task": task.id, "reason": error.reason, "detail": error.detail})
        raise
    except (StaleBasis, Overruled) as doubt:
        if not out.as_json:
            out.value(doubt.value)
        elif isinstance(doubt, StaleBasis):
            out.record({"kind": "stale", "task": task.id, "result": doubt.value, "moved": doubt.moved})
        else:
            out.record({"kind": "overruled", "task": task.id, "result": doubt.value, "conflict": doubt.conflict})
        raise doubtful_failure(doubt, connection) from doubt
    if out.as_json:
        out.record({"kind": "result", "task": task.id, "result": value})
    else:
        out.value(value)


@asynccontextmanager
async def _person(
    task: TaskHandle, shown: Follower, out: Output, connection: Connection
) -> AsyncIterator[Callable[[TaskEvent], None]]:
    """Inside the block, ask the person at the terminal the task's questions; yield a function to call on each event."""
    asking: dict[int, asyncio.Task[None]] = {}

    async def ask(number: int, question: Any) -> None:
        with shown.paused():
            answer = await ask_person(task.id, question)
        try:
            await task.answer(number, answer)
        except AlreadyAnswered as error:
            click.echo(f"{task.id}: {error}", err=True)

    def note(event: TaskEvent) -> None:
        number = event.data.get("askNo")
        if event.kind == "ask" and number is not None:
            if can_ask():
                asking[number] = group.create_task(ask(number, event.value))
            else:
                out.need_person(f"{task.id} asks; answer with: {connection.typed(f'answer {task.id}')}")
        elif event.kind in ("answer", "answer_later") or event.state in ENDED:
            for waiting in asking.values() if number is None else filter(None, [asking.get(number)]):
                waiting.cancel()  # somebody else was faster

    async with asyncio.TaskGroup() as group:
        yield note
        for waiting in asking.values():
            waiting.cancel()


@asynccontextmanager
async def _disputes(
    client: Client, task: TaskHandle, common: Common, shown: Follower
) -> AsyncIterator[Callable[[TaskEvent], None]]:
    """Hint inside the block at what to do about a conflict between answers; yield a function to call with each event.

    No event tells how far a conflict is.
    """
    looking: dict[str, asyncio.Task[None]] = {}

    async def look(conflict: str) -> None:
        typed, told = common.connection.typed, ""
        with contextlib.suppress(A2AError):  # the task goes on without the hint too
            while True:
                found = await client.conflicts(task=task.id, is_open=True)
                *_, last = next((one["stages"] for one in found if one["conflict"] == conflict), ()) or [None]
                stands = "" if last is None else f"{last['strategy']} {last['outcome']}"
                if stands != told:
                    told = stands
                    with shown.paused():
                        if stands == "human open":
                            how = typed(f"conflict resolve {conflict} SUBJECT")
                            common.out.need_person(f"{task.id}: conflict {conflict} waits for a person: {how}")
                        elif stands.endswith(" decided"):
                            how = typed(f"conflict appeal {conflict} GROUND")
                            common.out.note(f"{task.id}: conflict {conflict} can be appealed: {how}")
                await asyncio.sleep(LOOK_AGAIN)

    def note(event: TaskEvent) -> None:
        conflict = str(event.data.get("conflict", ""))
        if event.kind == "dispute" and conflict not in looking:
            looking[conflict] = group.create_task(look(conflict))
        elif event.kind == "resolve" and conflict in looking:
            looking.pop(conflict).cancel()

    async with asyncio.TaskGroup() as group:
        yield note
        for waiting in looking.values():
            waiting.cancel()


async def _have_accepted(client: Client, task: TaskHandle, common: Common, shown: Follower) -> int | None:
    """Ask the person at the terminal, if an operator, whether the result is good.

    Returns:
        The task's generation when that person looked at it; None if nobody did.
    """
    if not _sees_and_answers(client):
        common.out.need_person(f"{task.id} waits for an operator: {how_to_settle(task.id, common.connection)}")
        return None
    out = common.out
    while True:
        looked_at = await client.get(task.id)
        metadata = looked_at["metadata"]
        generation = int(metadata["generation"])
        with shown.paused():
            out.value(artifacts_value(looked_at["artifacts"]))
            if "overruled" in metadata:
                click.echo(f"It was overruled by conflict {metadata['overruled']}.", err=True)
            said = await read_answer("Is this good? [y, or what is wrong with it] ")
        if said.lower() not in ("y", "yes"):
            await client.reject(task.id, said)
            return generation
        try:
            await client.confirm(task.id, if_generation=generation)
            return generation
        except GenerationMismatch:
            out.note(f"{task.id} has changed since: look at it again")


def _sees_and_answers(client: Client) -> bool:
    """Tell whether somebody with the operator's token is at the terminal, and sees there what is printed."""
    return client.is_operator and can_ask() and is_terminal(sys.stdout)
