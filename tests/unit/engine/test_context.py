"""Shared context: what is written, who is told, and which results rely on what has moved."""

import dataclasses

import pytest

from a2a.engine import context_state
from a2a.engine.context import context_events, stale_basis
from a2a.engine.records import ContextWritten as WrittenRecord
from a2a.engine.records import Reported, Settled
from a2a.protocol.messages import (
    ContextEventNotice,
    ContextOp,
    ContextRead,
    ContextValues,
    ContextWatch,
    ContextWrite,
    ContextWritten,
    Credit,
    Error,
    Held,
    Ok,
    Seen,
    StaleBasis,
    TaskFound,
    TaskGet,
    TaskReview,
    TaskSettled,
    TaskWatch,
)

C = "plans"


@pytest.fixture
def ann(town):
    return town.join("ann")


@pytest.fixture
def bob(town):
    return town.join("bob")


@pytest.fixture
def write(ann):
    """Write as `ann`, or another peer, under a fresh key, and return the answer."""
    count = iter(range(1, 10_000))

    def call(*ops, by=None, key=None, context=C, **fields):
        return (by or ann).say(ContextWrite(context, key or f"w{next(count)}", list(ops), **fields))

    return call


def put(key, value=b"1", rev=None, **fields):
    return ContextOp(key, rev, value, **fields)


def delete(key, rev=None):
    return ContextOp(key, rev, delete=True)


def patch(key, operations, rev=None):
    return ContextOp(key, rev, patch=operations)


def read(peer, *keys, **fields):
    answer = peer.say(ContextRead(fields.pop("context", C), list(keys), **fields))
    assert isinstance(answer, ContextValues), answer
    return answer


def values(peer, *keys, **fields):
    """Return (key, rev, payload) of what a read shows."""
    return [(value.key, value.rev, value.payload) for value in read(peer, *keys, **fields).values]


def refused(town, answer):
    assert isinstance(answer, Error), answer
    return answer.code, answer.data


# Writing --------------------------------------------------------------------------------------------------------------


def test_revisions_of_a_key_count_from_one_deletes_included(town, ann, write):
    assert write(put("a", b'"x"')) == ContextWritten(C, {"a": 1})
    assert write(put("a", b'"y"'), put("b")) == ContextWritten(C, {"a": 2, "b": 1})
    assert write(delete("a")) == ContextWritten(C, {"a": 3})
    assert write(put("a", b'"z"')) == ContextWritten(C, {"a": 4})
    assert values(ann, prefix="") == [("a", 4, b'"z"'), ("b", 1, b"1")]
    assert len(town.said(WrittenRecord)) == 4


def test_contexts_do_not_know_each_other(ann, write):
    write(put("a"))
    assert write(put("a"), context="other") == ContextWritten("other", {"a": 1})
    assert read(ann, "a", context="third").values[0].rev == 0


def test_a_write_names_its_author_its_attempt_and_its_reason(town, ann, write):
    worker = town.worker("w")
    task = ann.delegate()
    offer = worker.offer()
    write(put("a"), by=worker, attempt=Held(task, offer.fence), reason="because")
    (value,) = read(ann, "a").values
    told = (value.author, value.task, value.fence, value.at, value.reason)
    assert told == ("w", task, offer.fence, town.now, "because")


def test_the_same_write_again_is_answered_the_same_and_done_once(town, ann, write):
    first = write(put("a"), key="k")
    write(put("a"))
    again = town.join("ann#2")
    assert write(put("a"), key="k", by=again) == first == ContextWritten(C, {"a": 1})
    assert values(ann, "a") == [("a", 2, b"1")]


def test_a_key_of_a_write_belongs_to_its_principal_and_context(bob, write):
    write(put("a"), key="k")
    assert write(put("a"), key="k", by=bob) == ContextWritten(C, {"a": 2})
    assert write(put("a"), key="k", context="other") == ContextWritten("other", {"a": 1})


@pytest.mark.parametrize(
    "other",
    [
        {"ops": [put("a", b"2")]},
        {"ops": [put("b")]},
        {"ops": [put("a", rev=1)]},
        {"ops": [put("a", guarded=True)]},
        {"ops": [put("a", decision=True)]},
        {"ops": [delete("a")]},
        {"ops": [patch("a", b"1")]},
        {"ops": [put("a"), put("b")]},
        {"depends": [Seen("b", 0)]},
        {"reason": "another"},
        {"attempt": Held("main-1", 1)},
    ],
)
def test_a_key_stands_for_one_write(ann, write, other):
    write(put("a"), key="k")
    again = dataclasses.replace(ContextWrite(C, "k", [put("a")]), **other)
    assert ann.refused(again) == "idempotency_mismatch"


