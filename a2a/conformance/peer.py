"""The suite as an agent or a client: the part it plays against a coordinator under test."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from .case import Failed, Role, Skipped
from .conversation import PATIENCE, Conversation, check
from .forms import Forms
from .socket import Closed, Socket
from .wire import JSON, SUBPROTOCOLS, Frame, parts, result, result_hash

__all__ = ["Coordinator", "Peer", "Settings"]

TIMERS = {"heartbeatMs": 200, "leaseMs": 1_000, "offerMs": 1_000, "confirmMs": 60_000, "cancelMs": 1_000}
"""What the suite's tasks ask for, so that no case waits for the namespace's own durations (TASK-9)."""
_BESIDE_PAYLOAD = 4_096
"""Bytes of a message left for everything except its payload."""
_starts = itertools.count(1)


class Peer(Conversation):
    """One connection to the coordinator, and the requests that cases make most."""

    welcome: Frame
    """The answer to its hello."""
    acknowledges = True
    """Whether mailbox entries are acknowledged as they come."""

    @property
    def payload_max_bytes(self) -> int:
        """The largest payload it may send in a message with little else (LIMIT-1)."""
        limits = self.welcome.body["limits"]
        return min(int(limits["payloadMaxBytes"]), int(limits["messageMaxBytes"]) - _BESIDE_PAYLOAD)

    async def send_many(self, frames: Sequence[dict[str, Any]]) -> None:
        """Send frames in messages of as many as it may send, at most 500 each."""
        most = min(500, int(self.welcome.body["limits"]["framesPerMessage"]))
        for start in range(0, len(frames), most):
            await self.send_frames(*frames[start : start + most])

    async def arrived(self, frame: Frame) -> None:
        if self.acknowledges and isinstance(frame.get("mseq"), int):
            try:
                await self.send("mailbox.ack", upto=frame["mseq"])
            except Closed:
                pass  # an entry that came just before the end is acknowledged on the next connection

    async def delegate(self, skill: str, value: Any = None, *, key: str | None = None, **fields: Any) -> Frame:
        """Delegate a task with short timers and return `task.created`.

        Args:
            skill: The skill wanted.
            value: The input, as the data of one part.
            key: The task's key; a new one if none is given.
            fields: Other fields of `task.delegate`; `spec` is added to the specification, `timers` to the timers.
        """
        reply = await self.request("task.delegate", **self.delegation(skill, value, key=key, **fields))
        check(reply.kind == "task.created", "task.created", reply)
        return reply

    def delegation(self, skill: str, value: Any = None, *, key: str | None = None, **fields: Any) -> dict[str, Any]:
        """Return the fields of such a delegation."""
        spec = {"skill": skill} | fields.pop("spec", {})
        timers = TIMERS | fields.pop("timers", {})
        payload = fields.pop("payload", parts(value))
        return {
            "key": key or f"{self.name[-80:]} {self.next_id()}",
            "spec": spec,
            "payload": payload,
            "timers": timers,
        } | fields

    async def offered(self, task: str | None = None, **match: Any) -> Frame:
        """Return the next `task.offer`, of this task if one is named."""
        return await self.take("task.offer", **(match | ({"task": task} if task else {})))

    async def heartbeat(self, offer: Frame, **fields: Any) -> Frame:
        """Send a heartbeat for an attempt and return the answer."""
        return await self.request("task.heartbeat", task=offer.task, fence=offer.fence, **fields)

    async def report(self, offer: Frame, value: Any = "done", *, outcome: str = "completed", **fields: Any) -> Frame:
        """Report an attempt's outcome and return the verdict, or the error."""
        payload = fields.pop("payload", result(value) if outcome == "completed" else b"[]")
        hashed = fields.pop("resultHash", result_hash(outcome, payload))
        at = {"task": offer.task, "fence": offer.fence} | fields
        return await self.request("task.report", payload=payload, outcome=outcome, resultHash=hashed, **at)

    async def admitted(self, offer: Frame, value: Any = "done", **fields: Any) -> Frame:
        """Report an outcome that has to be admitted, and return the verdict."""
        verdict = await self.report(offer, value, **fields)
        check(verdict.body.get("verdict") == "admitted", "verdict admitted", verdict)
        return verdict

    async def reviewed(self, task: str) -> Frame:
        """Return the `task.review` of a task."""
        return await self.take("task.review", task=task)

    async def confirm(self, review: Frame, verdict: str = "accept", **fields: Any) -> Frame:
        """Give the delegator's verdict on a result and return the answer."""
        named = {"rev": review.body.get("rev", 0), "resultHash": review.body.get("resultHash")} | fields
        return await self.request("task.confirm", task=review.task, verdict=verdict, **named)

    async def settled(self, task: str, *, within: float | None = None, **match: Any) -> Frame:
        """Return the `task.settled` of a task."""
        return await self.take("task.settled", task=task, within=within, **match)

    async def view(self, task: str, **fields: Any) -> dict[str, Any]:
        """Return a task as `task.get` shows it."""
        found = await self.request("task.get", task=task, **fields)
        check(found.kind == "task.found", "task.found", found)
        view = found.body.get("view")
        check(isinstance(view, dict), "a view in task.found", found)
        assert isinstance(view, dict)
        return view

    async def state(self, task: str) -> str:
        """Return the state a task is in (STATE-1)."""
        metadata = (await self.view(task)).get("metadata") or {}
        return str(metadata.get("state"))

    async def refused(self, code: str, kind: str, /, **fields: Any) -> Frame:
        """Send a request that has to be refused with this code, and return the error."""
        reply = await self.request(kind, **fields)
        check(reply.kind == "error" and reply.code == code, f"error {code} to {kind}", reply)
        self.asked_for(reply)
        return reply


