"""Cuts the bytes of an open WebSocket into frames (RFC 6455, 5.2), and extracts whole messages from them.

websockets reads each part of a header with a generator of its own, and copies its input several times: 30 us a frame,
and 1.4 ms a mebibyte. Nearly every frame here is a data frame with a whole message, and is handled without websockets.
The rest (control frames, fragments, frames that break a rule) goes unchanged to its parser, frame by frame.
`websocket_connection` uses this module.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

try:
    from websockets.speedups import apply_mask
except ImportError:  # there is no compiled module for this platform
    from websockets.utils import apply_mask

__all__ = ["Cut", "Cutter"]

_WHOLE_TEXT, _WHOLE_BINARY = 0x81, 0x82
"""First byte of a data frame that is the last of its message and has no reserved bit."""
_MASKED = 0x80
_PIECE_BYTES = 16 * 1024
"""Bytes from which a read is kept as a piece of its own. Appending every read would move a whole mebibyte each time."""


@dataclass(slots=True)
class Cut:
    """A frame with all its bytes; or, without a header, bytes that cannot be cut any further."""

    _data: bytes
    _start: int
    _header: int
    _end: int

    @property
    def is_message(self) -> bool:
        """Whether it is a complete message, unless fragments of another message came before."""
        return self._header > 0 and self._data[self._start] in (_WHOLE_TEXT, _WHOLE_BINARY)

    @property
    def is_text(self) -> bool:
        """Whether that message is text."""
        return self._data[self._start] == _WHOLE_TEXT

    @property
    def payload(self) -> bytes:
        """The payload of the frame, unmasked."""
        start = self._start + self._header
        covered = memoryview(self._data)[start : self._end]
        if not self._data[self._start + 1] & _MASKED:
            return bytes(covered)
        return apply_mask(covered, self._data[start - 4 : start])

    @property
    def raw(self) -> bytes:
        """The frame as it arrived."""
        return bytes(memoryview(self._data)[self._start : self._end])


class Cutter:
    """Cuts the bytes of one direction of a connection, starting after the handshake.

    Args:
        is_masked: whether frames have to be masked, as a client's have.
        message_max_bytes: a frame longer than this is not waited for.
    """

    __slots__ = ("_has_given_up", "_kept", "_mask_bytes", "_masked", "_max", "_needed", "_pieces")

    def __init__(self, *, is_masked: bool, message_max_bytes: int) -> None:
        self._masked = _MASKED if is_masked else 0
        self._mask_bytes = 4 if is_masked else 0
        self._max = message_max_bytes
        self._pieces: list[bytes | bytearray] = []
        self._kept = self._needed = 0  # bytes kept of an incomplete frame, and bytes it needs
        self._has_given_up = False

    @property
    def is_amid(self) -> bool:
        """Whether the last bytes ended in the middle of a frame."""
        return self._kept > 0

    def cut(self, data: bytes) -> Iterator[Cut]:
        """Yield the frames that these bytes complete; from a broken frame on, all bytes as they arrive."""
        if self._pieces:
            self._keep(data)
            if self._kept < self._needed:
                return
            data = b"".join(self._pieces)
            self._pieces, self._kept = [], 0
        start, end = 0, len(data)
        while start < end:
            header, size = self._measure(data, start)
            if not header:
                yield Cut(data, start, 0, end)
                return
            if start + size > end:
                self._needed = size
                self._keep(bytes(memoryview(data)[start:]) if start else data)
                return
            yield Cut(data, start, header, start + size)
            start += size

    def _keep(self, data: bytes) -> None:
        self._kept += len(data)
        if len(data) >= _PIECE_BYTES:
            self._pieces.append(data)
        elif self._pieces and isinstance(self._pieces[-1], bytearray):
            self._pieces[-1] += data  # a peer may send them one by one
        else:
            self._pieces.append(bytearray(data))

    def _measure(self, data: bytes, start: int) -> tuple[int, int]:
        """Return the length of the header (0: it breaks a rule), and of the frame as far as it is known."""
        left = len(data) - start
        if self._has_given_up:
            return 0, left
        if left < 2:
            return 2, 2
        length = data[start + 1] & ~_MASKED
        header = 2 + self._mask_bytes
        if length > 125:
            more = 2 if length == 126 else 8
            if left < 2 + more:
                return header, 2 + more
            length = int.from_bytes(data[start + 2 : start + 2 + more], "big")
            header += more
        if data[start + 1] & _MASKED != self._masked or length > self._max:
            self._has_given_up = True
            return 0, left
        return header, header + length
