"""The words of a text, as retrievers compare them: in lower case, without plural endings.

Names are words as a whole and in their parts: `leaseMs` is also lease and ms. Words that occur in every question are
left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

__all__ = ["ASKING", "stem", "words_of"]

WORD: Final = re.compile(r"[^\W_]+(?:[-_.:][^\W_]+)*")
PART: Final = re.compile(r"[^\W\d_]+|\d+")
HUMP: Final = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
"""Where one word of a camelCase name ends and the next begins."""
_SMALL = (
    "a an and any are as at be by can could do does did for from has have how i if in into is it its may me my of on "
    "or shall should so some such than that the their them then there these they this to was were what when where "
    "which who whom whose why will with would you your"
)
ASKING: Final = frozenset(_SMALL.split())
"""Words that hold sentences together and say nothing about their subject."""


def words_of(text: str) -> Iterator[str]:
    """Yield the words of a text; for a compound name, the whole and its parts."""
    for name in WORD.findall(text):
        whole = name.lower()
        parts = [part.lower() for part in PART.findall(HUMP.sub(" ", name))]
        if len(parts) > 1:
            yield whole
        for part in parts:
            if part not in ASKING:
                yield stem(part)


def stem(word: str) -> str:
    """Remove the plural ending of a word (Harman, How effective is suffixing?, 1991: the S stemmer)."""
    if len(word) > 4 and word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("es") and not word.endswith(("aes", "ees", "oes")):
        return word[:-1]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("us", "ss")):
        return word[:-1]
    return word
