"""A TCP proxy on loopback that treats connections as networks do: it cuts them, or keeps them and drops everything.

It knows nothing of the bytes. Tests put it between a peer and the coordinator.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

__all__ = ["Direction", "Proxy", "proxy"]

Direction = Literal["up", "down"]
"""Towards the coordinator, or from it."""


class Proxy:
    """Passes connections to one port on to another, with the faults planned for them."""

    def __init__(self, port_behind: int) -> None:
        self.port = 0
        self.connections = 0
        """How many connections have come so far."""
        self.changed = asyncio.Event()
        """Set at every new connection; a waiter clears it first."""
        self._behind = port_behind
        self._left: dict[Direction, int] = {}
        self._lines: list[_Line] = []

    def swallow(self, *directions: Direction) -> None:
        """From now on drop bytes in these directions on the current connections; both ends of them stay open."""
        for line in self._lines:
            line.swallowed.update(directions)

    def cut_next_after(self, octets: int, direction: Direction) -> None:
        """Cut the next connection when this many bytes have passed in one direction."""
        self._left = {direction: octets}

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.changed.set()
        line = _Line(writer, self._left)
        self._left = {}
        try:
            behind_reader, line.behind = await asyncio.open_connection("127.0.0.1", self._behind)
        except OSError:
            line.cut()
            return
        self._lines.append(line)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(line.pass_on(reader, line.behind, "up"))
                group.create_task(line.pass_on(behind_reader, writer, "down"))
        finally:
            self._lines.remove(line)
            line.cut()


class _Line:
    """One connection."""

    def __init__(self, writer: asyncio.StreamWriter, left: dict[Direction, int]) -> None:
        self.behind: asyncio.StreamWriter | None = None
        self.swallowed: set[Direction] = set()
        self._writer = writer
        self._left = left

    async def pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, direction: Direction) -> None:
        """Pass bytes on until one end is closed, then close the other."""
        with suppress(OSError):
            while data := await source.read(65_536):
                if direction in self.swallowed:
                    continue
                if direction in self._left:
                    data = data[: self._left[direction]]
                    self._left[direction] -= len(data)
                sink.write(data)
                await sink.drain()
                if self._left.get(direction) == 0:
                    break
        self.cut()

    def cut(self) -> None:
        """End both connections."""
        for writer in (self._writer, self.behind):
            if writer is not None:
                writer.close()


@asynccontextmanager
async def proxy(port_behind: int) -> AsyncIterator[Proxy]:
    """Run a proxy for the duration of the block."""
    running = Proxy(port_behind)
    server = await asyncio.start_server(running._accept, "127.0.0.1", 0)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()
        for line in list(running._lines):
            line.cut()
