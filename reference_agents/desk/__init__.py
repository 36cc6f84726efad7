"""The desk: agents that answer questions over a folder of documents, each with a method of its own.

The retrievers have one skill and know nothing of each other; the lead asks all of them and combines their ballots into
an answer. `shapes` has what they pass to each other. The work itself is in plain functions and classes, so that it can
be used and tested without a coordinator.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final

__all__ = ["AGENTS", "MODEL_PACKAGE", "SQUAD"]

MODEL_PACKAGE: Final = "wordllama"
"""The package that `by_meaning` needs. It is an extra: if it is missing, the others answer."""

AGENTS: Final[dict[str, str]] = {
    "desk": f"{__name__}.lead",
    "desk-words": f"{__name__}.by_words",
    "desk-ngrams": f"{__name__}.by_ngrams",
    "desk-sections": f"{__name__}.by_sections",
    **({"desk-meaning": f"{__name__}.by_meaning"} if find_spec(MODEL_PACKAGE) else {}),
}

SQUAD: Final[dict[str, Any]] = {"name": "desk", "skill": "answer_question", "agents": AGENTS}
"""What `a2a squad up desk` keeps running: agent id to the module that is the agent."""