def test_a_conditional_write_is_for_one_revision_only(town, bob, write):
    write(put("a", b'"mine"', 0))
    code, data = refused(town, write(put("a", b'"yours"', 0), by=bob))
    assert (code, data) == ("conflict", {"key": "a", "rev": 1, "author": "ann", "value": b'"mine"'})
    assert write(put("a", b'"yours"', 1), by=bob) == ContextWritten(C, {"a": 2})
    assert refused(town, write(put("a", b"1", 1)))[1]["author"] == "bob"
    assert refused(town, write(put("a", b"1", 3)))[0] == "conflict"
    assert refused(town, write(put("new", b"1", 1))) == ("conflict", {"key": "new", "rev": 0})
    write(delete("a", 2))
    assert refused(town, write(put("a", b"1", 0))) == ("conflict", {"key": "a", "rev": 3, "author": "ann"})


def test_one_operation_that_fails_takes_all_with_it(town, ann, write):
    write(put("b"))
    before = len(town.records)
    assert refused(town, write(put("a"), put("b", rev=0), put("c")))[1]["key"] == "b"
    assert refused(town, write(put("a"), patch("c", b"[]")))[1]["key"] == "c"
    assert len(town.records) == before
    assert values(ann, prefix="") == [("b", 1, b"1")]


def test_what_a_write_depends_on_must_not_have_moved(town, write):
    write(put("plan"))
    assert isinstance(write(put("a"), depends=[Seen("plan", 1), Seen("other", 0)]), ContextWritten)
    write(put("plan"))
    assert refused(town, write(put("a"), depends=[Seen("plan", 1)]))[1]["key"] == "plan"
    assert refused(town, write(put("a"), depends=[Seen("plan", 2), Seen("other", 1)]))[1]["key"] == "other"
    assert isinstance(write(put("plan", b"3"), depends=[Seen("plan", 2)]), ContextWritten)


def test_a_patch_changes_a_part_and_its_value_is_recorded(town, ann, write):
    write(put("a", b'{"y":1,"x":[1]}'))
    add = b'[{"op":"add","path":"/x/-","value":2.0}]'
    assert write(patch("a", add)) == ContextWritten(C, {"a": 2})
    assert values(ann, "a") == [("a", 2, b'{"x":[1,2],"y":1}')]
    assert town.said(WrittenRecord)[-1].changes[0]["value"] == b'{"x":[1,2],"y":1}'
    assert refused(town, write(patch("a", add, 1)))[0] == "conflict"
    assert write(patch("a", b"[]", 2)) == ContextWritten(C, {"a": 3})


def test_a_patch_that_fails_says_which_operation_and_what_is_there(town, write):
    write(put("a", b'{"x":1}'))
    operations = b'[{"op":"test","path":"/x","value":1},{"op":"remove","path":"/y"}]'
    code, data = refused(town, write(patch("a", operations)))
    assert (code, data) == ("conflict", {"key": "a", "rev": 1, "author": "ann", "value": b'{"x":1}', "operation": 1})
    code, data = refused(town, write(patch("a", b"{}")))
    assert (code, data) == ("schema", {"key": "a", "rev": 1, "author": "ann", "value": b'{"x":1}'})
    write(put("b", b"no json"))
    assert refused(town, write(patch("b", b"[]")))[0] == "schema"


def test_there_must_be_something_to_patch_or_delete(town, write):
    assert refused(town, write(delete("a"))) == ("conflict", {"key": "a", "rev": 0})
    write(put("a"))
    write(delete("a"))
    assert refused(town, write(delete("a")))[0] == "conflict"
    assert refused(town, write(patch("a", b"[]", 2)))[0] == "conflict"


@pytest.mark.parametrize(
    "ops",
    [
        [ContextOp("a")],
        [ContextOp("a", value=b"1", delete=True)],
        [ContextOp("a", value=b"1", patch=b"[]")],
        [ContextOp("a", patch=b"[]", delete=True)],
        [put("a"), put("b"), put("a")],
    ],
)
def test_an_operation_says_one_thing_of_a_key_of_its_own(ann, ops):
    assert ann.refused(ContextWrite(C, "k", ops)) == "malformed"


