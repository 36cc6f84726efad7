"""The stored form of the engine's dataclasses: a whole task in the archive, the state in a snapshot.

One generic codec, by the fields' names and types: a new field needs no line here, and a body written before the field
existed gets its default. Enums are stored by value, bytes as they are. A body lists the fields of its classes once, not
with every object, and most names as numbers. Apart from `_NAMES` it knows nothing of tasks; a change that names alone
cannot bridge goes into `_UPGRADES`.

A body that is kept on a disk has a checksum behind it: the types of its values are not checked, so without it only
the code that uses them would run into damage.
"""

from __future__ import annotations

import hashlib
import types
import typing
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar, cast

from ..protocol.codec import aside, pack, unpack

__all__ = [
    "FORMAT",
    "LARGE_BYTES",
    "checked",
    "fingerprint",
    "from_bytes",
    "to_archive",
    "to_bytes",
    "to_parts",
    "whole",
    "with_checksum",
]

FORMAT = 2
"""Format of the bodies written; older ones are read by way of `_UPGRADES`."""

LARGE_BYTES = 64 * 1024
"""From this size on a byte string is kept beside a body, once, and is not written again with everything that has it."""

_MARK = b"a2a\x00sum="
_SUM = 16
"""Bytes of a checksum, which follows the mark."""

T = TypeVar("T")
_IN_ORDER = """
    Task id lsn at scope key delegator principal context_id spec spec_hash payload durations bounds parent
    on_parent_end depth deadline_at budget on_delegator_loss loss_ms redrive_of state since generation attempt
    attempts rev authority offer retry_at was_leased losses failures declines revivals handoffs shunned last_agent
    last_error results outcomes evidence refusals feedback asks artifacts chunks checkpoints steers handed_to spent
    reserved children group conflicts cancel settled history Durations heartbeat_ms lease_ms offer_ms queue_ms
    confirm_ms ask_ms cancel_ms stall_ms attempt_ms Bounds reworks Attempt agent end lost ended_at detail usage
    progress_no note heard Authority fence holder is_open lapsed evicted grace_at Offer Result result_hash reviewed
    unseen_steer basis stale_basis overruled patches Evidence verdict outcome Refusal kind code times Ask ask_no
    default auth answer by rank told offered withdrawn Artifact artifact name last_no complete is_named Checkpoint
    cp_no format portable Steer Group terms electorate classes numbers decided compared Terms comparator ladder
    ballot_ms judge_ms human_ms appeal_ms cost_micro CancelRequested task mode reason Settled Event event data
    chunk_bytes
"""
_NAMES = tuple(_IN_ORDER.split())
"""Names of classes and fields, each with its number for ever: never remove one, and add new ones at the end. Written
out, they were two fifths of the 2.5 kB of a small task, so that a page of the database held one task and not two. A
name that is not listed is written out."""
_NUMBERS = {name: number for number, name in enumerate(_NAMES)}

Shapes = dict[str, list[str]]
"""Class to the names of its fields, in the order of their values."""
Reader = Callable[[Any], Any]

_UPGRADES: dict[int, Callable[[Shapes, Any], tuple[Shapes, Any]]] = {1: lambda shapes, value: (shapes, value)}
"""Format to a function that turns the shapes and the value of a body into those of the next format. Format 1 writes all
names out."""


# Writing --------------------------------------------------------------------------------------------------------------


class _Writer:
    """Turns what msgpack does not know into lists, and notes the shapes of the classes it meets."""

    __slots__ = ("met",)

    def __init__(self) -> None:
        self.met: dict[type, None] = {}

    def __call__(self, value: Any) -> Any:
        kind = type(value)
        getter = _GETTERS.get(kind)
        if getter is None:
            if kind is deque:
                return list(value)
            getter = _getter(kind)
        self.met[kind] = None
        return getter(value)


_GETTERS: dict[type, Callable[[Any], Any]] = {}
_SHAPES: dict[tuple[type, ...], bytes] = {}


def _getter(kind: type) -> Callable[[Any], Any]:
    if not is_dataclass(kind):
        raise TypeError(f"{kind.__name__} has no stored form")
    names = [item.name for item in fields(kind)]
    values = attrgetter(*names)
    _GETTERS[kind] = values if len(names) > 1 else lambda value: (values(value),)
    return _GETTERS[kind]


