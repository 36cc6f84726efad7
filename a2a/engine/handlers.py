"""Which handler decides on each kind of message that a coordinator takes.

A handler reads the world, the connection and the message, and returns a `Decision`; it changes nothing but live state.
`Coordinator.step` calls it for a frame, and a replay calls it again for a record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..protocol.messages import (
    A2ACall,
    AgentFind,
    AgentForget,
    AgentUpdate,
    Bye,
    ClaimAcquire,
    ClaimList,
    ClaimRelease,
    ClaimRenew,
    ConflictAppeal,
    ConflictGet,
    ConflictList,
    ConflictPosition,
    ConflictRaise,
    ConflictVote,
    ContextRead,
    ContextWatch,
    ContextWrite,
    CoordinatorGet,
    Credit,
    Hello,
    MailboxAck,
    Message,
    Ping,
    TaskAccept,
    TaskAnswer,
    TaskArtifact,
    TaskAsk,
    TaskCancel,
    TaskCheckpoint,
    TaskConfirm,
    TaskDecline,
    TaskDelegate,
    TaskGet,
    TaskHandoff,
    TaskHeartbeat,
    TaskList,
    TaskReport,
    TaskSteer,
    TaskWatch,
    TaskYield,
)
from .binding import on_a2a_call
from .census import on_coordinator_get
from .claims import on_claim_acquire, on_claim_list, on_claim_release, on_claim_renew
from .conflicts.court import (
    on_conflict_appeal,
    on_conflict_get,
    on_conflict_list,
    on_conflict_position,
    on_conflict_vote,
)
from .conflicts.raising import on_conflict_raise
from .context import on_context_read, on_context_watch, on_context_write
from .decision import Decision
from .forgetting import on_agent_forget
from .handover import on_task_checkpoint, on_task_handoff
from .leases import on_task_accept, on_task_decline, on_task_heartbeat, on_task_yield
from .live import Connection, World
from .reading import on_task_get, on_task_list, on_task_watch
from .registry import (
    on_agent_find,
    on_agent_update,
    on_bye,
    on_credit,
    on_hello,
    on_mailbox_ack,
    on_ping,
)
from .results import on_task_confirm, on_task_report
from .tasks import (
    on_task_answer,
    on_task_artifact,
    on_task_ask,
    on_task_cancel,
    on_task_delegate,
    on_task_steer,
)

__all__ = ["HANDLERS", "Handler"]

Handler = Callable[[World, Connection, Any, int], Decision]

HANDLERS: dict[type[Message], Handler] = {
    Hello: on_hello,
    Bye: on_bye,
    MailboxAck: on_mailbox_ack,
    Credit: on_credit,
    Ping: on_ping,
    AgentUpdate: on_agent_update,
    AgentForget: on_agent_forget,
    AgentFind: on_agent_find,
    TaskDelegate: on_task_delegate,
    TaskAccept: on_task_accept,
    TaskDecline: on_task_decline,
    TaskHeartbeat: on_task_heartbeat,
    TaskCheckpoint: on_task_checkpoint,
    TaskArtifact: on_task_artifact,
    TaskAsk: on_task_ask,
    TaskAnswer: on_task_answer,
    TaskSteer: on_task_steer,
    TaskHandoff: on_task_handoff,
    TaskReport: on_task_report,
    TaskConfirm: on_task_confirm,
    TaskCancel: on_task_cancel,
    TaskYield: on_task_yield,
    ClaimAcquire: on_claim_acquire,
    ClaimRenew: on_claim_renew,
    ClaimRelease: on_claim_release,
    ClaimList: on_claim_list,
    ConflictRaise: on_conflict_raise,
    ConflictPosition: on_conflict_position,
    ConflictVote: on_conflict_vote,
    ConflictAppeal: on_conflict_appeal,
    ConflictGet: on_conflict_get,
    ConflictList: on_conflict_list,
    CoordinatorGet: on_coordinator_get,
    TaskGet: on_task_get,
    TaskList: on_task_list,
    TaskWatch: on_task_watch,
    ContextRead: on_context_read,
    ContextWrite: on_context_write,
    ContextWatch: on_context_watch,
    A2ACall: on_a2a_call,
}
"""Class of message to its handler."""
