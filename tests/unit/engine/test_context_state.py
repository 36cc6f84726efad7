"""What contexts hold, as records build it."""

from __future__ import annotations

import pytest

from a2a.engine import context_state
from a2a.engine.context_state import Context, Entry, apply_written
from a2a.engine.records import ContextWritten


def written(
    key: str, rev: int, value: bytes | None, *, write: str = "w", by: str = "ann#1", reason: str = "", **fields: bool
) -> ContextWritten:
    change = {"key": key, "if_rev": None, "rev": rev, "value": value, "patch": None}
    change |= {"decision": False, "guarded": False} | fields
    return ContextWritten(7, "c", write, "digest", by, [change], [], reason=reason)


def kept_bytes(context: Context) -> int:
    """Count all that a context keeps."""
    revisions = [revision for entry in context.entries.values() for revision in entry.revisions]
    return sum(len(key) for key in context.entries) + sum(item.kept_bytes for item in [*context.writes, *revisions])


def test_a_write_is_found_by_its_key_and_principal() -> None:
    contexts: dict[str, Context] = {}
    apply_written(contexts, written("a", 1, b"1"), 5)
    apply_written(contexts, written("a", 2, b"1", by="bob"), 9)
    context = contexts["c"]
    assert context.lsn == 9
    assert context.written_as("ann", "w") is context.writes[0]
    assert context.written_as("bob", "w") is context.writes[1]
    assert context.written_as("bob", "v") is None
    assert context.entries["a"].newest.origin is context.writes[1].origin
    assert Context("empty").lsn == 0


def test_the_size_is_that_of_the_current_values() -> None:
    contexts: dict[str, Context] = {}
    for lsn, (key, rev, value) in enumerate(
        [("a", 1, b"12345"), ("b", 1, b"1"), ("a", 2, b"12"), ("a", 3, None), ("a", 4, b"123")], 1
    ):
        apply_written(contexts, written(key, rev, value), lsn)
        current = sum(len(entry.newest.payload or b"") for entry in contexts["c"].entries.values())
        assert contexts["c"].size == current
    assert contexts["c"].size == 4


def test_old_values_go_and_their_authors_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_state, "VALUES_KEPT", 3)
    contexts: dict[str, Context] = {}
    for rev in range(1, 6):
        apply_written(contexts, written("a", rev, b"%d" % rev, by=f"ann#{rev}"), rev)
    entry = contexts["c"].entries["a"]
    assert entry.rev == 5
    assert [revision.payload for revision in entry.revisions] == [None, None, b"3", b"4", b"5"]
    assert entry.revisions[0].origin.author == "ann#1"
    assert not entry.revisions[0].deleted


def test_what_is_kept_of_the_past_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_state, "VALUES_KEPT", 2)
    monkeypatch.setattr(context_state, "REVISIONS_KEPT", 3)
    monkeypatch.setattr(context_state, "WRITES_KEPT", 4)
    contexts: dict[str, Context] = {}
    total = apply_written(contexts, written("rare", 1, b"1", write="first", by="bob"), 1)
    sizes = []
    for rev in range(1, 10):
        record = written("often", rev, b"%d" % rev, write=f"w{rev}", reason="because")
        total += apply_written(contexts, record, 10 * rev)
        sizes.append(contexts["c"].kept_bytes)
        assert total == contexts["c"].kept_bytes == kept_bytes(contexts["c"])
    context = contexts["c"]
    assert [write.lsn for write in context.writes] == [60, 70, 80, 90]
    assert context.dropped_lsn == 50
    assert context.named == {"ann": {"w6": 60, "w7": 70, "w8": 80, "w9": 90}}
    entry = context.entries["often"]
    assert (entry.rev, entry.oldest_kept, len(entry.revisions)) == (9, 7, 3)
    assert [entry.revision(rev) is None for rev in (0, 6, 7, 9, 10)] == [True, True, False, False, True]
    assert context.entries["rare"].newest.origin.author == "bob", "what a key is now is kept however old it is"
    assert sizes[4:] == [sizes[4]] * 5, "it grows no more"


def test_a_write_whose_name_another_has_taken_leaves_it_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_state, "WRITES_KEPT", 2)
    contexts: dict[str, Context] = {}
    for lsn, name in enumerate(["k", "k", "w3", "w4"], 1):
        apply_written(contexts, written("a", lsn, b"1", write=name), lsn)
        newest = contexts["c"].written_as("ann", name)
        assert newest is not None and newest.lsn == lsn
    assert contexts["c"].named == {"ann": {"w3": 3, "w4": 4}}


@pytest.mark.parametrize("rev", [1, 3])
def test_a_record_that_does_not_follow_is_not_this_ledgers(rev: int) -> None:
    contexts: dict[str, Context] = {}
    apply_written(contexts, written("a", 1, b"1"), 1)
    with pytest.raises(ValueError, match=f"makes a of c revision {rev} of 1"):
        apply_written(contexts, written("a", rev, b"2"), 2)


def test_a_decision_is_one_by_name_or_by_word() -> None:
    assert Entry("decisions/x").is_decision
    assert Entry("x", decision=True).is_decision
    assert not Entry("x/decisions/").is_decision
    assert not Entry("decisions").is_decision


@pytest.mark.parametrize("mark", ["decision", "guarded"])
def test_a_mark_stays(mark: str) -> None:
    contexts: dict[str, Context] = {}
    apply_written(contexts, written("a", 1, b"1", **{mark: True}), 1)
    apply_written(contexts, written("a", 2, b"2"), 2)
    entry = contexts["c"].entries["a"]
    assert (entry.decision, entry.guarded) == (mark == "decision", mark == "guarded")
