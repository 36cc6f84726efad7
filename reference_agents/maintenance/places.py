"""Read from a request which files and folders it is about, and which it leaves alone.

Pure except for a look at the repository. Without a repository, a word is a path only if it looks like one. With one,
folders, packages and modules can also be meant by name, after `in` or as what to modernise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .scope import area_of

__all__ = ["Places", "read_places"]

PATH: Final = r"(?:[\w.-]+/)+[\w.-]*|[\w-]+\.py\b"
IN: Final = r"\b(?:in|under|within|below|inside|outside|only|from)"
WORK: Final = r"(?:\b(?:moderni[sz]e|moderni[sz]ing|upgrade|upgrading|migrate|port)\b|\blint\s+(?:of|for)\b|^\s*lint\b)"
"""The words right after it say what to work on."""
OFF: Final = (
    r"(?:\b(?:leav(?:e|ing)|without|except(?:ing)?|exclud(?:e|ing)|skip(?:ping)?|ignor(?:e|ing)|not|never|apart|other"
    r"|aside|besides|omit(?:ting)?|avoid(?:ing)?|save\s+for|no\s+changes?(?:\s+to)?"
    r"|(?:stay|keep|hands)(?:\s+(?:your\s+)?hands)?\s+(?:away|out|off|clear)"
    r"|(?:every(?:thing|where)|any(?:thing|where)|all"
    r"|(?:all|every|any)(?:\s+(?:the|of|other))*\s+(?:files?|code|folders?|director(?:y|ies)|modules?|packages?))\s+but)"
    r"|n't)\b"
)
FILLERS: Final = (
    r"(?:\s+(?:touch(?:ing)?|chang(?:e|ing)|modify(?:ing)?|edit(?:ing)?|in|on|under|within|below|inside|from|for|than|"
    r"the|our|my|any|anything|all|everything|files?|code|folders?|director(?:y|ies)|modules?|packages?|of))*\s+"
)
KIND: Final = r"(?:folder|directory|package|module)"
AND: Final = (
    rf"(?:\s+{KIND})?(?:\s*,\s*(?:and\s+|or\s+)?|\s+(?:and|or|nor|&)\s+)(?:(?:in|under|within|below|from|the)\s+)*"
)
ALONE: Final = re.compile(
    r"\s+(?:alone|unchanged|untouched|out\b|as\s+(?:it|they)\s+(?:is|are)|(?:must|may|should)\s+(?:not|never)|is\s+off)",
    re.I,
)
ONLY: Final = re.compile(r"\s+only\b", re.I)
"""After a path that is left alone: it may just as well be the only one to be changed."""
OUTSIDE: Final = re.compile(rf"\boutside{FILLERS}$", re.I)
NOTHING: Final = re.compile(r"\b(?:nothing|none)\b[^.;]{0,60}$", re.I)
"""Before `outside`: the path is left alone."""
NEGATED: Final = re.compile(r"(?:\b(?:not|never|without|no)|n't)\b[^.;]{0,60}$", re.I)
BESIDES: Final = re.compile(r"\b(?:includ\w*|also|even|like|such\s+as|touch|change|and\s+then)\b[^.;,]*$", re.I)
"""A path after this is an additional one, not the only one."""
NOT_ONLY: Final = re.compile(r"\bnot\s+(?:only|just)\b", re.I)
NAME: Final = r"[`'\"]?(?P<{}>[\w.-]*\w)[`'\"]?"
END: Final = r"\s*(?:$|[,;]|\.(?:\s|$))"
UNKNOWN: Final = re.compile(
    rf"(?:{IN}|{WORK})\s+(?:(?:the|our|my)\s+)?(?:{KIND}\s+{NAME.format('behind')}|{NAME.format('before')}\s+{KIND}\b)"
    rf"|^\s*(?:please\s+|only\s+)*{WORK}\s+{NAME.format('alone')}"
    rf"(?={END}|\s+(?:to|for)\s+(?:py|v?\d))|\b(?:in|under|within|below|inside)\s+{NAME.format('within')}(?={END})",
    re.I,
)
"""Phrases that can only name something to work on."""
NO_NAMES: Final = re.compile(
    r"all|annotations?|any(?:thing)?|classes|code(?:base)?|comments?|dependencies|detail|docs?|docstrings?|each|entire"
    r"|errors?|every(?:thing)?|exceptions?|files?|findings?|for|formatting|f-?strings?|full|functions?|general|hints?|idioms?"
    r"|imports?|in|issues?|it|main|modules?|new|of|old|order|other|packages?|parallel|place|production|program|projects?"
    r"|py(?:thon)?[\d.]*|repo(?:sitory)?|root|same|scripts?|sources?|strings?|style|syntax|tests?|that|them|these|this|to"
    r"|top|total|types?|typing|warnings?|whole|\d[\d.]*",
    re.I,
)
"""Words that occur where a name could."""
CLAUSE: Final = re.compile(r"[;,:]\s|\.\s|\bbut\b", re.I)


@dataclass(frozen=True, slots=True)
class Places:
    """Where to work."""

    within: tuple[str, ...] = ()
    """Files or folders to stay within; none means everything."""
    spared: tuple[str, ...] = ()
    """Files or folders to leave alone."""
    unclear: str = ""
    """A path that the words leave unclear: whether to change it, or leave it alone."""


def read_places(text: str, repository: str = "", *, asks: bool = False) -> Places:
    """Return where a request says to work.

    Args:
        text: in one line, without names that only look like paths.
        repository: its own path is removed from the front of paths in it.
        asks: whether the request changes nothing; then it is about a path only if it says `in`.
    """
    if repository:
        text = text.replace(f"{repository.rstrip('/')}/", "")
    within: list[str] = []
    spared: list[str] = []
    for mention in _mentions(text, repository, asks=asks):
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
    if repository and not (asks or within or spared) and (name := _unknown(text, repository)):
        within.append(name)  # that it does not exist is for the caller to report
    return Places(tuple(dict.fromkeys(within)), tuple(dict.fromkeys(spared)))


@dataclass(frozen=True, slots=True)
class _Mention:
    start: int
    end: int
    how: str
    """`in`, `off`, or empty if it stands alone."""
    paths: tuple[str, ...]


def _mentions(text: str, repository: str, *, asks: bool) -> Iterator[_Mention]:
    """Yield groups of adjacent paths, with the words before or after them."""
    anywhere = rf"[`'\"]?(?<![\w./-])(?:{PATH})[`'\"]?"
    names = _names(repository)
    listed = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    known = rf"[`'\"]?(?<![\w./-])(?:{PATH}|(?:{listed})(?:\.\w+)*(?![\w/-]))[`'\"]?" if listed else anywhere
    named = rf"[`'\"]?(?<![\w./-])(?:{listed})(?:\.\w+)*(?![\w/-])[`'\"]?" if listed and not asks else r"(?!)"
    pattern = re.compile(
        rf"(?:(?P<off>{OFF}){FILLERS}|(?P<in>{IN}){FILLERS})(?P<named>{known}(?:{AND}{known})*)"
        rf"|(?P<work>{WORK}){FILLERS}(?P<object>{named}(?:{AND}{named})*)"
        rf"|(?P<bare>{anywhere}(?:{AND}{anywhere})*)",
        re.I,
    )
    for match in pattern.finditer(text):
        group = "named" if match["named"] else "object" if match["object"] else "bare"
        one = anywhere if group == "bare" else known
        said = re.findall(one, match[group], re.I)
        is_off = match["off"] or ALONE.match(text, match.end())
        if group == "bare" and not is_off:
            said = [path for path in said if path.endswith("/") or _is_code(_clean(path), repository)]
        paths = tuple(_path(_clean(path), names, repository, asks=asks) for path in said)
        if paths:
            start = match.start("off") if match["off"] else match.start(group)
            yield _Mention(start, match.end(), "off" if is_off else "" if group == "bare" else "in", paths)


def _clean(path: str) -> str:
    return path.strip("`'\"").rstrip("./") or "."


def _is_code(path: str, repository: str) -> bool:
    """Return whether a path that stands alone is meant as one: `and/or` is not, and settings are opened by name."""
    if area_of(path) in {"ci", "configuration"}:
        return False
    return path.endswith(".py") or bool(repository and Path(repository, path.partition("/")[0]).is_dir())


def _names(repository: str) -> Mapping[str, str]:
    """Return what can be named without a path - folders at the top, packages, modules - and where each is."""
    names: dict[str, str] = {}
    for root in ("", "src/"):
        try:
            found = sorted(Path(repository, root).iterdir()) if repository else []
        except OSError:
            continue
        for path in found:
            if path.name.startswith("."):
                continue
            if path.is_dir() and (not root or any(path.glob("*.py"))):
                names.setdefault(path.name, f"{root}{path.name}")
            elif path.suffix == ".py" and path.stem.isidentifier():
                names.setdefault(path.stem, f"{root}{path.name}")
    return names


def _path(said: str, names: Mapping[str, str], repository: str, *, asks: bool) -> str:
    """Return the path of something named; of a dotted module, the part that exists."""
    head, *parts = said.split(".")
    if "/" in said or said.endswith(".py") or head not in names:
        return said
    path = names[head]
    for part in parts:
        below = f"{path}/{part}"
        if Path(repository, f"{below}.py").is_file():
            below += ".py"
        elif path.endswith(".py") or (asks and not Path(repository, below).is_dir()):
            return path  # something in a module, or in the package itself
        path = below
    return path


def _unknown(text: str, repository: str) -> str:
    """Return a name of something to work on that does not exist, if there is one."""
    if not Path(repository).is_dir():
        return ""
    for match in UNKNOWN.finditer(text):
        name = match["behind"] or match["before"] or match["alone"] or match["within"]
        is_whole = match["alone"] and name.lower() == Path(repository).name.lower()
        if not NO_NAMES.fullmatch(name) and not is_whole:
            return name
    return ""
