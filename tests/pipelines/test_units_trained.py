"""Quotas of a column, whole groups and budgets of a column in studies that train: from the file to the report."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
import yaml

from secateur.pipelines.assets.data import prepared
from secateur.pipelines.assets.unit_columns import each_its_own
from secateur.pipelines.data.sources import SourceError
from secateur.pipelines.manifests.explain import arrays_of, explain
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.materialise import run_study, to_make
from secateur.pipelines.studies.files import StudyError, StudyFile, load_study
from secateur.pipelines.studies.samples import Study

COUNT = 300
SOURCES = ["web", "code", "maths"]
CONTENT: dict[str, Any] = {
    "name": "calls",
    "source": {"kind": "parquet", "train": "train.parquet", "test": "test.parquet"},
    "columns": {"features": ["x", "y"], "label": "label"},
    "scores": {"grade": {"column": "grade", "high_means": "better"}},
    "selections": {"best": {"selector": "top", "score": "grade"}},
    "training": {"model": "mlp", "model_settings": {"hidden": [4]}, "steps": 3, "batch_size": 32},
    "keep": [0.3],
    "seeds": 1,
}


def rows(count: int, seed: int) -> pl.DataFrame:
    """Calls of customers, several each: their source, their duration in seconds, and a unique grade."""
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "x": rng.normal(size=count).astype(np.float32),
            "y": rng.normal(size=count).astype(np.float32),
            "label": [f"class {place % 2}" for place in range(count)],
            "grade": rng.permutation(count).astype(np.float64),
            "source": rng.choice(SOURCES, count, p=[0.7, 0.2, 0.1]),
            "customer": [f"c{number}" for number in rng.integers(0, 70, count)],
            "seconds": rng.integers(5, 500, count),
        }
    )


def written(folder: Path, **change: Any) -> StudyFile:
    """The study with some keys changed, beside its data."""
    rows(COUNT, 0).write_parquet(folder / "train.parquet")
    rows(60, 1).write_parquet(folder / "test.parquet")
    path = folder / "calls.yaml"
    path.write_text(yaml.safe_dump(CONTENT | change))
    return StudyFile(path, load_study(path))


def run(file: StudyFile, **how: Any) -> Any:
    with dg.DagsterInstance.ephemeral() as instance:
        return run_study(file, file.path.parent / "assets", instance, **how)


def kept(folder: Path, selection: str, seed: int = 0) -> Manifest:
    return Manifest.load(folder / "assets" / "calls" / "manifest" / selection / str(seed), verify=True)


def report_of(folder: Path) -> tuple[str, dict[str, Any]]:
    place = folder / "assets" / "calls" / "report"
    return (place / "report.md").read_text(), json.loads((place / "report.json").read_text())


def by_hand(order: Iterator[Any], members: dict[Any, list[int]], costs: np.ndarray, limit: float) -> set[int]:
    """Rows of units that a walk in their order takes, each that still fits."""
    taken, left = set[int](), limit
    for unit in order:
        if (cost := sum(costs[row] for row in members[unit])) <= left:
            taken |= set(members[unit])
            left -= cost
    return taken


def members_of(table: pl.DataFrame) -> dict[Any, list[int]]:
    found: dict[Any, list[int]] = {}
    for row, customer in enumerate(table["customer"]):
        found.setdefault(customer, []).append(row)
    return found


def test_values_of_a_column_share_the_budget_of_a_study_that_trains(tmp_path: Path) -> None:
    share = {"web": 0.5, "code": 0.4}
    selections = {
        "best": {"selector": "top", "score": "grade", "by": "source", "share": share},
        "evenly": {"selector": "uniform_random", "by": "source", "share": "balanced"},
        "alike": {"selector": "top", "score": "grade", "by": "source"},
    }
    file = written(tmp_path, selections=selections)
    run(file)
    table = rows(COUNT, 0)
    held, grades = dict(table["source"].value_counts().iter_rows()), table["grade"].to_numpy()
    wanted = set[int]()
    for source, part in {"web": 45, "code": 36}.items():
        own = [row for row in range(COUNT) if table["source"][row] == source]
        wanted |= set(sorted(own, key=lambda row: -grades[row])[:part])
    assert set(kept(tmp_path, "best@0.3").rows.tolist()) == wanted
    evenly = dict(table["source"].gather(kept(tmp_path, "evenly@0.3").rows).value_counts().iter_rows())
    assert evenly["maths"] == held["maths"] < 30
    assert sum(evenly.values()) == 90
    assert abs(evenly["web"] - evenly["code"]) <= 1
    alike = table["source"].gather(kept(tmp_path, "alike@0.3").rows).value_counts()
    assert all(abs(count - 0.3 * held[name]) < 1 for name, count in alike.iter_rows())
    said = kept(tmp_path, "best@0.3").provenance
    assert (said.settings["by"], said.settings["share"]) == ("source", share)
    assert said.spent is not None
    assert (said.spent.limit, said.spent.total) == (90, 81)
    text, told = report_of(tmp_path)
    assert [(one["selection"], one["left"]) for one in told["budgets"]["kept"]] == [("best@0.3", 9)]
    assert "Budgets in rows" in text
    assert to_make(file, tmp_path / "assets", list(file.study.trials))[0] == {}


def test_groups_are_kept_whole_by_selections_and_by_random_rows(tmp_path: Path) -> None:
    columns = CONTENT["columns"] | {"group": "customer"}
    run(written(tmp_path, columns=columns, keep=[0.3, 51], seeds=2))
    table = rows(COUNT, 0)
    members, grades = members_of(table), table["grade"].to_numpy()
    for budget, limit in (("0.3", 90), ("51", 51)):
        # The position of a group is the mean of its grades.
        order = sorted(members, key=lambda customer: -np.mean(grades[members[customer]]))
        best = kept(tmp_path, f"best@{budget}")
        assert set(best.rows.tolist()) == by_hand(iter(order), members, np.ones(COUNT), limit)
        for name in ("best", "uniform_random", "stratified_random"):
            for seed in (0, 1):
                one = kept(tmp_path, f"{name}@{budget}", seed)
                chosen = set(one.rows.tolist())
                touched = {table["customer"][row] for row in chosen}
                assert chosen == {row for customer in touched for row in members[customer]}
                smallest = min(len(own) for customer, own in members.items() if customer not in touched)
                assert 0 <= limit - len(chosen) < smallest
                spent = one.provenance.spent
                assert spent is not None
                assert one.provenance.keep == (0.3 if budget == "0.3" else 51)
                assert (spent.unit, spent.group, spent.groups) == ("rows", "customer", len(touched))
                assert (spent.limit, spent.total, spent.whole) == (limit, len(chosen), COUNT)
    best = kept(tmp_path, "best@51")
    row = int(best.rows[0])
    said = explain(best, row, arrays_of(best, tmp_path / "assets" / "calls")).sentence
    name, own = table["customer"][row], members[table["customer"][row]]
    assert f"samples of equal customer stay or go together, and its group {name!r} stays" in said
    assert f"group's {len(own)} sample" in said
    assert f"{np.mean(grades[own]):.4g}" in said
    random = [set(kept(tmp_path, "uniform_random@51", seed).rows.tolist()) for seed in (0, 1)]
    assert random[0] != random[1]
    text, told = report_of(tmp_path)
    assert "Rows of equal customer stay or go together" in text
    totals = {one["selection"]: one["totals"] for one in told["budgets"]["kept"]}
    assert totals["best@51"] == [len(kept(tmp_path, "best@51", seed).rows) for seed in (0, 1)]
    assert told["budgets"]["group"] == "customer"


@pytest.mark.parametrize("keep", [{"seconds": 0.3}, [{"seconds": 20000}, {"seconds": 9000}]])
def test_a_budget_of_a_column_is_never_exceeded(keep: Any, tmp_path: Path) -> None:
    columns = CONTENT["columns"] | ({"group": "customer"} if isinstance(keep, list) else {})
    file = written(tmp_path, columns=columns, keep=keep)
    run(file)
    table = rows(COUNT, 0)
    costs, grades = table["seconds"].to_numpy(), table["grade"].to_numpy()
    members = members_of(table) if isinstance(keep, list) else {row: [row] for row in range(COUNT)}
    order = sorted(members, key=lambda unit: -np.mean(grades[members[unit]]))
    for amount in (20000, 9000) if isinstance(keep, list) else (0.3,):
        limit = amount if isinstance(amount, int) else amount * costs.sum()
        best = kept(tmp_path, f"best@{amount}")
        assert set(best.rows.tolist()) == by_hand(iter(order), members, costs, limit)
        assert best.provenance.keep == {"seconds": amount}
        for name in ("best", "uniform_random", "stratified_random"):
            one = kept(tmp_path, f"{name}@{amount}")
            chosen, spent = set(one.rows.tolist()), one.provenance.spent
            left = limit - costs[one.rows].sum()
            others = [costs[own].sum() for own in members.values() if not chosen & set(own)]
            assert spent is not None
            assert spent.total == costs[one.rows].sum() == one.table["cost"].sum()
            assert 0 <= left < min(others)
    text, told = report_of(tmp_path)
    assert (told["budgets"]["unit"], told["budgets"]["whole"]) == ("seconds", costs.sum())
    assert "Budgets are of seconds" in text
    assert to_make(file, tmp_path / "assets", list(file.study.trials))[0] == {}


GROUPED = {"columns": CONTENT["columns"] | {"group": "customer"}}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({**GROUPED, "selections": {"rs2": None}}, "rs2 draws single rows anew in each epoch"),
        ({**GROUPED, "selections": {"info_batch": {"budget": "own"}}}, "tears apart rows that columns.group keeps"),
        ({"keep": {"seconds": 0.3}, "selections": {"rs2": None}}, "rs2 counts rows of an epoch, no seconds"),
        ({**GROUPED, "selections": {"best": {"selector": "top", "score": "grade", "classes": {"floor": 2}}}}, "floor"),
        ({"selections": {"rs2": {"by": "source"}}}, "draws the rows of each epoch by its own rule"),
        (
            {"selections": {"uniform_random": {"by": "source", "classes": {"policy": "balanced"}}}},
            "classes share the budget already",
        ),
        ({"selections": {"uniform_random": {"share": "balanced"}}}, "say by which column with by"),
        ({"selections": {"uniform_random": {"by": "source", "share": {"web": 0.7, "code": 0.7}}}}, "add up to 1"),
        ({"keep": [{"seconds": 100}, {"tokens": 5}]}, "budgets of one column, got seconds, tokens"),
        ({"keep": {"rows": 0.3}}, "rows are counted without a name"),
    ],
)
def test_selections_that_cannot_keep_to_it_are_refused_when_the_study_loads(
    change: dict[str, Any], fault: str, tmp_path: Path
) -> None:
    with pytest.raises(StudyError) as error:
        written(tmp_path, **change)
    assert fault in str(error.value)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"keep": [{"seconds": 10_000_000}]}, "keep: 10,000,000 seconds are more than the"),
        ({"keep": [{"seconds": 1}]}, "keep: 1 comes to 1 seconds, and the smallest that stays whole has"),
        ({"keep": {"source": 0.3}}, "keep: column 'source' holds String, and budgets are of numbers"),
        ({"keep": {"bytes": 0.3}}, "bytes"),
        ({**GROUPED, "keep": [{"seconds": 6}]}, "keep: 6 comes to 6 seconds, and the smallest that stays whole has"),
        (
            {"selections": {"uniform_random": None, "best": {"selector": "top", "score": "grade", "by": "nation"}}},
            "selections.best.by: ",
        ),
        (
            {"selections": {"some": {"selector": "uniform_random", "by": "source", "share": {"moon": 0.5}}}},
            "selections.some.share: column 'source' has no value 'moon'",
        ),
    ],
)
def test_columns_that_the_data_cannot_meet_are_refused_before_anything_is_made(
    change: dict[str, Any], fault: str, tmp_path: Path
) -> None:
    file = written(tmp_path, **change)
    assert isinstance(file.study, Study)
    with pytest.raises(SourceError) as error:
        prepared(file.study, tmp_path, tmp_path / "cache", tmp_path / "made")
    assert fault in str(error.value)
    assert not list((tmp_path / "made").glob("*"))


def test_rows_without_a_group_stay_or_go_each_by_itself() -> None:
    filled = each_its_own(pl.Series("customer", [7, None, 7, None, 3]))
    assert filled.to_list() == ["7", "none, row 1", "7", "none, row 3", "3"]
