"""Packages that a repository's build and tests need and lack: their names, and where the repository asks for them.

A missing module is known from Python's message, which is foreign text. So it only selects among the requirements that
the repository states in one of the usual places, and among the few that old tests take for granted. This module fetches
nothing; `environment` does.
"""

from __future__ import annotations

import ast
import configparser
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

__all__ = ["REQUIREMENT", "asked_for", "missing_modules", "requirements_for", "requirements_of_build", "usual_error"]

REQUIREMENT: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[[^\]]*\])?\s*($|[<>=!~;(].*)")
"""A name with versions; an address or an option does not match."""
MISSING: Final = re.compile(r"\b(?:ModuleNotFoundError: |plugin \"[\w.]+\": )No module named '(\w+)[\w.]*'")
FIXTURE: Final = re.compile(r"\bfixture '(\w+)' not found")
PLUGINS: Final = {
    "aiohttp_client": "pytest_aiohttp", "benchmark": "pytest_benchmark", "freezer": "pytest_freezer",
    "httpbin": "pytest_httpbin", "httpx_mock": "pytest_httpx", "mocker": "pytest_mock",
    "requests_mock": "requests_mock",
}  # fmt: skip
"""Missing fixtures, and the modules that have them."""
ASYNC: Final = "async def functions are not natively supported"
EGG: Final = re.compile(r"'wheel', .*'([^']+)'\]' returned non-zero")
"""The message of setuptools about a requirement of `setup.py` itself that it cannot fetch without a network."""
ERROR: Final = re.compile(
    r"^(?:E\s+|INTERNALERROR>\s+)?(?!_pytest\.)((?:\w+\.)*\w*(?:Error|Exception|Warning)\b(?:: .*)?)$", re.M
)
FILES: Final = ("*requirements*.txt", "requirements/*.txt")
FILE_BYTES_MAX: Final = 256 * 1024
TAKEN_FOR_GRANTED: Final = {"mock": "mock", "six": "six", "pkg_resources": "setuptools<70"}
"""Packages that almost every installation once had; 70 is the first setuptools without `pkg_resources.extern`."""
SUCCEEDED: Final = {"nose": "pynose"}
"""Modules that no newer Python runs, and their successors."""
ALIASES: Final = {
    "attr": "attrs", "bs4": "beautifulsoup4", "crypto": "pycryptodome", "git": "gitpython", "pil": "pillow",
    "sklearn": "scikit-learn",
}  # fmt: skip
"""Modules whose distribution has a very different name."""


def missing_modules(output: str) -> list[str]:
    """Return the modules that were not found, by the first part of their names, and those of missing plugins."""
    plugins = {PLUGINS[fixture] for fixture in FIXTURE.findall(output) if fixture in PLUGINS}
    return sorted({*MISSING.findall(output), *plugins, *(["pytest_asyncio"] if ASYNC in output else [])})


def requirements_of_build(output: str, tree: Path) -> list[str]:
    """Return what to install for a build to get further after it ended with this output."""
    script = _text(tree / "setup.py")
    eggs = [egg for egg in EGG.findall(output) if REQUIREMENT.fullmatch(egg) and _names(script, egg)]
    return [*dict.fromkeys(eggs), *requirements_for(missing_modules(output), tree)]


def usual_error(output: str) -> str:
    """Return the error that a test run names most often, the first of several; empty if it names none."""
    found = Counter(ERROR.findall("\n".join(line.strip() for line in output.splitlines())))
    return found.most_common(1)[0][0][:300] if found else ""


def requirements_for(modules: Iterable[str], tree: Path) -> list[str]:
    """Return what to install for modules to be found, as far as known; nothing for the tree's own modules."""
    asked = asked_for(tree)
    found: dict[str, None] = {}
    for module in modules:
        if any((tree / folder / own).exists() for folder in (".", "src") for own in (module, f"{module}.py")):
            continue
        if module in SUCCEEDED:
            found[SUCCEEDED[module]] = None
            continue
        name = _normal(module)
        names = {name, f"python-{name}", f"py{name}", ALIASES.get(name, name)}
        for requirement in (text for text in asked if _name(text) in names):
            found[requirement] = None
        if module in TAKEN_FOR_GRANTED and not any(_name(text) == name for text in found):
            found[TAKEN_FOR_GRANTED[module]] = None
    return list(found)


def asked_for(tree: Path) -> list[str]:
    """Return all that a repository asks for, for any purpose: names with versions, never addresses."""
    texts = [*_in_files(tree), *_in_ini(tree), *_in_pyproject(tree), *_in_pipfile(tree), *_in_setup(tree)]
    stripped = (text.partition(" #")[0].strip() for text in texts)
    return list(dict.fromkeys(text for text in stripped if REQUIREMENT.fullmatch(text)))


def _names(script: str, requirement: str) -> bool:
    """Tell whether a script contains a text that is a requirement of this name."""
    return any(_name(text) == _name(requirement) for _, text in re.findall(r"(['\"])(.+?)\1", script))


def _in_files(tree: Path) -> Iterator[str]:
    for pattern in FILES:
        for file in sorted(tree.glob(pattern)):
            yield from _text(file).splitlines()


def _in_ini(tree: Path) -> Iterator[str]:
    """Yield the requirements of `tox.ini` and `setup.cfg`; a line of tox may begin with the environments it is for."""
    for name, options in (("tox.ini", {"deps"}), ("setup.cfg", {"tests_require", "install_requires"})):
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read_string(_text(tree / name))
        except configparser.Error:
            continue
        for section in parser.sections():
            for option, value in parser.items(section):
                if option in options or section == "options.extras_require":
                    yield from (re.sub(r"^[\w!{},-]+:\s+", "", line) for line in value.splitlines())


def _in_pyproject(tree: Path) -> Iterator[str]:
    try:
        settings: dict[str, Any] = tomllib.loads(_text(tree / "pyproject.toml"))
    except tomllib.TOMLDecodeError:
        return
    project, poetry = _table(settings, "project"), _table(settings, "tool", "poetry")
    lists = [project.get("dependencies"), *_table(project, "optional-dependencies").values()]
    for asked in (*lists, *_table(settings, "dependency-groups").values()):
        if isinstance(asked, list):
            yield from (text for text in asked if isinstance(text, str))
    groups = [_table(group, "dependencies") for group in _table(poetry, "group").values()]
    for table in (_table(poetry, "dependencies"), _table(poetry, "dev-dependencies"), *groups):
        yield from (name for name in table if name != "python")


def _in_pipfile(tree: Path) -> Iterator[str]:
    try:
        settings = tomllib.loads(_text(tree / "Pipfile"))
    except tomllib.TOMLDecodeError:
        return
    for table in (_table(settings, "packages"), _table(settings, "dev-packages")):
        yield from (f"{name}{asked}" if re.match("[<>=~!]", str(asked)) else name for name, asked in table.items())


def _in_setup(tree: Path) -> Iterator[str]:
    """Yield the texts in the requirement lists of `setup.py`, without running it."""
    try:
        module = ast.parse(_text(tree / "setup.py"))
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(module):
        if isinstance(node, ast.keyword) and node.arg in {"tests_require", "install_requires", "extras_require"}:
            parts = node.value.values if isinstance(node.value, ast.Dict) else [node.value]
            for part in (part for top in parts for part in ast.walk(top)):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield from part.value.splitlines()


def _table(settings: object, *keys: str) -> dict[str, Any]:
    for key in keys:
        settings = settings.get(key) if isinstance(settings, dict) else None
    return settings if isinstance(settings, dict) else {}


def _text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(FILE_BYTES_MAX).decode("utf-8", errors="replace")
    except OSError:
        return ""


def _name(requirement: str) -> str:
    found = REQUIREMENT.fullmatch(requirement)
    return _normal(found.group(1)) if found else ""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
