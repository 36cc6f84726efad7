"""An agent in plain JSON, without this package: `python json_peer.py URL TOKEN_FILE`. It upper-cases text."""

import asyncio
import hashlib
import json
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect


async def main(url: str, token: str) -> None:
    skill = {"id": "upper_json", "name": "upper", "description": "Upper-case a text", "tags": ["text"]}
    card = {"name": "json-peer", "description": "A JSON-only peer", "version": "1.0", "skills": [skill]}
    async with connect(url, subprotocols=["a2a.coord+json"], compression=None) as socket:  # type: ignore[list-item]

        async def send(kind: str, body: dict[str, Any], **envelope: Any) -> None:
            await socket.send(json.dumps({"id": str(uuid.uuid4()), "kind": kind, **envelope, "body": body}))

        hello = {"versions": ["1.0", "1.0"], "agentId": "json-peer", "instanceId": str(uuid.uuid4()), "card": card}
        await send("hello", {**hello, "incarnation": int(time.time()), "token": token, "credit": {"tasks": 1}})
        async for message in socket:
            for frame in map(json.loads, str(message).splitlines()):
                print("<", frame["kind"], frame.get("task") or frame.get("body", {}).get("detail", ""), flush=True)
                if "mseq" in frame:
                    await send("mailbox.ack", {"upto": frame["mseq"]})
                if frame["kind"] == "task.offer":
                    text = json.loads(frame["payload"])[0]["text"].upper()
                    result = json.dumps([{"artifactId": "result", "name": "result", "parts": [{"text": text}]}])
                    digest = hashlib.sha256(b'{"outcome":"completed"}\n' + result.encode()).hexdigest()
                    body = {"outcome": "completed", "resultHash": f"sha256:{digest}"}
                    await send("task.report", body, task=frame["task"], fence=frame["fence"], payload=result)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python json_peer.py URL TOKEN_FILE")
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]).read_text().strip()))
