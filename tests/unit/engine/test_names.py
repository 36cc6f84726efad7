"""Names to claim: what two of them have in common, and the index that finds it."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2a.engine.names import Looks, NameIndex, canonical_names, names_meet

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
    shared = node.below["all"]
    shared.whole["s"] = Counted(shared.whole["s"])
    assert index.meeting({"repo/7/src": "x", "repo/all/x": "s"}) == {7: "repo/7/src"}
    assert Counted.looked == 0
    assert len(index.meeting({"repo/**": "s"})) == 2_000, "all that conflict are found"


def test_a_lookup_ends_where_its_looks_are_over():
    index = NameIndex()
    for number in range(100):
        index.add(number, {f"repo/{number}": "x", f"repo/{number}/a": "x"})
    looks = Looks(10)
    assert 5 <= len(index.meeting({"repo/**": "x"}, looks)) <= 10
    assert looks.are_over
    assert index.meeting({"repo/1": "x"}, looks) == {}, "nothing is left for another"
    for number in range(100):
        index.add(str(number), {"one": "s"})
    assert len(index.meeting({"one": "x"}, Looks(10))) == 10, "also among those under one name"
    enough = Looks(201)
    assert len(index.meeting({"repo/**": "x"}, enough)) == 100
    assert not enough.are_over


def nodes(node):
    return 1 + sum(map(nodes, node.below.values()))


def test_a_name_of_many_segments_takes_no_more_than_one_of_few():
    index = NameIndex()
    kept = {key: {f"{key}/{'/'.join('abcdefgh')}": "x", f"{key}/a/b/**": "s"} for key in range(50)}
    for key, names in kept.items():
        index.add(key, names)
    assert nodes(index._root) == 1 + 2 * len(kept)
    for key in kept:
        index.add(str(key), {f"{key}/a/x": "x"})
    assert nodes(index._root) == 1 + 4 * len(kept), "one where the ways part, and one for each name"
    for key in kept:
        index.remove(str(key), {f"{key}/a/x": "x"})
    assert nodes(index._root) == 1 + 2 * len(kept), "what is over leaves no node where no ways part"
    for key, names in kept.items():
        assert index.meeting({f"{key}/a/b/c": "x"}) == {key: min(names)}
        index.remove(key, names)
    assert nodes(index._root) == 1


names = st.sampled_from(NAMES)
modes = st.sampled_from("xs")


@given(
    st.lists(st.dictionaries(names, modes, min_size=1, max_size=3), max_size=8),
    st.dictionaries(names, modes),
    st.sets(st.integers(0, 7)),
)
def test_the_index_finds_what_a_look_at_all_would(entries, wanted, gone):
    index = NameIndex()
    for key, entry in enumerate(entries):
        index.add(key, entry)
    for key in sorted(gone & set(range(len(entries)))):
        index.remove(key, entries[key])
    left = {key: entry for key, entry in enumerate(entries) if key not in gone}
    expected = {
        key: min(name for name, mode in entry.items() if names_meet(wanted, {name: mode}) is not None)
        for key, entry in left.items()
        if names_meet(wanted, entry) is not None
    }
    assert index.meeting(wanted) == expected


def test_an_index_tells_whether_it_has_any_key():
    index = NameIndex()
    assert not index
    index.add("one", {"a": "x"})
    assert index
    index.remove("one", {"a": "x"})
    assert not index
