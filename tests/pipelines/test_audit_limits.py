"""Limits of an audit: their counts, part by part, and that none passes without a comparison."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.pipelines.test_audit import shell
from tests.support.planted import Planted, planted


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """Files of texts with leaks, copies and conflicts at known rows."""
    return planted(tmp_path_factory.mktemp("texts"))


@pytest.mark.parametrize(("limit", "code"), [("0", 1), ("1", 1), ("2", 0), ("50%", 1)])
def test_a_limit_of_overlap_is_of_benchmarks(texts: Planted, limit: str, code: int) -> None:
    asked = [str(texts.train), "--test", str(texts.test), "--against", str(texts.benchmark), "--text", "body"]
    done, answer, _ = shell(*asked, "--max-overlap", limit)
    assert (done, len(answer["exceeded"])) == (code, code)


def test_a_limit_of_overlap_is_exceeded_where_nobody_looked(texts: Planted) -> None:
    told = ["overlap was not looked at: it is counted in texts, and not with --exact"]
    asked = [str(texts.train), "--against", str(texts.benchmark), "--text", "body", "--exact", "--max-overlap", "0"]
    code, answer, _ = shell(*asked)
    assert (code, answer["exceeded"]) == (1, told)


@pytest.mark.parametrize("limit", ["x", "-1", "120%", "1.5"])
def test_a_limit_that_is_none_is_refused_before_anything_is_read(limit: str) -> None:
    with pytest.raises(ValueError, match=r"--max-leaks .*a number of rows such as 0 or 12, or a share"):
        shell("there_is_no_such_file.csv", f"--max-leaks={limit}")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--max-leaks", "0"], "--max-leaks: nothing stands beside the training rows"),
        (["--max-overlap", "0"], "--max-overlap: there is no benchmark"),
        (["--test", "test", "--max-overlap", "0"], "--max-overlap: there is no benchmark"),
        (["--max-conflicts", "0"], "--max-conflicts: no column of labels is known"),
        (["--max-wrong-labels", "0"], "--max-wrong-labels: no column of labels is known"),
        (["--no-label", "--max-conflicts", "0"], "--max-conflicts: no column of labels is known"),
    ],
)
def test_a_limit_of_what_is_not_there_is_refused_before_rows_are_compared(
    texts: Planted, options: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compared(*_: object, **__: object) -> None:
        raise AssertionError("rows were compared before the limit was refused")

    monkeypatch.setattr("secateur.pipelines.audits.auditing.audited", compared)
    words = [str(texts.test) if word == "test" else word for word in options]
    with pytest.raises(ValueError, match=re.escape(told)):
        shell(str(texts.train), "--text", "body", "--exact", *words)


def test_a_share_holds_for_each_part_by_itself(texts: Planted, tmp_path: Path) -> None:
    """2 of 3 rows of the benchmark leak, of test and benchmarks together 5 % of 200."""
    many = tmp_path / "many.csv"
    pl.DataFrame({"body": [f"word{row} of its own" for row in range(200)]}).write_csv(many)
    asked = [str(texts.train), "--text", "body", "--exact", "--against", str(many), "--against", str(texts.benchmark)]
    code, answer, errors = shell(*asked, "--max-leaks", "5%")
    assert answer["leaks_by_part"] == {str(many): 0, str(texts.benchmark): 2}
    assert (code, answer["exceeded"]) == (
        1,
        [f"2 leaks of 3 {texts.benchmark} rows exceed the limit of 5.00% of the rows"],
    )
    assert errors.startswith("error: 2 leaks of 3 ")
    assert shell(*asked, "--max-leaks", "67%")[0] == 0
    assert shell(*asked, "--max-leaks", "1")[1]["exceeded"] == ["2 leaks of 203 rows exceed the limit of 1 row"]


def test_a_weak_model_ranks_labels_and_counts_none(tmp_path: Path) -> None:
    """Four classes of which the features identify 4 in 10 rows: better than chance, and too few to count mistakes."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, 600)
    seen = np.where(rng.random(600) < 0.4, label, rng.integers(0, 4, 600))
    table = pl.DataFrame({f"x{at}": (seen == at) + 0.3 * rng.normal(size=600) for at in range(4)})
    table.with_columns(label=pl.Series([f"class {one}" for one in label])).write_csv(tmp_path / "weak.csv")
    asked = ["--label", "label", "--max-wrong-labels", "100%", "--write", str(tmp_path / "audit")]
    code, answer, _ = shell(str(tmp_path / "weak.csv"), *asked)
    told = answer["wrong_labels"]["train"]
    assert 0.3 < told["accuracy"] < 0.5
    assert (told["count"], told["low"], told["high"]) == (None, None, None)
    reason = f"the model predicts only {told['accuracy']:.0%} of them: below 50% its own mistakes count as wrong ones"
    assert told["reason"] == reason
    assert (code, answer["exceeded"]) == (1, [f"how many wrong labels there are is not known: {reason}"])
    [found] = [one for one in answer["findings"] if one["kind"] == "wrong labels"]
    assert found["text"] == (
        f"unknown how many of 600 train labels are wrong: {reason}; the 100 likeliest rows are listed"
    )
    assert not list((tmp_path / "audit").glob("manifests/without_suspects*"))
