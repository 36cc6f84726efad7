"""Whether patches of one base get in each other's way, and what has the changes of both."""

import difflib
import json
import re
from random import Random

import pytest

from a2a.engine.conflicts import merging
from a2a.engine.conflicts.comparators import Incomparable
from a2a.engine.conflicts.merging import Merge
from a2a.engine.conflicts.patches import DIFF, JSON_PATCH, Overlap, merge_patches, overlap, run

BASE = [f"line {number}" for number in range(40)]


def diff(new, old=BASE, name="f.txt", context=3):
    return "\n".join(difflib.unified_diff(old, new, f"a/{name}", f"b/{name}", n=context, lineterm="")) + "\n"


def result(content, of="repo", base="r1", **more):
    kind, field = (DIFF, "text") if isinstance(content, str) else (JSON_PATCH, "data")
    part = {"mediaType": kind, field: content} | more
    return json.dumps([{"artifactId": "p", "metadata": {"patch": {"of": of, "base": base}}, "parts": [part]}]).encode()


def changed(**lines):
    new = list(BASE)
    for number, text in lines.items():
        new[int(number[1:])] = text
    return new


def applied(text, old=BASE):
    """Apply a diff of one file, as `patch` does without any tolerance."""
    new, at, shift = [], 0, 0
    lines = text.split("\n")[2:-1]
    number = 0
    while number < len(lines):
        head = lines[number].split(" ")
        begin, count = (int(part) for part in head[1][1:].split(","))
        first, length = (int(part) for part in head[2][1:].split(","))
        begin -= count > 0
        new += old[at:begin]
        at = begin
        assert (first - (length > 0), length >= 0) == (begin + shift, True)
        number += 1
        while number < len(lines) and not lines[number].startswith("@@"):
            sign, line = lines[number][0], lines[number][1:]
            if sign != "+":
                assert old[at] == line
                at += 1
            if sign != "-":
                new.append(line)
            number += 1
        shift = len(new) - at
    return new + old[at:]


def both_ways(one, two):
    found = {bool(overlap(one, two)), bool(overlap(two, one))}
    assert len(found) == 1, "it does not matter who was first"
    return found.pop()


# Texts ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "two", "collide"),
    [
        (changed(l5="x"), changed(l30="y"), False),
        (changed(l5="x"), changed(l5="y"), True),
        (changed(l5="x"), changed(l5="x"), False),
        (changed(l5="x"), changed(l11="y"), True),
        (changed(l5="x"), changed(l12="y"), False),
        (BASE[:5] + BASE[6:], changed(l5="y"), True),
        (["x", *BASE], ["y", *BASE], True),
        ([*BASE, "x"], changed(l2="y"), False),
    ],
)
def test_diffs_collide_where_their_hunks_overlap(one, two, collide):
    assert both_ways(result(diff(one)), result(diff(two))) is collide


def test_without_context_lines_that_are_put_in_lie_where_they_are_put():
    one = result(diff([*BASE[:5], "x", *BASE[5:]], context=0))
    assert both_ways(one, result(diff([*BASE[:5], "y", *BASE[5:]], context=0)))
    assert both_ways(one, result(diff(changed(l5="y"), context=0)))
    assert not both_ways(one, result(diff(changed(l7="y"), context=0)))


def test_other_files_bases_and_things_have_nothing_in_common():
    one, other = diff(changed(l5="x")), diff(changed(l5="y"))
    assert not both_ways(result(one), result(diff(changed(l5="y"), name="g.txt")))
    assert not both_ways(result(one), result(other, base="r2"))
    assert not both_ways(result(one), result(other, of="docs"))
    assert overlap(result(one), result(other)) == "lines 3 on of f.txt of repo"


def test_two_that_make_a_file_collide_and_a_removed_one_is_changed_everywhere():
    def made(text):
        return f"diff --git a/n b/n\nnew file mode 100644\n--- /dev/null\n+++ b/n\n@@ -0,0 +1 @@\n+{text}\n"

    gone = "--- a/f.txt\n+++ /dev/null\n@@ -1,40 +0,0 @@\n" + "".join(f"-{line}\n" for line in BASE)
    assert both_ways(result(made("x")), result(made("y")))
    assert not both_ways(result(made("x")), result(made("x")))
    assert both_ways(result(gone), result(diff(changed(l20="y"))))


def test_what_overlaps_in_context_only_is_merged():
    one, two = changed(l5="x"), [*BASE[:8], "y", "z", *BASE[9:30], *BASE[31:]]
    assert both_ways(result(diff(one)), result(diff(two)))
    merged = merge_patches(result(diff(one)), result(diff(two)))
    assert merged == merge_patches(result(diff(two)), result(diff(one)))
    (artifact,) = json.loads(merged)
    assert artifact["metadata"] == {"patch": {"of": "repo", "base": "r1"}}
    expected = [*BASE[:5], "x", *BASE[6:8], "y", "z", *BASE[9:30], *BASE[31:]]
    assert applied(artifact["parts"][0]["text"]) == expected


