"""Shared by the unit tests: a state directory of their own, and agents to try things with."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from a2a import Agent, AttemptFailed, Declined, SyncTaskContext, TaskContext


@pytest.fixture(autouse=True)
def _own_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests away from the user's own tokens and secrets."""
    monkeypatch.setenv("A2A_STATE_DIR", str(tmp_path / "a2a-state"))


class Gate:
    """Lets a handler say that it has begun, and waits until it may go on."""

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.open = anyio.Event()
        self.ended: list[str] = []


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def helper(gate: Gate) -> Agent:
    """An agent with a skill for each thing that can happen to a task."""
    agent = Agent("helper", "2.0", "Helps with tests", labels={"room": "blue"})

    @agent.skill(tags=["text"])
    async def count_words(text: str, task: TaskContext) -> dict[str, int]:
        """Count the words of a text."""
        await task.progress(0.5, "counting")
        return {"words": len(text.split())}

    @agent.skill
    async def wait(task: TaskContext) -> str:
        gate.begun.set()
        try:
            await gate.open.wait()
        finally:
            gate.ended.append(task.id)
        return f"attempt {task.attempt}"

    @agent.skill
    async def fail(task: TaskContext, retryable: bool = False, times: int = 1000) -> str:
        if task.attempt <= times:
            raise AttemptFailed("it went wrong", code="wrong", retryable=retryable)
        return f"attempt {task.attempt}"

    @agent.skill
    async def crash() -> None:
        raise RuntimeError("a bug")

    @agent.skill
    async def decline() -> None:
        raise Declined("policy", retry_after=0.01)

    @agent.skill
    async def draft(task: TaskContext) -> str:
        return " ".join(["draft", *map(str, task.feedback)])

    @agent.skill
    async def sure(task: TaskContext) -> bool:
        return bool(await task.ask("sure?", options=["yes", "no"]) == "yes")

    @agent.skill
    async def stream(task: TaskContext) -> str:
        await task.artifact("log", "one", append=True, last=False)
        await task.artifact("log", "two", append=True)
        return "done"

    @agent.skill
    async def twice(text: str, task: TaskContext) -> int:
        first = await task.call("count_words", {"text": text}, key="first")
        async with task.delegate("count_words", {"text": text + " x"}, key="second") as child:
            second = await child.result()
        return int(first["words"]) + int(second["words"])

    @agent.skill
    def block(seconds: float, task: SyncTaskContext) -> str:
        import time

        task.progress(0.1, "blocking")
        time.sleep(seconds)
        return "done"

    @agent.skill(takes_value=True)
    async def echo(value: object) -> object:
        return value

    return agent
