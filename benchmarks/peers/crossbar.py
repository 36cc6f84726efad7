"""Crossbar: WAMP calls over WebSocket with msgpack, through one router with one realm for anybody.

The router is crossbar's node controller with its worker process; caller and callee are autobahn on asyncio.
"""

from __future__ import annotations

import asyncio
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

LACKS = "keeps nothing: a call is lost with the router or the callee; no leases, no retries, no discovery by skill"
PROCEDURE = "benchmark.reverse"
JOINED_WITHIN = 25.0
FRAME_MAX_BYTES = 16 * 1024 * 1024


async def start(processes: Processes, directory: Path, home: Path, loop: str) -> Side:
    """Start router, callee and caller."""
    port = free_port()
    node = directory / "crossbar"
    node.mkdir()
    (node / "config.json").write_text(json.dumps(_config(port)))
    program = (str(home / "bin" / "crossbar"),)
    arguments = ("start", "--cbdir", str(node), "--loglevel", "error")
    router = await processes.start("crossbar", *arguments, talks=False, program=program)
    role = ("-m", "benchmarks.peers.crossbar", "--port", str(port), "--loop", loop)
    await processes.start_ready("crossbar worker", *role, "worker", program=interpreter(home))
    load, _ = await processes.start_ready("crossbar client", *role, "client", program=interpreter(home))
    return Side("crossbar", router, load, "delegate", is_on_loop=False)


def _config(port: int) -> dict[str, Any]:
    allowed = {"call": True, "register": True, "publish": False, "subscribe": False}
    anybody = {"uri": "", "match": "prefix", "allow": allowed, "disclose": {"caller": False}, "cache": True}
    realm = {"name": "benchmark", "roles": [{"name": "anonymous", "permissions": [anybody]}]}
    transport = {
        "type": "websocket",
        "endpoint": {"type": "tcp", "interface": "127.0.0.1", "port": port},
        "serializers": ["msgpack"],
        "options": {
            "max_frame_size": FRAME_MAX_BYTES,
            "max_message_size": FRAME_MAX_BYTES,
            "auto_ping_interval": 0,
            "tcp_nodelay": True,
        },
    }
    worker = {"type": "router", "realms": [realm], "transports": [transport]}
    return {"version": 2, "controller": {}, "workers": [worker]}


async def _joined(port: int) -> Any:
    """Return a session in the realm, once the router is there."""
    import txaio

    txaio.use_asyncio()
    txaio.config.loop = loop = asyncio.get_running_loop()
    from autobahn.asyncio.wamp import ApplicationSession
    from autobahn.asyncio.websocket import WampWebSocketClientFactory
    from autobahn.wamp.serializer import MsgPackSerializer
    from autobahn.wamp.types import ComponentConfig

    joined = loop.create_future()

    class Session(ApplicationSession):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(ComponentConfig("benchmark", {}))

        async def onJoin(self, details: Any) -> None:
            joined.set_result(self)

    factory = WampWebSocketClientFactory(Session, url=f"ws://127.0.0.1:{port}", serializers=[MsgPackSerializer()])
    factory.setProtocolOptions(tcpNoDelay=True)
    async with asyncio.timeout(JOINED_WITHIN):
        while True:
            try:
                await loop.create_connection(factory, "127.0.0.1", port)
                return await joined
            except OSError:
                await asyncio.sleep(0.1)  # the router is still starting


async def worker(port: int) -> None:
    """Register the procedure and answer until the process is ended."""
    session = await _joined(port)
    await session.register(answer_to, PROCEDURE)
    print(json.dumps({"ready": True}), flush=True)
    await asyncio.get_running_loop().create_future()


async def client(port: int) -> None:
    """Run the phases the runner orders."""
    session = await _joined(port)

    async def call(text: str) -> str:
        return str(await session.call(PROCEDURE, text))

    await serve_phases({"delegate": call})


if __name__ == "__main__":
    play(__doc__, {"worker": worker, "client": client})
