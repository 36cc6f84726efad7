"""Rewrite Python files with libcst.

A stand-alone script. `coder_libcst` runs it as a separate process, because it computes for minutes and would keep an
agent from answering. It reads its job from a file and writes one JSON line for each Python file it has looked at.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import json
import keyword
import re
import string
import symtable
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path, PurePosixPath
from typing import Any

import libcst as cst
import libcst.matchers as m
from libcst.codemod import Codemod, CodemodContext
from libcst.codemod.commands.convert_format_to_fstring import ConvertFormatStringCommand
from libcst.codemod.commands.convert_percent_format_to_fstring import ConvertPercentFormatStringCommand
from libcst.codemod.commands.remove_unused_imports import RemoveUnusedImportsCommand

__all__ = [
    "OPERATIONS",
    "Rename",
    "bindings_of",
    "clash_in",
    "main",
    "may_apply",
    "module_name",
    "others_named",
    "overridden",
    "rewrite",
]

DOING = m.Call() | m.Await() | m.Yield() | m.NamedExpr()
"""Expressions whose effect changes if they run twice, not at all, or in another order."""
COLON = m.Lambda() | m.NamedExpr()
"""Expressions with a colon that an f-string takes for the beginning of a format."""
TEXT = m.SimpleString() | m.ConcatenatedString() | m.FormattedString()
NO_TUPLES = (
    TEXT | m.Integer() | m.Float() | m.Comparison() | m.List() | m.ListComp() | m.GeneratorExp()
    | m.UnaryOperation(operator=m.Not())
    | m.Call(func=m.Name("str") | m.Name("repr") | m.Name("len") | m.Name("int") | m.Name("float") | m.Name("type"))
    | m.Call(func=m.Attribute(value=TEXT))
)  # fmt: skip
"""Expressions that are certainly not tuples, whose items `%` would take one by one."""
OFFERS = m.Name("__all__") | m.Name("__slots__") | m.Name("__match_args__")
NAMERS = (
    m.Name("getattr") | m.Name("hasattr") | m.Name("setattr") | m.Name("delattr") | m.Name("attrgetter")
    | m.Name("methodcaller") | m.Name("cast") | m.Name("TypeVar") | m.Name("ForwardRef") | m.Name("NewType")
)  # fmt: skip
BY_NAME = (
    NAMERS | m.Attribute(attr=NAMERS) | m.Attribute(value=OFFERS)
    | m.Attribute(value=m.Name("patch") | m.Attribute(attr=m.Name("patch")), attr=m.Name("object"))
)  # fmt: skip
"""Functions, of any module, that take the name of something as a text, such as `monkeypatch.setattr`."""
LITERAL = m.Subscript(value=m.Name("Literal") | m.Attribute(attr=m.Name("Literal")))
EXAMPLE = re.compile(r"^[^\S\n]*>>> ?", re.M)
EXAMPLE_GOES_ON = re.compile(r"[^\S\n]*\.\.\. ?")
NOT_IMPORTED = frozenset({"antigravity", "this", "__main__", "idlelib", "turtledemo", "test"})
"""Modules of the standard library that do something when they are imported."""
WHOLE = m.Name() | m.Attribute() | m.Subscript() | m.Call() | m.SimpleString() | m.List()
"""Expressions that an attribute or an index can follow."""
MISSING = m.Name("ImportError") | m.Name("ModuleNotFoundError") | m.Name("Exception") | m.Name("BaseException")


class _Format(ConvertFormatStringCommand):
    """Turn `str.format` into equivalent f-strings."""

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:
        if m.matches(original_node.func, m.Attribute(value=m.SimpleString())) and not _stays_same(original_node):
            return updated_node
        return super().leave_Call(original_node, updated_node)


class _Percent(ConvertPercentFormatStringCommand):
    """Turn `%` into equivalent f-strings."""

    def leave_BinaryOperation(
        self, original_node: cst.BinaryOperation, updated_node: cst.BinaryOperation
    ) -> cst.BaseExpression:
        left, right = original_node.left, original_node.right
        if not isinstance(left, cst.SimpleString):
            return updated_node
        values = [right]
        if isinstance(right, cst.Tuple):
            values = [element.value for element in right.elements if isinstance(element, cst.Element)]
            if not len(values) == len(right.elements) == left.raw_value.count("%s"):
                return updated_node
        elif not m.matches(right, NO_TUPLES):
            return updated_node
        if not all(_fits(value) for value in values):
            return updated_node
        return super().leave_BinaryOperation(original_node, updated_node)


class _UnusedImports(RemoveUnusedImportsCommand):
    """Remove unused imports, except those that only check whether something exists."""

    def visit_Try(self, node: cst.Try) -> bool:
        return not any(handler.type is None or m.findall(handler.type, MISSING) for handler in node.handlers)

    def visit_With(self, node: cst.With) -> bool:
        return not any(m.findall(item.item, MISSING) for item in node.items)

    def visit_Import(self, node: cst.Import) -> bool:
        return not _offers(node.names) and super().visit_Import(node)

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
        return not _offers(node.names) and super().visit_ImportFrom(node)


def _offers(names: Sequence[cst.ImportAlias] | cst.ImportStar) -> bool:
    """Return whether an import re-exports a name, as `a as a` says."""
    return not isinstance(names, cst.ImportStar) and any(one.evaluated_alias == one.evaluated_name for one in names)


OPERATIONS: dict[str, tuple[type[Codemod], ...]] = {
    "fstrings": (_Format, _Percent),
    "unused-imports": (_UnusedImports,),
}


class Rename(cst.CSTTransformer):
    """Rename everything with one name, wherever this repository's own definitions make that likely right.

    Args:
        bindings: the result of `bindings_of`. A keyword argument is renamed only if a parameter has the old name, an
            attribute only if something other than a parameter has it.
        ours: the modules of the repository; names from other modules are kept. If empty, none are known.
        around: names that are foreign before a file begins.
    """

    def __init__(
        self, old: str, new: str, bindings: Iterable[str], ours: Iterable[str] = (), around: Iterable[str] = ()
    ) -> None:
        super().__init__()
        self._old = old
        self._new = new
        self._bindings = frozenset(bindings)
        self._ours = frozenset(ours)
        self._around = frozenset(around)
        self._named: set[cst.CSTNode] = set()
        """Texts that stand for something with a name."""
        self._foreign: set[str] = set()
        """Names that a file has from modules outside the repository."""

    def visit_Module(self, node: cst.Module) -> None:
        """Find the names that a file has from elsewhere, and with no other meaning."""
        try:
            tree = ast.parse(node.bytes)
        except (SyntaxError, ValueError, RecursionError):
            return
        made = {part.id for part in ast.walk(tree) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
        made |= {part.arg for part in ast.walk(tree) if isinstance(part, ast.arg)}
        defined = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        made |= {part.name for part in ast.walk(tree) if isinstance(part, defined)}
        imported: dict[str, bool] = dict.fromkeys([*dir(builtins), *self._around], True)
        for part in ast.walk(tree):
            if isinstance(part, ast.Import):
                for alias in part.names:
                    name = alias.asname or alias.name.partition(".")[0]
                    imported[name] = imported.get(name, True) and self._is_foreign(alias.name)
            elif isinstance(part, ast.ImportFrom):
                for alias in part.names:
                    name = alias.asname or alias.name
                    is_foreign = not part.level and self._is_foreign(part.module or "")
                    imported[name] = imported.get(name, True) and is_foreign
        self._foreign = {name for name, is_foreign in imported.items() if is_foreign} - made

    def _is_foreign(self, module: str) -> bool:
        return bool(self._ours) and module.partition(".")[0] not in self._ours

    def _is_theirs(self, node: cst.BaseExpression) -> bool:
        """Return whether something comes from elsewhere: `json`, `os.path`."""
        while isinstance(node, cst.Attribute):
            node = node.value
        return isinstance(node, cst.Name) and node.value in self._foreign

    def leave_Import(self, original_node: cst.Import, updated_node: cst.Import) -> cst.Import:
        """Keep the names of foreign modules."""
        names = [
            alias.with_changes(name=was.name) if self._is_foreign(was.evaluated_name) else alias
            for was, alias in zip(original_node.names, updated_node.names, strict=True)
        ]
        return updated_node.with_changes(names=names)

    def leave_ImportFrom(self, original_node: cst.ImportFrom, updated_node: cst.ImportFrom) -> cst.ImportFrom:
        """Keep the names inside foreign modules."""
        module = cst.Module([]).code_for_node(original_node.module) if original_node.module else ""
        if isinstance(original_node.names, cst.ImportStar) or original_node.relative or not self._is_foreign(module):
            return updated_node
        assert not isinstance(updated_node.names, cst.ImportStar)
        names = []
        for was, alias in zip(original_node.names, updated_node.names, strict=True):
            kept = alias.with_changes(name=was.name)
            if was.asname is None and was.evaluated_name == self._old and self._old not in self._foreign:
                kept = kept.with_changes(asname=cst.AsName(cst.Name(self._new)))  # one of several things with that name
            names.append(kept)
        return updated_node.with_changes(module=original_node.module, names=names)

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:
        """Keep the keywords of a foreign function, if it is visibly foreign."""
        if not self._is_theirs(original_node.func):
            return updated_node
        pairs = zip(original_node.args, updated_node.args, strict=True)
        return updated_node.with_changes(args=[arg.with_changes(keyword=was.keyword) for was, arg in pairs])

    def may_apply(self, source: bytes) -> bool:
        """Check quickly whether a file contains the old name."""
        return re.search(rb"\b" + re.escape(self._old.encode()) + rb"\b", source) is not None

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.Name:
        """Rename every name that is not foreign; the callers above it undo the renames that go too far."""
        is_ours = original_node.value == self._old and self._old not in self._foreign
        return updated_node.with_changes(value=self._new) if is_ours else updated_node

    def leave_Arg(self, original_node: cst.Arg, updated_node: cst.Arg) -> cst.Arg:
        """Keep the keyword of a foreign function."""
        return (
            updated_node if "parameter" in self._bindings else updated_node.with_changes(keyword=original_node.keyword)
        )

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> cst.Attribute:
        """Keep an attribute of something foreign, and any attribute if only a parameter has the old name."""
        is_ours = self._bindings - {"parameter"} and not self._is_theirs(original_node.value)
        return updated_node if is_ours else updated_node.with_changes(attr=original_node.attr)

    def visit_Annotation(self, node: cst.Annotation) -> None:
        """Find names that are written as text: `-> "Job"`."""
        self._find_named(node)

    def visit_Call(self, node: cst.Call) -> None:
        """Find names that are passed as text: `getattr(thing, "name")`, `cast("Job", thing)`."""
        if m.matches(node.func, BY_NAME):
            for arg in node.args:
                self._find_named(arg.value)

    def visit_Assign(self, node: cst.Assign) -> None:
        """Find names that are exported."""
        if any(m.matches(target.target, OFFERS) for target in node.targets):
            self._find_named(node.value)

    def visit_AnnAssign(self, node: cst.AnnAssign) -> None:
        """Find names that are exported."""
        if node.value and m.matches(node.target, OFFERS):
            self._find_named(node.value)

    def visit_AugAssign(self, node: cst.AugAssign) -> None:
        """Find names that are exported."""
        if m.matches(node.target, OFFERS):
            self._find_named(node.value)

    def _find_named(self, node: cst.CSTNode) -> None:
        texts = m.findall(node, m.SimpleString())
        for literal in m.findall(node, LITERAL):
            texts = [text for text in texts if text not in m.findall(literal, m.SimpleString())]
        self._named.update(texts)

    def leave_SimpleString(self, original_node: cst.SimpleString, updated_node: cst.SimpleString) -> cst.SimpleString:
        """Rename a text that is exactly the name, if it stands for the name; elsewhere, such as a key, it is data.

        In a text with examples (`>>>`), the examples are renamed like any other code.
        """
        if EXAMPLE.search(original_node.raw_value) and "b" not in original_node.prefix:
            raw = original_node.raw_value
            return updated_node.with_changes(value=original_node.value.replace(raw, self._in_examples(raw), 1))
        is_name = original_node in self._named and original_node.raw_value == self._old
        if not is_name or self._old in self._foreign or not self._bindings - {"parameter"}:
            return updated_node
        return updated_node.with_changes(value=original_node.value.replace(self._old, self._new))

    def _in_examples(self, text: str) -> str:
        """Return a text with the name replaced in its examples, or unchanged if they are not Python."""
        lines = text.split("\n")
        at: list[tuple[int, int]] = []
        for number, line in enumerate(lines):
            first, more = EXAMPLE.match(line), EXAMPLE_GOES_ON.match(line)
            if prompt := first or (more if at and at[-1][0] == number - 1 else None):
                at.append((number, prompt.end()))
        code = "\n".join(lines[number][end:] for number, end in at)
        try:
            inner = Rename(self._old, self._new, self._bindings, self._ours, self._foreign)
            renamed = cst.parse_module(code).visit(inner).code.split("\n")
        except Exception:  # noqa: BLE001 - whatever libcst cannot handle, the text stays unchanged
            return text
        if len(renamed) != len(at):
            return text
        for (number, end), line in zip(at, renamed, strict=True):
            lines[number] = lines[number][:end] + line
        return "\n".join(lines)


def bindings_of(name: str, sources: Iterable[bytes]) -> set[str]:
    """Return the ways in which some files bind a name: `definition`, `variable`, `attribute`, `parameter`."""
    found: set[str] = set()
    for source in sources:
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError):
            continue
        for node in ast.walk(tree):
            match node:
                case ast.FunctionDef(name=bound) | ast.AsyncFunctionDef(name=bound) | ast.ClassDef(name=bound):
                    kind = "definition"
                case ast.Name(id=bound, ctx=ast.Store()):
                    kind = "variable"
                case ast.Attribute(attr=bound, ctx=ast.Store()):
                    kind = "attribute"
                case ast.arg(arg=bound):
                    kind = "parameter"
                case _:
                    continue
            if bound == name:
                found.add(kind)
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        if any(_is_field(part, name) for node in classes if node.decorator_list or node.bases for part in node.body):
            found.add("parameter")  # of the generated constructor, as with a dataclass or a NamedTuple
    return found


def _is_field(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name


def others_named(qualifier: str, name: str, sources: Mapping[str, bytes]) -> list[str]:
    """Return what else has a name than the meaning of a qualifier; the qualified name itself if that means nothing.

    The text of `x.name` does not tell which of them it is.
    """
    wanted = qualifier.rpartition(".")[2]
    meant, others = 0, []
    for path, source in sources.items():
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError):
            continue
        for owner in ast.walk(tree):
            if not isinstance(owner, ast.Module | ast.ClassDef) or not _defines(owner, name):
                continue
            if isinstance(owner, ast.ClassDef):
                is_meant, said = owner.name == wanted, f"{owner.name}.{name}"
            else:
                is_meant, said = wanted in PurePosixPath(path).with_suffix("").parts, name
            meant += is_meant
            if not is_meant:
                others.append(f"{said} in {path}")
    return sorted(others) if meant else [f"no {qualifier}.{name}"]


def _defines(owner: ast.Module | ast.ClassDef, name: str) -> bool:
    for node in owner.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name == name:
                return True
        elif not isinstance(node, ast.Import | ast.ImportFrom):
            stored = (part.id for part in ast.walk(node) if isinstance(part, ast.Name))
            if isinstance(node, ast.Assign | ast.AnnAssign) and name in stored:
                return any(isinstance(part, ast.Name) and part.id == name for part in _targets(node))
    return False


def _targets(node: ast.Assign | ast.AnnAssign) -> Iterator[ast.AST]:
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        yield from ast.walk(target)


def overridden(name: str, sources: Mapping[str, bytes], ours: Iterable[str] = ()) -> list[str]:
    """Return where classes have a name because an inherited class of Python's own looks for it.

    Args:
        ours: the modules of the repository, which take precedence over others of the same name.
    """
    known = sys.stdlib_module_names - NOT_IMPORTED - frozenset(ours)
    classes: list[tuple[str, ast.ClassDef, list[str]]] = []
    for path, source in sources.items():
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError):
            continue
        meant = _imported(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                said = [ast.unparse(base) for base in node.bases if isinstance(base, ast.Name | ast.Attribute)]
                parts = [base.partition(".") for base in said]
                classes.append((path, node, [meant.get(head, head) + dot + rest for head, dot, rest in parts]))
    theirs: dict[str, str] = {}
    """Class of the repository, by its bare name, to the class of Python's own that has the name."""
    changed = True
    while changed:
        changed = False
        for _, node, bases in classes:
            above = (theirs.get(base.rpartition(".")[2]) or _has(base, name, known) for base in bases)
            if node.name not in theirs and (base := next((it for it in above if it), "")):
                theirs[node.name] = base
                changed = True
    return [
        f"{node.name}.{name} in {path} is there for {theirs[node.name]}"
        for path, node, _ in classes
        if node.name in theirs and _defines(node, name)
    ]


