from __future__ import annotations

import json
from pathlib import Path

import pytest

from reference_agents.maintenance.codemods import (
    Rename,
    bindings_of,
    clash_in,
    main,
    may_apply,
    module_name,
    others_named,
    overridden,
    rewrite,
)


def renamed(source: str, *, old: str = "old", new: str = "new", beside: str = "") -> str:
    bindings = bindings_of(old, [source.encode(), beside.encode()])
    return rewrite(source.encode(), "a.py", [], Rename(old, new, bindings, ["a", "pkg"]))[0].decode()


def test_formats_become_f_strings() -> None:
    after, notes = rewrite(b"x = 1\nprint('{}'.format(x))\nprint('%s' % (x,))\n", "a.py", ["fstrings"])
    assert after == b"x = 1\nprint(f'{x}')\nprint(f'{x}')\n"
    assert notes == []


@pytest.mark.parametrize(
    "code",
    [
        "'%s' % x",  # which may be a tuple
        "'%s' % error.args",
        "'%s %s' % f()",
        "'%s' % (*x,)",
        "'%s' % (1, 2)",
        "'%s' % ({'a': 1},)",
        "'%s' % (lambda: 1,)",
        r"'%s' % '\n'.join(x)",
        "'{0} {0}'.format(next(x))",
        "'{1} {0}'.format(f(), g())",
        "'{a}'.format(a=f(), b=g())",
        "'{}'.format(x := 3)",
        "'{}'.format(lambda: 1)",
        "'{0[key]}'.format(x)",
        "'{0.a[key]}'.format(x)",
        "'{a[key]}'.format(a=x)",
        "'{0.real}'.format(-x)",
        "'{0.real} {a[0]}'.format(x, a=y or z)",
        "'{0.real}'.format(1)",
        "'{}'.format(\"it's\")",
        "'{}'.format('#')",
        "'%s' % (f'{x}',)",
    ],
)
def test_a_format_stays_where_an_f_string_would_say_something_else(code: str) -> None:
    source = f"key = 1\nprint({code})\n".encode()
    assert rewrite(source, "a.py", ["fstrings"]) == (source, [])


@pytest.mark.parametrize(
    ("code", "becomes"),
    [
        ("'%s %s' % (f(), x.y)", "f'{f()} {x.y}'"),
        ("'%s' % str(x)", "f'{str(x)}'"),
        ("'%s' % 'a'.upper()", "f'{\"a\".upper()}'"),
        ("'{} {}'.format(f(), g())", "f'{f()} {g()}'"),
        ("'{0} {1} {0}'.format(x, f())", "f'{x} {f()} {x}'"),
        ("'{:>{}}'.format(f(), n)", "f'{f():>{n}}'"),
        ("'{0[0]}'.format(x)", "f'{x[0]}'"),
        ("'{0.real}'.format(x.y[1])", "f'{x.y[1].real}'"),
    ],
)
def test_a_format_goes_where_an_f_string_says_the_same(code: str, becomes: str) -> None:
    assert rewrite(f"{code}\n".encode(), "a.py", ["fstrings"]) == (f"{becomes}\n".encode(), [])


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("package/__init__.py", "from .core import answer\n"),
        ("a.py", "try:\n    import fast\n    HAS = True\nexcept ImportError:\n    HAS = False\n"),
        ("a.py", "try:\n    from new import f\nexcept (ImportError, OSError):\n    from old import f\n"),
        ("a.py", "from .core import answer as answer\n"),
        ("a.py", "import json as json, os\n"),
        ("a.py", "from contextlib import suppress\nwith suppress(ImportError):\n    import readline\n"),
    ],
)
def test_an_import_stays_that_is_offered_to_others_or_only_tried(path: str, source: str) -> None:
    assert rewrite(source.encode(), path, ["unused-imports"]) == (source.encode(), [])


def test_unused_imports_go_and_used_ones_stay() -> None:
    source = b"from __future__ import annotations\nimport os\nimport sys\nprint(sys)\n"
    after, _ = rewrite(source, "a.py", ["unused-imports"])
    assert after == b"from __future__ import annotations\nimport sys\nprint(sys)\n"


