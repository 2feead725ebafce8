"""Files of an audit: the page and its marks, tables, manifests with random twins, and folders of other programs."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image
from scipy.stats import beta
from sklearn.datasets import load_digits
from typer.testing import CliRunner

import secateur as sc
from secateur.pipelines.audits.listed import SCHEMA
from secateur.pipelines.audits.marking import read_marks
from secateur.pipelines.commands.main import app
from secateur.pipelines.manifests.manifest import Manifest
from tests.support.chromium import chromium, shoot
from tests.support.planted import WORDS, topics

COPIES, LEAKS, WRONG = 30, 12, 40
"""Planted rows."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Training rows whose last ones are near copies of earlier ones, test rows whose first ones are near copies of
    training rows, and wrong labels."""
    return topics(tmp_path_factory.mktemp("topics"), copies=COPIES, leaks=LEAKS, wrong=WRONG)


@pytest.fixture(scope="module")
def written(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder that `--write` fills, and the answer."""
    folder = tmp_path_factory.mktemp("written") / "audit"
    train, test = files
    done = CliRunner().invoke(
        app, ["audit", str(train), "--test", str(test), "--label", "queue", "--write", str(folder), "--json"]
    )
    assert done.exit_code == 0, done.output
    return folder, json.loads(done.stdout)


def test_the_folder_says_what_the_answer_says(written: tuple[Path, dict[str, Any]]) -> None:
    folder, answer = written
    told = json.loads((folder / "audit.json").read_text())
    assert {name: told[name] for name in ("findings", "leaks", "duplicates", "wrong_labels")} == {
        name: answer[name] for name in ("findings", "leaks", "duplicates", "wrong_labels")
    }
    assert (answer["leaks"], answer["duplicates"]) == (LEAKS, COPIES)
    wrong = answer["wrong_labels"]["train"]
    assert wrong["low"] <= WRONG <= wrong["high"]
    table, as_csv = pl.read_parquet(folder / "findings.parquet"), pl.read_csv(folder / "findings.csv")
    assert as_csv.columns == table.columns
    assert as_csv.select("finding", "row", "other_row").equals(table.select("finding", "row", "other_row"))
    assert set(answer["files"]) >= {"deduplicated", "deduplicated_random", "without_leaks", "without_suspects"}


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_findings_are_read_back_by_pandas_and_polars(files: tuple[Path, Path], tmp_path: Path, ending: str) -> None:
    """Numbers are numbers, marks are booleans, and empty cells are missing: the same lines as in Python."""
    path = tmp_path / f"findings.{ending}"
    asked = ["audit", str(files[0]), "--test", str(files[1]), "--label", "queue", "--findings", str(path)]
    assert CliRunner().invoke(app, asked).exit_code == 0
    lines = sc.audit(files[0], test=files[1], label="queue", progress=False).lines
    types = {name: kind for name, kind in SCHEMA.items() if lines[name].null_count() < len(lines)}
    read = pl.read_csv(path) if ending == "csv" else pl.read_parquet(path)
    assert list(read.columns) == list(SCHEMA)
    assert {name: read.schema[name] for name in types} == types
    assert read.cast(SCHEMA).equals(lines, null_equal=True)  # type: ignore[arg-type]
    frame = pd.read_csv(path) if ending == "csv" else pd.read_parquet(path)
    kinds = {name: pd.api.types.infer_dtype(frame[name], skipna=True) for name in types}
    words = {
        pl.String: {"string"},
        pl.Boolean: {"boolean"},
        pl.Float64: {"floating"},
        pl.Int64: {"integer", "floating"},
    }
    assert {name for name, kind in kinds.items() if kind not in words[types[name]]} == set()  # type: ignore[index]
    assert frame["row"].dtype == frame["at"].dtype == np.int64
    assert frame["to_mark"].dtype == bool
    assert frame["to_mark"].sum() == lines["to_mark"].sum() > 0
    for name in types:
        assert frame[name].isna().sum() == lines[name].null_count(), name
    both = frame.dropna(subset="other_row")
    assert both["other_row"].astype(int).to_list() == lines["other_row"].drop_nulls().to_list()


