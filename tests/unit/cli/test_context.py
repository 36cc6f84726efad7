"""`a2a context ...`."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from a2a import ContextValue, SharedContext, connect


def test_a_value_is_put_and_got(command: Any, world: Any) -> None:
    assert command("context", "put", "c", "plan", '{"step": 1}').out == "1\n"
    assert command("context", "get", "c", "plan").out == '{"step": 1}\n'
    assert command("context", "put", "c", "word", "a\x1bb", "--reason", "because").out == "1\n"
    assert command("context", "get", "c", "word").out == "a\x1bb\n"
    shown = json.loads(command("context", "get", "c", "word", "--json").out)
    assert (shown["key"], shown["rev"], shown["value"], shown["reason"]) == ("word", 1, "a\x1bb", "because")
    assert "deleted" not in shown
    done = command("context", "put", "c", "word", "b", "--json")
    assert json.loads(done.out) == {"context": "c", "key": "word", "rev": 2}
    assert command("context", "get", "c", "word", "--rev", "1").out == "a\x1bb\n"


def test_what_is_not_there_is_told(command: Any, world: Any) -> None:
    done = command("context", "get", "c", "plan")
    assert (done.code, done.out, done.err) == (1, "", "a2a: plan of context c was never written\n")
    command("context", "put", "c", "plan", "1")
    assert command("context", "put", "c", "plan", "--delete").out == "2\n"
    done = command("context", "get", "c", "plan", "--json")
    assert (done.code, json.loads(done.out)["deleted"]) == (1, True)
    assert "was deleted by" in done.err
    assert command("context", "get", "c").err == "context c has no such keys\n"
    assert command("context", "history", "c", "nothing").err == "nothing of context c was never written\n"
    assert "not_found" in command("context", "get", "c", "plan", "--rev", "3").err


def test_a_write_that_lost_has_an_exit_code_of_its_own(command: Any, world: Any) -> None:
    command("context", "put", "c", "decisions/db", '"sqlite"', "--if-rev", "0")
    done = command("context", "put", "c", "decisions/db", "postgres", "--if-rev", "0")
    assert (done.code, done.out) == (6, "")
    assert "the write is for revision 0" in done.err
    assert 'it is "sqlite"' in done.err
    done = command("context", "put", "c", "decisions/db", "postgres", "--json")
    facts = json.loads(done.out)["conflict"]
    assert done.code == 6
    assert (facts["key"], facts["rev"], facts["value"]) == ("decisions/db", 1, "sqlite")
    done = command("context", "put", "c", "absent", "1", "--if-rev", "4", "--json")
    assert (done.code, json.loads(done.out)["conflict"]) == (6, {"key": "absent", "rev": 0})
    assert command("context", "put", "c", "absent", "--delete").code == 6


def test_a_command_line_says_one_thing(command: Any, world: Any) -> None:
    assert command("context", "put", "c", "a").code == 2
    assert command("context", "put", "c", "a", "1", "--delete").code == 2
    assert command("context", "put", "c", "a", "--delete", "--guarded").code == 2
    assert command("context", "get", "c", "--rev", "1").code == 2


@pytest.mark.parametrize("value", ["123456789012345678901234567890", "1e999", '"\\ud800"', "[" * 3000 + "]" * 3000])
def test_what_no_value_stands_for_is_a_usage_error(command: Any, value: str) -> None:
    done = command("context", "put", "c", "k", value)
    assert (done.code, done.out) == (2, "")
    assert "a bug" not in done.err


def test_keys_are_listed_with_what_they_are(command: Any, world: Any) -> None:
    command("context", "put", "c", "plan/a", "1", "--guarded", "--if-rev", "0")
    command("context", "put", "c", "plan/b", "1", "--decision", "--if-rev", "0")
    command("context", "put", "c", "other", "text")
    head, *rows = command("context", "get", "c").out.splitlines()
    assert head.split() == ["KEY", "REV", "KIND", "AUTHOR", "VALUE"]
    assert [row.split()[:3] for row in rows] == [
        ["other", "1", "-"],
        ["plan/a", "1", "guarded"],
        ["plan/b", "1", "decision"],
    ]
    listed = command("context", "get", "c", "--prefix", "plan/", "--json").out.splitlines()
    assert [json.loads(line)["key"] for line in listed] == ["plan/a", "plan/b"]


def test_history_tells_who_wrote_what(command: Any, world: Any) -> None:
    for number in range(18):
        command("context", "put", "c", "a", str(number), "--reason", f"r{number}")
    command("context", "put", "c", "a", "--delete")
    head, *rows = command("context", "history", "c", "a").out.splitlines()
    assert head.split() == ["REV", "WHEN", "AUTHOR", "TASK", "REASON", "VALUE"]
    assert len(rows) == 19
    assert rows[0].endswith("(not kept)")
    assert "r17" in rows[17]
    assert rows[17].endswith(" 17")
    assert rows[18].endswith("(deleted)")
    told = [json.loads(line) for line in command("context", "history", "c", "a", "--json").out.splitlines()]
    assert [line["rev"] for line in told] == list(range(1, 20))
    assert (told[0]["isKept"], told[17]["value"], told[18]["deleted"]) == (False, 17, True)


def test_a_watch_shows_what_is_there_and_what_is_written(
    command: Any, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = SharedContext.watch

    async def until_deleted(self: SharedContext, prefix: str) -> AsyncGenerator[ContextValue, None]:
        async with aclosing(watch(self, prefix)) as values, connect(world.url, name="writer") as client:
            shared = client.context("c")
            await shared.put("b", "unwatched")
            async for value in values:
                yield value
                if value.deleted:
                    return
                if value.value in ("first", "again"):
                    await shared.put("a", [2])
                    await shared.delete("a")

    monkeypatch.setattr(SharedContext, "watch", until_deleted)
    command("context", "put", "c", "a", "first")
    done = command("context", "watch", "c", "--prefix", "a", "--timeout", "20")
    assert done.code == 0
    lines = [line.split(maxsplit=2)[2].split() for line in done.out.splitlines()]
    assert [(line[0], line[1], line[-1]) for line in lines] == [
        ("a", "1", "first"),
        ("a", "2", "[2]"),
        ("a", "3", "(deleted)"),
    ]
    assert lines[1][2].startswith("writer#")
    command("context", "put", "c", "a", "again")
    done = command("context", "watch", "c", "--prefix", "a", "--timeout", "20", "--json")
    assert [json.loads(line)["rev"] for line in done.out.splitlines()][0] == 4
