"""Intent: turns a request in words into a plan, or into a question back to the person.

It works with a small vocabulary and no model; if that is not enough, an agent with the skill to read requests is asked
before the person is. Every plan is checked against a JSON Schema. Intent looks only at the request, and at whether the
paths in it exist.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import jsonschema
from referencing import Registry

from a2a import Agent, AttemptFailed, Refused, TaskContext, TaskError

from .consulting import consult
from .places import read_places
from .shapes import Area, Kind, Plan

__all__ = ["PLAN_SCHEMA", "Unclear", "agent", "check_plan", "plan_request", "understand"]

QUESTIONS_MAX: Final = 3
"""A person who has not said what they want after three questions will not say it after a fourth."""
OLDEST, NEWEST = 8, 15
"""Minor versions of Python 3 that all of the squad's tools know as a target."""
REQUEST_CHARS_MAX: Final = 4000

PLAN_SCHEMA: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Plan",
    "type": "object",
    "properties": {
        "kind": {"enum": ["modernise", "fix-lint", "remove-unused", "rename", "find"]},
        "request": {"type": "string", "minLength": 1, "maxLength": REQUEST_CHARS_MAX},
        "target": {"enum": [f"py3{minor}" for minor in range(OLDEST, NEWEST + 1)]},
        "old_name": {"type": "string", "maxLength": 200},
        "new_name": {"type": "string", "maxLength": 200},
        "query": {"type": "string", "maxLength": REQUEST_CHARS_MAX},
        "paths": {"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": 100},
        "spared": {"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": 100},
        "may_touch": {"type": "array", "items": {"enum": ["tests", "ci", "configuration"]}, "uniqueItems": True},
    },
    "required": ["kind", "request", "target", "old_name", "new_name", "query", "paths", "may_touch"],
    "additionalProperties": False,
    "if": {"properties": {"kind": {"const": "rename"}}},
    "then": {"properties": {"old_name": {"minLength": 1}, "new_name": {"minLength": 1}}},
}

WORDS: Final[dict[Kind, str]] = {
    "rename": r"\brenam(?:e|es|ing)\b",
    "modernise": r"\b(?:moderni[sz]\w*|upgrad\w*|migrat\w*|port|bring\b.*\bup to date)\b|\bpyupgrade\b|f-?strings?\b",
    "remove-unused": r"\b(?:unused|dead|unreferenced|superfluous|unneeded)\b",
    "fix-lint": r"\b(?:lint\w*|ruff|flake8|pylint|code style|findings|warnings)\b",
    "find": r"^\s*(?:please\s+)?(?:find|search|where|which|what|how|why|who|explain|describe|show|list|look for)\b",
}
"""Words that indicate a kind, in order of preference: the earlier kinds include what the later ones do."""
RENAME: Final = re.compile(
    r"\brenam\w*\s+(?:the\s+)?(?:\w+\s+)??[`'\"]?([\w.]+)[`'\"]?\s+(?:in)?to\s+[`'\"]?([\w.]*\w)[`'\"]?", re.I
)
BARE_RENAME: Final = re.compile(r"\s*[`'\"]?([\w.]+)[`'\"]?\s+(?:in)?to\s+[`'\"]?([\w.]*\w)[`'\"]?\s*\.?\s*", re.I)
VERSION: Final = re.compile(r"\b(?:py(?:thon)?[\s-]*)(\d)(?:\.?(\d{1,2}))?\b|\b(3)\.(\d{1,2})\b", re.I)
HANDS_OFF: Final = (
    r"(?:leave|without|not|never|don't|except|excluding|exclude|skip|ignore|no changes?)\b[^.;,]{0,30}\b(?:%s)\b"
    r"|\b(?:%s)\b[^.;,]{0,20}\b(?:alone|unchanged|untouched|as (?:it is|they are)"
    r"|(?:must|may|should|shall) (?:not|never) (?:be )?(?:chang|touch|modif|edit))"
)
DONT: Final = re.compile(r"(?:\b(?:do not|never|without)|\bdon't)\b(?! (?:only|just)\b).*?(?=[.;:,]|\bbut\b|$)", re.I)
"""What is not wanted, up to the end of its clause."""
HANDS_ON: Final = r"(?:includ\w*|also|and|touch|change|may change)\b[^.;,]{0,20}\b(?:%s)\b"
AREA_WORDS: Final[dict[Area, str]] = {
    "tests": "tests?",
    "ci": "ci|workflows?|pipelines?",
    "configuration": "config|configuration|settings|pyproject(?:.toml)?",
}
CHOICES: Final = (
    "modernise to {target}",
    "fix lint findings",
    "remove unused code",
    "rename something",
    "find or explain something",
)