def test_the_page_of_the_documentation_shows_what_is_printed(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, path in zip(("tickets.csv", "test.csv"), files, strict=True):
        (tmp_path / name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(
        app, ["audit", "tickets.csv", "--test", "test.csv", "--label", "queue", "--write", "audit"]
    )
    page = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()
    shown = page.partition("--write audit\n")[2].partition("```")[0]
    assert shown.strip() == done.stdout.partition("label: queue")[0].strip()


def test_manifests_apply_to_the_data_and_train(files: tuple[Path, Path], written: tuple[Path, dict[str, Any]]) -> None:
    folder, data = written[0] / "manifests", pd.read_csv(files[0])
    names = ["deduplicated", "without_leaks", "without_suspects"]
    kept = {path.name: Manifest.load(path).apply(data) for path in sorted(folder.iterdir())}
    assert sorted(kept) == sorted([*names, *(f"{name}_random" for name in names)])
    for name in names:
        assert len(kept[name]) == len(kept[f"{name}_random"]) < len(data)
        assert not kept[name].index.equals(kept[f"{name}_random"].index)
    assert set(range(len(data) - COPIES, len(data))).isdisjoint(kept["deduplicated"].index)
    assert set(range(LEAKS)).isdisjoint(kept["without_leaks"].index)
    scores = sc.score(kept["without_suspects"], label="queue", scores=["el2n"], epochs=1, progress=False)
    assert len(scores) == len(kept["without_suspects"])
    target = folder.parent.parent / "kept.csv"
    done = CliRunner().invoke(app, ["apply", str(folder / "deduplicated"), str(files[0]), "-o", str(target)])
    assert done.exit_code == 0, done.output
    assert len(pd.read_csv(target)) == len(data) - COPIES


@pytest.mark.nightly
def test_marks_of_the_page_tell_how_many_are_right(
    files: tuple[Path, Path], written: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    with chromium() as browser:
        page = browser.new_page(accept_downloads=True)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((written[0] / "audit.html").as_uri())
        page.wait_for_selector("html[data-tables=ready]", state="attached")
        assert {url.split(":")[0] for url in asked} <= {"file", "blob", "data"}
        assert page.get_by_role("button", name="Save marks.csv").is_disabled()
        groups = page.query_selector_all("fieldset")
        assert len(groups) == 20 + LEAKS + 20
        for place, group in enumerate(groups):
            group.query_selector(f"input[value={'no' if place % 4 == 0 else 'yes'}]").check()
        assert "near leaked of test: 9 of 12 are right." in page.inner_text("#marked")
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save marks.csv").click()
        saved.value.save_as(tmp_path / "marks.csv")
        shoot(page, "audit")
    train, test = files
    done = CliRunner().invoke(
        app, ["audit", str(train), "--test", str(test), "--label", "queue", "--marks", str(tmp_path / "marks.csv"),
              "--json"]
    )  # fmt: skip
    answer = {one["finding"]: one for one in json.loads(done.stdout)["precision"]}
    near = answer["near leaked"]
    assert (near["right"], near["marked"], near["share"]) == (9, 12, 0.75)
    assert (near["low"], near["high"]) == pytest.approx((beta.ppf(0.025, 9, 4), beta.ppf(0.975, 10, 3)))
    assert {one["marked"] for one in answer.values()} == {12, 20}


@pytest.mark.nightly
def test_the_page_is_accessible_in_light_and_dark(written: tuple[Path, dict[str, Any]]) -> None:
    from axe_playwright_python.sync_playwright import Axe

    looks: list[tuple[int, Any]] = [(1200, "light"), (400, "dark")]
    with chromium() as browser:
        for width, scheme in looks:
            page = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}).new_page()
            page.goto((written[0] / "audit.html").as_uri())
            page.wait_for_selector("html[data-tables=ready]", state="attached")
            found = Axe().run(page)
            assert found.violations_count == 0, found.generate_report()
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_bad_marks_are_told_by_row(tmp_path: Path) -> None:
    path = tmp_path / "marks.csv"
    path.write_text("finding,split,file,row,other_file,other_row,mark\nnear leaked,test,a,1,b,2,maybe\n")
    with pytest.raises(ValueError, match=r"marks.csv, row 0: column 'mark' is 'maybe'; write yes or no"):
        read_marks(path)
    wrong = {
        "nonsense,test,a,1,b,2": "column 'finding' is 'nonsense'; marks are of: near leaked, ",
        "near leaked,test,a,abc,b,2": "column 'row' is 'abc'; write the number of a row",
        "near leaked,test,a,,b,2": "column 'row' is empty; write the number of a row",
        "near leaked,test,a,1,b,2.5": r"column 'other_row' is '2\.5'; write the number of a row, or nothing",
    }
    head = "finding,split,file,row,other_file,other_row,mark\nwrong labels,train,a,3.0,,,yes\nnonsense,train,a,x,,,\n"
    for line, message in wrong.items():
        path.write_text(f"{head}{line},no\n")
        with pytest.raises(ValueError, match=rf"marks\.csv, row 2: {message}"):
            read_marks(path)
    path.write_text(head)
    assert read_marks(path)["row"].to_list() == [3]
    path.write_text("finding,split,file,row,mark\n")
    with pytest.raises(ValueError, match=r"there is no column 'other_file'"):
        read_marks(path)


def test_marks_of_rows_that_were_not_drawn_do_not_count(files: tuple[Path, Path], tmp_path: Path) -> None:
    found = sc.audit(files[0], test=files[1], label="queue", progress=False)
    drawn = found.pairs.filter(pl.col("finding") == "near duplicates", "to_mark")
    keys = ["finding", "split", "file", "row", "other_file", "other_row"]
    marks = pl.concat([drawn.select(keys), drawn.select(keys).with_columns(row=pl.lit(0, pl.Int64)).head(1)])
    marks.with_columns(mark=pl.lit("yes")).write_csv(tmp_path / "marks.csv")
    with pytest.warns(UserWarning, match="1 marks are of rows that were not drawn"):
        assert found.precision(tmp_path / "marks.csv")["marked"].to_list() == [20]
    found.save(tmp_path / "findings.csv")
    lines = pd.read_csv(tmp_path / "findings.csv")
    lines[lines["to_mark"]].assign(mark="yes")[[*keys, "mark"]].to_csv(tmp_path / "pandas.csv", index=False)
    assert ".0," in (tmp_path / "pandas.csv").read_text()
    told = found.precision(tmp_path / "pandas.csv")
    assert (
        told["marked"].to_list()
        == found.lines.filter("to_mark").group_by("finding").len().sort("finding")["len"].to_list()
    )


STUDIO = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["data", "predictions"],
        "additionalProperties": False,
        "properties": {
            "data": {"type": "object", "required": ["sample"]},
            "predictions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["result"],
                    "properties": {
                        "model_version": {"type": "string"},
                        "score": {"type": "number"},
                        "result": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "required": ["from_name", "to_name", "type", "value"],
                                "properties": {
                                    "type": {"enum": ["choices", "textarea"]},
                                    "value": {"oneOf": [{"required": ["choices"]}, {"required": ["text"]}]},
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}
"""Tasks with predictions, as Label Studio documents them."""


def check_studio(folder: Path, name: str) -> list[dict[str, Any]]:
    """Tasks that fit the schema and the interface beside them."""
    tasks: list[dict[str, Any]] = json.loads((folder / f"{name}.json").read_text())
    jsonschema.validate(tasks, STUDIO)
    view = ElementTree.parse(folder / f"{name}.xml").getroot()
    tags = {tag.get("name"): tag for tag in view.iter() if tag.get("name")}
    choices = {tag.get("value") for tag in view.iter("Choice")}
    for task in tasks:
        for tag in view.iter():
            for wanted in re.findall(r"\$(\w+)", tag.get("value") or ""):
                assert wanted in task["data"]
        for result in (one for prediction in task["predictions"] for one in prediction["result"]):
            assert tags[result["from_name"]].get("toName") == result["to_name"] in tags
            assert set(result["value"].get("choices", ())) <= choices
        # Label Studio refuses predictions of other scores.
        assert all(0 <= prediction.get("score", 0) <= 1 for prediction in task["predictions"])
    return tasks


def test_label_studio_gets_tasks_with_predictions(written: tuple[Path, dict[str, Any]]) -> None:
    folder = written[0] / "label_studio"
    labels, pairs = check_studio(folder, "labels"), check_studio(folder, "pairs")
    assert len(pairs) == COPIES + LEAKS
    assert [task["data"]["drawn"] for task in labels[:21]] == [True] * 20 + [False]
    table = pl.read_parquet(written[0] / "findings.parquet")
    wrong = table.filter(pl.col("finding") == "wrong labels")
    assert {task["data"]["row"]: task["predictions"][0]["result"][0]["value"]["choices"] for task in labels} == {
        row: [suggested] for row, suggested in wrong.select("row", "suggested").iter_rows()
    }


ARGILLA = {
    "type": "object",
    "required": ["id", "fields", "metadata", "suggestions", "responses", "vectors"],
    "properties": {
        "id": {"type": "string"},
        "fields": {"type": "object", "additionalProperties": {"type": "string"}},
        "metadata": {"type": "object", "additionalProperties": {"type": ["string", "number"]}},
        "suggestions": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["value"],
                "properties": {"score": {"type": ["number", "null"], "minimum": 0, "maximum": 1}},
                "additionalProperties": {"type": ["string", "array"]},
            },
        },
    },
}
"""A record, as argilla 2.8 writes it."""


def check_argilla(folder: Path) -> list[dict[str, Any]]:
    """Records that fit the schema and the settings beside them."""
    records: list[dict[str, Any]] = json.loads((folder / "records.json").read_text())
    settings = json.loads((folder / ".argilla" / "settings.json").read_text())
    assert json.loads((folder / ".argilla" / "dataset.json").read_text())["name"].startswith("audit-")
    jsonschema.validate(records, {"type": "array", "minItems": 1, "items": ARGILLA})
    fields = {field["name"]: field["required"] for field in settings["fields"]}
    [question] = settings["questions"]
    options = {option["value"] for option in question["settings"].get("options", ())}
    assert len({record["id"] for record in records}) == len(records)
    for record in records:
        assert {name for name, required in fields.items() if required} <= set(record["fields"]) <= set(fields)
        for name, suggestion in record["suggestions"].items():
            assert name == question["name"]
            value = suggestion["value"]
            assert not options or set(value if isinstance(value, list) else [value]) <= options
    return records


def test_label_studio_itself_takes_interface_tasks_and_predictions(written: tuple[Path, dict[str, Any]]) -> None:
    sdk = pytest.importorskip("label_studio_sdk.label_interface")
    for name in ("labels", "pairs"):
        view = sdk.LabelInterface((written[0] / "label_studio" / f"{name}.xml").read_text())
        view.validate()
        for task in json.loads((written[0] / "label_studio" / f"{name}.json").read_text()):
            assert view.validate_task({"data": task["data"]})
            assert not [
                one for each in task["predictions"] for one in view.validate_prediction(each, return_errors=True)
            ]


def test_argilla_gets_folders_that_it_reads_from_disk(written: tuple[Path, dict[str, Any]]) -> None:
    assert len(check_argilla(written[0] / "argilla" / "pairs")) == COPIES + LEAKS
    assert check_argilla(written[0] / "argilla" / "labels")


FIFTYONE = {
    "type": "object",
    "required": ["classes", "labels"],
    "additionalProperties": False,
    "properties": {
        "classes": {"type": "null"},
        "labels": {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": r"^[^/.]+$"},
            "additionalProperties": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["label"],
                    "additionalProperties": False,
                    "properties": {
                        "label": {"type": "string"},
                        "confidence": {"type": ["number", "null"]},
                        "attributes": {
                            "type": "object",
                            "additionalProperties": {"type": ["string", "number", "boolean"]},
                        },
                    },
                },
            },
        },
    },
}
"""labels.json of FiftyOneImageClassificationDataset with several labels per picture, as FiftyOne documents it: by names
of files without their ending, with labels that are texts where there are no `classes`."""


