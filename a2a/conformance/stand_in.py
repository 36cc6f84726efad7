"""The suite as a coordinator: the part it plays against an agent or a client under test.

By itself it only answers what comes all the time (heartbeats, pings, accepts). A case says the rest, and says wrong
things on purpose.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from socket import gaierror
from typing import Any
from urllib.parse import urlsplit

from .case import Failed, Role, Skipped
from .conversation import Conversation, Look, check
from .forms import Forms
from .program import Program
from .socket import Closed, Socket
from .wire import JSON, MSGPACK, SUBPROTOCOLS, Frame, count, parts, result_hash

__all__ = ["Line", "PeerSettings", "Told", "UnderTest"]

ARRIVES_WITHIN = 20.0
"""Seconds for a program to start and say hello."""
LIMITS = {
    "messageMaxBytes": 4 * 1024 * 1024,
    "payloadMaxBytes": 2 * 1024 * 1024,
    "framesPerMessage": 1_024,
    "framesPerSecond": 200_000,
    "requestsInFlight": 16_384,
    "outboxMaxBytes": 64 * 1024 * 1024,
    "heartbeatMs": 10_000,
    "leaseMs": 30_000,
}
OK_KINDS = (
    *("agent.update", "task.decline", "task.checkpoint", "task.artifact", "task.ask", "task.steer", "task.yield"),
    *("task.watch", "context.watch", "claim.release", "bye"),
)
"""The kinds the stand-in answers with `ok` unless a case says otherwise."""

ENDS = ("completed", "failed", "canceled", "rejected")
SHOWN = {"queued": "TASK_STATE_SUBMITTED"} | {state: f"TASK_STATE_{state.upper()}" for state in ENDS}
"""What A2A shows for a state, if not `TASK_STATE_WORKING`: no task here waits again once it was leased."""
STARTED = "1970-01-01T00:00:00.000Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSettings:
    """How the agent or client under test reaches the suite."""

    command: str | None
    """Its command line, with `{url}`, `{token}`, `{encoding}`, `{state}` and for clients `{skill}`, `{key}` and
    `{input}`; None: somebody starts it by hand, and it connects again for every case."""
    listen: str = "127.0.0.1:0"
    token: str = ""
    run: str = "0"
    announce: Callable[[str], None] = field(default=lambda _: None)
    """Called with each address the suite listens on."""


@dataclass(slots=True)
class Told:
    """What the stand-in has told a peer, over all its connections."""

    mailbox: list[dict[str, Any]] = field(default_factory=list)
    """Every entry, the first with `mseq` 1."""
    events: list[dict[str, Any]] = field(default_factory=list)
    """What happened to the task a client delegated, generation by generation."""
    result: bytes | None = None
    """The task's newest result."""
    delegation: Frame | None = None
    """The client's `task.delegate`."""
    delegator: str = ""
    """The client that delegated the task."""
    shown: dict[str, Any] = field(default_factory=dict)
    """Fields of the task's view that replace what follows from the rest, or are added to it."""


