"""The bare relay: what is left of a coordinator when it promises nothing.

One frame per WebSocket message, msgpack, no compression, nothing validated, nothing stored: the relay unpacks the
envelope to find the receiver and forwards the bytes as they came. It is the figure others are a ratio of. Roles, each a
process of its own: `relay`, `worker`, `client`; `start` starts the three.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
from functools import partial
from typing import Any

import msgpack
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket_connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as websocket_serve

from benchmarks.load import answer_to, run_role, serve_phases
from benchmarks.processes import Processes
from benchmarks.rounds import Side

__all__ = ["client", "connect", "relay", "serve", "start", "worker"]

# Keep-alive pings and size checks are work a bare relay can do without.
connect = partial(websocket_connect, compression=None, max_size=None, ping_interval=None)
serve = partial(websocket_serve, compression=None, max_size=None, ping_interval=None)


class Relay:
    """Who is connected, by name. A frame for somebody who is not ends the connection of its sender."""

    def __init__(self) -> None:
        self._connections: dict[str, ServerConnection] = {}

    async def handle(self, connection: ServerConnection) -> None:
        """Take the name from the first frame, answer it, then forward frames until the connection ends."""
        name = msgpack.unpackb(await connection.recv())["name"]
        self._connections[name] = connection
        await connection.send(msgpack.packb({"joined": name}))
        try:
            async for frame in connection:
                await self._connections[msgpack.unpackb(frame)["to"]].send(frame)
        finally:
            del self._connections[name]


async def join(connection: ClientConnection, name: str) -> None:
    """Give the relay the name under which frames will find this connection."""
    await connection.send(msgpack.packb({"name": name}))
    await connection.recv()


async def relay() -> None:
    """Forward frames until the process is ended; prints its address first."""
    async with serve(Relay().handle, "127.0.0.1", 0) as server:
        host, port = next(iter(server.sockets)).getsockname()[:2]
        print(json.dumps({"url": f"ws://{host}:{port}"}), flush=True)
        await server.serve_forever()


async def worker(url: str) -> None:
    """Answer every task at once."""
    async with connect(url) as connection:
        await join(connection, "worker")
        print(json.dumps({"ready": True}), flush=True)
        async for frame in connection:
            task = msgpack.unpackb(frame)
            await connection.send(
                msgpack.packb(
                    envelope("task.result", "worker", task["from"], task["id"], answer_to(task["payload"]["text"]))
                )
            )


def envelope(kind: str, sender: str, receiver: str, number: int, text: str) -> dict[str, Any]:
    """The fields a message between agents needs at least."""
    return {
        "v": 1,
        "kind": kind,
        "id": number,
        "from": sender,
        "to": receiver,
        "task": f"task-{number:012d}",
        "payload": {"text": text},
    }


class Caller:
    """Sends tasks to the worker and matches answers to them by number."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[str]] = {}

    async def call(self, text: str) -> str:
        """Have the worker answer `text`."""
        number = next(self._numbers)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        await self._connection.send(msgpack.packb(envelope("task.submit", "client", "worker", number, text)))
        return await answer

    async def read(self) -> None:
        """Hand answers out until cancelled; the end of the connection before that is an error."""
        async for frame in self._connection:
            message = msgpack.unpackb(frame)
            self._waiting.pop(message["id"]).set_result(message["payload"]["text"])
        raise ConnectionError("the relay closed the connection")


async def client(url: str) -> None:
    """Run the phases the runner orders."""
    async with connect(url) as connection:
        await join(connection, "client")
        caller = Caller(connection)
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(caller.read())
            await serve_phases({"relay": caller.call})
            reader.cancel()


async def start(processes: Processes, loop: str) -> Side:
    """Start relay, worker and client, in this order, each when the one before is ready."""
    role = ("-m", "benchmarks.relay", "--loop", loop)
    router, ready = await processes.start_ready("relay", *role, "relay")
    await processes.start_ready("relay worker", *role, "worker", "--url", ready["url"])
    load, _ = await processes.start_ready("relay client", *role, "client", "--url", ready["url"])
    return Side("relay", router, load, "relay")


def main() -> None:
    """Run one role."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("role", choices=["relay", "worker", "client"])
    parser.add_argument("--url", help="address of the relay, for worker and client")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    arguments = parser.parse_args()
    if arguments.role == "relay":
        run_role(relay(), arguments.loop)
    elif arguments.url is None:
        parser.error("worker and client need --url")
    else:
        run_role({"worker": worker, "client": client}[arguments.role](arguments.url), arguments.loop)


if __name__ == "__main__":
    main()