def test_pictures_go_to_all_three_programs(tmp_path: Path) -> None:
    images, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    for row in range(400):
        label = labels[row] if row % 10 else rng.choice(np.delete(np.arange(10), labels[row]))
        folder = tmp_path / "train" / f"digit {label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((images[row].reshape(8, 8) * 15).astype(np.uint8)).save(folder / f"{row:03}.bmp")
        if row in (1, 2):  # a benchmark whose path may be no name of a file
            (tmp_path / "eval" / "v1.5").mkdir(parents=True, exist_ok=True)
            near = Image.open(folder / f"{row:03}.bmp").resize((16, 16), Image.Resampling.BICUBIC)
            near.save(tmp_path / "eval" / "v1.5" / f"{row}.png")
    found = sc.audit(tmp_path / "train", against=tmp_path / "eval" / "v1.5", progress=False)
    found.save(tmp_path / "audit")
    assert len(found.lines.filter(pl.col("finding") == "near leaked")) == 2
    pairs = check_studio(tmp_path / "audit" / "label_studio", "pairs")
    assert sum(task["data"]["finding"] == "near leaked" for task in pairs) == 2
    tasks = check_studio(tmp_path / "audit" / "label_studio", "labels")
    for task in tasks:
        place = task["data"]["sample"].removeprefix("/data/local-files/?d=")
        assert Image.open(tmp_path / "audit" / "label_studio" / place).size == (8, 8)
    for record in check_argilla(tmp_path / "audit" / "argilla" / "labels"):
        assert record["fields"]["sample"].startswith("data:image/png;base64,")
    one = json.loads((tmp_path / "audit" / "fiftyone" / "labels.json").read_text())
    jsonschema.validate(one, FIFTYONE)
    data = {path.stem for path in (tmp_path / "audit" / "fiftyone" / "data").iterdir()}
    assert set(one["labels"]) == data
    assert len(tasks) <= len(data)
    for listed in one["labels"].values():
        assert {each["attributes"]["is"] for each in listed} <= {"given", "suggested", "finding"}
        assert all(isinstance(each["label"], str) for each in listed)
    planted = {f"{row:03}.bmp" for row in range(0, 400, 10)}
    hit = {path.rpartition("/")[2] for path in found.labels["path"]}
    assert len(planted & hit) > 0.8 * len(hit)


