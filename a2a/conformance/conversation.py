"""One connection of the suite, on either side: what is sent, what comes, and what must not come.

Nothing here waits for a time to pass. The suite waits with a bound for what has to come; the answer to a later frame
shows that something did not come.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from websockets.frames import Opcode

from .case import Failed, Missed
from .socket import Closed, Socket
from .wire import JSON, Frame, beginning, decode, encode, to_show

__all__ = ["NO_FRAME", "Conversation", "Look", "check", "shown", "with_trouble"]

PATIENCE = 5.0
"""Seconds within which an implementation has to answer, or to do what is due at once."""
TRACE_FRAMES = 40
"""How many frames of a conversation are shown with a failure."""
NO_FRAME = "not a frame"
"""The kind of what came and is not a frame."""
_ODD = (AttributeError, LookupError, TypeError, ValueError)
"""Errors from taking a frame apart where a field is of another type."""
_BETWEEN = b"between"
"""What the ping between two fragments carries."""
_BEGINNING = 200
"""How many bytes are shown of a message that is not a frame."""
_SHOWN = 600
"""How many characters of a frame are shown."""

_conversations = itertools.count(1)
_troubles = itertools.count(1)

Matcher = Callable[[Frame], bool]
Look = Callable[[Frame], None]


def check(is_so: bool, expected: str, came: object = "") -> None:
    """Fail the case unless `is_so`.

    Raises:
        Failed: with what was expected and what came.
    """
    if not is_so:
        if isinstance(came, Mapping) and not isinstance(came, Frame):  # a body: a frame hides its secrets itself
            came = to_show(came)
        raise Failed(f"expected {expected}; came: {came}" if came != "" else f"expected {expected}")


class Conversation:
    """Frames in and out over one socket. Frames that came and were not asked for yet wait in order."""

    def __init__(self, socket: Socket, name: str, encoding: str, *, look_at: Look = lambda _: None) -> None:
        self.socket = socket
        self.name = name
        self.encoding = encoding
        self.patience = PATIENCE
        self.trace: list[str] = []
        """What went over the connection, for a person to read."""
        self.waiting: list[Frame] = []
        """Frames that came and were not taken yet."""
        self.trouble: tuple[int, Frame] | None = None
        """The newest `error` or non-frame that no case has asked for, and its place among all of them."""
        self.closed: Closed | None = None
        """Set when the other side is gone."""
        self._look_at = look_at
        self._changed = asyncio.Condition()
        self._number = next(_conversations)
        self._sent = 0
        self._reader = asyncio.create_task(self._read())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    # What goes out ----------------------------------------------------------------------------------------------------

    def frame(self, kind: str, /, **fields: Any) -> dict[str, Any]:
        """Return a frame: fields of the envelope by their names, all others in its body. `None` is left out."""
        envelope: dict[str, Any] = {"id": fields.pop("id", None) or self.next_id(), "kind": kind}
        for name in ("re", "mseq", "task", "fence", "gen", "payload", "must", "ext"):
            if (value := fields.pop(name, None)) is not None:
                envelope[name] = value
        body = {name: value for name, value in fields.items() if value is not None}
        return envelope | ({"body": body} if body else {})

    def next_id(self) -> str:
        """Return an id that no other frame of the suite has."""
        self._sent += 1
        return f"c{self._number}.{self._sent}"

    async def send(self, kind: str, /, **fields: Any) -> str:
        """Send a frame and return its id.

        Raises:
            Closed: the connection is gone.
        """
        frame = self.frame(kind, **fields)
        await self.send_frames(frame)
        return str(frame["id"])

    async def send_frames(self, *frames: dict[str, Any]) -> None:
        """Send frames unchanged, in one message."""
        for frame in frames:
            self._note(">", Frame(frame))
        await self.socket.send(encode(frames, self.encoding))

    async def send_in_pieces(self, frame: dict[str, Any]) -> None:
        """Send a frame as a message in two fragments, cut within a character or a value, with a ping between them.

        A peer that answers a later frame has had the ping before.
        """
        message = encode([frame], self.encoding)
        at = 1 + next(place for place, byte in enumerate(message) if byte >= 0xC0)
        self._note(">", Frame(frame))
        self.trace.append(f"> as two fragments, the second from byte {at} on, and a ping between them")
        await self.socket.send_in_pieces(message, at, _BETWEEN)

    def check_pong(self) -> None:
        """Fail unless the ping between two fragments was answered with the data it carried."""
        check(_BETWEEN in self.socket.pongs, "a pong to a ping of WebSocket's, with what that said", self.socket.pongs)

    async def send_bytes(self, message: bytes, *, text: bool | None = None) -> None:
        """Send one message of exactly these bytes."""
        self.trace.append(f"> {len(message)} bytes: {beginning(message, 60)}")
        await self.socket.send(message, text=text)

    async def request(self, kind: str, /, **fields: Any) -> Frame:
        """Send a request and return its reply, which may be an `error`.

        Raises:
            Failed: no reply came in time, or the connection ended.
        """
        sent = await self.send(kind, **fields)
        return await self.reply(sent, kind)

    async def reply(self, sent: str, kind: str = "frame") -> Frame:
        """Return the reply to a frame that was sent."""
        return await self.take_if(lambda frame: frame.get("re") == sent, f"a reply to {kind} {sent}")

    # What comes in ----------------------------------------------------------------------------------------------------

    async def take(self, kind: str, /, *, within: float | None = None, **match: Any) -> Frame:
        """Return the first frame of this kind, here or still to come, whose envelope or body has these values.

        Raises:
            Missed: none came in time, or the connection ended.
        """
        try:
            found = await self.take_if(_matcher(kind, match), _described(kind, match), within=within)
        except Missed as missed:
            raise Missed(f"{missed}{self._nearly(kind, match)}") from None
        self.asked_for(found)
        return found

    def _nearly(self, kind: str, match: dict[str, Any]) -> str:
        """Say how the newest frame of this kind that matches in part differs from the one that was wanted."""
        for frame in reversed(self.holds(kind)):
            odd = {name: value for name in match if (value := _value(frame, name)) != match[name]}
            if len(odd) < len(match):
                told = ", ".join(f"{name} {value!r}" for name, value in odd.items())
                return f"; the newest {kind} has {told}"
        return ""

    async def take_if(self, matches: Matcher, described: str, *, within: float | None = None) -> Frame:
        """Return the first frame that matches, and remove it from those that wait."""
        found: list[Frame] = []

        def look() -> bool:
            for place, frame in enumerate(self.waiting):
                if matches(frame):
                    found.append(self.waiting.pop(place))
                    return True
            return self.closed is not None

        try:
            async with asyncio.timeout(within or self.patience), self._changed:
                await self._changed.wait_for(look)
        except TimeoutError:
            raise Missed(f"expected {described}; none came within {within or self.patience:g} s") from None
        if not found:
            raise Missed(f"expected {described}; {self.closed}")
        return found[0]

    def holds(self, kind: str, /, **match: Any) -> list[Frame]:
        """Return the frames of this kind that came and were not taken."""
        matches = _matcher(kind, match)
        return [frame for frame in self.waiting if matches(frame)]

    async def settle(self) -> None:
        """Wait until the other side has answered all that was sent so far: it answers a ping after that (RPC-6)."""
        sent = await self.send("ping", nonce="settle")
        await self.reply(sent, "ping")

    async def nothing(self, kind: str, /, **match: Any) -> None:
        """Fail if such a frame came, or comes before the answer to a ping sent now.

        Raises:
            Failed: it came.
        """
        await self.settle()
        came = self.holds(kind, **match)
        check(not came, f"no {_described(kind, match)}", came[0] if came else "")

    async def ended(self, *, within: float | None = None) -> Closed:
        """Wait for the other side to end the connection, and return how.

        Raises:
            Failed: it did not end it in time.
        """
        try:
            async with asyncio.timeout(within or self.patience), self._changed:
                await self._changed.wait_for(lambda: self.closed is not None)
        except TimeoutError:
            raise Failed(f"expected the end of the connection; it is open after {self.patience:g} s") from None
        assert self.closed is not None
        return self.closed

    def pause(self) -> None:
        """Stop reading: what the other side sends now stays with it and in the kernel."""
        self._reader.cancel()

    def asked_for(self, frame: Frame) -> None:
        """Do not count a frame as trouble: the case wanted it."""
        if self.trouble is not None and self.trouble[1] is frame:
            self.trouble = None

    # The end ----------------------------------------------------------------------------------------------------------

    async def leave(self) -> None:
        """Close the connection without any message of the protocol."""
        self._reader.cancel()
        await self.socket.close()

    def cut(self) -> None:
        """End the connection as a broken network does."""
        self._reader.cancel()
        self.socket.cut()

    async def _read(self) -> None:
        try:
            while True:
                message = await self.socket.receive()
                try:
                    frames = decode(message, self.encoding)
                except ValueError as exc:
                    frames = [Frame(kind=NO_FRAME, body={"detail": f"{exc}: {beginning(message, _BEGINNING)}"})]
                for frame in frames:
                    self._note("<", frame)
                    self._look_at(frame)
                    if frame.kind in ("error", NO_FRAME):
                        self.trouble = next(_troubles), frame
                    try:
                        await self.arrived(frame)
                    except _ODD:
                        pass  # not of the form its schema gives: WIRE-3 tells that, and reading goes on
                async with self._changed:
                    self.waiting.extend(frames)
                    self._changed.notify_all()
        except Closed as exc:
            async with self._changed:
                self.closed = exc
                self._changed.notify_all()
            self.trace.append(f"< {exc}")

    async def arrived(self, frame: Frame) -> None:
        """Handle each frame as it comes. Nothing here; a subclass may do more."""

    def _note(self, arrow: str, frame: Frame) -> None:
        self.trace.append(f"{arrow} {shown(frame)}")
        del self.trace[:-TRACE_FRAMES]

    def check_kind(self) -> None:
        """Fail if a message came of the wrong kind for its encoding: JSON is text, MessagePack binary (WIRE-2)."""
        wanted = Opcode.TEXT if self.is_json else Opcode.BINARY
        odd = self.socket.came_as - {wanted}
        expected = f"{wanted.name.lower()} messages, which carry {self.encoding}"
        check(not odd, expected, " and ".join(sorted(opcode.name.lower() for opcode in odd)))

    @property
    def is_json(self) -> bool:
        return self.encoding == JSON


def shown(frame: Frame) -> str:
    """Return a frame for a person to read, cut off if it is long."""
    text = str(frame)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def with_trouble(missed: Missed | Closed, conversations: Iterable[Conversation]) -> Failed | Closed:
    """Return what was missed together with the newest trouble on any connection, which is often the reason."""
    troubles = [(*found.trouble, found.name) for found in conversations if found.trouble is not None]
    if not troubles:
        return missed
    _, frame, name = max(troubles, key=lambda trouble: trouble[0])
    told = missed if isinstance(missed, Missed) else f"expected an open connection; {missed}"
    return Failed(f"{told}; the newest {'error' if frame.kind == 'error' else 'message'}, to {name}: {shown(frame)}")


def _value(frame: Frame, name: str) -> Any:
    """Return a field of the envelope or of the body."""
    return frame[name] if name in frame else frame.body.get(name)


def _matcher(kind: str, match: dict[str, Any]) -> Matcher:
    def matches(frame: Frame) -> bool:
        return frame.kind == kind and all(_value(frame, name) == value for name, value in match.items())

    return matches


def _described(kind: str, match: dict[str, Any]) -> str:
    return kind + (f" with {', '.join(f'{name} {value!r}' for name, value in match.items())}" if match else "")