agent = Agent("intent", version="1.0", description="Turns a request in words into a plan.", concurrency=4)


@dataclass(frozen=True, slots=True)
class Unclear:
    """Why there is no plan yet."""

    question: str
    options: tuple[str, ...] = ()
    prefix: str = ""
    """Put in front of an answer to make it a request."""
    is_open: bool = False
    """Whether the words may mean something outside this vocabulary."""
    is_again: bool = False
    """Whether an answer replaces the whole request."""


@agent.skill(tags=["maintenance"])
async def plan_request(request: str, task: TaskContext, repository: str = "") -> Plan:
    """Turn a request in words into a plan; ask the person where it is unclear."""
    words, limits = request, ""
    for _ in range(QUESTIONS_MAX):
        understood = understand(words, repository, original=request, limits=limits)
        if not isinstance(understood, Unclear):
            return understood
        plan = await _read(understood, request, repository, task) if words == request else None
        if plan is not None:
            return plan
        options = list(understood.options) or None
        answer = str(await task.ask(understood.question, options=options))
        words, limits = f"{understood.prefix}{answer}", "" if understood.is_again else f"{limits or request}; "
    understood = understand(words, repository, original=request, limits=limits)
    if isinstance(understood, Unclear):
        raise AttemptFailed(f"the request stayed unclear: {understood.question}", code="unclear", retryable=False)
    return understood


async def _read(unclear: Unclear, request: str, repository: str, task: TaskContext) -> Plan | None:
    """Have an agent that understands more words read a request; None if nothing comes of it."""
    target = _target(request)
    readers = [info.agent_id for info in await task.find("read_request") if info.status != "away"]
    if not (unclear.is_open and readers) or isinstance(target, Unclear):
        return None
    question = {"request": request[:REQUEST_CHARS_MAX], "target": target, "repository": repository}
    try:
        read = await consult(task, "read_request", question, "read-request", min(readers))
        if not isinstance(read, dict):
            raise AttemptFailed(f"{type(read).__name__} is no plan", code="bad_plan", retryable=False)
        # A plan opens only areas that the person's own words open.
        return check_plan({**read, **_own(request, read.get("kind"), repository), "target": target})
    except (TaskError, Refused, AttemptFailed) as exc:
        await task.progress(None, f"nobody could read the request: {exc}")
        return None


def _own(request: str, kind: Any, repository: str) -> dict[str, Any]:
    """Return the parts of a plan that only the person decides."""
    text = _one_line(request)
    places = read_places(text, repository)
    spared = [*places.spared, *([places.unclear] if places.unclear else [])]
    return {"request": text, "may_touch": _may_touch(text, kind)} | ({"spared": spared} if spared else {})


