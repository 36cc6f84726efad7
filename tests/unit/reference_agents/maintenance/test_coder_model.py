"""The coder with a model, with real git and a stand-in for the model."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from a2a import AttemptFailed
from reference_agents.maintenance import coder_model as module
from reference_agents.maintenance.coder_model import agent, propose_patch
from reference_agents.maintenance.shapes import Proposal
from tests.endpoint import Reply, Request, endpoint

MAKE = Callable[..., Any]
FILES = {
    "a.py": "import os\nimport sys\n\n\ndef where():\n    return sys.path\n",
    "b.py": "x = 1\n",
    "c.py": "import json\n",
    "test_a.py": "import os\n",
    "notes.txt": "nothing to see\n",
}
GOOD = "--- a/a.py\n+++ b/a.py\n@@ -1,9 +1,9 @@\n-import os\n import sys\n \n \n"
"""Its hunk claims more lines than it has, as models do."""


@pytest.fixture
def propose(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, fake_task: MAKE, monkeypatch: pytest.MonkeyPatch
) -> MAKE:
    """Have a proposal made with a model that answers this, on a repository of old code."""

    async def make(
        *replies: Reply | str, files: dict[str, Any] | None = None, task: Any = None, **changes: Any
    ) -> tuple[Proposal, list[Request]]:
        workspace = await workspace_on(repository(files or FILES))
        plan = plan_for(**{"may_touch": [], **changes})
        with endpoint(*replies) as here:
            for name, value in (("URL", here.url), ("NAME", "stand-in"), ("KEY", "")):
                monkeypatch.setenv(f"A2A_MODEL_{name}", value)
            return await propose_patch(workspace, plan, task or fake_task()), here.requests

    return make


def diff(path: str, old: str, new: str) -> str:
    return f"--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-{old}\n+{new}\n"


async def test_the_models_diff_becomes_the_proposal(propose: MAKE, fake_task: MAKE) -> None:
    task = fake_task()
    usage = {"prompt_tokens": 400, "completion_tokens": 30}
    made, [request] = await propose(Reply(f"```diff\n{GOOD}```", usage=usage), task=task)
    assert made["agent"] == "coder-model"
    assert [(it["path"], it["added"], it["removed"]) for it in made["patch"]["files"]] == [("a.py", 0, 1)]
    assert made["findings_left"] == made["findings_before"] - 1
    assert task.used == 430
    [system, question] = [message["content"] for message in request.messages]
    assert system == module.SYSTEM
    assert "Modernise the code for Python 3.11" in question and "modernise to py311" in question
    assert "a.py:1: F401" in question and "===== a.py =====\nimport os\nimport sys\n" in question
    assert "c.py:1: F401" in question
    assert "b.py" not in question, "there is nothing to mend in it"
    assert "test_a.py" not in question, "the plan does not open the tests"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("I would remove the import.", "no unified diff"),
        (diff("a.py", "import re", "import io"), "does not apply: git apply: error: patch failed: a.py:1"),
        (diff("b.py", "x = 1", "x = 2"), "touches files that were not shown: b.py"),
        (diff("test_a.py", "import os", "import io"), "touches files that were not shown: test_a.py"),
        (diff("../a.py", "import os", "import io"), "not apply|not shown"),
        (
            "--- /dev/null\n+++ b/evil.py\n@@ -0,0 +1 @@\n+import os\n",
            "touches files that were not shown: evil.py",
        ),
        ("--- a/c.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-import json\n", "more than change lines: delete c.py"),
        ("diff --git a/c.py b/c.py\nold mode 100644\nnew mode 100755\n", "more than change lines: mode change"),
        ("diff --git a/c.py b/d.py\nrename from c.py\nrename to d.py\n", "not shown: d.py"),
        ("--- a/c.py\n+++ b/c.py\n@@ garbage\n", "does not apply"),
    ],
)
async def test_a_diff_that_is_no_use_is_repaired_once(propose: MAKE, bad: str, words: str) -> None:
    made, [_, second] = await propose(bad, GOOD)
    assert [it["path"] for it in made["patch"]["files"]] == ["a.py"]
    [*_, slip, repair] = second.messages
    assert slip == {"role": "assistant", "content": bad}
    assert repair["role"] == "user"
    assert re.search(words, repair["content"]), repair["content"]


async def test_a_model_that_answers_rubbish_twice_has_failed(propose: MAKE, fake_task: MAKE) -> None:
    task = fake_task()
    with pytest.raises(AttemptFailed, match="no use, nor was it before: it touches files that were not shown: b.py"):
        await propose("rubbish", diff("b.py", "x = 1", "x = 2"), GOOD, task=task)
    assert task.used > 0, "it costs all the same"


async def test_a_binary_patch_is_no_use(propose: MAKE, repository: MAKE) -> None:
    other = repository({"c.py": FILES["c.py"]}, "other")
    other.write({"c.py": b"\0\0"})
    patch = other.git("diff", "--binary", "--full-index")
    assert "GIT binary patch" in patch
    with pytest.raises(AttemptFailed, match="binary patch"):
        await propose(f"{patch}\n\n")


async def test_a_link_in_the_place_of_a_file_is_no_use(propose: MAKE) -> None:
    link = (
        "diff --git a/c.py b/c.py\nold mode 100644\nnew mode 120000\n"
        "--- a/c.py\n+++ b/c.py\n@@ -1 +1 @@\n-import json\n+/etc/passwd\n"
    )
    with pytest.raises(AttemptFailed, match=r"more than change lines|does not apply"):
        await propose(link)


@pytest.mark.parametrize("said", ["NOTHING", " `NOTHING`.\n", "```\nNOTHING\n```"])
async def test_a_model_may_have_nothing_to_say(propose: MAKE, said: str) -> None:
    made, requests = await propose(said)
    assert (made["patch"]["text"], made["notes"]) == ("", ["stand-in would change nothing"])
    assert len(requests) == 1


async def test_where_there_is_nothing_to_do_no_model_is_asked(propose: MAKE) -> None:
    made, requests = await propose("never", files={"a.py": "x = 1\n"})
    assert (made["patch"]["text"], made["notes"], requests) == ("", ["there is nothing to ask a model about"], [])


async def test_for_other_plans_no_model_is_asked(propose: MAKE) -> None:
    made, requests = await propose("never", kind="find")
    assert (made["notes"], requests) == (["a model has nothing to offer for find"], [])


async def test_a_renaming_shows_the_files_with_the_name(propose: MAKE) -> None:
    files = {"a.py": "def old():\n    pass\n", "b.py": "import a\na.old()\na.old()\n", "c.py": "older = 1\n"}
    files["d.py"] = b"old = '\xe4'\n"
    renamed = diff("a.py", "def old():", "def new():").replace("-1 +1", "-1,2 +1,2") + "     pass\n"
    made, [request] = await propose(renamed, files=files, kind="rename", old_name="a.old", new_name="new")
    question = request.messages[1]["content"]
    assert "Rename a.old to new" in question
    assert question.index("===== b.py") < question.index("===== a.py"), "where it is used most comes first"
    assert "c.py" not in question and "d.py" not in question
    assert [it["path"] for it in made["patch"]["files"]] == ["a.py"]


async def test_what_one_question_does_not_carry_is_left_out_and_said(
    propose: MAKE, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "big.py": "import os\nimport re\n" + "#" * 500 + "\n",
        "dos.py": "import os\r\n",
        "small.py": "import os\n",
    }
    monkeypatch.setenv("A2A_MODEL_SOURCE_CHARS", "300")
    made, [request] = await propose(diff("small.py", "import os", "import io"), files=files)
    question = request.messages[1]["content"]
    assert "small.py:1" in question
    assert not [name for name in ("big.py", "dos.py") if name in question]
    assert made["notes"] == ["2 files were not shown to the model"]


async def test_a_budget_bounds_what_a_model_may_answer(propose: MAKE, fake_task: MAKE) -> None:
    task = fake_task()
    task.budget = {"tokens": 50}
    _, [request] = await propose(GOOD, task=task)
    assert request.body["max_tokens"] == 50


async def test_it_works_on_another_tree_when_asked_again(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, tree_with: MAKE, fake_task: MAKE,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    workspace = await workspace_on(repository(FILES))
    onto = await tree_with(workspace, {"a.py": "import re\n", "c.py": ""})
    with endpoint(diff("a.py", "import re", "import io")) as here:
        monkeypatch.setenv("A2A_MODEL_URL", here.url)
        monkeypatch.setenv("A2A_MODEL_NAME", "stand-in")
        made = await propose_patch(workspace, plan_for(), fake_task(), onto=onto, files=["a.py", "c.py"])
    assert "+import io" in made["patch"]["text"]
    assert [it["path"] for it in made["patch"]["files"]] == ["a.py", "c.py"]


def test_the_card_names_the_skill_and_the_tool() -> None:
    assert [skill["id"] for skill in agent.card()["skills"]] == ["propose_patch"]
    assert agent.labels == {"tool": "model"}
