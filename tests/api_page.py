"""The tables of `a2a/README.md`, made from the docstrings of public names; `python -m tests.api_page` writes them."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path

import a2a

PAGE = Path(__file__).parents[1] / "a2a" / "README.md"
_FOR_ITSELF = {
    *("changed", "noticed", "written", "link", "from_wire", "blocking", "runs", "leave"),
    *("follow_call", "next_answers", "unfollow_call", "follow_context", "next_written", "unfollow_context"),
}
"""Names that only this package's own commands and bridges need."""


def page(now: str) -> str:
    """Return the page with each of its tables made from the current docstrings."""
    return re.sub(
        r"(<!-- (\w+) of ([\w, ]+); begin -->\n).*?(<!-- end -->)",
        lambda found: found[1] + table(found[2], found[3].split(", ")) + found[4],
        now,
        flags=re.DOTALL,
    )


def table(what: str, of: list[str]) -> str:
    """Return a table of public names, or of the members of a class."""
    if what == "members":
        (name,) = of
        rows = members(getattr(a2a, name))
    else:
        rows = [(name, brief(inspect.getdoc(getattr(a2a, name)))) for name in of]
    told = "".join(f"| `{name}` | {says} |\n" for name, says in rows)
    return f"| | |\n|--|--|\n{told}"


def members(kind: type) -> list[tuple[str, str]]:
    """Return a class's public names with their descriptions: its attributes in source order, then its methods."""
    known = dict(attributes(kind))
    if is_dataclass(kind):
        known = {item.name: known.get(item.name, "") for item in fields(kind)}
    others = {name: brief(inspect.getdoc(item)) for name, item in inspect.getmembers(kind) if _is_told(name)}
    return [
        *((name, says) for name, says in known.items() if not others.get(name)),
        *((name, says) for name, says in others.items() if says),
    ]


def attributes(kind: type) -> list[tuple[str, str]]:
    """Return a class's attributes with the strings that follow them, in its body or where `__init__` sets them."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    begins = [item for item in tree.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
    found = []
    for body in (tree.body, *(item.body for item in begins)):
        for before, behind in pairwise(body):
            if isinstance(behind, ast.Expr) and isinstance(behind.value, ast.Constant):
                target = before.targets[0] if isinstance(before, ast.Assign) else getattr(before, "target", None)
                name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "_")
                if _is_told(name):
                    found.append((name, brief(str(behind.value.value))))
    return found


def brief(told: str | None) -> str:
    """Return the first paragraph of a docstring, on one line."""
    return re.sub(r"\s+", " ", (told or "").partition("\n\n")[0]).replace("|", "\\|")


def _is_told(member: str) -> bool:
    return not member.startswith("_") and member not in _FOR_ITSELF


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
