from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from a2a import AttemptFailed
from reference_agents.maintenance.safety import Change, agent, inspect, review_patch
from reference_agents.maintenance.workspace import patch_of

MAKE = Callable[..., Any]
KEY = "AKIA" + "QWERTYUIOPASDFGH"
FILES = {
    "a.py": "import subprocess\n\n\ndef run(command):\n    return subprocess.call(command, shell=True)\n",
    "b.py": "x = 1\n",
    "broken.py": "def (:\n",
    "README.md": "# words\n",
    "setup.cfg": "[metadata]\n",
    "tests/test_a.py": "import a\n\n\ndef check(x):\n    assert x\n\n\ndef test_a():\n    assert a.run\n    check(a)\n",
}
Verdicts = set[tuple[str, str, str]]


@pytest.fixture
def review_of(
    repository: MAKE, workspace_on: MAKE, tree_with: MAKE, plan_for: MAKE, fake_task: MAKE
) -> Callable[..., Any]:
    """Review a change to the files above; return the verdict and (check, verdict, path) of each finding."""

    async def review(changes: dict[str, Any], **plan: Any) -> tuple[str, Verdicts]:
        workspace = await workspace_on(repository(FILES))
        patch = await patch_of(workspace, await tree_with(workspace, changes))
        made = await review_patch(workspace, plan_for(**plan), patch, fake_task())
        return made["verdict"], {(it["check"], it["verdict"], it["path"]) for it in made["findings"]}

    return review


async def test_a_harmless_patch_passes(review_of: MAKE) -> None:
    changes = {
        "b.py": "x = 2\n",
        "tests/test_a.py": FILES["tests/test_a.py"].replace("assert a.run", "assert a.run is not None"),
    }
    assert await review_of(changes) == ("pass", set())


async def test_what_another_file_takes_and_is_no_longer_there_is_told(review_of: MAKE) -> None:
    changes = {"a.py": FILES["a.py"].replace("def run", "def go")}
    assert await review_of(changes) == ("ask", {("imports", "ask", "tests/test_a.py")})


async def test_old_faults_are_not_the_patchs(review_of: MAKE) -> None:
    changes = {"a.py": FILES["a.py"].replace("command", "line"), "broken.py": "def (:  # still\n"}
    assert await review_of(changes) == ("pass", set())


async def test_what_only_the_compiler_and_bandit_see_is_seen(review_of: MAKE) -> None:
    verdict, findings = await review_of({"b.py": "def (:\n", "a.py": FILES["a.py"] + "x = eval(input())\n"})
    assert verdict == "refuse"
    assert findings == {("compile", "refuse", "b.py"), ("bandit", "ask", "a.py")}


async def test_a_comment_does_not_silence_bandit(review_of: MAKE) -> None:
    verdict, findings = await review_of({"b.py": "import os\nos.system('ls ' + x)  # nosec\n"})
    assert verdict == "refuse"
    assert ("bandit", "refuse", "b.py") in findings
    assert ("content", "ask", "b.py") in findings


@pytest.mark.parametrize(
    ("path", "after", "plan", "finding"),
    [
        ("b.py", "x = 1  # noqa\n", {}, ("content", "ask")),
        ("b.py", f"key = '{KEY}'\n", {}, ("secrets", "refuse")),
        ("b.py", "api_key = 'q8Zr2LwX91pTfKd7'\n", {}, ("secrets", "ask")),
        ("b.py", "x = 1  # \u202e\n", {}, ("content", "refuse")),
        ("b.py", "x\u200b = 1\n", {}, ("content", "ask")),
        ("b.py", "x = 1\n\0", {}, ("content", "refuse")),
        ("b.py", None, {}, ("content", "ask")),
        ("new.py", "x = 1\n", {}, ("content", "ask")),
        ("b.py", "x = 1 if 'PYTEST_CURRENT_TEST' in os.environ else 2\n", {}, ("tamper", "refuse")),
        ("setup.cfg", "[tool:pytest]\n", {}, ("scope", "refuse")),
        ("setup.cfg", "[tool:pytest]\n", {"may_touch": ["configuration"]}, ("scope", "ask")),
        ("README.md", "# other words\n", {}, ("scope", "ask")),
        ("b.py", "x = 2\n", {"paths": ["tests"]}, ("scope", "refuse")),
        ("tests/test_a.py", FILES["tests/test_a.py"] + "x = 1\n", {"may_touch": []}, ("scope", "refuse")),
        (".github/workflows/ci.yml", "on: push\n", {}, ("scope", "refuse")),
        ("sitecustomize.py", "x = 1\n", {}, ("scope", "refuse")),
    ],
)
def test_what_a_patch_brings_in_is_seen(
    path: str, after: str | None, plan: dict[str, Any], finding: tuple[str, str], plan_for: MAKE
) -> None:
    before = FILES.get(path)
    change = Change(path, before, after, "100644" if before is not None else "", "100644" if after is not None else "")
    findings = inspect(plan_for(**plan), change)
    assert finding in {(it["check"], it["verdict"]) for it in findings}
    assert KEY not in str(findings), "a secret is not repeated"


