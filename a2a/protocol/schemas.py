"""The parts of the specification that come from the code: a JSON Schema for each kind of frame, and the state tables.

The schemas describe the JSON form of a frame, envelope and body, as a sender writes it: unknown fields pass, and absent
fields have their defaults. They are built from the dataclasses of `messages`; nothing here writes a file. Used by `a2a
schema export` and by the tests that keep `spec/` and the code equal; the protocol itself never reads a schema.
"""

from __future__ import annotations

import inspect
import json
from copy import deepcopy
from dataclasses import fields
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from .codec import _LIFTED
from .messages import KINDS, Message
from .states import SESSION, TASK, TERMINAL, TaskState, outside
from .types import AgentCard

__all__ = ["DIALECT", "NAMES", "described", "export", "session_table", "state_diagram", "state_table", "to_text"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NAMES = "urn:a2a-coordinator:v1:"
"""Schemas have names, not locations: nobody ever fetches anything to validate a frame."""

_UINT = {"type": "integer", "minimum": 0, "maximum": 2**53 - 1}
_BEFORE: dict[str, JsonSchemaValue] = {
    "id": {"description": "Chosen by the sender.", "type": "string", "minLength": 1, "maxLength": 64},
    "kind": {"type": "string"},
    "re": {"description": "The id of the frame this answers.", "type": ["string", "null"]},
    "from": {"description": "Reserved for the coordinator; not looked at.", "type": ["string", "null"]},
    "to": {"description": "The agent a frame of the coordinator is for.", "type": ["string", "null"]},
    "mseq": {
        "description": "Position in the receiver's mailbox; absent on what did not come through it.",
        **_UINT,
        "type": ["integer", "null"],
    },
    "ttlMs": {"description": "Time left for the frame.", **_UINT, "type": ["integer", "null"]},
    "slackMs": {"description": "How long the reply may be kept back.", **_UINT, "type": ["integer", "null"]},
    "trace": {"type": ["string", "null"]},
    "ext": {"description": "Extensions; not relayed.", "type": ["object", "null"]},
    "must": {"description": "Give up rather than go on where the kind is unknown.", "type": ["boolean", "null"]},
}
"""The envelope, except the fields it carries for the message."""


class _Generator(GenerateJsonSchema):
    """Writes bytes as the JSON encoding does, adds descriptions of dataclasses, and omits titles that say nothing."""

    def bytes_schema(self, schema: core_schema.BytesSchema) -> JsonSchemaValue:
        return {"type": "string", "contentMediaType": "application/json"}

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        written = super().dataclass_schema(schema)
        written.setdefault("description", inspect.getdoc(schema["cls"]) or "")  # pydantic up to 2.12 leaves it out
        return written

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def described(kind: type) -> JsonSchemaValue:
    """Return the schema of a class for its values in the JSON encoding."""
    return TypeAdapter[Any](kind).json_schema(schema_generator=_Generator)


def export() -> dict[str, JsonSchemaValue]:
    """Return file name to schema: one for each kind of frame, and one for the agent card."""
    schemas = {f"{kind}.json": _frame(message) for kind, message in KINDS.items()}
    card = described(AgentCard)
    schemas["agent-card.json"] = {"$schema": DIALECT, "$id": f"{NAMES}agent-card", **card}
    return schemas


def to_text(schema: JsonSchemaValue) -> str:
    """Return a schema as the exact text of its file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _frame(message: type[Message]) -> JsonSchemaValue:
    """Describe a frame: the message's schema with the lifted fields moved from the body into the envelope."""
    body = described(message)
    definitions = body.pop("$defs", {})
    title, description = message.kind, body.pop("description", "")
    body.pop("title", None)
    properties, required = body.pop("properties", {}), body.pop("required", [])

    envelope = deepcopy(_BEFORE) | {"kind": {"const": message.kind}}
    needed = ["id", "kind"]
    for attribute in (item.name for item in fields(message) if item.name in _LIFTED):  # type: ignore[arg-type]
        name = _LIFTED[attribute]
        envelope[name] = properties.pop(attribute)
        if attribute in required:
            required.remove(attribute)
            needed.append(name)
    body = {"type": "object", "properties": properties, **({"required": required} if required else {})}
    envelope["body"] = body
    if required:
        needed.append("body")

    schema: JsonSchemaValue = {
        "$schema": DIALECT,
        "$id": f"{NAMES}{message.kind}",
        "title": title,
        "description": description,
        "type": "object",
        "properties": envelope,
        "required": needed,
    }
    if definitions:
        schema["$defs"] = definitions
    return schema


def state_table() -> str:
    """Return the task's states and transitions as the Markdown table of the specification."""
    lines = ["| State | A2A shows | What may happen → the next state |", "|--|--|--|"]
    for state in TaskState:
        fresh, worked_on = outside(state, was_leased=False), outside(state, was_leased=True)
        shown = f"`{fresh}`" if fresh == worked_on else f"`{fresh}`, once it was leased `{worked_on}`"
        steps = [f"`{event}` → `{after}`" for (before, event), after in TASK.items() if before is state]
        lines.append(f"| `{state}` | {shown} | {', '.join(steps) or 'nothing: the end'} |")
    return "\n".join(lines) + "\n"


def state_diagram() -> str:
    """Return the transitions as a Mermaid diagram: one arrow per pair of states, with all events that lead there."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> queued: created", "    [*] --> blocked: created as a group"]
    for state in TaskState:
        arrows: dict[TaskState, list[str]] = {}
        for (before, event), after in TASK.items():
            if before is state:
                arrows.setdefault(after, []).append(event)
        lines += [f"    {state} --> {after}: {', '.join(events)}" for after, events in arrows.items()]
        if state in TERMINAL:
            lines.append(f"    {state} --> [*]")
    return "\n".join([*lines, "```"]) + "\n"


def session_table() -> str:
    """Return the messages that change a connection's state, as the Markdown table of the specification."""
    lines = ["| A connection is | After | It is |", "|--|--|--|"]
    lines += [f"| `{before}` | `{kind}` | `{after}` |" for (before, kind), after in SESSION.items()]
    return "\n".join(lines) + "\n"
