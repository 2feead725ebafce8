"""Dagster's records of a run of the shell: as sound and complete as Dagster's own, with fewer files opened."""

import sqlite3
from collections import Counter
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.event_log.sqlite import sqlite_event_log

from secateur.pipelines.assets import records
from secateur.pipelines.assets.records import quick_records
from secateur.pipelines.materialise import instance_at

PARTS = ["a", "b", "c"]


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(PARTS), backfill_policy=dg.BackfillPolicy.single_run())
def counted(context: dg.AssetExecutionContext) -> None:
    for part in context.partition_keys:
        context.add_asset_metadata({"length": len(part)}, partition_key=part)


def test_records_of_a_run_are_there_for_others_and_engines_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another connection reads them while the first is open, and so does Dagster by itself afterwards."""
    made, plain = list[str](), records.create_engine
    monkeypatch.setattr(records, "create_engine", lambda url, **how: made.append(url) or plain(url, **how))
    before = sqlite_event_log.create_engine
    with instance_at(tmp_path) as instance:
        tags = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "c"}
        run = dg.materialize([counted], instance=instance, tags=tags)
        index = tmp_path / "dagster" / "history" / "runs" / "index.db"
        with sqlite3.connect(index) as other:
            query = "SELECT count(*) FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION'"
            assert other.execute(query).fetchone() == (len(PARTS),)
        other.close()
        assert index.with_name("index.db-wal").exists()
    assert sorted(made) == sorted(set(made))
    assert {f"{run.run_id}.db", "index.db", "runs.db"} <= {Path(url).name for url in made}
    assert sqlite_event_log.create_engine is before
    assert not list((tmp_path / "dagster").rglob("*.db-wal"))
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(tmp_path / "dagster"))) as again:
        assert again.get_materialized_partitions(counted.key) == set(PARTS)
        assert again.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.SUCCESS
        recorded = Counter(one.dagster_event.event_type for one in again.all_logs(run.run_id) if one.is_dagster_event)
        assert Counter(one.event_type for one in run.all_events) <= recorded


def test_a_file_with_the_write_ahead_log_alone_is_not_waited_for(tmp_path: Path) -> None:
    """SQLite is sound with NORMAL there; with another journal it is with FULL (https://sqlite.org/pragma.html)."""
    with quick_records():
        for mode, level in (("delete", 2), ("wal", 1)):
            engine = sqlite_event_log.create_engine(f"sqlite:///{tmp_path}/{mode}.db")
            with engine.connect() as first:
                first.exec_driver_sql(f"PRAGMA journal_mode={mode}")
            engine.dispose()
            with engine.connect() as second:
                assert second.exec_driver_sql("PRAGMA synchronous").scalar() == level
