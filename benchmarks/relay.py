"""The bare relay: what is left of a coordinator that promises nothing.

One frame per WebSocket message, msgpack, no compression, nothing validated, nothing stored: the relay unpacks the
envelope to find the receiver and forwards the bytes unchanged. Other figures are ratios to the relay's. Each role is a
process of its own: `relay`, `worker`, `client`; `start` starts all three. Worker and client may have many connections.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import msgpack
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket_connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as websocket_serve

from benchmarks.load import CHILDREN, CHUNKS, Call, answer_to, run_role, serve_phases
from benchmarks.processes import Processes
from benchmarks.rounds import Routed

__all__ = ["client", "connect", "relay", "serve", "start", "worker"]

# Keep-alive pings and size checks are work a bare relay can do without.
connect = partial(websocket_connect, compression=None, max_size=None, ping_interval=None)
serve = partial(websocket_serve, compression=None, max_size=None, ping_interval=None)


class Relay:
    """The connections by name. A frame for a name that is not connected ends the connection of its sender."""

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


async def worker(url: str, connections: int) -> None:
    """Answer every task at once, on this many connections."""
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        for number in range(1, connections + 1):
            connection = await stack.enter_async_context(connect(url))
            await join(connection, f"worker/{number}")
            tasks.create_task(answer(connection))
        print(json.dumps({"ready": True}), flush=True)


async def answer(connection: ClientConnection) -> None:
    """Answer the tasks of one connection until it ends: as many chunks as the task asks for, then the result."""
    async for frame in connection:
        task = msgpack.unpackb(frame)
        payload = task["payload"]
        for _ in range(payload.get("chunks", 0)):
            await connection.send(packed("task.artifact", task["to"], task["from"], task["id"], payload))
        result = {"text": answer_to(payload["text"])}
        await connection.send(packed("task.result", task["to"], task["from"], task["id"], result))


def packed(kind: str, sender: str, receiver: str, number: int, payload: dict[str, Any]) -> bytes:
    """Return a frame with the fewest fields that a message between agents needs."""
    frame: bytes = msgpack.packb(
        {
            "v": 1,
            "kind": kind,
            "id": number,
            "from": sender,
            "to": receiver,
            "task": f"task-{number:012d}",
            "payload": payload,
        }
    )
    return frame


class Caller:
    """Sends tasks to one worker over one connection and matches answers to them by number."""

    def __init__(self, connection: ClientConnection, name: str, receiver: str) -> None:
        self._connection = connection
        self._name = name
        self._receiver = receiver
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[str]] = {}

    async def call(self, text: str, chunks: int = 0) -> str:
        """Have the worker answer `text`, after this many chunks of the same text."""
        number = next(self._numbers)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        payload: dict[str, Any] = {"text": text, "chunks": chunks} if chunks else {"text": text}
        await self._connection.send(packed("task.submit", self._name, self._receiver, number, payload))
        return await answer

    async def read(self) -> None:
        """Deliver answers until cancelled; if the connection ends before that, it is an error."""
        async for frame in self._connection:
            message = msgpack.unpackb(frame)
            if message["kind"] == "task.result":
                self._waiting.pop(message["id"]).set_result(message["payload"]["text"])
        raise ConnectionError("the relay closed the connection")


def calls_of(callers: Sequence[Caller]) -> dict[str, Call]:
    """Return the calls the client can be ordered to make, over all its connections in turn."""
    turns = itertools.cycle(callers)

    async def relay(text: str) -> str:
        return await next(turns).call(text)

    async def stream(text: str) -> str:
        return await next(turns).call(text, CHUNKS)

    def spread(children: int) -> Call:
        async def call(text: str) -> str:
            answers = await asyncio.gather(*(next(turns).call(text) for _ in range(children)))
            return answers[0]

        return call

    return {"relay": relay, "stream": stream} | {f"fanout.{children}": spread(children) for children in CHILDREN}


async def client(url: str, connections: int) -> None:
    """Run the phases that the runner orders."""
    async with AsyncExitStack() as stack:
        callers = []
        for number in range(1, connections + 1):
            connection = await stack.enter_async_context(connect(url))
            await join(connection, f"client/{number}")
            callers.append(Caller(connection, f"client/{number}", f"worker/{number}"))
        async with asyncio.TaskGroup() as tasks:
            readers = [tasks.create_task(caller.read()) for caller in callers]
            await serve_phases(calls_of(callers))
            for reader in readers:
                reader.cancel()


async def start(processes: Processes, loop: str, connections: int = 1) -> Routed:
    """Start relay, worker and client in this order, each when the one before is ready."""
    name = "relay" if connections == 1 else f"relay of {connections}"
    role = ("-m", "benchmarks.relay", "--loop", loop)
    router, ready = await processes.start_ready(name, *role, "relay")
    reach = ("--url", ready["url"], "--connections", str(connections))
    await processes.start_ready(f"{name}: worker", *role, "worker", *reach)
    load, _ = await processes.start_ready(f"{name}: client", *role, "client", *reach)
    return Routed(router, load)


def main() -> None:
    """Run one role."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("role", choices=["relay", "worker", "client"])
    parser.add_argument("--url", help="address of the relay, for worker and client")
    parser.add_argument("--connections", type=int, default=1, help="how many the worker and the client each have")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    arguments = parser.parse_args()
    if arguments.role == "relay":
        run_role(relay(), arguments.loop)
    elif arguments.url is None:
        parser.error("worker and client need --url")
    else:
        run_role(
            {"worker": worker, "client": client}[arguments.role](arguments.url, arguments.connections), arguments.loop
        )


if __name__ == "__main__":
    main()