# Guarded keys and decisions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first", [put("a", guarded=True, rev=0), put("a", decision=True, rev=0), put("decisions/a", rev=0)]
)
def test_a_key_that_matters_is_not_written_blindly(town, bob, write, first):
    key = first.key
    blind = ContextOp(key, value=b"1", decision=first.decision, guarded=first.guarded)
    assert refused(town, write(blind)) == ("conflict", {"key": key, "rev": 0})
    write(first)
    code, data = refused(town, write(put(key, b"2"), by=bob))
    assert (code, data["rev"], data["author"]) == ("conflict", 1, "ann")
    assert refused(town, write(delete(key)))[0] == "conflict"
    assert refused(town, write(patch(key, b"[]")))[0] == "conflict"
    assert write(delete(key, 1)) == ContextWritten(C, {key: 2})
    assert refused(town, write(put(key)))[0] == "conflict", "it stays what it was when it is deleted"
    assert write(put(key, rev=2), by=bob) == ContextWritten(C, {key: 3})


def test_what_a_key_is_shows_in_its_value(ann, write):
    write(put("g", guarded=True, rev=0), put("d", decision=True, rev=0), put("decisions/x", rev=0), put("a"))
    shown = {value.key: (value.decision, value.guarded) for value in read(ann, prefix="").values}
    assert shown == {"a": (False, False), "d": (True, False), "decisions/x": (True, False), "g": (False, True)}
    (absent,) = read(ann, "decisions/y").values
    assert (absent.rev, absent.decision, absent.deleted) == (0, True, False)


# Attempts -------------------------------------------------------------------------------------------------------------


def test_an_attempt_writes_while_it_is_current_or_may_come_back(town, ann, write):
    worker = town.worker("w")
    task = ann.delegate()
    attempt = Held(task, worker.offer().fence)
    assert isinstance(write(put("a"), by=worker, attempt=attempt), ContextWritten)
    worker.drop()
    town.pass_time(4_000)
    assert town.task(task).authority.lapsed
    worker = town.join("w", incarnation=1)
    assert isinstance(write(put("a"), by=worker, attempt=attempt), ContextWritten)


def test_a_zombie_writes_nothing(town, ann, write):
    old, new = town.worker("old"), town.worker("new", tasks=0)
    task = ann.delegate()
    fence = old.offer().fence
    write(put("a"), by=old, attempt=Held(task, fence), key="before")
    new.say(Credit(1))
    town.pass_time(600)
    offer = new.offer()
    new.accept(offer)
    assert refused(town, write(put("a"), by=old, attempt=Held(task, fence)))[0] == "stale"
    assert isinstance(write(put("a"), by=old, attempt=Held(task, fence), key="before"), ContextWritten), "a repeat"
    assert refused(town, write(put("a"), by=old, attempt=Held(task, offer.fence)))[0] == "not_holder"
    assert refused(town, write(put("a"), by=new, attempt=Held(task, town.ledger.lsn + 9)))[0] == "malformed"
    assert refused(town, write(put("a"), by=new, attempt=Held("main-999", 1)))[0] == "not_found"
    new.report(offer)
    assert refused(town, write(put("a"), by=new, attempt=Held(task, offer.fence)))[0] == "stale"
    assert values(ann, "a") == [("a", 1, b"1")]


# Limits ---------------------------------------------------------------------------------------------------------------


def test_what_is_too_much_to_patch_at_once_is_not_patched(make_town, monkeypatch):
    ann = make_town(context_patched_max_bytes=5).join("ann")
    ann.say(ContextWrite(C, "1", [put("a", b"[1]"), put("b", b"[2]"), put("large", b"[1,2,3]")]))
    applied = []
    monkeypatch.setattr("a2a.engine.context.apply_patch", lambda *given: applied.append(given) or b"[]")
    assert ann.refused(ContextWrite(C, "2", [patch("a", b"[]"), patch("b", b"[]")])) == "too_large"
    assert applied == []
    assert isinstance(ann.say(ContextWrite(C, "3", [patch("a", b"[]"), put("large", b"[4,5,6]")])), ContextWritten)
    assert len(applied) == 1, "what is replaced costs nothing"


