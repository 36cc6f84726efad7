"""A run reported as text for a terminal, JSON, JUnit XML and Markdown. The page for a browser is in `page`.

Nothing here looks at an implementation; everything comes from the outcomes and the facts of the run.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from .case import Case, Role
from .requirements import LEVELS, Level, requirements
from .runner import Outcome, Status, judged
from .support import Area, Count, Finding, Uncovered, Verdict, areas, counted, why_not

__all__ = [
    "Facts",
    "Report",
    "as_json",
    "as_junit",
    "as_markdown",
    "as_text",
    "expected_and_came",
    "last_frames",
    "line",
    "plain",
    "summary",
    "title",
]

LAST_FRAMES = 8
"""Frames of each connection in reports for a terminal or for pasting; JSON and the page have all that were kept."""

_ACTS = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
"""Categories of characters that move a cursor, change the direction of reading, or cannot be written to a file."""
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Facts:
    """What was tried, how and when."""

    role: Role
    peer: str
    """The URL or the command line of the implementation under test."""
    encodings: tuple[str, ...]
    began: str
    """The time, in ISO 8601."""
    seconds: float
    version: str = ""
    """The version of the protocol that was agreed on; empty if it is not known."""
    is_strict: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """The facts of a run and the outcomes of its cases."""

    facts: Facts
    outcomes: tuple[Outcome, ...]
    uncovered: tuple[Uncovered, ...]
    """The requirements that no case of any role names."""

    @classmethod
    def of(cls, facts: Facts, outcomes: Sequence[Outcome], cases: Iterable[Case]) -> Report:
        """Return the report of a run.

        Args:
            facts: The facts of the run.
            outcomes: The outcomes of its cases.
            cases: All cases, also those that were not chosen: a requirement that none of them names is uncovered.
        """
        return cls(facts, tuple(outcomes), tuple(why_not(cases)))

    @property
    def conforms(self) -> bool:
        """Whether the implementation conforms, as strictly as was asked."""
        return bool(self.outcomes) and judged(self.outcomes, strict=self.facts.is_strict)

    @property
    def areas(self) -> list[Area]:
        return areas(self.outcomes)

    @property
    def failures(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status is Status.FAILED]

    def total(self, level: Level) -> Count:
        """Count the cases of one level."""
        return counted(outcome for outcome in self.outcomes if outcome.case.level is level)


def title(outcome: Outcome, report: Report) -> str:
    """Return the id of a case, with the encoding if the run had several."""
    several = len(report.facts.encodings) > 1 and outcome.encoding
    return f"{outcome.case.id} [{outcome.encoding}]" if several else outcome.case.id


def summary(report: Report) -> str:
    """Return the verdict in one line."""
    verdict = "conforms" if report.conforms else "does not conform"
    counts = [(level, report.total(level)) for level in LEVELS]
    told = [f"{count.passed} of {count.all} {level} passed" for level, count in counts if count.all]
    if skipped := counted(report.outcomes).skipped:
        told.append(f"{skipped} skipped")
    return f"{verdict}{' (strict)' if report.facts.is_strict else ''}: {', '.join(told) or 'no case was tried'}"


def expected_and_came(detail: str) -> tuple[str, str]:
    """Split what a failed case says: into what was expected, which may be empty, and what came."""
    if not detail.startswith("expected "):
        return "", detail
    mark = "; came: " if "; came: " in detail else "; "
    expected, _, came = detail.removeprefix("expected ").partition(mark)
    return expected, came


def last_frames(trace: Iterable[str], number: int = LAST_FRAMES) -> list[str]:
    """Return the last frames of each connection in a trace, connection by connection."""
    connections: dict[str, list[str]] = {}
    for text in trace:
        connections.setdefault(text.partition(": ")[0], []).append(text)
    return [text for frames in connections.values() for text in frames[-number:]]


def plain(text: str) -> str:
    r"""Return a peer's text with characters that act on a reader written out, as `\u202e`; line feeds stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"\\u{ord(character):04x}" if character != "\n" and unicodedata.category(character) in _ACTS else character
        for character in text
    )


# Text -----------------------------------------------------------------------------------------------------------------


def line(outcome: Outcome) -> str:
    """Return the line for a case, printed when its outcome is known."""
    encoding = f" [{outcome.encoding}]" if outcome.encoding else ""
    why = f"  {outcome.detail}" if outcome.detail else ""
    case = outcome.case
    return plain(f"{outcome.status:<7}  {case.level:<6}  {outcome.seconds:6.2f} s  {case.id}{encoding}{why}")


