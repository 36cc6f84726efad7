"""Find names that one file of a repository imports from another, which does not have them.

Tests notice that only if they import the file. This module reads files and runs nothing: a name that a module may make
at run time counts as present, and so does anything that cannot be read. It knows no patches; the caller compares two
trees and takes the difference.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

__all__ = ["Imports", "Missing"]

AT_RUN_TIME: Final = frozenset({"globals", "locals", "vars", "exec", "eval", "__getattr__", "sys.modules"})
"""Names that show that a module makes names at run time, which the text does not tell."""
TRIED: Final = frozenset({"ImportError", "ModuleNotFoundError", "AttributeError", "Exception", "BaseException"})


class Missing(NamedTuple):
    """A name that is imported from where it does not exist."""

    path: str
    """The file that imports it."""
    name: str
    source: str
    """The file that should have it; the same file if it is only in `__all__`."""

    def __str__(self) -> str:
        if self.path == self.source:
            return f"{self.path} offers {self.name} in __all__ and does not have it"
        return f"{self.path} takes {self.name} from {self.source}, which does not have it"


class _From(NamedTuple):
    level: int
    module: str


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the text of a module tells."""

    binds: frozenset[str]
    is_open: bool
    """Whether it may have more names than the text shows."""
    stars: tuple[_From, ...]
    takes: tuple[tuple[_From, str], ...]
    uses: tuple[tuple[_From, tuple[str, ...]], ...]
    """Chains of attributes of what may be a module."""
    offers: tuple[str, ...]


class Imports:
    """Looks at the files of one repository, repeatedly; it reads the same content only once."""

    def __init__(self, files: Sequence[str], roots: Sequence[str]) -> None:
        self._files = files
        self._roots = [PurePosixPath(root) for root in roots]
        self._known: dict[bytes, _Facts | None] = {}

    def missing(self, folder: Path) -> set[Missing]:
        """Return what is missing in a checked-out tree."""
        facts: dict[str, _Facts | None] = {}
        for path in self._files:
            try:
                source = (folder / path).read_bytes()
            except OSError:
                continue
            if source not in self._known:
                self._known[source] = _read(source)
            facts[path] = self._known[source]
        return set(_Tree(facts, self._roots).missing())


class _Tree:
    """The modules of one tree."""

    def __init__(self, facts: Mapping[str, _Facts | None], roots: Sequence[PurePosixPath]) -> None:
        self._facts = facts
        self._roots = roots
        self._folders = {folder for path in facts for folder in PurePosixPath(path).parents}

    def missing(self) -> Iterator[Missing]:
        for path, facts in self._facts.items():
            if facts is None:
                continue
            for name in facts.offers:
                if not self._has(path, name):
                    yield Missing(path, name, path)
            for origin, name in facts.takes:
                source = self._module(path, origin)
                if source and not self._has(source, name):
                    yield Missing(path, name, source)
            for origin, names in facts.uses:
                found = self._used(path, origin, names)
                if found and not self._has(*found):
                    yield Missing(path, found[1], found[0])

    def _used(self, path: str, origin: _From, names: tuple[str, ...]) -> tuple[str, str] | None:
        """Return the last module in a chain of attributes, and the name wanted of it."""
        found = None
        for name in names:
            source = self._module(path, origin)
            if source is None:
                return None
            found = source, name
            if name in (facts.binds if (facts := self._facts[source]) else ()):
                return found
            origin = _From(origin.level, f"{origin.module}.{name}".strip("."))
            if self._module(path, origin) is None:
                return found
        return None

    def _module(self, path: str, origin: _From) -> str | None:
        """Return the file of a module, as seen from another file."""
        here = PurePosixPath(path).parent
        parts = origin.module.split(".") if origin.module else []
        if origin.level:
            above = [here, *here.parents]
            tops = above[origin.level - 1 : origin.level]
        else:
            tops = [*self._roots, *([] if str(here / "__init__.py") in self._facts else [here])]
        for top in tops:
            module = top.joinpath(*parts)
            # Without a name it is the repository's folder, which has no module file beside it.
            for file in (module / "__init__.py", *([module.with_suffix(".py")] if module.name else [])):
                if str(file) in self._facts:
                    return str(file)
        return None

    def _has(self, source: str, name: str) -> bool:
        # Each module once: modules that star-import from each other would give endless paths.
        pending, seen = [source], {source}
        while pending:
            source = pending.pop()
            facts = self._facts[source]
            if facts is None or facts.is_open or name in facts.binds or name.startswith("__"):
                return True
            pure = PurePosixPath(source)
            is_below = str(pure.with_name(f"{name}.py")) in self._facts or pure.parent / name in self._folders
            if pure.name == "__init__.py" and is_below:
                return True
            for star in facts.stars:
                other = self._module(source, star)
                if other is None:
                    return True
                if other not in seen:
                    seen.add(other)
                    pending.append(other)
        return False


