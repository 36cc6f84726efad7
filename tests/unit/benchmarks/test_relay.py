from __future__ import annotations

import asyncio
from pathlib import Path

import msgpack
import pytest
from websockets.exceptions import ConnectionClosedError

from benchmarks.machine import event_loop_of, installed_event_loop
from benchmarks.processes import Processes
from benchmarks.relay import Caller, Relay, connect, join, serve, start
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
        caller = Caller(client)
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(caller.read())
            first = tasks.create_task(caller.call("first"))
            second = tasks.create_task(caller.call("second"))
            asked = [msgpack.unpackb(await worker.recv()) for _ in range(2)]
            for task in reversed(asked):
                answer = {"to": task["from"], "id": task["id"], "payload": {"text": task["payload"]["text"] + "!"}}
                await worker.send(msgpack.packb(answer))
            assert (await first, await second) == ("first!", "second!")
            reader.cancel()


async def test_relay_worker_and_client_are_processes_on_the_loop_asked_for(tmp_path: Path) -> None:
    loop = installed_event_loop()
    async with Processes(tmp_path) as processes:
        side = await start(processes, loop)
        assert event_loop_of(side.router.pid) == event_loop_of(side.client.pid) == loop
        sample = await side.sample(Options(tmp_path, loop, throughput_seconds=0.2, sequential_seconds=0.1))
    assert sample.throughput > 0
    assert sample.router_cpu > 0
    assert sample.sequential_p50 > 0