def test_relative_imports_are_understood_by_where_the_file_is() -> None:
    after, notes = rewrite(
        b"from .other import thing\nfrom . import used\nused()\n", "package/a.py", ["unused-imports"]
    )
    assert (after, notes) == (b"from . import used\nused()\n", [])


def test_a_file_that_cannot_be_read_stays_and_says_why() -> None:
    after, notes = rewrite(b"def (:\n", "a.py", ["fstrings"])
    assert after == b"def (:\n"
    assert notes[0].startswith("ParserSyntaxError")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_encoding_and_line_ends_are_kept(encoding: str) -> None:
    source = f"# -*- coding: {encoding} -*-\r\nname = 'é'\r\nprint('%s' % (name,))\r\n".encode(encoding)
    after, _ = rewrite(source, "a.py", ["fstrings"])
    assert after == source.replace(b"'%s' % (name,)", b"f'{name}'")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a.py", ("a", "")),
        ("package/a.py", ("package.a", "package")),
        ("package/__init__.py", ("package", "package")),
        ("src/package/a.py", ("package.a", "package")),
    ],
)
def test_a_path_tells_the_module(path: str, name: tuple[str, str]) -> None:
    assert module_name(path) == name


def test_a_quick_look_tells_where_nothing_can_be_done() -> None:
    assert not may_apply("fstrings", b"x = 1\n")
    assert may_apply("fstrings", b"'%s' % x")
    assert not may_apply("unused-imports", b"from __future__ import annotations\nimport os\nos.x\n")
    assert may_apply("unused-imports", b"import os\n")


def test_a_name_is_renamed_where_it_is_defined_used_imported_and_exported() -> None:
    source = "from pkg.lib import old\n__all__ = ['old']\ndef old(x): return old(x)\nmodule.old()\n'an old string'\n"
    assert renamed(source) == source.replace("old", "new").replace("an new", "an old")


def test_a_keyword_of_somebody_elses_function_is_not_renamed() -> None:
    source = "old = 1\nf([], old=old)\n"
    assert renamed(source) == "new = 1\nf([], old=new)\n"
    assert renamed(source, beside="def f(old): pass") == "new = 1\nf([], new=new)\n"


@pytest.mark.parametrize(
    "source",
    [
        "import json\njson.old(1)\n",
        "import os.path as p\np.join.old\n",
        "from json import old\nold(1)\n",
        "from json import old as f\nf(1)\n",
        "import subprocess\nsubprocess.run([], old=1)\n",
        "from subprocess import run\nrun([], old=1)\n",
        "sorted([], old=1)\n",
    ],
)
def test_what_is_from_somebody_elses_module_keeps_its_name(source: str) -> None:
    assert renamed(source, beside="def old(old): pass") == source


@pytest.mark.parametrize(
    ("source", "becomes"),
    [
        ("import pkg.core\npkg.core.old()\n", "import pkg.core\npkg.core.new()\n"),
        ("from . import old\nold()\n", "from . import new\nnew()\n"),
        ("import json\ndef f(json): json.old\n", "import json\ndef f(json): json.new\n"),
        (
            "try:\n    from fast import old\nexcept ImportError:\n    from .slow import old\nold()\n",
            "try:\n    from fast import old as new\nexcept ImportError:\n    from .slow import new\nnew()\n",
        ),
    ],
)
def test_what_is_ours_or_may_be_gets_the_new_name(source: str, becomes: str) -> None:
    assert renamed(source, beside="def old(): pass") == becomes


@pytest.mark.parametrize(
    "source",
    [
        "__all__ = ['old']\n",
        "__all__: list[str] = ['old']\n",
        "__all__ += ('old',)\n",
        "__all__.extend(['old'])\n",
        "getattr(thing, 'old')\n",
        "operator.attrgetter('old')\n",
        "monkeypatch.setattr(thing, 'old', 1)\n",
        "mock.patch.object(thing, 'old')\n",
        "def f(x: 'old') -> list['old']: pass\n",
        "cast('old', thing)\n",
    ],
)
def test_a_text_that_stands_for_what_has_the_name_follows(source: str) -> None:
    assert renamed(source, beside="class old: pass") == source.replace("old", "new")


