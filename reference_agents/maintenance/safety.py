"""Safety: looks at what a patch changes, and says whether it may go on.

It looks only at differences: an old fault is not the patch's. It runs nothing of the repository and trusts no agent;
`refuse` stands even if a person would have approved everything.
"""

from __future__ import annotations

import ast
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import anyio.to_thread

from a2a import Agent, AttemptFailed, TaskContext

from . import git
from .decisions import heed
from .findings import batches
from .imports import Imports
from .processes import Limits, Report, run, silent
from .scope import area_of, in_scope, is_python
from .shapes import Finding, Patch, Plan, Review, Workspace
from .workspace import Worktree, checkout, tree_of

__all__ = ["Change", "agent", "inspect", "review", "review_patch"]

Verdict = Literal["pass", "refuse", "ask"]
Check = Literal["applies", "compile", "imports", "scope", "tamper", "bandit", "secrets", "content"]

CHECK_LIMITS: Final = Limits(seconds=300.0, memory=4 * 1024**3)
COMPILE: Final = """\
import json, sys, warnings
warnings.simplefilter("ignore")
bad = {}
for path in sys.argv[1:]:
    try:
        with open(path, "rb") as file:
            compile(file.read(), path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        bad[path] = [getattr(exc, "lineno", 0) or 0, f"{type(exc).__name__}: {exc}"]
print(json.dumps(bad))
"""
"""Runs in a separate process: some input crashes the compiler."""
KNOWN_SECRETS: Final = (
    ("a private key", re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----")),
    ("a cloud access key", re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    ("a code hosting token", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{40,}|glpat-[\w-]{20,})")),
    ("a chat token", re.compile(r"\bxox[abposr]-[\w-]{10,}")),
    ("a package index token", re.compile(r"\bpypi-[\w-]{40,}")),
    ("a model provider key", re.compile(r"\bsk-[A-Za-z0-9_-]{32,}")),
    ("a signed token", re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}")),
)
LIKELY_SECRET: Final = re.compile(
    r"(?i)(?:secret|token|passw(?:or)?d|api_?key|credential)\w*[\"']?\s*[=:]\s*[\"']([^\"']{12,})[\"']"
)
ENTROPY_MIN: Final = 3.5
"""Bits per character; words of a language stay below, random keys are above."""
BIDI: Final = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Characters that make code look different from what it is."""
BYTE_ORDER_MARK: Final = "\ufeff"
INVISIBLE: Final = re.compile(f"[\u200b\u200c\u200d\u2060{BYTE_ORDER_MARK}]")
TEST_AWARE: Final = re.compile(
    r"PYTEST_CURRENT_TEST|\b_pytest\b|[\"']pytest[\"']\s+(?:not\s+)?in\s+sys\.modules|SQUAD_OUTCOMES"
)
"""Code that behaves differently while it is tested."""
SILENCER: Final = re.compile(r"#\s*(?:nosec|noqa|type:\s*ignore|pragma:\s*no\s*cover)", re.I)
SKIPS: Final = frozenset(
    {"skip", "skipif", "skipIf", "skipUnless", "xfail", "expectedFailure", "importorskip", "SkipTest", "skipTest"}
)
ASSERTING: Final = re.compile(r"assert|raises|warns|fail$", re.I)

agent = Agent("safety", version="1.0", description="Looks at what a patch changes, and may refuse it.", concurrency=1)


@agent.skill(tags=["maintenance"])
async def review_patch(workspace: Workspace, plan: Plan, patch: Patch, task: TaskContext) -> Review:
    """Say whether a patch may go on: pass, refuse, or ask a person."""
    await heed(task, plan)
    return await review(workspace, plan, patch, report=task.progress)


async def review(workspace: Workspace, plan: Plan, patch: Patch, *, report: Report = silent) -> Review:
    """Do safety's work."""
    try:
        tree = await tree_of(workspace, patch)
    except AttemptFailed as exc:
        if exc.error_code not in {"does_not_apply", "patch_mismatch"}:
            raise
        return _reviewed([_finding("applies", "refuse", "", exc.detail)])
    changes = await _changes(workspace, tree)
    findings: list[Finding] = []
    await report(0.1, f"{len(changes)} files")
    for change in changes:
        findings += inspect(plan, change)
    python = [change.path for change in changes if is_python(change.path) and change.after is not None]
    imports = Imports(sorted({*workspace["files"], *python}), workspace["import_paths"])
    async with checkout(workspace, "safety", workspace["base"]) as work:
        await report(0.4, "compiling, and looking for weaknesses")
        broken_before, weak_before = await _compile(work, python), await _weaknesses(work, python)
        missing_before = await anyio.to_thread.run_sync(imports.missing, work.path)
        await work.load(tree)
        broken, weak = await _compile(work, python), await _weaknesses(work, python)
        missing = await anyio.to_thread.run_sync(imports.missing, work.path)
    for path, (line, detail) in sorted(broken.items()):
        if path not in broken_before:
            findings.append(_finding("compile", "refuse", path, detail, line))
    # The judge accepts none of these; a patch that nobody could try may have them.
    findings += [_finding("imports", "ask", it.path, str(it)) for it in sorted(missing - missing_before)]
    findings += _new_weaknesses(weak_before, weak)
    done = _reviewed(findings)
    await report(1.0, f"{done['verdict']}: {len(findings)} remarks")
    return done


@dataclass(frozen=True, slots=True)
class Change:
    """One file before and after; None if it does not exist."""

    path: str
    before: str | None
    after: str | None
    mode_before: str
    mode_after: str

    def added(self) -> Iterator[tuple[int, str]]:
        """Yield the lines, with their numbers, that did not occur in the file before."""
        known = set((self.before or "").splitlines())
        for number, line in enumerate((self.after or "").splitlines(), 1):
            if line not in known:
                yield number, line


def inspect(plan: Plan, change: Change) -> list[Finding]:
    """Check the text of one file; `review` adds the findings of the compiler and bandit."""
    return [*_scope(plan, change), *_content(change), *_secrets(change), *_tampering(change)]


async def _changes(workspace: Workspace, tree: str) -> list[Change]:
    mirror, base = workspace["mirror"], workspace["base"]
    paths = set(await git.changed_paths(mirror, base, tree))
    sides = [
        {entry.path: entry for entry in await git.files(mirror, side) if entry.path in paths} for side in (base, tree)
    ]
    blobs = [entry.blob for side in sides for entry in side.values() if entry.mode != "160000"]
    contents = dict(zip(blobs, await git.read_blobs(mirror, blobs), strict=True))

    def text(entry: git.Entry | None) -> str | None:
        return None if entry is None else contents.get(entry.blob, b"").decode(errors="replace")

    changes = []
    for path in sorted(paths):
        before, after = sides[0].get(path), sides[1].get(path)
        modes = (before.mode if before else ""), (after.mode if after else "")
        changes.append(Change(path, text(before), text(after), *modes))
    return changes


def _scope(plan: Plan, change: Change) -> Iterator[Finding]:
    area = area_of(change.path)
    if not in_scope(plan, change.path):
        detail = f"the plan does not open {area}" if area else "outside the paths of the plan"
        yield _finding("scope", "refuse", change.path, detail)
    elif not is_python(change.path):
        yield _finding("scope", "ask", change.path, "not a Python file; none of the squad's tools changes those")


def _content(change: Change) -> Iterator[Finding]:
    """Check the type of a file, and look for characters that hide what it says."""
    if change.after is None:
        yield _finding("content", "ask", change.path, "the file is deleted")
        return
    if change.mode_after in {"120000", "160000"}:
        yield _finding("content", "refuse", change.path, "becomes a link to somewhere else")
    elif change.before is None:
        yield _finding("content", "ask", change.path, "a new file")
    elif change.mode_before != change.mode_after:
        yield _finding(
            "content", "ask", change.path, f"its mode changes from {change.mode_before} to {change.mode_after}"
        )
    if "\0" in change.after and "\0" not in (change.before or ""):
        yield _finding("content", "refuse", change.path, "becomes a binary file")
    # An encoding mark that was there before hides nothing, whatever happens to the rest of its line.
    mark = BYTE_ORDER_MARK if (change.before or "").startswith(BYTE_ORDER_MARK) else ""
    for number, line in change.added():
        if BIDI.search(line):
            yield _finding("content", "refuse", change.path, "characters that change the direction of text", number)
        elif INVISIBLE.search(line.removeprefix(mark) if number == 1 else line):
            yield _finding("content", "ask", change.path, "invisible characters", number)
        if SILENCER.search(line) and not _had_silencer(change, line):
            yield _finding("content", "ask", change.path, "silences a checker", number)


def _had_silencer(change: Change, line: str) -> bool:
    """Return whether the comment was there before, on a line that has changed otherwise."""
    match = SILENCER.search(line)
    assert match is not None
    comment = line[match.start() :].strip()
    return comment in (change.before or "")


def _secrets(change: Change) -> Iterator[Finding]:
    before = change.before or ""
    for number, line in change.added():
        for name, pattern in KNOWN_SECRETS:
            match = pattern.search(line)
            if match and match.group() not in before:
                yield _finding("secrets", "refuse", change.path, f"{name} ({match.group()[:4]}...)", number)
        match = LIKELY_SECRET.search(line)
        if match and match.group(1) not in before and _entropy(match.group(1)) >= ENTROPY_MIN:
            yield _finding("secrets", "ask", change.path, f"looks like a secret ({match.group(1)[:2]}...)", number)


def _tampering(change: Change) -> Iterator[Finding]:
    """Look for tests that say less than before, and for code that knows when it is tested."""
    if area_of(change.path) != "tests":
        for number, line in change.added():
            if TEST_AWARE.search(line) and not TEST_AWARE.search(change.before or ""):
                yield _finding("tamper", "refuse", change.path, "behaves differently while it is tested", number)
        return
    if not is_python(change.path) or change.before is None:
        return
    before = _Tests.read(change.before)
    if before is None:
        return
    after = _Tests.read(change.after or "")
    if after is None:
        return  # the compile check has reported it
    for name in sorted(before.names - after.names):
        yield _finding("tamper", "refuse", change.path, f"the test {name} is gone")
    for name in sorted(before.names & after.names):
        if after.assertions[name] < before.assertions[name]:
            detail = f"{name} asserts {after.assertions[name]} things where it asserted {before.assertions[name]}"
            yield _finding("tamper", "refuse", change.path, detail)
        if after.constant[name] > before.constant[name]:
            yield _finding("tamper", "refuse", change.path, f"{name} asserts what is always true")
    if after.skips > before.skips:
        yield _finding("tamper", "refuse", change.path, f"{after.skips - before.skips} tests more are skipped")
    for name in sorted(after.hooks - before.hooks):
        yield _finding("tamper", "ask", change.path, f"a new hook of the test runner: {name}")


@dataclass(frozen=True, slots=True)
class _Tests:
    """What a test file promises."""

    names: frozenset[str]
    assertions: Counter[str]
    constant: Counter[str]
    skips: int
    hooks: frozenset[str]

    @classmethod
    def read(cls, source: str) -> _Tests | None:
        try:
            tree = ast.parse(source.removeprefix(BYTE_ORDER_MARK))  # the parser accepts the mark only in bytes
        except (SyntaxError, ValueError, RecursionError):
            return None
        names: set[str] = set()
        hooks: set[str] = set()
        assertions: Counter[str] = Counter()
        constant: Counter[str] = Counter()
        skips = 0
        for owner, node in _walk(tree, ""):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                if node.name.startswith("test"):
                    names.add(f"{owner}{node.name}")
                if node.name.startswith("pytest_"):
                    hooks.add(node.name)
                # A helper's assertions count for the helper: it may not be hollowed out either.
                names.add(f"{owner}{node.name}") if any(_is_assertion(part) for part in ast.walk(node)) else None
                for part in ast.walk(node):
                    assertions[f"{owner}{node.name}"] += _is_assertion(part)
                    constant[f"{owner}{node.name}"] += isinstance(part, ast.Assert) and isinstance(
                        part.test, ast.Constant
                    )
            if (
                isinstance(node, ast.Name | ast.Attribute)
                and (node.id if isinstance(node, ast.Name) else node.attr) in SKIPS
            ):
                skips += 1
        return cls(frozenset(names), assertions, constant, skips, frozenset(hooks))


def _walk(tree: ast.AST, owner: str) -> Iterator[tuple[str, ast.AST]]:
    """Walk a tree, yielding each node with the classes and functions around it."""
    for node in ast.iter_child_nodes(tree):
        yield owner, node
        named = isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        yield from _walk(node, f"{owner}{node.name}." if named else owner)  # type: ignore[attr-defined]  # it is named


def _is_assertion(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert):
        return True
    if not isinstance(node, ast.Call):
        return False
    function = node.func
    name = (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )
    return bool(ASSERTING.search(name))


async def _compile(work: Worktree, paths: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Return the files that are not valid Python, with the line and what is wrong."""
    bad: dict[str, tuple[int, str]] = {}
    for batch in batches([path for path in paths if (work.path / path).is_file()]):
        command = [sys.executable, "-I", "-S", "-c", COMPILE, *batch]
        done = await run(command, cwd=work.path, limits=CHECK_LIMITS)
        if done.code != 0:
            bad.update((path, (0, "the compiler gave up on this file or one beside it")) for path in batch)
            continue
        bad.update((path, (line, detail)) for path, (line, detail) in json.loads(done.out).items())
    return bad


@dataclass(frozen=True, slots=True)
class _Weakness:
    path: str
    rule: str
    severity: str
    line: int
    text: str


async def _weaknesses(work: Worktree, paths: Sequence[str]) -> list[_Weakness]:
    """Return bandit's findings, ignoring comments that silence it."""
    found = []
    for batch in batches([path for path in paths if (work.path / path).is_file()]):
        options = ("--quiet", "--format", "json", "--exit-zero", "--ignore-nosec")
        command = [sys.executable, "-I", "-m", "bandit", *options, "--", *batch]
        done = await run(command, cwd=work.path, limits=CHECK_LIMITS)
        if done.code != 0:
            raise AttemptFailed(
                f"bandit ended with {done.code}: {done.text[-300:]}", code="tool_failed", retryable=True
            )
        for it in json.loads(done.out)["results"]:
            path = it["filename"].removeprefix("./")
            found.append(_Weakness(path, it["test_id"], it["issue_severity"], it["line_number"], it["issue_text"]))
    return found


def _new_weaknesses(before: Sequence[_Weakness], after: Sequence[_Weakness]) -> Iterator[Finding]:
    known = Counter((it.path, it.rule, it.severity) for it in before)
    verdicts: dict[str, Verdict] = {"HIGH": "refuse", "MEDIUM": "ask"}
    for it in after:
        key = (it.path, it.rule, it.severity)
        if known[key] > 0:
            known[key] -= 1
            continue
        yield _finding("bandit", verdicts.get(it.severity, "pass"), it.path, f"{it.rule}: {it.text}", it.line)


def _entropy(text: str) -> float:
    counts = Counter(text)
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())


def _finding(check: Check, verdict: Verdict, path: str, detail: str, line: int = 0) -> Finding:
    return Finding(check=check, verdict=verdict, path=path, line=line, detail=detail)


def _reviewed(findings: Sequence[Finding]) -> Review:
    order: tuple[Verdict, ...] = ("refuse", "ask", "pass")
    ordered = sorted(findings, key=lambda it: (order.index(it["verdict"]), it["path"], it["line"]))
    return Review(verdict=ordered[0]["verdict"] if ordered else "pass", findings=ordered)


if __name__ == "__main__":
    agent.main()
