"""Which modules of the project import which."""

from pathlib import Path

import pytest

from imgpipe.core import sources
from imgpipe.core.sources import find_imports, name_file


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules, in place of `src`."""
    monkeypatch.setattr(sources, "SOURCES", tmp_path)
    texts = {
        "script.py": "import json\nimport pack.first\n",
        "pack/__init__.py": '"""Only a docstring."""\n',
        "pack/first.py": "from pack.sub import name\n\ndef work():\n    from pack import second\n",
        "pack/second.py": "import numpy.random\nfrom pack.first import work\n",
        "pack/third.py": "import pack.sub.deep\n",
        "pack/sub/__init__.py": "name = 1\nfrom pack.fourth import value\n",
        "pack/sub/deep.py": '"""No imports."""\n',
        "pack/fourth.py": "value = 2\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("pack.fourth", {"pack.fourth"}),
        ("pack.third", {"pack.third", "pack.sub.deep", "pack.sub", "pack.fourth"}),
        ("pack.second", {"pack.second", "pack.first", "pack.sub", "pack.fourth"}),
        ("script", {"script", "pack.second", "pack.first", "pack.sub", "pack.fourth"}),
    ],
)
def test_imports_are_followed_inside_functions_packages_and_circles(
    module: str, expected: set[str]
) -> None:
    assert find_imports(module) == expected


def test_modules_to_leave_out_are_not_followed() -> None:
    assert find_imports("script", without=["pack.sub"]) == {"script", "pack.second", "pack.first"}
    assert find_imports("script", "pack.fourth", without=["pack.f"]) == find_imports("script")
    assert find_imports("pack.third", without=["pack.sub.deep"]) == {
        "pack.third", "pack.sub", "pack.fourth",
    }  # fmt: skip


def test_a_module_and_a_package_have_their_files() -> None:
    assert name_file("pack.first") == "pack/first.py"
    assert name_file("pack.sub") == "pack/sub/__init__.py"