@pytest.mark.parametrize(
    "policy, fits, beyond, code",
    [
        ({"context_value_max_bytes": 2}, [put("a", b"12")], [put("b", b"123")], "too_large"),
        ({"context_value_max_bytes": 2}, [put("a", b"[]")], [patch("a", b"[ ]")], "too_large"),
        ({"context_ops_max": 2}, [put("a"), put("b")], [put("c"), put("d"), put("e")], "too_large"),
        ({"context_patches_max": 0}, [put("a", b"[]")], [patch("a", b"[]")], "too_large"),
        (
            {"context_patched_max_bytes": 5},
            [put("a", b"[1]"), put("b", b"[2]"), put("c")],
            [patch("a", b"[]"), patch("b", b"[]")],
            "too_large",
        ),
        ({"context_depth_max": 1}, [put("a", b"[[[]]]")], [patch("a", b"[]")], "too_large"),
        (
            {"context_patch_operations_max": 1},
            [put("a", b"[]")],
            [patch("a", b'[{"op":"test","path":"","value":[]},{"op":"test","path":"","value":[]}]')],
            "too_large",
        ),
        ({"context_keys_max": 2}, [put("a"), put("b")], [put("c")], "quota"),
        ({"context_max_bytes": 4}, [put("a", b"12"), put("b", b"34")], [put("c", b"5")], "quota"),
        ({"context_max_bytes": 4}, [put("a", b"12"), put("b", b"34")], [put("a", b"125")], "quota"),
    ],
)
def test_every_size_and_number_has_a_limit(make_town, policy, fits, beyond, code):
    ann = make_town(**policy).join("ann")
    assert isinstance(ann.say(ContextWrite(C, "1", fits)), ContextWritten)
    assert ann.refused(ContextWrite(C, "2", beyond)) == code


def test_a_full_context_may_be_changed_and_emptied(make_town):
    ann = make_town(context_keys_max=2, context_max_bytes=4, contexts_max=1).join("ann")
    ann.say(ContextWrite(C, "1", [put("a", b"12"), put("b", b"34")]))
    assert isinstance(ann.say(ContextWrite(C, "2", [put("a", b"21")])), ContextWritten)
    assert isinstance(ann.say(ContextWrite(C, "3", [delete("b")])), ContextWritten)
    assert isinstance(ann.say(ContextWrite(C, "4", [put("b", b"5")])), ContextWritten)
    assert ann.refused(ContextWrite(C, "5", [put("b", b"567")])) == "quota"
    assert ann.refused(ContextWrite("other", "1", [put("a")])) == "quota"


def test_all_contexts_together_have_a_limit(make_town):
    town = make_town(contexts_max_bytes=2_000)
    ann = town.join("ann")
    assert isinstance(ann.say(ContextWrite(C, "1", [put("a", b"1" * 700)])), ContextWritten)
    assert isinstance(ann.say(ContextWrite("other", "1", [put("a", b"1" * 700)])), ContextWritten)
    assert town.ledger.context_bytes > 2_000
    assert ann.refused(ContextWrite("other", "2", [put("a")])) == "quota"
    assert ann.refused(ContextWrite("third", "1", [put("a")])) == "quota"
    assert ann.say(ContextWrite(C, "1", [put("a", b"1" * 700)])) == ContextWritten(C, {"a": 1}), "a repeat adds nothing"


def test_a_write_depends_on_a_bounded_number_of_keys(make_town):
    ann = make_town(context_depends_max=1).join("ann")
    assert isinstance(ann.say(ContextWrite(C, "1", [put("a")], [Seen("x", 0)])), ContextWritten)
    assert ann.refused(ContextWrite(C, "2", [put("a")], [Seen("x", 0), Seen("y", 0)])) == "too_large"


# Reading --------------------------------------------------------------------------------------------------------------


def test_a_read_shows_keys_in_order_written_or_not(ann, write):
    write(put("b"), put("a/2"), put("a/1"))
    write(delete("a/2"))
    assert values(ann, "z", "b", "a/1", "b") == [("a/1", 1, b"1"), ("b", 1, b"1"), ("z", 0, None)]
    assert values(ann, prefix="a/") == [("a/1", 1, b"1"), ("a/2", 2, None)]
    assert [value.deleted for value in read(ann, prefix="a/").values] == [False, True]
    assert values(ann) == values(ann, prefix="") == [("a/1", 1, b"1"), ("a/2", 2, None), ("b", 1, b"1")]


def test_a_read_names_the_newest_write(town, ann, write):
    assert read(ann, prefix="").lsn == 0
    write(put("a"))
    lsn = town.ledger.lsn
    write(put("a"), context="other")
    assert read(ann, prefix="nothing").lsn == lsn


