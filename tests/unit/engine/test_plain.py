"""The stored form of the engine's dataclasses."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field, fields, make_dataclass
from enum import StrEnum
from typing import Any

import pytest

from a2a.engine import plain
from a2a.engine.task_state import Attempt
from a2a.protocol.codec import pack, unpack


class Colour(StrEnum):
    RED = "red"


@dataclass(slots=True)
class Leaf:
    name: str
    size: int = 0


@dataclass(slots=True)
class Tree:
    colour: Colour
    leaf: Leaf | None
    leaves: list[Leaf]
    named: dict[str, Leaf]
    numbered: dict[int, tuple[str, str]]
    triples: list[tuple[int, str, bytes]]
    queue: deque[Leaf]
    data: bytes
    bits: bytearray
    layers: list[bytearray]
    anything: dict[str, Any]
    many: tuple[int, ...] = ()
    deadline: int | None = None
    kinds: list[int | str] = field(default_factory=list)


def tree(**fields: Any) -> Tree:
    given: dict[str, Any] = {
        "colour": Colour.RED,
        "leaf": Leaf("one", 1),
        "leaves": [Leaf("two"), Leaf("three", 3)],
        "named": {"z": Leaf("z"), "a": Leaf("a")},
        "numbered": {7: ("x", "y")},
        "triples": [(1, "t", b"\x00")],
        "queue": deque([Leaf("first"), Leaf("second")]),
        "data": b"\xff\x00",
        "bits": bytearray(b"\x01"),
        "layers": [bytearray(b"\x02")],
        "anything": {"list": [1, {"deep": None}]},
        "many": (1, 2),
        "kinds": [1, "one"],
    }
    return Tree(**(given | fields))


@pytest.mark.parametrize("fields", [{}, {"leaf": None, "leaves": [], "queue": deque(), "deadline": 5}])
def test_what_was_written_is_read(fields):
    written = tree(**fields)
    read = plain.from_bytes(Tree, plain.to_bytes(written))
    assert read == written
    assert list(read.named) == list(written.named), "in the order in which they stood"
    assert type(read.colour) is Colour
    assert (type(read.bits), type(read.layers[0]), type(read.queue)) == (bytearray, bytearray, deque)


def test_the_same_state_has_the_same_bytes():
    assert plain.to_bytes(tree()) == plain.to_bytes(tree())


def stored_by(names: list[Any], values: list[Any], version: int = plain.FORMAT, name: str = "Leaf") -> bytes:
    return pack([version, pack({name: names}), pack(values)])


def test_a_field_that_was_not_there_yet_has_its_default():
    assert plain.from_bytes(Leaf, stored_by(["name"], ["old"])) == Leaf("old", 0)


def test_a_name_keeps_its_number_for_ever():
    """A ledger has bodies that say the number only."""
    first = " ".join(plain._NAMES[:148])
    assert (
        hashlib.sha256(first.encode()).hexdigest() == "4770efdf7312b9ccfe6c10122db808d579e0149f4a392fd0a2c86c8638d4008e"
    )
    assert len(set(plain._NAMES)) == len(plain._NAMES)


def test_names_that_have_a_number_are_not_written_out():
    body = plain.to_bytes(Attempt("w1", 5))
    assert b"progress_no" not in body
    assert len(body) < 60
    assert plain.from_bytes(Attempt, body) == Attempt("w1", 5)
    written_out = [item.name for item in fields(Attempt)]
    old = stored_by(written_out, [getattr(Attempt("w1", 5), name) for name in written_out], 1, "Attempt")
    assert plain.from_bytes(Attempt, old) == Attempt("w1", 5)


def test_fields_are_known_by_their_names_and_not_by_their_places():
    assert plain.from_bytes(Leaf, stored_by(["size", "name"], [4, "moved"])) == Leaf("moved", 4)


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (stored_by(["name", "weight"], ["x", 1]), "no field weight"),
        (stored_by(["size"], [1]), "it says no name of a Leaf$"),
        (stored_by(["name"], ["x"], plain.FORMAT + 1), "reads up to"),
        (stored_by(["name"], ["x"], name="Branch"), "not given"),
        (stored_by([len(plain._NAMES)], ["x"]), "it has name"),
        (b"", "not the stored form of a Leaf"),
        (b"\x93", "not the stored form of a Leaf"),
        (pack("text"), "not the stored form of a Leaf"),
    ],
)
def test_what_cannot_be_read_says_why(stored, reason):
    with pytest.raises(ValueError, match=reason):
        plain.from_bytes(Leaf, stored)


@dataclass(slots=True)
class Load:
    payload: bytes
    chunks: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Heavy:
    payload: bytes
    chunks: list[bytes] = field(default_factory=list)
    again: bytes = b""
    loads: list[Load] = field(default_factory=list)


def test_what_is_large_is_kept_beside_the_body_once_and_comes_back_in_its_places():
    large, other = b"a" * plain.LARGE_BYTES, b"b" * plain.LARGE_BYTES
    small = large[1:]
    heavy = Heavy(large, [other, b"", large], small, [Load(other), Load(b"light", [b"light"])])
    body, beside = plain.to_parts(heavy)
    # In the order in which they were met, the inner ones when their turn comes.
    assert beside == (large, other)
    assert len(body) < len(small) + 200
    assert plain.from_bytes(Heavy, body, beside) == heavy
    assert plain.from_bytes(Heavy, plain.with_checksum(body), beside) == heavy
    assert plain.whole(Heavy, body, beside) == plain.with_checksum(plain.to_bytes(heavy))


def test_a_body_without_large_things_is_as_it_always_was():
    body = plain.to_bytes(Heavy(b"light", [b"light"]))
    assert plain.to_parts(Heavy(b"light", [b"light"])) == (body, ())
    assert plain.whole(Heavy, body, ()) is body


@pytest.mark.parametrize("values", [["red"], ["red", None, [], 5, {}, [], [], b"", b"", [], {}, [], None, []]])
def test_values_that_are_too_few_or_of_another_type_are_refused(values):
    """A form without a checksum may have any after damage."""
    version, shapes, _ = unpack(plain.to_bytes(tree()))
    body = pack([version, shapes, pack(values)])
    with pytest.raises(ValueError, match="^not the stored form of a Tree: "):
        plain.from_bytes(Tree, body)


def test_a_body_is_not_read_without_what_is_beside_it():
    body, _ = plain.to_parts(Heavy(b"a" * plain.LARGE_BYTES))
    with pytest.raises(ValueError, match="a part is missing: number 0 of 0"):
        plain.from_bytes(Heavy, body)


def test_a_body_that_was_changed_on_the_disk_is_not_read_as_another():
    kept = plain.with_checksum(plain.to_bytes(Leaf("leaf", 1)))
    assert plain.from_bytes(Leaf, kept) == Leaf("leaf", 1)
    for place in range(len(kept)):
        for changed in (
            kept[:place] + bytes([kept[place] ^ 1]) + kept[place + 1 :],
            kept[:place] + b"x" + kept[place:],
        ):
            with pytest.raises(ValueError, match="not the stored form of a Leaf"):
                plain.from_bytes(Leaf, changed)
    without = plain.to_bytes(Leaf("leaf", 1))
    assert plain.from_bytes(Leaf, without) == Leaf("leaf", 1), "an older version wrote no checksum"


def test_a_body_of_an_older_format_is_brought_up_to_date(monkeypatch):
    def rename(shapes: plain.Shapes, value: Any) -> tuple[plain.Shapes, Any]:
        return {"Leaf": ["name" if name == "title" else name for name in shapes["Leaf"]]}, value

    monkeypatch.setitem(plain._UPGRADES, plain.FORMAT - 1, rename)
    assert plain.from_bytes(Leaf, stored_by(["title"], ["old"], plain.FORMAT - 1)) == Leaf("old")


def test_what_is_no_dataclass_has_no_stored_form():
    with pytest.raises(TypeError, match="no stored form"):
        plain.to_bytes(object())


def test_one_field_is_a_field_too():
    kind = make_dataclass("Single", [("name", str)])
    assert unpack(unpack(plain.to_bytes(kind("x")))[2]) == ["x"]
    assert plain.from_bytes(kind, plain.to_bytes(kind("x"))) == kind("x")
