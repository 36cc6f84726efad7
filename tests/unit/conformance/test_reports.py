"""A run told as text, JSON, JUnit XML and Markdown."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from a2a.conformance import reports
from a2a.conformance.reports import Report, expected_and_came, last_frames, line, plain, summary
from a2a.conformance.requirements import Level, requirements
from a2a.conformance.runner import Status
from a2a.conformance.support import Count


def judged(report: Report, *outcomes: Any, is_strict: bool = False) -> bool:
    return Report(replace(report.facts, is_strict=is_strict), outcomes, ()).conforms


def test_a_should_and_a_skip_count_where_it_is_strict_and_nothing_tried_proves_nothing(
    report: Report, outcome: Any
) -> None:
    passed, should = outcome("ID-1"), outcome("ID-2", status=Status.FAILED, level=Level.SHOULD)
    skipped, must = outcome("ID-2", status=Status.SKIPPED), outcome("ID-2", status=Status.FAILED)
    assert judged(report, passed, should, skipped)
    assert not judged(report, passed, must)
    assert judged(report, passed, is_strict=True)
    assert not judged(report, passed, should, is_strict=True)
    assert not judged(report, passed, skipped, is_strict=True)
    assert not judged(report)


def test_the_verdict_is_one_line(report: Report) -> None:
    assert summary(report) == "does not conform: 1 of 3 MUST passed, 1 of 1 SHOULD passed, 1 skipped"
    strict = Report(replace(report.facts, is_strict=True), report.outcomes[:1], ())
    assert summary(strict) == "conforms (strict): 1 of 1 MUST passed"
    assert summary(Report(report.facts, (), ())) == "does not conform: no case was tried"


def test_levels_have_totals(report: Report) -> None:
    assert report.total(Level.MUST) == Count(1, 1, 1)
    assert report.total(Level.SHOULD) == Count(1, 0, 0)
    assert report.total(Level.MAY) == Count()


@pytest.mark.parametrize(
    ("detail", "expected", "came"),
    [
        ("expected ok; came: {}", "ok", "{}"),
        ("expected a; b; came: c; d", "a; b", "c; d"),
        ("expected ok; none came within 5 s", "ok", "none came within 5 s"),
        ("expected ok", "ok", ""),
        ("it went wrong", "", "it went wrong"),
    ],
)
def test_a_failure_is_taken_apart(detail: str, expected: str, came: str) -> None:
    assert expected_and_came(detail) == (expected, came)


def test_the_last_frames_are_those_of_each_connection() -> None:
    trace = [*(f"a: > {number}" for number in range(9)), "b: < x: y"]
    assert last_frames(trace, 2) == ["a: > 7", "a: > 8", "b: < x: y"]
    assert last_frames([]) == []


def test_what_acts_on_a_reader_is_written_out() -> None:
    assert plain("größe ✓\nnext\x1b[31m\u202e\ud800\x00\r") == "größe ✓\nnext\\u001b[31m\\u202e\\ud800\\u0000\\u000d"


def test_a_case_has_one_line(report: Report) -> None:
    assert line(report.outcomes[0]) == "passed   MUST      0.25 s  HELLO-1/does_it [json]"
    assert line(report.outcomes[2]).endswith("LEASE-8/does_it [json]  no operator's token was given")
    assert line(report.outcomes[1]).isprintable()


def test_the_text_tells_areas_failures_and_totals(report: Report) -> None:
    text = reports.as_text(report)
    lines = text.splitlines()
    assert lines[:3] == [
        "area   passed  failed  skipped",
        "HELLO       1       1        0",
        "LEASE       1       0        1",
    ]
    assert "failed  HELLO-9/does_it  (MUST, 0.25 s)" in lines
    assert f"  requirement  {requirements()['HELLO-9'].text}" in lines
    assert "  tried        It does `it`." in lines
    assert "  expected     ok" in lines
    assert '  came         {"kind": "bye"' in text
    assert "one: < 19" in text
    assert "one: < 2\n" not in text, "the last frames are enough on a terminal"
    assert "     1  no operator's token was given" in lines
    assert "MUST         1       1        1" in lines
    assert lines[-1] == summary(report)
    assert text.replace("\n", "").isprintable()


def test_the_encoding_is_told_where_there_were_two(report: Report) -> None:
    both = Report(replace(report.facts, encodings=("json", "msgpack")), report.outcomes, ())
    assert "failed  HELLO-9/does_it [json]  (MUST" in reports.as_text(both)


def test_the_json_has_its_fields_in_order(report: Report) -> None:
    written = reports.as_json(report)
    assert written.isascii()
    assert "\n" not in written
    told = json.loads(written)
    assert list(told) == [
        *("conforms", "role", "peer", "version", "encodings", "began", "seconds", "strict"),
        *("totals", "areas", "cases", "uncovered"),
    ]
    assert told["totals"] == {
        "MUST": {"passed": 1, "failed": 1, "skipped": 1},
        "SHOULD": {"passed": 1, "failed": 0, "skipped": 0},
        "MAY": {"passed": 0, "failed": 0, "skipped": 0},
    }
    lease = next(area for area in told["areas"] if area["area"] == "LEASE")
    assert lease["requirements"] == [
        {"requirement": "LEASE-8", "level": "MUST", "verdict": "not tried", "reason": "no operator's token was given"},
        {"requirement": "LEASE-10", "level": "SHOULD", "verdict": "met", "reason": ""},
    ]
    failed = told["cases"][1]
    assert (failed["id"], failed["outcome"], len(failed["trace"])) == ("HELLO-9/does_it", "failed", 22)
    assert failed["detail"] == report.outcomes[1].detail, "nothing is lost"
    assert len(told["uncovered"]) == len(requirements()) - 5
    assert all(name in (reports.as_json.__doc__ or "") for field in (told, failed, lease) for name in field)


def test_junit_has_a_suite_for_each_area(report: Report) -> None:
    written = reports.as_junit(report)
    root = ElementTree.fromstring(written.encode())
    assert (root.tag, root.get("tests"), root.get("failures"), root.get("skipped")) == ("testsuites", "4", "1", "1")
    hello, lease = root
    assert (hello.get("name"), hello.get("tests"), hello.get("failures")) == ("HELLO", "2", "1")
    assert [case.get("classname") for case in lease.iter("testcase")] == ["coordinator.LEASE-8", "coordinator.LEASE-10"]
    failure = hello.find("testcase/failure")
    assert failure is not None
    assert failure.get("type") == "MUST"
    assert "<script>alert(1)</script>" in (failure.text or "")
    assert requirements()["HELLO-9"].text in (failure.text or "")
    skipped = lease.find("testcase/skipped")
    assert skipped is not None
    assert skipped.get("message") == "no operator's token was given"


def test_markdown_holds_what_was_sent_as_text(report: Report) -> None:
    written = reports.as_markdown(report)
    written.encode()
    assert "| HELLO | 1 | 1 | 0 | 1 of 2 |  |  |  |" in written
    assert "| LEASE | 1 | 0 | 1 | 0 of 1 | 1 of 1 |  | LEASE-8: no operator's token was given |" in written
    block = written.partition("````text\n")[2].partition("\n````\n")[0]
    assert "<script>" in block
    assert written.count("<script>") == block.count("<script>"), "the fence is longer than any run of backticks inside"
    assert "\x1b" not in written
    assert "### Not covered, and why" in written


def test_a_cell_of_markdown_has_no_markup_and_code_ends_where_it_should() -> None:
    assert reports._cell("a | *b* <c>\nd") == "a \\| \\*b\\* \\<c\\> d"
    assert reports._code("a ``b` c") == "``` a ``b` c ```"
