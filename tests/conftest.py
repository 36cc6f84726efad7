"""What all tests rely on."""

from __future__ import annotations

import signal

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Have Ctrl-C mean something, in each worker and in all it starts.

    A shell has what it runs in the background ignore it, and that is handed down: a suite started there would wait for
    processes that are deaf, or not, as it pleases whichever test handled the signal before.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
