"""Seeds that found a bug, and what it was. They stay, and run with the tests.

A seed names a world only as long as the draws stay the same: whoever changes what is drawn runs the planted bug again
and writes down the seed that finds it now. A unit test beside the code holds each bug down for good.
"""

from __future__ import annotations

__all__ = ["SEEDS"]

SEEDS: dict[int, str] = {}
"""Seed to what it found."""
