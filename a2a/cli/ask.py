"""`a2a ask`: have a squad answer a question over a folder of documents, with citations."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from ..client import connect
from ..errors import TaskError
from ..squads import Definition, Place
from .at_work import squad_at_work
from .board import display
from .exits import ExitCode
from .options import Common, common_options
from .signals import ended_by_sigterm
from .squad import chosen_url, described
from .values import checked

__all__ = ["ask"]

TIMERS: Final = {"heartbeat": 2.0, "lease": 10.0}
LOSSES_MAX: Final = 20
"""The leading agent may be killed more often than the coordinator's default allows."""
LEFT: Final = 10.0
"""Seconds after which a caller that left no longer wants an answer."""


@click.command()
@click.argument("question")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=".",
    show_default=True,
    help="Where the documents are.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="PATTERN",
    help="Documents to read, such as '*.md'.  [default: *.md, *.txt, ...]",
)
@click.option(
    "--db", type=click.Path(dir_okay=False, path_type=Path), help="The ledger of the coordinator, if one is started."
)
@click.option("--keep", is_flag=True, help="Leave the coordinator and agents running: the next answer comes at once.")
@click.option("--squad", "squad_name", default="desk", show_default=True, metavar="NAME", help="Use another squad.")
@common_options(timeout=None)
def ask(
    common: Common,
    question: str,
    folder: Path,
    only: tuple[str, ...],
    db: Path | None,
    keep: bool,
    squad_name: str,
) -> int:
    """Have a squad of retrievers answer QUESTION from the documents in a folder.

    `a2a ask "how long does a lease last?" --folder docs`. The answer is passages, each with its file, its lines and how
    many of the retrievers found it. A coordinator and agents are started if none are running.

    Exit codes: 0 something was found, 1 nothing, 3 no coordinator, 4 timeout, 5 the task failed.
    """
    definition, url = described(squad_name), chosen_url(common.connection)
    given = {
        "question": checked(question, "QUESTION"),
        "folder": checked(str(folder.resolve()), "--folder"),
        "only": checked(list(only), "--only"),
    }

    async def whole() -> int:
        with ended_by_sigterm():
            async with (
                asyncio.timeout(common.timeout),
                squad_at_work(definition, common, name=squad_name, url=url, db=db, keep=keep) as place,
            ):
                return await _answer(definition, place, common, given)

    try:
        return asyncio.run(whole())
    except TimeoutError as exc:
        if common.timeout is None:
            raise
        raise TimeoutError(f"no answer within {common.timeout:g} s") from exc


async def _answer(definition: Definition, place: Place, common: Common, given: dict[str, Any]) -> int:
    """Delegate the question, show the agents at work, and print the answer."""
    out, there = common.out, replace(common.connection, url=place.url)
    async with connect(place.url, token=place.token, operator=True) as client:
        handle = client.delegate(
            definition.skill, given, timers=TIMERS, losses=LOSSES_MAX, on_delegator_loss="cancel", loss=LEFT
        )
        async with handle as task:
            try:
                with display(out, there.options) as shown:
                    async for event in task.events():
                        shown.happened(event)
                answer = await task.result()
            except TaskError as error:
                if out.as_json:
                    out.record({"kind": "end", "task": task.id, "reason": error.reason, "detail": error.detail})
                raise
    told = answer if isinstance(answer, dict) else {"text": str(answer)}
    if out.as_json:
        out.record({"kind": "result", "task": task.id, "result": answer})
    else:
        text, show = str(told.get("text", "")), f"conflict show {told.get('conflict')}"
        out.line(text.replace(f"a2a {show}", there.typed(show)))  # quotations stay unchanged
        out.note(f"\nlook again:     {there.typed(f'task tree {task.id}')}   (or: task show ID)")
    return ExitCode.OK if told.get("citations", True) else ExitCode.FAILED
