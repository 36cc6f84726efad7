"""The outcome of a maintenance run: as JSON for programs, and as text for people.

The lead fills it in and asks the human with the same words. This module does no work and knows no coordinator.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from typing_extensions import TypedDict

from ..contest import Conflict
from ..errand import Step
from ..turns import Wait
from .decisions import Decided
from .shapes import (
    Accepted,
    Advice,
    AgreedFile,
    Evidence,
    FindingCount,
    Judgement,
    Rejected,
    Review,
    RunTally,
    Workspace,
)

__all__ = [
    "Summary",
    "Verdict",
    "describe",
    "describe_judgement",
    "enter",
    "finish",
    "in_short",
    "new_summary",
    "number_of",
    "summary_of",
]

NAMES_SHOWN: Final = 3
"""Files and tests named in one line for people; the JSON has them all."""
REJECTED_SHOWN: Final = 12
WIDTH: Final = 11
SEAL_CHARS: Final = 19
"""Characters of a digest, including its algorithm: enough to find the whole one in the JSON form."""

Verdict = Literal[
    "deployed", "nothing", "answered", "held", "rejected", "refused", "no_evidence", "undecided", "unanswered"
]
"""How a run ended.

`deployed`: the patch is a commit. `nothing`: there was nothing to change, or nothing held. `answered`: the request was
only a question. `held`: good, but nobody wanted it deployed. `rejected`: a person said no. `refused`: safety said no.
`no_evidence`: tests cannot decide here and no person was asked. `undecided`: agents contradict each other, and nothing
and nobody decided between them. `unanswered`: a person was asked, and the time to answer has passed."""


class Summary(TypedDict):
    """What came of a run; the result of `maintain`."""

    verdict: Verdict
    reason: str
    request: str
    name: str
    repository: str
    base: str
    run_dir: str
    branch: str
    """The commit's branch; empty unless it was deployed."""
    commit: str
    approved_by: str
    """`human`, `auto`, or empty."""
    answer: str
    """For a request that only asks."""
    findings_before: FindingCount
    findings_after: FindingCount
    best_single: int
    """Findings that the best unbroken proposal of one coder would have left."""
    tests_before: RunTally
    tests_after: RunTally
    test_runs: int
    evidence_reason: str
    """Why tests could not decide; empty if they could."""
    notes: list[str]
    """What could not be installed for the tests."""
    accepted: list[Accepted]
    rejected: list[Rejected]
    conflicts: list[Conflict]
    waits: list[Wait]
    """Other runs that this run waited for, if that took long."""
    decisions: list[Decided]
    """The revisions of the plan, if it has moved while it was worked on."""
    agreements: list[AgreedFile]
    advice: list[Advice]
    review: Review
    evidence: str
    """Digest of the judgement; the commit's trailer names it."""
    patch_path: str
    """A file with the whole patch, for reading; empty if there is none."""
    rounds: int
    steps: list[Step]
    retries: int
    losses: int
    attempt: int
    """The number of the lead's attempt that reached this end."""
    seconds: float
    text: str
    """The whole summary, for people."""


def new_summary(request: str, run_dir: str) -> Summary:
    """Return an empty summary, to be filled in."""
    nothing = RunTally(total=0, passed=0, failed=0, skipped=0, seconds=0.0)
    return Summary(
        verdict="nothing", reason="", request=request, name="", repository="", base="", run_dir=run_dir, branch="",
        commit="", approved_by="", answer="", findings_before={"total": 0, "by_rule": {}},
        findings_after={"total": 0, "by_rule": {}}, best_single=0, tests_before=nothing, tests_after=nothing,
        test_runs=0, evidence_reason="", notes=[], accepted=[], rejected=[], conflicts=[], waits=[], decisions=[],
        agreements=[], advice=[],
        review={"verdict": "pass", "findings": []}, evidence="", patch_path="", rounds=0, steps=[], retries=0, losses=0,
        attempt=1, seconds=0.0, text="",
    )  # fmt: skip


def summary_of(request: str, workspace: Workspace) -> Summary:
    """Return the summary of a workspace in which nothing was done yet."""
    summary = new_summary(request, workspace["run_dir"])
    summary["name"], summary["repository"], summary["base"] = (
        workspace["name"], workspace["repository"], workspace["base"]
    )  # fmt: skip
    tests = workspace["tests"]
    summary["evidence_reason"], summary["notes"] = workspace["evidence_reason"], workspace.get("notes", [])
    summary["findings_before"] = summary["findings_after"] = workspace["findings"]
    summary["tests_before"] = summary["tests_after"] = {
        "total": tests["total"], "passed": tests["passed"], "failed": tests["failed"],
        "skipped": tests["skipped"], "seconds": tests["seconds"],
    }  # fmt: skip
    return summary


