"""Tools for users to test their own agents: a whole squad in one process, with short timers and no files.

async with a2a.testing.squad(agent) as squad:
    assert await squad.client.call("count_words", {"text": "a b c"}) == {"words": 3}
    await squad.advance(3600)  # an hour, for which a test needs some milliseconds
"""

from __future__ import annotations

from .faults import Fault, Faults
from .squad import QUICK, Squad, squad

__all__ = ["QUICK", "Fault", "Faults", "Squad", "squad"]
