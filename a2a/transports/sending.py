"""What both ends of a connection ask of their transport: frames gathered into messages, and how often to ping.

Link and server use it alike, so neither needs the other.
"""

from __future__ import annotations

from ..protocol.codec import Encoding, Frame, encode
from .base import Transport

__all__ = ["BUSY_PING", "BYTES_PER_MESSAGE", "FRAMES_PER_MESSAGE", "IDLE_PING", "send_frames"]

FRAMES_PER_MESSAGE = 16
"""Frames gathered into one WebSocket message. More makes convoys: client, coordinator and worker then take turns."""
BYTES_PER_MESSAGE = 256 * 1024
"""Payload bytes gathered into one message; a frame that alone has more is a message of its own."""
BUSY_PING, IDLE_PING = 5.0, 30.0
"""Seconds of silence before a peer is pinged: one with work is missed soon, ten thousand idle ones cost little."""


def send_frames(transport: Transport, frames: list[Frame], encoding: Encoding) -> None:
    """Send frames in as few messages as the bounds on one message allow."""
    batch: list[Frame] = []
    size = 0
    for frame in frames:
        payload = getattr(frame.message, "payload", None)
        weight = len(payload) if payload else 0
        if batch and (len(batch) >= FRAMES_PER_MESSAGE or size + weight > BYTES_PER_MESSAGE):
            transport.send(encode(batch, encoding))
            batch, size = [], 0
        batch.append(frame)
        size += weight
    if batch:
        transport.send(encode(batch, encoding))