def as_text(report: Report) -> str:
    """Return the report for a terminal: the areas, each failure in full, the totals."""
    rows = [("area", "passed", "failed", "skipped")]
    rows += [(area.name, *_numbers(area.count)) for area in report.areas if area.outcomes]
    lines = [*_columns(rows), ""]
    for outcome in report.failures:
        lines += [*_told(outcome, report), ""]
    if skipped := _reasons(report.outcomes):
        lines += ["skipped", *(f"  {number:>4}  {reason}" for reason, number in skipped.items()), ""]
    totals = [("level", "passed", "failed", "skipped")]
    totals += [(level, *_numbers(report.total(level))) for level in LEVELS]
    return plain("\n".join([*lines, *_columns(totals), "", summary(report)]) + "\n")


def _told(outcome: Outcome, report: Report) -> Iterator[str]:
    expected, came = expected_and_came(outcome.detail)
    yield f"failed  {title(outcome, report)}  ({outcome.case.level}, {outcome.seconds:.2f} s)"
    yield f"  requirement  {requirements()[outcome.case.requirement].text}"
    yield f"  tried        {outcome.case.says}"
    if expected:
        yield f"  expected     {expected}"
    yield f"  came         {came or 'something else'}"
    for number, text in enumerate(last_frames(outcome.trace)):
        yield f"  {'frames' if not number else '':<11}  {text}"


