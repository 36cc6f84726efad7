"""When two results are the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2a.engine.conflicts.comparators import (
    Compare,
    Incomparable,
    Limits,
    check_comparator,
    classify,
    parse_comparator,
    run,
    skill_asked,
    value_of,
)


def result(data, kind="data"):
    return ('[{"artifactId":"r","name":"result","parts":[{"%s":%s}]}]' % (kind, data)).encode()  # noqa: UP031


@pytest.mark.parametrize(
    ("comparator", "one", "other", "same"),
    [
        ("json-c14n", '{"a":1,"b":2}', '{ "b": 2.0, "a": 1 }', True),
        ("json-c14n", "[1,2]", "[2,1]", False),
        ("json-c14n", '"é"', '"e\\u0301"', False),
        ("bytes", '{"a":1}', '{ "a":1}', False),
        ("set", "[1,2,2]", "[2,1,2.0]", True),
        ("set", "[1,2,2]", "[1,1,2]", False),
        ("numeric(0.1)", '{"x":[1,2]}', '{"x":[1.05,1.95]}', True),
        ("numeric(0.1)", '{"x":1}', '{"x":1.2}', False),
        ("numeric(0.1)", '{"x":1}', '{"y":1}', False),
        ("numeric(1)", "true", "1", False),
        ("pointers[/a,/b/0]", '{"a":1,"b":[2],"c":3}', '{"a":1,"b":[2.0,9]}', True),
        ("pointers[/a]", '{"a":null}', "{}", False),
        ("pointers[/a~1b]", '{"a/b":1}', '{"a/b":2}', False),
    ],
)
def test_what_is_the_same(comparator, one, other, same):
    assert (classify(comparator, [result(one)], result(other))[0] == 0) is same


def test_texts_that_differ_in_white_space_and_unicode_form_are_the_same():
    one, other = result('"caf\\u00e9  is\\nopen "', "text"), result('"cafe\\u0301 is open"', "text")
    assert classify("text-nfc", [one], other)[0] == 0
    assert classify("json-c14n", [one], other)[0] == 1


def test_each_joins_the_first_class_whose_first_member_it_equals():
    firsts = [result("0"), result("2")]
    assert classify("numeric(1)", firsts, result("1"))[0] == 0
    assert classify("numeric(1)", firsts, result("3"))[0] == 1
    assert classify("numeric(1)", firsts, result("9"))[0] == 2


@pytest.mark.parametrize("huge", ["9" * 400, f"[{'9' * 400}]", "1e400", "NaN"])
def test_a_number_beyond_all_others_equals_its_own_bytes_and_keeps_no_others_apart(huge):
    """Spec COMPARE-3: it is not of the form that is read, whichever comes first."""
    other = huge.replace("9" * 400, "0.5") if "9" in huge else "0.5"
    assert classify("numeric(1)", [result(huge)], result(huge))[0] == 0
    assert classify("numeric(1)", [result(huge)], result(other))[0] == 1
    assert classify("numeric(1)", [result(other)], result(huge))[0] == 1
    assert classify("numeric(1)", [result(huge), result(other)], result(other + " "))[0] == 1


def test_equal_bytes_are_never_read():
    assert classify("set", [b"no json"], b"no json")[0] == 0


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b"[1]", b'[{"artifactId":"r"}]', b"nonsense"])
def test_what_is_no_result_cannot_be_compared(payload):
    with pytest.raises(Incomparable):
        value_of(payload)


@pytest.mark.parametrize(
    "payload", [result("[" * 70 + "]" * 70), result("1" + " " * 99), result(",".join("1" * 99).join("[]"))]
)
def test_what_is_too_large_or_too_deep_cannot_be_compared(payload):
    with pytest.raises(Incomparable):
        value_of(payload, Limits(bytes_max=140 if b"  " in payload else 10_000, depth_max=64, items_max=50))


def test_brackets_inside_texts_are_not_depth():
    assert value_of(result('"' + "[" * 500 + '\\""'), Limits(depth_max=8)) == "[" * 500 + '"'


@pytest.mark.parametrize(
    "name", ["", "guess", "bytes(1)", "numeric", "numeric(x)", "numeric(-1)", "numeric(inf)", "pointers", "pointers[a]"]
)
def test_an_unknown_comparator_is_none(name):
    with pytest.raises(ValueError, match="comparator"):
        parse_comparator(name)


@pytest.mark.parametrize(
    ("name", "skill"), [("agent:same", "same"), ("agent:", ""), ("bytes", None), ("agents:x", None)]
)
def test_a_comparator_may_ask_an_agent_with_a_skill(name, skill):
    assert skill_asked(name) == skill


@pytest.mark.parametrize("name", ["agent:", f"agent:{'s' * 129}", "agent", "agents:x", "guess"])
def test_a_comparator_that_nobody_has_is_noticed_when_it_is_named(name):
    with pytest.raises(ValueError, match="comparator"):
        check_comparator(name)


def test_comparators_that_there_are_may_be_named():
    for name in ("agent:same", f"agent:{'s' * 128}", "bytes", "numeric(1)"):
        check_comparator(name)


def test_what_cannot_be_read_equals_its_own_bytes_alone():
    """Spec COMPARE-3."""
    number, why = run(Compare("g", "m", "set", (result("[1]"),), result("1")))
    assert (number, why) == (1, "set compares lists, this is int")
    assert run(Compare("g", "m", "set", (b"no json", result("[1,2]")), result("[2,1]")))[0] == 1
    assert run(Compare("g", "m", "set", (b"no json", b"nor this"), b"nor this"))[0] == 1
    assert run(Compare("g", "m", "set", (b"no json",), b"nor this"))[0] == 1


@given(st.binary(max_size=60), st.binary(max_size=60), st.sampled_from(["json-c14n", "text-nfc", "set", "numeric(1)"]))
def test_no_payload_makes_a_comparator_fail_otherwise(one, other, comparator):
    number, why = run(Compare("g", "m", comparator, (one,), other))
    assert number in (0, 1) and why