class Line(Conversation):
    """One connection of the implementation under test, from its hello on."""

    hello: Frame
    answers: bool = True
    """Whether what comes all the time is answered as it comes."""
    lease_ms: int = 30_000

    def __init__(self, socket: Socket, name: str, encoding: str, told: Told, look_at: Look) -> None:
        super().__init__(socket, name, encoding, look_at=look_at)
        self.told = told
        self.mailbox = told.mailbox
        self._watches: dict[str, str] = {}
        self.acknowledged = 0

    @property
    def agent_id(self) -> str:
        """The agent that has said hello on it."""
        return str(self.hello.body.get("agentId"))

    async def arrived(self, frame: Frame) -> None:
        if frame.kind == "mailbox.ack":
            self.acknowledged = max(self.acknowledged, count(frame.body.get("upto")))
        if frame.kind == "task.delegate":
            self.told.delegation, self.told.delegator = frame, self.agent_id
        if not self.answers:
            return
        try:
            if frame.kind == "ping":
                await self.send("pong", re=frame.id, nonce=frame.body.get("nonce"))
            elif frame.kind in ("task.heartbeat", "task.accept"):
                at = {"task": frame.task, "fence": frame.fence}
                await self.send("task.lease", re=frame.id, leaseMs=self.lease_ms, **at)
            elif frame.kind == "task.get":
                await self._show(frame)
            elif frame.kind in OK_KINDS:
                await self.send("ok", re=frame.id)
                if frame.kind == "task.watch" and not frame.body.get("stop"):
                    self._watches[frame.task] = frame.id
                    for event in self.told.events[count(frame.body.get("fromGen")) :]:
                        await self.send("task.event", re=frame.id, **event)
        except Closed:
            pass  # the case sees the end of the connection where it waits for something

    async def welcome(self, **fields: Any) -> None:
        """Welcome the peer; `fields` replace the default fields of the welcome, and None leaves one out.

        Entries that it has not acknowledged and does not name in `resume` come again (MAIL-4), unless a case says where
        its mailbox begins: then the case sends them.
        """
        last = count((self.hello.body.get("resume") or {}).get("lastMseq"))
        is_known = 0 < last <= len(self.mailbox)
        known = min(max(last if is_known else 0, self.acknowledged), len(self.mailbox))
        body: dict[str, Any] = {
            "version": "1.0",
            "namespace": "conformance",
            "epoch": 1,
            "durability": "memory",
            "limits": LIMITS,
            "nextMseq": known + 1,
            "resumed": is_known,
            "held": [],
        }
        await self.send("welcome", re=self.hello.id, **(body | fields))
        if "nextMseq" not in fields and known < len(self.mailbox):
            gone = [
                (held.get("task"), held.get("fence")) for held in fields.get("held", ()) if held["verdict"] != "keep"
            ]
            await self.send_frames(*(self._as_it_stands(entry, gone) for entry in self.mailbox[known:]))

    def _as_it_stands(self, entry: dict[str, Any], gone: list[tuple[Any, Any]]) -> dict[str, Any]:
        """Return an entry as it is sent now: an offer without authority becomes the revoke of its fence (MAIL-6)."""
        at = {name: entry.get(name) for name in ("mseq", "task", "fence")}
        if entry["kind"] != "task.offer" or (at["task"], at["fence"]) not in gone:
            return entry
        return self.frame("task.revoke", reason="superseded", mode="skip", graceMs=0, **at)

    async def post(self, kind: str, /, **fields: Any) -> dict[str, Any]:
        """Send a mailbox entry with the next number."""
        entry = self.frame(kind, mseq=len(self.mailbox) + 1, **fields)
        self.mailbox.append(entry)
        await self.send_frames(entry)
        return entry

    async def happens(self, task: str, event: str, state: str, **fields: Any) -> None:
        """Record an event of a task, and send it to a peer that watches the task."""
        body = {"task": task, "gen": len(self.told.events) + 1, "event": event, "state": state, "at": 0, "data": {}}
        self.told.events.append(body | fields)
        if task in self._watches:
            await self.send("task.event", re=self._watches[task], **self.told.events[-1])

    async def _show(self, frame: Frame) -> None:
        told = self.told
        state = told.events[-1]["state"] if told.events else "queued"
        view: dict[str, Any] = {
            "id": frame.task,
            "contextId": "context-1",
            "status": {"state": SHOWN.get(state, "TASK_STATE_WORKING"), "timestamp": STARTED},
            "metadata": self._metadata(state),
        }
        fields: dict[str, Any] = {"task": frame.task, "gen": max(1, len(told.events)), "view": view}
        if frame.body.get("content", True):
            fields["payload"] = told.result
            if told.delegation is not None:
                view["metadata"]["spec"] = told.delegation.body.get("spec")
                fields["input"] = told.delegation.get("payload")
        await self.send("task.found", re=frame.id, **fields)

    def _metadata(self, state: str) -> dict[str, Any]:
        """Return the metadata of the task's view: a client may rely on everything READ-3 names."""
        told = self.told
        known: dict[str, Any] = {
            "state": state,
            "generation": len(told.events),
            "createdAt": STARTED,
            "attempt": 0,
            "rev": 0,
            "evaluator": "delegator",
            "counters": dict.fromkeys(("losses", "failures", "declines", "revivals", "reworks", "handoffs"), 0),
        }
        if told.delegation is not None:
            body = told.delegation.body
            skill = (body.get("spec") or {}).get("skill")
            known |= {"skill": skill, "key": body.get("key"), "delegator": told.delegator}
        for event in told.events:
            known |= {name: event["data"][name] for name in ("agent", "attempt", "fence") if name in event["data"]}
        if told.result is not None:
            known["resultHash"] = result_hash("completed", told.result)
        if state == "reported":
            known["pendingAcceptance"] = True
        if state in ENDS:
            data = told.events[-1]["data"]
            known |= {"reason": data.get("reason", ""), "detail": "", "confirmedBy": data.get("by", "")}
        return known | told.shown

    def offer_of(self, skill: str, value: Any = None, **fields: Any) -> dict[str, Any]:
        """Return the fields of a granted offer, of a new task."""
        number = next(_numbers)
        fence = 1_000 + number
        return {
            "task": f"conformance-{number}",
            "fence": fence,
            "attempt": 1,
            "granted": True,
            "offerMs": 10_000,
            "leaseMs": self.lease_ms,
            "heartbeatMs": 10_000,
            "spec": {"skill": skill},
            "payload": parts(value),
            "key": f"key-{number}",
            "contextId": f"context-{number}",
            "delegator": "suite",
            "rev": 0,
        } | fields

    async def offer(self, skill: str, value: Any = None, **fields: Any) -> Frame:
        """Offer a task by mailbox, granted unless `fields` say otherwise, and return the offer."""
        return Frame(await self.post("task.offer", **self.offer_of(skill, value, **fields)))

    async def reported(self, offer: Frame, *, verdict: str | None = "admitted", within: float | None = None) -> Frame:
        """Return the report of an attempt, and answer it with a verdict; None: leave it unanswered."""
        report = await self.take("task.report", task=offer.task, fence=offer.fence, within=within)
        if verdict is not None:
            await self.send("task.verdict", re=report.id, task=offer.task, fence=offer.fence, verdict=verdict)
        return report

    async def acknowledged_up_to(self, mseq: int) -> None:
        """Wait until the peer has acknowledged its mailbox up to this entry."""
        if self.acknowledged < mseq:
            await self.take_if(
                lambda frame: frame.kind == "mailbox.ack" and count(frame.body.get("upto")) >= mseq,
                f"mailbox.ack up to {mseq}",
            )


