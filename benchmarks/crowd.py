"""A process of many peers of raw frames: agents that answer at once, and one client that keeps many tasks open.

The runner sends orders as JSON lines on stdin, with one answer each: `join` agents, set their `credit`, `fill` the
queue, `run` for a time or for a number of tasks, and `drain`. Between orders the process only answers pings.
`start_coordinator` and `start` are the runner's half.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from a2a.protocol.canonical import result_hash
from benchmarks.load import ANSWER, TEXT, run_role
from benchmarks.processes import Process, Processes
from benchmarks.report import BenchmarkError
from benchmarks.wire import Map, Peer, card, raise_file_limit

__all__ = ["Crowd", "Ready", "start", "start_coordinator"]

SKILL = "reverse"
JOINING = 64
"""Agents that connect at the same time: fewer than a coordinator lets wait for its accept."""
PER_MESSAGE = 16
"""Tasks delegated in one message while the queue is filled."""
UNANSWERED_MAX = 4_096
"""Delegations without an answer while the queue is filled."""
PAYLOAD = json.dumps([{"text": TEXT}]).encode()
RESULT = json.dumps([{"artifactId": "answer", "parts": [{"text": ANSWER}]}]).encode()
SPEC = {"skill": SKILL, "acceptance": {"evaluator": "auto"}}

Ready = Mapping[str, object]
"""What a coordinator says when it is ready: `url`, `tokenFile`, `durability`."""


async def start_coordinator(processes: Processes, directory: Path, *options: str) -> tuple[Process, Ready]:
    """Start a coordinator on the ledger in a directory, durable to the disk; return what it says when it is ready."""
    process, ready = await processes.start_ready(
        "coordinator",
        *("-m", "a2a", "coordinator", "run", "--listen", "127.0.0.1:0", "--db", str(directory / "ledger.db")),
        *("--ready-json", *options),
        # Tokens and secrets go with the run, not into the user's own state directory.
        environment={"A2A_STATE_DIR": str(directory / "state")},
    )
    if ready["durability"] != "fsync":
        raise BenchmarkError(f"expected a coordinator with durability fsync, it announces {ready['durability']}")
    return process, ready


async def start(processes: Processes, ready: Ready, loop: str, name: str = "crowd") -> Process:
    """Start a process of peers, none of which has joined yet."""
    reach = ("--url", str(ready["url"]), "--token-file", str(ready["tokenFile"]))
    process, _ = await processes.start_ready(name, "-m", "benchmarks.crowd", *reach, "--name", name, "--loop", loop)
    return process


class Crowd:
    """The peers of one process.

    Args:
        url: the coordinator's.
        token: the namespace's.
        name: what the ids of its peers begin with.
    """

    def __init__(self, url: str, token: str, name: str) -> None:
        self._url, self._token, self._name = url, token, name
        self._agents: list[Peer] = []
        self._client: Peer | None = None
        self._hash = result_hash("completed", RESULT)
        self._unanswered = self._open = self._settled = 0
        self._goal = 0
        """Tasks the client keeps open while it runs; 0: it delegates no further ones."""
        self._until: tuple[float, int] = (0.0, 0)
        self._changed = asyncio.Event()

    async def obey(self, order: Map) -> Map:
        """Carry out one order, and return the answer."""
        do = getattr(self, f"_{order.pop('order')}")
        answer: Map = await do(**order)
        lost = [peer for peer in (*self._agents, self._client) if peer is not None and peer.ended is not None]
        if lost:
            raise BenchmarkError(f"{len(lost)} connections are lost, {lost[0].agent}: {lost[0].ended}")
        return answer

    async def _join(self, count: int, credit: int) -> Map:
        """Have this many more agents join."""
        numbers = iter(range(len(self._agents), len(self._agents) + count))

        async def knock() -> None:
            for number in numbers:
                hello = {"card": card(SKILL), "credit": {"tasks": credit, "frames": 256}}
                agent = f"{self._name}-{number:05d}"
                self._agents.append(await Peer.join(self._url, self._token, agent, self._offered, **hello))

        async with asyncio.TaskGroup() as group:
            for _ in range(min(JOINING, count)):
                group.create_task(knock())
        return {"agents": len(self._agents)}

    async def _credit(self, tasks: int) -> Map:
        """Set how many tasks each agent takes at a time."""
        for peer in self._agents:
            peer.send("credit", body={"tasks": tasks, "frames": 256})
        return {}

    async def _fill(self, tasks: int) -> Map:
        """Delegate until this many tasks are open."""
        client = await self._be_client()
        while self._open < tasks:
            while self._open < tasks and self._unanswered < UNANSWERED_MAX:
                self._delegate(client, min(PER_MESSAGE, tasks - self._open))
            await self._change()
        while self._unanswered:
            await self._change()
        return {"open": self._open}

    async def _run(self, in_flight: int, seconds: float = 0.0, tasks: int = 0) -> Map:
        """Keep this many tasks open for a time, or until a number of tasks has ended."""
        client = await self._be_client()
        begin, before = time.perf_counter(), self._settled
        self._until = (begin + seconds if seconds else float("inf"), before + tasks if tasks else sys.maxsize)
        self._goal = in_flight
        if self._open < in_flight:
            self._delegate(client, in_flight - self._open)
        while self._goal:
            await self._change()
        return {"tasks": self._settled - before, "seconds": time.perf_counter() - begin}

    async def _drain(self) -> Map:
        """Wait until no task is open."""
        begin, before = time.perf_counter(), self._settled
        while self._open:
            await self._change()
        return {"tasks": self._settled - before, "seconds": time.perf_counter() - begin}

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _be_client(self) -> Peer:
        if self._client is None:
            self._client = await Peer.join(self._url, self._token, f"{self._name}-client", self._told)
        return self._client

    def _delegate(self, client: Peer, count: int) -> None:
        self._open += count
        self._unanswered += count
        tasks = [{"payload": PAYLOAD, "body": {"key": os.urandom(8).hex(), "spec": SPEC}} for _ in range(count)]
        client.send_all([("task.delegate", task) for task in tasks])

    # --- called for each frame ----------------------------------------------------------------------------------------

    def _offered(self, peer: Peer, frame: Map) -> None:
        """Take a frame for an agent: it answers offers."""
        if frame["kind"] == "task.offer":
            body = {"outcome": "completed", "resultHash": self._hash}
            peer.send("task.report", task=frame["task"], fence=frame["fence"], payload=RESULT, body=body)

    def _told(self, peer: Peer, frame: Map) -> None:
        """Take a frame for the client: for each task that ended it delegates another."""
        kind = frame["kind"]
        if kind == "task.created":
            self._unanswered -= 1
            if self._unanswered % 256 == 0:
                self._changed.set()
        elif kind == "task.settled":
            self._open -= 1
            self._settled += 1
            if self._goal:
                if self._settled >= self._until[1] or time.perf_counter() >= self._until[0]:
                    self._goal = 0
                    self._changed.set()
                else:
                    self._delegate(peer, 1)
            elif not self._open:
                self._changed.set()
        elif kind == "error":
            peer.ended = f"an error: {frame['body']}"
            self._goal = 0
            self._changed.set()


async def serve(crowd: Crowd) -> None:
    """Say that the process is ready, then carry out orders until stdin ends."""
    orders = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    print(json.dumps({"ready": True, "files": raise_file_limit(1 << 20)}), flush=True)
    gc.freeze()
    try:
        while order := await orders.readline():
            print(json.dumps(await crowd.obey(json.loads(order))), flush=True)
    finally:
        transport.close()


def main() -> None:
    """Run the process's role."""
    parser = argparse.ArgumentParser(description="Agents of raw frames, and one client.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--token-file", type=Path, required=True)
    parser.add_argument("--name", default="crowd")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    arguments = parser.parse_args()

    async def role() -> None:
        await serve(Crowd(arguments.url, arguments.token_file.read_text().strip(), arguments.name))

    run_role(role(), arguments.loop)


if __name__ == "__main__":
    main()
