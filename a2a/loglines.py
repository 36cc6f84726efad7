"""How frames and records stand in the log: their beginning and their end where they are long, and how much is between.

A payload of megabytes would be several lines of megabytes on its way, in a log that somebody reads or ships elsewhere.
Used by the server and by the links of peers.
"""

from __future__ import annotations

__all__ = ["brief"]

_HEAD, _TAIL = 3_000, 1_000
"""Characters. What a message says of itself comes before its payload, most of the envelope behind the message."""


def brief(logged: object) -> str:
    """Return in words what is to be logged, in a line of a few thousand characters at most."""
    text = str(logged)
    left_out = len(text) - _HEAD - _TAIL
    if left_out <= 0:
        return text
    return f"{text[:_HEAD]}... {left_out} characters ...{text[-_TAIL:]}"
