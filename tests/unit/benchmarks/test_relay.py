from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import msgpack
import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosedError

from benchmarks.load import ANSWER, CHUNKS, TEXT
from benchmarks.machine import event_loop_of, installed_event_loop
from benchmarks.processes import Processes
from benchmarks.relay import Caller, Relay, answer, calls_of, connect, join, packed, serve, start
from benchmarks.report import Options


def address(server: object) -> str:
    host, port = next(iter(server.sockets)).getsockname()[:2]  # type: ignore[attr-defined]
    return f"ws://{host}:{port}"


async def test_the_relay_forwards_the_bytes_it_got() -> None:
    # A map of one entry in the long form: packing it again would give other bytes.
    frame = b"\xde\x00\x01" + msgpack.packb("to") + msgpack.packb("b")
    assert msgpack.packb(msgpack.unpackb(frame)) != frame
    async with (
        asyncio.timeout(30),
        serve(Relay().handle, "127.0.0.1", 0) as server,
        connect(address(server)) as one,
        connect(address(server)) as other,
    ):
        await join(one, "a")
        await join(other, "b")
        await one.send(frame)
        assert await other.recv() == frame


async def test_a_frame_for_nobody_ends_the_connection_of_its_sender() -> None:
    async with (
        asyncio.timeout(30),
        serve(Relay().handle, "127.0.0.1", 0) as server,
        connect(address(server)) as one,
    ):
        await join(one, "a")
        await one.send(msgpack.packb({"to": "nobody"}))
        with pytest.raises(ConnectionClosedError):
            await one.recv()


async def test_answers_find_their_calls_in_any_order() -> None:
    async with (
        asyncio.timeout(30),
        serve(Relay().handle, "127.0.0.1", 0) as server,
        connect(address(server)) as client,
        connect(address(server)) as worker,
    ):
        await join(client, "client")
        await join(worker, "worker")
        caller = Caller(client, "client", "worker")
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(caller.read())
            first = tasks.create_task(caller.call("first"))
            second = tasks.create_task(caller.call("second"))
            asked = [msgpack.unpackb(await worker.recv()) for _ in range(2)]
            for task in reversed(asked):
                back = ("task.result", task["to"], task["from"], task["id"])
                await worker.send(packed(*back, {"text": task["payload"]["text"] + "!"}))
            assert (await first, await second) == ("first!", "second!")
            reader.cancel()


class Counted(dict[str, ServerConnection]):
    """Connections by name, and how often each was looked up for a frame."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: Counter[str] = Counter()

    def __getitem__(self, name: str) -> ServerConnection:
        self.frames[name] += 1
        return super().__getitem__(name)


@pytest.mark.parametrize(("call", "each_way"), [("relay", (1, 1)), ("stream", (1, CHUNKS + 1)), ("fanout.4", (4, 4))])
async def test_each_call_brings_the_answer(call: str, each_way: tuple[int, int]) -> None:
    router = Relay()
    counted = router._connections = Counted()
    async with (
        asyncio.timeout(30),
        serve(router.handle, "127.0.0.1", 0) as server,
        connect(address(server)) as client,
        connect(address(server)) as worker,
    ):
        await join(client, "client/1")
        await join(worker, "worker/1")
        caller = Caller(client, "client/1", "worker/1")
        async with asyncio.TaskGroup() as tasks:
            others = [tasks.create_task(caller.read()), tasks.create_task(answer(worker))]
            assert await calls_of([caller])[call](TEXT) == ANSWER
            for other in others:
                other.cancel()
    assert (counted.frames["worker/1"], counted.frames["client/1"]) == each_way


@pytest.mark.parametrize("connections", [1, 3])
async def test_relay_worker_and_client_are_processes_on_the_loop_asked_for(tmp_path: Path, connections: int) -> None:
    loop = installed_event_loop()
    async with Processes(tmp_path) as processes:
        side = (await start(processes, loop, connections)).side("relay", "relay")
        assert event_loop_of(side.router.pid) == event_loop_of(side.client.pid) == loop
        sample = await side.sample(Options(tmp_path, loop, throughput_seconds=0.2, sequential_seconds=0.1))
    assert sample.throughput > 0
    assert sample.router_cpu > 0
    assert sample.sequential_p50 > 0