@pytest.mark.parametrize(("path", "after"), [("b.py", "x = 2\n"), ("b.py", "password = 'x'\n"), ("b.py", "")])
def test_what_is_harmless_is_not_remarked_on(path: str, after: str, plan_for: MAKE) -> None:
    assert inspect(plan_for(), Change(path, FILES[path], after, "100644", "100644")) == []


def test_the_mark_of_an_encoding_is_remarked_on_only_where_it_is_new(plan_for: MAKE) -> None:
    marked = Change("b.py", "\ufeffx = 1\n", "\ufeffx = 2\n", "100644", "100644")
    assert inspect(plan_for(), marked) == []
    for before, after in (("x = 1\n", "\ufeffx = 1\n"), ("\ufeffx = 1\n", "\ufeffx\ufeff = 1\n")):
        [finding] = inspect(plan_for(), Change("b.py", before, after, "100644", "100644"))
        assert (finding["check"], finding["verdict"], finding["line"]) == ("content", "ask", 1)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("def test_a", "def no_test_a"),
        ("    assert a.run\n    check(a)\n", "    pass\n"),
        ("assert a.run", "assert True"),
        ("    assert x\n", "    pass\n"),
        ("def test_a", "import pytest\n@pytest.mark.skip\ndef test_a"),
        ("    assert a.run", "    import pytest\n    pytest.skip('later')\n    assert a.run"),
    ],
)
def test_a_test_that_says_less_is_refused(old: str, new: str, mark: str, plan_for: MAKE) -> None:
    before = mark + FILES["tests/test_a.py"]
    change = Change("tests/test_a.py", before, before.replace(old, new), "100644", "100644")
    assert {(it["check"], it["verdict"]) for it in inspect(plan_for(), change)} == {("tamper", "refuse")}


def test_a_new_hook_of_the_test_runner_is_for_a_person_to_look_at(plan_for: MAKE) -> None:
    change = Change("conftest.py", "", "def pytest_runtest_makereport(item): pass\n", "100644", "100644")
    assert [it["verdict"] for it in inspect(plan_for(), change)] == ["ask"]


async def test_links_are_refused(repository: MAKE, workspace_on: MAKE, plan_for: MAKE, fake_task: MAKE) -> None:
    repo = repository(FILES)
    workspace = await workspace_on(repo)
    base = repo.git("rev-parse", "HEAD")
    (repo.path / "b.py").unlink()
    (repo.path / "b.py").symlink_to("/etc/hostname")
    tree = repo.git("rev-parse", f"{repo.commit({})}^{{tree}}")
    repo.git("reset", "--hard", "--quiet", base)
    made = await review_patch(workspace, plan_for(), await patch_of(workspace, tree), fake_task())
    assert ("content", "refuse") in {(it["check"], it["verdict"]) for it in made["findings"]}


async def test_a_patch_that_is_not_what_it_shows_is_refused(
    repository: MAKE, workspace_on: MAKE, tree_with: MAKE, plan_for: MAKE, fake_task: MAKE
) -> None:
    workspace = await workspace_on(repository(FILES))
    patch = await patch_of(workspace, await tree_with(workspace, {"b.py": "x = 2\n"}))
    patch["tree"] = await tree_with(workspace, {"b.py": "x = 3\n"})
    made = await review_patch(workspace, plan_for(), patch, fake_task())
    assert (made["verdict"], made["findings"][0]["check"]) == ("refuse", "applies")
    lost = workspace | {"mirror": "/no/such/mirror"}
    with pytest.raises(AttemptFailed):
        await review_patch(lost, plan_for(), patch, fake_task())


def test_the_card_names_the_skill() -> None:
    assert [skill["id"] for skill in agent.card()["skills"]] == ["review_patch"]
