"""The records and their stored form."""

import dataclasses
import typing
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2a.engine import ledger as ledger_module
from a2a.engine import records as records_module
from a2a.engine.plain import LARGE_BYTES
from a2a.engine.records import RECORDS, Answered, Record, Reported, Settled, Yielded, from_bytes, to_bytes
from a2a.protocol.codec import pack, unpack

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)

BY_HINT = {
    int: st.integers(0, 2**53 - 1),
    str: st.text(max_size=12),
    bool: st.booleans(),
    bytes: st.binary(max_size=20),
    int | None: st.none() | st.integers(0, 2**53 - 1),
    str | None: st.none() | st.text(max_size=12),
    list[str]: st.lists(st.text(max_size=5), max_size=3),
    list[dict[str, typing.Any]]: st.lists(st.dictionaries(st.text(max_size=5), json_values, max_size=2), max_size=2),
    list[str] | None: st.none() | st.lists(st.text(max_size=5), max_size=3),
    bytes | None: st.none() | st.binary(max_size=20),
    dict[str, typing.Any]: st.dictionaries(st.text(max_size=5), json_values, max_size=3),
    dict[str, typing.Any] | None: st.none() | st.dictionaries(st.text(max_size=5), json_values, max_size=3),
    list[dict[str, typing.Any]]: st.lists(st.dictionaries(st.text(max_size=5), json_values, max_size=3), max_size=3),
    list[dict[str, typing.Any]] | None: st.none()
    | st.lists(st.dictionaries(st.text(max_size=5), json_values, max_size=3), max_size=3),
    list[str]: st.lists(st.text(max_size=12), max_size=3),
    dict[str, str]: st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    dict[str, str] | None: st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    dict[str, int]: st.dictionaries(st.text(max_size=5), st.integers(0, 99), max_size=3),
    dict[str, int] | None: st.none() | st.dictionaries(st.text(max_size=5), st.integers(0, 99), max_size=3),
    dict[str, int | None]: st.dictionaries(st.text(max_size=5), st.none() | st.integers(0, 99), max_size=3),
}


def records_of(kind):
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{item.name: BY_HINT[hints[item.name]] for item in dataclasses.fields(kind)})


@pytest.mark.parametrize("kind", RECORDS.values(), ids=RECORDS)
def test_a_record_is_the_same_after_storage(kind):
    @settings(max_examples=8, deadline=None, database=None)
    @given(records_of(kind))
    def check(record):
        assert from_bytes(*to_bytes(record)) == record

    check()


def test_every_record_has_a_name_and_a_meaning():
    classes = [item for item in vars(records_module).values() if isinstance(item, type)]
    kinds = {kind for kind in classes if issubclass(kind, Record) and kind is not Record}
    assert set(RECORDS.values()) == kinds
    assert set(ledger_module._APPLY) == kinds
    assert all(name == kind.__name__ for name, kind in RECORDS.items())
    assert {kind.__name__ for kind in kinds} <= set(records_module.__all__)


def test_a_payload_is_stored_beside_the_record_as_it_came():
    body, payload = to_bytes(Answered(1, "main-1", 1, "boss", b"\xff not even text"))
    assert payload == b"\xff not even text"
    assert b"not even text" not in body
    assert to_bytes(Yielded(1, "main-1", 2, ""))[1] is None


def test_an_empty_payload_is_not_an_absent_one():
    assert from_bytes(*to_bytes(Answered(1, "main-1", 1, "boss", b""))).payload == b""


@pytest.mark.parametrize(
    "stored",
    [
        ["NoSuchRecord", 1, [1]],
        ["Yielded", 2, [1, "main-1", 2, ""]],
        ["Yielded", 1, [1, "main-1"]],
        ["Yielded", 1, 7],
        ["Yielded", "1", [1, "main-1", 2, ""]],
        ["Yielded"],
        [["Yielded"], 1, []],
        7,
        None,
    ],
)
def test_what_is_not_a_record_is_refused(stored):
    with pytest.raises(ValueError, match="not a record this version knows"):
        from_bytes(pack(stored), None)


@settings(max_examples=100, deadline=None, database=None)
@given(st.binary(max_size=40))
def test_bytes_that_are_not_a_record_are_refused_and_nothing_else_happens(data):
    with pytest.raises(ValueError, match="not a record this version knows"):
        from_bytes(data, None)


def test_a_field_that_came_later_has_its_default_in_older_records():
    body, _ = to_bytes(Settled(5, "main-1", "completed", "", "", "auto", "sha256:0"))
    name, version, values = unpack(body[5:])
    assert from_bytes(pack([name, version, values[:3]]), None) == Settled(5, "main-1", "completed")


def test_a_record_that_was_changed_on_the_disk_is_none():
    body, payload = to_bytes(Reported(5, "main-1", 3, "w", "completed", "sha256:0", payload=b"[1]"))
    assert from_bytes(body, payload).payload == b"[1]"
    for place in range(len(body)):
        changed = bytes([*body[:place], body[place] ^ 1, *body[place + 1 :]])
        with pytest.raises(ValueError, match="is not what was written"):
            from_bytes(changed, payload)
    for other in (b"[2]", None, b""):
        with pytest.raises(ValueError, match="is not what was written"):
            from_bytes(body, other)


def test_a_large_payload_is_in_the_checksum_with_its_length():
    large = b"x" * LARGE_BYTES
    body, payload = to_bytes(Reported(5, "main-1", 3, "w", "completed", "sha256:0", payload=large))
    assert from_bytes(body, payload).payload == large
    for place in range(len(body)):
        changed = bytes([*body[:place], body[place] ^ 1, *body[place + 1 :]])
        with pytest.raises(ValueError, match="is not what was written"):
            from_bytes(changed, payload)
    for other in (large + b"x", large[:-1], None, b""):
        with pytest.raises(ValueError, match="is not what was written"):
            from_bytes(body, other)


def test_a_large_payload_that_was_in_the_checksum_whole_is_read():
    body, large = to_bytes(Reported(5, "main-1", 3, "w", "completed", "sha256:0", payload=b"x" * LARGE_BYTES))
    form = body[5:]
    older = b"\x00" + crc32(form + large).to_bytes(4, "big") + form
    assert from_bytes(older, large) == from_bytes(body, large)


def test_an_older_version_is_brought_up_to_date_step_by_step(monkeypatch):
    monkeypatch.setattr(Yielded, "version", 3)
    upgrades = {
        ("Yielded", 1): lambda named: named | {"reason": named["reason"] + "!"},
        ("Yielded", 2): lambda named: named | {"reason": named["reason"] * 2},
    }
    monkeypatch.setattr(records_module, "_UPGRADES", upgrades)
    assert from_bytes(pack(["Yielded", 1, [1, "main-1", 2, "a"]]), None).reason == "a!a!"
    assert from_bytes(pack(["Yielded", 2, [1, "main-1", 2, "a"]]), None).reason == "aa"
    assert from_bytes(pack(["Yielded", 3, [1, "main-1", 2, "a"]]), None).reason == "a"