def _imported(tree: ast.AST) -> dict[str, str]:
    """Return the meaning of the names that a file imports."""
    meant: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            meant |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            meant |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return meant


def _has(base: str, name: str, modules: Set[str]) -> str:
    """Return a class of one of these modules if it has a name, else an empty text."""
    module, _, owner = base.rpartition(".")
    if module.partition(".")[0] not in modules:
        return ""
    try:
        found = getattr(importlib.import_module(module), owner, None)
    except Exception:  # noqa: BLE001 - not every module exists on every machine
        return ""
    return base if isinstance(found, type) and hasattr(found, name) else ""


def clash_in(source: bytes, old: str, new: str) -> str:
    """Return where the rename would give two things in a file the same name, or an empty text."""
    try:
        tree = ast.parse(source)
        top = symtable.symtable(source, "a file", "exec")  # type: ignore[arg-type]  # it takes what `compile` does
    except (SyntaxError, ValueError, RecursionError):
        return ""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            has = {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute) and _is_own(part)}
            has |= {name for name in (old, new) if _defines(node, name)}
            if {old, new} <= has:
                return f"class {node.name}"
    return _clash(top, (), old, new)


def _is_own(node: ast.Attribute) -> bool:
    """Return whether a value is assigned to an attribute of `self`."""
    return isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name) and node.value.id == "self"


