from __future__ import annotations

from pathlib import Path

import pytest

from reference_agents.maintenance.imports import Imports


def missing_in(folder: Path, files: dict[str, str], roots: tuple[str, ...] = (".",)) -> list[str]:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return [str(it) for it in sorted(Imports(sorted(files), roots).missing(folder))]


@pytest.mark.parametrize(
    "taking",
    [
        "from pkg.core import gone\n",
        "from .core import gone\n",
        "from . import core\ncore.gone()\n",
        "import pkg.core\npkg.core.gone()\n",
        "import pkg.core as c\nprint(c.gone.name)\n",
        "from pkg import core as c\n\n\ndef f():\n    return c.gone\n",
        "def f():\n    from .core import gone\n    return gone\n",
    ],
)
def test_what_a_file_takes_from_where_it_is_not_is_found(tmp_path: Path, taking: str) -> None:
    files = {"pkg/__init__.py": "", "pkg/core.py": "import os\nhere = 1\n", "pkg/cli.py": taking}
    assert missing_in(tmp_path, files) == ["pkg/cli.py takes gone from pkg/core.py, which does not have it"]
    assert missing_in(tmp_path, files | {"pkg/core.py": "from x import gone\n"}) == []


@pytest.mark.parametrize(
    "core",
    [
        "def gone(): pass\n",
        "class gone: pass\n",
        "import a.b as gone\n",
        "import gone.b\n",
        "if x:\n    gone = 1\n",
        "for gone, y in x: pass\n",
        "with x as gone: pass\n",
        "(a, *gone) = x\n",
        "gone: int\n",
        "print(gone := 1)\n",
        "match x:\n    case {**gone}: pass\n",
        "def f():\n    global gone\n    gone = 1\n",
        "def __getattr__(name): pass\n",
        "globals()['gone'] = 1\n",
        "import sys\nsys.modules[__name__] = x\n",
        "from elsewhere import *\n",
        "from .more import *\n",
        "def (:\n",
    ],
)
def test_what_a_module_has_or_may_have_is_not_missing(tmp_path: Path, core: str) -> None:
    files = {"pkg/__init__.py": "", "pkg/core.py": core, "pkg/more.py": "gone = 1\n"}
    assert missing_in(tmp_path, files | {"pkg/cli.py": "from .core import gone\n"}) == []


@pytest.mark.parametrize(
    "taking",
    [
        "try:\n    from .core import gone\nexcept ImportError:\n    gone = None\n",
        "from . import core\ncore.gone = 1\n",
        "from . import core\n\n\ndef f(core):\n    return core.gone\n",
        "from json import gone\n",
        "from . import sub\nfrom .sub import module\n",
        "import pkg\nprint(pkg.sub.module, pkg.core.here)\n",
        "from pkg.core import Thing\nThing.gone()\n",
        "from pkg.core import __version__\n",
    ],
)
def test_what_may_be_missing_or_is_nobodys_business_is_left_out(tmp_path: Path, taking: str) -> None:
    core = "here = 1\n\n\nclass Thing:\n    pass\n"
    files = {"pkg/__init__.py": "", "pkg/core.py": core, "pkg/sub/module.py": "", "pkg/cli.py": taking}
    assert missing_in(tmp_path, files) == []


def test_what_is_offered_has_to_be_there(tmp_path: Path) -> None:
    files = {"a.py": "from os import path\n__all__ = ['path', 'gone']\n"}
    assert missing_in(tmp_path, files) == ["a.py offers gone in __all__ and does not have it"]


def test_modules_are_found_from_the_roots_and_beside_a_script(tmp_path: Path) -> None:
    files = {
        "src/pkg/__init__.py": "",
        "tests/helper.py": "",
        "tests/test_a.py": "from pkg import gone\nfrom helper import lost\n",
    }
    assert missing_in(tmp_path, files, ("src", ".")) == [
        "tests/test_a.py takes gone from src/pkg/__init__.py, which does not have it",
        "tests/test_a.py takes lost from tests/helper.py, which does not have it",
    ]


def test_a_package_may_be_the_whole_repository(tmp_path: Path) -> None:
    assert missing_in(tmp_path, {"cli.py": "from . import core, gone\n"}) == []
    files = {"__init__.py": "from .core import lost\n", "cli.py": "from . import gone\n", "core.py": ""}
    assert missing_in(tmp_path, files) == [
        "__init__.py takes lost from core.py, which does not have it",
        "cli.py takes gone from __init__.py, which does not have it",
    ]


def test_modules_that_take_everything_from_each_other_are_read_once(tmp_path: Path) -> None:
    names = [f"m{number}" for number in range(12)]
    everything = "".join(f"from {name} import *\n" for name in names)
    files = {f"{name}.py": everything for name in names} | {"a.py": "from m0 import gone\n"}
    assert missing_in(tmp_path, files) == ["a.py takes gone from m0.py, which does not have it"]


def test_a_file_that_is_gone_has_nothing_to_say(tmp_path: Path) -> None:
    assert Imports(["a.py"], ["."]).missing(tmp_path) == set()
