"""An audit of rows with several labels or numbers, and of conversations with a label: the wrong labels of each row, and
features that give a label away; beside cleanlab on the same predictions."""

import builtins
import importlib.util
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

import secateur as sc
from secateur.pipelines.audits.checks.label_leaks import Target, tell_tales
from secateur.pipelines.audits.suspects import Suspects
from secateur.pipelines.commands.main import app
from secateur.trainers.judging.by_cleanlab import classes_by_cleanlab, label_sets_by_cleanlab
from secateur.trainers.judging.wrong_labels import wrong_label_sets
from tests.support.planted import TOPICS, WORDS

ROWS, WRONG, FEW = 600, 40, 150
"""Rows, the first ones of which have one label too many or too few."""
NAMES = sorted(TOPICS)
Tickets = tuple[list[str], np.ndarray, np.ndarray]
"""Texts, their labels as in a file, bool `[n, 3]`, and a mask of their wrong entries."""


@pytest.fixture(scope="module")
def tickets() -> Tickets:
    """Texts with words of one to three topics, which are their labels; one label is wrong in each of the first rows."""
    rng, texts = random.Random(0), list[str]()
    there = np.array([[rng.random() < 0.45 for _ in NAMES] for _ in range(ROWS)])
    for row in there:
        words = [rng.choice(TOPICS[name]) for name, own in zip(NAMES, row, strict=True) if own for _ in range(4)]
        words += [rng.choice(WORDS) for _ in range(8)]
        rng.shuffle(words)
        texts.append(" ".join(words))
    wrong = np.zeros(there.shape, bool)
    wrong[np.arange(WRONG), np.arange(WRONG) % len(NAMES)] = True
    return texts, there ^ wrong, wrong


def as_lists(labels: np.ndarray) -> list[list[str]]:
    """The names of the labels of each row."""
    return [[name for name, own in zip(NAMES, row, strict=True) if own] for row in labels]


def names_in(shown: str) -> set[str]:
    """Labels in the form of the table of findings."""
    return set() if shown == "no label" else set(shown.split(", "))


