"""The book of results that patch something."""

import pytest

from a2a.engine import patchbook
from a2a.engine.patchbook import PATCH_BYTES_MAX, PATCHES_KEPT, PatchBook, Patched


def patched(task, *patches, context="c", payload=b"[]", above=()):
    return Patched(task, context, [list(patch) for patch in patches], "w", 1, "sha256:", payload, 1, list(above))


@pytest.fixture
def book():
    made = PatchBook()
    for task in ("t1", "t2"):
        made.add(patched(task, ("repo", "r1")))
    return made


def test_a_result_is_held_against_those_before_it_that_patch_the_same(book):
    assert (book.known["t1"].others, book.known["t2"].others, list(book.due)) == ([], ["t1"], ["t2"])
    book.add(patched("t3", ("docs", "r1"), ("repo", "r1")))
    assert book.known["t3"].others == ["t1", "t2"]
    for other in (("repo", "r2"), ("docs", "r2")):
        book.add(patched("t4", other))
        assert book.known["t4"].others == []
    book.add(patched("t5", ("repo", "r1"), context="d"))
    assert book.known["t5"].others == []


def test_what_a_task_comes_to_is_not_held_against_what_it_is_made_of(book):
    book.add(patched("t3", ("repo", "r1"), above=["t1"]))
    assert book.known["t3"].others == ["t2"]
    book.add(patched("t1", ("repo", "r1")))
    assert book.known["t1"].others == ["t2"]


def test_what_was_compared_is_noted_until_a_conflict_says_so(book):
    book.add(patched("t3", ("repo", "r1")))
    with pytest.raises(ValueError, match="to be held against"):
        book.compared("t3", "t2", True)
    book.compared("t3", "t1", True)
    book.compared("t3", "t2", False)
    assert (book.known["t3"].others, book.known["t3"].collides, "t3" in book.due) == ([], ["t1"], True)
    book.opened("t3")
    assert (book.known["t3"].collides, "t3" in book.due) == ([], False)
    book.compared("t2", "t1", False)
    assert book.due == {}


def test_what_stands_no_longer_is_held_against_nothing(book):
    book.add(patched("t3", ("repo", "r1")))
    book.compared("t3", "t1", True)
    book.drop("t1")
    assert (book.known["t2"].others, book.known["t3"].others, book.known["t3"].collides) == ([], ["t2"], [])
    assert list(book.due) == ["t3"]
    for task in ("t2", "t3", "t9"):
        book.drop(task)
    assert (book.known, book.by_name, book.due, book.size) == ({}, {}, {}, 0)


def test_of_one_base_so_many_are_kept_and_the_newest_is_compared_with_the_others(book):
    for number in range(3, PATCHES_KEPT + 3):
        book.add(patched(f"t{number}", ("repo", "r1")))
    assert list(book.known) == [f"t{number}" for number in range(3, PATCHES_KEPT + 3)]
    assert len(book.known[f"t{PATCHES_KEPT + 2}"].others) == PATCHES_KEPT - 1


def test_what_is_too_large_is_not_kept_nor_more_than_there_is_room_for(book, monkeypatch):
    book.add(patched("t3", ("repo", "r1"), payload=b"x" * (PATCH_BYTES_MAX + 1)))
    book.add(patched("t1"))
    assert list(book.known) == ["t2"]
    one = patched("t4", ("repo", "r4"), payload=b"four").size
    assert one > len(b"four") + len("repo") + len("r4"), "an entry takes something, whatever is in it"
    monkeypatch.setattr(patchbook, "BYTES_KEPT", 2 * one)
    for number in range(4, 8):
        book.add(patched(f"t{number}", ("repo", f"r{number}"), payload=b"four"))
    assert (list(book.known), book.size) == (["t6", "t7"], 2 * one)


def test_the_book_is_the_same_that_its_entries_make_again(book):
    book.add(patched("t3", ("repo", "r1"), ("docs", "r1")))
    book.compared("t3", "t1", True)
    again = PatchBook.of(list(book.known.values()))
    assert again == book
    assert (list(again.by_name.items()), list(again.due), again.size) == (
        list(book.by_name.items()),
        list(book.due),
        book.size,
    )
    assert book != PatchBook()
