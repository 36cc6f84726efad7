"""Skills as MCP tools: their names, their arguments, and how a question and an outcome read to a model.

Nothing here waits or asks anybody: `mcp` handles the calls.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError, best_match
from mcp_types import CallToolResult, TextContent, Tool, ToolAnnotations
from referencing import Registry
from referencing.exceptions import Unresolvable

from ..cli.asking import choose, how_to_fill, question_lines
from ..content import json_payload
from ..delegator import AgentInfo

__all__ = [
    "STANDING",
    "Question",
    "SkillTool",
    "check_arguments",
    "failure",
    "notice",
    "outcome",
    "text_of",
    "tool_names",
    "tools_of",
]

_NAME_MAX = 48
"""Characters of a tool's name: models' APIs take 64, including the server's name that hosts put in front."""
_FIT = re.compile(rf"[A-Za-z0-9_-]{{1,{_NAME_MAX}}}")
_TEXT_MAX = 100_000
"""Characters of a result shown to a model: hosts cut off or refuse larger ones."""
_TOLD_MAX = 300
"""Characters of a complaint about an argument, which quotes it."""
_SPLIT = frozenset(("allOf", "anyOf", "oneOf"))
"""Keywords that models' APIs do not take at the root of an input schema."""

_FIELD = ("type", "enum", "minimum", "maximum", "minLength", "maxLength", "format")
"""Keywords that a field of a form may have (MCP, elicitation)."""

_TASK = {"type": "string", "description": "The task's id, as a result named it."}
_NOTICE = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("task", "state", "note")},
    "required": ["task", "state", "note"],
    "additionalProperties": False,
}
"""What a tool returns instead of a result that is not there yet."""
STANDING = [
    Tool(
        name="get_task",
        title="Wait for a task",
        description="Wait for a task that an earlier call named, and return its result, or say that it still works.",
        input_schema={"type": "object", "properties": {"task": _TASK}, "required": ["task"]},
        annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False),
    ),
    Tool(
        name="answer_task",
        title="Answer a task's question",
        description="Answer what a task asks, in the user's words, and wait for its result as get_task does.",
        input_schema={
            "type": "object",
            "properties": {
                "task": _TASK,
                "answer": {"type": "string", "description": "One of the options if there are any; else a text."},
            },
            "required": ["task", "answer"],
        },
        annotations=ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False),
    ),
]
"""The tools that always exist."""


# Skills ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SkillTool:
    """A skill as a host sees it.

    Attributes:
        skill: its id.
        shown: the tool.
        is_wrapped: its input is the argument `input`, because it is not an object with named fields.
        is_checked: the arguments are validated against the schema; not if agents disagree about the schema.
    """

    skill: str
    shown: Tool
    is_wrapped: bool
    is_checked: bool

    def input_of(self, arguments: Mapping[str, Any]) -> Any:
        """Return the task's input.

        Raises:
            ValueError: the arguments do not fit the tool; the text names the wrong ones.
        """
        if self.is_checked:
            check_arguments(self.shown, arguments)
        return arguments.get("input") if self.is_wrapped else dict(arguments)


def check_arguments(tool: Tool, arguments: Mapping[str, Any]) -> None:
    """Validate arguments against a tool's input schema.

    Raises:
        ValueError: they do not fit; the text names the wrong ones.
    """
    if wrong := _wrong(arguments, tool.input_schema):
        raise ValueError(f"{tool.name} does not take these arguments: {wrong}")


def tools_of(agents: Iterable[AgentInfo], chosen: Collection[str] = ()) -> dict[str, SkillTool]:
    """Return the tools for the skills of the agents that take work, by name.

    Args:
        chosen: the ids of the skills to show; if empty, all.
    """
    cards: dict[str, list[dict[str, Any]]] = {}
    for agent in sorted(agents, key=lambda agent: agent.agent_id):
        for card in agent.card.get("skills", ()) if agent.status == "ready" else ():
            if not chosen or card["id"] in chosen:
                cards.setdefault(card["id"], []).append(card)
    names = tool_names(cards)
    return {names[skill]: _tool(names[skill], cards[skill]) for skill in sorted(cards)}


