"""The maintenance squad as processes: whatever is killed while it works, the run ends well, and nothing is done twice.

The repository is made by the test and needs nothing that is not installed, so no network is used.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

import a2a
from a2a.squads import known
from reference_agents.maintenance import AGENTS
from reference_agents.maintenance.lead import WAIT_TOLD
from tests.endpoint import Reply, Request, endpoint
from tests.process.squads import check_ledger, command, free_url, is_alive, ledger_of, processes, squad_up

BOUND = 100.0
FILES = {
    "figures.py": """\
import os
from collections import OrderedDict


class Square(object):
    def __init__(self, side):
        super(Square, self).__init__()
        self.side = side

    def describe(self):
        return "a square of %s" % self.side


def names(items):
    return set([str(item) for item in items])
""",
    "test_figures.py": """\
from figures import OrderedDict, Square, names


def test_square():
    assert Square(2).describe() == "a square of 2"


def test_names():
    assert names([1, 2]) == {"1", "2"}


def test_what_others_import_from_there():
    assert OrderedDict(a=1) == {"a": 1}
""",
}
PAIRS = {
    "pairs.py": "def pairs(one, other):\n    return list(zip(one, other))\n",
    "test_pairs.py": "from pairs import pairs\n\n\ndef test_pairs():\n    assert pairs([1], [2]) == [(1, 2)]\n",
}
"""The linter wants to know whether the two are of one length; no tool dares to say so."""
STRICT = "    return list(zip(one, other, strict=True))"
KEY = "sk-" + "0123456789abcdef" * 3


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Old code with tests, one of which breaks when a tool takes an import away that only others use."""
    folder = tmp_path / "figures"
    make_repository(folder, FILES)
    return folder


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
    return subprocess.run(
        ["git", *identity, "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    ).stdout


def make_repository(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    for name, text in files.items():
        (folder / name).write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "as it was")


def run(repository: Path, url: str, folder: Path) -> tuple[str, ...]:
    wanted = ("--repo", str(repository), "--approve", "auto", "--url", url, "--out", str(folder))
    return ("run", "modernise to py311, keep the tests green", *wanted, "--json")


def check_result(summary: dict[str, Any], repository: Path) -> None:
    assert summary["verdict"] == "deployed"
    assert summary["findings_after"]["total"] < summary["findings_before"]["total"]
    assert (summary["tests_after"]["passed"], summary["tests_after"]["failed"]) == (3, 0)
    refused = [rejected for rejected in summary["rejected"] if rejected["reason"] == "tests"]
    assert refused and all(rejected["evidence"]["failing_total"] or rejected["evidence"]["vanished_total"]
                           for rejected in refused)  # fmt: skip
    assert git(repository, "rev-parse", summary["branch"]).strip() == summary["commit"]
    assert f"Evidence: sha256:{summary['evidence']}" in git(repository, "show", "--no-patch", summary["branch"])
    assert git(repository, "status", "--porcelain") == "", "nobody's checkout was touched"
    assert git(repository, "rev-parse", "--abbrev-ref", "HEAD").strip() == "main"


async def test_a_run_ends_well_though_every_agent_is_killed_once(home: Path, repository: Path) -> None:
    async with asyncio.timeout(BOUND), squad_up(home) as url:
        async with command(home, "run", *run(repository, url, home / "run")) as working:
            killed: list[str] = []
            while (told := await working.next_line()) is not None:
                story = told.get("value") if told["kind"] == "artifact" else None
                if isinstance(story, dict) and story["kind"] == "work" and story["who"] not in killed:
                    killed.append(story["who"])
                    os.kill(processes()[story["who"]], signal.SIGKILL)
                    if story["who"] == "judge":
                        killed.append("lead")
                        os.kill(processes()["lead"], signal.SIGKILL)
            assert await working.process.wait() == 0, working.errors.read_text()
            assert sorted(killed) == sorted(AGENTS)
            check_result(working.result, repository)
            await check_ledger(url, working.said[-1]["task"])
        restarts = {program["name"]: program["restarts"] for state in known() for program in state["programs"]}
        assert restarts == dict.fromkeys(AGENTS, 1) | {"coordinator": 0}


async def test_a_run_ends_well_beside_a_gremlin_and_what_it_did_is_in_the_ledger(home: Path, repository: Path) -> None:
    async with asyncio.timeout(BOUND), squad_up(home, "--with", "gremlin") as url:
        async with command(home, "run", *run(repository, url, home / "run")) as working:
            assert await working.end() == 0, working.errors.read_text()
            summary = working.result
        async with a2a.connect(url) as client:
            [told] = summary["conflicts"]
            record = await client.conflict(told["conflict"])
            of = {subject["agent"]: subject for subject in record["subjects"]}
            kept = {
                agent: [it["verdict"] for it in (await client.get(subject["ref"]))["metadata"].get("evidence", ())]
                for agent, subject in of.items()
            }
            judge = (await client.get(record["stages"][0]["asked"][0]))["metadata"]
            mine = (await client.get(of["gremlin"]["ref"]))["metadata"]
            [claimed] = await client.find(agent="judge")
    refused = [(it["agent"], it["kind"], it["code"]) for it in (*mine["refused"], *record["refused"], *claimed.refused)]
    check_result(summary, repository)
    assert "gremlin" not in [accepted["agent"] for accepted in summary["accepted"]]
    assert [it["files"] for it in summary["rejected"] if it["agent"] == "gremlin"], "what it proposed was tried"
    # The lie in another's name is told as its own; so is all that it said when it was not its turn.
    assert of["gremlin"]["value"]["agent"] == "coder-ruff"
    assert kept.pop("gremlin") == ["not_holder", "late"]
    assert [verdicts for verdicts in kept.values() if verdicts] and set().union(*kept.values()) == {"not_holder"}
    assert [it["stance"] for it in record["positions"] if it["agent"] == "gremlin"] == ["all others are wrong"]
    assert record["resolution"]["by"] == "merge" and judge["agent"] == "judge"
    # It says the same twice, goes on under a spent fence, votes where it may not, and is not the judge.
    assert set(refused) >= {
        ("gremlin", "task.report", "duplicate"),
        ("gremlin", "task.checkpoint", "stale"),
        ("gremlin", "conflict.vote", "forbidden"),
        ("judge", "hello", "auth"),
    }


async def test_a_run_goes_on_when_its_command_is_killed_and_then_the_coordinator(home: Path, repository: Path) -> None:
    url = free_url()
    async with asyncio.timeout(BOUND):
        async with command(home, "first", *run(repository, url, home / "run")) as first:
            root = (await first.until("found", "preparer"))["task"]
            everybody = processes()
            assert sorted(everybody) == sorted([*AGENTS, "coordinator"]), "it started what was not there"
            ledger = known()[0]["db"]
            first.process.kill()
            await first.process.communicate()
        async with command(home, "second", *run(repository, url, home / "run")) as second:
            assert (await second.until("work", "judge"))["task"] == root, "it is the same task"
            assert not [pid for pid in everybody.values() if is_alive(pid)], "they ended with the command"
            async with a2a.connect(url) as client:
                before = await ledger_of(client, root)
            os.kill(processes()["coordinator"], signal.SIGKILL)
            assert await second.end() == 0, second.errors.read_text()
        check_result(second.result, repository)
        assert not known()
        # All of it can be read afterwards: the ledger is what stays.
        serve = ("coordinator", "run", "--listen", url.removeprefix("ws://"), "--db", ledger, "--ready-json")
        async with command(home, "reader", *serve) as reader:
            assert await reader.next_line() is not None, reader.errors.read_text()
            await check_ledger(url, root)
            async with a2a.connect(url) as client:
                after = await ledger_of(client, root)
    done = {key: task for key, task in before.items() if task["metadata"]["state"] == "completed"}
    assert {task["metadata"]["skill"] for task in done.values()} >= {"plan_request", "prepare", "propose_patch"}
    assert {key: after[key] for key in done} == done, "no finished task was touched again"


def strict(request: Request) -> Reply:
    """Answer as a model that knows."""
    usage = {"prompt_tokens": 900, "completion_tokens": 100}
    old = STRICT.replace(", strict=True", "")
    if old not in request.messages[-1]["content"]:
        return Reply("NOTHING", usage=usage)
    return Reply(f"```diff\n--- a/pairs.py\n+++ b/pairs.py\n@@ -2 +2 @@\n-{old}\n+{STRICT}\n```", usage=usage)


def model_at(url: str) -> dict[str, str]:
    return {"A2A_MODEL_URL": url, "A2A_MODEL_NAME": "stand-in", "A2A_MODEL_KEY": KEY, "A2A_LOG": "DEBUG"}


def mentions(folder: Path, words: str) -> list[str]:
    """Return the files below a folder, but for installed ones, that have some words in them."""
    files = (file for file in folder.rglob("*") if file.is_file() and "site-packages" not in file.parts)
    return [str(file) for file in files if words.encode() in file.read_bytes()]


@pytest.mark.long
async def test_what_a_model_proposes_is_taken_where_the_tests_hold(home: Path) -> None:
    repository = home / "figures"
    make_repository(repository, FILES | PAIRS)
    with endpoint(script=strict) as model:
        async with asyncio.timeout(BOUND), squad_up(home, "--with", "coder-model", **model_at(model.url)) as url:
            async with command(home, "run", *run(repository, url, home / "run")) as working:
                assert await working.end() == 0, working.errors.read_text()
                summary, root = working.result, working.said[-1]["task"]
            await check_ledger(url, root)
            async with a2a.connect(url) as client:
                used = (await client.get(root))["metadata"]["usage"]["tokens"]
    assert summary["verdict"] == "deployed"
    assert STRICT in git(repository, "show", f"{summary['branch']}:pairs.py")
    assert "class Square:" in git(repository, "show", f"{summary['branch']}:figures.py"), "the tools did their part"
    accepted = {accepted["agent"]: accepted["files"] for accepted in summary["accepted"]}
    assert accepted["coder-model"] == ["pairs.py"]
    assert (summary["tests_after"]["passed"], summary["tests_after"]["failed"]) == (4, 0)
    assert "Change-By: coder-model (1 files, 1 findings)" in git(repository, "log", "-1", summary["branch"])
    assert used == 1000 * len(model.requests) > 0, "what a model costs is in the ledger"
    assert {request.headers["authorization"] for request in model.requests} == {f"Bearer {KEY}"}
    assert mentions(home, "coder-model is ready"), "what it logs is among what is looked at"
    assert not mentions(home, KEY), "neither logs nor ledger nor artifacts"


@pytest.mark.long
async def test_a_model_that_answers_rubbish_costs_the_run_its_part_and_no_more(home: Path, repository: Path) -> None:
    tampering = "--- /dev/null\n+++ b/setup.cfg\n@@ -0,0 +1 @@\n+[tool:pytest]\n"
    with endpoint("I would rather talk about it.", tampering) as model:
        async with asyncio.timeout(BOUND), squad_up(home, "--with", "coder-model", **model_at(model.url)) as url:
            async with command(home, "run", *run(repository, url, home / "run")) as working:
                assert await working.end() == 0, working.errors.read_text()
                summary = working.result
    check_result(summary, repository)
    [failed] = [rejected for rejected in summary["rejected"] if rejected["agent"] == "coder-model"]
    assert failed["reason"] == "agent_failed"
    assert "it touches files that were not shown: setup.cfg" in failed["detail"]
    assert len(model.requests) == 2, "one repair, and no more"
    assert "there is no unified diff in it" in model.requests[1].messages[-1]["content"]


@pytest.mark.long
async def test_a_plan_that_a_person_changes_while_it_is_worked_on_is_the_one_that_is_carried_out(home: Path) -> None:
    repository = home / "figures"
    make_repository(repository, FILES | {"more.py": FILES["figures.py"]})
    async with asyncio.timeout(BOUND), squad_up(home) as url:
        async with command(home, "run", *run(repository, url, home / "run")) as working, a2a.connect(url) as person:
            root = (await working.until("work", "judge"))["task"]
            context = person.context((await person.get(root))["contextId"])
            plan = await context.get("decisions/plan")
            narrowed = {**plan.value, "paths": ["more.py"]}
            await context.put("decisions/plan", narrowed, if_rev=plan.rev, reason="one file at a time")
            assert await working.end() == 0, working.errors.read_text()
            summary = working.result
            tasks = (await ledger_of(person, root)).values()
            approval = (await context.get("decisions/approval")).value
    assert summary["verdict"] == "deployed"
    assert git(repository, "diff", "--name-only", "main", summary["branch"]).split() == ["more.py"]
    assert [(it["rev"], it["reason"]) for it in summary["decisions"]] == [
        (1, "as the request was understood"), (2, "one file at a time"),
    ]  # fmt: skip
    assert (approval["plan"], approval["by"]) == (2, "auto")
    ended = [(task["metadata"].get("reason"), task["metadata"].get("detail")) for task in tasks]
    assert ended.count(("rejected", "decision_moved")) == 1, "what was made on the first plan was not taken"


@pytest.mark.long
async def test_two_runs_at_once_on_one_repository_queue_up_and_both_end_well(home: Path, repository: Path) -> None:
    async with asyncio.timeout(BOUND), squad_up(home) as url:
        async with command(home, "first", *run(repository, url, home / "first")) as first:
            root = (await first.until("work", "judge"))["task"]
            git(repository, "commit", "--quiet", "--allow-empty", "-m", "meanwhile")
            async with command(home, "second", *run(repository, url, home / "second")) as second:
                waits = await second.until("waits", "lead")
                assert waits["value"]["what"].startswith(f"waits for run {root}, which works on {repository} (")
                async with command(home, "tree", "task", "tree", waits["task"], "--url", url) as tree:
                    shown, _ = await tree.process.communicate()
                assert [await first.end(), await second.end()] == [0, 0], second.errors.read_text()
        for done in (first, second):
            check_result(done.result, repository)
            await check_ledger(url, done.said[-1]["task"])
    one, other = first.result, second.result
    assert f"waits for run {root}" in shown.decode().splitlines()[0]
    assert (one["waits"], [wait["whom"] for wait in other["waits"]]) == ([], [[root]])
    assert f" s for {root} to be done with the repository" in other["text"]
    assert one["branch"] != other["branch"]
    # Each begins at what is checked out when its turn comes, and builds on nothing that nobody has taken over yet.
    assert git(repository, "rev-parse", f"{one['branch']}^", "main^").split() == [one["base"]] * 2
    assert git(repository, "rev-parse", f"{other['branch']}^", "main").split() == [other["base"]] * 2
    fences = git(repository, "for-each-ref", "--format=%(refname:lstrip=3)", "refs/a2a/fences").split()
    assert sorted(fences) == sorted([one["branch"], other["branch"]])


@pytest.mark.long
async def test_a_run_that_asks_has_its_turn_though_the_lead_is_killed_meanwhile(home: Path, repository: Path) -> None:
    async with asyncio.timeout(BOUND), squad_up(home) as url:
        asks = [*run(repository, url, home / "first")]
        asks[asks.index("auto")] = "ask"
        async with command(home, "first", *asks) as first:
            while (told := await first.next_line()) is not None and told["kind"] != "ask":
                pass
            assert told is not None, first.errors.read_text()
            async with command(home, "second", *run(repository, url, home / "second")) as second:
                await second.until("waits", "lead")
                os.kill(processes()["lead"], signal.SIGKILL)
                await second.until("waits", "lead")  # it has the claim by now, and the first run no attempt
                async with command(home, "answer", "answer", told["task"], "approve", "--url", url) as answer:
                    await answer.process.communicate()
                assert [await first.end(), await second.end()] == [0, 0], second.errors.read_text()
        for done in (first, second):
            check_result(done.result, repository)
            await check_ledger(url, done.said[-1]["task"])
        async with a2a.connect(url) as client:
            ended = [event.at async for event in client.watch(told["task"]) if event.kind == "report"]
            tasks = await ledger_of(client, second.said[-1]["task"])
            began = [
                event.at
                for (_, key), task in tasks.items() if key.startswith("prepare")
                async for event in client.watch(task["id"]) if event.kind == "created"
            ]  # fmt: skip
            root = second.said[-1]["task"]
            context = client.context((await client.get(root))["contextId"])
            [waited] = (await context.get_many(prefix=f"{root}/waited/")).values()
    assert ended < began, "the second begins when the first is over"
    assert (waited.value["whom"], waited.value["since"]) == ([told["task"]], 0.0)
    known = [wait | {"since": 0.0} for wait in second.result["waits"]]
    assert (first.result["waits"], known) == ([], [waited.value] if waited.value["seconds"] >= WAIT_TOLD else [])


async def test_what_cannot_be_worked_on_is_told_and_left_alone(home: Path) -> None:
    make_repository(home / "dirty", {"one.py": "x = 1\n"})
    (home / "dirty" / "one.py").write_text("x = 2\n")
    make_repository(home / "texts", {"README": "no code here\n"})
    (home / "nothing").mkdir()
    wrong = {
        ("--repo", "dirty"): (2, "has uncommitted changes"),
        ("--repo", "texts"): (2, "has no Python files"),
        ("--repo", "nothing"): (2, "is not inside a git work tree"),
        ("--repo", "absent"): (2, "does not exist"),
        ("--sdist", "no name"): (2, "expected name==version"),
        ("--sdist", "tabulate==0.8.9"): (3, "the package index could not be reached"),
    }
    dirty = git(home / "dirty", "status", "--porcelain")
    nowhere = {"PIP_INDEX_URL": free_url().replace("ws:", "http:"), "PIP_RETRIES": "1", "PIP_CONFIG_FILE": os.devnull}
    async with asyncio.timeout(BOUND), squad_up(home, **nowhere) as url:

        async def attempt(number: int, source: tuple[str, str]) -> tuple[int | None, str]:
            wanted = ("run", "modernise to py311", *source, "--approve", "auto", "--url", url, "--quiet")
            async with command(home, f"wrong-{number}", *wanted) as working:
                await working.process.communicate()
                return working.process.returncode, working.errors.read_text()

        ended = await asyncio.gather(*(attempt(number, source) for number, source in enumerate(wrong)))
    for (code, text), (expected, words) in zip(ended, wrong.values(), strict=True):
        assert code == expected, text
        assert words in text
    assert git(home / "dirty", "status", "--porcelain") == dirty
    assert git(home / "texts", "branch", "--list").split() == ["*", "main"]
