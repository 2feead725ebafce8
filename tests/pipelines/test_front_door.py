"""`secateur.score` and `secateur.study`: the numbers of a study, its report and manifests, bad input; the notebook."""

import ast
import json
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl
import pytest
import torch
import yaml

import secateur as sc
from secateur.pipelines.front_door import score as door
from secateur.pipelines.front_door.results import Report, StudyResult
from secateur.pipelines.manifests.manifest import Manifest
from secateur.selectors.samplers.contract import samplers

NOTEBOOK = Path(__file__).parents[2] / "docs" / "front-door.ipynb"


def points(count: int, seed: int) -> pl.DataFrame:
    """Points around one centre for each of three classes."""
    labels = np.arange(count) % 3
    places = np.random.default_rng(seed).normal(np.stack([np.cos(labels * 2.1), np.sin(labels * 2.1)], axis=1) * 2, 1.0)
    return pl.DataFrame({"x": places[:, 0], "y": places[:, 1], "label": labels})


def run_cells(notebook: Path) -> tuple[dict[str, Any], list[Any]]:
    """Names that a notebook's cells define, and the output of each cell."""
    names: dict[str, Any] = {"__name__": "notebook"}
    shown = []
    for cell in json.loads(notebook.read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, notebook.name, "exec"), names)
        shown.append(eval(compile(ast.Expression(last.value), notebook.name, "eval"), names) if last else None)
    return names, shown


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the notebook ran in."""
    return tmp_path_factory.mktemp("door")


@pytest.fixture(scope="module")
def ran(files: Path) -> tuple[dict[str, Any], list[Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECATEUR_HOME", str(files / "home"))
        patch.chdir(files)
        return run_cells(NOTEBOOK)


@pytest.fixture
def result(ran: tuple[dict[str, Any], list[Any]]) -> StudyResult:
    found: StudyResult = ran[0]["result"]
    return found


def test_the_notebook_shows_what_it_says(ran: tuple[dict[str, Any], list[Any]]) -> None:
    names, shown = ran
    assert shown[1].columns == ["row", "aum", "el2n"]
    assert shown[1]["aum"].is_sorted()
    wrong = set(range(5))
    suspects = names["own"].with_row_index().bottom_k(5, by="self_confidence")["index"]
    assert len(wrong & set(suspects)) >= 3  # of five wrong labels among ninety samples
    assert shown[3] == 72
    assert (shown[4], len(shown[5])) == (names["result"], 3)
    assert shown[6] is True


def test_scores_are_those_of_the_study_that_says_the_same(result: StudyResult, files: Path) -> None:
    said = yaml.safe_load((files / "points.yaml").read_text())
    asked, proxy = said["scores"], {key: value for key, value in said["proxy"].items() if key != "epochs"}
    before = {path: path.stat().st_mtime_ns for path in files.rglob("*")}
    found = sc.score(
        files / "points.parquet", label="label", features=["x", "y"], scores=asked, epochs=3, proxy=proxy,
        proxy_runs=2, checkpoints=2, progress=False,
    )  # fmt: skip
    assert found.columns == ["row", *asked]
    assert found.columns == ["row", "early", "self_confidence", "vog", "checkpoint_loss", "pvi", "neighbour_agreement"]
    assert found["row"].to_list() == list(range(90)) == result.scores["file_row"].to_list()
    for name in asked:
        np.testing.assert_array_equal(found[name], result.scores[name], err_msg=name)
    assert {path: path.stat().st_mtime_ns for path in files.rglob("*")} == before


class Tags(HTMLParser):
    """Names of the tags of a page, and its cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.text = list[str](), list[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_a_study_shows_its_report(result: StudyResult) -> None:
    data = json.loads(result.report.path.with_name("report.json").read_text())
    assert result.report.data == data
    assert result.report.path.name == "report.html"
    assert data["verdict"] in repr(result)
    page = result._repr_html_()
    shown = Tags(page)
    assert len(page) < 20_000
    assert {"table", "tr", "td"} <= set(shown.tags) <= {"div", "h4", "p", "small", "table", "tr", "th", "td"}
    assert data["verdict"] in shown.text
    assert {line[0] for line in data["table"]} <= set(shown.text)
    assert result.findings == data["findings"]
    assert result.scores.columns == ["row", "file", "file_row", *result.study.scores]
    assert set(result.scores["file"]) == {"points.parquet"}


def test_a_study_gives_manifests_by_selection_budget_and_seed(result: StudyResult, files: Path) -> None:
    assert set(result.manifests) >= {("hardest", 0.3, 0), ("uniform_random", 0.3, 1), ("stratified_random", 0.3, 0)}
    kept = result.manifests["hardest", 0.3].apply(pl.read_parquet(files / "points.parquet"))
    hard = result.scores.top_k(27, by="early")["file_row"].to_list()
    assert kept["x"].to_list() == pl.read_parquet(files / "points.parquet")[sorted(hard)]["x"].to_list()
    one = result.manifests["uniform_random", 0.3, 1]
    assert (one.declaration.count, one.path.parent.name, one.path.name) == (27, "uniform_random@0.3", "1")
    for key, said in [
        (("hardes", 0.3), r"there is no manifest of hardes@0.3; did you mean 'hardest@0.3'\?.*\['hardest', 0.3\]"),
        (("hardest", 0.3, 7), "hardest@0.3 has manifests of the seeds 0, 1"),
        ("hardest", "there is no manifest of hardest@None"),
    ]:
        with pytest.raises(KeyError, match=said):
            result.manifests[key]


def frames() -> pl.DataFrame:
    return points(60, 3).with_columns(pl.lit("class ") + pl.col("label").cast(pl.String))


class Pairs(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Pairs of features and a label."""

    def __init__(self, held: pl.DataFrame) -> None:
        self.held = held

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, row: int) -> tuple[Any, Any]:
        return torch.tensor(self.held.select("x", "y").row(row), dtype=torch.float64), self.held["label"][row]


def test_every_kind_of_data_has_the_same_scores(tmp_path: Path) -> None:
    held, how = frames(), {"label": "label", "features": ["x", "y"], "scores": ["aum"], "epochs": 1, "progress": False}
    held.write_csv(tmp_path / "held.csv")
    held.write_ndjson(tmp_path / "held.jsonl")
    half = tmp_path / "halves"
    half.mkdir()
    held[:25].write_parquet(half / "part-0.parquet")
    held[25:].write_parquet(half / "part-1.parquet")
    expected = sc.score(held, **how)
    kinds: dict[str, Any] = {
        "pandas": held.to_pandas(),
        "arrow": held.to_arrow(),
        "a data set": datasets.Dataset.from_polars(held),
        "a list": held.to_dicts(),
        "torch": Pairs(held),
        "csv": tmp_path / "held.csv",
        "jsonl": str(tmp_path / "held.jsonl"),
        "a folder": half,
    }
    for kind, data in kinds.items():
        assert sc.score(data, **how).equals(expected), kind


def test_rows_that_cannot_be_scored_are_null_and_counted() -> None:
    held = frames().to_pandas()
    held.loc[[4, 9], "label"] = np.nan
    with pytest.warns(UserWarning, match="2 of 60 rows get no score: label column 'label'"):
        found = sc.score(held, scores=["loss"], epochs=1, progress=False)
    assert found.filter(pl.col("loss").is_null())["row"].to_list() == [4, 9]
    others = sc.score(frames().to_pandas().drop([4, 9]), scores=["loss"], epochs=1, progress=False)
    assert found["loss"].drop_nulls().to_list() == others["loss"].to_list()


def test_a_folder_of_pictures_has_paths_and_a_seed_decides(tmp_path: Path) -> None:
    from PIL import Image

    for number in range(12):
        path = tmp_path / "pictures" / ("cat" if number % 2 else "dog") / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 20 * number).save(path)
    found = [sc.score(tmp_path / "pictures", epochs=1, seed=seed, progress=False) for seed in (0, 0, 1)]
    assert found[0]["path"].to_list()[:2] == ["cat/01.png", "cat/03.png"]
    assert found[0].columns == ["row", "path", "loss", "forgetting", "aum", "el2n"]
    assert found[0].equals(found[1])
    assert not found[0]["loss"].equals(found[2]["loss"])


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"label": "labl"}, ValueError, "there is no column 'labl'; did you mean 'label'"),
    ({"scores": ["amu"]}, ValueError, "scores.amu: there is no 'amu'; did you mean 'aum'"),
    ({"scores": ["vog"]}, ValueError, "checkpoints must be at least 2, got 1"),
    ({"scores": ["tdds"], "epochs": 3}, ValueError, "windows of 10 presentations"),
    ({"label": "x", "task": "regression", "scores": ["aum"]}, ValueError, "regression has none of"),
    ({"label": "x", "task": "ranking"}, ValueError, "task=…: there is no 'ranking'"),
    ({"data": frames().head(0)}, ValueError, "the data have no rows"),
    ({"data": frames().with_columns(label=pl.lit("a"))}, ValueError, r"is 'a' in every row.*\(label=…\)"),
    ({"model": "resnet"}, ValueError, "there is no 'resnet'|resnet"),
    ({"proxy": {"folds": 3}}, ValueError, "proxy: folds are for studies"),
    ({"proxy": {"lr": 0.1}}, ValueError, "proxy.lr: there is no such key"),
    ({"checkpoint": 3}, TypeError, "takes no 'checkpoint'; did you mean 'checkpoints'"),
]


@pytest.mark.parametrize(("how", "kind", "said"), WRONG)
def test_what_cannot_be_is_refused_before_anything_is_trained(
    how: dict[str, Any], kind: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secateur.pipelines.front_door.proxies.train", None)
    with pytest.raises(kind, match=said):
        sc.score(**({"data": frames(), "label": "label", "progress": False} | how))
    with pytest.raises(ValueError, match="and this is a int"):
        sc.score(3, progress=False)


def test_progress_is_shown_on_standard_error_and_can_be_off(capfd: pytest.CaptureFixture[str]) -> None:
    sc.score(frames(), scores=["loss"], epochs=1)
    shown = capfd.readouterr()
    assert "training the proxy" in shown.err
    assert not shown.out
    sc.score(frames(), scores=["loss"], epochs=1, progress=False)
    assert not capfd.readouterr().err


IMPORTS = """
import sys
import secateur as sc
names = "Manifest __version__ audit in_place samplers score scores_of select study"
assert dir(sc) == names.split(), dir(sc)
assert "InfoBatch" in dir(sc.samplers) and sc.__version__
heavy = {"numpy", "torch", "polars", "pyarrow", "dagster", "pandas", "pydantic"}
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
try:
    sc.selekt
except AttributeError as error:
    assert "there are: Manifest" in str(error)
"""


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    command = [sys.executable, "-W", "ignore", "-c", IMPORTS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sc.score is door.score


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sc.score(frames(), scores=["self_confidence"], epochs=1, progress=False)
    with pytest.raises(ValueError, match="no column"):
        sc.score(frames(), label="labl", progress=False)
    assert not list(tmp_path.iterdir())


def test_every_sampler_is_there_by_the_name_of_its_class() -> None:
    assert {kind.__name__ for kind in samplers().values()} < set(dir(sc.samplers))
    assert all(getattr(sc.samplers, name).__name__ == name for name in dir(sc.samplers))
    assert sc.Manifest is Manifest
    with pytest.raises(AttributeError, match="there are: FixedSubset"):
        _ = sc.samplers.InfoBach


def test_a_report_of_both_lengths_shows_both_tables(tmp_path: Path) -> None:
    table = [["selection", "kept", "accuracy %", "random %", "against random"], ["<b>", "3", "90.1", "88.0", "better"]]
    steps = {"sentences": ["It is longer."], "verdict": "<b> did better.", "table": table}
    data = {"study": "s", "recommendation": {"sentence": "Keep 3."}, "verdict": "None did.", "table": table}
    for at_steps, tables in [(None, 1), (steps, 2)]:
        (tmp_path / "report.json").write_text(json.dumps(data | {"at_equal_steps": at_steps}))
        page = Report(tmp_path / "report.html")._repr_html_()
        assert Tags(page).tags.count("table") == tables
        assert ("<b> did better." in Tags(page).text) == (tables == 2)
        assert "<b> did" not in page  # a name is text, not markup