def tool_names(skills: Iterable[str]) -> dict[str, str]:
    """Return the tool names of skills: an id that fits stays unchanged, and no name occurs twice."""
    wanted = set(skills)
    reserved = {tool.name for tool in STANDING}
    names = {skill: skill for skill in wanted if _FIT.fullmatch(skill) and skill not in reserved}
    for skill in sorted(wanted - names.keys()):
        digest, length = hashlib.sha256(skill.encode()).hexdigest(), 8
        stem = re.sub(r"[^A-Za-z0-9_-]", "_", skill)
        while (name := f"{stem[: _NAME_MAX - length - 1]}-{digest[:length]}") in names.values():
            length += 8  # another id may have been chosen to look like this name
        names[skill] = name
    return names


def _tool(name: str, cards: list[dict[str, Any]]) -> SkillTool:
    card = cards[0]
    schema = card.get("inputSchema") or {}
    is_agreed = all((other.get("inputSchema") or {}) == schema for other in cards)
    is_known = bool(schema) and _is_schema(schema)
    is_wrapped = not is_known or schema.get("type") != "object" or not _SPLIT.isdisjoint(schema)
    if is_wrapped:
        inner, definitions = _inner(schema) if is_known and _can_move(schema) else ({}, {})
        about = {"description": "The input: any JSON value, as the skill wants it; often a text."}
        schema = {"type": "object", "properties": {"input": about | inner}, "required": ["input"]} | definitions
    shown = Tool(
        name=name,
        title=card.get("name") or None,
        description=card.get("description") or None,
        input_schema=schema,
        output_schema=_output_schema(card)
        if len({json.dumps(one.get("outputSchema")) for one in cards}) == 1
        else None,
    )
    return SkillTool(card["id"], shown, is_wrapped, is_agreed)


