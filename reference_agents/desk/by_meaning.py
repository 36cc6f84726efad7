"""A retriever that goes by meaning: it compares word vectors, which come with a package, by their cosine.

It needs the extra `meaning` (`pip install 'a2a-coordinator[meaning]'`). The package includes its model: nothing is
fetched at run time. Without it this agent does not exist, and the others answer.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from operator import mul
from pathlib import Path
from typing import Any, Final

from . import MODEL_PACKAGE
from .passages import Passage
from .retrieving import Scored, retriever

__all__ = ["MeaningIndex", "Vectors", "agent", "load_model"]

HOW: Final = "pip install 'a2a-coordinator[meaning]'"

Vectors = Callable[[list[str]], Iterable[Iterable[float]]]
"""Makes a vector of each text, all of the same length."""


def load_model() -> Vectors:
    """Load the model from its package.

    Raises:
        ImportError: the package is not installed.
    """
    root = logging.getLogger()
    level, handlers = root.level, [*root.handlers]
    try:
        import wordllama
    except ImportError as exc:
        raise ImportError(f"this retriever needs the package {MODEL_PACKAGE}: {HOW}", name=MODEL_PACKAGE) from exc
    finally:
        # When it is imported, it makes the whole process log everything.
        root.setLevel(level)
        root.handlers[:] = handlers
    # It finds the tokenizer it ships only if its own folder is named as its cache; otherwise it tries to fetch it.
    model: Any = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)

    def embed(texts: list[str]) -> Iterable[Iterable[float]]:
        vectors: Iterable[Iterable[float]] = model.embed(texts, norm=True).tolist()
        return vectors

    return embed


class MeaningIndex:
    """Passages by the vector of their text."""

    def __init__(self, passages: Sequence[Passage], embed: Vectors) -> None:
        self._embed = embed
        texts = [f"{passage.heading.rpartition(' / ')[2]}: {passage.text}" for passage in passages]
        # Arrays of single-precision floats: as objects the numbers would take eight times the memory.
        self._vectors = [array("f", vector) for vector in embed(texts)] if texts else []

    def rank(self, question: str) -> Sequence[Scored]:
        """Rank all passages by their similarity to a question."""
        [wanted] = self._embed([question])
        near = tuple(wanted)
        scored = [(number, sum(map(mul, vector, near))) for number, vector in enumerate(self._vectors)]
        return sorted(scored, key=lambda one: (-one[1], one[0]))


_model = cache(load_model)


def _build(passages: Sequence[Passage]) -> MeaningIndex:
    return MeaningIndex(passages, _model())


agent = retriever("desk-meaning", "Finds passages by meaning (word vectors).", _build)

if __name__ == "__main__":
    _model()  # tells a user without the package now, not at the first question
    agent.main()
