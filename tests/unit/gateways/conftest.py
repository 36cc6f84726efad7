"""What the tests of the gateway share: one that listens, with a squad behind it, and a caller of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from a2a import Agent, Client
from a2a.engine.policy import Policy
from a2a.gateways.serving import Gateway, gateway
from a2a.protocol.operations import BINDING
from a2a.testing import Squad, squad
from a2a.testing.squad import QUICK


@dataclass(frozen=True)
class Reached:
    """A gateway, what is behind it, and a caller that shows its token."""

    here: Gateway
    squad: Squad
    client: Client
    """Of the gateway."""
    caller: httpx2.AsyncClient

    async def rpc(self, method: str, params: Any = None, **more: Any) -> dict[str, Any]:
        """Call a method of JSON-RPC, and return the whole answer."""
        said = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}} | more
        answered = await self.caller.post("/", json=said)
        assert answered.status_code == 200, answered.text
        found: dict[str, Any] = answered.json()
        return found

    async def stream(
        self, method: str, params: Any, *, last_id: int | None = None
    ) -> AsyncIterator[tuple[int, dict[str, Any]]]:
        """Yield the id and the data of each event of a stream."""
        said = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        headers = {} if last_id is None else {"Last-Event-ID": str(last_id)}
        async with self.caller.stream("POST", "/", json=said, headers=headers) as answered:
            assert answered.headers["Content-Type"].startswith("text/event-stream"), await answered.aread()
            number = -1
            async for line in answered.aiter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    number = int(value)
                elif name == "data":
                    yield number, json.loads(value)


Reach = Callable[..., AbstractAsyncContextManager[Reached]]


def message(skill: str, key: str, value: Any = None, **more: Any) -> dict[str, Any]:
    """Return the request that sends a message."""
    said: dict[str, Any] = {"messageId": key, "role": "ROLE_USER", "parts": [{"data": value or {}}]}
    return {"message": said | {"metadata": {BINDING: {"skill": skill}}} | more}


@pytest.fixture
def say() -> Callable[..., dict[str, Any]]:
    return message


@pytest.fixture
def reach(helper: Agent) -> Reach:
    """Return a way to have a gateway inside a block."""

    @asynccontextmanager
    async def reached(**options: Any) -> AsyncIterator[Reached]:
        async with squad(helper, policy=Policy(durations=QUICK, **options.pop("policy", {}))) as running:
            client = running.connect("gateway")
            async with gateway(client, "127.0.0.1:0", **({"grace": 0.5} | options)) as here:
                headers = {
                    "Authorization": f"Bearer {Path(here.token_files['']).read_text().strip()}",
                    "A2A-Version": "1.0",
                }
                async with httpx2.AsyncClient(base_url=here.url, headers=headers, timeout=20) as caller:
                    yield Reached(here, running, client, caller)

    return reached
