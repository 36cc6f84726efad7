"""Read in a request which files and folders it is about, and which it leaves alone.

Pure but for a look at which folders a repository has: without one, a word is a path only where it looks like one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .scope import area_of

__all__ = ["Places", "read_places"]

PATH: Final = r"(?:[\w.-]+/)+[\w.-]*|[\w-]+\.py\b"
IN: Final = r"\b(?:in|under|within|below|inside|outside|only|from)"
OFF: Final = (
    r"(?:\b(?:leav(?:e|ing)|without|except(?:ing)?|exclud(?:e|ing)|skip(?:ping)?|ignor(?:e|ing)|not|never|apart|other"
    r"|aside|besides|omit(?:ting)?|avoid(?:ing)?|save\s+for|no\s+changes?(?:\s+to)?"
    r"|(?:stay|keep|hands)(?:\s+(?:your\s+)?hands)?\s+(?:away|out|off|clear)"
    r"|(?:every(?:thing|where)|any(?:thing|where)"
    r"|(?:all|every|any)(?:\s+(?:the|of|other))*\s+(?:files?|code|folders?|director(?:y|ies)|modules?|packages?))\s+but)"
    r"|n't)\b"
)
FILLERS: Final = (
    r"(?:\s+(?:touch(?:ing)?|chang(?:e|ing)|modify(?:ing)?|edit(?:ing)?|in|on|under|within|below|inside|from|for|than|"
    r"the|any|anything|all|everything|files?|code|folders?|director(?:y|ies)|modules?|packages?|of))*\s+"
)
AND: Final = r"(?:\s*,\s*(?:and\s+|or\s+)?|\s+(?:and|or|nor|&)\s+)(?:(?:in|under|within|below|from|the)\s+)*"
ALONE: Final = re.compile(
    r"\s+(?:alone|unchanged|untouched|out\b|as\s+(?:it|they)\s+(?:is|are)|(?:must|may|should)\s+(?:not|never)|is\s+off)",
    re.I,
)
ONLY: Final = re.compile(r"\s+only\b", re.I)
"""Behind a path that is left alone: it may as well be the only one to be changed."""
OUTSIDE: Final = re.compile(rf"\boutside{FILLERS}$", re.I)
NOTHING: Final = re.compile(r"\b(?:nothing|none)\b[^.;]{0,60}$", re.I)
"""Before `outside`: what is there is left alone."""
NEGATED: Final = re.compile(r"(?:\b(?:not|never|without|no)|n't)\b[^.;]{0,60}$", re.I)
BESIDES: Final = re.compile(r"\b(?:includ\w*|also|even|like|such\s+as|touch|change|and\s+then)\b[^.;,]*$", re.I)
"""A path behind this is one more, and not the only one."""
NOT_ONLY: Final = re.compile(r"\bnot\s+(?:only|just)\b", re.I)
CLAUSE: Final = re.compile(r"[;,:]\s|\.\s|\bbut\b", re.I)


@dataclass(frozen=True, slots=True)
class Places:
    """Where to work."""

    within: tuple[str, ...] = ()
    """Files or folders to stay within; none means everything."""
    spared: tuple[str, ...] = ()
    """Files or folders to leave alone."""
    unclear: str = ""
    """One of which the words do not tell whether it is to be changed or left alone."""


def read_places(text: str, repository: str = "", *, asks: bool = False) -> Places:
    """Return where a request says to work.

    Args:
        text: in one line, without names that only look like paths.
        repository: its own path before one in it is left out.
        asks: whether it changes nothing: it is then about a path only where it says `in`.
    """
    if repository:
        text = text.replace(f"{repository.rstrip('/')}/", "")
    within: list[str] = []
    spared: list[str] = []
    for mention in _mentions(text, repository):
        head = text[: mention.start]
        clause = CLAUSE.split(head)[-1]
        outside = OUTSIDE.search(head)
        if asks:
            within += mention.paths if mention.how == "in" and not outside else ()
        elif NOT_ONLY.search(clause):
            continue
        elif mention.how == "off" and ONLY.match(text, mention.end):
            return Places(unclear=mention.paths[0])
        elif mention.how == "off" or (outside and not (NEGATED.search(clause) or NOTHING.search(clause))):
            spared += mention.paths
        elif outside:
            within += mention.paths  # nothing outside of it
        elif NEGATED.search(clause):
            return Places(unclear=mention.paths[0])
        elif mention.how == "in" or not BESIDES.search(clause):
            within += mention.paths
    return Places(tuple(dict.fromkeys(within)), tuple(dict.fromkeys(spared)))


@dataclass(frozen=True, slots=True)
class _Mention:
    start: int
    end: int
    how: str
    """`in`, `off`, or nothing where it stands for itself."""
    paths: tuple[str, ...]


def _mentions(text: str, repository: str) -> Iterator[_Mention]:
    """Yield the paths that stand together, and what stands before or behind them."""
    anywhere = rf"[`'\"]?(?<![\w./-])(?:{PATH})[`'\"]?"
    folders = "|".join(re.escape(name) for name in _folders(repository))
    known = rf"[`'\"]?(?<![\w./-])(?:{PATH}|(?:{folders})(?![\w./-]))[`'\"]?" if folders else anywhere
    pattern = re.compile(
        rf"(?:(?P<off>{OFF}){FILLERS}|(?P<in>{IN}){FILLERS})(?P<named>{known}(?:{AND}{known})*)"
        rf"|(?P<bare>{anywhere}(?:{AND}{anywhere})*)",
        re.I,
    )
    for match in pattern.finditer(text):
        group = "named" if match["named"] else "bare"
        one = known if match["named"] else anywhere
        paths = tuple(_clean(path) for path in re.findall(one, match[group], re.I))
        is_off = match["off"] or ALONE.match(text, match.end())
        if group == "bare" and not is_off:
            paths = tuple(path for path in paths if _is_code(path, repository))
        if paths:
            start = match.start("off") if match["off"] else match.start(group)
            yield _Mention(start, match.end(), "off" if is_off else "in" if match["in"] else "", paths)


def _clean(path: str) -> str:
    return path.strip("`'\"").rstrip("./") or "."


def _is_code(path: str, repository: str) -> bool:
    """Return whether what stands for itself is meant as a path: `and/or` is none, and settings are opened by name."""
    if area_of(path) in {"ci", "configuration"}:
        return False
    return path.endswith(".py") or bool(repository and Path(repository, path.partition("/")[0]).is_dir())


def _folders(repository: str) -> list[str]:
    """Return the names of the folders at the top of a repository."""
    try:
        found = [path.name for path in Path(repository).iterdir() if path.is_dir()] if repository else []
    except OSError:
        return []
    return sorted((name for name in found if not name.startswith(".")), key=len, reverse=True)
