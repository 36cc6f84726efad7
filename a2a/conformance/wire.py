"""Frames as they travel, in both encodings, and the hashes over them.

Written for the suite alone, from the specification: a suite that shared a codec with the implementation it judges would
share its mistakes. It writes what it is told to, wrong frames too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgpack

__all__ = ["JSON", "MSGPACK", "SUBPROTOCOLS", "Frame", "decode", "digest", "encode", "parts", "result_hash"]

JSON = "json"
MSGPACK = "msgpack"
SUBPROTOCOLS = {JSON: "a2a.coord+json", MSGPACK: "a2a.coord+msgpack"}

_OPENS_DOORS = ("token", "operatorToken", "secret")
"""Fields of hello and welcome; a trace goes into reports, and those are passed on."""


class Frame(dict[str, Any]):
    """A frame that came, or is to be sent: a map with names for the fields that are looked at most."""

    @property
    def id(self) -> str:
        return str(self.get("id", ""))

    @property
    def kind(self) -> str:
        return str(self.get("kind", ""))

    @property
    def body(self) -> dict[str, Any]:
        body = self.get("body")
        return body if isinstance(body, dict) else {}

    @property
    def task(self) -> str:
        return str(self.get("task", ""))

    @property
    def fence(self) -> int:
        return int(self.get("fence", 0))

    @property
    def payload(self) -> bytes:
        """The envelope's payload, the same bytes in both encodings."""
        return as_bytes(self.get("payload"))

    @property
    def code(self) -> str:
        """Of an `error`."""
        return str(self.body.get("code", ""))

    def __str__(self) -> str:
        """For a person to read, and to show to others: without what opens a door."""
        hidden = {name: "(hidden)" for name in _OPENS_DOORS if isinstance(self.body.get(name), str)}
        shown = {**self, "body": {**self.body, **hidden}} if hidden else self
        try:
            return json.dumps(shown, ensure_ascii=False, default=lambda value: as_bytes(value).decode(errors="replace"))
        except TypeError:
            return repr(shown)  # with a key that is no string, which only a wrong peer sends


def as_bytes(payload: Any) -> bytes:
    """Return a payload's bytes, however the encoding carries them; none where there is no payload."""
    if payload is None:
        return b""
    return payload if isinstance(payload, bytes) else str(payload).encode()


def encode(frames: Iterable[Mapping[str, Any]], encoding: str) -> bytes:
    """Return one message with these frames. Bytes are payloads: `bin`, or a string."""
    if encoding == JSON:
        lines = (json.dumps(frame, ensure_ascii=False, default=bytes.decode) for frame in frames)
        return "\n".join(lines).encode()
    return b"".join(msgpack.packb(frame) for frame in frames)


def decode(message: bytes, encoding: str) -> list[Frame]:
    """Return the frames of a message.

    Raises:
        ValueError: it is not of the encoding, or holds no frame.
    """
    try:
        found = _json(message) if encoding == JSON else _msgpack(message)
    except RecursionError as exc:
        raise ValueError("the message is nested too deep to be read") from exc
    if not found or not all(isinstance(frame, dict) for frame in found):
        raise ValueError("a message carries one or more maps (WIRE-2)")
    return [Frame(frame) for frame in found]


def _json(message: bytes) -> list[Any]:
    return [json.loads(line) for line in message.decode().split("\n") if line.strip()]


def _msgpack(message: bytes) -> list[Any]:
    unpacker = msgpack.Unpacker(None, max_buffer_size=len(message) or 1)
    unpacker.feed(message)
    found, end = [], 0
    for value in unpacker:
        found.append(value)
        end = unpacker.tell()  # behind a whole value; later it also counts the beginning of one that is cut off
    if end != len(message):
        raise ValueError("the message ends in the middle of a frame")
    return found


def parts(value: Any) -> bytes:
    """Return a payload: a JSON array with one data part. The bytes are canonical for what the cases put in."""
    return _canonical([{"data": value}])


def result(value: Any, *, name: str = "result") -> bytes:
    """Return a payload: a JSON array with one artifact of one data part."""
    return _canonical([{"artifactId": name, "parts": [{"data": value}]}])


def digest(header: Mapping[str, Any], payload: bytes) -> str:
    """Return the hash over a header and a payload (WIRE-9)."""
    return "sha256:" + hashlib.sha256(_canonical(header) + b"\n" + payload).hexdigest()


def result_hash(outcome: str, payload: bytes) -> str:
    """Return the hash that names a result (REPORT-2)."""
    return digest({"outcome": outcome}, payload)


def _canonical(value: Any) -> bytes:
    # RFC 8785 for what the suite writes: ASCII keys, and no number that is not an integer.
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