class _Parter(_Writer):
    """A writer that leaves large byte strings out, and collects them in the order in which it meets them."""

    __slots__ = ("_may_leave_out", "_places", "beside")

    def __init__(self, may_leave_out: Callable[[bytes], bool]) -> None:
        super().__init__()
        self._may_leave_out = may_leave_out
        self.beside: list[bytes] = []
        self._places: dict[int, int] = {}
        """Id of an object to its place beside the body. A result is also the payload of its event: the same object, so
        the bytes need not be compared."""

    def __call__(self, value: Any) -> Any:
        return [self._without(item) for item in super().__call__(value)]

    def _without(self, item: Any) -> Any:
        if type(item) is bytes:
            return self._place(item) if len(item) >= LARGE_BYTES else item
        if type(item) is list and item and type(item[0]) is bytes:
            return [self._without(each) for each in item]
        return item

    def _place(self, item: bytes) -> object:
        place = self._places.get(id(item))
        if place is None:
            if not self._may_leave_out(item):
                return item
            place = self._places[id(item)] = len(self.beside)
            self.beside.append(item)
        return aside(place)


def to_bytes(value: object) -> bytes:
    """Return the stored form of a dataclass instance."""
    return _written(value, _Writer())


def to_archive(value: object, size: int) -> tuple[bytes, tuple[bytes, ...]]:
    """Return the stored form for the archive, with its checksum, and the large byte strings left out of it.

    Args:
        value: an instance of a dataclass.
        size: bytes of its payloads; if they are few, no large byte string is looked for.
    """
    body, beside = to_parts(value) if size >= LARGE_BYTES else (to_bytes(value), ())
    return with_checksum(body), beside


def to_parts(value: object, may_leave_out: Callable[[bytes], bool] = lambda _: True) -> tuple[bytes, tuple[bytes, ...]]:
    """Return the stored form without its large byte strings, and these, as `from_bytes` takes them.

    Args:
        value: an instance of a dataclass.
        may_leave_out: asked about each; if it says no, the byte string stays in the stored form.
    """
    parter = _Parter(may_leave_out)
    return _written(value, parter), tuple(parter.beside)


def whole(kind: type, data: bytes, beside: Sequence[bytes]) -> bytes:
    """Return the stored form of an instance of `kind` with everything kept beside it put back, and its checksum."""
    return with_checksum(to_bytes(from_bytes(kind, data, beside))) if beside else data


def _written(value: object, writer: _Writer) -> bytes:
    body = pack(value, writer)
    met = tuple(writer.met)
    shapes = _SHAPES.get(met)
    if shapes is None:
        named: Shapes = {kind.__name__: [item.name for item in fields(kind)] for kind in met}
        shapes = _SHAPES[met] = _pack_shapes(named)
    return pack([FORMAT, shapes, body])


def _pack_shapes(shapes: Shapes) -> bytes:
    return pack({_NUMBERS.get(kind, kind): [_NUMBERS.get(name, name) for name in shapes[kind]] for kind in shapes})


def _unpack_shapes(packed: bytes) -> Shapes:
    shapes: dict[str | int, list[str | int]] = unpack(packed)
    return {_name(kind): [_name(name) for name in names] for kind, names in shapes.items()}


def _name(number: str | int) -> str:
    if isinstance(number, str):
        return number
    if number >= len(_NAMES):
        raise ValueError(f"it has name {number}, this software knows {len(_NAMES)}")
    return _NAMES[number]


def with_checksum(body: bytes) -> bytes:
    """Return a stored form followed by its checksum, which `from_bytes` checks."""
    return body + _MARK + _checksum(body)


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_SUM).digest()


def checked(data: bytes) -> bytes:
    """Return a stored form without its checksum; a form written by an older version has none.

    Raises:
        ValueError: the form was changed since it was written.
    """
    body, mark = data[: -_SUM - len(_MARK)], data[-_SUM - len(_MARK) : -_SUM]
    if mark != _MARK:
        return data
    if _checksum(body) != data[-_SUM:]:
        raise ValueError("it is not what was written")
    return body


@cache
def fingerprint(kind: type) -> str:
    """Return a hash that changes when the stored form of a dataclass, or of one inside it, does."""
    found: dict[str, str] = {}
    _collect(kind, found)
    return hashlib.sha256(repr((FORMAT, _NAMES, sorted(found.items()))).encode()).hexdigest()[:16]


