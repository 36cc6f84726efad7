from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import pytest

from reference_agents.maintenance import trials as module
from reference_agents.maintenance.evidence import Baseline, Run, RunSettings, no_evidence
from reference_agents.maintenance.processes import silent
from reference_agents.maintenance.sandbox import Sandbox
from reference_agents.maintenance.shapes import Evidence, Workspace
from reference_agents.maintenance.trials import Trial, Trials
from reference_agents.maintenance.workspace import Worktree, checkout

MAKE = Callable[..., Any]
NAMES = [f"m{number}.py" for number in range(8)]
BASELINE = Baseline({f"test_{name}::test": "passed" for name in NAMES})


class Fakes:
    """Tests that fail for every file with a fault in it, without a process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs = 0
        """Of all tests."""
        self.parts: list[list[str]] = []
        """The tests of the other runs."""
        self.flaky = 0
        self.in_order = False
        """Whether a fault is seen only by all tests together."""
        self.needy: set[str] = set()
        """Tests that fail without the others."""
        monkeypatch.setattr(module, "run_tests", self)

    async def __call__(self, work: Worktree, *_: Any, only: Collection[str], **__: Any) -> Run:
        if only:
            self.parts.append(sorted(only))
        else:
            self.runs += 1
        outcomes: Any = {}
        for name in NAMES:
            if not only or f"test_{name}::test" in only:
                is_faulty = "fault" in (work.path / name).read_text() and not (only and self.in_order)
                is_faulty |= bool(only) and f"test_{name}::test" in self.needy
                outcomes[f"test_{name}::test"] = "failed" if is_faulty else "passed"
        if self.flaky:
            self.flaky -= 1
            outcomes[f"test_{NAMES[0]}::test"] = "failed"
        return Run(outcomes, "", 0, timed_out=False, seconds=0.1)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    return Fakes(monkeypatch)


def trials_in(workspace: Workspace, work: Worktree) -> Trials:
    return Trials(workspace, work, RunSettings("python", Sandbox("none")), BASELINE, silent)


async def untouched(trials: Trials, workspace: Workspace) -> Trial:
    return await trials.attempt(workspace["base"])


async def test_a_tree_is_tried_once_and_remembered_by_the_next_attempt(
    repository: MAKE, workspace_on: MAKE, tree_with: MAKE, fakes: Fakes
) -> None:
    workspace = await workspace_on(repository(dict.fromkeys(NAMES, "x = 1\n")))
    tree = await tree_with(workspace, {"m3.py": "fault = 1\n" * 2})
    async with checkout(workspace, "judge", tree) as work:
        trials = trials_in(workspace, work)
        first = await trials.attempt(tree)
        assert await trials.attempt(tree) == first
        runs = trials.runs
        after_a_crash = trials_in(workspace, work)
        assert await after_a_crash.attempt(tree) == first
    assert not first.holds
    assert first.evidence["failing"] == ["test_m3.py::test"]
    assert (fakes.runs, after_a_crash.runs) == (runs, 0)


async def test_what_is_known_belongs_to_a_baseline(repository: MAKE, workspace_on: MAKE, fakes: Fakes) -> None:
    workspace = await workspace_on(repository(dict.fromkeys(NAMES, "x = 1\n")))
    async with checkout(workspace, "judge", workspace["base"]) as work:
        await trials_in(workspace, work).attempt(workspace["base"])
        other = workspace | {"tests": workspace["tests"] | {"digest": "another"}}
        await trials_in(other, work).attempt(workspace["base"])
    assert fakes.runs == 2


async def test_few_failures_get_a_second_run_so_that_chance_is_no_evidence(
    repository: MAKE, workspace_on: MAKE, fakes: Fakes
) -> None:
    workspace = await workspace_on(repository(dict.fromkeys(NAMES, "x = 1\n")))
    fakes.flaky = 1
    async with checkout(workspace, "judge", workspace["base"]) as work:
        assert (await trials_in(workspace, work).attempt(workspace["base"])).holds
    assert (fakes.runs, fakes.parts) == (2, [["test_m0.py::test"]] * 2)


@pytest.mark.parametrize(("in_order", "runs"), [(False, 1), (True, 2)])
async def test_a_second_run_is_of_all_tests_only_where_those_that_failed_pass_without_the_others(
    in_order: bool, runs: int, repository: MAKE, workspace_on: MAKE, tree_with: MAKE, fakes: Fakes
) -> None:
    workspace = await workspace_on(repository(dict.fromkeys(NAMES, "x = 1\n")))
    tree = await tree_with(workspace, {"m3.py": "fault = 1\n"})
    fakes.in_order = in_order
    async with checkout(workspace, "judge", tree) as work:
        trial = await trials_in(workspace, work).attempt(tree)
    assert (trial.holds, trial.against) == (False, ["test_m3.py::test"])
    assert (fakes.runs, fakes.parts) == (runs, [["test_m3.py::test"]] * 2)


async def test_a_file_that_is_no_python_any_more_does_not_hold_whatever_the_tests_say(
    repository: MAKE, workspace_on: MAKE, tree_with: MAKE, fakes: Fakes
) -> None:
    workspace = await workspace_on(repository(dict.fromkeys(NAMES, "x = 1\n")))
    tree = await tree_with(workspace, {"m0.py": "def (:\n"})
    async with checkout(workspace, "judge", tree) as work:
        trial = await trials_in(workspace, work).attempt(tree)
    assert not trial.holds
    assert "valid Python" in trial.evidence["excerpt"]
    assert fakes.runs == 0


async def test_what_a_file_no_longer_has_that_another_takes_does_not_hold_though_no_test_sees_it(
    repository: MAKE, workspace_on: MAKE, tree_with: MAKE, fakes: Fakes
) -> None:
    files = {"m1.py": "import os\n", "m2.py": "from m1 import os\nfrom m1 import never\n"}
    workspace = await workspace_on(repository(dict.fromkeys(NAMES, "x = 1\n") | files))
    tree = await tree_with(workspace, {"m0.py": "y = 1\n", "m1.py": "\n"})
    reasons: list[str] = []

    async def refuse(path: str, reason: str, *_: Any) -> None:
        reasons.append(f"{path}: {reason}")

    async with checkout(workspace, "judge", tree) as work:
        trials = trials_in(workspace, work)
        start = await untouched(trials, workspace)
        assert start.holds, "what was missing before is nobody's fault"
        trial = await trials.attempt(tree)
        kept = await trials.narrow(start, tree, ["m0.py", "m1.py"], refuse)
    assert not trial.holds
    assert trial.evidence["excerpt"] == "m2.py takes os from m1.py, which does not have it"
    assert (kept.holds, reasons) == (True, ["m1.py: imports"])


@pytest.mark.parametrize(
    ("faulty", "in_order", "needy"),
    [
        ([], False, []),
        (["m2.py"], False, []),
        (["m2.py"], True, []),
        (["m2.py"], False, ["m0.py", "m3.py"]),
        (["m0.py", "m7.py"], True, []),
        (["m0.py", "m7.py"], False, ["m0.py", "m3.py"]),
        (NAMES, False, []),
    ],
)
async def test_narrowing_keeps_every_file_that_is_not_at_fault(
    faulty: list[str],
    in_order: bool,
    needy: list[str],
    repository: MAKE,
    workspace_on: MAKE,
    tree_with: MAKE,
    fakes: Fakes,
) -> None:
    workspace = await workspace_on(repository(dict.fromkeys(NAMES, "import os\n")))
    target = await tree_with(workspace, {name: "fault = 1\n" if name in faulty else "fine = 1\n" for name in NAMES})
    refused: dict[str, Evidence] = {}
    fakes.in_order, fakes.needy = in_order, {f"test_{name}::test" for name in needy}

    async def refuse(path: str, reason: str, evidence: Evidence, tree: str) -> None:
        assert reason == "tests"
        refused[path] = evidence

    async with checkout(workspace, "judge", workspace["base"]) as work:
        trials = trials_in(workspace, work)
        kept = await trials.narrow(await untouched(trials, workspace), target, NAMES, refuse)
        await work.load(kept.tree)
        left = [name for name in NAMES if (work.path / name).read_text() == "import os\n"]
    assert kept.holds
    assert left == sorted(refused) == sorted(faulty)
    assert all(evidence["failing"] == [f"test_{path}::test"] for path, evidence in refused.items())
    assert kept.total == len(faulty)


async def test_files_at_fault_are_looked_for_with_the_tests_that_say_so_and_not_with_all(
    repository: MAKE, workspace_on: MAKE, tree_with: MAKE, fakes: Fakes
) -> None:
    workspace = await workspace_on(repository(dict.fromkeys(NAMES, "import os\n")))
    target = await tree_with(
        workspace, dict.fromkeys(NAMES, "fine = 1\n") | dict.fromkeys(("m2.py", "m5.py"), "fault = 1\n")
    )
    refused: list[str] = []

    async def refuse(path: str, *_: Any) -> None:
        refused.append(path)

    async with checkout(workspace, "judge", workspace["base"]) as work:
        trials = trials_in(workspace, work)
        start = Trial(workspace["base"], True, no_evidence(), workspace["findings"], workspace["tests"])
        await trials.narrow(start, target, NAMES, refuse)
    assert refused == ["m2.py", "m5.py"]
    assert fakes.runs == trials.runs == 4, "the whole, what is left of it, and each file at fault on top of that"
    assert {test for part in fakes.parts for test in part} == {"test_m2.py::test", "test_m5.py::test"}


async def test_a_test_that_fails_without_the_others_makes_no_file_suspicious(
    repository: MAKE, workspace_on: MAKE, tree_with: MAKE, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONFIRM_MAX", 0)
    workspace = await workspace_on(repository(dict.fromkeys(NAMES, "import os\n")))
    faults = dict.fromkeys(("m2.py", "m5.py"), "fault = 1\n")
    target = await tree_with(workspace, dict.fromkeys(NAMES, "fine = 1\n") | faults)
    fakes.needy = {"test_m5.py::test"}
    async with checkout(workspace, "judge", workspace["base"]) as work:
        trials = trials_in(workspace, work)
        is_at_fault = trials._seen_by(frozenset({"test_m2.py::test", "test_m5.py::test"}), workspace["base"])
        _, found = await trials._faulty(workspace["base"], target, NAMES, is_at_fault)
    assert found == ["m2.py"]
    assert fakes.runs == 0


def test_the_tests_that_are_run_again_are_of_as_many_files_as_possible() -> None:
    tests = [f"{file}.py::test_{number:02}" for file in "ab" for number in range(50)]
    few = module._spread(["a.py", *tests, "c.py::test"])
    assert len(few) == module.WATCHED_MAX
    assert {"a.py", "a.py::test_00", "b.py::test_00", "c.py::test"} <= {*few}
    assert abs(sum(test.startswith("a.py") for test in few) - sum(test.startswith("b.py") for test in few)) <= 1


async def test_what_can_be_seen_without_a_test_is_looked_for_without_one(
    repository: MAKE, workspace_on: MAKE, tree_with: MAKE, fakes: Fakes
) -> None:
    files = {"m1.py": "import os\n", "m2.py": "from m1 import os\n"}
    workspace = await workspace_on(repository(dict.fromkeys(NAMES, "x = 1\n") | files))
    target = await tree_with(workspace, dict.fromkeys(NAMES, "y = 1\n") | {"m2.py": "from m1 import os\nos\n"})
    reasons: list[str] = []

    async def refuse(path: str, reason: str, *_: Any) -> None:
        reasons.append(f"{path}: {reason}")

    async with checkout(workspace, "judge", workspace["base"]) as work:
        trials = trials_in(workspace, work)
        start = Trial(workspace["base"], True, no_evidence(), workspace["findings"], workspace["tests"])
        await trials.narrow(start, target, NAMES, refuse)
    assert reasons == ["m1.py: imports"]
    assert (fakes.runs, fakes.parts) == (2, []), "what is left, and the file at fault"
