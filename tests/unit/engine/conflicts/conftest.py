"""What tests of conflicts begin with."""

from __future__ import annotations

import pytest

from a2a.engine.policy import Admission, digest
from tests.unit.engine.conflicts.court import Court


@pytest.fixture
def court(make_town):
    def make(workers=3, policy=None, **spec):
        town = make_town(admission=Admission(operator_token=digest("op")), **(policy or {}))
        return Court(town, workers, **spec)

    return make