def _collect(hint: Any, found: dict[str, str]) -> None:
    for argument in typing.get_args(hint):
        _collect(argument, found)
    if isinstance(hint, type) and is_dataclass(hint) and hint.__name__ not in found:
        found[hint.__name__] = repr([(item.name, str(item.type)) for item in fields(hint)])
        hints = _hints(hint)
        for item in fields(hint):
            _collect(hints[item.name], found)


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Return the types of a class's fields: resolving them takes five times as long as the rest of making a reader."""
    return typing.get_type_hints(kind)


# Reading --------------------------------------------------------------------------------------------------------------

_READERS: dict[tuple[type, bytes], Reader] = {}
_READERS_MAX = 1024
"""Shapes differ by the classes in a body: a few dozen combinations, and those of older versions."""


def from_bytes(kind: type[T], data: bytes, beside: Sequence[bytes] = ()) -> T:
    """Read the stored form of an instance of `kind`, of this version or an older one.

    Args:
        kind: the class of the instance.
        data: the stored form.
        beside: what `to_parts` left out of it.

    Raises:
        ValueError: the bytes are no such form, or a newer version wrote them.
    """
    try:
        version, packed, body = unpack(checked(data))
        if version > FORMAT:
            raise ValueError(f"it has format {version}, this software reads up to {FORMAT}")
        value = unpack(body, beside)
        if version < FORMAT:
            shapes = _unpack_shapes(packed)
            while version < FORMAT:
                shapes, value = _UPGRADES[version](shapes, value)
                version += 1
            packed = _pack_shapes(shapes)
        reader = _READERS.get((kind, packed))
        if reader is None:
            reader = _reader(kind, _unpack_shapes(packed))
            if len(_READERS) < _READERS_MAX:
                _READERS[kind, packed] = reader
        return cast(T, reader(value))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"not the stored form of a {kind.__name__}: {error}") from error


def _reader(hint: Any, shapes: Shapes) -> Reader:
    """Return a function that turns a plain value into one of this type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _optional(hint, [argument for argument in arguments if argument is not types.NoneType], shapes)
    if origin in (list, deque):
        item = _reader(arguments[0], shapes)
        return _as_is if item is _as_is and origin is list else lambda value: origin(map(item, value))
    if origin is dict:
        read_key, read = _reader(arguments[0], shapes), _reader(arguments[1], shapes)
        if read_key is _as_is and read is _as_is:
            return _as_is
        return lambda value: {read_key(key): read(item) for key, item in value.items()}
    if origin is tuple:
        return _tuple(arguments, shapes)
    if isinstance(hint, type):
        if is_dataclass(hint):
            return _dataclass(hint, shapes)
        if issubclass(hint, Enum):
            return hint
        if hint is bytearray:
            return bytearray
    return _as_is


def _as_is(value: Any) -> Any:
    return value


def _optional(hint: Any, others: list[Any], shapes: Shapes) -> Reader:
    if len(others) != 1:
        # Which type it was is not stored; a union of plain types needs no reader.
        assert all(_reader(other, shapes) is _as_is for other in others), f"{hint} has no stored form"
        return _as_is
    read = _reader(others[0], shapes)
    return _as_is if read is _as_is else lambda value: None if value is None else read(value)


def _tuple(arguments: tuple[Any, ...], shapes: Shapes) -> Reader:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        read = _reader(arguments[0], shapes)
        return lambda value: tuple(map(read, value))
    readers = [_reader(argument, shapes) for argument in arguments]
    if all(read is _as_is for read in readers):
        return tuple
    return lambda value: tuple(read(item) for read, item in zip(readers, value, strict=True))


def _dataclass(kind: type, shapes: Shapes) -> Reader:
    names = shapes.get(kind.__name__)
    if names is None:
        return lambda value: _missing(kind)
    hints = _hints(kind)
    known = {item.name for item in fields(kind)}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{kind.__name__} has no field {unknown[0]}")
    needed = [item.name for item in fields(kind) if item.default is MISSING and item.default_factory is MISSING]
    if absent := [name for name in needed if name not in names]:
        raise ValueError(f"it says no {absent[0]} of a {kind.__name__}")
    readers = [(number, read) for number, name in enumerate(names) if (read := _reader(hints[name], shapes)) != _as_is]
    in_order = names == [item.name for item in fields(kind)]

    def read_object(value: list[Any]) -> Any:
        for number, read in readers:
            value[number] = read(value[number])
        return kind(*value) if in_order else kind(**dict(zip(names, value, strict=True)))

    return read_object


def _missing(kind: type) -> Any:
    raise ValueError(f"the fields of {kind.__name__} are not given")
