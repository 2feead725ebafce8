"""Recurring rescoring: a week of appended rows played through, with schedule, sensor, automation and drift check."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from secateur.pipelines.assets.shell_runs import QUIET
from secateur.pipelines.definitions import build
from secateur.pipelines.materialise import run_study
from secateur.pipelines.runs.drift import Change, compare_scorings, rank_correlation, scoring_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.sections import Drift, Recurring, is_cron
from secateur.scorers.registry import scorers

WriteStudy = Callable[..., StudyFile]
SCORES = {"el2n": {"epochs": 2}, "checkpoint_loss": None}
SELECTIONS = {"hardest": {"selector": "top", "score": "el2n"}, "wrong": {"selector": "top", "score": "checkpoint_loss"}}


class Week:
    """A code location with its daemon's state: the sensor's cursor and the automation's."""

    def __init__(self, file: StudyFile, root: Path, instance: dg.DagsterInstance) -> None:
        self.file, self.root, self.instance = file, root, instance
        self.watch: str | None = None
        self.ticks: Any = None
        self.defs = build([file], root)

    def reload(self) -> None:
        """The code server after a new release."""
        self.defs = build([self.file], self.root)

    def tick(self, cursor: str | None) -> Any:
        """The result of the source's sensor."""
        sensor = self.defs.resolve_sensor_def("blobs_source")
        store = {"secateur_store": Store(self.root)}
        return sensor.evaluate_tick(
            dg.build_sensor_context(self.instance, cursor=cursor, definitions=self.defs, resources=store)
        )

    def look(self) -> str:
        """One tick of the sensor; runs its requests and returns the job, or the reason for no request."""
        told = self.tick(self.watch)
        self.watch = told.cursor or self.watch
        for request in told.run_requests or []:
            self.rescore()
            return f"ran {request.run_key and 'blobs_rescoring'}"
        return told.skip_message or ""

    def rescore(self) -> dg.ExecuteInProcessResult:
        job = self.defs.resolve_job_def("blobs_rescoring")
        done = job.execute_in_process(instance=self.instance, run_config=QUIET, raise_on_error=False)
        assert done.success
        return done

    def settle(self) -> list[str]:
        """Ticks of the automation, each request run, until there is none; the assets that it refreshed, in order."""
        refreshed: list[str] = []
        for _ in range(12):
            told = dg.evaluate_automation_conditions(self.defs, self.instance, cursor=self.ticks)
            self.ticks = told.cursor
            asked = {
                key: told.get_requested_partitions(key)
                for key in self.defs.resolve_asset_graph().materializable_asset_keys
                if told.get_requested_partitions(key)
            }
            if not asked:
                return refreshed
            job = self.defs.resolve_implicit_global_asset_job_def()
            for key, partitions in asked.items():
                trials = sorted(trial for trial in partitions if trial is not None)
                assert not trials or len(trials) == len(list(self.file.study.trials))  # type: ignore[union-attr]
                listed = [str(trial) for trial in self.file.study.trials] if trials else []  # type: ignore[union-attr]
                ends = zip(("start", "end"), (listed[0], listed[-1]), strict=True) if listed else ()
                tags = {f"dagster/asset_partition_range_{end}": trial for end, trial in ends}
                job.execute_in_process(instance=self.instance, asset_selection=[key], tags=tags, run_config=QUIET)
            refreshed += sorted("/".join(key.path[1:]) for key in asked)
        raise AssertionError(f"never settled: {refreshed}")

    def checks(self) -> dict[str, bool]:
        found = {}
        for name in ("scores_agree", "subsets_last"):
            key = dg.AssetCheckKey(dg.AssetKey(["blobs", "drift"]), name)
            records = self.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
            evaluation = records[0].event.dagster_event.event_specific_data  # type: ignore[union-attr]
            found[name] = bool(evaluation.passed)  # type: ignore[union-attr]
        return found

    def metadata(self, *asset: str) -> dict[str, Any]:
        event = self.instance.get_latest_materialization_event(dg.AssetKey(["blobs", *asset]))
        assert event is not None
        assert event.asset_materialization is not None
        return {name: value.value for name, value in event.asset_materialization.metadata.items()}


@pytest.fixture
def week(write_study: WriteStudy, tmp_path: Path) -> Any:
    bounds = {"least_rank_correlation": 0.5, "most_subset_change": 0.6}
    again = {"cron": "0 6 * * 1", "timezone": "Europe/London", "refresh": "manifest", "drift": bounds}
    proxy = {"model": "mlp", "model_settings": {"hidden": [16]}, "epochs": 4, "batch_size": 32, "learning_rate": 0.05}
    file = write_study(proxy=proxy, scores=SCORES, selections=SELECTIONS, keep=[0.25], seeds=1, recurring=again)
    with dg.DagsterInstance.ephemeral() as instance:
        yield Week(file, tmp_path / "store", instance)


