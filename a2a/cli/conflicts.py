"""`a2a conflict ...`: show what contradicts what, with its evidence; raise, argue and decide conflicts."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, get_args

import click

from ..client import Client, Ground
from ..errors import Forbidden
from ..reader import require_object
from .exits import Failure
from .groups import Group
from .identifiers import CONFLICT, SUBJECT, TASK
from .options import Common, common_options
from .output import escape
from .parameters import Number
from .story import refused_lines, shortened
from .values import checked, decoded, parse_value

__all__ = ["conflict"]

_KINDS: Final = ("result", "context", "resource", "artifact", "instruction", "identity")
_LINES_SHOWN: Final = 40
_LINE_END: Final = re.compile(r"(?<!\\)\\n")
"""A line end inside a JSON string."""
_CONFLICT = click.argument("conflict_id", metavar="CONFLICT", type=CONFLICT)
_EVIDENCE = click.option("--evidence", type=click.File("rb"), help="A file with evidence; - is the standard input.")


def _object(_: click.Context, __: click.Parameter, named: str | None) -> str | None:
    """Return the object that was named; a task may be named by its id alone."""
    if named is None:
        return None
    about = named if ":" in named else f"task:{named}"
    try:
        require_object(about)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return about


@click.group(cls=Group)
def conflict() -> None:
    """Look at conflicts and their evidence; raise one, speak in one as a party, or decide one as a person."""


@conflict.command("ls")
@click.option("--task", metavar="TASK", type=TASK, help="Only those about this task or its result.")
@click.option("--kind", type=click.Choice(_KINDS), help="Only those of this kind.")
@click.option(
    "--about",
    metavar="OBJECT",
    callback=_object,
    help="Only those about this object, such as context:plans/decisions/db, or a task's id.",
)
@click.option("--open", "only_open", is_flag=True, help="Only those that are still open.")
@click.option("--before", metavar="CONFLICT", type=CONFLICT, help="Only those older than this one.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@common_options()
def list_conflicts(common: Common, only_open: bool, before: str | None, limit: int, **wanted: Any) -> None:
    """Show conflicts, newest first."""

    async def work(client: Client) -> tuple[list[dict[str, Any]], bool]:
        page = partial(client.conflicts, is_open=True if only_open else None, **wanted)
        found = await page(limit=limit, before=before)
        if wanted["task"] is not None and not found:
            await client.get(wanted["task"])  # if there is no such task, this says so
        return found, len(found) == limit and bool(await page(limit=1, before=found[-1]["conflict"]))

    found, are_more = common.read(work)
    if are_more:
        common.out.note(f"there are more: --before {found[-1]['conflict']}")
    if common.out.as_json:
        for shown in found:
            common.out.record(shown)
        return
    if not found:
        common.out.note("no such conflicts")
        return
    common.out.table(
        ("CONFLICT", "ABOUT", "KIND", "SUBJECTS", "STATE", "BY"),
        [
            (
                shown["conflict"],
                _about(shown),
                f"{shown['kind']} {shown['rule']}",
                _sizes(shown),
                _state(shown),
                shown.get("resolution", {}).get("by") or "-",
            )
            for shown in found
        ],
    )


def _about(shown: dict[str, Any]) -> str:
    """Return the object of a conflict, for a task its id."""
    return shortened(str(shown["object"]).removeprefix("task:"))


def _sizes(shown: dict[str, Any]) -> str:
    """Return how many parties gave each answer, as in 2:1."""
    groups = [subject["group"] for subject in shown["subjects"]]
    return ":".join(str(groups.count(group)) for group in sorted(set(groups)))


def _state(shown: dict[str, Any]) -> str:
    if not shown["isOpen"]:
        return str(shown["resolution"]["outcome"])
    if not shown["stages"]:
        return "open, answers are coming in"
    last = shown["stages"][-1]
    # A decision ends the conflict, unless parties have time to appeal first.
    has_time = " has decided, and can be appealed" if last["outcome"] == "decided" else ""
    return f"open, {last['strategy']}{has_time}"


@conflict.command("show")
@_CONFLICT
@common_options()
def show_conflict(common: Common, conflict_id: str) -> None:
    """Show a conflict's answers side by side: who says what, what was tried, who was refused, and how it ended."""
    shown = common.read(lambda client: client.conflict(conflict_id))
    if common.out.as_json:
        common.out.record(shown)
        return
    for line in _story(shown):
        common.out.line(escape(line))


