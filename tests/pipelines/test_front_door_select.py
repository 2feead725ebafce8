"""From the user's table or file to its kept rows, in Python and in the shell."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal
from torch.utils.data import Dataset, Subset
from typer.testing import CliRunner

import secateur as sc
from secateur.pipelines.commands.main import app
from secateur.pipelines.front_door.held import held

COUNT = 240


@pytest.fixture(scope="module")
def prompts() -> pl.DataFrame:
    """Prompts with a pass rate, tokens, an episode and a source; one rate needs 64 bits to differ from another."""
    rng = np.random.default_rng(0)
    rates = rng.random(COUNT)
    rates[:2] = 0.9999, 0.9999 + 1e-12
    return pl.DataFrame(
        {
            "prompt": [f'say, "{row}"\nplease' for row in range(COUNT)],
            "uuid": [f"u{row:03d}" for row in range(COUNT)],
            "pass_rate": rates,
            "tokens": rng.integers(5, 500, COUNT),
            "episode": rng.integers(0, 60, COUNT),
            "source": rng.choice(["web", "code", "maths"], COUNT, p=[0.7, 0.2, 0.1]),
        }
    )


class Items(Dataset):  # type: ignore[type-arg]
    """A map-style data set of dicts."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.rows[row]


def test_the_same_kind_of_data_comes_back_with_the_same_rows(prompts) -> None:
    wanted = prompts.with_row_index().top_k(72, by="pass_rate").sort("index").drop("index")
    how: dict[str, Any] = {"score": "pass_rate", "end": "high", "keep": 0.3}
    assert_frame_equal(sc.select(prompts, **how), wanted)
    assert_frame_equal(sc.select(prompts.lazy(), **how).collect(), wanted)
    assert sc.select(prompts.to_arrow(), **how).equals(wanted.to_arrow())
    frame = prompts.to_pandas().set_index("uuid", drop=False)
    kept = sc.select(frame, **how)
    pd.testing.assert_frame_equal(kept, frame.loc[wanted["uuid"].to_list()])
    found = sc.select(datasets.Dataset.from_polars(prompts), **how)
    assert isinstance(found, datasets.Dataset)
    assert found["uuid"][:] == wanted["uuid"].to_list()
    assert sc.select(prompts.to_dicts(), **how) == wanted.to_dicts()
    items = sc.select(Items(prompts.to_dicts()), keep=0.3, score=prompts["pass_rate"].to_numpy())
    assert isinstance(items, Subset)
    assert [row["uuid"] for row in items] == wanted["uuid"].to_list()


def test_scores_are_compared_as_they_are_not_in_32_bits(prompts) -> None:
    assert sc.select(prompts, score="pass_rate", keep=1)["uuid"].to_list() == ["u001"]


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_a_path_gives_polars_of_the_files_own_types(prompts, ending, tmp_path) -> None:
    path = tmp_path / f"prompts.{ending}"
    getattr(prompts, {"jsonl": "write_ndjson"}.get(ending, f"write_{ending}"))(path)
    kept = sc.select(path, score="pass_rate", keep=50)
    assert_frame_equal(kept, sc.select(prompts, score="pass_rate", keep=50))


def test_of_parquet_every_column_comes_back_those_that_no_study_reads_too(tmp_path) -> None:
    days = pl.datetime_range(pl.datetime(2026, 1, 1), pl.datetime(2026, 1, 4), eager=True)
    table = pl.DataFrame({"day": days, "chat": [[{"role": "user"}]] * 4, "score": [1.0, 4.0, 3.0, 2.0]})
    table.write_parquet(tmp_path / "chats.parquet")
    assert_frame_equal(sc.select(tmp_path / "chats.parquet", score="score", keep=2), table[1:3])


def test_shards_of_a_folder_are_one_table(prompts, tmp_path) -> None:
    prompts[:100].write_parquet(tmp_path / "part-0.parquet")
    prompts[100:].write_parquet(tmp_path / "part-1.parquet")
    assert_frame_equal(sc.select(tmp_path, score="pass_rate", keep=50), sc.select(prompts, score="pass_rate", keep=50))
    broken = prompts.with_columns(
        pl.when(pl.col("uuid") == "u101").then(None).otherwise("pass_rate").alias("pass_rate")
    )
    broken[100:].write_parquet(tmp_path / "part-1.parquet")
    with pytest.raises(ValueError, match=r"'pass_rate' is empty in 1 of 240 rows: row 1 of part-1.parquet"):
        sc.select(tmp_path, score="pass_rate", keep=50)