def _clash(scope: symtable.SymbolTable, around: tuple[symtable.SymbolTable, ...], old: str, new: str) -> str:
    """Return the first scope in which one name would be mistaken for the other."""
    # Functions in a class do not see the class scope.
    chain = (scope, *(outer for outer in around if outer.get_type() != "class"))
    for used, taken in ((old, new), (new, old)):
        if used not in scope.get_identifiers():
            continue
        for outer in chain:
            if _binds(outer, taken):
                return f"{outer.get_type()} {outer.get_name()}" if outer.get_type() != "module" else "the module"
            if _binds(outer, used):
                break
    for inner in scope.get_children():
        if said := _clash(inner, (scope, *around), old, new):
            return said
    return ""


def _binds(scope: symtable.SymbolTable, name: str) -> bool:
    if name not in scope.get_identifiers():
        return False
    symbol = scope.lookup(name)
    return symbol.is_local() and (symbol.is_assigned() or symbol.is_imported() or symbol.is_parameter())


def may_apply(step: str, source: bytes) -> bool:
    """Check quickly whether a step could change a file: building libcst's metadata takes seconds for each file."""
    if step == "fstrings":
        return b".format(" in source or b"%" in source
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return True  # let libcst say what is wrong with it
    imported: set[str] = set()
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            imported.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name):
            used.add(node.id)
    return not imported - {"*"} <= used


