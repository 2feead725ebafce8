"""Kept rows of a Lance data set: pinned to a version, read by row, scored in a column of their own."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sample_tables import study_manifest
from small_studies import REST
from stopped_streams import of_two_ranks
from torch.utils.data import DataLoader

import secateur as sc

lance: Any = pytest.importorskip("lance", reason="Lance is not installed: install the extra `lance` to run this")
COUNT = 300


@pytest.fixture
def table(tmp_path: Path) -> pa.Table:
    """300 rows in three fragments of `tmp_path/rows.lance`."""
    table = pa.table(
        {"id": [f"id {row}" for row in range(COUNT)], "x": np.arange(COUNT, dtype=float), "y": list("ab") * 150}
    )
    lance.write_dataset(table, str(tmp_path / "rows.lance"), max_rows_per_file=100)
    return table


def manifest_in(folder: Path, table: pa.Table) -> Any:
    """A manifest of every fourth training sample of the same rows, as JSON lines in another order."""
    table.to_pandas()[::-1].to_json(folder / "rows.jsonl", orient="records", lines=True)
    text = "name: s\nsource: {kind: jsonl, train: rows.jsonl, test_fraction: 0.2}\n"
    text += f"columns: {{features: [x], label: y, id: id}}\n{REST}"
    return study_manifest(text, folder, lambda samples: (samples["row"] % 4 == 0).to_numpy())[1]


def test_from_a_manifest_to_a_loader_and_tables(tmp_path: Path, table: pa.Table) -> None:
    manifest = manifest_in(tmp_path, table)
    expected = sorted(manifest.table["id"].to_list(), key=lambda name: int(name.split()[1]))
    view = sc.in_place(manifest, tmp_path / "rows.lance")
    path = view.save(tmp_path / "kept.parquet")
    assert path.stat().st_size <= 8 * len(expected) + 2**16
    again = sc.in_place(path)
    for kept in (view, again):
        assert [name for batch in DataLoader(kept, batch_size=7) for name in batch["id"]] == expected
        assert kept.lazy().select("id").collect()["id"].to_list() == expected
        assert kept.table(["x"])["x"].to_pylist() == [float(name.split()[1]) for name in expected]
        assert sorted(item["id"] for item in kept.stream(shuffle=True)) == sorted(expected)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
def test_two_ranks_read_each_row_once_and_go_on_after_a_stop(tmp_path: Path, table: pa.Table) -> None:
    rows = list(range(0, COUNT, 7))
    parts = of_two_ranks(sc.in_place(rows, tmp_path / "rows.lance"), "id")
    assert sorted(parts[0] + parts[1]) == sorted(f"id {row}" for row in rows)
    assert abs(len(parts[0]) - len(parts[1])) <= 1


def test_row_ids_are_a_key(tmp_path: Path, table: pa.Table) -> None:
    data = lance.dataset(str(tmp_path / "rows.lance"))
    found = data.scanner(columns=["id"], with_row_id=True, filter="x >= 150 AND x < 153").to_table()
    view = sc.in_place(found["_rowid"].to_pylist(), tmp_path / "rows.lance", key="_rowid")
    assert [item["id"] for item in view] == ["id 150", "id 151", "id 152"]


def test_a_view_reads_its_version_whatever_is_appended_deleted_or_compacted(tmp_path: Path, table: pa.Table) -> None:
    where = tmp_path / "rows.lance"
    path = sc.in_place([5, 105, 299], where).save(tmp_path / "kept.parquet")
    data = lance.dataset(str(where))
    data.delete("x = 0 OR x = 105")
    after = sc.in_place([5, 103], where)
    assert [item["x"] for item in after] == [6.0, 104.0]
    saved = after.save(tmp_path / "after.parquet")
    lance.write_dataset(table, str(where), mode="append")
    lance.dataset(str(where)).optimize.compact_files()
    assert [item["x"] for item in sc.in_place(path)] == [5.0, 105.0, 299.0]
    assert [item["x"] for item in sc.in_place(saved)] == [6.0, 104.0]


def test_files_that_are_gone_or_have_changed_are_refused(tmp_path: Path, table: pa.Table) -> None:
    where = tmp_path / "rows.lance"
    view = sc.in_place([5], where)
    path = view.save(tmp_path / "kept.parquet")
    name = view.places["shard"][0]
    content = bytearray((where / name).read_bytes())
    content[3] ^= 1
    (where / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} has changed"):
        sc.in_place(path)
    (where / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is not there"):
        sc.in_place(path)


def test_a_score_becomes_a_column(tmp_path: Path, table: pa.Table) -> None:
    where = tmp_path / "rows.lance"
    rows = [1, 99, 100, 250]
    view = sc.in_place(rows, where)
    before = {name: (where / name).read_bytes() for name in view.reader.shards}
    version = view.add_column("score_aum", np.array([0.5, -1, 2, 3]))
    found = lance.dataset(str(where), version=version).to_table().to_pydict()
    assert {row: value for row, value in enumerate(found["score_aum"]) if value is not None} == {
        1: 0.5, 99: -1, 100: 2, 250: 3
    }  # fmt: skip
    assert found["id"] == table["id"].to_pylist()
    assert {name: (where / name).read_bytes() for name in before} == before
    after = sc.in_place(rows, where)
    assert [item["score_aum"] for item in after] == [0.5, -1, 2, 3]
    assert [item["score_aum"] for item in sc.in_place(after.save(tmp_path / "k.parquet"))] == [0.5, -1, 2, 3]
    with pytest.raises(ValueError, match="is at version 2"):
        view.add_column("other", np.zeros(4))
    for name, values, said in (
        ("score_aum", np.zeros(4), "a column 'score_aum' already"),
        ("other", np.zeros(3), "one value for each of 4"),
        ("score_el2n", None, "there is no score 'score_el2n'"),
    ):
        with pytest.raises(ValueError, match=said):
            after.add_column(name, values)


def test_scores_of_a_manifest_follow_its_rows(tmp_path: Path, table: pa.Table) -> None:
    manifest = manifest_in(tmp_path, table)
    values = manifest.table["id"].str.split(" ").list.last().cast(float).to_numpy().astype(np.float32)
    scored = manifest.table.with_columns(score_number=values)
    rows = manifest.selection.__class__(
        scored, manifest.selection.rows_in_all, manifest.selection.fingerprint, manifest.selection.classes,
        manifest.selection.columns, manifest.selection.origin,
    )  # fmt: skip
    view = sc.in_place(manifest.__class__(manifest.path, manifest.declaration, rows), tmp_path / "rows.lance")
    assert view.scores["score_number"].tolist() == [item["x"] for item in view]
    view.add_column("score_number")
    found = lance.dataset(str(tmp_path / "rows.lance")).to_table(filter="score_number IS NOT NULL")
    assert found["score_number"].to_pylist() == found["x"].to_pylist() == [item["x"] for item in view]