def test_a_budget_of_tokens_is_never_exceeded_and_the_random_twin_comes_to_as_much(prompts) -> None:
    whole = prompts["tokens"].sum()
    for keep, most in (({"tokens": 9000}, 9000), ({"tokens": 0.25}, whole / 4)):
        kept, random = sc.select(prompts, score="pass_rate", keep=keep, random_twin=True)
        assert most - 20 < kept["tokens"].sum() <= most
        assert kept["tokens"].sum() - 20 < random["tokens"].sum() <= kept["tokens"].sum()
        rest = prompts.join(kept, on="uuid", how="anti")
        assert rest["tokens"].min() > most - kept["tokens"].sum()


def test_groups_stay_whole_and_values_of_a_column_get_their_parts(prompts) -> None:
    kept, random = sc.select(
        prompts, score="pass_rate", selector="band", low=0.2, high=0.8, keep=80, group="episode", random_twin=True
    )
    for part in (kept, random):
        assert not set(part["episode"]) & set(prompts.join(part, on="uuid", how="anti")["episode"])
    assert 70 < len(random) <= len(kept) <= 80
    means = prompts.group_by("episode").agg(pl.col("pass_rate").mean()).filter(pl.col("episode").is_in(kept["episode"]))
    assert means["pass_rate"].is_between(0.2, 0.8).all()
    counts = {"web": 30, "code": 10, "maths": 10}
    parts = sc.select(prompts, score="pass_rate", keep=50, by="source", share={"web": 0.6, "code": 0.2, "maths": 0.2})
    assert dict(parts["source"].value_counts().iter_rows()) == counts
    for source, count in counts.items():
        best = prompts.filter(pl.col("source") == source).top_k(count, by="pass_rate")
        assert set(best["uuid"]) <= set(parts["uuid"])


def test_a_key_makes_the_choice_independent_of_the_order_of_rows(prompts) -> None:
    mixed = prompts.sample(fraction=1.0, shuffle=True, seed=4)
    for how in ({}, {"score": "tokens", "selector": "band", "low": 100, "high": 300}, {"group": "episode"}):
        one, other = (sc.select(table, keep=40, key="uuid", seed=7, **how) for table in (prompts, mixed))
        assert set(one["uuid"]) == set(other["uuid"])
        assert set(one["uuid"]) != set(sc.select(prompts, keep=40, key="uuid", seed=8, **how)["uuid"])


def test_vectors_come_from_an_array_a_file_or_a_column(prompts, tmp_path) -> None:
    vectors = np.random.default_rng(1).normal(size=(COUNT, 4)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    table = prompts.with_columns(pl.Series("vector", vectors.tolist(), dtype=pl.List(pl.Float32)))
    chosen = [
        sc.select(table, selector="k_center", embeddings=given, keep=20)["uuid"].to_list()
        for given in (vectors, tmp_path / "vectors.npy", str(tmp_path / "vectors.npy"), "vector")
    ]
    assert chosen[0] == chosen[1] == chosen[2] == chosen[3]
    with pytest.raises(ValueError, match=r"embeddings: there are 240 rows, and 10 vectors"):
        sc.select(prompts, selector="k_center", embeddings=vectors[:10], keep=20)


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"score": "pasrate"}, r"score: the data has no column 'pasrate'; did you mean 'pass_rate'"),
        ({"score": "prompt"}, r"score: column 'prompt' of the data holds texts, or whole"),
        ({"score": "gaps"}, r"score: column 'gaps' is empty in 2 of 240 rows: row 0, row 1; fill them"),
        ({"score": "broken"}, r"score: column 'broken' is NaN or infinite in 1 of 240 rows: row 0"),
        ({"score": np.arange(3.0)}, r"score: there are 240 rows, and 3 numbers"),
        ({"score": "pass_rate", "selector": "uniform_random"}, r"'uniform_random' reads no score; leave it out"),
        ({"selector": "top"}, r"selector 'top' reads a score; name a column of numbers"),
        ({"selector": "magnitude"}, r"selector: there is no 'magnitude'; there are: band"),
        ({"score": "pass_rate", "end": "hihg"}, r"top: end: .*'hihg'"),
        ({"score": "pass_rate", "selector": "band"}, r"band: low: Field required; high: Field required"),
        ({"selector": "moderate", "embeddings": np.ones((240, 2))}, r"label: selector 'moderate' reads classes"),
        (
            {"selector": "coverage_centric", "score": "pass_rate"},
            r"coverage_centric: cutoff: Field required",
        ),
        ({"keep": 0}, r"keep is a count of 0"),
        ({"keep": {"tokens": 10, "episode": 3}}, r"keep: name one column with its amount"),
        ({"keep": {"tokens": -4}}, r"keep: tokens needs an amount above 0, got -4"),
        ({"keep": {"below": 3}}, r"keep: column 'below' is below 0 in 1 of 240 rows: row 3"),
        ({"key": "source"}, r"key: column 'source' is the same as in an earlier row in 237 of 240 rows"),
        (
            {"by": "source", "share": {"wbe": 1}},
            r"share: column 'source' has no value 'wbe'; there are: code, maths, web",
        ),
        ({"by": "source", "share": {}}, r"share: parts are from 0 on and add up to 1 at most, and these are {}"),
        (
            {"by": "source", "share": {"web": 0.001}},
            r"nothing fits the parts of a budget of 72: raise it, or name larger",
        ),
        ({"selector": "rs2"}, r"selector: 'rs2' selects while a model trains.* as a sampler in a loop of your own"),
        ({"by": "source", "share": "even"}, r"share: 'proportional', 'balanced' or a share by value of 'source', got"),
        ({"share": "balanced"}, r"share: parts are those of the values of a column; name it as by"),
        (
            {"by": "source", "share": {"web": 1.2}},
            r"share: parts are .* add up to 1 at most, and these are {'web': 1.2}",
        ),
    ],
)
def test_what_cannot_be_is_refused(prompts, asked, text) -> None:
    gaps = pl.Series([None, None, *range(COUNT - 2)], dtype=pl.Float64)
    below = pl.Series([1, 1, 1, -1, *[1] * (COUNT - 4)])
    table = prompts.with_columns(gaps=gaps, broken=gaps.fill_null(0).scatter(0, float("nan")), below=below)
    with pytest.raises((ValueError, TypeError), match=text):
        sc.select(table, **({"keep": 0.3} | asked))