def test_history_has_all_revisions_and_the_newest_values(ann, bob, write):
    for number in range(20):
        write(put("a", b"%d" % number), by=(ann, bob)[number % 2], reason=f"r{number}")
    write(delete("a"))
    write(put("b"))
    shown = read(ann, "a", history=True).values
    assert [value.rev for value in shown] == list(range(1, 22))
    assert [value.payload for value in shown] == [None] * 5 + [b"%d" % number for number in range(5, 20)] + [None]
    assert [value.deleted for value in shown] == [False] * 20 + [True]
    assert [value.author for value in shown[:3]] == ["ann", "bob", "ann"]
    assert shown[0].reason == "r0"
    assert [value.key for value in read(ann, prefix="", history=True).values] == ["a"] * 21 + ["b"]
    assert [value.rev for value in read(ann, "c", history=True).values] == [0]


def test_history_is_bounded_to_the_newest(town, ann, write, monkeypatch):
    monkeypatch.setattr(context_state, "REVISIONS_KEPT", 2)
    for _ in range(3):
        write(put("a"))
    assert [value.rev for value in read(ann, "a", history=True).values] == [2, 3]
    assert refused(town, ann.say(ContextRead(C, ["a"], at_rev=1))) == ("gone", {"key": "a", "rev": 3})


def test_a_key_can_be_read_as_it_was(town, ann, write):
    for number in range(18):
        write(put("a", b"%d" % number))
    write(delete("a"))
    assert values(ann, "a", at_rev=18) == [("a", 18, b"17")]
    assert values(ann, "a", at_rev=4) == [("a", 4, b"3")]
    assert values(ann, "a", at_rev=19) == [("a", 19, None)]
    assert refused(town, ann.say(ContextRead(C, ["a"], at_rev=3))) == (
        "gone",
        {"key": "a", "rev": 19, "author": "ann"},
    )
    assert ann.refused(ContextRead(C, ["a"], at_rev=20)) == "not_found"
    assert ann.refused(ContextRead(C, ["b"], at_rev=1)) == "not_found"


@pytest.mark.parametrize(
    "fields",
    [
        {"keys": ["a"], "prefix": "a"},
        {"keys": ["a", "b"], "at_rev": 1},
        {"at_rev": 1},
        {"keys": ["a"], "at_rev": 1, "history": True},
    ],
)
def test_a_read_says_what_it_wants_in_one_way(ann, fields):
    assert ann.refused(ContextRead(C, **fields)) == "malformed"


def test_a_long_answer_comes_in_pages(make_town):
    ann = make_town(context_answer_max_bytes=600).join("ann")
    ann.say(ContextWrite(C, "1", [put(f"k{number}") for number in range(5)]))
    pages = [read(ann, prefix="k")]
    while pages[-1].next_after is not None:
        pages.append(read(ann, prefix="k", after=pages[-1].next_after))
    assert [[value.key for value in page.values] for page in pages] == [["k0", "k1", "k2"], ["k3", "k4"]]
    assert read(ann, "k0", "k4", "k2", after="k2").values[0].key == "k4"
    assert read(ann, "k0", "k1", "k2").next_after is None, "nothing follows"


# Watching -------------------------------------------------------------------------------------------------------------


def events(peer):
    """Return (key, rev, payload) for each event that came, and forget them."""
    told = [notice for notice in peer.notices if isinstance(notice, ContextEventNotice)]
    peer.notices.clear()
    return [[(value.key, value.rev, value.payload) for value in event.values] for event in told]


def test_a_watcher_hears_of_each_write_once_in_order(town, ann, bob, write):
    assert bob.say(ContextWatch(C, "a/")) == Ok()
    write(put("a/1"), put("b"), put("a/2"))
    write(put("b"))
    write(put("a/1", b"2"))
    write(delete("a/1"))
    write(put("a/1"), context="other")
    assert events(bob) == [[("a/1", 1, b"1"), ("a/2", 1, b"1")], [("a/1", 2, b"2")], [("a/1", 3, None)]]
    assert events(ann) == []


def test_an_event_names_its_watch_its_place_and_its_author(town, bob, write):
    bob.say(ContextWatch(C))
    watch = bob.frames[-1].re
    write(put("a"), reason="so")
    frame = bob.frames[-1]
    assert frame.re == watch
    assert frame.message.lsn == town.ledger.lsn
    assert (frame.message.values[0].author, frame.message.values[0].reason) == ("ann", "so")


