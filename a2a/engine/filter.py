"""A set of keys that says "surely not" or "maybe", in about two bytes a key (a scalable Bloom filter).

The ledger remembers with it which keys its archived tasks had: a fresh key is known to be fresh without asking the
store, and of a thousand less than one is asked about in vain, for which its connection waits. It is a part of the
state, so it is built the same in every fold: no seed, no randomness, and it grows at the same count. It does not know
what the keys stand for.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

__all__ = ["KeyFilter", "digest_of_key"]

_FIRST = 4096
"""Keys the first layer takes."""
_GROWTH = 4
"""How many times as many each further one takes: a look at a million keys is one at five layers."""
_BITS_PER_KEY = 16
"""Of the first layer; each further one takes a bit more, so that all of them together err in few of a hundred."""
_PROBES = 7


@dataclass(slots=True)
class KeyFilter:
    """The keys that were added, approximately. What was added is always found."""

    layers: list[bytearray] = field(default_factory=list)
    count: int = 0
    """Keys in the newest layer."""

    def add(self, scope: str, key: str) -> None:
        """Remember a key."""
        size = _FIRST * _GROWTH ** max(0, len(self.layers) - 1)
        if not self.layers or self.count >= size:
            size = _FIRST * _GROWTH ** len(self.layers)
            self.layers.append(bytearray(size * (_BITS_PER_KEY + len(self.layers)) // 8))
            self.count = 0
        layer = self.layers[-1]
        start, step = _digest(scope, key)
        bits = len(layer) * 8
        for probe in range(_PROBES):
            bit = (start + probe * step) % bits
            layer[bit >> 3] |= 1 << (bit & 7)
        self.count += 1

    def may_have(self, scope: str, key: str) -> bool:
        """Tell whether the key may have been added; False is sure."""
        if not self.layers:
            return False
        start, step = _digest(scope, key)
        return any(_is_in(layer, start, step) for layer in reversed(self.layers))


def _is_in(layer: bytearray, start: int, step: int) -> bool:
    bits = len(layer) * 8
    for probe in range(_PROBES):
        bit = (start + probe * step) % bits
        if not layer[bit >> 3] >> (bit & 7) & 1:
            return False
    return True


def digest_of_key(scope: str, key: str) -> bytes:
    """Return 16 bytes that stand for a key: those of two keys differ, but for what chance does."""
    # The length in front: ("ab", "c") and ("a", "bc") are two keys.
    return hashlib.blake2b(f"{len(scope)}:{scope}{key}".encode(), digest_size=16).digest()


def _digest(scope: str, key: str) -> tuple[int, int]:
    digest = digest_of_key(scope, key)
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big") | 1