@pytest.mark.parametrize(
    "data",
    [[], pd.DataFrame(), pd.DataFrame({"a": []}), pl.LazyFrame({"a": []}), datasets.Dataset.from_dict({"a": []})],
)
def test_select_rejects_data_without_rows(data) -> None:
    for how in ({}, {"score": "a"}):
        with pytest.raises(ValueError, match="the data have no rows: there is nothing to keep a part of"):
            sc.select(data, keep=0.5, **how)
    with pytest.raises(ValueError, match="the data have no rows"):
        sc.score(data, label="a")


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet", "folder"])
def test_a_file_without_rows_is_named(name, tmp_path) -> None:
    path = tmp_path / name
    if name == "a.parquet":
        pl.DataFrame({"a": []}).write_parquet(path)
    elif name == "folder":
        path.mkdir()
    else:
        path.write_text("a\n" if name == "a.csv" else "")
    with pytest.raises(ValueError, match=rf"{name}.*(no rows|no data|holds no)"):
        sc.select(path, keep=0.5, score="a")


def test_decimals_are_the_numbers_that_they_are_written_as(prompts, tmp_path) -> None:
    """By Python's own float of their text; prices never exceed their budget."""
    prices = [f"{row * 37 % 1000 / 100:.2f}" for row in range(COUNT)]
    texts = pl.DataFrame({"price": prices, "rate": [f"0.{row:017d}" for row in range(COUNT)]})
    table = texts.with_columns(pl.col("price").cast(pl.Decimal(10, 2)), pl.col("rate").cast(pl.Decimal(38, 18)))
    table.write_parquet(tmp_path / "prices.parquet")
    for data in (table, table.to_arrow(), table.to_pandas(), tmp_path / "prices.parquet"):
        kept = sc.select(data, score="rate", keep={"price": 100.5})
        spent = kept["price"].to_pylist() if isinstance(kept, pa.Table) else list(kept["price"])
        assert 100 < sum(map(float, spent)) <= 100.5
    held_prices = held(table).numbers("price", "score")
    assert held_prices.tolist() == [float(price) for price in prices]
    whole = pl.DataFrame({"count": ["3", "12"]}).with_columns(pl.col("count").cast(pl.Decimal(20, 0)))
    assert held(whole).numbers("count", "score").dtype == np.int64
    for text, scale in (("12345678901234567890.5", 1), ("92233720368547758080", 0)):
        wide = pl.DataFrame({"code": ["1", text]}).with_columns(pl.col("code").cast(pl.Decimal(38, scale)))
        with pytest.raises(ValueError, match=r"row 1: column 'code' is [0-9.]+, beyond 2\^(53|63).*write it as a text"):
            sc.select(wide, score="code", keep=1)