def test_a_watch_begins_where_it_is_told_to(town, ann, bob, write):
    write(put("a"))
    lsn = read(ann).lsn
    write(put("a", b"2"))
    write(put("a", b"3"), put("b"))
    bob.say(ContextWatch(C, from_lsn=lsn))
    assert events(bob) == [[("a", 2, None)], [("a", 3, b"3"), ("b", 1, b"1")]]
    write(put("b"))
    assert events(bob) == [[("b", 2, b"1")]]


def test_after_a_lost_connection_nothing_is_missed(town, bob, write):
    bob.say(ContextWatch(C))
    write(put("a"))
    newest = bob.frames[-1].message.lsn
    bob.drop()
    write(put("a", b"2"))
    again = town.join("bob")
    again.say(ContextWatch(C, from_lsn=newest))
    assert events(again) == [[("a", 2, b"2")]]
    assert town.coordinator.live.context_watchers[C].keys() == {again.connection}


def test_a_watch_of_nothing_yet_hears_of_the_first_write(bob, write):
    bob.say(ContextWatch(C))
    assert events(bob) == []
    write(put("a"))
    assert events(bob) == [[("a", 1, b"1")]]


def test_a_second_watch_of_a_prefix_replaces_the_first_and_others_stand_beside_it(bob, write):
    bob.say(ContextWatch(C))
    bob.say(ContextWatch(C))
    bob.say(ContextWatch(C, "a"))
    write(put("a"), put("b"))
    assert events(bob) == [[("a", 1, b"1"), ("b", 1, b"1")], [("a", 1, b"1")]]
    bob.say(ContextWatch(C, stop=True))
    write(put("a"))
    assert events(bob) == [[("a", 2, b"1")]]
    bob.say(ContextWatch(C, "a", stop=True))
    write(put("a"))
    assert events(bob) == []
    assert bob.say(ContextWatch("unheard of", stop=True)) == Ok()


def test_a_watch_of_one_context_hears_nothing_of_another(bob, write):
    bob.say(ContextWatch(C))
    bob.say(ContextWatch("other"))
    write(put("a"))
    assert events(bob) == [[("a", 1, b"1")]]
    write(put("a"), context="other")
    assert events(bob) == [[("a", 1, b"1")]]


def test_whoever_is_taken_over_or_gone_watches_no_more(town, bob, write):
    bob.say(ContextWatch(C))
    again = town.join("bob")
    again.say(ContextWatch(C))
    write(put("a"))
    assert events(bob) == []
    again.drop()
    assert town.coordinator.live.context_watchers == {}


def test_a_connection_has_a_bounded_number_of_watches(make_town):
    ann = make_town(watches_max=1).join("ann")
    assert ann.say(ContextWatch(C)) == Ok()
    assert ann.refused(ContextWatch(C, "a")) == "quota"
    assert ann.say(ContextWatch(C)) == Ok(), "it replaces the one there is"
    ann.say(ContextWatch(C, stop=True))
    assert ann.say(ContextWatch("other")) == Ok()


def test_a_watch_begins_only_so_far_back(town, ann, write, monkeypatch):
    monkeypatch.setattr(context_state, "WRITES_KEPT", 3)
    for _ in range(3):
        write(put("a"))
    context = town.ledger.contexts[C]
    first = context.writes[0].lsn
    assert ann.say(ContextWatch(C)) == Ok(), "all of it is kept"
    ann.say(ContextWatch(C, stop=True))
    write(put("a"))
    ann.notices.clear()
    assert ann.refused(ContextWatch(C)) == "gone"
    assert ann.refused(ContextWatch(C, from_lsn=first - 1)) == "gone"
    write(put("a"))
    assert events(ann) == [], "a watch that was refused is none"
    assert ann.refused(ContextWatch(C, from_lsn=first)) == "gone"
    assert ann.say(ContextWatch(C, from_lsn=context.dropped_lsn)) == Ok()
    assert [[rev for _, rev, _ in event] for event in events(ann)] == [[3], [4], [5]]


def test_a_watch_is_told_so_much_again_only(make_town):
    town = make_town(context_missed_max=4)
    ann = town.join("ann")
    for number in range(3):
        ann.say(ContextWrite(C, f"{number}", [put("a"), put(f"b{number}")]))
    lsn = town.ledger.contexts[C].writes[0].lsn
    assert ann.refused(ContextWatch(C, from_lsn=lsn - 1)) == "gone"
    assert ann.say(ContextWatch(C, from_lsn=lsn)) == Ok()
    assert [len(event) for event in events(ann)] == [2, 2]
    assert ann.refused(ContextWatch(C, "a")) == "gone", "each is looked at, whether it is told or not"
    assert ann.say(ContextWatch("nothing was written")) == Ok()