@pytest.mark.parametrize(
    "source",
    [
        "row['old'] = {'old': 1}\n",
        "print('old')\n",
        "parser.add_argument('old', choices=['old'])\n",
        "def f(x: Literal['old']) -> typing.Literal['old']: pass\n",
        "from json import old\n__all__ = ['old']\n",
    ],
)
def test_a_text_that_is_data_stays(source: str) -> None:
    assert renamed(source, beside="def old(): pass") == source


def test_a_field_is_a_parameter_of_what_makes_the_thing() -> None:
    source = "@dataclass\nclass A:\n    old: int\nA(old=1)\n"
    assert renamed(source) == source.replace("old", "new")
    assert renamed("class A:\n    old: int\nf(old=1)\n") == "class A:\n    new: int\nf(old=1)\n"


@pytest.mark.parametrize(
    ("old", "new", "note"),
    [
        ("run", "class", "class can be no name in Python"),
        ("run", "2x", "2x can be no name in Python"),
        ("A.__init__", "setup", "__init__ is a name that Python itself looks for"),
        ("run", "A.run", "run has that name"),
        ("run", "go", "b.py has run in it, and this Python cannot read it"),
    ],
)
def test_a_new_name_that_cannot_be_given_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, old: str, new: str, note: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.py").write_text("class A:\n    def __init__(self): self.run()\n    def run(self): pass\n")
    Path("b.py").write_text("x.run()\nprint 'old'\n")
    Path("job.json").write_text(json.dumps({"paths": ["a.py", "b.py"], "steps": [], "old_name": old, "new_name": new}))
    assert main(["job.json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": "", "changed": False, "note": note}


def test_a_builtin_keeps_its_name_where_nothing_else_has_it() -> None:
    assert renamed("open(1)\n", old="open", beside="def open(x): pass") == "open(1)\n"
    after = renamed("from .a import open\nopen(1)\n", old="open", beside="def open(x): pass")
    assert after == "from .a import new\nnew(1)\n"


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ("def old(): pass\ndef new(): pass\n", "the module"),
        ("from a import old\nnew = 1\n", "the module"),
        ("def old(): pass\nnew(old)\n", "the module"),
        ("def old(): pass\ndef f(new): return old(new)\n", "function f"),
        ("def f(old, new): pass\n", "function f"),
        ("def f(old):\n    def g(): return new\n    return g\n", "function f"),
        ("class A:\n    def old(self): pass\n    def new(self): pass\n", "class A"),
        ("class A:\n    def __init__(self):\n        self.old = self.new = 1\n", "class A"),
        ("def old(): pass\ndef f(new): return new\n", ""),
        ("class A:\n    def old(self): pass\nclass B:\n    def new(self): pass\n", ""),
        ("def new(): pass\nclass A:\n    def old(self): return self.old\n", ""),
        ("def (:\n", ""),
    ],
)
def test_one_name_for_two_things_is_found(source: str, where: str) -> None:
    assert clash_in(source.encode(), "old", "new") == where


def test_a_qualified_name_is_renamed_only_where_nothing_else_has_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.py").write_text("class A:\n    def run(self): pass\n\nclass B:\n    x = run = 1\n")
    assert others_named("a.A", "run", {"a.py": Path("a.py").read_bytes()}) == ["B.run in a.py"]
    job = {"paths": ["a.py"], "steps": [], "old_name": "A.run", "new_name": "A.start"}

    def said(**changes: str) -> str:
        Path("job.json").write_text(json.dumps(job | changes))
        main(["job.json"])
        return str(json.loads(capsys.readouterr().out)["note"])

    assert said().startswith("B.run in a.py: nothing tells which of them is meant where")
    assert said(old_name="C.run") == "nothing defines C.run"
    assert said(old_name="B.x", new_name="run") == "a.py: run would be two things in class B"
    assert said(old_name="a.A", new_name="a.First") == ""
    assert "class First" in Path("a.py").read_text()


