"""`python -m tests.fuzz.guided TARGET FOLDER CORPUS [-libFuzzer=option ...]`: fuzz one target, guided by coverage.

It goes on after a finding, each place of which is kept once; libFuzzer itself ends it for a hang or for its memory.
"""

from __future__ import annotations

import logging
import random
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["a2a"]):
    from tests.fuzz.known import TARGETS
from tests.fuzz.watch import keep, watch

_SEEDS = 64
"""Inputs to begin with: long enough that a session comes to something."""


def main(arguments: list[str]) -> None:
    """Fuzz until the time is over; atheris ends the process."""
    name, folder, corpus, *options = arguments
    target, seen = TARGETS[name], set()
    logging.disable(logging.CRITICAL)
    draw = random.Random(name)
    for number in range(_SEEDS):
        Path(corpus, str(number)).write_bytes(draw.randbytes(16 << (number % 8)))

    def take(data: bytes) -> None:
        finding = watch(target, data)
        if finding is not None and finding.kind not in seen:
            seen.add(finding.kind)
            keep(finding, data, Path(folder))

    watch(target, b"")  # what is made once is not counted against the first input
    atheris.Setup(["fuzz", corpus, *options], take)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
