"""The four folders are namespace packages of rooms in order, import one way, and no file or function is long."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "scorers": (
        "memory",
        "lazy",
        "settings",
        "signals",
        "given",
        "contract",
        "observers",
        "checkpoints",
        "geometry",
        "copies",
        "target",
        "networks",
        "architectures",
        "registry",
    ),
    "selectors": (
        "sizes",
        "draws",
        "contract",
        "class_policy",
        "whole_units",
        "unit_quotas",
        "samplers",
        "static",
        "searches",
        "masks",
        "check_selector",
    ),
    "trainers": (
        "processes",
        "augmentation",
        "sparse_rows",
        "tasks",
        "contract",
        "models",
        "modalities",
        "loop",
        "passes",
        "judging",
        "distillation",
        "pruning",
        "experiments",
    ),
    "pipelines": (
        "files",
        "data",
        "studies",
        "storage",
        "runs",
        "deltas",
        "manifests",
        "in_place",
        "exports",
        "audits",
        "pages",
        "assets",
        "definitions",
        "component",
        "materialise",
        "front_door",
        "commands",
    ),
}
"""Rooms of each floor, and files that stand beside them: each imports itself, and what stands before it alone."""
OF_DAGSTER = ("pipelines/assets", "pipelines/definitions", "pipelines/component", "pipelines/materialise")
"""Rooms that import Dagster; the others run without it."""
ORDER = [f"{floor}/{room}" for floor, rooms in ROOMS.items() for room in rooms]
MODULES = [path.relative_to(ROOT) for floor in ROOMS for path in sorted((ROOT / floor).rglob("*.py"))]
NAMES = {"secateur." + ".".join(path.with_suffix("").parts): path for path in MODULES}

LONGEST_FILE, LONGEST_FUNCTION = 400, 60
"""Lines."""


def imported(path: Path) -> set[str]:
    """Dotted names that a module imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@cache
def needs(path: Path) -> set[Path]:
    """Files of the project that a file imports."""
    return {NAMES[name] for name in imported(path) if name in NAMES} - {path}


def room_of(path: Path) -> str:
    """Floor and room of a file; a file beside the rooms is a room by itself."""
    return "/".join(path.with_suffix("").parts[:2])


def test_no_init_files() -> None:
    assert not [p for folder in (*ROOMS, "tests") for p in (ROOT / folder).rglob("__init__.py")]


def test_every_room_has_its_place_in_the_order() -> None:
    assert {room_of(path) for path in MODULES} == set(ORDER)


def test_no_module_is_named_like_the_standard_library() -> None:
    assert not [path for path in MODULES if path.stem in sys.stdlib_module_names and path.parent.name in ROOMS]


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


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_one_way(path: Path) -> None:
    own = ORDER.index(room_of(path))
    above = [str(other) for other in needs(path) if ORDER.index(room_of(other)) > own]
    assert not above, f"{path} imports from rooms that stand above its own: {', '.join(above)}"
    names = imported(path)
    bare = [name for name in names for folder in ROOMS if name.startswith(f"{folder}.")]
    assert not bare, "import through secateur.<folder>, or the module exists twice"
    if room_of(path) not in OF_DAGSTER:
        pipes = {"dagster_pipes"} if path.parts[0] == "pipelines" else set()  # of workers, which run without Dagster
        assert not {root for name in names if (root := name.split(".")[0]).startswith("dagster")} - pipes


def test_of_the_front_door_a_study_alone_needs_dagster() -> None:
    """Whatever a file imports counts, wherever in it; `study.py` does so within its function."""
    need = {}
    for path in (path for path in MODULES if room_of(path) == "pipelines/front_door"):
        reached, todo = set[Path](), {path}
        while todo:
            reached |= todo
            todo = {other for each in todo for other in needs(each)} - reached
        need[path.stem] = any(room_of(other) in OF_DAGSTER for other in reached)
    assert [name for name, needed in need.items() if needed] == ["study"]
    assert {"select", "score", "scores_of", "samplers"} < set(need)


def test_no_file_imports_itself_by_way_of_others() -> None:
    left = {path: needs(path) for path in MODULES}
    while ready := [path for path, others in left.items() if not others & left.keys()]:
        for path in ready:
            del left[path]
    assert not left, f"these files import each other in a circle: {', '.join(map(str, left))}"


def long_parts(path: Path, text: str) -> set[str]:
    """The file if it is too long, and its functions that are."""
    functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    long = {f"{path} {node.name}" for node in functions if node.end_lineno - node.lineno >= LONGEST_FUNCTION}
    return long | ({str(path)} if len(text.splitlines()) > LONGEST_FILE else set())


def test_no_file_and_no_function_is_longer_than_the_eye_can_hold() -> None:
    long = set[str]().union(*(long_parts(path, (ROOT / path).read_text()) for path in MODULES))
    assert not long, f"split these: {', '.join(sorted(long))}"


def test_long_parts_are_found() -> None:
    body = "def fits():\n" + "    pass\n" * 59 + "async def too_long():\n" + "    pass\n" * 60
    assert long_parts(Path("a.py"), body) == {"a.py too_long"}
    assert long_parts(Path("a.py"), "\n" * 401) == {"a.py"}
