"""The payloads that the agents of the squad pass to each other, and their limits.

Every value here is JSON. This module knows no agent and does no work; each agent and the command line import it.
Objects of a repository travel as git ids, which every agent can look up in the mirror named by the workspace; text for
people travels along if it is small.
"""

from __future__ import annotations

from typing import Final, Literal, NotRequired

# pydantic makes the schemas of the skills, and on Python 3.11 it takes only this TypedDict.
from typing_extensions import TypedDict

__all__ = [
    "EVIDENCE_IDS_MAX",
    "EXCERPT_CHARS_MAX",
    "PATCH_TEXT_BYTES_MAX",
    "Accepted",
    "Advice",
    "AgreedFile",
    "Area",
    "Baseline",
    "Choice",
    "Deployment",
    "Evidence",
    "Finding",
    "FindingCount",
    "FoundFile",
    "FoundSymbol",
    "Judgement",
    "Kind",
    "Listing",
    "Outcome",
    "Patch",
    "PatchedFile",
    "Plan",
    "Preference",
    "Proposal",
    "Rejected",
    "Review",
    "RunTally",
    "Source",
    "Verification",
    "Workspace",
]

PATCH_TEXT_BYTES_MAX: Final = 128 * 1024
"""A longer patch travels as a file of the run directory: half of the 256 KiB the protocol carries inline."""
EVIDENCE_IDS_MAX: Final = 20
"""How many test ids one piece of evidence names; it also says how many there were in all."""
EXCERPT_CHARS_MAX: Final = 1200
"""How much of a failure's output is quoted: enough for the last traceback."""

Kind = Literal["modernise", "fix-lint", "remove-unused", "rename", "find"]
"""What a plan asks for. `find` changes nothing: the retriever answers it."""

Area = Literal["tests", "ci", "configuration"]
"""Parts of a repository behind the scope fence: a patch may touch them only if the plan says so."""

Outcome = Literal["passed", "failed", "error", "skipped", "xfailed", "xpassed"]


class Plan(TypedDict):
    """What is to be done; made by intent from the words of a person, read by every other agent."""

    kind: Kind
    request: str
    """The person's own words."""
    target: str
    """The oldest Python version the result has to run on, as `py311`."""
    old_name: str
    """What to rename; empty unless `kind` is `rename`."""
    new_name: str
    query: str
    """What to look for; the retriever falls back to the request."""
    paths: list[str]
    """Files or folders to stay within; empty means the whole repository."""
    spared: NotRequired[list[str]]
    """Files or folders to leave alone, wherever they are."""
    may_touch: list[Area]
    """Areas behind the scope fence that this plan opens."""


class FindingCount(TypedDict):
    """Findings of the linter over the workspace's files."""

    total: int
    by_rule: dict[str, int]


class RunTally(TypedDict):
    """One test run in figures."""

    total: int
    passed: int
    failed: int
    """Failures and errors, including errors of collection."""
    skipped: int
    seconds: float


class Baseline(RunTally):
    """The test run every later one is compared with."""

    path: str
    """A JSON file in the run directory: `{"outcomes": {test id: outcome}, "unstable": [test id]}`."""
    digest: str
    """SHA-256 of that file; a judge refuses a baseline that was changed."""
    failing: list[str]
    """Test ids that failed before anything was touched, the first `EVIDENCE_IDS_MAX` of them."""
    unstable: list[str]
    """Test ids on which two runs of the same tree disagreed: no evidence either way (also truncated)."""


class Source(TypedDict):
    """Where the code to work on comes from; exactly one of the two."""

    repository: NotRequired[str]
    """Path of a folder inside a git repository without uncommitted changes."""
    sdist: NotRequired[str]
    """A source distribution of the package index, as `name==version`."""


class Workspace(TypedDict):
    """A repository made ready to be worked on; made by the preparer. The repository itself is only read."""

    name: str
    """For people: the folder's name, or `name version` of a source distribution."""
    repository: str
    """Absolute path of the git repository the result is for."""
    base: str
    """The commit everything builds on."""
    run_dir: str
    """Where all scratch files of this run are; deleting it leaves nothing behind."""
    mirror: str
    """A bare clone in the run directory: the agents' worktrees belong to it, and trees are exchanged through it."""
    python: str
    """The interpreter of the virtual environment the tests run with."""
    pytest_options: list[str]
    """What this repository needs on pytest's command line, as the preparer found out."""
    import_paths: list[str]
    """Folders of the repository that have to be importable, such as `.` and `src`."""
    files: list[str]
    """The Python files in which findings are counted, before and after."""
    findings: FindingCount
    tests: Baseline
    sandbox: Literal["namespaces", "bubblewrap", "none"]
    """How the repository's own code is kept from the network and from outliving its run."""
    allow_unsandboxed: bool
    """Whether somebody allowed the tests to run although `sandbox` is `none`."""
    evidence: Literal["ok", "none"]
    evidence_reason: str
    """Why tests cannot decide; empty if they can."""
    notes: NotRequired[list[str]]
    """What could not be installed, so that tests may say less than they could; an older preparer does not say."""


class PatchedFile(TypedDict):
    """One file of a patch."""

    path: str
    added: int
    removed: int
    """Lines; both 0 for a file that git treats as binary."""


