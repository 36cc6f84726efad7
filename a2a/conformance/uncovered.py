"""Requirements that no case tries, and why: what no peer can see from outside, or what a word of the text defines."""

from __future__ import annotations

__all__ = ["REASONS"]

REASONS: dict[str, str] = {}
"""The reason by the requirement's name."""