def module_name(path: str) -> tuple[str, str]:
    """Return the names of a file's module and its package, as far as its path tells, for relative imports."""
    parts = list(PurePosixPath(path).with_suffix("").parts)
    if parts[0] == "src" and len(parts) > 1:
        del parts[0]
    if parts[-1] == "__init__" and len(parts) > 1:
        return ".".join(parts[:-1]), ".".join(parts[:-1])
    return ".".join(parts), ".".join(parts[:-1])


def rewrite(source: bytes, path: str, steps: Sequence[str], rename: Rename | None = None) -> tuple[bytes, list[str]]:
    """Return a file's new content, and what went wrong; a failed step is left out."""
    notes: list[str] = []
    try:
        module = cst.parse_module(source)
    except Exception as exc:  # noqa: BLE001 - whatever libcst cannot handle, the file stays unchanged
        return source, [_said(exc)]
    name, package = module_name(path)
    for step in steps:
        if not may_apply(step, source) or (step == "unused-imports" and PurePosixPath(path).name == "__init__.py"):
            continue  # a package offers to others what it imports and does not use itself
        for operation in OPERATIONS[step]:
            context = CodemodContext(filename=path, full_module_name=name, full_package_name=package)
            try:
                module = operation(context).transform_module(module)
            except Exception as exc:  # noqa: BLE001
                notes.append(f"{operation.__name__}: {_said(exc)}")
    return (module.visit(rename) if rename else module).bytes, notes


