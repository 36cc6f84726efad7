"""A stand-in for an endpoint with a language model: it speaks OpenAI's chat completions on loopback, and answers as a
test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Endpoint", "Reply", "Request", "endpoint"]


@dataclass(frozen=True)
class Request:
    """A request that came."""

    path: str
    headers: dict[str, str]
    """By name in lower case."""
    body: dict[str, Any]

    @property
    def messages(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = self.body["messages"]
        return found


@dataclass
class Reply:
    """An answer: a message of the model, or anything else a test wants."""

    text: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    usage: Any = None
    finish: str = "stop"
    raw: bytes | None = None
    """The whole body, instead of a completion."""
    hangs_up: bool = False
    """Close the connection without an answer."""
    waits: threading.Event | None = None
    """Answer only after this is set."""

    def content(self) -> bytes:
        if self.raw is not None:
            return self.raw
        choice = {"index": 0, "message": {"role": "assistant", "content": self.text}, "finish_reason": self.finish}
        answer: dict[str, Any] = {"object": "chat.completion", "model": "stand-in", "choices": [choice]}
        if self.usage is not None:
            answer["usage"] = self.usage
        return json.dumps(answer).encode()


Script = Callable[[Request], Reply]


@dataclass
class Endpoint:
    """The address of an endpoint, and the requests it got."""

    url: str
    requests: list[Request] = field(default_factory=list)


@contextmanager
def endpoint(*replies: Reply | str, script: Script | None = None) -> Iterator[Endpoint]:
    """Answer requests inside the block: with these replies in turn, the last one for ever, or as a script says."""
    said = [Reply(reply) if isinstance(reply, str) else reply for reply in replies]
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            with lock:
                request = Request(self.path, headers, body)
                here.requests.append(request)
                reply = script(request) if script else said[min(len(here.requests), len(said)) - 1]
            if reply.waits is not None:
                reply.waits.wait(60)
            if reply.hangs_up:
                self.close_connection = True
                return
            content = reply.content()
            try:
                self.send_response(reply.status)
                for name, value in {"content-length": str(len(content)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
            except ConnectionError:
                self.close_connection = True  # the client has heard enough

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    here = Endpoint(f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02))
    thread.start()
    try:
        yield here
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
