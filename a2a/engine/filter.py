"""A set of keys that says "surely not" or "maybe", in about two bytes a key (a scalable Bloom filter).

The ledger uses it to remember the keys of its archived tasks: a fresh key is known to be fresh without asking the
store, and about two in a thousand are looked up in vain, while their connections wait. It is part of the state, so
every fold builds the same one: no seed, no randomness, and it grows at the same count. It does not know what the keys
stand for.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

__all__ = ["KeyFilter", "digest_of_key"]

_FIRST = 4096
"""Keys in the first layer."""
_GROWTH = 4
"""How many times as many keys each further layer takes: a million keys fill five layers."""
_BITS_PER_KEY = 16
"""Bits per key in the first layer; each further layer takes one more: all together err about twice in a thousand."""
_PROBES = 7


@dataclass(slots=True)
class KeyFilter:
    """The keys that were added, approximately. An added key is always found."""

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
        """Tell whether the key may have been added; False is certain."""
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
    """Return 16 bytes that stand for a key; those of two keys differ, except by chance."""
    # The length comes first: ("ab", "c") and ("a", "bc") are two keys.
    return hashlib.blake2b(f"{len(scope)}:{scope}{key}".encode(), digest_size=16).digest()


def _digest(scope: str, key: str) -> tuple[int, int]:
    digest = digest_of_key(scope, key)
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big") | 1