def append(path: Path, rows: int, seed: int, shift: int = 0) -> None:
    """More points of the same three classes, behind the others; `shift` gives them labels of other classes."""
    rng, table = np.random.default_rng(seed), pq.read_table(path)
    labels = np.arange(rows) % 3
    points = rng.normal(np.stack([np.cos(labels * 2.1), np.sin(labels * 2.1)], axis=1) * 2, 1.0)
    more = pa.table({"x": points[:, 0], "y": points[:, 1], "label": (labels + shift) % 3}).cast(table.schema)
    pq.write_table(pa.concat_tables([table, more]), path)


def test_a_week_of_appended_rows(week: Week, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, store = tmp_path / "data" / "train.parquet", Store(week.root)
    # Monday: everything is run by hand, then schedule, sensor and automation are turned on.
    run_study(week.file, week.root, week.instance)
    assert week.look() == "watching the source of blobs from now on"
    assert week.settle() == []
    assert week.checks() == {"scores_agree": True, "subsets_last": True}
    trained = store.load(dg.AssetKey(["blobs", "evaluation"]), Trial("full", 0))

    # Tuesday: nothing has changed, and nothing runs.
    assert week.look() == "the source of blobs is as it was"
    assert week.settle() == []

    # Wednesday: rows were appended. They are scored, and all assets downstream of scores are made again, up to
    # manifests.
    append(train, 12, seed=5)
    assert week.look() == "ran blobs_rescoring"
    assert week.settle() == ["tuning", "subset", "manifest"]
    assert week.metadata("drift")["shared samples"] == 120
    assert week.metadata("drift")["new samples"] == 12
    assert week.checks() == {"scores_agree": True, "subsets_last": True}
    manifest = store.load(dg.AssetKey(["blobs", "manifest"]), Trial("hardest@0.25", 0))
    assert len(store.load(dg.AssetKey(["blobs", "subset"]), Trial("hardest@0.25", 0))) == 132
    assert manifest.is_dir()
    assert store.load(dg.AssetKey(["blobs", "evaluation"]), Trial("full", 0), of_any_samples=True) == trained

    # Thursday: the clock strikes. The same data gives the same scores, so nothing else is stale.
    schedule = week.defs.resolve_schedule_def("blobs_schedule")
    assert schedule.cron_schedule == "0 6 * * 1"
    assert schedule.execution_timezone == "Europe/London"
    assert schedule.job_name == "blobs_rescoring"
    week.rescore()
    assert week.settle() == []

    # Friday: one scorer has a new version. Only it is computed again; as its numbers are the same, the rest stays
    # fresh.
    old = scorers()["checkpoint_loss"]
    newer = dataclasses.replace(old, card=dataclasses.replace(old.card, version="2"))  # type: ignore[type-var, call-arg]
    monkeypatch.setitem(scorers(), "checkpoint_loss", newer)  # type: ignore[arg-type]
    week.reload()
    assert week.settle() == ["scores/checkpoint_loss"]
    assert week.metadata("scores", "checkpoint_loss")["rows rescored"] == 132

    # Saturday: many rows with wrong labels were appended. Scores of the old rows change, and the drift check fails.
    append(train, 600, seed=6, shift=1)
    assert week.look() == "ran blobs_rescoring"
    assert week.metadata("drift")["shared samples"] == 132
    assert not week.checks()["scores_agree"]
    assert week.metadata("drift")["change of hardest@0.25"] > 0

    # Sunday: the file is gone. The sensor reports it and waits.
    train.unlink()
    assert "no file matches" in week.look()


def test_data_that_return_to_an_earlier_state_are_scored_again(write_study: WriteStudy, tmp_path: Path) -> None:
    """Each tick requests a run with a key that Dagster has not seen, exactly where contents have changed."""
    train, shelf = tmp_path / "data" / "train.parquet", tmp_path / "shelf"
    shutil.copy2(train, shelf)
    with dg.DagsterInstance.ephemeral() as instance:
        week = Week(write_study(recurring={}), tmp_path / "store", instance)
        keys, cursors = [], []

        def look(cursor: str | None = None) -> int:
            """Number of runs that a tick requests."""
            told = week.tick(cursor or week.watch)
            week.watch = told.cursor or week.watch
            keys.extend(request.run_key for request in told.run_requests or [])
            cursors.append(week.watch)
            return len(told.run_requests or [])

        assert [look(), look()] == [1, 0]
        append(train, 12, seed=5)
        assert [look(), look()] == [1, 0]
        shutil.copy2(shelf, train)  # with its former times
        assert [look(), look()] == [1, 0]
        times = train.stat().st_mtime_ns
        table = pq.read_table(train)
        pq.write_table(table.set_column(2, "label", table["label"].take(list(range(len(table)))[::-1])), train)
        os.utime(train, ns=(times, times))
        assert [look(), look()] == [1, 0], "as many bytes and the old time"
        shutil.copy2(shelf, train)
        assert [look(), look()] == [1, 0]
        train.unlink()
        assert "no file matches" in (week.tick(week.watch).skip_message or "")
        assert look() == 0
        shutil.copy(shelf, train)
        os.utime(train, (4e9, 4e9))
        assert look() == 0, "in 2096, and the same"
        train.rename(tmp_path / "moved")
        (tmp_path / "moved").rename(train)
        assert look() == 0
        assert len(set(keys)) == len(keys) == 5
        # Cursors of other forms, such as the stamp alone, count as another state.
        for old in ("8f1f9a7e1e5b8c0d8f1f9a7e1e5b8c0d", "{}", '{"count": 1}', "[1]", "null"):
            assert [look(old), look()] == [1, 0], old
        # After a reset of the cursor no key of an earlier run comes again.
        week.watch = None
        assert look() == 1
        assert all(json.loads(cursor)["stamp"] for cursor in cursors)
        assert keys[0].split("-")[1] == keys[2].split("-")[1] == keys[4].split("-")[1] == keys[-1].split("-")[1]


def test_a_repeated_comparison_is_with_the_same_last_scoring(week: Week, tmp_path: Path) -> None:
    week.rescore()
    append(tmp_path / "data" / "train.parquet", 30, seed=1)
    week.rescore()
    first = week.metadata("drift")
    week.rescore()
    again = week.metadata("drift")
    assert first["new samples"] == again["new samples"] == 30
    assert first["rank correlation of el2n"] == again["rank correlation of el2n"]


def literal_spearman(before: np.ndarray, now: np.ndarray) -> float:
    """Pearson's correlation of mean ranks, counted one by one."""
    ranks = []
    for values in (before, now):
        ranks.append([np.sum(values < v) + (np.sum(values == v) + 1) / 2 for v in values])
    return float(np.corrcoef(ranks)[0, 1])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=30))
