"""Options and hooks of all tests."""

from __future__ import annotations

import signal

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run what is marked `long` as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests that take long and resemble others, unless they are asked for."""
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long") is not None:
                item.add_marker(pytest.mark.skip(reason="it lasts long: make long"))


def pytest_configure(config: pytest.Config) -> None:
    """Have Ctrl-C work in each worker and in all processes it starts.

    A shell has its background processes ignore it, and children inherit that: a suite started there would wait for
    processes that ignore Ctrl-C or not, depending on which test last handled the signal.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
