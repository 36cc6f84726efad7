"""A run told as a page."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

from a2a.conformance.page import as_html
from a2a.conformance.reports import Report
from a2a.conformance.requirements import requirements

VOID = {"meta", "br"}


class Page(HTMLParser):
    """Reads a page, and knows what is open in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.links: set[str] = set()
        self.ids: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            assert name not in ("src", "style") and not name.startswith("on"), f"{tag} has {name}"
            if name == "href":
                self.links.add(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_is_complete_in_itself(report: Report) -> None:
    text = as_html(report)
    text.encode()
    page = Page(text)
    assert page.open == []
    assert not page.tags & {"script", "link", "img", "iframe"}
    assert "url(" not in text
    assert "@import" not in text
    assert "prefers-color-scheme: dark" in text
    assert page.links == {"#area-HELLO", "#area-LEASE", "#failure-1"}
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)


def test_what_a_peer_has_sent_is_text(report: Report) -> None:
    text = as_html(report)
    words = "".join(Page(text).words)
    assert "<script>alert(1)</script>" in words
    assert "\\u001b[2J\\u202e\\ud800\\u0000" in words
    hostile = replace(report.facts, peer="\"'><script>")
    assert "script" not in Page(as_html(replace(report, facts=hostile))).tags


def test_the_page_tells_support_failures_cases_and_what_is_not_covered(report: Report) -> None:
    text = as_html(report)
    words = re.sub(r"\s+", " ", "".join(Page(text).words))
    assert "does not conform: 1 of 3 MUST passed" in words
    assert "ws://127.0.0.1:7420" in words
    assert "LEASE-8: no operator's token was given" in words
    assert requirements()["HELLO-9"].text.replace("`", "") in words
    assert "one: > {}" in words, "all frames are there"
    assert "<code>it</code>" in text
    assert f"{len(report.uncovered)} requirements that no case tries" in words


def test_a_run_without_failures_has_none_on_its_page(report: Report) -> None:
    good = replace(report, outcomes=report.outcomes[:1], uncovered=())
    text = as_html(good)
    assert "Failures" not in text
    assert "Not covered" not in text
    assert "conforms: 1 of 1 MUST passed" in text
