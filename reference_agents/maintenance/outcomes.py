"""A pytest plugin that writes down how each test ended, one JSON line at a time.

Runs inside a foreign test process, so it needs nothing but pytest; it is copied to a separate folder and loaded from
there. Its lines survive a test process that is killed, which is why there is no summary at the end.
"""

from __future__ import annotations

import json
import os
from typing import Any

__all__ = [
    "ENVIRONMENT_VARIABLE",
    "ONLY_VARIABLE",
    "pytest_collection_modifyitems",
    "pytest_collectreport",
    "pytest_runtest_logreport",
]

ENVIRONMENT_VARIABLE = "SQUAD_OUTCOMES"
ONLY_VARIABLE = "SQUAD_ONLY"
"""Names a file with the tests to run, as a JSON list; without it all are run."""

PLACES = [f"{path}{os.sep}" for path in (os.environ.get("HOME"), os.getcwd()) if path]  # noqa: PTH109 - it needs no Path
"""Folders of this run alone: a test with one in its name, such as a file parameter, is the same test in other runs."""


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Leave out unwanted tests. All are collected: if named on the command line, some become other tests."""
    path = os.environ.get(ONLY_VARIABLE)
    if not path:
        return
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - tests may break Path
        wanted = set(json.load(file))
    left_out = [item for item in items if _name(item.nodeid) not in wanted]
    if left_out:
        items[:] = [item for item in items if _name(item.nodeid) in wanted]
        config.hook.pytest_deselected(items=left_out)


def pytest_collectreport(report: Any) -> None:
    """Treat a file that cannot be collected as a test that ended in an error."""
    if report.failed:
        _write(report.nodeid, "error", "")


def pytest_runtest_logreport(report: Any) -> None:
    """Setup and teardown count only when they go wrong, or when the test is skipped there."""
    expected_to_fail = hasattr(report, "wasxfail")
    if report.when == "call":
        if expected_to_fail:
            _write(report.nodeid, "xpassed" if report.passed else "xfailed", "")
        else:
            _write(report.nodeid, report.outcome, "")
    elif report.failed:
        _write(report.nodeid, "error", report.when)
    elif report.skipped:
        _write(report.nodeid, "xfailed" if expected_to_fail else "skipped", "")


def _name(nodeid: str) -> str:
    for place in PLACES:
        nodeid = nodeid.replace(place, "")
    return nodeid


def _write(nodeid: str, outcome: str, when: str) -> None:
    with open(os.environ[ENVIRONMENT_VARIABLE], "a", encoding="utf-8") as file:  # noqa: PTH123 - tests may break Path
        file.write(json.dumps({"test": _name(nodeid), "outcome": outcome, "when": when}) + "\n")
