"""JSON Patch: the cases of RFC 6902, what it refuses, and what bounds it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2a.engine.jsonpatch import PatchFailed, PatchLimits, apply_patch
from a2a.protocol.canonical import canonical

LIMITS = PatchLimits()

RFC: dict[str, tuple[Any, list[Any], Any]] = {
    "A.1 adding an object member": (
        {"foo": "bar"},
        [{"op": "add", "path": "/baz", "value": "qux"}],
        {"baz": "qux", "foo": "bar"},
    ),
    "A.2 adding an array element": (
        {"foo": ["bar", "baz"]},
        [{"op": "add", "path": "/foo/1", "value": "qux"}],
        {"foo": ["bar", "qux", "baz"]},
    ),
    "A.3 removing an object member": (
        {"baz": "qux", "foo": "bar"},
        [{"op": "remove", "path": "/baz"}],
        {"foo": "bar"},
    ),
    "A.4 removing an array element": (
        {"foo": ["bar", "qux", "baz"]},
        [{"op": "remove", "path": "/foo/1"}],
        {"foo": ["bar", "baz"]},
    ),
    "A.5 replacing a value": (
        {"baz": "qux", "foo": "bar"},
        [{"op": "replace", "path": "/baz", "value": "boo"}],
        {"baz": "boo", "foo": "bar"},
    ),
    "A.6 moving a value": (
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    "A.7 moving an array element": (
        {"foo": ["all", "grass", "cows", "eat"]},
        [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
        {"foo": ["all", "cows", "eat", "grass"]},
    ),
    "A.8 testing a value: success": (
        {"baz": "qux", "foo": ["a", 2, "c"]},
        [{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}],
        {"baz": "qux", "foo": ["a", 2, "c"]},
    ),
    "A.10 adding a nested member object": (
        {"foo": "bar"},
        [{"op": "add", "path": "/child", "value": {"grandchild": {}}}],
        {"foo": "bar", "child": {"grandchild": {}}},
    ),
    "A.11 ignoring unrecognized elements": (
        {"foo": "bar"},
        [{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}],
        {"foo": "bar", "baz": "qux"},
    ),
    "A.14 ~ escape ordering": (
        {"/": 9, "~1": 10},
        [{"op": "test", "path": "/~01", "value": 10}],
        {"/": 9, "~1": 10},
    ),
    "A.16 adding an array value": (
        {"foo": ["bar"]},
        [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}],
        {"foo": ["bar", ["abc", "def"]]},
    ),
    "add replaces a member that is there": ({"a": 1}, [{"op": "add", "path": "/a", "value": 2}], {"a": 2}),
    "add at the end of an array": ([1], [{"op": "add", "path": "/1", "value": 2}], [1, 2]),
    "add of the whole document": ({"a": 1}, [{"op": "add", "path": "", "value": [3]}], [3]),
    "replace of the whole document": (1, [{"op": "replace", "path": "", "value": None}], None),
    "the empty name is a name": ({"": 1}, [{"op": "replace", "path": "/", "value": 2}], {"": 2}),
    "an escaped slash": ({"a/b": 1}, [{"op": "remove", "path": "/a~1b"}], {}),
    "a number is a name in an object": ({"0": 1}, [{"op": "remove", "path": "/0"}], {}),
    "a copy is a value of its own": (
        {"a": [1]},
        [{"op": "copy", "from": "/a", "path": "/b"}, {"op": "add", "path": "/b/-", "value": 2}],
        {"a": [1], "b": [1, 2]},
    ),
    "a copy of the whole": ({"a": 1}, [{"op": "copy", "from": "", "path": "/b"}], {"a": 1, "b": {"a": 1}}),
    "a move out of what it replaces": ({"a": {"b": 1}}, [{"op": "move", "from": "/a/b", "path": "/a"}], {"a": 1}),
    "a move to where it is": ({"a": 1}, [{"op": "move", "from": "/a", "path": "/a"}], {"a": 1}),
    "numbers are equal by value": ({"a": 1.0}, [{"op": "test", "path": "/a", "value": 1}], {"a": 1}),
    "null is a value": ({"a": None}, [{"op": "test", "path": "/a", "value": None}], {"a": None}),
    "a patch of nothing": ({"b": 1, "a": 2}, [], {"a": 2, "b": 1}),
}

REFUSED: dict[str, tuple[Any, Any, str, int | None]] = {
    "A.9 testing a value: error": ({"baz": "qux"}, [{"op": "test", "path": "/baz", "value": "bar"}], "conflict", 0),
    "A.12 adding to a nonexistent target": (
        {"foo": "bar"},
        [{"op": "add", "path": "/baz/bat", "value": "qux"}],
        "conflict",
        0,
    ),
    "A.15 comparing strings and numbers": (
        {"/": 9, "~1": 10},
        [{"op": "test", "path": "/~01", "value": "10"}],
        "conflict",
        0,
    ),
    "the second operation fails": ({"a": 1}, [{"op": "remove", "path": "/a"}] * 2, "conflict", 1),
    "a boolean is no number": ({"a": 1}, [{"op": "test", "path": "/a", "value": True}], "conflict", 0),
    "false is not zero, deeper": ({"a": [0]}, [{"op": "test", "path": "/a", "value": [False]}], "conflict", 0),
    "another length": ({"a": [0]}, [{"op": "test", "path": "/a", "value": [0, 0]}], "conflict", 0),
    "another name": ({"a": {"b": 1}}, [{"op": "test", "path": "/a", "value": {"c": 1}}], "conflict", 0),
    "beyond the end": ([1], [{"op": "add", "path": "/2", "value": 2}], "conflict", 0),
    "a leading zero": ([1, 2], [{"op": "remove", "path": "/01"}], "conflict", 0),
    "a digit of another script": ([1, 2], [{"op": "remove", "path": "/\u0661"}], "conflict", 0),
    "the end is nothing to remove": ([1], [{"op": "remove", "path": "/-"}], "conflict", 0),
    "a number of many digits": ([1], [{"op": "remove", "path": "/" + "9" * 5000}], "conflict", 0),
    "into a text": ({"a": "text"}, [{"op": "add", "path": "/a/0", "value": 1}], "conflict", 0),
    "replace of what is not there": ({}, [{"op": "replace", "path": "/a", "value": 1}], "conflict", 0),
    "copy of what is not there": ({}, [{"op": "copy", "from": "/a", "path": "/b"}], "conflict", 0),
    "move of what is not there to itself": ({}, [{"op": "move", "from": "/a", "path": "/a"}], "conflict", 0),
    "move into itself": ({"a": {}}, [{"op": "move", "from": "/a", "path": "/a/b"}], "conflict", 0),
    "an array element moved into what follows it": (
        [{}, {}],
        [{"op": "move", "from": "/0", "path": "/0/a"}],
        "conflict",
        0,
    ),
    "the whole value removed": ({"a": 1}, [{"op": "remove", "path": ""}], "conflict", 0),
    "no array": ({}, {"op": "remove", "path": "/a"}, "schema", None),
    "no object": ({}, ["remove"], "schema", 0),
    "an unknown op": ({}, [{"op": "spam", "path": "/a"}], "schema", 0),
    "no op": ({}, [{"path": "/a"}], "schema", 0),
    "no path": ({}, [{"op": "remove"}], "schema", 0),
    "no value": ({}, [{"op": "add", "path": "/a"}], "schema", 0),
    "no from": ({}, [{"op": "move", "path": "/a"}], "schema", 0),
    "a path that is no pointer": ({}, [{"op": "add", "path": "a", "value": 1}], "schema", 0),
    "a bad escape": ({}, [{"op": "add", "path": "/~2", "value": 1}], "schema", 0),
    "a lone tilde": ({}, [{"op": "add", "path": "/~", "value": 1}], "schema", 0),
}


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def failure(document: bytes, patch: bytes, limits: PatchLimits = LIMITS) -> tuple[str, int | None]:
    with pytest.raises(PatchFailed) as caught:
        apply_patch(document, patch, limits)
    return caught.value.kind, caught.value.operation


@pytest.mark.parametrize("case", RFC)
def test_what_a_patch_does(case: str) -> None:
    document, patch, expected = RFC[case]
    assert apply_patch(encoded(document), encoded(patch), LIMITS) == canonical(expected)


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_patch_may_not(case: str) -> None:
    document, patch, kind, operation = REFUSED[case]
    assert failure(encoded(document), encoded(patch)) == (kind, operation)


@pytest.mark.parametrize(
    "text",
    [b"", b"[", b"\xff", b'{"a":1,"a":2}', b"NaN", b"\xef\xbb\xbf1", '"a"'.encode("utf-16"), b"9" * 5000],
    ids=["empty", "cut", "no utf-8", "A.13 a name twice", "nan", "a mark", "another encoding", "a very long number"],
)
def test_what_is_no_json_is_refused_as_value_and_as_patch(text: bytes) -> None:
    assert failure(text, b"[]") == ("schema", None)
    assert failure(b"{}", text) == ("schema", None)


def test_a_constant_that_json_does_not_have_is_no_value_to_compare_with() -> None:
    assert failure(b"1", b'[{"op":"test","path":"","value":NaN}]') == ("schema", None)


@pytest.mark.parametrize("value", [b'{"a":1e999}', b'{"a":9007199254740992}', b'{"a":"\\ud800"}', b'{"\\ud800":1}'])
def test_a_value_without_a_canonical_form_is_refused(value: bytes) -> None:
    assert failure(value, b"[]") == ("schema", None)
    assert apply_patch(value, b'[{"op":"replace","path":"","value":1}]', LIMITS) == b"1", "a patch may mend it"


def test_a_patch_has_only_so_many_operations() -> None:
    patch = [{"op": "add", "path": "/a", "value": 1}] * 3
    assert apply_patch(b"{}", encoded(patch), PatchLimits(operations_max=3)) == b'{"a":1}'
    assert failure(b"{}", encoded(patch), PatchLimits(operations_max=2)) == ("too_large", None)


def test_the_patched_value_is_only_so_large() -> None:
    patch = encoded([{"op": "add", "path": "/a", "value": "x" * 10}])
    assert apply_patch(b"{}", patch, PatchLimits(document_max_bytes=18)) == b'{"a":"xxxxxxxxxx"}'
    assert failure(b"{}", patch, PatchLimits(document_max_bytes=17)) == ("too_large", None)
    assert failure(b"{}", patch, PatchLimits(document_max_bytes=9)) == ("too_large", None)


def test_escapes_count_in_the_size_too() -> None:
    patch = encoded([{"op": "add", "path": "/a", "value": "\x01" * 10}])
    assert failure(b"{}", patch, PatchLimits(document_max_bytes=30)) == ("too_large", None)


def test_copies_that_double_end_early() -> None:
    patch = [{"op": "copy", "from": "", "path": f"/{number}"} for number in range(200)]
    kind, operation = failure(encoded({"text": "x" * 100}), encoded(patch))
    assert kind == "too_large"
    assert operation is not None
    assert operation < 12, "each copy doubles what is there: 100 bytes are 64 KiB after ten"


def test_a_copy_whose_original_goes_counts_too() -> None:
    step = [{"op": "copy", "from": "/a", "path": "/b"}, {"op": "remove", "path": "/b"}]
    assert failure(encoded({"a": "x" * 1000}), encoded(step * 100))[0] == "too_large"


def test_nesting_is_bounded_in_the_value_in_the_patch_and_in_what_comes_of_them() -> None:
    limits = PatchLimits(depth_max=4)
    assert apply_patch(b"[[[[1]]]]", b"[]", limits) == b"[[[[1]]]]"
    assert failure(b"[[[[[1]]]]]", b"[]", limits) == ("too_large", None)
    assert failure(b"[]", encoded([{"op": "add", "path": "/-", "value": [[[1]]]}]), limits) == ("too_large", None)
    deeper = [{"op": "add", "path": "/a", "value": [1]}, {"op": "move", "from": "/b", "path": "/a/0"}]
    assert failure(encoded({"b": [[[1]]]}), encoded(deeper), limits) == ("too_large", None)


@pytest.mark.parametrize("text", [b"[" * 60_000, b'{"a":' * 12_000, b"[" * 30_000 + b"]" * 30_000])
def test_brackets_beyond_all_measure_are_refused(text: bytes) -> None:
    assert failure(text, b"[]")[0] in ("too_large", "schema")
    assert failure(b"{}", text)[0] in ("too_large", "schema")


def test_the_words_of_a_failure_say_which_operation_and_why() -> None:
    with pytest.raises(PatchFailed, match="operation 1: there is nothing at '/a/b'"):
        apply_patch(
            b'{"a":{}}', encoded([{"op": "test", "path": "/a", "value": {}}, {"op": "remove", "path": "/a/b"}]), LIMITS
        )


# Any patch ------------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "0", "", "a/b", "~"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(-2, 2).filter(lambda x: x == x)
    | st.text("ab~/", max_size=2)
)
VALUES = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(NAMES, below, max_size=3), max_leaves=8
)


def places(value: Any) -> list[str]:
    """Return the pointers of everything in a value."""
    found = [""]
    below: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        below = [(name.replace("~", "~0").replace("/", "~1"), item) for name, item in value.items()]
    elif isinstance(value, list):
        below = [(str(index), item) for index, item in enumerate(value)]
    for name, item in below:
        found += [f"/{name}{place}" for place in places(item)]
    return found


def at(value: Any, pointer: str) -> Any:
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        value = value[int(name)] if isinstance(value, list) else value[name]
    return value


@settings(max_examples=200, deadline=None, database=None)
@given(VALUES, st.data())
def test_one_operation_does_what_it_says_anywhere(value: Any, data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(places(value)))
    new = data.draw(VALUES)
    before = encoded(value)

    def patched(*operations: dict[str, Any]) -> Any:
        return json.loads(apply_patch(before, encoded(list(operations)), LIMITS))

    def same(one: Any, other: Any) -> bool:
        return canonical(one) == canonical(other)

    assert same(at(patched({"op": "replace", "path": place, "value": new}), place), new)
    assert same(patched({"op": "test", "path": place, "value": at(value, place)}), value)
    assert same(
        patched({"op": "replace", "path": "", "value": {}}, {"op": "add", "path": "/x", "value": new}), {"x": new}
    )
    whole = patched(
        {"op": "add", "path": "", "value": {"w": value}}, {"op": "copy", "from": f"/w{place}", "path": "/c"}
    )
    assert same(whole, {"w": value, "c": at(value, place)})
    if place:
        removed = patched({"op": "remove", "path": place})
        expected = copy.deepcopy(value)
        parent, _, last = place.rpartition("/")
        container = at(expected, parent)
        container.pop(int(last) if isinstance(container, list) else last.replace("~1", "/").replace("~0", "~"))
        assert same(removed, expected)
        moved = patched(
            {"op": "add", "path": "", "value": {"w": value}}, {"op": "move", "from": f"/w{place}", "path": "/m"}
        )
        assert same(moved, {"w": expected, "m": at(value, place)})


POINTERS = st.lists(NAMES | st.sampled_from(["1", "-", "01"]), max_size=3).map(
    lambda tokens: "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in tokens)
)
OPERATIONS = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]), "path": POINTERS},
    optional={"value": VALUES, "from": POINTERS},
)


@settings(max_examples=300, deadline=None, database=None)
@given(VALUES, st.lists(OPERATIONS, max_size=5))
def test_any_patch_gives_a_canonical_value_or_is_refused_in_words(value: Any, patch: list[Any]) -> None:
    try:
        result = apply_patch(encoded(value), encoded(patch), LIMITS)
    except PatchFailed as failed:
        assert failed.kind in ("schema", "conflict", "too_large")
        return
    assert result == canonical(json.loads(result))
    assert apply_patch(result, b"[]", LIMITS) == result
    again = value
    for operation in patch:  # one by one is the same as all at once
        again = json.loads(apply_patch(encoded(again), encoded([operation]), LIMITS))
    assert canonical(again) == result


@settings(max_examples=200, deadline=None, database=None)
@given(st.binary(max_size=40), st.binary(max_size=40))
def test_bytes_of_any_kind_break_nothing(document: bytes, patch: bytes) -> None:
    try:
        apply_patch(document, patch, LIMITS)
    except PatchFailed as failed:
        assert str(failed)
