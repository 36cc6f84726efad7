"""`python -m tests.model.probe`: look for a planted bug in the tree this runs in, and print what was found as JSON.

It runs inside the copy that has the bug, as `tests.mutants.probe` does for the simulator.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from .profiles import SMALL, walk_one


def main() -> int:
    """Walk the small profiles until one of the named invariants is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.model.probe", description=__doc__)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--expect", required=True, help="invariants, with commas between them")
    options = parser.parse_args()
    expected = options.expect.split(",")
    others: dict[str, int] = {}
    started = time.process_time()
    profiles = 0
    for sized in SMALL:
        if time.process_time() - started > options.seconds:
            break
        profiles += 1
        violation = walk_one(sized)[0].violation
        if violation is None:
            continue
        if violation.name in expected:
            told = {"by": violation.name, "seeds": profiles, "detail": str(violation), "others": others}
            print(json.dumps(told))
            return 0
        others[violation.name] = others.get(violation.name, 0) + 1
    print(json.dumps({"by": None, "seeds": profiles, "detail": "", "others": others}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
