"""Wrong peers: our own coordinator, agent and client with one bug each, all of which the suite has to find.

A suite that fails nobody proves nothing; it is judged by what it finds. To add a peer, add a row: a name, a role, a
sentence, what is changed, and the requirements that cases which fail have to name. What is changed stands exactly once
in its file, as in the table of planted bugs; where that has the same bug already, the row takes it from there.
"""

from __future__ import annotations

from . import (
    agent,
    agents,
    attempts,
    claims,
    client,
    conflicts,
    contexts,
    limits,
    operations,
    restarts,
    sessions,
    tasks,
)
from .row import Wrong

__all__ = ["WRONG", "Wrong"]

WRONG: tuple[Wrong, ...] = (
    *sessions.ROWS,
    *tasks.ROWS,
    *agents.ROWS,
    *attempts.ROWS,
    *contexts.ROWS,
    *claims.ROWS,
    *conflicts.ROWS,
    *limits.ROWS,
    *operations.ROWS,
    *restarts.ROWS,
    *agent.ROWS,
    *client.ROWS,
)
