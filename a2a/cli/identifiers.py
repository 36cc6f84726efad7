"""Parameters that name something of a coordinator's: a tab asks the coordinator for the existing names.

Only one small answer is requested, so that a tab is quick; older names have to be typed.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Final

import click

from ..credentials import DEFAULT_URL
from .options import Connection, read_token
from .output import escape
from .parameters import Number

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ..client import Client

__all__ = ["AGENT", "CLAIM_FENCE", "CLAIM_NAME", "CONFLICT", "CONTEXT", "SKILL", "SUBJECT", "TASK"]

ASKED_MAX: Final = 100
"""How many are offered, the newest."""
PATIENCE: Final = 1.0
"""Seconds after which a tab offers nothing."""

Found = Iterable[tuple[str, str]]
"""Each with a short description, which some shells show."""
Ask = Callable[["Client", click.Context], Awaitable[Found]]


async def _tasks(client: Client, _: click.Context) -> Found:
    found = await client.list(limit=ASKED_MAX)
    return [(shown["id"], f"{shown['metadata']['skill']}, {shown['metadata']['state']}") for shown in found]


async def _contexts(client: Client, _: click.Context) -> Found:
    # Contexts with tasks: a context that nobody delegated in is in no list.
    found = await client.list(limit=ASKED_MAX)
    return {shown["contextId"]: f"of {shown['id']}, {shown['metadata']['skill']}" for shown in found}.items()


async def _conflicts(client: Client, _: click.Context) -> Found:
    found = await client.conflicts(limit=ASKED_MAX)
    return [
        (shown["conflict"], f"{shown['kind']}, {'open' if shown['isOpen'] else shown['resolution']['outcome']}")
        for shown in found
    ]


async def _subjects(client: Client, ctx: click.Context) -> Found:
    shown = await client.conflict(ctx.params["conflict_id"])
    return [*((subject["ref"], f"by {subject['agent']}") for subject in shown["subjects"]), ("none", "none of them")]


async def _claim_names(client: Client, _: click.Context) -> Found:
    found = await client.claims(limit=ASKED_MAX)
    return {resource["name"]: shown["state"] for shown in found for resource in shown["claims"]}.items()


async def _claim_fences(client: Client, _: click.Context) -> Found:
    found = await client.claims(limit=ASKED_MAX)
    return [
        (str(shown["claimFence"]), " ".join(resource["name"] for resource in shown["claims"]))
        for shown in found
        if "claimFence" in shown
    ]


async def _agents(client: Client, _: click.Context) -> Found:
    return [(info.agent_id, info.status) for info in await client.find()]


async def _skills(client: Client, _: click.Context) -> Found:
    return {skill: f"of {info.agent_id}" for info in await client.find() for skill in info.skills}.items()


class Identifier(click.types.StringParamType):
    """Any text; a tab completes it to one that the coordinator has."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _completed(self._ask, ctx, incomplete)


class Fence(Number):
    """A whole number; a tab completes it likewise."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _completed(_claim_fences, ctx, incomplete)


def _completed(ask: Ask, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    # The shell puts names into the command line as they are: agents must not choose text that a shell acts on.
    return [
        CompletionItem(name, help=escape(words))
        for name, words in _asked(ask, ctx)
        if name.startswith(incomplete) and shlex.quote(name) == name
    ]


def _asked(ask: Ask, ctx: click.Context) -> Found:
    """Return the answer of the coordinator that the typed command names, or nothing if it takes too long."""
    import asyncio

    async def connected() -> Found:
        connection = Connection(ctx.params.get("url") or DEFAULT_URL, read_token(ctx.params.get("token_file")))
        async with asyncio.timeout(PATIENCE), connection.client() as client:
            return await ask(client, ctx)

    logging.disable()  # a log line would appear in the middle of the line being typed
    try:
        return asyncio.run(connected())
    except Exception:  # noqa: BLE001 - whatever it is, the command itself reports it
        return ()
    finally:
        logging.disable(logging.NOTSET)


AGENT: Final = Identifier(_agents)
CLAIM_FENCE: Final = Fence(min=1)
CLAIM_NAME: Final = Identifier(_claim_names)
CONFLICT: Final = Identifier(_conflicts)
CONTEXT: Final = Identifier(_contexts)
SKILL: Final = Identifier(_skills)
SUBJECT: Final = Identifier(_subjects)
TASK: Final = Identifier(_tasks)