class Settings:
    """Where the coordinator under test is, and the tokens it admits."""

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        operator_token: str = "",
        run: str = "0",
        restart: Any = None,
        trouble: Callable[[], Awaitable[str]] | None = None,
        agents: set[str] | None = None,
    ) -> None:
        self.url = url
        self.token = token
        self.operator_token = operator_token
        self.run = run
        """Makes the names of one run differ from those of all other runs on the same ledger."""
        self.restart = restart
        """An async function that kills the coordinator and starts it again, or None."""
        self.trouble = trouble
        """Returns how the coordinator ended by itself, empty while it runs; None if the suite did not start it."""
        self.agents: set[str] = set() if agents is None else agents
        """The ids that have said hello so far. All settings of one run share this set."""


class Coordinator:
    """The coordinator under test, as one case sees it: names, connections and skills of its own."""

    def __init__(self, settings: Settings, case: str, encoding: str = JSON, forms: Forms | None = None) -> None:
        self.settings = settings
        self.forms = forms or Forms(Role.COORDINATOR)
        """What is known of its frames in all cases so far."""
        self.encoding = encoding
        self._case_name = case
        self._case = "".join(letter if letter.isalnum() else "-" for letter in case)[:48]
        self._names = itertools.count(1)
        self._stack = AsyncExitStack()
        self.patience = PATIENCE
        self.peers: list[Peer] = []
        """Every connection the case made, in order."""
        self._secrets: dict[str, str] = {}

    async def aclose(self) -> None:
        """Close every connection."""
        await self._stack.aclose()

    def name(self, word: str = "peer") -> str:
        """Return an id that nothing else has: for an agent, a key, a context."""
        return f"{word}-{self._case}-{self.settings.run}-{next(self._names)}"

    def skill(self, word: str = "skill") -> str:
        """Return the id of a skill that only this case knows."""
        return self.name(word)

    async def connect(self, encoding: str | None = None, *, name: str = "") -> Peer:
        """Open a connection and say nothing on it yet."""
        chosen = encoding or self.encoding
        expected = f"expected a WebSocket at {self.settings.url}"
        try:
            async with asyncio.timeout(self.patience):
                socket = await Socket.connect(self.settings.url, SUBPROTOCOLS[chosen])
        except TimeoutError:
            raise Failed(f"{expected}; the opening handshake was not answered within {self.patience:g} s") from None
        except OSError as exc:
            raise Failed(f"{expected}; {exc}") from exc
        name = name or self.name("connection")
        look_at = self.forms.looking(chosen, name, self._case_name)
        peer = Peer(socket, name, chosen, look_at=look_at)
        self.peers.append(peer)
        self._stack.push_async_callback(peer.leave)
        return peer

    def hello(self, name: str, *skills: str, **fields: Any) -> dict[str, Any]:
        """Return the fields of a hello that has to be welcomed: of a new instance, with a card if it has skills."""
        start = next(_starts)
        principal = name.partition("#")[0]
        body: dict[str, Any] = {
            "versions": ["1.0", "1.0"],
            "agentId": name,
            "instanceId": f"{name[-80:]}-{start}",
            "incarnation": start,
            # The peer draws it, so that no secret is lost with a lost welcome (ID-4).
            "secret": self._secrets.setdefault(principal, f"secret of {principal}"),
        }
        if self.settings.token:
            body["token"] = self.settings.token
        if skills:
            body["card"] = card(name, *skills)
            body["credit"] = {"tasks": 8, "frames": 256}
        self.settings.agents.add(name)
        return body | fields

    async def peer(
        self, name: str | None = None, *, skills: tuple[str, ...] = (), encoding: str | None = None, **hello: Any
    ) -> Peer:
        """Connect and be welcomed.

        Args:
            name: The agent's id; a new one if none is given.
            skills: The skills on its card. Without any it is a client.
            encoding: The case's own if none is given.
            hello: Further fields of the hello; `None` leaves one out.
        """
        name = name or self.name("worker" if skills else "client")
        peer = await self.connect(encoding, name=name)
        answer = await peer.request("hello", **self.hello(name, *skills, **hello))
        check(answer.kind == "welcome", "welcome", answer)
        peer.welcome = answer
        return peer

    async def operator(self) -> Peer:
        """Connect with the operator's role.

        Raises:
            Skipped: the suite was given no operator's token.
        """
        if not self.settings.operator_token:
            raise Skipped("no operator's token was given")
        return await self.peer(self.name("operator"), operatorToken=self.settings.operator_token)

    async def restart(self) -> None:
        """Kill the coordinator and start it again on its ledger.

        Raises:
            Skipped: the suite cannot restart the coordinator, or the coordinator promises nothing for a restart.
        """
        if self.settings.restart is None:
            raise Skipped("no command was given that restarts the coordinator")
        if any(peer.welcome.body.get("durability") == "memory" for peer in self.peers if hasattr(peer, "welcome")):
            raise Skipped("the coordinator says that what it answers is gone with its process (DURABLE-1)")
        await self.settings.restart()


def card(name: str, *skills: str) -> dict[str, Any]:
    """Return the smallest agent card with these skills."""
    described = [{"id": skill, "name": skill, "description": skill, "tags": ["conformance"]} for skill in skills]
    return {
        "name": name[:64],
        "description": "plays a part in the conformance suite",
        "version": "1",
        "skills": described,
    }
