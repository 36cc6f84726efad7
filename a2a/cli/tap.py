"""`a2a tap`: shows every frame between a coordinator and the peers that connect here instead."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import anyio
import click

from ..credentials import known_as
from ..loop import run as run_loop
from ..loop import stop_on_signals
from ..tap import Passed, Tap
from .exits import Failure
from .identifiers import AGENT, TASK
from .options import Connection, connection_options
from .output import Output, escape, to_json

__all__ = ["line_of", "tap"]

PORT = 7421
"""Next to the coordinator's."""
_SHOWN_MAX = 400
"""The most characters of a frame's fields in a line."""


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0 takes a free one.")
@click.option("--agent", metavar="AGENT", type=AGENT, help="Only frames to and from this agent, or this principal.")
@click.option("--task", metavar="TASK", type=TASK, help="Only frames that name this task.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only frames of this kind, such as task.offer.")
@click.option("--full", "is_full", is_flag=True, help="Show whole frames, however long.")
@connection_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object per frame.")
@click.option("--quiet", "-q", "is_quiet", is_flag=True, help="Print only the frames.")
def tap(connection: Connection, as_json: bool, is_quiet: bool, port: int, is_full: bool, **wanted: Any) -> None:
    """Show every frame that agents and clients exchange with a coordinator, until Ctrl-C.

    It listens on this machine and passes everything on to the coordinator at --url and back, unchanged: have peers
    connect here instead (A2A_URL, --url). Your own commands and agents need no other token here. Tokens and secrets are
    not shown.
    """
    run_loop(lambda: _serve(connection.url, port, Output(as_json, is_quiet), is_full, **wanted))


async def _serve(
    url: str, port: int, out: Output, is_full: bool, agent: str | None, task: str | None, kinds: tuple[str, ...]
) -> None:
    stop = anyio.Event()
    failed: list[Exception] = []

    def tell(passed: Passed) -> None:
        if not _is_wanted(passed, agent, task, kinds):
            return
        try:
            if out.as_json:
                out.record(_record_of(passed))
            else:
                out.line(escape(line_of(passed, datetime.now(), is_full=is_full)))
        except (Failure, BrokenPipeError) as error:  # raised in a connection's callback, which could only log it
            failed.append(error)
            stop.set()

    try:
        listener = await Tap(url, tell).listen(port)
    except OSError as error:
        raise Failure(f"cannot listen on port {port}: {error.strerror or error}") from error
    try:
        with known_as(listener.url, url):
            async with anyio.create_task_group() as group:
                await group.start(stop_on_signals, stop)
                out.note(f"between {listener.url} and {url}; have peers connect here: export A2A_URL={listener.url}")
                await stop.wait()
                group.cancel_scope.cancel()
    finally:
        await listener.aclose()
    if failed:
        raise failed[0]


def _is_wanted(passed: Passed, agent: str | None, task: str | None, kinds: tuple[str, ...]) -> bool:
    if agent is not None and passed.agent != agent and passed.agent.partition("#")[0] != agent:
        return False
    if passed.frame is None:
        return task is None and not kinds
    return (task is None or passed.frame.get("task") == task) and (not kinds or passed.frame.get("kind") in kinds)


def _record_of(passed: Passed) -> dict[str, Any]:
    told: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "connection": passed.connection,
        "agent": passed.agent,
        "from": "peer" if passed.is_from_peer else "coordinator",
    }
    return told | ({"note": passed.note} if passed.frame is None else {"frame": passed.frame})


def line_of(passed: Passed, at: datetime, *, is_full: bool = False) -> str:
    """Return a line for what passed: when, who, direction, kind, and its fields as far as they fit."""
    who = passed.agent or f"connection {passed.connection}"
    begin = f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}  {who:<20} {'>' if passed.is_from_peer else '<'}"
    if passed.frame is None:
        return f"{begin} {passed.note}"
    fields = dict(passed.frame)
    kind, task, fence = str(fields.pop("kind", "?")), fields.pop("task", None), fields.pop("fence", None)
    about = "" if task is None else f" {task}" if fence is None else f" {task}/{fence}"
    body, payload = fields.pop("body", {}), fields.pop("payload", None)
    fields |= body if isinstance(body, dict) else {"body": body}
    text = to_json(fields if payload is None else {**fields, "payload": payload})
    if not is_full and len(text) > _SHOWN_MAX:
        text = f"{text[:_SHOWN_MAX]}… ({len(text)} characters)"
    return f"{begin} {kind}{about}  {text}"
