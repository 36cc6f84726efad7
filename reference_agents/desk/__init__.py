"""The desk: agents that answer questions over a folder of documents, each with a method of its own.

The retrievers have one skill and know nothing of each other; the lead asks all of them and answers with what their
ballots add up to. What they hand to each other is in `shapes`; the work itself is in plain functions and classes, so
that it can be used and tested without a coordinator.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MODEL_PACKAGE"]

MODEL_PACKAGE: Final = "wordllama"
"""What `by_meaning` needs. It is an extra: where it is missing, the others answer."""
