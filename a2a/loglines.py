"""Frames and records as log lines: long ones are cut to their beginning and end, with the number of characters between.

On its way, a payload of megabytes would otherwise become several lines of megabytes, in a log that somebody reads or
ships elsewhere. Used by the server and by the links of peers.
"""

from __future__ import annotations

__all__ = ["brief"]

_HEAD, _TAIL = 3_000, 1_000
"""In characters. A message's own fields come before its payload, and most of the envelope after the message."""


def brief(logged: object) -> str:
    """Return an object as text for the log, in a line of a few thousand characters at most."""
    text = str(logged)
    left_out = len(text) - _HEAD - _TAIL
    if left_out <= 0:
        return text
    return f"{text[:_HEAD]}... {left_out} characters ...{text[-_TAIL:]}"
