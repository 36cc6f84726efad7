"""Fresh ids and secrets: the only module that draws random bits for them. Used by the shells."""

from __future__ import annotations

import itertools
import os
import random
import secrets
import time
from collections.abc import Callable

__all__ = ["new_id", "new_number", "new_secret", "new_suffix", "numbering"]

_random = random.Random(os.urandom(32))
"""Ids have to be unique, not secret, so a fast generator seeded by the system will do."""


def _reseed() -> None:
    _random.seed(os.urandom(32))


os.register_at_fork(after_in_child=_reseed)


def new_id() -> str:
    """Return a fresh UUIDv7 (RFC 9562 5.7) as text; ids of one process sort by the millisecond they were made in."""
    bits = _random.getrandbits(74)
    value = (time.time_ns() // 1_000_000) << 80 | 0x7 << 76 | (bits >> 62) << 64 | 0b10 << 62 | bits & ((1 << 62) - 1)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def numbering() -> Callable[[], str]:
    """Return a function that numbers frames: short ids, unique to this numbering, at an eighth of `new_id`'s time."""
    prefix, numbers = new_suffix(), itertools.count(1)
    return lambda: f"{prefix}-{next(numbers)}"


def new_number() -> int:
    """Return a start for a count that another process must not share: at least as many numbers follow it."""
    return _random.getrandbits(52)


def new_suffix() -> str:
    """Return a suffix that tells this process apart from others of the same principal."""
    return f"{_random.getrandbits(40):010x}"


def new_secret() -> str:
    """Return a fresh secret of 256 bits."""
    return secrets.token_urlsafe(32)
