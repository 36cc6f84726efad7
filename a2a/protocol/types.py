"""A2A v1.0's nouns, field for field, under their JSON names.

They are typed dictionaries, not classes: an agent card or a task specification is relayed, hashed and stored as it
came, with unknown fields (spec WIRE-6), so the JSON form is the only form. Values that the coordinator itself decides
on have classes in `messages` and in the engine.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Required

from pydantic import AfterValidator, ConfigDict, Field
from typing_extensions import TypedDict

from .canonical import canonical

__all__ = [
    "PATTERNS",
    "Acceptance",
    "AgentCapabilities",
    "AgentCard",
    "AgentId",
    "AgentInterface",
    "AgentProvider",
    "AgentSkill",
    "Artifact",
    "Budget",
    "Digest",
    "Identifier",
    "InCanonicalForm",
    "JsonObject",
    "Key",
    "Labels",
    "Message",
    "Milliseconds",
    "Part",
    "Priority",
    "Redundancy",
    "Requirements",
    "Resource",
    "ResourceName",
    "RungSpec",
    "SafeInt",
    "Task",
    "TaskSpec",
    "TaskStatus",
    "Uint",
    "Usage",
    "principal_of",
]


def _canonical(value: Any) -> Any:
    canonical(value)
    return value


JsonObject = dict[str, Any]
InCanonicalForm = AfterValidator(_canonical)
"""For open content that is stored: without a canonical form (2**60, 1e999) it would be another value elsewhere."""
_AGENT_ID = r"^[A-Za-z0-9][A-Za-z0-9._/@:+-]{0,95}(#[A-Za-z0-9-]{1,31})?$"
_DIGEST = r"^sha256:[0-9a-f]{64}$"
_RESOURCE_NAME = r"^[^/*\x00-\x1f\x7f]+(/[^/*\x00-\x1f\x7f]+){0,31}(/\*\*)?$"
PATTERNS = {
    _AGENT_ID: "Input should be a name of up to 96 letters, digits and . _ / @ : + -",
    _DIGEST: "Input should be sha256: and 64 digits 0 to f",
    _RESOURCE_NAME: "Input should be 1 to 32 parts with a / between them, and for all below /** at the end",
}
"""What each pattern expects, in words."""
Identifier = Annotated[str, Field(min_length=1, max_length=128)]
AgentId = Annotated[str, Field(pattern=_AGENT_ID)]
"""A stable name. The part after `#` tells the processes of one principal apart (spec ID-3)."""
Key = Annotated[str, Field(min_length=1, max_length=256)]
Digest = Annotated[str, Field(pattern=_DIGEST)]
SafeInt = Annotated[int, Field(ge=-(2**53) + 1, le=2**53 - 1)]
"""A number that every language can hold (spec WIRE-8)."""
Uint = Annotated[int, Field(ge=0, le=2**53 - 1)]
Milliseconds = Annotated[int, Field(ge=0, le=10 * 366 * 86_400_000)]
"""A duration; more than ten years is a mistake in units."""
Labels = Annotated[dict[str, str], Field(max_length=64)]
Priority = Annotated[int, Field(ge=0, le=9)]
ResourceName = Annotated[str, Field(max_length=512, pattern=_RESOURCE_NAME)]
"""Segments separated by `/`; `/**` at the end also covers everything below."""


def principal_of(agent: str) -> str:
    """Return the principal an agent id belongs to: the part before `#`."""
    return agent.partition("#")[0]


class AgentInterface(TypedDict, total=False):
    """Where and how an agent is reached (A2A 4.4.6)."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    url: Required[str]
    protocolBinding: Required[str]
    protocolVersion: Required[str]
    tenant: str


class AgentProvider(TypedDict, total=False):
    """Who answers for an agent (A2A 4.4.2)."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    organization: Required[str]
    url: Required[str]


class AgentCapabilities(TypedDict, total=False):
    """The parts of the protocol an agent supports (A2A 4.4.3)."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    streaming: bool
    pushNotifications: bool
    extendedAgentCard: bool
    extensions: list[JsonObject]


class AgentSkill(TypedDict, total=False):
    """One thing an agent can do (A2A 4.4.5); the two schemas are this protocol's addition."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    id: Required[Identifier]
    name: Required[str]
    description: Required[str]
    tags: Required[list[str]]
    examples: list[str]
    inputModes: list[str]
    outputModes: list[str]
    inputSchema: JsonObject
    outputSchema: JsonObject


class AgentCard(TypedDict, total=False):
    """An agent's description of itself (A2A 4.4.1)."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    name: Required[str]
    description: Required[str]
    version: Required[str]
    supportedInterfaces: list[AgentInterface]
    provider: AgentProvider
    capabilities: AgentCapabilities
    defaultInputModes: list[str]
    defaultOutputModes: list[str]
    skills: Annotated[list[AgentSkill], Field(max_length=256)]
    documentationUrl: str
    iconUrl: str


