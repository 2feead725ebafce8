"""Kept rows of MDS and LitData, through a thin data set over their readers, and of Lance, in separate environments."""

from pathlib import Path

import pytest
from apart import laid_over, run_apart

ROOT = Path(__file__).parents[2]

WRITE = {
    "mds": """
from streaming import MDSWriter, StreamingDataset
columns = {"id": "str", "x": "float64", "n": "int", "y": "str"}
with MDSWriter(out="data", columns=columns, size_limit=2000) as writer:
    for row in range(200):
        writer.write({"id": f"id {row}", "x": float(row), "n": row, "y": "ab"[row % 2]})
own = StreamingDataset(local="data", batch_size=1)
""",
    "litdata": """
from litdata import StreamingDataset
from litdata.streaming.cache import Cache
cache = Cache("data", chunk_size=30)
for row in range(200):
    cache[row] = {"id": f"id {row}", "x": float(row), "n": row, "y": "ab"[row % 2]}
cache.done()
cache.merge()
own = StreamingDataset("data")
""",
}
READ = """
import os, pickle
from pathlib import Path
import pandas as pd
from sample_tables import study_manifest
from small_studies import REST
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader
import secateur as sc
from secateur.selectors.samplers.contract import Shard

SOURCE = "name: s\\nsource: {kind: csv, train: rows.csv, test_fraction: 0.3}\\n"
STUDY = SOURCE + "columns: {features: [x], label: y}\\n" + REST

if __name__ == "__main__":
    before = {name: os.path.getsize(f"data/{name}") for name in os.listdir("data")}
    rows = sorted({0, 29, 30, 61, 62, 131, 199, *range(3, 200, 7)})
    view = sc.in_place([f"id {row}" for row in rows], "data", key="id")
    saved = view.save("kept.parquet")
    assert os.path.getsize(saved) <= 8 * len(rows) + 2**16
    again = sc.in_place(saved)
    for kept in (view, again):
        assert [dict(item) for item in kept] == [dict(own[row]) for row in rows]
    assert [item["n"] for item in sc.in_place(rows, "data", columns=["n"])] == rows
    assert {name: os.path.getsize(f"data/{name}") for name in os.listdir("data")} == before
    found = [int(n) for batch in DataLoader(again, batch_size=4, num_workers=2) for n in batch["n"]]
    assert found == rows
    for shuffle in (False, True):
        parts = []
        for rank in range(2):
            stream = again.stream(shuffle=shuffle, shard=Shard(rank, 2))
            parts += [int(n) for batch in DataLoader(stream, batch_size=4, num_workers=2) for n in batch["n"]]
        assert sorted(parts) == rows, parts
    def loader():
        return StatefulDataLoader(again.stream(shuffle=True), batch_size=4)
    whole = [batch["id"] for batch in loader()]
    first, some = loader(), []
    for batch in first:
        some.append(batch["id"])
        if len(some) == 3:
            break
    second = loader()
    second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    assert some + [batch["id"] for batch in second] == whole
    table = pd.DataFrame({"x": [float(row) for row in range(200)], "y": ["ab"[row % 2] for row in range(200)]})
    table[::-1].to_csv("rows.csv", index=False)
    manifest = study_manifest(STUDY, Path(), lambda samples: (samples["row"] % 3 == 0).to_numpy())[1]
    kept = sorted(199 - row for row in manifest.rows.tolist())
    assert [item["n"] for item in sc.in_place(manifest, "data")] == kept  # found by their content
    path = f"data/{again.places['shard'][0]}"
    content = bytearray(open(path, "rb").read())
    content[-1] ^= 1
    open(path, "wb").write(content)
    try:
        sc.in_place(saved)
    except ValueError as error:
        assert f"{path} has changed" in str(error), error
        print("done")
"""


@pytest.mark.nightly
@pytest.mark.parametrize("kind", WRITE)
def test_kept_rows_are_those_of_the_formats_own_reader(kind: str, tmp_path: Path) -> None:
    packages = laid_over(kind, tmp_path / "packages")
    assert run_apart(WRITE[kind] + READ, packages, tmp_path).endswith("done\n")


@pytest.mark.nightly
def test_the_tests_of_lance_pass_where_it_is_installed(tmp_path: Path) -> None:
    packages = laid_over("lance", tmp_path / "packages")
    tests = Path(__file__).parents[1] / "pipelines" / "test_in_place_lance.py"
    program = f"import sys, pytest; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', {str(tests)!r}]))"
    said = run_apart(program, packages, ROOT)
    assert "passed" in said
    assert "skipped" not in said