def enter(
    summary: Summary, judgement: Judgement, review: Review, unheard: Sequence[Rejected], patch_path: str
) -> None:  # fmt: skip
    """Write a judgement into a summary; its verdict stands until the run has one of its own."""
    summary["findings_before"], summary["findings_after"] = judgement["findings_before"], judgement["findings_after"]
    summary["tests_before"], summary["tests_after"] = judgement["tests_before"], judgement["tests_after"]
    summary["best_single"], summary["test_runs"] = judgement["best_single"], judgement["test_runs"]
    summary["accepted"] = judgement["accepted"]
    summary["rejected"] = [*unheard, *judgement["rejected"]]
    summary["agreements"], summary["evidence"] = judgement["agreements"], judgement["digest"]
    summary["advice"] = judgement["advice"]
    summary["review"], summary["patch_path"] = review, patch_path
    summary["verdict"] = "no_evidence" if judgement["verdict"] == "no_evidence" else "held"


def finish(
    summary: Summary, verdict: Verdict, reason: str, steps: list[Step], rounds: int, seconds: float, attempt: int = 1
) -> Summary:  # fmt: skip
    """Record how the run ended, and put the summary into words."""
    summary["verdict"], summary["reason"] = verdict, reason
    summary["steps"], summary["rounds"], summary["seconds"] = steps, rounds, seconds
    summary["attempt"] = attempt
    summary["losses"] = sum(step["losses"] for step in steps)
    summary["retries"] = sum(max(0, step["attempts"] - step["losses"] - 1) for step in steps)
    summary["text"] = describe(summary)
    return summary


def describe(summary: Summary) -> str:
    """Put a summary into words."""
    return "\n".join(_lines(summary))


def in_short(answer: Any) -> str:
    """Summarise an answer at a rung in a few words; empty if it is not one of the squad's own answers."""
    if not isinstance(answer, Mapping):
        return ""
    try:
        if "tests_after" in answer:
            before, after, tests = answer["findings_before"], answer["findings_after"], answer["tests_after"]
            return f"{before['total']} -> {after['total']} findings, {_tests(tests)}"
        if "passed" in answer:
            return f"it holds, {answer['left']} findings left" if answer["passed"] else str(answer["detail"])
        if "choice" in answer:
            return "findings left: " + ", ".join(
                "it does not hold" if left < 0 else str(left) for left in answer["left"]
            )
    except (KeyError, TypeError):
        return ""  # any agent with the skill may answer, in any form
    return ""


def describe_judgement(judgement: Judgement, review: Review) -> str:
    """Put a judgement into words, for the person who has to approve it."""
    return "\n".join([*_figures(judgement), *_safety(review)])


def _lines(summary: Summary) -> Iterator[str]:
    yield f"{summary['name'] or summary['request']}: {_headline(summary)}"
    if summary["answer"]:
        yield ""
        yield summary["answer"]
    if summary["findings_before"]["total"] or summary["tests_before"]["total"]:
        yield ""
        if summary["evidence"]:
            yield from _figures(summary)
            yield from _safety(summary["review"])
        else:
            yield _line("findings", str(summary["findings_before"]["total"]))
            if summary["verdict"] != "answered":  # for which no test has run
                yield _line("tests", _tests(summary["tests_before"]))
        if summary["evidence_reason"]:
            yield _line("no tests", summary["evidence_reason"])  # which includes the notes
        else:
            yield from (_line("setup", note) for note in summary["notes"])
    for conflict in summary["conflicts"]:
        yield from _conflict(conflict)
    for wait in summary["waits"]:
        yield _line("waited", f"{wait['seconds']:.1f} s for {_some(wait['whom'])} to be done with the repository")
    for number, decided in enumerate(summary["decisions"]):
        why = f": {' '.join(decided['reason'].split())}" if decided["reason"] else ""
        yield _line("" if number else "plan", f"revision {decided['rev']} by {decided['by']}{why}")
    if summary["approved_by"]:
        yield _line("approved", summary["approved_by"])
    if summary["patch_path"]:
        yield _line("patch", summary["patch_path"])
    yield ""
    yield from _work(summary)


def _headline(summary: Summary) -> str:
    words: dict[Verdict, str] = {
        "deployed": f"commit {summary['commit'][:12]} on branch {summary['branch']}",
        "nothing": "nothing to deploy",
        "answered": "answered",
        "held": "a patch that holds, not deployed because nobody was to approve it",
        "rejected": "rejected by a person, nothing was changed",
        "refused": "refused by safety, nothing was changed",
        "no_evidence": "no evidence, nothing was changed",
        "undecided": "agents contradict each other and nobody decided, nothing was changed",
        "unanswered": "nobody answered in time, nothing was changed",
    }
    reason = f" ({summary['reason']})" if summary["reason"] else ""
    return words[summary["verdict"]] + reason


