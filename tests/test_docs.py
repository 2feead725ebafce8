"""The pages say what is so: generated tables are fresh, examples run, and following a page gives what it promises."""

import ast
import doctest
import importlib
import inspect
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from documents import DOCUMENTS, FENCE, ROOT, calls_on, python, shell
from pydantic import BaseModel
from reference_pages import PAGES, TABLES, commands, filled, listing
from site_hooks import OF_PROJECT

from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.pages.choice_content import ChoiceContent
from secateur.pipelines.pages.content import ReportContent
from secateur.pipelines.runs.room import HELD
from secateur.pipelines.studies.architectures import Search
from secateur.pipelines.studies.choice import UNTRAINED, Choice
from secateur.pipelines.studies.files import SHIPPED, validated
from secateur.pipelines.studies.folders import LISTING, shipped_files
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.units import PruningStudy
from secateur.scorers.checkpoints.checkpoint_el2n import checkpoint_el2n
from secateur.scorers.geometry.density import density
from secateur.scorers.networks.magnitude import magnitude
from secateur.scorers.observers.aum import Aum
from secateur.scorers.registry import scorers
from secateur.selectors.contract import declared as declared_selectors
from secateur.selectors.contract import selectors
from secateur.selectors.samplers.contract import samplers
from secateur.trainers.experiments.contract import experiments
from secateur.trainers.loop.train import train
from secateur.trainers.modalities.encoding import ENCODINGS

FLOORS = ("scorers", "selectors", "trainers", "pipelines")
MODULES = [
    ".".join(("secateur", *path.relative_to(ROOT).with_suffix("").parts))
    for floor in ("scorers", "selectors", "trainers", "pipelines/front_door", "pipelines/manifests")
    for path in sorted((ROOT / floor).rglob("*.py"))
    if ">>> " in path.read_text()
]
EXAMPLES = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in DOCUMENTS
    for number, (language, words, code) in enumerate(FENCE.findall(page.read_text()))
    if language == "python" and not {"notest"} & set(words.split()) and not re.search("file=|line=", words)
]
KEYS: dict[str, type[BaseModel]] = {
    "study keys": Study,
    "search keys": Search,
    "choice keys": Choice,
    "choice report keys": ChoiceContent,
    "pruning keys": PruningStudy,
}
REJECTED = {"choice keys": {*UNTRAINED}}
"""Keys that such a study inherits and rejects: no page lists them."""
ADDING = sorted((ROOT / "docs").glob("add-*.md"))
SCORER_TEST = "test_rival_probability"
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
UPDATE = "python docs/reference_pages.py"


def test_studies_that_ship_are_listed_as_they_are() -> None:
    assert LISTING.read_text() == listing(), f"{LISTING.name} is stale: {UPDATE}"
    assert [one["name"] for one in json.loads(LISTING.read_text())] == list(shipped_files())


@pytest.mark.parametrize("name", PAGES)
def test_generated_tables_are_fresh(name: str) -> None:
    page = (ROOT / name).read_text()
    assert page == filled(page), f"{name} is stale: {UPDATE}"


@pytest.mark.parametrize("name", PAGES)
def test_each_row_of_a_generated_table_is_one_line(name: str) -> None:
    page = (ROOT / name).read_text()
    for found in re.finditer(r"<!-- ([^\n]+) -->\n(.*?)\n<!-- end of \1 -->", page, re.DOTALL):
        assert not [line for line in found[2].splitlines() if line.startswith("|") != line.endswith("|")]


@pytest.mark.parametrize("name", PAGES)
def test_each_heading_of_a_generated_page_is_its_own(name: str) -> None:
    """Headings of a page differ, none names a key twice, and no cell ends in braces, which attr_list would take."""
    text = (ROOT / name).read_text()
    headings = re.findall(r"^##+ (.+)$", text, re.MULTILINE)
    assert len(set(headings)) == len(headings)
    for heading in headings:
        keys = re.findall(r"`[^`]+`", heading)
        assert len(set(keys)) == len(keys), heading
    assert not re.findall(r"^\|.*\} \|$", text, re.MULTILINE)


def test_every_table_is_on_a_page_and_lists_everything_by_name() -> None:
    pages = "".join((ROOT / name).read_text() for name in PAGES)
    for name, make in TABLES.items():
        made = make()
        assert f"<!-- {name} -->\n{made}\n<!-- end of {name} -->" in pages
        every = listed_in(name)
        assert every
        ways = [
            r"\n\| `{}` \|",
            r"\n\| {} \|",
            r"## secateur {}\n",
            r"::: secateur\.scorers\.\w+\.{}\.",
            r"::: secateur\.selectors\.\w+\.{}\.",
        ]
        assert not [one for one in every if not any(re.search(way.format(one), made) for way in ways)]


