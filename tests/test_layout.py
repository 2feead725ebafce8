"""The four folders are namespace packages, import one way, and keep clear of the standard library's names."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("scorers", "selectors", "trainers", "pipelines")
MODULES = [path for floor in FLOORS for path in (ROOT / floor).rglob("*.py")]


def imported(path: Path) -> set[str]:
    """Dotted names that a module imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_no_init_files() -> None:
    assert not [p for folder in (*FLOORS, "tests") for p in (ROOT / folder).rglob("__init__.py")]


def test_every_folder_with_modules_is_packaged() -> None:
    mapping = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
    assert set(mapping.values()) == {str(path.parent.relative_to(ROOT)) for path in MODULES}


def test_no_module_is_named_like_the_standard_library() -> None:
    assert not [path for path in MODULES if path.stem in sys.stdlib_module_names]


@pytest.mark.parametrize("module", ["subprocess", "asyncio", "selectors"])
def test_standard_library_imports_from_the_project_root(module: str) -> None:
    """An `__init__.py` in our selectors/ would shadow the interpreter's own module here."""
    code = f"import {module}, selectors; selectors.DefaultSelector()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_python_m_pytest_starts_from_the_project_root() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--version"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_imports_point_one_way(path: Path) -> None:
    floor = FLOORS.index(path.parent.name)
    names = imported(path)
    above = [name for name in names for upper in FLOORS[floor + 1 :] if name.startswith(f"secateur.{upper}")]
    assert not above
    bare = [name for name in names for folder in FLOORS if name.startswith(f"{folder}.") and path.stem != folder]
    assert not bare, "import through secateur.<folder>, or the module exists twice"
    if path.parent.name != "pipelines":
        assert not [name for name in names if name.split(".")[0].startswith("dagster")]