def test_a_watch_of_other_keys_costs_no_look_at_each_key_of_a_write(town, ann, bob, monkeypatch):
    class Key(str):
        looks = 0

        def startswith(self, *given):
            Key.looks += 1
            return super().startswith(*given)

    for number in range(20):
        bob.say(ContextWatch(C, f"other/{number}"))
    bob.say(ContextWatch(C, "mine/7"))
    ann.say(ContextWrite(C, "1", [put(f"mine/{number}") for number in range(50)]))
    context = town.ledger.contexts[C]
    (write,) = context.writes
    monkeypatch.setattr(write, "revs", {Key(key): rev for key, rev in write.revs.items()})
    seat = bob.seat
    seat.context_watches = {watch: (request, 0) for watch, (request, _) in seat.context_watches.items()}
    told = list(context_events(town.coordinator.live, context))
    assert [value.key for _, _, event in told for value in event.values] == ["mine/7"]
    assert Key.looks <= 50 + 1 + 20


def test_an_event_of_a_revision_that_is_not_kept_names_its_author(town, ann, bob, write, monkeypatch):
    monkeypatch.setattr(context_state, "REVISIONS_KEPT", 1)
    write(put("a"), reason="first")
    write(put("a"), by=bob)
    ann.say(ContextWatch(C))
    (first, second) = [notice.values[0] for notice in ann.notices if isinstance(notice, ContextEventNotice)]
    assert (first.rev, first.payload, first.author, first.reason) == (1, None, "ann", "first")
    assert (second.rev, second.payload, second.author) == (2, b"1", "bob")


def test_a_repeat_is_known_as_long_as_its_write_is_kept(ann, write, monkeypatch):
    monkeypatch.setattr(context_state, "WRITES_KEPT", 2)
    assert write(put("a", rev=0), key="k") == ContextWritten(C, {"a": 1})
    write(put("b"))
    assert write(put("a", rev=0), key="k") == ContextWritten(C, {"a": 1})
    write(put("b"))
    assert write(put("a", rev=0), key="k").code == "conflict", "by its revision it is not done twice"


# What a result relies on ----------------------------------------------------------------------------------------------


@pytest.fixture
def decided(town, ann, write):
    """A task with evaluator `auto` in the context, its worker's offer, and a decision and a note in revision 1."""
    write(put("decisions/db", b'"sqlite"', 0), put("note"), put("flagged", rev=0, decision=True))
    worker = town.worker("w")
    task = ann.delegate(acceptance="auto", context_id=C)
    return worker, task, worker.offer()


def test_a_result_on_decisions_that_stand_is_taken_as_reported(town, ann, decided, write):
    worker, task, offer = decided
    write(put("note", b"2"))
    basis = [Seen("decisions/db", 1), Seen("note", 1), Seen("flagged", 1), Seen("decisions/later", 0)]
    assert worker.report(offer, basis=basis) == "admitted"
    assert town.task(task).state == "completed"
    (report,) = town.said(Reported)
    assert report.basis[:2] == [{"key": "decisions/db", "rev": 1}, {"key": "note", "rev": 1}]
    assert (report.stale_basis, report.review) == (None, False)
    assert town.task(task).results[-1].basis == report.basis


@pytest.mark.parametrize("key", ["decisions/db", "flagged", "decisions/later"])
def test_a_result_on_a_decision_that_moved_waits_for_a_word(town, ann, decided, write, key):
    worker, task, offer = decided
    seen = 0 if key == "decisions/later" else 1
    ann.say(TaskWatch(task))
    write(put(key, b'"other"', seen))
    assert worker.report(offer, basis=[Seen("note", 1), Seen(key, seen)]) == "admitted"
    assert town.task(task).state == "reported"
    stale = [{"key": key, "seen": seen, "current": seen + 1}]
    (report,) = town.said(Reported)
    assert (report.stale_basis, report.review) == (stale, True)
    (review,) = [mail for mail in ann.mail() if isinstance(mail, TaskReview)]
    assert review.stale_basis == [StaleBasis(key, seen, seen + 1)]
    found = ann.say(TaskGet(task))
    assert isinstance(found, TaskFound)
    assert found.view["metadata"]["staleBasis"] == stale
    assert ann.notices[-1].data["staleBasis"] == stale
    ann.confirm(review)
    assert isinstance(ann.mail()[-1], TaskSettled)
    assert town.task(task).state == "completed"
    assert "staleBasis" not in ann.say(TaskGet(task)).view["metadata"]