class Patch(TypedDict):
    """A change to the base commit. Whoever makes one by hand fills in `text` only."""

    text: str
    """As `git diff --binary` writes it; empty if it is longer than `PATCH_TEXT_BYTES_MAX` and is in `path`."""
    tree: NotRequired[str]
    """The git tree that the base becomes, from the mirror. Takes precedence over `text`; absent or empty if unknown."""
    path: NotRequired[str]
    """The file in the run directory that holds the whole text."""
    digest: NotRequired[str]
    """SHA-256 of the whole text."""
    files: NotRequired[list[PatchedFile]]


class Proposal(TypedDict):
    """What a coder would do; made by the coders, and by nobody believed."""

    agent: str
    """The agent to ask again, with another tree to build on."""
    patch: Patch
    """Against the base commit, even if `onto` named another tree."""
    onto: str
    """The tree the work started from."""
    findings_before: int
    """In the files of the workspace, on the tree the work started from."""
    findings_left: int
    notes: list[str]
    """What a person should know: files the tool could not read, what it left alone."""
    elapsed: float


class Evidence(TypedDict):
    """Why a change was refused: what the tests say with it that they did not say without it."""

    failing: list[str]
    """Test ids that fail only with the change, the first `EVIDENCE_IDS_MAX` of them."""
    failing_total: int
    vanished: list[str]
    """Test ids that no longer run: gone, not collected, or skipped where they passed."""
    vanished_total: int
    excerpt: str
    """The end of the output of one failure."""


class Accepted(TypedDict):
    """What of an agent's work is in the patch."""

    agent: str
    files: list[str]
    """Files this agent changed in the accepted patch, in any round."""
    removed: int
    """Findings its steps removed."""


class Rejected(TypedDict):
    """What of an agent's work is not in the patch, and why."""

    agent: str
    files: list[str]
    reason: Literal[
        "tests", "syntax", "imports", "does_not_apply", "conflict", "no_gain", "out_of_scope", "agent_failed"
    ]
    detail: str
    evidence: Evidence
    patch_path: str
    """A file in the run directory with what was refused; empty if there was nothing to keep."""
    patch_digest: str


class AgreedFile(TypedDict):
    """A file that several agents changed in exactly the same way, without knowing of each other."""

    path: str
    agents: list[str]


class Preference(TypedDict):
    """Which of several patches is better; made by an agent that is asked where the tests cannot tell."""

    choice: int
    """Its number, from 0; -1 if undecided."""
    reasons: list[str]


class Advice(TypedDict):
    """What a judge was told where tests and findings are as good for one candidate as for another."""

    by: str
    between: list[str]
    """The agents that proposed them; the adviser did not know."""
    chosen: str
    """One of them; empty if the advice was undecided, and the judge's own order decided."""
    reasons: list[str]


class Judgement(TypedDict):
    """The decision between proposals; made by the judge."""

    verdict: Literal["accepted", "nothing", "no_evidence"]
    """`no_evidence`: tests cannot decide, so a person has to; the patch is then the proposal, untested."""
    patch: Patch
    accepted: list[Accepted]
    rejected: list[Rejected]
    agreements: list[AgreedFile]
    advice: list[Advice]
    findings_before: FindingCount
    findings_after: FindingCount
    best_single: int
    """Findings left by the best proposal that held alone: what the squad has to beat."""
    tests_before: RunTally
    tests_after: RunTally
    test_runs: int
    """How often all tests ran for this decision; in the search for faults, some tests ran more often."""
    elapsed: float
    digest: str
    """SHA-256 over the canonical JSON of the above without times and `test_runs`: the evidence in the trailer."""


class Finding(TypedDict):
    """Something the safety agent saw."""

    check: Literal["applies", "compile", "imports", "scope", "tamper", "bandit", "secrets", "content"]
    verdict: Literal["pass", "refuse", "ask"]
    path: str
    line: int
    """0 if no line is meant."""
    detail: str


class Verification(TypedDict):
    """Whether one proposal holds by itself; made by the judge where several contradict each other."""

    passed: bool
    left: int
    """Findings with it; -1 if it does not apply."""
    detail: str
    evidence: Evidence


class Choice(TypedDict):
    """Which of several proposals is the best; made by the judge."""

    choice: int
    """Its place, from 0; -1 if none is better than all others."""
    left: list[int]
    """Findings with each; -1 if it does not hold."""


class Review(TypedDict):
    """Whether a patch may go to a person, or on without one; made by safety. Differences only: old faults pass."""

    verdict: Literal["pass", "refuse", "ask"]
    """The gravest of the findings. `refuse` stands even if approval is automatic."""
    findings: list[Finding]


class Deployment(TypedDict):
    """Where the result is; made by the deployer."""

    branch: str
    commit: str
    created: bool
    """False if an earlier attempt had already made this commit."""


class FoundSymbol(TypedDict):
    """A class, function or constant that matters for a plan."""

    name: str
    kind: Literal["class", "function", "constant"]
    path: str
    line: int
    score: float


class FoundFile(TypedDict):
    """A file that matters for a plan."""

    path: str
    score: float
    matches: list[str]
    """The words of the query that it contains, the rarest first."""


class Listing(TypedDict):
    """Which files and symbols matter, the best first; made by the retriever."""

    files: list[FoundFile]
    symbols: list[FoundSymbol]
    answer: str
    """For a plan that only asks: a few sentences made of the above."""
    searched: int
    """How many files were searched."""
