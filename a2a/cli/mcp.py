"""`a2a mcp`: the agents of one coordinator as tools, for the MCP host that starts it."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import AsyncIterator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import anyio
import click

from ..loop import run as run_loop
from ..loop import until_told
from .identifiers import SKILL
from .options import Connection, connection_options, require_extra
from .parameters import Seconds

__all__ = ["mcp"]

_ESCAPES = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\.")
"""A whole surrogate pair, half of one, or any other escape of JSON."""


@click.command()
@connection_options
@click.option(
    "--skill",
    "skills",
    multiple=True,
    metavar="SKILL",
    type=SKILL,
    help="Offer only this skill; may be given several times.",
)
@click.option(
    "--wait",
    type=Seconds(min=0, min_open=True),
    default=50.0,
    show_default=True,
    metavar="SECONDS",
    help="Answer a call after this long even if its task still works: hosts give up after a minute.",
)
@click.option(
    "--acceptance",
    type=click.Choice(["auto", "human"]),
    default="auto",
    show_default=True,
    help="Who says that a result is good: nobody, or an operator.",
)
@click.option("--name", default="mcp", show_default=True, help="The principal of the host at the coordinator.")
def mcp(connection: Connection, name: str, **how: Any) -> None:
    """Have a host of the Model Context Protocol use the agents here as tools, over stdin and stdout.

    The host starts this command, and ends it by SIGTERM or by closing its stdin. Each skill of a connected agent is a
    tool. A call delegates a task and waits for it; cancelling the call cancels the task. A task that is still working
    when the host ends goes on: see `a2a task ls`.

    Of two more tools, one goes on waiting for a task that takes longer than --wait, and one answers a task's question.
    The coordinator may start later, and may restart.
    """
    require_extra("mcp", "mcp", "mcp")
    run_loop(lambda: _serve(connection, name, **how))


async def _serve(connection: Connection, name: str, **how: Any) -> None:
    from mcp.server.stdio import stdio_server

    from ..gateways.mcp import ToolServer

    client = connection.lasting_client(name)
    lines: Any = _Input()  # the only use of this file is to iterate over its lines,
    answers: Any = _Output()  # and of this one to write to it
    try:
        async with until_told():
            tools = ToolServer(client, connection.url, typed=connection.typed, **how)
            async with stdio_server(stdin=lines, stdout=answers) as (read, write), tools.serving():
                await tools.server.run(read, write, tools.options)
    except* BrokenPipeError:  # the host is gone
        pass


class _Input:
    """The lines of stdin, read by a thread that nobody waits for: at the end, the next line may never come."""

    def __aiter__(self) -> AsyncIterator[str]:
        loop = asyncio.get_running_loop()
        send, receive = anyio.create_memory_object_stream[str](0)

        def read() -> None:
            with (
                suppress(RuntimeError, CancelledError, anyio.BrokenResourceError),
                open(0, "rb", closefd=False) as stdin,
            ):
                for line in stdin:
                    asyncio.run_coroutine_threadsafe(send.send(_text(line)), loop).result()
                loop.call_soon_threadsafe(send.close)

        threading.Thread(target=read, name="stdin", daemon=True).start()
        return receive


class _Output:
    """stdout, written by a thread that nobody waits for: a host may stop reading, and want the process to end."""

    def __init__(self) -> None:
        self._ahead: SimpleQueue[tuple[bytes, Future[None]]] = SimpleQueue()
        threading.Thread(target=self._write, name="stdout", daemon=True).start()

    async def write(self, text: str) -> None:
        written: Future[None] = Future()
        self._ahead.put((text.encode(), written))
        await asyncio.wrap_future(written)

    async def flush(self) -> None:
        """Do nothing: what was written is already out."""

    def _write(self) -> None:
        while True:
            data, written = self._ahead.get()
            if not written.set_running_or_notify_cancel():
                continue
            try:
                while data:
                    data = data[os.write(1, data) :]
            except OSError as error:
                written.set_exception(error)
            else:
                written.set_result(None)


def _text(line: bytes) -> str:
    """Return a line with invalid text replaced: MCP's SDK does not answer requests with half a surrogate pair."""
    text = line.decode("utf-8", "replace")
    return _ESCAPES.sub(lambda found: r"\ufffd" if len(found[0]) == 6 else found[0], text) if r"\u" in text else text
