"""`a2a conflict ...`: look at what contradicts what, with its evidence, and decide it."""

from __future__ import annotations

import difflib
import json
from typing import Any

import click

from ..client import Client
from .options import Common, Failure, common_options
from .output import escape
from .story import shortened

__all__ = ["conflict"]

_CONFLICT = click.argument("conflict_id", metavar="CONFLICT")


@click.group()
def conflict() -> None:
    """Look at conflicts and their evidence; decide one as a person."""


@conflict.command("ls")
@click.option("--task", metavar="TASK", help="Only those about this task.")
@click.option("--open", "only_open", is_flag=True, help="Only those that are not over.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@common_options()
def list_conflicts(common: Common, task: str | None, only_open: bool, limit: int) -> None:
    """Show conflicts, the newest first."""
    found = common.read(lambda client: client.conflicts(task=task, is_open=True if only_open else None, limit=limit))
    if common.out.as_json:
        for shown in found:
            common.out.record(shown)
        return
    if not found:
        common.out.note("there are no such conflicts")
        return
    common.out.table(
        ("CONFLICT", "TASK", "KIND", "ANSWERS", "STATE", "BY"),
        [
            (
                shown["conflict"],
                shown["task"],
                f"{shown['kind']} {shown['rule']}",
                _sizes(shown),
                _state(shown),
                shown.get("resolution", {}).get("by") or "-",
            )
            for shown in found
        ],
    )


def _sizes(shown: dict[str, Any]) -> str:
    """Return how many gave each answer, as in 2:1."""
    groups = [subject["group"] for subject in shown["subjects"]]
    return ":".join(str(groups.count(group)) for group in sorted(set(groups)))


def _state(shown: dict[str, Any]) -> str:
    if not shown["isOpen"]:
        return str(shown["resolution"]["outcome"])
    stages = shown["stages"]
    return f"open, {stages[-1]['strategy']}" if stages else "open, answers come in"


@conflict.command("show")
@_CONFLICT
@common_options()
def show_conflict(common: Common, conflict_id: str) -> None:
    """Put the answers side by side: who gave which, what was tried, what each rung said, how it ended."""
    shown = common.read(lambda client: client.conflict(conflict_id))
    if common.out.as_json:
        common.out.record(shown)
        return
    for line in _story(shown):
        common.out.line(escape(line))


def _story(shown: dict[str, Any]) -> list[str]:
    lines = [
        f"{shown['conflict']}  {shown['kind']} ({shown['rule']})  {_state(shown)}",
        f"  task       {shown['task']}",
        f"  policy     {' > '.join(shown['policy'])}",
    ]
    first: dict[int, Any] = {}
    for subject in shown["subjects"]:
        lines.append(f"  answer {subject['group']}   {subject['ref']} by {subject['agent']}")
        first.setdefault(subject["group"], subject["value"])
    for group, value in first.items():
        lines += [f"  answer {group} is", *(f"    {line}" for line in _written(value))]
    for group in list(first)[1:]:
        lines += [
            f"  from answer 0 to answer {group}",
            *(f"    {line}" for line in _difference(first[0], first[group])),
        ]
    lines += [f"  position   {taken['agent']}: {taken['stance']}" for taken in shown["positions"]]
    for stage in shown["stages"]:
        asked = f", asked {' '.join(stage['asked'])}" if stage["asked"] else ""
        winner = "" if stage["winner"] is None else f" for answer {stage['winner']}"
        lines.append(f"  {stage['strategy']:<10} {stage['outcome']}{winner}: {stage['why']}{asked}")
    if "appeal" in shown:
        lines.append(f"  appeal     {shown['appeal']['by']}: {shown['appeal']['ground']}")
    if not shown["isOpen"]:
        end = shown["resolution"]
        lines.append(f"  resolved   {end['outcome']} {end['ref'] or ''} by {end['by'] or '-'}: {end['rationale']}")
        lines.append(f"  dissent    {' '.join(shown['dissent']) or 'none'}")
        lines.append(f"  seal       {shown['seal']}")
    return lines


def _written(value: Any) -> list[str]:
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)
    lines = text.splitlines() or [""]
    return [shortened(line) for line in lines[:40]] + (["…"] if len(lines) > 40 else [])


def _difference(one: Any, other: Any) -> list[str]:
    compared = difflib.unified_diff(_written(one), _written(other), lineterm="", n=1)
    return [line for line in compared if not line.startswith(("---", "+++"))]


@conflict.command("resolve")
@_CONFLICT
@click.argument("choice", metavar="TASK|none")
@click.option("--reason", default="", help="Why; it is kept with the conflict.")
@common_options()
def resolve_conflict(common: Common, conflict_id: str, choice: str, reason: str) -> None:
    """Decide for the TASK whose answer stands, or for none. Needs the operator's token."""

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
