"""`a2a context ...`: the values that the tasks of one context share, for people and scripts."""

from __future__ import annotations

from contextlib import aclosing
from datetime import datetime
from typing import Any

import click

from ..client import Client
from ..errors import Conflict
from ..shared_context import ContextValue
from .exits import ExitCode, Failure
from .groups import Group
from .identifiers import CONTEXT
from .options import Common, common_options
from .output import escape, to_json
from .parameters import Number
from .story import shortened
from .values import parse_value

__all__ = ["context"]

_CONTEXT = click.argument("context_id", metavar="CONTEXT", type=CONTEXT)
_KEY = click.argument("key")


@click.group(cls=Group)
def context() -> None:
    """Read, write and watch what the tasks of a context share: keys with revisions, and who wrote them."""


def _record(value: ContextValue) -> dict[str, Any]:
    """Return a value in the form that --json prints."""
    record: dict[str, Any] = {"key": value.key, "rev": value.rev, "value": value.value}
    told = {
        "deleted": value.deleted,
        "author": value.author,
        "task": value.task,
        "fence": value.fence,
        "at": value.at or None,
        "reason": value.reason,
        "decision": value.decision,
        "guarded": value.guarded,
    }
    record |= {name: item for name, item in told.items() if item}
    return record if value.is_kept else record | {"isKept": False}


def _said(value: ContextValue) -> str:
    """Return the new state of a key, for people."""
    if value.deleted:
        return "(deleted)"
    return shortened(value.value) if value.is_kept else "(not kept)"


def _kind(value: ContextValue) -> str:
    return "decision" if value.decision else "guarded" if value.guarded else "-"


def _clock(value: ContextValue) -> str:
    return datetime.fromtimestamp(value.at).isoformat(" ", "seconds")


@context.command("get")
@_CONTEXT
@click.argument("key", required=False)
@click.option("--prefix", default="", help="Without KEY: only keys with this prefix.")
@click.option("--rev", type=Number(min=1), help="Print the value of KEY in this revision.")
@common_options()
def get_value(common: Common, context_id: str, key: str | None, prefix: str, rev: int | None) -> None:
    """Print the value of KEY: text as it is, anything else as JSON. Without KEY, show all keys.

    Exit code 1: there is no such value.
    """
    if key is None:
        if rev is not None:
            raise click.UsageError("--rev needs a KEY")
        _list(common, context_id, prefix)
        return
    value = common.read(lambda client: client.context(context_id).get(key, at_rev=rev))
    if common.out.as_json:
        common.out.record(_record(value))
    elif value.exists:
        common.out.value(value.value)
    if not value.exists:
        stands = f"was deleted by {value.author} in revision {value.rev}" if value.deleted else "was never written"
        raise Failure(f"{key} of context {context_id} {stands}")


def _list(common: Common, context_id: str, prefix: str) -> None:
    found = common.read(lambda client: client.context(context_id).get_many(prefix=prefix))
    if common.out.as_json:
        for value in found.values():
            common.out.record(_record(value))
    elif not found:
        common.out.note(f"context {context_id} has no such keys")
    else:
        common.out.table(
            ("KEY", "REV", "KIND", "AUTHOR", "VALUE"),
            [
                (value.key, str(value.rev), _kind(value), value.author, shortened(value.value))
                for value in found.values()
            ],
        )


@context.command("put")
@_CONTEXT
@_KEY
@click.argument("value", required=False)
@click.option("--delete", is_flag=True, help="Delete the key instead of setting it to VALUE.")
@click.option(
    "--if-rev",
    type=Number(min=0),
    help="Write only if this is its revision; 0: only if nobody has written it. Decisions and guarded keys need it.",
)
@click.option(
    "--decision",
    is_flag=True,
    help="Mark the key as a decision, for good: results that rely on another revision are looked at before they count.",
)
@click.option(
    "--guarded", is_flag=True, help="Guard the key, for good: every write has to name the revision it replaces."
)
@click.option("--reason", default="", help="Why; people read it in the history.")
@common_options()
def put_value(
    common: Common, context_id: str, key: str, value: str | None, delete: bool, if_rev: int | None, **options: Any
) -> None:
    """Set KEY to VALUE, JSON if it parses, else text; print its new revision.

    Exit code 6: the key is at another revision than --if-rev says; the current one is shown.
    """
    if delete is (value is not None) or (delete and (options["decision"] or options["guarded"])):
        raise click.UsageError("give a VALUE, or --delete alone")
    parsed = None if value is None else parse_value(value, "VALUE", common.out.note)

    async def work(client: Client) -> int:
        shared = client.context(context_id)
        if value is None:
            return await shared.delete(key, if_rev=if_rev, reason=options["reason"])
        return await shared.put(key, parsed, if_rev=if_rev, **options)

    try:
        rev = common.run(work)
    except Conflict as conflict:
        raise _lost(common, conflict) from conflict
    if common.out.as_json:
        common.out.record({"context": context_id, "key": key, "rev": rev})
    else:
        common.out.line(str(rev))


def _lost(common: Common, conflict: Conflict) -> Failure:
    """Report the current value instead of the expected one."""
    facts = dict(conflict.data)
    if common.out.as_json:
        common.out.record({"conflict": facts})
    shown = f"\n     it is {to_json(facts['value'])}" if "value" in facts else ""
    return Failure(f"{conflict}{shown}", ExitCode.CONFLICT_OPEN)


@context.command("history")
@_CONTEXT
@_KEY
@common_options()
def show_history(common: Common, context_id: str, key: str) -> None:
    """Show the revisions of KEY, oldest first. For old ones only the author, time and reason are kept."""
    found = common.read(lambda client: client.context(context_id).history(key))
    if common.out.as_json:
        for value in found:
            common.out.record(_record(value))
    elif not found:
        common.out.note(f"{key} of context {context_id} was never written")
    else:
        common.out.table(
            ("REV", "WHEN", "AUTHOR", "TASK", "REASON", "VALUE"),
            [
                (str(value.rev), _clock(value), value.author, value.task or "-", value.reason or "-", _said(value))
                for value in found
            ],
        )


@context.command("watch")
@_CONTEXT
@click.option("--prefix", default="", help="Only keys with this prefix.")
@common_options(timeout=None)
def watch_values(common: Common, context_id: str, prefix: str) -> None:
    """Show the values of all keys, and then each revision as it is written, one per line."""

    async def work(client: Client) -> None:
        async with aclosing(client.context(context_id).watch(prefix)) as values:
            async for value in values:
                if common.out.as_json:
                    common.out.record(_record(value))
                else:
                    common.out.line(escape(f"{_clock(value)}  {value.key} {value.rev}  {value.author}  {_said(value)}"))

    common.run(work)
