"""The implementations that these tests run the suite on."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import pytest

from a2a.conformance.case import Case
from a2a.conformance.runner import Outcome, Status

COORDINATOR = f"{sys.executable} -m a2a coordinator run --quiet --listen 127.0.0.1:{{port}} --db {{state}}/ledger.db"
TOKEN = "{state}/coordinators/127.0.0.1_{port}/token"
OPERATOR_TOKEN = "{state}/coordinators/127.0.0.1_{port}/operator-token"
AGENT = f"{sys.executable} -m reference_agents.testee --url {{url}}"
CLIENT = f"{sys.executable} -m a2a delegate {{skill}} --text {{input}} --key {{key}} --url {{url}} --quiet"


def some(known: Sequence[Case]) -> list[Case]:
    """Return a third of the cases, those of the wire among them: `make conformance` plays all in both encodings."""
    return [case for number, case in enumerate(known) if number % 3 == 0 or case.requirement.startswith("WIRE")]


def unmet(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the cases that did not pass, as texts."""
    return [
        f"{outcome.case.id}: {outcome.status}: {outcome.detail}"
        for outcome in outcomes
        if outcome.status is not Status.PASSED
    ]


@pytest.fixture(autouse=True)
def from_the_tree(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Have each case start the code of this tree, whatever the environment says."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(request.config.rootpath), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.delenv("A2A_TOKEN", raising=False)
