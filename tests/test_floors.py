"""The house: imports point down, the two lower floors are pure, reference agents use the public API only."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "a2a"
MODULES = sorted(PACKAGE.rglob("*.py"))

PROTOCOL, ENGINE, MEDIA, SHELLS, APPS = range(5)
TOP = {
    *(".ci", ".gitignore", "LICENSE", "Makefile", "README.md", "pyproject.toml"),
    *("a2a", "benchmarks", "reference_agents", "spec", "tests"),
}
"""What there is at the top: nothing else is committed there."""
FLOOR_OF_FOLDER = {
    "protocol": PROTOCOL,
    "engine": ENGINE,
    "stores": MEDIA,
    "transports": MEDIA,
    "cli": APPS,
    "gateways": APPS,
    "conformance": APPS,
    "testing": APPS,
}
FLOOR_OF_FILE = {"errors.py": PROTOCOL, "__main__.py": APPS, "__init__.py": APPS}

BANNED_BELOW = {
    "asyncio": "a shell; a handler is a plain function",
    "anyio": "a shell; a handler is a plain function",
    "time": "the `now` that every step is given",
    "random": "a hash of what is decided, so that a replay decides the same",
    "secrets": "a value the shell draws and passes in",
    "uuid": "ids that come with the message",
    "sqlite3": "a store",
    "logging": "a record; the shell logs each once",
    "os": "settings that are passed in",
    "pathlib": "a shell or a store",
    "socket": "a transport",
    "subprocess": "a shell",
    "threading": "a shell",
    "concurrent": "a shell",
}


def floor_of(path: Path) -> int:
    inside = path.relative_to(PACKAGE)
    if len(inside.parts) == 1:
        return FLOOR_OF_FILE.get(inside.name, SHELLS)
    return FLOOR_OF_FOLDER[inside.parts[0]]


def imports(path: Path) -> Iterator[tuple[int, str, int]]:
    """Yield (level, module, line) of every import that is made when the program runs."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield 0, name.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            if node.level and not node.module:
                for name in node.names:
                    yield node.level, name.name, node.lineno
            else:
                yield node.level, node.module or "", node.lineno


def target_of(path: Path, level: int, module: str) -> Path:
    """Return the file or folder inside the package that a relative import means."""
    folder = path.parent
    for _ in range(level - 1):
        folder = folder.parent
    target = folder.joinpath(*module.split("."))
    return target if target.is_dir() else target.with_suffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_inside_the_package_are_relative_and_point_down(path: Path) -> None:
    for level, module, line in imports(path):
        assert module.split(".")[0] != "a2a", (
            f"{path}:{line}: inside a2a/ imports are relative (an alias build needs it)"
        )
        if level == 0:
            continue
        target = target_of(path, level, module)
        if not target.exists() or target == PACKAGE:
            continue  # a name of the package itself, such as __version__
        wanted = floor_of(target / "__init__.py" if target.is_dir() and target.parent != PACKAGE else target)
        assert wanted <= floor_of(path), f"{path}:{line}: {module} lives on a higher floor; move the code, not the rule"
        rooms = {target.relative_to(PACKAGE).parts[0], path.relative_to(PACKAGE).parts[0]}
        assert rooms != {"stores", "transports"}, f"{path}:{line}: stores and transports do not know each other"


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if floor_of(path) <= ENGINE],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_the_two_lower_floors_are_pure(path: Path) -> None:
    for level, module, line in imports(path):
        top = module.split(".")[0]
        if level == 0 and top in BANNED_BELOW:
            pytest.fail(f"{path}:{line}: no {top} here; use {BANNED_BELOW[top]}")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await), f"{path}:{node.lineno}: nothing waits here"


def test_only_the_codec_knows_msgpack() -> None:
    """And the conformance suite: one that shared a codec with what it judges would share its mistakes."""
    users = {
        str(path.relative_to(PACKAGE)) for path in MODULES if any(name == "msgpack" for _, name, _ in imports(path))
    }
    assert {user for user in users if not user.startswith("conformance/")} == {"protocol/codec.py"}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "reference_agents").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_reference_agents_use_the_public_api_only(path: Path) -> None:
    for level, module, line in imports(path):
        if level == 0 and module.split(".")[0] == "a2a":
            assert module in ("a2a", "a2a.sync", "a2a.testing"), f"{path}:{line}: {module} is not public"


def test_the_checks_can_fail(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import time\nfrom ..server import Server\n")
    assert [(level, module) for level, module, _ in imports(wrong)] == [(0, "time"), (2, "server")]
    assert target_of(PACKAGE / "engine" / "tasks.py", 2, "server") == PACKAGE / "server.py"
    assert floor_of(PACKAGE / "server.py") > floor_of(PACKAGE / "engine" / "tasks.py")


def test_the_conformance_suite_shares_nothing_with_what_it_judges() -> None:
    for path in sorted((PACKAGE / "conformance").rglob("*.py")):
        for level, module, line in imports(path):
            outside = level > len(path.relative_to(PACKAGE / "conformance").parts)
            assert not outside, f"{path}:{line}: {module} is the implementation's; the suite speaks for itself"


def test_nothing_was_left_at_the_top() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no git repository")
    assert {path.partition("/")[0] for path in listed.stdout.split("\0") if path} == TOP
