"""The names of what may be claimed: what two of them have in common, and an index that finds it (spec CLAIM).

A name is segments with `/` between them; one that ends in `/**` stands for all below and for itself. The index looks
along the path of a name and below it, never at all there is. It knows nothing of claims: what is under a name is a key
of its owner's choosing. Used by the book of claims and by the line of tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["NameIndex", "canonical_names", "names_meet"]

_ALL = "/**"


def canonical_names(claims: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return name to mode, in canonical order; of a name that is there twice the stricter mode counts. Spec CLAIM-2."""
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
class _Node:
    """One segment of the names that are there."""

    below: dict[str, _Node] = field(default_factory=dict)
    own: dict[str, dict[Any, str]] = field(default_factory=lambda: {"x": {}, "s": {}})
    """Mode to the keys under just this name."""
    whole: dict[str, dict[Any, str]] = field(default_factory=lambda: {"x": {}, "s": {}})
    """Mode to the keys under this name with `/**`."""
    counts: dict[str, int] = field(default_factory=lambda: {"x": 0, "s": 0})
    """Mode to how many there are here and below."""


class NameIndex:
    """Keys under names and modes. What it answers does not depend on the order in which they came."""

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
            node = self._root
            node.counts[mode] += 1
            for segment in _segments(name):
                node = node.below.setdefault(segment, _Node())
                node.counts[mode] += 1
            (node.whole if name.endswith(_ALL) else node.own)[mode][key] = name

    def remove(self, key: Any, names: Mapping[str, str]) -> None:
        """Take a key away from under the names it was put under."""
        del self._names[key]
        for name, mode in names.items():
            node = self._root
            node.counts[mode] -= 1
            for segment in _segments(name):
                child = node.below[segment]
                child.counts[mode] -= 1
                if not any(child.counts.values()):
                    del node.below[segment]
                node = child
            del (node.whole if name.endswith(_ALL) else node.own)[mode][key]

    def meeting(self, names: Mapping[str, str]) -> dict[Any, str]:
        """Return the keys that conflict with these names, and the first of its names that does for each."""
        found: dict[Any, str] = {}
        for name, mode in names.items():
            for key, other in self._meeting(name, ("x", "s") if mode == "x" else ("x",)):
                found[key] = min(found.get(key, other), other)
        return found

    def _meeting(self, name: str, modes: tuple[str, ...]) -> Iterator[tuple[Any, str]]:
        node = self._root
        for segment in _segments(name):
            below = node.below.get(segment)
            if below is None:
                return
            node = below
            for mode in modes:
                yield from node.whole[mode].items()
        for mode in modes:
            yield from node.own[mode].items()
        if name.endswith(_ALL):
            yield from _all_below(node, modes)


def _all_below(node: _Node, modes: tuple[str, ...]) -> Iterator[tuple[Any, str]]:
    for child in node.below.values():
        if any(child.counts[mode] for mode in modes):
            for mode in modes:
                yield from child.own[mode].items()
                yield from child.whole[mode].items()
            yield from _all_below(child, modes)


def _segments(name: str) -> list[str]:
    return name.removesuffix(_ALL).split("/")
