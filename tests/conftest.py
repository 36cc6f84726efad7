"""What all tests rely on."""

from __future__ import annotations

import signal

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run what is marked `long` as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what lasts long and is like what is not left out, unless it is asked for."""
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long") is not None:
                item.add_marker(pytest.mark.skip(reason="it lasts long: make long"))


def pytest_configure(config: pytest.Config) -> None:
    """Have Ctrl-C mean something, in each worker and in all it starts.

    A shell has what it runs in the background ignore it, and that is handed down: a suite started there would wait for
    processes that are deaf, or not, as it pleases whichever test handled the signal before.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