def test_rank_correlation_is_pearsons_of_mean_ranks(pairs: list[tuple[int, int]]) -> None:
    before, now = (np.array(side, np.float32) for side in zip(*pairs, strict=True))
    flat = [len(set(side.tolist())) == 1 for side in (before, now)]
    expected = float(all(flat)) if any(flat) else literal_spearman(before, now)
    assert rank_correlation(before, now) == pytest.approx(expected, abs=1e-12)


def test_samples_are_matched_by_content_whatever_their_order() -> None:
    hashes = pl.Series(["a", "b", "b", "c", "d"])
    scores = np.array([1, 2, 2.5, 3, 4], np.float32)
    last = scoring_of(hashes, {"loss": scores}, {"top": np.array([False, False, False, True, True])})
    order = np.array([4, 1, 2, 0])
    new = scoring_of(hashes.gather(order), {"loss": scores[order]}, {"top": np.array([True, True, False, False])})
    change = compare_scorings(last, new)
    assert change == Change(4, 0, 1, {"loss": 1.0}, {"top": 0.0})
    swapped = compare_scorings(new, scoring_of(hashes, {"loss": -scores}, {"top": np.array([True] + [False] * 4)}))
    assert swapped.correlations["loss"] == pytest.approx(-1)
    assert swapped.subset_changes == {"top": 1.0}
    assert swapped.added == 1


def test_what_is_over_a_bound_is_said() -> None:
    change = Change(10, 0, 0, {"loss": 0.3, "aum": 0.95}, {"hardest@0.1": 0.7, "easiest@0.1": 0.1})
    scores, subsets = change.beyond(Drift(least_rank_correlation=0.5, most_subset_change=0.6))
    assert scores == ["loss correlates by 0.300 with the last scoring, at least 0.5 is asked"]
    assert subsets == ["70.0% of hardest@0.1 is no longer kept, at most 60.0% is allowed"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cron": "every monday"}, "is not a cron line"),
        ({"cron": "61 * * * *"}, "is not a cron line"),
        ({"cron": "0 6 * * 1", "timezone": "London"}, "there is no timezone 'London'"),
        ({"watch_seconds": 1}, "greater than or equal to 30"),
        ({"drift": {"most_subset_change": 2}}, "less than or equal to 1"),
        ({"refresh": "everything"}, "'scores', 'manifest' or 'report'"),
    ],
)
def test_wrong_settings_are_refused_when_the_study_loads(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Recurring(**given)


@pytest.mark.parametrize(
    "line",
    [
        *("0 6 * * 1", "*/15 0-6,22 1,15 * mon-fri", "0 0 31 jan *", "0 0 29 feb *", "0-30/5 * * * 7"),
        *("60 * * * *", "* 24 * * *", "0 0 0 * *", "0 0 1 13 *", "0 0 * * 8", "0 0 30 2 *", "0 0 31 feb *"),
        *("0 0 * jan", "0 0 * * * *", "0 0 * * jan", "0 0 mon * *", "a * * * *", "1- * * * *", "*/0 * * * *", ""),
    ],
)
def test_a_cron_line_is_judged_as_dagster_does(line: str) -> None:
    from dagster._utils.schedules import is_valid_cron_string

    assert is_cron(line) == (len(line.split()) == 5 and is_valid_cron_string(line))
