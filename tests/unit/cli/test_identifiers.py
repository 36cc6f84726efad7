"""What a tab completes from the coordinator."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import click
import pytest

from a2a import Client, sync
from a2a.cli import identifiers
from a2a.cli.main import cli
from a2a.conformance.program import free_port


def offered(*words: str) -> list[str]:
    """Return what a tab after these words offers."""
    from click.shell_completion import ShellComplete

    *before, incomplete = words
    completing = ShellComplete(cli, {}, "a2a", "_A2A_COMPLETE")
    return [item.value for item in completing.get_completions(before, incomplete)]


def test_tasks_and_their_contexts_are_offered(command: Any, world: Any) -> None:
    for name in ("plans", "plot"):
        assert command("delegate", "echo", "--text", "x", "--context", name).code == 0
    newest, oldest = (line.split()[0] for line in command("task", "ls").out.splitlines()[1:])
    assert offered("task", "show", "") == [newest, oldest]
    assert offered("task", "show", oldest) == [oldest]
    assert offered("conflict", "raise", newest, "") == [newest, oldest]
    assert offered("claim", "ls", "--task", "") == [newest, oldest]
    assert offered("context", "get", "pl") == ["plot", "plans"]
    assert offered("delegate", "echo", "--context", "pla") == ["plans"]


def test_conflicts_and_what_may_be_chosen_are_offered(command: Any, world: Any) -> None:
    conflict = command(
        "conflict", "raise", "--value", "1", "--value", "2", "--kind", "resource", "--about", "resource:r"
    ).out.strip()
    assert offered("conflict", "show", "main-") == [conflict]
    assert offered("conflict", "ls", "--before", "") == [conflict]
    assert offered("conflict", "resolve", conflict, "") == ["value-1", "value-2", "none"]
    assert offered("conflict", "resolve", "main-k99", "") == []


def test_claims_are_offered_by_name_and_by_fence(command: Any, world: Any) -> None:
    with sync.connect() as client, client.claim("files/a", "files/b") as claim:
        assert sorted(offered("claim", "ls", "--name", "files/")) == ["files/a", "files/b"]
        assert offered("claim", "release", "") == [str(claim.fence)]


def test_agents_and_skills_are_offered(command: Any, world: Any) -> None:
    assert offered("agent", "show", "he") == ["helper"]
    assert offered("tap", "--agent", "") == ["helper"]
    assert offered("delegate", "echo", "--to", "") == ["helper"]
    assert "count_words" in offered("delegate", "co")


def test_the_coordinator_that_is_named_is_asked(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A2A_URL")
    assert offered("agent", "show", "--url", world.url, "") == ["helper"]
    assert offered("agent", "show", "--url", world.url, "--token-file", "/no/such/file", "") == []


def test_what_a_shell_would_act_on_is_not_offered(command: Any, world: Any) -> None:
    for name in ("$(reboot)", "a b", "x;y", "fine"):
        assert command("delegate", "nobody_has_this", "--context", name, "--no-wait").code == 0
    assert offered("context", "get", "") == ["fine"]


@pytest.mark.timeout(30)
def test_an_answer_that_does_not_come_is_not_waited_for(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(client: Client, ctx: click.Context) -> Any:
        await anyio.sleep_forever()

    monkeypatch.setattr(identifiers, "PATIENCE", 0.2)
    monkeypatch.setattr(identifiers.TASK, "_ask", never)
    assert offered("task", "show", "") == []


def test_where_nobody_answers_nothing_is_offered_and_nothing_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert offered("task", "show", "--url", f"ws://127.0.0.1:{free_port()}", "") == []
    assert capsys.readouterr() == ("", "")
    assert not logging.getLogger("a2a").manager.disable, "what comes later is told again"


def test_a_fence_is_a_number() -> None:
    with pytest.raises(click.BadParameter):
        identifiers.CLAIM_FENCE.convert("0", None, None)
