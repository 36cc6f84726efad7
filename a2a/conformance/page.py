"""A run reported as one HTML page that needs nothing else: no script, no font, no picture."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from html import escape

from .reports import Report, expected_and_came, plain, summary, title
from .requirements import LEVELS, requirements
from .runner import Outcome, Status
from .support import Area, Finding, Verdict

__all__ = ["as_html"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --dim: #60646c; --ground: #fff; --raised: #f5f6f8; --rule: #dcdfe4;
  --good: #18794e; --good-ground: #e3f5ea; --bad: #b42318; --bad-ground: #fdeceb; --left: #8a5a00;
  --left-ground: #fdf3dc; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --dim: #a0a6b0; --ground: #15181c; --raised: #1e2228;
  --rule: #343a43; --good: #6fd49a; --good-ground: #16301f; --bad: #ff9b90; --bad-ground: #3d1a17; --left: #f0c36a;
  --left-ground: #382a0f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1.25rem 4rem; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .75rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .6rem; }
a { color: inherit; text-underline-offset: .15em; }
code, pre, .id { font-family: ui-monospace, monospace; font-size: .87em; overflow-wrap: anywhere; }
.name { white-space: nowrap; overflow-wrap: normal; }
.verdict { display: inline-block; padding: .35rem .9rem; border-radius: .4rem; font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 1rem 0 0; }
dt { color: var(--dim); } dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top; }
th { color: var(--dim); font-weight: 600; font-size: .85rem; white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.passed, .met { background: var(--good-ground); color: var(--good); }
.failed, .broken { background: var(--bad-ground); color: var(--bad); }
.skipped, .untried { background: var(--left-ground); color: var(--left); }
.mark { padding: .05rem .5rem; border-radius: .3rem; white-space: nowrap; font-size: .87em; font-weight: 600; }
.dim { color: var(--dim); }
.names { font-size: .87em; margin-top: .2rem; }
.names .mark { display: inline-block; margin: .1rem .25rem .1rem 0; }
details { border: 1px solid var(--rule); border-radius: .4rem; margin: .5rem 0; background: var(--raised); }
details > :not(summary) { margin-left: 1rem; margin-right: 1rem; }
summary { cursor: pointer; padding: .5rem 1rem; }
details table { background: var(--ground); margin-bottom: 1rem; }
details dl { margin-bottom: .8rem; }
pre { background: var(--ground); border: 1px solid var(--rule); border-radius: .3rem; padding: .7rem; overflow-x: auto;
  white-space: pre-wrap; max-height: 32rem; overflow-y: auto; margin-top: 0; }
@media print { details > :not(summary) { display: revert; } pre { max-height: none; } }
"""
_CLASS = {Verdict.MET: "met", Verdict.BROKEN: "broken", Verdict.UNTRIED: "untried"}


def as_html(report: Report) -> str:
    """Return the report as a page that is complete in itself."""
    body = [*_head(report), *_totals(report), *_support(report)]
    if report.failures:
        body += ["<h2 id='failures'>Failures</h2>"]
        body += [part for number, outcome in _failures(report) for part in _failure(number, outcome, report)]
    body += ["<h2 id='cases'>Cases</h2>"]
    numbers = {id(outcome): number for number, outcome in _failures(report)}
    body += [part for area in report.areas if area.outcomes for part in _cases(area, report, numbers)]
    body += _uncovered(report)
    return "\n".join(
        [
            "<!DOCTYPE html>",
            "<html lang='en'>",
            "<head>",
            "<meta charset='utf-8'>",
            "<meta name='viewport' content='width=device-width, initial-scale=1'>",
            # The page shows what a peer has sent: if that ever got in as markup, it would load and run nothing.
            "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>a2a conformance: {_text(report.facts.role)}</title>",
            f"<style>{_STYLE}</style>",
            "</head>",
            "<body>",
            *body,
            "</body>",
            "</html>",
            "",
        ]
    )


def _head(report: Report) -> Iterator[str]:
    facts = report.facts
    yield f"<h1>a2a conformance: {_text(facts.role)}</h1>"
    yield f"<div class='verdict {'passed' if report.conforms else 'failed'}'>{_text(summary(report))}</div>"
    yield "<dl>"
    yield f"<dt>tried</dt><dd><code>{_text(facts.peer)}</code></dd>"
    if facts.version:
        yield f"<dt>protocol</dt><dd>{_text(facts.version)}</dd>"
    yield f"<dt>encoding</dt><dd>{_text(' and '.join(facts.encodings))}</dd>"
    yield f"<dt>when</dt><dd>{_text(facts.began)}, {facts.seconds:.1f} s</dd>"
    yield "</dl>"


def _totals(report: Report) -> Iterator[str]:
    yield "<h2>Totals</h2>"
    rows = []
    for level in LEVELS:
        count = report.total(level)
        numbers = (("passed", count.passed), ("failed", count.failed), ("skipped", count.skipped))
        rows.append([f"<td>{level}</td>", *(_number(number, kind) for kind, number in numbers)])
    yield from _table(("level", "passed", "failed", "skipped"), rows)


