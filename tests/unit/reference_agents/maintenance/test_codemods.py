from __future__ import annotations

import json
from pathlib import Path

import pytest

from reference_agents.maintenance.codemods import Rename, bindings_of, main, may_apply, module_name, rewrite


def renamed(source: str, *, old: str = "old", new: str = "new", beside: str = "") -> str:
    bindings = bindings_of(old, [source.encode(), beside.encode()])
    return rewrite(source.encode(), "a.py", [], Rename(old, new, bindings))[0].decode()


def test_formats_become_f_strings() -> None:
    after, notes = rewrite(b"x = 1\nprint('{}'.format(x))\nprint('%s' % x)\n", "a.py", ["fstrings"])
    assert after == b"x = 1\nprint(f'{x}')\nprint(f'{x}')\n"
    assert notes == []


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
    source = f"# -*- coding: {encoding} -*-\r\nname = 'é'\r\nprint('%s' % name)\r\n".encode(encoding)
    after, _ = rewrite(source, "a.py", ["fstrings"])
    assert after == source.replace(b"'%s' % name", b"f'{name}'")


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
    source = "from lib import old\n__all__ = ['old']\ndef old(x): return old(x)\nmodule.old()\n'an old string'\n"
    assert renamed(source) == source.replace("old", "new").replace("an new", "an old")


def test_a_keyword_of_somebody_elses_function_is_not_renamed() -> None:
    source = "old = 1\nsorted([], old=old)\n"
    assert renamed(source) == "new = 1\nsorted([], old=new)\n"
    assert renamed(source, beside="def f(old): pass") == "new = 1\nsorted([], new=new)\n"


def test_an_attribute_stays_if_only_parameters_have_the_name() -> None:
    assert renamed("def f(old): return old + thing.old\n") == "def f(new): return new + thing.old\n"


def test_the_job_is_read_from_a_file_and_told_line_by_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text("x = 1\n'%s' % x\n")
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
