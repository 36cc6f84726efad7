"""Names that may be claimed: whether two of them overlap, and an index that finds those that do (spec CLAIM).

A name is segments with `/` between them; a name that ends in `/**` stands for itself and everything below. The index
looks along the path of a name and below it, never at all names. It knows nothing of claims: its user chooses the keys
that it keeps under names. Used by the book of claims and by the line of tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from typing import Any

__all__ = ["Looks", "NameIndex", "canonical_names", "names_meet"]

_ALL = "/**"
_FOUND_BEFORE = 64
"""Passing this many keys that were found before costs as much as passing one new key."""


def canonical_names(claims: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return name to mode, in canonical order; for a name given twice the stricter mode counts. Spec CLAIM-2."""
    names: dict[str, str] = {}
    for claim in claims:
        mode = claim.get("mode", "x")
        names[claim["name"]] = "x" if "x" in (mode, names.get(claim["name"])) else mode
    return dict(sorted(names.items()))


def names_meet(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str | None:
    """Return the first of their names that conflicts with one of ours, or None. Spec CLAIM-1."""
    for their_name, their_mode in theirs.items():
        for our_name, our_mode in ours.items():
            if "x" in (our_mode, their_mode) and _overlap(our_name, their_name):
                return their_name
    return None


def _overlap(one: str, other: str) -> bool:
    return one == other or _covers(one, other) or _covers(other, one)


def _covers(above: str, name: str) -> bool:
    if not above.endswith(_ALL):
        return False
    return f"{name.removesuffix(_ALL)}/".startswith(above.removesuffix("**"))


@dataclass(slots=True)
class Looks:
    """How many keys a look-up may still pass: a look-up that would pass more ends early."""

    left: int

    @property
    def are_over(self) -> bool:
        """Whether there may be more than was found."""
        return self.left <= 0


@dataclass(slots=True)
class _Node:
    """One or more segments that all names through the first of them share.

    A node for each segment would take a hundred times the bytes of a long name.
    """

    path: str = ""
    """The segments that lead here from the node above."""
    below: dict[str, _Node] = field(default_factory=dict)
    """The nodes below, by their first segment."""
    own: dict[str, dict[Any, str]] | None = None
    """Mode to the keys under exactly this name; None if it never had any."""
    whole: dict[str, dict[Any, str]] | None = None
    """Mode to the keys under this name with `/**`; None likewise."""
    count: int = 0
    """How many keys there are here and below."""
    alone: int = 0
    """How many of these are in mode `x`."""

    def has(self, modes: tuple[str, ...]) -> bool:
        return bool(self.count if "s" in modes else self.alone)

    def add_up(self, mode: str, by: int) -> None:
        self.count += by
        if mode == "x":
            self.alone += by

    def keys(self, *, is_whole: bool) -> dict[str, dict[Any, str]]:
        """Return mode to the keys under this name, or under it with `/**`, for the caller to change."""
        found = self.whole if is_whole else self.own
        if found is None:
            found = {"x": {}, "s": {}}
            if is_whole:
                self.whole = found
            else:
                self.own = found
        return found

    def split(self, length: int) -> None:
        """Move the segments after this many characters of the path to a node below this one."""
        rest = replace(self, path=self.path[length + 1 :])
        self.path, self.below, self.own, self.whole = self.path[:length], {_first(rest.path, 0): rest}, None, None

    def join(self) -> None:
        """Merge the one node below into this one, if there is nothing else here."""
        if len(self.below) != 1 or self.count != sum(node.count for node in self.below.values()):
            return
        (only,) = self.below.values()
        self.path, self.below, self.own, self.whole = f"{self.path}/{only.path}", only.below, only.own, only.whole


class NameIndex:
    """Keys under names and modes. A complete answer does not depend on the order in which the keys were added."""

    def __init__(self) -> None:
        self._root = _Node()
        self._names: dict[Any, Mapping[str, str]] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NameIndex) and self._names == other._names

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        """Tell whether there is any key."""
        return bool(self._names)

    def add(self, key: Any, names: Mapping[str, str]) -> None:
        """Put a key under names."""
        self._names[key] = names
        for name, mode in names.items():
            self._place(name.removesuffix(_ALL), mode).keys(is_whole=name.endswith(_ALL))[mode][key] = name

    def _place(self, path: str, mode: str) -> _Node:
        """Return the node at the end of a path, made if it is missing, and count it on the way."""
        node, at = self._root, 0
        node.add_up(mode, 1)
        while at < len(path):
            first = _first(path, at)
            below = node.below.get(first)
            if below is None:
                below = node.below[first] = _Node(path[at:])
            shared = _shared(below.path, path, at)
            if shared < len(below.path):
                below.split(shared)
            node, at = below, at + shared + 1
            node.add_up(mode, 1)
        return node

    def remove(self, key: Any, names: Mapping[str, str]) -> None:
        """Remove a key from the names it was put under."""
        del self._names[key]
        for name, mode in names.items():
            path = name.removesuffix(_ALL)
            node, at, above = self._root, 0, self._root
            node.add_up(mode, -1)
            while at < len(path):
                above, node = node, node.below[_first(path, at)]
                node.add_up(mode, -1)
                at += len(node.path) + 1
                if not node.count:
                    del above.below[_first(node.path, 0)]
                    break
            else:
                del node.keys(is_whole=name.endswith(_ALL))[mode][key]
                above = node
            if above is not self._root:
                above.join()

    def meeting(self, names: Mapping[str, str], looks: Looks | None = None) -> dict[Any, str]:
        """Return the keys that conflict with these names, each with the first of its names that does.

        Args:
            names: the names, with their modes.
            looks: how many keys may be passed, each once for every name; beyond that some are left out.
        """
        found: dict[Any, str] = {}
        last = ""
        for name, mode in names.items():
            for keys in self._meeting(name, ("x", "s") if mode == "x" else ("x",)):
                if not keys:
                    continue
                if looks is not None and looks.are_over:
                    return found
                here = next(iter(keys.values()))
                if here >= last:
                    last = here
                    if keys.keys() <= found.keys():  # many keys have the same names: the first name finds each
                        if looks is not None:
                            looks.left -= 1 + len(keys) // _FOUND_BEFORE
                        continue
                if looks is not None:
                    if len(keys) > looks.left:
                        keys = dict(islice(keys.items(), looks.left))
                    looks.left -= len(keys)
                for key, other in keys.items():
                    known = found.get(key)
                    if known is None or other < known:
                        found[key] = other
        return found

    def _meeting(self, name: str, modes: tuple[str, ...]) -> Iterator[dict[Any, str]]:
        node, at, path = self._root, 0, name.removesuffix(_ALL)
        while at < len(path):
            below = node.below.get(_first(path, at))
            if below is None:
                return
            shared = _shared(below.path, path, at)
            if shared < len(below.path):
                # The name ends before the next node, or takes another path.
                if at + shared >= len(path) and name.endswith(_ALL) and below.has(modes):
                    yield from _all_from(below, modes)
                return
            node, at = below, at + shared + 1
            if node.whole is not None:
                yield from (node.whole[mode] for mode in modes)
        if node.own is not None:
            yield from (node.own[mode] for mode in modes)
        if name.endswith(_ALL):
            for below in node.below.values():
                if below.has(modes):
                    yield from _all_from(below, modes)


def _all_from(node: _Node, modes: tuple[str, ...]) -> Iterator[dict[Any, str]]:
    """Yield all keys at a node and below it."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        for kept in (node.own, node.whole):
            if kept is not None:
                yield from (kept[mode] for mode in modes if kept[mode])
        waiting.extend(below for below in node.below.values() if below.has(modes))


def _first(path: str, at: int) -> str:
    """Return the segment that begins at a place in a path."""
    end = path.find("/", at)
    return path[at:] if end < 0 else path[at:end]


def _shared(path: str, other: str, at: int) -> int:
    """Return how many characters of `path`, in whole segments, are also in `other` from a place on."""
    if other.startswith(path, at) and other[at + len(path) : at + len(path) + 1] in ("", "/"):
        return len(path)
    ours, theirs = path.split("/"), other[at:].split("/")
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ours, theirs, strict=False)))
    return len("/".join(ours[:same]))
