"""The help pages of groups of commands."""

from __future__ import annotations

import importlib
from typing import Any

import click
import pytest

from a2a.cli.groups import Group
from a2a.cli.main import COMMANDS

GROUPS = [
    (name, command)
    for name, (module, attribute, _) in COMMANDS.items()
    if isinstance(command := getattr(importlib.import_module(module, "a2a.cli"), attribute), click.Group)
]


@pytest.mark.parametrize(("name", "group"), GROUPS, ids=[name for name, _ in GROUPS])
def test_a_narrow_page_has_the_whole_first_sentence_of_each_command(command: Any, name: str, group: Group) -> None:
    page = " ".join(command(name, "--help").out.split())
    assert group.commands
    for it in group.commands.values():
        said = " ".join((it.help or "").split("\n\n")[0].split())
        first = said.split(". ")[0].rstrip(".")
        assert first in page.partition("Commands:")[2], it.name