def main(arguments: list[str]) -> int:
    """Do the job that a file describes: `{"paths": [...], "steps": [...], "old_name": "", "new_name": ""}`."""
    job: dict[str, Any] = json.loads(Path(arguments[0]).read_bytes())
    rename: Rename | None = None
    if job["old_name"]:
        sources = {path: Path(path).read_bytes() for path in job["paths"]}
        made = _rename(job["old_name"], job["new_name"], sources)
        if isinstance(made, str):
            print(json.dumps({"path": "", "changed": False, "note": made}))
            return 0
        rename = made
    for path in job["paths"]:
        print(json.dumps(_one(Path(path), job["steps"], rename)), flush=True)
    return 0


def _rename(old_name: str, new_name: str, sources: Mapping[str, bytes]) -> Rename | str:
    """Return how to rename something, or why not."""
    qualifier, _, old = old_name.rpartition(".")
    new = new_name.rpartition(".")[2]
    for name in (old, new):
        if not name.isidentifier() or keyword.iskeyword(name):
            return f"{name} can be no name in Python"
        if name.startswith("__") and name.endswith("__"):
            return f"{name} is a name that Python itself looks for"
    if old == new:
        return f"{old} has that name"
    bindings = bindings_of(old, sources.values())
    if not bindings:
        return f"nothing defines {old}"
    ours = {part for path in Path().rglob("*.py") for part in (*path.parent.parts, path.stem)}
    if theirs := overridden(old, sources, ours):
        return f"{', '.join(theirs[:3])}: that looks for it under this name"
    if qualifier and (others := others_named(qualifier, old, sources)):
        if others[0].startswith("no "):
            return f"nothing defines {old_name}"
        return (
            f"{', '.join(others[:3])}: nothing tells which of them is meant where; `rename {old} to {new}` is for all"
        )
    made = Rename(old, new, bindings, ours)
    for path, source in sources.items():
        if made.may_apply(source) and not _is_readable(source):
            return f"{path} has {old} in it, and this Python cannot read it"
        if where := clash_in(source, old, new):
            return f"{path}: {new} would be two things in {where}"
    return made


