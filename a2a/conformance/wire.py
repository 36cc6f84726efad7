"""Frames as they are sent, in both encodings, and the hashes over them.

Written for the suite alone, from the specification: a suite that shared a codec with the implementation it judges would
share its mistakes. It encodes whatever it is given, wrong frames too.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgpack

__all__ = [
    "JSON",
    "MSGPACK",
    "OPENS_DOORS",
    "SUBPROTOCOLS",
    "Frame",
    "beginning",
    "count",
    "decode",
    "digest",
    "encode",
    "parts",
    "result_hash",
    "to_show",
]

JSON = "json"
MSGPACK = "msgpack"
SUBPROTOCOLS = {JSON: "a2a.coord+json", MSGPACK: "a2a.coord+msgpack"}

LARGEST = 2**53 - 1
"""The largest integer that a frame may hold (WIRE-8)."""
OPENS_DOORS = ("token", "operatorToken", "secret")
"""Fields of hello and welcome that traces hide: traces go into reports, and reports are passed on."""


class Frame(dict[str, Any]):
    """A frame that came, or is to be sent: a map with properties for the fields that cases read most."""

    @property
    def id(self) -> str:
        return str(self.get("id", ""))

    @property
    def kind(self) -> str:
        return str(self.get("kind", ""))

    @property
    def body(self) -> dict[str, Any]:
        """The frame's fields, without those that are `null`, which is the same as absent (WIRE-8)."""
        body = self.get("body")
        return {name: value for name, value in body.items() if value is not None} if isinstance(body, dict) else {}

    @property
    def task(self) -> str:
        return str(self.get("task", ""))

    @property
    def fence(self) -> int:
        return count(self.get("fence"))

    @property
    def payload(self) -> bytes:
        """The envelope's payload, the same bytes in both encodings."""
        return as_bytes(self.get("payload"))

    @property
    def code(self) -> str:
        """The code of an `error`."""
        return str(self.body.get("code", ""))

    def __str__(self) -> str:
        """Return it for a person to read and to pass on: without secrets and tokens."""
        shown = {**self, "body": to_show(self.body)} if self.body else self
        try:
            return json.dumps(shown, ensure_ascii=False, default=lambda value: as_bytes(value).decode(errors="replace"))
        except TypeError:
            return repr(shown)  # a key is not a string, which only a wrong peer sends


def to_show(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body with its secrets and tokens hidden."""
    return {**body, **{name: "(hidden)" for name in OPENS_DOORS if isinstance(body.get(name), str)}}


def beginning(message: bytes, length: int) -> str:
    """Return how a message begins, for a person to read and to pass on: at most up to the first secret or token."""
    ends = [place + len(name) for name in OPENS_DOORS if (place := message.find(name.encode(), 0, length)) >= 0]
    return repr(message[: min(ends)]) + " (the rest is hidden)" if ends else repr(message[:length])


def count(value: Any) -> int:
    """Return a number of a frame; 0 if it is missing or something else is in its place (WIRE-3 tells that)."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def as_bytes(payload: Any) -> bytes:
    """Return a payload's bytes, however the encoding carries them; empty if there is no payload."""
    if payload is None:
        return b""
    return payload if isinstance(payload, bytes) else str(payload).encode()


def encode(frames: Iterable[Mapping[str, Any]], encoding: str) -> bytes:
    """Return one message with these frames. Bytes are payloads: `bin` in MessagePack, a string in JSON."""
    if encoding == JSON:
        lines = (json.dumps(frame, ensure_ascii=False, default=bytes.decode) for frame in frames)
        return "\n".join(lines).encode()
    return b"".join(msgpack.packb(frame) for frame in frames)


def decode(message: bytes, encoding: str) -> list[Frame]:
    """Return the frames of a message.

    Raises:
        ValueError: it is not of the encoding, holds no frame, or holds a value that no frame may (WIRE-8, WIRE-12).
    """
    try:
        found = _json(message) if encoding == JSON else _msgpack(message)
        found = [_looked_at(value) for value in found]
    except RecursionError as exc:
        raise ValueError("the message is nested too deep to be read") from exc
    if not found or not all(isinstance(frame, dict) for frame in found):
        raise ValueError("a message carries one or more maps (WIRE-2)")
    return [Frame(frame) for frame in found]


def _json(message: bytes) -> list[Any]:
    lines = [line for line in _utf8(message, "the message").split("\n") if line.strip()]
    try:
        return [json.loads(line, object_pairs_hook=_map, parse_constant=_no_number) for line in lines]
    except json.JSONDecodeError as exc:
        raise ValueError(f"not JSON, one object a line (WIRE-2): {exc}") from exc


def _utf8(text: bytes, what: str) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as exc:
        raise ValueError(f"{what} is not UTF-8, from byte {exc.start} on (WIRE-12)") from exc


def _msgpack(message: bytes) -> list[Any]:
    # Keys are checked later, like all values, so that the error names one that is no text.
    unpacker = msgpack.Unpacker(None, max_buffer_size=len(message) or 1, object_pairs_hook=_map, strict_map_key=False)
    unpacker.feed(message)
    found, end = [], 0
    for value in unpacker:
        found.append(value)
        end = unpacker.tell()  # after a whole value; later it also counts the beginning of one that is cut off
    if end != len(message):
        raise ValueError("the message ends in the middle of a frame")
    return found


def _map(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found = {}
    for key, value in pairs:
        if not isinstance(key, str):
            raise ValueError(f"a key that is no text: {key!r} (WIRE-12)")
        if key in found:
            raise ValueError(f"the key {key!r} twice in one map (WIRE-12)")
        found[key] = value
    return found


def _no_number(literal: str) -> Any:
    raise ValueError(f"there is no {literal} (WIRE-8)")


def _looked_at(value: Any) -> Any:
    """Return a value of a frame; fail if some language cannot hold it, because a receiver would refuse it.

    A number without a fraction is an integer, even if written as 1.0 (WIRE-8).
    """
    if isinstance(value, dict):
        return {_looked_at(key): _looked_at(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_looked_at(item) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is no number of this protocol (WIRE-8)")
        return int(value) if value.is_integer() and abs(value) <= LARGEST else value
    if isinstance(value, int):
        if abs(value) > LARGEST:
            raise ValueError(f"an integer beyond 2^53 - 1: {value} (WIRE-8)")
    elif isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as exc:
            raise ValueError(f"half of a surrogate pair in a text: \\u{ord(value[exc.start]):04x} (WIRE-12)") from exc
    elif isinstance(value, bytes):
        _utf8(value, "a payload")
    elif value is not None:
        raise ValueError(f"an extension type of MessagePack: {value!r} (WIRE-12)")
    return value


def parts(value: Any) -> bytes:
    """Return a payload: a JSON array with one data part. The bytes are canonical for the values the cases use."""
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
    # RFC 8785 for what the suite writes: ASCII keys, and only integers as numbers.
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