def test_a_budget_of_long_whole_numbers_does_not_overflow() -> None:
    table = pl.DataFrame({"bytes": [10**18 + row for row in range(20)], "a": range(20)})
    assert len(sc.select(table, score="a", keep={"bytes": 0.5})) in (9, 10)
    kept, random = sc.select(table, score="a", keep={"bytes": 5 * 10**18 + 10**6}, random_twin=True)
    assert (len(kept), len(random)) == (5, 5)


def test_a_column_that_no_study_reads_does_not_stand_in_the_way(tmp_path) -> None:
    """The first column holds structs, from which the number of rows was once unknown."""
    (tmp_path / "a.jsonl").write_text('{"deep": {"x": [{"y": 1}]}, "a": 1}\n' * 5)
    assert sc.select(tmp_path / "a.jsonl", keep=2).height == 2
    assert sc.select(pl.read_ndjson(tmp_path / "a.jsonl"), keep=2).height == 2


def test_a_file_of_tabs_holds_tabs(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("a,b\n1,x\n2,y\n")
    shell("a.csv", "--keep", "1", "-o", "b.tsv")
    assert Path("b.tsv").read_text().startswith("a\tb\n")
    shell("b.tsv", "--keep", "1", "-o", "c.csv")
    assert Path("c.csv").read_text().startswith("a,b\n")


def test_the_random_rows_are_drawn_apart_from_the_selection(prompts) -> None:
    """Two independent draws of 60 of 240 rows have 15 in common."""
    table = prompts.with_columns(pass_rate=pl.lit(0.5))
    for how in ({}, {"key": "uuid"}, {"by": "source"}, {"selector": "band", "score": "pass_rate", "low": 0, "high": 1}):
        kept, random = sc.select(table, keep=np.int64(60), random_twin=True, **how)
        assert len(set(kept["uuid"]) & set(random["uuid"])) < 30


def test_no_file_that_is_read_is_written(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data.csv").write_text("a,text\n1,x\n3,y\n")
    Path("target.csv").write_text("text\nx\n")
    said = shell(
        *("data.csv", "--selector", "nearest_to_target", "--target", "target.csv", "--text", "text", "--keep", "1"),
        *("-o", "target.csv", "--overwrite"),
        code=2,
    )
    assert "target.csv is read here" in said
    assert Path("target.csv").read_text() == "text\nx\n"


def shell(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["select", *words])
    if code:
        assert done.exception is not None
        return str(done.exception)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_the_shell_writes_rows_as_they_stand_in_the_file_and_as_many_at_random(
    prompts, ending, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(f"prompts.{ending}")
    getattr(prompts, {"jsonl": "write_ndjson"}.get(ending, f"write_{ending}"))(path)
    before = path.read_bytes()
    answer = json.loads(shell(str(path), "--score", "pass_rate", "--end", "high", "--keep", "0.3", "--json"))
    assert (answer["rows"], answer["random_rows"], answer["of"]) == (72, 72, COUNT)
    wanted, random = sc.select(prompts, score="pass_rate", keep=0.3, random_twin=True)
    for file, rows in ((f"prompts_kept.{ending}", wanted), (f"prompts_kept_random.{ending}", random)):
        read = {"csv": pl.read_csv, "parquet": pl.read_parquet, "jsonl": pl.read_ndjson}[ending](file)
        assert_frame_equal(read, rows)
    if ending != "parquet":
        mark = b'\n"say' if ending == "csv" else b'\n{"'
        assert set(Path(answer["file"]).read_bytes().split(mark)) <= set(before.split(mark))
    assert path.read_bytes() == before
    refusal = " ".join(shell(str(path), "--score", "pass_rate", "--keep", "9", code=2).split())
    assert refusal.endswith("exists already: name another path, or replace it with --overwrite")
    shell(str(path), "--keep", "9", "--no-random", "-o", "nine.npy", "--seed", "3")
    assert sc.select(prompts, keep=9, seed=3)["uuid"].to_list() == prompts[np.load("nine.npy")]["uuid"].to_list()
    assert not Path("nine_random.npy").exists()


def test_the_shell_says_what_whole_groups_and_tokens_come_to(prompts, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    prompts.write_csv("prompts.csv")
    said = shell(
        "prompts.csv", "--score", "pass_rate", "--selector", "band", "--set", "low=0.2", "--set", "high=0.8",
        "--keep", "tokens=9000", "--group", "episode", "--to", "parquet", "-o", "kept.parquet",
    )  # fmt: skip
    kept, random = pl.read_parquet("kept.parquet"), pl.read_parquet("kept_random.parquet")
    assert f"{kept['tokens'].sum():,}" in said
    assert f"{random['tokens'].sum():,}" in said
    assert f"{9000 - kept['tokens'].sum():,} tokens of the budget fit no further one" in said


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["gone.csv", "--keep", "0.3"], "there is no file or folder 'gone.csv'"),
        (["data.csv"], "--keep: say once how much stays"),
        (["data.csv", "--keep", "lots"], "--keep lots: a share such as 0.3"),
        (["data.csv", "--keep", "1", "--selection", "a"], "--selection is an option of a study, and data.csv is none"),
        (["digits", "--score", "a"], "--score is an option of a file of data, and digits is none"),
        (["data.csv", "--keep", "1", "-o", "data.csv", "--overwrite"], "data.csv is the data itself"),
        (["data.csv", "--keep", "1", "-o", "kept.xlsx"], "--to: .xlsx cannot be written here; there are: csv"),
        (["data.csv", "--keep", "1", "--share", "web"], "--share web: proportional, balanced"),
        (["digits", "--no-random"], "--no-random is an option of a file of data, and digits is none"),
        (["digits", "-o", "a.csv"], "--out is an option of a file of data"),
        (["data.csv", "--keep", "-5"], "keep is a count of -5"),
        (["data.csv", "--keep", "0.2"], "keep is a fraction of 0.2, which of 2 comes to 0.4, less than half of one"),
        (["data.csv", "--keep", "1", "--score", "a", "--end", "high", "--set", "end=low"], "say once which end stays"),
        (["data.csv", "--keep", "1", "--to", "parquet", "-o", "x.csv"], "-o x.csv is of csv; leave --to out, or write"),
        (["data.csv", "--keep", "1", "--to", "csv", "-o", "x.jsonl.gz"], "or write -o x.csv"),
    ],
)
def test_the_shell_refuses_in_one_sentence_and_writes_nothing(words, text, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data.csv").write_text("a,b\n1,2\n3,4\n")
    assert text in shell(*words, code=2)
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


def test_the_front_door_loads_nothing_before_it_is_used() -> None:
    code = "import sys, secateur; dir(secateur); print({'numpy', 'torch', 'polars', 'dagster'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    code = "import sys, secateur; secateur.select; print({'torch', 'dagster', 'datasets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert pa.__version__


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            lambda: datasets.DatasetDict(train=datasets.Dataset.from_dict({"a": [1]})),
            r"give one split of it.*\['train'\]",
        ),
        (lambda: datasets.Dataset.from_dict({"a": [1]}).to_iterable_dataset(), "this is an IterableDataset.*Parquet"),
        (lambda: {"a": [1]}, r"this is a mapping: give a table of it, such as polars\.DataFrame"),
        (lambda: np.ones((2, 2)), r"^give a datasets\.Dataset, a table.*and this is a ndarray"),
        (lambda: pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns are called 'a': rename one"),
        (lambda: pa.table([[1], [2]], names=["a", "a"]), "two columns are called 'a': rename one"),
    ],
)
def test_select_rejects_other_types_and_names_accepted_ones(data, text) -> None:
    with pytest.raises(ValueError, match=text):
        sc.select(data(), score="a", keep=1)


def test_awkward_tables_are_read(tmp_path) -> None:
    """Categories, sparse and nullable numbers, columns called by a number, names beyond ASCII, long ids, packed."""
    table = pd.DataFrame({"题目": [f"t{row}" for row in range(20)], 0: np.arange(20.0)})
    table["Quelle ü"] = pd.Categorical(["ä", "ß"] * 10)
    table["sparse"], table["null"] = pd.arrays.SparseArray(np.arange(20.0)), pd.array(range(20), "Int64")
    table["id"] = np.arange(20, dtype=np.uint64) + np.uint64(2**63)
    table.index = [f"row {row}" for row in range(20)]
    for score in (0, "0", "sparse", "null", table["sparse"]):
        assert list(sc.select(table, score=score, keep=0.2, key="id").index) == [f"row {row}" for row in range(16, 20)]
    halves = sc.select(table, score="null", keep=4, by="Quelle ü", share="balanced")
    assert sorted(halves["Quelle ü"]) == ["ß", "ß", "ä", "ä"]
    with pytest.raises(ValueError, match="texts, or whole numbers beyond 64 bits, and numbers are needed"):
        sc.select(table, score="id", keep=1)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    table[["题目", "null"]].to_csv(tmp_path / "deep" / "er" / "a.csv.gz", index=False)
    assert sc.select(tmp_path / "deep" / "er", score="null", keep=1)["题目"].to_list() == ["t19"]
    with pytest.raises(ValueError, match=r"deep: files of data lie in folders below it, such as .*a\.csv\.gz"):
        sc.select(tmp_path / "deep", score="null", keep=1)
