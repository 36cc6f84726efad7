"""What both ends of a connection need from their transport: frames batched into messages, and ping intervals.

Link and server both use it, so neither needs the other.
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
"""Frames batched into one WebSocket message. More makes convoys: client, coordinator and worker then take turns."""
BYTES_PER_MESSAGE = 256 * 1024
"""Payload bytes batched into one message; a single larger frame is a message of its own."""
FROM_COORDINATOR_MAX = 64 * 1024 * 1024
"""The most bytes that a coordinator sends in one message, and that its peers accept from it (spec LIMIT-1)."""
BUSY_PING, IDLE_PING = 5.0, 30.0
"""Seconds of silence before a ping: a lost peer with work is noticed soon, ten thousand idle ones cost little."""


Unsendable = Callable[[Frame, ErrorCode, str], None]
"""Gets a frame that cannot be sent, and why: `malformed` if it has no encoding, or `too_large`."""
HasRoom = Callable[[int], bool]
"""Tells whether a message of so many bytes may be sent now."""


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
    """Send frames in as few messages as the bounds on one message allow, and return how many frames are done.

    Args:
        transport: where they go.
        frames: the frames, in order.
        encoding: the encoding of the connection.
        message_max: how many bytes the other end accepts in one message, if that is known.
        frames_max: how many frames the other end accepts in one message.
        unsendable: gets each frame that cannot be sent; the others are sent. If None, such a frame is a bug and raises.
        has_room: tells whether a message of so many bytes may be sent now. If not, it and all later ones stay unsent.
            If None, all may be sent.
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
    """Return roughly how many bytes a frame has, if it may have many."""
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
