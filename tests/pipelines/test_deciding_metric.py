"""The deciding metric: the data or the study choose it, every number of a report uses it, without new trainings."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from sklearn import metrics as sklearn
from typer.testing import CliRunner, Result

from secateur.pipelines.assets import tuning
from secateur.pipelines.commands.main import app
from secateur.pipelines.runs.by_class import is_lost
from secateur.pipelines.runs.deciding import metrics_of
from secateur.pipelines.storage.home import marked_home
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyError, StudyFile, validated
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.rejections import SHIPPED
from secateur.pipelines.studies.samples import Study
from secateur.trainers.judging.outcome import Cost
from secateur.trainers.judging.tuning import Tuned
from secateur.trainers.models import registry as models
from secateur.trainers.tasks.classification import Classification
from secateur.trainers.tasks.contract import Metric

WriteStudy = Callable[..., StudyFile]
SMALL = {"model": "mlp", "model_settings": {"hidden": [32]}, "batch_size": 32, "learning_rate": 0.03}


def shell(*words: str) -> Result:
    """Run a shell command, which must succeed."""
    done = CliRunner().invoke(app, list(words), env={"COLUMNS": "100", "NO_COLOR": "1"})
    assert done.exit_code == 0, done.exception
    return done


def rare(count: int, seed: int, *, share: float = 0.023) -> pl.DataFrame:
    """Rows of which a `share` is fraud; two of the three features mostly separate the classes."""
    rng = np.random.default_rng(seed)
    fraud = rng.permutation(np.arange(count) < round(share * count))
    x = rng.normal(size=(count, 3)) + fraud[:, None] * [5.0, 5.0, 0.0]
    return pl.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "label": np.where(fraud, "fraud", "fine")})


def rare_study(folder: Path, **changes: Any) -> Path:
    """A study of a table with 2.3% positives in CSV files."""
    (folder / "data").mkdir(exist_ok=True)
    rare(1300, 0).write_csv(folder / "data" / "train.csv")
    rare(1300, 1).write_csv(folder / "data" / "test.csv")
    content = {
        "name": "rare",
        "source": {"kind": "csv", "train": "data/train.csv", "test": "data/test.csv"},
        "columns": {"features": ["a", "b", "c"], "label": "label"},
        "proxy": SMALL | {"epochs": 1},
        "scores": {"el2n": None},
        "selections": {"easiest": {"selector": "top", "score": "el2n", "end": "low"}},
        "keep": [0.3],
        "training": SMALL | {"steps": 150},
        "seeds": 1,
    }
    path = folder / "rare.yaml"
    path.write_text(yaml.safe_dump(content | changes))
    return path


def measured(store: Store, study: str, trial: Trial, table: pl.DataFrame, names: Sequence[str]) -> dict[str, float]:
    """Metrics of a stored model on the rows of a file, by scikit-learn alone."""
    import torch

    model = models.load(store.load((study, "trained_model"), trial)).eval()
    with torch.no_grad():
        logits = model(torch.from_numpy(np.array(store.load((study, "test_inputs"))))).double().numpy()
    truth, guess = table["label"].to_numpy(), np.array(names)[logits.argmax(axis=1)]
    margin, fraud = logits[:, 1] - logits[:, 0], truth == "fraud"
    recall = sklearn.recall_score(truth, guess, average=None, labels=names, zero_division=0)
    return {
        "accuracy": sklearn.accuracy_score(truth, guess),
        "balanced_accuracy": recall.mean(),
        "worst_class_accuracy": recall.min(),
        "macro_f1": sklearn.f1_score(truth, guess, average="macro", zero_division=0),
        "auroc": sklearn.roc_auc_score(fraud, margin),
        "average_precision": sklearn.average_precision_score(fraud, margin),
        "recall of fraud": recall[1],
    }


def test_where_positives_are_rare_the_easiest_samples_are_shown_to_be_worthless(tmp_path: Path) -> None:
    path = rare_study(tmp_path)
    answer = json.loads(shell("run", str(path), "--json").stdout)
    report, store = answer["report"], Store(marked_home() / "assets")
    assert [metric["name"] for metric in report["metrics"][:2]] == ["average_precision", "accuracy"]
    test, every = pl.read_csv(tmp_path / "data" / "test.csv"), [*report["rows"], *report["whole"]]
    names = store.load(("rare", "source"))["label_names"]
    assert names == ["fine", "fraud"]
    for row in every:
        key = row["name"] + ("@0.3" if row["name"] != "full" else "")
        for name, value in measured(store, "rare", Trial(key, 0), test, names).items():
            if name == "recall of fraud":
                assert report["by_class"]["recalls"][key][1] == pytest.approx(value, abs=1e-12)
            else:
                assert row["metrics"][name]["mean"] == pytest.approx(value, abs=1e-12), (key, name)
    rows = {row["name"]: row for row in every}
    # Accuracy alone would call it fine.
    majority = np.mean(test["label"].to_numpy() == "fine")
    assert rows["easiest"]["metrics"]["accuracy"]["mean"] >= majority - 0.001
    precision = {name: row["metrics"]["average_precision"]["mean"] for name, row in rows.items()}
    assert precision["easiest"] < 1 - majority < 0.9 < precision["uniform_random"]
    floors = {metric["name"]: metric["floor"] for metric in report["metrics"]}
    assert floors["accuracy"] == pytest.approx(majority)
    assert floors["average_precision"] == pytest.approx(1 - majority)
    assert (floors["auroc"], floors["balanced_accuracy"]) == (0.5, 0.5)
    # A lost class: the model detects nearly no fraud any more.
    [finding] = [each for each in answer["findings"] if each["kind"] == "lost class"]
    assert (finding["selection"], finding["classes"]) == ("easiest@0.3", ["fraud"])
    assert finding["text"].startswith("easiest at 0.3 loses class 'fraud': ")
    assert report["by_class"]["test_samples"] == [int(majority * len(test)), len(test) - int(majority * len(test))]
    for table in (report["table"], report["tables"]["found of each class at 0.3"]):
        assert all(len(line) == len(table[0]) for line in table)
    folder = Path(answer["report_file"]).parent
    text = (folder / "report.md").read_text()
    for words in (
        finding["text"],
        "Class 'fraud' has 2.3% of the training samples, less than half of an even share: average precision decides.",
        "AUROC and average precision are of 'fraud'.",
        f"A model that always answers 'fine' has an accuracy of {100 * majority:.1f}%.",
        "Found of each class at 0.3",
        "| fraud | 30 | ",
        "always the commonest class",
    ):
        assert words in text, words
    again = rare_study(tmp_path, metric="accuracy")
    shown = shell("run", str(again)).stdout
    assert "2 assets made" in shown, "the report, and tuning, of which there is none, follow from the metric alone"
    assert finding["text"] in shown
    assert "97.7" in next(line for line in shown.splitlines() if line.startswith("easiest"))
    assert json.loads((folder / "report.json").read_text())["table"][0][2] == "accuracy %"
    assert "average precision decides" not in (folder / "report.md").read_text()


def test_what_is_tuned_is_tuned_by_the_metric_that_decides(
    write_study: WriteStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Metric] = []

    def tune(*_: Any, metric: Metric, **__: Any) -> Tuned:
        asked.append(metric)
        return Tuned(0.1, {0.1: 0.5}, Cost())

    monkeypatch.setattr(tuning, "tune", tune)
    source = {"revision": "r", "samples": 120, "task": Classification(3, counts=(100, 10, 10)).state()}
    digests = []
    for changes in ({}, {"metric": "balanced_accuracy"}, {"metric": "loss"}):
        study = write_study(**changes).study
        assert isinstance(study, Study)
        selection, signals = study.selections["coverage_centric"], {"aum": np.zeros(120, np.float32)}
        digests.append(tuning.made_of(study, selection, signals, pl.DataFrame(), source)["metric"])
        tuning.tuned(study, selection, range(120), signals, pl.DataFrame(), 60, metrics_of(study, source)[0], None)  # type: ignore[arg-type]
    assert digests == ["balanced_accuracy", "balanced_accuracy", "loss"]
    assert [metric.name for metric in asked] == digests
    assert not asked[2].higher_is_better


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metric": "acuracy"}, "metric of classification: there is no 'acuracy'; did you mean 'accuracy'? there are: "
         "accuracy, auroc, average_precision, balanced_accuracy, calibration_error, loss, macro_f1, worst_class"),
        ({"metric": "r2"}, "metric of classification: there is no 'r2'"),
        ({"metric": "rmse_y", "task": "regression"}, "metric of regression: there is no 'rmse_y'"),
        ({"metric": "micro_f2", "task": "multi_label"}, "metric of multi_label: there is no 'micro_f2'; did you mean "
         "'micro_f1'? there are: loss, macro_f1, mean_average_precision, micro_f1"),
    ],
)  # fmt: skip
def test_a_metric_that_there_is_not_is_refused_when_the_study_loads(
    write_study: WriteStudy, changes: dict[str, Any], said: str
) -> None:
    scores = {"loss": None}
    with pytest.raises(StudyError) as error:
        write_study(scores=scores, selections={"hardest": {"selector": "top", "score": "loss"}}, **changes)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("metric", "label"), [("mae", "y"), ("r2_y", ["x", "y"]), ("rmse_y[2]", "y")], ids=["one", "several", "lists"]
)
def test_metrics_of_numbers_go_by_their_columns(write_study: WriteStudy, metric: str, label: Any) -> None:
    columns, scores = {"features": ["z"], "label": label}, {"loss": None}
    selections = {"hardest": {"selector": "top", "score": "loss"}}
    file = write_study(scores=scores, selections=selections, columns=columns, task="regression", metric=metric)
    assert file.study
    assert file.study.metric == metric


def test_a_metric_that_the_data_do_not_have_is_refused_before_anything_is_trained(write_study: WriteStudy) -> None:
    done = CliRunner().invoke(app, ["run", str(write_study(metric="auroc").path)])
    said = (
        "metric: auroc cannot be measured on the test samples: it is of two classes, the data have 3; correct these, "
    )
    assert f"{said}or name one of accuracy, balanced_accuracy," in str(done.exception)
    assert not Store(marked_home() / "assets").find(("blobs", "proxy"))


def test_average_precision_of_a_class_that_test_or_held_out_samples_lack_is_refused_before_training(
    tmp_path: Path,
) -> None:
    path = rare_study(tmp_path)
    rare(400, 1, share=0.0).write_csv(tmp_path / "data" / "test.csv")
    done = CliRunner().invoke(app, ["run", str(path)])
    assert "metric: average_precision cannot be measured on the test samples: no row is of class 'fraud'" in str(
        done.exception
    )
    path = rare_study(tmp_path, selections={"coverage_centric": {"score": "aum"}}, scores={"aum": None})
    rare(1300, 0, share=2 / 1300).write_csv(tmp_path / "data" / "train.csv")
    done = CliRunner().invoke(app, ["run", str(path)])
    assert "validation.fraction: average_precision decides, and cannot be measured on the 0.2 of the" in str(
        done.exception
    )
    assert not Store(marked_home() / "assets").find(("rare", "proxy"))


@pytest.mark.parametrize(
    ("recall", "whole", "samples", "lost"),
    [
        (0.01, 0.6, 40, True),
        (0.14, 0.6, 40, True),
        (0.15, 0.6, 40, False),  # a quarter of the recall is left
        (0.0, 0.09, 1000, False),  # recall below ten points
        (0.0, 0.5, 9, False),  # fewer than five samples
        (0.0, 0.5, 10, True),
        (0.9, 0.5, 40, False),
    ],
)
def test_a_class_is_lost_by_share_points_and_samples(recall: float, whole: float, samples: int, lost: bool) -> None:
    assert is_lost(recall, whole, samples) is lost


def test_a_search_goes_by_accuracy_alone(tmp_path: Path) -> None:
    content = yaml.safe_load((SHIPPED / "digits_search.yaml").read_text())
    with pytest.raises(StudyError, match="metric: a search goes by accuracy; leave it out"):
        validated(content | {"metric": "loss"}, tmp_path / "search.yaml")


def test_init_says_that_a_class_is_rare_and_writes_a_metric_and_a_class_policy(tmp_path: Path) -> None:
    rare(1300, 0).write_csv(tmp_path / "rare.csv")
    rare(300, 0, share=0.4).write_csv(tmp_path / "even.csv")
    target = tmp_path / "mine.yaml"
    answer = json.loads(shell("init", str(tmp_path / "rare.csv"), "-o", str(target), "--json").stdout)
    [finding] = answer["findings"]
    assert (finding["kind"], finding["split"]) == ("rare class", "train")
    assert "less than half of an even share, so accuracy hides its errors" in finding["text"]
    written = yaml.safe_load(target.read_text())
    assert written["metric"] == "average_precision"
    assert "# The deciding metric, of 'fraud', the rare class. There are accuracy," in target.read_text()
    assert written["selections"]["hardest_by_class"]["classes"] == {"policy": "balanced"}
    answer = json.loads(shell("init", str(tmp_path / "even.csv"), "-o", str(target), "--overwrite", "--json").stdout)
    assert answer["findings"] == []
    assert "# metric: accuracy # decides, for no class is rare" in target.read_text()
    written = yaml.safe_load(target.read_text())
    assert "metric" not in written
    assert "hardest_by_class" not in written["selections"]
