"""Canonical JSON, by the vectors of RFC 8785."""

import hashlib
import json
import math
import struct
from enum import Enum, IntEnum, StrEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2a.protocol.canonical import canonical, content_hash, result_hash

# RFC 8785, appendix B: the bits of a double, and what ECMAScript writes for it.
NUMBERS = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"),
    ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]


@pytest.mark.parametrize("bits, text", NUMBERS)
def test_a_number_is_written_as_in_the_table_of_the_rfc(bits, text):
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical(value) == text.encode()


@pytest.mark.parametrize(
    "value, text",
    [
        (1.0, "1"),
        (-1.5, "-1.5"),
        (1e16, "10000000000000000"),
        (1e20, "100000000000000000000"),
        (-1.5e17, "-150000000000000000"),
        (123456789012345680.0, "123456789012345680"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (1e-6, "0.000001"),
        (1.5e-6, "0.0000015"),
        (1e-7, "1e-7"),
        (-1.25e-7, "-1.25e-7"),
        (0.00001234, "0.00001234"),
        (0.1, "0.1"),
        (2**53 - 1, "9007199254740991"),
        (-(2**53) + 1, "-9007199254740991"),
    ],
)
def test_numbers_at_the_borders_of_the_forms(value, text):
    assert canonical(value) == text.encode()


@settings(max_examples=150, deadline=None, database=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_reads_back_as_itself_in_the_fewest_digits(value):
    text = canonical(value).decode()
    assert float(text) == value
    digits = text.lstrip("-").partition("e")[0].replace(".", "").strip("0")
    assert len(digits) <= 17
    assert len(digits) == len(repr(abs(value)).partition("e")[0].replace(".", "").strip("0"))
    assert ("e" in text) == (abs(value) >= 1e21 or 0 < abs(value) < 1e-6)


def test_an_integer_and_the_same_number_as_a_float_are_the_same_bytes():
    for value in (0, 1, -7, 10**15, 2**53 - 1):
        assert canonical(value) == canonical(float(value))


# RFC 8785, 3.2.2: the input of its sample, and the output.
def test_the_sample_of_the_rfc():
    sample = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": '\u20ac$\u000f\nA\'B"\\\\"/',
        "literals": [None, True, False],
    }
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical(sample) == expected.encode()


# RFC 8785, 3.2.3: keys in the order of their UTF-16 units.
def test_keys_are_sorted_by_their_utf_16_units():
    values = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    ordered = list(json.loads(canonical(values)))
    assert ordered == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


def test_keys_are_sorted_at_every_depth_and_lists_are_not():
    assert canonical({"b": [{"d": 1, "c": 2}, 3, 1], "a": {}}) == b'{"a":{},"b":[{"c":2,"d":1},3,1]}'
    assert canonical([]) == b"[]"
    assert canonical(("a", 1)) == b'["a",1]'


@pytest.mark.parametrize(
    "text, written",
    [
        ("\b\t\n\f\r", r'"\b\t\n\f\r"'),
        ("\x00\x1f", '"\\u0000\\u001f"'),
        ('"\\/', r'"\"\\/"'),
        ("\x7f\x80\u2028é😀", '"\x7f\x80\u2028é😀"'),
    ],
)
def test_text_is_escaped_only_where_it_must_be(text, written):
    assert canonical(text) == written.encode()
    assert canonical({text: 1}) == f"{{{written}:1}}".encode()


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        2**53,
        -(2**53),
        "\ud800",
        {"\udfff": 1},
        {1: 2},
        {"a": {b"b": 1}},
        b"bytes",
        {"a": object()},
        {1, 2},
    ],
)
def test_what_json_has_no_form_for_is_refused(value):
    with pytest.raises(ValueError, match=r"JSON|surrogate|beyond"):
        canonical(value)


def test_large_texts_are_written_among_short_ones():
    value = {
        "ü" * 50_000: ["short", "x\n" * 50_000, "x" * 200_000, 7],
        "a": "ü\x01" * 40_000,
        "z": [True, '"' * 200_000],
    }
    expected = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    assert canonical(value) == expected
    with pytest.raises(ValueError, match="lone surrogate"):
        canonical(["x" * 100_000, "\ud800"])


def test_a_long_text_is_written_as_a_short_one():
    every = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x110000))))
    pieces = [every[at : at + 100] for at in range(0, len(every), 100)]
    assert canonical(every) == b'"' + b"".join(canonical(piece)[1:-1] for piece in pieces) + b'"'
    with pytest.raises(ValueError, match="lone surrogate"):
        canonical("x" * 1000 + "\ud800")


def test_words_and_numbers_with_names_are_words_and_numbers():
    assert canonical([StrEnum("Word", "ABLE").ABLE, IntEnum("Number", "ONE").ONE, True]) == b'["able",1,true]'


class _Level(int, Enum):
    HIGH = 3


class _Share(float):
    def __repr__(self) -> str:
        return "share(0.5)"


class _Bytes(int):
    def __str__(self) -> str:
        return "7 bytes"


def test_numbers_with_a_text_of_their_own_are_numbers():
    """As members of an enum are, and the floats of numpy."""
    assert canonical([_Level.HIGH, _Share(0.5), _Bytes(7)]) == b"[3,0.5,7]"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, database=None)
@given(json_values)
def test_equal_values_have_equal_bytes_and_they_read_back(value):
    data = canonical(value)
    again = json.loads(data, parse_int=float)  # as every double is read elsewhere
    assert again == value
    assert canonical(again) == data


def test_a_content_hash_is_over_the_header_and_the_payload_as_it_came():
    expected = hashlib.sha256(b'{"a":1,"b":2}\n[ 1 ]').hexdigest()
    assert content_hash({"b": 2, "a": 1.0}, b"[ 1 ]") == f"sha256:{expected}"
    assert content_hash({"b": 2, "a": 1}, b"[1]") != f"sha256:{expected}"


def test_header_and_payload_do_not_run_together():
    assert content_hash("a", b"b") != content_hash("a\nb", b"")


@pytest.mark.parametrize("outcome", ["completed", "failed", "rejected", "canceled", "another"])
def test_the_hash_of_a_result_is_that_of_its_outcome_and_its_payload(outcome):
    assert result_hash(outcome, b"[1]") == content_hash({"outcome": outcome}, b"[1]")
