"""Agents as separate processes: discover each other, delegate tasks, acknowledge results, resolve conflicts.

    import a2a

    async with a2a.connect() as client:
        async with client.delegate("count_words", {"text": document}, key="doc-42") as task:
            result = await task.result()

Names are loaded on first use, so that `import a2a` and the command line start at once.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import errors as errors
    from . import hosting as hosting
    from . import sync as sync
    from . import testing as testing
    from .agent import Agent
    from .claim import Claim
    from .client import Client, connect
    from .content import Patch
    from .context import ChildTask, PriorAttempt, TaskClaim, TaskContext
    from .delegator import AgentChange, AgentInfo, TaskEvent, TaskHandle
    from .engine.policy import Admission, Bounds, Durations, Policy
    from .errors import (
        A2AError,
        AttemptFailed,
        BranchMoved,
        BudgetExceeded,
        ClaimLost,
        Conflict,
        ConnectError,
        ConnectionLost,
        DeadlinePassed,
        Deadlock,
        Declined,
        Denied,
        ErrorCode,
        FencedOff,
        IdempotencyMismatch,
        LeaseLapsed,
        NoCapableAgent,
        NotFound,
        Overruled,
        QuotaExceeded,
        Refused,
        StaleBasis,
        StaleFence,
        StoreError,
        TaskCanceled,
        TaskError,
        TaskFailed,
        TaskRejected,
        TooLarge,
        Unavailable,
    )
    from .guards import FenceDirectory, FenceFile, FileGuard, GitGuard, IfFence, SqlGuard, reporting
    from .link import LinkSettings
    from .server import Server
    from .shared_context import ContextChange, ContextValue, SharedContext, SyncSharedContext
    from .stores.memory import MemoryStore
    from .stores.sqlite import SqliteStore
    from .sync_context import SyncChildTask, SyncTaskContext

__version__ = "0.1.0"

# The distribution a2a-sdk installs into a folder of the same name, and neither pip nor Python reports that: its
# packages `client` and `server` would be imported in place of the modules here, with baffling errors.
if os.path.isdir(os.path.join(os.path.dirname(__file__), "server")):  # noqa: PTH112, PTH118, PTH120 - felt at start
    raise ImportError(
        "a2a-coordinator and a2a-sdk are installed into the same place and overwrite each other: "
        "keep them in virtual environments of their own, and reinstall the one you want here"
    )

_ORIGINS: dict[str, tuple[str, ...]] = {
    "agent": ("Agent",),
    "claim": ("Claim",),
    "client": ("Client", "connect"),
    "content": ("Patch",),
    "context": ("ChildTask", "PriorAttempt", "TaskClaim", "TaskContext"),
    "delegator": ("AgentChange", "AgentInfo", "TaskEvent", "TaskHandle"),
    "engine.policy": ("Admission", "Bounds", "Durations", "Policy"),
    "errors": (
        "A2AError",
        "AttemptFailed",
        "BranchMoved",
        "BudgetExceeded",
        "ClaimLost",
        "Conflict",
        "ConnectError",
        "ConnectionLost",
        "DeadlinePassed",
        "Deadlock",
        "Declined",
        "Denied",
        "ErrorCode",
        "FencedOff",
        "IdempotencyMismatch",
        "LeaseLapsed",
        "NoCapableAgent",
        "NotFound",
        "Overruled",
        "QuotaExceeded",
        "Refused",
        "StaleBasis",
        "StaleFence",
        "StoreError",
        "TaskCanceled",
        "TaskError",
        "TaskFailed",
        "TaskRejected",
        "TooLarge",
        "Unavailable",
    ),
    "guards": ("FenceDirectory", "FenceFile", "FileGuard", "GitGuard", "IfFence", "SqlGuard", "reporting"),
    "link": ("LinkSettings",),
    "server": ("Server",),
    "shared_context": ("ContextChange", "ContextValue", "SharedContext", "SyncSharedContext"),
    "stores.memory": ("MemoryStore",),
    "stores.sqlite": ("SqliteStore",),
    "sync_context": ("SyncChildTask", "SyncTaskContext"),
}
_MODULES = ("errors", "hosting", "sync", "testing")
"""Modules with further public names. They need no import of their own: `a2a.sync.connect()`."""
_ORIGIN = {name: module for module, names in _ORIGINS.items() for name in names}

__all__ = [
    "A2AError",
    "Admission",
    "Agent",
    "AgentChange",
    "AgentInfo",
    "AttemptFailed",
    "Bounds",
    "BranchMoved",
    "BudgetExceeded",
    "ChildTask",
    "Claim",
    "ClaimLost",
    "Client",
    "Conflict",
    "ConnectError",
    "ConnectionLost",
    "ContextChange",
    "ContextValue",
    "DeadlinePassed",
    "Deadlock",
    "Declined",
    "Denied",
    "Durations",
    "ErrorCode",
    "FenceDirectory",
    "FenceFile",
    "FencedOff",
    "FileGuard",
    "GitGuard",
    "IdempotencyMismatch",
    "IfFence",
    "LeaseLapsed",
    "LinkSettings",
    "MemoryStore",
    "NoCapableAgent",
    "NotFound",
    "Overruled",
    "Patch",
    "Policy",
    "PriorAttempt",
    "QuotaExceeded",
    "Refused",
    "Server",
    "SharedContext",
    "SqlGuard",
    "SqliteStore",
    "StaleBasis",
    "StaleFence",
    "StoreError",
    "SyncChildTask",
    "SyncSharedContext",
    "SyncTaskContext",
    "TaskCanceled",
    "TaskClaim",
    "TaskContext",
    "TaskError",
    "TaskEvent",
    "TaskFailed",
    "TaskHandle",
    "TaskRejected",
    "TooLarge",
    "Unavailable",
    "__version__",
    "connect",
    "reporting",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)  # importing a submodule makes it an attribute
    module = _ORIGIN.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
