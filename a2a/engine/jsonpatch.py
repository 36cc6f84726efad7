"""JSON Patch (RFC 6902) over JSON Pointer (RFC 6901), inside limits of count, size and depth.

Pure: two documents as bytes in, the patched one in canonical form out. The sizes of the two bound the whole cost, so
that a patch may be applied while others wait. It knows no key and no context; `context` uses it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ..protocol.canonical import canonical

__all__ = ["PatchFailed", "PatchLimits", "apply_patch"]

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_ESCAPES = re.compile(r"~(?![01])")


@dataclass(frozen=True, slots=True)
class PatchLimits:
    """Limits of a patch and of its outcome."""

    operations_max: int = 256
    document_max_bytes: int = 64 * 1024
    """Most bytes of the patched document, and of everything that the `copy` operations of one patch copy."""
    depth_max: int = 64


class PatchFailed(ValueError):
    """A patch that changes nothing, with the reason.

    Attributes:
        kind: `schema`: it is no patch, or the document is no JSON; `conflict`: the document is not as the operation
            expects; `too_large`: a limit.
        operation: the number of the operation that failed, from 0; None if it was no single one.
    """

    def __init__(
        self, kind: Literal["schema", "conflict", "too_large"], detail: str, operation: int | None = None
    ) -> None:
        super().__init__(detail if operation is None else f"operation {operation}: {detail}")
        self.kind = kind
        self.operation = operation


def apply_patch(document: bytes, patch: bytes, limits: PatchLimits) -> bytes:
    """Return the document with all operations of the patch applied, in canonical form (RFC 8785).

    Raises:
        PatchFailed: an operation does not apply, or a limit is exceeded; then none of them takes effect.
    """
    operations = _read(patch, "the patch", limits)
    if not isinstance(operations, list):
        raise PatchFailed("schema", "a patch is a JSON array of operations")
    if len(operations) > limits.operations_max:
        raise PatchFailed("too_large", f"a patch has at most {limits.operations_max} operations, not {len(operations)}")
    patched = _Patched(_read(document, "the value", limits), limits)
    for number, operation in enumerate(operations):
        try:
            patched.apply(operation)
        except PatchFailed as failed:
            raise PatchFailed(failed.kind, str(failed), number) from None
    _check_depth(patched.root, "the patched value", limits)
    try:
        encoded = canonical(patched.root)
    except ValueError as error:
        raise PatchFailed("schema", f"the patched value has no canonical form: {error}") from None
    if len(encoded) > limits.document_max_bytes:
        detail = f"the patched value has at most {limits.document_max_bytes} bytes, not {len(encoded)}"
        raise PatchFailed("too_large", detail)
    return encoded


# Reading --------------------------------------------------------------------------------------------------------------


def _read(text: bytes, what: str, limits: PatchLimits) -> Any:
    try:
        value = json.loads(text.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError:
        raise PatchFailed("too_large", f"{what} nests deeper than {limits.depth_max}") from None
    except ValueError as error:
        raise PatchFailed("schema", f"{what} is no JSON: {error}") from None
    _check_depth(value, what, limits)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return named


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _check_depth(value: Any, what: str, limits: PatchLimits) -> None:
    """Refuse a value nested too deep, before anything walks it by recursion."""
    level: list[Any] = [value]
    for _ in range(limits.depth_max + 1):
        # Only containers are followed: nearly all values are numbers and texts.
        containers = [item for item in level if isinstance(item, dict | list)]
        level = [below for item in containers for below in (item.values() if isinstance(item, dict) else item)]
        if not level:
            return
    raise PatchFailed("too_large", f"{what} nests deeper than {limits.depth_max}")


# Operations -----------------------------------------------------------------------------------------------------------


class _Place(NamedTuple):
    """Where a pointer leads: a name in a container, or the document itself."""

    container: Any
    """None: the whole document."""
    name: Any


class _Patched:
    """A document while a patch is applied. It is changed in place, as it was parsed for this patch alone."""

    def __init__(self, root: Any, limits: PatchLimits) -> None:
        self.root = root
        self._limits = limits
        self._copied = 0

    def apply(self, operation: Any) -> None:
        """Apply one operation."""
        if not isinstance(operation, dict):
            raise PatchFailed("schema", "an operation is a JSON object")
        path = _pointer(operation, "path")
        match operation.get("op"):
            case "add":
                self._add(path, _member(operation, "value"))
            case "remove":
                self._remove(path)
            case "replace":
                self._replace(path, _member(operation, "value"))
            case "move":
                origin = _pointer(operation, "from")
                if len(origin) < len(path) and path[: len(origin)] == origin:
                    raise PatchFailed("conflict", f"{_written(origin)} cannot move into itself")
                if origin == path:
                    self._at(origin)
                else:
                    self._add(path, self._remove(origin))
            case "copy":
                self._add(path, self._copy(self._at(_pointer(operation, "from"))))
            case "test":
                if not _equal(self._at(path), _member(operation, "value")):
                    raise PatchFailed("conflict", f"{_written(path)} is another value than the patch expects")
            case name:
                raise PatchFailed("schema", f"op is add, remove, replace, move, copy or test, not {name!r:.40}")

    def _at(self, path: list[str]) -> Any:
        value = self.root
        for depth, token in enumerate(path):
            value = _child(value, token, path[: depth + 1])
        return value

    def _place(self, path: list[str]) -> _Place:
        """Return the place of an existing value."""
        if not path:
            return _Place(None, None)
        container = self._at(path[:-1])
        _child(container, path[-1], path)
        return _Place(container, int(path[-1]) if isinstance(container, list) else path[-1])

    def _add(self, path: list[str], value: Any) -> None:
        if not path:
            self.root = value
            return
        container, token = self._at(path[:-1]), path[-1]
        if isinstance(container, dict):
            container[token] = value
        elif isinstance(container, list):
            index = len(container) if token == "-" else _index(token, path)
            if index > len(container):
                raise PatchFailed("conflict", f"{_written(path)} is beyond the end of the array")
            container.insert(index, value)
        else:
            raise PatchFailed("conflict", f"{_written(path[:-1])} is neither an object nor an array")

    def _remove(self, path: list[str]) -> Any:
        place = self._place(path)
        if place.container is None:
            raise PatchFailed("conflict", "the whole value cannot be removed by a patch: delete the key")
        return place.container.pop(place.name)

    def _replace(self, path: list[str], value: Any) -> None:
        place = self._place(path)
        if place.container is None:
            self.root = value
        else:
            place.container[place.name] = value

    def _copy(self, value: Any) -> Any:
        """Copy a value, as long as the copies of this patch stay within the limit: they double quickly."""
        holder: list[Any] = [value]
        waiting: list[tuple[Any, Any]] = [(holder, 0)]
        while waiting:
            container, name = waiting.pop()
            item = container[name]
            self._copied += _weight(item)
            if self._copied > self._limits.document_max_bytes:
                detail = f"a patch copies at most {self._limits.document_max_bytes} bytes in all"
                raise PatchFailed("too_large", detail)
            if isinstance(item, dict):
                container[name] = fresh = dict(item)
                waiting.extend((fresh, key) for key in fresh)
            elif isinstance(item, list):
                container[name] = again = list(item)
                waiting.extend((again, index) for index in range(len(again)))
        return holder[0]


def _weight(item: Any) -> int:
    """Return the fewest bytes a value takes, without the values below it; an object's names count as its own."""
    if isinstance(item, str):
        return 2 + len(item)
    return 1 + sum(map(len, item)) if isinstance(item, dict) else 1