def _read(source: bytes) -> _Facts | None:
    """Read a file; None if it cannot be read."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return None
    reader = _Reader()
    reader.visit(tree)
    return reader.facts()


class _Reader(ast.NodeVisitor):
    """Collects what a module binds, imports and uses."""

    def __init__(self) -> None:
        self._depth = 0
        """Depth of nesting in functions and classes."""
        self._binds: set[str] = set()
        self._made: set[str] = set()
        """Names bound anywhere other than by an import."""
        self._modules: dict[str, set[tuple[_From, tuple[str, ...]]]] = {}
        """Names of imports: the module they come from, and the attributes in it."""
        self._stars: list[_From] = []
        self._takes: list[tuple[_From, str]] = []
        self._rows: list[tuple[str, ...]] = []
        self._offers: list[str] = []
        self._is_open = False

    def facts(self) -> _Facts:
        uses = {
            (origin, (*start, *row[1:]))
            for row in self._rows
            if row[0] not in self._made
            for origin, start in self._modules.get(row[0], ())
        }
        return _Facts(
            frozenset(self._binds), self._is_open, tuple(self._stars), tuple(self._takes), tuple(sorted(uses)),
            tuple(self._offers),
        )  # fmt: skip

    def _bind(self, name: str) -> None:
        self._made.add(name)
        if not self._depth:
            self._binds.add(name)

    def _inside(self, parts: Iterable[ast.AST]) -> None:
        self._depth += 1
        for part in parts:
            self.visit(part)
        self._depth -= 1

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._bind(node.name)
        self._is_open |= node.name in AT_RUN_TIME and not self._depth
        for part in (*node.decorator_list, *([node.returns] if node.returns else [])):
            self.visit(part)
        self._inside([node.args, *node.body])

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._bind(node.name)
        for part in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(part)
        self._inside(node.body)

    def visit_arg(self, node: ast.arg) -> None:
        self._made.add(node.arg)
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global) -> None:
        self._binds.update(node.names)
        self._made.update(node.names)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._is_open |= node.id in AT_RUN_TIME
        else:
            self._bind(node.id)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self._bind(node.name)
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> None:
        if node.name:
            self._bind(node.name)
        self.generic_visit(node)

    visit_MatchStar = visit_MatchAs

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        if node.rest:
            self._bind(node.rest)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        row = _row(node)
        if row is None:
            self.generic_visit(node)
        elif not isinstance(node.ctx, ast.Load):
            self._made.add(row[0])  # somebody gives a module a new attribute
        else:
            self._is_open |= ".".join(row[:2]) in AT_RUN_TIME
            self._rows.append(row)

    def visit_Assign(self, node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        is_all = any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)
        if is_all and isinstance(node.value, ast.List | ast.Tuple):
            texts = [part.value for part in node.value.elts if isinstance(part, ast.Constant)]
            self._offers += [text for text in texts if isinstance(text, str)]
        self.generic_visit(node)

    visit_AnnAssign = visit_Assign
    visit_AugAssign = visit_Assign

    def visit_Try(self, node: ast.Try) -> None:
        if not any(handler.type is None or TRIED & _names(handler.type) for handler in node.handlers):
            self.generic_visit(node)
            return
        # An import that is only tried may be missing.
        takes, rows = len(self._takes), len(self._rows)
        for tried in node.body:
            self.visit(tried)
        del self._takes[takes:], self._rows[rows:]
        for part in (*node.handlers, *node.orelse, *node.finalbody):
            self.visit(part)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            if not self._depth:
                self._binds.add(name)
            module = alias.name if alias.asname else name
            self._modules.setdefault(name, set()).add((_From(0, module), ()))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        origin = _From(node.level, node.module or "")
        for alias in node.names:
            if alias.name == "*":
                self._stars.append(origin)
                continue
            name = alias.asname or alias.name
            if not self._depth:
                self._binds.add(name)
            self._takes.append((origin, alias.name))
            self._modules.setdefault(name, set()).add((origin, (alias.name,)))


def _row(node: ast.Attribute) -> tuple[str, ...] | None:
    """Return the names of `a.b.c`; None if it does not begin with a name."""
    names = [node.attr]
    value = node.value
    while isinstance(value, ast.Attribute):
        names.append(value.attr)
        value = value.value
    return (value.id, *reversed(names)) if isinstance(value, ast.Name) else None


def _names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
