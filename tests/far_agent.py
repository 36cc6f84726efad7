"""An agent of A2A 1.0 over HTTP, as others write them, for tests of tasks carried to one. It can misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from ssl import SSLContext
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

Fault = Callable[["FarAgent", Request], Any]
ENDED = ("COMPLETED", "FAILED", "CANCELED", "REJECTED")


class Cut(Exception):
    """The connection ends here."""


async def _drops() -> AsyncIterator[bytes]:
    while True:
        yield b" "
        await asyncio.sleep(0.01)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class FarAgent:
    """A far agent: what it was asked, and what it does.

    Attributes:
        asked: (operation, parameters) of each request that it heard.
        wrong: what goes wrong with an operation, in turn: an HTTP status, `hang`, `cut` (before anything was done),
            `lost` (the answer after all was done), `drip` (an answer without end), `drip 503` (an error without end),
            `gzip`, `nonsense`, an error as (code, words), or a result.
        does: handles a message: it gets the task and the message, and changes the task by `turn`. If it returns a
            dictionary, that is a Message and the whole answer.
        streams: how many streams are open.
        cards: how often its card was asked for.
        knows_repeats: whether a repeated messageId returns its earlier task.
    """

    def __init__(self, *, binding: str = "JSONRPC", streaming: bool = True) -> None:
        self.binding = binding
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self.wrong: dict[str, list[Any]] = defaultdict(list)
        self.does: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any] | None] = self.echo
        self.knows_repeats = True
        self.tasks: dict[str, dict[str, Any]] = {}
        self.streams = 0
        self.cards = 0
        self.url = ""
        self.card: dict[str, Any] = {
            "name": "Far Agent",
            "description": "Far away",
            "version": "3.1",
            "capabilities": {"streaming": streaming},
            "defaultInputModes": ["text/plain"],
            "defaultOutputModes": ["text/plain"],
            "skills": [{"id": "echo", "name": "Echo", "description": "Says it again", "tags": ["text"]}],
        }
        self._by_message: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._cuts = 0
        self._updates: dict[str, list[dict[str, Any]]] = defaultdict(list)

    # What a test does -------------------------------------------------------------------------------------------------

    def sent(self) -> list[dict[str, Any]]:
        """Return the messages that came."""
        return [params["message"] for operation, params in self.asked if operation.startswith("Send")]

    def count(self, operation: str) -> int:
        return [name for name, _ in self.asked].count(operation)

    def turn(self, task: dict[str, Any], state: str, words: Any = "", *parts: dict[str, Any]) -> None:
        """Put a task into another state. Words that are no text are said as data."""
        status: dict[str, Any] = {"state": f"TASK_STATE_{state}", "timestamp": f"t{len(self._updates[task['id']])}"}
        if words:
            message = {"messageId": f"{task['id']}-{status['timestamp']}", "role": "ROLE_AGENT"}
            status["message"] = message | {"parts": [{"text" if isinstance(words, str) else "data": words}]}
        task["status"] = status
        if parts:
            task["artifacts"] = [{"artifactId": "a", "parts": list(parts)}]
        named = {"taskId": task["id"], "contextId": task["contextId"]}
        self._updates[task["id"]].append({"statusUpdate": named | {"status": status}})
        self._ring()

    async def cut_stream(self) -> None:
        """End the stream that is open, or the next one, in the middle."""
        await self.until(lambda: self.streams)
        self._cuts += 1
        self._ring()

    def _ring(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, is_so: Callable[[], object]) -> None:
        """Wait until something is true after a request or a change."""
        while not is_so():
            await self._changed.wait()

    def echo(self, task: dict[str, Any], message: dict[str, Any]) -> None:
        self.turn(task, "COMPLETED", "", *message["parts"])

    def work(self, task: dict[str, Any], message: dict[str, Any]) -> None:
        self.turn(task, "WORKING", "at it")

    # What it answers --------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def listening(self, tls: SSLContext | None = None) -> AsyncIterator[FarAgent]:
        """Listen on a loopback port for the duration of the block."""
        routes = [
            Route("/.well-known/agent-card.json", self._shown),
            Route("/rpc", self._rpc, methods=["POST"]),
            Route("/{path:path}", self._rest, methods=["GET", "POST"]),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes), port=0, lifespan="off", log_config=None, http="h11", ws="none"
        )
        config.timeout_graceful_shutdown = 0
        config.load()
        config.ssl = tls
        server = _Server(config)
        serving = asyncio.create_task(server.serve())
        try:
            while not server.started:  # noqa: ASYNC110 - nothing signals its start
                await asyncio.sleep(0.01)
            self.url = f"http{'s' if tls else ''}://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
            at = self.url + ("/rpc" if self.binding == "JSONRPC" else "/rest")
            interface = {"url": at, "protocolBinding": self.binding, "protocolVersion": "1.0"}
            self.card.setdefault("supportedInterfaces", [interface])
            yield self
        finally:
            server.should_exit = server.force_exit = True
            await asyncio.wait([serving])

    async def _shown(self, request: Request) -> Response:
        self.headers.append(dict(request.headers))
        self.cards += 1
        self._ring()
        return Response(json.dumps(self.card), media_type="application/json")

    async def _rpc(self, request: Request) -> Response:
        said = await request.json()

        def written(result: dict[str, Any]) -> bytes:
            return json.dumps({"jsonrpc": "2.0", "id": said["id"], **result}).encode()

        return await self._answer(request, said["method"], said["params"], written)

    async def _rest(self, request: Request) -> Response:
        path = request.path_params["path"].removeprefix("rest/")
        params = await request.json() if request.method == "POST" else dict(request.query_params)
        names = {"message:send": "SendMessage", "message:stream": "SendStreamingMessage"}
        if path.startswith("tasks/"):
            task, _, verb = path.removeprefix("tasks/").partition(":")
            params["id"] = task
            names[path] = {"": "GetTask", "cancel": "CancelTask", "subscribe": "SubscribeToTask"}[verb]
        operation = names[path]

        def written(result: dict[str, Any]) -> bytes:
            if "error" in result:
                reason = {-32001: "TASK_NOT_FOUND", -32004: "UNSUPPORTED_OPERATION"}.get(result["error"]["code"], "X")
                told = {"code": 400, "message": result["error"]["message"], "details": [{"reason": reason}]}
                return json.dumps({"error": told}).encode()
            return json.dumps(result["result"]).encode()

        return await self._answer(request, operation, params, written)

    async def _answer(
        self, request: Request, operation: str, params: dict[str, Any], written: Callable[[dict[str, Any]], bytes]
    ) -> Response:
        self.asked.append((operation, params))
        self.headers.append(dict(request.headers))
        self._ring()
        wrong = self.wrong[operation].pop(0) if self.wrong[operation] else None
        if isinstance(wrong, int):
            return Response("no", wrong, {"Location": "http://127.0.0.2/"} if wrong // 100 == 3 else None)
        if wrong == "hang":
            await asyncio.Event().wait()
        if wrong == "nonsense":
            return Response("<html>", media_type="text/html")
        if wrong == "gzip":
            return Response(b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
        if wrong in ("drip", "drip 503"):
            return StreamingResponse(_drops(), 200 if wrong == "drip" else 503, media_type="application/json")
        if wrong == "cut":
            return Response("{", headers={"Content-Length": "100"})
        if isinstance(wrong, dict):
            return Response(written({"result": wrong}), media_type="application/json")
        if isinstance(wrong, tuple):
            return self._refused(written, *wrong)
        is_stream = operation in ("SendStreamingMessage", "SubscribeToTask")
        if operation.startswith("Send"):
            result = self._took(params["message"])
        else:
            task = self.tasks.get(params["id"])
            if task is None:
                return self._refused(written, -32001, "no such task")
            if operation == "CancelTask" and self._state(task) not in ENDED:
                self.turn(task, "CANCELED", "stopped")
            if operation == "SubscribeToTask" and self._state(task) in ENDED:
                return self._refused(written, -32004, "it has ended")
            result = {"task": task} if is_stream else task
        if wrong == "lost":
            return Response("{", headers={"Content-Length": "100"})
        if not is_stream:
            return Response(written({"result": result}), media_type="application/json")
        return StreamingResponse(self._events(result, written), media_type="text/event-stream")

    def _refused(self, written: Callable[[dict[str, Any]], bytes], code: int, words: str) -> Response:
        status = 200 if self.binding == "JSONRPC" else 400
        return Response(written({"error": {"code": code, "message": words}}), status, media_type="application/json")

    def _took(self, message: dict[str, Any]) -> dict[str, Any]:
        known = message.get("taskId") or (self.knows_repeats and self._by_message.get(message["messageId"]))
        if known and not message.get("taskId"):
            return {"task": self.tasks[known]}
        if known:
            task = self.tasks[known]
        else:
            number = len(self.tasks) + 1
            task = {"id": f"far-{number}", "contextId": message.get("contextId") or f"far-context-{number}"}
            self.tasks[task["id"]] = task
            self._by_message[message["messageId"]] = task["id"]
        told = self.does(task, message)
        return {"task": task} if told is None else {"message": told}

    @staticmethod
    def _state(task: dict[str, Any]) -> str:
        state: str = task["status"]["state"]
        return state.removeprefix("TASK_STATE_")

    async def _events(self, first: dict[str, Any], written: Callable[[dict[str, Any]], bytes]) -> AsyncIterator[bytes]:
        told = self._updates[first["task"]["id"]] if "task" in first else []
        number, cuts = len(told), self._cuts
        yield b": here\r\n\r\ndata: %b\r\n\r\n" % written({"result": first})
        self.streams += 1
        self._ring()
        try:
            while "task" in first and self._state(first["task"]) not in (*ENDED, "INPUT_REQUIRED", "AUTH_REQUIRED"):
                while number == len(told):
                    changed = self._changed
                    await changed.wait()
                    if cuts != self._cuts:
                        raise Cut
                for event in told[number:]:
                    yield b"id: 1\r\ndata: %b\r\n\r\n" % written({"result": event})
                number = len(told)
        finally:
            self.streams -= 1
            self._ring()
