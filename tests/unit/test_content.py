"""Values to payloads and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from a2a.content import (
    Patch,
    artifacts_payload,
    json_payload,
    parts_payload,
    patches_in,
    read_artifacts,
    read_json,
    read_parts,
    read_word,
    result_value,
    shown_artifacts,
    shown_json,
)

SAFE = st.integers(-(2**53) + 1, 2**53 - 1)
TEXT = st.text(st.characters(exclude_categories=("Cs",)))
VALUES = st.recursive(
    st.none() | st.booleans() | SAFE | st.floats(-(2.0**53), 2.0**53) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_every_json_value_comes_back(value: Any) -> None:
    assert read_parts(parts_payload(value)) == value
    assert result_value(artifacts_payload(value)) == value


def test_text_travels_as_text_and_bytes_as_base64() -> None:
    assert json.loads(parts_payload("hi")) == [{"text": "hi"}]
    assert json.loads(parts_payload(b"\x00\xff"))[0]["raw"] == "AP8="
    assert read_parts(parts_payload(b"\x00\xff")) == b"\x00\xff"


@pytest.mark.parametrize(
    "payload", [b"no JSON", b"7", b"[7]", b"[null]", b'["text"]', b'{"a":1}', b'[{"raw":"x"}]', b"[" * 100_000, b"\xff"]
)
def test_a_word_that_is_no_parts_is_its_text(payload: bytes) -> None:
    assert read_word(payload) == payload.decode(errors="replace")
    assert read_word(payload.decode(errors="replace")) == payload.decode(errors="replace")


@pytest.mark.parametrize("payload", [b"no JSON", b"{", b"[" * 100_000, b"\xff"])
def test_what_a_context_holds_is_shown_whatever_it_is(payload: bytes) -> None:
    assert shown_json(payload) == shown_json(payload.decode(errors="replace")) == payload.decode(errors="replace")
    assert (shown_json(b'{"a":1}'), shown_json('"text"'), shown_json(None)) == ({"a": 1}, "text", None)


@pytest.mark.parametrize(
    "payload", [b"no JSON", b"7", b"[7]", b"[null]", b'["text"]', b'{"a":1}', b'[{"parts":7}]', b"[" * 100_000, b"\xff"]
)
def test_a_result_that_is_no_artifacts_is_shown_as_its_text(payload: bytes) -> None:
    text = {"text": payload.decode(errors="replace")}
    assert shown_artifacts(payload) == [{"artifactId": "result", "name": "result", "parts": [text]}]


def test_a_result_of_artifacts_is_shown_as_it_is() -> None:
    assert shown_artifacts(artifacts_payload({"a": 1})) == read_artifacts(artifacts_payload({"a": 1}))
    assert shown_artifacts(None) == []


def test_a_word_of_parts_is_their_value() -> None:
    assert (read_word(parts_payload({"a": 1})), read_word(None), read_word(b"")) == ({"a": 1}, None, None)


def test_several_parts_stand_for_the_list() -> None:
    parts = [{"text": "a"}, {"data": 1}]
    assert read_parts(json.dumps(parts).encode()) == parts


def test_equal_values_are_equal_bytes() -> None:
    assert parts_payload({"b": 1, "a": 2.0}) == parts_payload({"a": 2, "b": 1})


@pytest.mark.parametrize("value", [float("nan"), 2**53, {"x": float("inf")}])
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON has no form|beyond"):
        parts_payload(value)


class _Endless(list[Any]):
    def __init__(self) -> None:
        super().__init__([self])


@pytest.mark.parametrize("encode", [parts_payload, json_payload])
@pytest.mark.parametrize(
    ("value", "where"),
    [
        (reduce(lambda inside, _: [inside], range(5_000), []), "input"),
        ({"a": _Endless()}, "input"),
        ({"b": _Endless(), "a": object()}, "input.b"),
    ],
    ids=["deep", "endless", "beside what else has none"],
)
def test_what_is_nested_without_end_has_no_form(encode: Callable[[Any, str], bytes], value: Any, where: str) -> None:
    with pytest.raises(ValueError, match=f"^{where}: this JSON is nested too deeply"):
        encode(value, "input")


@pytest.mark.parametrize("value", [None, True, 0, 1.5, "text", [1, {"b": None}], {"a": "x"}])
def test_what_a_context_holds_is_any_json_value(value: Any) -> None:
    assert read_json(json_payload(value)) == value
    assert read_json(json_payload(value).decode()) == value


def test_what_is_not_json_itself_takes_the_form_it_has_there() -> None:
    assert json_payload({1}) == b"[1]"
    assert read_json(None) is None
    with pytest.raises(ValueError, match="beyond"):
        json_payload(2**53)


LETTERS = frozenset("abcdefghij")
"""In the order of their hashes, which are others in each process, these are as good as never sorted."""


@dataclass
class Inner:
    pairs: set[tuple[str, int]]
    mixed: tuple[Any, ...] = ()


class Model(BaseModel):
    named: frozenset[str] = Field(serialization_alias="byName")
    inner: Inner


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (LETTERS, sorted(LETTERS)),
        ({10, 9, 2}, [2, 9, 10]),
        ({1, "a", None, ("b", 2)}, ["a", 1, ["b", 2], None]),
        ((LETTERS, {frozenset("cab")}), [sorted(LETTERS), [["a", "b", "c"]]]),
        (
            Model(named=LETTERS, inner=Inner({(letter, 1) for letter in LETTERS}, ({"k": LETTERS},))),
            {
                "byName": sorted(LETTERS),
                "inner": {"pairs": [[letter, 1] for letter in sorted(LETTERS)], "mixed": [{"k": sorted(LETTERS)}]},
            },
        ),
    ],
)
def test_a_set_is_the_same_list_in_each_process(value: Any, written: Any) -> None:
    assert read_json(json_payload(value)) == read_parts(parts_payload(value)) == written


def test_a_set_where_json_is_wanted_is_named() -> None:
    with pytest.raises(ValueError, match=r"^input\.tags\.0: expected a list, got a set, which has no order"):
        parts_payload({"tags": [{1}]}, "input")


@pytest.mark.parametrize(
    "payload",
    [
        b"\xef\xbb\xbf[1]",
        json.dumps(["an umlaut: \u00e4"]).encode("utf-16"),
        b'["\\ud800"]',
        b"[" * 300 + b"]" * 300,
        b'{"a":1,"a":2}',
        b"[1e400,-0,-0.0,1e-320,123456789012345678901234567890]",
    ],
    ids=["byte order mark", "UTF-16", "half a pair", "deep", "a key twice", "numbers"],
)
def test_what_others_wrote_is_read_as_the_standard_library_does(payload: bytes) -> None:
    assert repr(read_json(payload)) == repr(json.loads(payload))


@pytest.mark.parametrize("payload", [b"", b"[1,]", b"tru", b'"\xff"', b"[1] 2", b"01"])
def test_what_is_no_json_is_refused_with_the_place(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"column|position"):
        read_json(payload)


def test_the_artifact_named_result_is_the_value() -> None:
    payload = json.dumps(
        [
            {"artifactId": "log", "name": "log", "parts": [{"text": "l"}]},
            {"artifactId": "r", "name": "result", "parts": [{"text": "v"}]},
        ]
    ).encode()
    assert result_value(payload) == "v"
    assert [artifact["artifactId"] for artifact in read_artifacts(payload)] == ["log", "r"]


def test_nothing_is_none() -> None:
    assert read_parts(None) is None
    assert result_value(b"[]") is None
    assert read_artifacts(None) == []


def test_a_patch_names_in_its_metadata_what_it_is_of() -> None:
    operations = [{"op": "remove", "path": "/a"}]
    one, other = Patch("repo", "r1", "a diff"), Patch("docs", "r2", operations)
    payload = artifacts_payload([one, other])
    assert [artifact["metadata"]["patch"] for artifact in read_artifacts(payload)] == [
        {"of": "repo", "base": "r1"},
        {"of": "docs", "base": "r2"},
    ]
    assert [artifact["parts"] for artifact in read_artifacts(payload)] == [
        [{"text": "a diff", "mediaType": "text/x-diff"}],
        [{"data": operations, "mediaType": "application/json-patch+json"}],
    ]
    assert (result_value(payload), result_value(artifacts_payload(other))) == ("a diff", operations)
    assert patches_in([one, other]) == [("repo", "r1"), ("docs", "r2")]
    assert len(patches_in([Patch(f"{n}", "r1", "") for n in range(16)])) == 16
    assert patches_in([one, "a word"]) == patches_in("a word") == patches_in([]) == []


@pytest.mark.parametrize("patches", [[Patch("repo", "r1", "")] * 2, [Patch(f"{n}", "r1", "") for n in range(17)]])
def test_a_result_has_so_many_patches_and_one_of_each(patches: list[Patch]) -> None:
    with pytest.raises(ValueError, match="at most 16 patches"):
        patches_in(patches)


@pytest.mark.parametrize(("of", "base"), [("", "r1"), ("repo", ""), ("x" * 257, "r1"), ("repo", 7), (None, "r1")])
def test_what_a_patch_is_of_has_a_name(of: Any, base: Any) -> None:
    with pytest.raises(ValueError, match="1 to 256"):
        Patch(of, base, "")