@pytest.mark.parametrize("seed", range(200))
def test_what_is_merged_is_what_merging_the_texts_comes_to(seed):
    chance = Random(seed)
    edits = {0: [], 1: []}
    for at in sorted(chance.sample(range(39), 8)):
        edits[chance.randint(0, 1)].append((at, chance.choice(("change", "drop", "add"))))

    def made(*whose):
        new = []
        known = {at: kind for who in whose for at, kind in edits[who]}
        for at, line in enumerate(BASE):
            kind = known.get(at)
            new += {"change": [f"new {at}"], "drop": [], "add": [line, f"more {at}"], None: [line]}[kind]
        return new

    context = chance.choice((0, 1, 3))
    both = [result(diff(made(who), context=context)) for who in (0, 1)]
    if not edits[0] or not edits[1]:
        return
    try:
        merged = json.loads(merge_patches(*both))[0]["parts"][0]["text"]
    except Incomparable as reason:
        assert re.search("both have changed line|the changes of both meet at line", str(reason))
        near = [abs(one - two) for one, _ in edits[0] for two, _ in edits[1]]
        assert min(near) <= 2, "only what touches is not merged"
        return
    assert applied(merged) == made(0, 1)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (changed(l5="y"), "both have changed line 6 of"),
        (changed(l6="y"), "the changes of both meet at line 7 of"),
        ([*BASE[:6], "y", *BASE[6:]], "the changes of both meet at line 7 of"),
    ],
    ids=["the same line", "the next line", "a line between"],
)
def test_what_both_changed_is_not_merged(other, why):
    with pytest.raises(Incomparable, match=why):
        merge_patches(result(diff(changed(l5="x"))), result(diff(other)))


def test_what_does_not_show_the_same_base_is_not_merged():
    other = diff(changed(l8="y"), [*BASE[:7], "another", *BASE[8:]])
    with pytest.raises(Incomparable, match="their base is not the same"):
        merge_patches(result(diff(changed(l5="x"))), result(other))


def test_the_end_of_a_file_without_a_line_end_is_kept():
    text = "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+c\n\\ No newline at end of file\n"
    other = "--- a/g\n+++ b/g\n@@ -1 +1 @@\n-a\n+b\n"
    (artifact,) = json.loads(merge_patches(result(text), result(other)))
    assert text.replace("-1,2 +1,2", "-1,2 +1,2") in artifact["parts"][0]["text"]


# Data -----------------------------------------------------------------------------------------------------------------


def op(kind, path, **more):
    return {"op": kind, "path": path} | ({"value": 1} if kind in ("add", "replace", "test") else {}) | more


@pytest.mark.parametrize(
    ("one", "two", "collide"),
    [
        (op("replace", "/a"), op("replace", "/b"), False),
        (op("replace", "/a"), op("replace", "/a", value=2), True),
        (op("replace", "/a"), op("replace", "/a"), False),
        (op("replace", "/a"), op("add", "/a/b"), True),
        (op("replace", "/a"), op("add", "/ab"), False),
        (op("replace", ""), op("add", "/ab"), True),
        (op("replace", "/a~1b"), op("replace", "/a/b"), False),
        (op("test", "/a"), op("test", "/a", value=2), False),
        (op("test", "/a"), op("replace", "/a"), True),
        (op("copy", "/x", **{"from": "/a"}), op("replace", "/a"), True),
        (op("copy", "/x", **{"from": "/a"}), op("copy", "/y", **{"from": "/a"}), False),
        (op("move", "/x", **{"from": "/a"}), op("test", "/a"), True),
        (op("add", "/l/0"), op("replace", "/l/3"), True),
        (op("add", "/l/-"), op("remove", "/l/0"), True),
        (op("replace", "/l/0"), op("replace", "/l/3"), False),
        (op("remove", "/l/0"), op("replace", "/l/3/a"), True),
        (op("remove", "/l/0"), op("replace", "/l/name"), False),
    ],
)
def test_json_patches_collide_where_their_pointers_do(one, two, collide):
    found = both_ways(result([one]), result([two]))
    assert found is collide
    if collide:
        with pytest.raises(Incomparable, match="both have changed"):
            merge_patches(result([one]), result([two]))
    else:
        merged = merge_patches(result([one]), result([two]))
        assert merged == merge_patches(result([two]), result([one]))
        data = json.loads(merged)[0]["parts"][0]["data"]
        assert [one in data, two in data, len(data)] == [True, True, 1 + (one != two)]


def test_a_text_and_data_of_one_thing_collide():
    one, two = result(diff(changed(l5="x"))), result([op("add", "/a")])
    assert both_ways(one, two)
    with pytest.raises(Incomparable):
        merge_patches(one, two)


BLANKS = "--- a/f\n+++ b/f\n@@ -1,4 +1,4 @@\n a\n\n-b\n+%s\n c\n"