def listed_in(name: str) -> set[str]:
    """What a generated part must list."""
    if name == "command reference":
        return set(commands())
    if name == "experiment table":
        return set(experiments())
    if name == "report keys":
        return set(ReportContent.model_fields)
    if name == "held in memory":
        return set(HELD)
    if name in KEYS:
        return set(KEYS[name].model_fields) - REJECTED.get(name, set())
    return set(selectors() if "selector" in name else scorers())


@pytest.mark.parametrize("model", [*KEYS.values(), *ENCODINGS.values()])
def test_every_key_of_a_file_says_what_it_is(model: type[BaseModel]) -> None:
    schema = model.model_json_schema()
    keys = [(kind, key, said) for kind, part in [("", schema), *schema.get("$defs", {}).items()]
            for key, said in part.get("properties", {}).items()]  # fmt: skip
    assert keys
    assert not [f"{kind}.{key}" for kind, key, said in keys if "description" not in said and "const" not in said]


def test_a_stale_table_is_made_anew() -> None:
    page = "before\n<!-- score table -->\n| old |\n<!-- end of score table -->\nafter"
    assert "| old |" not in filled(page)
    assert filled(page).startswith("before\n")
    assert filled(page).endswith("\nafter")
    assert filled("nothing to fill") == "nothing to fill"


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name: str) -> None:
    """Docstrings are read from the file, for doctest's own finder passes over decorated functions."""
    text = (ROOT / name.removeprefix("secateur.").replace(".", "/")).with_suffix(".py").read_text()
    known = vars(importlib.import_module(name)) | {"np": np}
    runner, parser = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE), doctest.DocTestParser()
    said = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr))
    docstrings = [one.value for one in said if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    tests = [parser.get_doctest(each, dict(known), name, None, None) for each in docstrings if ">>> " in each]
    assert tests
    for test in tests:
        runner.run(test)
    assert runner.failures == 0


def test_every_selector_sampler_and_kind_of_scorer_has_an_example() -> None:
    """So do `Manifest` and the module of `train`; of scorers, one of each kind."""
    shown = {getattr(one, "choose", None) or one.compute for one in declared_selectors().values()}
    shown |= {importlib.import_module(f"secateur.selectors.samplers.{name}") for name in sampler_files()}
    shown |= {Aum, checkpoint_el2n.compute, density.compute, magnitude.compute, Manifest}
    shown |= {inspect.getmodule(train)}
    assert not [one for one in shown if ">>> " not in written_in(one)]


def sampler_files() -> list[str]:
    return [one.__module__.rpartition(".")[2] for one in samplers().values()]


def written_in(one: Any) -> str:
    """The docstring of a function or class, or the text of a module."""
    return inspect.getsource(one) if inspect.ismodule(one) else one.__doc__ or ""


@pytest.mark.parametrize("code", EXAMPLES)
def test_examples_on_pages_run(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where some write files
    exec(compile(code, "page", "exec"), {"__name__": "page"})


def test_there_are_examples_and_doctests() -> None:
    assert EXAMPLES
    assert len(MODULES) > 5


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    missing = [target for target in targets if not (page.parent / target).exists() and target not in OF_PROJECT]
    assert not missing


def test_external_links_are_well_formed() -> None:
    """They are not fetched: `make docs` lists them."""
    found = {link for page in DOCUMENTS for link in re.findall(r"\]\((\w+:[^)]*)\)", page.read_text())}
    assert found
    assert not [link for link in found if not re.fullmatch(r"https://[\w.-]+\.[a-z]+/\S*", link)]


YAMLS = [
    pytest.param(page, text, id=f"{page.name}-{number}")
    for page in DOCUMENTS
    for number, (language, _, text) in enumerate(FENCE.findall(page.read_text()))
    if language == "yaml" and not page.name.startswith("add-a-")  # these are followed below
]
FOREIGN = {"cluster.md", "dagster-project.md", "deploy.md"}
"""Pages that show files of Dagster and Kubernetes too."""


def around(part: dict[str, Any]) -> dict[str, Any]:
    """A study of the digits with this part in it: selections that pages name, or none but random over other scores."""
    whole = yaml.safe_load((SHIPPED / "digits.yaml").read_text())
    whole["selections"] |= {"rs2": None, "info_batch": None, "seta": None}
    del whole["compare_at"]  # which a part that trains for steps does not go with
    return whole | ({"selections": {"uniform_random": None}} if "scores" in part else {}) | part


def components() -> dict[str, type[BaseModel]]:
    from secateur.pipelines.component import COMPONENTS

    return {f"{one.__module__}.{one.__name__}": one.model for one in COMPONENTS}


@pytest.mark.parametrize(("page", "text"), YAMLS)
def test_yaml_on_pages_is_a_study_or_a_part_of_one(
    page: Path, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Modules that a page has its reader write are there, as they are for the reader."""
    for _, words, module in FENCE.findall(page.read_text()):
        if re.fullmatch(r"file=\w+\.py", words.strip()):
            (tmp_path / words.strip().removeprefix("file=")).write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    content = yaml.safe_load(text)
    if "attributes" in content:
        assert isinstance(validated(content["attributes"], page), components()[content["type"]])
    elif {"kind", "name"} & set(content):
        assert validated(content, page)
    elif set(content) & set(Study.model_fields):
        assert validated(around(content), page)
    else:
        assert page.name in FOREIGN, "a YAML that is no part of a study"


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_commands_on_pages_exist(page: Path) -> None:
    known = commands()
    for call in calls_on(page.read_text()):
        name, *words = call.split()
        if name.startswith("-") or name == "COMMAND":
            continue
        assert name in known, call
        options = {option for each in known[name].params for option in (*each.opts, *each.secondary_opts)}
        given = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert given <= options | {"-h", "--help"}, call


def test_commands_are_found_on_pages() -> None:
    page = "```console\n$ secateur run digits   # now\nsecateur ui\n```\nsecateur prunes; `secateur diff A B`\n"
    assert calls_on(page) == ["run digits", "ui", "diff A B"]


GRAPH = """
from pathlib import Path
from secateur.pipelines.definitions import build
from secateur.pipelines.data.source_kinds.registry import source_kinds
from secateur.pipelines.exports.registry import exporters
from secateur.pipelines.studies.files import read_studies
from secateur.scorers.checkpoints.checkpoint_el2n import checkpoint_el2n
from secateur.scorers.geometry.density import density
from secateur.scorers.networks.magnitude import magnitude
from secateur.scorers.observers.aum import Aum
from secateur.scorers.registry import scorers
from secateur.selectors.contract import declared as declared_selectors
from secateur.selectors.contract import selectors
from secateur.selectors.samplers.contract import samplers
from secateur.trainers.tasks.registry import tasks
print("exporters:", *exporters())
print("sources:", *source_kinds())
print("scorers:", *scorers())
print("selectors:", *selectors())
print("tasks:", *tasks())
for folder in sorted(Path("studies").iterdir()):
    (file,) = read_studies([folder])
    assert file.study, file.error
    graph = build([file], Path("store")).resolve_asset_graph()
    print(f"{folder.name} assets:", *("/".join(key.path) for key in graph.materializable_asset_keys))
    print(f"{folder.name} trials:", *file.study.selection_keys)
"""


def follow(page: Path, checkout: Path) -> None:
    """Write every file of a page where it says, each study in a folder of the page's name, and change its line."""
    for _, words, content in FENCE.findall(page.read_text()):
        where, _, name = words.strip().partition("=")
        path = checkout / name.replace("studies/", f"studies/{page.stem}/")
        if where == "file":
            assert not path.exists(), f"{name} is there already"
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
        elif where == "line":
            start = content.partition("=")[0]
            text, count = re.subn(f"^{start}=.*\n", lambda _: content, path.read_text(), flags=re.MULTILINE)  # noqa: B023
            assert count == 1, f"{name}: {start}is there {count} times"
            path.write_text(text)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the four folders, which comes before the installed ones on import, after every page on adding."""
    root = tmp_path_factory.mktemp("checkout")
    for floor in FLOORS:
        shutil.copytree(ROOT / floor, root / "secateur" / floor)
        (root / floor).symlink_to(root / "secateur" / floor)
    shutil.copy(ROOT / ".layout" / "secateur" / "__init__.py", root / "secateur")
    for room in ("scorers", "support"):
        shutil.copytree(ROOT / "tests" / room, root / "tests" / room)
    (root / "tests" / "pipelines").mkdir()
    shutil.copy(ROOT / "tests" / "pipelines" / "conftest.py", root / "tests" / "pipelines")
    (root / "studies").mkdir()
    shutil.copy(ROOT / "pyproject.toml", root)
    for page in ADDING:
        follow(page, root)
    return root


STUDIES = """
import os, sys
from secateur.pipelines.commands.main import main
for folder, *words in ("add-a-unit prune wines --json".split(), "add-a-task run visits --json".split()):
    os.environ["SECATEUR_STUDIES"] = f"studies/{folder}"
    sys.argv[1:] = words
    print(end="\\0", flush=True)
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""


@pytest.fixture(scope="module")
def printed(checkout: Path) -> list[str]:
    """What GRAPH and each study of a page print, in one process: it takes longer to begin than any of them to run."""
    lines = [f"{age},{age % 7},{age % 4}" for age in range(20, 80)]
    (checkout / "studies" / "add-a-task" / "visits.csv").write_text("\n".join(["age,distance,visits", *lines]))
    return python(checkout, "-c", GRAPH + STUDIES).split("\0")


def test_what_the_pages_add_is_registered_and_in_the_graph(printed: list[str]) -> None:
    lines = dict(line.split(": ", 1) for line in printed[0].splitlines())
    seen = {kind: names.split() for kind, names in lines.items()}
    assert "labels" in seen["exporters"]
    assert "npz" in seen["sources"]
    assert "rival_probability" in seen["scorers"]
    assert "nearest_quantile" in seen["selectors"]
    assert seen["tasks"] == ["classification", "counts", "multi_label", "regression", "sft"]
    assert "pencils/scores/rival_probability" in seen["add-a-scorer assets"]
    assert "hardest@0.3" in seen["add-a-scorer trials"]
    assert "nearest_quantile@0.3" in seen["add-a-selector trials"]
    assert "top@0.3" in seen["add-a-source trials"]


def test_the_tests_of_the_pages_pass(checkout: Path) -> None:
    """Those that the pages write, and of the laws of checkpoint scorers those of the new one."""
    tests = {"test_labels": 3, "test_npz": 2, "test_nearest_quantile": 2, "test_feature_pruning": 2, "test_counts": 3}
    laws = checkout / "tests" / "scorers" / "test_checkpoint_scorers.py"
    files = [str(path) for path in sorted(checkout.glob("tests/*/*.py")) if path.stem in {*tests, SCORER_TEST}]
    assert len(files) == len(ADDING)
    chosen = "rival_probability or not test_checkpoint_scorers"
    ran = python(checkout, "-m", "pytest", "-q", "-rA", "-k", chosen, *files, str(laws))
    passed = Counter(re.findall(r"^PASSED tests/\w+/(\w+)\.py", ran, re.MULTILINE))
    assert {name: passed[name] for name in tests} == tests
    assert passed[SCORER_TEST] > 0
    assert passed[laws.stem] > 1


def test_a_study_of_the_unit_of_the_page_runs(checkout: Path, printed: list[str]) -> None:
    assert "separating" in json.dumps(json.loads(printed[1])["report"])
    manifest = checkout / ".secateur" / "assets" / "wines" / "manifest" / "separating@0.2" / "0"
    assert '"feature"' in (manifest / "manifest.json").read_text()


def test_a_study_of_the_task_of_the_page_runs(checkout: Path, printed: list[str]) -> None:
    assert {"deviance", "mae"} == set(json.loads(printed[2])["trials"][0]["metrics"])
    manifest = checkout / ".secateur" / "assets" / "visits" / "manifest" / "easiest@0.5" / "0"
    assert '"name": "3"' in (manifest / "manifest.json").read_text()


@pytest.fixture
def tutorial(tmp_path: Path) -> Path:
    """A folder in which the tutorial's pictures lie."""
    made = {words.strip().rpartition("file=")[2]: text for _, words, text in FENCE.findall(TUTORIAL)}
    (tmp_path / "pictures.py").write_text(made["pictures.py"])
    python(tmp_path, "pictures.py")
    return tmp_path


def test_the_tutorial_shows_what_is_printed_and_written(tutorial: Path) -> None:
    done = shell(tutorial, "init", "pictures", "--keep", "0.3")
    assert done.returncode == 0, done.stderr
    said = [line.rstrip() for line in done.stdout.splitlines()]
    assert len(said) > 5
    assert not [line for line in said if line not in TUTORIAL]
    written = (tutorial / "studies" / "pictures.yaml").read_text()
    assert written.partition("name:")[2] in TUTORIAL
