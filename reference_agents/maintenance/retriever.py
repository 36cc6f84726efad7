"""The retriever: finds the files and symbols that matter for a plan, by their identifiers.

Files are ranked by BM25 over the words in their identifiers; symbols come from the syntax tree. It reads the
repository's last commit and changes nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from typing import Final, Literal

import anyio.to_thread

from a2a import Agent, AttemptFailed, TaskContext

from ..bm25 import Bm25
from . import git
from .processes import Report, silent
from .scope import asked_for, is_python
from .shapes import FoundFile, FoundSymbol, Kind, Listing, Plan

__all__ = ["agent", "find_files", "retrieve", "words_of"]

FILES_SHOWN: Final = 20
SYMBOLS_SHOWN: Final = 20
FILE_BYTES_MAX: Final = 1024 * 1024
"""A larger file is data in the shape of code."""
BATCH: Final = 500
IDENTIFIER: Final = re.compile(r"[^\W\d]\w*")
PARTS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")
ASKING: Final = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "at",
        "by",
        "can",
        "code",
        "come",
        "do",
        "does",
        "explain",
        "file",
        "find",
        "for",
        "from",
        "function",
        "happen",
        "how",
        "i",
        "in",
        "is",
        "it",
        "its",
        "list",
        "look",
        "me",
        "module",
        "of",
        "on",
        "or",
        "please",
        "search",
        "show",
        "that",
        "the",
        "their",
        "there",
        "this",
        "to",
        "use",
        "what",
        "when",
        "where",
        "which",
        "who",
        "why",
        "with",
        "work",
    ]
)
"""Words that occur in questions but not in code."""
QUERY_OF: Final[dict[Kind, str]] = {
    "modernise": "six future unicode basestring xrange izip iteritems itervalues iterkeys print_function object super "
    "format OrderedDict IOError mock compat py2 PY3",
    "fix-lint": "noqa pylint flake8 format except dict list zip lambda",
    "remove-unused": "import noqa unused deprecated compat",
}
"""Words of files with much to do, for a plan that names nothing to look for."""

agent = Agent(
    "retriever", version="1.0", description="Finds the files and symbols that matter for a plan.", concurrency=2
)


@agent.skill(tags=["maintenance"])
async def find_files(repository: str, plan: Plan, task: TaskContext) -> Listing:
    """Find the files and symbols that matter for a plan."""
    return await retrieve(repository, plan, report=task.progress)


async def retrieve(repository: str, plan: Plan, *, report: Report = silent) -> Listing:
    """Do the retriever's work.

    Raises:
        AttemptFailed: `not_a_repository`: there is no commit to read.
    """
    try:
        entries = await git.files(repository, "HEAD")
    except git.GitError as exc:
        raise AttemptFailed(f"{repository}: {exc}", code="not_a_repository", retryable=False) from exc
    wanted = [
        entry for entry in entries
        if entry.mode.startswith("100") and is_python(entry.path) and asked_for(plan, entry.path)
    ]  # fmt: skip
    sources: list[tuple[str, str]] = []
    for start in range(0, len(wanted), BATCH):
        batch = wanted[start : start + BATCH]
        contents = await git.read_blobs(repository, [entry.blob for entry in batch])
        sources += [
            (entry.path, content.decode(errors="replace"))
            for entry, content in zip(batch, contents, strict=True)
            if len(content) <= FILE_BYTES_MAX
        ]
        await report(0.6 * len(sources) / len(wanted), f"{len(sources)} of {len(wanted)} files read")
    query = plan["query"] or QUERY_OF.get(plan["kind"], plan["request"])
    # Parsing a large repository takes seconds, during which the agent still has to answer.
    listing = await anyio.to_thread.run_sync(_list, sources, query)
    if plan["kind"] == "find":
        listing["answer"] = _answer(listing, dict(sources))
    await report(1.0, f"{len(listing['files'])} files")
    return listing


def words_of(text: str) -> Iterator[str]:
    """Yield each identifier of a text, and the words in it: `parseURL_list` is also parse, url and list."""
    for identifier in IDENTIFIER.findall(text):
        whole = identifier.lower()
        yield whole
        parts = [part.lower() for part in PARTS.findall(identifier)]
        if len(parts) > 1:
            yield from parts


def _list(sources: Sequence[tuple[str, str]], query: str) -> Listing:
    wanted = [word for word in words_of(query) if word not in ASKING] or list(words_of(query))
    # The path counts like a line of code that occurs twice: names of files are chosen with care.
    files = Bm25(
        [*words_of(text), *words_of(path.removesuffix(".py")), *words_of(path.removesuffix(".py"))]
        for path, text in sources
    ).rank(wanted)
    best = {sources[found.index][0]: found.score for found in files}
    symbols = [symbol for path, text in sources if path in best for symbol in _symbols(path, text)]
    ranked = Bm25([*words_of(name), *words_of(name), *words_of(doc)] for name, _, _, _, doc in symbols).rank(wanted)
    return Listing(
        files=[
            FoundFile(path=sources[found.index][0], score=round(found.score, 4), matches=list(found.matches))
            for found in files[:FILES_SHOWN]
        ],
        symbols=[
            FoundSymbol(
                name=symbols[found.index][0],
                kind=symbols[found.index][1],
                path=symbols[found.index][2],
                line=symbols[found.index][3],
                score=round(found.score, 4),
            )
            for found in ranked[:SYMBOLS_SHOWN]
        ],
        answer="",
        searched=len(sources),
    )


SymbolKind = Literal["class", "function", "constant"]
Symbol = tuple[str, SymbolKind, str, int, str]
"""Name, kind, path, line, first line of the docstring."""


def _symbols(path: str, text: str) -> list[Symbol]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return []
    found: list[Symbol] = []

    def walk(body: Sequence[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                kind: SymbolKind = "class" if isinstance(node, ast.ClassDef) else "function"
                doc = (ast.get_docstring(node) or "").partition("\n")[0]
                found.append((f"{prefix}{node.name}", kind, path, node.lineno, doc))
                if isinstance(node, ast.ClassDef):
                    walk(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.Assign) and not prefix:
                for target in node.targets:
                    if isinstance(target, ast.Name) and target.id.isupper():
                        found.append((target.id, "constant", path, node.lineno, ""))

    walk(tree.body, "")
    return found


def _answer(listing: Listing, sources: dict[str, str]) -> str:
    """Say in a few sentences what was found."""
    if not listing["files"]:
        return f"Nothing in {listing['searched']} files matches."
    best = listing["files"][0]
    lines = [f"{best['path']} fits best ({', '.join(best['matches'][:5])}), of {listing['searched']} files."]
    for symbol in listing["symbols"][:5]:
        docs = {(name, line): doc for name, _, _, line, doc in _symbols(symbol["path"], sources[symbol["path"]])}
        doc = docs.get((symbol["name"], symbol["line"]), "")
        lines.append(
            f"{symbol['path']}:{symbol['line']} {symbol['kind']} {symbol['name']}" + (f" - {doc}" if doc else "")
        )
    return "\n".join(lines)


if __name__ == "__main__":
    agent.main()