def _figures(told: Judgement | Summary) -> Iterator[str]:
    before, after = told["findings_before"]["total"], told["findings_after"]["total"]
    yield _line("findings", f"{before} -> {after}   (the best coder alone: {told['best_single']})")
    if told["verdict"] == "no_evidence" or not told["tests_before"]["total"]:
        yield _line("tests", "cannot decide here: NO_EVIDENCE, this patch was not tried")
    else:
        runs = f"{number_of(told['test_runs'], 'run')}: " * bool(told["test_runs"]) + "no new failure, none vanished"
        yield _line("tests", f"{_tests(told['tests_before'])} -> {_tests(told['tests_after'])}   ({runs})")
    for accepted in told["accepted"]:
        removed, files = accepted["removed"], _some(accepted["files"])
        what = f"{number_of(removed, 'finding')} in {files}" if removed > 0 else files
        more = f", with {number_of(-removed, 'finding')} more" if removed < 0 else ""
        yield _line("accepted", f"{accepted['agent']}: {what}{more}")
    for rejected in told["rejected"][:REJECTED_SHOWN]:
        yield from _refusal(rejected)
    if len(told["rejected"]) > REJECTED_SHOWN:
        yield _line("", f"and {len(told['rejected']) - REJECTED_SHOWN} more, in the JSON form of this summary")
    for advice in told["advice"]:
        said = f"prefers {advice['chosen']} of" if advice["chosen"] else "is undecided between"
        why = f": {advice['reasons'][0]}" if advice["reasons"] else ""
        yield _line("advice", f"{advice['by']} {said} {' / '.join(advice['between'])}, equally good by tests{why}")
    if told["agreements"]:
        paths = [agreed["path"] for agreed in told["agreements"]]
        yield _line("agreement", f"several agents changed {_some(paths)} in exactly the same way")


def _refusal(rejected: Rejected) -> Iterator[str]:
    files = _some(rejected["files"]) if rejected["files"] else "all of it"
    yield _line("rejected", f"{rejected['agent']}: {files}: {rejected['detail'] or rejected['reason']}")
    evidence = _evidence(rejected["evidence"])
    if evidence:
        yield _line("", evidence)


def _conflict(conflict: Conflict) -> Iterator[str]:
    ends = {
        "select": f"that of {conflict['chosen']} was chosen by {conflict['by']}",
        "merge": "merged",
        "reject_all": "nothing and nobody decided",
        "moot": "given up",
    }
    yield _line("conflict", f"{' / '.join(conflict['agents'])}: {ends.get(conflict['outcome'], conflict['outcome'])}")
    for tried in conflict["tried"]:
        yield _line("", tried)
    for evidence in conflict["evidence"]:
        yield _line("", f"evidence: {evidence}")
    yield _line("", f"sealed {conflict['seal'][:SEAL_CHARS]}: a2a conflict show {conflict['conflict']}")


def _evidence(evidence: Evidence) -> str:
    said = []
    if evidence["failing"]:
        said.append(f"failing: {_some(evidence['failing'], evidence['failing_total'])}")
    if evidence["vanished"]:
        said.append(f"vanished: {_some(evidence['vanished'], evidence['vanished_total'])}")
    return "; ".join(said)


def _safety(review: Review) -> Iterator[str]:
    remarks = [finding for finding in review["findings"] if finding["verdict"] != "pass"]
    yield _line("safety", review["verdict"] + (f", {number_of(len(remarks), 'remark')}" if remarks else ""))
    for finding in remarks[:NAMES_SHOWN]:
        where = f"{finding['path']}:{finding['line']}" if finding["line"] else finding["path"]
        yield _line("", f"{finding['verdict']}: {finding['check']} {where}: {finding['detail']}")


def _work(summary: Summary) -> Iterator[str]:
    wide = max((len(step["name"]) for step in summary["steps"]), default=0)
    for step in summary["steps"]:
        again = []
        if step["losses"]:
            again.append(f"{step['losses']} lost and taken up again")
        if step["attempts"] - step["losses"] > 1:
            again.append(f"{step['attempts'] - step['losses'] - 1} retried")
        if step["state"] == "failed":
            again.append(f"failed: {_in_one_line(step['detail'])}")
        tail = f"   {', '.join(again)}" if again else ""
        yield f"  {step['name']:<{wide}}  {step['agent']:<16}{step['seconds']:7.1f} s  {step['task']}{tail}"
    lost, retried = summary["losses"], summary["retries"]
    own = f", attempts of the lead itself: {summary['attempt']}" if summary["attempt"] > 1 else ""
    yield f"  in all {summary['seconds']:.1f} s; attempts lost with their agents: {lost}, retried: {retried}{own}"


def _tests(tally: RunTally) -> str:
    return f"{tally['passed']} passed, {tally['failed']} failed"


def number_of(count: int, word: str) -> str:
    """Return a count with its noun, as in `1 file` and `2 files`."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _some(names: Iterable[str], total: int = 0) -> str:
    known = list(names)
    more = max(total, len(known)) - NAMES_SHOWN
    return ", ".join(known[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _line(title: str, text: str) -> str:
    return f"  {title:<{WIDTH}}{_in_one_line(text)}"


def _in_one_line(text: str) -> str:
    """Keep foreign text, such as git's or a model's, from looking like lines of the summary."""
    return " ".join(text.splitlines())