def _story(shown: dict[str, Any]) -> list[str]:
    lines = [
        f"{shown['conflict']}  {shown['kind']} ({shown['rule']})  {_state(shown)}",
        f"  about      {shown['object']}",
    ]
    if shown["policy"]:  # a conflict that is decided as it is found has none
        lines.append(f"  policy     {' > '.join(shown['policy'])}")
    if shown["blocks"]:
        lines.append(f"  holds up   {' '.join(shown['blocks'])}")
    for raised in shown.get("raises", ()):
        lines.append(f"  raised     by {raised['agent']}: {raised['claim']}".rstrip(": "))
        if raised["value"]:
            lines += _shown(_written(raised["value"]))
    first: dict[int, Any] = {}
    for subject in shown["subjects"]:
        where = _where(subject)
        lines.append(f"  answer {subject['group']}   {subject['ref']} by {subject['agent'] or '-'}{where}")
        if subject.get("isKept", True):
            first.setdefault(subject["group"], subject["value"])
    groups = dict.fromkeys(subject["group"] for subject in shown["subjects"])
    lines += [f"  answer {group} is no longer kept" for group in groups if group not in first]
    for group, value in first.items():
        lines += [f"  answer {group} is", *_shown(_written(value))]
    one, *others = first or [0]
    for other in others:
        lines += [f"  from answer {one} to answer {other}", *_shown(_difference(first[one], first[other]))]
    for taken in shown["positions"]:
        lines.append(f"  position   {taken['agent']}: {taken['stance']}".rstrip(": "))
        if taken["value"]:
            lines += _shown(_written(taken["value"]))
    for stage in shown["stages"]:
        is_answer = stage["winner"] in groups
        winner = f" for answer {stage['winner']}" if is_answer else ""
        cost = f", for {stage['costMicro']} micro" if stage.get("costMicro") else ""
        lines.append(f"  {stage['strategy']:<10} {stage['outcome']}{winner}{cost}: {stage['why']}".rstrip(": "))
        for answer in stage["answers"]:
            lines.append(
                f"    {answer['ref']} by {answer['agent'] or '-'}, {answer['state']}: {answer['detail']}".rstrip(": ")
            )
            if answer["value"] is not None:
                lines += _shown(_written(answer["value"]), "      ")
    lines += refused_lines(shown["refused"])
    if "appeal" in shown:
        lines.append(f"  appeal     {shown['appeal']['by']}: {shown['appeal']['ground']}")
        if shown["appeal"]["value"]:
            lines += _shown(_written(shown["appeal"]["value"]))
    if not shown["isOpen"]:
        end = shown["resolution"]
        chosen = f" {end['ref']}" if end["ref"] else ""
        why = f": {end['rationale']}" if end["rationale"] else ""
        lines.append(f"  resolved   {end['outcome']}{chosen} by {end['by'] or '-'}{why}")
        if "merged" in shown:
            lines += ["  merged is", *_shown(_written(shown["merged"]))]
        lines.append(f"  dissent    {' '.join(shown['dissent']) or 'none'}")
        lines.append(f"  seal       {shown['seal']}")
    return lines


def _where(subject: dict[str, Any]) -> str:
    """Return where a subject comes from, if its name does not show it."""
    if "key" in subject:
        return f", {subject['key']} {subject['rev']} of {subject['contextId']}"
    if "resource" not in subject:
        return ""
    said = f"fence {subject['fence']} of" if "fence" in subject else "a wait for"  # as in a circle that was broken
    return f", {said} {subject['resource']}"


def _written(value: Any) -> list[str]:
    """Return a value as lines; a text inside it becomes lines too, so that a patch looks like one."""
    if isinstance(value, str):
        return value.splitlines() or [""]
    lines: list[str] = []
    for line in json.dumps(value, indent=2, ensure_ascii=False, default=str).splitlines():
        margin = " " * (len(line) - len(line.lstrip()) + 2)
        head, *rest = _LINE_END.split(line)
        lines += [head, *(f"{margin}{part}" for part in rest)]
    return lines


def _difference(one: Any, other: Any) -> list[str]:
    compared = difflib.unified_diff(_written(one), _written(other), lineterm="", n=1)
    return [line for line in compared if not line.startswith(("---", "+++"))]


def _shown(lines: list[str], margin: str = "    ") -> list[str]:
    """Return as many lines as are useful; `--json` has them all."""
    cut = ["…"] if len(lines) > _LINES_SHOWN else []
    return [f"{margin}{line}" for line in [*map(shortened, lines[:_LINES_SHOWN]), *cut]]


