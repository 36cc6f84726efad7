"""A gremlin: an agent that keeps to no rule, to show that the others still end well.

It speaks the wire protocol itself, because the package would not let it misbehave. It proposes a patch in another
coder's name that does not do what it says, reports under a fence it does not hold, says everything twice and something
else afterwards, goes on under a spent fence, sends heartbeats for the tasks of others, votes in a conflict that is not
its to decide, and says hello as the judge. Started by `a2a squad up maintenance --with gremlin`; `a2a task show`, `a2a
conflict show` and `a2a agent show judge` show how the coordinator handled it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import uuid
from collections.abc import Callable
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect

__all__ = ["act", "main", "proposal"]

Say = Callable[[str], object]

NAME: Final = "gremlin"
JUDGE: Final = "judge"
VICTIM: Final = "coder-ruff"
"""The agent in whose name it proposes."""
PATCH: Final = """\
diff --git a/{name}.py b/{name}.py
new file mode 100644
--- /dev/null
+++ b/{name}.py
@@ -0,0 +1 @@
+import os, sys
"""


class _Peer:
    """One connection."""

    def __init__(self, socket: ClientConnection, url: str, token: str, say: Say) -> None:
        self._socket = socket
        self._url, self._token, self._say = url, token, say
        self._fence = 0

    async def send(self, kind: str, body: dict[str, Any], **envelope: Any) -> None:
        await self._socket.send(json.dumps({"id": str(uuid.uuid4()), "kind": kind, **envelope, "body": body}))

    async def hello(self, name: str) -> None:
        skill = {"id": "propose_patch", "name": "propose_patch", "description": "Proposes mischief", "tags": ["code"]}
        card = {"name": name, "description": "Keeps to no rule", "version": "1.0", "skills": [skill]}
        body = {"versions": ["1.0", "1.0"], "agentId": name, "instanceId": str(uuid.uuid4()), "incarnation": 1}
        await self.send("hello", {**body, "card": card, "token": self._token, "credit": {"tasks": 4}})

    async def serve(self) -> None:
        """Do mischief for as long as the connection lasts, and print the answers."""
        async for message in self._socket:
            for frame in map(json.loads, str(message).splitlines()):
                body = frame["body"]
                self._say(f"{frame['kind']} {body.get('verdict') or body.get('code') or ''}")
                if "mseq" in frame:
                    await self.send("mailbox.ack", {"upto": frame["mseq"]})
                if frame["kind"] == "task.offer":
                    self._fence = frame["fence"]
                    await self._misreport(frame["task"], frame["fence"])
                elif frame["kind"] == "conflict.opened":
                    await self._meddle(body["conflict"], [subject["ref"] for subject in body["subjects"]])

    async def _misreport(self, task: str, fence: int) -> None:
        lie, other = proposal(NAME), proposal("another")
        await self._report(task, fence - 1, lie)  # a fence it does not hold
        await self._report(task, fence, lie)
        await self._report(task, fence, lie)  # the same once more
        await self._report(task, fence, other)  # and something else, late
        await self.send("task.checkpoint", {"cpNo": 1}, task=task, fence=fence, payload="{}")  # as if it went on

    async def _meddle(self, conflict: str, refs: list[str]) -> None:
        for stance in ("mine is right", "all others are wrong"):
            payload = json.dumps([{"text": stance}])
            await self.send("conflict.position", {"conflict": conflict, "stance": stance}, payload=payload)
            await self.send("conflict.vote", {"conflict": conflict, "choice": refs[0], "reasons": stance})
        for ref in refs:
            await self._report(ref, self._fence, proposal(NAME))  # also for others' tasks
            await self.send("task.heartbeat", {}, task=ref, fence=self._fence)
        async with _connected(self._url) as socket:  # not earlier: a name is free until somebody says hello under it
            await _Peer(socket, self._url, self._token, self._say).hello(JUDGE)
            self._say(f"as {JUDGE}: {await socket.recv()!s}")

    async def _report(self, task: str, fence: int, value: dict[str, Any]) -> None:
        result = json.dumps([{"artifactId": "result", "name": "result", "parts": [{"data": value}]}])
        digest = hashlib.sha256(b'{"outcome":"completed"}\n' + result.encode()).hexdigest()
        body = {"outcome": "completed", "resultHash": f"sha256:{digest}"}
        await self.send("task.report", body, task=task, fence=fence, payload=result)


def proposal(name: str) -> dict[str, Any]:
    """Return a proposal that mends nothing, claims to mend everything, and names another author."""
    return {
        "agent": VICTIM, "patch": {"text": PATCH.format(name=name)}, "onto": "", "findings_before": 1000,
        "findings_left": 0, "notes": [], "elapsed": 0.0,
    }  # fmt: skip


def _connected(url: str) -> connect:
    return connect(url, subprotocols=["a2a.coord+json"], compression=None)  # type: ignore[list-item]


async def act(url: str, token: str, say: Say = print) -> None:
    """Say hello, and serve until the connection ends.

    Args:
        say: told each answer.
    """
    async with _connected(url) as socket:
        peer = _Peer(socket, url, token, say)
        await peer.hello(NAME)
        await peer.serve()


def main() -> None:
    """Run it as a program, with the coordinator of A2A_URL and A2A_TOKEN: it looks for none by itself."""
    absent = [name for name in ("A2A_URL", "A2A_TOKEN") if not os.environ.get(name)]
    if absent:
        print(f"{NAME}: {' and '.join(absent)} not set: they name the coordinator to connect to", file=sys.stderr)
        sys.exit(2)
    asyncio.run(act(os.environ["A2A_URL"], os.environ["A2A_TOKEN"]))


if __name__ == "__main__":
    main()
