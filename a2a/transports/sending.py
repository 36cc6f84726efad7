"""What both ends of a connection ask of their transport: frames gathered into messages, and how often to ping.

Link and server use it alike, so neither needs the other.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import ErrorCode
from ..protocol.codec import UNENCODABLE, Encoding, Frame, encode, without_form
from ..protocol.messages import Message, TaskFound
from .base import Transport

__all__ = [
    "BUSY_PING",
    "BYTES_PER_MESSAGE",
    "FRAMES_PER_MESSAGE",
    "FROM_COORDINATOR_MAX",
    "IDLE_PING",
    "HasRoom",
    "Unsendable",
    "send_frames",
]

FRAMES_PER_MESSAGE = 16
"""Frames gathered into one WebSocket message. More makes convoys: client, coordinator and worker then take turns."""
BYTES_PER_MESSAGE = 256 * 1024
"""Payload bytes gathered into one message; a frame that alone has more is a message of its own."""
FROM_COORDINATOR_MAX = 64 * 1024 * 1024
"""Bytes that a coordinator sends in one message, and that its peers take from it (spec LIMIT-1)."""
BUSY_PING, IDLE_PING = 5.0, 30.0
"""Seconds of silence before a peer is pinged: one with work is missed soon, ten thousand idle ones cost little."""


Unsendable = Callable[[Frame, ErrorCode, str], None]
"""Gets a frame that cannot be sent, and why: `malformed`, as it has no form, or `too_large`."""
HasRoom = Callable[[int], bool]
"""Looks whether a message of so many bytes may be sent now."""


def send_frames(
    transport: Transport,
    frames: list[Frame],
    encoding: Encoding,
    *,
    message_max: int | None = None,
    frames_max: int = FRAMES_PER_MESSAGE,
    unsendable: Unsendable | None = None,
    has_room: HasRoom | None = None,
) -> int:
    """Send frames in as few messages as the bounds on one message allow, and return how many are done with.

    Args:
        transport: where they go.
        frames: in their order.
        encoding: of the connection.
        message_max: how many bytes the other end takes in one message, where that is known.
        frames_max: how many frames the other end takes in one message.
        unsendable: gets each frame that cannot be sent, the others go out; None: that is a bug, and raised.
        has_room: looks whether a message of so many bytes may go now; where not, it and those behind it stay; None:
            all may go.
    """
    done = 0
    together = min(FRAMES_PER_MESSAGE, frames_max)
    batch: list[Frame] = []
    size = 0
    for frame in frames:
        weight = _weight(frame.message)
        if batch and (len(batch) >= together or size + weight > BYTES_PER_MESSAGE):
            sent = _send(transport, batch, encoding, message_max, unsendable, has_room)
            done += sent
            if sent < len(batch):
                return done
            batch, size = [], 0
        batch.append(frame)
        size += weight
    if batch:
        done += _send(transport, batch, encoding, message_max, unsendable, has_room)
    return done


def _weight(message: Message | None) -> int:
    """Return about how many bytes a frame has, where they may be many."""
    payload = getattr(message, "payload", None)
    weight = len(payload) if payload else 0
    if isinstance(message, TaskFound):
        weight += len(message.input or b"")
        weight += sum(len(chunk) for artifact in message.artifacts for chunk in artifact["chunks"])
    return weight


def _send(
    transport: Transport,
    batch: list[Frame],
    encoding: Encoding,
    message_max: int | None,
    unsendable: Unsendable | None,
    has_room: HasRoom | None,
) -> int:
    try:
        data = encode(batch, encoding)
    except UNENCODABLE as error:
        if unsendable is None:
            raise
        code, reason = ErrorCode.MALFORMED, without_form(batch[0]) or str(error) or type(error).__name__
    else:
        if message_max is None or len(data) <= message_max:
            if has_room is not None and not has_room(len(data)):
                return 0
            transport.send(data)
            return len(batch)
        code, reason = ErrorCode.TOO_LARGE, f"expected at most {message_max} bytes in a message, this has {len(data)}"
    if len(batch) > 1:
        for done, frame in enumerate(batch):
            if not _send(transport, [frame], encoding, message_max, unsendable, has_room):
                return done
    elif unsendable is not None:
        unsendable(batch[0], code, reason)
    return len(batch)