@conflict.command("raise")
@click.argument("tasks", metavar="[TASK]...", nargs=-1, type=TASK)
@click.option("--kind", type=click.Choice(_KINDS), default="result", show_default=True, help="What is contended.")
@click.option(
    "--value", "values", metavar="VALUE", multiple=True, help="Your own answer: JSON if it parses, else text."
)
@click.option(
    "--revision",
    "revisions",
    nargs=3,
    type=(str, str, Number(min=1)),
    metavar="CONTEXT KEY REV",
    multiple=True,
    help="The value of a key of a context in this revision.",
)
@click.option(
    "--fence",
    "fences",
    nargs=2,
    type=(str, Number(min=0)),
    metavar="NAME FENCE",
    multiple=True,
    help="The fence that was shown for a resource.",
)
@click.option("--about", default="", metavar="OBJECT", help="The object, if the rest does not tell it.")
@click.option("--claim", default="", help="How they contradict each other.")
@_EVIDENCE
@common_options()
def raise_conflict(common: Common, tasks: tuple[str, ...], kind: Any, **said: Any) -> None:
    """Say that the results of TASKs, or what the options name, contradict each other; print the conflict.

    A result that waits to be confirmed stays unsettled until the conflict is decided.
    """
    subjects: list[str | dict[str, Any]] = [*tasks]
    subjects += [{"context": context, "key": key, "rev": rev} for context, key, rev in said["revisions"]]
    subjects += [{"resource": name, "fence": fence} for name, fence in said["fences"]]
    subjects += [{"value": parse_value(value, "--value", common.out.note)} for value in said["values"]]
    if not subjects:
        raise click.UsageError("name at least one TASK, --revision, --fence or --value")
    evidence = _text_of(said["evidence"]) or None

    async def work(client: Client) -> dict[str, Any]:
        known = await client.raise_conflict(
            kind, *subjects, about=said["about"], claim=said["claim"], evidence=evidence
        )
        return await client.conflict(known)

    shown = common.run(work)
    if common.out.as_json:
        common.out.record(shown)
    else:
        common.out.line(shown["conflict"])


@conflict.command("position")
@_CONFLICT
@click.argument("stance")
@_EVIDENCE
@common_options()
def take_position(common: Common, conflict_id: str, stance: str, evidence: Any) -> None:
    """State your STANCE on a conflict in a few words, as one of its parties; whoever decides reads it.

    You are a party if you delegated its task or raised it. Your latest stance counts, until the conflict is over.
    """
    said = _text_of(evidence)
    shown = _spoken(
        common, conflict_id, lambda client: client.take_position(conflict_id, checked(stance, "STANCE"), said)
    )
    if common.out.as_json:
        common.out.record(shown)
    else:
        common.out.note(f"{conflict_id}: your position is kept with it")


@conflict.command("appeal")
@_CONFLICT
@click.argument("ground", type=click.Choice(get_args(Ground)), metavar="GROUND")
@_EVIDENCE
@common_options()
def appeal_conflict(common: Common, conflict_id: str, ground: Any, evidence: Any) -> None:
    """Appeal against a decision on a GROUND, as a party: the next rungs are tried, and what they decide is final.

    GROUND is new_evidence, misapplied_policy, judge_not_independent or wrong_subject.

    A conflict can be appealed once, and only while its outcome waits to take effect: ten minutes if the task's effect
    is irreversible, otherwise as long as the coordinator's settings say. A person's decision cannot be appealed.
    """
    said = _text_of(evidence)
    shown = _spoken(common, conflict_id, lambda client: client.appeal(conflict_id, ground, said))
    if common.out.as_json:
        common.out.record(shown)
    else:
        common.out.note(f"{conflict_id}: appealed, {_state(shown)}")


def _text_of(evidence: Any) -> Any:
    """Return the contents of an evidence file, or an empty text if none was named."""
    return "" if evidence is None else decoded(evidence.read(), "--evidence")


def _spoken(common: Common, conflict_id: str, speak: Callable[[Client], Awaitable[None]]) -> dict[str, Any]:
    """Send something as a party to a conflict, and return the conflict after it.

    Raises:
        Failure: this user is not a party; the error names the parties.
    """

    async def work(client: Client) -> dict[str, Any]:
        try:
            await speak(client)
        except Forbidden as refused:
            parties = (await client.conflict(conflict_id))["parties"]
            named = ", ".join(f"{party['agent']} ({party['role']})" for party in parties)
            raise Failure(f"{refused}; the parties are: {named}") from refused
        return await client.conflict(conflict_id)

    return common.run(work)


@conflict.command("resolve")
@_CONFLICT
@click.argument("choice", metavar="SUBJECT|none", type=SUBJECT)
@click.option("--reason", default="", help="The reason; it is kept with the conflict.")
@common_options()
def resolve_conflict(common: Common, conflict_id: str, choice: str, reason: str) -> None:
    """Decide which SUBJECT stands, as `show` names it, or that none does. Needs the operator's token."""

    async def work(client: Client) -> dict[str, Any]:
        await client.resolve(conflict_id, None if choice == "none" else choice, reason)
        return await client.conflict(conflict_id)

    shown = common.run(work)
    if shown["isOpen"]:
        raise Failure(f"{conflict_id} is still open")
    if common.out.as_json:
        common.out.record(shown)
    else:
        common.out.note(f"{conflict_id}: {shown['resolution']['outcome']} {shown['resolution']['ref'] or ''}".rstrip())