class Part(TypedDict, total=False):
    """A piece of content (A2A 4.1.6); exactly one of text, raw (base64), url and data."""

    text: str
    raw: str
    url: str
    data: Any
    mediaType: str
    filename: str
    metadata: JsonObject


class Message(TypedDict, total=False):
    """One turn of a conversation (A2A 4.1.4)."""

    messageId: Required[str]
    role: Required[Literal["ROLE_USER", "ROLE_AGENT"]]
    parts: Required[list[Part]]
    contextId: str
    taskId: str
    metadata: JsonObject


class Artifact(TypedDict, total=False):
    """Something a task produced (A2A 4.1.7)."""

    artifactId: Required[str]
    parts: Required[list[Part]]
    name: str
    description: str
    metadata: JsonObject


class TaskStatus(TypedDict, total=False):
    """Where a task stands (A2A 4.1.2); `timestamp` is RFC 3339."""

    state: Required[str]
    timestamp: str
    message: Message


class Task(TypedDict, total=False):
    """A task as A2A shows it (A2A 4.1.1); `metadata` has the fields that A2A does not define."""

    id: Required[str]
    contextId: Required[str]
    status: Required[TaskStatus]
    artifacts: list[Artifact]
    history: list[Message]
    metadata: JsonObject


class Requirements(TypedDict, total=False):
    """What a task requires of an agent, beyond the skill (spec ROUTE-1)."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    agent: AgentId
    tags: Annotated[list[str], Field(max_length=32)]
    labels: Labels
    mediaType: str
    exclude: Annotated[list[AgentId], Field(max_length=64)]


class Acceptance(TypedDict, total=False):
    """Who says that a result is good (spec ACCEPT-1)."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    evaluator: Literal["auto", "delegator", "human"]


class Resource(TypedDict, total=False):
    """A name that is claimed alone (`x`) or shared with others that share it (`s`) (spec CLAIM-1)."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    name: Required[ResourceName]
    mode: Literal["x", "s"]


class RungSpec(TypedDict, total=False):
    """One step of the ladder by which a conflict is decided (spec RUNG-1)."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    strategy: Required[str]
    k: Uint
    margin: Uint
    skill: Identifier
    timeoutMs: Milliseconds
    onTimeout: Literal["abort", "first_wins", "hold"]
    costMicro: Uint
    """The most that all tasks asked on this rung may use together (spec RUNG-7)."""


class Redundancy(TypedDict, total=False):
    """Have several agents that do not know of each other do the same task (spec GROUP-1)."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    n: Required[Annotated[int, Field(ge=2, le=32)]]
    k: Annotated[int, Field(ge=1, le=32)]
    """How many equal answers decide; if absent, the first rung's own rule."""
    comparator: Annotated[str, Field(max_length=512)]
    policy: Annotated[list[RungSpec], Field(min_length=1, max_length=12)]
    ballotMs: Milliseconds
    """How long to wait for more answers once two contradict each other; if absent, the namespace's time."""
    costMicro: Uint
    """The most that the tasks of all rungs may use together (spec RUNG-7); if absent, the namespace's limit."""


class TaskSpec(TypedDict, total=False):
    """What is to be done, apart from the input: the part of a delegation that its hash covers (spec TASK-2)."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    skill: Required[Identifier]
    requires: Requirements
    acceptance: Acceptance
    effect: Literal["pure", "idempotent", "irreversible"]
    priority: Priority
    resources: Annotated[list[Resource], Field(max_length=64)]
    redundancy: Redundancy
    inputSchema: JsonObject
    outputSchema: JsonObject


class Usage(TypedDict, total=False):
    """What an attempt used (spec BUDGET-1); its own kinds are kept, but not counted."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    tokens: Uint
    costMicro: Uint
    steps: Uint


class Budget(TypedDict, total=False):
    """What a task, and all below it, may use (spec BUDGET-2); a kind that is absent is shared with the task above."""

    tokens: Uint
    costMicro: Uint
    """In millionths of the unit the delegator pays in."""
    steps: Uint
    children: Uint
    """How many sub-tasks it may have."""
    depth: Uint
    """How many levels there may be below it."""
