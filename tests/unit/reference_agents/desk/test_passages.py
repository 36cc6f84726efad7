from __future__ import annotations

import pytest

from reference_agents.desk import passages as module
from reference_agents.desk.passages import Passage, cut, cut_all


def cut_text(text: str) -> list[Passage]:
    return list(cut("a.md", text))


def test_paragraphs_and_items_stand_under_their_headings_with_their_lines(passages: list[Passage]) -> None:
    assert passages[:3] == [
        Passage(
            "lease.md", 5, 6, "Leases / How they end",
            "A lease lapses when nobody hears from its holder.\nThe task then waits for another agent.",
        ),
        Passage("lease.md", 10, 10, "Leases / How they begin", "- An offer comes first."),
        Passage("lease.md", 11, 11, "Leases / How they begin", "- A heartbeat renews the lease."),
    ]  # fmt: skip
    assert [(passage.path, passage.line, passage.heading) for passage in passages[3:]] == [
        ("birds.txt", 1, ""), ("birds.txt", 3, ""),
    ]  # fmt: skip


def test_an_item_goes_on_over_lines() -> None:
    assert [passage.text for passage in cut_text("- one\n  more of it\n- two\n1. three\n")] == [
        "- one\n  more of it", "- two", "1. three",
    ]  # fmt: skip


def test_each_row_of_a_table_is_a_passage_and_the_line_under_its_head_none() -> None:
    found = cut_text("text\n| a | b |\n|--|--|\n| c | d |\nmore\n")
    assert [(passage.line, passage.text) for passage in found] == [
        (1, "text"), (2, "| a | b |"), (4, "| c | d |"), (5, "more"),
    ]  # fmt: skip


def test_code_is_one_passage_whatever_is_in_it() -> None:
    [before, code, after] = cut_text("x\n```py\n# no heading\n\n| no row\n```\nafter\n")
    assert (code.line, code.end, code.heading) == (2, 6, "")
    assert code.text == "```py\n# no heading\n\n| no row\n```"
    assert (before.end, after.line) == (1, 7)


def test_a_longer_fence_holds_a_shorter_one_and_an_open_one_ends_with_the_document() -> None:
    [code, after] = cut_text("````\n```\n````\nafter\n")
    assert (code.end, after.text) == (3, "after")
    [open_one] = cut_text("~~~\nleft open\n")
    assert (open_one.line, open_one.end) == (1, 2)


def test_headings_are_of_both_kinds_and_end_those_of_their_level() -> None:
    text = "One\n===\na\n\nTwo\n---\nb\n\n### Three ###\nc\n\n## Four\nd\n\n# Five\ne\n"
    assert [(passage.heading, passage.text) for passage in cut_text(text)] == [
        ("One", "a"), ("One / Two", "b"), ("One / Two / Three", "c"), ("One / Four", "d"), ("Five", "e"),
    ]  # fmt: skip


def test_a_long_passage_is_cut_at_the_ends_of_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHARACTERS_MAX", 10)
    assert [(one.line, one.end, one.text) for one in cut_text("aaaa\nbbbb\ncccc\n")] == [
        (1, 2, "aaaa\nbbbb"), (3, 3, "cccc"),
    ]  # fmt: skip


def test_a_long_line_is_cut_within_and_every_piece_says_where_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHARACTERS_MAX", 4)
    assert [(one.line, one.end, one.text) for one in cut_text("\na\nbbbbcc\nd\n")] == [
        (2, 2, "a"), (3, 3, "bbbb"), (3, 4, "cc\nd"),
    ]  # fmt: skip


def test_lines_are_counted_as_editors_do() -> None:
    text = "one\n\n\f\ntwo\u2028still two\r\n\r\n\x1c\x85\rthree\n"
    assert [(one.line, one.end, one.text) for one in cut_text(text)] == [
        (1, 1, "one"), (4, 4, "two\u2028still two"), (7, 7, "three"),
    ]  # fmt: skip


def test_a_folder_has_a_limited_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PASSAGES_MAX", 3)
    passages, skipped = cut_all([("a", "1\n\n2\n"), ("b", "3\n\n4\n"), ("c", "5\n")])
    assert [passage.text for passage in passages] == ["1", "2", "5"]
    assert skipped == [{"path": "b", "why": "the folder has more than 3 passages"}]


@pytest.mark.parametrize("text", ["", "\n\n", "# only a heading\n", "---\n", "|--|--|\n", "***\n"])
def test_what_says_nothing_has_none(text: str) -> None:
    assert [passage for passage in cut_text(text) if passage.text != "***"] == []