def _support(report: Report) -> Iterator[str]:
    yield "<h2>Support</h2>"
    rows = []
    for area in report.areas:
        link = f"<a href='#area-{_text(area.name)}'>{_text(area.name)}</a>" if area.outcomes else _text(area.name)
        untried = "<br>".join(
            f"<span class='id'>{_text(', '.join(names))}</span>: {_text(reason)}"
            for reason, names in area.untried.items()
        )
        levels = (f"<td>{_met(area.of(level))}</td>" for level in LEVELS)
        rows.append([f"<td class='id name'>{link}</td>", *levels, f"<td class='dim'>{untried}</td>"])
    yield from _table(("area", *(f"{level} met" for level in LEVELS), "not tried, and why"), rows)


def _met(findings: Iterable[Finding]) -> str:
    found = list(findings)
    if not found:
        return ""
    met = [finding for finding in found if finding.verdict is Verdict.MET]
    names = (
        f"<span class='mark {_CLASS[finding.verdict]}' title='{_CLASS[finding.verdict]}: "
        f"{_text(finding.requirement.text)}'>{_text(finding.requirement.name)}</span>"
        for finding in found
    )
    return f"{len(met)} of {len(found)}<div class='names'>{' '.join(names)}</div>"


def _failures(report: Report) -> Iterator[tuple[int, Outcome]]:
    yield from enumerate(report.failures, 1)


def _failure(number: int, outcome: Outcome, report: Report) -> Iterator[str]:
    case, requirement = outcome.case, requirements()[outcome.case.requirement]
    expected, came = expected_and_came(outcome.detail)
    yield f"<details id='failure-{number}' open>"
    yield (
        f"<summary><span class='mark failed'>{case.level}</span> <span class='id'>{_text(title(outcome, report))}"
        "</span></summary>"
    )
    yield "<dl>"
    yield f"<dt>requirement</dt><dd><b>{_text(requirement.name)}</b> ({_text(requirement.section)}): "
    yield f"{_sentence(requirement.text)}</dd>"
    yield f"<dt>tried</dt><dd>{_sentence(case.says)}</dd>"
    if expected:
        yield f"<dt>expected</dt><dd>{_text(expected)}</dd>"
    yield f"<dt>came</dt><dd><code>{_text(came or 'something else')}</code></dd>"
    yield f"<dt>took</dt><dd>{outcome.seconds:.2f} s</dd>"
    yield "</dl>"
    if outcome.trace:
        yield f"<pre>{_text(chr(10).join(outcome.trace))}</pre>"
    yield "</details>"


def _cases(area: Area, report: Report, numbers: dict[int, int]) -> Iterator[str]:
    count = area.count
    counts = (("passed", count.passed), ("failed", count.failed), ("skipped", count.skipped))
    marks = " ".join(f"<span class='mark {kind}'>{number} {kind}</span>" for kind, number in counts if number)
    yield f"<details id='area-{_text(area.name)}'{' open' if count.failed else ''}>"
    yield f"<summary><b class='id'>{_text(area.name)}</b> {marks}</summary>"
    rows = []
    for outcome in area.outcomes:
        name = _text(title(outcome, report).partition("/")[2])
        if id(outcome) in numbers:
            name = f"<a href='#failure-{numbers[id(outcome)]}'>{name}</a>"
        why = f"<div class='dim'>{_text(outcome.detail)}</div>" if outcome.status is Status.SKIPPED else ""
        rows.append(
            [
                f"<td class='id name'>{_text(outcome.case.requirement)}</td>",
                f"<td>{outcome.case.level}</td>",
                f"<td><span class='id'>{name}</span><div class='dim'>{_sentence(outcome.case.says)}</div></td>",
                f"<td><span class='mark {outcome.status}'>{outcome.status}</span>{why}</td>",
                f"<td class='number'>{outcome.seconds:.2f}</td>",
            ]
        )
    yield from _table(("requirement", "level", "case", "outcome", "seconds"), rows)
    yield "</details>"


def _uncovered(report: Report) -> Iterator[str]:
    if not report.uncovered:
        return
    yield "<h2 id='uncovered'>Not covered, and why</h2>"
    yield f"<details><summary>{len(report.uncovered)} requirements that no case tries</summary>"
    rows = [
        [
            f"<td class='id name'>{_text(left.requirement.name)}</td>",
            f"<td>{left.requirement.level}</td>",
            f"<td>{_sentence(left.requirement.text)}</td>",
            f"<td>{_sentence(left.reason)}</td>",
        ]
        for left in report.uncovered
    ]
    yield from _table(("requirement", "level", "what it says", "why"), rows)
    yield "</details>"


def _table(headers: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    numbers = {"passed", "failed", "skipped", "seconds"}
    head = "".join(f"<th{_class(name in numbers)}>{_text(name)}</th>" for name in headers)
    yield f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>"
    for row in rows:
        yield f"<tr>{''.join(row)}</tr>"
    yield "</tbody></table></div>"


def _class(is_number: bool) -> str:
    return " class='number'" if is_number else ""


def _number(number: int, kind: str) -> str:
    shown = f"<span class='mark {kind}'>{number}</span>" if number else "0"
    return f"<td class='number'>{shown}</td>"


def _sentence(text: str) -> str:
    """Return a text of the suite or the specification, with its backticked parts as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(text))


def _text(text: str) -> str:
    """Return a text escaped, so that it stays plain text wherever it is put, in an attribute too."""
    return escape(plain(text))