def test_an_attribute_stays_if_only_parameters_have_the_name() -> None:
    assert renamed("def f(old): return old + thing.old\n") == "def f(new): return new + thing.old\n"


def test_the_job_is_read_from_a_file_and_told_line_by_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text("x = 1\n'%s' % (x,)\n")
    bad.write_text("def (:  # %\n")
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"paths": [str(good), str(bad)], "steps": ["fstrings"], "old_name": "", "new_name": ""}))
    assert main([str(job)]) == 0
    first, second = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert first == {"path": str(good), "changed": True, "note": ""}
    assert (second["changed"], second["note"][:17]) == (False, "ParserSyntaxError")
    assert good.read_text() == "x = 1\nf'{x}'\n"


def test_a_name_that_nothing_defines_is_not_renamed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.py"
    file.write_text("import old\nold.x\n")
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"paths": [str(file)], "steps": [], "old_name": "old", "new_name": "new"}))
    main([str(job)])
    assert json.loads(capsys.readouterr().out)["note"] == "nothing defines old"
    assert file.read_text() == "import old\nold.x\n"


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        (">>> old(1)\n'old'\nold\n", ">>> new(1)\n'old'\nold\n"),
        (
            "Old.\n\n    >>> for x in [1]:\n    ...     old(x)\n    ...\n    old\n",
            "Old.\n\n    >>> for x in [1]:\n    ...     new(x)\n    ...\n    old\n",
        ),
        (">>> thing.old\n1\n... old\n", ">>> thing.new\n1\n... old\n"),
        (">>> from json import old\n>>> old(1)\n", ">>> from json import old\n>>> old(1)\n"),
        (">>> old(\n", ">>> old(\n"),
        ("old, not >>> old\n", "old, not >>> old\n"),
    ],
)
def test_examples_in_a_text_are_code(text: str, becomes: str) -> None:
    source = 'def {}(x):\n    r"""{}"""\n'
    assert renamed(source.format("old", text)) == source.format("new", becomes)


def test_what_is_from_elsewhere_is_so_in_examples_too() -> None:
    source = 'from json import old\nx = """\n>>> old(1)\n"""\n'
    assert renamed(source, beside="def old(): pass") == source


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ("import threading\nclass A(threading.Thread):\n    def run(self): pass\n", "A.run in a.py is there for"),
        ("from threading import Thread as T\nclass A(T):\n    run = None\n", "A.run in a.py is there for"),
        ("import threading as t\nclass A(t.Thread): pass\nclass B(A):\n    def run(self): pass\n", "B.run in a.py is"),
        ("import threading\nclass A(threading.Thread):\n    def go(self): run()\ndef run(): pass\n", ""),
        ("class A(Base):\n    def run(self): pass\n", ""),
        ("from .threading import Thread\nclass A(Thread):\n    def run(self): pass\n", ""),
        ("import antigravity\nclass A(antigravity.Thread):\n    def run(self): pass\n", ""),
    ],
)
def test_what_a_class_of_pythons_own_looks_for_is_found(source: str, where: str) -> None:
    found = overridden("run", {"a.py": source.encode(), "b.py": b"def (:\n"})
    assert [it.startswith(where) and it.endswith("threading.Thread") for it in found] == ([True] if where else [])
    assert not overridden("run", {"a.py": source.encode()}, ["threading"]), "a module of the repository's own"


def test_what_a_class_of_pythons_own_looks_for_keeps_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.py").write_text("from threading import Thread\nclass A(Thread):\n    def run(self): pass\n")
    Path("job.json").write_text(json.dumps({"paths": ["a.py"], "steps": [], "old_name": "run", "new_name": "go"}))
    assert main(["job.json"]) == 0
    note = "A.run in a.py is there for threading.Thread: that looks for it under this name"
    assert json.loads(capsys.readouterr().out) == {"path": "", "changed": False, "note": note}
