"""a2a-sdk: JSON-RPC over HTTP from a client straight to an agent, which keeps its tasks in SQLite, as it comes.

A2A has nothing between the two: the agent's process takes the place of a router. Starlette on uvicorn with httptools;
httpx keeps as many connections as tasks are in flight.
"""

# In its own environment `a2a` is the SDK; the type checker sees this project's package instead.
# mypy: ignore-errors

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import uuid
from pathlib import Path
from typing import Any

from benchmarks.load import answer_to, run_role, serve_phases
from benchmarks.peers.environments import interpreter
from benchmarks.processes import Processes
from benchmarks.rounds import IN_FLIGHT, Side

__all__ = ["LACKS", "start"]

LACKS = "the client has to know the agent: no router, no queue, no leases, no retries; a task's states are stored"
STARTED_WITHIN = 25.0
KEEP_ALIVE_SECONDS = 75


async def start(processes: Processes, directory: Path, home: Path, loop: str) -> Side:
    """Start agent and client."""
    from a2a.conformance.program import free_port  # the runner's own `a2a`: the two processes have the SDK's

    role = ("-m", "benchmarks.peers.a2a_sdk", "--port", str(free_port()), "--loop", loop)
    database = ("--db", str(directory / "a2a-sdk.db"))
    agent, _ = await processes.start_ready("a2a-sdk", *role, *database, "agent", program=interpreter(home))
    load, _ = await processes.start_ready("a2a-sdk client", *role, "client", program=interpreter(home))
    return Side("a2a-sdk", agent, load, "delegate")


def _card(port: int) -> Any:
    from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill

    return AgentCard(
        name="benchmark-worker",
        description="Answers every text with the text reversed.",
        version="1.0",
        capabilities=AgentCapabilities(streaming=False, push_notifications=False),
        default_input_modes=["text"],
        default_output_modes=["text"],
        skills=[AgentSkill(id="reverse", name="reverse", description="Reverse a text.", tags=["text"])],
        supported_interfaces=[
            AgentInterface(protocol_binding="JSONRPC", protocol_version="1.0", url=f"http://127.0.0.1:{port}/rpc")
        ],
    )


def _executor() -> Any:
    from a2a.server.agent_execution import AgentExecutor
    from a2a.server.tasks import TaskUpdater
    from a2a.types import Part, Task, TaskState, TaskStatus

    class Reverse(AgentExecutor):
        async def execute(self, context: Any, event_queue: Any) -> None:
            submitted = TaskStatus(state=TaskState.TASK_STATE_SUBMITTED)
            task = Task(id=context.task_id, context_id=context.context_id, history=[context.message], status=submitted)
            await event_queue.enqueue_event(task)
            updater = TaskUpdater(event_queue=event_queue, task_id=context.task_id, context_id=context.context_id)
            parts = [Part(text=answer_to(context.get_user_input()))]
            await updater.add_artifact(parts=parts, name="result", last_chunk=True)
            await updater.complete()

        async def cancel(self, context: Any, event_queue: Any) -> None:
            raise NotImplementedError("nothing here lasts long enough to be cancelled")

    return Reverse()


async def agent(port: int, db: str) -> None:
    """Serve until the process is ended."""
    import uvicorn
    from a2a.server.request_handlers import DefaultRequestHandler
    from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
    from a2a.server.tasks import DatabaseTaskStore
    from sqlalchemy.ext.asyncio import create_async_engine
    from starlette.applications import Starlette

    store = DatabaseTaskStore(create_async_engine(f"sqlite+aiosqlite:///{db}"))
    await store.initialize()
    card = _card(port)
    handler = DefaultRequestHandler(agent_executor=_executor(), task_store=store, agent_card=card)
    routes = [
        *create_agent_card_routes(agent_card=card),
        *create_jsonrpc_routes(request_handler=handler, rpc_url="/rpc"),
    ]
    config = uvicorn.Config(
        Starlette(routes=routes),
        host="127.0.0.1",
        port=port,
        log_level="error",
        access_log=False,
        http="httptools",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(STARTED_WITHIN):
        while not server.started and not serving.done():  # noqa: ASYNC110 - it has no event for that
            await asyncio.sleep(0.02)
    if server.started:
        print(json.dumps({"ready": True}), flush=True)
    await serving


async def client(port: int) -> None:
    """Run the phases the runner orders."""
    import httpx
    from a2a.types import Message, Part, Role, SendMessageRequest

    from a2a.client import ClientConfig, create_client

    limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
    async with httpx.AsyncClient(timeout=60, limits=limits) as http:
        made = await create_client(_card(port), client_config=ClientConfig(streaming=False, httpx_client=http))

        async def call(text: str) -> str:
            message = Message(role=Role.ROLE_USER, message_id=str(uuid.uuid4()), parts=[Part(text=text)])
            async for event in made.send_message(SendMessageRequest(message=message)):
                if event.HasField("task"):
                    return str(event.task.artifacts[0].parts[0].text)
            raise ConnectionError("the agent did not answer with a task")

        await serve_phases({"delegate": call})


def main() -> None:
    """Run one role."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("role", choices=["agent", "client"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--db", default="", help="where the agent keeps its tasks")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    role = agent(arguments.port, arguments.db) if arguments.role == "agent" else client(arguments.port)
    run_role(role, arguments.loop)


if __name__ == "__main__":
    main()