def _member(operation: dict[str, Any], name: str) -> Any:
    if name not in operation:
        raise PatchFailed("schema", f"{operation['op']} needs {name}")
    return operation[name]


def _pointer(operation: dict[str, Any], name: str) -> list[str]:
    """Return the tokens of a JSON Pointer (RFC 6901)."""
    text = operation.get(name)
    if not isinstance(text, str) or (text and text[0] != "/") or _ESCAPES.search(text):
        raise PatchFailed("schema", f"{name} is a JSON Pointer, not {text!r:.80}")
    return [token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:]]


def _written(path: list[str]) -> str:
    text = "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in path)
    return repr(text if len(text) <= 80 else text[:79] + "…")


def _child(container: Any, token: str, path: list[str]) -> Any:
    if isinstance(container, dict):
        if token in container:
            return container[token]
    elif isinstance(container, list):
        index = _index(token, path)
        if index < len(container):
            return container[index]
    raise PatchFailed("conflict", f"there is nothing at {_written(path)}")


def _index(token: str, path: list[str]) -> int:
    if _INDEX.fullmatch(token) is None:
        raise PatchFailed("conflict", f"{_written(path)} is no place in an array")
    return int(token)


def _equal(one: Any, other: Any) -> bool:
    """Tell whether two JSON values are the same: numbers by value, and a boolean is no number (RFC 6902 4.6)."""
    waiting = [(one, other)]
    while waiting:
        left, right = waiting.pop()
        if isinstance(left, bool) or isinstance(right, bool):
            if left is not right:
                return False
        elif isinstance(left, dict) and isinstance(right, dict):
            if left.keys() != right.keys():
                return False
            waiting.extend((item, right[name]) for name, item in left.items())
        elif isinstance(left, list) and isinstance(right, list):
            if len(left) != len(right):
                return False
            waiting.extend(zip(left, right, strict=True))
        elif left != right:
            return False
    return True
