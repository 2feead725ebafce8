"""The pages say what is so: generated tables are fresh, examples run, and following a page gives what it promises."""

import doctest
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secateur.pipelines.reference import PAGES, TABLES, filled
from secateur.scorers.registry import scorers
from secateur.selectors.contract import selectors

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FLOORS = ("scorers", "selectors", "trainers", "pipelines")
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MODULES = [
    f"secateur.{floor}.{path.stem}"
    for floor in ("scorers", "selectors", "trainers")
    for path in sorted((ROOT / floor).glob("*.py"))
    if ">>> " in path.read_text()
]
EXAMPLES = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in DOCUMENTS
    for number, (language, words, code) in enumerate(FENCE.findall(page.read_text()))
    if language == "python" and not {"notest"} & set(words.split()) and "file=" not in words
]
UPDATE = "python -c \"from pathlib import Path; from secateur.pipelines.reference import update; update(Path('.'))\""


@pytest.mark.parametrize("name", PAGES)
def test_generated_tables_are_fresh(name: str) -> None:
    page = (ROOT / name).read_text()
    assert page == filled(page), f"{name} is stale: {UPDATE}"


def test_every_table_is_on_a_page_and_lists_everything_by_name() -> None:
    pages = "".join((ROOT / name).read_text() for name in PAGES)
    for name, make in TABLES.items():
        assert f"<!-- {name} -->\n{make()}\n<!-- end of {name} -->" in pages
        every = selectors() if "selector" in name else scorers()
        assert all(f"\n| `{one}` |" in make() for one in every)


def test_a_stale_table_is_made_anew() -> None:
    page = "before\n<!-- short score table -->\n| old |\n<!-- end of short score table -->\nafter"
    assert "| old |" not in filled(page)
    assert filled(page).startswith("before\n")
    assert filled(page).endswith("\nafter")
    assert filled("nothing to fill") == "nothing to fill"


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name: str) -> None:
    found = doctest.DocTestFinder(exclude_empty=True)
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    text = (ROOT / name.removeprefix("secateur.").replace(".", "/")).with_suffix(".py").read_text()
    known = vars(module) | {"np": np}
    tests = [test for test in found.find(module, name, extraglobs=known) if test.examples] or parsed(name, known, text)
    assert tests
    for test in tests:
        runner.run(test)
    assert runner.failures == 0


def parsed(name: str, known: dict[str, Any], text: str) -> list[doctest.DocTest]:
    """Examples of decorated functions, which the finder takes for data and passes over."""
    parser = doctest.DocTestParser()
    docstrings = re.findall(r'"""(.*?)"""', text, flags=re.DOTALL)
    return [test for each in docstrings if (test := parser.get_doctest(each, dict(known), name, None, None)).examples]


@pytest.mark.parametrize("code", EXAMPLES)
def test_examples_on_pages_run(code: str) -> None:
    exec(compile(code, "page", "exec"), {"__name__": "page"})


def test_there_are_examples_and_doctests() -> None:
    assert EXAMPLES
    assert len(MODULES) > 5


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    pictures = {"docs/images/graph.png", "docs/images/report.png"}
    missing = [target for target in targets if not (page.parent / target).exists() and target not in pictures]
    assert not missing


GRAPH = """
import sys
from pathlib import Path
from secateur.pipelines.definitions import build
from secateur.pipelines.study_file import read_studies
from secateur.scorers.registry import scorers
from secateur.selectors.contract import selectors
print("scorers:", *scorers())
print("selectors:", *selectors())
(file,) = read_studies([Path("studies")])
assert file.study, file.error
graph = build([file], Path("store")).resolve_asset_graph()
print("assets:", *("/".join(key.path) for key in graph.materializable_asset_keys))
print("cells:", *file.study.selection_keys)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the four folders that comes before the installed ones when `secateur` is imported."""
    for floor in FLOORS:
        shutil.copytree(ROOT / floor, tmp_path / "secateur" / floor, ignore=shutil.ignore_patterns("__pycache__"))
        (tmp_path / floor).symlink_to(tmp_path / "secateur" / floor)
    shutil.copytree(ROOT / "tests" / "scorers", tmp_path / "tests" / "scorers")
    (tmp_path / "tests" / "selectors").mkdir()
    (tmp_path / "studies").mkdir()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def follow(page: str, checkout: Path) -> list[str]:
    """Write every file of a page where it says; returns their paths."""
    names = []
    for _, words, content in FENCE.findall((ROOT / "docs" / page).read_text()):
        if "file=" in words:
            names.append(words.strip().removeprefix("file="))
            assert not (checkout / names[-1]).exists(), f"{names[-1]} is there already"
            (checkout / names[-1]).write_text(content)
    return names


def python(checkout: Path, *words: str) -> str:
    found = os.environ | {"PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [sys.executable, *words], cwd=checkout, env=found, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_following_the_page_on_scorers_adds_a_scorer(checkout: Path) -> None:
    assert len(follow("add-a-scorer.md", checkout)) == 3
    seen = python(checkout, "-c", GRAPH)
    assert "rival_probability" in seen.split("selectors:")[0].split()
    assert "pencils/scores/rival_probability" in seen.split()
    assert "hardest@0.3" in seen.split()
    laws = "tests/scorers/test_checkpoint_scorers.py"
    ran = python(
        checkout,
        "-m",
        "pytest",
        "-q",
        "-k",
        "rival_probability or classes_ahead",
        "tests/scorers/test_rival_probability.py",
        laws,
    )
    assert re.search(r"\b([3-9]|\d\d+) passed", ran), ran


def test_following_the_page_on_selectors_adds_a_selector(checkout: Path) -> None:
    assert len(follow("add-a-selector.md", checkout)) == 3
    seen = python(checkout, "-c", GRAPH)
    assert "nearest_quantile" in seen.partition("selectors:")[2].split()
    assert "nearest_quantile@0.3" in seen.split()
    ran = python(checkout, "-m", "pytest", "-q", "tests/selectors/test_nearest_quantile.py")
    assert "2 passed" in ran
