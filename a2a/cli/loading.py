"""`MODULE:VARIABLE` on the command line: finds the agent it names, and the agent's source files."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..agent import Agent
from ..errors import raised_at
from .exits import ExitCode, Failure

if TYPE_CHECKING:
    from _typeshed.importlib import MetaPathFinderProtocol

__all__ = ["load_agent", "look_here", "no_module", "source_files"]


def load_agent(spec: str) -> Agent:
    """Import the agent that `MODULE:VARIABLE` names, or the only one in `MODULE`; modules in this directory come first.

    Raises:
        UsageError: there is no such agent.
        Failure: importing the module fails; the error names the line.
    """
    look_here()
    module_name, _, variable = spec.partition(":")
    if not all(module_name.split(".")):  # importlib takes it for a name inside some package
        raise click.UsageError(no_module(spec, module_name))
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name and module_name.startswith(error.name):
            raise click.UsageError(no_module(spec, error.name)) from error
        raise _failure(spec, error) from error
    except Exception as error:  # a module may fail in any way
        raise _failure(spec, error) from error
    except SystemExit as error:  # as of an `agent.main()` that runs at once, and takes our arguments for its own
        text = f"{spec}: importing {module_name} ends the process ({error.code}): a call such as agent.main() belongs"
        raise Failure(f'{text} below `if __name__ == "__main__":`', ExitCode.USAGE) from error
    if variable:
        found: object = module
        for part in variable.split("."):
            found = getattr(found, part, None)
        if not isinstance(found, Agent):
            names = _listed(name for name, value in vars(module).items() if isinstance(value, Agent))
            raise click.UsageError(f"{spec}: expected an Agent, got {type(found).__name__}; {module_name} has {names}")
        return found
    agents = {name: value for name, value in vars(module).items() if isinstance(value, Agent)}
    if len(set(map(id, agents.values()))) != 1:
        raise click.UsageError(f"{spec}: name one agent of the module, as {spec}:NAME; it has {_listed(agents)}")
    return next(iter(agents.values()))


def no_module(spec: str, name: str) -> str:
    """Return the error for a module that does not exist, or that is named as its file is."""
    text = f"{spec}: there is no module {name or 'without a name'} here or in this installation"
    file, colon, variable = spec.partition(":")
    path = Path(file).resolve()
    if path.suffix != ".py" or not path.is_file() or not path.is_relative_to(Path.cwd()):
        return text
    module = ".".join(path.relative_to(Path.cwd()).with_suffix("").parts)
    return f"{text}; the module in {file} is {module}{colon}{variable}"


def source_files(spec: str) -> list[Path]:
    """Return the module's file and the Python files that it may import as its own, without running any.

    For a module in the working directory these are all files in it, except those in hidden directories and virtual
    environments. For any other module, and in a directory too large to be one project, they are those of its top-level
    package, or those beside it.
    """
    look_here()
    name = spec.partition(":")[0]
    path = _file_of(name)
    if path is None:
        return []
    here = _python_files(Path.cwd())
    if path in here:
        return here
    depth = name.count(".") + (path.name == "__init__.py")
    package = _python_files(path.parents[depth - 1]) if depth else sorted(path.parent.glob("*.py"))
    return package or [path]


def _file_of(name: str) -> Path | None:
    """Return the file of a module, or None. `importlib.util.find_spec` would run the package it is in."""
    inside: Sequence[str] | None = None
    full = ""
    found = None
    for part in name.split("."):
        if not part or (full and inside is None):
            return None  # a module has none inside
        full = f"{full}.{part}" if full else part
        found = next(filter(None, (_spec_of(finder, full, inside) for finder in sys.meta_path)), None)
        inside = None if found is None else found.submodule_search_locations
    return None if found is None or found.origin is None else Path(found.origin)


def _spec_of(finder: MetaPathFinderProtocol, name: str, inside: Sequence[str] | None) -> ModuleSpec | None:
    try:
        return finder.find_spec(name, inside)
    except KeyError:  # a namespace package asks for the one around it by its name, and that is not imported
        return finder.find_spec(name.rpartition(".")[2], inside)


def _python_files(top: Path) -> list[Path]:
    """Return the Python files below a directory; none if it has more than `_FOLDERS_MAX` directories."""
    files: list[Path] = []
    for number, (folder, inner, names) in enumerate(os.walk(top)):
        if number == _FOLDERS_MAX:
            return []
        inner[:] = [each for each in inner if each[0] != "." and each not in _NOT_SOURCES]
        if "pyvenv.cfg" in names:
            inner.clear()
            continue
        files += (Path(folder, each) for each in names if each.endswith(".py"))
    return sorted(files)


_NOT_SOURCES = frozenset({"__pycache__", "node_modules"})
_FOLDERS_MAX = 2_000
"""A directory with more is no project of its own, such as a home directory, and every look at it would take long."""


def look_here() -> None:
    """Let modules in the working directory be imported, as `python -m` does."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def _failure(spec: str, error: Exception) -> Failure:
    """Return the error for a module that fails: the usage is right, so no hint at usage is shown."""
    return Failure(f"{spec}: {_where(error)}", ExitCode.USAGE)


def _where(error: Exception) -> str:
    """Return the error, with the file and line where it was raised."""
    if isinstance(error, SyntaxError):  # its message ends with the place
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    return f"{raised_at(error, __file__)}{type(error).__name__}: {error}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
