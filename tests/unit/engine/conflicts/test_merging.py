"""Merging what two have made of the same base."""

import json

import pytest

from a2a.engine.conflicts.merging import MERGED_MAX, Merge, Unmergeable, merge, run
from a2a.engine.conflicts.patches import JSON_PATCH

TEXT = "x\n" * 300


def merged(base, one, other):
    found = merge(None if base is None else json.dumps(base).encode(), *(json.dumps(x).encode() for x in (one, other)))
    again = merge(None if base is None else json.dumps(base).encode(), *(json.dumps(x).encode() for x in (other, one)))
    assert found == again, "it does not matter who was first"
    return json.loads(found)


@pytest.mark.parametrize(
    ("base", "one", "other", "both"),
    [
        ({"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 2}),
        ({"a": 1}, {"a": 1, "b": 2}, {"a": 1, "c": 3}, {"a": 1, "b": 2, "c": 3}),
        ({"a": 1, "b": 1}, {"a": 1}, {"a": 2, "b": 1}, {"a": 2}),
        ({"a": {"x": 1, "y": 1}}, {"a": {"x": 2, "y": 1}}, {"a": {"x": 1, "y": 2}}, {"a": {"x": 2, "y": 2}}),
        ({"a": 1}, {"a": 2}, {"a": 2, "b": 1}, {"a": 2, "b": 1}),
        (None, {"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        (1, 1, 2, 2),
        ("a\nb\nc\nd\n", "A\nb\nc\nd\n", "a\nb\nc\nD\n", "A\nb\nc\nD\n"),
        ("a\nb\nc\n", "a\nc\n", "a\nb\nc\nd\n", "a\nc\nd\n"),
        ({"t": "a\nb\nc\n"}, {"t": "A\nb\nc\n"}, {"t": "a\nb\nC\n"}, {"t": "A\nb\nC\n"}),
    ],
)
def test_changes_of_other_places_are_both_taken(base, one, other, both):
    assert merged(base, one, other) == both


@pytest.mark.parametrize(
    ("base", "one", "other"),
    [
        ({"a": 1}, {"a": 2}, {"a": 3}),
        ({"a": 1}, {}, {"a": 3}),
        (None, {"a": 1}, {"a": 2}),
        (None, 1, 2),
        (1, {"a": 1}, {"b": 2}),
        ({"x": [1]}, {"x": {"a": 1}}, {"x": {"b": 2}}),
        ([1], [1, 2], [1, 3]),
        ("a\nb\n", "A\nb\n", "aa\nb\n"),
        ("a\nb\n", "A\nb\n", "a\nB\n"),
        ("x\n" * 600, "x\n" * 600 + "a\n", "b\n" + "x\n" * 600),
        tuple(dict.fromkeys("ab", text) for text in (TEXT, TEXT + "a\n", "b\n" + TEXT)),
    ],
)
def test_changes_of_the_same_place_are_not(base, one, other):
    with pytest.raises(Unmergeable):
        merged(base, one, other)


def test_what_cannot_be_read_is_not_merged():
    for wrong in (b"no JSON", b"[" * 5_000, b"NaN"):
        with pytest.raises(Unmergeable):
            merge(b"1", wrong, b"2")


def test_what_is_too_deep_is_not_merged():
    def nested(leaf):
        value = leaf
        for _ in range(70):
            value = {"a": value, "b": leaf}
        return value

    with pytest.raises(Unmergeable):
        merged(nested({"x": 0}), nested({"x": 1}), nested({"x": 0, "y": 1}))


@pytest.mark.parametrize(
    ("other", "why"),
    [("y\nb\nc\n", "both have changed line 1 of"), ("a\ny\nc\n", "the changes of both meet at line 2 of")],
    ids=["the same line", "the next line"],
)
def test_lines_of_a_text_that_touch_are_not_merged(other, why):
    with pytest.raises(Unmergeable, match=why):
        merged("a\nb\nc\n", "x\nb\nc\n", other)


def test_what_is_too_large_is_not_merged():
    many = json.dumps({str(number): "" for number in range(100_000)}).encode()
    with pytest.raises(Unmergeable, match="is not merged"):
        merge(many, b"1", many)
    half = "x" * (MERGED_MAX // 2)
    with pytest.raises(Unmergeable, match="too large"):
        merged(None, {"a": half}, {"b": half})


def test_a_job_says_what_is_merged_or_why_nothing_is():
    assert run(Merge("k", 0, None, b'{"a":1}', b'{"b":2}')) == (b'{"a":1,"b":2}', "merged by what each has changed")
    part = {"mediaType": JSON_PATCH, "data": [{"op": "add", "path": "/a", "value": "x" * MERGED_MAX}]}
    large = json.dumps([{"metadata": {"patch": {"of": "o", "base": "b"}}, "parts": [part]}]).encode()
    value, why = run(Merge("k", 0, None, large, large, are_patches=True))
    assert (value, why) == (None, "what has the changes of both is too large")
    value, why = run(Merge("k", 0, None, b"1", b"2"))
    assert (value, "both have changed" in why) == (None, True)