def _numbers(count: Count) -> tuple[str, str, str]:
    return str(count.passed), str(count.failed), str(count.skipped)


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return lines: the first column aligned left, the others, which are numbers, aligned right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            f"{cell:<{width}}" if not column else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _reasons(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """Return why cases were skipped, and how many for each reason."""
    found: dict[str, int] = {}
    for outcome in outcomes:
        if outcome.status is Status.SKIPPED:
            found[outcome.detail] = found.get(outcome.detail, 0) + 1
    return found


# JSON -----------------------------------------------------------------------------------------------------------------


def as_json(report: Report) -> str:
    """Return the report as one JSON object, on one line.

    Its fields, always all of them and in this order:

    - `conforms`, `role`, `peer`, `version`, `encodings`, `began`, `seconds`, `strict`: the facts of the run
    - `totals`: by level (`MUST`, `SHOULD`, `MAY`) how many cases `passed`, `failed`, were `skipped`
    - `areas`: a list, in the order of the specification; each with `area`, `passed`, `failed`, `skipped`, and in
      `requirements` what the cases showed: `requirement`, `level`, `verdict` (`met`, `broken`, `not tried`), `reason`
    - `cases`: a list, in the order of the run; each with `id`, `requirement`, `also`, `area`, `level`, `encoding`,
      `outcome`, `seconds`, `says`, `detail` (why it failed or was skipped), `trace` (of a case that failed)
    - `uncovered`: a list of the requirements that no case names: `requirement`, `level`, `reason`
    """
    facts = report.facts
    told = {
        "conforms": report.conforms,
        "role": facts.role,
        "peer": facts.peer,
        "version": facts.version,
        "encodings": list(facts.encodings),
        "began": facts.began,
        "seconds": round(facts.seconds, 3),
        "strict": facts.is_strict,
        "totals": {level: _counts(report.total(level)) for level in LEVELS},
        "areas": [
            {"area": area.name, **_counts(area.count), "requirements": [_found(finding) for finding in area.findings]}
            for area in report.areas
        ],
        "cases": [_case(outcome) for outcome in report.outcomes],
        "uncovered": [
            {"requirement": left.requirement.name, "level": left.requirement.level, "reason": left.reason}
            for left in report.uncovered
        ],
    }
    return json.dumps(told, ensure_ascii=True)


def _counts(count: Count) -> dict[str, int]:
    return {"passed": count.passed, "failed": count.failed, "skipped": count.skipped}


def _found(finding: Finding) -> dict[str, str]:
    named = {"requirement": finding.requirement.name, "level": finding.level}
    return {**named, "verdict": finding.verdict, "reason": finding.reason}


def _case(outcome: Outcome) -> dict[str, object]:
    case = outcome.case
    return {
        "id": case.id,
        "requirement": case.requirement,
        "also": list(case.also),
        "area": requirements()[case.requirement].area,
        "level": case.level,
        "encoding": outcome.encoding,
        "outcome": outcome.status,
        "seconds": round(outcome.seconds, 3),
        "says": case.says,
        "detail": outcome.detail,
        "trace": list(outcome.trace),
    }


# JUnit ----------------------------------------------------------------------------------------------------------------


def as_junit(report: Report) -> str:
    """Return the report as JUnit XML: a suite for each area, a case for each case."""
    facts = report.facts
    root = Element("testsuites", {"name": f"a2a conformance {facts.role}", **_junit_counts(report.outcomes)})
    for area in report.areas:
        if not area.outcomes:
            continue
        named = {"name": area.name, "timestamp": facts.began}
        suite = SubElement(root, "testsuite", {**named, **_junit_counts(area.outcomes)})
        properties = SubElement(suite, "properties")
        for name, value in (("role", facts.role), ("peer", facts.peer), ("version", facts.version)):
            SubElement(properties, "property", name=name, value=_xml(value))
        for outcome in area.outcomes:
            suite.append(_junit_case(outcome, report))
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _junit_counts(outcomes: Sequence[Outcome]) -> dict[str, str]:
    count = counted(outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    told = {"tests": count.all, "failures": count.failed, "errors": 0, "skipped": count.skipped}
    return {**{name: str(number) for name, number in told.items()}, "time": f"{seconds:.3f}"}


def _junit_case(outcome: Outcome, report: Report) -> Element:
    case = outcome.case
    name = title(outcome, report).partition("/")[2]
    told = Element("testcase", classname=f"{report.facts.role}.{case.requirement}", name=name)
    told.set("time", f"{outcome.seconds:.3f}")
    if outcome.status is Status.SKIPPED:
        SubElement(told, "skipped", message=_xml(outcome.detail))
    elif outcome.status is Status.FAILED:
        failure = SubElement(told, "failure", message=_xml(outcome.detail), type=case.level)
        failure.text = _xml("\n".join([*_told(outcome, report)]))
    return told


def _xml(text: str) -> str:
    """Return a text without the characters that XML cannot contain."""
    return _NOT_XML.sub("\ufffd", text)


# Markdown -------------------------------------------------------------------------------------------------------------


def as_markdown(report: Report) -> str:
    """Return the report as Markdown, for pasting."""
    facts = report.facts
    spoken = f", version {facts.version}" if facts.version else ""
    lines = [
        f"## a2a conformance: {facts.role}",
        "",
        f"**{summary(report)}**",
        "",
        f"{_code(facts.peer)}{spoken}, {' and '.join(facts.encodings)}, {facts.began}, {facts.seconds:.1f} s",
        "",
        "| area | passed | failed | skipped | MUST met | SHOULD met | MAY met | not tried |",
        "|--|--:|--:|--:|--:|--:|--:|--|",
    ]
    for area in report.areas:
        met = (_met(area.of(level)) for level in LEVELS)
        lines.append(f"| {' | '.join([area.name, *_numbers(area.count), *met, _untried(area)])} |")
    for outcome in report.failures:
        lines += ["", *_pasted(outcome, report)]
    if report.uncovered:
        lines += ["", "### Not covered, and why", "", "| requirement | level | why |", "|--|--|--|"]
        for left in report.uncovered:
            lines.append(f"| {left.requirement.name} | {left.requirement.level} | {_cell(left.reason)} |")
    return plain("\n".join(lines) + "\n")


def _pasted(outcome: Outcome, report: Report) -> Iterator[str]:
    expected, came = expected_and_came(outcome.detail)
    yield f"### {outcome.case.level} failed: {_code(title(outcome, report))}"
    yield ""
    yield f"> {requirements()[outcome.case.requirement].text}"
    yield ""
    told = [*([f"expected  {expected}"] if expected else []), f"came      {came or 'something else'}"]
    block = "\n".join([f"tried     {outcome.case.says}", *told, *last_frames(outcome.trace)])
    # Longer than any run of backticks inside, so that nothing a peer has sent ends the block.
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", block)), default=0))
    yield f"{fence}text"
    yield block
    yield fence


def _met(findings: Sequence[Finding]) -> str:
    met = sum(finding.verdict is Verdict.MET for finding in findings)
    return f"{met} of {len(findings)}" if findings else ""


def _untried(area: Area) -> str:
    return "; ".join(_cell(f"{', '.join(names)}: {reason}") for reason, names in area.untried.items())


def _code(text: str) -> str:
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    room = " " if fence != "`" else ""
    return f"{fence}{room}{' '.join(text.split())}{room}{fence}"


def _cell(text: str) -> str:
    """Return a text for a cell of a table: on one line, with its markup escaped."""
    return re.sub(r"([\\`*_<>\[\]|])", r"\\\1", " ".join(text.split()))
