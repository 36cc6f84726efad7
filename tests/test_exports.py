"""The public names: what a module lists is there, and what the package lists is what it gives."""

from __future__ import annotations

import ast
import builtins
import importlib
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import a2a

ROOT = Path(__file__).parents[1]
CASES = [ROOT / "a2a" / "conformance" / role for role in ("coordinator", "agent", "client")]
"""Modules whose functions register themselves; nobody imports a name of theirs."""
MODULES = sorted(
    path
    for path in (ROOT / "a2a").rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py") and path.parent not in CASES
)


@pytest.mark.parametrize("name", a2a.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(a2a, name) is not None


def test_public_names_are_listed_once_and_have_an_origin() -> None:
    listed = [name for names in a2a._ORIGINS.values() for name in names]
    assert len(set(listed)) == len(listed)
    assert sorted([*listed, "__version__"], key=str.lower) == sorted(a2a.__all__, key=str.lower)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse((ROOT / "a2a" / "__init__.py").read_text(encoding="utf-8"))
    seen = {
        (node.module, alias.name)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    named = {(module, name) for module, names in a2a._ORIGINS.items() for name in names}
    assert seen == named | {(None, module) for module in a2a._MODULES}


@pytest.mark.parametrize("name", a2a._MODULES)
def test_a_public_module_is_there_with_the_package(name: str) -> None:
    command = f"import a2a, sys; assert 'a2a.{name}' not in sys.modules; print(a2a.{name}.__name__)"
    told = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == f"a2a.{name}"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = a2a.Nonsense


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_lists_its_public_names(path: Path) -> None:
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    assert all(hasattr(module, name) for name in module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, a2a; print([m for m in ('pydantic', 'websockets', 'msgpack', 'anyio') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[]"


def test_a_package_of_the_same_name_in_the_same_place_is_told(tmp_path: Path) -> None:
    copy = tmp_path / "a2a"
    (copy / "server").mkdir(parents=True)
    (copy / "__init__.py").write_text((ROOT / "a2a" / "__init__.py").read_text(encoding="utf-8"))
    done = subprocess.run(
        [sys.executable, "-c", "import a2a"], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert "a2a-coordinator and a2a-sdk are installed into the same place" in done.stderr


def test_every_error_that_a_docstring_names_is_one_there_is() -> None:
    trees = {path: list(ast.walk(ast.parse(path.read_text(encoding="utf-8")))) for path in MODULES}
    made = {node.name for nodes in trees.values() for node in nodes if isinstance(node, ast.ClassDef)}
    known = made | vars(builtins).keys() | vars(click).keys()
    unknown = [
        f"{path.relative_to(ROOT)}: {name}"
        for path, nodes in trees.items()
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for listed in re.findall(r"^ *Raises.*:\n((?: +.*\n?)+)", ast.get_docstring(node) or "", re.MULTILINE)
        for names in re.findall(r"^ {4}((?:[A-Z][a-z]\w+(?:, )?)+):", listed, re.MULTILINE)
        for name in names.split(", ")
        if name not in known
    ]
    assert unknown == []
