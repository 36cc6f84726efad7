"""The approximate set of keys."""

from __future__ import annotations

from a2a.engine.filter import KeyFilter


def filled(count: int) -> KeyFilter:
    keys = KeyFilter()
    for number in range(count):
        keys.add("principal:boss", f"key-{number}")
    return keys


def test_an_empty_filter_has_nothing():
    assert not KeyFilter().may_have("s", "k")


def test_what_was_added_is_always_found_over_every_layer():
    keys = filled(30_000)
    assert len(keys.layers) == 3
    assert all(keys.may_have("principal:boss", f"key-{number}") for number in range(30_000))


def test_what_was_not_added_is_rarely_found():
    keys = filled(30_000)
    found = sum(keys.may_have("principal:boss", f"other-{number}") for number in range(20_000))
    assert found < 20_000 * 0.002


def test_it_takes_a_few_bits_for_each_key():
    full = 4096 + 4 * 4096 + 16 * 4096
    assert sum(map(len, filled(full).layers)) * 8 <= 20 * full


def test_a_scope_and_a_key_are_two_things():
    keys = KeyFilter()
    keys.add("ab", "c")
    assert keys.may_have("ab", "c")
    assert not keys.may_have("a", "bc")


def test_the_same_keys_make_the_same_filter():
    assert filled(5_000) == filled(5_000)
