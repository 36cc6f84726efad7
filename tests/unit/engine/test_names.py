"""Names to claim: what two of them have in common, and the index that finds it."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2a.engine.names import NameIndex, canonical_names, names_meet

NAMES = ["a", "a/b", "a/b/c", "ab", "b", "a/**", "a/b/**", "a/b/c/**", "b/**"]
CONFLICTS = {
    frozenset(pair)
    for pair in [
        ("a", "a/**"),
        ("a/b", "a/**"),
        ("a/b/c", "a/**"),
        ("a/b", "a/b/**"),
        ("a/b/c", "a/b/**"),
        ("a/b/c", "a/b/c/**"),
        ("a/**", "a/b/**"),
        ("a/**", "a/b/c/**"),
        ("a/b/**", "a/b/c/**"),
        ("b", "b/**"),
    ]
}


@pytest.mark.parametrize(("one", "other"), list(itertools.product(NAMES, NAMES)))
def test_names_conflict_when_equal_or_one_stands_for_the_other(one, other):
    conflict = one == other or frozenset((one, other)) in CONFLICTS
    assert names_meet({one: "x"}, {other: "x"}) == (other if conflict else None)
    index = NameIndex()
    index.add(7, {other: "x"})
    assert index.meeting({one: "x"}) == ({7: other} if conflict else {})


@pytest.mark.parametrize(("ours", "theirs", "conflict"), [("x", "x", 1), ("x", "s", 1), ("s", "x", 1), ("s", "s", 0)])
@pytest.mark.parametrize(("one", "other"), [("a/b", "a/b"), ("a/**", "a/b"), ("a/b", "a/**"), ("a/**", "a/b/**")])
def test_shared_conflicts_with_alone_only(ours, theirs, conflict, one, other):
    assert names_meet({one: ours}, {other: theirs}) == (other if conflict else None)
    index = NameIndex()
    index.add(7, {other: theirs})
    assert list(index.meeting({one: ours})) == [7] * conflict


def test_names_are_in_canonical_order_once_each_in_the_stricter_mode():
    claims = [{"name": "b", "mode": "s"}, {"name": "a"}, {"name": "b"}, {"name": "a", "mode": "s"}]
    assert list(canonical_names(claims).items()) == [("a", "x"), ("b", "x")]
    assert canonical_names([{"name": "a", "mode": "s"}]) == {"a": "s"}


def test_what_is_taken_away_leaves_nothing_behind():
    index = NameIndex()
    names = {"a": "s", "a/b/**": "x", "c": "x"}
    index.add(1, names)
    index.add(2, {"a/b/c": "s"})
    index.remove(1, names)
    assert index.meeting({"a/**": "x"}) == {2: "a/b/c"}
    index.remove(2, {"a/b/c": "s"})
    assert index == NameIndex()


def test_looking_a_name_up_does_not_walk_past_those_beside_it():
    index = NameIndex()
    for number in range(2_000):
        index.add(number, {f"repo/{number}/src": "x", "repo/all/**": "s"})

    class Counted(dict):
        looked = 0

        def items(self):
            Counted.looked += len(self)
            return super().items()

        def values(self):
            Counted.looked += len(self)
            return super().values()

    node = index._root.below["repo"]
    node.below = Counted(node.below)
    mine = node.below["7"].below["src"]
    mine.own = {mode: Counted(keys) for mode, keys in mine.own.items()}
    shared = node.below["all"]
    shared.whole["s"] = Counted(shared.whole["s"])
    assert index.meeting({"repo/7/src": "x", "repo/all/x": "s"}) == {7: "repo/7/src"}
    assert Counted.looked == 1
    assert len(index.meeting({"repo/**": "s"})) == 2_000, "all that conflict are found"


names = st.sampled_from(NAMES)
modes = st.sampled_from("xs")


@given(st.lists(st.dictionaries(names, modes, min_size=1, max_size=3), max_size=8), st.dictionaries(names, modes))
def test_the_index_finds_what_a_look_at_all_would(entries, wanted):
    index = NameIndex()
    for key, entry in enumerate(entries):
        index.add(key, entry)
    expected = [key for key, entry in enumerate(entries) if names_meet(wanted, entry) is not None]
    assert sorted(index.meeting(wanted)) == expected


def test_an_index_tells_whether_it_has_any_key():
    index = NameIndex()
    assert not index
    index.add("one", {"a": "x"})
    assert index
    index.remove("one", {"a": "x"})
    assert not index