def _is_readable(source: bytes) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return False
    return True


def _one(file: Path, steps: Sequence[str], rename: Rename | None) -> dict[str, Any]:
    before = file.read_bytes()
    if rename and not rename.may_apply(before):
        return {"path": str(file), "changed": False, "note": ""}
    after, notes = rewrite(before, str(file), steps, rename)
    if after != before:
        file.write_bytes(after)
    return {"path": str(file), "changed": after != before, "note": "; ".join(notes)}


def _stays_same(call: cst.Call) -> bool:
    """Return whether an f-string does the same as a call of `format`: each thing once and in the same order."""
    assert isinstance(call.func, cst.Attribute)
    assert isinstance(call.func.value, cst.SimpleString)
    given = {arg.keyword.value if arg.keyword else str(at): arg.value for at, arg in enumerate(call.args)}
    if any(m.findall(value, COLON) or _quotes(value) for value in given.values()):
        return False
    try:
        fields = list(_fields(str(call.func.value.evaluated_value)))
    except ValueError:
        return False
    used = []
    for number, field in enumerate(fields):
        name, rest = re.match(r"([^.\[]*)(.*)", field, re.DOTALL).groups()  # type: ignore[union-attr]  # it always does
        if re.search(r"\[(?!\d+\])", rest):
            return False  # the key is a text there, and would become a name
        if rest and not m.matches(given.get(name or str(number), call), WHOLE):
            return False  # of `a + b` it would be the attribute of `b`
        used.append(name or str(number))
    doing = [name for name, value in given.items() if m.findall(value, DOING)]
    return [name for name in used if name in doing] == doing


def _fields(text: str) -> Iterator[str]:
    """Yield the names in the fields of a format, including those in nested formats."""
    for _, name, spec, _ in string.Formatter().parse(text):
        if name is not None:
            yield name
            yield from _fields(spec or "")


def _fits(value: cst.BaseExpression) -> bool:
    """Return whether an expression can stand between the braces of an f-string, even before Python 3.12."""
    code = cst.Module([]).code_for_node(value)
    # Two adjacent braces would stand for a literal one.
    return not (code.startswith("{") or re.search(r"[\\\n#]", code) or m.findall(value, COLON) or _quotes(value))


def _quotes(value: cst.BaseExpression) -> bool:
    """Return whether an expression contains a text that cannot be nested in another before Python 3.12."""
    texts = [text for text in m.findall(value, TEXT) if not isinstance(text, cst.ConcatenatedString)]
    return any(not isinstance(text, cst.SimpleString) or re.search(r"['\"\\#]", text.raw_value) for text in texts)


def _said(exc: Exception) -> str:
    first = next(iter(str(exc).splitlines()), "")
    return f"{type(exc).__name__}: {first[:200]}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