def shell(*words: str) -> tuple[dict[str, Any], str]:
    """The answer of `secateur audit … --json`, and the printed findings."""
    done = CliRunner().invoke(app, ["audit", *words, "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer, " ".join(one["text"] for one in answer["findings"])


def test_the_command_says_which_label_of_which_row_is_wrong(tickets: Tickets, tmp_path: Path) -> None:
    texts, labels, wrong = tickets
    pl.DataFrame({"body": texts, "topics": as_lists(labels)}).write_ndjson(tmp_path / "tickets.jsonl")
    answer, _ = shell(
        str(tmp_path / "tickets.jsonl"), "--label", "topics", "--text", "body", "--write", str(tmp_path / "audit")
    )
    told = answer["wrong_labels"]["train"]
    assert told["low"] <= WRONG <= told["high"]
    [found] = [one for one in answer["findings"] if one["kind"] == "wrong labels"]
    assert f"of {3 * ROWS:,} train entries are wrong" in found["text"]
    assert all(f"'{name}' in " in found["text"].partition("; disputed are ")[2] for name in NAMES)
    lines = pl.read_parquet(tmp_path / "audit" / "findings.parquet").filter(pl.col("finding") == "wrong labels")
    hits = [
        line["row"] < WRONG and line["disputed"].split(", ")[0] == NAMES[line["row"] % 3]
        for line in lines.iter_rows(named=True)
    ]
    assert sum(hits) >= 0.9 * WRONG
    right = as_lists(labels ^ wrong)
    for line in lines.filter(pl.col("row") < WRONG).iter_rows(named=True):
        given = names_in(line["given"])
        assert given == set(as_lists(labels)[line["row"]])
        if names_in(line["suggested"]) == set(right[line["row"]]):
            assert names_in(line["disputed"]) == given ^ set(right[line["row"]])
    page = (tmp_path / "audit" / "audit.html").read_text()
    assert page.count("<span>disputed ") == min(len(lines), 60 + 20)
    tasks = json.loads((tmp_path / "audit" / "label_studio" / "labels.json").read_text())
    assert [task["data"]["disputed"] for task in tasks[20:]] == lines.filter(~pl.col("to_mark"))["disputed"].to_list()
    for task in tasks:
        for prediction in task["predictions"]:
            assert set(prediction["result"][0]["value"]["choices"]) <= set(NAMES)
    for path in (tmp_path / "audit" / "manifests").glob("without_suspects*"):
        assert sc.Manifest.load(path).apply(str(tmp_path / "tickets.jsonl"), output=tmp_path / f"{path.name}.jsonl")


def test_wrong_entries_are_compared_with_entries_and_their_rows_listed_once(tickets: Tickets, tmp_path: Path) -> None:
    """Two wrong entries in each of the first rows: 40 entries of 1,800 are 2.2 %, and 6.7 % of 600 rows."""
    texts, labels, wrong = tickets
    twice = wrong.copy()
    twice[: WRONG // 2] = twice[: WRONG // 2] | np.roll(wrong[: WRONG // 2], 1, axis=1)
    twice[WRONG // 2 :] = False
    table = pl.DataFrame({"body": texts, "topics": as_lists(labels ^ wrong ^ twice)})
    table.write_ndjson(tmp_path / "twice.jsonl")
    out = tmp_path / "audit"
    asked = [str(tmp_path / "twice.jsonl"), "--label", "topics", "--text", "body", "--exact"]
    answer, said = shell(*asked, "--max-wrong-labels", "5%", "--write", str(out))
    told = answer["wrong_labels"]["train"]
    assert (answer["exceeded"], told["entries"]) == ([], 3 * ROWS)
    assert told["low"] <= WRONG <= told["high"]
    listed = answer["findings"][0]["count"]
    assert f"the {listed} rows that hold the likeliest are listed" in said
    assert listed <= 0.75 * told["count"]
    rows = {row for _, row in answer["findings"][0]["rows"]}
    assert len(rows & set(range(WRONG // 2))) >= 0.9 * WRONG // 2
    kept = sc.Manifest.load(out / "manifests" / "without_suspects").apply(table)
    assert len(kept) == ROWS - listed
    share, number = (shell(*asked, "--max-wrong-labels", one)[0]["exceeded"] for one in ("0.01", "1"))
    count = f"{told['count']:,.0f} wrong labels of 1,800"
    assert share == [f"{count} train entries exceed the limit of 1.00% of the entries"]
    assert number == [f"{count} entries exceed the limit of 1 entry"]


def test_rows_of_the_likeliest_entries_are_those_of_a_sorted_list() -> None:
    rng = np.random.default_rng(3)
    targets = rng.random((80, 4)) < 0.5
    sure = np.where(rng.random(targets.shape) < 0.08, ~targets, targets) * 0.9 + 0.05 * rng.random(targets.shape)
    some = Suspects(np.arange(80), wrong_label_sets(sure, targets), sure)
    assert some.wrong.entries is not None
    entries = sorted(((-value, row) for row, each in enumerate(some.wrong.entries.tolist()) for value in each))
    rows = [row for _, row in entries[: round(some.wrong.count)]]
    assert len(set(rows)) < len(rows)
    assert some.listed.tolist() == list(dict.fromkeys(rows))


def test_columns_of_0_and_1_are_several_labels(tickets: Tickets) -> None:
    texts, labels, _ = tickets
    table = pl.DataFrame({"body": texts, **{name: labels[:, at].astype(int) for at, name in enumerate(NAMES)}})
    found = sc.audit(table, text="body", label=NAMES, near=False, progress=False)
    assert "task: multi_label" in " ".join(found.summary["notes"])
    first = found.labels.head(WRONG // 2)
    assert (first["row"] < WRONG).all()
    assert first["disputed"].str.split(", ").list.first().to_list() == [NAMES[row % 3] for row in first["row"]]


def test_several_labels_are_ranked_no_worse_than_by_cleanlab(tickets: Tickets) -> None:
    from cleanlab.multilabel_classification.rank import get_label_quality_scores

    _, labels, wrong = tickets
    rng = np.random.default_rng(0)
    truth = labels ^ wrong
    sure = np.clip(np.where(truth, 0.8, 0.2) + rng.normal(0, 0.15, truth.shape), 0.01, 0.99)
    ours = wrong_label_sets(sure, labels)
    for method in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
        theirs = get_label_quality_scores([np.flatnonzero(row).tolist() for row in labels], sure, method=method)
        assert roc_auc_score(wrong.any(axis=1), ours.score) > roc_auc_score(wrong.any(axis=1), -theirs) - 0.005
    assert ours.entries is not None
    np.testing.assert_array_equal(ours.entries.max(axis=1), ours.score)
    p = np.where(labels, 1 - sure, sure)
    np.testing.assert_allclose(ours.entries, np.log((p + 0.01) / (1 - p + 0.01)), rtol=1e-5, atol=1e-6)
    assert roc_auc_score(wrong.ravel(), ours.entries.ravel()) > 0.98


def test_labels_by_cleanlab_are_what_cleanlab_says(tickets: Tickets, tmp_path: Path) -> None:
    from cleanlab.count import num_label_issues
    from cleanlab.rank import get_label_quality_scores

    texts, labels, wrong = tickets
    truth = (labels ^ wrong)[:, 0].astype(int)
    given = np.where(np.arange(ROWS) < WRONG, 1 - truth, truth)
    sure = np.clip(np.where(truth[:, None] == [0, 1], 0.85, 0.15), 0, 1)
    table = pl.DataFrame({"body": texts, "label": np.array(["no", "yes"])[given]})
    table.write_csv(tmp_path / "t.csv")
    np.save(tmp_path / "own.npy", sure)
    asked = ["--probabilities", str(tmp_path / "own.npy"), "--by", "cleanlab", "--exact"]
    answer, said = shell(str(tmp_path / "t.csv"), "--text", "body", "--label", "label", *asked)
    told, count = answer["wrong_labels"]["train"], int(num_label_issues(given, sure))
    assert (told["count"], told["low"], told["high"]) == (count, None, None) == (WRONG, None, None)
    assert f"about {WRONG} of {ROWS} train labels are wrong (by cleanlab)" in said
    found = classes_by_cleanlab(sure, given)
    np.testing.assert_allclose(found.score, 1 - get_label_quality_scores(given, sure), rtol=1e-6)
    assert set(found.order[:count].tolist()) == set(range(WRONG))
    answer, said = shell(
        str(tmp_path / "t.csv"), "--text", "body", "--label", "label", *asked, "--max-wrong-labels", "9"
    )
    assert len(answer["exceeded"]) == 1


def test_several_labels_by_cleanlab_are_what_cleanlab_says(tickets: Tickets) -> None:
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class
    from cleanlab.multilabel_classification.rank import get_label_quality_scores

    _, labels, wrong = tickets
    sure = np.where(labels ^ wrong, 0.85, 0.15)
    found = label_sets_by_cleanlab(sure, labels)
    lists = [np.flatnonzero(row).tolist() for row in labels]
    assert found.count == np.sum(find_multilabel_issues_per_class(lists, sure, n_jobs=1)) == WRONG
    np.testing.assert_allclose(found.score, 1 - get_label_quality_scores(lists, sure), rtol=1e-6)
    assert found.entries is not None
    assert (found.entries.argmax(axis=1)[:WRONG] == wrong.argmax(axis=1)[:WRONG]).all()


def test_cleanlab_is_asked_for_and_must_be_there(tickets: Tickets, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    numbers = pl.DataFrame({"x": rng.normal(size=80), "z": rng.normal(size=80)}).with_columns(y=pl.col("x") * 2)
    asked: dict[str, Any] = {"label": "y", "features": ["x", "z"], "progress": False}
    with pytest.raises(ValueError, match="of numbers cleanlab counts nothing"):
        sc.audit(numbers, **asked, by="cleanlab")
    with pytest.raises(ValueError, match="by 'clean': nobody of this name judges labels; write cleanlab"):
        sc.audit("there is no such file.csv", by="clean")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "cleanlab" else find(name, *rest)
    )
    real = builtins.__import__

    def refusing(name: str, *rest: Any, **words: Any) -> Any:
        assert name.partition(".")[0] != "cleanlab"
        return real(name, *rest, **words)

    monkeypatch.setattr(builtins, "__import__", refusing)
    with pytest.raises(ImportError, match="install the extra `cleanlab`"):
        sc.audit("there is no such file.csv", by="cleanlab")
    done = CliRunner().invoke(app, ["audit", "nowhere.csv", "--by", "cleanlab"])
    assert isinstance(done.exception, ImportError)
    table = pl.DataFrame({"body": tickets[0][:80], "label": np.where(tickets[1][:80, 0], "yes", "no")})
    assert sc.audit(table, near=False, progress=False).summary["wrong_labels"]["train"]["labelled"] == 80


def test_what_alone_gives_one_label_of_several(tickets: Tickets) -> None:
    """A column that is a label by another name, a word that stands in all texts with a label, and neither."""
    texts, labels = tickets[0][:FEW], tickets[1][:FEW]
    rng = np.random.default_rng(0)
    features = pl.DataFrame(
        {"x": rng.normal(size=FEW), "code": np.where(labels[:, 1], "d7", "d9"), "z": labels[:, 2] * 2.5}
    )
    table = features.with_columns(topics=pl.Series(as_lists(labels)))
    found = sc.audit(table, features=["x", "code", "z"], label="topics", near=False, progress=False)
    said = [one["text"] for one in found.findings if one["kind"] == "label leak"]
    assert said == [
        f"column '{column}' alone gives the label '{NAMES[at]}': it avoids 100.0% of the mistakes of a constant guess"
        for column, at in (("code", 1), ("z", 2))
    ]
    both = table.with_columns(code=pl.Series(["/".join(each) for each in as_lists(labels)]))
    found = sc.audit(both, features=["x", "code"], label="topics", near=False, progress=False)
    [said_of_all] = [one["text"] for one in found.findings if one["kind"] == "label leak"]
    assert said_of_all.startswith(
        "column 'code' alone gives the labels 'billing', 'delivery', 'login': it avoids at least"
    )
    marked = [f"{text} [esc]" if own else text for text, own in zip(texts, labels[:, 0], strict=True)]
    for body, expected in ((marked, ["a single word of the text gives a label: '[esc]' gives 'billing'"]), (texts, [])):
        table = pl.DataFrame({"body": body, "topics": as_lists(labels)})
        found = sc.audit(table, text="body", label="topics", near=False, progress=False)
        assert [one["text"] for one in found.findings if one["kind"] == "label leak"] == expected


def test_what_alone_gives_one_number_of_several() -> None:
    rng = np.random.default_rng(0)
    width, height = rng.normal(size=2000), rng.normal(size=2000)
    features = pl.DataFrame({"x": rng.normal(size=2000), "copy": 1 / (9 + width)})
    [found] = tell_tales(features, [Target("width", width), Target("height", height)], "column")
    assert found.says.startswith("column 'copy' alone gives the target 'width': it explains 9")


def test_the_command_says_which_of_several_numbers_is_wrong(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pl.DataFrame(rng.normal(size=(150, 2)), schema=["a", "b"])
    a, b = table["a"].to_numpy(), table["b"].to_numpy()
    width, height = a + b + 0.3 * rng.normal(size=150), a - b + 0.3 * rng.normal(size=150)
    height[:6] += 40.0
    table.with_columns(width=pl.Series(width), height=pl.Series(height)).write_csv(tmp_path / "sizes.csv")
    asked = ["--label", "width", "--label", "height", "--task", "regression", "--findings", str(tmp_path / "f.parquet")]
    answer, said = shell(str(tmp_path / "sizes.csv"), *asked, "--exact")
    told = answer["wrong_labels"]["train"]
    assert told["low"] <= 6 <= told["high"]
    lines = pl.read_parquet(tmp_path / "f.parquet").filter(pl.col("finding") == "wrong labels")
    assert sorted(lines["row"][:6]) == list(range(6))
    assert set(lines["disputed"][:6]) == {"height"}
    assert "'height' in 6" in said


def test_labels_of_conversations_are_judged(tickets: Tickets, tmp_path: Path) -> None:
    """From a file of messages with a label, some of another class, to findings, manifest and exports."""
    rng, rows, truth = random.Random(1), list[dict[str, Any]](), list[str]()
    for row in range(400):
        name = rng.choice(NAMES)
        truth.append(name)
        asked = " ".join([*(rng.choice(TOPICS[name]) for _ in range(4)), *(rng.choice(WORDS) for _ in range(6))])
        given = rng.choice([other for other in NAMES if other != name]) if row < WRONG else name
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": f"noted {rng.choice(WORDS)}"}]
        rows.append({"messages": turns, "intent": given})
    path = tmp_path / "chat.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answer, _ = shell(str(path), "--label", "intent", "--write", str(tmp_path / "audit"))
    told = answer["wrong_labels"]["train"]
    assert told["low"] <= WRONG <= told["high"]
    lines = pl.read_parquet(tmp_path / "audit" / "findings.parquet").filter(pl.col("finding") == "wrong labels")
    listed = lines.filter(pl.col("row") < WRONG)
    assert len(listed) >= 0.9 * WRONG
    assert listed["suggested"].to_list() == [truth[row] for row in listed["row"]]
    assert lines["file"].unique().to_list() == [str(path)]
    assert lines["disputed"].null_count() == len(lines)
    tasks = json.loads((tmp_path / "audit" / "label_studio" / "labels.json").read_text())
    assert rows[tasks[0]["data"]["row"]]["messages"][0]["content"] in tasks[0]["data"]["sample"]
    kept = sc.Manifest.load(tmp_path / "audit" / "manifests" / "without_suspects").apply(pl.DataFrame(rows))
    assert len(kept) == 400 - answer["findings"][0]["count"]
    assert kept["messages"].to_list() == [rows[row]["messages"] for row in sorted(set(range(400)) - set(lines["row"]))]
