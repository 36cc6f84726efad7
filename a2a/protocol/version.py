"""The versions and features this software speaks, and how two peers agree on one (spec HELLO-2, HELLO-3)."""

from __future__ import annotations

import re

__all__ = ["FEATURES", "OLDEST", "SPOKEN", "agree", "parse_version"]

SPOKEN = "1.0"
"""The newest version of the protocol spoken here, `major.minor`."""
OLDEST = "1.0"
"""The oldest version still spoken here."""
FEATURES: tuple[str, ...] = ()
"""Optional parts of the protocol spoken here. Each end names its own; a feature is on if both name it."""

_FORM = re.compile(r"(0|[1-9]\d{0,3})\.(0|[1-9]\d{0,3})", re.ASCII)


def parse_version(text: str) -> tuple[int, int] | None:
    """Return (major, minor), or None if `text` does not have that form."""
    match = _FORM.fullmatch(text)
    return (int(match[1]), int(match[2])) if match else None


def agree(oldest: str, newest: str) -> str | None:
    """Return the newest version both ends speak, or None.

    A peer's range may exceed ours at both ends. Minor versions of one major are compatible, so the answer is always
    within our newest major.
    """
    low, high = parse_version(oldest), parse_version(newest)
    ours_low, ours_high = parse_version(OLDEST), parse_version(SPOKEN)
    if low is None or high is None or ours_low is None or ours_high is None or low > high:
        return None
    chosen = min(high, ours_high)
    if chosen < max(low, ours_low):
        return None
    return f"{chosen[0]}.{chosen[1]}"
