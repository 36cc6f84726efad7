"""Choices out of bytes: the same bytes are the same choices, and when they are used up the least choice is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["Source"]

T = TypeVar("T")


class Source:
    """Makes choices from bytes, from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_empty(self) -> bool:
        """Whether all bytes are used up."""
        return self._at >= len(self._data)

    def below(self, count: int) -> int:
        """Choose from `range(count)`."""
        size = 1 if count <= 1 << 8 else 2 if count <= 1 << 16 else 8
        return int.from_bytes(self.take(size), "big") % count

    def pick(self, items: Sequence[T]) -> T:
        """Choose one of several."""
        return items[self.below(len(items))]

    def one_in(self, count: int) -> bool:
        """Be true once in so many times; not when the bytes are used up."""
        return self.below(count) == count - 1

    def take(self, size: int) -> bytes:
        """Return so many bytes, fewer where there are no more."""
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(len(self._data))