def _output_schema(card: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the schema of a result or a notice; None if hosts of MCP before 2026 could not take it."""
    schema = card.get("outputSchema") or {}
    if schema.get("type") != "object" or not _is_schema(schema, for_hosts=True) or not _can_move(schema):
        return None
    inner, definitions = _inner(schema)
    return {"type": "object", "anyOf": [inner, _NOTICE]} | definitions


def _inner(schema: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a schema for embedding in another one, and the definitions that move to the root."""
    inner = {name: value for name, value in schema.items() if name not in ("$defs", "$schema")}
    return inner, {"$defs": schema["$defs"]} if "$defs" in schema else {}


def _can_move(schema: Mapping[str, Any]) -> bool:
    """Tell whether a schema means the same inside another one: it refers only to its own definitions."""
    return re.search(r'"\$(?!defs"|schema"|ref": "#/\$defs/)', json.dumps(schema)) is None


def _is_schema(schema: Any, *, for_hosts: bool = False) -> bool:
    """Tell whether it is a JSON Schema. With `for_hosts`, its patterns must be valid in Python, for hosts to check."""
    try:
        Draft202012Validator.check_schema(schema, FormatChecker(("regex",) if for_hosts else ()))
    except SchemaError:
        return False
    return True


def _wrong(value: Any, schema: Mapping[str, Any]) -> str:
    """Return what does not fit, and where unless at the root; empty if everything fits, or if we cannot tell."""
    try:
        # Without its own registry, jsonschema fetches what a foreign card refers to.
        error = best_match(Draft202012Validator(schema, registry=Registry()).iter_errors(value))
    except (Unresolvable, RecursionError, re.error):  # a pattern may use another language's syntax
        return ""
    if error is None:
        return ""
    place = error.json_path.removeprefix("$").removeprefix(".")
    return (f"{place}: {error.message}" if place else error.message)[:_TOLD_MAX]


# What a model reads ---------------------------------------------------------------------------------------------------


def notice(task: str, state: str, note: str, value: Any = "") -> CallToolResult:
    """Return what replaces a missing result, now or for good; a value is shown as far as it fits.

    Args:
        note: what to tell a model, in words.
    """
    text = f"{note}\n\n{text_of(value)[:_TEXT_MAX]}".rstrip()
    said = {"task": task, "state": state, "note": note}
    return CallToolResult(content=[TextContent(text=text)], structured_content=said)


def failure(text: str) -> CallToolResult:
    """Return that a call has failed, and why."""
    return CallToolResult(content=[TextContent(text=text[:_TEXT_MAX])], is_error=True)


def outcome(task: str, value: Any, tool: SkillTool | None, whole: str) -> CallToolResult:
    """Return the result of a task.

    Args:
        value: the value that its agent reported.
        tool: the tool that was called, if known here.
        whole: the command that shows the whole result.
    """
    schema = tool.shown.output_schema if tool is not None else None
    text = text_of(value)
    if len(text) > _TEXT_MAX:
        about = f"{task} is completed. Its result has {len(text)} characters, of which the first {_TEXT_MAX} follow."
        return notice(task, "completed", f"{about} Get it whole: {whole}", text)
    if schema is not None and (wrong := _wrong(value, schema)):
        return failure(f"{task} is completed, but its result is not what the skill's card says ({wrong}):\n\n{text}")
    structured = value if isinstance(value, dict) else None
    return CallToolResult(content=[TextContent(text=text)], structured_content=structured)


def text_of(value: Any) -> str:
    """Return a value as a model reads it: a text unchanged, anything else as JSON."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes, which are not text"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True)
class Question:
    """A task's question, made by `TaskContext.ask` or any other JSON value."""

    asked: Any

    @property
    def text(self) -> str:
        """The question for a person to read, with its options."""
        return "\n".join(question_lines(self.asked))

    @property
    def form(self) -> dict[str, Any]:
        """The form that a host shows: one field, because MCP's forms have no nested fields."""
        options, schema = self._get("options"), self._get("schema")
        field: dict[str, Any] = {"type": "string"}
        if options and all(isinstance(option, str) for option in options) and not how_to_fill(options):
            field = {"type": "string", "enum": options}
        elif isinstance(schema, dict) and schema.get("type") in ("boolean", "integer", "number", "string"):
            field = {name: schema[name] for name in _FIELD if name in schema}
        return {"type": "object", "properties": {"answer": field | {"title": "Answer"}}, "required": ["answer"]}

    def answer_of(self, given: Any) -> Any:
        """Return the given answer: an option by its words or its number, else JSON if it parses, or a text.

        Raises:
            ValueError: it is none of the options, or does not fit the form.
        """
        options, schema = self._get("options"), self._get("schema")
        if isinstance(options, list) and options:
            chosen = choose(str(given).strip(), options)
            if chosen is None:
                raise ValueError(f"expected one of {', '.join(map(str, options))}{how_to_fill(options)}, got {given!r}")
            return chosen
        is_schema = isinstance(schema, dict) and _is_schema(schema)
        if is_schema and not _wrong(given, schema):
            return given
        answer = _parsed(given) if isinstance(given, str) else given
        if is_schema and (wrong := _wrong(answer, schema)):
            raise ValueError(f"expected an answer of the form {json.dumps(schema)}, got {given!r}: {wrong}")
        return answer

    def _get(self, name: str) -> Any:
        return self.asked.get(name) if isinstance(self.asked, dict) else None


def _parsed(text: str) -> Any:
    """Return typed text as JSON; unchanged if it is none, or a number without a form here, as a long account number."""
    try:
        value = json.loads(text)
        if isinstance(value, int | float):
            json_payload(value)
    except (ValueError, RecursionError):
        return text
    return value