def understand(request: str, repository: str = "", *, original: str = "", limits: str = "") -> Plan | Unclear:
    """Return the plan of a request, or the question to ask.

    Args:
        repository: where the paths in the request should be; not looked at if empty.
        original: the person's first words, if `request` is an answer to a question.
        limits: what was said before, as far as it still says where to work.
    """
    text = _one_line(request)
    if not text:
        return Unclear("What should be done?", _choices())
    kind = _kind(text)
    if isinstance(kind, Unclear):
        return kind
    target = _target(text)
    if isinstance(target, Unclear):
        return target
    names = ("", "")
    if kind == "rename":
        match = RENAME.search(text) or BARE_RENAME.fullmatch(text.removeprefix("rename "))
        if match is None or match.group(1).lower() == "something":
            return Unclear("Rename what? Answer `OLD to NEW`.", prefix="rename ", is_open=True)
        names = (match.group(1), match.group(2))
        if any(name.endswith(".py") for name in names):
            return Unclear("Not files, but things in them get new names. Which? Answer `OLD to NEW`.", prefix="rename ")
    said = f"{_one_line(limits)} {text}"
    places = read_places(RENAME.sub("rename", said), repository, asks=kind == "find")
    if path := places.unclear:
        ways = f"with `only in {path}` or `but not in {path}`"
        return Unclear(f"Is {path} to be changed or left alone? Say the request again, {ways}.", is_again=True)
    missing = [
        path for path in (*places.within, *places.spared) if repository and not (Path(repository) / path).exists()
    ]
    if missing:
        question = f"There is no {missing[0]} in the repository. Say the request again, with a path that is there."
        return Unclear(question, is_again=True)
    plan = Plan(
        kind=kind, request=(original or text)[:REQUEST_CHARS_MAX], target=target, old_name=names[0], new_name=names[1],
        query=text if kind == "find" else names[0], paths=list(places.within), may_touch=_may_touch(said, kind),
    )  # fmt: skip
    if places.spared:
        plan["spared"] = list(places.spared)
    return check_plan(plan)


def check_plan(plan: Mapping[str, Any]) -> Plan:
    """Return a plan that follows the schema.

    Raises:
        AttemptFailed: it does not; the text says where.
    """
    # An empty registry: a schema must never make this process fetch anything.
    validator = jsonschema.Draft202012Validator(PLAN_SCHEMA, registry=Registry())
    for error in validator.iter_errors(plan):
        where = "/".join(str(part) for part in error.absolute_path) or "the plan"
        raise AttemptFailed(f"{where}: {error.message}", code="bad_plan", retryable=False)
    return cast(Plan, dict(plan))


def _one_line(text: str) -> str:
    return " ".join(text.split())[:REQUEST_CHARS_MAX].replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")


def _kind(text: str) -> Kind | Unclear:
    wanted = DONT.sub("", text)
    said: list[Kind] = [kind for kind, words in WORDS.items() if re.search(words, wanted, re.I)]
    if not said:
        return Unclear("What should be done? Choose, or say it in other words.", _choices(), is_open=True)
    if said[0] == "find" or len(said) == 1:
        return said[0]
    if "find" in said:
        # "which warnings are there" asks; "find unused imports and remove them" does not.
        orders = re.search(r"\b(?:and|then)\s+(?:fix|remove|rename|upgrade|moderni[sz]e|delete)", text, re.I)
        if orders is None:
            return "find"
        said.remove("find")
    if said[0] == "rename" and len(said) > 1:
        match = RENAME.search(text)
        first = match.group() if match else "rename something"
        return Unclear("One thing at a time: which first?", (first, *_choices()[:3]))
    return said[0]


def _target(text: str) -> str | Unclear:
    """Return the version named, or the one the tests will run with."""
    match = VERSION.search(text)
    if match is None:
        return f"py3{min(max(sys.version_info.minor, OLDEST), NEWEST)}"
    major, minor = (match.group(1) or match.group(3)), (match.group(2) or match.group(4))
    if major == "3" and minor is None:
        return f"py3{min(max(sys.version_info.minor, OLDEST), NEWEST)}"
    if major != "3" or minor is None or not OLDEST <= int(minor) <= NEWEST:
        versions = tuple(f"modernise to Python 3.{known}" for known in range(OLDEST, NEWEST + 1))
        return Unclear(f"The tools cannot write for {match.group()}. Which version should it be?", versions)
    return f"py3{int(minor)}"


def _may_touch(text: str, kind: Kind) -> list[Area]:
    """Return the areas a request opens: tests by default, because old tests are old code too; other areas by name."""
    if kind == "find":
        return []
    opened: list[Area] = []
    for area, words in AREA_WORDS.items():
        off = re.search(HANDS_OFF % (words, words), text, re.I)
        on = re.search(HANDS_ON % words, text, re.I)
        if not off and (on or area == "tests"):
            opened.append(area)
    return opened


def _choices() -> tuple[str, ...]:
    target = f"Python 3.{min(max(sys.version_info.minor, OLDEST), NEWEST)}"
    return tuple(choice.format(target=target) for choice in CHOICES)


if __name__ == "__main__":
    agent.main()