def test_numbers_are_corrected_as_texts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    places = rng.normal(size=(300, 3))
    target = places @ [1.0, 2.0, 3.0]
    target[:10] += 60
    table = pl.DataFrame(places, schema=["a", "b", "c"]).with_columns(y=pl.Series(target))
    found = sc.audit(table, label="y", progress=False)
    assert set(found.labels["row"][:10]) == set(range(10))
    found.save(tmp_path / "audit")
    for task in check_studio(tmp_path / "audit" / "label_studio", "labels"):
        assert float(task["predictions"][0]["result"][0]["value"]["text"][0]) < 40
    assert check_argilla(tmp_path / "audit" / "argilla" / "labels")


def test_nothing_of_the_rows_is_written_without_samples(files: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    done = CliRunner().invoke(
        app, ["audit", str(files[0]), "--label", "queue", "--write", str(folder), "--without-samples"]
    )
    assert done.exit_code == 0, done.output
    long = {word for word in WORDS if len(word) > 7}
    for path in (path for path in folder.rglob("*") if path.is_file()):
        assert not {word for word in long if word.encode() in path.read_bytes()}, path
    assert not (folder / "argilla").exists()


def test_files_that_are_there_stay_and_nothing_is_half_written(files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for options in (["--write", "mine"], ["--write", "mine", "--overwrite"], ["--findings", "found.xlsx"]):
        done = CliRunner().invoke(app, ["audit", str(files[0]), options[0], str(tmp_path / options[1]), *options[2:]])
        assert isinstance(done.exception, OSError | ValueError)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "notes.txt"]
    sc.audit(files[0], label="queue", progress=False).save(tmp_path / "audit")
    (tmp_path / "audit" / "marks.csv").write_text("finding,split,file,row,other_file,other_row,mark\n")
    again = ["audit", str(files[0]), "--write", str(tmp_path / "audit"), "--overwrite"]
    assert CliRunner().invoke(app, [*again, "--marks", str(tmp_path / "audit" / "marks.csv")]).exit_code == 0
    assert (tmp_path / "audit" / "marks.csv").is_file()