def test_silence_does_not_accept_a_result_on_a_decision_that_moved(town, decided, write):
    worker, task, offer = decided
    write(put("decisions/db", b"2", 1))
    worker.report(offer, basis=[Seen("decisions/db", 1)])
    town.pass_time(10_000)
    (settled,) = town.said(Settled)
    assert (settled.state, settled.reason, settled.by) == ("failed", "unconfirmed", "timer")


def test_silence_waits_on_where_it_decides_nothing(make_town):
    town = make_town(on_confirm_timeout="hold")
    ann, worker = town.join("ann"), town.worker("w")
    task = ann.delegate(acceptance="auto", context_id=C)
    ann.say(ContextWrite(C, "1", [put("decisions/db", rev=0)]))
    worker.report(worker.offer(), basis=[Seen("decisions/db", 0)])
    town.pass_time(100_000)
    assert town.task(task).state == "reported"


def test_what_failed_relies_on_nothing(town, decided, write):
    worker, task, offer = decided
    write(put("decisions/db", b"2", 1))
    worker.report(offer, "failed", basis=[Seen("decisions/db", 1)])
    assert town.task(task).state == "failed"


def test_a_delegator_that_looks_anyway_is_told_too(town, ann, write):
    write(put("decisions/db", rev=0))
    worker = town.worker("w")
    ann.delegate(context_id=C)
    write(delete("decisions/db", 1))
    worker.report(worker.offer(), basis=[Seen("decisions/db", 1)])
    (review,) = [mail for mail in ann.mail() if isinstance(mail, TaskReview)]
    assert review.stale_basis == [StaleBasis("decisions/db", 1, 2)]


def test_the_context_that_counts_is_the_tasks_own(town, ann, decided, write):
    worker, task, offer = decided
    write(put("decisions/db", rev=0), context="other")
    write(put("decisions/db", rev=1), context="other")
    worker.report(offer, basis=[Seen("decisions/db", 1)])
    assert town.task(task).state == "completed"
    assert town.said(Settled)[-1].by == "auto"
    assert stale_basis(town.ledger, "other", [Seen("decisions/db", 1)]) == [
        {"key": "decisions/db", "seen": 1, "current": 2}
    ]
    assert stale_basis(town.ledger, "nowhere", [Seen("decisions/db", 0)]) == []


# Everything again -----------------------------------------------------------------------------------------------------


def test_a_restarted_coordinator_knows_all_of_it(town, ann, write):
    for number in range(20):
        write(put("a", b"%d" % number), put("d", rev=number, decision=True), key=f"k{number}")
    write(delete("a"), reason="done with it")
    before = read(ann, prefix="", history=True)
    again = town.restart()
    ann = again.join("ann")
    assert read(ann, prefix="", history=True) == before
    assert ann.say(ContextWrite(C, "k3", [put("a", b"3"), put("d", rev=3, decision=True)])) == ContextWritten(
        C, {"a": 4, "d": 4}
    )
    assert ann.refused(ContextWrite(C, "new", [put("d")])) == "conflict"


def test_two_writers_by_compare_and_set_lose_no_update(town, ann, bob):
    """Each takes its turn after the other has read: every second try sees another revision than it knows."""
    done = {"ann": 0, "bob": 0}
    seen = {"ann": (0, 0), "bob": (0, 0)}
    tries = 0
    while min(done.values()) < 1_000:
        for peer in (ann, bob):
            if done[peer.name] == 1_000:
                continue
            tries += 1
            rev, value = seen[peer.name]
            answer = peer.say(ContextWrite(C, f"t{tries}", [put("n", b"%d" % (value + 1), rev)]))
            if isinstance(answer, ContextWritten):
                done[peer.name] += 1
                seen[peer.name] = (answer.revs["n"], value + 1)
            else:
                assert answer.code == "conflict"
                seen[peer.name] = (answer.data["rev"], int(answer.data["value"]))
    assert values(ann, "n") == [("n", 2_000, b"2000")]
    assert tries > 2_500, "they were in each other's way"