def test_an_empty_line_of_context_may_have_lost_its_space():
    assert both_ways(result(BLANKS % "x"), result(BLANKS % "y"))
    assert not both_ways(result(BLANKS % "x"), result((BLANKS % "x").replace("a\n\n", "a\n \n"))), "the same hunk"
    first, last = (
        "--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n-a\n+%s\n\n b\n",
        "--- a/f\n+++ b/f\n@@ -1,4 +1,4 @@\n a\n\n b\n-c\n+%s\n",
    )
    (artifact,) = json.loads(merge_patches(result(first % "x"), result(last % "y")))
    merged = artifact["parts"][0]["text"]
    assert merged == "--- a/f\n+++ b/f\n@@ -1,4 +1,4 @@\n-a\n+x\n \n b\n-c\n+y\n"
    with pytest.raises(Incomparable, match="other lines than it says"):
        merge_patches(result("--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n-a\n+x\n b\n"), result(last % "y"))


def test_lines_behind_a_hunk_that_it_does_not_count_are_not_lost_in_a_merge():
    one = diff(changed(l3="x"))
    longer = one.replace("@@ -1,7 +1,7 @@", "@@ -1,6 +1,6 @@")
    other = result(diff(changed(l12="y")))
    for wrong in (longer, one + "+more\n", one + "\n+more\n"):
        with pytest.raises(Incomparable, match="more lines than it says"):
            merge_patches(result(wrong), other)
        assert both_ways(result(wrong), result(diff(changed(l3="z")))), "what it counts is compared"
    for right in ("-- \n2.45.1\n", "\nIndex: g.txt\n", "diff --git a/g b/g\n+no hunk\n", "\n\n"):
        assert merge_patches(result(one + right), other) == merge_patches(result(one), other)


def test_a_diff_with_other_line_ends_is_of_the_same_files():
    one, other = diff(changed(l3="x")), diff(changed(l3="y")).replace("\n", "\r\n")
    assert both_ways(result(one), result(other))
    gone = diff([]).replace("+++ b/f.txt", "+++ /dev/null").replace("\n", "\r\n")
    assert both_ways(result(one), result(gone))
    assert run(Overlap("t2", "t1", result(one), result(other)), loosely=True) == (0, "nothing that both change")


# Limits, and what is none ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        b"no JSON",
        b"[]",
        result("no diff"),
        result("--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n-a\n+b\n"),
        result("--- a/f\n+++ b/f\n@@ -5 +5 @@\n-a\n+b\n@@ -2 +2 @@\n-a\n+b\n"),
        result("--- a/f\n+++ b/f\n@@ -0,1 +1 @@\n-a\n+b\n"),
        result("rename from f\nrename to g\n" + diff(changed(l1="x"))),
        result(diff(changed(l1="x")) + diff(changed(l5="x"))),
        result("--- a/f\n+++ b/f\n" + "".join(f"@@ -{at} +{at} @@\n-a\n+b\n" for at in range(1, 502))),
        result([]),
        result([op("add", "/a")] * 501),
        result([op("add", "a")]),
        result([op("burn", "/a")]),
        result([op("move", "/a")]),
        result(["add"]),
        result(diff(changed(l1="x")), mediaType="text/plain"),
        result(diff(changed(l1="x")), of=7),
        b'[{"metadata":{"patch":{"of":"repo","base":"r1"}},"parts":[]}]',
        b"[%s,%s]" % ((result([op("add", "/a")])[1:-1],) * 2),
    ],
)
def test_what_is_no_patch_or_beyond_the_limits_is_not_compared(wrong):
    good = result(diff(changed(l5="x")))
    for one, two in ((wrong, good), (good, wrong)):
        number, why = run(Overlap("t2", "t1", one, two))
        assert number == -1 and why
        with pytest.raises(Incomparable):
            merge_patches(one, two)


@pytest.mark.parametrize(
    ("wrong", "good"),
    [
        (result(f"--- a/f\n+++ b/f\n@@ -{'9' * 5_000} +1 @@\n-a\n+b\n"), result(diff(changed(l5="x")))),
        (result([{"op": "add", "path": "/a", "value": 10**400}]), result([{"op": "add", "path": "/a", "value": 1}])),
        (result([{"op": "add", "path": "/a", "value": "\ud800"}]), result([{"op": "add", "path": "/b", "value": 1}])),
    ],
)
def test_a_patch_with_a_value_that_cannot_be_written_is_not_merged_and_fails_no_job(wrong, good):
    for one, two in ((wrong, good), (good, wrong)):
        assert run(Overlap("t2", "t1", one, two))[0] < 1
        value, why = merging.run(Merge("k", 0, None, one, two, are_patches=True))
        assert value is None and why


def test_a_result_that_is_more_than_patches_is_compared_and_not_merged():
    more = b'[{"artifactId":"words","parts":[{"text":"done"}]},%s' % result(diff(changed(l5="y")))[1:]
    one = result(diff(changed(l5="x")))
    assert run(Overlap("t2", "t1", one, more)) == (1, "both change lines 3 on of f.txt of repo")
    assert run(Overlap("t2", "t1", one, b'[{"parts":[{"text":"done"}]}]')) == (0, "nothing that both change")
    with pytest.raises(Incomparable, match="more than patches"):
        merge_patches(one, more)