_numbers = itertools.count(1)


class UnderTest:
    """The agent or client under test, as one case sees it: its process, and each connection it makes."""

    def __init__(
        self,
        settings: PeerSettings,
        case: str,
        encoding: str | None = None,
        forms: Forms | None = None,
        **values: str,
    ) -> None:
        self.settings = settings
        self.forms = forms or Forms(Role.AGENT)
        """What is known of its frames in all cases so far."""
        self.encodings = (encoding,) if encoding else (MSGPACK, JSON)
        self.lines: list[Line] = []
        """Every connection it made, in order."""
        self.values = {"key": f"key of {case} {settings.run}", "skill": "conformance.echo", "input": "{}"} | values
        self.program: Program | None = None
        self.told = Told()
        self.url = ""
        """Where the suite listens, once it does."""
        self._case = case
        self._arrived: asyncio.Queue[Socket] = asyncio.Queue()
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        """Listen for its connections.

        Raises:
            OSError: the suite cannot listen on the address; the message names it.
        """
        where = urlsplit(f"//{self.settings.listen}")
        host = where.hostname or "127.0.0.1"
        try:
            server = await asyncio.start_server(self._accept, host, where.port)
        except OSError as exc:
            reason = exc.strerror if isinstance(exc, gaierror) else os.strerror(exc.errno or 0)
            raise OSError(f"cannot listen on {self.settings.listen}: {reason}") from exc
        reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        port = server.sockets[0].getsockname()[1]
        self.url = f"ws://[{reached}]:{port}" if ":" in reached else f"ws://{reached}:{port}"
        self._stack.callback(server.close)
        self.settings.announce(self.url)

    async def aclose(self) -> None:
        """End its process and every connection."""
        await self._stack.aclose()
        for line in self.lines:
            await line.leave()

    def trace(self) -> list[str]:
        """Return the frames of its connections, and the end of the program's output."""
        frames = [f"{line.name}: {text}" for line in self.lines for text in line.trace]
        output = self.program.output() if self.program is not None else ""
        return [*frames, *(f"output: {text}" for text in output.splitlines()[-10:])]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        names = tuple(SUBPROTOCOLS[encoding] for encoding in self.encodings)
        try:
            socket = await Socket.accept(reader, writer, names)
        except (ConnectionError, OSError):
            writer.close()  # not a WebSocket, or a probe of the port
            return
        self._arrived.put_nowait(socket)

    async def start(self, **values: str) -> None:
        """Start the program; without a command somebody has to start it by hand."""
        if self.settings.command is None:
            return
        if self.program is None:
            named = {"url": self.url, "token": self.settings.token, "encoding": self.encodings[0]}
            filled = named | self.values | values
            self.program = Program(self.settings.command, **filled)
            self._stack.push_async_exit(self.program)
        await self.program.start()

    async def restart(self) -> None:
        """Kill the program and start it again with its state.

        Raises:
            Skipped: the suite has not started it.
        """
        if self.program is None:
            raise Skipped("the suite was given no command to start it with")
        await self.program.kill()
        await self.program.start()

    def ask_to_end(self) -> None:
        """Send the program SIGTERM, and let it continue as it likes.

        Raises:
            Skipped: the suite has not started it.
        """
        if self.program is None:
            raise Skipped("the suite was given no command to start it with")
        self.program.ask_to_end()

    async def line(self, *, within: float = ARRIVES_WITHIN, welcomed: bool = True, **welcome: Any) -> Line:
        """Return its next connection, once it has said hello on it, and welcome it.

        Raises:
            Failed: it did not connect, or its first frame is not a hello.
        """
        socket = await self._next(within)
        encoding = next(name for name, protocol in SUBPROTOCOLS.items() if protocol == socket.subprotocol)
        name = f"connection {len(self.lines) + 1}"
        line = Line(socket, name, encoding, self.told, self.forms.looking(encoding, name, self._case))
        line.acknowledged = self.lines[-1].acknowledged if self.lines else 0
        self.lines.append(line)
        first = await line.take_if(lambda _: True, "a frame")
        check(first.kind == "hello", "hello as the first frame (HELLO-1)", first)
        line.hello = first
        if welcomed:
            await line.welcome(**welcome)
        return line

    async def _next(self, within: float) -> Socket:
        """Return the next connection; give up as soon as the program has failed.

        A program that ended with code 0 may have left another process to connect.
        """
        arrived = asyncio.create_task(self._arrived.get())
        waiting: set[asyncio.Task[Any]] = {arrived}
        if self.program is not None:
            waiting.add(asyncio.create_task(self.program.failed()))
        try:
            await asyncio.wait(waiting, timeout=within, return_when=asyncio.FIRST_COMPLETED)
            if arrived.done():
                return arrived.result()
        finally:
            for task in waiting:
                task.cancel()
        told = f", the program {self.program.so_far()}" if self.program is not None else ""
        raise Failed(f"expected a connection within {within:g} s; none came{told}")

    async def has_skill(self, line: Line, skill: str) -> None:
        """Skip the case if the card in the hello has no such skill.

        Raises:
            Skipped: the card has no such skill.
        """
        skills = [known.get("id") for known in (line.hello.body.get("card") or {}).get("skills", [])]
        if skill not in skills:
            raise Skipped(f"the agent does not offer the skill {skill}")
